"""`Function`: a function of `ops` as a layer, so that models can be written with operators."""

from __future__ import annotations

import inspect
from typing import Any

from minitorch_ciml import ops
from minitorch_ciml.keras.layers.layer import Layer
from minitorch_ciml.keras.serialization import register_family, snake_case
from minitorch_ciml.keras.symbolic import any_symbolic, unique_name
from minitorch_ciml.ops import nn

# Where Keras keeps the classes of its functions; they stand in saved models.
_KERAS_MODULE = "keras.src.ops."


class Function(Layer):
    """`ops.<function>(*inputs, **params)` on a model's tensors, as in `x + 1` or `ops.exp(x)`.

    Args:
        function: the name of a function in `minitorch_ciml.ops`.
        params: its arguments that are no inputs, such as {"axis": 1}.
    """

    def __init__(self, function: str, params: dict | None = None, name: str | None = None):
        if not hasattr(ops, function):
            raise ValueError(f"Function: there is no function {function!r} in ops.")
        super().__init__(name=name or unique_name(function))
        self.function = function
        self.params = params or {}
        self.autocast = False
        self.built = True

    def call(self, *args: Any, **kwargs: Any) -> Any:
        if self.function == "get_item" and isinstance(args[1], list):
            args = (args[0], tuple(args[1]))  # in files an index such as [:, -1] is a list
        return getattr(ops, self.function)(*args, **kwargs, **self.params)

    def _pass_mask_on(self, inputs: Any, outputs: Any, mask: Any) -> None:
        """Functions make tensors without a mask, as in Keras."""

    @property
    def serialized_as(self) -> tuple[str, str]:
        """The module and class of the same function in Keras."""
        family = "nn" if self.function in nn.__all__ else "numpy"
        return f"{_KERAS_MODULE}{family}", "".join(map(str.capitalize, self.function.split("_")))

    def get_config(self) -> dict:
        return {"name": self.name, **self.params}


def apply(name: str, *args: Any, **kwargs: Any) -> Any:
    """`ops.<name>` on arguments some of which are symbolic: a new layer in their graph."""
    if name in ("getitem", "get_item"):  # as in Keras, the index is an argument of the call
        return Function("get_item")(*args, **kwargs)
    parameters = list(inspect.signature(getattr(ops, name)).parameters.values())
    inputs = list(args)
    # The first arguments are inputs, symbolic or not (`x + 1`); the named rest are parameters.
    if parameters and parameters[0].kind is inspect.Parameter.POSITIONAL_OR_KEYWORD:
        rest = args[1:]
        if not any_symbolic(list(rest)):
            kwargs = {**{p.name: value for p, value in zip(parameters[1:], rest)}, **kwargs}
            inputs = list(args[:1])
    params = {key: value for key, value in kwargs.items() if not any_symbolic(value)}
    symbolic = {key: value for key, value in kwargs.items() if key not in params}
    return Function(name, params)(*inputs, **symbolic)


def _from_keras(record: dict) -> Function:
    """The layer for a function in a model that Keras has saved."""
    params = dict(record.get("config") or {})
    name = params.pop("name", None)
    return Function(snake_case(record["class_name"]), params, name)


register_family(_KERAS_MODULE, _from_keras)
