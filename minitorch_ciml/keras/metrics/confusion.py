"""Metrics of true and false positives and negatives, at one threshold or along a curve of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from minitorch_ciml.autograd import Tensor
from minitorch_ciml.keras.metrics.base import Metric, divide_no_nan, on_host, same_shape
from minitorch_ciml.keras.serialization import serializable

_EPSILON = 1e-7  # thresholds -epsilon and 1 + epsilon take in the predictions 0 and 1
_LOWEST = -1e10  # the threshold with `top_k`: everything among the k largest is positive
STATES = ("true_positives", "false_positives", "true_negatives", "false_negatives")


def count(
    y_true: np.ndarray, y_pred: np.ndarray, thresholds: np.ndarray, weight: np.ndarray | None
) -> dict[str, np.ndarray]:
    """Weighted true and false positives and negatives at every threshold.

    A prediction is positive at the thresholds below it. So it is enough to count the predictions
    between neighbouring thresholds, and to add up the counts from the highest one down.

    Args:
        y_true: labels (N, L), True or False.
        y_pred: predictions (N, L).
        thresholds: (T,), ascending.
        weight: (N, L), or None for 1.

    Returns:
        For each of `STATES` an array (T, L).
    """
    n_labels, n_bins = y_true.shape[1], len(thresholds) + 1
    below = np.searchsorted(thresholds.astype(y_pred.dtype), y_pred)  # thresholds < prediction
    bins = (below + np.arange(n_labels) * n_bins).ravel()
    weight = np.ones(y_true.shape) if weight is None else weight
    counts = {}
    for word, share in (("positives", weight * y_true), ("negatives", weight * ~y_true)):
        histogram = np.bincount(bins, share.ravel(), n_labels * n_bins).reshape(n_labels, n_bins)
        above = histogram[:, ::-1].cumsum(1)[:, ::-1].T  # row t: in bin t or higher
        right = "true_" if word == "positives" else "false_"
        wrong = "false_negatives" if word == "positives" else "true_negatives"
        counts[right + "positives"] = above[1:]
        counts[wrong] = above[:1] - above[1:]
    return counts


def _keep_top_k(y_pred: np.ndarray, k: int) -> np.ndarray:
    """`y_pred` with -inf in place of all but the k largest of each row."""
    if not 1 <= k <= y_pred.shape[-1]:
        raise ValueError(f"top_k: got {k}, expected 1 to {y_pred.shape[-1]}, the number of labels.")
    largest = np.argpartition(y_pred, -k, axis=-1)[..., -k:]
    kept = np.full(y_pred.shape, -np.inf, dtype=y_pred.dtype)
    np.put_along_axis(kept, largest, np.take_along_axis(y_pred, largest, -1), -1)
    return kept


def _check_thresholds(thresholds: Sequence[float]) -> None:
    if any(t is None or not 0 <= t <= 1 for t in thresholds):
        raise ValueError(f"thresholds: got {list(thresholds)}, expected numbers from 0 to 1.")


class _Confusion(Metric):
    """The common part: which counts are kept, at which thresholds, of which labels."""

    states: tuple[str, ...] = STATES
    counts = True

    def __init__(
        self,
        thresholds: Sequence[float],
        name: str | None,
        dtype: Any,
        top_k: int | None = None,
        class_id: int | None = None,
    ):
        super().__init__(dtype, name)
        self.thresholds = list(thresholds)
        self.top_k = top_k
        self.class_id = class_id
        self._order = np.argsort(self.thresholds, kind="stable")
        self._sorted = np.asarray(self.thresholds)[self._order]
        for state in self.states:
            setattr(self, state, self._add_state(state, (len(self.thresholds),)))

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds a batch: labels 0 or 1 and predictions from 0 to 1, of one shape.

        Weights have the same shape, or one per sample.
        """
        t, p = same_shape(self.name, on_host(y_true), on_host(y_pred))
        t, p = np.atleast_1d(t), np.atleast_1d(p)
        weight = _weights(sample_weight, t.shape)
        if self.top_k is not None:
            p = _keep_top_k(p, self.top_k)
        if self.class_id is not None:
            if not 0 <= self.class_id < t.shape[-1]:
                raise ValueError(
                    f"{self.name}: got class_id={self.class_id}, expected 0 to {t.shape[-1] - 1}."
                )
            t, p = t[..., self.class_id], p[..., self.class_id]
            weight = weight if weight is None else weight[..., self.class_id]
        self._add(t.astype(bool), p, weight)

    def _add(self, t: np.ndarray, p: np.ndarray, weight: np.ndarray | None) -> None:
        weight = weight if weight is None else weight.reshape(-1, 1)
        counts = count(t.reshape(-1, 1), p.reshape(-1, 1), self._sorted, weight)
        for state in self.states:
            getattr(self, state).value[self._order] += counts[state][:, 0]

    def _rate(self, hits: str, misses: str) -> np.ndarray:
        """hits / (hits + misses) at every threshold; 0 where there is neither."""
        a, b = getattr(self, hits).value, getattr(self, misses).value
        return divide_no_nan(a, a + b)

    def _one_or_all(self, values: np.ndarray) -> Tensor:
        return self._tensor(values[0] if len(values) == 1 else values)


