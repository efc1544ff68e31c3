"""Smooth activations and their gradients: one pass each, on all threads.

float32 vectorises with `exponential`. In float64 the C library's functions are called one by one:
it is there for checks.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

from minitorch_ciml.kernels.cpu import exponential
from minitorch_ciml.kernels.cpu.each import elementwise, elementwise_gradient
from minitorch_ciml.kernels.cpu.exponential import exp, expm1, tanh

Array = np.ndarray

_F = np.float32
_ZERO, _HALF, _ONE, _TWO, _THREE, _FOUR, _SIX = map(_F, (0, 0.5, 1, 2, 3, 4, 6))
_ROOT_2 = _F(math.sqrt(2))
_DENSITY = 1 / math.sqrt(2 * math.pi)  # the normal distribution's, at 0
_ROOT_2_OVER_PI, _CUBIC = math.sqrt(2 / math.pi), 0.044715  # of GELU's approximation
# Where x is larger, tanh(ln(1 + e^x)) is 1.
_LARGE = _F(20)
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


@elementwise
def erf(x):
    return _erf_of(x)


@elementwise
def sigmoid(x):
    return exponential.sigmoid(x)


@elementwise_gradient
def sigmoid_grad(g, y):
    return g * y * (_ONE - y)


@elementwise
def silu(x):
    return x * exponential.sigmoid(x)


@elementwise_gradient
def silu_grad(g, x):
    s = exponential.sigmoid(x)
    return g * s * (_ONE + x * (_ONE - s))


@elementwise
def softplus(x):
    return exponential.softplus(x)


@elementwise_gradient
def softplus_grad(g, x):
    return g * exponential.sigmoid(x)


# tanh(ln(1 + e)) = n / (n + 2) with n = e (e + 2), e = e^x.


@elementwise
def mish(x):
    e = exp(_LARGE if x > _LARGE else x)
    n = e * (e + _TWO)
    return x * (n / (n + _TWO))


@elementwise_gradient
def mish_grad(g, x):
    e = exp(_LARGE if x > _LARGE else x)
    n = e * (e + _TWO)
    share = _ONE / (n + _TWO)
    return g * share * (n + x * _FOUR * e * (e + _ONE) * share)


@elementwise
def hard_sigmoid(x):
    gate = _ZERO if x <= -_THREE else x + _THREE
    return (_SIX if gate > _SIX else gate) / _SIX


@elementwise_gradient
def hard_sigmoid_grad(g, x):
    return g / _SIX if (x > -_THREE) & (x < _THREE) else _ZERO


@elementwise
def hard_silu(x):
    gate = _ZERO if x <= -_THREE else x + _THREE
    return x * (_SIX if gate > _SIX else gate) / _SIX


@elementwise_gradient
def hard_silu_grad(g, x):
    slope = _ZERO if x <= -_THREE else (x + x + _THREE) / _SIX
    return g * (_ONE if x >= _THREE else slope)


@elementwise
def _gelu(x):
    return x * _normal(x)


@elementwise_gradient
def _gelu_grad(g, x):
    slope = type(x)(_DENSITY) * exp(-_HALF * x * x)
    return g * (_normal(x) + x * slope)


@elementwise
def _quick_gelu(x):
    root, cubic = type(x)(_ROOT_2_OVER_PI), type(x)(_CUBIC)
    return _HALF * x * (_ONE + tanh(root * x * (_ONE + cubic * x * x)))


@elementwise_gradient
def _quick_gelu_grad(g, x):
    root, square = type(x)(_ROOT_2_OVER_PI), type(x)(_CUBIC) * x * x
    t = tanh(root * x * (_ONE + square))
    slope = root * (_ONE + _THREE * square) * (_ONE - t * t)
    return _HALF * g * (_ONE + t + x * slope)


def gelu(x: Array, *, approximate: bool) -> Array:
    return _quick_gelu(x) if approximate else _gelu(x)


def gelu_grad(g: Array, y: Array, x: Array, *, needs: tuple, approximate: bool) -> tuple[Array]:
    gradient = _quick_gelu_grad if approximate else _gelu_grad
    return gradient(g, y, x, needs=needs)


@elementwise_gradient
def leaky_relu_grad(g, x, negative_slope):
    less = negative_slope * g
    return g if x > 0 else less


@elementwise
def elu(x, alpha):
    less = alpha * expm1(x)
    return x if x > 0 else less


@elementwise_gradient
def elu_grad(g, y, x, alpha):
    less = g * (y + alpha)
    return g if x > 0 else less
