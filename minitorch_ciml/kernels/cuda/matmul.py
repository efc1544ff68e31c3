"""Matrix products on the GPU: which kernel computes what.

Factors are used as they lie in memory, transposed or not; batches broadcast without copies. Every
result repeats bit for bit: where several blocks sum over a share of k each, the shares are added in
a fixed order.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
from numba import cuda, float32, int64

from minitorch_ciml.kernels.cuda import cores, matmul_cores, matmul_warpgroup
from minitorch_ciml.kernels.cuda.cores import CoreTile, Numbers
from minitorch_ciml.kernels.cuda.elementwise import merged
from minitorch_ciml.kernels.cuda.intrinsics import bf16_to_f32, f32_to_bf16, i32, like
from minitorch_ciml.kernels.cuda.launch import Kernel, ceil_div, kernel
from minitorch_ciml.kernels.cuda.matmul_tiles import PRODUCT, TILES, batch_start
from minitorch_ciml.kernels.cuda.memory import CudaArray, Shape, empty
from minitorch_ciml.kernels.cuda.runtime import runtime
from minitorch_ciml.kernels.cuda.sums import bias_grad
from minitorch_ciml.kernels.cuda.tiles import Tile
from minitorch_ciml.kernels.cuda.warpgroup_tiles import HOPPER, GroupTile

Needs = tuple[bool, ...]

_SHORTEST_SHARE = 64  # of k that are worth a block of their own
_MOST_SHARES = 64
_MOST_BATCHES = 65535  # blocks in the third dimension of a grid


def matmul(
    a: CudaArray, b: CudaArray, *, transpose_a: bool = False, transpose_b: bool = False
) -> CudaArray:
    """(..., M, K) times (..., K, N), each with its last two axes swapped if so told."""
    m, k = a.shape[:-3:-1] if transpose_a else a.shape[-2:]
    k_of_b, n = b.shape[:-3:-1] if transpose_b else b.shape[-2:]
    if k != k_of_b:
        raise ValueError("the last size of the first must be the last but one of the second")
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    y = empty((*batch, m, n), a.dtype)
    if b.ndim == 2 and not transpose_a:  # one large product instead of many small ones
        rows = math.prod(batch) * m
        _multiply(y.reshape(rows, n), a.reshape(rows, k), b, None, False, False, transpose_b)
    else:
        _multiply(y, a, b, None, False, transpose_a, transpose_b)
    return y


def dense(x: CudaArray, w: CudaArray, b: CudaArray, *, activation: str) -> CudaArray:
    y = empty((*x.shape[:-1], w.shape[1]), x.dtype)
    rows = math.prod(x.shape[:-1])
    flat = y.reshape(rows, w.shape[1])
    _multiply(flat, x.reshape(rows, x.shape[-1]), w, b, activation == "relu", False, False)
    return y


def dense_grad(
    g: CudaArray, y: CudaArray, x: CudaArray, w: CudaArray, b: CudaArray, *,
    needs: Needs, activation: str,
) -> tuple[CudaArray | None, ...]:  # fmt: skip
    rows = math.prod(x.shape[:-1])
    g, y = g.reshape(rows, w.shape[1]), y.reshape(rows, w.shape[1])
    is_relu, db = activation == "relu", None
    if is_relu or needs[2]:
        g, db = bias_grad(g, y, is_relu)
    flat = x.reshape(rows, x.shape[-1])
    return (
        matmul(g, w, transpose_b=True).reshape(x.shape) if needs[0] else None,
        matmul(flat, g, transpose_a=True) if needs[1] else None,
        db if needs[2] else None,
    )


# --- one launch -----------------------------------------------------------------------------------


def _multiply(
    y: CudaArray, a: CudaArray, b: CudaArray, bias: CudaArray | None, is_relu: bool,
    transpose_a: bool, transpose_b: bool,
) -> None:  # fmt: skip
    """y = a b, batch by batch; of y (M, N), with bias and ReLU if wanted."""
    if y.size == 0:
        return
    batch = y.shape[:-2]
    sizes, (a_steps, b_steps) = merged(batch, (a.shape[:-2], b.shape[:-2]))
    if len(sizes) <= 2:
        _launch(y, a, b, bias, is_relu, transpose_a, transpose_b, sizes, a_steps, b_steps)
        return
    # Batches that do not broadcast in a regular way: one part after the other.
    wide_a, wide_b = _same_ndim(a, y.ndim), _same_ndim(b, y.ndim)
    for i in range(batch[0]):
        _multiply(
            _part(y, i), _part(wide_a, i), _part(wide_b, i), bias, is_relu, transpose_a, transpose_b
        )


def _same_ndim(x: CudaArray, ndim: int) -> CudaArray:
    return x.reshape((1,) * (ndim - x.ndim) + x.shape)


def _part(x: CudaArray, i: int) -> CudaArray:
    """Element i of the first axis, which may be broadcast."""
    i = min(i, x.shape[0] - 1)
    return x.rows(i, i + 1).reshape(x.shape[1:])


def _launch(
    y: CudaArray, a: CudaArray, b: CudaArray, bias: CudaArray | None, is_relu: bool,
    transpose_a: bool, transpose_b: bool, sizes: list[int], a_steps: list[int], b_steps: list[int],
) -> None:  # fmt: skip
    m, n = y.shape[-2:]
    k = a.shape[-2] if transpose_a else a.shape[-1]
    count = math.prod(sizes)
    inner = sizes[-1] if sizes else 1
    (a_outer, a_inner), (b_outer, b_inner) = _two(a_steps), _two(b_steps)
    steps = (inner, a_outer * m * k, a_inner * m * k, b_outer * k * n, b_inner * k * n)
    lines = (m if transpose_a else k, k if transpose_b else n, n)
    kind = _kind(y, a, b, m, n, lines)
    if kind is None:
        _launch_plain(y, a, b, bias, is_relu, transpose_a, transpose_b, (m, n, k), count, steps)
        return
    tile, share, shares = plan(m, n, k, count, kind)
    parts = y if shares == 1 else empty((count, shares, m, n), _float_type(y))
    if isinstance(kind, Numbers):
        is_sum = shares > 1 and kind.size == 2
        products = matmul_warpgroup.PRODUCT if isinstance(tile, GroupTile) else matmul_cores.PRODUCT
        product = products[kind, tile, is_sum, transpose_a, transpose_b]
        vectors = (16 // kind.size, 16 // kind.size, 4 if kind.size == 2 and not is_sum else 2)
    else:
        product = PRODUCT[kind, tile, transpose_a, transpose_b]
        vectors = (4, 4, 4)
    by_vectors = [
        line % vector == 0 and array.is_aligned
        for array, line, vector in zip((a, b, y), lines, vectors)
    ]
    if bias is not None:
        by_vectors[2] &= bias.is_aligned
    tiles = ceil_div(m, tile.rows) * ceil_div(n, tile.columns)
    is_whole = shares == 1
    for first in range(0, count, _MOST_BATCHES):
        product(
            (tiles, shares, min(count - first, _MOST_BATCHES)), tile.threads,
            parts, a, b, b if bias is None else bias, m, n, k, share, first, *steps, *by_vectors,
            is_whole and bias is not None, is_whole and is_relu,
        )  # fmt: skip
        if not is_whole:
            _SUM_SHARES[y.pointer_type[:-1]](
                (ceil_div(m * n, 256), 1, min(count - first, _MOST_BATCHES)), 256,
                y, parts, y if bias is None else bias, m * n, n, shares, first, bias is not None,
                is_relu,
            )  # fmt: skip


def _two(steps: list[int]) -> tuple[int, int]:
    """Steps in two dimensions, the outer one first."""
    outer, inner = (0, 0, *steps)[-2:]
    return outer, inner


def _float_type(y: CudaArray) -> np.dtype:
    """What sums for y are kept in."""
    return np.dtype(np.float32) if y.dtype.itemsize == 2 else y.dtype


def _kind(
    y: CudaArray, a: CudaArray, b: CudaArray, m: int, n: int, lines: tuple[int, ...]
) -> str | Numbers | None:
    """The numbers for tensor cores; or the type's code for ordinary ones, None if it is plain."""
    code = y.pointer_type[:-1]
    numbers = cores.arithmetic(code, min(m, n))
    if numbers and numbers.size == 2:
        # They are copied and written in fours of bytes at least.
        is_even = not any(line % 2 for line in lines)
        numbers = numbers if is_even and a.is_aligned and b.is_aligned else None
    return numbers or (code if code in TILES else None)


