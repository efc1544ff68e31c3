"""Reductions along axes (a tuple of ints), and what runs along one axis."""

from __future__ import annotations

import numpy as np

Axes = tuple[int, ...]

argmax, argmin, cumsum, cumprod = np.argmax, np.argmin, np.cumsum, np.cumprod


def sum(x: np.ndarray, axis: Axes, keepdims: bool) -> np.ndarray:
    return np.add.reduce(x, axis=axis, keepdims=keepdims)


def prod(x: np.ndarray, axis: Axes, keepdims: bool) -> np.ndarray:
    return np.multiply.reduce(x, axis=axis, keepdims=keepdims)


def mean(x: np.ndarray, axis: Axes, keepdims: bool) -> np.ndarray:
    if x.dtype == np.float16:
        return np.mean(x, axis=axis, keepdims=keepdims)  # adds in float32
    # What np.mean does, at a quarter of its cost for small arrays.
    total = np.add.reduce(x, axis=axis, keepdims=keepdims)
    return total / total.dtype.type(x.size // (total.size or 1))


def mean_grad(
    g: np.ndarray, y: np.ndarray, x: np.ndarray, *, needs: tuple, axis: Axes, keepdims: bool
) -> tuple:
    if not keepdims:
        g = g.reshape([1 if i in axis else n for i, n in enumerate(x.shape)])
    dx = np.empty_like(x)
    np.multiply(g, y.size / (x.size or 1), out=dx)
    return (dx,)


def var(x: np.ndarray, axis: Axes, keepdims: bool) -> np.ndarray:
    return np.var(x, axis=axis, keepdims=keepdims)


def max(x: np.ndarray, axis: Axes, keepdims: bool, initial: float | None) -> np.ndarray:
    return np.maximum.reduce(x, axis=axis, keepdims=keepdims, initial=initial)


def min(x: np.ndarray, axis: Axes, keepdims: bool, initial: float | None) -> np.ndarray:
    return np.minimum.reduce(x, axis=axis, keepdims=keepdims, initial=initial)


def all(x: np.ndarray, axis: Axes, keepdims: bool) -> np.ndarray:
    return np.all(x, axis=axis, keepdims=keepdims)


def any(x: np.ndarray, axis: Axes, keepdims: bool) -> np.ndarray:
    return np.any(x, axis=axis, keepdims=keepdims)


def logsumexp(x: np.ndarray, axis: Axes, keepdims: bool) -> np.ndarray:
    largest = np.max(x, axis=axis, keepdims=True, initial=-np.inf)
    # An infinite maximum is not subtracted: inf - inf would be nan.
    largest = np.where(np.isfinite(largest), largest, x.dtype.type(0))
    with np.errstate(divide="ignore"):  # ln(0) is -infinity, as it should be
        y = np.log(np.sum(np.exp(x - largest), axis=axis, keepdims=True)) + largest
    return y if keepdims else np.squeeze(y, axis=axis)


def recurrence(a: np.ndarray, b: np.ndarray, axis: int) -> np.ndarray:
    """y_i = a_i y_(i-1) + b_i along an axis, from y_(-1) = 0."""
    y = np.empty_like(b)
    a, b, rows = (np.moveaxis(z, axis, 0) for z in (a, b, y))
    state = np.zeros(b.shape[1:], b.dtype)
    for i in range(len(b)):
        rows[i] = state = a[i] * state + b[i]
    return y
