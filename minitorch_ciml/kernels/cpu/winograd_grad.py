"""Both gradients of a 3 x 3 convolution by Winograd's method (see `winograd`), in one pass.

With dy = g where ReLU's derivative is 1, for a chunk of rows of blocks:

    dx = A' [ (G w G') * (B' dy B) ] A          a convolution with the flipped kernel
    dw = G' [ (A dy A') * (B' x B) ] G          summed over all blocks of the batch
    db = the sum of dy

dy is made once for all three, in a frame of zeros that stays in the second-level cache, from g and
what it is masked with: the result of the convolution, or where pooling found its maxima.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from minitorch_ciml.kernels.cpu.buffers import empty
from minitorch_ciml.kernels.cpu.correlate import round_up, workspace
from minitorch_ciml.kernels.cpu.jit import entry, kernel, ready
from minitorch_ciml.kernels.cpu.loads import clear, load, load_grid, store, store_parts, store_rows
from minitorch_ciml.kernels.cpu.simd import add, full, outer_fma, transposed
from minitorch_ciml.kernels.cpu.threads import task
from minitorch_ciml.kernels.cpu.winograd import (
    LANES,
    NOWHERE,
    POSITIONS,
    REACH,
    SIZE,
    TILE,
    Plan,
    even_odd_a,
    even_odd_gt,
    filter_rows,
    frame,
    gather_columns,
    half_step,
    pairs,
    plan_of,
    position_step,
    rows_between,
    rows_per_chunk,
    spread_columns,
    spread_pixels,
    spread_rows,
    spread_weights,
    whole_vectors,
)
from minitorch_ciml.kernels.reference.conv import Ints, Pads

Array = np.ndarray

_CHANNELS = tuple(range(LANES))
# Work units, each with sums of its own: as many for any number of threads. Sums of many channels
# are large, so there are fewer of them.
UNITS = 32
FEWEST_UNITS = 4
SUMS_ELEMENTS = 1 << 22


@kernel
def _spread_gradient_columns(g, start, line, rows, columns, filters, half, to, all_rows, bias_sums):
    """A dy for some of `all_rows` rows of blocks, and the sum of dy."""
    pixels, pitch = SIZE * columns, round_up(filters, LANES)
    step = position_step(all_rows, pixels * pitch)
    for _ in range(rows):
        for c in range(0, pitch, LANES):
            at, place = start + c, to + c * all_rows * pixels
            total = load(bias_sums, c, 1)
            for _ in range(pixels):
                values = load_grid(g, at, line, SIZE, 0, 1)
                both = add(values[:2], values[2:])
                total = add(total, add(both[:1], both[1:]))
                store_rows(half, place, step, pairs(even_odd_a(values)))
                at += pitch
                place += LANES
            store(bias_sums, c, total)
        to += pixels * LANES
        start += SIZE * line
    return to


@kernel
def _spread_gradient_rows(half, row, rows, columns, filters, spread):
    """(A dy) A' for one row of positions."""
    at = row * position_step(rows, SIZE * columns * round_up(filters, LANES))
    blocks = rows * columns
    step = position_step(blocks, filters)
    for c in range(0, filters, LANES):
        place = c * max(blocks, TILE)
        for _ in range(blocks):
            store_rows(spread, place, step, pairs(even_odd_a(load(half, at, SIZE))))
            at += SIZE * LANES
            place += LANES


@kernel
def _add_products(x, g, blocks, channels, filters, sums, to, fresh):
    """At every position of a row: (channels x blocks) times (blocks x filters), added to the sums,
    which are stored as (position, vector of channels, vector of filters, LANES, LANES); the first
    time they are not there yet."""
    x_step, g_step = position_step(blocks, channels), position_step(blocks, filters)
    stored = max(blocks, TILE)
    for position in range(REACH):
        for c in range(0, channels, LANES):
            for f in range(0, filters, LANES):
                acc = full(sums, 0, LANES) if fresh else load(sums, to, LANES)
                x_at, g_at = position * x_step + c * stored, position * g_step + f * stored
                for _ in range(blocks):
                    acc = outer_fma(acc, x, _CHANNELS, x_at, load(g, g_at, 1))
                    x_at += LANES
                    g_at += LANES
                store(sums, to, acc)
                to += LANES * LANES


