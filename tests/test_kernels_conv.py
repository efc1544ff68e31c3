"""Convolution and pooling: the reference against PyTorch, and the numba kernels against it."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba.core import cgutils, types
from numba.extending import intrinsic

from minitorch_ciml.kernels.cpu import conv as cpu_conv
from minitorch_ciml.kernels.cpu import (
    correlate,
    correlate_few_grad,
    correlate_rows,
    vector,
    winograd,
)
from minitorch_ciml.kernels.cpu import pool as cpu_pool
from minitorch_ciml.kernels.cpu.buffers import Pool
from minitorch_ciml.kernels.cpu.conv_plan import convolution
from minitorch_ciml.kernels.cpu.jit import entry
from minitorch_ciml.kernels.cpu.threads import ALL, task
from minitorch_ciml.kernels.cpu.wide_product import FORWARD, wide_product
from minitorch_ciml.kernels.reference import conv as reference

TOLERANCE = {np.float32: 1e-5, np.float64: 1e-10}


def assert_close(got, expected, tolerance, least=1e-30):
    """Equal up to `tolerance`, relative to the largest number of an array, as sums are.

    Numbers that are sums of others, and may be small beside them, are of the size `least` of those.
    """
    assert got.shape == expected.shape and got.dtype == expected.dtype
    scale = np.abs(expected).max(initial=least, where=np.isfinite(expected))
    np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance * scale)


def random_arrays(seed, dtype, *shapes):
    random = np.random.default_rng(seed)
    return [random.standard_normal(shape).astype(dtype) for shape in shapes]


# --- the reference against PyTorch -----------------------------------------------------------


def channels_first(torch, a, grad=True):
    tensor = torch.tensor(np.moveaxis(a, -1, 1).copy())
    return tensor.requires_grad_(grad)


def channels_last(tensor):
    return np.moveaxis(tensor.detach().numpy(), 1, -1)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize(
    ("stride", "dilation", "pad", "groups"),
    [(1, 1, 0, 1), (1, 2, 2, 2), (2, 1, 1, 4), (3, 2, 2, 1), (4, 1, 3, 1)],
)
def test_reference_convolution_is_that_of_torch(rank, stride, dilation, pad, groups):
    torch = pytest.importorskip("torch")
    x, w, b = random_arrays(
        0, np.float64, (2, *(9, 8, 7)[:rank], 4), (*(3, 2, 3)[:rank], 4 // groups, 8), (8,)
    )
    how = {
        "strides": (stride,) * rank,
        "dilation": (dilation,) * rank,
        "padding": ((pad, pad),) * rank,
        "groups": groups,
    }
    tx, tb = channels_first(torch, x), torch.tensor(b).requires_grad_()
    tw = torch.tensor(np.moveaxis(w, (-1, -2), (0, 1)).copy()).requires_grad_()
    convolve = getattr(torch.nn.functional, f"conv{rank}d")
    ty = torch.relu(convolve(tx, tw, tb, stride, pad, dilation, groups))
    y = reference.conv_bias_act(x, w, b, activation="relu", **how)
    assert_close(y, channels_last(ty), 1e-10)

    (g,) = random_arrays(1, np.float64, y.shape)
    ty.backward(channels_first(torch, g, grad=False))
    grads = reference.conv_bias_act_grad(
        g, y, x, w, b, needs=(True, True, True), activation="relu", **how
    )
    tdw = np.moveaxis(tw.grad.numpy(), (0, 1), (-1, -2))
    for got, expected in zip(grads, (channels_last(tx.grad), tdw, tb.grad.numpy())):
        assert_close(got, expected, 1e-10)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize(("window", "stride", "pad"), [(2, 2, 0), (3, 1, 1), (3, 2, 1), (2, 3, 1)])
def test_reference_pooling_is_that_of_torch(rank, window, stride, pad):
    torch = pytest.importorskip("torch")
    (x,) = random_arrays(0, np.float64, (2, *(9, 8, 7)[:rank], 4))
    how = {
        "pool_size": (window,) * rank,
        "strides": (stride,) * rank,
        "padding": ((pad, pad),) * rank,
    }
    functional = torch.nn.functional
    tx = channels_first(torch, x)
    ty = getattr(functional, f"max_pool{rank}d")(tx, window, stride, pad)
    y, saved = reference.max_pool(x, **how)
    assert_close(y, channels_last(ty), 1e-10)
    assert_close(reference.max_pool_gather(x, saved, **how), y, 0)
    (g,) = random_arrays(1, np.float64, y.shape)
    ty.backward(channels_first(torch, g, grad=False))
    dx = reference.max_pool_scatter(g, saved, input_shape=x.shape, **how)
    assert_close(dx, channels_last(tx.grad), 1e-10)

    tx = channels_first(torch, x)
    average = getattr(functional, f"avg_pool{rank}d")
    ty = average(tx, window, stride, pad, count_include_pad=False)
    assert_close(reference.avg_pool(x, **how), channels_last(ty), 1e-10)
    ty.backward(channels_first(torch, g, grad=False))
    dx = reference.avg_pool_grad(g, input_shape=x.shape, **how)
    assert_close(dx, channels_last(tx.grad), 1e-10)


# --- the kernels against the reference -------------------------------------------------------


def check_convolution(x, w, b, how):
    """Every convolution kernel on these inputs."""
    tolerance = TOLERANCE[x.dtype.type]
    z = reference.conv(x, w, **how)
    assert_close(cpu_conv.conv(x, w, **how), z, tolerance)
    (g,) = random_arrays(1, x.dtype, z.shape)
    expected = (
        reference.conv_input_grad(g, w, input_shape=x.shape, **how),
        reference.conv_kernel_grad(x, g, kernel_shape=w.shape, **how),
    )
    assert_close(cpu_conv.conv_input_grad(g, w, input_shape=x.shape, **how), expected[0], tolerance)
    dw = cpu_conv.conv_kernel_grad(x, g, kernel_shape=w.shape, **how)
    assert_close(dw, expected[1], tolerance)
    compare_gradients(cpu_conv.conv_grad(g, z, x, w, needs=(True, True), **how), expected, g)
    dx, nothing = cpu_conv.conv_grad(g, z, x, w, needs=(True, False), **how)
    assert_close(dx, expected[0], tolerance)
    assert nothing is None
    for activation in ("linear", "relu"):
        full = {**how, "activation": activation}
        y = reference.conv_bias_act(x, w, b, **full)
        assert_close(cpu_conv.conv_bias_act(x, w, b, **full), y, tolerance)
        full["needs"] = (True, True, True)
        expected = reference.conv_bias_act_grad(g, y, x, w, b, **full)
        compare_gradients(cpu_conv.conv_bias_act_grad(g, y, x, w, b, **full), expected, g)
    check_residual(x, w, b, g, how)


def check_residual(x, w, b, g, how):
    """The convolution to which something is added, both behind it and before its ReLU."""
    tolerance = TOLERANCE[x.dtype.type]
    (r,) = random_arrays(2, x.dtype, g.shape)
    full = {**how, "activation": "relu"}
    y = reference.conv_bias_add_act(x, w, b, r, **full)
    assert_close(cpu_conv.conv_bias_add_act(x, w, b, r, **full), y, tolerance)
    full["needs"] = (True, True, True, True)
    expected = reference.conv_bias_add_act_grad(g, y, x, w, b, r, **full)
    compare_gradients(cpu_conv.conv_bias_add_act_grad(g, y, x, w, b, r, **full), expected, g)


def compare_gradients(got, expected, g):
    """Those of x, w, b and so on; b's is a sum of g, of which little may be left."""
    tolerance = TOLERANCE[g.dtype.type]
    for i, (one, other) in enumerate(zip(got, expected, strict=True)):
        assert_close(one, other, tolerance, least=np.abs(g).max(initial=0) if i == 2 else 1e-30)


