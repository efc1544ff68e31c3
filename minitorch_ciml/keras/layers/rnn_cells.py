"""Cells: one step of a recurrent layer, (x, states) -> (output, new states)."""

from __future__ import annotations

from typing import Any

from minitorch_ciml import ops
from minitorch_ciml.keras import activations
from minitorch_ciml.keras.layers.kernel_layer import positive
from minitorch_ciml.keras.layers.layer import Layer
from minitorch_ciml.keras.serialization import get, serializable
from minitorch_ciml.ops import random
from minitorch_ciml.ops.recurrent import gru_step, lstm_step, simple_rnn_step


class _Cell(Layer):
    """The weights of a cell, and its dropout.

    Args:
        units: H, the size of the state.
        activation: of the candidate for the new state; a name, a function, or None.
        use_bias: whether there is a bias.
        kernel_initializer, recurrent_initializer, bias_initializer, ..._regularizer,
            ..._constraint: of the weights.
        dropout: in training, the share of inputs set to 0, the same ones in every step.
        recurrent_dropout: in training, the share of the state set to 0, the same in every step.
        seed: an integer that fixes the dropout.
    """

    gates = 1

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        recurrent_regularizer: Any = None,
        bias_regularizer: Any = None,
        kernel_constraint: Any = None,
        recurrent_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.units = positive(type(self).__name__, "units", units)
        self.activation = activations.get(activation)
        self.use_bias = bool(use_bias)
        self.kernel_initializer = get("keras.initializers", kernel_initializer, "initializer")
        self.recurrent_initializer = get("keras.initializers", recurrent_initializer, "initializer")
        self.bias_initializer = get("keras.initializers", bias_initializer, "initializer")
        self.kernel_regularizer = get("keras.regularizers", kernel_regularizer, "regularizer")
        self.recurrent_regularizer = get("keras.regularizers", recurrent_regularizer, "regularizer")
        self.bias_regularizer = get("keras.regularizers", bias_regularizer, "regularizer")
        self.kernel_constraint = get("keras.constraints", kernel_constraint, "constraint")
        self.recurrent_constraint = get("keras.constraints", recurrent_constraint, "constraint")
        self.bias_constraint = get("keras.constraints", bias_constraint, "constraint")
        self.dropout = self._rate("dropout", dropout)
        self.recurrent_dropout = self._rate("recurrent_dropout", recurrent_dropout)
        self.seed = seed
        self.seed_generator = random.SeedGenerator(random.draw_seed() if seed is None else seed)
        self._masks: dict[str, Any] = {}

    def _rate(self, name: str, rate: float) -> float:
        if not 0 <= rate <= 1:
            raise ValueError(
                f"{type(self).__name__}: {name} must be between 0 and 1, got {rate!r}."
            )
        return rate

    @property
    def state_size(self) -> Any:
        """The sizes of the states: one number, or a list."""
        return self.units

    @property
    def output_size(self) -> int:
        return self.units

    def build(self, input_shape: tuple) -> None:
        columns = self.gates * self.units
        self.kernel = self.add_weight(
            (input_shape[-1], columns), self.kernel_initializer,
            regularizer=self.kernel_regularizer, constraint=self.kernel_constraint, name="kernel",
        )  # fmt: skip
        self.recurrent_kernel = self.add_weight(
            (self.units, columns), self.recurrent_initializer,
            regularizer=self.recurrent_regularizer, constraint=self.recurrent_constraint,
            name="recurrent_kernel",
        )  # fmt: skip
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(
                self._bias_shape(), self._initial_bias, regularizer=self.bias_regularizer,
                constraint=self.bias_constraint, name="bias",
            )  # fmt: skip

    def _bias_shape(self) -> tuple:
        return (self.gates * self.units,)

    def _initial_bias(self, shape: tuple, dtype: Any = None) -> Any:
        return self.bias_initializer(shape, dtype=dtype)

    def get_initial_state(self, batch_size: int) -> list:
        """States of zeros."""
        sizes = self.state_size if isinstance(self.state_size, list) else [self.state_size]
        return [ops.zeros((batch_size, n), self.compute_dtype) for n in sizes]

    # --- dropout --------------------------------------------------------------------------------

    def reset_dropout_masks(self) -> None:
        """Forgets which inputs and states are dropped; at the beginning of every sequence."""
        self._masks.clear()

    def drop_inputs(self, x: Any, training: bool, shape: tuple | None = None) -> Any:
        """x with its dropout; `shape` is that of the mask, for x with an axis of time."""
        return self._dropped("x", x, self.dropout, training, shape or x.shape)

    def _drop_state(self, h: Any, training: bool) -> Any:
        return self._dropped("h", h, self.recurrent_dropout, training, h.shape)

    def _dropped(self, key: str, x: Any, rate: float, training: bool, shape: tuple) -> Any:
        if not training or rate == 0:
            return x
        if key not in self._masks:
            ones = ops.ones(shape, self.compute_dtype)
            self._masks[key] = random.dropout(ones, rate, seed=self.seed_generator)
        return x * self._masks[key]

    @property
    def _weights_of_step(self) -> tuple[Any, Any, Any]:
        return self.kernel, self.recurrent_kernel, self.bias


@serializable("keras.layers")
class SimpleRNNCell(_Cell):
    """h' = activation(x W + h U + b).

    Args:
        units, activation, use_bias, ...: see the base class.
    """

    def call(self, sequence: Any, states: Any, training: bool = False) -> tuple:
        x = self.drop_inputs(sequence, training)
        (h,) = _listed(states)
        h = simple_rnn_step(
            x, self._drop_state(h, training), *self._weights_of_step, self.activation
        )
        return h, [h]