@kernel
def _spread_gradients(g, mask, places, plan, back, first, last, g_half, dy_half, bias_sums):
    """B' dy for the gradient of the input, where that is wanted, and A dy for the kernel's."""
    columns = max(SIZE * back.columns + 2, back.left + SIZE * plan.columns)
    pitch = round_up(plan.filters, LANES)
    slab = workspace((SIZE * min(back.grid, last - first) + 2) * columns * pitch, g)
    g_rows, dy_rows = rows_between(back, first, last), rows_between(plan, first, last)
    g_to = dy_to = 0
    while first < last:
        image, h = first // back.grid, first % back.grid
        rows = min(back.grid - h, last - first)
        dy, start, line = frame(
            g, mask, places, back, image, SIZE * h - back.above, SIZE * rows + 2, columns, slab
        )
        if g_half.size > 0:
            g_to = spread_columns(
                dy, start, line, min(back.rows - h, rows), back.columns, plan.filters, g_half,
                g_to, g_rows,
            )  # fmt: skip
        dy_to = _spread_gradient_columns(
            dy, start + back.above * line + back.left * pitch, line, min(plan.rows - h, rows),
            plan.columns, plan.filters, dy_half, dy_to, dy_rows, bias_sums,
        )  # fmt: skip
        first += rows


