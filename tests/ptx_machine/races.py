"""Who has used which memory since when: accesses that nothing puts into an order are errors.

Of two accesses to the same place, one of which writes, something must come between: for two threads
of a warp a `bar.warp.sync` (lanes need not keep step), for two warps of a block a barrier of the
block, for two blocks the next launch. Atomic operations are not looked at.
"""

from __future__ import annotations

import numpy as np

THREADS = 1024  # of a block at most: what its threads' numbers have room for
WARP = 32
_NOBODY = -1
_WARPS = np.int64(1 << 32)  # a moment is barriers passed x this + meetings of the warp

# How far threads are from each other.
_SAME, _IN_WARP, _IN_BLOCK, _ELSEWHERE = range(4)
_ORDERED = {_IN_WARP: "a bar.warp.sync", _IN_BLOCK: "a barrier", _ELSEWHERE: "anything"}


def moment(barriers: np.ndarray, meetings: np.ndarray) -> np.ndarray:
    """When something happens: after so many barriers of the block and meetings of the warp."""
    return barriers * _WARPS + meetings


def _distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Between threads, numbered through all blocks of a launch."""
    near = (a != b).astype(np.int8)
    near += a // WARP != b // WARP
    near += a // THREADS != b // THREADS
    return near


class _Uses:
    """For each place its last uses of one kind."""

    def __init__(self, units: int):
        self.who = np.full(units, _NOBODY, np.int64)  # one of those threads
        self.when = np.zeros(units, np.int64)
        self.spread = np.zeros(units, np.int8)  # how far the others are from it

    def unordered(self, units: np.ndarray, who: np.ndarray, when: np.ndarray) -> np.ndarray:
        """How far the threads are from uses that may happen at the same time; 0 if there are none.

        Threads, moments and places are arrays of the same shape.
        """
        used_by = self.who[units]
        far = np.maximum(_distance(used_by, who), self.spread[units])
        far[used_by == _NOBODY] = _SAME
        before = self.when[units]
        far[(far == _IN_WARP) & (before != when)] = _SAME
        far[(far == _IN_BLOCK) & (before // _WARPS != when // _WARPS)] = _SAME
        return far

    def note(
        self, units: np.ndarray, who: np.ndarray, when: np.ndarray, spread: np.ndarray
    ) -> np.ndarray:
        """These uses come after the others; gives how far their own threads are from each other."""
        self.who[units], self.when[units], self.spread[units] = who, when, spread
        together = _distance(self.who[units], who)
        several = together > 0
        if several.any():
            np.maximum.at(self.spread, units[several], together[several])
        return together


class Races:
    """Looks for races in a piece of memory.

    Args:
        units: places that are looked at.
        space: what the memory is called.
    """

    def __init__(self, units: int, space: str):
        self._reads, self._writes = _Uses(units), _Uses(units)
        self._space = space

    def read(self, units: np.ndarray, who: np.ndarray, when: np.ndarray) -> None:
        self._refuse(self._writes.unordered(units, who, when), "reads", "has written")
        spread = self._reads.unordered(units, who, when)
        self._reads.note(units, who, when, spread)

    def write(self, units: np.ndarray, who: np.ndarray, when: np.ndarray) -> None:
        self._refuse(self._reads.unordered(units, who, when), "overwrites", "may still read")
        self._refuse(self._writes.unordered(units, who, when), "overwrites", "has written")
        together = self._writes.note(units, who, when, np.zeros(units.shape, np.int8))
        self._refuse(np.where(together > _IN_WARP, together, 0), "overwrites", "writes as well")

    def _refuse(self, far: np.ndarray, does: str, did: str) -> None:
        if far.any():
            worst = int(far.max())
            one = {_IN_WARP: "thread", _IN_BLOCK: "warp", _ELSEWHERE: "block"}[worst]
            raise RuntimeError(
                f"a {one} {does} {self._space} memory that another {did}, without "
                f"{_ORDERED[worst]} between them."
            )
