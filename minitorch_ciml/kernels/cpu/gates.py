"""Smooth activations and their gradients: one pass each, on all threads.

float32 vectorises with `exponential`, and as long as no whole number stands beside it: to numba the
sum of a float32 and 1 is a float64. In float64 the C library's functions are called one by one:
it is there for checks.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

from minitorch_ciml.kernels.cpu.buffers import empty
from minitorch_ciml.kernels.cpu.exponential import exp, expm1, tanh
from minitorch_ciml.kernels.cpu.exponential import sigmoid as sigmoid_of
from minitorch_ciml.kernels.cpu.exponential import softplus as softplus_of
from minitorch_ciml.kernels.cpu.jit import entry, ready
from minitorch_ciml.kernels.cpu.threads import ALL, PIECE, piece, task

Array = np.ndarray
Needs = tuple[bool, ...]
Gradients = tuple[Array | None, ...]

_F = np.float32
_ROOT_2 = _F(math.sqrt(2))
_ROOT_2_OVER_PI, _CUBIC = math.sqrt(2 / math.pi), 0.044715  # of GELU's approximation
# ln(erfc(z) / t) + z^2 over t = 1 / (1 + z / 2), z >= 0: the polynomial of degree 9 through
# Chebyshev's points; with it erfc is right to 4e-7.
_ERFC = tuple(map(_F, (
    -1.2654914, 0.99954653, 0.3785354, 0.07441247, -0.11851032, 0.14958704, -0.97876084, 1.3719553,
    -0.7733698, 0.16209561,
)))  # fmt: skip

# erf(x) / x on |x| <= 1, in x^2: the polynomial of degree 5 through Chebyshev's points.
_ERF = tuple(map(_F, (
    1.1283791, -0.37612343, 0.11280317, -0.026715055, 0.0049217618, -0.00056480599,
)))  # fmt: skip


def _normal(x: Any) -> Any:
    """The normal distribution's function, (1 + erf(x / sqrt 2)) / 2; for kernels only."""


@overload(_normal, inline="always")
def _normal_overload(x):
    if x != types.float32:
        return lambda x: 0.5 * math.erfc(-x * math.sqrt(0.5))

    def compiled(x):
        z = abs(x) * _F(math.sqrt(0.5))
        t = _F(1) / (_F(1) + _F(0.5) * z)
        power = _ERFC[9]
        power = power * t + _ERFC[8]
        power = power * t + _ERFC[7]
        power = power * t + _ERFC[6]
        power = power * t + _ERFC[5]
        power = power * t + _ERFC[4]
        power = power * t + _ERFC[3]
        power = power * t + _ERFC[2]
        power = power * t + _ERFC[1]
        power = power * t + _ERFC[0]
        tail = _F(0.5) * t * exp(power - z * z)
        return tail if x < 0 else _F(1) - tail

    return compiled


def _erf_of(x: Any) -> Any:
    """erf(x); for kernels only."""


@overload(_erf_of, inline="always")
def _erf_overload(x):
    if x != types.float32:
        return lambda x: math.erf(x)

    def compiled(x):
        q = x * x
        near = _ERF[4] + q * _ERF[5]
        near = x * (_ERF[0] + q * (_ERF[1] + q * (_ERF[2] + q * (_ERF[3] + q * near))))
        far = _F(2) * _normal(_ROOT_2 * x) - _F(1)
        return near if abs(x) < _F(1) else far

    return compiled


@task
def _erf_piece(i, x, y):
    x, y = piece(x, i), piece(y, i)
    for k in range(y.size):
        y[k] = _erf_of(x[k])


@entry
def _erf(pieces, x, y):
    _erf_piece(pieces, ALL, (x, y))


@task
def _sigmoid_piece(i, x, y):
    x, y = piece(x, i), piece(y, i)
    for k in range(y.size):
        y[k] = sigmoid_of(x[k])


@entry
def _sigmoid(pieces, x, y):
    _sigmoid_piece(pieces, ALL, (x, y))


@task
def _sigmoid_grad_piece(i, g, y, dx):
    g, y, dx = piece(g, i), piece(y, i), piece(dx, i)
    one = y.dtype.type(1)
    for k in range(dx.size):
        dx[k] = g[k] * y[k] * (one - y[k])


@entry
def _sigmoid_grad(pieces, g, y, dx):
    _sigmoid_grad_piece(pieces, ALL, (g, y, dx))


@task
def _silu_piece(i, x, y):
    x, y = piece(x, i), piece(y, i)
    for k in range(y.size):
        y[k] = x[k] * sigmoid_of(x[k])


@entry
def _silu(pieces, x, y):
    _silu_piece(pieces, ALL, (x, y))


@task
def _silu_grad_piece(i, g, x, dx):
    g, x, dx = piece(g, i), piece(x, i), piece(dx, i)
    one = x.dtype.type(1)
    for k in range(dx.size):
        s = sigmoid_of(x[k])
        dx[k] = g[k] * s * (one + x[k] * (one - s))


@entry
def _silu_grad(pieces, g, x, dx):
    _silu_grad_piece(pieces, ALL, (g, x, dx))


