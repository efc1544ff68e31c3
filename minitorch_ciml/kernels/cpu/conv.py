"""Convolution on the CPU, and its gradients, as register-tiled matrix products (see ``simd`` and
``geometry``).

Two families of kernels do everything, for any number of spatial dimensions, strides, dilations,
paddings and groups:

- ``_correlate``: ``y[p, f] = act(b[f] + sum over k of x[at(p, k)] w[k, f])``, where k counts taps
  and channels.  It is the forward pass, and also the input gradient: the gradient correlated with
  the flipped kernel.
- ``_correlate_grad``: ``dw[k, f] = sum over p of x[at(p, k)] g[p, f]``, and the bias' gradient
  beside it.

Both mask g with ReLU's derivative while they read it, so no masked copy of it is ever stored.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from itertools import product

import numpy as np

from minitorch_ciml.kernels.cpu import correlate_few, pointwise, simd, winograd, winograd_grad
from minitorch_ciml.kernels.cpu.buffers import empty
from minitorch_ciml.kernels.cpu.correlate import NARROW, Weights, correlate
from minitorch_ciml.kernels.cpu.correlate_grad import FILTERS, VECTORS, correlate_grad
from minitorch_ciml.kernels.cpu.correlate_rows import RowPlan, correlate_rows, fits, row_plan
from minitorch_ciml.kernels.cpu.elementwise import add_into, relu_grad
from minitorch_ciml.kernels.cpu.geometry import (
    Window,
    as_record,
    as_three,
    backward_axes,
    forward_axis,
    tap_order,
    window,
)
from minitorch_ciml.kernels.cpu.jit import ready
from minitorch_ciml.kernels.cpu.pool import max_pool, max_pool_scatter
from minitorch_ciml.kernels.cpu.threads import threads_for
from minitorch_ciml.kernels.reference.conv import Ints, Pads, output_size


@lru_cache(maxsize=64)
def _no_bias(size: int, dtype: np.dtype) -> np.ndarray:
    return np.zeros(size, dtype)


def _lanes(dtype: np.dtype) -> int:
    """Elements of one vector."""
    return simd.VECTOR_BITS // 8 // dtype.itemsize


def _padded_bias(b: np.ndarray | None, filters: int, dtype: np.dtype) -> np.ndarray:
    """b with room behind it, for the panel that is wider than the filters that are left."""
    size = filters + 2 * _lanes(dtype)
    if b is None:
        return _no_bias(size, dtype)
    padded = np.zeros(size, dtype)
    padded[:filters] = b
    return padded


def _axes(
    make: Callable, spatial: Ints, window: Ints, strides: Ints, padding: Pads, dilation: Ints
):
    """One result of ``make`` for depth, height and width each."""
    sizes = zip(
        as_three(spatial, 1),
        as_three(window, 1),
        as_three(strides, 1),
        as_three(padding, (0, 0)),
        as_three(dilation, 1),
        strict=True,
    )
    return [make(*one) for one in sizes]


@lru_cache(maxsize=1024)
def _forward_window(
    x_shape: Ints, w_shape: Ints, strides: Ints, padding: Pads, dilation: Ints, groups: int
) -> Window:
    return window(
        x_shape[0],
        _axes(forward_axis, x_shape[1:-1], w_shape[:-2], strides, padding, dilation),
        as_three(w_shape[:-2], 1),
        x_shape[-1],
        w_shape[-1],
        groups=groups,
        need_slab=groups == x_shape[-1] > 1,
    )


def _is_alone(channels: int, filters: int, step: int) -> bool:
    """Whether a filter has no other beside it, so that vectors run along the channels."""
    return filters == 1 and channels % step == 0


@lru_cache(maxsize=1024)
def _forward_rows(
    x_shape: Ints,
    w_shape: Ints,
    strides: Ints,
    padding: Pads,
    dilation: Ints,
    groups: int,
    step: int,
) -> RowPlan | None:
    """The plan along rows, where that is the faster kernel."""
    axes = _axes(forward_axis, x_shape[1:-1], w_shape[:-2], strides, padding, dilation)
    if groups > 1 or _is_alone(x_shape[-1], w_shape[-1], step) or not fits(axes, w_shape[-1], step):
        return None
    order = tap_order(axes, as_three(w_shape[:-2], 1))
    how = {"masked": False, "step": step}
    return row_plan(x_shape[0], axes, order, x_shape[-1], w_shape[-1], **how)


@lru_cache(maxsize=1024)
def _backward_plans(
    x_shape: Ints,
    w_shape: Ints,
    strides: Ints,
    padding: Pads,
    dilation: Ints,
    groups: int,
    masked: bool,
    step: int,
) -> list[Window | RowPlan]:
    axes = _axes(backward_axes, x_shape[1:-1], w_shape[:-2], strides, padding, dilation)
    shape = as_three(w_shape[:-2], 1)
    plans = []
    for phase in product(*axes):
        alone = _is_alone(w_shape[-1], x_shape[-1], step)
        if groups == 1 and not alone and fits(phase, x_shape[-1], step):
            order = tap_order(phase, shape)
            how = {"masked": masked, "step": step}
            plans.append(row_plan(x_shape[0], phase, order, w_shape[-1], x_shape[-1], **how))
        else:
            need = masked or groups == x_shape[-1] > 1
            sizes = (shape, w_shape[-1], x_shape[-1])
            plans.append(window(x_shape[0], phase, *sizes, groups=groups, need_slab=need))
    return plans


def _run(
    plan: Window | RowPlan,
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
    """The correlation that a plan describes; one along rows adds no ``plus``."""
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


def _output_shape(
    x_shape: Ints, w_shape: Ints, strides: Ints, padding: Pads, dilation: Ints
) -> Ints:
    sizes = zip(x_shape[1:-1], w_shape[:-2], strides, padding, dilation, strict=True)
    return (x_shape[0], *(output_size(s, k, st, p, d) for s, k, st, p, d in sizes), w_shape[-1])


def _is_depthwise(x_channels: int, groups: int) -> bool:
    return groups == x_channels > 1


@lru_cache(maxsize=1024)
def _forward_weights(w_shape: Ints, groups: int, depthwise: bool) -> np.ndarray:
    inputs, filters = w_shape[-2:]
    if depthwise:
        return as_record(Weights(1, 1, filters, 0, filters, 0, 1, True))
    kept = filters // groups
    by = Weights(groups, inputs, kept, kept, inputs * filters, filters, 1, False)
    return as_record(by)


@lru_cache(maxsize=1024)
def _backward_weights(w_shape: Ints, groups: int, depthwise: bool) -> np.ndarray:
    inputs, filters = w_shape[-2:]
    if depthwise:
        return as_record(Weights(1, 1, filters, 0, filters, 0, 1, True))
    summed = filters // groups
    by = Weights(groups, summed, inputs, summed, inputs * filters, 1, filters, False)
    return as_record(by)


def conv(
    x: np.ndarray, w: np.ndarray, *, strides: Ints, padding: Pads, dilation: Ints, groups: int
) -> np.ndarray:
    """``y = x * w``: x ``(N, *S, C)``, w ``(*K, C // groups, F)`` -> y ``(N, *O, F)``."""
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
    """``y = activation(conv(x, w) + b)`` in one pass; b ``(F,)``; activation ``"linear"`` or
    ``"relu"``.
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
    """``y = activation(conv(x, w) + b + r)`` in one pass; r has y's shape."""
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
    depthwise = _is_depthwise(x.shape[-1], groups)
    if depthwise and w.shape[-1] > groups:
        x, groups = np.repeat(x, w.shape[-1] // groups, axis=-1), w.shape[-1]
    shape = _output_shape(x.shape, w.shape, strides, padding, dilation)
    y = empty(shape, dtype)
    if y.size == 0:
        return y
    how = (x.shape, w.shape, strides, padding, dilation, groups)
    most = threads_for(y.size * w.size // shape[-1])
    nothing, bias = np.empty(0, dtype), _padded_bias(b, shape[-1], dtype)
    by_winograd = winograd.fits(w.shape, strides, dilation, groups, dtype)
    plan = None if by_winograd else _forward_rows(*how, _lanes(dtype)) or _forward_window(*how)
    if plus is not None and not isinstance(plan, Window):
        y = _conv(x, w, b, strides, padding, dilation, groups, False)
        add_into(y, plus, clip)
        return y
    if plan is None:
        winograd.correlate(most, x, nothing, w, padding, bias, clip, y)
        return y
    by = _forward_weights(w.shape, groups, depthwise)
    flat_x, flat_w = ready(x, dtype), ready(w, dtype)
    flat_plus = nothing if plus is None else ready(plus, dtype)
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
    """``dx = dL/dx`` for ``y = conv(x, w)``: g ``(N, *O, F)``, w ``(*K, C // groups, F)`` -> dx
    ``(N, *S, C)``.
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
    depthwise = _is_depthwise(channels, groups)
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
    flat_g, flat_w = ready(g, dtype), ready(w, dtype)
    flat_mask = np.empty(0, dtype) if mask is None else ready(mask, dtype)
    by = _backward_weights(w.shape, groups, depthwise)
    most = threads_for(g.size * w.size // filters)
    bias = _padded_bias(None, channels, dtype)
    if winograd.fits(w.shape, strides, dilation, groups, dtype):
        flipped = w[::-1, ::-1].swapaxes(2, 3)
        padding = tuple((2 - before, 2 - after) for before, after in padding)
        winograd.correlate(most, g, flat_mask, flipped, padding, bias, False, dx)
        return dx
    how = (tuple(input_shape), w.shape, strides, padding, dilation, groups)
    for plan in _backward_plans(*how, mask is not None, _lanes(dtype)):
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
    """``dw = dL/dw`` for ``y = conv(x, w)``: x ``(N, *S, C)``, g ``(N, *O, F)`` -> dw ``(*K, C //
    groups, F)``.
    """
    return _kernel_grad(x, g, None, kernel_shape, strides, padding, dilation, groups)[0]


def _product_grad(
    x: np.ndarray, g: np.ndarray, mask: np.ndarray | None, kernel_shape: Ints, strides: Ints
) -> tuple[np.ndarray, np.ndarray]:
    """`_kernel_grad` of a 1 x 1 convolution: ``dw = x^T g``, with x at the places that were met."""
    dtype = np.result_type(x, g)
    channels, filters = kernel_shape[-2:]
    met = x[(slice(None), *(slice(None, None, step) for step in strides))]
    dw, db = pointwise.product_grad(
        threads_for(g.size * channels),
        ready(met, dtype).reshape(-1, channels),
        ready(g, dtype).reshape(-1, filters),
        np.empty(0, dtype) if mask is None else ready(mask, dtype),
    )
    return dw.reshape(kernel_shape), db


def _kernel_grad_of_one(
    x: np.ndarray, g: np.ndarray, mask: np.ndarray | None, kernel_shape: Ints, padding: Pads
) -> tuple[np.ndarray, np.ndarray]:
    """`_kernel_grad` of one filter: x and g change places, so that vectors run along the channels.

    dw[k, c] = sum over p of x[p + k - before, c] g[p] is the gradient of a convolution of g whose
    result has x's shape; its window is flipped.
    """
    if mask is not None:
        g = np.where(mask > 0, g, g.dtype.type(0))
    window, ones = kernel_shape[:-2], (1,) * len(padding)
    padding = tuple((k - 1 - before, k - 1 - after) for k, (before, after) in zip(window, padding))
    turned = (*window, 1, kernel_shape[-2])
    dw, _ = _kernel_grad(g, x, None, turned, ones, padding, ones, 1)
    dw = np.flip(dw, tuple(range(len(window)))).reshape(kernel_shape)
    return np.ascontiguousarray(dw), g.sum(dtype=dw.dtype).reshape(1)


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
    """``(dx, dw, db)`` of such a convolution, in one pass."""
    dtype = np.result_type(x, w)
    dx, dw, db = empty(x.shape, dtype), np.empty(w.shape, dtype), np.zeros(w.shape[-1], dtype)
    no_mask = np.empty(0, dtype) if mask is None else ready(mask, dtype)
    most = threads_for(g.size * w.size // w.shape[-1])
    winograd_grad.gradients(most, x, g, no_mask, padding, dw, db, w, dx, places)
    return dx, dw, db


def _product_grads(
    x: np.ndarray, g: np.ndarray, mask: np.ndarray | None, w: np.ndarray, with_masked: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]:
    """The gradients ``(dx, dw, db)`` of such a convolution, and the masked g if it is wanted."""
    channels, filters = w.shape[-2:]
    dtype = np.result_type(x, w)
    dx = empty(x.shape, dtype)
    masked = g if mask is None else empty(g.shape, dtype) if with_masked else None
    dw, db = pointwise.product_grad(
        threads_for(g.size * channels),
        ready(x, dtype).reshape(-1, channels),
        ready(g, dtype).reshape(-1, filters),
        np.empty(0, dtype) if mask is None else ready(mask, dtype),
        ready(w, dtype),
        _backward_weights(w.shape, 1, False),
        dx.reshape(-1),
        None if masked is None or masked is g else masked.reshape(-1),
    )
    return dx, dw.reshape(w.shape), db, masked


# Work units of the kernel gradient: their number depends on the shapes only, never on the threads,
# so that any number of threads gives the same sums to the last bit.  Each part of the batch has
# sums of its own, which must be worth their addition.
UNITS = 32
OUTPUTS_PER_PART = 1024
SUMS_ELEMENTS = 1 << 22


def _kernel_grad(
    x: np.ndarray,
    g: np.ndarray,
    mask: np.ndarray | None,
    kernel_shape: Ints,
    strides: Ints,
    padding: Pads,
    dilation: Ints,
    groups: int,
) -> tuple[np.ndarray, np.ndarray]:
    """``(dw, db)``, where db is the sum of the (masked) g over all but the filters."""
    dtype = np.result_type(x, g)
    filters = kernel_shape[-1]
    depthwise = _is_depthwise(x.shape[-1], groups)
    if depthwise and filters > groups:
        x, groups = np.repeat(x, filters // groups, axis=-1), filters
    dw, db = np.zeros(kernel_shape, dtype), np.zeros(filters, dtype)
    if g.size == 0:
        return dw, db
    kernel_shape = tuple(kernel_shape)
    one_place = max(*kernel_shape[:-2], groups) == 1 and not any(map(any, padding))
    if one_place and pointwise.fits(x.shape[-1], filters, dtype):
        return _product_grad(x, g, mask, kernel_shape, strides)
    if winograd.fits(kernel_shape, strides, dilation, groups, dtype):
        most = threads_for(g.size * dw.size // filters)
        no_mask = np.empty(0, dtype) if mask is None else ready(mask, dtype)
        winograd_grad.gradients(most, x, g, no_mask, padding, dw, db)
        return dw, db
    if correlate_few.fits(kernel_shape, dilation, groups, dtype):
        most = threads_for(g.size * dw.size // filters)
        no_mask = np.empty(0, dtype) if mask is None else ready(mask, dtype)
        correlate_few.correlate_few(most, x, g, no_mask, strides, padding, dw, db)
        return dw, db
    reach = tuple(size - 1 for size in kernel_shape[:-2])
    inside = all(max(pads) <= last for pads, last in zip(padding, reach))
    if filters == 1 and x.shape[-1] >= _lanes(dtype) and max(*strides, *dilation, groups) == 1:
        if inside:
            return _kernel_grad_of_one(x, g, mask, kernel_shape, padding)
    where = _forward_window(x.shape, kernel_shape, strides, padding, dilation, groups)
    plan = where.plan
    by = _forward_weights(kernel_shape, groups, depthwise)
    places = (where.taps[:, None] + np.arange(plan.run)).ravel()
    step = _lanes(dtype)
    whole = plan.run % step == 0 and filters // groups <= step and not depthwise
    at_vectors = places[::step].copy() if whole else places[:0]
    panels = -(-filters // step) if depthwise else groups * -(-(filters // groups) // (2 * step))
    size = (places.size + max(NARROW, VECTORS * step)) * panels * max(2 * step, FILTERS)
    outputs = g.size // filters
    parts = max(1, min(plan.chunks, UNITS, SUMS_ELEMENTS // size, outputs // OUTPUTS_PER_PART))
    slices = min(-(-UNITS // parts), -(-places.size // (VECTORS * step if whole else NARROW)))
    correlate_grad(
        threads_for(g.size * dw.size // filters),
        plan.chunks,
        ready(x, dtype),
        ready(g, dtype),
        np.empty(0, dtype) if mask is None else ready(mask, dtype),
        dw.reshape(-1),
        db,
        empty((parts, size), dtype),
        np.zeros((parts * slices, panels * 2 * step), dtype),
        slices,
        where.pix,
        places,
        at_vectors,
        where.record,
        by,
        depthwise or None,
    )
    return dw, db


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
    """``(dx, dw, db)`` of :func:`conv_bias_act`, each None unless ``needs`` asks for it; y is its
    output.
    """
    mask = y if activation == "relu" else None
    if all(needs) and _is_product(x.shape, w.shape, strides, padding, groups, y.dtype):
        return _product_grads(x, g, mask, w, False)[:3]
    by_winograd = winograd.fits(w.shape, strides, dilation, groups, np.result_type(x, w))
    if all(needs) and by_winograd and g.size and winograd_grad.can_do_both(padding):
        return _winograd_grads(x, g, mask, w, padding)
    how = (strides, padding, dilation, groups)
    dx = _input_grad(g, mask, w, x.shape, *how) if needs[0] else None
    dw, db = _kernel_grad(x, g, mask, w.shape, *how) if needs[1] or needs[2] else (None, None)
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
    """``(dx, dw, db, dr)`` of :func:`conv_bias_add_act`, each None unless ``needs`` asks for it."""
    kinds = (x.shape, w.shape, how["strides"], how["padding"], how["groups"])
    if needs[0] and needs[3] and _is_product(*kinds, np.result_type(x, w)):
        return _product_grads(x, g, y if activation == "relu" else None, w, True)
    if activation == "relu" and needs[3]:  # what the masked g is needed for itself
        (g,) = relu_grad(g, y, y, needs=(True,))
        activation = "linear"
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
    """``(dx, dw, db)`` of :func:`conv_max_pool`, each None unless ``needs`` asks for it."""
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
    return _output_shape(x_shape, w_shape, how["strides"], how["padding"], how["dilation"])