def _weights(sample_weight: Any, shape: tuple[int, ...]) -> np.ndarray | None:
    """The weights in `shape`: aligned from the left, a last axis of 1 dropped or repeated."""
    if sample_weight is None:
        return None
    weight = np.asarray(sample_weight, dtype=np.float64)
    if weight.ndim == len(shape) + 1 and weight.shape[-1] == 1:
        weight = weight[..., 0]
    weight = weight.reshape(weight.shape + (1,) * (len(shape) - weight.ndim))
    try:
        return np.broadcast_to(weight, shape)
    except ValueError:
        raise ValueError(
            f"sample_weight: got shape {np.shape(sample_weight)} for predictions of shape {shape}; "
            "give one weight per sample."
        ) from None


class _Counter(_Confusion):
    """One of the four counts."""

    def __init__(self, thresholds: Any = None, name: str | None = None, dtype: Any = None):
        self.init_thresholds = thresholds
        super().__init__(_thresholds(thresholds, 0.5), name, dtype)

    def result(self) -> Tensor:
        return self._one_or_all(getattr(self, self.states[0]).value)

    def get_config(self) -> dict:
        return {**super().get_config(), "thresholds": self.init_thresholds}


def _thresholds(given: Any, default: float) -> list[float]:
    if given is None:
        return [default]
    thresholds = [float(t) for t in np.atleast_1d(given)]
    _check_thresholds(thresholds)
    return thresholds


@serializable("keras.metrics")
class TruePositives(_Counter):
    """The weight of the labels 1 that are predicted as 1, at each of `thresholds`."""

    states = ("true_positives",)


@serializable("keras.metrics")
class FalsePositives(_Counter):
    """The weight of the labels 0 that are predicted as 1, at each of `thresholds`."""

    states = ("false_positives",)


@serializable("keras.metrics")
class TrueNegatives(_Counter):
    """The weight of the labels 0 that are predicted as 0, at each of `thresholds`."""

    states = ("true_negatives",)


@serializable("keras.metrics")
class FalseNegatives(_Counter):
    """The weight of the labels 1 that are predicted as 0, at each of `thresholds`."""

    states = ("false_negatives",)


class _Share(_Confusion):
    """True positives among what is predicted (precision) or labelled (recall) positive."""

    def __init__(
        self,
        thresholds: Any = None,
        top_k: int | None = None,
        class_id: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ):
        self.init_thresholds = thresholds
        default = 0.5 if top_k is None else _LOWEST
        super().__init__(_thresholds(thresholds, default), name, dtype, top_k, class_id)

    def result(self) -> Tensor:
        return self._one_or_all(self._rate(*self.states))

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "thresholds": self.init_thresholds,
            "top_k": self.top_k,
            "class_id": self.class_id,
        }


@serializable("keras.metrics")
class Precision(_Share):
    """TP / (TP + FP): how much of what is predicted positive is so.

    Args:
        thresholds: one or several, 0.5 if left out; a prediction above is positive.
        top_k: only the k largest predictions of each row can be positive (all of them are, if no
            thresholds are given).
        class_id: only this column counts.
    """

    states = ("true_positives", "false_positives")


@serializable("keras.metrics")
class Recall(_Share):
    """TP / (TP + FN): how much of what is positive is predicted so. Arguments as `Precision`."""

    states = ("true_positives", "false_negatives")


# --- curves -------------------------------------------------------------------------------------


class _AtBest(_Confusion):
    """The largest value of one rate at the thresholds where another is at least `bound`."""

    bound_name = ""
    best: tuple[str, str]
    constrained: tuple[str, str]

    def __init__(
        self,
        bound: float,
        num_thresholds: int = 200,
        class_id: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ):
        if not 0 <= bound <= 1:
            raise ValueError(
                f"{type(self).__name__}: got {self.bound_name}={bound}, expected 0 to 1."
            )
        if num_thresholds < 1:
            raise ValueError(
                f"{type(self).__name__}: got num_thresholds={num_thresholds}, expected 1 or more."
            )
        self.bound = bound
        self.num_thresholds = num_thresholds
        one = num_thresholds == 1
        thresholds = [0.5] if one else np.linspace(0.0, 1.0, num_thresholds).tolist()
        super().__init__(thresholds, name, dtype, class_id=class_id)

    def result(self) -> Tensor:
        feasible = self._rate(*self.constrained) >= self.bound
        return self._tensor(self._rate(*self.best)[feasible].max(initial=0.0))

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "class_id": self.class_id,
            "num_thresholds": self.num_thresholds,
            self.bound_name: self.bound,
        }


