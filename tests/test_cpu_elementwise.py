"""The fast elementwise kernels, at sizes at which they are used, against the references."""

from __future__ import annotations

import numpy as np
import pytest

from minitorch_ciml import kernels
from minitorch_ciml.kernels.cpu import elementwise as fast
from minitorch_ciml.kernels.reference import elementwise as reference

SHAPES = [(), (3,), (2, 3), (fast.SMALL,), (fast.SMALL + 1,), (40, 33)]


def drawn(shape, dtype, seed=0):
    return np.asarray(np.random.default_rng(seed).normal(size=shape)).astype(dtype)


@pytest.mark.parametrize("name", ["where", "sigmoid"])
def test_they_are_the_kernels_of_the_cpu(name):
    assert kernels.find("cpu", name) is getattr(fast, name)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int32"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_where(shape, dtype):
    x, a, b = (drawn(shape, dtype, seed) for seed in range(3))
    condition = np.asarray(x > 0)
    one, row, nan = np.asarray(3, dtype), drawn(shape[-1:], dtype), np.full(shape, np.nan)
    turned = [array.T for array in (condition, a, b)]
    for choice in (
        (condition, a, b), (condition, a, one), (condition, one, b), (condition, one, one),
        (condition, a, row), (np.asarray(True), a, b), (condition[..., None], one, row),
        (x, a, b), (condition, nan, one.astype(float)), turned,
    ):  # fmt: skip
        ours, numpys = fast.where(*choice), reference.where(*choice)
        assert ours.dtype == numpys.dtype
        np.testing.assert_array_equal(ours, numpys)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_sigmoid(shape, dtype):
    for x in (drawn(shape, dtype), drawn(shape, dtype).T, 1000 * drawn(shape, dtype)):
        before = x.copy()
        y = fast.sigmoid(x)
        assert np.asarray(y).dtype == dtype
        np.testing.assert_allclose(y, reference.sigmoid(x), rtol=1e-6)
        np.testing.assert_array_equal(x, before)
    assert np.isnan(fast.sigmoid(np.full((40, 33), np.nan, dtype))).all()
