"""Recurrent layers: a cell that is carried along a sequence, and what wraps other layers."""

from __future__ import annotations

import inspect
from typing import Any

from minitorch_ciml import ops
from minitorch_ciml.autograd.arithmetic import sigmoid, tanh
from minitorch_ciml.autograd.tensor import as_booleans
from minitorch_ciml.keras.layers.arguments import init_parameters
from minitorch_ciml.keras.layers.input_spec import InputSpec
from minitorch_ciml.keras.layers.layer import Layer
from minitorch_ciml.keras.layers.rnn_cells import (
    GRUCell,
    LSTMCell,
    SimpleRNNCell,
    StackedRNNCells,
    check_cell,
    initial_state,
    output_size,
)
from minitorch_ciml.keras.serialization import (
    plain_arguments,
    serializable,
    snake_case,
    users_things_as_themselves,
)
from minitorch_ciml.keras.signatures import WholeSignature
from minitorch_ciml.keras.tree import flatten, map_structure, pack_as


@serializable("keras.layers")
class RNN(Layer):
    """Carries a cell along x (N, T, ...): the output is the last one, (N, H).

    Args:
        cell: a cell such as `LSTMCell(32)`, or a list of them, one on top of the other.
        return_sequences: give the output of every step, (N, T, H).
        return_state: give the last states too, after the output.
        go_backwards: begin with the last step; the outputs come in this order.
        stateful: begin where the last batch has ended; `reset_state` begins anew.
        unroll: accepted as in Keras; steps are always a plain loop here.
        zero_output_for_mask: where the mask is False the output is 0, not that of the step before.

    Call arguments:
        initial_state: a tensor or a list of them, in the place of zeros.
        mask: booleans (N, T); where it is False, states and outputs stay as they were.
    """

    def __init__(
        self,
        cell: Any,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        zero_output_for_mask: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        cell = StackedRNNCells(list(cell)) if isinstance(cell, (list, tuple)) else cell
        check_cell(cell)
        self.cell = cell
        self.return_sequences = return_sequences
        self.return_state = return_state
        self.go_backwards = go_backwards
        self.stateful = stateful
        self.unroll = unroll
        self.zero_output_for_mask = zero_output_for_mask
        self.states: list | None = None
        self.input_spec = InputSpec(min_ndim=3)

    def build(self, input_shape: tuple) -> None:
        if not getattr(self.cell, "built", True):
            self.cell.build((input_shape[0], *input_shape[2:]))

    def call(
        self, sequences: Any, initial_state: Any = None, mask: Any = None, training: bool = False
    ) -> Any:
        if sequences.shape[1] == 0:
            raise ValueError(f"layer {self.name!r}: the sequences have no steps, {sequences!r}.")
        states = self._first_states(sequences, initial_state)
        mask = None if mask is None else as_booleans(mask)
        if self.go_backwards:
            sequences = ops.flip(sequences, 1)
            mask = None if mask is None else mask[:, ::-1]
        if hasattr(self.cell, "reset_dropout_masks"):
            self.cell.reset_dropout_masks()
        outputs, states = self._run_cell(sequences, states, mask, bool(training))
        if self.stateful:
            self.states = map_structure(lambda x: x.detach(), states)
        return (outputs, *states) if self.return_state else outputs

    def _run_cell(self, x: Any, states: list, mask: Any, training: bool) -> tuple[Any, list]:
        """The outputs and the last states, step by step."""
        outputs: list = []
        output = None
        for t in range(x.shape[1]):
            new, new_states = self.cell(x[:, t], states, training=training)
            new_states = list(new_states) if isinstance(new_states, (list, tuple)) else [new_states]
            if mask is None:
                output, states = new, new_states
            else:
                here = mask[:, t].reshape(-1, *[1] * (new.ndim - 1))
                before = 0.0 if output is None or self.zero_output_for_mask else output
                output = ops.where(here, new, before)
                kept = [ops.where(here, a, b) for a, b in zip(flatten(new_states), flatten(states))]
                states = pack_as(new_states, kept)
            outputs.append(output)
        return (ops.stack(outputs, 1) if self.return_sequences else output), states

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        mask = flatten(mask)[0] if self.return_sequences else None
        return [mask] + [None] * len(_as_list(self.cell.state_size)) if self.return_state else mask

    # --- states ---------------------------------------------------------------------------------

    def _first_states(self, sequences: Any, given: Any) -> list:
        if given is not None:
            states = list(given) if isinstance(given, (list, tuple)) else [given]
            expected = len(_as_list(self.cell.state_size))
            if len(states) != expected:
                raise ValueError(
                    f"layer {self.name!r}: initial_state has {len(states)} tensors, the cell has "
                    f"{expected} states."
                )
            return map_structure(lambda s: ops.convert_to_tensor(s, self.compute_dtype), states)
        if self.stateful and self.states is not None:
            size = flatten(self.states)[0].shape[0]
            if size != sequences.shape[0]:
                raise ValueError(
                    f"layer {self.name!r} is stateful: the last batch had {size} samples, this one "
                    f"has {sequences.shape[0]}; call reset_state() between different batches."
                )
            return self.states
        return self.get_initial_state(sequences.shape[0])

    def get_initial_state(self, batch_size: int) -> list:
        """The states before the first step."""
        return initial_state(self.cell, batch_size)

    def reset_state(self) -> None:
        """Lets a stateful layer begin anew."""
        self.states = None

    reset_states = reset_state

    @property
    def state_size(self) -> list:
        """The sizes of the cell's states."""
        return _as_list(self.cell.state_size)

    # --- shapes ---------------------------------------------------------------------------------

    def compute_output_shape(self, input_shape: Any, initial_state_shape: Any = None) -> Any:
        batch, steps = input_shape[:2]
        size = output_size(self.cell)
        output = (batch, steps, size) if self.return_sequences else (batch, size)
        if not self.return_state:
            return output
        return (output, *((batch, n) for n in flatten(self.cell.state_size)))


def _as_list(x: Any) -> list:
    return list(x) if isinstance(x, (list, tuple)) else [x]


class _CellsSignature(WholeSignature):
    """The cell's arguments, then those of `RNN`, without the cell."""

    def parameters(self, cls: type) -> list[inspect.Parameter]:
        cell = super().parameters(getattr(cls, "cell_class", cls))
        cell = [p for p in cell if p.name != "rank"]  # the layers of `ConvLSTM` know it
        known = {"cell", *(p.name for p in cell)}
        rest = [p for p in super().parameters(RNN) if p.name not in known]
        every = [*cell, *(p.replace(kind=p.KEYWORD_ONLY) for p in rest)]
        return sorted(every, key=lambda p: p.kind)


class OneCell(RNN):
    """A recurrent layer that makes its own cell, from the arguments that are the cell's."""

    __signature__ = _CellsSignature()
    cell_class: type

    def __init__(self, *cell_arguments: Any, **kwargs: Any):
        kwargs.pop("use_cudnn", None)
        of_cell = {k: kwargs.pop(k) for k in init_parameters(self.cell_class) if k in kwargs}
        of_cell.update(dtype=kwargs.get("dtype"), trainable=kwargs.get("trainable", True))
        cell_name = snake_case(self.cell_class.__name__)
        super().__init__(self.cell_class(*cell_arguments, **of_cell, name=cell_name), **kwargs)
        self.input_spec = InputSpec(ndim=3)

    def __getattr__(self, name: str) -> Any:
        # units, activation, dropout and so on are those of the cell.
        if name in init_parameters(type(self).cell_class):
            return getattr(self.cell, name)
        return super().__getattr__(name)  # type: ignore[misc]

    def _run_cell(self, x: Any, states: list, mask: Any, training: bool) -> tuple[Any, list]:
        cell = self.cell
        dropped = training and cell.recurrent_dropout
        if mask is not None or dropped or not self._is_fused():
            return super()._run_cell(x, states, mask, training)
        x = cell.drop_inputs(x, training, (x.shape[0], 1, x.shape[2]))
        weights = cell.kernel, cell.recurrent_kernel, cell.bias
        outputs, *last = self._fused(x, *weights, *states, sequences=self.return_sequences)
        return outputs, last

    def _is_fused(self) -> bool:
        """Whether the op computes what the cell does."""
        return self.cell.activation is tanh

    @staticmethod
    def _fused(*args: Any, **kwargs: Any) -> tuple:
        """The op for all steps: (outputs, *last states)."""
        raise NotImplementedError

    def get_config(self) -> dict:
        config = super().get_config()
        own = {"name", "trainable", "dtype"}
        config.update((k, v) for k, v in self.cell.get_config().items() if k not in own)
        config["activity_regularizer"] = plain_arguments(self.activity_regularizer)
        del config["cell"]
        return config

    @classmethod
    def from_config(cls, config: dict) -> Any:
        # The layer does not know the cell's arguments by name, so it would drop those that are off.
        known = init_parameters(cls.cell_class)
        used = {k: v for k, v in config.items() if k in known or v not in (None, False)}
        return super(Layer, cls).from_config(used)


@serializable("keras.layers")
class SimpleRNN(OneCell):
    """h' = activation(x W + h U + b) along x (N, T, I): gives the last h, (N, H).

    Args:
        units, activation, use_bias, ...: see `SimpleRNNCell`.
        return_sequences, return_state, ...: see `RNN`.
    """

    cell_class = SimpleRNNCell
    _fused = staticmethod(ops.simple_rnn)

    def __init__(self, units: int, activation: Any = "tanh", use_bias: bool = True, **kwargs: Any):
        super().__init__(units, activation, use_bias, **kwargs)

    def get_config(self) -> dict:
        config = super().get_config()
        del config["seed"]  # as in Keras
        return config


@serializable("keras.layers")
class LSTM(OneCell):
    """Long short-term memory along x (N, T, I): gives the last h, (N, H).

    Args:
        units, activation, recurrent_activation, use_bias, unit_forget_bias, ...: see `LSTMCell`.
        return_sequences, return_state, ...: see `RNN`; the states are h and c.
    """

    cell_class = LSTMCell
    _fused = staticmethod(ops.lstm)

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        recurrent_activation: Any = "sigmoid",
        use_bias: bool = True,
        **kwargs: Any,
    ):
        super().__init__(units, activation, recurrent_activation, use_bias, **kwargs)

    def _is_fused(self) -> bool:
        return super()._is_fused() and self.cell.recurrent_activation is sigmoid