@lru_cache(maxsize=1024)
def plan(
    m: int, n: int, k: int, count: int, kind: str | Numbers
) -> tuple[Tile | CoreTile, int, int]:
    """The tile, and how k is shared out: the length of a share, and how many there are.

    The cheapest by `_cost`, of all tiles and some numbers of shares.
    """
    options = [
        (tile, shares)
        for tile, most in _tiles(kind, m, n)
        for shares in (1, 2, 4, 8, 16, 32, _MOST_SHARES)
        if shares == 1 or (shares <= most and k >= shares * _SHORTEST_SHARE)
    ]
    tile, shares = min(options, key=lambda option: _cost(*option, m, n, k, count))
    share = max(1, ceil_div(ceil_div(k, shares), tile.slice)) * tile.slice
    return tile, share, max(1, ceil_div(k, share))


def _tiles(kind: str | Numbers, m: int, n: int) -> list[tuple[Any, int]]:
    """The tiles that there are, each with the most shares that it can make.

    On Hopper also the tiles for warp groups that the result fills at least once.
    """
    if isinstance(kind, str):
        return [(tile, _MOST_SHARES) for tile in TILES[kind]]
    tiles = list(cores.TILES[kind])
    if runtime().capability == HOPPER:
        tiles += [(t, s) for t, s in matmul_warpgroup.TILES[kind] if m >= t.rows and n >= t.columns]
    return [(tile, _MOST_SHARES if can_share else 1) for tile, can_share in tiles]


