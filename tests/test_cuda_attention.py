"""Attention on the GPU, in the simulator against NumPy."""

import numpy as np
import pytest

pytest.importorskip("numba_cuda")

from cuda_peer import assert_close, assert_equal, on_gpu

from minitorch_ciml.kernels.cuda import attention
from minitorch_ciml.kernels.reference import attention as reference

RNG = np.random.default_rng(0)

# N, T, S, heads, K, V; the mask's shape. Tiles have 32 or 64 steps, and 32, 64 or 128 features.
SMALL = [
    ((2, 5, 7, 2, 3, 5), (2, 1, 5, 7)),
    ((1, 3, 4, 1, 8, 4), (1, 1)),
    ((1, 4, 130, 1, 2, 3), (4, 130)),  # more sources than a block has threads
    ((0, 3, 4, 2, 4, 4), (1, 1)),
    ((1, 3, 0, 2, 4, 4), (3, 1)),
]
TILES = [
    ((1, 35, 33, 2, 8, 6), (2, 35, 33)),
    ((1, 33, 66, 1, 36, 5), (33, 1)),
    ((1, 2, 34, 1, 66, 72), (1, 34)),
]


def arrays_of(sizes, mask_shape, dtype):
    n, t, s, heads, k, v = sizes
    shapes = (n, t, heads, k), (n, s, heads, k), (n, s, heads, v), (n, t, heads, v)
    q, k, v, g = (RNG.normal(size=shape).astype(dtype) for shape in shapes)
    mask = RNG.random(mask_shape) < 0.7 if np.prod(mask_shape) > 1 else np.ones(mask_shape, bool)
    return q, k, v, mask, g


def check(q, k, v, mask, g):
    """The result and all gradients."""
    y, saved = reference.attention(q, k, v, mask, scale=0.3)
    assert_close(on_gpu(attention.attention, q, k, v, mask, scale=0.3), (y, saved))
    how = {"needs": (True, True, True, False), "saved": saved, "scale": 0.3}
    gradients = on_gpu(attention.attention_grad, g, y, q, k, v, mask, **how)
    assert_close(gradients, reference.attention_grad(g, y, q, k, v, mask, **how))
    return gradients


@pytest.mark.parametrize("sizes, mask", SMALL, ids=str)
def test_by_rows(sizes, mask):
    check(*arrays_of(sizes, mask, "float64"))


@pytest.mark.parametrize("sizes, mask", [*SMALL[:2], *SMALL[3:], *TILES], ids=str)
def test_in_tiles(sizes, mask):
    check(*arrays_of(sizes, mask, "float32"))


def test_more_features_than_a_tile():
    """Also: results repeat bit for bit."""
    inputs = arrays_of((1, 2, 3, 1, 130, 4), (1, 1), "float32")
    first, second = check(*inputs), check(*inputs)
    assert_equal(first, second)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_causal_and_nowhere_to_look(dtype):
    """Tiles that nobody may look at are left out; a step without any source gives 0."""
    q, k, v, _, g = arrays_of((1, 40, 40, 1, 4, 4), (1, 1), dtype)
    mask = np.tri(40, dtype=bool)
    mask[3] = False
    check(q, k, v, mask, g)


def test_only_the_gradients_asked_for():
    q, k, v, mask, g = arrays_of((1, 3, 4, 1, 8, 4), (1, 1), "float32")
    y, saved = reference.attention(q, k, v, mask, scale=1.0)
    how = {"needs": (True, False, False, False), "saved": saved, "scale": 1.0}
    dq, *others = on_gpu(attention.attention_grad, g, y, q, k, v, mask, **how)
    assert_close(dq, reference.attention_grad(g, y, q, k, v, mask, **how)[0])
    assert others == [None, None, None]


# An odd number of features, which tensor cores do not take; within a tile and past its edges, in
# all sizes of heads; more features than their gradients take.
TWO_BYTES = [
    ((1, 3, 4, 1, 7, 5), (3, 4)),
    ((2, 35, 33, 2, 8, 6), (2, 1, 35, 33)),
    ((1, 66, 70, 1, 40, 50), (66, 70)),
    ((1, 2, 130, 2, 32, 16), (1, 130)),
    ((1, 65, 3, 1, 72, 130), (1, 1)),
    ((1, 65, 3, 1, 72, 90), (1, 1)),
    ((0, 3, 4, 2, 4, 4), (1, 1)),
    ((1, 3, 0, 2, 4, 4), (3, 1)),
]


@pytest.mark.parametrize("sizes, mask_shape", TWO_BYTES, ids=str)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_two_bytes(dtype, sizes, mask_shape):
    check_two_bytes(*arrays_of(sizes, mask_shape, "float32"), dtype)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_two_bytes_without_tensor_cores(dtype, monkeypatch):
    monkeypatch.setattr(attention.runtime(), "capability", (7, 5), raising=False)
    for sizes in ((1, 3, 4, 1, 8, 4), (0, 3, 4, 2, 4, 4)):
        check_two_bytes(*arrays_of(sizes, (1, 1), "float32"), dtype)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_two_bytes_causal_and_nowhere_to_look(dtype):
    q, k, v, _, g = arrays_of((1, 130, 130, 1, 4, 4), (1, 1), "float32")
    mask = np.tri(130, dtype=bool)
    mask[3] = mask[70] = False
    check_two_bytes(q, k, v, mask, g, dtype)


def check_two_bytes(q, k, v, mask, g, dtype):
    """The result and all gradients, of which each weight and each number is rounded."""
    dtype = np.dtype(pytest.importorskip("ml_dtypes").bfloat16 if dtype == "bfloat16" else dtype)
    tolerance = {"bfloat16": 0.01, "float16": 0.0015}[dtype.name]
    q, k, v, g = (a.astype(dtype) for a in (q, k, v, g))
    wide = [a.astype("float32") for a in (q, k, v)]
    y, saved = on_gpu(attention.attention, q, k, v, mask, scale=0.3)
    expected, log_sums = reference.attention(*wide, mask, scale=0.3)
    assert y.dtype == dtype and saved.dtype == np.float32
    assert_near(y, expected, tolerance)
    np.testing.assert_allclose(saved, log_sums, 1e-5, 1e-6)
    how = {"needs": (True, True, True, False), "saved": saved, "scale": 0.3}
    found = on_gpu(attention.attention_grad, g, y, q, k, v, mask, **how)
    exact = reference.attention_grad(g.astype("float32"), expected, *wide, mask, **how)
    for one, other in zip(found[:3], exact):
        assert one.dtype == dtype
        assert_near(one, other, tolerance)


def assert_near(found, expected, tolerance):
    """Up to the tolerance, relative to the largest number."""
    error = np.abs(found.astype("float32") - expected).max(initial=0)
    assert error <= tolerance * np.abs(expected).max(initial=0)
