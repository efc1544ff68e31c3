"""What numba does not offer of the GPU for numbers, and for vectors of them in memory.

`ptx.py` says what an intrinsic is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import cuda, types, uint16, uint32

from minitorch_ciml.kernels.cuda.ptx import F32, GLOBAL, I32, ptx, resized, twinned

# --- numbers --------------------------------------------------------------------------------------


def _i32(x: int) -> int:
    """An integer, cut to 32 bits: keeps index arithmetic from becoming 64-bit."""
    x = int(x)
    return x if -(2**31) <= x < 2**31 else (x + 2**31) % 2**32 - 2**31


def _i32_typing(context: Any, x: Any) -> Any:
    def generate(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        return resized(builder, values[0], sig.args[0], 32)

    return types.int32(x), generate


i32 = twinned(_i32_typing, _i32)


def _cast(source: Any, target: Any, function: Callable) -> Any:
    """The same 32 bits as another type."""

    def typing(context: Any, x: Any) -> Any:
        def generate(context: Any, builder: Any, sig: Any, values: Any) -> Any:
            return builder.bitcast(values[0], F32 if target == types.float32 else I32)

        return target(source), generate

    return twinned(typing, function)


def _bits(x: Any) -> int:
    """The 32 bits of a float, as an unsigned integer."""
    return int(np.float32(x).view(np.uint32))


def _from_bits(x: int) -> np.float32:
    """The float that has these 32 bits."""
    return np.uint32(int(x) & 0xFFFFFFFF).view(np.float32)


def _like(x, value):
    """`value` in the type of the number x."""
    return np.asarray(value).astype(np.asarray(x).dtype)[()]


def _like_typing(context: Any, x: Any, value: Any) -> Any:
    def generate(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        return context.cast(builder, values[1], sig.args[1], sig.return_type)

    return x(x, value), generate


like = twinned(_like_typing, _like)
bits = _cast(types.float32, types.uint32, _bits)
from_bits = _cast(types.uint32, types.float32, _from_bits)


@cuda.jit(device=True)
def bf16_to_f32(x):
    """The float32 of a bfloat16, which is its upper half, given as an integer of 16 bits."""
    return from_bits(uint32(x) << uint32(16))


@cuda.jit(device=True)
def f32_to_bf16(x):
    """The nearest bfloat16, as an integer of 16 bits; of two that are as near, the even one."""
    word = bits(x)
    if (word & uint32(0x7FFFFFFF)) > uint32(0x7F800000):  # NaN stays NaN
        return uint16(0x7FC0)
    return uint16((word + uint32(0x7FFF) + ((word >> uint32(16)) & uint32(1))) >> uint32(16))


def _rounded_bf16(x: Any) -> int:
    word = _bits(x)
    if word & 0x7FFFFFFF > 0x7F800000:
        return 0x7FC0
    return (word + 0x7FFF + (word >> 16 & 1)) >> 16 & 0xFFFF


@ptx("cvt.rn.bf16x2.f32 $0, $2, $1;", "r", "ff", pure=True)
def pack_bf16(low, high):
    """Two floats, rounded to bfloat16, in one register. Needs capability 8.0."""
    return _i32(_rounded_bf16(low) | _rounded_bf16(high) << 16)


@ptx("cvt.rn.f16x2.f32 $0, $2, $1;", "r", "ff", pure=True)
def pack_f16(low, high):
    """Two floats, rounded to float16, in one register. Needs capability 8.0."""
    low, high = (int(np.float16(x).view(np.uint16)) for x in (low, high))
    return _i32(low | high << 16)


@ptx("cvt.rna.tf32.f32 $0, $1;", "b", "f", pure=True)
def to_tf32(x):
    """A float with the 10 nearest bits of its mantissa; of two as near, the larger. Needs 8.0."""
    if not np.isfinite(x):
        return x
    return _from_bits((_bits(x) + 0x1000) & 0xFFFFE000)


@ptx("ex2.approx.ftz.f32 $0, $1;", "f", "f", pure=True)
def exp2_fast(x):
    """2^x, with a relative error of 2^-22 or less; one instruction."""
    return np.exp2(np.float32(x))


# --- vectors: up to 16 bytes in one instruction ---------------------------------------------------


def _element(context: Any, builder: Any, kind: Any, value: Any, index: Any, index_kind: Any) -> Any:
    """The address of an element: of global memory by pointer, or of a shared or local array."""
    index = resized(builder, index, index_kind, 64)
    if isinstance(kind, types.CPointer):
        element = builder.gep(value, [index], inbounds=True)
        return builder.addrspacecast(element, element.type.pointee.as_pointer(GLOBAL))
    data = context.make_array(kind)(context, builder, value=value).data
    return builder.gep(data, [index], inbounds=True)


def _as_vector(builder: Any, element: Any, n: int) -> tuple[Any, int]:
    """The address as that of n elements, and its alignment in bytes."""
    kind = element.type.pointee
    size = {F32: 4, ir.DoubleType(): 8, ir.HalfType(): 2}.get(kind) or kind.width // 8
    vector = ir.VectorType(kind, n).as_pointer(element.type.addrspace)
    return builder.bitcast(element, vector), min(16, n * size)


def _loads(n: int, function: Callable) -> Any:
    def typing(context: Any, array: Any, index: Any) -> Any:
        def generate(context: Any, builder: Any, sig: Any, values: Any) -> Any:
            kinds = sig.args
            element = _element(context, builder, kinds[0], values[0], values[1], kinds[1])
            vector, alignment = _as_vector(builder, element, n)
            loaded = builder.load(vector, align=alignment)
            parts = [builder.extract_element(loaded, I32(i)) for i in range(n)]
            return context.make_tuple(builder, sig.return_type, parts)

        return types.UniTuple(array.dtype, n)(array, index), generate

    return twinned(typing, function)


def _stores(n: int, function: Callable) -> Any:
    def typing(context: Any, array: Any, index: Any, *values: Any) -> Any:
        def generate(context: Any, builder: Any, sig: Any, values: Any) -> Any:
            kinds = sig.args
            element = _element(context, builder, kinds[0], values[0], values[1], kinds[1])
            target, alignment = _as_vector(builder, element, n)
            vector = ir.VectorType(element.type.pointee, n)(ir.Undefined)
            for i, value in enumerate(values[2:]):
                vector = builder.insert_element(vector, value, I32(i))
            builder.store(vector, target, align=alignment)
            return context.get_dummy_value()

        return types.void(array, index, *[array.dtype] * n), generate

    return twinned(typing, function)


def _aligned(array: Any, i: int, n: int) -> None:
    elements = getattr(array, "elements", array)
    if (i * elements.itemsize) % min(16, n * elements.itemsize):
        raise IndexError(f"a kernel reads or writes {n} elements from {i}, which is not aligned.")


def _load2(array, i):
    """Two elements from number `i`, which is even."""
    _aligned(array, i, 2)
    return (array[i], array[i + 1])


def _load4(array, i):
    """Four elements from number `i`, which is a multiple of four."""
    _aligned(array, i, 4)
    return (array[i], array[i + 1], array[i + 2], array[i + 3])


def _store2(array, i, a, b):
    """Writes two elements from number `i`, which is even."""
    _aligned(array, i, 2)
    array[i], array[i + 1] = a, b


def _store4(array, i, a, b, c, d):
    """Writes four elements from number `i`, which is a multiple of four."""
    _aligned(array, i, 4)
    array[i], array[i + 1], array[i + 2], array[i + 3] = a, b, c, d


# From a pointer to global memory, or an array in shared memory declared with `alignment=16`.
load2, load4 = _loads(2, _load2), _loads(4, _load4)
store2, store4 = _stores(2, _store2), _stores(4, _store4)


def _put_words(array, i, *words):
    n = 2 * len(words)
    _aligned(array, i, n)
    array[i], array[i + n - 1]  # checks the indices
    array.elements[i : i + n].view(np.uint32)[:] = [word & 0xFFFFFFFF for word in words]


@ptx("st.global.b32 [$0], $1;", "", "gr")
def store_word(array, i, word):
    """Writes two numbers of 16 bits from element `i`, which is even, the lower half first."""
    _put_words(array, i, word)


@ptx("st.global.v2.b32 [$0], {$1, $2};", "", "grr")
def store_words(array, i, a, b):
    """Writes four numbers of 16 bits from element `i`, which is a multiple of four."""
    _put_words(array, i, a, b)