@task
def _unit(unit, x, g, mask, places, w, dx, sums, bias_sums, no_bias, plans, backs):
    plan, back = plans[0], backs[0]
    units = sums.shape[0]
    clear(bias_sums[unit], 0, bias_sums.shape[1])
    channels, filters = round_up(plan.channels, LANES), round_up(plan.filters, LANES)
    rows = min(plan.rows_per_chunk, plan.grid * plan.images)
    blocks = rows * max(plan.columns, back.columns)
    pixels = SIZE * max(plan.columns, back.columns) + 2
    wanted = dx.size > 0
    x_half = workspace(REACH * position_step(rows, pixels * channels), g)
    g_half = workspace(REACH * position_step(rows, pixels * filters) if wanted else 0, g)
    dy_half = workspace(REACH * position_step(rows, pixels * filters), g)
    dx_half = workspace(REACH * half_step(blocks, channels) if wanted else 0, g)
    at_channels = workspace(REACH * position_step(blocks, channels), g)
    at_filters = workspace(REACH * position_step(blocks, filters), g)
    slab = workspace((SIZE * min(plan.rows, rows) + 2) * pixels * channels, g)
    step = REACH * channels * filters
    first_chunk = unit * plan.chunks // units
    for chunk in range(first_chunk, (unit + 1) * plan.chunks // units):
        first = chunk * plan.rows_per_chunk
        last = min(first + plan.rows_per_chunk, plan.images * plan.grid)
        _spread_gradients(
            g, mask, places, plan, back, first, last, g_half, dy_half, bias_sums[unit]
        )
        if wanted:
            rows = rows_between(back, first, last)
            filter_rows(g_half, at_filters, w, at_channels, rows, back, dx_half)
            gather_columns(dx_half, back, first, last, no_bias, False, dx)
        spread_pixels(x, mask[:0], plan, first, last, slab, x_half)
        rows = rows_between(plan, first, last)
        for row in range(REACH):
            spread_rows(x_half, row, rows, plan.columns, plan.channels, at_channels)
            _spread_gradient_rows(dy_half, row, rows, plan.columns, plan.filters, at_filters)
            _add_products(
                at_channels, at_filters, rows * plan.columns, channels, filters, sums[unit],
                row * step, chunk == first_chunk,
            )  # fmt: skip


@task
def _gather_weights(pair, sums, dw, plans):
    """G' m G for a vector of channels and a vector of filters, m summed over the units."""
    plan = plans[0]
    vectors = round_up(plan.filters, LANES) // LANES
    c, f = pair // vectors * LANES, pair % vectors * LANES
    step = round_up(plan.channels, LANES) * vectors * LANES
    for q in range(min(LANES, plan.channels - c)):
        at = (pair * LANES + q) * LANES
        total = load_grid(sums[0], at, 0, 1, step, POSITIONS)
        for unit in range(1, sums.shape[0]):
            total = add(total, load_grid(sums[unit], at, 0, 1, step, POSITIONS))
        half = transposed(even_odd_gt(pairs(total)), REACH)
        taps = transposed(even_odd_gt(pairs(half)), 3)
        to, tap = (c + q) * plan.filters + f, plan.channels * plan.filters
        if f + LANES <= plan.filters:
            store_rows(dw, to, tap, taps)
        else:
            store_parts(dw, to, tap, taps, plan.filters - f)


@entry
def _gradients(
    most, x, g, mask, places, w, spread, dx, dw, db, sums, bias_sums, no_bias, plans, backs
):
    plan = plans[0]
    channels, filters = round_up(plan.channels, LANES), round_up(plan.filters, LANES)
    if dx.size > 0:
        spread_weights(filters, most, (w, filters, channels, spread))
    work = (x, g, mask, places, spread, dx, sums, bias_sums, no_bias, plans, backs)
    _unit(sums.shape[0], most, work)
    _gather_weights(channels * filters // LANES**2, most, (sums, dw, plans))
    for f in range(db.size):
        for unit in range(sums.shape[0]):
            db[f] += bias_sums[unit, f]


@lru_cache(maxsize=1024)
def _plans(x_shape: Ints, g_shape: Ints, padding: Pads, both: bool) -> tuple[Plan, Array, Array]:
    """The plans of the convolution and of its input's gradient, in chunks of the same rows."""
    images, sizes = x_shape[0], (x_shape[1:3], g_shape[1:3])
    (rows, columns), (g_rows, g_columns) = ([-(-n // SIZE) for n in size] for size in sizes)
    grid = max(rows, g_rows) if both else g_rows
    per_chunk = rows_per_chunk(
        images * grid, columns if both else g_columns, x_shape[3] + g_shape[3]
    )
    before = [pads[0] for pads in padding]
    plan, record = plan_of(x_shape, g_shape, *before, grid, per_chunk)
    before = [2 - pads for pads in before] if both else [0, 0]
    _, back = plan_of(g_shape, x_shape, *before, grid, per_chunk)
    return plan, record, back


def can_do_both(padding: Pads) -> bool:
    """Whether both gradients fit one pass."""
    return max(max(pads) for pads in padding) <= 2


def gradients(
    most: int,
    x: Array,
    g: Array,
    mask: Array,
    padding: Pads,
    dw: Array,
    db: Array,
    w: Array | None = None,
    dx: Array | None = None,
    places: Array | None = None,
) -> None:
    """The gradients of the kernel and (added to `db`) of the bias; and the input's, into dx, if
    the kernel w is given.

    g is masked with `mask > 0` unless that is empty. With `places` it is the gradient of the
    maxima that `winograd.correlate` found there.
    """
    out_shape = g.shape
    if places is not None:
        sizes = (n + sum(pads) - 2 for n, pads in zip(x.shape[1:3], padding))
        out_shape = (g.shape[0], *sizes, g.shape[3])
    plan, record, back = _plans(x.shape, out_shape, padding, dx is not None)
    channels, filters = (-(-size // LANES) * LANES for size in dw.shape[2:])
    size = POSITIONS * channels * filters
    units = min(UNITS, plan.chunks, max(FEWEST_UNITS, SUMS_ELEMENTS // size))
    sums, bias_sums = empty((units, size), dw.dtype), empty((units, filters), dw.dtype)
    nothing = mask[:0]
    flipped, spread, to = nothing, nothing, nothing
    if w is not None and dx is not None:
        flipped = whole_vectors(w[::-1, ::-1].swapaxes(2, 3)).reshape(-1)
        spread, to = empty((size,), dw.dtype), dx.reshape(-1)
    _gradients(
        most, ready(x, dw.dtype), ready(g, dw.dtype), mask,
        NOWHERE if places is None else places.reshape(-1), flipped, spread, to,
        dw.reshape(-1), db, sums, bias_sums, _no_bias(channels), record, back,
    )  # fmt: skip


@lru_cache(maxsize=64)
def _no_bias(channels: int) -> Array:
    return np.zeros(channels, np.float32)
