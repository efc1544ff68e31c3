"""How kernels read and write elements, and the functions of numbers that `math` does not have.

The 16-bit floats are for memory alone: they are computed with as float32. A bfloat16 comes as the
16-bit integer that holds it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist
from typing import Any

import numpy as np
from llvmlite import ir
from numba import cuda, types
from numba.core import cgutils

from minitorch_ciml.kernels.cuda.intrinsics import load4, store4
from minitorch_ciml.kernels.cuda.ptx import F32, I32, twinned

_I16 = ir.IntType(16)

# --- 16 bits in memory, 32 in registers -----------------------------------------------------------


def _wide(x):
    """An element as the number that is computed with: 16-bit floats as float32."""
    kind = np.asarray(x).dtype
    if kind == np.uint16:
        return (np.uint32(x) << np.uint32(16)).view(np.float32)
    return np.float32(x) if kind == np.float16 else x


def _wide_typing(context: Any, x: Any) -> Any:
    def generate(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        if x == types.uint16:
            word = builder.shl(builder.zext(values[0], I32), I32(16))
            return builder.bitcast(word, F32)
        return context.cast(builder, values[0], x, sig.return_type)

    return (types.float32 if x in (types.uint16, types.float16) else x)(x), generate


def _narrow(array, x):
    """A number as an element of `array`: rounded to the nearest, where that has 16 bits."""
    kind = array.elements.dtype
    if kind == np.uint16:
        if x != x:
            return np.uint16(0x7FC0)
        word = int(np.float32(x).view(np.uint32))
        return np.uint16((word + 0x7FFF + (word >> 16 & 1)) >> 16)
    return np.asarray(x).astype(kind)[()]


def _narrow_typing(context: Any, array: Any, x: Any) -> Any:
    def generate(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        if array.dtype != types.uint16:
            return context.cast(builder, values[1], x, array.dtype)
        number = context.cast(builder, values[1], x, types.float32)
        word = builder.bitcast(number, I32)
        is_odd = builder.and_(builder.lshr(word, I32(16)), I32(1))
        half = builder.add(builder.add(word, I32(0x7FFF)), is_odd)
        rounded = builder.trunc(builder.lshr(half, I32(16)), _I16)
        is_nan = builder.fcmp_unordered("uno", number, number)
        return builder.select(is_nan, _I16(0x7FC0), rounded)

    return array.dtype(array, x), generate


wide = twinned(_wide_typing, _wide)
narrow = twinned(_narrow_typing, _narrow)


@cuda.jit(device=True)
def read(a, i):
    """Element `i` as a number."""
    return wide(a[i])


@cuda.jit(device=True)
def read4(a, i, step):
    """Four elements from number `i`, a multiple of four; or the same one if the step is 0."""
    if step == 0:
        x = wide(a[i])
        return x, x, x, x
    p, q, r, s = load4(a, i)
    return wide(p), wide(q), wide(r), wide(s)


@cuda.jit(device=True)
def write(y, i, x):
    """Writes a number to element `i`."""
    y[i] = narrow(y, x)


@cuda.jit(device=True)
def write4(y, i, p, q, r, s):
    """Writes four elements from number `i`, a multiple of four."""
    store4(y, i, narrow(y, p), narrow(y, q), narrow(y, r), narrow(y, s))


# --- functions of float32 and float64 from NVIDIA's libdevice ------------------------------------


def _from_libdevice(name: str, function: Callable) -> Any:
    """The function of one number that libdevice calls `name`; `function` tells what it is."""

    def typing(context: Any, *kinds: Any) -> Any:
        kind = kinds[0]
        real, suffix = (F32, "f") if kind == types.float32 else (ir.DoubleType(), "")

        def generate(context: Any, builder: Any, sig: Any, values: Any) -> Any:
            shape = ir.FunctionType(real, [real])
            called = cgutils.get_or_insert_function(builder.module, shape, f"__nv_{name}{suffix}")
            return builder.call(called, values)

        return kind(kind), generate

    return twinned(typing, function)


def _floor(x):
    """The largest whole number <= x, as a float; `math.floor` gives an integer."""
    return np.floor(x)


def _ceil(x):
    """The smallest whole number >= x, as a float."""
    return np.ceil(x)


def _trunc(x):
    """x without its fraction, as a float."""
    return np.trunc(x)


def _rint(x):
    """The nearest whole number, halves to the even one."""
    return np.rint(x)


def _cbrt(x):
    """The cubic root."""
    return np.cbrt(x)


def _exp2(x):
    """2^x."""
    return np.exp2(x)


def _sinpi(x):
    """sin(pi x): without the reduction of large arguments that `math.sin` needs."""
    return np.sin(np.pi * np.float64(x)).astype(np.asarray(x).dtype)


def _erfinv(x):
    """The inverse of erf."""
    kind, x = np.asarray(x).dtype.type, float(x)
    if not abs(x) < 1:
        return kind(math.copysign(math.inf, x) if abs(x) == 1 else math.nan)
    # In the lower half of the distribution (1 - |x|) / 2 loses no digits.
    return kind(math.copysign(NormalDist().inv_cdf((1 - abs(x)) / 2) / math.sqrt(2), x))


nv_floor, nv_ceil = _from_libdevice("floor", _floor), _from_libdevice("ceil", _ceil)
nv_trunc, nv_rint = _from_libdevice("trunc", _trunc), _from_libdevice("rint", _rint)
nv_cbrt, nv_exp2 = _from_libdevice("cbrt", _cbrt), _from_libdevice("exp2", _exp2)
nv_sinpi, nv_erfinv = _from_libdevice("sinpi", _sinpi), _from_libdevice("erfinv", _erfinv)
