"""Reductions of the CPU backend, at sizes of one and of several threads, against NumPy."""

from __future__ import annotations

import numba
import numpy as np
import pytest

from minitorch_ciml import kernels
from minitorch_ciml.kernels.cpu import folds, reduce
from minitorch_ciml.kernels.reference import reduce as reference

# Rows shorter than a vector, longer by one than one or many, fewer than a vector has lanes; runs
# that are wide, and such of which many are taken at a time; axes of size 1 and apart.
CASES = [
    ((3000, 3), (0,)), ((3000, 3), (1,)), ((1001, 33), (0,)), ((1001, 33), (1,)),
    ((17, 1027), (1,)), ((5, 4000), (0,)), ((5, 4000), (1,)), ((70, 1111), (0, 1)),
    ((20, 3001), (1,)), ((100_003,), (0,)), ((1, 5000), (0,)), ((1, 5000), (0, 1)),
    ((6, 1, 700, 5), (0, 1)), ((6, 1, 700, 5), (1, 2)), ((6, 1, 700, 5), (0, 3)),
    ((8, 9, 10, 11), (1, 3)), ((8, 9, 10, 11), (1, 2)), ((8, 9, 10, 11), ()),
    ((40, 20, 32), (0, 1)), ((2, 3, 40_000), (1,)), ((20, 3, 40, 2), (2,)),
]  # fmt: skip
TOLERANCE = {"float32": 2e-6, "float64": 1e-14}


