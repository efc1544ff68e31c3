"""Convolution on the CPU, and its gradients: what the ops call.

Two families of kernels do everything, for any number of spatial dimensions, strides, dilations,
paddings and groups, as register-tiled matrix products (see `simd` and `geometry`):

- `correlate`, and `correlate_rows` where outputs lie side by side: `y[p, f] = act(b[f] + sum
  over k of x[at(p, k)] w[k, f])`, where k counts taps and channels. It is the forward pass, and
  also the input gradient: the gradient correlated with the flipped kernel.
- `correlate_grad`: the kernel's gradient, and the bias' beside it (see `conv_kernel_grad`).

Where they are faster, others do it: `winograd` for windows of 3 x 3, `pointwise_grad` for 1 x 1,
and `wide_product` for many weights.

All mask g with ReLU's derivative while they read it, so no masked copy of it is ever stored.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from minitorch_ciml.kernels.cpu import depthwise_grad, pointwise_grad, winograd, winograd_grad
from minitorch_ciml.kernels.cpu.arrivals import makes_first
from minitorch_ciml.kernels.cpu.buffers import empty
from minitorch_ciml.kernels.cpu.conv_kernel_grad import kernel_grad
from minitorch_ciml.kernels.cpu.conv_plan import Convolution, Plan, convolution
from minitorch_ciml.kernels.cpu.correlate import correlate
from minitorch_ciml.kernels.cpu.correlate_rows import RowPlan, correlate_rows
from minitorch_ciml.kernels.cpu.elementwise import add_into, relu_grad
from minitorch_ciml.kernels.cpu.geometry import Window
from minitorch_ciml.kernels.cpu.jit import common_dtype, ready, ready_or_empty
from minitorch_ciml.kernels.cpu.pool import max_pool, max_pool_scatter
from minitorch_ciml.kernels.cpu.threads import threads_for
from minitorch_ciml.kernels.cpu.vector import lanes_of
from minitorch_ciml.kernels.reference.conv import Ints, Pads


@lru_cache(maxsize=64)
def _no_bias(size: int, dtype: np.dtype) -> np.ndarray:
    return np.zeros(size, dtype)


def _padded_bias(b: np.ndarray | None, filters: int, dtype: np.dtype) -> np.ndarray:
    """b with room behind it, for the panel that is wider than the filters that are left."""
    size = filters + 2 * lanes_of(dtype)
    if b is None:
        return _no_bias(size, dtype)
    padded = np.zeros(size, dtype)
    padded[:filters] = b
    return padded


def _run(
    plan: Plan,
    most: int,
    source: np.ndarray,
    mask: np.ndarray,
    w: np.ndarray,
    bias: np.ndarray,
    plus: np.ndarray,
    clip: bool,
    y: np.ndarray,
    by: np.ndarray,
    depthwise: bool,
) -> None:
    """The correlation that a plan describes; one along rows adds no `plus`."""
    if isinstance(plan, RowPlan):
        chunks, places, apart, record, *tables = plan
        correlate_rows(
            most, chunks, source, mask, w, bias, clip, y, *tables, record, by, places, apart
        )
    else:
        correlate(
            most, plan.plan.chunks, source, mask, w, bias, plus, clip, y, plan.pix, plan.to,
            plan.taps, plan.order, plan.record, by, depthwise or None,
        )  # fmt: skip


def conv(
    x: np.ndarray, w: np.ndarray, *, strides: Ints, padding: Pads, dilation: Ints, groups: int
) -> np.ndarray:
    """`y = x * w`: x `(N, *S, C)`, w `(*K, C // groups, F)` -> y `(N, *O, F)`."""
    how = (strides, padding, dilation, groups)
    return _conv(convolution(x.shape, w.shape, *how, common_dtype(x, w)), x, w, None, False)


def conv_bias_act(
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray,
    *,
    strides: Ints,
    padding: Pads,
    dilation: Ints,
    groups: int,
    activation: str,
) -> np.ndarray:
    """`y = activation(conv(x, w) + b)` in one pass; b `(F,)`; activation `"linear"` or
    `"relu"`.
    """
    how = (strides, padding, dilation, groups)
    kind = convolution(x.shape, w.shape, *how, common_dtype(x, w))
    return _conv(kind, x, w, b, activation == "relu")


def conv_bias_add_act(
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray,
    r: np.ndarray,
    *,
    strides: Ints,
    padding: Pads,
    dilation: Ints,
    groups: int,
    activation: str,
) -> np.ndarray:
    """`y = activation(conv(x, w) + b + r)` in one pass; r has y's shape."""
    how = (strides, padding, dilation, groups)
    kind = convolution(x.shape, w.shape, *how, common_dtype(x, w))
    return _conv(kind, x, w, b, activation == "relu", r)


