"""How often predictions are right: one function and one class for each kind of label."""

from __future__ import annotations

from typing import Any

import numpy as np

from minitorch_ciml import config, ops
from minitorch_ciml.autograd import Tensor
from minitorch_ciml.keras.metrics.base import (
    MeanMetricWrapper,
    arrays_or_tensors,
    on_host,
    same_shape,
)
from minitorch_ciml.keras.serialization import serializable

# Where both are on a GPU the formulas are those of tensors; in NumPy they take a quarter of the
# time, which counts for small models.


def _hits(matches: Any) -> Tensor:
    if isinstance(matches, Tensor):
        return ops.cast(matches, config.floatx())
    return Tensor.constant(matches.astype(config.floatx()))


def _equal(a: Any, b: Any) -> Any:
    return ops.equal(a, b) if isinstance(a, Tensor) else a == b


def _place_of_largest(scores: Any) -> Any:
    return ops.argmax(scores, -1) if isinstance(scores, Tensor) else scores.argmax(-1)


def accuracy(y_true: Any, y_pred: Any) -> Tensor:
    """1 where the prediction equals the label, otherwise 0; in the inputs' shape."""
    t, p = same_shape("accuracy", y_true, y_pred)
    return _hits(_equal(t.astype(p.dtype), p))


def binary_accuracy(y_true: Any, y_pred: Any, threshold: float = 0.5) -> Tensor:
    """1 where (y_pred > threshold) equals the label 0 or 1, otherwise 0; in the inputs' shape."""
    t, p = same_shape("binary_accuracy", y_true, y_pred)
    return _hits(_equal((p > threshold).astype(t.dtype), t))


def categorical_accuracy(y_true: Any, y_pred: Any) -> Tensor:
    """1 where the largest of the scores (..., C) is at the 1 of the one-hot label (..., C)."""
    t, p = same_shape("categorical_accuracy", y_true, y_pred)
    return _hits(_equal(_place_of_largest(t), _place_of_largest(p)))


def sparse_categorical_accuracy(y_true: Any, y_pred: Any) -> Tensor:
    """1 where the largest of the scores (..., C) is at the label's index (...) or (..., 1)."""
    labels, scores = _labels_and_scores("sparse_categorical_accuracy", y_true, y_pred)
    return _hits(_equal(_place_of_largest(scores), labels))


def top_k_categorical_accuracy(y_true: Any, y_pred: Any, k: int = 5) -> Tensor:
    """1 where the class of the one-hot label (N, C) is among the k largest scores (N, C)."""
    t, p = same_shape("top_k_categorical_accuracy", on_host(y_true), on_host(y_pred))
    return sparse_top_k_categorical_accuracy(t.argmax(-1), p, k)


def sparse_top_k_categorical_accuracy(
    y_true: Any, y_pred: Any, k: int = 5, from_sorted_ids: bool = False
) -> Tensor:
    """1 where the label's score is among the k largest: fewer than k scores are larger.

    Args:
        y_true: indices, (...) or (..., 1).
        y_pred: scores (..., C), or with `from_sorted_ids` the classes themselves, best first.
    """
    name = "sparse_top_k_categorical_accuracy"
    labels, scores = _labels_and_scores(name, on_host(y_true), on_host(y_pred))
    if from_sorted_ids:
        return _hits((scores[..., :k] == labels[..., None]).any(-1))
    index = labels.astype(np.intp)[..., None]
    if index.size and not 0 <= index.min() <= index.max() < scores.shape[-1]:
        raise ValueError(
            f"{name}: got labels from {index.min()} to {index.max()}, expected 0 to "
            f"{scores.shape[-1] - 1} for {scores.shape[-1]} classes."
        )
    score = np.take_along_axis(scores, index, -1)
    return _hits(((scores > score).sum(-1) < k) & np.isfinite(score[..., 0]))


def _labels_and_scores(name: str, y_true: Any, y_pred: Any) -> tuple[Any, Any]:
    """Labels of shape (...) and scores of shape (..., C)."""
    t, p = arrays_or_tensors(y_true, y_pred)
    if t.ndim == p.ndim and t.shape[-1:] == (1,):
        t = t.reshape(t.shape[:-1])
    if t.shape != p.shape[:-1]:
        raise ValueError(
            f"{name}: got labels of shape {t.shape} for scores of shape {p.shape}; expected "
            f"indices of shape {p.shape[:-1]}; for one-hot use {name.removeprefix('sparse_')}."
        )
    return t, p


@serializable("keras.metrics")
class Accuracy(MeanMetricWrapper):
    """How often predictions equal labels."""

    def __init__(self, name: str | None = "accuracy", dtype: Any = None):
        super().__init__(accuracy, name, dtype)


@serializable("keras.metrics")
class BinaryAccuracy(MeanMetricWrapper):
    """How often (y_pred > threshold) equals the label 0 or 1."""

    def __init__(
        self, name: str | None = "binary_accuracy", dtype: Any = None, threshold: float = 0.5
    ):
        if threshold is None or not 0 <= threshold <= 1:
            raise ValueError(f"BinaryAccuracy: got threshold={threshold}, expected 0 to 1.")
        super().__init__(binary_accuracy, name, dtype, threshold=threshold)


@serializable("keras.metrics")
class CategoricalAccuracy(MeanMetricWrapper):
    """How often the largest score is at the one-hot label's class."""

    def __init__(self, name: str | None = "categorical_accuracy", dtype: Any = None):
        super().__init__(categorical_accuracy, name, dtype)


@serializable("keras.metrics")
class SparseCategoricalAccuracy(MeanMetricWrapper):
    """How often the largest score is at the label's index."""

    def __init__(self, name: str | None = "sparse_categorical_accuracy", dtype: Any = None):
        super().__init__(sparse_categorical_accuracy, name, dtype)


@serializable("keras.metrics")
class TopKCategoricalAccuracy(MeanMetricWrapper):
    """How often the one-hot label's class is among the k largest scores."""

    def __init__(
        self, k: int = 5, name: str | None = "top_k_categorical_accuracy", dtype: Any = None
    ):
        super().__init__(top_k_categorical_accuracy, name, dtype, k=k)


@serializable("keras.metrics")
class SparseTopKCategoricalAccuracy(MeanMetricWrapper):
    """How often the label's index is among the k largest scores."""

    def __init__(
        self,
        k: int = 5,
        name: str | None = "sparse_top_k_categorical_accuracy",
        dtype: Any = None,
        from_sorted_ids: bool = False,
    ):
        # Keras does not write `from_sorted_ids`; it is added where it is not the default.
        extra = {"from_sorted_ids": True} if from_sorted_ids else {}
        super().__init__(sparse_top_k_categorical_accuracy, name, dtype, k=k, **extra)


__all__ = [
    "Accuracy", "BinaryAccuracy", "CategoricalAccuracy", "SparseCategoricalAccuracy",
    "SparseTopKCategoricalAccuracy", "TopKCategoricalAccuracy", "accuracy", "binary_accuracy",
    "categorical_accuracy", "sparse_categorical_accuracy",
    "sparse_top_k_categorical_accuracy", "top_k_categorical_accuracy",
]  # fmt: skip
