"""exp, log and what is made of them, so that they vectorise inside of numba loops.

numba calls the C library for them, one number at a time; a loop with these took 0.2 ns for each
float32. The method is everybody's: e^x = 2^n e^r, where n is
the whole number nearest to x / ln 2, so that |r| <= ln(2) / 2 and a short polynomial gives e^r.
float64 stays with the C library: it is there for checks, not for speed.

They take over the `fastmath` flags of the kernel that calls them, and bear "contract", but not
"reassoc", with which LLVM adds the two parts of ln 2 first: wrong by up to 68 units, measured.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

_F = np.float32
_LARGEST = _F(88.3)  # beyond it 2^n leaves the float32 numbers
_LOG2_E = _F(1.4426950408889634)
# ln 2 in two parts: n times the first is exact.
_LN2_HIGH, _LN2_LOW = _F(0.693359375), _F(-2.12194440054690583e-4)
_HALF, _ONE, _TWO = _F(0.5), _F(1), _F(2)
# (e^r - 1 - r) / r^2 on |r| <= 0.347: the polynomial of degree 4 through Chebyshev's points.
_C0, _C1, _C2, _C3, _C4 = (
    _F(0.5), _F(0.16666573), _F(0.04166655), _F(0.008363774), _F(0.0013926927),
)  # fmt: skip

_L1, _L2, _L3, _L4 = _F(2 / 3), _F(2 / 5), _F(2 / 7), _F(2 / 9)  # 2 artanh(s) / s - 2, in s^2


@intrinsic
def _two_to(typingctx, n):
    """2^n as a float32, for an int32 from -126 to 127: n in the bits of the exponent."""

    def codegen(context, builder, signature, arguments):
        bias, shift = (ir.Constant(ir.IntType(32), number) for number in (127, 23))
        bits = builder.shl(builder.add(arguments[0], bias), shift)
        return builder.bitcast(bits, ir.FloatType())

    return types.float32(types.int32), codegen


@intrinsic
def _halved(typingctx, x):
    """`(n, m)` for a normal float32 x = 2^n m > 0, with m from 2/3 to 4/3."""
    result = types.UniTuple(types.float32, 2)

    def codegen(context, builder, signature, arguments):
        number, real = ir.IntType(32), ir.FloatType()
        bits = builder.bitcast(arguments[0], number)
        lowest = ir.Constant(number, 0x3F2AAAAB)  # 2/3
        n = builder.ashr(builder.sub(bits, lowest), ir.Constant(number, 23))
        m = builder.sub(bits, builder.shl(n, ir.Constant(number, 23)))
        values = builder.sitofp(n, real), builder.bitcast(m, real)
        return context.make_tuple(builder, result, values)

    return result(types.float32), codegen


@intrinsic
def _as_int(typingctx, x):
    """A float32 that is whole, as an int32."""

    def codegen(context, builder, signature, arguments):
        return builder.fptosi(arguments[0], ir.IntType(32))

    return types.int32(types.float32), codegen


def _clamped(x, limit):
    """x between -limit and limit; NaN stays NaN, which `min` and `max` would lose."""


@overload(_clamped, inline="always")
def _clamped_float32(x, limit):
    def compiled(x, limit):
        x = limit if x > limit else x
        return -limit if x < -limit else x

    return compiled


def exp(x: Any) -> Any:
    """e^x, within 1 unit in the last place; 0 below e^-88.3 and infinite above e^88.3."""
    return math.exp(x)


def sigmoid(x: Any) -> Any:
    """1 / (1 + e^-x)."""
    return 1 / (1 + math.exp(-x))


def tanh(x: Any) -> Any:
    """(e^2x - 1) / (e^2x + 1), precise also near 0."""
    return math.tanh(x)


def expm1(x: Any) -> Any:
    """e^x - 1, precise also near 0; infinite above 88.3."""
    return math.expm1(x)


def log(x: Any) -> Any:
    """ln(x), within 1 unit in the last place, for normal x > 0; NaN stays NaN."""
    return math.log(x)


def softplus(x: Any) -> Any:
    """ln(1 + e^x) > 0."""
    return max(x, 0) + math.log1p(math.exp(-abs(x)))


def _split(x):
    """(2^n, e^r - 1), whose product makes e^x; for kernels only."""


@overload(_split, inline="always")
def _split_float32(x):
    def compiled(x):
        n = np.floor(x * _LOG2_E + _HALF)
        r = x - n * _LN2_HIGH - n * _LN2_LOW
        tail = (((_C4 * r + _C3) * r + _C2) * r + _C1) * r + _C0
        return _two_to(_as_int(n)), r + r * r * tail

    return compiled


@overload(exp)
def _exp(x):
    if x != types.float32:
        return lambda x: math.exp(x)

    def compiled(x):
        scale, rest = _split(_clamped(x, _LARGEST))
        y = scale + scale * rest
        y = _F(np.inf) if x > _LARGEST else y
        return _F(0) if x < -_LARGEST else y

    return compiled


@overload(sigmoid)
def _sigmoid(x):
    if x != types.float32:
        return lambda x: 1 / (1 + math.exp(-x))
    return lambda x: _ONE / (_ONE + exp(-x))


@overload(tanh)
def _tanh(x):
    if x != types.float32:
        return lambda x: math.tanh(x)

    def compiled(x):
        # Beyond 10 it is 1 in float32. e^2x - 1 loses nothing where n = 0, that is near 0.
        scale, rest = _split(_TWO * _clamped(x, _F(10)))
        y = scale * rest + (scale - _ONE)
        return y / (y + _TWO)

    return compiled


@overload(expm1)
def _expm1(x):
    if x != types.float32:
        return lambda x: math.expm1(x)

    def compiled(x):
        scale, rest = _split(_clamped(x, _LARGEST))
        y = scale * rest + (scale - _ONE)
        return _F(np.inf) if x > _LARGEST else y

    return compiled


@overload(log)
def _log(x):
    if x != types.float32:
        return lambda x: math.log(x)

    def compiled(x):
        # ln(m) = 2 artanh(s) with s = f / (2 + f), f = m - 1; written so that f is added last.
        n, m = _halved(x)
        f = m - _ONE
        s = f / (_TWO + f)
        square, half = s * s, _HALF * f * f
        tail = square * (_L1 + square * (_L2 + square * (_L3 + square * _L4)))
        y = n * _LN2_HIGH - ((half - (s * (half + tail) + n * _LN2_LOW)) - f)
        return y if x == x else x

    return compiled


@overload(softplus)
def _softplus(x):
    if x != types.float32:
        return lambda x: (x if x > 0 else 0.0) + math.log1p(math.exp(-abs(x)))

    def compiled(x):
        small = exp(-abs(x))
        total = _ONE + small  # what rounding takes away from it is added to its logarithm
        rest = log(total) + (small - (total - _ONE)) / total
        return rest if x < _F(0) else x + rest

    return compiled
