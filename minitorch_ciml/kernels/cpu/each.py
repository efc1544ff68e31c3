"""Kernels that compute each element by itself, from a function of numbers: one pass, all threads.

    @elementwise
    def elu(x, alpha):
        return x if x > 0 else alpha * expm1(x)

    @elementwise_gradient
    def elu_grad(g, y, x, alpha):
        return g if x > 0 else g * (y + alpha)

Elements of arrays are called x (the input), y (the result) and g (its gradient). Any other
parameter is a number: the op's parameter of that name, brought to the dtype of x. Constants must be
float32: to numba the sum of a float32 and 1 is a float64, and so all that follows.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from operator import itemgetter

import numpy as np

from minitorch_ciml.kernels.cpu.buffers import empty
from minitorch_ciml.kernels.cpu.jit import inlined, ready
from minitorch_ciml.kernels.cpu.threads import PIECE, name_of, parallel, piece

Array = np.ndarray

_ARRAYS = ("g", "y", "x")


def _of_one(function: Callable) -> Callable:
    def part(i, x, y, numbers):
        x, y = piece(x, i), piece(y, i)
        for k in range(y.size):
            y[k] = function(x[k], *numbers)

    return part


def _of_two(function: Callable) -> Callable:
    def part(i, a, b, y, numbers):
        a, b, y = piece(a, i), piece(b, i), piece(y, i)
        for k in range(y.size):
            y[k] = function(a[k], b[k], *numbers)

    return part


def _of_three(function: Callable) -> Callable:
    def part(i, a, b, c, y, numbers):
        a, b, c, y = piece(a, i), piece(b, i), piece(c, i), piece(y, i)
        for k in range(y.size):
            y[k] = function(a[k], b[k], c[k], *numbers)

    return part


def elementwise(function: Callable) -> Callable:
    """The kernel `y = kernel(x, **numbers)`, from a function of an element of x and of numbers."""
    run, names = _loop(function), _numbers(function)

    def kernel(x: Array, **numbers: float) -> Array:
        y = empty(x.shape, x.dtype)
        constants = tuple([x.dtype.type(numbers[name]) for name in names]) if names else ()
        run(-(-x.size // PIECE), ready(x, x.dtype), y.reshape(-1), constants)
        return y

    return kernel


def elementwise_gradient(function: Callable) -> Callable:
    """The gradient kernel `(dx,) = kernel(g, y, x, needs=..., **numbers)` of such a one."""
    run, names = _loop(function), _numbers(function)
    read = itemgetter(*map(_ARRAYS.index, _arrays(function)))

    def kernel(g: Array, y: Array, x: Array, *, needs: tuple, **numbers: float) -> tuple[Array]:
        dx = empty(x.shape, x.dtype)
        constants = tuple([x.dtype.type(numbers[name]) for name in names]) if names else ()
        flat = [ready(a, x.dtype) for a in read((g, y, x))]
        run(-(-x.size // PIECE), *flat, dx.reshape(-1), constants)
        return (dx,)

    return kernel


def _arrays(function: Callable) -> list[str]:
    return [name for name in inspect.signature(function).parameters if name in _ARRAYS]


def _numbers(function: Callable) -> list[str]:
    return [name for name in inspect.signature(function).parameters if name not in _ARRAYS]


def _loop(function: Callable) -> Callable:
    """`loop(pieces, *arrays, result, numbers)`, all arrays flat."""
    factory = (_of_one, _of_two, _of_three)[len(_arrays(function)) - 1]
    return parallel(factory(inlined(function)), name_of(function), function)
