"""Counter-based random numbers on the GPU: the bits of `reference/random.py`.

A thread computes the four words that belong together. A word takes about 15 instructions, so that
dropout is bound by the memory that it reads and writes; it keeps no mask, but computes it again
for the gradient.
"""

from __future__ import annotations

import math

import numpy as np
from numba import cuda, float32, int32, uint32, uint64

from minitorch_ciml.kernels import steps
from minitorch_ciml.kernels.cuda.elements import read, write
from minitorch_ciml.kernels.cuda.launch import ceil_div, kernel
from minitorch_ciml.kernels.cuda.memory import CudaArray, empty
from minitorch_ciml.kernels.cuda.windows import THREADS, divided, over
from minitorch_ciml.kernels.reference.random import (
    KEY_STEPS,
    MULTIPLIERS,
    ROUNDS,
    Stream,
    dropped_below,
)

_MULTIPLY_0, _MULTIPLY_1 = MULTIPLIERS
_STEP_0, _STEP_1 = KEY_STEPS
_HALF = 32  # bits of a product's lower half


@cuda.jit(device=True)
def _philox(x0, x1, x2, x3, a, b):
    """Four random words for a counter of four words and a key of two."""
    for _ in range(ROUNDS):
        p, q = uint64(_MULTIPLY_0) * uint64(x0), uint64(_MULTIPLY_1) * uint64(x2)
        x0, x1 = uint32(q >> uint64(_HALF)) ^ x1 ^ a, uint32(q)
        x2, x3 = uint32(p >> uint64(_HALF)) ^ x3 ^ b, uint32(p)
        x0, x2 = uint32(x0), uint32(x2)
        a, b = uint32(a + uint32(_STEP_0)), uint32(b + uint32(_STEP_1))
    return x0, x1, x2, x3


@kernel("u4* i4 i4 i4 i4 u4*", threads=THREADS)
def _random_words(words, count, blocks, columns, first_row, stream):
    i = cuda.grid(1)
    if i < count:
        row, block = divided(i, blocks)
        drawn = _philox(
            uint32(block), uint32(first_row + row), stream[2], stream[3], stream[0], stream[1]
        )
        for j in range(min(4, columns - 4 * block)):
            words[row * columns + 4 * block + j] = drawn[j]


def _dropout(y, x, scale, threshold, count, blocks, columns, first_row, stream):
    i = cuda.grid(1)
    if i < count:
        row, block = divided(i, blocks)
        drawn = _philox(
            uint32(block), uint32(first_row + row), stream[2], stream[3], stream[0], stream[1]
        )
        for j in range(min(4, columns - 4 * block)):
            at = int32(row * columns + 4 * block + j)
            write(y, at, read(x, at) * scale if drawn[j] >= threshold else float32(0.0))


# The scale is in the type that is computed with: float32 also for 16 bits.
_DROPOUT = {
    code: kernel(
        f"T* T* {scale} u4 i4 i4 i4 i4 u4*", threads=THREADS, T=(code,),
        name=f"random.dropout_{code}",
    )(_dropout)
    for code, scale in {"f4": "f4", "f8": "f8", "f2": "f4", "bf2": "f4"}.items()
}  # fmt: skip


def _words(stream: Stream | CudaArray) -> CudaArray:
    """The four words on the GPU: there they are where a replayed step draws others (`steps.py`)."""
    if isinstance(stream, CudaArray):
        return stream
    return steps.numbers(lambda: stream, "uint32", "cuda")


def random_words(
    rows: int, columns: int, *, stream: Stream | CudaArray, first_row: int = 0
) -> CudaArray:
    words = empty((rows, columns), np.uint32)
    if words.size:
        blocks = ceil_div(columns, 4)
        count = rows * blocks
        _random_words(*over(count), words, count, blocks, columns, first_row, _words(stream))
    return words


def dropout(
    x: CudaArray, *, rate: float, stream: Stream | CudaArray, first_sample: int
) -> CudaArray:
    y = empty(x.shape, x.dtype)
    if y.size:
        columns = math.prod(x.shape[1:])
        blocks = ceil_div(columns, 4)
        count = x.shape[0] * blocks
        threshold, share = np.uint32(dropped_below(rate)), 1 / (1 - rate)
        # As NumPy has it: rounded to the type of x, then multiplied.
        scale = np.float64(share) if x.pointer_type == "f8*" else np.float32(x.dtype.type(share))
        _DROPOUT[x.pointer_type[:-1]](
            *over(count), y, x, scale, threshold, count, blocks, columns, first_sample,
            _words(stream),
        )  # fmt: skip
    return y
