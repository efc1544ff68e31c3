"""Attention in tiles: the scores of a few steps at a time, which are never all in memory.

After Dao, Fu, Ermon, Rudra and Re, "FlashAttention", 2022. A block of threads has some steps of the
queries, of one head of one sample, and goes through the sources tile by tile. The softmax of a row
of scores is computed on the way: when a larger score comes, what was summed so far is scaled down.
Only the logarithm of each row's sum is kept, from which the gradients' kernels compute the weights
again. Each element of a result belongs to one thread, so results repeat bit for bit.

Rows lie in shared memory as they do in memory, padded so that threads which read the same places of
neighbouring rows meet in no bank. A thread computes 4 x 4 scores from four numbers each of four
rows of both sides: 64 multiply-adds for 8 reads of 16 bytes. All three kernels are bound by
arithmetic: 4 T S D operations forward and 10 backward, for T (D + D) + S (D + D) numbers read.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from numba import cuda, float32, int32

from minitorch_ciml.kernels.cuda.intrinsics import exp2_fast, i32, store4
from minitorch_ciml.kernels.cuda.launch import Kernel, kernel
from minitorch_ciml.kernels.cuda.shared_memory import lds4, smem_addr, sts4
from minitorch_ciml.kernels.cuda.tiles import four_of
from minitorch_ciml.kernels.cuda.windows import divided

LOG2_E = math.log2(math.e)  # e^x = 2^(x log2 e), and 2^x is one instruction
LN_2 = math.log(2)
LOWEST = -math.inf
_four = four_of(float32)


@dataclass(frozen=True)
class Head:
    """The tiles for heads of up to `size` features.

    Attributes:
        size: features of a row in shared memory; those that a head does not have are 0.
        rows: steps of a tile, of queries as well as of sources.
    """

    size: int
    rows: int

    @property
    def side(self) -> int:
        """Threads along each axis of a tile of scores."""
        return self.rows // 4

    @property
    def threads(self) -> int:
        return self.side * self.side

    @property
    def blocks(self) -> int:
        """Blocks per multiprocessor, for which the registers must do."""
        return 512 // self.threads if self.size < 128 else 4

    @property
    def line(self) -> int:
        """Numbers from row to row in shared memory."""
        return self.size + 4

    @property
    def score_line(self) -> int:
        return self.rows + 4

    def shared(self, tiles: int) -> int:
        """Bytes for so many tiles of rows, and one of scores."""
        return 4 * self.rows * (tiles * self.line + self.score_line)


# Small tiles where much must be held: several blocks then fit on a multiprocessor.
FORWARD_HEADS = (Head(32, 32), Head(64, 64), Head(128, 32))
BACKWARD_HEADS = (Head(32, 32), Head(64, 32), Head(128, 32))


# --- what the kernels are made of -----------------------------------------------------------------


@cache
def _load_rows(head: Head) -> Callable:
    per_row, line, rows, threads = head.size // 4, head.line, head.rows, head.threads
    times = rows * per_row // threads

    @cuda.jit(device=True, forceinline=True)
    def load_rows(tile, to, array, start, step, count, size, by_fours):
        """Brings `count` rows of `size` features to shared memory, from `to` on; the rest is 0."""
        for i in range(times):
            place = i32(cuda.threadIdx.x + i * threads)
            r, c = i32(place // per_row), i32(place % per_row * 4)
            more = i32(size - c) if r < count else int32(0)
            a0, a1, a2, a3 = _four(array, i32(start + r * step + c), more, by_fours)
            store4(tile, to + r * line + c, a0, a1, a2, a3)

    return load_rows


@cache
def _dots(head: Head) -> Callable:
    size, line, side = head.size, head.line, head.side

    @cuda.jit(device=True, forceinline=True)
    def dots(scores, left, right, a, b):
        """scores[i, j] = row 4 ty + i of the tile at `a` times row tx + side j of that at `b`.

        Both are addresses of this thread's first row.
        """
        for i in range(16):
            scores[i] = float32(0.0)
        for _ in range(size // 4):
            for i in range(4):
                (
                    left[4 * i], left[4 * i + 1], left[4 * i + 2], left[4 * i + 3],
                ) = lds4(a + i32(4 * i * line))  # fmt: skip
            for j in range(4):
                (
                    right[4 * j], right[4 * j + 1], right[4 * j + 2], right[4 * j + 3],
                ) = lds4(b + i32(4 * j * side * line))  # fmt: skip
            for i in range(4):
                for j in range(4):
                    for q in range(4):
                        scores[4 * i + j] += left[4 * i + q] * right[4 * j + q]
            a, b = i32(a + 16), i32(b + 16)

    return dots


@cache
def _put_weights(head: Head) -> Callable:
    side, score_line = head.side, head.score_line

    @cuda.jit(device=True, forceinline=True)
    def put_weights(p, weights):
        """weights[i, j] to column 4 ty + i of row tx + side j; `p` is the address of this column
        in row tx."""
        for j in range(4):
            sts4(
                p + i32(4 * side * j * score_line),
                weights[j], weights[4 + j], weights[8 + j], weights[12 + j],
            )  # fmt: skip

    return put_weights


@cache
def _mix(head: Head) -> Callable:
    rows, line, side, score_line = head.rows, head.line, head.side, head.score_line
    groups = head.size // (4 * side)
    wide, acc = 4 * groups, 16 * groups

    @cuda.jit(device=True, forceinline=True)
    def mix(total, left, right, p, b):
        """total[i] += sum over r of weight [r, 4 ty + i] times row r of the tile at `b`.

        Of a row this thread has 4 features from 4 tx + 4 side g on, for every g.
        """
        for _ in range(rows):
            left[0], left[1], left[2], left[3] = lds4(p)
            for g in range(groups):
                (
                    right[4 * g], right[4 * g + 1], right[4 * g + 2], right[4 * g + 3],
                ) = lds4(b + i32(16 * g * side))  # fmt: skip
            for o in range(acc):
                total[o] += left[o // wide] * right[o % wide]
            p, b = i32(p + 4 * score_line), i32(b + 4 * line)

    return mix


@cache
def _put_rows(head: Head) -> Callable:
    side = head.side
    groups = head.size // (4 * side)

    @cuda.jit(device=True, forceinline=True)
    def put_rows(array, start, step, count, size, by_fours, total, row, column):
        """Writes what this thread has: four rows from `row` on, if they are among `count`."""
        for part in range(4 * groups):
            i, c = part // groups, column + 4 * side * (part % groups)
            to = i32(start + (row + i) * step + c)
            if row + i < count:
                if by_fours:
                    if c < size:
                        store4(
                            array, to, total[4 * part], total[4 * part + 1], total[4 * part + 2],
                            total[4 * part + 3],
                        )  # fmt: skip
                else:
                    for q in range(4):
                        if c + q < size:
                            array[to + q] = total[4 * part + q]

    return put_rows


@cache
def _allowed_scores(head: Head) -> Callable:
    side = head.side

    @cuda.jit(device=True, forceinline=True)
    def allowed_scores(mask, start, row, column, rows, columns, by_row, by_column):
        """Bit 4 i + j says whether score [row + i, column + side j] is allowed.

        `start` is the mask's first element of this head; rows and columns may be steps or sources.
        """
        allowed = int32(0)
        for i in range(4):
            for j in range(4):
                r, c = i32(row + i), i32(column + side * j)
                if r < rows and c < columns:
                    if mask[i32(start + r * by_row + c * by_column)] != 0:
                        allowed |= int32(1 << (4 * i + j))
        return allowed

    return allowed_scores


@cuda.jit(device=True, forceinline=True)
def log_of_sum(top, mass):
    """The logarithm of the sum of a row's e^score, of 2^top mass; infinity where it is empty."""
    if mass == float32(0.0):
        return float32(math.inf)
    return float32(LN_2) * top + math.log(mass)


