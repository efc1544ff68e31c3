"""Activations, losses and layers' products, in NumPy: what each kernel means."""

from __future__ import annotations

import numpy as np

from minitorch_ciml.kernels.reference.conv import max_pool, max_pool_scatter
from minitorch_ciml.kernels.reference.elementwise import sigmoid
from minitorch_ciml.kernels.reference.reduce import mean

Array = np.ndarray
Needs = tuple[bool, ...]
Gradients = tuple[Array | None, ...]

# --- activations --------------------------------------------------------------------------------


def leaky_relu(x: Array, *, negative_slope: float) -> Array:
    return np.where(x > 0, x, x * negative_slope).astype(x.dtype, copy=False)


def clipped_relu(x: Array, *, max_value: float) -> Array:
    return np.clip(x, 0, x.dtype.type(max_value))


def clipped_relu_grad(g: Array, y: Array, x: Array, *, needs: Needs, max_value: float) -> Gradients:
    return (np.where((y > 0) & (y < y.dtype.type(max_value)), g, g.dtype.type(0)),)


def elu(x: Array, *, alpha: float) -> Array:
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0))).astype(x.dtype, copy=False)


def softplus(x: Array) -> Array:
    # ln(1 + e^x) = max(x, 0) + ln(1 + e^-|x|), in which no exponential overflows.
    return np.maximum(x, 0) + np.log1p(np.exp(-np.absolute(x)))


def softmax(x: Array, *, axis: int) -> Array:
    e = np.exp(x - x.max(axis=axis, keepdims=True, initial=-np.inf))
    return e / e.sum(axis=axis, keepdims=True)


def softmax_grad(g: Array, y: Array, x: Array, *, needs: Needs, axis: int) -> Gradients:
    return (y * (g - (g * y).sum(axis=axis, keepdims=True)),)


def log_softmax(x: Array, *, axis: int) -> Array:
    z = x - x.max(axis=axis, keepdims=True, initial=-np.inf)
    return z - np.log(np.exp(z).sum(axis=axis, keepdims=True))


def log_softmax_grad(g: Array, y: Array, x: Array, *, needs: Needs, axis: int) -> Gradients:
    return (g - np.exp(y) * g.sum(axis=axis, keepdims=True),)


def sparsemax(x: Array, *, axis: int) -> Array:
    # The support: the k largest, with the last k for which k z_k > (sum of the k largest) - 1.
    z = np.flip(np.sort(x, axis=axis), axis=axis)
    size = x.shape[axis]
    k = np.arange(1, size + 1, dtype=x.dtype).reshape(
        [-1 if n == axis % x.ndim else 1 for n in range(x.ndim)]
    )
    excess = np.cumsum(z, axis=axis) - 1
    count = np.sum(k * z > excess, axis=axis, keepdims=True)
    return np.maximum(x - np.take_along_axis(excess, count - 1, axis=axis) / count, 0).astype(
        x.dtype
    )


# --- the dense layer ----------------------------------------------------------------------------


def dense(x: Array, w: Array, b: Array, *, activation: str) -> Array:
    """y = activation(x w + b): x (..., I), w (I, O), b (O,) -> y (..., O)."""
    y = x.reshape(-1, x.shape[-1]) @ w
    y += b
    if activation == "relu":
        np.maximum(y, 0, out=y)
    return y.reshape(*x.shape[:-1], w.shape[1])


def dense_grad(
    g: Array, y: Array, x: Array, w: Array, b: Array, *, needs: Needs, activation: str
) -> Gradients:
    """(dx, dw, db) of `dense`, each None unless `needs` asks for it."""
    rows = g.reshape(-1, g.shape[-1])
    if activation == "relu":
        rows = rows * (y.reshape(rows.shape) > 0)
    return (
        (rows @ w.T).reshape(x.shape) if needs[0] else None,
        x.reshape(-1, x.shape[-1]).T @ rows if needs[1] else None,
        rows.sum(axis=0) if needs[2] else None,
    )


# --- cross-entropies ----------------------------------------------------------------------------

EPSILON = 1e-7  # Keras': probabilities are kept between EPSILON and 1 - EPSILON


def one_hot(x: Array, *, num_classes: int, axis: int, dtype: np.dtype) -> Array:
    codes = np.expand_dims(x, -1) == np.arange(num_classes)
    return np.moveaxis(codes.astype(dtype), -1, axis)


