"""Convolutional LSTMs: long short-term memory of images, or of series or volumes, along time."""

from __future__ import annotations

from typing import Any

from minitorch_ciml import ops
from minitorch_ciml.keras.backend import standardize_data_format
from minitorch_ciml.keras.layers.convolutional import BaseConv
from minitorch_ciml.keras.layers.input_spec import InputSpec
from minitorch_ciml.keras.layers.kernel_layer import padding_mode
from minitorch_ciml.keras.layers.rnn import RNN, OneCell
from minitorch_ciml.keras.layers.rnn_cells import LSTMCell
from minitorch_ciml.keras.serialization import serializable
from minitorch_ciml.ops.conv import per_dimension


class ConvLSTMCell(LSTMCell):
    """c' = f c + i g, h' = o activation(c'), with gates i, f, g, o from x * W + h * U + b.

    The products are convolutions. That of x is done for all steps at once (`convolved`); `call`
    takes its result.

    Args:
        rank: the number of spatial dimensions.
        filters: F, the channels of h and c.
        kernel_size, strides, padding, data_format, dilation_rate: of the convolution of x, see
            `Conv2D`; that of h has the same kernel_size, and keeps the size.
        activation, recurrent_activation, ...: see `LSTMCell`.
    """

    def __init__(
        self,
        rank: int,
        filters: int,
        kernel_size: Any,
        strides: Any = 1,
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: Any = 1,
        activation: Any = "tanh",
        recurrent_activation: Any = "sigmoid",
        use_bias: bool = True,
        **kwargs: Any,
    ):
        super().__init__(filters, activation, recurrent_activation, use_bias, **kwargs)
        name = f"ConvLSTM{rank}D"
        self.rank, self.filters = rank, self.units
        self.kernel_size = per_dimension(name, "kernel_size", kernel_size, rank)
        self.strides = per_dimension(name, "strides", strides, rank)
        self.padding = padding_mode(name, padding)
        self.data_format = standardize_data_format(data_format)
        self.dilation_rate = per_dimension(name, "dilation_rate", dilation_rate, rank)

    @property
    def channel_axis(self) -> int:
        return -1 if self.data_format == "channels_last" else 1

    _output_size = BaseConv._output_size  # type: ignore[assignment]
    image_shape = BaseConv.compute_output_shape  # type: ignore[assignment]

    def build(self, input_shape: tuple) -> None:
        channels = input_shape[self.channel_axis]
        if channels is None:
            raise ValueError(
                f"layer {self.name!r}: the number of channels must be known, got {input_shape}."
            )
        shapes = [(*self.kernel_size, n, 4 * self.filters) for n in (channels, self.filters)]
        self.kernel = self.add_weight(
            shapes[0], self.kernel_initializer,
            regularizer=self.kernel_regularizer, constraint=self.kernel_constraint, name="kernel",
        )  # fmt: skip
        self.recurrent_kernel = self.add_weight(
            shapes[1], self.recurrent_initializer,
            regularizer=self.recurrent_regularizer, constraint=self.recurrent_constraint,
            name="recurrent_kernel",
        )  # fmt: skip
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(
                self._bias_shape(), self._initial_bias, regularizer=self.bias_regularizer,
                constraint=self.bias_constraint, name="bias",
            )  # fmt: skip

    def convolved(self, x: Any, training: bool) -> Any:
        """x * W + b for all steps of x (N, T, *S, C): (N, T, *S', 4 F)."""
        x = self.drop_inputs(x, training, (x.shape[0], 1, *x.shape[2:]))
        y = ops.conv_bias_act(
            ops.reshape(x, (-1, *x.shape[2:])), self.kernel, self.bias, None,
            self.strides, self.padding, self.data_format, self.dilation_rate,
        )  # fmt: skip
        return ops.reshape(y, (*x.shape[:2], *y.shape[1:]))

    def call(self, inputs: Any, states: Any, training: bool = False) -> tuple:
        h, c = states
        z = inputs + ops.conv(
            self._drop_state(h, training), self.recurrent_kernel, 1, "same", self.data_format
        )
        i, f, g, o = ops.split(z, 4, axis=self.channel_axis)
        i, f, o = (self.recurrent_activation(gate) for gate in (i, f, o))
        c = f * c + i * self.activation(g)
        h = o * self.activation(c)
        return h, [h, c]


class _ConvLSTM(OneCell):
    """Convolutional long short-term memory along x (N, T, *S, C): gives the last h, (N, *S', F).

    (Shi et al., 2015.) With data_format="channels_first", x is (N, T, C, *S).

    Args:
        filters, kernel_size, strides, ...: see `ConvLSTMCell`.
        return_sequences, return_state, ...: see `RNN`; the states are h and c, (N, *S', F).
    """

    cell_class = ConvLSTMCell
    rank: int

    def __init__(self, filters: int, kernel_size: Any, *cell_arguments: Any, **kwargs: Any):
        super().__init__(self.rank, filters, kernel_size, *cell_arguments, **kwargs)
        self.input_spec = InputSpec(ndim=self.rank + 3)

    def _run_cell(self, x: Any, states: list, mask: Any, training: bool) -> tuple[Any, list]:
        return RNN._run_cell(self, self.cell.convolved(x, training), states, mask, training)

    def _first_states(self, sequences: Any, given: Any) -> list:
        if given is None and (not self.stateful or self.states is None):
            return self.get_initial_state(sequences.shape[0], sequences.shape[2:])
        return super()._first_states(sequences, given)

    def get_initial_state(self, batch_size: int, image_shape: tuple = ()) -> list:
        """States of zeros, for images of `image_shape`."""
        shape = self.cell.image_shape((batch_size, *image_shape))
        return [ops.zeros(shape, self.compute_dtype) for _ in range(2)]

    def compute_output_shape(self, input_shape: Any, initial_state_shape: Any = None) -> Any:
        batch, steps, *image = input_shape
        last = self.cell.image_shape((batch, *image))
        output = (batch, steps, *last[1:]) if self.return_sequences else last
        return (output, last, last) if self.return_state else output

    def get_config(self) -> dict:
        config = super().get_config()
        for name in ("rank", "units"):
            del config[name]
        return config


@serializable("keras.layers")
class ConvLSTM1D(_ConvLSTM):
    __doc__ = _ConvLSTM.__doc__
    rank = 1


@serializable("keras.layers")
class ConvLSTM2D(_ConvLSTM):
    __doc__ = _ConvLSTM.__doc__
    rank = 2


@serializable("keras.layers")
class ConvLSTM3D(_ConvLSTM):
    __doc__ = _ConvLSTM.__doc__
    rank = 3
