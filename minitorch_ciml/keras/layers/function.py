"""`Function`: a function of `ops` as a layer, so that models can be written with operators."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np

from minitorch_ciml.autograd.tensor import as_tensor
from minitorch_ciml.keras.layers.layer import Layer
from minitorch_ciml.keras.ops.table import (
    CALLED_WITH,
    FUNCTIONS,
    SIZED_BY_VALUES,
    function_of,
    is_input,
    keras_class,
)
from minitorch_ciml.keras.serialization import (
    deserialize_keras_object,
    register_family,
    snake_case,
)
from minitorch_ciml.keras.symbolic import any_symbolic, counting, infer_outputs, unique_name

# Where Keras keeps the classes of its functions; they stand in saved models.
_KERAS_MODULE = "keras.src.ops."


class Function(Layer):
    """`keras.ops.<function>(*inputs, **params)` of a model's tensors, as `x + 1` or `ops.exp(x)`.

    Args:
        function: the name of a function in `keras.ops` or `keras.ops.image`.
        params: its arguments that are no inputs, such as {"axis": 1}.
    """

    def __init__(self, function: str, params: dict | None = None, name: str | None = None):
        if function not in FUNCTIONS:
            raise ValueError(f"Function: there is no function {function!r} in keras.ops.")
        super().__init__(name=name or unique_name(snake_case(keras_class(function)[1])))
        self.function = function
        self.params = params or {}
        self.autocast = False
        self.built = True

    def call(self, *args: Any, **kwargs: Any) -> Any:
        if self.function == "get_item" and isinstance(args[1], list):
            args = (args[0], tuple(args[1]))  # in files an index such as [:, -1] is a list
        if self.function == "einsum":
            return FUNCTIONS["einsum"](self.params["subscripts"], *args, **kwargs)
        if self.function in CALLED_WITH:
            args, kwargs = (), {**dict(zip(CALLED_WITH[self.function], args)), **kwargs}
        result = FUNCTIONS[self.function](*args, **kwargs, **self.params)
        return as_tensor(np.int32(result)) if type(result) is int else result  # of `size`

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        numbers = counting if self.function in SIZED_BY_VALUES else np.zeros
        return infer_outputs(self.call, args, kwargs, numbers)

    def _pass_mask_on(self, inputs: Any, outputs: Any, mask: Any) -> None:
        """Functions make tensors without a mask, as in Keras."""

    @property
    def serialized_as(self) -> tuple[str, str]:
        """The module and class of the same function in Keras."""
        module, name = keras_class(self.function)
        return f"{_KERAS_MODULE}{module}", name

    def get_config(self) -> dict:
        return {"name": self.name, **self.params}


def apply(name: str, *args: Any, **kwargs: Any) -> Any:
    """`keras.ops.<name>` on arguments some of which are symbolic: a new layer in their graph."""
    if name in ("getitem", "get_item"):  # as in Keras, the index is an argument of the call
        return Function("get_item")(*args, **kwargs)
    if name == "einsum":  # as in Keras, the inputs are those behind the letters
        return Function(name, {"subscripts": args[0]})(*args[1:], **kwargs)
    parameters = inspect.signature(FUNCTIONS[name]).parameters
    if name in CALLED_WITH:
        given = dict(zip(parameters, args)) | kwargs
        inputs = [given.pop(n, None) for n in CALLED_WITH[name]]
        return Function(name, given)(*inputs)
    kinds = {p.kind for p in parameters.values()}
    if inspect.Parameter.VAR_POSITIONAL in kinds or len(args) > len(parameters):
        inputs, named = list(args), kwargs
    else:
        # The first argument is an input, symbolic or not, and so are those that are inputs in
        # Keras; they stand in front.
        given = dict(zip(parameters, args)) | kwargs
        names = list(parameters)
        count = 1
        while count < len(names) and is_input(name, names[count]) and names[count] in given:
            count += 1
        inputs = [given.pop(n) for n in names[:count] if n in given]
        named = given
    called = {
        key: value for key, value in named.items() if any_symbolic(value) or is_input(name, key)
    }
    params = {key: value for key, value in named.items() if key not in called}
    return Function(name, params)(*inputs, **called)


def _from_keras(record: dict) -> Function:
    """The layer for a function in a model that Keras has saved."""
    params = dict(record.get("config") or {})
    name = params.pop("name", None) or record.get("name")
    if params.pop("rms_scaling", False):
        raise ValueError("layer_normalization: rms_scaling is not there; use rms_normalization.")
    params = {
        key: deserialize_keras_object(value) if isinstance(value, dict) else value
        for key, value in params.items()
    }
    return Function(function_of(record["class_name"]), params, name)


register_family(_KERAS_MODULE, _from_keras)
