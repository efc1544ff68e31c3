"""Metrics that are means of losses, and other measures of how far predictions are from targets."""

from __future__ import annotations

from typing import Any

import numpy as np

from minitorch_ciml.autograd import Tensor
from minitorch_ciml.keras import losses
from minitorch_ciml.keras.metrics.base import (
    Mean,
    MeanMetricWrapper,
    Metric,
    divide_no_nan,
    on_host,
    same_shape,
)
from minitorch_ciml.keras.serialization import serializable

_EPSILON = 1e-7


@serializable("keras.metrics", "mse", "MSE")
class MeanSquaredError(MeanMetricWrapper):
    """The mean of (y_true - y_pred)^2."""

    def __init__(self, name: str | None = "mean_squared_error", dtype: Any = None):
        super().__init__(losses.mean_squared_error, name, dtype)


@serializable("keras.metrics", "mae", "MAE")
class MeanAbsoluteError(MeanMetricWrapper):
    """The mean of |y_true - y_pred|."""

    def __init__(self, name: str | None = "mean_absolute_error", dtype: Any = None):
        super().__init__(losses.mean_absolute_error, name, dtype)


@serializable("keras.metrics", "mape", "MAPE")
class MeanAbsolutePercentageError(MeanMetricWrapper):
    """The mean of 100 |y_true - y_pred| / |y_true|."""

    def __init__(self, name: str | None = "mean_absolute_percentage_error", dtype: Any = None):
        super().__init__(losses.mean_absolute_percentage_error, name, dtype)


@serializable("keras.metrics", "msle", "MSLE")
class MeanSquaredLogarithmicError(MeanMetricWrapper):
    """The mean of (ln(1 + y_true) - ln(1 + y_pred))^2."""

    def __init__(self, name: str | None = "mean_squared_logarithmic_error", dtype: Any = None):
        super().__init__(losses.mean_squared_logarithmic_error, name, dtype)


@serializable("keras.metrics", "rmse", "RMSE")
class RootMeanSquaredError(Mean):
    """The square root of the mean of (y_true - y_pred)^2."""

    def __init__(self, name: str | None = "root_mean_squared_error", dtype: Any = None):
        super().__init__(name, dtype)

    def update_state(  # type: ignore[override]  # labels and predictions where Mean takes values
        self, y_true: Any, y_pred: Any, sample_weight: Any = None
    ) -> None:
        t, p = same_shape(self.name, on_host(y_true), on_host(y_pred))
        super().update_state(np.square(p - t), sample_weight)

    def result(self) -> Tensor:
        return self._tensor(np.sqrt(super().result().value))


@serializable("keras.metrics")
class LogCoshError(MeanMetricWrapper):
    """The mean of ln(cosh(y_pred - y_true))."""

    def __init__(self, name: str | None = "logcosh", dtype: Any = None):
        super().__init__(losses.log_cosh, name, dtype)


@serializable("keras.metrics")
class Hinge(MeanMetricWrapper):
    """The mean of max(1 - y_true y_pred, 0)."""

    def __init__(self, name: str | None = "hinge", dtype: Any = None):
        super().__init__(losses.hinge, name, dtype)


@serializable("keras.metrics")
class SquaredHinge(MeanMetricWrapper):
    """The mean of max(1 - y_true y_pred, 0)^2."""

    def __init__(self, name: str | None = "squared_hinge", dtype: Any = None):
        super().__init__(losses.squared_hinge, name, dtype)


@serializable("keras.metrics")
class CategoricalHinge(MeanMetricWrapper):
    """The mean of max(1 + the best wrong score - the right score, 0)."""

    def __init__(self, name: str | None = "categorical_hinge", dtype: Any = None):
        super().__init__(losses.categorical_hinge, name, dtype)


@serializable("keras.metrics", "kld", "KLD")
class KLDivergence(MeanMetricWrapper):
    """The mean of sum(y_true ln(y_true / y_pred))."""

    def __init__(self, name: str | None = "kl_divergence", dtype: Any = None):
        super().__init__(losses.kl_divergence, name, dtype)


@serializable("keras.metrics")
class Poisson(MeanMetricWrapper):
    """The mean of y_pred - y_true ln(y_pred)."""

    def __init__(self, name: str | None = "poisson", dtype: Any = None):
        super().__init__(losses.poisson, name, dtype)


