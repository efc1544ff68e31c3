"""Where a model computes: on the device of its weights, and on a GPU in recorded steps."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

import numpy as np

from minitorch_ciml import config
from minitorch_ciml.autograd import Tensor
from minitorch_ciml.keras.models.programs import Programs
from minitorch_ciml.keras.models.stepper import Stepper
from minitorch_ciml.keras.tree import map_structure

Method = TypeVar("Method", bound=Callable)


def where_the_model_is(method: Method) -> Method:
    """Within the method, the model's device is the current one."""

    @wraps(method)
    def on_its_device(self: Any, *args: Any, **kwargs: Any) -> Any:
        device = self._device()
        if device == config.get_device():
            return method(self, *args, **kwargs)
        with config.device(device):
            return method(self, *args, **kwargs)

    return cast(Method, on_its_device)


class Placed:
    """Mixed into `Trainer`: brings batches to the model's device."""

    _stepper: Stepper | None
    _programs: dict[str, Programs] | None  # by the name of the step

    @property
    def why_not_recorded(self) -> str | None:
        """Why training steps are not recorded; None where they are, or may yet be."""
        recorder = self._stepper or (self._programs or {}).get("_differentiated")
        return None if recorder is None else recorder.why_not

    def _device(self) -> str:
        """Where the weights are; without any, the current device."""
        if not self.built:  # type: ignore[attr-defined]
            return config.get_device()
        weights = self._inventory().weights  # type: ignore[attr-defined]
        return weights[0].device if weights else config.get_device()

    def _on_gpu(self) -> Stepper:
        if self._stepper is None:
            self._stepper = Stepper(self)
        return self._stepper

    def _run_step(self, step: Callable, *data: Any) -> Any:
        """`step(*data)`; on the CPU from its program, once there is one."""
        if config.get_device() != "cpu":
            return step(*data)
        if self._programs is None:
            self._programs = {}
        programs = self._programs.get(step.__name__)
        if programs is None:
            programs = self._programs[step.__name__] = Programs(self)
        return programs.run(step, *data)

    def _as_tensors(self, *batch: Any) -> tuple:
        """A batch as tensors on the model's device."""
        return self._on_gpu().send(batch) if config.get_device() == "cuda" else tensors_of(*batch)


def tensors_of(*parts: Any) -> tuple:
    """A batch as tensors, without the parts that it lacks at its end."""
    while parts and parts[-1] is None:
        parts = parts[:-1]
    return tuple([None if part is None else _tensor(part) for part in parts])


def _tensor(part: Any) -> Any:
    return Tensor.constant(part) if isinstance(part, np.ndarray) else map_structure(_tensor, part)