# Around the vector widths (4, 8 and 16 floats) and one and two panels of them.
CHANNELS = st.sampled_from([1, 2, 3, 4, 5, 8, 10, 15, 16, 17, 31, 32, 33, 48, 50])


@st.composite
def convolutions(draw):
    rank = draw(st.integers(1, 3))
    sizes = st.integers(0, (24, 9, 4)[rank - 1])
    each = [
        draw(
            st.tuples(
                sizes,
                st.integers(1, 4),  # window
                st.integers(1, 4),  # stride
                st.tuples(st.integers(0, 3), st.integers(0, 3)),  # padding
                st.integers(1, 3),  # dilation
            )
        )
        for _ in range(rank)
    ]
    extra, window, strides, padding, dilation = zip(*each)
    spatial = tuple(e + d * (k - 1) + 1 for e, k, d in zip(extra, window, dilation))
    depthwise = draw(st.booleans()) and draw(st.booleans())
    groups = draw(CHANNELS) if depthwise else draw(st.sampled_from([1, 1, 1, 2, 3]))
    inputs = 1 if depthwise else draw(CHANNELS)
    filters = draw(st.integers(1, 2)) if depthwise else draw(CHANNELS)
    x, w, b = random_arrays(
        draw(st.integers(0, 99)),
        draw(st.sampled_from([np.float32, np.float64])),
        (draw(st.integers(0, 5)), *spatial, groups * inputs),
        (*window, inputs, groups * filters),
        (groups * filters,),
    )
    how = {"strides": strides, "padding": padding, "dilation": dilation, "groups": groups}
    return x, w, b, how