_SENSITIVITY = _RECALL = ("true_positives", "false_negatives")
_SPECIFICITY = ("true_negatives", "false_positives")
_PRECISION = ("true_positives", "false_positives")


@serializable("keras.metrics")
class SensitivityAtSpecificity(_AtBest):
    """The best TP / (TP + FN) where TN / (TN + FP) >= specificity."""

    bound_name, best, constrained = "specificity", _SENSITIVITY, _SPECIFICITY

    def __init__(self, specificity: float, num_thresholds: int = 200,
                 class_id: int | None = None, name: str | None = None,
                 dtype: Any = None):  # fmt: skip
        super().__init__(specificity, num_thresholds, class_id, name, dtype)


@serializable("keras.metrics")
class SpecificityAtSensitivity(_AtBest):
    """The best TN / (TN + FP) where TP / (TP + FN) >= sensitivity."""

    bound_name, best, constrained = "sensitivity", _SPECIFICITY, _SENSITIVITY

    def __init__(self, sensitivity: float, num_thresholds: int = 200,
                 class_id: int | None = None, name: str | None = None,
                 dtype: Any = None):  # fmt: skip
        super().__init__(sensitivity, num_thresholds, class_id, name, dtype)


@serializable("keras.metrics")
class PrecisionAtRecall(_AtBest):
    """The best precision where the recall is at least `recall`."""

    bound_name, best, constrained = "recall", _PRECISION, _RECALL

    def __init__(self, recall: float, num_thresholds: int = 200,
                 class_id: int | None = None, name: str | None = None,
                 dtype: Any = None):  # fmt: skip
        super().__init__(recall, num_thresholds, class_id, name, dtype)


@serializable("keras.metrics")
class RecallAtPrecision(_AtBest):
    """The best recall where the precision is at least `precision`."""

    bound_name, best, constrained = "precision", _RECALL, _PRECISION

    def __init__(self, precision: float, num_thresholds: int = 200,
                 class_id: int | None = None, name: str | None = None,
                 dtype: Any = None):  # fmt: skip
        super().__init__(precision, num_thresholds, class_id, name, dtype)


