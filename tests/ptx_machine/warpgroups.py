"""Hopper's asynchronous products of matrices in shared memory: wgmma, and its fences.

"PTX ISA", 9.7.15. A warp group is four warps; thread numbers in it are those of a block, from a
multiple of 128 on.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ptx_machine.operands import Binder
from ptx_machine.program import Instruction
from ptx_machine.warps import bf16, f16

if TYPE_CHECKING:
    from ptx_machine.machine import Step, Wave

_GROUP = 128
_ROWS = 64
# What sums are while a product is under way: a signalling NaN, which computing with it changes.
_POISON = np.uint32(0x7F80DEAD).view(np.float32)

# The kinds of numbers: the bytes of each, and their values.
_KINDS = {
    "tf32": (4, lambda words: (words & np.uint32(0xFFFFE000)).view(np.float32)),
    "bf16": (2, bf16), "f16": (2, f16),
}  # fmt: skip


class Descriptor(NamedTuple):
    """Where a matrix lies in shared memory (9.7.15.5.1.2.2), offsets in bytes."""

    start: int
    leading: int
    stride: int
    base: int
    swizzle: int

    @classmethod
    def of(cls, word: int) -> Descriptor:
        fields = (word & 0x3FFF, word >> 16 & 0x3FFF, word >> 32 & 0x3FFF)
        start, leading, stride = (field << 4 for field in fields)
        return cls(start, leading, stride, word >> 49 & 7, word >> 62)

    def places(self, rows: int, depth: int, size: int, is_k_major: bool) -> np.ndarray:
        """The address of each number of a (rows, depth) matrix, rows being M or N, depth K.

        The canonical layouts of 9.7.15.5.1.2.1.3 with 128-byte swizzling, T being the numbers in 16
        bytes; addresses are swizzled after offsets are added.
        """
        assert self.swizzle == 1 and self.base == 0, f"a matrix with {self}"
        row, k = np.ogrid[:rows, :depth]
        t = 16 // size
        if is_k_major:  # ((8, m), (T, 2k)) : ((8T, SBO), (1, T))
            offset = row % 8 * (8 * t * size) + row // 8 * self.stride + k * size
        else:  # ((T, 8, m), (8, k)) : ((1, T, LBO), (8T, SBO))
            offset = row % (8 * t) * size + row // (8 * t) * self.leading
            offset = offset + k % 8 * (8 * t * size) + k // 8 * self.stride
        address = self.start + offset
        return address ^ (address >> 7 & 7) << 4  # Swizzle<3, 4, 3>


@dataclass
class _Sums:
    """Sums that products are added to: registers, their values, and each thread's last group."""

    registers: tuple[int, ...]
    values: np.ndarray  # (threads, count)
    last: np.ndarray  # the group of the last product; -1 if there is none


class _Factors(NamedTuple):
    """What a product under way reads: it must stay as it is."""

    thread: int  # the group's first
    group: int
    places: np.ndarray
    values: np.ndarray


class Products:
    """The products of a wave. Their sums are there when they have been waited for.

    Attributes:
        fences: how often each thread has made what it wrote visible to the tensor cores.
    """

    def __init__(self, wave: Wave):
        self._wave = wave
        self.fences = np.zeros(wave.size, np.int64)
        self._committed = np.zeros(wave.size, np.int64)
        self._sums: list[_Sums] = []
        self._factors: list[_Factors] = []
        self._ready = np.zeros(wave.size, bool)  # wgmma.fence came before

    def fence_registers(self) -> None:
        self._ready[self._wave.active] = True

    def fence_shared(self) -> None:
        self.fences[self._wave.active] += 1

    def commit(self) -> None:
        self._committed[self._wave.active] += 1
        self._ready[self._wave.active] = False

    def start(self, product: Product, a: np.ndarray, b: np.ndarray, adds: np.ndarray) -> None:
        w = self._wave
        if not self._ready[w.active].all():
            raise RuntimeError("wgmma.mma_async without a wgmma.fence before it.")
        sums = self._sums_of(product.registers)
        for threads in np.flatnonzero(w.active).reshape(-1, _GROUP):
            if len(np.unique(a[threads])) > 1 or len(np.unique(b[threads])) > 1:
                raise RuntimeError("threads of a warp group have different descriptors.")
            left = self._read(threads, int(a[threads[0]]), product, product.left, _ROWS)
            right = self._read(threads, int(b[threads[0]]), product, product.right, product.columns)
            own = _own_parts(left.astype(np.float64) @ right.T)
            if not adds[threads[0]]:
                sums.values[threads] = 0
            sums.values[threads] = (sums.values[threads] + own).astype(np.float32)
            sums.last[threads] = self._committed[threads]

    def _sums_of(self, registers: tuple[int, ...]) -> _Sums:
        """The sums in these registers, which become unknown."""
        w = self._wave
        for sums in self._sums:
            if sums.registers == registers:
                break
        else:
            for other in self._sums:
                if set(other.registers) & set(registers) and (other.last >= 0).any():
                    raise RuntimeError("two products under way share some of their registers.")
            values = np.zeros((w.size, len(registers)), np.float32)
            sums = _Sums(registers, values, np.full(w.size, -1))
            self._sums.append(sums)
        new = w.active & (sums.last < 0)
        for n, register in enumerate(registers):
            held = w.registers[register]
            if _is_known(held[w.active & ~new]).any():
                raise RuntimeError("a sum was changed while a product was under way.")
            sums.values[new, n] = held[new]
            w.registers[register] = np.where(w.active, _POISON, held)
        return sums

    def _read(
        self, threads: np.ndarray, word: int, product: Product, is_k_major: bool, rows: int
    ) -> np.ndarray:
        w, (size, value) = self._wave, _KINDS[product.kind]
        places = Descriptor.of(word).places(rows, product.depth, size, is_k_major)
        every_byte = places[..., None] + np.arange(size)
        if not w.shared.is_fenced(int(threads[0]), every_byte, self.fences):
            raise RuntimeError("a wgmma reads what was written without fence.proxy.async.")
        found = w.shared.bytes_of(int(threads[0]), every_byte)
        group = int(self._committed[threads[0]])
        self._factors.append(_Factors(int(threads[0]), group, every_byte, found))
        return value(np.ascontiguousarray(found).view(f"u{size}")[..., 0])

    def wait(self, most: int) -> None:
        """Until all but the last `most` groups that were closed are done."""
        w = self._wave
        due = self._committed - most
        kept = []
        for factors in self._factors:
            thread = factors.thread
            if w.active[thread] and factors.group < due[thread]:
                if (w.shared.bytes_of(thread, factors.places) != factors.values).any():
                    raise RuntimeError("a factor was overwritten while its product was under way.")
            else:
                kept.append(factors)
        self._factors = kept
        for sums in self._sums:
            done = w.active & (sums.last >= 0) & (sums.last < due)
            if not done.any():
                continue
            for n, register in enumerate(sums.registers):
                if _is_known(w.registers[register][done]).any():
                    raise RuntimeError("a sum was changed while a product was under way.")
                w.registers[register] = np.where(done, sums.values[:, n], w.registers[register])
            sums.last[done] = -1


