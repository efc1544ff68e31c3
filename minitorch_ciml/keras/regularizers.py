"""Regularizers: a penalty on a weight (or an output), added to the loss."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minitorch_ciml.autograd import Tensor
from minitorch_ciml.autograd.arithmetic import absolute, maximum, sqrt
from minitorch_ciml.autograd.tensor import as_tensor
from minitorch_ciml.keras import serialization
from minitorch_ciml.keras.changes import Noted
from minitorch_ciml.keras.serialization import Configurable, serializable
from minitorch_ciml.ops import sum as sum_
from minitorch_ciml.ops.creation import wide
from minitorch_ciml.ops.linalg import matmul
from minitorch_ciml.ops.shape import transpose

__all__ = [
    "L1", "L1L2", "L2", "OrthogonalRegularizer", "Regularizer", "deserialize", "get", "l1", "l1_l2",
    "l2", "orthogonal_regularizer", "serialize",
]  # fmt: skip


class Regularizer(Noted, Configurable):
    """The base of all regularizers: `__call__(x)` gives the penalty, a scalar tensor."""

    def __call__(self, x: Any) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} has no __call__(x); write one.")


def _factor(name: str, value: Any, default: float) -> float:
    """A factor of a penalty; None stands for the default."""
    value = default if value is None else value
    if isinstance(value, str) or not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{name}: got {value!r}, expected a finite number of at least 0.")
    return float(value)


@serializable("keras.regularizers", "l1l2", "l1_l2")
class L1L2(Regularizer):
    """l1 sum(|x|) + l2 sum(x^2)."""

    def __init__(self, l1: float = 0.0, l2: float = 0.0):
        self.l1 = _factor("l1", l1, 0.0)
        self.l2 = _factor("l2", l2, 0.0)

    def __call__(self, x: Any) -> Tensor:
        x = as_tensor(x)
        penalty: Any = None
        if self.l1:
            penalty = self.l1 * sum_(absolute(x))
        if self.l2:
            square = self.l2 * sum_(x * x)
            penalty = square if penalty is None else penalty + square
        return as_tensor(np.zeros((), x.value.dtype)) if penalty is None else penalty

    def get_config(self) -> dict:
        return {"l1": self.l1, "l2": self.l2}


@serializable("keras.regularizers")
class L1(Regularizer):
    """l1 sum(|x|): many weights become 0."""

    def __init__(self, l1: float = 0.01):
        self.l1 = _factor("l1", l1, 0.01)

    def __call__(self, x: Any) -> Tensor:
        return self.l1 * sum_(absolute(as_tensor(x)))

    def get_config(self) -> dict:
        return {"l1": self.l1}


@serializable("keras.regularizers")
class L2(Regularizer):
    """l2 sum(x^2): all weights stay small."""

    def __init__(self, l2: float = 0.01):
        self.l2 = _factor("l2", l2, 0.01)

    def __call__(self, x: Any) -> Tensor:
        x = as_tensor(x)
        return self.l2 * sum_(x * x)

    def get_config(self) -> dict:
        return {"l2": self.l2}


@serializable("keras.regularizers")
class OrthogonalRegularizer(Regularizer):
    """factor times the mean |cosine| between different rows (or columns) of x (m, n).

    Args:
        factor: of the penalty.
        mode: "rows" or "columns".
    """

    def __init__(self, factor: float = 0.01, mode: str = "rows"):
        if mode not in ("rows", "columns"):
            raise ValueError(
                f"OrthogonalRegularizer: got mode={mode!r}, expected 'rows' or 'columns'."
            )
        self.factor = _factor("factor", factor, 0.01)
        self.mode = mode

    def __call__(self, x: Any) -> Tensor:
        x = wide(x)
        if x.ndim != 2:
            raise ValueError(
                f"OrthogonalRegularizer: got shape {x.shape}, expected a matrix (rows, columns)."
            )
        rows = x if self.mode == "rows" else transpose(x)
        n = rows.shape[0]
        norm = sqrt(maximum(sum_(rows * rows, axis=-1, keepdims=True), 1e-12))
        unit = rows / norm
        cosines = matmul(unit, transpose(unit)) * (1.0 - np.eye(n, dtype=x.value.dtype))
        pairs = n * (n - 1) / 2
        return self.factor * 0.5 * sum_(absolute(cosines)) / max(pairs, 1.0)

    def get_config(self) -> dict:
        return {"factor": self.factor, "mode": self.mode}


l1 = L1
l2 = L2
l1_l2 = L1L2
orthogonal_regularizer = OrthogonalRegularizer


def get(identifier: Any) -> Any:
    """The regularizer that a name, class, configuration or object means; None for None."""
    return serialization.get("keras.regularizers", identifier, "regularizer")


def serialize(regularizer: Any) -> Any:
    """The regularizer as a configuration."""
    return serialization.serialize_keras_object(regularizer)


def deserialize(config: Any, custom_objects: dict | None = None) -> Any:
    """The regularizer that a name or a configuration describes."""
    return serialization.deserialize("keras.regularizers", config, "regularizer", custom_objects)


def __dir__() -> list[str]:
    return __all__