@serializable("keras.metrics", "bce", "BCE")
class BinaryCrossentropy(MeanMetricWrapper):
    """The mean of -y_true ln(y_pred) - (1 - y_true) ln(1 - y_pred)."""

    def __init__(
        self,
        name: str | None = "binary_crossentropy",
        dtype: Any = None,
        from_logits: bool = False,
        label_smoothing: float = 0,
    ):
        super().__init__(
            losses.binary_crossentropy, name, dtype, from_logits=from_logits,
            label_smoothing=label_smoothing,
        )  # fmt: skip


@serializable("keras.metrics")
class CategoricalCrossentropy(MeanMetricWrapper):
    """The mean of -sum(y_true ln(y_pred)) along `axis`."""

    def __init__(
        self,
        name: str | None = "categorical_crossentropy",
        dtype: Any = None,
        from_logits: bool = False,
        label_smoothing: float = 0,
        axis: int = -1,
    ):
        super().__init__(
            losses.categorical_crossentropy, name, dtype, from_logits=from_logits,
            label_smoothing=label_smoothing, axis=axis,
        )  # fmt: skip


@serializable("keras.metrics")
class SparseCategoricalCrossentropy(MeanMetricWrapper):
    """The mean of -ln(y_pred at the label's index).

    As in Keras, samples of `ignore_class` count as 0, and not at all if there are weights.
    """

    def __init__(
        self,
        name: str | None = "sparse_categorical_crossentropy",
        dtype: Any = None,
        from_logits: bool = False,
        ignore_class: int | None = None,
        axis: int = -1,
    ):
        super().__init__(
            losses.sparse_categorical_crossentropy, name, dtype, from_logits=from_logits,
            ignore_class=ignore_class, axis=axis,
        )  # fmt: skip

    def update_state(  # type: ignore[override]
        self, y_true: Any, y_pred: Any, sample_weight: Any = None
    ) -> None:
        ignored = self._fn_kwargs["ignore_class"]
        if sample_weight is not None and ignored is not None:
            weight = np.asarray(sample_weight)
            kept = (on_host(y_true) != ignored).reshape(np.shape(y_pred)[:-1])
            sample_weight = kept * weight.reshape(weight.shape + (1,) * (kept.ndim - weight.ndim))
        super().update_state(y_true, y_pred, sample_weight)


# --- agreement of vectors -----------------------------------------------------------------------


def cosine_similarity(y_true: Any, y_pred: Any, axis: int = -1) -> Tensor:
    """The cosine of the angle between the vectors along `axis`: 1 where they point alike."""
    return -losses.cosine_similarity(y_true, y_pred, axis)


def pearson_correlation(y_true: Any, y_pred: Any, axis: int = -1) -> Tensor:
    """cov(t, p) / (std(t) std(p)) along `axis`; 0 where one of them is constant."""
    _, var_t, _, var_p, covariance = _moments("pearson_correlation", y_true, y_pred, axis)
    correlation = divide_no_nan(covariance, np.sqrt(var_t * var_p))
    return Tensor.constant(correlation.astype(covariance.dtype))


def concordance_correlation(y_true: Any, y_pred: Any, axis: int = -1) -> Tensor:
    """2 cov(t, p) / (var(t) + var(p) + (mean(t) - mean(p))^2) along `axis` (L. Lin, 1989)."""
    mean_t, var_t, mean_p, var_p, covariance = _moments(
        "concordance_correlation", y_true, y_pred, axis
    )
    spread = var_t + var_p + np.square(mean_t - mean_p)
    return Tensor.constant(2 * covariance / (spread + _EPSILON))


def _moments(name: str, y_true: Any, y_pred: Any, axis: int) -> tuple:
    t, p = same_shape(name, on_host(y_true), on_host(y_pred))
    mean_t, mean_p = t.mean(axis, keepdims=True), p.mean(axis, keepdims=True)
    dt, dp = t - mean_t, p - mean_p
    return (
        mean_t.squeeze(axis), np.square(dt).mean(axis), mean_p.squeeze(axis),
        np.square(dp).mean(axis), (dt * dp).mean(axis),
    )  # fmt: skip


