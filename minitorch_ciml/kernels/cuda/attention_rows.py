"""Attention row by row: for float64, and for heads with more features than a tile holds.

A block has one row of the scores, and goes through it in pieces of as many elements as it has
threads: first every thread computes one weight, then every thread mixes with them the features that
it has. Simple, and bound by the caches, from which every row reads all others.
"""

from __future__ import annotations

import math

from numba import cuda, float32, float64, int32

from minitorch_ciml.kernels.cuda.intrinsics import i32
from minitorch_ciml.kernels.cuda.launch import Kernel, kernel
from minitorch_ciml.kernels.cuda.windows import divided

THREADS = 128
_WARPS = THREADS // 32
_NUMBERS = {"f4": float32, "f8": float64}
_SIZES = " i4 i4 i4 i4 i4 T i4 i4 i4 i4"  # T, S, heads, K, V, the scale, the mask's steps


@cuda.jit(device=True, forceinline=True)
def dot(a, at, b, to, size):
    """The product of two rows."""
    total = a[at] * b[to]
    for i in range(1, size):
        total += a[i32(at + i)] * b[i32(to + i)]
    return total


def _over_block(number) -> tuple:
    @cuda.jit(device=True)
    def largest(room, x):
        """The largest x of the block's threads."""
        for lanes in (16, 8, 4, 2, 1):
            x = max(x, cuda.shfl_xor_sync(0xFFFFFFFF, x, lanes))
        cuda.syncthreads()
        if cuda.laneid == 0:
            room[cuda.threadIdx.x // 32] = x
        cuda.syncthreads()
        x = room[0]
        for w in range(1, _WARPS):
            x = max(x, room[w])
        return x

    @cuda.jit(device=True)
    def summed(room, x):
        """The sum of x over the block's threads, always in the same order."""
        for lanes in (16, 8, 4, 2, 1):
            x += cuda.shfl_xor_sync(0xFFFFFFFF, x, lanes)
        cuda.syncthreads()
        if cuda.laneid == 0:
            room[cuda.threadIdx.x // 32] = x
        cuda.syncthreads()
        x = room[0]
        for w in range(1, _WARPS):
            x += room[w]
        return x

    return largest, summed


def _forward(dtype: str) -> Kernel:
    number = _NUMBERS[dtype]
    largest, summed = _over_block(number)

    @kernel(
        "T* T* T* T* T* b1*" + _SIZES, threads=THREADS, T=(dtype,),
        name=f"attention_rows.forward_{dtype}",
    )  # fmt: skip
    def forward(
        y, log_sums, q, k, v, mask, steps, sources, heads, size, width, scale, mask_n, mask_h,
        mask_t, mask_s,
    ):  # fmt: skip
        weights = cuda.shared.array(THREADS, number)
        room = cuda.shared.array(_WARPS, number)
        thread = i32(cuda.threadIdx.x)
        row = i32(cuda.blockIdx.x)  # n, h, t
        one_head, t = divided(row, steps)
        n, h = divided(one_head, heads)
        q_at = i32(((n * steps + t) * heads + h) * size)
        y_at = i32(((n * steps + t) * heads + h) * width)
        mask_at = i32(n * mask_n + h * mask_h + t * mask_t)
        for c in range(thread, width, THREADS):
            y[i32(y_at + c)] = number(0.0)
        top, mass = number(-math.inf), number(0.0)
        for s0 in range(int32(0), sources, THREADS):
            s = i32(s0 + thread)
            score = number(-math.inf)
            if s < sources and mask[i32(mask_at + s * mask_s)] != 0:
                score = dot(q, q_at, k, i32(((n * sources + s) * heads + h) * size), size) * scale
            highest = max(top, largest(room, score))
            shift = number(0.0) if highest == number(-math.inf) else highest
            shrink = math.exp(top - shift)
            top = highest
            weights[thread] = math.exp(score - shift)
            mass = mass * shrink + summed(room, weights[thread])
            cuda.syncthreads()
            count = min(THREADS, sources - s0)
            for c in range(thread, width, THREADS):
                total = y[i32(y_at + c)] * shrink
                for i in range(count):
                    at = i32(((n * sources + s0 + i) * heads + h) * width)
                    total += weights[i] * v[i32(at + c)]
                y[i32(y_at + c)] = total
            cuda.syncthreads()
        for c in range(thread, width, THREADS):
            if mass != number(0.0):
                y[i32(y_at + c)] /= mass
        if thread == 0:
            log_sums[row] = number(math.inf) if mass == number(0.0) else top + math.log(mass)

    return forward


def _query_grad(dtype: str) -> Kernel:
    number = _NUMBERS[dtype]

    @kernel(
        "T* T* T* T* T* T* T* b1*" + _SIZES, threads=THREADS, T=(dtype,),
        name=f"attention_rows.query_grad_{dtype}",
    )  # fmt: skip
    def query_grad(
        dq, g, q, k, v, log_sums, deltas, mask, steps, sources, heads, size, width, scale, mask_n,
        mask_h, mask_t, mask_s,
    ):  # fmt: skip
        slopes = cuda.shared.array(THREADS, number)
        thread = i32(cuda.threadIdx.x)
        row = i32(cuda.blockIdx.x)
        one_head, t = divided(row, steps)
        n, h = divided(one_head, heads)
        q_at = i32(((n * steps + t) * heads + h) * size)
        g_at = i32(((n * steps + t) * heads + h) * width)
        mask_at = i32(n * mask_n + h * mask_h + t * mask_t)
        for c in range(thread, size, THREADS):
            dq[i32(q_at + c)] = number(0.0)
        for s0 in range(int32(0), sources, THREADS):
            s = i32(s0 + thread)
            slope = number(0.0)
            if s < sources and mask[i32(mask_at + s * mask_s)] != 0:
                at = i32((n * sources + s) * heads + h)
                score = dot(q, q_at, k, i32(at * size), size) * scale
                slope = dot(g, g_at, v, i32(at * width), width) - deltas[row]
                slope *= math.exp(score - log_sums[row]) * scale
            slopes[thread] = slope
            cuda.syncthreads()
            count = min(THREADS, sources - s0)
            for c in range(thread, size, THREADS):
                total = dq[i32(q_at + c)]
                for i in range(count):
                    at = i32(((n * sources + s0 + i) * heads + h) * size)
                    total += slopes[i] * k[i32(at + c)]
                dq[i32(q_at + c)] = total
            cuda.syncthreads()

    return query_grad


def _source_grads(dtype: str) -> Kernel:
    number = _NUMBERS[dtype]

    @kernel(
        "T* T* T* T* T* T* T* T* b1*" + _SIZES, threads=THREADS, T=(dtype,),
        name=f"attention_rows.source_grads_{dtype}",
    )  # fmt: skip
    def source_grads(
        dk, dv, g, q, k, v, log_sums, deltas, mask, steps, sources, heads, size, width, scale,
        mask_n, mask_h, mask_t, mask_s,
    ):  # fmt: skip
        weights = cuda.shared.array(THREADS, number)
        slopes = cuda.shared.array(THREADS, number)
        thread = i32(cuda.threadIdx.x)
        one_head, s = divided(i32(cuda.blockIdx.x), sources)
        n, h = divided(one_head, heads)
        at = i32((n * sources + s) * heads + h)
        k_at, v_at = i32(at * size), i32(at * width)
        mask_at = i32(n * mask_n + h * mask_h + s * mask_s)
        for c in range(thread, size, THREADS):
            dk[i32(k_at + c)] = number(0.0)
        for c in range(thread, width, THREADS):
            dv[i32(v_at + c)] = number(0.0)
        for t0 in range(int32(0), steps, THREADS):
            t = i32(t0 + thread)
            weight, slope = number(0.0), number(0.0)
            if t < steps and mask[i32(mask_at + t * mask_t)] != 0:
                at = i32((n * steps + t) * heads + h)
                row = i32(one_head * steps + t)
                score = dot(q, i32(at * size), k, k_at, size) * scale
                weight = math.exp(score - log_sums[row])
                slope = dot(g, i32(at * width), v, v_at, width) - deltas[row]
                slope *= weight * scale
            weights[thread], slopes[thread] = weight, slope
            cuda.syncthreads()
            count = min(THREADS, steps - t0)
            for c in range(thread, size, THREADS):
                total = dk[i32(k_at + c)]
                for i in range(count):
                    at = i32(((n * steps + t0 + i) * heads + h) * size)
                    total += slopes[i] * q[i32(at + c)]
                dk[i32(k_at + c)] = total
            for c in range(thread, width, THREADS):
                total = dv[i32(v_at + c)]
                for i in range(count):
                    at = i32(((n * steps + t0 + i) * heads + h) * width)
                    total += weights[i] * g[i32(at + c)]
                dv[i32(v_at + c)] = total
            cuda.syncthreads()

    return source_grads


@kernel("T* T* T* i4 i4 i4 i4", threads=THREADS, T=("f4", "f8"))
def deltas(out, g, y, count, steps, heads, width):
    """out[n, h, t] = g[n, t, h] y[n, t, h]: a warp for each row."""
    row = i32(cuda.blockIdx.x * _WARPS + cuda.threadIdx.x // 32)
    if row < count:
        one_head, t = divided(row, steps)
        n, h = divided(one_head, heads)
        at = i32(((n * steps + t) * heads + h) * width)
        total = float32(0.0)
        for c in range(i32(cuda.laneid), width, 32):
            total += g[i32(at + c)] * y[i32(at + c)]
        for lanes in (16, 8, 4, 2, 1):
            total += cuda.shfl_xor_sync(0xFFFFFFFF, total, lanes)
        if cuda.laneid == 0:
            out[row] = total


FORWARD = {dtype: _forward(dtype) for dtype in _NUMBERS}
QUERY_GRAD = {dtype: _query_grad(dtype) for dtype in _NUMBERS}
SOURCE_GRADS = {dtype: _source_grads(dtype) for dtype in _NUMBERS}