@task
def _softplus_piece(i, x, y):
    x, y = piece(x, i), piece(y, i)
    for k in range(y.size):
        y[k] = softplus_of(x[k])


@entry
def _softplus(pieces, x, y):
    _softplus_piece(pieces, ALL, (x, y))


@task
def _softplus_grad_piece(i, g, x, dx):
    g, x, dx = piece(g, i), piece(x, i), piece(dx, i)
    for k in range(dx.size):
        dx[k] = g[k] * sigmoid_of(x[k])


@entry
def _softplus_grad(pieces, g, x, dx):
    _softplus_grad_piece(pieces, ALL, (g, x, dx))


# tanh(ln(1 + e)) = n / (n + 2) with n = e (e + 2), e = e^x; where x is large, it is 1.


@task
def _mish_piece(i, x, y):
    x, y = piece(x, i), piece(y, i)
    two, large = x.dtype.type(2), x.dtype.type(20)
    for k in range(y.size):
        e = exp(large if x[k] > large else x[k])
        n = e * (e + two)
        y[k] = x[k] * (n / (n + two))


@entry
def _mish(pieces, x, y):
    _mish_piece(pieces, ALL, (x, y))


@task
def _mish_grad_piece(i, g, x, dx):
    g, x, dx = piece(g, i), piece(x, i), piece(dx, i)
    one, two = x.dtype.type(1), x.dtype.type(2)
    four, large = x.dtype.type(4), x.dtype.type(20)
    for k in range(dx.size):
        e = exp(large if x[k] > large else x[k])
        n = e * (e + two)
        share = one / (n + two)
        dx[k] = g[k] * share * (n + x[k] * four * e * (e + one) * share)


@entry
def _mish_grad(pieces, g, x, dx):
    _mish_grad_piece(pieces, ALL, (g, x, dx))


@task
def _hard_sigmoid_piece(i, x, y):
    x, y = piece(x, i), piece(y, i)
    zero, three, six = x.dtype.type(0), x.dtype.type(3), x.dtype.type(6)
    for k in range(y.size):
        gate = x[k] + three
        gate = zero if gate <= zero else gate
        y[k] = (six if gate > six else gate) / six


@entry
def _hard_sigmoid(pieces, x, y):
    _hard_sigmoid_piece(pieces, ALL, (x, y))


@task
def _hard_sigmoid_grad_piece(i, g, x, dx):
    g, x, dx = piece(g, i), piece(x, i), piece(dx, i)
    zero, three, six = x.dtype.type(0), x.dtype.type(3), x.dtype.type(6)
    for k in range(dx.size):
        dx[k] = g[k] / six if (x[k] > -three) & (x[k] < three) else zero


@entry
def _hard_sigmoid_grad(pieces, g, x, dx):
    _hard_sigmoid_grad_piece(pieces, ALL, (g, x, dx))


@task
def _hard_silu_piece(i, x, y):
    x, y = piece(x, i), piece(y, i)
    zero, three, six = x.dtype.type(0), x.dtype.type(3), x.dtype.type(6)
    for k in range(y.size):
        gate = x[k] + three
        gate = zero if gate <= zero else gate
        y[k] = x[k] * (six if gate > six else gate) / six


@entry
def _hard_silu(pieces, x, y):
    _hard_silu_piece(pieces, ALL, (x, y))


@task
def _hard_silu_grad_piece(i, g, x, dx):
    g, x, dx = piece(g, i), piece(x, i), piece(dx, i)
    zero, one, three, six = x.dtype.type(0), x.dtype.type(1), x.dtype.type(3), x.dtype.type(6)
    for k in range(dx.size):
        slope = (x[k] + x[k] + three) / six
        slope = zero if x[k] <= -three else slope
        dx[k] = g[k] * (one if x[k] >= three else slope)


@entry
def _hard_silu_grad(pieces, g, x, dx):
    _hard_silu_grad_piece(pieces, ALL, (g, x, dx))


@task
def _gelu_piece(i, x, y):
    x, y = piece(x, i), piece(y, i)
    for k in range(y.size):
        y[k] = x[k] * _normal(x[k])


@entry
def _gelu(pieces, x, y):
    _gelu_piece(pieces, ALL, (x, y))


@task
def _gelu_grad_piece(i, density, g, x, dx):
    g, x, dx = piece(g, i), piece(x, i), piece(dx, i)
    minus_half = x.dtype.type(-0.5)
    for k in range(dx.size):
        slope = density * exp(minus_half * x[k] * x[k])
        dx[k] = g[k] * (_normal(x[k]) + x[k] * slope)


@entry
def _gelu_grad(pieces, density, g, x, dx):
    """density: the normal distribution's at 0."""
    _gelu_grad_piece(pieces, ALL, (density, g, x, dx))


@task
def _quick_gelu_piece(i, root, cubic, x, y):
    x, y = piece(x, i), piece(y, i)
    one, half = x.dtype.type(1), x.dtype.type(0.5)
    for k in range(y.size):
        y[k] = half * x[k] * (one + tanh(root * x[k] * (one + cubic * x[k] * x[k])))


