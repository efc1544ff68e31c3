"""The few elementwise functions in which NumPy is far from what the processor can do.

`np.where` takes a branch for every element: with a random mask, as behind a ReLU, 65,000 elements
took 240 us, and 5 us here, where LLVM selects in vector registers. What NumPy does well only gets
its result from memory that has been used before: without, most of the time goes into page faults.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from minitorch_ciml.kernels.cpu.broadcasting import divide, multiply
from minitorch_ciml.kernels.cpu.buffers import SMALLEST, empty
from minitorch_ciml.kernels.cpu.each import elementwise, elementwise_gradient
from minitorch_ciml.kernels.cpu.jit import entry, ready
from minitorch_ciml.kernels.cpu.threads import PIECE, parallel, piece
from minitorch_ciml.kernels.reference import elementwise as reference
from minitorch_ciml.kernels.reference import nn as reference_nn

Array = np.ndarray

_ZERO, _ONE = np.float32(0), np.float32(1)
SMALL = 512  # with fewer elements NumPy is faster than the preparations here


@parallel
def _select(i, condition, a, b, y):
    """y = a or b, each an array of the condition's size or of one element."""
    condition, y = piece(condition, i), piece(y, i)
    # Three loops, because none is vectorised that decides about its addresses at every element.
    if a.size == 1:
        one, b = a[0], piece(b, i)
        for k in range(y.size):
            y[k] = one if condition[k] else b[k]
    elif b.size == 1:
        one, a = b[0], piece(a, i)
        for k in range(y.size):
            y[k] = a[k] if condition[k] else one
    else:
        a, b = piece(a, i), piece(b, i)
        for k in range(y.size):
            y[k] = a[k] if condition[k] else b[k]


@parallel
def _add_into(i, a, relu, y):
    a, y = piece(a, i), piece(y, i)
    for k in range(y.size):
        total = a[k] + y[k]
        y[k] = 0 if relu and total <= 0 else total


@parallel
def _clip(i, x, low, high, y):
    x, y = piece(x, i), piece(y, i)
    for k in range(y.size):
        value = low if x[k] < low else x[k]
        y[k] = high if value > high else value


@elementwise
def _sqrt(x):
    return math.sqrt(x)


@elementwise
def _rsqrt(x):
    return _ONE / math.sqrt(x)


@elementwise
def _absolute(x):
    return abs(x)


@elementwise
def _relu(x):
    return _ZERO if x <= 0 else x  # NaN stays


@elementwise_gradient
def _relu_grad(g, y):
    return g if y > 0 else _ZERO


@elementwise
def _clipped_relu(x, max_value):
    positive = _ZERO if x <= 0 else x
    return max_value if positive > max_value else positive


@elementwise_gradient
def _clipped_relu_grad(g, y, max_value):
    return g if (y > 0) & (y < max_value) else _ZERO


@elementwise
def _leaky_relu(x, negative_slope):
    less = x * negative_slope
    return less if x <= 0 else x


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
        y = empty(shape, a.dtype)
        _select(_pieces(y), *_flat(condition, a, b, y))
        return y
    return np.where(condition, a, b)


def _flat(*arrays: Array) -> list[Array]:
    return [ready(x, x.dtype) for x in arrays]


def _pieces(x: Array) -> int:
    return -(-x.size // PIECE)


def relu(x: Array) -> Array:
    return _relu(x) if _is_simple(x) else reference.relu(x)


def relu_grad(g: Array, y: Array, x: Array, *, needs: tuple) -> tuple:
    if not (_is_simple(y) and g.dtype == y.dtype and g.shape == y.shape):
        return (where(y > 0, g, np.zeros((), g.dtype)),)
    return _relu_grad(g, y, x, needs=needs)


def clipped_relu(x: Array, *, max_value: float) -> Array:
    compute = _clipped_relu if _is_simple(x) else reference_nn.clipped_relu
    return compute(x, max_value=max_value)


def clipped_relu_grad(g: Array, y: Array, x: Array, *, needs: tuple, max_value: float) -> tuple:
    simple = _is_simple(y) and g.dtype == y.dtype and g.shape == y.shape
    compute = _clipped_relu_grad if simple else reference_nn.clipped_relu_grad
    return compute(g, y, x, needs=needs, max_value=max_value)


def add_into(y: Array, a: Array, relu: bool) -> None:
    """`y += a`, or `y = max(y + a, 0)`, for a contiguous y."""
    _add_into(_pieces(y), ready(a, y.dtype), relu, y.reshape(-1))


def _into_used_memory(ufunc: np.ufunc) -> Callable:
    """The function, with a large result in memory that has been used before."""

    def compute(x: Array) -> Array:
        if x.nbytes >= SMALLEST and x.dtype.kind == "f":
            return ufunc(x, out=empty(x.shape, x.dtype))
        return ufunc(x)

    return compute


exp, tanh = map(_into_used_memory, (np.exp, np.tanh))


def _of_large(compute: Callable, otherwise: Callable) -> Callable:
    """`compute` for large arrays of floats."""
    return lambda x: (compute if x.nbytes >= SMALLEST and _is_simple(x) else otherwise)(x)


sqrt = _of_large(_sqrt, np.sqrt)
rsqrt = _of_large(_rsqrt, reference.rsqrt)
absolute = _of_large(_absolute, np.absolute)


def reciprocal(x: Array) -> Array:
    return divide(np.ones((), x.dtype), x) if x.nbytes >= SMALLEST else np.reciprocal(x)


def power(a: Array, b: Array) -> Array:
    """`a ** b`. NumPy calls the C library for each negative element, which takes 60 ns."""
    if b.ndim or a.nbytes < SMALLEST or a.dtype != b.dtype or a.dtype.char not in "fd":
        return np.power(a, b)
    if b == 2:
        return multiply(a, a)
    if b == 3:
        return multiply(multiply(a, a), a)
    if b == 4:
        return power(multiply(a, a), np.asarray(2, a.dtype))
    return reciprocal(a) if b == -1 else np.power(a, b, out=empty(a.shape, a.dtype))


def exp_grad(g: Array, y: Array, x: Array, *, needs: tuple) -> tuple:
    return (multiply(g, y),)


def clip(x: Array, low: Array, high: Array) -> Array:
    numbers = low.ndim == high.ndim == 0 and low.dtype == high.dtype == x.dtype
    if not numbers or x.nbytes < SMALLEST or not _is_simple(x) or not low <= high:
        return np.clip(x, low, high)
    y = empty(x.shape, x.dtype)
    _clip(_pieces(x), ready(x, x.dtype), low[()], high[()], y.reshape(-1))
    return y


def leaky_relu(x: Array, *, negative_slope: float) -> Array:
    compute = _leaky_relu if _is_simple(x) else reference_nn.leaky_relu
    return compute(x, negative_slope=negative_slope)


# --- the normal distribution's integral: NumPy has none -------------------------------------------


@entry
def _erfc(x, y):
    for i in range(x.size):
        y[i] = math.erfc(x[i])


def _by_element(function, x: Array) -> Array:
    flat = np.ascontiguousarray(x, "float32" if x.dtype == np.float16 else x.dtype).reshape(-1)
    y = np.empty_like(flat)
    function(flat, y)
    return y.astype(x.dtype, copy=False).reshape(x.shape)


def erfc(x: Array) -> Array:
    return _by_element(_erfc, x)
