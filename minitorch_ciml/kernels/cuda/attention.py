"""Attention on the GPU: which kernel computes what.

Heads of up to 128 features in float32 go through tiles (`attention_tiles.py`), everything else row
by row (`attention_rows.py`). The 16-bit floats are widened to float32 first. No kernel has all
scores in memory: it takes as much as the inputs.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minitorch_ciml.kernels.cuda import attention_rows, attention_tiles
from minitorch_ciml.kernels.cuda.attention_tiles import LOG2_E, Head
from minitorch_ciml.kernels.cuda.launch import Kernel, ceil_div
from minitorch_ciml.kernels.cuda.memory import CudaArray, empty, zeros
from minitorch_ciml.kernels.cuda.runtime import runtime

Needs = tuple[bool, ...]


def attention(
    q: CudaArray, k: CudaArray, v: CudaArray, mask: CudaArray, *, scale: float
) -> tuple[CudaArray, CudaArray]:
    if q.dtype.itemsize == 2:
        y, log_sums = attention(*map(_widened, (q, k, v)), mask, scale=scale)
        return y.astype(q.dtype), log_sums
    samples, steps, heads, _ = q.shape
    width = v.shape[3]
    y = empty((samples, steps, heads, width), q.dtype)
    log_sums = empty((samples, heads, steps), q.dtype)
    if log_sums.size == 0:
        return y, log_sums
    how = _Attention(q, k, v, mask, scale)
    arrays = (y, log_sums, q, k, v, mask)
    head, run = how.tiled(attention_tiles.FORWARD)
    if head is not None:
        tiles = ceil_div(steps, head.rows)
        scale = scale * LOG2_E
        sizes = *how.sizes, *how.by_fours
        run(samples * heads * tiles, head.threads, *arrays, tiles, *sizes, scale, *how.steps)
    else:
        run = attention_rows.FORWARD[q.pointer_type[:-1]]
        run(log_sums.size, attention_rows.THREADS, *arrays, *how.sizes, how.scale, *how.steps)
    return y, log_sums


def attention_grad(
    g: CudaArray, y: CudaArray, q: CudaArray, k: CudaArray, v: CudaArray, mask: CudaArray, *,
    needs: Needs, saved: CudaArray, scale: float,
) -> tuple[CudaArray | None, ...]:  # fmt: skip
    if q.dtype.itemsize == 2:
        wide = map(_widened, (g, y, q, k, v))
        found = attention_grad(*wide, mask, needs=needs, saved=saved, scale=scale)
        return tuple([x and x.astype(q.dtype) for x in found])
    if saved.size == 0 or k.size == 0 or v.size == 0:
        zero = [zeros(x.shape, x.dtype) if need else None for x, need in zip((q, k, v), needs)]
        return *zero, None
    how = _Attention(q, k, v, mask, scale, g)
    deltas = _deltas(g, y)
    inputs = (g, q, k, v, saved, deltas, mask)
    dq = dk = dv = None
    if needs[0]:
        dq = empty(q.shape, q.dtype)
        how.run(attention_tiles.QUERY_GRAD, attention_rows.QUERY_GRAD, q.shape[1], dq, *inputs)
    if needs[1] or needs[2]:
        dk, dv = empty(k.shape, k.dtype), empty(v.shape, v.dtype)
        how.run(
            attention_tiles.SOURCE_GRADS, attention_rows.SOURCE_GRADS, k.shape[1], dk, dv, *inputs
        )
    return dq, dk if needs[1] else None, dv if needs[2] else None, None


def _widened(x: CudaArray) -> CudaArray:
    return x.astype(np.float32)


class _Attention:
    """What all kernels get to know about one call.

    Attributes:
        sizes: T, S, heads, K, V.
        scale: in the inputs' type.
        by_fours: whether rows of K, and those of V, can be read in fours; `more` are of the latter.
        steps: from one of the mask's elements to the next, along N, H, T and S; 0 along axes on
            which it has one only.
    """

    def __init__(
        self, q: CudaArray, k: CudaArray, v: CudaArray, mask: CudaArray, scale: float,
        *more: CudaArray,
    ):  # fmt: skip
        self.sizes = (q.shape[1], k.shape[1], q.shape[2], q.shape[3], v.shape[3])
        self.scale = q.dtype.type(scale)
        shape = (1,) * (4 - mask.ndim) + mask.shape
        strides = [math.prod(shape[axis + 1 :]) for axis in range(4)]
        self.steps = [0 if n == 1 else stride for n, stride in zip(shape, strides)]
        self.by_fours = (
            q.shape[3] % 4 == 0 and all(x.is_aligned for x in (q, k)),
            v.shape[3] % 4 == 0 and all(x.is_aligned for x in (v, *more)),
        )
        self._dtype = q.pointer_type[:-1]
        self._heads = q.shape[0] * q.shape[2]

    def tiled(self, kernels: dict[Head, Kernel]) -> tuple[Head, Kernel] | tuple[None, Any]:
        """The tiles to use, if any will do."""
        most = max(self.sizes[3:])
        if self._dtype == "f4":
            for head, run in kernels.items():
                if most <= head.size and runtime().capability >= run.needs:
                    return head, run
        return None, None

    def run(self, tiled: dict, by_rows: dict, rows: int, *arrays: CudaArray) -> None:
        """One of the gradients' kernels, for so many rows of each head."""
        head, run = self.tiled(tiled)
        if head is not None:
            tiles = ceil_div(rows, head.rows)
            sizes = tiles, *self.sizes, *self.by_fours
            run(self._heads * tiles, head.threads, *arrays, *sizes, self.scale, *self.steps)
        else:
            run, blocks = by_rows[self._dtype], self._heads * rows
            run(blocks, attention_rows.THREADS, *arrays, *self.sizes, self.scale, *self.steps)


def _deltas(g: CudaArray, y: CudaArray) -> CudaArray:
    """The mean of g v under the weights, for every row of scores: (N, H, T)."""
    samples, steps, heads, width = g.shape
    out = empty((samples, heads, steps), g.dtype)
    grid = ceil_div(out.size, attention_rows.THREADS // 32)
    attention_rows.deltas(grid, attention_rows.THREADS, out, g, y, out.size, steps, heads, width)
    return out
