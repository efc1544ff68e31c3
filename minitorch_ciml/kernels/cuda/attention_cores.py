"""Attention on tensor cores, for bfloat16 and float16.

The same computation as in `attention_tiles.py`, with the pieces of `cores.py`. A warp has 16 rows
of the scores, by 64 columns, as tensor cores leave them in its registers; after the softmax they
are packed there into the left factor of the next product, so that scores and weights are never in
shared memory. Rows of q, k, v and g lie there as they do in memory, and are read along their
features or across them, as a product wants it. Sums, scores and the softmax are float32.

What limits it: for a tile of scores of 64 features a warp starts 128 products of tensor cores
forward (320 backward), reads 40 times 512 bytes of shared memory for each 64 of them, and computes
32 powers for each thread: bound by shared memory and by the softmax, not by tensor cores.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from numba import cuda, float32, int32

from minitorch_ciml.kernels.cuda.attention_tiles import (
    LOG2_E,
    LOWEST,
    MASK,
    any_allowed_of,
    kept_of_step,
    log_of_sum,
)
from minitorch_ciml.kernels.cuda.cores import (
    ALIGNED,
    BF16,
    F16,
    NEEDS,
    CoreTile,
    Numbers,
    Side,
    copy_of,
    multiply_held_of,
    multiply_of,
    place_of,
)
from minitorch_ciml.kernels.cuda.cores_results import write_of
from minitorch_ciml.kernels.cuda.intrinsics import exp2_fast, i32
from minitorch_ciml.kernels.cuda.launch import Kernel, kernel
from minitorch_ciml.kernels.cuda.shared_memory import (
    cp_async_commit,
    cp_async_wait0,
    cp_async_wait1,
    lds2,
    smem_addr,
)
from minitorch_ciml.kernels.cuda.windows import divided

ROWS = 64  # of a tile of scores: 16 for each warp
ACROSS = 64
SCORES = CoreTile(ROWS, ACROSS, tall=16, wide=ACROSS, speed=1.0)
THREADS = SCORES.threads


@dataclass(frozen=True)
class Head:
    """What heads of up to `size` features need.

    Attributes:
        size: features of a row in shared memory; those that a head does not have are 0.
        blocks: blocks per multiprocessor, for which the registers must do.
    """

    size: int
    blocks: int

    @property
    def result(self) -> CoreTile:
        return CoreTile(ROWS, self.size, tall=16, wide=self.size, speed=1.0)

    def own(self) -> Side:
        """The block's rows, to be multiplied along their features."""
        return Side(SCORES, 2, True, True, self.size)

    def other(self) -> Side:
        """The rows that it goes through, to be multiplied along their features."""
        return Side(SCORES, 2, False, True, self.size)

    def mixed(self) -> Side:
        """The same, to be multiplied across: their sum, weighted."""
        return Side(self.result, 2, False, False, ACROSS)


FORWARD_HEADS = (Head(32, 4), Head(64, 3), Head(128, 2))
BACKWARD_HEADS = (Head(32, 3), Head(64, 2))  # more features take more registers than there are


@cuda.jit(device=True, forceinline=True)
def _start_of_step(rows, row):
    """Where a row of a head's result begins; `rows`: the first one, how many there are, a step."""
    start, count, step = rows
    return i32(start + row * step) if row < count else int32(-1)


@cuda.jit(device=True, forceinline=True)
def _largest(x):
    """Of what the four lanes have that share a row of scores."""
    x = max(x, cuda.shfl_xor_sync(0xFFFFFFFF, x, 2))
    return max(x, cuda.shfl_xor_sync(0xFFFFFFFF, x, 1))


@cuda.jit(device=True, forceinline=True)
def _summed(x):
    x += cuda.shfl_xor_sync(0xFFFFFFFF, x, 2)
    return x + cuda.shfl_xor_sync(0xFFFFFFFF, x, 1)


# Element o of a thread's scores is in its row 8 (o // 2 % 2) and column 8 (o // 4) + o % 2, counted
# from the first ones that its lane has.


