"""Sums over the rows of a matrix, in shares that many blocks compute and that are added in order.

What the gradients of biases and of convolution's kernels end with. Bound by memory: g is read once.
"""

from __future__ import annotations

import numpy as np
from numba import cuda, float32, float64

from minitorch_ciml.kernels.cuda.elements import read, write
from minitorch_ciml.kernels.cuda.elementwise import TRAINED
from minitorch_ciml.kernels.cuda.intrinsics import i32
from minitorch_ciml.kernels.cuda.launch import Kernel, ceil_div, kernel
from minitorch_ciml.kernels.cuda.memory import CudaArray, empty, zeros
from minitorch_ciml.kernels.cuda.runtime import runtime
from minitorch_ciml.kernels.cuda.windows import THREADS, over

BLOCK = 256  # threads of a block that adds up what its threads have
_FLOATS = ("f4", "f8")
_MULTIPLE = 8  # shares are a multiple of it
_SHORTEST_SHARE = 256  # rows that are worth a block of their own


@cuda.jit(device=True)
def added_up(shared, mine):
    """For kernels: the sum of what each thread of a `BLOCK` has, the same in every run.

    All of them get it; before `shared` is used again, they must wait for each other.
    """
    t = cuda.threadIdx.x
    shared[t] = mine
    cuda.syncthreads()
    half = BLOCK // 2
    while half > 0:
        if t < half:
            shared[t] += shared[t + half]
        cuda.syncthreads()
        half //= 2
    return shared[0]


@kernel("T* T* i4 i4", threads=THREADS, T=_FLOATS)
def _sum_shares(y, parts, count, shares):
    """y = the sum of the shares (shares, count), in their order."""
    i = cuda.grid(1)
    if i < count:
        total = float32(0.0)
        for s in range(shares):
            total += parts[i32(s * count + i)]
        y[i] = total


_COLUMNS, _ROWS = 32, 8  # of a block's threads


def _bias_grad(dtype: str) -> Kernel:
    total_code, number = ("f8", float64) if dtype == "f8" else ("f4", float32)

    @kernel(
        f"{total_code}* T* T* T* i4 i4 i4 i4", threads=_COLUMNS * _ROWS, T=(dtype,),
        name=f"sums.bias_grad_{dtype}",
    )  # fmt: skip
    def bias_grad(db, masked, g, y, pixels, share, filters, is_relu):
        """Sums of g (pixels, filters) over a share of the pixels; of ReLU, where y > 0.

        For ReLU what was summed is also written to `masked`.
        """
        sums = cuda.shared.array((_ROWS, _COLUMNS), number)
        column, row = i32(cuda.threadIdx.x), i32(cuda.threadIdx.y)
        f, first = i32(cuda.blockIdx.x * _COLUMNS + column), i32(cuda.blockIdx.y * share)
        total = number(0.0)
        if f < filters:
            for p in range(first + row, min(pixels, first + share), _ROWS):
                at = i32(p * filters + f)
                value = read(g, at)
                if is_relu:
                    if not read(y, at) > 0:  # also of NaN
                        value = number(0.0)
                    write(masked, at, value)
                total += value
        sums[row, column] = total
        cuda.syncthreads()
        if row == 0 and f < filters:
            for r in range(1, _ROWS):
                total += sums[r, column]
            db[i32(cuda.blockIdx.y * filters + f)] = total

    return bias_grad


_BIAS_GRAD = {dtype: _bias_grad(dtype) for dtype in TRAINED}


# --- launchers ------------------------------------------------------------------------------------


def shares_of(rows: int, threads: int) -> tuple[int, int]:
    """How many rows are a share, and how many shares there are, for so many threads of each."""
    wanted = runtime().multiprocessors * 1024
    shares = max(1, min(wanted // threads, rows // _SHORTEST_SHARE, 65535))
    share = ceil_div(ceil_div(rows, shares), _MULTIPLE) * _MULTIPLE
    return share, ceil_div(rows, share)


def summed(parts: CudaArray) -> CudaArray:
    """The sum over the first axis, in its order."""
    shape = parts.shape[1:]
    if parts.shape[0] == 1:
        return parts.reshape(shape)
    y = empty(shape, parts.dtype)
    _sum_shares(*over(y.size), y, parts, y.size, parts.shape[0])
    return y


def bias_grad(g: CudaArray, y: CudaArray, is_relu: bool) -> tuple[CudaArray, CudaArray]:
    """g, with 0 where ReLU's result is 0, and its sum over all rows."""
    filters = g.shape[-1]
    if g.size == 0:
        return g, zeros((filters,), g.dtype)
    rows = g.size // filters
    columns = ceil_div(filters, _COLUMNS)
    share, shares = shares_of(rows, columns * _COLUMNS * _ROWS)
    sums = empty((shares, filters), np.float64 if g.pointer_type == "f8*" else np.float32)
    masked = empty(g.shape, g.dtype) if is_relu else g
    _BIAS_GRAD[g.pointer_type[:-1]](
        (columns, shares), (_COLUMNS, _ROWS), sums, masked, g, y, rows,
        share, filters, is_relu,
    )  # fmt: skip
    return masked, summed(sums).astype(g.dtype, copy=False)
