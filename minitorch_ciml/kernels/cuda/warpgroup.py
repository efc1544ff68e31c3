"""Hopper's matrix products: four warps multiply matrices that lie in shared memory (`wgmma`).

Only Hopper has these instructions (capability 9.0).

A warp group (four neighbouring warps) adds the product of a 64 x K and a K x N matrix to sums in
its registers. It only starts that; the tensor cores then read the factors from shared memory by
themselves, so they must neither be overwritten nor the sums be used before the group has waited.

Factors lie in *lines* of 128 bytes: along k, or, if their numbers have 16 bits, along the other
index. Of the eight parts of 16 bytes in line i, part c lies at place c ^ (i % 8): whether one reads
along lines or across, no two parts of eight lie in the same banks. (NVIDIA's PTX manual has it
under "Asynchronous warpgroup-level matrix shared memory layout", as 128-byte swizzling.)
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types

from minitorch_ciml.kernels.cuda import SIMULATED
from minitorch_ciml.kernels.cuda.mma import bf16_words, cut_to_tf32
from minitorch_ciml.kernels.cuda.ptx import F32, I32, I64, ptx, resized, twinned

if SIMULATED:
    from minitorch_ciml.kernels.cuda.simulator import by_warp, collect, current

LINE = 128  # bytes
ROWS = 64  # of a warp group's product
STEP = 32  # bytes of k that one instruction multiplies
_EIGHT = 8 * LINE  # bytes of eight lines


class Factor(NamedTuple):
    """How a factor's slice lies in shared memory, at a multiple of 1024 bytes.

    Attributes:
        is_along_k: whether lines go along k: one line for each row (or column) then. Else there is
            a line for each k, of 64 rows; the next 64 rows are `group` bytes further.
        group: bytes; 0 if lines go along k.
    """

    is_along_k: bool
    group: int


class Kind(NamedTuple):
    """The numbers that are multiplied: PTX's name, their bytes, and what their bits mean."""

    name: str
    size: int
    value: Callable

    @property
    def depth(self) -> int:
        """k of a slice of 128 bytes."""
        return LINE // self.size


TF32 = Kind("tf32", 4, lambda words: cut_to_tf32(words.view(np.float32)))
BF16 = Kind("bf16", 2, bf16_words)
F16 = Kind("f16", 2, lambda words: words.view(np.float16))


@ptx("fence.proxy.async.shared::cta;", "", "")
def fence_shared():
    """What this thread has written to shared memory can be read by tensor cores."""


# --- one slice ------------------------------------------------------------------------------------


def start_products_of(kind: Kind, columns: int, left: Factor, right: Factor) -> Callable:
    """`start(total, a, b)`: starts to add the product of two slices of 128 bytes of k.

    `a`, `b` are their addresses, `total` the thread's part of the sums: columns / 2 numbers. With
    g, t = divmod(lane, 4) these are, for every 8 columns, [g, 2t], [g, 2t + 1], [g + 8, 2t],
    [g + 8, 2t + 1] of the 16 rows of its warp.
    """
    count = columns // 2
    text = _text(kind, columns, left, right)
    constraints = ",".join([*_changed(count), "l", "l", "~{memory}"])

    def start(total: Any, a: int, b: int) -> None:
        _start(kind, columns, left, right, total, a, b)

    lines = "".join("k" if factor.is_along_k else "m" for factor in (left, right))
    start.__name__ = f"start_products_{kind.name}_{columns}_{lines}"  # a kernel's fingerprint

    def typing(context: Any, total: Any, a: Any, b: Any) -> Any:
        def generate(context: Any, builder: Any, sig: Any, values: Any) -> Any:
            addresses = [_descriptor(builder, values[i], sig.args[i], f) for i, f in
                         ((1, left), (2, right))]  # fmt: skip
            _with_sums(context, builder, sig, values, text, constraints, addresses)
            return context.get_dummy_value()

        return types.void(total, a, b), generate

    return twinned(typing, start)


@cache
def wait_for_products_of(columns: int, pending: int) -> Callable:
    """`wait(total)`: waits until all but the last `pending` slices that were started are added."""
    count = columns // 2
    text = f"wgmma.wait_group.sync.aligned {pending};"
    constraints = ",".join([*_changed(count), "~{memory}"])

    def wait(total: Any) -> None:
        _wait(pending)

    wait.__name__ = f"wait_for_products_{columns}_{pending}"

    def typing(context: Any, total: Any) -> Any:
        def generate(context: Any, builder: Any, sig: Any, values: Any) -> Any:
            _with_sums(context, builder, sig, values, text, constraints, [])
            return context.get_dummy_value()

        return types.void(total), generate

    return twinned(typing, wait)


def _changed(count: int) -> list[str]:
    """The constraints of so many floats that instructions change."""
    return ["=f"] * count + [str(i) for i in range(count)]


