"""Learning rates as functions of the step (`keras.optimizers.schedules`).

Each is called with a step, or an array of steps (to plot it), and gives a tensor.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from minitorch_ciml.autograd import Tensor
from minitorch_ciml.config import floatx
from minitorch_ciml.keras.serialization import (
    Configurable,
    deserialize_keras_object,
    serializable,
    serialize_keras_object,
)

__all__ = [
    "CosineDecay", "CosineDecayRestarts", "ExponentialDecay", "InverseTimeDecay",
    "LearningRateSchedule", "PiecewiseConstantDecay", "PolynomialDecay", "deserialize", "serialize",
]  # fmt: skip

deserialize, serialize = deserialize_keras_object, serialize_keras_object


class LearningRateSchedule(Configurable):
    """The base: a subclass gives `__call__(step)`, and `get_config()` if it is to be saved."""

    def __call__(self, step: Any) -> Any:
        """The learning rate at `step`, which counts the batches from 0."""
        raise NotImplementedError(
            f"learning rate schedule {type(self).__name__}: define __call__(self, step)."
        )


class _Formula(LearningRateSchedule):
    """A schedule by formula, `rate(step)` in float64; its arguments are its attributes."""

    _arguments: tuple[str, ...] = ()

    def __call__(self, step: Any) -> Tensor:
        """The learning rate at `step` (a number or an array), as a tensor of dtype `floatx()`."""
        rate = self.rate(np.asarray(step, dtype=np.float64))
        return Tensor.constant(np.asarray(rate, dtype=floatx()))

    def rate(self, step: np.ndarray) -> Any:
        """The formula."""
        raise NotImplementedError

    def get_config(self) -> dict:
        """The arguments."""
        return {name: getattr(self, name) for name in self._arguments}


def _positive(schedule: str, argument: str, value: float) -> float:
    if value <= 0:
        raise ValueError(f"{schedule}: {argument} must be positive, got {value}.")
    return value


@serializable("keras.optimizers.schedules")
class ExponentialDecay(_Formula):
    """rate = initial_learning_rate * decay_rate ** (step / decay_steps).

    With `staircase` the exponent is rounded down, so that the rate falls in steps.
    """

    _arguments = ("initial_learning_rate", "decay_steps", "decay_rate", "staircase", "name")

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        decay_rate: float,
        staircase: bool = False,
        name: str = "ExponentialDecay",
    ):
        self.initial_learning_rate = initial_learning_rate
        self.decay_steps = _positive(type(self).__name__, "decay_steps", decay_steps)
        self.decay_rate = decay_rate
        self.staircase = staircase
        self.name = name

    def rate(self, step: np.ndarray) -> Any:
        return self.initial_learning_rate * self.decay_rate ** self._progress(step)

    def _progress(self, step: np.ndarray) -> Any:
        progress = step / self.decay_steps
        return np.floor(progress) if self.staircase else progress


@serializable("keras.optimizers.schedules")
class InverseTimeDecay(ExponentialDecay):
    """rate = initial_learning_rate / (1 + decay_rate * step / decay_steps).

    With `staircase` step / decay_steps is rounded down.
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        decay_rate: float,
        staircase: bool = False,
        name: str = "InverseTimeDecay",
    ):
        super().__init__(initial_learning_rate, decay_steps, decay_rate, staircase, name)

    def rate(self, step: np.ndarray) -> Any:
        return self.initial_learning_rate / (1 + self.decay_rate * self._progress(step))


@serializable("keras.optimizers.schedules")
class PiecewiseConstantDecay(_Formula):
    """rate = values[i], where i counts the boundaries that the step has passed.

    Args:
        boundaries: steps, ascending; a step equal to one has not passed it.
        values: the rates; one more than boundaries.
    """

    _arguments = ("boundaries", "values", "name")

    def __init__(
        self, boundaries: Sequence, values: Sequence[float], name: str = "PiecewiseConstant"
    ):
        if len(boundaries) != len(values) - 1:
            raise ValueError(
                f"PiecewiseConstantDecay: expected one more value than boundaries, got "
                f"{len(values)} values and {len(boundaries)} boundaries."
            )
        self.boundaries = boundaries
        self.values = values
        self.name = name

    def rate(self, step: np.ndarray) -> Any:
        return np.asarray(self.values)[np.searchsorted(self.boundaries, step, side="left")]


