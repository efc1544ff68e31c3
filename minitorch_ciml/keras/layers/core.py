"""Dense, and the layers without arithmetic of their own."""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Callable
from typing import Any

from minitorch_ciml import ops
from minitorch_ciml.keras import activations, quantizers
from minitorch_ciml.keras.backend import standardize_data_format
from minitorch_ciml.keras.layers.input_spec import InputSpec
from minitorch_ciml.keras.layers.kernel_layer import KernelLayer, positive
from minitorch_ciml.keras.layers.layer import Layer
from minitorch_ciml.keras.layers.quantized import Quantized
from minitorch_ciml.keras.serialization import serializable


@serializable("keras.layers")
class Dense(Quantized, KernelLayer):
    """y = activation(x W + b);  x (..., I), W (I, O), b (O,) -> y (..., O).

    Args:
        units: O, the number of outputs.
        activation: a name, a function, or None for the identity.
        use_bias: whether to add a bias.
        kernel_initializer, bias_initializer: names or initializers.
        kernel_regularizer, bias_regularizer, activity_regularizer: penalties in the loss.
        kernel_constraint, bias_constraint: applied after every update.
        lora_rank, lora_alpha: for `enable_lora`, as soon as there is a kernel.
        quantization_config: for `quantize`.
        trainable, dtype, name: see `Layer`.
    """

    supports_masking = True
    adapted = "kernel"
    kernel = Quantized._whole_matrix
    quantizes = True

    def __init__(
        self,
        units: int,
        activation: Any = None,
        use_bias: bool = True,
        *,
        lora_rank: int | None = None,
        lora_alpha: float | None = None,
        quantization_config: Any = None,
        **kwargs: Any,
    ):
        super().__init__(activation, use_bias, **kwargs)
        self.quantization_config = quantizers.get(quantization_config)
        self.units = positive("Dense", "units", units)
        self._set_up_lora(lora_rank, lora_alpha)
        self.input_spec = InputSpec(min_ndim=2)

    def build(self, input_shape: tuple) -> None:
        if input_shape[-1] is None:
            raise ValueError(
                f"Dense: the last size of the input must be known, got shape {input_shape}."
            )
        if self.units == 1 and self.activation is activations.softmax:
            warnings.warn(
                f"layer {self.name!r} (Dense): the softmax of one unit is always 1; for two "
                "classes take activation='sigmoid', for more as many units.",
                stacklevel=2,
            )
        shape = input_shape[-1], self.units
        self.kernel = self._make_matrix(shape, lambda: self.add_kernel(shape))
        self.bias = self.add_bias(self.units)
        self.input_spec = InputSpec(min_ndim=2, axes={-1: input_shape[-1]})
        self._enable_lora_if_asked()

    def call(self, inputs: Any) -> Any:
        if not (self.lora_enabled or self.quantized):
            return ops.dense(inputs, self.kernel, self.bias, self.activation)
        if self.quantized:
            y = self._rounded_product(
                inputs, -1, inputs.shape[-1], ops.matmul,
                lambda g, w: ops.matmul(g, ops.transpose(w)), lambda t: t,
            )  # fmt: skip
        else:
            y = ops.matmul(inputs, self._plain_matrix)
        if self.lora_enabled:
            # (x A) B alpha / rank: with the sum of the matrices, W's gradient would be computed.
            a, b = self._lora_factors
            y = y + ops.matmul(ops.matmul(inputs, a), b) * self._lora_scale
        return self.activation(y if self.bias is None else y + self.bias)

    def _summed_axes(self) -> int:
        return 0

    def _float_matrix(self) -> Any:
        return self._plain_matrix / self._scale if self.quantized else self._plain_matrix

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return (*input_shape[:-1], self.units)

    def get_config(self) -> dict:
        config = super().get_config()
        if self.activity_regularizer is None:  # as in Keras
            del config["activity_regularizer"]
        return config


@serializable("keras.layers")
class Activation(Layer):
    """y = activation(x), element by element (softmax: along the last axis)."""

    supports_masking = True

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
        self.data_format = standardize_data_format(data_format)
        self.input_spec = InputSpec(min_ndim=1)
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

    supports_masking = True

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.built = True

    def call(self, inputs: Any) -> Any:
        return inputs

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape


@serializable("keras.layers")
class Rescaling(Layer):
    """y = x * scale + offset, as in `Rescaling(1 / 255)` for images of bytes.

    Args:
        scale, offset: numbers, or lists of one for each channel.
    """

    supports_masking = True

    def __init__(self, scale: Any, offset: Any = 0.0, **kwargs: Any):
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
        function: of a tensor (or a structure of them); it may have arguments `mask` and `training`.
        output_shape: as in Keras, which needs it; here shapes are found by running the function.
        mask: the output's mask, or `mask(inputs, mask)` that makes it; none if left out.
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
        self.mask = mask
        self.arguments = arguments or {}
        self._context = _names_of(function) & {"mask", "training"}
        self.supports_masking = mask is not None
        self.built = True

    def call(self, inputs: Any, mask: Any = None, training: Any = None) -> Any:
        context = {"mask": mask, "training": training}
        wanted = {name: context[name] for name in self._context}
        return self.function(inputs, **{**self.arguments, **wanted})

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        return self.mask(inputs, mask) if callable(self.mask) else self.mask


def _names_of(function: Callable) -> set[str]:
    """The names of a function's arguments; none for those written in C."""
    try:
        return set(inspect.signature(function).parameters)
    except ValueError:
        return set()


@serializable("keras.layers")
class Masking(Layer):
    """Rules out the steps of x (N, T, C) at which all C numbers are `mask_value`; they become 0."""

    def __init__(self, mask_value: float = 0.0, **kwargs: Any):
        super().__init__(**kwargs)
        self.mask_value = mask_value
        self.built = True

    def call(self, inputs: Any) -> Any:
        return ops.where(ops.expand_dims(self.compute_mask(inputs), -1), inputs, 0.0)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        return ops.any(ops.not_equal(inputs, self.mask_value), axis=-1)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return input_shape