def _text(kind: Kind, columns: int, left: Factor, right: Factor) -> str:
    """The instructions for a slice, as one group."""
    count = columns // 2
    sums = ", ".join(f"${i}" for i in range(count))
    k = STEP // kind.size
    turned = (left.is_along_k, right.is_along_k) if kind.size == 2 else ()
    flags = ", ".join(["1", "1", *("0" if is_along_k else "1" for is_along_k in turned)])
    lines = ["{ .reg .b64 a, b; wgmma.fence.sync.aligned;"]
    for step in range(LINE // STEP):
        lines += [
            f"add.s64 a, ${2 * count}, {_step(left, kind, step) >> 4};",
            f"add.s64 b, ${2 * count + 1}, {_step(right, kind, step) >> 4};",
            f"wgmma.mma_async.sync.aligned.m64n{columns}k{k}.f32.{kind.name}.{kind.name} "
            f"{{{sums}}}, a, b, 1, {flags};",
        ]
    return "\n".join([*lines, "wgmma.commit_group.sync.aligned; }"])


def _step(factor: Factor, kind: Kind, step: int) -> int:
    """Bytes from a slice's first k to those of a step."""
    return step * STEP if factor.is_along_k else step * (STEP // kind.size) * LINE


def _descriptor(builder: Any, address: Any, kind: Any, factor: Factor) -> Any:
    """Where and how a factor lies, as the instruction wants it: all in units of 16 bytes."""
    swizzle_128 = 1 << 62
    group = factor.group >> 4 or 1
    constant = swizzle_128 | (_EIGHT >> 4) << 32 | group << 16
    address = resized(builder, address, kind, 32)
    place = builder.lshr(builder.and_(address, I32(0x3FFFF)), I32(4))
    return builder.or_(builder.zext(place, I64), I64(constant))


def _with_sums(
    context: Any, builder: Any, sig: Any, values: Any, text: str, constraints: str, more: list
) -> None:
    """Instructions that change all numbers of a local array, which is the first argument."""
    array = context.make_array(sig.args[0])(context, builder, value=values[0])
    count = constraints.count("=f")
    places = [builder.gep(array.data, [I32(i)], inbounds=True) for i in range(count)]
    operands = [*map(builder.load, places), *more]
    shape = ir.FunctionType(ir.LiteralStructType([F32] * count), [o.type for o in operands])
    made = builder.call(ir.InlineAsm(shape, text, constraints, side_effect=True), operands)
    for i, place in enumerate(places):
        builder.store(builder.extract_value(made, i), place)


# --- in the simulator -----------------------------------------------------------------------------


def _start(
    kind: Kind, columns: int, left: Factor, right: Factor, total: Any, a: int, b: int
) -> None:
    """Adds to sums aside; the thread's own are NaN until it waits."""
    thread = current()
    warp = thread.number // 32

    def products(given: list) -> list:
        """For each lane its part of each step's product, and the bytes that all of them read."""
        if len(set(given)) > 1:
            raise RuntimeError(f"a warp multiplies slices at different addresses: {set(given)}.")
        rows = slice(16 * (warp % 4), 16 * (warp % 4) + 16)
        lefts, left_bytes = _matrix(kind, left, ROWS, a)
        rights, right_bytes = _matrix(kind, right, columns, b)
        k = STEP // kind.size
        parts = [lefts[rows, i : i + k] @ rights[:, i : i + k].T for i in range(0, kind.depth, k)]
        # [step, row half, row, group of 8 columns, pair, column of the pair]
        own = np.stack(parts).reshape(-1, 2, 8, columns // 8, 4, 2).transpose(2, 4, 0, 3, 1, 5)
        own = own.reshape(32, len(parts), -1).astype(np.float32)
        read = [(view, view.tobytes()) for view in (left_bytes, right_bytes)]
        return [(steps, read) for steps in own]

    steps, read = by_warp("wgmma", (a, b), products)
    sums = thread.sums.setdefault(id(total), (total, total.copy()))[1]
    for own in steps:
        sums += own
    total[:] = np.nan
    thread.groups.append(read)


def _wait(pending: int) -> None:
    thread = current()
    collect("wgmma wait", pending)
    while len(thread.groups) > pending:
        read = thread.groups.pop(0)
        # The same for all lanes, so one of them looks.
        if thread.number % 32 == 0 and any(view.tobytes() != before for view, before in read):
            raise RuntimeError("a kernel overwrites a factor before its product is there.")
    if not thread.groups:
        for total, sums in thread.sums.values():
            total[:] = sums
        thread.sums.clear()


def _matrix(kind: Kind, factor: Factor, size: int, address: int) -> tuple[np.ndarray, np.ndarray]:
    """(size, k) of a slice, as float64, and the bytes that it lies in."""
    if address % _EIGHT:
        raise IndexError(f"a factor at {address} of shared memory, not at a multiple of {_EIGHT}.")
    row, k = np.ogrid[:size, : kind.depth]
    if factor.is_along_k:
        place = row // 8 * _EIGHT + row % 8 * LINE + k * kind.size
    else:
        lines = k // 8 * _EIGHT + k % 8 * LINE
        place = row // ROWS * factor.group + lines + row % ROWS * kind.size
    place ^= (place >> 7 & 7) << 4  # 16-byte parts of a line change places
    window = current().block.window(address, int(place.max()) + kind.size)
    numbers = window.view({4: np.uint32, 2: np.uint16}[kind.size])[place // kind.size]
    return kind.value(numbers).astype(np.float64), window
