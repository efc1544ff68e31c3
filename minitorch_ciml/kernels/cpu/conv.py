"""Convolution on the CPU, and its gradients: what the ops call.

Two families of kernels do everything, for any number of spatial dimensions, strides, dilations,
paddings and groups, as register-tiled matrix products (see `simd` and `geometry`):

- `correlate`, and `correlate_rows` where outputs lie side by side: `y[p, f] = act(b[f] + sum
  over k of x[at(p, k)] w[k, f])`, where k counts taps and channels. It is the forward pass, and
  also the input gradient: the gradient correlated with the flipped kernel.
- `correlate_grad`: the kernel's gradient, and the bias' beside it (see `conv_kernel_grad`).

Where they are faster, others do it: `winograd` for windows of 3 x 3, `pointwise` for 1 x 1, and
`wide_product` for many weights.

All mask g with ReLU's derivative while they read it, so no masked copy of it is ever stored.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from minitorch_ciml.kernels.cpu import pointwise, winograd, winograd_grad
from minitorch_ciml.kernels.cpu.buffers import empty
from minitorch_ciml.kernels.cpu.conv_kernel_grad import kernel_grad
from minitorch_ciml.kernels.cpu.conv_plan import (
    Plan,
    backward_plans,
    backward_weights,
    forward_rows,
    forward_weights,
    forward_window,
    is_depthwise,
    output_shape,
)
from minitorch_ciml.kernels.cpu.correlate import correlate
from minitorch_ciml.kernels.cpu.correlate_rows import RowPlan, correlate_rows
from minitorch_ciml.kernels.cpu.elementwise import add_into, relu_grad
from minitorch_ciml.kernels.cpu.geometry import Window
from minitorch_ciml.kernels.cpu.jit import ready, ready_or_empty
from minitorch_ciml.kernels.cpu.pool import max_pool, max_pool_scatter
from minitorch_ciml.kernels.cpu.threads import threads_for
from minitorch_ciml.kernels.cpu.vector import lanes_of
from minitorch_ciml.kernels.cpu.wide_product import BACKWARD, FORWARD, wide_product
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


def _operations(y_shape: Ints, w_shape: Ints, depthwise: bool) -> int:
    """What a convolution costs, in multiplications; those of depthwise ones share nothing."""
    return math.prod(y_shape) * math.prod(w_shape[:-1]) * (4 if depthwise else 1)


def conv(
    x: np.ndarray, w: np.ndarray, *, strides: Ints, padding: Pads, dilation: Ints, groups: int
) -> np.ndarray:
    """`y = x * w`: x `(N, *S, C)`, w `(*K, C // groups, F)` -> y `(N, *O, F)`."""
    return _conv(x, w, None, strides, padding, dilation, groups, False)


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
    return _conv(x, w, b, strides, padding, dilation, groups, activation == "relu")


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
    return _conv(x, w, b, strides, padding, dilation, groups, activation == "relu", r)


def _conv(
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray | None,
    strides: Ints,
    padding: Pads,
    dilation: Ints,
    groups: int,
    clip: bool,
    plus: np.ndarray | None = None,
) -> np.ndarray:
    dtype = np.result_type(x, w)
    depthwise = is_depthwise(x.shape[-1], groups)
    if depthwise and w.shape[-1] > groups:
        x, groups = np.repeat(x, w.shape[-1] // groups, axis=-1), w.shape[-1]
    shape = output_shape(x.shape, w.shape, strides, padding, dilation)
    if 0 in shape:
        return empty(shape, dtype)
    how = (x.shape, w.shape, strides, padding, dilation, groups)
    wide = wide_product(*how, dtype, FORWARD)
    if wide is not None:
        y = wide.forward(x, w, b, clip and plus is None)
        if plus is not None:
            add_into(y, plus, clip)
        return y
    most = threads_for(_operations(shape, w.shape, depthwise))
    nothing, bias = np.empty(0, dtype), _padded_bias(b, shape[-1], dtype)
    by_winograd = winograd.fits(w.shape, strides, dilation, groups, dtype)
    plan = None if by_winograd else forward_rows(*how, lanes_of(dtype)) or forward_window(*how)
    y = empty(shape, dtype)
    if plus is not None and not isinstance(plan, Window):
        y = _conv(x, w, b, strides, padding, dilation, groups, False)
        add_into(y, plus, clip)
        return y
    if plan is None:
        winograd.correlate(most, x, nothing, w, padding, bias, clip, y)
        return y
    by = forward_weights(w.shape, groups, depthwise)
    flat_x, flat_w = ready(x, dtype), ready(w, dtype)
    flat_plus = ready_or_empty(plus, dtype)
    _run(plan, most, flat_x, nothing, flat_w, bias, flat_plus, clip, y.reshape(-1), by, depthwise)
    return y


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
    return _input_grad(g, None, w, input_shape, strides, padding, dilation, groups)


def _input_grad(
    g: np.ndarray,
    mask: np.ndarray | None,
    w: np.ndarray,
    input_shape: Ints,
    strides: Ints,
    padding: Pads,
    dilation: Ints,
    groups: int,
) -> np.ndarray:
    dtype = np.result_type(g, w)
    channels, filters = input_shape[-1], w.shape[-1]
    depthwise = is_depthwise(channels, groups)
    if depthwise and filters > groups:
        wide_shape = (*input_shape[:-1], filters)
        dx = _input_grad(g, mask, w, wide_shape, strides, padding, dilation, filters)
        return dx.reshape(*input_shape, filters // channels).sum(axis=-1)
    dx = empty(input_shape, dtype)
    if dx.size == 0:
        return dx
    if g.size == 0:
        dx.fill(0)
        return dx
    wide = wide_product(input_shape, w.shape, strides, padding, dilation, groups, dtype, BACKWARD)
    if wide is not None:
        return wide.input_grad(_passed(g, mask), w)
    flat_g, flat_w = ready(g, dtype), ready(w, dtype)
    flat_mask = ready_or_empty(mask, dtype)
    by = backward_weights(w.shape, groups, depthwise)
    most = threads_for(_operations(g.shape, w.shape, depthwise))
    bias = _padded_bias(None, channels, dtype)
    if winograd.fits(w.shape, strides, dilation, groups, dtype):
        flipped = w[::-1, ::-1].swapaxes(2, 3)
        padding = tuple((2 - before, 2 - after) for before, after in padding)
        winograd.correlate(most, g, flat_mask, flipped, padding, bias, False, dx)
        return dx
    how = (tuple(input_shape), w.shape, strides, padding, dilation, groups)
    for plan in backward_plans(*how, mask is not None, lanes_of(dtype)):
        _run(
            plan, most, flat_g, flat_mask, flat_w, bias, bias[:0], False, dx.reshape(-1), by,
            depthwise,
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
    wide = wide_product(x.shape, kernel_shape, *how, np.result_type(x, g), BACKWARD)
    if wide is not None:
        return wide.kernel_grad(x, g)
    return kernel_grad(x, g, None, kernel_shape, *how)[0]


def _passed(g: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """g where the mask is positive, otherwise 0."""
    return g if mask is None else relu_grad(g, mask, mask, needs=(True,))[0]


def _is_product(
    x_shape: Ints, w_shape: Ints, strides: Ints, padding: Pads, groups: int, dtype: np.dtype
) -> bool:
    """Whether the convolution is one product of matrices, as `pointwise` does it."""
    one_place = max(*w_shape[:-2], *strides, groups) == 1 and not any(map(any, padding))
    return one_place and 0 not in x_shape and pointwise.fits(*w_shape[-2:], dtype)


def _winograd_grads(
    x: np.ndarray,
    g: np.ndarray,
    mask: np.ndarray | None,
    w: np.ndarray,
    padding: Pads,
    places: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`(dx, dw, db)` of such a convolution, in one pass."""
    dtype = np.result_type(x, w)
    dx, dw, db = empty(x.shape, dtype), np.empty(w.shape, dtype), np.zeros(w.shape[-1], dtype)
    no_mask = ready_or_empty(mask, dtype)
    most = threads_for(g.size * w.size // w.shape[-1])
    winograd_grad.gradients(most, x, g, no_mask, padding, dw, db, w, dx, places)
    return dx, dw, db


def _product_grads(
    x: np.ndarray, g: np.ndarray, mask: np.ndarray | None, w: np.ndarray, with_masked: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]:
    """The gradients `(dx, dw, db)` of such a convolution, and the masked g if it is wanted."""
    channels, filters = w.shape[-2:]
    dtype = np.result_type(x, w)
    dx = empty(x.shape, dtype)
    masked = g if mask is None else empty(g.shape, dtype) if with_masked else None
    dw, db = pointwise.product_grad(
        threads_for(g.size * channels),
        ready(x, dtype).reshape(-1, channels),
        ready(g, dtype).reshape(-1, filters),
        ready_or_empty(mask, dtype),
        ready(w, dtype),
        backward_weights(w.shape, 1, False),
        dx.reshape(-1),
        None if masked is None or masked is g else masked.reshape(-1),
    )
    return dx, dw.reshape(w.shape), db, masked


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
    mask = y if activation == "relu" else None
    wide = wide_product(x.shape, w.shape, strides, padding, dilation, groups, y.dtype, BACKWARD)
    if wide is not None and all(needs):
        return wide.gradients(x, _passed(g, mask), w)
    if all(needs) and _is_product(x.shape, w.shape, strides, padding, groups, y.dtype):
        return _product_grads(x, g, mask, w, False)[:3]
    by_winograd = winograd.fits(w.shape, strides, dilation, groups, np.result_type(x, w))
    if all(needs) and by_winograd and g.size and winograd_grad.can_do_both(padding):
        return _winograd_grads(x, g, mask, w, padding)
    how = (strides, padding, dilation, groups)
    dx = _input_grad(g, mask, w, x.shape, *how) if needs[0] else None
    dw, db = kernel_grad(x, g, mask, w.shape, *how) if needs[1] or needs[2] else (None, None)
    return dx, dw if needs[1] else None, db if needs[2] else None


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
    **how,
) -> tuple[np.ndarray | None, ...]:
    """`(dx, dw, db, dr)` of :func:`conv_bias_add_act`, each None unless `needs` asks for it."""
    mask = y if activation == "relu" else None
    dtype = np.result_type(x, w)
    wide = wide_product(x.shape, w.shape, **how, dtype=dtype, patience=BACKWARD)
    if wide is not None and all(needs):
        g = _passed(g, mask)
        return *wide.gradients(x, g, w), g
    kinds = (x.shape, w.shape, how["strides"], how["padding"], how["groups"])
    if needs[0] and needs[3] and _is_product(*kinds, dtype):
        return _product_grads(x, g, mask, w, True)
    if activation == "relu" and needs[3]:  # what the masked g is needed for itself
        g, activation = _passed(g, y), "linear"
    grads = conv_bias_act_grad(g, y, x, w, b, needs=needs[:3], activation=activation, **how)
    return (*grads, g if needs[3] else None)


