"""The kernel's gradient of a convolution: which kernel computes it, and who adds up what.

    dw[k, f] = sum over p of x[at(p, k)] g[p, f],    db[f] = sum over p of g[p, f]

g counts only where `mask`, if there is one, is > 0.
"""

from __future__ import annotations

import numpy as np

from minitorch_ciml.kernels.cpu import correlate_few_grad, pointwise_grad, winograd_grad
from minitorch_ciml.kernels.cpu.buffers import empty
from minitorch_ciml.kernels.cpu.conv_plan import Convolution, convolution
from minitorch_ciml.kernels.cpu.correlate import NARROW
from minitorch_ciml.kernels.cpu.correlate_grad import FILTERS, VECTORS, correlate_grad
from minitorch_ciml.kernels.cpu.jit import ready, ready_or_empty
from minitorch_ciml.kernels.cpu.threads import threads_for
from minitorch_ciml.kernels.cpu.vector import lanes_of

# Work units: their number depends on the shapes only, never on the threads, so that any number of
# threads gives the same sums to the last bit. Each part of the batch has sums of its own, which
# must be worth their addition.
UNITS = 32
OUTPUTS_PER_PART = 1024
SUMS_ELEMENTS = 1 << 22


def kernel_grad(
    kind: Convolution, x: np.ndarray, g: np.ndarray, mask: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """`(dw, db)`: x `(N, *S, C)`, g and mask `(N, *O, F)` -> dw `(*K, C // groups, F)`, db
    `(F,)`.
    """
    filters, dtype = kind.w_shape[-1], kind.dtype
    if kind.depthwise and filters > kind.groups:
        x = np.repeat(x, filters // kind.groups, axis=-1)
        how = (kind.strides, kind.padding, kind.dilation)
        kind = convolution(x.shape, kind.w_shape, *how, filters, dtype)
    if g.size == 0:
        return np.zeros(kind.w_shape, dtype), np.zeros(filters, dtype)
    if kind.by_places:
        return _of_product(kind, x, g, mask)
    if _is_one(kind):
        return _of_one(kind, x, g, mask)
    dw, db = np.zeros(kind.w_shape, dtype), np.zeros(filters, dtype)
    most, flat_mask = threads_for(kind.operations), ready_or_empty(mask, dtype)
    if kind.by_winograd:
        winograd_grad.gradients(most, x, g, flat_mask, kind.padding, dw, db)
    elif correlate_few_grad.fits(kind.w_shape, kind.dilation, kind.groups, dtype):
        correlate_few_grad.correlate(most, x, g, flat_mask, kind.strides, kind.padding, dw, db)
    else:
        _in_tiles(kind, most, x, g, flat_mask, dw, db)
    return dw, db


def _is_one(kind: Convolution) -> bool:
    """Whether there is one filter only, of many channels, whose window always meets the input."""
    reach = tuple(size - 1 for size in kind.w_shape[:-2])
    inside = all(max(pads) <= last for pads, last in zip(kind.padding, reach))
    plain = max(*kind.strides, *kind.dilation, kind.groups) == 1
    many = kind.x_shape[-1] >= lanes_of(kind.dtype)
    return kind.w_shape[-1] == 1 and many and plain and inside


def _of_product(
    kind: Convolution, x: np.ndarray, g: np.ndarray, mask: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """`kernel_grad` of a 1 x 1 convolution: `dw = x^T g`, with x at the places that were met."""
    channels, filters = kind.w_shape[-2:]
    met = x[(slice(None), *(slice(None, None, step) for step in kind.strides))]
    dw, db = pointwise_grad.product_grad(
        threads_for(kind.operations),
        ready(met, kind.dtype).reshape(-1, channels),
        ready(g, kind.dtype).reshape(-1, filters),
        ready_or_empty(mask, kind.dtype),
    )
    return dw.reshape(kind.w_shape), db


def _of_one(
    kind: Convolution, x: np.ndarray, g: np.ndarray, mask: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """`kernel_grad` of one filter: x and g change places, so that vectors run along the channels.

    dw[k, c] = sum over p of x[p + k - before, c] g[p] is the gradient of a convolution of g whose
    result has x's shape; its window is flipped.
    """
    if mask is not None:
        g = np.where(mask > 0, g, g.dtype.type(0))
    window, ones = kind.w_shape[:-2], (1,) * len(kind.padding)
    padding = tuple((k - 1 - a, k - 1 - b) for k, (a, b) in zip(window, kind.padding))
    turned = (*window, 1, kind.w_shape[-2])
    dw, _ = kernel_grad(
        convolution(g.shape, turned, ones, padding, ones, 1, kind.dtype), g, x, None
    )
    dw = np.flip(dw, tuple(range(len(window)))).reshape(kind.w_shape)
    return np.ascontiguousarray(dw), g.sum(dtype=dw.dtype).reshape(1)


def _in_tiles(
    kind: Convolution,
    most: int,
    x: np.ndarray,
    g: np.ndarray,
    mask: np.ndarray,
    dw: np.ndarray,
    db: np.ndarray,
) -> None:
    """Fills dw and db with the kernel that does everything: tiles of places by filters."""
    dtype, filters = dw.dtype, dw.shape[-1]
    where, depthwise, groups = kind.window, kind.depthwise, kind.groups
    plan = where.plan
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
        mask,
        dw.reshape(-1),
        db,
        empty((parts, size), dtype),
        np.zeros((parts * slices, panels * 2 * step), dtype),
        slices,
        where.pix,
        places,
        at_vectors,
        where.record,
        kind.forward_weights,
        depthwise or None,
    )