class _GatedCell(_Cell):
    """A cell with gates, which have an activation of their own."""

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        recurrent_activation: Any = "sigmoid",
        use_bias: bool = True,
        **kwargs: Any,
    ):
        super().__init__(units, activation, use_bias, **kwargs)
        self.recurrent_activation = activations.get(recurrent_activation)


@serializable("keras.layers")
class LSTMCell(_GatedCell):
    """c' = f c + i g, h' = o activation(c'), with gates i, f, g, o from x W + h U + b.

    Args:
        units, activation, use_bias, ...: see the base class.
        recurrent_activation: of the gates i, f and o.
        unit_forget_bias: the bias of f starts at 1, so that the cell remembers at first.
    """

    gates = 4

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        recurrent_activation: Any = "sigmoid",
        use_bias: bool = True,
        *,
        unit_forget_bias: bool = True,
        **kwargs: Any,
    ):
        super().__init__(units, activation, recurrent_activation, use_bias, **kwargs)
        self.unit_forget_bias = unit_forget_bias

    @property
    def state_size(self) -> list:
        return [self.units, self.units]

    def _initial_bias(self, shape: tuple, dtype: Any = None) -> Any:
        if not self.unit_forget_bias:
            return super()._initial_bias(shape, dtype)
        first, rest = self.bias_initializer((self.units,), dtype), (2 * self.units,)
        return ops.concatenate(
            [first, ops.ones((self.units,), dtype), self.bias_initializer(rest, dtype)]
        )

    def call(self, inputs: Any, states: Any, training: bool = False) -> tuple:
        x = self.drop_inputs(inputs, training)
        h, c = states
        h, c = lstm_step(
            x, self._drop_state(h, training), c, *self._weights_of_step,
            self.activation, self.recurrent_activation,
        )  # fmt: skip
        return h, [h, c]


@serializable("keras.layers")
class GRUCell(_GatedCell):
    """h' = z h + (1 - z) g, with gates z, r, g from x W + b and h U.

    Args:
        units, activation, use_bias, ...: see the base class.
        recurrent_activation: of the gates z and r.
        reset_after: r multiplies the product of h with U and a bias of its own; otherwise h itself.
    """

    gates = 3

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        recurrent_activation: Any = "sigmoid",
        use_bias: bool = True,
        *,
        reset_after: bool = True,
        **kwargs: Any,
    ):
        super().__init__(units, activation, recurrent_activation, use_bias, **kwargs)
        self.reset_after = bool(reset_after)

    def _bias_shape(self) -> tuple:
        shape = super()._bias_shape()
        return (2, *shape) if self.reset_after else shape

    def call(self, inputs: Any, states: Any, training: bool = False) -> tuple:
        x = self.drop_inputs(inputs, training)
        (h,) = _listed(states)
        dropped = self._drop_state(h, training)
        new = gru_step(
            x, dropped, *self._weights_of_step, self.activation, self.recurrent_activation,
            self.reset_after, carried=h,
        )  # fmt: skip
        return new, [new]


@serializable("keras.layers")
class StackedRNNCells(Layer):
    """Cells on top of each other: the output of one is the input of the next.

    Args:
        cells: a list of cells.
    """

    def __init__(self, cells: list, **kwargs: Any):
        super().__init__(**kwargs)
        self.cells = list(cells)
        for cell in self.cells:
            check_cell(cell)

    @property
    def state_size(self) -> list:
        return [cell.state_size for cell in self.cells]

    @property
    def output_size(self) -> int:
        return output_size(self.cells[-1])

    def get_initial_state(self, batch_size: int) -> list:
        """The states of each cell before the first step."""
        return [initial_state(cell, batch_size) for cell in self.cells]

    def build(self, input_shape: tuple) -> None:
        for cell in self.cells:
            if not getattr(cell, "built", True):
                cell.build(input_shape)
            input_shape = (input_shape[0], output_size(cell))

    def reset_dropout_masks(self) -> None:
        """Forgets what the cells drop; at the beginning of every sequence."""
        for cell in self.cells:
            if hasattr(cell, "reset_dropout_masks"):
                cell.reset_dropout_masks()

    def call(self, inputs: Any, states: Any, training: bool = False) -> tuple:
        new = []
        for cell, state in zip(self.cells, states):
            inputs, state = cell(inputs, state, training=training)
            new.append(_listed(state))
        return inputs, new


def _listed(states: Any) -> list:
    return list(states) if isinstance(states, (list, tuple)) else [states]


def check_cell(cell: Any) -> None:
    """Raises ValueError unless `cell` can be called and has the size of its states."""
    if not callable(cell) or not hasattr(cell, "state_size"):
        raise ValueError(
            f"RNN: a cell needs call(inputs, states) and state_size, got {type(cell).__name__}; "
            "use for example LSTMCell(32)."
        )


def output_size(cell: Any) -> int:
    """The size of a cell's output: `output_size`, or that of its first state."""
    size = getattr(cell, "output_size", None)
    return _listed(cell.state_size)[0] if size is None else size


def initial_state(cell: Any, batch_size: int) -> list:
    """The states before the first step: the cell's, or zeros."""
    if hasattr(cell, "get_initial_state"):
        return _listed(cell.get_initial_state(batch_size=batch_size))
    return [ops.zeros((batch_size, n)) for n in _listed(cell.state_size)]
