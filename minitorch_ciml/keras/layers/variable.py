"""`Variable`: a layer's weight."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from minitorch_ciml.autograd import Parameter
from minitorch_ciml.keras import dtype_policies
from minitorch_ciml.keras.serialization import get, serializable
from minitorch_ciml.keras.symbolic import unique_name

# The layers that are making their weights, outermost first: (name, layer).
_scopes: ContextVar[tuple[tuple[str, Any], ...]] = ContextVar("scopes", default=())


@contextmanager
def name_scope(name: str, caller: Any = None) -> Iterator[str]:
    """Inside, `name/` stands in the paths of new weights.

    Args:
        name: of a layer, or of a part of a model.
        caller: the layer, which keeps its `path`; within its own scope it does not open another.
    """
    if not isinstance(name, str) or "/" in name:
        raise ValueError(f"name_scope: expected a name without '/', got {name!r}.")
    outer = _scopes.get()
    if caller is not None and outer and outer[-1][1] is caller:
        yield current_path()
        return
    if caller is not None and caller.path and not outer:  # a weight that comes later
        outer = tuple((parent, None) for parent in caller.path.split("/")[:-1])
    token = _scopes.set((*outer, (name, caller)))
    if caller is not None:
        caller.path = current_path()
    try:
        yield current_path()
    finally:
        _scopes.reset(token)


def current_path() -> str:
    """The names of the scopes around, with / between them."""
    return "/".join(name for name, _ in _scopes.get())


@serializable("keras")
class Variable(Parameter):
    """A layer's weight: a parameter with the initializer, regularizer and constraint it came with.

    Args:
        initializer: an array, or `initializer(shape, dtype)`, or the name of an initializer.
        shape: needed where `initializer` is no array.
        dtype: `floatx()` if left out.
        trainable: whether the optimizer changes it.
        name: its last name; `path` is the full one, with those of the layers and models around it.
    """

    __slots__ = ("autocast", "regularizer", "constraint", "path")

    def __init__(
        self,
        initializer: Any,
        shape: tuple | None = None,
        dtype: Any = None,
        trainable: bool = True,
        name: str | None = None,
        regularizer: Any = None,
        constraint: Any = None,
    ):
        if callable(initializer) or isinstance(initializer, (str, dict)):
            if shape is None:
                raise ValueError(f"Variable {name!r}: an initializer needs a shape; pass shape=.")
            make = get("keras.initializers", initializer, "initializer")
            initializer = make(tuple(shape), dtype=dtype or dtype_policies.get(None).variable_dtype)
        super().__init__(initializer, trainable, name or unique_name("variable"), dtype)
        self.autocast = True  # whether a mixed policy computes with a 16-bit copy
        self.regularizer = regularizer
        self.constraint = constraint
        self.path = "/".join(name for name in (current_path(), self.name) if name)

    def __repr__(self) -> str:
        return (
            f"<Variable path={self.path}, shape={self.shape}, dtype={self.dtype}, "
            f"value={self.numpy()}>"
        )
