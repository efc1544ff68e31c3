"""Cross-entropies and the squared error, with Keras' meanings: one loss per sample, no mean.

They are fused: the loss and its slope come from one pass over each row, and backward multiplies
the slope by the incoming gradient.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minitorch_ciml.autograd.arithmetic import log, maximum, minimum, subtract
from minitorch_ciml.autograd.engine import Op
from minitorch_ciml.autograd.tensor import FLOATS, Tensor, as_tensor
from minitorch_ciml.ops.axes import check_axis
from minitorch_ciml.ops.creation import floats
from minitorch_ciml.ops.math import log10
from minitorch_ciml.ops.nn import log_softmax, one_hot, shape_of, softplus
from minitorch_ciml.ops.reduce import mean
from minitorch_ciml.ops.reduce import sum as _sum

__all__ = [
    "binary_crossentropy", "categorical_crossentropy", "mean_squared_error", "psnr",
    "sparse_categorical_crossentropy",
]  # fmt: skip

EPSILON = 1e-7  # Keras': probabilities are kept between EPSILON and 1 - EPSILON

# --- what they mean -----------------------------------------------------------------------------


def _clipped(p):
    return minimum(maximum(p, EPSILON), 1 - EPSILON)


def _categorical_ref(target, output, from_logits, axis):
    if from_logits:
        log_p = log_softmax(output, axis=axis)
    else:
        log_p = log(_clipped(output / _sum(output, axis=axis, keepdims=True)))
    return -_sum(target * log_p, axis=axis)


def _sparse_ref(target, output, from_logits, axis):
    codes = one_hot(target, output.shape[axis], axis=axis, dtype=output.dtype)
    return _categorical_ref(codes, output, from_logits, axis)


def _binary_ref(target, output, from_logits):
    if from_logits:
        return (1 - target) * output + softplus(-output)
    p = _clipped(output)
    return -(target * log(p) + (1 - target) * log(1 - p))


_categorical = Op(
    "categorical_crossentropy",
    ref=_categorical_ref,
    saves=True,
    dtypes="float",
    doc="y = -sum(target log p) along an axis.",
)
_sparse = Op(
    "sparse_categorical_crossentropy",
    ref=_sparse_ref,
    saves=True,
    doc="y = -log p[target] along an axis.",
)
_binary = Op(
    "binary_crossentropy",
    ref=_binary_ref,
    dtypes="float",
    doc="y = -target log p - (1 - target) log(1 - p).",
)

_squared = Op(
    "mean_squared_error",
    ref=lambda target, output: mean((output - target) * (output - target), axis=-1),
    saves=True,
    dtypes="float",
    doc="y = mean((output - target)^2) along the last axis.",
)

# --- the public functions -----------------------------------------------------------------------


def categorical_crossentropy(
    target: Any, output: Any, from_logits: bool = False, axis: int = -1
) -> Tensor:
    """y = -sum(target ln p) along `axis`.

    p is softmax(output) for logits; otherwise output / sum(output), kept between 1e-7 and
    1 - 1e-7 (outside, the derivative is 0).

    Args:
        target: probabilities (for example one-hot codes), in the shape of `output`.
        output: floats: probabilities, or logits.
        from_logits: whether `output` holds logits.
        axis: the axis of the classes.

    Returns:
        Floats, in the shape of `output` without `axis`.

    Raises:
        ValueError: the shapes differ, or there is no such axis.
    """
    given, expected = shape_of(target), shape_of(output)
    if given != expected:
        raise ValueError(
            f"categorical_crossentropy: target has shape {given}, output {expected}; they must be "
            "equal. For integer labels use sparse_categorical_crossentropy."
        )
    axis = check_axis(axis, len(expected), "categorical_crossentropy")
    return _categorical(target, output, from_logits=from_logits, axis=axis)


def sparse_categorical_crossentropy(
    target: Any, output: Any, from_logits: bool = False, axis: int = -1
) -> Tensor:
    """y = -ln p[target] along `axis`, with p as in `categorical_crossentropy`.

    Args:
        target: integers from 0, in the shape of `output` without `axis`, or with 1 there.
        output: floats: probabilities, or logits.
        from_logits: whether `output` holds logits.
        axis: the axis of the classes.

    Returns:
        Floats, in the shape of `output` without `axis`.

    Raises:
        ValueError: the shapes do not fit, or a label is not below the number of classes.
    """
    target, output = as_tensor(target), as_tensor(output)
    axis = check_axis(axis, output.ndim, "sparse_categorical_crossentropy")
    labels = target.value
    expected = output.shape[:axis] + output.shape[axis:][1:]
    if labels.ndim == output.ndim and labels.shape[axis] == 1:
        labels = labels.reshape(expected)
    if labels.shape != expected:
        advice = "; for one-hot targets take categorical_crossentropy"
        raise ValueError(
            f"sparse_categorical_crossentropy: target has shape {target.shape}, expected "
            f"{expected} for output of shape {output.shape}"
            f"{advice if target.shape == output.shape else ''}."
        )
    if labels.dtype.kind not in "iu":
        labels = labels.astype(np.int64)
    if output.value.dtype.kind not in FLOATS:
        output = as_tensor(output.value.astype("float32"))
    return _sparse(Tensor.constant(labels), output, from_logits=from_logits, axis=axis)


def binary_crossentropy(target: Any, output: Any, from_logits: bool = False) -> Tensor:
    """y = -target ln p - (1 - target) ln(1 - p), for every element.

    p is sigmoid(output) for logits; otherwise output, kept between 1e-7 and 1 - 1e-7 (outside, the
    derivative is 0).

    Args:
        target: probabilities (for example 0 and 1), in the shape of `output`.
        output: floats: probabilities, or logits.
        from_logits: whether `output` holds logits.

    Raises:
        ValueError: the shapes differ.
    """
    given, expected = shape_of(target), shape_of(output)
    if given != expected:
        raise ValueError(
            f"binary_crossentropy: target has shape {given}, output {expected}; they must be equal."
        )
    return _binary(target, output, from_logits=from_logits)


def mean_squared_error(target: Any, output: Any) -> Tensor:
    """y = mean((output - target)^2) along the last axis.

    Args:
        target: floats (..., D).
        output: floats, likewise.

    Raises:
        ValueError: the shapes differ, or are ().
    """
    given, expected = shape_of(target), shape_of(output)
    if given != expected or not expected:
        raise ValueError(
            f"mean_squared_error: target has shape {given}, output {expected}; they must be equal, "
            "with at least one axis."
        )
    return _squared(target, output)


def psnr(x1: Any, x2: Any, max_val: float) -> Tensor:
    """y = 10 log10(max_val^2 / mean((x1 - x2)^2)): the peak signal-to-noise ratio, in decibels.

    Args:
        x1, x2: signals of one shape.
        max_val: the largest number that can occur.

    Raises:
        ValueError: the shapes differ.
    """
    if shape_of(x1) != shape_of(x2):
        raise ValueError(f"psnr: got shapes {shape_of(x1)} and {shape_of(x2)}; they must be equal.")
    difference = subtract(floats(x1), x2)
    return log10(max_val**2 / mean(difference * difference)) * 10