def _cost(tile: Tile | CoreTile, shares: int, m: int, n: int, k: int, count: int) -> float:
    """The multiply-adds that the busiest multiprocessor does, or could do in the time it takes.

    With less than `tile.resident` blocks a multiprocessor waits for memory as if it had as many.
    Adding up shares takes a few operations for every number of them.
    """
    blocks = ceil_div(m, tile.rows) * ceil_div(n, tile.columns) * count * shares
    own = max(ceil_div(blocks, runtime().multiprocessors), tile.resident)
    adding = 0 if shares == 1 else 16 * (shares + 2) * m * n * count / runtime().multiprocessors
    length = ceil_div(k, shares) + 2 * tile.slice  # the first slices have nothing to hide behind
    return own * tile.rows * tile.columns * length / tile.speed + adding


# --- integers, and small floats where there are no tensor cores -----------------------------------

_SIDE = 16  # of the tile; each thread computes one element of it


@cuda.jit(device=True, forceinline=True)
def _as_integer(x):
    return int64(x)


@cuda.jit(device=True, forceinline=True)
def _as_float(x):
    return float32(x)


@cuda.jit(device=True, forceinline=True)
def _as_it_is(x):
    return x


@cuda.jit(device=True, forceinline=True)
def _as_bool(x):
    return int64(x != 0)


def _plain(name: str, codes: tuple[str, ...], load, store, total_type) -> Kernel:
    """y = a b, by tiles in shared memory: bound by the two reads of it for each multiply-add."""
    room = _SIDE * (_SIDE + 1)  # a column more, so that a column lies in different banks

    @kernel("T* T* T* T*" + " i4" * 13, T=codes, threads=_SIDE * _SIDE, name=f"matmul.{name}")
    def product(
        y, a, b, bias, m, n, k, a_row, a_k, b_k, b_column, inner, a_outer, a_inner, b_outer,
        b_inner, flags,
    ):  # fmt: skip
        a_shared = cuda.shared.array(room, total_type)
        b_shared = cuda.shared.array(room, total_type)
        x, y_at = i32(cuda.threadIdx.x), i32(cuda.threadIdx.y)
        number = i32(cuda.blockIdx.z)
        a_start = batch_start(number, inner, a_outer, a_inner)
        b_start = batch_start(number, inner, b_outer, b_inner)
        row, column = i32(cuda.blockIdx.x * _SIDE), i32(cuda.blockIdx.y * _SIDE)
        # Neighbouring threads read neighbouring elements.
        a_down, a_across = (y_at, x) if a_k == 1 else (x, y_at)
        b_down, b_across = (x, y_at) if b_k == 1 else (y_at, x)
        total = total_type(0)
        for first in range(0, k, _SIDE):
            r, at = i32(row + a_down), i32(first + a_across)
            value = total_type(0)
            if r < m and at < k:
                value = load(a[i32(a_start + r * a_row + at * a_k)])
            a_shared[a_down * (_SIDE + 1) + a_across] = value
            at, c = i32(first + b_down), i32(column + b_across)
            value = total_type(0)
            if c < n and at < k:
                value = load(b[i32(b_start + at * b_k + c * b_column)])
            b_shared[b_down * (_SIDE + 1) + b_across] = value
            cuda.syncthreads()
            for j in range(_SIDE):
                total += a_shared[y_at * (_SIDE + 1) + j] * b_shared[j * (_SIDE + 1) + x]
            cuda.syncthreads()
        r, c = i32(row + y_at), i32(column + x)
        if r < m and c < n:
            if flags & 1:
                total += load(bias[c])
            if flags & 2 and total < 0:
                total = total_type(0)
            to = i32((number * m + r) * n + c)
            y[to] = store(y[to], total)

    return product


