"""The fast elementwise kernels, at sizes at which they are used, against the references."""

from __future__ import annotations

import numpy as np
import pytest

from minitorch_ciml import kernels
from minitorch_ciml.kernels.cpu import elementwise as fast
from minitorch_ciml.kernels.reference import elementwise as reference
from minitorch_ciml.kernels.reference import nn as reference_nn

SHAPES = [(), (3,), (2, 3), (fast.SMALL,), (fast.SMALL + 1,), (40, 33)]


def drawn(shape, dtype, seed=0):
    return np.asarray(np.random.default_rng(seed).normal(size=shape)).astype(dtype)


UNARY = {
    "relu": (reference.relu, {}),
    "clipped_relu": (reference_nn.clipped_relu, {"max_value": 0.5}),
    "leaky_relu": (reference_nn.leaky_relu, {"negative_slope": 0.2}),
}


@pytest.mark.parametrize("name", ["where", *UNARY])
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


@pytest.mark.parametrize("name", UNARY)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_functions_of_one_array(shape, dtype, name):
    function, (slow, how) = getattr(fast, name), UNARY[name]
    large = np.where(drawn(shape, dtype) > 0, np.inf, -np.inf).astype(dtype)
    for x in (drawn(shape, dtype), drawn(shape, dtype).T, 0 * drawn(shape, dtype), large):
        before = x.copy()
        with np.errstate(invalid="ignore"):
            y = function(x, **how)
            assert np.asarray(y).dtype == dtype
            np.testing.assert_allclose(y, slow(x, **how), rtol=1e-6)
        np.testing.assert_array_equal(x, before)
    assert np.isnan(function(np.full((40, 33), np.nan, dtype), **how)).all()


@pytest.mark.parametrize(("name", "how"), [("relu", {}), ("clipped_relu", {"max_value": 0.5})])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_gradients_of_rectifiers(shape, dtype, name, how):
    module = reference if name == "relu" else reference_nn
    x, g = drawn(shape, dtype), drawn(shape, dtype, 1)
    y = getattr(module, name)(x, **how)
    expected = getattr(module, f"{name}_grad")(g, y, x, needs=(True,), **how)[0]
    for gradient in (g, g.T.copy().T):
        found = getattr(fast, f"{name}_grad")(gradient, y, x, needs=(True,), **how)[0]
        assert np.asarray(found).dtype == dtype
        np.testing.assert_array_equal(found, expected)


LARGE = (300, 201)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("name", ["sqrt", "rsqrt", "absolute", "reciprocal"])
def test_large_arrays(name, dtype):
    x = drawn(LARGE, dtype)
    x.reshape(-1)[:5] = [0, np.inf, -np.inf, np.nan, -0.0]
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        for values in (x, x.T, x[::2], x[:1, :1]):
            y, expected = getattr(fast, name)(values), getattr(reference, name)(values)
            assert y.dtype == dtype
            np.testing.assert_allclose(y, expected, rtol=1e-3 if dtype == "float16" else 1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
@pytest.mark.parametrize("exponent", [-2, -1, 0, 0.5, 1, 2, 3, 4, 5])
def test_powers(exponent, dtype):
    if dtype == "int64" and (exponent < 0 or exponent % 1):
        return
    x = drawn(LARGE, "float64").astype(dtype)
    if dtype != "int64":
        x.reshape(-1)[:5] = [0, np.inf, -np.inf, np.nan, -0.0]
    exponents = np.asarray(exponent, dtype), np.full(x.shape[1:], exponent, dtype)
    with np.errstate(invalid="ignore", divide="ignore"):
        for b in exponents:
            y, expected = fast.power(x, b), np.power(x, b)
            assert y.dtype == dtype
            np.testing.assert_allclose(y, expected, rtol=1e-6)


@pytest.mark.parametrize("shape", [(100_003,), (300, 201)], ids=str)
def test_where_on_several_threads(shape):
    a, b = drawn(shape, "float32"), drawn(shape, "float32", 1)
    zero = np.zeros((), "float32")
    for choice in ((a > b, a, b), (a > b, a, zero), (a > b, zero, b)):
        np.testing.assert_array_equal(fast.where(*choice), np.where(*choice))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int64"])
@pytest.mark.parametrize("bounds", [(-1, 1), (0, np.inf), (1, -1), (np.nan, 1), (2, 2)], ids=str)
def test_clip(bounds, dtype):
    if dtype == "int64" and not np.isfinite(bounds).all():
        return
    x = (2 * drawn(LARGE, "float64")).astype(dtype)
    if dtype != "int64":
        x.reshape(-1)[:3] = [np.nan, np.inf, -np.inf]
    low, high = (np.asarray(bound, dtype) for bound in bounds)
    for values in (x, x.T, x[:1]):
        y = fast.clip(values, low, high)
        assert y.dtype == dtype
        np.testing.assert_array_equal(y, np.clip(values, low, high))
    np.testing.assert_array_equal(fast.clip(x, x - 1, high), np.clip(x, x - 1, high))
