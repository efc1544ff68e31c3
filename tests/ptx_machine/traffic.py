"""What a kernel's accesses cost: bank conflicts of shared memory, sectors of global memory.

A warp's access to shared memory takes as many turns as the most words that its lanes want of one of
32 banks; 8 and 16 bytes of a lane go by half warps and quarters. One to global memory moves whole
sectors of 32 bytes. `MINITORCH_CIML_PTX_TRAFFIC=FILE` writes a table of all that ran.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np

_WARP = 32
_BANKS, _WORD = 32, 4  # of shared memory; bytes
_SECTOR = 32  # bytes


class Traffic:
    """Counts of a kernel, by instruction: warps, the least that it costs, and what it did.

    Attributes:
        instruction: what is done now.
    """

    def __init__(self) -> None:
        self.instruction = ""
        self.counts: dict[str, np.ndarray] = defaultdict(lambda: np.zeros(3, np.int64))

    def note(self, space: str, threads: np.ndarray, at: np.ndarray, size: int) -> None:
        """An access of `size` bytes by each of these threads."""
        least, actual = (_turns if space == "shared" else _sectors)(threads, at, size)
        warps = len(np.unique(threads // _WARP))
        self.counts[f"{self.instruction}, {size} bytes, {space}"] += (warps, least, actual)


def _turns(threads: np.ndarray, at: np.ndarray, size: int) -> tuple[int, int]:
    """The groups of lanes that are served together, and the turns that they take."""
    together = min(_WARP, _WARP * _WORD // size)
    group = threads // together
    words = at[:, None] // _WORD + np.arange(max(1, size // _WORD))
    pairs = np.unique(np.stack(np.broadcast_arrays(group[:, None], words)).reshape(2, -1), axis=1)
    _, of_group, wanted = np.unique(
        pairs[0] * _BANKS + pairs[1] % _BANKS, return_index=True, return_counts=True
    )
    numbers, place = np.unique(pairs[0][of_group], return_inverse=True)
    turns = np.zeros(numbers.size, np.int64)
    np.maximum.at(turns, place, wanted)
    return numbers.size, int(turns.sum())


def _sectors(threads: np.ndarray, at: np.ndarray, size: int) -> tuple[int, int]:
    """Sectors that would hold the bytes, and those that do."""
    warp, moved = threads // _WARP, 0
    least = 0
    for one in np.unique(warp):
        own = np.unique(at[warp == one])
        least += -(-own.size * size // _SECTOR)
        moved += np.unique(own // _SECTOR).size
    return least, moved


def table(kernels: dict[str, Traffic]) -> str:
    """Those that cost more than they have to come first."""
    rows = [
        (actual / least, name, instruction, warps, least, actual)
        for name, traffic in kernels.items()
        for instruction, (warps, least, actual) in traffic.counts.items()
    ]
    lines = [
        f"{ratio:6.2f} {actual:9} of {least:9} {warps:8} warps  {name}: {instruction}"
        for ratio, name, instruction, warps, least, actual in sorted(rows, reverse=True)
    ]
    return "\n".join(lines) + "\n"
