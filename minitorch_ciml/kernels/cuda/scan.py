"""What runs along an axis: sums and products so far, and recurrences.

Bound by memory if there are many lines; by the steps of one block where there are few.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from numba import cuda

from minitorch_ciml.kernels.cuda.elements import read, write
from minitorch_ciml.kernels.cuda.intrinsics import like
from minitorch_ciml.kernels.cuda.launch import Kernel, kernel, of_dtype
from minitorch_ciml.kernels.cuda.memory import CudaArray, empty
from minitorch_ciml.kernels.cuda.reduce import NUMBER_TYPES, sum_dtype
from minitorch_ciml.kernels.cuda.windows import divided

THREADS = 256
_WARPS, _LANES = THREADS // 32, 0xFFFFFFFF
_RUNS = {"f4": ("f4", "f2", "bf2"), "f8": ("f8",), "i8": ("i8", "i4", "u1", "b1")}


def _running(load: Callable, first: int, wide: Any) -> Callable:
    """y_i = a_i y_(i-1) + b_i, where (a_i, b_i) = load(p_i, q_i), and y_(-1) = first.

    A block goes along one line, THREADS elements at a time. Within those, two neighbouring steps
    are one step (a, b), so that a warp has all its results after five exchanges.
    """

    def running(y, p, q, n, inner):
        factors = cuda.shared.array(_WARPS, wide)
        terms = cuda.shared.array(_WARPS, wide)
        outer, b = divided(cuda.blockIdx.x, inner)
        base = outer * n * inner + b
        warp, lane = divided(cuda.threadIdx.x, 32)
        before = wide(first)
        for start in range(0, n, THREADS):
            i = start + cuda.threadIdx.x
            factor, term = wide(1), wide(0)
            if i < n:
                factor, term = load(
                    wide(read(p, base + i * inner)), wide(read(q, base + i * inner))
                )
            distance = 1
            while distance < 32:
                f = cuda.shfl_up_sync(_LANES, factor, distance)
                t = cuda.shfl_up_sync(_LANES, term, distance)
                if lane >= distance:
                    term += factor * t
                    factor *= f
                distance *= 2
            if lane == 31:
                factors[warp], terms[warp] = factor, term
            cuda.syncthreads()
            # `before` becomes what stands before this warp, and `after` what before the next tile.
            after = before
            for w in range(_WARPS):
                if w == warp:
                    before = after
                after = factors[w] * after + terms[w]
            if i < n:
                write(y, base + i * inner, factor * before + term)
            before = after
            cuda.syncthreads()

    return running


def _runs(name: str, load: Callable, first: int) -> dict[str, tuple[str, Kernel]]:
    made = {}
    for wide, narrow in _RUNS.items():
        build = _running(cuda.jit(device=True)(load), first, NUMBER_TYPES[wide])
        for code in narrow:
            declare = kernel(
                f"{_written(code)}* {code}* {code}* i4 i4",
                threads=THREADS,
                name=f"scan.{name}.{code}",
            )
            made[code] = declare(build)
    return made


def _written(code: str) -> str:
    return code if "f" in code else "i8"


_CUMSUM = _runs("cumsum", lambda p, q: (like(p, 1), p), 0)
_CUMPROD = _runs("cumprod", lambda p, q: (p, like(p, 0)), 1)
_RECURRENCE = _runs("recurrence", lambda p, q: (p, q), 0)


def cumsum(x: CudaArray, axis: int) -> CudaArray:
    return _run(_CUMSUM, x, x, axis)


def cumprod(x: CudaArray, axis: int) -> CudaArray:
    return _run(_CUMPROD, x, x, axis)


def recurrence(a: CudaArray, b: CudaArray, axis: int) -> CudaArray:
    """y_i = a_i y_(i-1) + b_i along an axis, from y_(-1) = 0."""
    return _run(_RECURRENCE, a, b, axis)


def _run(kernels: dict[str, Kernel], p: CudaArray, q: CudaArray, axis: int) -> CudaArray:
    y = empty(p.shape, sum_dtype(p))
    if p.size:
        n, inner = p.shape[axis], math.prod(p.shape[axis % p.ndim + 1 :])
        run = of_dtype(kernels, p.dtype)
        # Bytes are added as integers with a sign, whose bits are the same.
        out = CudaArray(y.shape, "i8", y._block, y._offset) if y.dtype.kind == "u" else y
        run(p.size // n, THREADS, out, p, q, n, inner)
    return y
