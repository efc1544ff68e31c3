"""What an instruction reads and writes: registers of all threads at once, as NumPy arrays."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ptx_machine.program import TYPES, Program

if TYPE_CHECKING:
    from ptx_machine.machine import Wave

Read = Callable[["Wave"], Any]
Write = Callable[["Wave", Any], None]

_WARP = 32


class Binder:
    """Turns an instruction's operands into functions that read and write a wave's registers."""

    def __init__(self, program: Program):
        self.program = program
        self.numbers: dict[str, int] = {}  # of registers, in the order of their first use

    def storage(self, register: str) -> np.dtype:
        """How a register is kept: floats as floats, everything else as bits."""
        kind = self.program.type_of(register)
        if kind in ("pred", "f32", "f64"):
            return np.dtype(TYPES[kind])
        return np.dtype(f"u{np.dtype(TYPES[kind]).itemsize}")

    def number(self, register: str) -> int:
        return self.numbers.setdefault(register, len(self.numbers))

    def is_register(self, word: str) -> bool:
        return word in self.program.registers or (
            word.startswith("%") and word.rstrip("0123456789") in self.program.registers
        )

    def read(self, word: str, dtype: Any) -> Read:
        """The values of an operand: an array with one for each thread, or a number."""
        dtype = np.dtype(dtype)
        if word.startswith("!"):
            inner = self.read(word[1:], dtype)
            return lambda w: ~inner(w)
        if self.is_register(word):
            i, stored = self.number(word), self.storage(word)
            if stored == dtype:
                return lambda w: w.registers[i]
            if stored.itemsize == dtype.itemsize:
                return lambda w: w.registers[i].view(dtype)
            assert stored.itemsize > dtype.itemsize, f"{word} is too small for {dtype}"
            narrow = np.dtype(f"u{dtype.itemsize}")
            bits = np.dtype(f"u{stored.itemsize}")
            return lambda w: w.registers[i].view(bits).astype(narrow).view(dtype)
        if word in _SPECIAL:
            special = _SPECIAL[word]
            return lambda w: special(w).astype(dtype)
        if word in self.program.variables:
            return lambda w: np.array(w.addresses[word], np.uint64).astype(dtype)
        value = number(word, dtype)
        return lambda w: value

    def write(self, word: str, dtype: Any) -> Write:
        """Sets a register of the threads that are active, from values of that type."""
        dtype = np.dtype(dtype)
        if word == "_":
            return lambda w, values: None
        i, stored = self.number(word), self.storage(word)
        assert stored.itemsize >= dtype.itemsize, f"{word} is too small for {dtype}"
        is_wider = stored.itemsize > dtype.itemsize

        def put(w: Wave, values: Any) -> None:
            if values.dtype != dtype:
                values = values.astype(dtype)
            if is_wider:
                values = values.astype(stored)
            elif stored != dtype:
                values = values.view(stored)
            if values.ndim == 0:
                values = np.full(w.size, values)
            if w.mask is not None:
                values = np.where(w.mask, values, w.registers[i])
            w.registers[i] = values

        return put

    def address(self, operand: str) -> Read:
        """What stands in brackets: a register or a variable, and an offset."""
        found = re.fullmatch(r"\[([^+\-]+)([+-]\w+)?\]", operand)
        assert found, operand
        base, offset = found[1], int(found[2] or "0", 0)
        if self.is_register(base):
            width = self.storage(base)
            start = self.read(base, width)
            if not offset:
                return lambda w: start(w).astype(np.uint64)
            step = np.array(offset % (1 << 8 * width.itemsize), np.uint64).astype(width)
            return lambda w: (start(w) + step).astype(np.uint64)
        return lambda w: np.full(w.size, w.addresses[base] + offset, np.uint64)


def number(word: str, dtype: np.dtype) -> np.ndarray:
    """A constant of PTX."""
    if word[:2] in ("0f", "0F"):
        return np.array(struct.unpack("!f", bytes.fromhex(word[2:]))[0], np.float32).astype(dtype)
    if word[:2] in ("0d", "0D"):
        return np.array(struct.unpack("!d", bytes.fromhex(word[2:]))[0], np.float64).astype(dtype)
    if word == "WARP_SZ":
        return np.array(_WARP, dtype)
    value = int(word.rstrip("U"), 0)
    if dtype.kind == "b":
        return np.array(bool(value))
    if dtype.kind == "f":
        return np.array(value % (1 << 8 * dtype.itemsize), f"u{dtype.itemsize}").view(dtype)
    return np.array(value % (1 << 64), np.uint64).astype(dtype)


def _axis(name: str, i: int) -> Callable[[Wave], np.ndarray]:
    return lambda w: getattr(w, name)[i]


_SPECIAL: dict[str, Callable[[Wave], np.ndarray]] = {
    "%laneid": lambda w: w.lane,
    "%warpid": lambda w: w.thread // _WARP,
    "%dynamic_smem_size": lambda w: np.array(w.dynamic),
    "%total_smem_size": lambda w: np.array(w.shared.size),
}
for _i, _name in enumerate("xyz"):
    _SPECIAL[f"%tid.{_name}"] = _axis("tid", _i)
    _SPECIAL[f"%ntid.{_name}"] = _axis("ntid", _i)
    _SPECIAL[f"%ctaid.{_name}"] = _axis("ctaid", _i)
    _SPECIAL[f"%nctaid.{_name}"] = _axis("nctaid", _i)
