"""Dense, and the layers without arithmetic of their own."""

from __future__ import annotations

import math
from collections.abc import Callable
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


@serializable("keras.layers")
class Identity(Layer):
    """y = x."""

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.built = True

    def call(self, inputs: Any) -> Any:
        return inputs

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape


@serializable("keras.layers")
class Rescaling(Layer):
    """y = x * scale + offset, as in `Rescaling(1 / 255)` for images of bytes."""

    def __init__(self, scale: float, offset: float = 0.0, **kwargs: Any):
        super().__init__(**kwargs)
        self.scale = scale
        self.offset = offset
        self.built = True

    def call(self, inputs: Any) -> Any:
        return ops.cast(inputs, self.compute_dtype) * self.scale + self.offset

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return input_shape


@serializable("keras.layers")
class Lambda(Layer):
    """y = function(x).

    A model with a Lambda can be saved only where the function is registered
    (`keras.saving.register_keras_serializable`): files never hold code.

    Args:
        function: of a tensor (or a structure of them).
        output_shape, mask: as in Keras, which needs them; here shapes are found by running the
            function, and masks are not passed on between layers.
        arguments: further arguments of the function.
    """

    def __init__(
        self,
        function: Callable,
        output_shape: Any = None,
        mask: Any = None,
        arguments: dict | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.function = function
        self.arguments = arguments or {}
        self.built = True

    def call(self, inputs: Any) -> Any:
        return self.function(inputs, **self.arguments)
