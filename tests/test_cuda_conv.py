"""Convolution on the GPU, in the simulator against NumPy."""

import numpy as np
import pytest

pytest.importorskip("numba_cuda")

from cuda_peer import assert_close, assert_equal, on_gpu

from minitorch_ciml.kernels.cuda import conv, cores, sums
from minitorch_ciml.kernels.cuda.conv_tiles import TILES
from minitorch_ciml.kernels.cuda.memory import to_device
from minitorch_ciml.kernels.cuda.tiles import MEDIUM, NARROW, SHORT
from minitorch_ciml.kernels.reference import conv as reference

RNG = np.random.default_rng(0)


def case(x, w, strides=1, padding=0, dilation=1, groups=1):
    """The shapes, and the parameters; a number stands for each dimension's."""
    rank = len(x) - 2
    each = lambda v: v if isinstance(v, tuple) else (v,) * rank  # noqa: E731
    pads = tuple(p if isinstance(p, tuple) else (p, p) for p in each(padding))
    return x, w, {
        "strides": each(strides), "padding": pads, "dilation": each(dilation), "groups": groups,
    }  # fmt: skip


# Small, for every kernel and both dtypes; sizes that are multiples of nothing, then of 4.
CASES = [
    case((2, 11, 3), (3, 3, 5)),
    case((1, 9, 4), (2, 4, 8), strides=2, dilation=3, padding=((2, 1),)),
    case((2, 6, 5, 1), (3, 2, 1, 3), padding=1),
    case((1, 7, 6, 4), (3, 3, 4, 4), strides=2, padding=((0, 1), (1, 0))),
    case((1, 8, 9, 6), (2, 3, 3, 4), strides=(1, 3), dilation=(2, 1), padding=1, groups=2),
    case((2, 5, 6, 3), (3, 3, 1, 6), padding=1, groups=3),  # depthwise
    case((2, 6, 5, 8), (3, 2, 1, 8), strides=(1, 2), padding=1, groups=8),  # four at a time
    case((1, 6, 6, 8), (1, 1, 8, 4), strides=2),  # elements of the input that no tap meets
    case((1, 4, 5, 4, 2), (2, 3, 2, 2, 3), strides=(2, 1, 1), padding=1),
    case((2, 3, 4, 6), (1, 1, 6, 5)),  # a product of matrices
    case((3, 3, 4, 2), (3, 4, 2, 5), dilation=2, strides=2),  # of one place: no output
    case((3, 3, 4, 2), (3, 4, 2, 5), strides=2),  # of one place
    case((0, 4, 4, 2), (3, 3, 2, 3), padding=1),
    case((0, 4, 4, 2), (1, 1, 2, 3)),
    case((1, 2, 2, 3), (3, 3, 3, 2)),  # no output at all
]
# Past the edges of every tile: of y in pixels and filters, of dw in taps x channels and filters.
EDGES = {
    NARROW: (case((1, 13, 10, 3), (3, 5, 3, 33)), case((1, 5, 4, 17), (3, 3, 17, 33))),
    MEDIUM: (
        case((2, 8, 9, 8), (2, 2, 4, 136), strides=2, padding=1, groups=2),
        case((2, 4, 3, 36), (2, 2, 18, 136), padding=1, groups=2),
    ),
    SHORT: (case((1, 14, 10, 1), (2, 2, 1, 130)), case((1, 4, 3, 36), (2, 2, 36, 130))),
}


def arrays_of(x, w, how, dtype):
    spatial = [
        reference.output_size(*one)
        for one in zip(x[1:-1], w, how["strides"], how["padding"], how["dilation"])
    ]
    shapes = x, w, (w[-1],), (x[0], *spatial, w[-1])
    return [RNG.normal(size=shape).astype(dtype) for shape in shapes]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shapes", CASES, ids=str)
def test_small(shapes, dtype):
    check(*shapes, dtype)


@pytest.mark.parametrize("tile", TILES, ids=str)
def test_tiles(tile, monkeypatch):
    """Forward and the kernel's gradient, several blocks of each in all directions."""
    monkeypatch.setattr(conv._How, "_tile", lambda *sizes: tile)
    (x_shape, w_shape, how), of_grad = EDGES[tile]
    x, w, _, g = arrays_of(x_shape, w_shape, how, "float32")
    assert_close(on_gpu(conv.conv, x, w, **how), reference.conv(x, w, **how))
    x_shape, w_shape, how = of_grad
    x, w, _, g = arrays_of(x_shape, w_shape, how, "float32")
    found = on_gpu(conv.conv_kernel_grad, x, g, kernel_shape=w_shape, **how)
    assert_close(found, reference.conv_kernel_grad(x, g, kernel_shape=w_shape, **how))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_shares_are_added_in_order(dtype, monkeypatch):
    """The gradients that many blocks sum a share of are right, and repeat bit for bit."""
    monkeypatch.setattr(sums, "_SHORTEST_SHARE", 8)
    x_shape, w_shape, how = case((2, 7, 5, 3), (2, 2, 3, 5))
    x, w, b, g = arrays_of(x_shape, w_shape, how, dtype)
    y = reference.conv_bias_act(x, w, b, **how, activation="relu")
    fused = {**how, "activation": "relu", "needs": (False, True, True)}
    assert sums.shares_of(48, 1)[1] > 1
    first, second = (on_gpu(conv.conv_bias_act_grad, g, y, x, w, b, **fused) for _ in range(2))
    assert_close(first, reference.conv_bias_act_grad(g, y, x, w, b, **fused))
    assert_equal(first, second)