@entry
def _quick_gelu(pieces, root, cubic, x, y):
    _quick_gelu_piece(pieces, ALL, (root, cubic, x, y))


@task
def _quick_gelu_grad_piece(i, root, cubic, g, x, dx):
    g, x, dx = piece(g, i), piece(x, i), piece(dx, i)
    one, three, half = x.dtype.type(1), x.dtype.type(3), x.dtype.type(0.5)
    for k in range(dx.size):
        square = cubic * x[k] * x[k]
        t = tanh(root * x[k] * (one + square))
        slope = root * (one + three * square) * (one - t * t)
        dx[k] = half * g[k] * (one + t + x[k] * slope)


@entry
def _quick_gelu_grad(pieces, root, cubic, g, x, dx):
    _quick_gelu_grad_piece(pieces, ALL, (root, cubic, g, x, dx))


@task
def _leaky_grad_piece(i, slope, g, x, dx):
    g, x, dx = piece(g, i), piece(x, i), piece(dx, i)
    for k in range(dx.size):
        less = slope * g[k]
        dx[k] = g[k] if x[k] > 0 else less


@entry
def _leaky_grad(pieces, slope, g, x, dx):
    _leaky_grad_piece(pieces, ALL, (slope, g, x, dx))


@task
def _elu_piece(i, alpha, x, y):
    x, y = piece(x, i), piece(y, i)
    for k in range(y.size):
        less = alpha * expm1(x[k])
        y[k] = x[k] if x[k] > 0 else less


@entry
def _elu(pieces, alpha, x, y):
    _elu_piece(pieces, ALL, (alpha, x, y))


@task
def _elu_grad_piece(i, alpha, g, y, x, dx):
    g, y, x, dx = piece(g, i), piece(y, i), piece(x, i), piece(dx, i)
    for k in range(dx.size):
        less = g[k] * (y[k] + alpha)
        dx[k] = g[k] if x[k] > 0 else less


@entry
def _elu_grad(pieces, alpha, g, y, x, dx):
    _elu_grad_piece(pieces, ALL, (alpha, g, y, x, dx))


# --- the kernels --------------------------------------------------------------------------------


def _of(loop: Callable, *arrays: Array, numbers: tuple[float, ...] = ()) -> Array:
    """The result of a loop over all elements of arrays of one shape and dtype."""
    x = arrays[-1]
    y = empty(x.shape, x.dtype)
    flat = [ready(a, x.dtype) for a in arrays]
    loop(-(-x.size // PIECE), *map(x.dtype.type, numbers), *flat, y.reshape(-1))
    return y


def sigmoid(x: Array) -> Array:
    return _of(_sigmoid, x)


def sigmoid_grad(g: Array, y: Array, x: Array, *, needs: Needs) -> Gradients:
    return (_of(_sigmoid_grad, g, y),)


def silu(x: Array) -> Array:
    return _of(_silu, x)


def silu_grad(g: Array, y: Array, x: Array, *, needs: Needs) -> Gradients:
    return (_of(_silu_grad, g, x),)


def softplus(x: Array) -> Array:
    return _of(_softplus, x)


def softplus_grad(g: Array, y: Array, x: Array, *, needs: Needs) -> Gradients:
    return (_of(_softplus_grad, g, x),)


def mish(x: Array) -> Array:
    return _of(_mish, x)


def mish_grad(g: Array, y: Array, x: Array, *, needs: Needs) -> Gradients:
    return (_of(_mish_grad, g, x),)


def erf(x: Array) -> Array:
    return _of(_erf, x)


def hard_sigmoid(x: Array) -> Array:
    return _of(_hard_sigmoid, x)


def hard_sigmoid_grad(g: Array, y: Array, x: Array, *, needs: Needs) -> Gradients:
    return (_of(_hard_sigmoid_grad, g, x),)


def hard_silu(x: Array) -> Array:
    return _of(_hard_silu, x)


def hard_silu_grad(g: Array, y: Array, x: Array, *, needs: Needs) -> Gradients:
    return (_of(_hard_silu_grad, g, x),)


def gelu(x: Array, *, approximate: bool) -> Array:
    if approximate:
        return _of(_quick_gelu, x, numbers=(_ROOT_2_OVER_PI, _CUBIC))
    return _of(_gelu, x)


def gelu_grad(g: Array, y: Array, x: Array, *, needs: Needs, approximate: bool) -> Gradients:
    if approximate:
        return (_of(_quick_gelu_grad, g, x, numbers=(_ROOT_2_OVER_PI, _CUBIC)),)
    return (_of(_gelu_grad, g, x, numbers=(1 / math.sqrt(2 * math.pi),)),)


def leaky_relu_grad(
    g: Array, y: Array, x: Array, *, needs: Needs, negative_slope: float
) -> Gradients:
    return (_of(_leaky_grad, g, x, numbers=(negative_slope,)),)


def elu(x: Array, *, alpha: float) -> Array:
    return _of(_elu, x, numbers=(alpha,))


def elu_grad(g: Array, y: Array, x: Array, *, needs: Needs, alpha: float) -> Gradients:
    return (_of(_elu_grad, g, y, x, numbers=(alpha,)),)
