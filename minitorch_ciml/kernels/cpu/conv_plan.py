"""Which outputs of a convolution are computed together, and where what they need lies: its plans.

Made once for each combination of shapes, strides and the like, and kept.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from itertools import product

import numpy as np

from minitorch_ciml.kernels.cpu.correlate import Weights
from minitorch_ciml.kernels.cpu.correlate_rows import RowPlan, fits, row_plan
from minitorch_ciml.kernels.cpu.geometry import (
    Window,
    as_record,
    as_three,
    backward_axes,
    forward_axis,
    tap_order,
    window,
)
from minitorch_ciml.kernels.reference.conv import Ints, Pads, output_size

Plan = Window | RowPlan  # how a correlation is done


def output_shape(
    x_shape: Ints, w_shape: Ints, strides: Ints, padding: Pads, dilation: Ints
) -> Ints:
    """`(N, *O, F)` of y = x * w."""
    sizes = zip(x_shape[1:-1], w_shape[:-2], strides, padding, dilation, strict=True)
    return (x_shape[0], *(output_size(s, k, st, p, d) for s, k, st, p, d in sizes), w_shape[-1])


def is_depthwise(x_channels: int, groups: int) -> bool:
    """Whether every channel is convolved for itself, so that vectors run along the channels."""
    return groups == x_channels > 1


def _axes(
    make: Callable, spatial: Ints, window: Ints, strides: Ints, padding: Pads, dilation: Ints
):
    """One result of `make` for depth, height and width each."""
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
def forward_window(
    x_shape: Ints, w_shape: Ints, strides: Ints, padding: Pads, dilation: Ints, groups: int
) -> Window:
    """The plan that fits every convolution."""
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
def forward_rows(
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
def backward_plans(
    x_shape: Ints,
    w_shape: Ints,
    strides: Ints,
    padding: Pads,
    dilation: Ints,
    groups: int,
    masked: bool,
    step: int,
) -> list[Plan]:
    """The plans of the input gradient: one for each phase of the strides."""
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


@lru_cache(maxsize=1024)
def forward_weights(w_shape: Ints, groups: int, depthwise: bool) -> np.ndarray:
    """Where the weights lie that the outputs are summed with."""
    inputs, filters = w_shape[-2:]
    if depthwise:
        return as_record(Weights(1, 1, filters, 0, filters, 0, 1, True))
    kept = filters // groups
    by = Weights(groups, inputs, kept, kept, inputs * filters, filters, 1, False)
    return as_record(by)


@lru_cache(maxsize=1024)
def backward_weights(w_shape: Ints, groups: int, depthwise: bool) -> np.ndarray:
    """Where the same weights lie for the input gradient, which sums over the filters."""
    inputs, filters = w_shape[-2:]
    if depthwise:
        return as_record(Weights(1, 1, filters, 0, filters, 0, 1, True))
    summed = filters // groups
    by = Weights(groups, summed, inputs, summed, inputs * filters, 1, filters, False)
    return as_record(by)
