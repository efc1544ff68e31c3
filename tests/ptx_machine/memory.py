"""Memory: every access lies in an array of the launch, at a multiple of its size.

Addresses have 64 bits. Each of the host's buffers has its own part of them; shared and local memory
have windows at the top, where generic addresses reach them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from ptx_machine.machine import Wave

_PART = 40  # bits of an address within a buffer
SHARED_WINDOW = 1 << 60
LOCAL_WINDOW = 1 << 61
FIRST_SHARED = 1024  # the system keeps what is before, from capability 8.0 on
_POISON = 0xFF  # NaN, as floats
_UNIT = 2  # bytes: races are looked for by so many
_NOBODY, _MANY = -1, -2


class Global:
    """What the addresses of a launch belong to."""

    def __init__(self) -> None:
        self._buffers: list[np.ndarray] = []  # bytes
        self._ranges: list[list[tuple[int, int]]] = []  # of each, what the launch may use
        self._by_start: dict[int, int] = {}

    def add(self, buffer: np.ndarray, offset: int, size: int) -> int:
        """The address of `size` bytes of a buffer; the launch may use these alone."""
        buffer = buffer.view(np.uint8)
        start = buffer.ctypes.data
        if start not in self._by_start:
            self._by_start[start] = len(self._buffers)
            self._buffers.append(buffer)
            self._ranges.append([])
        part = self._by_start[start]
        self._ranges[part].append((offset, offset + size))
        return (part + 1 << _PART) + offset

    def constant(self, values: bytes) -> int:
        """The address of a table that belongs to the kernel."""
        padded = np.frombuffer(values + bytes(-len(values) % 16), np.uint8)
        return self.add(padded, 0, len(values))

    def _found(self, addresses: np.ndarray, size: int) -> list[tuple[Any, np.ndarray, np.ndarray]]:
        """By buffer: which of the addresses are in it, its bytes, and where."""
        if (addresses % np.uint64(size)).any():
            raise IndexError(f"{size} bytes of global memory at an address that is not aligned.")
        parts = (addresses >> np.uint64(_PART)).astype(np.int64) - 1
        offsets = (addresses & np.uint64((1 << _PART) - 1)).astype(np.int64)
        found = []
        for part in parts[:1] if (parts == parts[0]).all() else np.unique(parts):
            if not 0 <= part < len(self._buffers):
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
            found.append((which, self._buffers[part], own))
        return found

    def check(self, addresses: np.ndarray, size: int) -> None:
        if addresses.size:
            self._found(addresses, size)

    def load(self, addresses: np.ndarray, dtype: np.dtype, count: int) -> np.ndarray:
        """(threads, count) numbers."""
        values = np.empty((addresses.size, count), dtype)
        if addresses.size:
            for which, buffer, at in self._found(addresses, dtype.itemsize * count):
                values[which] = _typed(buffer, dtype)[_places(at, dtype, count)]
        return values

    def store(self, addresses: np.ndarray, values: np.ndarray) -> None:
        """Of threads that write to the same place, the last one wins."""
        dtype, count = values.dtype, values.shape[1]
        if addresses.size:
            for which, buffer, at in self._found(addresses, dtype.itemsize * count):
                _typed(buffer, dtype)[_places(at, dtype, count)] = values[which]


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
    """Memory of each block.

    Between two barriers of a block, what one warp writes no other may read or write, and what
    several read nobody may write: warps run in any order.
    """

    def __init__(self, wave: Wave, size: int):
        self._wave = wave
        self.size = size
        self._stride = -(-size // 16) * 16
        self._bytes = np.full(wave.blocks * self._stride, _POISON, np.uint8)
        units = self._bytes.size // _UNIT
        self._written = np.full(units, -1), np.full(units, _NOBODY)  # after which barrier, by whom
        self._read = np.full(units, -1), np.full(units, _NOBODY)
        self.author = np.full(units, _NOBODY)  # the thread that wrote last
        self.fences = np.zeros(units, np.int64)  # how many fences that thread had passed

    def load(self, threads: np.ndarray, at: np.ndarray, dtype: np.dtype, count: int) -> np.ndarray:
        """(threads, count) numbers."""
        offsets = self._offsets(threads, at, dtype.itemsize * count)
        self._note_reading(threads, offsets, dtype.itemsize * count)
        return self._bytes.view(dtype)[_places(offsets, dtype, count)]

    def store(self, threads: np.ndarray, at: np.ndarray, values: np.ndarray) -> None:
        """Of threads that write to the same place, the last one wins."""
        dtype, count = values.dtype, values.shape[1]
        offsets = self._offsets(threads, at, dtype.itemsize * count)
        self._note_writing(threads, offsets, dtype.itemsize * count)
        self._bytes.view(dtype)[_places(offsets, dtype, count)] = values

    def poison(self, threads: np.ndarray, at: np.ndarray, size: int) -> None:
        """What lies there is no longer known."""
        self.store(threads, at, np.full((at.size, size), _POISON, np.uint8))

    def bytes_of(self, block: int, at: np.ndarray) -> np.ndarray:
        """Single bytes of a block, as the tensor cores read them."""
        _check(at, 1, FIRST_SHARED, self.size, "shared")
        return self._bytes[block * self._stride + at]

    def units_of(self, block: int, at: np.ndarray) -> np.ndarray:
        return (block * self._stride + at) // _UNIT

    def _offsets(self, threads: np.ndarray, at: np.ndarray, size: int) -> np.ndarray:
        at = at.astype(np.int64)
        _check(at, size, FIRST_SHARED, self.size, "shared")
        return self._wave.block[threads] * self._stride + at

    def _units(self, threads: np.ndarray, offsets: np.ndarray, size: int) -> tuple:
        wave = self._wave
        units = offsets[:, None] // _UNIT + np.arange(max(1, size // _UNIT))
        warps = np.broadcast_to(threads[:, None] // 32, units.shape)
        barriers = np.broadcast_to(wave.barriers[wave.block[threads]][:, None], units.shape)
        return units, warps, barriers

    def _note_reading(self, threads: np.ndarray, offsets: np.ndarray, size: int) -> None:
        units, warps, barriers = self._units(threads, offsets, size)
        when, who = self._written
        if ((when[units] == barriers) & (who[units] != warps)).any():
            raise RuntimeError("a warp reads shared memory that another has just written.")
        when, who = self._read
        shared = (when[units] == barriers) & (who[units] != warps)
        when[units] = barriers
        who[units] = np.where(shared, _MANY, warps)
        if (who[units] != warps).any():  # several warps in this very instruction
            several = units[who[units] != warps]
            who[several] = _MANY

    def _note_writing(self, threads: np.ndarray, offsets: np.ndarray, size: int) -> None:
        units, warps, barriers = self._units(threads, offsets, size)
        when, who = self._read
        if ((when[units] == barriers) & (who[units] != warps)).any():
            raise RuntimeError("a warp overwrites shared memory that another may still read.")
        when, who = self._written
        if ((when[units] == barriers) & (who[units] != warps)).any():
            raise RuntimeError("two warps write to the same place of shared memory.")
        when[units], who[units] = barriers, warps
        if (who[units] != warps).any():
            raise RuntimeError("two warps write to the same place of shared memory.")
        self.author[units] = threads[:, None]
        self.fences[units] = self._wave.products.fences[threads][:, None]


def _check(at: np.ndarray, size: int, start: int, end: int, space: str) -> None:
    if at.size == 0:
        return
    if (at % size).any():
        raise IndexError(f"{size} bytes of {space} memory at {at[at % size != 0][0]}: not aligned.")
    if at.min() < start or at.max() + size > end:
        wrong = at.max() if at.min() >= start else at.min()
        raise IndexError(f"{size} bytes at {wrong} of {space} memory, which has {start} to {end}.")
