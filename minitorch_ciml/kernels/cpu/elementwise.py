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
from minitorch_ciml.kernels.cpu.jit import entry, ready
from minitorch_ciml.kernels.cpu.threads import ALL, PIECE, piece, task
from minitorch_ciml.kernels.reference import elementwise as reference
from minitorch_ciml.kernels.reference import nn as reference_nn

Array = np.ndarray

SMALL = 512  # with fewer elements NumPy is faster than the preparations here


@task
def _select_piece(i, condition, a, b, y):
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


@entry
def _select(pieces, condition, a, b, y):
    _select_piece(pieces, ALL, (condition, a, b, y))


@task
def _sqrt_piece(i, x, y):
    x, y = piece(x, i), piece(y, i)
    for k in range(y.size):
        y[k] = math.sqrt(x[k])


@entry
def _sqrt(pieces, x, y):
    _sqrt_piece(pieces, ALL, (x, y))


@task
def _rsqrt_piece(i, x, y):
    x, y = piece(x, i), piece(y, i)
    one = x.dtype.type(1)
    for k in range(y.size):
        y[k] = one / math.sqrt(x[k])


@entry
def _rsqrt(pieces, x, y):
    _rsqrt_piece(pieces, ALL, (x, y))


@task
def _absolute_piece(i, x, y):
    x, y = piece(x, i), piece(y, i)
    for k in range(y.size):
        y[k] = abs(x[k])


@entry
def _absolute(pieces, x, y):
    _absolute_piece(pieces, ALL, (x, y))


@task
def _relu_piece(i, x, y):
    x, y = piece(x, i), piece(y, i)
    for k in range(y.size):
        y[k] = 0 if x[k] <= 0 else x[k]  # NaN stays


@entry
def _relu(pieces, x, y):
    _relu_piece(pieces, ALL, (x, y))


@task
def _relu_grad_piece(i, g, y, dx):
    g, y, dx = piece(g, i), piece(y, i), piece(dx, i)
    for k in range(dx.size):
        dx[k] = g[k] if y[k] > 0 else 0


@entry
def _relu_grad(pieces, g, y, dx):
    _relu_grad_piece(pieces, ALL, (g, y, dx))


@task
def _clipped_piece(i, x, most, y):
    x, y = piece(x, i), piece(y, i)
    for k in range(y.size):
        positive = 0 if x[k] <= 0 else x[k]
        y[k] = most if positive > most else positive


@entry
def _clipped(pieces, x, most, y):
    _clipped_piece(pieces, ALL, (x, most, y))


@task
def _clipped_grad_piece(i, g, y, most, dx):
    g, y, dx = piece(g, i), piece(y, i), piece(dx, i)
    for k in range(dx.size):
        dx[k] = g[k] if y[k] > 0 and y[k] < most else 0


@entry
def _clipped_grad(pieces, g, y, most, dx):
    _clipped_grad_piece(pieces, ALL, (g, y, most, dx))


@task
def _add_into_piece(i, a, relu, y):
    a, y = piece(a, i), piece(y, i)
    for k in range(y.size):
        total = a[k] + y[k]
        y[k] = 0 if relu and total <= 0 else total


@entry
def _add_into(pieces, a, relu, y):
    _add_into_piece(pieces, ALL, (a, relu, y))


@task
def _leaky_piece(i, x, slope, y):
    x, y = piece(x, i), piece(y, i)
    for k in range(y.size):
        less = x[k] * slope
        y[k] = less if x[k] <= 0 else x[k]


@entry
def _leaky(pieces, x, slope, y):
    _leaky_piece(pieces, ALL, (x, slope, y))


@task
def _clip_piece(i, x, low, high, y):
    x, y = piece(x, i), piece(y, i)
    for k in range(y.size):
        value = low if x[k] < low else x[k]
        y[k] = high if value > high else value


@entry
def _clip(pieces, x, low, high, y):
    _clip_piece(pieces, ALL, (x, low, high, y))


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
    if not _is_simple(x):
        return reference.relu(x)
    y = empty(x.shape, x.dtype)
    _relu(_pieces(x), *_flat(x, y))
    return y


def relu_grad(g: Array, y: Array, x: Array, *, needs: tuple) -> tuple:
    if not (_is_simple(y) and g.dtype == y.dtype and g.shape == y.shape):
        return (where(y > 0, g, np.zeros((), g.dtype)),)
    dx = empty(y.shape, y.dtype)
    _relu_grad(_pieces(y), *_flat(g, y, dx))
    return (dx,)


def clipped_relu(x: Array, *, max_value: float) -> Array:
    if not _is_simple(x):
        return reference_nn.clipped_relu(x, max_value=max_value)
    y = empty(x.shape, x.dtype)
    _clipped(_pieces(x), ready(x, x.dtype), x.dtype.type(max_value), y.reshape(-1))
    return y


def clipped_relu_grad(g: Array, y: Array, x: Array, *, needs: tuple, max_value: float) -> tuple:
    if not (_is_simple(y) and g.dtype == y.dtype and g.shape == y.shape):
        return reference_nn.clipped_relu_grad(g, y, x, needs=needs, max_value=max_value)
    dx = empty(y.shape, y.dtype)
    _clipped_grad(_pieces(y), *_flat(g, y), y.dtype.type(max_value), dx.reshape(-1))
    return (dx,)


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


def _of_large(run: Callable, otherwise: Callable) -> Callable:
    """`run` for large arrays of floats."""

    def compute(x: Array) -> Array:
        if x.nbytes < SMALLEST or not _is_simple(x):
            return otherwise(x)
        y = empty(x.shape, x.dtype)
        run(_pieces(x), *_flat(x, y))
        return y

    return compute


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
    if not _is_simple(x):
        return reference_nn.leaky_relu(x, negative_slope=negative_slope)
    y = empty(x.shape, x.dtype)
    _leaky(_pieces(x), ready(x, x.dtype), x.dtype.type(negative_slope), y.reshape(-1))
    return y


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
