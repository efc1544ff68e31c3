"""Pooling and random numbers on the GPU, in the simulator against NumPy."""

import numpy as np
import pytest

pytest.importorskip("numba_cuda")

from cuda_peer import assert_close, assert_equal, on_gpu

from minitorch_ciml.kernels.cuda import pool, random
from minitorch_ciml.kernels.reference import conv as reference
from minitorch_ciml.kernels.reference import nn
from minitorch_ciml.kernels.reference import random as reference_random

RNG = np.random.default_rng(0)

# The input's shape, the window, its strides, the padding.
CASES = [
    ((2, 7, 3), (2,), (2,), ((0, 0),)),
    ((1, 9, 33), (3,), (1,), ((1, 1),)),  # overlapping windows, more channels than a warp
    ((2, 5, 6, 3), (2, 2), (2, 2), ((0, 1), (0, 0))),
    ((1, 8, 7, 1), (3, 2), (2, 1), ((1, 1), (0, 1))),
    ((1, 4, 5, 6, 2), (2, 3, 2), (1, 2, 3), ((0, 1), (1, 1), (0, 0))),
    ((1, 18, 17, 1), (17, 16), (1, 1), ((0, 0), (0, 0))),  # more places than a byte can tell
    ((1, 3, 3, 1), (1, 1), (2, 2), ((0, 0), (0, 0))),  # elements that no window covers
    ((1, 4, 5, 12), (2, 2), (1, 2), ((0, 1), (0, 0))),  # channels by fours
    ((2, 3, 3, 8), (2, 2), (2, 2), ((0, 1), (0, 1))),
    ((0, 4, 4, 2), (2, 2), (2, 2), ((0, 0), (0, 0))),
]
DTYPES = ("float32", "float64")


def how_of(case):
    return dict(zip(("pool_size", "strides", "padding"), case[1:]))


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_max_pool(case, dtype):
    """Values, places and gradients have NumPy's bits, with ties and with NaN in the input."""
    how = how_of(case)
    x = RNG.integers(-3, 4, case[0]).astype(dtype)
    x[x == 3] = np.nan
    y, saved = reference.max_pool(x, **how)
    assert_equal(on_gpu(pool.max_pool, x, **how), (y, saved))
    assert_equal(on_gpu(pool.max_pool_places, x, **how), saved)
    assert_equal(
        on_gpu(pool.max_pool_gather, x, saved, **how),
        reference.max_pool_gather(x, saved, **how),
    )
    g = RNG.normal(size=y.shape).astype(dtype)
    assert_equal(
        on_gpu(pool.max_pool_grad, g, y, x, needs=(True,), saved=saved, **how),
        nn.max_pool_grad(g, y, x, needs=(True,), saved=saved, **how),
    )


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_avg_pool(case, dtype):
    how = how_of(case)
    x = RNG.normal(size=case[0]).astype(dtype)
    y = reference.avg_pool(x, **how)
    assert_close(on_gpu(pool.avg_pool, x, **how), y)
    g = RNG.normal(size=y.shape).astype(dtype)
    assert_close(
        on_gpu(pool.avg_pool_grad, g, input_shape=x.shape, **how),
        reference.avg_pool_grad(g, input_shape=x.shape, **how),
    )


def test_windows_in_the_padding():
    """A window without any element has no place, and -inf as its maximum."""
    how = {"pool_size": (2,), "strides": (2,), "padding": ((2, 3),)}
    x = RNG.normal(size=(1, 3, 2)).astype("float32")
    y, saved = reference.max_pool(x, **how)
    assert_equal(on_gpu(pool.max_pool, x, **how), (y, saved))
    assert_equal(
        on_gpu(pool.max_pool_scatter, y, saved, input_shape=x.shape, **how),
        reference.max_pool_scatter(y, saved, input_shape=x.shape, **how),
    )


@pytest.mark.parametrize("rows, columns, first", [(1, 1, 0), (3, 4, 7), (5, 257, 2), (0, 3, 0)])
def test_random_words(rows, columns, first):
    stream = (2**32 - 1, 12345, 2**31, 7)
    assert_equal(
        on_gpu(random.random_words, rows, columns, stream=stream, first_row=first),
        reference_random.random_words(rows, columns, stream=stream, first_row=first),
    )


@pytest.mark.parametrize("shape", [(3, 5), (2, 3, 43), (70,), (0, 4)])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_dropout(shape, dtype, rate):
    """The bits of NumPy's, which are those of the CPU's kernel."""
    how = {"rate": rate, "stream": (1, 2, 3, 4), "first_sample": 5}
    x = RNG.normal(size=shape).astype(dtype)
    expected = reference_random.dropout(x, **how)
    assert_equal(on_gpu(random.dropout, x, **how), expected)
    if x.size:
        from minitorch_ciml.kernels.cpu.random import dropout

        assert_equal(dropout(x, **how), expected)


@pytest.mark.parametrize("case", [CASES[3], CASES[8]], ids=str)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_two_bytes(dtype, case):
    """Computed with as float32, and rounded once."""
    dtype = np.dtype(pytest.importorskip("ml_dtypes").bfloat16 if dtype == "bfloat16" else dtype)
    how = how_of(case)
    x = RNG.normal(size=case[0]).astype(dtype)
    wide = x.astype("float32")
    y, saved = reference.max_pool(wide, **how)
    assert_equal(on_gpu(pool.max_pool, x, **how), (y.astype(dtype), saved))
    shape = {"input_shape": x.shape, **how}
    dx = reference.max_pool_scatter(y, saved, **shape)
    found = on_gpu(pool.max_pool_scatter, y.astype(dtype), saved, **shape)
    np.testing.assert_allclose(found.astype("float32"), dx, 0.02, 0.02)
    found = on_gpu(pool.avg_pool, x, **how)
    assert found.dtype == dtype
    np.testing.assert_allclose(found.astype("float32"), reference.avg_pool(wide, **how), 0.01, 0.01)
    found = on_gpu(pool.avg_pool_grad, y.astype(dtype), **shape)
    expected = reference.avg_pool_grad(y, **shape)
    np.testing.assert_allclose(found.astype("float32"), expected, 0.01, 0.01)
    how = {"rate": 0.3, "stream": (1, 2, 3, 4), "first_sample": 5}
    dropped = on_gpu(random.dropout, x, **how)
    expected = reference_random.dropout(wide, **how)
    assert dropped.dtype == dtype
    np.testing.assert_array_equal(dropped == 0, expected == 0)
    np.testing.assert_allclose(dropped.astype("float32"), expected, 0.01)