@serializable("keras.layers")
class GRU(OneCell):
    """Gated recurrent unit along x (N, T, I): gives the last h, (N, H).

    Args:
        units, activation, recurrent_activation, use_bias, reset_after, ...: see `GRUCell`.
        return_sequences, return_state, ...: see `RNN`.
    """

    cell_class = GRUCell
    _fused = staticmethod(ops.gru)

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        recurrent_activation: Any = "sigmoid",
        use_bias: bool = True,
        **kwargs: Any,
    ):
        super().__init__(units, activation, recurrent_activation, use_bias, **kwargs)

    def _is_fused(self) -> bool:
        gates = self.cell.recurrent_activation is sigmoid and self.cell.reset_after
        return super()._is_fused() and gates


# --- layers around other layers -----------------------------------------------------------------


@serializable("keras.layers")
class Bidirectional(Layer):
    """A recurrent layer forwards and another one backwards in time, their outputs merged.

    Args:
        layer: the recurrent layer; it is copied.
        merge_mode: "concat", "sum", "mul", "ave", or None for both outputs.
        backward_layer: for the other direction; by default a copy of `layer`.
    """

    def __init__(
        self,
        layer: Any,
        merge_mode: str | None = "concat",
        weights: Any = None,
        backward_layer: Any = None,
        **kwargs: Any,
    ):
        if not (isinstance(layer, Layer) and hasattr(layer, "go_backwards")):
            raise ValueError(
                f"Bidirectional: expected a recurrent layer such as LSTM(32), got {layer!r}."
            )
        if merge_mode not in ("concat", "sum", "mul", "ave", None):
            raise ValueError(
                f"Bidirectional: got merge_mode={merge_mode!r}, expected 'concat', 'sum', 'mul', "
                "'ave' or None."
            )
        super().__init__(**kwargs)
        self.merge_mode = merge_mode
        self.forward_layer = _renamed_copy(layer, "forward_", layer.go_backwards)
        self.backward_layer = backward_layer or _renamed_copy(
            layer, "backward_", not layer.go_backwards
        )
        if self.forward_layer.go_backwards == self.backward_layer.go_backwards:
            raise ValueError(
                "Bidirectional: both layers run in the same direction; one of layer and "
                "backward_layer needs go_backwards=True."
            )
        like: Any = layer
        self.return_sequences = like.return_sequences
        self.return_state = like.return_state
        self.stateful = like.stateful
        for name in ("return_sequences", "return_state", "stateful"):
            if getattr(self.backward_layer, name) != getattr(layer, name):
                raise ValueError(f"Bidirectional: {name} differs between layer and backward_layer.")
        if self.return_sequences:
            self.forward_layer.zero_output_for_mask = True
            self.backward_layer.zero_output_for_mask = True
        self.input_spec = InputSpec(min_ndim=3)

    @property
    def layer(self) -> Any:
        return self.forward_layer

    def build(self, input_shape: tuple) -> None:
        for layer in (self.forward_layer, self.backward_layer):
            if not layer.built:
                layer.build(input_shape)

    def call(
        self, sequences: Any, initial_state: Any = None, mask: Any = None, training: Any = None
    ) -> Any:
        first = second = None
        if initial_state is not None:
            half = len(initial_state) // 2
            first, second = list(initial_state[:half]), list(initial_state[half:])
        how = {"mask": mask, "training": training}
        y = self.forward_layer(sequences, initial_state=first, **how)
        z = self.backward_layer(sequences, initial_state=second, **how)
        states: tuple = ()
        if self.return_state:
            y, *first = y
            z, *second = z
            states = (*first, *second)
        if self.return_sequences:
            z = ops.flip(z, 1)
        merged = self._merged(y, z)
        if self.merge_mode is None:
            return (*merged, *states)
        return (merged, *states) if states else merged

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        mask = flatten(mask)[0] if self.return_sequences else None
        return (mask, mask) if self.merge_mode is None else mask

    def _merged(self, y: Any, z: Any) -> Any:
        if self.merge_mode is None:
            return y, z
        if self.merge_mode == "concat":
            return ops.concatenate([y, z], -1)
        if self.merge_mode == "mul":
            return y * z
        return (y + z) / 2 if self.merge_mode == "ave" else y + z

    def reset_state(self) -> None:
        """Lets stateful layers begin anew."""
        self.forward_layer.reset_state()
        self.backward_layer.reset_state()

    reset_states = reset_state

    def compute_output_shape(self, input_shape: Any, initial_state_shape: Any = None) -> Any:
        shape: Any = self.forward_layer.compute_output_shape(input_shape)
        states: tuple = ()
        if self.return_state:
            shape, *rest = shape
            states = (*rest, *rest)
        if self.merge_mode is None:
            return (shape, shape, *states)
        if self.merge_mode == "concat":
            shape = (*shape[:-1], 2 * shape[-1])
        return (shape, *states) if states else shape

    def get_config(self) -> dict:
        config = super().get_config()
        del config["weights"]
        return config