@cuda.jit(device=True, forceinline=True)
def kept_of_step(log_sums, deltas, head, t, steps):
    """What the gradients need of step t: the logarithm to base 2 of its sum, and its delta."""
    if t >= steps:
        return float32(0.0), float32(0.0)
    at = i32(head * steps + t)
    return log_sums[at] * float32(LOG2_E), deltas[at]


@cache
def any_allowed_of(threads: int) -> Callable:
    warps = threads // 32

    @cuda.jit(device=True, forceinline=True)
    def any_allowed(flags, here):
        """Whether `here` is true in any thread of the block; all must call it."""
        warp_has = cuda.any_sync(0xFFFFFFFF, here)
        if cuda.laneid == 0:
            flags[cuda.threadIdx.x // 32] = int32(1 if warp_has else 0)
        cuda.syncthreads()
        found = int32(0)
        for w in range(warps):
            found |= flags[w]
        return found != 0

    return any_allowed


def _across(side: int) -> tuple[Callable, Callable]:
    """The largest and the sum of what the threads have that share a row of scores."""

    @cuda.jit(device=True, forceinline=True)
    def largest(x):
        if side == 16:
            x = max(x, cuda.shfl_xor_sync(0xFFFFFFFF, x, 8))
        x = max(x, cuda.shfl_xor_sync(0xFFFFFFFF, x, 4))
        x = max(x, cuda.shfl_xor_sync(0xFFFFFFFF, x, 2))
        return max(x, cuda.shfl_xor_sync(0xFFFFFFFF, x, 1))

    @cuda.jit(device=True, forceinline=True)
    def summed(x):
        if side == 16:
            x += cuda.shfl_xor_sync(0xFFFFFFFF, x, 8)
        x += cuda.shfl_xor_sync(0xFFFFFFFF, x, 4)
        x += cuda.shfl_xor_sync(0xFFFFFFFF, x, 2)
        return x + cuda.shfl_xor_sync(0xFFFFFFFF, x, 1)

    return largest, summed


# --- forward --------------------------------------------------------------------------------------

MASK = " i4 i4 i4 i4"  # steps from one element of the mask to the next, along N, H, T and S


def _forward(head: Head) -> Kernel:
    rows, side, line, score_line = head.rows, head.side, head.line, head.score_line
    groups = head.size // (4 * side)
    wide = 4 * groups
    acc, warps = 4 * wide, head.threads // 32
    load_rows, dots, mix, put_rows = _load_rows(head), _dots(head), _mix(head), _put_rows(head)
    put_weights = _put_weights(head)
    allowed_scores, any_allowed = _allowed_scores(head), any_allowed_of(head.threads)
    largest, summed = _across(side)
    kv_at, p_at = rows * line, 2 * rows * line

    @kernel(
        "f4* f4* f4* f4* f4* b1* i4 i4 i4 i4 i4 i4 i4 i4 f4" + MASK,
        threads=head.threads, blocks=head.blocks, shared=head.shared(2),
        name=f"attention_tiles.forward_{head.size}",
    )  # fmt: skip
    def forward(
        y, log_sums, q, k, v, mask, tiles, steps, sources, heads, size, width, size_by_fours,
        width_by_fours, scale, mask_n, mask_h, mask_t, mask_s,
    ):  # fmt: skip
        """`scale` includes log2 e; a block has one tile of steps, of one head of one sample."""
        tile = cuda.shared.array(0, float32, alignment=16)
        flags = cuda.shared.array(warps, int32)
        scores = cuda.local.array(16, float32)
        left = cuda.local.array(16, float32)
        right = cuda.local.array(16, float32)
        total = cuda.local.array(acc, float32)
        top = cuda.local.array(4, float32)
        mass = cuda.local.array(4, float32)
        shift = cuda.local.array(4, float32)
        shrink = cuda.local.array(4, float32)
        for i in range(acc):
            total[i] = float32(0.0)
        for i in range(4):
            top[i] = float32(LOWEST)
            mass[i] = float32(0.0)
        one_head, number = divided(i32(cuda.blockIdx.x), tiles)
        n, h = divided(one_head, heads)
        first = i32(number * rows)
        ty, tx = i32(cuda.threadIdx.x // side), i32(cuda.threadIdx.x % side)
        base = smem_addr(tile)
        q_rows = base + i32(16 * ty * line)
        kv_rows = base + i32(4 * (kv_at + tx * line))
        kv_columns = base + i32(4 * (kv_at + 4 * tx))
        p_own = base + i32(4 * (p_at + tx * score_line + 4 * ty))
        p_columns = base + i32(4 * (p_at + 4 * ty))
        mask_start = i32(n * mask_n + h * mask_h)
        k_step, v_step = i32(heads * size), i32(heads * width)
        start = i32(((n * steps + first) * heads + h) * size)
        load_rows(tile, 0, q, start, k_step, i32(steps - first), size, size_by_fours)

        for s0 in range(int32(0), sources, int32(rows)):
            allowed = allowed_scores(
                mask, mask_start, i32(first + 4 * ty), i32(s0 + tx), steps, sources, mask_t, mask_s
            )
            # Also: all threads have done with the tiles before.
            if any_allowed(flags, allowed != 0):
                start = i32(((n * sources + s0) * heads + h) * size)
                load_rows(tile, kv_at, k, start, k_step, i32(sources - s0), size, size_by_fours)
                cuda.syncthreads()
                dots(scores, left, right, q_rows, kv_rows)
                for i in range(16):
                    is_allowed = allowed & (1 << i) != 0
                    scores[i] = scores[i] * scale if is_allowed else float32(LOWEST)
                for i in range(4):
                    old = top[i]
                    for j in range(4):
                        top[i] = max(top[i], scores[4 * i + j])
                    top[i] = largest(top[i])
                    shift[i] = float32(0.0) if top[i] == float32(LOWEST) else top[i]
                    shrink[i] = exp2_fast(old - shift[i])
                    mass[i] *= shrink[i]
                for i in range(4):
                    for j in range(4):
                        scores[4 * i + j] = exp2_fast(scores[4 * i + j] - shift[i])
                        mass[i] += scores[4 * i + j]
                put_weights(p_own, scores)
                for o in range(acc):
                    total[o] *= shrink[o // wide]
                cuda.syncthreads()
                start = i32(((n * sources + s0) * heads + h) * width)
                load_rows(tile, kv_at, v, start, v_step, i32(sources - s0), width, width_by_fours)
                cuda.syncthreads()
                mix(total, left, right, p_columns, kv_columns)
            cuda.syncthreads()

        for i in range(4):
            mass[i] = summed(mass[i])
            shrink[i] = float32(0.0) if mass[i] == float32(0.0) else float32(1.0) / mass[i]
        for o in range(acc):
            total[o] *= shrink[o // wide]
        start, row, column = (
            i32(((n * steps + first) * heads + h) * width),
            i32(4 * ty),
            i32(4 * tx),
        )
        put_rows(y, start, v_step, i32(steps - first), width, width_by_fours, total, row, column)
        if tx == 0:
            for i in range(4):
                t = i32(first + 4 * ty + i)
                if t < steps:
                    log_sums[i32(one_head * steps + t)] = log_of_sum(top[i], mass[i])

    return forward


FORWARD = {head: _forward(head) for head in FORWARD_HEADS}


# --- backward -------------------------------------------------------------------------------------

# In all that follows: p = e^(score - log of the sum), the weights; and, with dp = g v and delta the
# mean of dp under the weights (which is g y), ds = p (dp - delta) scale, the scores' gradient.


def _query_grad(head: Head) -> Kernel:
    rows, side, line, score_line = head.rows, head.side, head.line, head.score_line
    acc, warps = 16 * (head.size // (4 * side)), head.threads // 32
    load_rows, dots, mix, put_rows = _load_rows(head), _dots(head), _mix(head), _put_rows(head)
    put_weights = _put_weights(head)
    allowed_scores, any_allowed = _allowed_scores(head), any_allowed_of(head.threads)
    g_at, kv_at, p_at = rows * line, 2 * rows * line, 3 * rows * line

    @kernel(
        "f4* f4* f4* f4* f4* f4* f4* b1* i4 i4 i4 i4 i4 i4 i4 i4 f4" + MASK,
        threads=head.threads, blocks=3 if head.size < 128 else 2, shared=head.shared(3),
        name=f"attention_tiles.query_grad_{head.size}",
    )  # fmt: skip
    def query_grad(
        dq, g, q, k, v, log_sums, deltas, mask, tiles, steps, sources, heads, size, width,
        size_by_fours, width_by_fours, scale, mask_n, mask_h, mask_t, mask_s,
    ):  # fmt: skip
        """dq = ds k: a block has one tile of steps, and goes through the sources."""
        tile = cuda.shared.array(0, float32, alignment=16)
        flags = cuda.shared.array(warps, int32)
        scores = cuda.local.array(16, float32)
        slopes = cuda.local.array(16, float32)
        left = cuda.local.array(16, float32)
        right = cuda.local.array(16, float32)
        total = cuda.local.array(acc, float32)
        log_sum = cuda.local.array(4, float32)
        delta = cuda.local.array(4, float32)
        for i in range(acc):
            total[i] = float32(0.0)
        one_head, number = divided(i32(cuda.blockIdx.x), tiles)
        n, h = divided(one_head, heads)
        first = i32(number * rows)
        ty, tx = i32(cuda.threadIdx.x // side), i32(cuda.threadIdx.x % side)
        base = smem_addr(tile)
        q_rows, g_rows = base + i32(16 * ty * line), base + i32(4 * (g_at + 4 * ty * line))
        kv_rows = base + i32(4 * (kv_at + tx * line))
        k_columns = base + i32(4 * (kv_at + 4 * tx))
        p_own = base + i32(4 * (p_at + tx * score_line + 4 * ty))
        p_columns = base + i32(4 * (p_at + 4 * ty))
        mask_start = i32(n * mask_n + h * mask_h)
        k_step, v_step = i32(heads * size), i32(heads * width)
        for i in range(4):
            t = i32(first + 4 * ty + i)
            log_sum[i], delta[i] = kept_of_step(log_sums, deltas, one_head, t, steps)
        start = i32(((n * steps + first) * heads + h) * size)
        load_rows(tile, 0, q, start, k_step, i32(steps - first), size, size_by_fours)
        start = i32(((n * steps + first) * heads + h) * width)
        load_rows(tile, g_at, g, start, v_step, i32(steps - first), width, width_by_fours)

        for s0 in range(int32(0), sources, int32(rows)):
            allowed = allowed_scores(
                mask, mask_start, i32(first + 4 * ty), i32(s0 + tx), steps, sources, mask_t, mask_s
            )
            if any_allowed(flags, allowed != 0):
                start = i32(((n * sources + s0) * heads + h) * width)
                load_rows(tile, kv_at, v, start, v_step, i32(sources - s0), width, width_by_fours)
                cuda.syncthreads()
                dots(slopes, left, right, g_rows, kv_rows)
                cuda.syncthreads()
                start = i32(((n * sources + s0) * heads + h) * size)
                load_rows(tile, kv_at, k, start, k_step, i32(sources - s0), size, size_by_fours)
                cuda.syncthreads()
                dots(scores, left, right, q_rows, kv_rows)
                for o in range(16):
                    weight = exp2_fast(scores[o] * (scale * float32(LOG2_E)) - log_sum[o // 4])
                    slope = weight * (slopes[o] - delta[o // 4]) * scale
                    slopes[o] = slope if allowed & (1 << o) != 0 else float32(0.0)
                put_weights(p_own, slopes)
                cuda.syncthreads()
                mix(total, left, right, p_columns, k_columns)
            cuda.syncthreads()

        start, row, column = i32(((n * steps + first) * heads + h) * size), i32(4 * ty), i32(4 * tx)
        put_rows(dq, start, k_step, i32(steps - first), size, size_by_fours, total, row, column)

    return query_grad


def _source_grads(head: Head) -> Kernel:
    rows, side, line, score_line = head.rows, head.side, head.line, head.score_line
    acc, warps = 16 * (head.size // (4 * side)), head.threads // 32
    load_rows, dots, mix, put_rows = _load_rows(head), _dots(head), _mix(head), _put_rows(head)
    put_weights = _put_weights(head)
    allowed_scores, any_allowed = _allowed_scores(head), any_allowed_of(head.threads)
    v_at, q_at, g_at, p_at = (i * rows * line for i in (1, 2, 3, 4))

    @kernel(
        "f4* f4* f4* f4* f4* f4* f4* f4* b1* i4 i4 i4 i4 i4 i4 i4 i4 f4" + MASK,
        threads=head.threads, blocks=4 if head.size < 128 else 2, shared=head.shared(4),
        needs=(7, 5) if head.size < 128 else (8, 0),
        name=f"attention_tiles.source_grads_{head.size}",
    )  # fmt: skip
    def source_grads(
        dk, dv, g, q, k, v, log_sums, deltas, mask, tiles, steps, sources, heads, size, width,
        size_by_fours, width_by_fours, scale, mask_n, mask_h, mask_t, mask_s,
    ):  # fmt: skip
        """dv = p^T g and dk = ds^T q: a block has one tile of sources, and goes through the steps.

        Here the rows of the scores are sources, and the columns steps.
        """
        tile = cuda.shared.array(0, float32, alignment=16)
        flags = cuda.shared.array(warps, int32)
        scores = cuda.local.array(16, float32)
        slopes = cuda.local.array(16, float32)
        left = cuda.local.array(16, float32)
        right = cuda.local.array(16, float32)
        total_k = cuda.local.array(acc, float32)
        total_v = cuda.local.array(acc, float32)
        log_sum = cuda.local.array(4, float32)
        delta = cuda.local.array(4, float32)
        for i in range(acc):
            total_k[i] = float32(0.0)
            total_v[i] = float32(0.0)
        one_head, number = divided(i32(cuda.blockIdx.x), tiles)
        n, h = divided(one_head, heads)
        first = i32(number * rows)
        ty, tx = i32(cuda.threadIdx.x // side), i32(cuda.threadIdx.x % side)
        base = smem_addr(tile)
        k_rows, v_rows = base + i32(16 * ty * line), base + i32(4 * (v_at + 4 * ty * line))
        q_rows, g_rows = base + i32(4 * (q_at + tx * line)), base + i32(4 * (g_at + tx * line))
        q_columns, g_columns = base + i32(4 * (q_at + 4 * tx)), base + i32(4 * (g_at + 4 * tx))
        p_own = base + i32(4 * (p_at + tx * score_line + 4 * ty))
        p_columns = base + i32(4 * (p_at + 4 * ty))
        mask_start = i32(n * mask_n + h * mask_h)
        k_step, v_step = i32(heads * size), i32(heads * width)
        start = i32(((n * sources + first) * heads + h) * size)
        load_rows(tile, 0, k, start, k_step, i32(sources - first), size, size_by_fours)
        start = i32(((n * sources + first) * heads + h) * width)
        load_rows(tile, v_at, v, start, v_step, i32(sources - first), width, width_by_fours)

        for t0 in range(int32(0), steps, int32(rows)):
            allowed = allowed_scores(
                mask, mask_start, i32(first + 4 * ty), i32(t0 + tx), sources, steps, mask_s, mask_t
            )
            if any_allowed(flags, allowed != 0):
                for j in range(4):
                    t = i32(t0 + tx + side * j)
                    log_sum[j], delta[j] = kept_of_step(log_sums, deltas, one_head, t, steps)
                start = i32(((n * steps + t0) * heads + h) * size)
                load_rows(tile, q_at, q, start, k_step, i32(steps - t0), size, size_by_fours)
                start = i32(((n * steps + t0) * heads + h) * width)
                load_rows(tile, g_at, g, start, v_step, i32(steps - t0), width, width_by_fours)
                cuda.syncthreads()
                dots(scores, left, right, k_rows, q_rows)
                dots(slopes, left, right, v_rows, g_rows)
                for o in range(16):
                    weight = exp2_fast(scores[o] * (scale * float32(LOG2_E)) - log_sum[o % 4])
                    scores[o] = weight if allowed & (1 << o) != 0 else float32(0.0)
                    slopes[o] = scores[o] * (slopes[o] - delta[o % 4]) * scale
                put_weights(p_own, scores)
                cuda.syncthreads()
                mix(total_v, left, right, p_columns, g_columns)
                cuda.syncthreads()
                put_weights(p_own, slopes)
                cuda.syncthreads()
                mix(total_k, left, right, p_columns, q_columns)
            cuda.syncthreads()

        start, row, column = i32((n * sources + first) * heads + h), i32(4 * ty), i32(4 * tx)
        count = i32(sources - first)
        put_rows(dk, i32(start * size), k_step, count, size, size_by_fours, total_k, row, column)
        put_rows(dv, i32(start * width), v_step, count, width, width_by_fours, total_v, row, column)

    return source_grads


QUERY_GRAD = {head: _query_grad(head) for head in BACKWARD_HEADS}
SOURCE_GRADS = {head: _source_grads(head) for head in BACKWARD_HEADS}