def _pools_blocks(
    x_shape: Ints, w_shape: Ints, dtype: np.dtype, pool: tuple[Ints, Ints, Pads], how: dict
) -> bool:
    """Whether Winograd's blocks are pooled as they are: windows of 2 x 2, side by side."""
    kinds = (how["strides"], how["dilation"], how["groups"], dtype)
    return (
        winograd.fits(w_shape, *kinds)
        and pool == ((2, 2), (2, 2), ((0, 0), (0, 0)))
        and w_shape[-1] % winograd.LANES == 0
        and x_shape[0] > 0
        and winograd_grad.can_do_both(how["padding"])
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
    **how,
) -> tuple[np.ndarray, np.ndarray]:
    """`max_pool` of :func:`conv_bias_act`, and where the maxima are (see the reference)."""
    dtype, clip = np.result_type(x, w), activation == "relu"
    if not _pools_blocks(x.shape, w.shape, dtype, (pool_size, pool_strides, pool_padding), how):
        z = conv_bias_act(x, w, b, activation=activation, **how)
        return max_pool(
            z, pool_size=pool_size, strides=pool_strides, padding=pool_padding, clip=clip
        )
    images, height, width, filters = _conv_shape(x.shape, w.shape, how)
    y = empty((images, height // 2, width // 2, filters), dtype)
    saved = empty(y.shape, np.uint8)
    most = threads_for(images * height * width * w.size)
    bias = _padded_bias(b, filters, dtype)
    winograd.correlate(most, x, np.empty(0, dtype), w, how["padding"], bias, clip, y, saved)
    return y, saved


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
    **how,
) -> tuple[np.ndarray | None, ...]:
    """`(dx, dw, db)` of :func:`conv_max_pool`, each None unless `needs` asks for it."""
    pool = (pool_size, pool_strides, pool_padding)
    if all(needs) and _pools_blocks(x.shape, w.shape, np.result_type(x, w), pool, how):
        return _winograd_grads(x, g, None, w, how["padding"], saved)
    shape = _conv_shape(x.shape, w.shape, how)
    g = max_pool_scatter(
        g, saved, input_shape=shape, pool_size=pool_size, strides=pool_strides,
        padding=pool_padding,
    )  # fmt: skip
    return conv_bias_act_grad(g, g, x, w, b, needs=needs, activation="linear", **how)


def _conv_shape(x_shape: Ints, w_shape: Ints, how: dict) -> Ints:
    return output_shape(x_shape, w_shape, how["strides"], how["padding"], how["dilation"])
