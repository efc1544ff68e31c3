"""What a row of the table cannot say about `ops/creation.py`: results that are no tensors."""

import numpy as np
import pytest

from minitorch_ciml import ops
from minitorch_ciml.autograd import Tensor
from minitorch_ciml.config import floatx, set_floatx


def test_questions():
    x = ops.zeros((2, 3))
    assert (ops.shape(x), ops.ndim(x), ops.size(x), ops.dtype(x)) == ((2, 3), 2, 6, "float32")
    assert (ops.shape([[1, 2]]), ops.dtype([True])) == ((1, 2), "bool")
    assert ops.is_tensor(x) and not ops.is_tensor(np.zeros(2))


def test_arrays_come_back_read_only():
    x = ops.convert_to_numpy(ops.ones(3))
    assert type(x) is np.ndarray
    with pytest.raises(ValueError, match="read-only"):
        x[0] = 2


def test_new_tensors_have_floatx_and_integers_stay_integers():
    before = floatx()
    try:
        set_floatx("float64")
        assert ops.zeros(2).dtype == ops.eye(2).dtype == ops.linspace(0, 1).dtype == "float64"
    finally:
        set_floatx(before)
    assert ops.ones(2).dtype == ops.full(2, 1).dtype == ops.arange(1.0).dtype == "float32"
    assert ops.arange(3).dtype == "int64"
    assert ops.arange(0, 6, Tensor(2)).tolist() == [0, 2, 4]


def test_conversion_keeps_a_tensor_and_its_history():
    x = Tensor([1.0, 2.0], requires_grad=True)
    assert ops.convert_to_tensor(x) is x and ops.copy(x) is x and ops.cast(x, "float32") is x
    ops.cast(x, "float64").sum().backward()
    assert x.grad.dtype == "float32"
    assert not ops.cast(x, "int32").requires_grad
    assert not ops.stop_gradient(x).requires_grad
    assert ops.convert_to_tensor([1, 2], dtype="float16").dtype == "float16"


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "int64", "float16", "bool"])
def test_saturate_cast_stays_in_range(dtype):
    y = ops.saturate_cast(Tensor([-1e30, -1.0, 0.0, 1.0, 1e30]), dtype)
    assert y.dtype == dtype and np.isfinite(y.numpy()).all()
    if dtype != "bool":
        info = np.finfo(dtype) if dtype == "float16" else np.iinfo(dtype)
        assert y[0] == info.min and y[-1] > info.max * 0.999


def test_nan_to_num_by_default_gives_the_largest_numbers():
    y = ops.nan_to_num(Tensor([np.nan, np.inf, -np.inf]))
    largest = float(np.finfo("float32").max)
    assert y.tolist() == [0.0, largest, -largest]
