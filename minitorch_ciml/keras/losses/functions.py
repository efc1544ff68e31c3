"""The losses as functions: one value per sample.

`y_true` and `y_pred` have the same shape, (N, ..., D) as a rule; the functions reduce the last axis
and give (N, ...). A last axis of size 1 that only one of the two has is no difference: (N, 1) and
(N,) fit. Targets are brought to the float dtype of the predictions.

`EPSILON` (1e-7) keeps logarithms and quotients finite where Keras does so.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minitorch_ciml.autograd import Tensor
from minitorch_ciml.autograd.arithmetic import absolute, log, log1p, maximum, minimum, sqrt, where
from minitorch_ciml.autograd.tensor import as_tensor
from minitorch_ciml.keras.losses.base import as_float, of_one_rank
from minitorch_ciml.keras.masks import set_mask
from minitorch_ciml.kernels import steps
from minitorch_ciml.ops import logsumexp, matmul, mean, transpose
from minitorch_ciml.ops import losses as fused
from minitorch_ciml.ops import max as max_
from minitorch_ciml.ops import sum as sum_
from minitorch_ciml.ops.creation import wide
from minitorch_ciml.ops.ctc import ctc_loss
from minitorch_ciml.ops.nn import one_hot, sigmoid, softmax, softplus
from minitorch_ciml.ops.shape import reshape

EPSILON = 1e-7


def _pair(name: str, y_true: Any, y_pred: Any) -> tuple[Tensor, Tensor]:
    """Targets and predictions as floats of one shape."""
    p = as_float(y_pred)
    t = as_float(y_true, p.value.dtype)
    if t.shape == p.shape or not t.shape:
        return t, p
    t, p = of_one_rank(t, p)
    if t.shape != p.shape:
        raise ValueError(
            f"{name}: y_true has shape {t.shape} and y_pred {p.shape}; they must be equal. Reshape "
            "the targets, or encode integer labels with to_categorical."
        )
    return t, p


def _check_labels(name: str, labels: Any) -> None:
    """Refuses labels such as -1 or 2. Of many numbers, as in images, it takes too long to look."""

    def look(labels: np.ndarray) -> None:
        least, largest = labels.min(), labels.max()
        if least < 0 or largest > 1:
            raise ValueError(
                f"{name}: got targets from {least:g} to {largest:g}, expected 0 to 1: encode two "
                "classes as 0 and 1; for more take sparse_categorical_crossentropy."
            )

    if 0 < labels.size <= _FEW:
        steps.check(look, labels)


_FEW = 4096


def _mean_last(x: Tensor) -> Tensor:
    return mean(x, axis=-1) if x.ndim else x


def _smoothed(y_true: Tensor, smoothing: float, n: int) -> Tensor:
    """Targets with the share `smoothing` spread evenly over n classes."""
    return y_true * (1 - smoothing) + smoothing / n if smoothing else y_true


# --- regression ---------------------------------------------------------------------------------


def mean_squared_error(y_true: Any, y_pred: Any) -> Tensor:
    """mean((y_true - y_pred)^2) along the last axis."""
    t, p = _pair("mean_squared_error", y_true, y_pred)
    if t.shape and p.shape:
        return fused.mean_squared_error(t, p)
    return _mean_last((p - t) * (p - t))


def mean_absolute_error(y_true: Any, y_pred: Any) -> Tensor:
    """mean(|y_true - y_pred|) along the last axis."""
    t, p = _pair("mean_absolute_error", y_true, y_pred)
    return _mean_last(absolute(p - t))


def mean_absolute_percentage_error(y_true: Any, y_pred: Any) -> Tensor:
    """100 mean(|y_true - y_pred| / max(|y_true|, EPSILON)) along the last axis."""
    t, p = _pair("mean_absolute_percentage_error", y_true, y_pred)
    return 100.0 * _mean_last(absolute((t - p) / maximum(absolute(t), EPSILON)))


def mean_squared_logarithmic_error(y_true: Any, y_pred: Any) -> Tensor:
    """mean((ln(1 + y_true) - ln(1 + y_pred))^2) along the last axis; both at least EPSILON.

    16-bit floats give float32, as in Keras.
    """
    t, p = map(wide, _pair("mean_squared_logarithmic_error", y_true, y_pred))
    e = log1p(maximum(p, EPSILON)) - log1p(maximum(t, EPSILON))
    return _mean_last(e * e)


def cosine_similarity(y_true: Any, y_pred: Any, axis: int = -1) -> Tensor:
    """Minus the cosine of the angle between the vectors along `axis`: -1 where they point alike."""
    t, p = _pair("cosine_similarity", y_true, y_pred)
    return -sum_(_unit(t, axis) * _unit(p, axis), axis=axis)


def _unit(x: Tensor, axis: int) -> Tensor:
    square = sum_(x * x, axis=axis, keepdims=True)
    return x / sqrt(maximum(square, EPSILON**2))


def huber(y_true: Any, y_pred: Any, delta: float = 1.0) -> Tensor:
    """mean(e^2 / 2 where |e| <= delta, otherwise delta (|e| - delta / 2)), e = y_true - y_pred.

    Source: P. Huber (1964).
    """
    t, p = _pair("huber", y_true, y_pred)
    e = absolute(p - t)
    small = minimum(e, delta)
    return _mean_last(small * (e - 0.5 * small))


def log_cosh(y_true: Any, y_pred: Any) -> Tensor:
    """mean(ln(cosh(y_pred - y_true))) along the last axis; it cannot overflow."""
    t, p = _pair("log_cosh", y_true, y_pred)
    e = p - t
    return _mean_last(e + softplus(-2.0 * e) - math.log(2.0))


def poisson(y_true: Any, y_pred: Any) -> Tensor:
    """mean(y_pred - y_true ln(y_pred + EPSILON)) along the last axis: counts with mean y_pred."""
    t, p = _pair("poisson", y_true, y_pred)
    return _mean_last(p - t * log(p + EPSILON))


# --- margins ------------------------------------------------------------------------------------


def hinge(y_true: Any, y_pred: Any) -> Tensor:
    """mean(max(1 - y_true y_pred, 0)); labels -1 and 1, or 0 and 1, which become -1 and 1."""
    t, p = _pair("hinge", y_true, y_pred)
    return _mean_last(maximum(1.0 - _signs(t) * p, 0.0))


def squared_hinge(y_true: Any, y_pred: Any) -> Tensor:
    """mean(max(1 - y_true y_pred, 0)^2); labels as in `hinge`."""
    t, p = _pair("squared_hinge", y_true, y_pred)
    margin = maximum(1.0 - _signs(t) * p, 0.0)
    return _mean_last(margin * margin)


def _signs(t: Tensor) -> Tensor:
    binary = ((t.value == 0) | (t.value == 1)).all()
    return 2.0 * t - 1.0 if binary else t


def categorical_hinge(y_true: Any, y_pred: Any) -> Tensor:
    """max(1 + max((1 - y_true) y_pred) - sum(y_true y_pred), 0) along the last axis."""
    t, p = _pair("categorical_hinge", y_true, y_pred)
    right = sum_(t * p, axis=-1)
    wrong = max_((1.0 - t) * p, axis=-1)
    return maximum(wrong - right + 1.0, 0.0)


# --- probabilities ------------------------------------------------------------------------------


def _clip(p: Tensor, largest: float) -> Tensor:
    return minimum(maximum(p, EPSILON), largest)


def kl_divergence(y_true: Any, y_pred: Any) -> Tensor:
    """sum(y_true ln(y_true / y_pred)) along the last axis; both kept in EPSILON to 1."""
    t, p = _pair("kl_divergence", y_true, y_pred)
    t, p = _clip(t, 1.0), _clip(p, 1.0)
    return sum_(t * log(t / p), axis=-1)


def binary_crossentropy(
    y_true: Any,
    y_pred: Any,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int = -1,
) -> Tensor:
    """mean(-y_true ln(p) - (1 - y_true) ln(1 - p)) along `axis`; p = y_pred, or its sigmoid.

    Label smoothing s makes y_true (1 - s) + s / 2 of the targets.
    """
    t, p = _pair("binary_crossentropy", y_true, y_pred)
    if not from_logits:
        _check_labels("binary_crossentropy", t.value)
    values = fused.binary_crossentropy(_smoothed(t, label_smoothing, 2), p, from_logits)
    return mean(values, axis=axis)


def binary_focal_crossentropy(
    y_true: Any,
    y_pred: Any,
    apply_class_balancing: bool = False,
    alpha: float = 0.25,
    gamma: float = 2.0,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int = -1,
) -> Tensor:
    """`binary_crossentropy` times (1 - the right class' probability)^gamma: easy samples fade.

    With `apply_class_balancing`, class 1 weighs alpha and class 0 weighs 1 - alpha.
    Source: T.-Y. Lin et al. (2017).
    """
    t, p = _pair("binary_focal_crossentropy", y_true, y_pred)
    t = _smoothed(t, label_smoothing, 2)
    if from_logits:
        p = sigmoid(p)
    right = t * p + (1.0 - t) * (1.0 - p)
    values = (1.0 - right) ** gamma * fused.binary_crossentropy(t, p)
    if apply_class_balancing:
        values = values * (t * alpha + (1.0 - t) * (1.0 - alpha))
    return mean(values, axis=axis)


def categorical_crossentropy(
    y_true: Any,
    y_pred: Any,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int = -1,
) -> Tensor:
    """-sum(y_true ln(p)) along `axis`; p = y_pred over its sum, or its softmax.

    Label smoothing s makes y_true (1 - s) + s / C of the targets, for C classes.
    """
    t, p = _pair("categorical_crossentropy", y_true, y_pred)
    if label_smoothing:
        t = _smoothed(t, label_smoothing, p.shape[axis])
    return fused.categorical_crossentropy(t, p, from_logits, axis)


def categorical_focal_crossentropy(
    y_true: Any,
    y_pred: Any,
    alpha: float = 0.25,
    gamma: float = 2.0,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int = -1,
) -> Tensor:
    """-sum(alpha (1 - p)^gamma y_true ln(p)) along `axis` (T.-Y. Lin et al., 2017)."""
    t, p = _pair("categorical_focal_crossentropy", y_true, y_pred)
    t = _smoothed(t, label_smoothing, p.shape[axis])
    if from_logits:
        p = softmax(p, axis=axis)
    p = _clip(p / sum_(p, axis=axis, keepdims=True), 1 - EPSILON)
    return -sum_(alpha * (1.0 - p) ** gamma * t * log(p), axis=axis)


def sparse_categorical_crossentropy(
    y_true: Any,
    y_pred: Any,
    from_logits: bool = False,
    ignore_class: int | None = None,
    axis: int = -1,
) -> Tensor:
    """-ln(p[y_true]) along `axis`, for labels (N, ...) or (N, ..., 1); 0 for `ignore_class`."""
    p = as_float(y_pred)
    if ignore_class is None:
        return fused.sparse_categorical_crossentropy(y_true, p, from_logits, axis)
    labels = as_tensor(y_true)
    if labels.ndim == p.ndim and labels.shape[axis] == 1:
        labels = labels.squeeze(axis)
    kept = labels != ignore_class
    labels = where(kept, labels, 0)
    return where(kept, fused.sparse_categorical_crossentropy(labels, p, from_logits, axis), 0.0)


def categorical_generalized_cross_entropy(y_true: Any, y_pred: Any, q: float) -> Tensor:
    """(1 - p^q) / q for the right class' probability p; robust to wrong labels.

    Between cross-entropy (q towards 0) and mean absolute error (q = 1). Source: Z. Zhang and
    M. Sabuncu (2018).

    Args:
        y_true: integer labels (N,), or one-hot labels (N, C).
        y_pred: probabilities (N, C).
    """
    p = as_float(y_pred)
    labels = as_tensor(y_true)
    if labels.shape == p.shape:
        chosen = as_float(labels, p.dtype)
    else:
        classes = reshape(labels.astype("int32"), p.shape[:-1])
        chosen = one_hot(classes, p.shape[-1], dtype=p.dtype)
    right = sum_(chosen * p, axis=-1)
    return (1.0 - right**q) / q


def ctc(y_true: Any, y_pred: Any) -> Tensor:
    """-ln of the probability of all ways to read the labels from the steps (Graves et al. 2006).

    Args:
        y_true: integers (N, L) from 1, filled up with 0, which is also the class "nothing".
        y_pred: scores (N, T, C) of the classes at each step, before any softmax.

    Returns:
        (N,); infinity where there are too few steps for the labels.
    """
    labels = as_tensor(y_true).numpy().astype("int64")
    scores = as_float(y_pred)
    if labels.ndim != 2 or scores.ndim != 3:
        raise ValueError(
            f"ctc: expected y_true (N, L) and y_pred (N, T, C), got {labels.shape} and "
            f"{scores.shape}."
        )
    steps = [scores.shape[1]] * len(labels)
    return ctc_loss(labels, scores, (labels != 0).sum(axis=1), steps)


# --- overlap of regions -------------------------------------------------------------------------


def dice(y_true: Any, y_pred: Any, axis: Any = None) -> Tensor:
    """1 - 2 sum(t p) / (sum(t) + sum(p)) along `axis`, everything by default."""
    t, p = _pair("dice", y_true, y_pred)
    both = sum_(t * p, axis=axis)
    return 1.0 - (2.0 * both + EPSILON) / (sum_(t, axis=axis) + sum_(p, axis=axis) + EPSILON)


def tversky(
    y_true: Any, y_pred: Any, alpha: float = 0.5, beta: float = 0.5, axis: Any = None
) -> Tensor:
    """1 - TP / (TP + alpha FN + beta FP), with sums of products along `axis`.

    As in Keras, alpha weighs what is missed and beta what is wrongly found; the source (S. Salehi
    et al., 2017) has them the other way round.
    """
    t, p = _pair("tversky", y_true, y_pred)
    both = sum_(t * p, axis=axis)
    missed = sum_(t * (1.0 - p), axis=axis)
    wrong = sum_((1.0 - t) * p, axis=axis)
    return 1.0 - (both + EPSILON) / (both + alpha * missed + beta * wrong + EPSILON)


# --- embeddings ---------------------------------------------------------------------------------


def circle(
    y_true: Any,
    y_pred: Any,
    ref_labels: Any = None,
    ref_embeddings: Any = None,
    remove_diagonal: bool = True,
    gamma: float = 80.0,
    margin: float = 0.4,
) -> Tensor:
    """softplus(P + N), of distances d between embeddings of one class and of different classes.

    P = logsumexp of gamma max(margin + d, 0) (d - margin) over those of the same class, N that of
    gamma max(1 + margin - d, 0) (1 - margin - d) over the others, d = 1 - cosine (Sun et al. 2020).

    Args:
        y_true: the class of each, integers (N,) or (N, 1).
        y_pred: embeddings of length 1, (N, D).
        ref_labels, ref_embeddings: of those to compare with, (M,) and (M, D); the same ones if
            left out.
        remove_diagonal: do not compare embedding i with reference i.
        gamma: how strongly.
        margin: how different distances shall be.

    Returns:
        (N,); 0, and masked, where there is nothing of the same class to compare with.
    """
    embeddings = as_float(y_pred)
    references = embeddings if ref_embeddings is None else as_float(ref_embeddings)
    labels = np.asarray(as_tensor(y_true).numpy()).reshape(-1, 1)
    other = labels if ref_labels is None else np.asarray(as_tensor(ref_labels).numpy())
    same = labels == other.reshape(1, -1)
    different = np.logical_not(same)
    if remove_diagonal:
        np.fill_diagonal(same, False)
    d = maximum(1.0 - matmul(embeddings, transpose(references)), 0.0)
    near = gamma * maximum(margin + d, 0.0) * (d - margin)
    far = gamma * maximum(1.0 + margin - d, 0.0) * (1.0 - margin - d)
    # A number that no exponential survives, and not infinity, of which there is no derivative.
    both = logsumexp(where(same, near, -1e9), axis=1) + logsumexp(where(different, far, -1e9), 1)
    losses = softplus(both)
    set_mask(losses, losses > 0)
    return losses
