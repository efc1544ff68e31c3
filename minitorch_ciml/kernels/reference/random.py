"""Counter-based random numbers: Philox4x32-10.

Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", 2011. There is no
state to carry: the numbers are a function of a key and a counter, so any part of a sequence can be
computed alone, on any device, by any rank. Here a `stream` of four 32-bit words holds the key (the
seed) in its first two and the upper half of the counter (the number of the draw) in its last two.
"""

from __future__ import annotations

import math

import numpy as np

Array = np.ndarray
Stream = tuple[int, int, int, int]

WORD = 0xFFFFFFFF
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10


def philox(counter: Array, key: tuple[int, int]) -> Array:
    """Four random words for every counter: (..., 4) -> (..., 4), uint32."""
    x = [counter[..., i].astype(np.uint64) for i in range(4)]
    a, b = key
    for _ in range(ROUNDS):
        p, q = x[0] * np.uint64(MULTIPLIERS[0]), x[2] * np.uint64(MULTIPLIERS[1])
        x = [
            (q >> np.uint64(32)) ^ x[1] ^ np.uint64(a),
            q & np.uint64(WORD),
            (p >> np.uint64(32)) ^ x[3] ^ np.uint64(b),
            p & np.uint64(WORD),
        ]
        a, b = (a + KEY_STEPS[0]) & WORD, (b + KEY_STEPS[1]) & WORD
    return np.stack(x, axis=-1).astype(np.uint32)


def random_words(rows: int, columns: int, *, stream: Stream, first_row: int = 0) -> Array:
    """(rows, columns) random words; those of a row depend on its number and the stream only."""
    blocks = -(-columns // 4)
    counter = np.empty((rows, blocks, 4), np.uint64)
    counter[..., 0] = np.arange(blocks)
    counter[..., 1] = np.arange(first_row, first_row + rows)[:, None]
    counter[..., 2], counter[..., 3] = stream[2:]
    return philox(counter, stream[:2]).reshape(rows, 4 * blocks)[:, :columns]


def dropped_below(rate: float) -> int:
    """The elements whose word is less than this are dropped: a share `rate` of them."""
    return min(round(rate * 2**32), WORD)


def dropout(x: Array, *, rate: float, stream: Stream, first_sample: int) -> Array:
    """x with a share `rate` of its elements set to 0, and the others divided by 1 - rate."""
    units = math.prod(x.shape[1:])
    words = random_words(len(x), units, stream=stream, first_row=first_sample)
    kept = (words >= dropped_below(rate)).reshape(x.shape)
    return np.where(kept, x * x.dtype.type(1 / (1 - rate)), x.dtype.type(0))
