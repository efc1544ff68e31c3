"""F-scores: precision and recall in one number, per class or averaged."""

from __future__ import annotations

from typing import Any

import numpy as np

from minitorch_ciml.autograd import Tensor
from minitorch_ciml.keras.metrics.base import Metric, divide_no_nan, on_host, same_shape
from minitorch_ciml.keras.serialization import serializable


@serializable("keras.metrics")
class FBetaScore(Metric):
    """(1 + beta^2) precision recall / (beta^2 precision + recall), for labels (N, C) of 0 and 1.

    Args:
        average: None (one score per class), "micro" (counts of all classes together), "macro" (the
            mean over the classes) or "weighted" (by how often each class occurs).
        beta: how much more recall counts than precision.
        threshold: predictions above it are positive; if None, the largest of each row is.
    """

    def __init__(
        self,
        average: str | None = None,
        beta: float = 1.0,
        threshold: float | None = None,
        name: str | None = "fbeta_score",
        dtype: Any = None,
    ):
        super().__init__(dtype, name)
        if average not in (None, "micro", "macro", "weighted"):
            raise ValueError(
                f"{name}: got average={average!r}, expected None, 'micro', 'macro' or 'weighted'."
            )
        if beta <= 0:
            raise ValueError(f"{name}: got beta={beta}, expected a number above 0.")
        if threshold is not None and not 0 < threshold <= 1:
            raise ValueError(f"{name}: got threshold={threshold}, expected 0 < threshold <= 1.")
        self.average = average
        self.beta = beta
        self.threshold = threshold

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds labels and predictions of shape (N, C), and weights (N,)."""
        t, p = same_shape(self.name, on_host(y_true), on_host(y_pred))
        if t.ndim != 2:
            raise ValueError(f"{self.name}: got shape {t.shape}, expected (samples, classes).")
        if not self._variables:
            shape = () if self.average == "micro" else (t.shape[1],)
            self.true_positives = self._add_state("true_positives", shape)
            self.false_positives = self._add_state("false_positives", shape)
            self.false_negatives = self._add_state("false_negatives", shape)
            self.intermediate_weights = self._add_state("intermediate_weights", shape)
        if self.threshold is None:
            positive = (p == p.max(-1, keepdims=True)) & (abs(p) > 1e-9)
        else:
            positive = p > self.threshold
        t = t.astype(bool)
        weight = 1.0 if sample_weight is None else np.asarray(sample_weight).reshape(len(t), 1)
        axis = None if self.average == "micro" else 0
        for variable, hits in (
            (self.true_positives, positive & t),
            (self.false_positives, positive & ~t),
            (self.false_negatives, ~positive & t),
            (self.intermediate_weights, t),
        ):
            variable.value += np.sum(hits * weight, axis=axis)

    def result(self) -> Tensor:
        if not self._variables:
            return self._tensor(0.0)
        tp, fp, fn, frequency = (v.value for v in self._variables)
        precision, recall = divide_no_nan(tp, tp + fp), divide_no_nan(tp, tp + fn)
        square = self.beta**2
        score = divide_no_nan((1 + square) * precision * recall, square * precision + recall)
        if self.average == "macro":
            score = score.mean()
        elif self.average == "weighted":
            score = divide_no_nan((score * frequency).sum(), frequency.sum())
        return self._tensor(score)

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "average": self.average,
            "beta": self.beta,
            "threshold": self.threshold,
        }


@serializable("keras.metrics")
class F1Score(FBetaScore):
    """2 precision recall / (precision + recall): `FBetaScore` with beta = 1."""

    def __init__(
        self,
        average: str | None = None,
        threshold: float | None = None,
        name: str | None = "f1_score",
        dtype: Any = None,
    ):
        super().__init__(average, 1.0, threshold, name, dtype)

    def get_config(self) -> dict:
        config = super().get_config()
        del config["beta"]
        return config
