"""`Optimizer`: what all optimizers share; the rules themselves are in `rules.py`.

`apply` gathers the gradients into one array (`FlatBuffer`), treats them (accumulation, clipping),
and calls the rule's kernel once, over all parameters. Large gradients that need no treatment are
used where they lie: then the kernel is called once per parameter, and nothing is copied.
`gradients.py` has what happens before the rule, `averages.py` the moving averages, `own.py` what an
optimizer of a user calls.
"""

from __future__ import annotations

import inspect
import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from minitorch_ciml import config, kernels
from minitorch_ciml.autograd import Parameter, Tensor
from minitorch_ciml.autograd.flat import FlatBuffer
from minitorch_ciml.config import floatx
from minitorch_ciml.distributed import average_in_fixed_order, exchange_for_part
from minitorch_ciml.keras.layers.variable import Variable, name_scope
from minitorch_ciml.keras.optimizers.averages import MovingAverages
from minitorch_ciml.keras.optimizers.gradients import Exchange, Gradients, kernel_of
from minitorch_ciml.keras.optimizers.own import OwnUpdate
from minitorch_ciml.keras.optimizers.schedules import InverseTimeDecay, LearningRateSchedule
from minitorch_ciml.keras.serialization import (
    Configurable,
    deserialize_keras_object,
    serialize_keras_object,
    snake_case,
)
from minitorch_ciml.keras.signatures import WholeSignature
from minitorch_ciml.keras.symbolic import unique_name
from minitorch_ciml.kernels import steps


