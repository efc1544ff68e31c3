"""`Variable`: a layer's weight."""

from __future__ import annotations

from typing import Any

from minitorch_ciml.autograd import Parameter
from minitorch_ciml.keras import dtype_policies
from minitorch_ciml.keras.serialization import get, serializable
from minitorch_ciml.keras.symbolic import unique_name


@serializable("keras")
class Variable(Parameter):
    """A layer's weight: a parameter with the initializer, regularizer and constraint it came with.

    Args:
        initializer: an array, or `initializer(shape, dtype)`, or the name of an initializer.
        shape: needed where `initializer` is no array.
        dtype: `floatx()` if left out.
        trainable: whether the optimizer changes it.
        name: its last name; `path` is the full one, with its layer's.
    """

    __slots__ = ("regularizer", "constraint", "path")

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
        self.regularizer = regularizer
        self.constraint = constraint
        self.path = self.name

    def __repr__(self) -> str:
        return f"<Variable path={self.path}, shape={self.shape}, dtype={self.dtype}>"
