"""Convolutions in one, two and three dimensions."""

from __future__ import annotations

from typing import Any

from minitorch_ciml import ops
from minitorch_ciml.keras.backend import standardize_data_format
from minitorch_ciml.keras.layers.input_spec import InputSpec
from minitorch_ciml.keras.layers.kernel_layer import KernelLayer, padding_mode, positive
from minitorch_ciml.keras.layers.low_rank import LowRank
from minitorch_ciml.keras.serialization import serializable
from minitorch_ciml.ops.conv import per_dimension


class BaseConv(KernelLayer):
    """y = activation(conv(x, kernel) + bias), in `rank` dimensions.

    x (N, *S, C), kernel (*K, C / groups, F), bias (F,) -> y (N, *O, F); with
    data_format="channels_first", x (N, C, *S) and y (N, F, *O).

    Args:
        filters: F, the number of output channels.
        kernel_size: K, an int or one per dimension.
        strides: the window's step.
        padding: "valid", "same" (O = ceil(S / strides)) or, in 1-D, "causal".
        data_format: "channels_last" or "channels_first".
        dilation_rate: the step between the elements of the window.
        groups: the channels are split into so many groups, each convolved for itself.
        activation, use_bias, kernel_initializer, ...: as for `Dense`.
    """

    rank: int

    def __init__(
        self,
        filters: int,
        kernel_size: Any,
        strides: Any = 1,
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: Any = 1,
        groups: int = 1,
        activation: Any = None,
        use_bias: bool = True,
        **kwargs: Any,
    ):
        super().__init__(activation, use_bias, **kwargs)
        name = type(self).__name__
        self.filters = positive(name, "filters", filters)
        self.groups = positive(name, "groups", groups)
        self.kernel_size = per_dimension(name, "kernel_size", kernel_size, self.rank)
        self.strides = per_dimension(name, "strides", strides, self.rank)
        self.dilation_rate = per_dimension(name, "dilation_rate", dilation_rate, self.rank)
        self.padding = padding_mode(name, padding, *(("causal",) if self.rank == 1 else ()))
        self.data_format = standardize_data_format(data_format)
        self.input_spec = InputSpec(ndim=self.rank + 2)
        if self.filters % self.groups:
            raise ValueError(
                f"{name}: {self.filters} filters cannot be split into {self.groups} groups."
            )

    @property
    def channel_axis(self) -> int:
        return -1 if self.data_format == "channels_last" else 1

    def build(self, input_shape: tuple) -> None:
        channels = input_shape[self.channel_axis]
        if channels is None or channels % self.groups:
            raise ValueError(
                f"{type(self).__name__}: the number of channels must be known and divisible by "
                f"groups={self.groups}; the input's shape is {input_shape}."
            )
        self.kernel = self.add_kernel((*self.kernel_size, channels // self.groups, self.filters))
        self.bias = self.add_bias(self.filters)
        self.input_spec = InputSpec(ndim=self.rank + 2, axes={self.channel_axis: channels})

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        """conv(inputs, kernel); a layer of your own may do something else in its place."""
        return ops.conv(
            inputs, kernel, self.strides, self.padding, self.data_format, self.dilation_rate
        )

    def call(self, inputs: Any) -> Any:
        if type(self).convolution_op is not BaseConv.convolution_op:
            y = self.convolution_op(inputs, self.kernel)
            shape = (self.filters,) + (1,) * (0 if self.channel_axis == -1 else self.rank)
            return self.activation(y if self.bias is None else y + ops.reshape(self.bias, shape))
        return ops.conv_bias_act(
            inputs,
            self.kernel,
            self.bias,
            self.activation,
            self.strides,
            self.padding,
            self.data_format,
            self.dilation_rate,
        )

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        spatial = list(input_shape[1:-1] if self.channel_axis == -1 else input_shape[2:])
        for i, size in enumerate(spatial):
            if size is not None:
                spatial[i] = self._output_size(size, i)
        if self.channel_axis == -1:
            return (input_shape[0], *spatial, self.filters)
        return (input_shape[0], self.filters, *spatial)

    def _output_size(self, size: int, dimension: int) -> int:
        reach = self.dilation_rate[dimension] * (self.kernel_size[dimension] - 1) + 1
        free = size - reach if self.padding == "valid" else size - 1
        if free < 0:
            raise ValueError(
                f"layer {self.name!r}: the window of size {reach} is larger than the input's "
                f"{size}; use a smaller kernel_size or padding='same'."
            )
        return free // self.strides[dimension] + 1


class _Conv(LowRank, BaseConv):
    """A base for what can be fine-tuned by few weights (see `LowRank`), as all but its relatives.

    Args:
        lora_rank, lora_alpha: for `enable_lora`, as soon as there is a kernel.
    """

    adapted = "kernel"
    kernel = LowRank._whole_matrix

    def __init__(
        self, filters: int, kernel_size: Any, strides: Any = 1, padding: str = "valid",
        data_format: str | None = None, dilation_rate: Any = 1, groups: int = 1,
        activation: Any = None, use_bias: bool = True, *, lora_rank: int | None = None,
        lora_alpha: float | None = None, **kwargs: Any,
    ):  # fmt: skip
        super().__init__(
            filters, kernel_size, strides, padding, data_format, dilation_rate, groups, activation,
            use_bias, **kwargs,
        )  # fmt: skip
        self._set_up_lora(lora_rank, lora_alpha)

    def build(self, input_shape: tuple) -> None:
        super().build(input_shape)
        self._enable_lora_if_asked()


@serializable("keras.layers", "Convolution1D")
class Conv1D(_Conv):
    __doc__ = BaseConv.__doc__
    rank = 1


@serializable("keras.layers", "Convolution2D")
class Conv2D(_Conv):
    __doc__ = BaseConv.__doc__
    rank = 2


@serializable("keras.layers", "Convolution3D")
class Conv3D(_Conv):
    __doc__ = BaseConv.__doc__
    rank = 3