@settings(max_examples=150, deadline=None)
@given(convolutions())
def test_convolution_kernels(case):
    check_convolution(*case)


def simple(rank, pad=0, stride=1, groups=1):
    return {
        "strides": (stride,) * rank,
        "padding": ((pad, pad),) * rank,
        "dilation": (1,) * rank,
        "groups": groups,
    }


def check_tile_boundaries():
    """Numbers of outputs, places and filters on both sides of every tile's edge."""
    edges = sorted({1, *(n + d for n in (correlate.WIDE, correlate.NARROW) for d in (-1, 0, 1))})
    lanes = vector.VECTOR_BITS // 32
    for outputs in edges:
        for filters in (lanes - 1, lanes, lanes + 1, 2 * lanes, 2 * lanes + 1, 3 * lanes + 1):
            x, w, b = random_arrays(
                0, np.float32, (1, outputs + 1, outputs), (2, outputs, filters), (filters,)
            )
            check_convolution(x, w, b, simple(1))


def check_many_chunks():
    """Images that share a chunk, images cut into several, and both with padding."""
    for images, size, channels, pad in (
        (70, 7, 3, 1),
        (1, 90, 5, 1),
        (3, 40, 40, 0),
        (130, 1, 2, 0),
    ):
        x, w, b = random_arrays(
            0, np.float32, (images, size, size, channels), (1 + 2 * pad,) * 2 + (channels, 6), (6,)
        )
        check_convolution(x, w, b, simple(2, pad))


def check_rows():
    """Rows of every length around the tiles', with windows of every width, padded and not."""
    sizes = correlate_rows.SIZES
    for count in (sizes[-1] - 1, *sizes, sizes[0] + 1, 26, 34, 41):
        for channels, window, pad in ((1, 3, 0), (3, 5, 2), (16, 2, 1), (33, 3, 4), (1, 4, 3)):
            width = count + window - 1 - 2 * pad
            filters = 5 if count % 2 else 16
            x, w, b = random_arrays(
                0, np.float32, (2, 5, width, channels), (3, window, channels, filters), (filters,)
            )
            how = {**simple(2), "padding": ((1, 2), (pad, pad)), "strides": (1 + count % 2, 1)}
            check_convolution(x, w, b, how)


