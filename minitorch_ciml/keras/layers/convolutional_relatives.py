"""Convolution's relatives: transposed, depthwise and separable."""

from __future__ import annotations

from typing import Any

from minitorch_ciml import ops
from minitorch_ciml.keras.layers.convolutional import BaseConv
from minitorch_ciml.keras.layers.input_spec import InputSpec
from minitorch_ciml.keras.layers.kernel_layer import positive
from minitorch_ciml.keras.serialization import get, serializable
from minitorch_ciml.keras.symbolic import KerasTensor, infer_outputs
from minitorch_ciml.ops.conv import per_dimension
from minitorch_ciml.ops.nn import activate


class BaseConvTranspose(BaseConv):
    """The gradient of a convolution for its input, as a layer that upsamples.

    x (N, *S, C), kernel (*K, F, C) -> y (N, *O, F), O = S * strides with padding="same".

    Args:
        filters, kernel_size, strides, padding, ...: as for the convolution.
        output_padding: extra size of the output, less than the strides.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: Any,
        strides: Any = 1,
        padding: str = "valid",
        output_padding: Any = None,
        data_format: str | None = None,
        dilation_rate: Any = 1,
        activation: Any = None,
        use_bias: bool = True,
        **kwargs: Any,
    ):
        super().__init__(
            filters, kernel_size, strides, padding, data_format, dilation_rate, 1, activation,
            use_bias, **kwargs,
        )  # fmt: skip
        self.output_padding = output_padding
        if output_padding is not None:
            self.output_padding = per_dimension(
                type(self).__name__, "output_padding", output_padding, self.rank, least=0
            )

    def build(self, input_shape: tuple) -> None:
        channels = input_shape[self.channel_axis]
        self.kernel = self.add_kernel((*self.kernel_size, self.filters, channels))
        self.bias = self.add_bias(self.filters)
        self.input_spec = InputSpec(ndim=self.rank + 2, axes={self.channel_axis: channels})

    def call(self, inputs: Any) -> Any:
        y = ops.conv_transpose(
            inputs, self.kernel, self.strides, self.padding, self.output_padding,
            self.data_format, self.dilation_rate,
        )  # fmt: skip
        return _add_bias(self, y)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        if None in input_shape[1:]:
            channels = [None] * self.rank
            last = self.channel_axis == -1
            sizes = (*channels, self.filters) if last else (self.filters, *channels)
            return (input_shape[0], *sizes)
        kernel = KerasTensor((*self.kernel_size, self.filters, input_shape[self.channel_axis]))
        arguments = (self.strides, self.padding, self.output_padding, self.data_format,
                     self.dilation_rate)  # fmt: skip
        x = KerasTensor(input_shape)
        return infer_outputs(ops.conv_transpose, (x, kernel, *arguments), {}).shape

    def get_config(self) -> dict:
        config = super().get_config()
        config.pop("groups")
        return config


@serializable("keras.layers", "Convolution1DTranspose")
class Conv1DTranspose(BaseConvTranspose):
    __doc__ = BaseConvTranspose.__doc__
    rank = 1


@serializable("keras.layers", "Convolution2DTranspose")
class Conv2DTranspose(BaseConvTranspose):
    __doc__ = BaseConvTranspose.__doc__
    rank = 2


@serializable("keras.layers", "Convolution3DTranspose")
class Conv3DTranspose(BaseConvTranspose):
    __doc__ = BaseConvTranspose.__doc__
    rank = 3


class BaseDepthwise(BaseConv):
    """Convolves every channel for itself: x (N, *S, C), kernel (*K, C, M) -> y (N, *O, C * M).

    Args:
        kernel_size, strides, padding, ...: as for the convolution.
        depth_multiplier: M, the number of outputs per channel.
        depthwise_initializer, depthwise_regularizer, depthwise_constraint: of the kernel.
    """

    def __init__(
        self,
        kernel_size: Any,
        strides: Any = 1,
        padding: str = "valid",
        depth_multiplier: int = 1,
        data_format: str | None = None,
        dilation_rate: Any = 1,
        activation: Any = None,
        use_bias: bool = True,
        depthwise_initializer: Any = "glorot_uniform",
        depthwise_regularizer: Any = None,
        depthwise_constraint: Any = None,
        **kwargs: Any,
    ):
        super().__init__(
            depth_multiplier, kernel_size, strides, padding, data_format, dilation_rate, 1,
            activation, use_bias, kernel_initializer=depthwise_initializer,
            kernel_regularizer=depthwise_regularizer, kernel_constraint=depthwise_constraint,
            **kwargs,
        )  # fmt: skip
        self.depth_multiplier = self.filters
        self.depthwise_initializer = self.kernel_initializer
        self.depthwise_regularizer = self.kernel_regularizer
        self.depthwise_constraint = self.kernel_constraint

    def build(self, input_shape: tuple) -> None:
        channels = input_shape[self.channel_axis]
        self.kernel = self.add_kernel((*self.kernel_size, channels, self.depth_multiplier))
        self.filters = channels * self.depth_multiplier
        self.bias = self.add_bias(self.filters)
        self.input_spec = InputSpec(ndim=self.rank + 2, axes={self.channel_axis: channels})

    def call(self, inputs: Any) -> Any:
        y = ops.depthwise_conv(
            inputs, self.kernel, self.strides, self.padding, self.data_format, self.dilation_rate
        )
        return _add_bias(self, y)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        self.filters = input_shape[self.channel_axis] * self.depth_multiplier
        return super().compute_output_shape(input_shape)

    def get_config(self) -> dict:
        config = super().get_config()
        for name in ("filters", "groups", "kernel_initializer", "kernel_regularizer",
                     "kernel_constraint"):  # fmt: skip
            config.pop(name, None)
        return config


@serializable("keras.layers")
class DepthwiseConv1D(BaseDepthwise):
    __doc__ = BaseDepthwise.__doc__
    rank = 1


@serializable("keras.layers")
class DepthwiseConv2D(BaseDepthwise):
    __doc__ = BaseDepthwise.__doc__
    rank = 2


class BaseSeparable(BaseConv):
    """A depthwise convolution, then one with a window of 1 that mixes the channels.

    x (N, *S, C), depthwise_kernel (*K, C, M), pointwise_kernel (1, .., C * M, F) -> y (N, *O, F).

    Args:
        filters, kernel_size, strides, padding, ...: as for the convolution.
        depth_multiplier: M, the number of outputs per channel of the first step.
        depthwise_initializer, pointwise_initializer, ...: of the two kernels.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: Any,
        strides: Any = 1,
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: Any = 1,
        depth_multiplier: int = 1,
        activation: Any = None,
        use_bias: bool = True,
        depthwise_initializer: Any = "glorot_uniform",
        pointwise_initializer: Any = "glorot_uniform",
        depthwise_regularizer: Any = None,
        pointwise_regularizer: Any = None,
        depthwise_constraint: Any = None,
        pointwise_constraint: Any = None,
        **kwargs: Any,
    ):
        super().__init__(
            filters, kernel_size, strides, padding, data_format, dilation_rate, 1, activation,
            use_bias, **kwargs,
        )  # fmt: skip
        self.depth_multiplier = positive(type(self).__name__, "depth_multiplier", depth_multiplier)
        self.depthwise_initializer = get("keras.initializers", depthwise_initializer, "initializer")
        self.pointwise_initializer = get("keras.initializers", pointwise_initializer, "initializer")
        self.depthwise_regularizer = get("keras.regularizers", depthwise_regularizer, "regularizer")
        self.pointwise_regularizer = get("keras.regularizers", pointwise_regularizer, "regularizer")
        self.depthwise_constraint = get("keras.constraints", depthwise_constraint, "constraint")
        self.pointwise_constraint = get("keras.constraints", pointwise_constraint, "constraint")

    def build(self, input_shape: tuple) -> None:
        channels = input_shape[self.channel_axis]
        self.depthwise_kernel = self.add_weight(
            (*self.kernel_size, channels, self.depth_multiplier), self.depthwise_initializer,
            regularizer=self.depthwise_regularizer, constraint=self.depthwise_constraint,
            name="depthwise_kernel",
        )  # fmt: skip
        self.pointwise_kernel = self.add_weight(
            (*(1,) * self.rank, channels * self.depth_multiplier, self.filters),
            self.pointwise_initializer, regularizer=self.pointwise_regularizer,
            constraint=self.pointwise_constraint, name="pointwise_kernel",
        )  # fmt: skip
        self.bias = self.add_bias(self.filters)
        self.input_spec = InputSpec(ndim=self.rank + 2, axes={self.channel_axis: channels})

    def call(self, inputs: Any) -> Any:
        y = ops.separable_conv(
            inputs, self.depthwise_kernel, self.pointwise_kernel, self.strides, self.padding,
            self.data_format, self.dilation_rate,
        )  # fmt: skip
        return _add_bias(self, y)

    def get_config(self) -> dict:
        config = super().get_config()
        for name in ("groups", "kernel_initializer", "kernel_regularizer", "kernel_constraint"):
            config.pop(name, None)
        return config


@serializable("keras.layers", "SeparableConvolution1D")
class SeparableConv1D(BaseSeparable):
    __doc__ = BaseSeparable.__doc__
    rank = 1


@serializable("keras.layers", "SeparableConvolution2D")
class SeparableConv2D(BaseSeparable):
    __doc__ = BaseSeparable.__doc__
    rank = 2


def _add_bias(layer: BaseConv, y: Any) -> Any:
    """activation(y + bias), with the bias along the channels."""
    if layer.bias is not None:
        last = layer.channel_axis == -1
        y = y + (layer.bias if last else layer.bias.reshape((-1, *(1,) * layer.rank)))
    return activate(y, layer.activation)
