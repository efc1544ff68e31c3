"""Dense, and the layers without arithmetic of their own."""

from __future__ import annotations

import math
from typing import Any

from minitorch_ciml import ops
from minitorch_ciml.keras import activations
from minitorch_ciml.keras.layers.kernel_layer import KernelLayer, positive
from minitorch_ciml.keras.layers.layer import InputSpec, Layer
from minitorch_ciml.keras.serialization import serializable


@serializable("keras.layers")
class Dense(KernelLayer):
    """y = activation(x W + b);  x (..., I), W (I, O), b (O,) -> y (..., O).

    Args:
        units: O, the number of outputs.
        activation, use_bias, ...: see `KernelLayer`.
    """

    def __init__(self, units: int, activation: Any = None, use_bias: bool = True, **kwargs: Any):
        super().__init__(activation, use_bias, **kwargs)
        self.units = positive("Dense", "units", units)
        self.input_spec = InputSpec(min_ndim=2)

    def build(self, input_shape: tuple) -> None:
        if input_shape[-1] is None:
            raise ValueError(
                f"Dense: the last size of the input must be known, got shape {input_shape}."
            )
        self.kernel = self.add_kernel((input_shape[-1], self.units))
        self.bias = self.add_bias(self.units)
        self.input_spec = InputSpec(min_ndim=2, axes={-1: input_shape[-1]})

    def call(self, inputs: Any) -> Any:
        return ops.dense(inputs, self.kernel, self.bias, self.activation)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return (*input_shape[:-1], self.units)


@serializable("keras.layers")
class Activation(Layer):
    """y = activation(x), element by element (softmax: along the last axis)."""

    def __init__(self, activation: Any, **kwargs: Any):
        super().__init__(**kwargs)
        self.activation = activations.get(activation)
        self.built = True

    def call(self, inputs: Any) -> Any:
        return self.activation(inputs)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return input_shape


@serializable("keras.layers")
class Flatten(Layer):
    """(N, a, b, ...) -> (N, a * b * ...), in C order.

    Args:
        data_format: "channels_first" data are brought to channels-last order before.
    """

    def __init__(self, data_format: str | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.data_format = data_format or "channels_last"
        self.built = True

    def call(self, inputs: Any) -> Any:
        if self.data_format == "channels_first" and inputs.ndim > 1:
            inputs = ops.moveaxis(inputs, 1, -1)
        return ops.reshape(inputs, (inputs.shape[0], math.prod(inputs.shape[1:])))

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        unknown = None in input_shape[1:]
        return (input_shape[0], None if unknown else math.prod(input_shape[1:]))
