"""The kernel's gradient of a convolution whose window has few places: one to three channels.

    dw[k, f] = sum over p of x[at(p, k)] g[p, f]

All places k of the window (9 for a window of 3 x 3 and one channel, 27 for three) times one vector
of filters fit the registers: g, masked with ReLU's derivative, is read from memory once and
multiplied with each of them.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from minitorch_ciml.kernels.cpu import vector
from minitorch_ciml.kernels.cpu.buffers import empty
from minitorch_ciml.kernels.cpu.correlate import workspace
from minitorch_ciml.kernels.cpu.geometry import as_record
from minitorch_ciml.kernels.cpu.jit import entry, inlined, kernel, ready
from minitorch_ciml.kernels.cpu.loads import clear, copy, load, load_as_many, store
from minitorch_ciml.kernels.cpu.simd import add, keep_positive, lanes, window_fma
from minitorch_ciml.kernels.cpu.threads import task
from minitorch_ciml.kernels.reference.conv import Ints, Pads

Array = np.ndarray

# Sums in registers, beside g, its mask and the sum for the bias.
PLACES = vector.REGISTERS - 5
# Work units, each with sums of its own: as many for any number of threads.
UNITS = 32


class Plan(NamedTuple):
    """The integers that the kernel needs; steps count elements."""

    images: int
    height: int
    line: int  # elements of a line of x
    above: int  # lines of zeros
    left: int  # zeros
    framed_height: int  # with zeros around
    framed_line: int
    rows: int
    columns: int
    row_step: int  # lines
    step: int
    filters: int


@kernel
def _frame(x, plan, image, slab):
    """The image with zeros around: an array, and where it starts in it."""
    at = image * plan.height * plan.line
    if plan.framed_height == plan.height and plan.framed_line == plan.line:
        return x, at
    clear(slab, 0, plan.framed_height * plan.framed_line)
    inside = min(plan.line, plan.framed_line - plan.left)
    for h in range(min(plan.height, plan.framed_height - plan.above)):
        to = (h + plan.above) * plan.framed_line + plan.left
        copy(slab, to, x, at + h * plan.line, inside)
    return slab, 0


@inlined
def _add_row(x, at, g, mask, g_at, plan, tall, window, sums, to, bias, f):
    """Adds one row's part of the sums for one vector of filters."""
    acc, total = load_as_many(sums, to, window), load(bias, f, 1)
    for _ in range(plan.columns):
        here = load(g, g_at, 1)
        if mask.size > 0:
            here = keep_positive(here, load(mask, g_at, 1))
        total = add(total, here)
        acc = window_fma(acc, x, at, plan.framed_line, tall, here)
        at += plan.step
        g_at += plan.filters
    store(sums, to, acc)
    store(bias, f, total)


@task
def _unit(unit, x, g, mask, sums, bias_sums, plans, tall, window):
    plan, units = plans[0], sums.shape[0]
    total, bias = sums[unit], bias_sums[unit]
    clear(total, 0, total.size)
    clear(bias, 0, bias.size)
    slab = workspace(plan.framed_height * plan.framed_line, g)
    first, last = unit * plan.images // units, (unit + 1) * plan.images // units
    g_at = first * plan.rows * plan.columns * plan.filters
    for image in range(first, last):
        source, at = _frame(x, plan, image, slab)
        for _ in range(plan.rows):
            for f in range(0, plan.filters, lanes(g)):
                to = f * len(window)
                _add_row(source, at, g, mask, g_at + f, plan, tall, window, total, to, bias, f)
            at += plan.row_step * plan.framed_line
            g_at += plan.columns * plan.filters


@entry
def _correlate(most, x, g, mask, dw, db, sums, bias_sums, plans, tall, window):
    """`tall` and `window` are tuples as long as the window has lines and places (channels
    included), for which it is compiled."""
    _unit(sums.shape[0], most, (x, g, mask, sums, bias_sums, plans, tall, window))
    step, filters = lanes(g), plans[0].filters
    places = len(window)
    for f in range(0, filters, step):
        total = load(bias_sums[0], f, 1)
        for unit in range(1, sums.shape[0]):
            total = add(total, load(bias_sums[unit], f, 1))
        store(db, f, total)
        for place in range(places):
            at = (f // step * places + place) * step
            total = load(sums[0], at, 1)
            for unit in range(1, sums.shape[0]):
                total = add(total, load(sums[unit], at, 1))
            store(dw, place * filters + f, total)


def fits(kernel_shape: Ints, dilation: Ints, groups: int, dtype: np.dtype) -> bool:
    """Whether a convolution with such a kernel is done like this."""
    *window, channels, filters = kernel_shape
    return (
        len(window) == 2
        and max(*dilation, groups) == 1
        and 0 < window[0] * window[1] * channels <= PLACES
        and filters % vector.lanes_of(dtype) == 0
    )


@lru_cache(maxsize=1024)
def _plan(x_shape: Ints, g_shape: Ints, window: Ints, strides: Ints, padding: Pads) -> Array:
    images, height, width, channels = x_shape
    _, rows, columns, filters = g_shape
    (above, below), (left, right) = padding
    plan = Plan(
        images, height, width * channels, above, left * channels,
        height + above + below, (width + left + right) * channels,
        rows, columns, strides[0], strides[1] * channels, filters,
    )  # fmt: skip
    return as_record(plan)


def correlate(
    most: int,
    x: Array,
    g: Array,
    mask: Array,
    strides: Ints,
    padding: Pads,
    dw: Array,
    db: Array,
) -> None:
    """Writes the gradients of the kernel and of the bias; mask is y, flat, or empty."""
    tall, width, channels, filters = dw.shape
    units = max(1, min(UNITS, x.shape[0]))
    sums, bias_sums = empty((units, dw.size), dw.dtype), empty((units, filters), dw.dtype)
    plan = _plan(x.shape, g.shape, (tall, width), strides, padding)
    _correlate(
        most, ready(x, dw.dtype), ready(g, dw.dtype), mask, dw.reshape(-1), db, sums, bias_sums,
        plan, (0,) * tall, (0,) * (tall * width * channels),
    )  # fmt: skip