@cuda.jit(device=True, forceinline=True)
def _allowed_scores(mask, start, row, column, rows, columns, by_row, by_column):
    """Bit o says whether score o is allowed; rows and columns may be steps or sources."""
    allowed = int32(0)
    count = i32(columns - column)
    if row < rows:
        if by_row == 0 and by_column == 0:  # one element of the mask for all
            if mask[start] != 0:
                for i in range(ACROSS // 4):
                    if i // 2 * 8 + i % 2 < count:
                        allowed |= i32(5 << (i // 2 * 4 + i % 2))
        else:
            at = i32(start + row * by_row + column * by_column)
            further = i32(8 * by_row if row + 8 < rows else 0)
            for i in range(ACROSS // 4):
                if i // 2 * 8 + i % 2 < count:
                    here = i32(at + (i // 2 * 8 + i % 2) * by_column)
                    found = i32(mask[here] != 0) | i32(mask[i32(here + further)] != 0) << 2
                    allowed |= i32(found << (i // 2 * 4 + i % 2))
        if row + 8 >= rows:
            allowed &= int32(0x33333333)
    return allowed


def _pieces(head: Head, numbers: Numbers) -> tuple[Callable, ...]:
    """What all three kernels are made of.

    Copies of the block's own rows and of others; where a lane reads own rows, others along their
    features, and others across; scores; sums of others weighted with scores; and how a tile of the
    result is written.
    """
    own, other, mixed = head.own(), head.other(), head.mixed()
    return (
        copy_of(own), copy_of(other), place_of(own), place_of(other), place_of(mixed),
        multiply_of(SCORES, numbers, own, other),
        multiply_held_of(head.result, numbers, mixed),
        write_of(head.result, numbers, False, _start_of_step),
    )  # fmt: skip


def _forward(head: Head, numbers: Numbers) -> Kernel:
    copy_own, copy, place_own, place_other, place_mixed, add_scores, add_mixed, write = _pieces(
        head, numbers
    )
    any_allowed = any_allowed_of(THREADS)
    held, part, warps = SCORES.part, head.result.part, THREADS // 32
    own_bytes, other_bytes = head.own().bytes, head.other().bytes

    @kernel(
        "T* f4* T* T* T* b1* i4 i4 i4 i4 i4 i4 i4 i4 f4" + MASK, T=(numbers.code,),
        threads=THREADS, blocks=head.blocks, shared=own_bytes + 2 * other_bytes, needs=NEEDS,
        name=f"attention_cores.forward_{numbers.name}_{head.size}",
    )  # fmt: skip
    def forward(
        y, log_sums, q, k, v, mask, tiles, steps, sources, heads, size, width, size_by_chunks,
        width_by_chunks, scale, mask_n, mask_h, mask_t, mask_s,
    ):  # fmt: skip
        """`scale` includes log2 e; a block has one tile of steps, of one head of one sample."""
        shared = cuda.shared.array(0, float32, alignment=ALIGNED)
        flags = cuda.shared.array(warps, int32)
        scores = cuda.local.array(held, float32)
        total = cuda.local.array(part, float32)
        top = cuda.local.array(2, float32)
        mass = cuda.local.array(2, float32)
        shift = cuda.local.array(2, float32)
        shrink = cuda.local.array(2, float32)
        for o in range(part):
            total[o] = float32(0.0)
        for r in range(2):
            top[r] = float32(LOWEST)
            mass[r] = float32(0.0)
        thread = i32(cuda.threadIdx.x)
        one_head, number = divided(i32(cuda.blockIdx.x), tiles)
        n, h = divided(one_head, heads)
        first = i32(number * ROWS)
        lane, own_row = i32(thread & 31), i32((thread >> 5) * 16)
        row, column = i32(first + own_row + (lane >> 2)), i32((lane & 3) * 2)
        q_to = smem_addr(shared)
        k_to = i32(q_to + own_bytes)
        v_to = i32(k_to + other_bytes)
        q_at, k_at = i32(q_to + place_own(own_row, lane)), i32(k_to + place_other(0, lane))
        v_at = i32(v_to + place_mixed(0, lane))
        mask_start = i32(n * mask_n + h * mask_h)
        k_step, v_step = i32(heads * size), i32(heads * width)
        k_start = i32((n * sources * heads + h) * size)
        v_start = i32((n * sources * heads + h) * width)
        q_start = i32((n * steps * heads + h) * size)
        copy_own(q_to, q, q_start, first, steps, 0, size, k_step, size_by_chunks, thread)

        for s0 in range(int32(0), sources, int32(ACROSS)):
            allowed = _allowed_scores(
                mask, mask_start, row, i32(s0 + column), steps, sources, mask_t, mask_s
            )
            # Also: all threads have done with the tiles before.
            if any_allowed(flags, allowed != 0):
                copy(k_to, k, k_start, s0, sources, 0, size, k_step, size_by_chunks, thread)
                cp_async_commit()
                copy(v_to, v, v_start, s0, sources, 0, width, v_step, width_by_chunks, thread)
                cp_async_commit()
                cp_async_wait1()
                cuda.syncthreads()
                for o in range(held):
                    scores[o] = float32(0.0)
                add_scores(scores, q_at, k_at)
                for o in range(held):
                    is_allowed = allowed & (1 << o) != 0
                    scores[o] = scores[o] * scale if is_allowed else float32(LOWEST)
                for r in range(2):
                    old = top[r]
                    for j in range(ACROSS // 8):
                        top[r] = max(top[r], max(scores[4 * j + 2 * r], scores[4 * j + 2 * r + 1]))
                    top[r] = _largest(top[r])
                    shift[r] = float32(0.0) if top[r] == float32(LOWEST) else top[r]
                    shrink[r] = exp2_fast(old - shift[r])
                    mass[r] *= shrink[r]
                for o in range(held):
                    scores[o] = exp2_fast(scores[o] - shift[o // 2 % 2])
                    mass[o // 2 % 2] += scores[o]
                for o in range(part):
                    total[o] *= shrink[o // 2 % 2]
                cp_async_wait0()
                cuda.syncthreads()
                add_mixed(total, scores, v_at)
            cuda.syncthreads()

        for r in range(2):
            mass[r] = _summed(mass[r])
            shrink[r] = float32(0.0) if mass[r] == float32(0.0) else float32(1.0) / mass[r]
        for o in range(part):
            total[o] *= shrink[o // 2 % 2]
        y_start = i32((n * steps * heads + h) * width)
        write(
            y, y, total, (y_start, steps, v_step), row, column, column, i32(width - column),
            width_by_chunks, False, float32(LOWEST),
        )  # fmt: skip
        if lane & 3 == 0:
            for r in range(2):
                t = i32(row + 8 * r)
                if t < steps:
                    log_sums[i32(one_head * steps + t)] = log_of_sum(top[r], mass[r])

    return forward


# --- backward -------------------------------------------------------------------------------------

# As in `attention_tiles.py`: p = e^(score - log of the sum), the weights, and with dp = g v
# ds = p (dp - delta) scale, the scores' gradient.


def _query_grad(head: Head, numbers: Numbers) -> Kernel:
    copy_own, copy, place_own, place_other, place_mixed, add_scores, add_mixed, write = _pieces(
        head, numbers
    )
    any_allowed = any_allowed_of(THREADS)
    held, part, warps = SCORES.part, head.result.part, THREADS // 32
    own_bytes, other_bytes = head.own().bytes, head.other().bytes

    @kernel(
        "T* T* T* T* T* f4* f4* b1* i4 i4 i4 i4 i4 i4 i4 i4 f4" + MASK, T=(numbers.code,),
        threads=THREADS, blocks=head.blocks, shared=2 * own_bytes + 2 * other_bytes, needs=NEEDS,
        name=f"attention_cores.query_grad_{numbers.name}_{head.size}",
    )  # fmt: skip
    def query_grad(
        dq, g, q, k, v, log_sums, deltas, mask, tiles, steps, sources, heads, size, width,
        size_by_chunks, width_by_chunks, scale, mask_n, mask_h, mask_t, mask_s,
    ):  # fmt: skip
        """dq = ds k: a block has one tile of steps, and goes through the sources."""
        shared = cuda.shared.array(0, float32, alignment=ALIGNED)
        flags = cuda.shared.array(warps, int32)
        scores = cuda.local.array(held, float32)
        slopes = cuda.local.array(held, float32)
        total = cuda.local.array(part, float32)
        log_sum = cuda.local.array(2, float32)
        delta = cuda.local.array(2, float32)
        for o in range(part):
            total[o] = float32(0.0)
        thread = i32(cuda.threadIdx.x)
        one_head, number = divided(i32(cuda.blockIdx.x), tiles)
        n, h = divided(one_head, heads)
        first = i32(number * ROWS)
        lane, own_row = i32(thread & 31), i32((thread >> 5) * 16)
        row, column = i32(first + own_row + (lane >> 2)), i32((lane & 3) * 2)
        q_to = smem_addr(shared)
        g_to, k_to = i32(q_to + own_bytes), i32(q_to + 2 * own_bytes)
        v_to = i32(k_to + other_bytes)
        own, other = i32(place_own(own_row, lane)), i32(place_other(0, lane))
        mixed = i32(place_mixed(0, lane))
        mask_start = i32(n * mask_n + h * mask_h)
        k_step, v_step = i32(heads * size), i32(heads * width)
        q_start, k_start = (
            i32((n * steps * heads + h) * size), i32((n * sources * heads + h) * size),
        )  # fmt: skip
        g_start, v_start = (
            i32((n * steps * heads + h) * width), i32((n * sources * heads + h) * width),
        )  # fmt: skip
        for r in range(2):
            t = i32(row + 8 * r)
            log_sum[r], delta[r] = kept_of_step(log_sums, deltas, one_head, t, steps)
        copy_own(q_to, q, q_start, first, steps, 0, size, k_step, size_by_chunks, thread)
        copy_own(g_to, g, g_start, first, steps, 0, width, v_step, width_by_chunks, thread)

        for s0 in range(int32(0), sources, int32(ACROSS)):
            allowed = _allowed_scores(
                mask, mask_start, row, i32(s0 + column), steps, sources, mask_t, mask_s
            )
            if any_allowed(flags, allowed != 0):
                copy(k_to, k, k_start, s0, sources, 0, size, k_step, size_by_chunks, thread)
                cp_async_commit()
                copy(v_to, v, v_start, s0, sources, 0, width, v_step, width_by_chunks, thread)
                cp_async_commit()
                for o in range(held):
                    scores[o] = float32(0.0)
                    slopes[o] = float32(0.0)
                cp_async_wait1()
                cuda.syncthreads()
                add_scores(scores, i32(q_to + own), i32(k_to + other))
                cp_async_wait0()
                cuda.syncthreads()
                add_scores(slopes, i32(g_to + own), i32(v_to + other))
                for o in range(held):
                    r = o // 2 % 2
                    weight = exp2_fast(scores[o] * (scale * float32(LOG2_E)) - log_sum[r])
                    slope = weight * (slopes[o] - delta[r]) * scale
                    slopes[o] = slope if allowed & (1 << o) != 0 else float32(0.0)
                add_mixed(total, slopes, i32(k_to + mixed))
            cuda.syncthreads()

        write(
            dq, dq, total, (q_start, steps, k_step), row, column, column, i32(size - column),
            size_by_chunks, False, float32(LOWEST),
        )  # fmt: skip

    return query_grad


def _source_grads(head: Head, numbers: Numbers) -> Kernel:
    copy_own, copy, place_own, place_other, place_mixed, add_scores, add_mixed, write = _pieces(
        head, numbers
    )
    any_allowed = any_allowed_of(THREADS)
    held, part, warps = SCORES.part, head.result.part, THREADS // 32
    own_bytes, other_bytes = head.own().bytes, head.other().bytes
    of_steps = 2 * ACROSS

    @kernel(
        "T* T* T* T* T* T* f4* f4* b1* i4 i4 i4 i4 i4 i4 i4 i4 f4" + MASK, T=(numbers.code,),
        threads=THREADS, blocks=head.blocks, shared=2 * own_bytes + 2 * other_bytes, needs=NEEDS,
        name=f"attention_cores.source_grads_{numbers.name}_{head.size}",
    )  # fmt: skip
    def source_grads(
        dk, dv, g, q, k, v, log_sums, deltas, mask, tiles, steps, sources, heads, size, width,
        size_by_chunks, width_by_chunks, scale, mask_n, mask_h, mask_t, mask_s,
    ):  # fmt: skip
        """dv = p^T g and dk = ds^T q: a block has one tile of sources, and goes through the steps.

        Here the rows of the scores are sources, and the columns steps.
        """
        shared = cuda.shared.array(0, float32, alignment=ALIGNED)
        flags = cuda.shared.array(warps, int32)
        step_numbers = cuda.shared.array(of_steps, float32, alignment=16)  # log_sums, then deltas
        scores = cuda.local.array(held, float32)
        slopes = cuda.local.array(held, float32)
        total_k = cuda.local.array(part, float32)
        total_v = cuda.local.array(part, float32)
        for o in range(part):
            total_k[o] = float32(0.0)
            total_v[o] = float32(0.0)
        thread = i32(cuda.threadIdx.x)
        one_head, number = divided(i32(cuda.blockIdx.x), tiles)
        n, h = divided(one_head, heads)
        first = i32(number * ROWS)
        lane, own_row = i32(thread & 31), i32((thread >> 5) * 16)
        row, column = i32(first + own_row + (lane >> 2)), i32((lane & 3) * 2)
        k_to = smem_addr(shared)
        v_to, q_to = i32(k_to + own_bytes), i32(k_to + 2 * own_bytes)
        g_to = i32(q_to + other_bytes)
        numbers_at = i32(smem_addr(step_numbers) + 4 * column)
        own, other = i32(place_own(own_row, lane)), i32(place_other(0, lane))
        mixed = i32(place_mixed(0, lane))
        mask_start = i32(n * mask_n + h * mask_h)
        k_step, v_step = i32(heads * size), i32(heads * width)
        q_start, k_start = (
            i32((n * steps * heads + h) * size), i32((n * sources * heads + h) * size),
        )  # fmt: skip
        g_start, v_start = (
            i32((n * steps * heads + h) * width), i32((n * sources * heads + h) * width),
        )  # fmt: skip
        copy_own(k_to, k, k_start, first, sources, 0, size, k_step, size_by_chunks, thread)
        copy_own(v_to, v, v_start, first, sources, 0, width, v_step, width_by_chunks, thread)

        for t0 in range(int32(0), steps, int32(ACROSS)):
            allowed = _allowed_scores(
                mask, mask_start, row, i32(t0 + column), sources, steps, mask_s, mask_t
            )
            if any_allowed(flags, allowed != 0):
                copy(q_to, q, q_start, t0, steps, 0, size, k_step, size_by_chunks, thread)
                copy(g_to, g, g_start, t0, steps, 0, width, v_step, width_by_chunks, thread)
                cp_async_commit()
                t = i32(t0 + thread % ACROSS)
                known = float32(0.0)
                if t < steps:
                    if thread < ACROSS:
                        known = log_sums[i32(one_head * steps + t)] * float32(LOG2_E)
                    else:
                        known = deltas[i32(one_head * steps + t)]
                if thread < of_steps:
                    step_numbers[thread] = known
                for o in range(held):
                    scores[o] = float32(0.0)
                    slopes[o] = float32(0.0)
                cp_async_wait0()
                cuda.syncthreads()
                add_scores(scores, i32(k_to + own), i32(q_to + other))
                add_scores(slopes, i32(v_to + own), i32(g_to + other))
                for o in range(0, held, 2):
                    at = i32(numbers_at + o // 4 * 32)
                    log_sum0, log_sum1 = lds2(at)
                    delta0, delta1 = lds2(i32(at + 4 * ACROSS))
                    weight0 = exp2_fast(scores[o] * (scale * float32(LOG2_E)) - log_sum0)
                    weight1 = exp2_fast(scores[o + 1] * (scale * float32(LOG2_E)) - log_sum1)
                    scores[o] = weight0 if allowed & (1 << o) != 0 else float32(0.0)
                    scores[o + 1] = weight1 if allowed & (2 << o) != 0 else float32(0.0)
                    slopes[o] = scores[o] * (slopes[o] - delta0) * scale
                    slopes[o + 1] = scores[o + 1] * (slopes[o + 1] - delta1) * scale
                add_mixed(total_v, scores, i32(g_to + mixed))
                add_mixed(total_k, slopes, i32(q_to + mixed))
            cuda.syncthreads()

        write(
            dk, dk, total_k, (k_start, sources, k_step), row, column, column, i32(size - column),
            size_by_chunks, False, float32(LOWEST),
        )  # fmt: skip
        write(
            dv, dv, total_v, (v_start, sources, v_step), row, column, column, i32(width - column),
            width_by_chunks, False, float32(LOWEST),
        )  # fmt: skip

    return source_grads


FORWARD, QUERY_GRAD, SOURCE_GRADS = (
    {(numbers.code, head): make(head, numbers) for numbers in (BF16, F16) for head in heads}
    for make, heads in (
        (_forward, FORWARD_HEADS), (_query_grad, BACKWARD_HEADS), (_source_grads, BACKWARD_HEADS),
    )
)  # fmt: skip
