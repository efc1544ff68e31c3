"""Softmax and layer normalisation of the CPU backend, in rows of every kind of length."""

from __future__ import annotations

import numba
import numpy as np
import pytest

from minitorch_ciml.kernels.cpu import columns, layer_normalization, rows
from minitorch_ciml.kernels.reference import nn as reference
from minitorch_ciml.kernels.reference import normalization as reference_normalization

# Shorter than a vector, longer by one than one or several, in one part and in many.
SHAPES = [(1, 1), (3, 2), (7, 15), (7, 17), (9, 63), (9, 65), (700, 128), (1001, 77), (2, 40_000)]
TOLERANCE = {"float32": 3e-5, "float64": 1e-12}
EPSILON = 1e-3
EACH = (True,) * 3


def _normal(seed, *shape, dtype="float64"):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def _assert_close(ours, expected, dtype):
    assert ours.dtype == dtype and ours.shape == expected.shape
    np.testing.assert_allclose(ours, expected, TOLERANCE[dtype], TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_softmax(shape, dtype):
    x, g = 9 * _normal(0, *shape, dtype=dtype), _normal(1, *shape, dtype=dtype)
    for name in ("softmax", "log_softmax"):
        ours, meant = getattr(rows, name), getattr(reference, name)
        y, expected = ours(x, axis=-1), meant(x.astype("float64"), axis=-1)
        _assert_close(y, expected, dtype)
        ours, meant = getattr(rows, f"{name}_grad"), getattr(reference, f"{name}_grad")
        (expected,) = meant(g.astype("float64"), expected, x, needs=(True,), axis=-1)
        (dx,) = ours(g, y, x, needs=(True,), axis=-1)
        _assert_close(dx, expected, dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape, axis", [
    ((5, 3, 1), 1), ((5, 3, 2), 1), ((4, 7, 17), 0), ((4, 7, 17), -2), ((40, 30, 20), 1),
    ((3, 50, 515), 1), ((200, 3, 200), 0), ((2, 300, 2), 1), ((0, 3, 4), 1),
    ((3, 4, 0), 1),
], ids=str)  # fmt: skip
def test_softmax_along_other_axes(shape, axis, dtype):
    x, g = 9 * _normal(0, *shape, dtype=dtype), _normal(1, *shape, dtype=dtype)
    for name in ("softmax", "log_softmax"):
        expected = getattr(reference, name)(x.astype("float64"), axis=axis)
        y = getattr(rows, name)(x, axis=axis)
        _assert_close(y, expected, dtype)
        how = dict(needs=(True,), axis=axis)
        (meant,) = getattr(reference, f"{name}_grad")(g.astype("float64"), expected, x, **how)
        (dx,) = getattr(rows, f"{name}_grad")(g, y, x, **how)
        _assert_close(dx, meant, dtype)
        turned = getattr(rows, name)(x.T, axis=x.ndim - 1 - axis % x.ndim)
        _assert_close(turned, expected.T, dtype)


def test_along_other_axes_a_nan_and_infinities():
    x = np.zeros((2, 3, 40), "float32")
    x[1, 2, 7], x[0, 1, 5], x[0, 0, 6] = np.nan, -np.inf, 500
    for y in (rows.softmax(x, axis=1), np.exp(rows.log_softmax(x, axis=1))):
        assert np.isnan(y).sum() == 3 and np.isnan(y[1, :, 7]).all()
        np.testing.assert_allclose(y[0, :, 5], [0.5, 0, 0.5], rtol=1e-6)
        np.testing.assert_array_equal(y[0, :, 6], [1, 0, 0])


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "float16"])
@pytest.mark.parametrize("shape, axis", [
    ((20_001,), 0), ((90, 101), 0), ((90, 101), 1), ((30, 20, 20), 1), ((3, 7, 600), 1),
    ((4000, 3), 0), ((3, 4), 1), ((0, 9000), 0), ((9000, 0), 0),
], ids=str)  # fmt: skip
def test_running_sums(shape, axis, dtype):
    x = (5 * _normal(0, *shape)).astype(dtype)
    for values in (x, x[::-1]):
        y, expected = columns.cumsum(values, axis=axis), np.cumsum(values, axis)
        assert y.dtype == expected.dtype
        np.testing.assert_array_equal(y, expected)
        (dx,) = columns.cumsum_grad(values, y, values, needs=(True,), axis=axis)
        np.testing.assert_array_equal(dx, np.flip(np.cumsum(np.flip(values, axis), axis), axis))


@pytest.mark.parametrize("n", [5, 16, 64, 70, 200])
def test_a_nan_stays_in_its_row(n):
    for place in range(n):
        x = np.zeros((3, n), "float32")
        x[1, place] = np.nan
        for y in (rows.softmax(x, axis=-1), rows.log_softmax(x, axis=-1)):
            assert np.isnan(y).all(1).tolist() == [False, True, False]
            assert not np.isnan(y[::2]).any()


def test_softmax_of_infinities_and_of_nothing():
    x = np.array([[-np.inf, 0, 0], [500, 500, -500]], "float32")
    np.testing.assert_array_equal(rows.softmax(x, axis=1), [[0, 0.5, 0.5], [0.5, 0.5, 0]])
    for shape in ((0, 5), (5, 0)):
        assert rows.softmax(np.zeros(shape, "float32"), axis=-1).shape == shape


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES[1:], ids=str)
def test_layer_normalization(shape, dtype):
    x, g = 3 + _normal(0, *shape, dtype=dtype), _normal(1, *shape, dtype=dtype)
    gamma, beta = _normal(2, 2, shape[1], dtype=dtype)
    wide = [a.astype("float64") for a in (g, x, gamma, beta)]
    y, saved = layer_normalization.layer_normalization(x, gamma, beta, epsilon=EPSILON)
    expected, wide_saved = reference_normalization.layer_normalization(*wide[1:], epsilon=EPSILON)
    _assert_close(y, expected, dtype)
    ours = layer_normalization.layer_normalization_grad(
        g, y, x, gamma, beta, needs=EACH, saved=saved, epsilon=EPSILON
    )
    meant = reference_normalization.layer_normalization_grad(
        wide[0], expected, *wide[1:], needs=EACH, saved=wide_saved, epsilon=EPSILON
    )
    for one, other in zip(ours, meant, strict=True):
        _assert_close(one, other, dtype)


def test_any_number_of_threads_gives_the_same():
    x, g = _normal(0, 2, 3000, 100, dtype="float32")
    gamma = _normal(1, 100, dtype="float32")

    def compute():
        y, saved = layer_normalization.layer_normalization(x, gamma, gamma, epsilon=EPSILON)
        return rows.softmax(x, axis=-1), *layer_normalization.layer_normalization_grad(
            g, y, x, gamma, gamma, needs=EACH, saved=saved, epsilon=EPSILON
        )

    threads = numba.get_num_threads()
    many = compute()
    numba.set_num_threads(1)
    try:
        alone = compute()
    finally:
        numba.set_num_threads(threads)
    for one, other in zip(many, alone, strict=True):
        np.testing.assert_array_equal(one, other)
