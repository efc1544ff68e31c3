"""Functions of two arrays on the CPU, at sizes at which they are used, against NumPy's."""

from __future__ import annotations

import numba
import numpy as np
import pytest

from minitorch_ciml import kernels
from minitorch_ciml.kernels.cpu import broadcasting as fast
from minitorch_ciml.kernels.cpu import gradients, reduce
from minitorch_ciml.kernels.reference import elementwise as reference
from minitorch_ciml.kernels.reference import reduce as reference_reduce

NAMES = ["add", "subtract", "multiply", "divide", "maximum", "minimum"]
# A bias, a factor of each row, of each image's channels, a number; shapes that both stretch; axes
# that are longer than a block, and so many groups of them that NumPy computes.
SHAPES = [
    ((40, 30, 20), (20,)), ((40, 30, 20), (40, 30, 1)), ((40, 30, 20), (40, 1, 20)),
    ((40, 30, 20), (1, 30, 1)), ((40, 30, 20), ()), ((40, 30, 20), (40, 30, 20)),
    ((300, 1), (1, 200)), ((40, 1, 20), (1, 30, 1)), ((7, 5000), (7, 1)), ((7, 5000), (5000,)),
    ((9000, 3), (3,)), ((9000, 3), (9000, 1)), ((1, 1, 50_001), (3, 1, 1)),
    ((20, 20, 20, 5), (20, 1, 20, 1)), ((20, 20, 20, 5), (1, 20, 1, 5)),
    ((8, 5, 9, 11, 13), (8, 1, 9, 1, 13)), ((3, 4), (4,)), ((0, 50_000), (50_000,)),
]  # fmt: skip


def drawn(shape, dtype, seed=0):
    x = np.random.default_rng(seed).normal(size=shape).astype(dtype)
    x.reshape(-1)[5 + seed :: 97] = [np.nan, np.inf][seed]
    return x


@pytest.mark.parametrize("name", NAMES)
def test_they_are_the_kernels_of_the_cpu(name):
    assert kernels.find("cpu", name) is getattr(fast, name)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shapes", SHAPES, ids=str)
def test_they_are_what_numpy_computes(shapes, name, dtype):
    a, b = (drawn(shape, dtype, seed) for seed, shape in enumerate(shapes))
    with np.errstate(all="ignore"):
        for inputs in ((a, b), (b, a)):
            y, expected = getattr(fast, name)(*inputs), getattr(np, name)(*inputs)
            assert y.dtype == expected.dtype
            np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize("dtypes", [("float16",) * 2, ("int64",) * 2, ("float32", "float64")])
def test_other_numbers_are_numpys(dtypes):
    a, b = (np.arange(60_000).reshape(300, 200).astype(dtype) % 7 for dtype in dtypes)
    y = fast.add(a, b)
    assert y.dtype == (a + b).dtype
    np.testing.assert_array_equal(y, a + b)


def test_views():
    x = np.random.default_rng(0).normal(size=(300, 400)).astype("float32")
    repeated = [np.broadcast_to(part, x.shape) for part in (np.float32(2), x[:1], x[:, :1])]
    for view in (*repeated, x.T.copy().T, x[::-1]):
        np.testing.assert_array_equal(fast.multiply(view, x), view * x)
        np.testing.assert_array_equal(fast.subtract(x, view), x - view)
    np.testing.assert_array_equal(fast.add(repeated[1], repeated[1]), 2 * repeated[1])


def test_shapes_must_fit():
    with pytest.raises(ValueError, match="broadcast"):
        fast.add(np.zeros((200, 300), "float32"), np.zeros((200, 200), "float32"))


@pytest.mark.parametrize("name", ["subtract", "multiply", "divide"])
@pytest.mark.parametrize("shape", [(200, 300), (300,), (200, 1)], ids=str)
def test_gradients(shape, name):
    g, a = np.random.default_rng(0).normal(size=(2, 200, 300)).astype("float32")
    b = 1 + np.random.default_rng(1).random(shape).astype("float32")
    y = getattr(np, name)(a, b)
    for needs in ((True, True), (True, False), (False, True)):
        ours = getattr(gradients, f"{name}_grad")(g, y, a, b, needs=needs)
        meant = getattr(reference, f"{name}_grad")(g, y, a, b, needs=needs)
        for one, other, need, x in zip(ours, meant, needs, (a, b), strict=True):
            if need:  # a rule may leave it to the engine to add up
                axes = tuple(i for i, n in enumerate((1,) * (2 - x.ndim) + x.shape) if n == 1)
                sums = [z.sum(axes).reshape(x.shape) if z.shape != x.shape else z
                        for z in (one.astype("float64"), other.astype("float64"))]  # fmt: skip
                np.testing.assert_allclose(*sums, rtol=2e-5, atol=2e-4)
            elif name != "subtract":
                assert one is None


def test_functions_of_one_array():
    for size in (5, 50_000):
        x = np.linspace(-3, 3, size, dtype="float32")
        np.testing.assert_array_equal(fast.negative(x), -x)
        np.testing.assert_array_equal(fast.square(x), x * x)
        np.testing.assert_array_equal(gradients.negative_grad(x, -x, x, needs=(True,))[0], -x)


def test_any_number_of_threads_gives_the_same():
    a, b = drawn((300, 70, 9), "float32"), drawn((70, 1), "float32", 1)
    threads = numba.get_num_threads()
    many = fast.divide(a, b)
    numba.set_num_threads(1)
    try:
        alone = fast.divide(a, b)
    finally:
        numba.set_num_threads(threads)
    np.testing.assert_array_equal(many, alone)


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape, axis", [
    ((40, 30, 50), (0,)), ((40, 30, 50), (1,)), ((40, 30, 50), (2,)), ((40, 30, 50), (0, 1)),
    ((40, 30, 50), (0, 2)), ((40, 30, 50), (0, 1, 2)), ((4, 3), (0,)), ((1, 60_000), (0,)),
    ((3, 30, 4, 50, 5), (0, 2, 4)),
], ids=str)  # fmt: skip
def test_the_gradient_of_a_mean(shape, axis, dtype, keepdims):
    x = np.random.default_rng(0).normal(size=shape).astype(dtype)
    y = x.mean(axis, keepdims=keepdims)
    how = dict(needs=(True,), axis=axis, keepdims=keepdims)
    for g in (y, np.broadcast_to(y[..., :1], y.shape) if y.ndim else y):
        (dx,) = reduce.mean_grad(g, y, x, **how)
        assert dx.dtype == dtype and dx.shape == shape
        (expected,) = reference_reduce.mean_grad(g, y, x, **how)
        np.testing.assert_allclose(dx, expected, rtol=1e-6)


@pytest.mark.parametrize("shape", [(5,), (300, 201)], ids=str)
def test_the_gradient_of_a_square_and_the_length(shape):
    g, x = np.random.default_rng(0).normal(size=(2, *shape)).astype("float32")
    for gradient in (g, np.broadcast_to(g[:1], shape)):
        (dx,) = gradients.square_grad(gradient, x * x, x, needs=(True,))
        np.testing.assert_array_equal(dx, gradient * x * 2)
    for axis in range(len(shape)):
        expected = np.linalg.norm(x.astype("float64"), axis=axis, keepdims=True)
        np.testing.assert_allclose(reduce.vector_norm(x, axis=(axis,)), expected, rtol=1e-6)
