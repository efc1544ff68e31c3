"""The kernel's gradient of a convolution: which kernel computes it, and who adds up what.

    dw[k, f] = sum over p of x[at(p, k)] g[p, f],    db[f] = sum over p of g[p, f]

g counts only where `mask`, if there is one, is > 0.
"""

from __future__ import annotations

import numpy as np

from minitorch_ciml.kernels.cpu import correlate_few, pointwise, winograd, winograd_grad
from minitorch_ciml.kernels.cpu.buffers import empty
from minitorch_ciml.kernels.cpu.conv_plan import (
    forward_weights,
    forward_window,
    is_depthwise,
)
from minitorch_ciml.kernels.cpu.correlate import NARROW
from minitorch_ciml.kernels.cpu.correlate_grad import FILTERS, VECTORS, correlate_grad
from minitorch_ciml.kernels.cpu.jit import ready, ready_or_empty
from minitorch_ciml.kernels.cpu.threads import threads_for
from minitorch_ciml.kernels.cpu.vector import lanes_of
from minitorch_ciml.kernels.reference.conv import Ints, Pads

# Work units: their number depends on the shapes only, never on the threads, so that any number of
# threads gives the same sums to the last bit. Each part of the batch has sums of its own, which
# must be worth their addition.
UNITS = 32
OUTPUTS_PER_PART = 1024
SUMS_ELEMENTS = 1 << 22


def kernel_grad(
    x: np.ndarray,
    g: np.ndarray,
    mask: np.ndarray | None,
    kernel_shape: Ints,
    strides: Ints,
    padding: Pads,
    dilation: Ints,
    groups: int,
) -> tuple[np.ndarray, np.ndarray]:
    """`(dw, db)`: x `(N, *S, C)`, g and mask `(N, *O, F)` -> dw `(*K, C // groups, F)`, db
    `(F,)`.
    """
    dtype = np.result_type(x, g)
    filters = kernel_shape[-1]
    depthwise = is_depthwise(x.shape[-1], groups)
    if depthwise and filters > groups:
        x, groups = np.repeat(x, filters // groups, axis=-1), filters
    kernel_shape = tuple(kernel_shape)
    dw, db = np.zeros(kernel_shape, dtype), np.zeros(filters, dtype)
    if g.size == 0:
        return dw, db
    one_place = max(*kernel_shape[:-2], groups) == 1 and not any(map(any, padding))
    if one_place and pointwise.fits(x.shape[-1], filters, dtype):
        return _of_product(x, g, mask, kernel_shape, strides)
    most = threads_for(g.size * dw.size // filters * (4 if depthwise else 1))
    if winograd.fits(kernel_shape, strides, dilation, groups, dtype):
        winograd_grad.gradients(most, x, g, ready_or_empty(mask, dtype), padding, dw, db)
    elif correlate_few.fits(kernel_shape, dilation, groups, dtype):
        correlate_few.correlate_few(
            most, x, g, ready_or_empty(mask, dtype), strides, padding, dw, db
        )
    elif _is_one(x.shape[-1], kernel_shape, strides, padding, dilation, groups, lanes_of(dtype)):
        return _of_one(x, g, mask, kernel_shape, padding)
    else:
        _in_tiles(most, x, g, mask, strides, padding, dilation, groups, depthwise, dw, db)
    return dw, db


def _is_one(
    channels: int, kernel_shape: Ints, strides: Ints, padding: Pads, dilation: Ints, groups: int,
    step: int,
) -> bool:  # fmt: skip
    """Whether there is one filter only, of many channels, whose window always meets the input."""
    reach = tuple(size - 1 for size in kernel_shape[:-2])
    inside = all(max(pads) <= last for pads, last in zip(padding, reach))
    plain = max(*strides, *dilation, groups) == 1
    return kernel_shape[-1] == 1 and channels >= step and plain and inside


def _of_product(
    x: np.ndarray, g: np.ndarray, mask: np.ndarray | None, kernel_shape: Ints, strides: Ints
) -> tuple[np.ndarray, np.ndarray]:
    """`kernel_grad` of a 1 x 1 convolution: `dw = x^T g`, with x at the places that were met."""
    dtype = np.result_type(x, g)
    channels, filters = kernel_shape[-2:]
    met = x[(slice(None), *(slice(None, None, step) for step in strides))]
    dw, db = pointwise.product_grad(
        threads_for(g.size * channels),
        ready(met, dtype).reshape(-1, channels),
        ready(g, dtype).reshape(-1, filters),
        ready_or_empty(mask, dtype),
    )
    return dw.reshape(kernel_shape), db


def _of_one(
    x: np.ndarray, g: np.ndarray, mask: np.ndarray | None, kernel_shape: Ints, padding: Pads
) -> tuple[np.ndarray, np.ndarray]:
    """`kernel_grad` of one filter: x and g change places, so that vectors run along the channels.

    dw[k, c] = sum over p of x[p + k - before, c] g[p] is the gradient of a convolution of g whose
    result has x's shape; its window is flipped.
    """
    if mask is not None:
        g = np.where(mask > 0, g, g.dtype.type(0))
    window, ones = kernel_shape[:-2], (1,) * len(padding)
    padding = tuple((k - 1 - before, k - 1 - after) for k, (before, after) in zip(window, padding))
    turned = (*window, 1, kernel_shape[-2])
    dw, _ = kernel_grad(g, x, None, turned, ones, padding, ones, 1)
    dw = np.flip(dw, tuple(range(len(window)))).reshape(kernel_shape)
    return np.ascontiguousarray(dw), g.sum(dtype=dw.dtype).reshape(1)


def _in_tiles(
    most: int,
    x: np.ndarray,
    g: np.ndarray,
    mask: np.ndarray | None,
    strides: Ints,
    padding: Pads,
    dilation: Ints,
    groups: int,
    depthwise: bool,
    dw: np.ndarray,
    db: np.ndarray,
) -> None:
    """Fills dw and db with the kernel that does everything: tiles of places by filters."""
    dtype, filters = dw.dtype, dw.shape[-1]
    where = forward_window(x.shape, dw.shape, strides, padding, dilation, groups)
    plan = where.plan
    by = forward_weights(dw.shape, groups, depthwise)
    places = (where.taps[:, None] + np.arange(plan.run)).ravel()
    step = lanes_of(dtype)
    whole = plan.run % step == 0 and filters // groups <= step and not depthwise
    at_vectors = places[::step].copy() if whole else places[:0]
    panels = -(-filters // step) if depthwise else groups * -(-(filters // groups) // (2 * step))
    size = (places.size + max(NARROW, VECTORS * step)) * panels * max(2 * step, FILTERS)
    outputs = g.size // filters
    parts = max(1, min(plan.chunks, UNITS, SUMS_ELEMENTS // size, outputs // OUTPUTS_PER_PART))
    slices = min(-(-UNITS // parts), -(-places.size // (VECTORS * step if whole else NARROW)))
    correlate_grad(
        most,
        plan.chunks,
        ready(x, dtype),
        ready(g, dtype),
        ready_or_empty(mask, dtype),
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
