"""Constraints: what a weight is projected to after every update of the optimizer."""

from __future__ import annotations

from typing import Any

from minitorch_ciml.autograd import Tensor
from minitorch_ciml.autograd.arithmetic import maximum, minimum, sqrt
from minitorch_ciml.autograd.tensor import as_tensor
from minitorch_ciml.config import no_grad
from minitorch_ciml.keras import serialization
from minitorch_ciml.keras.serialization import Configurable, serializable
from minitorch_ciml.ops import sum as sum_

__all__ = [
    "Constraint", "MaxNorm", "MinMaxNorm", "NonNeg", "UnitNorm", "deserialize", "get", "max_norm",
    "min_max_norm", "non_neg", "serialize", "unit_norm",
]  # fmt: skip

EPSILON = 1e-7  # keeps the norm of a zero vector away from 0


@serializable("keras.constraints")
class Constraint(Configurable):
    """The base of all constraints: `__call__(w)` gives the allowed weight nearest to w.

    No gradient flows through a constraint.
    """

    def __call__(self, w: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no __call__(w); write one.")


def _norm(w: Tensor, axis: Any) -> Tensor:
    axis = tuple(axis) if isinstance(axis, list) else axis
    return sqrt(sum_(w * w, axis=axis, keepdims=True))


@serializable("keras.constraints")
class MaxNorm(Constraint):
    """Shortens the vectors along `axis` to the length `max_value`.

    For a Dense kernel (inputs, units), axis 0 limits each unit's weights; for a convolution's
    (height, width, channels, filters), axes [0, 1, 2] limit each filter.
    """

    def __init__(self, max_value: float = 2, axis: Any = 0):
        self.max_value = max_value
        self.axis = axis

    @no_grad()
    def __call__(self, w: Any) -> Tensor:
        w = as_tensor(w)
        norm = _norm(w, self.axis)
        return w * (minimum(norm, float(self.max_value)) / (norm + EPSILON))

    def get_config(self) -> dict:
        return {"max_value": self.max_value, "axis": self.axis}


@serializable("keras.constraints")
class NonNeg(Constraint):
    """Sets negative weights to 0."""

    @no_grad()
    def __call__(self, w: Any) -> Tensor:
        return maximum(as_tensor(w), 0.0)


@serializable("keras.constraints")
class UnitNorm(Constraint):
    """Gives the vectors along `axis` length 1."""

    def __init__(self, axis: Any = 0):
        self.axis = axis

    @no_grad()
    def __call__(self, w: Any) -> Tensor:
        w = as_tensor(w)
        return w / (_norm(w, self.axis) + EPSILON)

    def get_config(self) -> dict:
        return {"axis": self.axis}


@serializable("keras.constraints")
class MinMaxNorm(Constraint):
    """Moves the length of the vectors along `axis` towards [min_value, max_value].

    Args:
        rate: how far: 1 all the way, 0 not at all.
    """

    def __init__(
        self, min_value: float = 0.0, max_value: float = 1.0, rate: float = 1.0, axis: Any = 0
    ):
        self.min_value = min_value
        self.max_value = max_value
        self.rate = rate
        self.axis = axis

    @no_grad()
    def __call__(self, w: Any) -> Tensor:
        w = as_tensor(w)
        norm = _norm(w, self.axis)
        nearest = minimum(maximum(norm, self.min_value), self.max_value)
        return w * ((self.rate * nearest + (1 - self.rate) * norm) / (norm + EPSILON))

    def get_config(self) -> dict:
        return {
            "min_value": self.min_value,
            "max_value": self.max_value,
            "rate": self.rate,
            "axis": self.axis,
        }


max_norm = MaxNorm
non_neg = NonNeg
unit_norm = UnitNorm
min_max_norm = MinMaxNorm


def get(identifier: Any) -> Any:
    """The constraint that a name, class, configuration or object means; None for None."""
    return serialization.get("keras.constraints", identifier, "constraint")


def serialize(constraint: Any) -> Any:
    """The constraint as a configuration."""
    return serialization.serialize_keras_object(constraint)


def deserialize(config: Any, custom_objects: dict | None = None) -> Any:
    """The constraint that a name or a configuration describes."""
    return serialization.deserialize("keras.constraints", config, "constraint", custom_objects)


def __dir__() -> list[str]:
    return __all__