def _conv(
    kind: Convolution,
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray | None,
    clip: bool,
    plus: np.ndarray | None = None,
) -> np.ndarray:
    if kind.depthwise and w.shape[-1] > kind.groups:
        kind, x = _one_filter_each(kind), np.repeat(x, w.shape[-1] // kind.groups, axis=-1)
    dtype = kind.dtype
    if 0 in kind.y_shape:
        return empty(kind.y_shape, dtype)
    if kind.wide_forward is not None:
        y = kind.wide_forward.forward(x, w, b, clip and plus is None)
        if plus is not None:
            add_into(y, plus, clip)
        return y
    if plus is not None and (kind.by_winograd or not isinstance(kind.forward, Window)):
        y = _conv(kind, x, w, b, False)
        add_into(y, plus, clip)
        return y
    most, y = threads_for(kind.operations), empty(kind.y_shape, dtype)
    nothing, bias = np.empty(0, dtype), _padded_bias(b, w.shape[-1], dtype)
    if kind.by_winograd:
        winograd.correlate(most, x, nothing, w, kind.padding, bias, clip, y)
        return y
    _run(
        kind.forward, most, ready(x, dtype), nothing, ready(w, dtype), bias,
        ready_or_empty(plus, dtype), clip, y.reshape(-1), kind.forward_weights, kind.depthwise,
    )  # fmt: skip
    return y


def _one_filter_each(kind: Convolution) -> Convolution:
    """A depthwise convolution with several filters per channel, of channels that are repeated."""
    filters = kind.w_shape[-1]
    x_shape = (*kind.x_shape[:-1], filters)
    how = (kind.strides, kind.padding, kind.dilation)
    return convolution(x_shape, kind.w_shape, *how, filters, kind.dtype)


@makes_first
def conv_grad(
    g: np.ndarray,
    y: np.ndarray,
    x: np.ndarray,
    w: np.ndarray,
    *,
    needs: tuple[bool, bool],
    strides: Ints,
    padding: Pads,
    dilation: Ints,
    groups: int,
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """`(dx, dw)` of :func:`conv`, each None unless `needs` asks for it; in one pass where both are
    and a kernel can.
    """
    how = (strides, padding, dilation, groups)
    kind = convolution(x.shape, w.shape, *how, common_dtype(x, w))
    return _gradients(kind, g, None, x, w, (*needs, needs[1]))[:2]


def conv_input_grad(
    g: np.ndarray,
    w: np.ndarray,
    *,
    input_shape: Ints,
    strides: Ints,
    padding: Pads,
    dilation: Ints,
    groups: int,
) -> np.ndarray:
    """`dx = dL/dx` for `y = conv(x, w)`: g `(N, *O, F)`, w `(*K, C // groups, F)` -> dx
    `(N, *S, C)`.
    """
    how = (strides, padding, dilation, groups)
    kind = convolution(tuple(input_shape), w.shape, *how, common_dtype(g, w))
    return _input_grad(kind, g, None, w)


def _input_grad(
    kind: Convolution, g: np.ndarray, mask: np.ndarray | None, w: np.ndarray
) -> np.ndarray:
    channels, filters, dtype = kind.x_shape[-1], w.shape[-1], kind.dtype
    if kind.depthwise and filters > channels:
        dx = _input_grad(_one_filter_each(kind), g, mask, w)
        return dx.reshape(*kind.x_shape, filters // channels).sum(axis=-1)
    dx = empty(kind.x_shape, dtype)
    if dx.size == 0:
        return dx
    if g.size == 0:
        dx.fill(0)
        return dx
    if kind.wide_backward is not None:
        return kind.wide_backward.input_grad(_passed(g, mask), w)
    flat_mask = ready_or_empty(mask, dtype)
    most, bias = threads_for(kind.operations), _padded_bias(None, channels, dtype)
    if kind.by_winograd:
        flipped = w[::-1, ::-1].swapaxes(2, 3)
        padding = tuple((2 - before, 2 - after) for before, after in kind.padding)
        winograd.correlate(most, g, flat_mask, flipped, padding, bias, False, dx)
        return dx
    for plan in kind.backward if mask is None else kind.backward_masked:
        _run(
            plan, most, ready(g, dtype), flat_mask, ready(w, dtype), bias, bias[:0], False,
            dx.reshape(-1), kind.backward_weights, kind.depthwise,
        )  # fmt: skip
    return dx


def conv_kernel_grad(
    x: np.ndarray,
    g: np.ndarray,
    *,
    kernel_shape: Ints,
    strides: Ints,
    padding: Pads,
    dilation: Ints,
    groups: int,
) -> np.ndarray:
    """`dw = dL/dw` for `y = conv(x, w)`: x `(N, *S, C)`, g `(N, *O, F)` -> dw `(*K, C //
    groups, F)`.
    """
    how = (strides, padding, dilation, groups)
    kind = convolution(x.shape, tuple(kernel_shape), *how, common_dtype(x, g))
    if kind.wide_backward is not None:
        return kind.wide_backward.kernel_grad(x, g)
    return kernel_grad(kind, x, g, None)[0]


def _passed(g: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """g where the mask is positive, otherwise 0."""
    return g if mask is None else relu_grad(g, mask, mask, needs=(True,))[0]


def _winograd_grads(
    kind: Convolution,
    x: np.ndarray,
    g: np.ndarray,
    mask: np.ndarray | None,
    w: np.ndarray,
    places: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`(dx, dw, db)` of such a convolution, in one pass."""
    dtype = kind.dtype
    dx, dw, db = empty(x.shape, dtype), np.empty(w.shape, dtype), np.zeros(w.shape[-1], dtype)
    no_mask = ready_or_empty(mask, dtype)
    most = threads_for(g.size * w.size // w.shape[-1])
    winograd_grad.gradients(most, x, g, no_mask, kind.padding, dw, db, w, dx, places)
    return dx, dw, db


def _product_grads(
    kind: Convolution, x: np.ndarray, g: np.ndarray, mask: np.ndarray | None, w: np.ndarray,
    with_masked: bool,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]:  # fmt: skip
    """The gradients `(dx, dw, db)` of such a convolution, and the masked g if it is wanted."""
    channels, filters = w.shape[-2:]
    dtype = kind.dtype
    dx = empty(x.shape, dtype)
    masked = g if mask is None else empty(g.shape, dtype) if with_masked else None
    dw, db = pointwise_grad.product_grad(
        threads_for(kind.operations),
        ready(x, dtype).reshape(-1, channels),
        ready(g, dtype).reshape(-1, filters),
        ready_or_empty(mask, dtype),
        ready(w, dtype),
        kind.backward_weights,
        dx.reshape(-1),
        None if masked is None or masked is g else masked.reshape(-1),
    )
    return dx, dw.reshape(w.shape), db, masked


@makes_first
def conv_bias_act_grad(
    g: np.ndarray,
    y: np.ndarray,
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray,
    *,
    needs: tuple[bool, bool, bool],
    strides: Ints,
    padding: Pads,
    dilation: Ints,
    groups: int,
    activation: str,
) -> tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None]:
    """`(dx, dw, db)` of :func:`conv_bias_act`, each None unless `needs` asks for it; y is its
    output.
    """
    how = (strides, padding, dilation, groups)
    kind = convolution(x.shape, w.shape, *how, common_dtype(x, w))
    return _gradients(kind, g, y if activation == "relu" else None, x, w, needs)


def _gradients(
    kind: Convolution,
    g: np.ndarray,
    mask: np.ndarray | None,
    x: np.ndarray,
    w: np.ndarray,
    needs: tuple[bool, ...],
) -> tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None]:
    """`(dx, dw, db)` for g where the mask is positive, each None unless `needs` asks for it."""
    if all(needs):
        if kind.wide_backward is not None:
            return kind.wide_backward.gradients(x, _passed(g, mask), w)
        if kind.is_product:
            return _product_grads(kind, x, g, mask, w, False)[:3]
        if kind.both_by_winograd:
            return _winograd_grads(kind, x, g, mask, w)
        if kind.depthwise_at_once:
            most, flat_mask = threads_for(kind.operations), ready_or_empty(mask, kind.dtype)
            return depthwise_grad.gradients(most, x, g, flat_mask, w, kind.strides, kind.padding)
    dx = _input_grad(kind, g, mask, w) if needs[0] else None
    dw, db = kernel_grad(kind, x, g, mask) if needs[1] or needs[2] else (None, None)
    return dx, dw if needs[1] else None, db if needs[2] else None


@makes_first
def conv_bias_add_act_grad(
    g: np.ndarray,
    y: np.ndarray,
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray,
    r: np.ndarray,
    *,
    needs: tuple[bool, bool, bool, bool],
    activation: str,
    strides: Ints,
    padding: Pads,
    dilation: Ints,
    groups: int,
) -> tuple[np.ndarray | None, ...]:
    """`(dx, dw, db, dr)` of :func:`conv_bias_add_act`, each None unless `needs` asks for it."""
    how = (strides, padding, dilation, groups)
    kind = convolution(x.shape, w.shape, *how, common_dtype(x, w))
    mask = y if activation == "relu" else None
    if needs[0] and needs[3] and kind.is_product and kind.wide_backward is None:
        return _product_grads(kind, x, g, mask, w, True)
    if needs[3]:  # the masked g is needed for itself
        g, mask = _passed(g, mask), None
    return (*_gradients(kind, g, mask, x, w, needs[:3]), g if needs[3] else None)


def _pools_blocks(kind: Convolution, *pool: Any) -> bool:
    """Whether Winograd's blocks are pooled as they are: windows of 2 x 2, side by side."""
    return (
        kind.both_by_winograd
        and pool == ((2, 2), (2, 2), ((0, 0), (0, 0)))
        and kind.w_shape[-1] % winograd.LANES == 0
    )


def conv_max_pool(
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray,
    *,
    activation: str,
    pool_size: Ints,
    pool_strides: Ints,
    pool_padding: Pads,
    strides: Ints,
    padding: Pads,
    dilation: Ints,
    groups: int,
) -> tuple[np.ndarray, np.ndarray]:
    """`max_pool` of :func:`conv_bias_act`, and where the maxima are (see the reference)."""
    how = (strides, padding, dilation, groups)
    kind = convolution(x.shape, w.shape, *how, common_dtype(x, w))
    clip = activation == "relu"
    if not _pools_blocks(kind, pool_size, pool_strides, pool_padding):
        z = _conv(kind, x, w, b, clip)
        return max_pool(
            z, pool_size=pool_size, strides=pool_strides, padding=pool_padding, clip=clip
        )
    images, height, width, filters = kind.y_shape
    y = empty((images, height // 2, width // 2, filters), kind.dtype)
    saved = empty(y.shape, np.uint8)
    most, bias = threads_for(kind.operations), _padded_bias(b, filters, kind.dtype)
    nothing = np.empty(0, kind.dtype)
    winograd.correlate(most, x, nothing, w, padding, bias, clip, y, saved)
    return y, saved


@makes_first
def conv_max_pool_grad(
    g: np.ndarray,
    y: np.ndarray,
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray,
    *,
    needs: tuple[bool, bool, bool],
    saved: np.ndarray,
    activation: str,
    pool_size: Ints,
    pool_strides: Ints,
    pool_padding: Pads,
    strides: Ints,
    padding: Pads,
    dilation: Ints,
    groups: int,
) -> tuple[np.ndarray | None, ...]:
    """`(dx, dw, db)` of :func:`conv_max_pool`, each None unless `needs` asks for it."""
    how = (strides, padding, dilation, groups)
    kind = convolution(x.shape, w.shape, *how, common_dtype(x, w))
    if all(needs) and _pools_blocks(kind, pool_size, pool_strides, pool_padding):
        return _winograd_grads(kind, x, g, None, w, saved)
    g = max_pool_scatter(
        g, saved, input_shape=kind.y_shape, pool_size=pool_size, strides=pool_strides,
        padding=pool_padding,
    )  # fmt: skip
    return _gradients(kind, g, None, x, w, needs)