def _log_probabilities(x: Array, from_logits: bool) -> tuple[Array, Array, Array]:
    """Along the last axis: log p, p, and where p was not clipped."""
    if from_logits:
        log_p = log_softmax(x, axis=-1)
        return log_p, np.exp(log_p), np.ones(x.shape, bool)
    p = x / x.sum(axis=-1, keepdims=True)
    inside = (p >= p.dtype.type(EPSILON)) & (p <= p.dtype.type(1 - EPSILON))
    return np.log(np.clip(p, EPSILON, 1 - EPSILON)), p, inside


def categorical_crossentropy(
    target: Array, output: Array, *, from_logits: bool, axis: int
) -> tuple[Array, Array]:
    """The loss -sum(t log p) along `axis`, and its derivative for the output."""
    t, x = np.moveaxis(target, axis, -1), np.moveaxis(output, axis, -1)
    log_p, p, inside = _log_probabilities(x, from_logits)
    total = (t * inside).sum(axis=-1, keepdims=True)
    if from_logits:
        slope = total * p - t
    else:
        slope = (total - t * inside / np.where(inside, p, 1)) / x.sum(axis=-1, keepdims=True)
    return -(t * log_p).sum(axis=-1), np.moveaxis(slope, -1, axis)


def categorical_crossentropy_grad(
    g: Array, y: Array, target: Array, output: Array, *,
    needs: Needs, saved: Array, from_logits: bool, axis: int,
) -> Gradients:  # fmt: skip
    along = np.expand_dims(g, axis)
    dt = None
    if needs[0]:
        log_p = _log_probabilities(np.moveaxis(output, axis, -1), from_logits)[0]
        dt = -along * np.moveaxis(log_p, -1, axis)
    return dt, along * saved if needs[1] else None


def sparse_categorical_crossentropy(
    target: Array, output: Array, *, from_logits: bool, axis: int
) -> tuple[Array, Array]:
    """The loss -log p[target] along `axis`, and its derivative for the output."""
    check_labels(target, output.shape[axis])
    codes = one_hot(target, num_classes=output.shape[axis], axis=axis, dtype=output.dtype)
    return categorical_crossentropy(codes, output, from_logits=from_logits, axis=axis)


def sparse_categorical_crossentropy_grad(
    g: Array, y: Array, target: Array, output: Array, *,
    needs: Needs, saved: Array, from_logits: bool, axis: int,
) -> Gradients:  # fmt: skip
    return None, np.expand_dims(g, axis) * saved


def check_labels(labels: Array, classes: int) -> None:
    wrong = labels[(labels < 0) | (labels >= classes)]
    if wrong.size:
        raise ValueError(
            f"label {wrong.flat[0]} is not one of the {classes} classes, 0 to {classes - 1}; "
            "number the classes from 0, or give the output more units"
        )


def binary_crossentropy(target: Array, output: Array, *, from_logits: bool) -> Array:
    """-t log p - (1 - t) log(1 - p) for every element."""
    if from_logits:  # p = sigmoid(output), written so that nothing overflows or is lost
        return (1 - target) * output + softplus(-output)
    p = np.clip(output, EPSILON, 1 - EPSILON)
    return -(target * np.log(p) + (1 - target) * np.log(1 - p))


def binary_crossentropy_grad(
    g: Array, y: Array, target: Array, output: Array, *, needs: Needs, from_logits: bool
) -> Gradients:
    if from_logits:
        return -g * output, g * (sigmoid(output) - target)
    p = np.clip(output, EPSILON, 1 - EPSILON)
    return (
        g * (np.log(1 - p) - np.log(p)) if needs[0] else None,
        np.where(p == output, g * (p - target) / (p * (1 - p)), 0),
    )


def mean_squared_error(target: Array, output: Array) -> tuple[Array, Array]:
    """The mean of the squares along the last axis, and the errors."""
    errors = output - target
    return mean(errors * errors, (errors.ndim - 1,), keepdims=False), errors


def mean_squared_error_grad(
    g: Array, y: Array, target: Array, output: Array, *, needs: Needs, saved: Array
) -> Gradients:
    slope = saved * (g * (2 / saved.shape[-1]))[..., None]
    return -slope if needs[0] else None, slope if needs[1] else None


# --- max pooling under the names of its ops (see `ops/pool.py`) -----------------------------------


def max_pool_places(x: Array, **how) -> Array:
    """Which element of each window is the maximum."""
    return max_pool(x, **how)[1]


def max_pool_grad(g: Array, y: Array, x: Array, *, needs: Needs, saved: Array, **how) -> Gradients:
    return (max_pool_scatter(g, saved, input_shape=x.shape, **how),)
