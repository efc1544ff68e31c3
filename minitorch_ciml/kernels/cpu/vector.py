"""A register full of numbers as a type for numba, and how LLVM reads, writes and multiplies it.

What kernels say with it is in `simd` and `loads`. The width follows the processor that numba
compiles for, so `NUMBA_CPU_NAME` and `NUMBA_CPU_FEATURES` (for example `haswell` and `+avx2,+fma`)
choose a narrower one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.datamodel import models
from numba.core.registry import cpu_target
from numba.extending import register_model

_TRIPLE, _, _FEATURES = cpu_target.target_context.codegen().magic_tuple()


def _vector_bits() -> int:
    has = set(_FEATURES.split(","))
    if "+avx512f" in has:
        return 512
    return 256 if "+avx2" in has or "+avx" in has else 128


VECTOR_BITS = _vector_bits()
REGISTERS = 32 if VECTOR_BITS == 512 or _TRIPLE.startswith(("aarch64", "arm64")) else 16


def lanes_of(dtype: np.dtype) -> int:
    """Elements of one vector."""
    return VECTOR_BITS // 8 // dtype.itemsize


class Vector(types.Type):
    """The type of one register full of `dtype`, or of another number of lanes."""

    def __init__(self, dtype: Any, lanes: int | None = None) -> None:
        self.dtype = dtype
        self.lanes = lanes or VECTOR_BITS // dtype.bitwidth
        super().__init__(name=f"vector({dtype} x {self.lanes})")


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, vector: Vector) -> None:
        super().__init__(
            manager, vector, ir.VectorType(manager[vector.dtype].get_value_type(), vector.lanes)
        )


INT64 = ir.IntType(64)


def address_of(context: Any, builder: ir.IRBuilder, array_type: Any, array: Any, index: Any) -> Any:
    """Where an array's element lies."""
    return builder.gep(context.make_array(array_type)(context, builder, array).data, [index])


def pointer_to(context: Any, builder: ir.IRBuilder, vector: Vector, address: Any, i: int) -> Any:
    """Pointer to the `i`-th vector after an address."""
    moved = builder.gep(address, [ir.Constant(INT64, i * vector.lanes)])
    return builder.bitcast(moved, context.get_value_type(vector).as_pointer())


def read_vector(
    context: Any, builder: ir.IRBuilder, vector: Vector, address: Any, i: int = 0
) -> Any:
    """The `i`-th vector after an address, which need not be a multiple of its size."""
    value = builder.load(pointer_to(context, builder, vector, address, i))
    value.align = vector.dtype.bitwidth // 8
    return value


def write_vector(
    context: Any, builder: ir.IRBuilder, vector: Vector, value: Any, address: Any, i: int = 0
) -> None:
    stored = builder.store(value, pointer_to(context, builder, vector, address, i))
    stored.align = vector.dtype.bitwidth // 8


def splat(builder: ir.IRBuilder, vector_type: ir.VectorType, scalar: Any) -> Any:
    """A vector of copies of a number."""
    undefined = ir.Constant(vector_type, ir.Undefined)
    one = builder.insert_element(undefined, scalar, ir.Constant(ir.IntType(32), 0))
    lanes = ir.VectorType(ir.IntType(32), vector_type.count)
    return builder.shuffle_vector(one, undefined, ir.Constant(lanes, [0] * vector_type.count))


def fma(builder: ir.IRBuilder, a: Any, b: Any, c: Any) -> Any:
    """`a * b + c`: fused where the processor can, two instructions where it cannot."""
    element = "f32" if isinstance(a.type.element, ir.FloatType) else "f64"
    name = f"llvm.fmuladd.v{a.type.count}{element}"
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(a.type, [a.type] * 3), name
    )
    return builder.call(function, [a, b, c])


def items_of(builder: ir.IRBuilder, tuple_type: Any, value: Any) -> list:
    """The vectors of a tile, or the numbers of another tuple."""
    return [builder.extract_value(value, i) for i in range(tuple_type.count)]


def larger_of(builder: ir.IRBuilder, a: Any, b: Any) -> Any:
    """`a` where it is larger, else `b`, of two vectors: where a is NaN, b."""
    return builder.select(builder.fcmp_ordered(">", a, b), a, b)


def turned(builder: ir.IRBuilder, rows: list) -> list:
    """The columns of a square of vectors: pairs of rows change places of ever smaller blocks."""
    count, half = len(rows), len(rows) // 2
    lanes = ir.VectorType(ir.IntType(32), count)
    while half:
        kept = [k if k & half == 0 else count + k - half for k in range(count)]
        swapped = [k + half if k & half == 0 else count + k for k in range(count)]
        for t in range(count):
            if t & half == 0:
                a, b = rows[t], rows[t + half]
                rows[t] = builder.shuffle_vector(a, b, ir.Constant(lanes, kept))
                rows[t + half] = builder.shuffle_vector(a, b, ir.Constant(lanes, swapped))
        half //= 2
    return rows
