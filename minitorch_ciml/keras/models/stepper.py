"""`Stepper`: training steps on a GPU. The host only says what is to be done, and runs ahead.

Batches are sent while the steps before are computed. A step that comes again with the same shapes
is recorded as one graph and replayed, where all that it does is known to be the same every time:
Python code of the user's own (a layer, a loss, `train_step`) would run only once.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from minitorch_ciml import config
from minitorch_ciml.autograd import Tensor
from minitorch_ciml.keras import distribution
from minitorch_ciml.keras.models.data import input_dtype, pack_x_y_sample_weight
from minitorch_ciml.keras.models.recordable import (
    reason_against,
    reason_against_recording,
    reason_for_own,
)
from minitorch_ciml.keras.tree import flatten, pack_as

_WARM_UP = 2  # steps with the same shapes before one is recorded: kernels are loaded in them


class Stepper:
    """Brings batches to the GPU, and does a model's training steps there.

    Args:
        model: compiled.

    Attributes:
        why_not: the reason why steps are not recorded; None where they are, or may yet be.
        replayed: the number of steps that were replayed.
    """

    def __init__(self, model: Any):
        self._model = model
        self._feeder = import_module("minitorch_ciml.kernels.cuda.transfer").Feeder()
        self._memory = import_module("minitorch_ciml.kernels.cuda.memory")
        self._constants: dict = {}  # what the steps have copied from the host
        self._graph: Any = None
        self._inputs: list = []
        self._key: Any = None
        self._seen: dict[Any, int] = {}
        self.why_not: str | None = None
        self.replayed = 0

    def send(self, batch: tuple) -> tuple:
        """A batch of arrays as one of tensors on the GPU."""
        return self._take(batch, self._parcel(batch), None)

    def _parcel(self, batch: tuple) -> Any:
        return self._feeder.send([a for part in batch if part is not None for a in flatten(part)])

    def _take(self, batch: tuple, parcel: Any, into: list | None) -> tuple:
        """The tensors of a parcel, in the structure of the batch."""
        in_x = len(flatten(batch[0]))
        dtypes = [
            input_dtype(dtype, "cpu") if i < in_x else dtype
            for i, (_, dtype) in enumerate(parcel.kinds)
        ]
        arrays = parcel.take(dtypes, into)
        self._taken = arrays
        tensors = list(map(Tensor.constant, arrays))
        parts: list = []
        for part in batch:
            n = 0 if part is None else len(flatten(part))
            parts.append(None if part is None else pack_as(part, tensors[:n]))
            tensors = tensors[n:]
        while parts and parts[-1] is None:
            parts.pop()
        return tuple(parts)

    def train(self, batch: tuple) -> dict:
        """A training step on a batch of arrays; returns what `train_step` returns."""
        parcel = self._parcel(batch)
        if self.why_not is not None or config.part.get() is not None:
            return self._train(self._take(batch, parcel, None))
        key = self._key_of(batch, parcel)
        if self._graph is not None and key == self._key:
            self._take(batch, parcel, self._inputs)
            return self._replay()
        times = self._seen[key] = self._seen.get(key, 0) + 1
        tensors = self._take(batch, parcel, None)
        if times < _WARM_UP:
            return self._train(tensors)
        with self._memory.remembering(self._constants):
            if times > _WARM_UP and self._record(tensors):
                self._key = key
                return self._replay()
            return self._train(tensors)

    def _train(self, tensors: tuple) -> dict:
        return self._model.train_step(pack_x_y_sample_weight(*tensors))

    def _key_of(self, batch: tuple, parcel: Any) -> tuple:
        """What must be the same for a recorded step to be the step."""
        kinds = tuple([(shape, dtype.str) for shape, dtype in parcel.kinds])
        parts = tuple([part is None for part in batch])
        weights = tuple(map(id, self._model.trainable_weights))
        return kinds, parts, weights, id(self._model.optimizer)

    def _record(self, tensors: tuple) -> bool:
        graph = import_module("minitorch_ciml.kernels.cuda.graph")
        runtime = import_module("minitorch_ciml.kernels.cuda.runtime")
        self.why_not = _reason_against_recording(self._model)
        if self.why_not is not None:
            return False
        undo = _undoing(self._model)
        self._graph = None  # its memory serves again
        try:
            self._graph = graph.Graph(lambda: self._train(tensors))
        except (runtime.NotCapturable, runtime.CudaError) as error:
            undo()
            self.why_not = str(error)
            return False
        self._inputs = self._taken
        return True

    def _replay(self) -> dict:
        self.replayed += 1
        return self._graph.replay()


def _reason_against_recording(model: Any) -> str | None:
    """Why a model's training steps cannot be recorded, or None: also the optimizer, the metrics."""
    from minitorch_ciml.keras.models.trainer import Trainer

    optimizer, arguments = model.optimizer, model._compile_arguments
    if optimizer is not None and not optimizer.can_be_recorded:
        return f"{type(optimizer).__name__} decides on the host what each step does"
    reason = reason_against_recording(model)
    if reason is not None or arguments["jit_compile"] is True:
        return reason
    for name in ("train_step", "compute_metrics"):
        if getattr(type(model), name) is not getattr(Trainer, name):
            return reason_for_own(model, name)
    given = [arguments[k] for k in ("metrics", "weighted_metrics")]
    return reason_against([optimizer, *flatten(given)])


def _undoing(model: Any) -> Callable[[], None]:
    """A function that undoes what a step has changed on the host."""
    rewind = distribution.rewinding(model)
    variables = model.optimizer.variables if model.optimizer is not None else []
    kept = [(v, v.value.copy()) for v in variables if v.device == "cpu"]

    def undo() -> None:
        rewind()
        for variable, value in kept:
            variable.value[...] = value

    return undo