@cuda.jit(device=True, forceinline=True)
def _store_bf16(y, total):
    return f32_to_bf16(total)


@cuda.jit(device=True, forceinline=True)
def _store_bool(y, total):
    return like(y, total != 0)


@cuda.jit(device=True, forceinline=True)
def _store(y, total):
    return like(y, total)


def _sum_shares(name: str, codes: tuple[str, ...], sums: str, load, store) -> Kernel:
    @kernel(f"T* {sums}* T* i4 i4 i4 i4 i4 i4", T=codes, name=f"matmul.sum_shares_{name}")
    def sum_shares(y, parts, bias, size, columns, shares, batch, has_bias, is_relu):
        """y[i] = the sum of parts[s, i] in the order of s, with bias and ReLU if wanted."""
        i = i32(cuda.grid(1))
        if i < size:
            number = i32(batch + cuda.blockIdx.z)
            at = i32(number * shares * size + i)
            total = parts[at]
            for s in range(1, shares):
                total += parts[i32(at + s * size)]
            if has_bias:
                total += load(bias[i32(i % columns)])
            if is_relu and total < 0:
                total = like(total, 0)
            to = i32(number * size + i)
            y[to] = store(y[to], total)

    return sum_shares


_SUM_SHARES = {
    "f4": _sum_shares("f4", ("f4",), "f4", _as_it_is, _store),
    "f8": _sum_shares("f8", ("f8",), "f8", _as_it_is, _store),
    "f2": _sum_shares("f2", ("f2",), "f4", _as_float, _store),
    "bf2": _sum_shares("bf2", ("bf2",), "f4", bf16_to_f32, _store_bf16),
}
_INTEGERS = ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8")
_PLAIN = {
    **dict.fromkeys(_INTEGERS, _plain("integers", _INTEGERS, _as_integer, _store, int64)),
    "b1": _plain("bools", ("b1",), _as_bool, _store_bool, int64),
    "f2": _plain("f2", ("f2",), _as_float, _store, float32),
    "bf2": _plain("bf2", ("bf2",), bf16_to_f32, _store_bf16, float32),
}


def _launch_plain(
    y: CudaArray, a: CudaArray, b: CudaArray, bias: CudaArray | None, is_relu: bool,
    transpose_a: bool, transpose_b: bool, sizes: Shape, count: int, steps: Shape,
) -> None:  # fmt: skip
    m, n, k = sizes
    if count > _MOST_BATCHES or ceil_div(n, _SIDE) > _MOST_BATCHES:
        raise ValueError(
            f"matmul: {count} products of {m} x {k} by {k} x {n} in {y.dtype} are more than a "
            "launch can have; use float32, or a smaller batch."
        )
    strides = (*((1, m) if transpose_a else (k, 1)), *((1, k) if transpose_b else (n, 1)))
    _PLAIN[y.pointer_type[:-1]](
        (ceil_div(m, _SIDE), ceil_div(n, _SIDE), count), (_SIDE, _SIDE),
        y, a, b, y if bias is None else bias, *sizes, *strides, *steps,
        (bias is not None) + 2 * is_relu,
    )  # fmt: skip
