"""Arrays one beside the other on the CPU, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from minitorch_ciml import kernels
from minitorch_ciml.kernels.cpu import copies

SHAPES = [(300, 400), (20, 30, 41), (70_001,), (3, 40_003), (40_003, 3), (2, 3, 4), (0, 50_000)]


def drawn(shape, dtype, seed=0):
    return (9 * np.random.default_rng(seed).normal(size=shape)).astype(dtype)


def test_they_are_the_kernels_of_the_cpu():
    assert kernels.find("cpu", "concatenate") is copies.concatenate
    assert kernels.find("cpu", "stack") is copies.stack


@pytest.mark.parametrize("dtype", ["bool", "int8", "float16", "float32", "int64"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_they_are_numpys(shape, dtype):
    xs = [drawn(shape, dtype, seed) for seed in range(3)]
    for axis in range(len(shape)):
        parts = [xs[0], xs[1].take(range(shape[axis] // 2), axis), xs[2]]
        y = copies.concatenate(*parts, axis=axis)
        assert y.dtype == dtype
        np.testing.assert_array_equal(y, np.concatenate(parts, axis))
        y = copies.concatenate(*parts, axis=axis - len(shape))
        np.testing.assert_array_equal(y, np.concatenate(parts, axis))
    for axis in range(-1, len(shape) + 1):
        np.testing.assert_array_equal(copies.stack(*xs, axis=axis), np.stack(xs, axis))


def test_other_layouts_and_mixed_numbers():
    x = drawn((300, 400), "float32")
    for parts in ((x.T, x.T), (x[::2], x[:, :]), (x, x.astype("float64")), (x[:, ::-1],)):
        y, expected = copies.concatenate(*parts, axis=0), np.concatenate(parts, 0)
        assert y.dtype == expected.dtype
        np.testing.assert_array_equal(y, expected)


def test_what_does_not_fit():
    x = drawn((300, 400), "float32")
    with pytest.raises(ValueError, match="must match"):
        copies.concatenate(x, x, x[:, :399], axis=0)
    with pytest.raises(ValueError, match="out of bounds"):
        copies.concatenate(x, x, axis=2)
    with pytest.raises(ValueError, match="same number of dimensions"):
        copies.concatenate(x, x[0], axis=0)
    with pytest.raises(ValueError, match="same shape"):
        copies.stack(x, x[:299], axis=0)
