"""float32 to 16 bits and back, on all threads.

NumPy converts one number at a time, and to float16 up to twenty times slower where numbers are too
small for it, as gradients are. Here the bits are computed, without a branch, so that LLVM makes
vectors of it.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from minitorch_ciml.kernels.cpu.buffers import empty
from minitorch_ciml.kernels.cpu.jit import inlined
from minitorch_ciml.kernels.cpu.threads import parallel
from minitorch_ciml.kernels.halves import MANY, is_half
from minitorch_ciml.kernels.reference import elementwise as reference

Array = np.ndarray

PIECE = 1 << 14  # elements that a thread takes at a time


@inlined
def _places(i, tasks, n):
    """Part i of n elements; without a sign, as a place that may be negative makes no vectors."""
    return range(np.uint64(i * n // tasks), np.uint64((i + 1) * n // tasks))


@parallel
def _to_bfloat16(i, tasks, x, bits, y):
    """The upper half of the bits, rounded to the nearest, halves to even."""
    for j in _places(i, tasks, y.size):
        b = bits[j]
        near = (b + np.uint32(0x7FFF) + ((b >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
        nan = ((b >> np.uint32(16)) & np.uint32(0x8000)) | np.uint32(0x7FC0)
        y[j] = np.uint16(near if x[j] == x[j] else nan)


@parallel
def _to_float16(i, tasks, x, bits, y):
    """Rounded to the nearest, halves to even.

    From 2^-14 on, 3 bits of the exponent and 13 of the fraction are dropped. Smaller numbers are
    multiples of 2^-24, and their bits say how many.
    """
    for j in _places(i, tasks, y.size):
        b = bits[j] & np.uint32(0x7FFFFFFF)
        odd = (b >> np.uint32(13)) & np.uint32(1)
        near = (b - np.uint32(112 << 23) + np.uint32(0xFFF) + odd) >> np.uint32(13)
        small = abs(x[j]) < np.float32(2.0**-14)
        multiple = np.rint((abs(x[j]) if small else np.float32(0)) * np.float32(2.0**24))
        near = np.uint32(np.int32(multiple)) if small else near
        near = np.uint32(0x7C00) if b >= np.uint32(0x47800000) else near  # 65536 and more
        near = near if x[j] == x[j] else np.uint32(0x7E00)
        y[j] = np.uint16(near | ((bits[j] >> np.uint32(16)) & np.uint32(0x8000)))


@parallel
def _from_bfloat16(i, tasks, x, y):
    for j in _places(i, tasks, y.size):
        y[j] = np.uint32(x[j]) << np.uint32(16)


@parallel
def _from_float16(i, tasks, x, table, y):
    for j in _places(i, tasks, y.size):
        y[j] = table[x[j]]


@cache
def _all_of_float16() -> Array:
    return np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)


def cast(x: Array, dtype: np.dtype) -> Array:
    if x.size < MANY or not x.flags.c_contiguous:
        return reference.cast(x, dtype)
    tasks, flat = -(-x.size // PIECE), x.reshape(-1)
    if x.dtype == np.float32 and is_half(dtype):
        y = empty(x.shape, dtype)
        convert = _to_float16 if dtype.kind == "f" else _to_bfloat16
        convert(tasks, flat, flat.view(np.uint32), y.reshape(-1).view(np.uint16))
        return y
    if dtype == np.float32 and x.dtype.name == "bfloat16":
        y = empty(x.shape, dtype)
        _from_bfloat16(tasks, flat.view(np.uint16), y.reshape(-1).view(np.uint32))
        return y
    if dtype == np.float32 and x.dtype == np.float16:
        y = empty(x.shape, dtype)
        _from_float16(tasks, flat.view(np.uint16), _all_of_float16(), y.reshape(-1))
        return y
    return reference.cast(x, dtype)
