"""Matrix products on our own threads, against NumPy in float64."""

import numba
import numpy as np
import pytest

from minitorch_ciml.kernels.cpu import pointwise_grad
from minitorch_ciml.kernels.cpu.dense import dense_grad
from minitorch_ciml.kernels.cpu.products import matmul, multiply

TOLERANCE = {"float32": 2e-6, "float64": 1e-14}


def matrix(seed, rows, columns, dtype, transposed=False):
    shape = (columns, rows) if transposed else (rows, columns)
    x = np.random.default_rng(seed).standard_normal(shape).astype(dtype)
    return x.T if transposed else x


def assert_close(got, expected, dtype):
    assert got.dtype == dtype and got.shape == expected.shape
    assert np.abs(got - expected).max() <= TOLERANCE[dtype] * np.abs(expected).max()


# Sizes around those of tiles and parts; one row, rows a page apart, short and long sums.
SIZES = [
    (1, 2000, 600), (5, 3000, 513), (70, 1030, 70), (64, 12544, 16), (260, 1024, 130),
    (250, 33, 200), (400, 64, 65), (241, 193, 63),
    # Results that would be one part; and what BLAS does on one thread.
    (130, 600, 64), (250, 1024, 20), (64, 257, 63),
]  # fmt: skip


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("rows", "inner", "columns"), SIZES)
def test_products_of_any_layout(rows, inner, columns, dtype):
    bias = matrix(2, columns, 1, dtype)[:, 0]
    for turned in range(4):
        a = matrix(0, rows, inner, dtype, transposed=turned & 1)
        b = matrix(1, inner, columns, dtype, transposed=turned & 2)
        exact = a.astype("float64") @ b.astype("float64")
        assert_close(multiply(a, b), exact, dtype)
        assert_close(multiply(a, b, bias), exact + bias, dtype)
        assert_close(multiply(a, b, bias, relu=True), np.maximum(exact + bias, 0), dtype)


def test_products_of_slices_and_of_nothing():
    a, b = matrix(0, 400, 300, "float32")[::2, 3:], matrix(1, 300, 200, "float32")[3:]
    assert_close(multiply(a, b), a.astype("float64") @ b, "float32")
    assert multiply(a[:0], b).shape == (0, 200)
    assert not multiply(a[:, :0], b[:0]).any()


def test_batches_of_matrices():
    a, b = np.arange(24.0).reshape(2, 3, 4), np.arange(20.0).reshape(4, 5)
    assert np.array_equal(matmul(a, b), a @ b)
    large = matrix(0, 600, 128, "float32").reshape(3, 200, 128)
    b = matrix(1, 128, 128, "float32")
    assert_close(matmul(large, b), large.astype("float64") @ b, "float32")
    with pytest.raises(ValueError, match="size"):
        matmul(large, b[1:])


def test_sums_do_not_depend_on_the_number_of_threads():
    a, b = matrix(0, 40, 9000, "float32"), matrix(1, 9000, 48, "float32")
    x, g = matrix(2, 9000, 16, "float32"), matrix(3, 9000, 32, "float32")
    several = multiply(a, b), *pointwise_grad.product_grad(1 << 30, x, g, x.reshape(-1)[:0])
    threads = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        one = multiply(a, b), *pointwise_grad.product_grad(1 << 30, x, g, x.reshape(-1)[:0])
    finally:
        numba.set_num_threads(threads)
    for got, expected in zip(several, one):
        assert np.array_equal(got, expected)


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(
    ("samples", "inputs", "outputs"),
    [(128, 784, 60), (1, 2304, 128), (37, 1024, 1024), (17, 600, 31), (257, 130, 33)],
)
def test_gradients_of_a_dense_layer(samples, inputs, outputs, dtype, relu):
    x, w = matrix(0, samples, inputs, dtype), matrix(1, inputs, outputs, dtype)
    g, y = matrix(2, samples, outputs, dtype), matrix(3, samples, outputs, dtype)
    masked = (g * (y > 0) if relu else g).astype("float64")
    exact = masked @ w.T, x.T @ masked, masked.sum(0)
    for needs in [(True, True, True), (False, True, True), (True, False, False)]:
        activation = "relu" if relu else "linear"
        got = dense_grad(g, y, x, w, w[0], needs=needs, activation=activation)
        for needed, own, expected in zip(needs[:2], got, exact):
            if needed:
                assert_close(own, expected, dtype)
            else:
                assert own is None
        assert_close(got[2], exact[2], dtype)
