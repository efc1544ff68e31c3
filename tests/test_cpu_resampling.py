"""Weighted sums along an axis on the CPU, against the product with the matrix of weights."""

from __future__ import annotations

import numpy as np
import pytest

from minitorch_ciml import Tensor, grad, ops
from minitorch_ciml.autograd import Parameter
from minitorch_ciml.kernels.cpu import resampling


def drawn(*shape, dtype="float32", seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


@pytest.mark.parametrize("dtype, tolerance", [("float32", 1e-5), ("float64", 1e-13)])
@pytest.mark.parametrize("shape", [(7, 30, 20, 9), (50, 103), (4200,), (2, 3, 4), (0, 30, 4)])
def test_every_axis(shape, dtype, tolerance):
    x = drawn(*shape, dtype=dtype)
    for axis, n in enumerate(shape):
        w = drawn(n // 2 + 3, n, dtype=dtype, seed=1)
        w[np.abs(w) < 1.5] = 0
        w[1] = 0  # a place to which nothing comes
        y, expected = resampling.weighted_sums(x, w, axis=axis), np.tensordot(w, x, (1, axis))
        assert y.dtype == dtype
        bound = dict(rtol=tolerance, atol=20 * tolerance)
        np.testing.assert_allclose(y, np.moveaxis(expected, 0, axis), **bound)
        g = drawn(*y.shape, dtype=dtype, seed=2)
        how = dict(needs=(True, True), axis=axis)
        dx, dw = resampling.weighted_sums_grad(g, y, x, w, **how)
        np.testing.assert_allclose(
            dx, np.moveaxis(np.tensordot(w.T, g, (1, axis)), 0, axis), **bound
        )
        others = [i for i in range(len(shape)) if i != axis]
        np.testing.assert_allclose(dw, np.tensordot(g, x, (others, others)), **bound)


def test_a_resized_image_and_its_gradient():
    """With `create_graph` the gradient is of the matrix products."""
    x = Parameter(drawn(2, 20, 30, 9))
    y = ops.image.resize(x, (35, 17), interpolation="bicubic")
    g = Tensor(drawn(*y.shape, seed=1))
    (ours,), (meant,) = grad(y, [x], g, retain_graph=True), grad(y, [x], g, create_graph=True)
    np.testing.assert_allclose(ours.numpy(), meant.numpy(), rtol=1e-5, atol=1e-5)