def _is_known(values: np.ndarray) -> np.ndarray:
    return values.view(np.uint32) != _POISON.view(np.uint32)


def _own_parts(product: np.ndarray) -> np.ndarray:
    """(128, N / 2): with g, t = divmod(lane, 4), d[4 j : 4 j + 4] are rows g, g, g + 8, g + 8 of a
    warp's 16 (9.7.15.5.1.1), at columns 8 j + 2 t and one further, twice."""
    warp, lane = np.divmod(np.arange(_GROUP), 32)
    n = np.arange(product.shape[1] // 2)
    row = (16 * warp + lane // 4)[:, None] + n % 4 // 2 * 8
    column = (2 * (lane % 4))[:, None] + n // 4 * 8 + n % 2
    return product[row, column]


class Product(NamedTuple):
    """One wgmma.mma_async.

    Attributes:
        registers: of the sums, by the binder's numbers.
        left, right: whether they are K-major.
    """

    registers: tuple[int, ...]
    kind: str
    columns: int
    depth: int
    left: bool
    right: bool


def multiply(binder: Binder, i: Instruction) -> Step:
    shape, d_type, a_type, b_type = i.parts[4:]
    rows, columns, depth = map(int, re.fullmatch(r"m(\d+)n(\d+)k(\d+)", shape).groups())
    size, _ = _KINDS[a_type]
    assert rows == _ROWS and d_type == "f32" and a_type == b_type and depth * size == 32, i.text
    assert columns % 8 == 0 and 8 <= columns <= 256 and len(i.operands[0]) == columns // 2, i.text
    turned = [int(word) for word in i.operands[6:]]
    assert len(turned) == (2 if size == 2 else 0), f"a transposition of {i.text}"
    assert i.operands[4:6] == ["1", "1"], i.text
    left, right = (not turn for turn in turned) if turned else (True, True)
    assert not any(isinstance(word, list) for word in i.operands[1:]), "A in registers"
    a, b = (binder.read(word, np.uint64) for word in i.operands[1:3])
    adds = binder.read(i.operands[3], np.bool_)
    registers = tuple(binder.number(word) for word in i.operands[0])
    product = Product(registers, a_type, columns, depth, left, right)
    return lambda w: w.products.start(product, a(w), b(w), np.broadcast_to(adds(w), w.size))


def group(binder: Binder, i: Instruction) -> Step:
    """wgmma.*"""
    if i.parts[1] == "mma_async":
        return multiply(binder, i)
    if i.parts[1] == "fence":
        return lambda w: w.products.fence_registers()
    if i.parts[1] == "commit_group":
        return lambda w: w.products.commit()
    assert i.parts[1] == "wait_group", i.text
    most = int(i.operands[0])
    return lambda w: w.products.wait(most)


def fence(binder: Binder, i: Instruction) -> Step:
    if i.parts[1:3] == ("proxy", "async"):
        return lambda w: w.products.fence_shared()
    return lambda w: None  # between threads: everybody sees a store at once


INSTRUCTIONS = {"wgmma": group, "fence": fence}
