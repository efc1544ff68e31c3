"""Recurrent layers on the GPU, in the simulator against NumPy."""

import numpy as np
import pytest

pytest.importorskip("numba_cuda")

from cuda_peer import assert_close, on_gpu

from minitorch_ciml.kernels.cuda import recurrent
from minitorch_ciml.kernels.reference import recurrent as reference

RNG = np.random.default_rng(0)

LAYERS = {"lstm": (4, 2, ()), "gru": (3, 1, (2,)), "simple_rnn": (1, 1, ())}
SIZES = [(3, 2, 5, 4), (1, 33, 3, 1), (2, 0, 3, 4)]  # T, N, I, H


def inputs_of(name, sizes, dtype):
    gates, states, biases = LAYERS[name]
    t, n, i, h = sizes
    shapes = (t, n, i), *[(n, h)] * states, (i, gates * h), (h, gates * h), (*biases, gates * h)
    return [RNG.normal(size=shape).astype(dtype) for shape in shapes]


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("sequences", [True, False])
def test_layer(name, sizes, dtype, sequences):
    """The states of every step, what is saved, and the gradients of everything."""
    inputs = inputs_of(name, sizes, dtype)
    forward, backward = getattr(reference, name), getattr(reference, name + "_grad")
    expected = forward(*inputs, sequences=sequences)
    assert_close(on_gpu(getattr(recurrent, name), *inputs, sequences=sequences), expected)
    y, saved = expected
    g = RNG.normal(size=y.shape).astype(dtype)
    how = {"needs": (True,) * len(inputs), "saved": saved, "sequences": sequences}
    found = on_gpu(getattr(recurrent, name + "_grad"), g, y, *inputs, **how)
    assert_close(found, backward(g, y, *inputs, **how))


@pytest.mark.parametrize("name", LAYERS)
def test_large_numbers(name):
    """Gates that are wide open or shut, without an overflow."""
    x, *others = inputs_of(name, (2, 2, 3, 4), "float32")
    x *= 1e3
    y, saved = getattr(reference, name)(x, *others, sequences=True)
    assert_close(on_gpu(getattr(recurrent, name), x, *others, sequences=True), (y, saved))


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_two_bytes(name, dtype):
    dtype = np.dtype(pytest.importorskip("ml_dtypes").bfloat16 if dtype == "bfloat16" else dtype)
    inputs = [a.astype(dtype) for a in inputs_of(name, (2, 2, 4, 4), "float32")]
    wide = [a.astype("float32") for a in inputs]
    y, saved = on_gpu(getattr(recurrent, name), *inputs, sequences=True)
    expected, _ = getattr(reference, name)(*wide, sequences=True)
    assert y.dtype == dtype
    np.testing.assert_allclose(y.astype("float32"), expected, 0.05, 0.05)
    how = {"needs": (True,) * len(inputs), "saved": saved, "sequences": True}
    found = on_gpu(getattr(recurrent, name + "_grad"), y, y, *inputs, **how)
    assert [one.dtype for one in found] == [dtype] * len(inputs)
