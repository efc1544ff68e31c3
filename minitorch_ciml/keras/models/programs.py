"""`Programs`: a model's steps on the CPU without the Python code of its layers.

A step that comes again with the same shapes is recorded as a `Program` (`kernels/program.py`) and
run as one from then on: of training the outputs, loss and gradients, otherwise the outputs and the
loss. Optimizer, metrics and callbacks are ordinary code all the time.

A step is recorded twice. Only if both recordings are the same is it taken for what every step does;
the results are those of the code, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import is_
from typing import Any

import numpy as np

from minitorch_ciml import config
from minitorch_ciml.autograd import Tensor
from minitorch_ciml.autograd.backward import watchers
from minitorch_ciml.keras import distribution
from minitorch_ciml.keras.masks import mask_of, set_mask
from minitorch_ciml.keras.models.recordable import reason_against_recording
from minitorch_ciml.keras.tree import flatten, map_structure
from minitorch_ciml.kernels.program import Program, Slot
from minitorch_ciml.kernels.steps import NotRecordable

_WARM_UP = 1  # steps with the same shapes before one is recorded: they make what is made once
_MOST = 32  # programs for as many shapes; of sentences of any length there may be more


class Programs:
    """Runs one kind of a model's steps, as programs where that is possible.

    Args:
        model: compiled, or at least built.

    Attributes:
        why_not: the reason why steps are not recorded; None where they are, or may yet be.
        runs: the number of steps that were run as programs.
    """

    def __init__(self, model: Any):
        self._model = model
        self._known: dict[tuple, _Step] = {}
        self._inventory: Any = None  # of the model, when the steps in `_known` were
        self.why_not: str | None = None
        self.runs = 0

    def __reduce__(self) -> tuple:
        """For copies and pickle: a copied model records its own steps."""
        return Programs, (self._model,)

    def run(self, function: Callable, *data: Any) -> Any:
        """`function(*data)`, a step of the model: its Python code, or the program made of it.

        Args:
            function: takes and returns nested tensors and None.
        """
        if self.why_not is not None:
            return function(*data)
        key = (config.part.get() or (), tuple(watchers), *map(_kind_of, data))
        if None in key:
            return function(*data)
        inventory = self._model._inventory()
        # A layer, a weight or a setting may have changed.
        if inventory is not self._inventory or len(self._known) > _MOST:
            self._known, self._inventory = {}, inventory
        step = self._known.get(key)
        if step is None:
            step = self._known[key] = _Step(inventory.weights)
        if step.is_ready and step.is_valid():
            try:
                self.runs += 1
                return step.replay(data)
            except (ArithmeticError, LookupError, TypeError, ValueError):
                return function(*data)  # the ops themselves say better what is wrong
        if step.times < _WARM_UP:
            step.times += 1
            return function(*data)
        self.why_not = reason_against_recording(self._model)
        if self.why_not is not None:
            return function(*data)
        return self._record(step, function, data)

    def _record(self, step: _Step, function: Callable, data: tuple) -> Any:
        undo = _undoing(self._model)
        try:
            result = step.record(function, data)
            if any([layer._added_losses for layer in self._inventory.layers]):
                raise NotRecordable("a layer adds a term to the loss")
        except SystemError:  # how numba may report Ctrl-C
            raise
        except Exception as error:  # whatever it is: what is wrong with the step itself comes again
            undo()
            result = function(*data)
            self.why_not = str(error) or type(error).__name__
            return result
        if self._model._inventory() is not self._inventory:
            self.why_not = "a layer changes in every step"
        return result


class _Step:
    """A step for data of certain shapes, and its program once there is one.

    Args:
        weights: all that the model has.

    Attributes:
        times: how often it was made before it was recorded.
        is_ready: whether there is a program.
    """

    def __init__(self, weights: list):
        self.times = 0
        self.is_ready = False
        self._weights = weights
        self._arrays: list[np.ndarray] = []  # theirs, when the step was recorded,
        self._trained: list[bool] = []  # and which of them had gradients
        self._program: Program | None = None
        self._nest: Any = None  # the result, with a number in place of each tensor
        self._masks: list[int] = []  # the numbers of tensors that have a mask

    def is_valid(self) -> bool:
        """Whether the weights are, and are trained, as they were when the step was recorded."""
        same = all(map(is_, [w.value for w in self._weights], self._arrays))
        return same and [w.requires_grad for w in self._weights] == self._trained

    def record(self, function: Callable, data: tuple) -> Any:
        """Makes the step and records it; two recordings that are the same are a program."""
        program = Program()
        self._arrays = [w.value for w in self._weights]
        self._trained = [w.requires_grad for w in self._weights]
        for array in self._arrays:
            program.constant(array)

        def given(x: Tensor | None) -> Tensor | None:
            return None if x is None else Tensor.constant(program.input(x.value))

        with program.recording():
            inputs = map_structure(given, data)
            result = function(*inputs)
        tensors = [x for x in flatten(result) if x is not None]
        numbers = iter(range(len(tensors)))
        self._nest = map_structure(lambda x: None if x is None else next(numbers), result)
        self._masks = [i for i, x in enumerate(tensors) if mask_of(x) is not None]
        outputs = [x.value for x in (*tensors, *[mask_of(tensors[i]) for i in self._masks])]
        program.finish(outputs)
        self.is_ready = self._program is not None and program.matches(self._program)
        self._program = program
        return self._packed([x.array if isinstance(x, Slot) else x for x in outputs])

    def replay(self, data: tuple) -> Any:
        """The step's result for other data of the same shapes, from the program."""
        assert self._program is not None
        return self._packed(self._program(_arrays_of(data)))

    def _packed(self, arrays: list) -> Any:
        """The result, of its arrays."""
        tensors = list(map(Tensor.constant, arrays))
        masks = tensors[len(tensors) - len(self._masks) :]
        for i, mask in zip(self._masks, masks):
            set_mask(tensors[i], mask)
        return map_structure(lambda i: None if i is None else tensors[i], self._nest)


def _arrays_of(data: tuple) -> list[np.ndarray]:
    return [x.value for x in flatten(data) if x is not None]


def _kind_of(part: Any) -> tuple | None:
    """What must be the same of a part of the data for a step to be the same; None: nothing is."""
    if part is None:
        return ()
    if type(part) is Tensor:
        array = part.value
        plain = type(array) is np.ndarray and array.dtype.kind in "fiubV"
        return (array.shape, array.dtype) if plain and mask_of(part) is None else None
    if not isinstance(part, (list, tuple, dict)):
        return None
    keys = tuple(sorted(part)) if isinstance(part, dict) else type(part)
    kinds = tuple([_kind_of(x) for x in flatten(part)])
    return None if None in kinds else (keys, *kinds)


def _undoing(model: Any) -> Callable[[], None]:
    """A function that undoes what a step may have changed."""
    rewind = distribution.rewinding(model)
    kept = [(w, w.value.copy()) for w in model.non_trainable_weights]

    def undo() -> None:
        rewind()
        for weight, value in kept:
            if not np.array_equal(weight.value, value):
                weight.assign(Tensor.constant(value))

    return undo
