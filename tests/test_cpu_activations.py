"""Activations and their gradients in both floats, at sizes of one thread and of several."""

from __future__ import annotations

from math import erf, erfc, exp, log1p

import numpy as np
import pytest

from minitorch_ciml import Tensor, config, grad, ops
from minitorch_ciml.kernels.cpu.threads import PIECE

SIZES = [0, 1, 100, PIECE, 3 * PIECE + 5]
FUNCTIONS = {
    "sigmoid": ops.sigmoid,
    "silu": ops.silu,
    "hard_silu": ops.hard_silu,
    "gelu": lambda x: ops.gelu(x, approximate=False),
    "gelu_approximate": ops.gelu,
    "leaky_relu": ops.leaky_relu,
    "elu": lambda x: ops.elu(x, alpha=1.5),
    "softplus": ops.softplus,
    "mish": ops.mish,
    "hard_sigmoid": ops.hard_sigmoid,
    "erf": ops.erf,
}


BOUNDED = ("sigmoid", "hard_sigmoid", "erf")


def in_numpy(x):
    """The functions in float64, by their definitions."""
    s, normal = 1 / (1 + np.exp(-x)), np.array([0.5 * erfc(-v / 2**0.5) for v in x])
    quick = (1 + np.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3))) / 2
    return {
        "sigmoid": s, "silu": x * s, "hard_silu": x * np.clip(x + 3, 0, 6) / 6,
        "gelu": x * normal, "gelu_approximate": x * quick,
        "leaky_relu": np.where(x > 0, x, 0.2 * x), "elu": np.where(x > 0, x, 1.5 * np.expm1(x)),
        "softplus": np.logaddexp(x, 0), "mish": x * np.tanh(np.logaddexp(x, 0)),
        "hard_sigmoid": np.clip(x + 3, 0, 6) / 6, "erf": np.array([erf(v) for v in x]),
    }  # fmt: skip


@pytest.mark.parametrize("dtype, tolerance", [("float32", 2e-6), ("float64", 1e-12)])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_values_and_gradients(name, size, dtype, tolerance):
    x = np.linspace(-9, 9.7, size).astype(dtype)
    function, exact = FUNCTIONS[name], in_numpy(x.astype("float64"))[name]
    variable = Tensor(x, requires_grad=True)
    y = function(variable)
    assert y.dtype == dtype
    np.testing.assert_allclose(y.numpy(), exact, rtol=tolerance, atol=tolerance)
    g = Tensor(np.cos(x))
    (found,) = grad(y, [variable], g)
    wide = Tensor(x.astype("float64"), requires_grad=True)
    # With `create_graph` the derivative is made of ops, not of the gradient's kernel.
    (meant,) = grad(function(wide), [wide], Tensor(g.numpy().astype("float64")), create_graph=True)
    np.testing.assert_allclose(found.numpy(), meant.numpy(), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_is_no_number_stays_so_and_the_infinite_has_its_limit(name, dtype):
    x = np.array([np.nan, np.inf, 200, -200], dtype)
    with np.errstate(invalid="ignore"), config.no_grad():
        y = FUNCTIONS[name](Tensor(x)).numpy()
    assert np.isnan(y[0])
    assert y[1:3].tolist() == ([1, 1] if name in BOUNDED else [np.inf, 200])
    lowest = {"leaky_relu": -40, "elu": -1.5, "erf": -1}
    assert y[3] == pytest.approx(lowest.get(name, 0), abs=1e-30)


@pytest.mark.parametrize("name, exact", [("erf", erf), ("softplus", lambda x: log1p(exp(x)))])
def test_small_values_are_precise(name, exact):
    x = np.concatenate([np.linspace(-2, 2, 10_001), [-1e-30, -1e-6, 1e-6, 3e-3]])
    x = (x if name == "erf" else 4 * x - 6).astype("float32")
    with config.no_grad():
        y = FUNCTIONS[name](Tensor(x)).numpy()
    np.testing.assert_allclose(y, [exact(v) for v in x.tolist()], rtol=6e-7)


def test_axes_in_any_order():
    x = np.random.default_rng(0).normal(size=(40, 30)).astype("float32")
    turned = ops.silu(Tensor(x.T)).numpy()
    np.testing.assert_array_equal(turned, ops.silu(Tensor(x)).numpy().T)
