"""Attention on the GPU: which kernel computes what.

Heads of up to 128 features go through tiles: in float32 on ordinary cores (`attention_tiles.py`),
in 16 bits on tensor cores (`attention_cores.py`), where their number is even. Everything else goes
row by row (`attention_rows.py`), 16-bit floats widened to float32 first. No kernel has all scores
in memory: it takes as much as the inputs.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minitorch_ciml.kernels.cuda import attention_cores, attention_rows, attention_tiles
from minitorch_ciml.kernels.cuda.attention_tiles import LOG2_E, Head
from minitorch_ciml.kernels.cuda.launch import Kernel, ceil_div
from minitorch_ciml.kernels.cuda.memory import CudaArray, empty, zeros
from minitorch_ciml.kernels.cuda.runtime import runtime

Needs = tuple[bool, ...]


def attention(
    q: CudaArray, k: CudaArray, v: CudaArray, mask: CudaArray, *, scale: float
) -> tuple[CudaArray, CudaArray]:
    how = _Attention(q, k, v, mask, scale, attention_cores.FORWARD_HEADS)
    if q.dtype.itemsize == 2 and not how.is_on_cores:
        y, log_sums = attention(*map(_widened, (q, k, v)), mask, scale=scale)
        return y.astype(q.dtype), log_sums
    samples, steps, heads, _ = q.shape
    width = v.shape[3]
    y = empty((samples, steps, heads, width), q.dtype)
    log_sums = empty((samples, heads, steps), np.float32 if how.is_on_cores else q.dtype)
    if log_sums.size == 0:
        return y, log_sums
    arrays = (y, log_sums, q, k, v, mask)
    if how.is_on_cores:
        how.run_on_cores(attention_cores.FORWARD, steps, *arrays, scale=scale * LOG2_E)
        return y, log_sums
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
    how = _Attention(q, k, v, mask, scale, attention_cores.BACKWARD_HEADS, g)
    if q.dtype.itemsize == 2 and not how.is_on_cores:
        wide = map(_widened, (g, y, q, k, v))
        found = attention_grad(*wide, mask, needs=needs, saved=saved, scale=scale)
        return tuple([None if x is None else x.astype(q.dtype) for x in found])
    if saved.size == 0 or k.size == 0 or v.size == 0:
        zero = [zeros(x.shape, x.dtype) if need else None for x, need in zip((q, k, v), needs)]
        return *zero, None
    deltas = _deltas(_widened(g), _widened(y)) if how.is_on_cores else _deltas(g, y)
    inputs = (g, q, k, v, saved, deltas, mask)
    dq = dk = dv = None
    if needs[0]:
        dq = empty(q.shape, q.dtype)
        how.run("QUERY_GRAD", q.shape[1], dq, *inputs)
    if needs[1] or needs[2]:
        dk, dv = empty(k.shape, k.dtype), empty(v.shape, v.dtype)
        how.run("SOURCE_GRADS", k.shape[1], dk, dv, *inputs)
    return dq, dk if needs[1] else None, dv if needs[2] else None, None


def _widened(x: CudaArray) -> CudaArray:
    return x.astype(np.float32)


class _Attention:
    """What all kernels get to know about one call.

    Attributes:
        sizes: T, S, heads, K, V.
        scale: in the inputs' type.
        by_fours: whether rows of K, and those of V, can be read 16 bytes at a time; `more` are of
            the latter.
        steps: from one of the mask's elements to the next, along N, H, T and S; 0 along axes on
            which it has one only.
        is_on_cores: whether tensor cores compute it, which have kernels for these heads.
    """

    def __init__(
        self, q: CudaArray, k: CudaArray, v: CudaArray, mask: CudaArray, scale: float,
        heads: tuple[attention_cores.Head, ...], *more: CudaArray,
    ):  # fmt: skip
        self.sizes = (q.shape[1], k.shape[1], q.shape[2], q.shape[3], v.shape[3])
        self.scale = np.float32(scale) if q.dtype.itemsize == 2 else q.dtype.type(scale)
        shape = (1,) * (4 - mask.ndim) + mask.shape
        strides = [math.prod(shape[axis + 1 :]) for axis in range(4)]
        self.steps = [0 if n == 1 else stride for n, stride in zip(shape, strides)]
        each = 8 if q.dtype.itemsize == 2 else 4
        self.by_fours = (
            q.shape[3] % each == 0 and all(x.is_aligned for x in (q, k)),
            v.shape[3] % each == 0 and all(x.is_aligned for x in (v, *more)),
        )
        self._dtype = q.pointer_type[:-1]
        self._heads = q.shape[0] * q.shape[2]
        features = q.shape[3], v.shape[3]
        self.is_on_cores = (
            q.dtype.itemsize == 2
            and runtime().capability >= attention_cores.NEEDS
            and max(features) <= heads[-1].size
            and all(n % 2 == 0 for n in features)  # four bytes are the least that can be copied
            and all(x.is_aligned for x in (q, k, v, *more))
        )

    def tiled(self, kernels: dict[Head, Kernel]) -> tuple[Head, Kernel] | tuple[None, Any]:
        """The tiles to use, if any will do."""
        most = max(self.sizes[3:])
        if self._dtype == "f4":
            for head, run in kernels.items():
                if most <= head.size and runtime().capability >= run.needs:
                    return head, run
        return None, None

    def run_on_cores(
        self, kernels: dict, rows: int, *arrays: CudaArray, scale: float | None = None
    ) -> None:
        """One of the kernels for tensor cores, for so many rows of each head."""
        run = next(
            run for (dtype, head), run in kernels.items()
            if dtype == self._dtype and max(self.sizes[3:]) <= head.size
        )  # fmt: skip
        tiles = ceil_div(rows, attention_cores.ROWS)
        run(
            self._heads * tiles, attention_cores.THREADS, *arrays, tiles, *self.sizes,
            *self.by_fours, float(self.scale) if scale is None else scale, *self.steps,
        )  # fmt: skip

    def run(self, name: str, rows: int, *arrays: CudaArray) -> None:
        """One of the gradients' kernels, for so many rows of each head."""
        if self.is_on_cores:
            self.run_on_cores(getattr(attention_cores, name), rows, *arrays)
            return
        head, run = self.tiled(getattr(attention_tiles, name))
        if head is not None:
            tiles = ceil_div(rows, head.rows)
            sizes = tiles, *self.sizes, *self.by_fours
            run(self._heads * tiles, head.threads, *arrays, *sizes, self.scale, *self.steps)
        else:
            run, blocks = getattr(attention_rows, name)[self._dtype], self._heads * rows
            run(blocks, attention_rows.THREADS, *arrays, *self.sizes, self.scale, *self.steps)


def _deltas(g: CudaArray, y: CudaArray) -> CudaArray:
    """The mean of g v under the weights, for every row of scores: (N, H, T)."""
    samples, steps, heads, width = g.shape
    out = empty((samples, heads, steps), g.dtype)
    grid = ceil_div(out.size, attention_rows.THREADS // 32)
    attention_rows.deltas(grid, attention_rows.THREADS, out, g, y, out.size, steps, heads, width)
    return out
