"""Memory: every access lies in an array of the launch, at a multiple of its size.

Addresses have 64 bits. Each of the host's buffers has its own part of them; shared and local memory
have windows at the top, where generic addresses reach them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ptx_machine.races import Races

if TYPE_CHECKING:
    from ptx_machine.machine import Wave

_PART = 40  # bits of an address within a buffer
SHARED_WINDOW = 1 << 60
LOCAL_WINDOW = 1 << 61
FIRST_SHARED = 1024  # the system keeps what is before, from capability 8.0 on
_POISON = 0xFF  # NaN, as floats


class Global:
    """What the addresses of a launch belong to.

    Attributes:
        buffers: the host's, as bytes.
    """

    def __init__(self) -> None:
        self.buffers: list[np.ndarray] = []
        self._ranges: list[list[tuple[int, int]]] = []  # of each, what the launch may use
        self._races: dict[int, Races] = {}
        self._by_start: dict[int, int] = {}

    def add(self, buffer: np.ndarray, offset: int, size: int) -> int:
        """The address of `size` bytes of a buffer; the launch may use these alone."""
        buffer = buffer.view(np.uint8)
        start = buffer.ctypes.data
        if start not in self._by_start:
            self._by_start[start] = len(self.buffers)
            self.buffers.append(buffer)
            self._ranges.append([])
        part = self._by_start[start]
        self._ranges[part].append((offset, offset + size))
        return (part + 1 << _PART) + offset

    def again(self) -> Global:
        """The same memory, for another launch."""
        memory = Global()
        memory.buffers, memory._ranges = self.buffers.copy(), self._ranges.copy()
        memory._by_start = self._by_start.copy()
        return memory

    def take_away(self, address: int) -> None:
        """From now on, nobody may use the buffer at this address."""
        self._ranges[(address >> _PART) - 1] = []

    def constant(self, values: bytes) -> int:
        """The address of a table that belongs to the kernel."""
        padded = np.frombuffer(values + bytes(-len(values) % 16), np.uint8)
        return self.add(padded, 0, len(values))

    def _found(self, addresses: np.ndarray, size: int) -> list[tuple[Any, int, np.ndarray]]:
        """By buffer: which of the addresses are in it, its number, and where."""
        if (addresses % np.uint64(size)).any():
            raise IndexError(f"{size} bytes of global memory at an address that is not aligned.")
        parts = (addresses >> np.uint64(_PART)).astype(np.int64) - 1
        offsets = (addresses & np.uint64((1 << _PART) - 1)).astype(np.int64)
        found = []
        for part in parts[:1] if (parts == parts[0]).all() else np.unique(parts):
            if not 0 <= part < len(self.buffers):
                raise IndexError(f"an address that nothing has: {int(part) + 1 << _PART:#x}.")
            which = slice(None) if (parts == part).all() else parts == part
            own = offsets[which]
            allowed = np.zeros(own.shape, bool)
            for start, end in self._ranges[part]:
                allowed |= (own >= start) & (own + size <= end)
            if not allowed.all():
                outside = own[~allowed][0]
                raise IndexError(
                    f"{size} bytes at {outside} of an array that the launch may use at "
                    f"{self._ranges[part]}."
                )
            found.append((which, int(part), own))
        return found

    def check(self, addresses: np.ndarray, size: int) -> None:
        if addresses.size:
            self._found(addresses, size)

    def load(
        self, w: Wave, threads: np.ndarray, addresses: np.ndarray, dtype: np.dtype, count: int
    ) -> np.ndarray:
        """(threads, count) numbers."""
        values = np.empty((addresses.size, count), dtype)
        if addresses.size:
            size = dtype.itemsize * count
            for which, part, at in self._found(addresses, size):
                values[which] = _typed(self.buffers[part], dtype)[_places(at, dtype, count)]
                self._races_of(part, w).read(*w.uses("global", threads[which], at, size))
        return values

    def store(
        self, w: Wave, threads: np.ndarray, addresses: np.ndarray, values: np.ndarray
    ) -> None:
        dtype, count = values.dtype, values.shape[1]
        if addresses.size:
            size = dtype.itemsize * count
            for which, part, at in self._found(addresses, size):
                _typed(self.buffers[part], dtype)[_places(at, dtype, count)] = values[which]
                self._races_of(part, w).write(*w.uses("global", threads[which], at, size))

    def change(self, address: np.ndarray, change: Callable, dtype: np.dtype) -> Any:
        """One thread's atomic operation; gives what was there before."""
        ((_, part, at),) = self._found(address, dtype.itemsize)
        place = _typed(self.buffers[part], dtype)[at // dtype.itemsize]
        before = place[0]
        _typed(self.buffers[part], dtype)[at // dtype.itemsize] = change(before)
        return before

    def _races_of(self, part: int, w: Wave) -> Races:
        if part not in self._races:
            self._races[part] = Races(self.buffers[part].size // w.machine.unit + 1, "global")
        return self._races[part]


def _typed(buffer: np.ndarray, dtype: np.dtype) -> np.ndarray:
    return buffer[: buffer.size // dtype.itemsize * dtype.itemsize].view(dtype)


def _places(offsets: np.ndarray, dtype: np.dtype, count: int) -> np.ndarray:
    return offsets[:, None] // dtype.itemsize + np.arange(count)


class Local:
    """Memory of each thread."""

    def __init__(self, wave: Wave, size: int):
        self._bytes = np.full((wave.size, -(-size // 16) * 16), _POISON, np.uint8)
        self.size = size

    def load(self, threads: np.ndarray, at: np.ndarray, dtype: np.dtype, count: int) -> np.ndarray:
        places = self._places(at, dtype, count)
        return self._bytes.view(dtype)[threads[:, None], places]

    def store(self, threads: np.ndarray, at: np.ndarray, values: np.ndarray) -> None:
        places = self._places(at, values.dtype, values.shape[1])
        self._bytes.view(values.dtype)[threads[:, None], places] = values

    def _places(self, at: np.ndarray, dtype: np.dtype, count: int) -> np.ndarray:
        at = at.astype(np.int64)
        _check(at, dtype.itemsize * count, 0, self.size, "local")
        return _places(at, dtype, count)


class Shared:
    """Memory of each block."""

    def __init__(self, wave: Wave, size: int):
        self._wave = wave
        self.size = size
        self._stride = -(-size // 16) * 16
        self._bytes = np.full(wave.blocks * self._stride, _POISON, np.uint8)
        self._unit = wave.machine.unit
        units = self._bytes.size // self._unit
        self._races = Races(units, "shared")
        self._author = np.full(units, -1)  # the thread that wrote last
        self._fences = np.zeros(units, np.int64)  # how many fences that thread had passed

    def load(self, threads: np.ndarray, at: np.ndarray, dtype: np.dtype, count: int) -> np.ndarray:
        """(threads, count) numbers."""
        offsets = self._offsets(threads, at, dtype.itemsize * count)
        self._races.read(*self._wave.uses("shared", threads, offsets, dtype.itemsize * count))
        return self._bytes.view(dtype)[_places(offsets, dtype, count)]

    def store(
        self, threads: np.ndarray, at: np.ndarray, values: np.ndarray, space: str = "shared"
    ) -> None:
        dtype, count = values.dtype, values.shape[1]
        offsets = self._offsets(threads, at, dtype.itemsize * count)
        units, who, when = self._wave.uses(space, threads, offsets, dtype.itemsize * count)
        self._races.write(units, who, when)
        self._author[units] = threads[:, None]
        self._fences[units] = self._wave.products.fences[threads][:, None]
        self._bytes.view(dtype)[_places(offsets, dtype, count)] = values

    def poison(self, threads: np.ndarray, at: np.ndarray, size: int) -> None:
        """What lies there is no longer known."""
        self.store(threads, at, np.full((at.size, size), _POISON, np.uint8), space="")

    # --- for the tensor cores -----------------------------------------------------------------

    def bytes_of(self, thread: int, at: np.ndarray) -> np.ndarray:
        """Single bytes of a thread's block, which are read for it."""
        _check(at, 1, FIRST_SHARED, self.size, "shared")
        offsets = self._wave.block[thread] * self._stride + at
        units = np.unique(offsets // self._unit)
        who = np.full(units.shape, self._wave.who[thread])
        self._races.read(units, who, np.full(units.shape, self._wave.moments[thread]))
        return self._bytes[offsets]

    def is_fenced(self, thread: int, at: np.ndarray, fences: np.ndarray) -> bool:
        """Whether all who wrote these bytes have passed a fence since."""
        units = (self._wave.block[thread] * self._stride + at) // self._unit
        author = self._author[units]
        return bool(((author < 0) | (fences[author] > self._fences[units])).all())

    def _offsets(self, threads: np.ndarray, at: np.ndarray, size: int) -> np.ndarray:
        at = at.astype(np.int64)
        _check(at, size, FIRST_SHARED, self.size, "shared")
        return self._wave.block[threads] * self._stride + at


def _check(at: np.ndarray, size: int, start: int, end: int, space: str) -> None:
    if at.size == 0:
        return
    if (at % size).any():
        raise IndexError(f"{size} bytes of {space} memory at {at[at % size != 0][0]}: not aligned.")
    if at.min() < start or at.max() + size > end:
        wrong = at.max() if at.min() >= start else at.min()
        raise IndexError(f"{size} bytes at {wrong} of {space} memory, which has {start} to {end}.")
