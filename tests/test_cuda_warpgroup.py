"""What the simulator says of Hopper's matrix products that are used too early."""

import numpy as np
import pytest
from numba import cuda, float32, int32

pytest.importorskip("numba_cuda")

from minitorch_ciml.kernels.cuda.intrinsics import i32
from minitorch_ciml.kernels.cuda.shared_memory import smem_addr, sts
from minitorch_ciml.kernels.cuda.simulator import simulated
from minitorch_ciml.kernels.cuda.warpgroup import (
    TF32,
    Factor,
    start_products_of,
    wait_for_products_of,
)

COLUMNS, A_BYTES = 8, 64 * 128
start = start_products_of(TF32, COLUMNS, Factor(True, 0), Factor(True, 0))
wait = wait_for_products_of(COLUMNS, 0)


def product(y, is_early, is_overwritten):
    """y = a sum of a thread's, for factors of ones; 32 is their product."""
    shared = cuda.shared.array(0, float32)
    total = cuda.local.array(4, float32)
    for i in range(4):
        total[i] = float32(0.0)
    thread, base = i32(cuda.threadIdx.x), smem_addr(shared)
    for place in range(thread, 72 * 32, int32(128)):
        sts(i32(base + 4 * place), float32(1.0))
    cuda.syncthreads()
    start(total, base, i32(base + A_BYTES))
    if is_early:
        y[thread] = total[3]
    if is_overwritten and thread == 0:
        sts(base, float32(2.0))
    wait(total)
    if not is_early:
        y[thread] = total[3]


def run(is_early=0, is_overwritten=0):
    y = np.zeros(128, np.float32)
    simulated(product)((1, 1, 1), (128, 1, 1), 72 * 128, (y, is_early, is_overwritten))
    return y


def test_sums_are_there_after_waiting():
    np.testing.assert_array_equal(run(), 32)


def test_sums_are_nan_before():
    assert np.isnan(run(is_early=1)).all()


def test_overwritten_factors_are_an_error():
    with pytest.raises(RuntimeError, match="overwrites a factor before its product is there"):
        run(is_overwritten=1)