def drawn(shape, dtype, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


@pytest.mark.parametrize("name", ["sum", "prod", "mean", "max", "min", "sum_to"])
def test_they_are_the_kernels_of_the_cpu(name):
    assert kernels.find("cpu", name) is getattr(reduce, name)


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("shape", "axis"), CASES, ids=str)
def test_every_function(shape, axis, dtype, keepdims):
    x, how = drawn(shape, dtype), dict(axis=axis, keepdims=keepdims)
    wide = x.astype("float64")
    sizes = np.abs(wide).sum(**how)
    for name, bound in (("sum", sizes), ("mean", sizes / max(x.size / sizes.size, 1))):
        y, exact = getattr(reduce, name)(x, **how), getattr(reference, name)(wide, *how.values())
        assert y.dtype == dtype and y.shape == exact.shape
        assert (np.abs(y - exact) <= TOLERANCE[dtype] * bound).all()
    factors = np.exp(wide / np.sqrt(x.size)).astype(dtype)
    exact = np.prod(factors.astype("float64"), **how)
    np.testing.assert_allclose(reduce.prod(factors, **how), exact, 500 * TOLERANCE[dtype])
    holed = x.copy()
    holed.reshape(-1)[:: x.size // 3] = np.nan
    holed.reshape(-1)[-1] = np.inf
    for name in ("max", "min"):
        for values in (x, holed, -holed):
            y = getattr(reduce, name)(values, **how, initial=None)
            assert y.dtype == dtype
            np.testing.assert_array_equal(y, getattr(reference, name)(values, *how.values(), None))


@pytest.mark.parametrize("columns", [5, 16, 17, 64, 70, 1500])
def test_a_nan_counts_wherever_it_is(columns):
    x = np.zeros((1600, columns), "float32")
    for place in range(0, x.size, 997):
        x.reshape(-1)[place] = np.nan
    for axis in (0, 1):
        for name in ("max", "min"):
            y = getattr(reduce, name)(x, axis=(axis,), keepdims=False, initial=None)
            np.testing.assert_array_equal(np.isnan(y), np.isnan(x).any(axis))


def test_many_numbers_lose_nothing():
    x = np.full((3, 1 << 20), 0.1, "float32")
    for axis, exact in ((1, 0.1 * (1 << 20)), (0, 0.3)):
        np.testing.assert_allclose(reduce.sum(x, axis=(axis,), keepdims=False), exact, 1e-6)
    columns = reduce.sum(x.T.copy(), axis=(0,), keepdims=False)
    np.testing.assert_allclose(columns, 0.1 * (1 << 20), 1e-6)


def test_an_initial_value_is_a_bound():
    x = drawn((100, 100), "float32")
    assert reduce.max(x, axis=(0, 1), keepdims=False, initial=9) == 9
    assert reduce.min(x, axis=(0, 1), keepdims=False, initial=-9) == -9
    assert reduce.max(x, axis=(0, 1), keepdims=False, initial=0) == x.max()


@pytest.mark.parametrize("dtype", ["bool", "int8", "int64", "float16"])
def test_other_numbers_are_numpys(dtype):
    x = (drawn((100, 100), "float32") * 3).astype(dtype)
    np.testing.assert_array_equal(reduce.sum(x, axis=(1,), keepdims=False), x.sum(1))
    assert reduce.sum(x, axis=(1,), keepdims=False).dtype == x.sum(1).dtype
    if dtype != "bool":
        np.testing.assert_array_equal(
            reduce.max(x, axis=(1,), keepdims=True, initial=None), x.max(1, keepdims=True)
        )


def test_axes_in_any_order_and_steps():
    x = drawn((60, 50, 40), "float32")
    for view in (x.T, x[::2], x[:, ::-1], np.broadcast_to(x[:1], x.shape)):
        y = reduce.sum(view, axis=(0, 2), keepdims=False)
        np.testing.assert_allclose(y, view.astype("float64").sum((0, 2)), 1e-5, 1e-3)


@pytest.mark.parametrize("shape", [(40, 50), (50,), (1, 50), (40, 1), (), (1, 1)], ids=str)
def test_the_adjoint_of_broadcasting(shape):
    x = drawn((30, 40, 50), "float32")
    y = reduce.sum_to(x, shape=shape)
    axes = (0, *[i + 3 - len(shape) for i, n in enumerate(shape) if n == 1])
    axes += tuple(range(1, 3 - len(shape)))
    exact = x.astype("float64").sum(axes).reshape(shape)
    assert y.shape == shape
    np.testing.assert_allclose(y, exact, 1e-5, 1e-3)


def test_any_number_of_threads_gives_the_same():
    x = drawn((50, 40, 300), "float32")

    def compute():
        return [reduce.sum(x, axis=a, keepdims=False) for a in ((0,), (1,), (2,), (0, 1, 2))]

    threads = numba.get_num_threads()
    many = compute()
    numba.set_num_threads(1)
    try:
        alone = compute()
    finally:
        numba.set_num_threads(threads)
    for one, other in zip(many, alone, strict=True):
        np.testing.assert_array_equal(one, other)


def test_an_axis_is_cut_where_it_is_all_that_there_is():
    """Some of the shapes above are folded in parts, and these once more."""
    x = drawn(8 * folds.PIECE + 5, "float64")
    np.testing.assert_allclose(folds.fold_axis(folds.fold_sum, x, 1, x.size, 1), x.sum())


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("shape", "axis"), [*CASES, ((3, 4), (1,))], ids=str)
def test_logarithms_of_sums_of_exponentials(shape, axis, dtype, keepdims):
    x, how = 20 * drawn(shape, dtype), dict(axis=axis, keepdims=keepdims)
    infinite = x.copy()
    infinite.reshape(-1)[::7] = -np.inf
    infinite[0] = -np.inf
    tolerance = dict(rtol=10 * TOLERANCE[dtype], atol=20 * TOLERANCE[dtype])
    for values in (x, infinite):
        wide = values.astype("float64")
        exact = reference.logsumexp(wide, axis, keepdims)
        y = reduce.logsumexp(values, **how)
        assert y.dtype == dtype and y.shape == exact.shape
        np.testing.assert_allclose(y, exact, **tolerance)
        g = np.cos(np.arange(y.size)).reshape(y.shape).astype(dtype)
        (dx,) = reduce.logsumexp_grad(g, y, values, needs=(True,), **how)
        kept = [1 if i in axis else n for i, n in enumerate(shape)]
        shift = np.where(np.isneginf(exact), 0, exact).reshape(kept)
        assert dx.dtype == dtype
        near = dict(rtol=40 * TOLERANCE[dtype], atol=TOLERANCE[dtype])
        np.testing.assert_allclose(dx, g.reshape(kept) * np.exp(wide - shift), **near)


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("shape", "axis"), [*CASES, ((3, 4), (1,)), ((3, 1), (1,))], ids=str)
def test_variances_and_their_gradient(shape, axis, dtype, keepdims):
    x, how = 3 + drawn(shape, dtype), dict(axis=axis, keepdims=keepdims)
    wide = x.astype("float64")
    y, exact = reduce.var(x, **how), np.var(wide, **how)
    assert y.dtype == dtype and y.shape == exact.shape
    np.testing.assert_allclose(y, exact, 10 * TOLERANCE[dtype], TOLERANCE[dtype])
    g = np.cos(np.arange(y.size)).reshape(y.shape).astype(dtype)
    (dx,) = reduce.var_grad(g, y, x, needs=(True,), **how)
    kept = [1 if i in axis else n for i, n in enumerate(shape)]
    exact = (wide - wide.mean(axis, keepdims=True)) * g.reshape(kept) * (2 * y.size / x.size)
    assert dx.dtype == dtype and dx.shape == shape
    np.testing.assert_allclose(dx, exact, 20 * TOLERANCE[dtype], 20 * TOLERANCE[dtype])


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize(("shape", "axis"), [
    ((3, 4), (1,)), ((3, 1), (1,)), ((5, 6, 7), (0, 2)), ((5, 6, 7), (1,)), ((5, 6), ()),
    ((300, 40), (0,)), ((300, 40), (1,)), ((300, 40), (0, 1)),
], ids=str)  # fmt: skip
def test_the_gradient_of_a_product(shape, axis, keepdims):
    """Where there is a zero in a product, or several, and where it overflows."""
    for zeros in (0, 1, 7):
        x = np.exp(0.1 * drawn(shape, "float64"))
        x.reshape(-1)[: zeros * 5 : 5] = 0
        y = x.prod(axis, keepdims=keepdims)
        g = np.cos(np.arange(y.size)).reshape(y.shape)
        how = dict(needs=(True,), axis=axis, keepdims=keepdims)
        (dx,) = reduce.prod_grad(g, y, x, **how)
        kept = [1 if i in axis else n for i, n in enumerate(shape)]
        for place in [(0,) * len(shape), (1, 0, 0)[: len(shape)], (2,) * len(shape)]:
            place = tuple(min(i, n - 1) for i, n in zip(place, shape))
            others = x.copy()
            others[place] = 1
            found = others.prod(axis, keepdims=True)
            at = tuple(0 if i in axis else n for i, n in enumerate(place))
            expected = found[at] * g.reshape(kept)[at]
            np.testing.assert_allclose(dx[place], expected, rtol=1e-11)
    (dx,) = reduce.prod_grad(g, np.full_like(y, np.inf), x, **how)
    assert not np.isnan(dx).any()