@serializable("keras.metrics", "auc")
class AUC(_Confusion):
    """The area under a curve of rates over thresholds, approximated at `num_thresholds` of them.

    - "ROC": TP / (TP + FN) over FP / (FP + TN);
    - "PR": precision over recall;
    - "PRGAIN": both as gains over always predicting positive (Flach and Kull, 2015).

    Args:
        num_thresholds: evenly spaced from 0 to 1; at least 2.
        curve: "ROC", "PR" or "PRGAIN".
        summation_method: a step's height is the "interpolation" of its ends, the smaller one
            ("minoring") or the larger ("majoring"). The PR curve is interpolated in the counts
            (Davis and Goadrich, 2006), since precision is not linear in recall.
        thresholds: other thresholds between 0 and 1; 0 and 1 are added.
        multi_label: for labels (N, L): L areas, of which the (weighted) mean is the result.
        num_labels: L, where it is known before the first batch.
        label_weights: (L,); how much each label counts.
        from_logits: predictions are logits: a sigmoid is applied.
    """

    def __init__(
        self,
        num_thresholds: int = 200,
        curve: str = "ROC",
        summation_method: str = "interpolation",
        name: str | None = None,
        dtype: Any = None,
        thresholds: Sequence[float] | None = None,
        multi_label: bool = False,
        num_labels: int | None = None,
        label_weights: Sequence[float] | None = None,
        from_logits: bool = False,
    ):
        _one_of("curve", curve, ("ROC", "PR", "PRGAIN"))
        _one_of("summation_method", summation_method, ("interpolation", "minoring", "majoring"))
        if thresholds is not None:
            _check_thresholds(thresholds)
            inner = sorted(float(t) for t in thresholds)
        elif num_thresholds <= 1:
            raise ValueError(f"AUC: got num_thresholds={num_thresholds}, expected 2 or more.")
        else:
            inner = np.linspace(0.0, 1.0, num_thresholds)[1:-1].tolist()
        self.curve = curve
        self.summation_method = summation_method
        self.multi_label = multi_label
        self.num_labels = num_labels
        self.label_weights = label_weights
        self.from_logits = from_logits
        self._init_thresholds = None if thresholds is None else inner
        super().__init__([-_EPSILON, *inner, 1 + _EPSILON], name, dtype)
        self.num_thresholds = len(self.thresholds)
        if multi_label:
            self._variables.clear()
            if num_labels is not None:
                self._build(num_labels)

    def _build(self, n_labels: int) -> None:
        for state in STATES:
            setattr(self, state, self._add_state(state, (self.num_thresholds, n_labels)))

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        t, p = same_shape(self.name, on_host(y_true), on_host(y_pred))
        t, p = np.atleast_1d(t), np.atleast_1d(p)
        if self.from_logits:
            p = 0.5 * np.tanh(0.5 * p) + 0.5
        weight = _weights(sample_weight, t.shape)
        if self.multi_label:
            if t.ndim != 2:
                raise ValueError(f"AUC(multi_label=True): got shape {t.shape}, expected (N, L).")
            if not self._variables:
                self._build(t.shape[1])
        elif self.label_weights is not None:
            label_weights = np.broadcast_to(np.asarray(self.label_weights, float), t.shape)
            weight = label_weights if weight is None else weight * label_weights
        t, p = t.astype(bool), np.clip(p, 0, 1)
        if not self.multi_label:
            self._add(t, p, weight)
            return
        for state, counts in count(t, p, self._sorted, weight).items():
            getattr(self, state).value += counts

    def result(self) -> Tensor:
        if not self._variables:
            return self._tensor(0.0)
        tp, fp, tn, fn = (getattr(self, state).value for state in STATES)
        if self.curve == "PR" and self.summation_method == "interpolation":
            areas = _interpolated_pr(tp, fp, fn)
        else:
            areas = _area(*_curve(self.curve, tp, fp, tn, fn), self.summation_method)
        if not self.multi_label:
            return self._tensor(areas)
        return self._tensor(np.average(areas, weights=self.label_weights))

    def get_config(self) -> dict:
        config = {
            **super().get_config(),
            "num_thresholds": self.num_thresholds,
            "curve": self.curve,
            "summation_method": self.summation_method,
            "multi_label": self.multi_label,
            "num_labels": self.num_labels,
            "label_weights": self.label_weights,
            "from_logits": self.from_logits,
        }
        if self._init_thresholds is not None:
            config["thresholds"] = self._init_thresholds
        return config


def _one_of(argument: str, given: str, known: tuple[str, ...]) -> None:
    if given not in known:
        raise ValueError(f"AUC: got {argument}={given!r}, expected one of {', '.join(known)}.")


def _curve(curve: str, tp: Any, fp: Any, tn: Any, fn: Any) -> tuple[np.ndarray, np.ndarray]:
    """The curve's x and y at every threshold."""
    recall = divide_no_nan(tp, tp + fn)
    if curve == "ROC":
        return divide_no_nan(fp, fp + tn), recall
    if curve == "PR":
        return recall, divide_no_nan(tp, tp + fp)
    odds = divide_no_nan(tp + fn, fp + tn)
    # A recall below that of chance counts as no gain, also where there are no true positives.
    recall_gain = np.where(tp > 0, np.maximum(1 - odds * divide_no_nan(fn, tp), 0), 0)
    return recall_gain, 1 - odds * divide_no_nan(fp, tp)


def _area(x: np.ndarray, y: np.ndarray, method: str) -> np.ndarray:
    heights = {
        "interpolation": (y[:-1] + y[1:]) / 2,
        "minoring": np.minimum(y[:-1], y[1:]),
        "majoring": np.maximum(y[:-1], y[1:]),
    }[method]
    return ((x[:-1] - x[1:]) * heights).sum(0)


def _interpolated_pr(tp: np.ndarray, fp: np.ndarray, fn: np.ndarray) -> np.ndarray:
    """The area under precision over recall, with TP linear in TP + FP between thresholds.

    With p = TP + FP and TP = slope p + intercept, the integral of TP / p over TP is
    slope (dTP + intercept ln(p_a / p_b)); J. Davis and M. Goadrich (2006).
    """
    p = tp + fp
    d_tp, d_p = tp[:-1] - tp[1:], np.maximum(p[:-1] - p[1:], 0)
    slope = divide_no_nan(d_tp, d_p)
    intercept = tp[1:] - slope * p[1:]
    both = (p[:-1] > 0) & (p[1:] > 0)
    ratio = np.divide(p[:-1], p[1:], out=np.ones(both.shape), where=both)
    areas = slope * (d_tp + intercept * np.log(ratio))
    return divide_no_nan(areas, tp[1:] + fn[1:]).sum(0)