@serializable("keras.optimizers.schedules")
class PolynomialDecay(_Formula):
    """rate = end + (initial - end) * (1 - step / decay_steps) ** power, and `end` from there on.

    With `cycle` it starts again, over 2, 3, ... times `decay_steps`, from where it then is.
    """

    _arguments = (
        "initial_learning_rate", "decay_steps", "end_learning_rate", "power", "cycle", "name",
    )  # fmt: skip

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        end_learning_rate: float = 0.0001,
        power: float = 1.0,
        cycle: bool = False,
        name: str = "PolynomialDecay",
    ):
        self.initial_learning_rate = initial_learning_rate
        self.decay_steps = _positive("PolynomialDecay", "decay_steps", decay_steps)
        self.end_learning_rate = end_learning_rate
        self.power = power
        self.cycle = cycle
        self.name = name

    def rate(self, step: np.ndarray) -> Any:
        rounds = np.maximum(1, np.ceil(step / self.decay_steps)) if self.cycle else 1
        progress = np.minimum(step / (self.decay_steps * rounds), 1)
        span = self.initial_learning_rate - self.end_learning_rate
        return self.end_learning_rate + span * (1 - progress) ** self.power


@serializable("keras.optimizers.schedules")
class CosineDecay(_Formula):
    """rate = top * (alpha + (1 - alpha) * (1 + cos(pi * progress)) / 2), progress from 0 to 1.

    Without warm-up, `top` is the initial rate. With `warmup_target`, the rate first rises linearly
    from the initial one to the target, over `warmup_steps`, and `top` is the target.
    (Loshchilov and Hutter, 2016.)
    """

    _arguments = (
        "initial_learning_rate", "decay_steps", "alpha", "name", "warmup_target", "warmup_steps",
    )  # fmt: skip

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        alpha: float = 0.0,
        name: str = "CosineDecay",
        warmup_target: float | None = None,
        warmup_steps: int = 0,
    ):
        self.initial_learning_rate = initial_learning_rate
        self.decay_steps = _positive("CosineDecay", "decay_steps", decay_steps)
        self.alpha = alpha
        self.name = name
        self.warmup_target = warmup_target
        self.warmup_steps = warmup_steps

    def rate(self, step: np.ndarray) -> Any:
        start = self.initial_learning_rate
        if self.warmup_target is None:
            return start * self._wave(step)
        decaying = self.warmup_target * self._wave(step - self.warmup_steps)
        slope = (self.warmup_target - start) / max(self.warmup_steps, 1)
        return np.where(step < self.warmup_steps, start + slope * step, decaying)

    def _wave(self, step: np.ndarray) -> Any:
        progress = np.clip(step / self.decay_steps, 0, 1)
        return self.alpha + (1 - self.alpha) * (1 + np.cos(np.pi * progress)) / 2


@serializable("keras.optimizers.schedules")
class CosineDecayRestarts(_Formula):
    """Cosine decay that starts again: round n (from 0) takes `first_decay_steps * t_mul**n` steps.

    rate = initial * (alpha + (1 - alpha) * m_mul**n * (1 + cos(pi * progress in the round)) / 2).
    (Loshchilov and Hutter, 2016.)
    """

    _arguments = (
        "initial_learning_rate", "first_decay_steps", "t_mul", "m_mul", "alpha", "name",
    )  # fmt: skip

    def __init__(
        self,
        initial_learning_rate: float,
        first_decay_steps: int,
        t_mul: float = 2.0,
        m_mul: float = 1.0,
        alpha: float = 0.0,
        name: str = "SGDRDecay",
    ):
        self.initial_learning_rate = initial_learning_rate
        self.first_decay_steps = _positive(
            "CosineDecayRestarts", "first_decay_steps", first_decay_steps
        )
        self.t_mul = t_mul
        self.m_mul = m_mul
        self.alpha = alpha
        self.name = name

    def rate(self, step: np.ndarray) -> Any:
        passed = step / self.first_decay_steps  # in units of the first round
        if self.t_mul == 1:
            n = np.floor(passed)
            progress = passed - n
        else:
            # n rounds take 1 + t_mul + ... + t_mul**(n - 1) = (t_mul**n - 1) / (t_mul - 1). Without
            # the small summand, a round's first step could be counted as the last one's end.
            grown = 1 + passed * (self.t_mul - 1)
            n = np.floor(np.log(grown) / np.log(self.t_mul) + 1e-9)
            progress = (grown / self.t_mul**n - 1) / (self.t_mul - 1)
        wave = self.m_mul**n * (1 + np.cos(np.pi * progress)) / 2
        return self.initial_learning_rate * (self.alpha + (1 - self.alpha) * wave)


def __dir__() -> list[str]:
    return __all__
