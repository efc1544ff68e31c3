"""The gradients of a convolution of every channel for itself, in one pass.

    dx[i, c] = sum over k of g[o(i, k), c] w[k, c]
    dw[k, c] = sum over i of x[i, c] g[o(i, k), c]

where o(i, k) is the place whose window sees i with its tap k. Both sums run over the same g: a
place i of x reads it once for both. Vectors run along the channels. The lines of g are first
copied into a *frame*, spread by the strides and with zeros around, where g[o(i, k)] for the taps k
of one line of the window are neighbours, whatever the strides and the padding are.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from minitorch_ciml.kernels.cpu import vector
from minitorch_ciml.kernels.cpu.buffers import empty
from minitorch_ciml.kernels.cpu.correlate import workspace
from minitorch_ciml.kernels.cpu.geometry import as_record
from minitorch_ciml.kernels.cpu.jit import common_dtype, entry, inlined, kernel, ready
from minitorch_ciml.kernels.cpu.loads import clear, load, load_as_many, load_row, store
from minitorch_ciml.kernels.cpu.simd import add, dot_fma, full, keep_positive, lanes, scaled_fma
from minitorch_ciml.kernels.cpu.threads import task
from minitorch_ciml.kernels.reference.conv import Ints, Pads

Array = np.ndarray

# Places of a window's line: their sums, weights and gradients fit the registers.
PLACES = (vector.REGISTERS - 4) // 3
# Work units, each with sums of its own: as many for any number of threads.
UNITS = 32


class Plan(NamedTuple):
    """The integers that the kernel needs; steps count elements."""

    images: int
    height: int  # of x
    width: int
    channels: int
    above: int  # lines of zeros
    left: int  # zeros
    tall: int  # the window
    broad: int
    down: int  # the strides
    right: int
    rows: int  # of g
    columns: int
    parts: int  # of the images, each with sums of its own
    slices: int  # of the channels


@kernel
def _fill_frame(frame, g, mask, plan, image, first, channels):
    """Copies some channels of an image of g into the frame, whose zeros are there already."""
    line = (plan.width + plan.broad - 1) * channels
    for row in range(plan.rows):
        at = (image * plan.rows + row) * plan.columns * plan.channels + first
        to = row * line + (plan.broad - 1 - plan.left) * channels
        for _ in range(plan.columns):
            for c in range(0, channels, lanes(g)):
                here = load(g, at + c, 1)
                if mask.size > 0:
                    here = keep_positive(here, load(mask, at + c, 1))
                store(frame, to + c, here)
            at += plan.channels
            to += plan.right * channels


@inlined
def _along_line(x, at, step, frame, g_at, channels, columns, w, sums, k, dx, more, window):
    """What one line of the window gives to one line of x, for one vector of channels."""
    acc, weights = load_as_many(sums, k, window), load_as_many(w, k, window)
    for _ in range(columns):
        seen = load_row(frame, g_at, channels, window)
        acc = scaled_fma(acc, seen, load(x, at, 1))
        before = load(dx, at, 1) if more else full(dx, 0, 1)
        store(dx, at, dot_fma(before, seen, weights))
        at += step
        g_at += channels
    store(sums, k, acc)


@kernel
def _add_image(x, frame, w, sums, dx, plan, image, first, channels, window):
    """Adds an image's part of dw, and writes its dx, for some channels."""
    step, line = lanes(x), (plan.width + plan.broad - 1) * channels
    for h in range(plan.height):
        at = ((image * plan.height + h) * plan.width) * plan.channels + first
        more = False
        for k in range(plan.tall):
            row = h + plan.above - k
            if row % plan.down != 0 or not 0 <= row // plan.down < plan.rows:
                continue
            for c in range(0, channels, step):
                taps = ((first + c) * plan.tall // step + k) * plan.broad
                _along_line(
                    x, at + c, plan.channels, frame, row // plan.down * line + c, channels,
                    plan.width, w, sums, taps * step, dx, more, window,
                )  # fmt: skip
            more = True
        if not more:
            for _ in range(plan.width):
                clear(dx, at, channels)
                at += plan.channels


@kernel
def _add_bias(frame, bias, first, channels, places):
    for c in range(0, channels, lanes(frame)):
        total = load(bias, first + c, 1)
        for place in range(places):
            total = add(total, load(frame, place * channels + c, 1))
        store(bias, first + c, total)


@task
def _unit(unit, x, g, mask, w, sums, bias_sums, dx, plans, window):
    plan = plans[0]
    part, which = unit // plan.slices, unit % plan.slices
    vectors = plan.channels // lanes(x)
    first = which * vectors // plan.slices * lanes(x)
    channels = (which + 1) * vectors // plan.slices * lanes(x) - first
    places = plan.rows * (plan.width + plan.broad - 1)
    frame = workspace(places * channels, x)
    clear(frame, 0, places * channels)
    total, bias = sums[part], bias_sums[part]
    clear(total, first * plan.tall * plan.broad, channels * plan.tall * plan.broad)
    clear(bias, first, channels)
    for image in range(part * plan.images // plan.parts, (part + 1) * plan.images // plan.parts):
        _fill_frame(frame, g, mask, plan, image, first, channels)
        _add_image(x, frame, w, total, dx, plan, image, first, channels, window)
        _add_bias(frame, bias, first, channels, places)


@kernel
def _turn(taps, by_taps, plan, to_taps):
    """Between (tall, broad, C) and vectors of channels, whose lines of the window are reversed."""
    step, places = lanes(taps), plan.tall * plan.broad
    for c in range(0, plan.channels, step):
        for k in range(places):
            turned = k // plan.broad * plan.broad + plan.broad - 1 - k % plan.broad
            inside, outside = c * places + turned * step, k * plan.channels + c
            if to_taps:
                store(taps, outside, load(by_taps, inside, 1))
            else:
                store(by_taps, inside, load(taps, outside, 1))


@entry
def _gradients(most, x, g, mask, w, turned, sums, bias_sums, dw, db, dx, plans, window):
    """`window` is a tuple as long as the window is broad, for which it is compiled."""
    plan, step = plans[0], lanes(x)
    _turn(w, turned, plan, False)
    work = (x, g, mask, turned, sums, bias_sums, dx, plans, window)
    _unit(plan.parts * plan.slices, most, work)
    total, bias = sums[0], bias_sums[0]
    for part in range(1, plan.parts):
        for i in range(0, total.size, step):
            store(total, i, add(load(total, i, 1), load(sums[part], i, 1)))
        for i in range(0, bias.size, step):
            store(bias, i, add(load(bias, i, 1), load(bias_sums[part], i, 1)))
    _turn(dw, total, plan, True)
    for i in range(0, bias.size, step):
        store(db, i, load(bias, i, 1))


def fits(
    x_shape: Ints, w_shape: Ints, strides: Ints, padding: Pads, dilation: Ints, groups: int,
    dtype: np.dtype,
) -> bool:  # fmt: skip
    """Whether the gradients of a convolution are computed like this."""
    return (
        len(w_shape) in (3, 4)
        and groups == x_shape[-1] == w_shape[-1]
        and groups % vector.lanes_of(dtype) == 0
        and w_shape[-3] <= PLACES
        and max(dilation) == 1
        and all(max(pads) < size for pads, size in zip(padding, w_shape))
        and 0 not in x_shape
    )


@lru_cache(maxsize=1024)
def _plan(x_shape: Ints, g_shape: Ints, w_shape: Ints, strides: Ints, padding: Pads) -> Array:
    images, *size, channels = x_shape
    missing = (1,) * (2 - len(size))  # along one axis: images of one line
    height, width = (*missing, *size)
    tall, broad = (*missing, *w_shape[:-2])
    (above, _), (left, _) = ((0, 0),) * len(missing) + padding
    down, right = (*missing, *strides)
    rows, columns = (*missing, *g_shape[1:-1])
    parts = min(images, UNITS)
    slices = max(1, min(channels // 64, UNITS // parts))
    plan = Plan(
        images, height, width, channels, above, left, tall, broad, down, right, rows, columns,
        parts, slices,
    )  # fmt: skip
    return as_record(plan)


def gradients(
    most: int, x: Array, g: Array, mask: Array, w: Array, strides: Ints, padding: Pads
) -> tuple[Array, Array, Array]:
    """`(dx, dw, db)`; mask is y, flat, or empty."""
    dtype, channels = common_dtype(x, w), w.shape[-1]
    plans = _plan(x.shape, g.shape, w.shape, strides, padding)
    parts = min(x.shape[0], UNITS)
    dx, dw, db = empty(x.shape, dtype), np.empty(w.shape, dtype), np.empty(channels, dtype)
    turned, sums = empty((w.size,), dtype), empty((parts, w.size), dtype)
    bias_sums = empty((parts, channels), dtype)
    _gradients(
        most, ready(x, dtype), ready(g, dtype), mask, ready(w, dtype), turned, sums, bias_sums,
        dw.reshape(-1), db, dx.reshape(-1), plans, (0,) * w.shape[-3],
    )  # fmt: skip
    return dx, dw, db