def check(x_shape, w_shape, how, dtype):
    """Forward and both gradients, plain and fused, against NumPy's."""
    x, w, b, g = arrays_of(x_shape, w_shape, how, dtype)
    assert_close(on_gpu(conv.conv, x, w, **how), reference.conv(x, w, **how))
    fused = {**how, "activation": "relu"}
    y = reference.conv_bias_act(x, w, b, **fused)
    assert_close(on_gpu(conv.conv_bias_act, x, w, b, **fused), y)
    for needs in [(True, True, True), (False, False, True)]:
        assert_close(
            on_gpu(conv.conv_bias_act_grad, g, y, x, w, b, needs=needs, **fused),
            reference.conv_bias_act_grad(g, y, x, w, b, needs=needs, **fused),
        )
    fused["activation"] = "linear"
    assert_close(
        on_gpu(conv.conv_bias_act_grad, g, y, x, w, b, needs=(False, True, True), **fused),
        reference.conv_bias_act_grad(g, y, x, w, b, needs=(False, True, True), **fused),
    )


def test_views_that_are_not_aligned():
    """Arrays that begin in the middle of 16 bytes, as parameters in one buffer do."""
    x_shape, w_shape, how = case((1, 4, 4, 4), (2, 2, 4, 4))
    x, w, b, _ = arrays_of(x_shape, w_shape, how, "float32")
    views = [
        to_device(np.append(np.float32(0), a)).rows(1, a.size + 1).reshape(a.shape)
        for a in (x, w, b)
    ]
    fused = {**how, "activation": "relu"}
    y = reference.conv_bias_act(x, w, b, **fused)
    assert_close(conv.conv_bias_act(*views, **fused).numpy(), y)
    found = conv.conv_bias_act_grad(to_device(y), to_device(y), *views, needs=(True,) * 3, **fused)
    expected = reference.conv_bias_act_grad(y, y, x, w, b, needs=(True,) * 3, **fused)
    assert_close(tuple(a.numpy() for a in found), expected)


# --- tensor cores ---------------------------------------------------------------------------------

# Without parts of 16 bytes; with them, strided and in groups; past the edge of a tile.
ON_CORES = [
    case((1, 5, 4, 6), (3, 3, 6, 5), padding=1),
    case((1, 6, 3, 16), (2, 2, 8, 12), strides=(2, 1), padding=1, groups=2),
    case((1, 131, 8), (2, 8, 4)),
]
# Rounding errors of the factors: of 3xTF32, TF32, float16 and bfloat16.
ARITHMETIC = {
    cores.TF32X3: ("float32", 2e-6), cores.TF32: ("float32", 1e-3),
    cores.F16: ("float16", 1e-3), cores.BF16: ("bfloat16", 8e-3),
}  # fmt: skip


@pytest.mark.parametrize("shapes", ON_CORES, ids=str)
@pytest.mark.parametrize(
    "numbers, number", [(n, i) for n in ARITHMETIC for i in range(len(cores.TILES[n]))],
    ids=lambda n: getattr(n, "name", None),
)  # fmt: skip
def test_tensor_cores(numbers, number, shapes, monkeypatch):
    monkeypatch.setattr(conv._How, "_core_tile", lambda *sizes: cores.TILES[numbers][number][0])
    monkeypatch.setattr(
        conv, "arithmetic", lambda code, *sizes: numbers if code == numbers.code else None
    )
    dtype, tolerance = ARITHMETIC[numbers]
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    x_shape, w_shape, how = shapes
    x, w, b, g = (a.astype(dtype) for a in arrays_of(x_shape, w_shape, how, "float32"))
    exact = [a.astype("float32") for a in (x, w, b, g)]
    fused = {**how, "activation": "relu"}
    y = on_gpu(conv.conv_bias_act, x, w, b, **fused)
    assert_near(y, reference.conv_bias_act(*exact[:3], **fused), dtype, tolerance)
    if shapes == ON_CORES[1]:
        dx = on_gpu(conv.conv_input_grad, g, w, input_shape=x_shape, **how)
        expected = reference.conv_input_grad(exact[3], exact[1], input_shape=x_shape, **how)
        assert_near(dx, expected, dtype, tolerance)
    dw = on_gpu(conv.conv_kernel_grad, x, g, kernel_shape=w_shape, **how)
    expected = reference.conv_kernel_grad(exact[0], exact[3], kernel_shape=w_shape, **how)
    assert_near(dw, expected, dtype, tolerance)


def assert_near(found, expected, dtype, tolerance):
    """Up to the tolerance, relative to the largest number."""
    assert found.dtype == dtype
    error = np.abs(found.astype("float32") - expected).max()
    assert error <= tolerance * np.abs(expected).max()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("shapes", [CASES[0], CASES[5], CASES[6], CASES[8]], ids=str)
def test_two_bytes_without_tensor_cores(shapes, dtype):
    """With an odd number of channels, depthwise, and as a product of matrices."""
    pytest.importorskip("ml_dtypes")
    x_shape, w_shape, how = shapes
    x, w, b, g = (a.astype(dtype) for a in arrays_of(x_shape, w_shape, how, "float32"))
    exact = [a.astype("float32") for a in (x, w, b, g)]
    fused = {**how, "activation": "relu"}
    y = on_gpu(conv.conv_bias_act, x, w, b, **fused)
    assert_near(y, reference.conv_bias_act(*exact[:3], **fused), dtype, 8e-3)
    found = on_gpu(conv.conv_bias_act_grad, g, y, x, w, b, needs=(True,) * 3, **fused)
    expected = reference.conv_bias_act_grad(
        exact[3], y.astype("float32"), *exact[:3], needs=(True,) * 3, **fused
    )
    for one, other in zip(found, expected):
        assert_near(one, other, dtype, 8e-3)
