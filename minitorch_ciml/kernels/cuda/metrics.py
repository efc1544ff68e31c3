"""Sums that metrics keep on the GPU, so that a training step need not wait for them.

They are kept in float64, as on the CPU: an epoch of a million samples would lose digits in float32.
One block does all of it: a batch has few values, and the sum is the same in every run.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import cuda, float64

from minitorch_ciml.kernels.cuda.elementwise import FLOATS, INTEGERS
from minitorch_ciml.kernels.cuda.launch import kernel
from minitorch_ciml.kernels.cuda.memory import CudaArray, constant, empty
from minitorch_ciml.kernels.cuda.sums import BLOCK, added_up


@kernel("f8* f8* T* U* i4 i4 f8", threads=BLOCK, T=("b1", *FLOATS, *INTEGERS), U=FLOATS)
def _add_to_mean(total, count, values, weights, n, repeat, scale):
    """Each weight belongs to `repeat` neighbouring values; 0: one weight belongs to all."""
    shared = cuda.shared.array(BLOCK, float64)
    sum_of_values, sum_of_weights = float64(0), float64(0)
    for i in range(cuda.threadIdx.x, n, BLOCK):
        weight = float64(weights[i // repeat if repeat > 0 else 0])
        sum_of_values += weight * float64(values[i])
        sum_of_weights += weight
    sum_of_values = added_up(shared, sum_of_values)
    cuda.syncthreads()
    sum_of_weights = added_up(shared, sum_of_weights)
    if cuda.threadIdx.x == 0:
        total[0] += sum_of_values * scale
        count[0] += sum_of_weights * scale


def add_to_mean(total: CudaArray, count: CudaArray, values: CudaArray, weight: Any) -> None:
    """total += sum(w v) / m and count += sum(w) / m, with m the values per sample.

    Args:
        total, count: float64, shape ().
        values: (N, ...) or ().
        weight: None for 1, a number, or an array whose axes are the first ones of `values`.
    """
    if not values.size:
        return
    if not isinstance(weight, CudaArray):
        number = 1.0 if weight is None else float(weight)
        weight, repeat = constant(number, np.dtype("float64")), 0
    elif weight.size == 1:
        repeat = 0
    else:
        if weight.ndim == values.ndim + 1 and weight.shape[-1] == 1:
            weight = weight.reshape(weight.shape[:-1])
        if weight.shape != values.shape[: weight.ndim]:
            raise ValueError(
                f"sample_weight: got shape {weight.shape} for values of shape {values.shape}; give "
                "one weight per sample."
            )
        repeat = values.size // weight.size
    scale = np.float64(len(values) / values.size if values.ndim > 1 else 1)
    if weight.dtype.kind != "f":
        weight = weight.astype("float32")
    _add_to_mean(1, BLOCK, total, count, values, weight, values.size, repeat, scale)


@kernel("T* f8* f8*", threads=32, T=FLOATS)
def _quotient(y, total, count):
    if cuda.threadIdx.x == 0:
        y[0] = total[0] / count[0] if count[0] != 0 else float64(0)


def quotient(total: CudaArray, count: CudaArray, *, dtype: Any) -> CudaArray:
    """total / count, and 0 where count is 0; all of shape ()."""
    y = empty((), dtype)
    _quotient(1, 32, y, total, count)
    return y