def _renamed_copy(layer: Any, prefix: str, go_backwards: bool) -> Any:
    """A new layer with the same arguments, but another name and direction."""
    with users_things_as_themselves():
        config = layer.get_config()
        for known in ("forward_", "backward_"):
            config["name"] = config["name"].removeprefix(known)
        config.update(name=prefix + config["name"], go_backwards=go_backwards)
        return type(layer).from_config(config)


@serializable("keras.layers")
class TimeDistributed(Layer):
    """The same layer for every step: x (N, T, ...) -> (N, T, ...).

    Args:
        layer: the layer for one step.

    Call arguments:
        mask: booleans (N, T, ...): for the layer, step by step, if it takes a mask.
    """

    supports_masking = True

    def __init__(self, layer: Any, **kwargs: Any):
        if not isinstance(layer, Layer):
            raise ValueError(f"TimeDistributed: expected a layer, got {type(layer).__name__}.")
        super().__init__(**kwargs)
        self.layer = layer
        self.input_spec = InputSpec(min_ndim=3)

    def build(self, input_shape: tuple) -> None:
        if not self.layer.built:
            self.layer.build((input_shape[0], *input_shape[2:]))

    def call(self, inputs: Any, training: Any = None, mask: Any = None) -> Any:
        batch, steps = inputs.shape[:2]
        inner = {}
        if mask is not None and "mask" in self.layer._call_names:
            inner["mask"] = ops.reshape(mask, (batch * steps, *mask.shape[2:]))
        rows = ops.reshape(inputs, (batch * steps, *inputs.shape[2:]))
        y = self.layer(rows, training=training, **inner)
        return ops.reshape(y, (batch, steps, *y.shape[1:]))

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        batch, steps, *rest = input_shape
        inner = self.layer.compute_output_shape((batch, *rest))
        return (batch, steps, *inner[1:])
