"""What a row of the table cannot say about `ops/reduce.py`: errors and edges."""

import math

import numpy as np
import pytest

from minitorch_ciml import ops
from minitorch_ciml.autograd import Tensor

EMPTY = Tensor(np.zeros((2, 0), "float32"))


@pytest.mark.parametrize("name", ["mean", "var", "std", "max", "min", "argmax", "argmin"])
def test_nothing_has_no_mean_and_no_extreme(name):
    with pytest.raises(ValueError, match=r"has no elements along axis \(1,\)"):
        getattr(ops, name)(EMPTY, axis=1)
    assert getattr(ops, name)(EMPTY, axis=0).shape == (0,)


def test_nothing_has_a_sum():
    assert ops.sum(EMPTY).item() == 0 and ops.prod(EMPTY).item() == 1
    assert ops.logsumexp(EMPTY).item() == -math.inf
    assert ops.all(EMPTY).item() is True and ops.any(EMPTY).item() is False


def test_an_axis_must_exist_once():
    x = ops.ones((2, 3))
    with pytest.raises(ValueError, match="sum: got axis 2 for 2 dimensions, expected -2 to 1"):
        ops.sum(x, 2)
    with pytest.raises(ValueError, match="mean: got axis .*twice"):
        ops.mean(x, (0, -2))
    assert ops.sum(x, [0, 1]).item() == ops.sum(x, (np.int64(0), 1)).item() == 6


def test_weights_must_fit():
    with pytest.raises(ValueError, match=r"average: got weights of shape \(4,\) for axis 1"):
        ops.average(ops.ones((2, 3)), 1, ops.ones(4))


def test_moments_are_local():
    with pytest.raises(ValueError, match="synchronized"):
        ops.moments(ops.ones(3), 0, synchronized=True)


def test_dtypes():
    small = Tensor(np.ones(3, "int8"))
    assert ops.sum(small).dtype == ops.sum(small != 0).dtype == "int64"
    assert ops.mean(small).dtype == ops.mean(small != 0).dtype == ops.std(small).dtype == "float32"
    assert ops.max(small).dtype == "int8" and ops.argmax(small).dtype == "int64"
    for dtype in ("float16", "float64"):
        x = Tensor(np.ones(3, dtype))
        assert ops.sum(x).dtype == ops.var(x).dtype == ops.logsumexp(x).dtype == dtype


def test_the_gradient_of_std_at_no_variance_is_zero():
    x = Tensor(np.ones((2, 3)), requires_grad=True)
    ops.std(x, axis=1).sum().backward()
    assert not x.grad.numpy().any()


def test_the_gradient_of_logsumexp_where_all_weights_are_zero():
    x = Tensor([[-math.inf, -math.inf], [0.0, -math.inf]], requires_grad=True)
    y = ops.logsumexp(x, axis=1)
    y.sum().backward()
    assert y.tolist() == [-math.inf, 0.0] and x.grad.tolist() == [[0, 0], [1, 0]]


def test_a_large_mean_does_not_spoil_the_variance():
    x = 1e4 + np.random.default_rng(0).standard_normal(1000)
    assert abs(ops.var(Tensor(x, dtype="float32")).item() - np.var(x)) < 1e-3


def test_an_initial_value_takes_the_gradient_away():
    x = Tensor([1.0, 2.0], requires_grad=True)
    ops.max(x, initial=3.0).backward()
    assert x.grad.tolist() == [0, 0]
