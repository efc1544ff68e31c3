"""Logs: results of metrics by name, as Keras has them, and as Python floats when they are read."""

from __future__ import annotations

from typing import Any

import numpy as np

from minitorch_ciml import kernels
from minitorch_ciml.autograd import Tensor


def mean_of_parts(values: list) -> Any:
    """The mean of the parts' logs; what is no number is taken from the last part."""
    return sum(values) / len(values) if isinstance(values[0], float) else values[-1]


def as_floats(results: dict) -> dict[str, float]:
    """Results as Python floats, by name. Those on a GPU are waited for."""
    return {name: _number(value) for name, value in by_name(results).items()}


def by_name(results: dict) -> dict[str, Any]:
    """Results with nested dictionaries flattened, in Keras' order: each is sorted by name."""
    return flat({
        name: by_name(results[name]) if isinstance(results[name], dict) else results[name]
        for name in sorted(results)
    })  # fmt: skip


def flat(results: dict) -> dict[str, Any]:
    """Results with nested dictionaries flattened, in their order."""
    found: dict[str, Any] = {}
    for name, value in results.items():
        found.update(flat(value) if isinstance(value, dict) else {name: value})
    return found


def with_scores(logs: dict, scores: dict) -> dict[str, Any]:
    """Logs of training and scores of validation: sorted, unless a `train_step` sorts otherwise."""
    both = logs | {f"val_{name}": value for name, value in scores.items()}
    return by_name(both) if list(logs) == sorted(logs) else both


def _number(value: Any) -> Any:
    return value if isinstance(value, float) else _plain_number(value)


def _plain_number(value: Any) -> Any:
    if isinstance(value, Tensor):
        value = kernels.to_host(value.value)
    array = np.asarray(value)
    return float(array) if array.ndim == 0 else array
