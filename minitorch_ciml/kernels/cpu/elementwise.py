"""The few elementwise functions in which NumPy is far from what the processor can do.

`np.where` takes a branch for every element: with a random mask, as behind a ReLU, 65,000 elements
took 240 us, and 5 us here, where LLVM selects in vector registers.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from minitorch_ciml.kernels.cpu.buffers import empty
from minitorch_ciml.kernels.reference import elementwise as reference
from minitorch_ciml.kernels.reference import nn as reference_nn

Array = np.ndarray

compiled = njit(nogil=True, error_model="numpy", cache=True)

SMALL = 512  # with fewer elements NumPy is faster than the preparations here


@compiled
def _select(condition, a, b, y):
    """y = a or b, each an array of the condition's size or of one element."""
    # Three loops, because none is vectorised that decides about its addresses at every element.
    if a.size == 1:
        one = a[0]
        for i in range(y.size):
            y[i] = one if condition[i] else b[i]
    elif b.size == 1:
        one = b[0]
        for i in range(y.size):
            y[i] = a[i] if condition[i] else one
    else:
        for i in range(y.size):
            y[i] = a[i] if condition[i] else b[i]


@compiled
def _sigmoid(x, small):
    """With small = e^-|x|, in its place."""
    for i in range(x.size):
        small[i] = (1 if x[i] >= 0 else small[i]) / (1 + small[i])


@compiled
def _relu(x, y):
    for i in range(x.size):
        y[i] = 0 if x[i] <= 0 else x[i]  # NaN stays


@compiled
def _leaky(x, slope, y):
    for i in range(x.size):
        y[i] = x[i] * slope if x[i] <= 0 else x[i]


@compiled
def _elu(x, rest, alpha):
    """With rest = e^min(x, 0) - 1, in its place."""
    for i in range(x.size):
        rest[i] = alpha * rest[i] if x[i] <= 0 else x[i]


def _is_simple(x: Array) -> bool:
    return x.size > SMALL and x.dtype.char in "fd" and x.flags.c_contiguous


def where(condition: Array, a: Array, b: Array) -> Array:
    shape = condition.shape
    if (
        condition.size > SMALL
        and condition.dtype.char == "?"
        and a.dtype == b.dtype
        and a.dtype.char in "fd"
        and (a.shape == shape or a.ndim == 0)
        and (b.shape == shape or b.ndim == 0)
        and a.ndim + b.ndim > 0
    ):
        flat = [np.ascontiguousarray(x).reshape(-1) for x in (condition, a, b)]
        y = empty(shape, a.dtype)
        _select(*flat, y.reshape(-1))
        return y
    return np.where(condition, a, b)


def sigmoid(x: Array) -> Array:
    if not _is_simple(x):
        return reference.sigmoid(x)
    small = np.absolute(x)
    np.negative(small, out=small)
    np.exp(small, out=small)
    _sigmoid(x.reshape(-1), small.reshape(-1))
    return small


def relu(x: Array) -> Array:
    if not _is_simple(x):
        return reference.relu(x)
    y = empty(x.shape, x.dtype)
    _relu(x.reshape(-1), y.reshape(-1))
    return y


def relu_grad(g: Array, y: Array, x: Array, *, needs: tuple) -> tuple:
    return (where(y > 0, g, np.zeros((), g.dtype)),)


def leaky_relu(x: Array, *, negative_slope: float) -> Array:
    if not _is_simple(x):
        return reference_nn.leaky_relu(x, negative_slope=negative_slope)
    y = empty(x.shape, x.dtype)
    _leaky(x.reshape(-1), x.dtype.type(negative_slope), y.reshape(-1))
    return y


def elu(x: Array, *, alpha: float) -> Array:
    if not _is_simple(x):
        return reference_nn.elu(x, alpha=alpha)
    rest = np.minimum(x, 0)
    np.expm1(rest, out=rest)
    _elu(x.reshape(-1), rest.reshape(-1), x.dtype.type(alpha))
    return rest


# --- the normal distribution's integral: NumPy has none -------------------------------------------


@compiled
def _erf(x, y):
    for i in range(x.size):
        y[i] = math.erf(x[i])


@compiled
def _erfc(x, y):
    for i in range(x.size):
        y[i] = math.erfc(x[i])


def _by_element(function, x: Array) -> Array:
    flat = np.ascontiguousarray(x, "float32" if x.dtype == np.float16 else x.dtype).reshape(-1)
    y = np.empty_like(flat)
    function(flat, y)
    return y.astype(x.dtype, copy=False).reshape(x.shape)


def erf(x: Array) -> Array:
    return _by_element(_erf, x)


def erfc(x: Array) -> Array:
    return _by_element(_erfc, x)