def check_winograd():
    """Images of even and odd sizes with padding on any side; channels around whole vectors."""
    lanes = vector.VECTOR_BITS // 32
    for images, height, width, channels, filters, padding in (
        (9, 26, 26, lanes, lanes, ((0, 0), (0, 0))),
        (1, 3, 3, lanes, 2 * lanes, ((0, 0), (0, 0))),
        (70, 4, 5, lanes // 2, lanes + 1, ((1, 1), (1, 1))),
        (2, 1, 7, lanes + 3, lanes - 1, ((2, 0), (0, 1))),
        (3, 6, 1, 2 * lanes, lanes // 2, ((0, 3), (1, 4))),
        (1, 61, 40, lanes, 3 * lanes, ((1, 0), (3, 0))),
    ):
        x, w, b = random_arrays(
            0, np.float32, (images, height, width, channels), (3, 3, channels, filters), (filters,)
        )
        how = {"strides": (1, 1), "padding": padding, "dilation": (1, 1), "groups": 1}
        assert winograd.fits(w.shape, (1, 1), (1, 1), 1, x.dtype)
        check_convolution(x, w, b, how)


@pytest.mark.parametrize(("stride", "pad", "groups"), [(1, 0, 1), (2, 0, 1), (1, 1, 1), (1, 0, 2)])
def test_windows_of_one_place(stride, pad, groups):
    x, w, b = random_arrays(0, np.float32, (3, 9, 8, 40), (1, 1, 40 // groups, 24), (24,))
    check_convolution(x, w, b, simple(2, pad, stride, groups))


@pytest.mark.parametrize(("channels", "filters"), [(64, 16), (16, 64), (40, 48), (8, 32)])
def test_one_place_is_one_product_of_matrices(channels, filters):
    """All gradients in one pass over x and g."""
    x, w, b = random_arrays(
        0, np.float32, (17, 9, 8, channels), (1, 1, channels, filters), (filters,)
    )
    check_convolution(x, w, b, simple(2))
    kind = convolution(x.shape, w.shape, (1, 1), ((0, 0),) * 2, (1, 1), 1, x.dtype)
    assert kind.is_product


def check_one_filter():
    """Vectors run along the channels, with every kind of window and number of outputs."""
    lanes = vector.VECTOR_BITS // 32
    for size, channels, window, pad, dtype in (
        ((9, 8), 4 * lanes, (3, 3), 1, np.float32),
        ((3, 3), lanes, (3, 3), 0, np.float32),
        ((7, 21), 2 * lanes, (2, 5), 1, np.float64),
        ((40,), lanes, (4,), 3, np.float32),
        ((9,), lanes, (2,), 3, np.float32),  # some windows meet only padding
    ):
        x, w, b = random_arrays(0, dtype, (3, *size, channels), (*window, channels, 1), (1,))
        check_convolution(x, w, b, simple(len(size), pad))
        check_convolution(x, w, b, simple(len(size), pad, stride=2))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("stride", [1, 2])
def test_one_place_with_many_weights(stride, dtype):
    x, w, b = random_arrays(0, dtype, (2, 5, 4, 100), (1, 1, 100, 1312), (1312,))
    how = {
        "strides": (stride,) * 2, "dilation": (1, 1), "padding": ((0, 0),) * 2, "groups": 1,
    }  # fmt: skip
    assert wide_product(x.shape, w.shape, **how, dtype=x.dtype, patience=FORWARD)
    check_convolution(x, w, b, how)
    check_convolution(x[:, ::-1].swapaxes(1, 2), w, b, how)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("size", "window", "stride", "padding"),
    [
        ((3, 3), (3, 3), 1, ((1, 1), (1, 1))),
        ((5, 4), (3, 2), 2, ((0, 1), (2, 0))),
        ((4, 4), (4, 4), 1, ((0, 0), (0, 0))),
        ((2, 1), (1, 1), 1, ((1, 0), (1, 1))),
    ],
)
def test_few_places_with_many_weights(size, window, stride, padding, dtype):
    weights = (*window, 132, 1000), (1000,)
    x, w, b = random_arrays(0, dtype, (3, *size, 132), *weights)
    how = {"strides": (stride,) * 2, "padding": padding, "dilation": (1, 1), "groups": 1}
    assert wide_product(x.shape, w.shape, **how, dtype=x.dtype, patience=FORWARD)
    check_convolution(x, w, b, how)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("size", "window", "channels", "stride", "padding"),
    [
        ((28, 28), (3, 3), 1, 1, ((0, 0), (0, 0))),
        ((9, 8), (3, 3), 3, 1, ((1, 1), (1, 1))),
        ((9, 8), (3, 3), 2, 2, ((0, 1), (2, 0))),
        ((7, 11), (5, 5), 1, 3, ((2, 4), (7, 2))),
        ((6, 5), (1, 2), 3, 1, ((0, 0), (0, 1))),
    ],
)
def test_few_channels(size, window, channels, stride, padding, dtype):
    lanes = vector.lanes_of(np.dtype(dtype))
    for filters in (lanes, 3 * lanes):
        shapes = (35, *size, channels), (*window, channels, filters), (filters,)
        x, w, b = random_arrays(0, dtype, *shapes)
        how = {"strides": (stride,) * 2, "padding": padding, "dilation": (1, 1), "groups": 1}
        if window[0] * window[1] * channels <= correlate_few_grad.PLACES:
            assert correlate_few_grad.fits(w.shape, (1, 1), 1, w.dtype)
        check_convolution(x, w, b, how)


def test_one_filter():
    check_one_filter()


def test_rows():
    check_rows()


DEPTHWISE = {
    "same": ((3, 7, 6, 2), (3, 3), (1, 1), ((1, 1), (1, 1))),
    "a stride": ((2, 9, 8, 2), (3, 3), (2, 2), ((0, 1), (0, 1))),
    "valid": ((2, 6, 9, 3), (2, 3), (1, 2), ((0, 0), (0, 0))),
    "strides beyond the window": ((2, 9, 9, 1), (2, 2), (3, 3), ((0, 0), (0, 0))),
    "few places, much padding": ((2, 2, 1, 5), (3, 4), (1, 1), ((2, 2), (3, 3))),
    "large windows": ((2, 9, 8, 1), (5, 5), (2, 1), ((2, 2), (2, 2))),
    "one axis": ((4, 11, 2), (4,), (2,), ((1, 2),)),
    "more images than units": ((70, 3, 3, 1), (3, 3), (1, 1), ((1, 1), (1, 1))),
    "slices of the channels": ((1, 4, 4, 24), (3, 3), (1, 1), ((1, 1), (1, 1))),
}


def check_depthwise(kind, dtype):
    (*shape, vectors), window, strides, padding = DEPTHWISE[kind]
    channels = vectors * vector.lanes_of(np.dtype(dtype))
    x, w, b = random_arrays(0, dtype, (*shape, channels), (*window, 1, channels), (channels,))
    ones = (1,) * len(window)
    how = {"strides": strides, "padding": padding, "dilation": ones, "groups": channels}
    assert convolution(x.shape, w.shape, *how.values(), x.dtype).depthwise_at_once
    check_convolution(x, w, b, how)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", DEPTHWISE)
def test_every_channel_for_itself(kind, dtype):
    """Both gradients in one pass."""
    check_depthwise(kind, dtype)


def test_winograd():
    check_winograd()


def test_tile_boundaries():
    check_tile_boundaries()


def test_many_chunks():
    check_many_chunks()


def test_taps_that_meet_only_padding():
    """A gradient whose window lies outside of it: its slab is all frame."""
    x, w, b = random_arrays(0, np.float32, (2, 2, 3), (2, 3, 4), (4,))
    how = {"strides": (2,), "padding": ((0, 8),), "dilation": (9,), "groups": 1}
    check_convolution(x, w, b, how)


def test_places_that_meet_no_tap():
    """With a stride, some rows of the input meet no place of the window."""
    x, w, b = random_arrays(0, np.float32, (1, 1, 8, 1), (1, 4, 1, 1), (1,))
    how = {**simple(2), "strides": (2, 1), "padding": ((1, 0), (0, 0))}
    check_convolution(x, w, b, how)


def check_pooled_convolution(x, w, b, how, pool, activation):
    """`conv_max_pool` and its gradients, together and one by one."""
    how = {**how, "activation": activation, **dict(zip(POOL_NAMES, pool))}
    tolerance = TOLERANCE[x.dtype.type]
    y, saved = cpu_conv.conv_max_pool(x, w, b, **how)
    expected, places = reference.conv_max_pool(x, w, b, **how)
    assert_close(y, expected, tolerance)
    np.testing.assert_array_equal(saved, places)
    (g,) = random_arrays(1, x.dtype, y.shape)
    wanted = reference.conv_max_pool_grad(g, y, x, w, b, needs=(True,) * 3, saved=saved, **how)
    for needs in ((True, True, True), (True, False, False), (False, True, True)):
        got = cpu_conv.conv_max_pool_grad(g, y, x, w, b, needs=needs, saved=saved, **how)
        for needed, one, right in zip(needs, got, wanted):
            assert (one is not None) == needed
            if needed:
                assert_close(one, right, tolerance)


POOL_NAMES = ("pool_size", "pool_strides", "pool_padding")
SIDE_BY_SIDE = ((2, 2), (2, 2), ((0, 0), (0, 0)))


@pytest.mark.parametrize("activation", ["linear", "relu"])
@pytest.mark.parametrize(
    ("images", "height", "width", "channels", "filters", "padding"),
    [
        (9, 26, 26, 16, 16, ((0, 0), (0, 0))),
        (7, 9, 14, 16, 32, ((1, 1), (1, 1))),
        (5, 13, 9, 19, 16, ((2, 0), (1, 2))),
        (70, 4, 5, 16, 32, ((1, 1), (1, 1))),
        (3, 8, 8, 16, 16, ((2, 2), (0, 1))),
        (2, 4, 4, 16, 17, ((0, 0), (0, 0))),
    ],
)
def test_pooled_convolution(images, height, width, channels, filters, padding, activation):
    shapes = (images, height, width, channels), (3, 3, channels, filters), (filters,)
    x, w, b = random_arrays(0, np.float32, *shapes)
    how = {"strides": (1, 1), "padding": padding, "dilation": (1, 1), "groups": 1}
    for pool in (SIDE_BY_SIDE, ((3, 2), (2, 1), ((1, 1), (0, 1)))):
        check_pooled_convolution(x, w, b, how, pool, activation)


def test_pooled_convolution_of_nan():
    """It wins, and no gradient goes through it."""
    x, w, b = random_arrays(0, np.float32, (1, 6, 6, 16), (3, 3, 16, 16), (16,))
    x[0, 1, 1] = np.nan
    how = {"activation": "relu", **dict(zip(POOL_NAMES, SIDE_BY_SIDE)), **simple(2)}
    y, saved = cpu_conv.conv_max_pool(x, w, b, **how)
    assert np.isnan(y[0, 0, 0]).all() and (saved[0, 0, 0] == 4).all()


def test_inputs_of_any_layout():
    x, w, b = random_arrays(0, np.float32, (5, 8, 9, 2), (4, 3, 3, 5), (5,))
    x, w = x.transpose(3, 2, 1, 0)[:, ::2], w.transpose(1, 2, 0, 3)[..., :3, :]
    x, w = x[..., 1:4], np.ascontiguousarray(w)
    w.flags.writeable = False
    check_convolution(x, w, b, simple(2))


def test_gradient_of_a_sum():
    """It is one number, broadcast to all places without being repeated in memory."""
    x, w, b = random_arrays(0, np.float32, (2, 12, 12, 16), (3, 3, 16, 16), (16,))
    assert winograd.fits(w.shape, (1, 1), (1, 1), 1, x.dtype)
    y = cpu_conv.conv_bias_act(x, w, b, activation="relu", **simple(2))
    g = np.broadcast_to(np.float32(1), y.shape)
    how = {"needs": (True, True, True), "activation": "relu", **simple(2)}
    expected = cpu_conv.conv_bias_act_grad(g.copy(), y, x, w, b, **how)
    for got, right in zip(cpu_conv.conv_bias_act_grad(g, y, x, w, b, **how), expected):
        np.testing.assert_array_equal(got, right)
    wide = np.repeat(x, 2, axis=-1)[..., ::2]
    np.testing.assert_array_equal(
        cpu_conv.conv_bias_act(wide, w, b, activation="relu", **simple(2)), y
    )


@pytest.mark.parametrize(
    "needs", [(False, True, False), (True, False, False), (False, False, True)]
)
def test_only_needed_gradients(needs):
    x, w, b = random_arrays(0, np.float32, (2, 6, 6, 3), (3, 3, 3, 4), (4,))
    y = cpu_conv.conv_bias_act(x, w, b, activation="relu", **simple(2))
    grads = cpu_conv.conv_bias_act_grad(y, y, x, w, b, needs=needs, activation="relu", **simple(2))
    assert tuple(grad is not None for grad in grads) == needs


def test_sums_do_not_depend_on_the_number_of_threads():
    import numba

    x, w = random_arrays(0, np.float32, (33, 12, 12, 8), (3, 3, 8, 20))
    y = cpu_conv.conv(x, w, **simple(2))
    threads = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        alone = cpu_conv.conv_kernel_grad(x, y, kernel_shape=w.shape, **simple(2))
    finally:
        numba.set_num_threads(threads)
    together = cpu_conv.conv_kernel_grad(x, y, kernel_shape=w.shape, **simple(2))
    assert np.array_equal(alone, together)


def check_pooling(x, how):
    """Every pooling kernel on this input."""
    tolerance = TOLERANCE[x.dtype.type]
    y, saved = reference.max_pool(x, **how)
    got_y, got_saved = cpu_pool.max_pool(x, **how)
    np.testing.assert_array_equal(got_y, y)
    np.testing.assert_array_equal(got_saved, saved)
    assert got_saved.dtype == saved.dtype
    gathered = cpu_pool.max_pool_gather(x, saved, **how)
    np.testing.assert_array_equal(gathered, reference.max_pool_gather(x, saved, **how))
    (g,) = random_arrays(1, x.dtype, y.shape)
    dx = cpu_pool.max_pool_scatter(g, saved, input_shape=x.shape, **how)
    expected = reference.max_pool_scatter(g, saved, input_shape=x.shape, **how)
    assert_close(dx, expected, tolerance)
    assert_close(cpu_pool.avg_pool(x, **how), reference.avg_pool(x, **how), tolerance)
    dx = cpu_pool.avg_pool_grad(g, input_shape=x.shape, **how)
    assert_close(dx, reference.avg_pool_grad(g, input_shape=x.shape, **how), tolerance)
    size = how["pool_size"]
    up = reference.upsample(x, size=size)
    np.testing.assert_array_equal(cpu_pool.upsample(x, size=size), up)
    (g,) = random_arrays(1, x.dtype, up.shape)
    (dx,) = cpu_pool.upsample_grad(g, up, x, needs=(True,), size=size)
    assert_close(dx, reference.upsample_grad(g, up, x, needs=(True,), size=size)[0], tolerance)


@st.composite
def poolings(draw):
    rank = draw(st.integers(1, 3))
    each = []
    for _ in range(rank):
        window = draw(st.integers(1, 4))
        inside = st.integers(0, window - 1)
        pads = draw(st.tuples(inside, inside))
        each.append((draw(st.integers(4, 9)), window, draw(st.integers(1, 4)), pads))
    spatial, pool_size, strides, padding = zip(*each)
    shape = (draw(st.integers(0, 3)), *spatial, draw(CHANNELS))
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    (x,) = random_arrays(draw(st.integers(0, 99)), dtype, shape)
    if draw(st.booleans()):  # ties, infinities and NaNs
        x = np.round(x)
        x[x == 2] = np.nan
        x[x == -2] = -np.inf
    return x, {"pool_size": pool_size, "strides": strides, "padding": padding}


@settings(max_examples=150, deadline=None)
@given(poolings())
def test_pooling_kernels(case):
    x, how = case
    with np.errstate(invalid="ignore"):
        check_pooling(x, how)


def test_windows_of_more_than_255_places():
    (x,) = random_arrays(0, np.float32, (2, 300, 3))
    check_pooling(x, {"pool_size": (256,), "strides": (7,), "padding": ((128, 100),)})


# --- other processors ------------------------------------------------------------------------

NARROWER = {
    256: ("haswell", "+sse4.2,+avx,+avx2,+fma"),
    128: ("x86-64", ""),
}


@pytest.mark.parametrize("bits", NARROWER)
def test_narrower_vectors(bits):
    """The same kernels, compiled for a processor with fewer and smaller registers."""
    if platform.machine().lower() not in ("x86_64", "amd64") or vector.VECTOR_BITS < bits:
        pytest.skip("needs an x86 processor with vectors of that size")
    name, features = NARROWER[bits]
    paths = [str(Path(__file__).parent), str(Path(reference.__file__).parents[3])]
    done = subprocess.run(
        [sys.executable, "-c", "import test_kernels_conv as t; t.check_processor()", str(bits)],
        env={
            **os.environ,
            "NUMBA_CPU_NAME": name,
            "NUMBA_CPU_FEATURES": features,
            "PYTHONPATH": os.pathsep.join(paths),
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def check_processor():
    """What `test_narrower_vectors` runs in its own process."""
    assert str(vector.VECTOR_BITS) == sys.argv[1]
    for filters in (3, 2 * vector.VECTOR_BITS // 32 + 1):
        x, w, b = random_arrays(0, np.float32, (2, 11, 21, 3), (3, 3, 3, filters), (filters,))
        check_convolution(x, w, b, simple(2, pad=1))
    x, w, b = random_arrays(0, np.float32, (3, 9, 9, 17), (3, 3, 1, 17), (17,))
    check_convolution(x, w, b, simple(2, pad=1, stride=2, groups=17))
    x, w, b = random_arrays(0, np.float32, (3, 9, 12, 17), (3, 3, 17, 9), (9,))
    check_convolution(x, w, b, simple(2, pad=1))
    check_one_filter()
    check_depthwise("a stride", np.float32)
    check_pooling(x, {"pool_size": (3, 2), "strides": (2, 2), "padding": ((1, 1), (0, 1))})


# --- threads and memory ----------------------------------------------------------------------


@task
def _count_one(i, counts):
    counts[i] += 1


@entry
def _count_all(counts, most):
    _count_one(counts.size, most, (counts,))


def test_task_runs_each_index_once():
    counts = np.zeros(1000, np.int64)
    _count_all(counts, ALL)
    _count_all(counts[:7], 1)
    assert (counts[:7] == 2).all() and (counts[7:] == 1).all()


@intrinsic
def _holder(typingctx, array):
    """The address of what counts who holds an array's memory."""

    def codegen(context, builder, signature, arguments):
        found = cgutils.create_struct_proxy(array)(context, builder, value=arguments[0])
        return builder.ptrtoint(found.meminfo, context.get_value_type(types.intp))

    return types.intp(array), codegen


@task
def _note_holders(i, a, others, seen):
    own = np.empty(3)
    seen[i, 0], seen[i, 1] = _holder(a), _holder(others[1][0])
    seen[i, 2], seen[i, 3] = _holder(a[1:]), _holder(own)


@entry
def _note_all_holders(a, b, seen):
    _note_holders(seen.shape[0], ALL, (a, (1, (b, 2.0)), seen))


def test_tasks_do_not_count_who_holds_their_arrays():
    """Threads would wait for each other's counts."""
    seen = np.ones((8, 4), np.intp)
    _note_all_holders(np.ones(3), np.ones(4), seen)
    assert (seen[:, :3] == 0).all()
    assert (seen[:, 3] != 0).all()  # what a task makes is freed as ever


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of GNU's C library only")
def test_working_space_keeps_its_pages():
    """Memory that is taken and given back again and again is not zeroed by the system each time."""
    code = """
import resource, numpy as np, minitorch_ciml
def use():
    for block in [np.empty(100_000, np.uint8) for _ in range(60)]:
        block[:] = 1
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
use()
before = faults()
for _ in range(20):
    use()
print(faults() - before)
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(found.stdout) < 1500  # the pages of all blocks, once


def test_kernels_run_where_no_folder_is_writable(monkeypatch):
    from numba.core import caching

    monkeypatch.setattr(caching.CompileResultCacheImpl, "_locator_classes", [])
    add = entry(lambda a, b: a + b)
    assert add(1, 2) == 3


def test_pool_reuses_memory_that_nobody_holds():
    pool = Pool()
    a = pool.empty((100, 1000), np.float32)
    start = a.ctypes.data
    assert start % 64 == 0 and a.flags.c_contiguous and a.flags.writeable
    view = a[3:, ::2].T[1]
    del a
    other = pool.empty((100, 1000), np.float32)
    assert other.ctypes.data != start  # the view is alive
    shared = memoryview(view)
    del view
    assert pool.empty((100, 1000), np.float32).ctypes.data != start  # and so is this
    del shared
    assert pool.empty((1000, 50), np.float64).ctypes.data == start


def test_pool_is_bounded():
    pool = Pool(largest_total=1_000_000)
    arrays = [pool.empty((300_000,), np.uint8) for _ in range(9)]
    assert pool.total <= 1_000_000
    assert len({a.ctypes.data for a in arrays}) == 9
    assert len({a.ctypes.data % 4096 for a in arrays}) == 9  # each at another place of its page
    pool.empty((2_000_000,), np.uint8)
    assert pool.total <= 1_000_000
