"""What the table of ops cannot say about normalisation: the moments, sizes, errors."""

from __future__ import annotations

import numpy as np
import pytest

from minitorch_ciml import Tensor, ops


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("axis", [-1, 1])
def test_normalize_batch_gives_the_moments_as_constants(dtype, axis):
    x = np.random.default_rng(0).normal(3, 2, (7, 4, 5)).astype(dtype)
    y, mean, variance = ops.normalize_batch(Tensor(x, requires_grad=True), axis=axis, epsilon=1e-5)
    others = (0, 1) if axis == -1 else (0, 2)
    tolerance = 1e-2 if dtype == "float16" else 1e-5
    np.testing.assert_allclose(mean.numpy(), x.mean(axis=others), rtol=tolerance)
    np.testing.assert_allclose(variance.numpy(), x.var(axis=others), rtol=tolerance)
    assert {y.dtype, mean.dtype, variance.dtype} == {np.dtype(dtype)}
    assert y.requires_grad and not mean.requires_grad and not variance.requires_grad
    np.testing.assert_allclose(y.numpy().mean(axis=others), 0, atol=tolerance)


def test_moments_survive_a_large_mean_and_many_rows():
    """Sums in float32 would lose the variance here."""
    x = (10_000 + np.random.default_rng(0).normal(size=(100_000, 3))).astype("float32")
    _, mean, variance = ops.normalize_batch(x)
    np.testing.assert_allclose(mean.numpy(), x.mean(axis=0, dtype="float64"), rtol=1e-7)
    np.testing.assert_allclose(variance.numpy(), x.var(axis=0, dtype="float64"), rtol=1e-5)


def test_moments_given_or_own_agree():
    """Gradients through explicit moments are those of the fused op."""
    rng = np.random.default_rng(1)
    values, weights = rng.normal(size=(2, 6, 3))
    gradients = []
    for fused in (True, False):
        x = Tensor(values, requires_grad=True)
        scale, offset = Tensor([1.0, 2.0, 3.0], "float64"), Tensor([0.1, 0.2, 0.3], "float64")
        if fused:
            y = ops.normalize_batch(x, scale, offset)[0]
        else:
            y = ops.batch_normalization(x, *ops.moments(x, 0), -1, offset, scale)
        (y * weights).sum().backward()
        gradients.append(x.grad.numpy())
    np.testing.assert_allclose(gradients[0], gradients[1], rtol=1e-10)


def test_float16_runs_on_the_reference():
    x = np.linspace(-1, 1, 12).reshape(3, 4).astype("float16")
    for y in (ops.layer_normalization(x), ops.batch_normalization(x, x[0], x[1] ** 2, -1)):
        assert y.dtype == "float16" and np.isfinite(y.numpy()).all()


X = np.ones((2, 3, 4))


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: ops.batch_normalization(X, np.ones(3), np.ones(4), -1), r"mean .*expected \(4,\)"),
        (lambda: ops.batch_normalization(X, np.ones(4), np.ones(3), -1), "variance has shape"),
        (lambda: ops.batch_normalization(X, np.ones(4), np.ones(4), 5), "got axis 5 for"),
        (lambda: ops.normalize_batch(X, np.ones((4, 1))), "scale has shape"),
        (lambda: ops.normalize_batch(X, activation="tanh"), "'tanh', expected one of 'linear', "),
        (lambda: ops.normalize_batch(X, None, np.ones(1)), "offset has shape"),
        (lambda: ops.layer_normalization(X, np.ones(3)), r"gamma has shape \(3,\), expected \(4,"),
        (lambda: ops.layer_normalization(X, None, np.ones(3), (0, 1)), "beta has shape"),
        (lambda: ops.layer_normalization(X, axis=3), "got axis 3 for"),
        (lambda: ops.rms_normalization(X, np.ones(3)), r"scale has shape \(3,\), expected \(4,"),
        (lambda: ops.rms_normalization(X, axis=-4), "got axis -4 for"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