@serializable("keras.metrics")
class CosineSimilarity(MeanMetricWrapper):
    """The mean cosine of the angle between label and prediction."""

    def __init__(self, name: str | None = "cosine_similarity", dtype: Any = None, axis: int = -1):
        # Keras does not write `axis`; it is added where it is not the default.
        super().__init__(cosine_similarity, name, dtype, **({} if axis == -1 else {"axis": axis}))


@serializable("keras.metrics")
class PearsonCorrelation(MeanMetricWrapper):
    """The mean of Pearson's correlation along `axis`."""

    def __init__(self, name: str | None = "pearson_correlation", dtype: Any = None, axis: int = -1):
        super().__init__(pearson_correlation, name, dtype, axis=axis)


@serializable("keras.metrics")
class ConcordanceCorrelation(MeanMetricWrapper):
    """The mean of Lin's concordance correlation along `axis`."""

    def __init__(
        self, name: str | None = "concordance_correlation", dtype: Any = None, axis: int = -1
    ):
        super().__init__(concordance_correlation, name, dtype, axis=axis)


@serializable("keras.metrics")
class R2Score(Metric):
    """1 - sum((t - p)^2) / sum((t - mean(t))^2): how much of the variance is explained.

    Args:
        class_aggregation: "uniform_average" over the columns of (N, D), "variance_weighted_average"
            or None (one score per column).
        num_regressors: k > 0 gives the adjusted score 1 - (1 - R2) (n - 1) / (n - k - 1).
    """

    counts = True

    def __init__(
        self,
        class_aggregation: str | None = "uniform_average",
        num_regressors: int = 0,
        name: str | None = "r2_score",
        dtype: Any = None,
    ):
        super().__init__(dtype, name)
        if class_aggregation not in (None, "uniform_average", "variance_weighted_average"):
            raise ValueError(
                f"R2Score: got class_aggregation={class_aggregation!r}, expected None, "
                "'uniform_average' or 'variance_weighted_average'."
            )
        if num_regressors < 0:
            raise ValueError(f"R2Score: got num_regressors={num_regressors}, expected 0 or more.")
        self.class_aggregation = class_aggregation
        self.num_regressors = num_regressors
        self.num_samples = self._add_state("num_samples")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds targets and predictions of shape (N, D) or (N,), and weights (N,)."""
        t, p = same_shape(self.name, on_host(y_true), on_host(y_pred))
        if t.ndim == 1:
            t, p = t[:, None], p[:, None]
        if t.ndim != 2:
            raise ValueError(f"{self.name}: got shape {t.shape}, expected (samples, outputs).")
        if len(self._variables) == 1:
            shape = (t.shape[1],)
            self.squared_sum = self._add_state("squared_sum", shape)
            self.sum = self._add_state("sum", shape)
            self.total_mse = self._add_state("residual", shape)
            self.count = self._add_state("count", shape)
        t = t.astype(np.float64)
        weight = np.ones(t.shape) if sample_weight is None else np.asarray(sample_weight)
        weight = np.broadcast_to(weight[:, None] if weight.ndim == 1 else weight, t.shape)
        self.sum.value += (weight * t).sum(0)
        self.squared_sum.value += (weight * t * t).sum(0)
        self.total_mse.value += (weight * np.square(t - p)).sum(0)
        self.count.value += weight.sum(0)
        self.num_samples.value += t.size

    def result(self) -> Tensor:
        if len(self._variables) == 1:
            return self._tensor(0.0)
        mean = divide_no_nan(self.sum.value, self.count.value)
        total = self.squared_sum.value - self.sum.value * mean
        score = np.where(total == 0, 0.0, 1 - divide_no_nan(self.total_mse.value, total))
        if self.class_aggregation == "uniform_average":
            score = score.mean()
        elif self.class_aggregation == "variance_weighted_average":
            score = divide_no_nan((score * total).sum(), total.sum())
        if self.num_regressors:
            n, k = self.num_samples.value, self.num_regressors
            if n > k + 1:
                score = 1 - (1 - score) * (n - 1) / (n - k - 1)
        return self._tensor(score)

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "class_aggregation": self.class_aggregation,
            "num_regressors": self.num_regressors,
        }