class Optimizer(Gradients, MovingAverages, OwnUpdate, Configurable):
    """The base of all optimizers. A rule gives `kernel`, `slots` and `hyperparameters(step)`.

    An optimizer of your own may instead give `update_step(gradient, variable, learning_rate)`, as
    in Keras, and make its variables in `build` with `add_variable_from_reference`.

    Args:
        learning_rate: a number, a schedule, or a function without arguments.
        weight_decay: w -= weight_decay * learning_rate * w in every step, before the update.
        clipnorm: the largest norm of each parameter's gradient; larger ones are scaled down.
        clipvalue: the largest absolute value of a gradient's element.
        global_clipnorm: the largest norm of all gradients together.
        use_ema: keep a moving average of the parameters, which replaces them at the end of fit.
        ema_momentum: average = ema_momentum * average + (1 - ema_momentum) * parameter.
        ema_overwrite_frequency: replace the parameters by the average every so many steps.
        loss_scale_factor: `scale_loss` multiplies by it, `apply` divides the gradients by it.
        gradient_accumulation_steps: update once in so many steps, with the mean gradient.
        name: for messages and files.
        lr: Keras 2's name of `learning_rate`.
        decay: Keras 2's: learning_rate / (1 + decay * step), as an `InverseTimeDecay`.

    Raises:
        TypeError: an unknown argument, or a learning rate that is none of these.
        ValueError: an argument out of its range, or more than one way of clipping.
    """

    __signature__ = WholeSignature()
    # The kernel, and the names of the arrays that it gets after parameters and gradients.
    kernel: str | None = None
    slots: tuple[str, ...] = ()

    # Where another optimizer decides on the GPU whether there is an update: what tells the kernels.
    _guard: Callable | None = None

    # How `apply` combines the gradients of several ranks before they are treated; None: by their
    # mean where the ranks share a batch, otherwise not at all.
    exchange: Exchange | None = None

    def __init__(
        self,
        learning_rate: Any,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        use_ema: bool = False,
        ema_momentum: float = 0.99,
        ema_overwrite_frequency: int | None = None,
        loss_scale_factor: float | None = None,
        gradient_accumulation_steps: int | None = None,
        name: str | None = None,
        lr: Any = None,
        decay: float | None = None,
        **unknown: Any,
    ):
        kind = type(self).__name__
        if unknown:
            known = ", ".join(inspect.signature(type(self)).parameters)
            raise TypeError(f"{kind}: unknown argument {sorted(unknown)[0]!r}; known: {known}.")
        given = [clipnorm, clipvalue, global_clipnorm]
        if sum(limit is not None for limit in given) > 1:
            raise ValueError(
                f"{kind}: give one of clipnorm, clipvalue and global_clipnorm; got {given}."
            )
        if gradient_accumulation_steps is not None and gradient_accumulation_steps < 2:
            raise ValueError(
                f"{kind}: gradient_accumulation_steps must be 2 or more (None: no accumulation), "
                f"got {gradient_accumulation_steps}."
            )
        if use_ema and not 0 <= ema_momentum <= 1:
            raise ValueError(f"{kind}: ema_momentum must be from 0 to 1, got {ema_momentum}.")
        if use_ema and ema_overwrite_frequency is not None and ema_overwrite_frequency < 1:
            raise ValueError(
                f"{kind}: ema_overwrite_frequency must be 1 or more, got {ema_overwrite_frequency}."
            )
        self.name = name or unique_name(snake_case(kind))
        self.weight_decay = weight_decay
        self.clipnorm = clipnorm
        self.clipvalue = clipvalue
        self.global_clipnorm = global_clipnorm
        self.use_ema = use_ema
        self.ema_momentum = ema_momentum
        self.ema_overwrite_frequency = ema_overwrite_frequency
        self.loss_scale_factor = loss_scale_factor
        self.gradient_accumulation_steps = gradient_accumulation_steps
        self.built = False
        self._iterations = self._scalar(0, "iteration", "int32")
        rate = learning_rate if lr is None else lr
        self._learning_rate = self._as_rate(InverseTimeDecay(rate, 1, decay) if decay else rate)
        self._undecayed: tuple[set[Parameter], re.Pattern | None] | None = None
        self._trainable_variables: list[Parameter] = []
        self._buffers: list[FlatBuffer] = []
        self._slot_arrays: dict[str, list[np.ndarray]] = {}  # per slot, one array per buffer
        self._slot_variables: list[Parameter] = []
        self._accumulated: set[int] = set()  # the parameters that have had a gradient so far

    # --- what a rule gives -----------------------------------------------------------------------

    def hyperparameters(self, step: int) -> tuple:
        """What the kernel gets after `keep` and `lr`; `step` counts the updates from 1."""
        return ()

    def initial_value(self, slot: str) -> float:
        """What a slot is filled with."""
        return 0.0

    def slot_groups(self) -> list[tuple[str, ...]]:
        """The slots in use, as Keras orders them in files: by group, parameter, name."""
        return [self.slots] if self.slots else []

    def extra_variables(self) -> list[Parameter]:
        """Variables after the slots in a file."""
        return []

    @property
    def can_be_recorded(self) -> bool:
        """Whether every step does the same, but for the numbers that its kernel gets."""
        decides = self.gradient_accumulation_steps or self.ema_overwrite_frequency
        return self.kernel is not None and self.exchange is None and not decides

    # --- building --------------------------------------------------------------------------------

    def build(self, variables: Sequence[Parameter]) -> None:
        """Packs `variables` into flat buffers, one per dtype, and makes the slots; once."""
        if self.built:
            return
        self._trainable_variables = list(variables)
        self._positions = {id(v): i for i, v in enumerate(self._trainable_variables)}
        dtypes = dict.fromkeys(v.dtype for v in self._trainable_variables)
        self._members = [
            [i for i, v in enumerate(self._trainable_variables) if v.dtype == dtype]
            for dtype in dtypes
        ]
        self._buffers = [
            FlatBuffer([self._trainable_variables[i] for i in members]) for members in self._members
        ]
        groups = self.slot_groups()
        if self.gradient_accumulation_steps:
            groups = [("gradient_accumulator",), *groups]
        if self.use_ema:
            groups = [("average",), *groups]
        for group in groups:
            self._add_slots(group)
        self._arrays = [
            tuple(self._slot_arrays[s][k] if s in self._slot_arrays else None for s in self.slots)
            for k in range(len(self._buffers))
        ]
        if self.kernel is not None:
            self._kernels = [kernel_of(buffer, self.kernel) for buffer in self._buffers]
        self._constrained = [
            v for v in self._trainable_variables if getattr(v, "constraint", None) is not None
        ]
        self.built = True

    def __getstate__(self) -> dict[str, Any]:
        """For copies and pickle: all but what `build` derives from the rest."""
        derived = ("_positions", "_members", "_buffers", "_slot_arrays", "_arrays", "_kernels")
        return {k: v for k, v in self.__dict__.items() if k not in derived}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Builds anew: a copied array is no view of a copied flat one any more."""
        self.__dict__.update(state)
        self._buffers, self._slot_arrays = [], {}
        if self.built:
            values = [Tensor.constant(v.value.copy()) for v in self.variables]
            self.built, self._slot_variables = False, []
            self.build(self._trainable_variables)
            self.set_weights(values)

    def _add_slots(self, group: tuple[str, ...]) -> None:
        """Makes the flat arrays of these slots, and a variable for each parameter's part."""
        parts: dict[tuple[str, int], np.ndarray] = {}
        for slot in group:
            arrays = [
                kernels.full(b.data.shape, self.initial_value(slot), b.data.dtype, b.device)
                for b in self._buffers
            ]
            self._slot_arrays[slot] = arrays
            for buffer, members, array in zip(self._buffers, self._members, arrays):
                for i, view in zip(members, buffer.views(array)):
                    parts[slot, i] = view
        for i, variable in enumerate(self._trainable_variables):
            path = str(getattr(variable, "path", variable.name)).replace("/", "_")
            for slot in group:
                with name_scope(self.name):
                    self._slot_variables.append(_on_view(parts[slot, i], f"{path}_{slot}"))

    def _scalar(self, value: float, name: str, dtype: Any) -> Parameter:
        with config.device("cpu"):  # wherever the parameters are: it is Python that reads it
            with name_scope(self.name):
                return Variable(np.asarray(value, dtype), trainable=False, name=name)

    @property
    def variables(self) -> list[Parameter]:
        """Everything that is saved, in Keras' order: step, learning rate, then the slots."""
        rate = self._learning_rate
        return [
            self._iterations,
            *([rate] if isinstance(rate, Parameter) else []),
            *self._slot_variables,
            *self.extra_variables(),
        ]

    def exclude_from_weight_decay(
        self,
        var_list: Iterable[Parameter] | None = None,
        var_names: Iterable[str] | None = None,
    ) -> None:
        """Spares parameters from weight decay: those in `var_list`, or by a part of their name."""
        names = list(var_names or ())
        pattern = re.compile("|".join(names)) if names else None
        self._undecayed = (set(var_list or ()), pattern)

    def _decays(self, variable: Parameter) -> bool:
        if self._undecayed is None:
            return True
        spared, pattern = self._undecayed
        return variable not in spared and not (pattern and pattern.search(variable.name or ""))

    # --- learning rate and steps -----------------------------------------------------------------

    @property
    def learning_rate(self) -> Any:
        """The current learning rate: a variable, or what the schedule gives at this step."""
        rate = self._learning_rate
        if isinstance(rate, LearningRateSchedule):
            return rate(self._iterations)
        return rate if isinstance(rate, Parameter) else rate()

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        if isinstance(self._learning_rate, LearningRateSchedule) and not callable(value):
            raise TypeError(
                f"the learning rate of {self.name!r} is a schedule and cannot be set to {value!r}; "
                "make the optimizer with a number to be able to change it."
            )
        new = self._as_rate(value)
        if isinstance(new, Parameter) and isinstance(self._learning_rate, Parameter):
            self._learning_rate.assign(new)
        else:
            self._learning_rate = new

    lr = learning_rate  # Keras 2's name

    def _as_rate(self, rate: Any) -> Any:
        """A schedule or function as it is, a number as a variable."""
        if callable(rate):
            return rate
        if isinstance(rate, (int, float, np.number, np.ndarray, Tensor)) and np.size(rate) == 1:
            return self._scalar(float(rate), "learning_rate", floatx())
        raise TypeError(
            f"{type(self).__name__}: learning_rate is {rate!r}; expected a number, a schedule or a "
            "function without arguments."
        )

    @property
    def iterations(self) -> Tensor:
        """How many updates there were; with accumulation that is less than steps."""
        every = self.gradient_accumulation_steps
        return Tensor.constant(self._iterations.value // every) if every else self._iterations

    # --- the update ------------------------------------------------------------------------------

    def apply_gradients(self, grads_and_vars: Iterable[tuple]) -> Tensor:
        """Updates the variables in `(gradient, variable)` pairs; returns the number of steps."""
        pairs = list(grads_and_vars)
        self.apply([g for g, _ in pairs], [v for _, v in pairs])
        return self._iterations

    def apply(
        self, grads: Sequence, trainable_variables: Sequence[Parameter] | None = None
    ) -> None:
        """Updates the parameters by their gradients, and counts the step.

        Args:
            grads: a tensor for each parameter; None leaves it unchanged, with a warning.
            trainable_variables: the parameters; those of `build` if left out. The first call
                builds the optimizer with them; a later one may give fewer.

        Raises:
            ValueError: not built, not as many gradients as parameters, no gradient at all, a
                parameter that the optimizer was not built with, or shapes that differ.
        """
        if not len(grads):
            return
        skipped: set[int] = set()
        if trainable_variables is not None:
            if not self.built:
                self.build(trainable_variables)
            grads, skipped = self._in_order(grads, trainable_variables)
        elif not self.built:
            raise ValueError(
                f"optimizer {self.name!r} does not know its parameters yet; pass "
                "trainable_variables, or call build(variables) first."
            )
        if len(grads) != len(self._trainable_variables):
            raise ValueError(
                f"apply: got {len(grads)} gradients for {len(self._trainable_variables)} "
                "parameters; expected one for each, in the same order."
            )
        step = int(self._iterations.value)
        every = self.gradient_accumulation_steps or 1
        exchange = self.exchange or exchange_for_part(self)
        together: Sequence | None = grads
        if exchange is average_in_fixed_order:  # it adds up the parts of a batch
            together, exchange = self._exchanged(grads, exchange), None
        if together is None:
            return
        if every > 1:
            together = self._accumulate(together, update=(step + 1) % every == 0)
        if together is not None:
            if exchange is not None:
                together = self._exchanged(together, exchange)
            self._apply_now(together, skipped)  # type: ignore[arg-type]
        if self.use_ema:
            self._average(step // every)
        for buffer in self._buffers:
            buffer.touch()
        steps.each_time(self._count_step)

    def _apply_now(self, grads: Sequence, skipped: set[int]) -> None:
        missing = self._check_missing(grads, skipped)
        parts = [self._take(k, grads) for k in range(len(self._buffers))]
        if self.loss_scale_factor is not None:
            for buffer in self._buffers:
                buffer.gradient /= self.loss_scale_factor
        self._clip()
        self._update(parts, missing)
        for variable in self._constrained:
            if not any(variable is self._trainable_variables[i] for i in missing):
                variable.assign(variable.constraint(variable))  # type: ignore[attr-defined]

    def _count_step(self) -> None:
        self._iterations.value[()] += 1

    def _read_constants(self) -> None:
        """What the kernels get of this update: the learning rate, and what follows from it."""
        rate = float(self.learning_rate)
        self._keep = 1.0 - self.weight_decay * rate if self.weight_decay else 1.0
        # Where it is kept on the GPU, it is for the GPU to know (`_guard`).
        steps_so_far = int(self._iterations.value) if self._iterations.device == "cpu" else 0
        updates = steps_so_far // (self.gradient_accumulation_steps or 1)
        self._constants = (rate, *self.hyperparameters(updates + 1))

    def _numbers(self, k: int, decays: bool) -> tuple:
        """The kernel's last arguments for buffer `k`: numbers, or on a GPU an array of them."""
        buffer = self._buffers[k]
        if buffer.device != "cuda":
            return (self._keep if decays else 1.0, *self._constants)
        rule: Any = self._kernels[k]
        dtype = buffer.data.dtype

        def compute() -> tuple:
            return rule.numbers(dtype, self._keep if decays else 1.0, *self._constants)

        numbers = steps.numbers(compute, dtype, "cuda")
        if self._guard is not None:
            self._guard(rule, numbers, dtype, lambda: (self._keep, *self._constants))
        return (numbers,)

    def _update(self, parts: list, missing: list[int]) -> None:
        """Calls the kernel for every buffer; or for every parameter, where they differ."""
        steps.each_time(self._read_constants)
        if self.kernel is None:
            self._update_by_hand(self._constants[0], self._keep, set(missing))
            return
        alike = not missing and (not self.weight_decay or self._undecayed is None)
        for k, (kernel, buffer) in enumerate(zip(self._kernels, self._buffers)):
            arrays = (buffer.data, *self._arrays[k])
            gradients = parts[k]
            if gradients is None and alike:
                kernel(arrays[0], buffer.gradient, *arrays[1:], *self._numbers(k, True))
                continue
            if gradients is None:
                gradients = [
                    None if i in missing else buffer.gradient[part]
                    for i, part in zip(self._members[k], buffer.slices)
                ]
            decays = [self._decays(v) for v in buffer.parameters]
            if buffer.device == "cpu":
                keeps = [self._keep if kind else 1.0 for kind in decays]
                kernel.together(  # type: ignore[attr-defined]
                    arrays[0], buffer.slices, gradients, arrays[1:], keeps, self._constants
                )
                continue
            numbers = {kind: self._numbers(k, kind) for kind in dict.fromkeys(decays)}
            for part, g, kind in zip(buffer.slices, gradients, decays):
                if g is not None:
                    p, *slots = (a if a is None else a[part] for a in arrays)
                    kernel(p, g, *slots, *numbers[kind])

    def scale_loss(self, loss: Any) -> Any:
        """`loss` times `loss_scale_factor`: what to differentiate."""
        return loss if self.loss_scale_factor is None else loss * self.loss_scale_factor

    # --- files -----------------------------------------------------------------------------------

    def save_own_variables(self, store: Any) -> None:
        """Writes the variables into `store`, a mapping, as "0", "1", ..."""
        for i, variable in enumerate(self.variables):
            store[str(i)] = variable.numpy()

    def load_own_variables(self, store: Any) -> None:
        """Takes the variables from `store`; with a warning, none if their number differs."""
        variables = self.variables
        if len(store.keys()) != len(variables):
            warnings.warn(
                f"optimizer {self.name!r} has {len(variables)} variables, the file "
                f"{len(store.keys())}; none was loaded."
                + ("" if self.built else " Call build(model.trainable_variables) before loading."),
                stacklevel=2,
            )
            return
        self.set_weights([store[str(i)] for i in range(len(variables))])

    def set_weights(self, weights: Sequence) -> None:
        """Assigns all `variables`, in their order."""
        variables = self.variables
        if len(weights) != len(variables):
            raise ValueError(
                f"set_weights: got {len(weights)} arrays for the {len(variables)} variables of "
                f"optimizer {self.name!r}; they must be as many."
            )
        for variable, weight in zip(variables, weights):
            variable.assign(weight if isinstance(weight, Tensor) else np.asarray(weight))

    def get_config(self) -> dict:
        """The arguments that make an equal optimizer, with the learning rate that it has now."""
        rate = self._learning_rate
        number = isinstance(rate, Parameter)
        return {
            "name": self.name,
            "learning_rate": float(rate) if number else serialize_keras_object(rate),
            "weight_decay": self.weight_decay,
            "clipnorm": self.clipnorm,
            "global_clipnorm": self.global_clipnorm,
            "clipvalue": self.clipvalue,
            "use_ema": self.use_ema,
            "ema_momentum": self.ema_momentum,
            "ema_overwrite_frequency": self.ema_overwrite_frequency,
            "loss_scale_factor": self.loss_scale_factor,
            "gradient_accumulation_steps": self.gradient_accumulation_steps,
        }

    @classmethod
    def from_config(cls, config: dict, custom_objects: dict | None = None) -> Any:
        """An optimizer from the dictionary that `get_config` gave."""
        return cls(**{k: deserialize_keras_object(v, custom_objects) for k, v in config.items()})


def _on_view(view: np.ndarray, name: str) -> Variable:
    """A variable whose value is that very memory."""
    variable = Variable(view, trainable=False, name=name)
    variable.value = view
    return variable
