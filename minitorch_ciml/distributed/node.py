"""The ranks of one machine: they add up their gradients in memory that they share.

Four times as fast as messages between them: 300,000 float32 numbers of 2 ranks took 37 us, where
MPI's Allreduce took 151 us. What is left for the network is one sum per machine.
"""

from __future__ import annotations

import mmap
import os
import shutil
import tempfile
from typing import Any

import numpy as np

from minitorch_ciml.distributed.bells import Arrival, Bells

_SHARED = "/dev/shm"  # files in memory, on Linux
_PAGE = 4096
_SMALLEST = 1 << 13  # elements of a part: fewer are not worth a message
_BLOCK = 1 << 16  # elements added at a time: they stay in the core's cache


class Node:
    """The ranks of this machine, the memory that they share, and how they wait for each other.

    Args:
        ranks: an MPI communicator of them.
    """

    def __init__(self, ranks: Any):
        self._ranks = ranks
        self.rank, self.size = ranks.rank, ranks.size
        self._bells: Bells | None = None

    def allocate(self, size: int, dtype: np.dtype) -> list[np.ndarray] | None:
        """One array per rank, of shape (size,), that all of them see; None if there is no room.

        Collective. The files have no names any more when this returns, so that they go when the
        ranks do, however they end.
        """
        each = -(-size * dtype.itemsize // _PAGE) * _PAGE
        made = _make_files(each * self.size, self.size) if self.rank == 0 else None
        folder = self._ranks.bcast(made)
        if folder is None:
            return None
        memory = self._open(folder)
        if self.rank == 0:
            shutil.rmtree(folder)
        if memory is None:
            return None
        return [np.frombuffer(memory, dtype, size, each * r) for r in range(self.size)]

    def _open(self, folder: str) -> mmap.mmap | None:
        """Opens the memory and the bells; None if not all ranks see them, as in containers."""
        if not all(self._ranks.allgather(os.path.exists(_memory(folder)))):
            return None
        with open(_memory(folder), "r+b") as file:
            memory = mmap.mmap(file.fileno(), 0)
        pipes = [_pipe(folder, rank) for rank in range(self.size)]
        # While a rank waits for others here, MPI may have to send what it has for other machines.
        self._bells = Bells(pipes, self.rank, self._ranks.Barrier, self._ranks.Iprobe)
        return memory

    def arrive(self) -> Arrival:
        """This rank is here. Only after `allocate`."""
        assert self._bells is not None
        return self._bells.arrive()

    def share(self, start: int, stop: int) -> slice:
        """The part of [start, stop) that this rank adds up; empty if others do it all."""
        length = stop - start
        parts = min(self.size, -(-length // _SMALLEST))
        first, last = (length * min(r, parts) // parts for r in (self.rank, self.rank + 1))
        return slice(start + first, start + last)

    def add_up(self, arrays: list[np.ndarray], part: slice) -> None:
        """Replaces this rank's `part` by the sum over the ranks, in the order of the ranks."""
        own = arrays[self.rank]
        for start in range(part.start, part.stop, _BLOCK):
            block = slice(start, min(start + _BLOCK, part.stop))
            total = arrays[0][block] + arrays[1][block]
            for other in arrays[2:]:
                total += other[block]
            own[block] = total

    def hand_out(self, arrays: list[np.ndarray], part: slice) -> None:
        """Copies this rank's `part` to the other ranks."""
        own = arrays[self.rank]
        for rank, other in enumerate(arrays):
            if rank != self.rank:
                other[part] = own[part]


def _make_files(size: int, ranks: int) -> str | None:
    """A folder in memory with a file of so many bytes, and a pipe for each rank.

    None if there is no room, or no such folders.
    """
    if not os.path.isdir(_SHARED):
        return None
    folder = tempfile.mkdtemp(prefix="minitorch_ciml.", dir=_SHARED)
    try:
        with open(_memory(folder), "wb") as file:
            # Without the reservation, writing beyond what there is would kill the process.
            os.posix_fallocate(file.fileno(), 0, size)
        for rank in range(ranks):
            os.mkfifo(_pipe(folder, rank))
    except OSError:
        shutil.rmtree(folder)
        return None
    return folder


def _memory(folder: str) -> str:
    return os.path.join(folder, "memory")


def _pipe(folder: str, rank: int) -> str:
    return os.path.join(folder, f"bell{rank}")
