"""Activations, losses and layers' products, in NumPy: what each kernel means."""

from __future__ import annotations

import numpy as np

from minitorch_ciml.kernels import reference_conv

Array = np.ndarray
Needs = tuple[bool, ...]
Gradients = tuple[Array | None, ...]

# --- activations --------------------------------------------------------------------------------


def leaky_relu(x: Array, *, negative_slope: float) -> Array:
    return np.where(x > 0, x, x * negative_slope).astype(x.dtype, copy=False)


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


# --- max pooling under the names of its ops (see `ops/pool.py`) -----------------------------------

max_pool_scatter = reference_conv.max_pool_grad


def max_pool_places(x: Array, **how) -> Array:
    """Which element of each window is the maximum."""
    return reference_conv.max_pool(x, **how)[1]


def max_pool_grad(g: Array, y: Array, x: Array, *, needs: Needs, saved: Array, **how) -> Gradients:
    return (reference_conv.max_pool_grad(g, saved, input_shape=x.shape, **how),)
