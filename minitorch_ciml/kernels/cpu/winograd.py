"""3 x 3 convolutions with 2.25 times fewer multiplications (S. Winograd, 1980; A. Lavin and S.
Gray, 2016).

A *block* of 2 x 2 results depends on 4 x 4 pixels.  Directly it takes 4 * 9 multiplications per
channel and filter, but 16 are enough if something else than the pixels x is multiplied with
something else than the weights w:

    block = A' [ (G w G') * (B' x B) ] A        * element by element, A' the transpose of A

with the small matrices below.  At each of these 16 *positions* the sum over the channels is a
matrix product, (blocks x channels) times (channels x filters).  There the time goes, and there all
numbers lie side by side in the order in which they are read.  The matrices consist of 0, 1 and 1/2,
so that rounding costs little.

The gradient of the input is such a convolution, too, with the flipped kernel; the kernel's is

    dw = G' [ (A dy A') * (B' x B) ] G          summed over all blocks of the batch

All of it is done in *chunks*, some rows of blocks whose numbers stay in the second-level cache.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from minitorch_ciml.kernels.cpu import simd
from minitorch_ciml.kernels.cpu.buffers import empty
from minitorch_ciml.kernels.cpu.correlate import copy_masked, round_up
from minitorch_ciml.kernels.cpu.geometry import as_record
from minitorch_ciml.kernels.cpu.jit import entry, inlined, kernel, ready
from minitorch_ciml.kernels.cpu.simd import (
    add,
    clear,
    full,
    load,
    load_grid,
    matrix,
    outer_fma,
    relu,
    store,
    store_parts,
    store_rows,
    tile,
    transposed,
)
from minitorch_ciml.kernels.cpu.threads import task
from minitorch_ciml.kernels.reference.conv import Ints, Pads

Array = np.ndarray

B = ((1, 0, 0, 0), (0, 1, -1, -1), (-1, 1, 1, 0), (0, 0, 0, 1))
G = ((1, 0, 0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0, 0, 1))
A = ((1, 0), (1, 1), (1, -1), (0, 1))

_times_a, _times_g = matrix(A), matrix(G)
_times_at, _times_bt, _times_gt = (matrix(tuple(zip(*m))) for m in (A, B, G))

# Only float32 is computed like this: float64 is there for checks.
LANES = simd.VECTOR_BITS // 32
# Blocks that are multiplied with one vector of filters at a time, their sums in registers.
TILE = 12
_BLOCKS = tuple(LANES * t for t in range(TILE))
_CHANNELS = tuple(range(LANES))
# Numbers of a chunk, at all positions: a quarter of a second-level cache of 1 MB.
CHUNK_ELEMENTS = 64 * 1024
CHUNKS = 64
# Work units of the kernel's gradient, each with sums of its own: as many for any number of threads.
UNITS = 32
SUMS_ELEMENTS = 1 << 20


class Plan(NamedTuple):
    """The integers that the kernels need; the source is what the 4 x 4 pixels are taken from."""

    images: int
    height: int
    width: int
    channels: int
    above: int  # zeros
    left: int
    rows: int  # of blocks, in an image
    columns: int
    out_height: int
    out_width: int
    filters: int
    rows_per_chunk: int
    chunks: int


@kernel
def _position(blocks, channels):
    """Elements from one position to the next; not a power of two, which would share cache lines."""
    return (round_up(channels, LANES) * max(blocks, TILE)) + LANES


# --- pixels and gradients at the 16 positions -----------------------------------------------------
#
# They are stored as (position, vector of channels, block, LANES).  Each of a position's matrices
# is transposed, which the last step undoes.


@inlined
def _lines(source, mask, height, width, channels, image, line, first, slab, lines, columns):
    """Lines of an image, from ``line`` and column ``first`` on, into the slab, zeros where there
    are no pixels; each pixel's channels are filled up to whole vectors.
    """
    pitch = round_up(channels, LANES)
    left = min(columns, max(0, -first))
    inside = max(0, min(width - first, columns) - left)
    to = 0
    for h in range(line, line + lines):
        if not 0 <= h < height:
            clear(slab, to, columns * pitch)
            to += columns * pitch
            continue
        at = ((image * height + h) * width + first + left) * channels
        clear(slab, to, left * pitch)
        to += left * pitch
        if pitch == channels:
            copy_masked(slab, to, source, at, inside * channels, mask)
            to += inside * pitch
        else:
            for _ in range(inside):
                copy_masked(slab, to, source, at, channels, mask)
                clear(slab, to + channels, pitch - channels)
                at += channels
                to += pitch
        clear(slab, to, (columns - left - inside) * pitch)
        to += (columns - left - inside) * pitch


@kernel
def _spread_pixels(x, mask, plan, first, last, slab, spread):
    """B' x B for the blocks of rows ``first`` to ``last``, counted through all images."""
    blocks, columns = (last - first) * plan.columns, 2 * plan.columns + 2
    pitch = round_up(plan.channels, LANES)
    step, line = _position(blocks, plan.channels), columns * pitch
    to = 0
    for row in range(first, last):
        image, h = row // plan.rows, 2 * (row % plan.rows) - plan.above
        _lines(
            x, mask, plan.height, plan.width, plan.channels, image, h, -plan.left, slab, 4, columns
        )
        for c in range(0, pitch, LANES):
            at, place = c, to + c * max(blocks, TILE)
            for _ in range(plan.columns):
                pixels = load_grid(slab, at, line, 4, pitch, 4)
                half = transposed(_times_bt(pixels), 4)
                store_rows(spread, place, step, _times_bt(half))
                at += 2 * pitch
                place += LANES
        to += plan.columns * LANES


@kernel
def _spread_gradients(g, mask, plan, first, last, slab, spread, bias_sums):
    """A g A', and the sum of g."""
    blocks, columns = (last - first) * plan.columns, 2 * plan.columns
    pitch = round_up(plan.filters, LANES)
    step, line = _position(blocks, plan.filters), columns * pitch
    to = 0
    for row in range(first, last):
        image, h = row // plan.rows, 2 * (row % plan.rows)
        _lines(
            g, mask, plan.out_height, plan.out_width, plan.filters, image, h, 0, slab, 2, columns
        )
        for c in range(0, pitch, LANES):
            at, place = c, to + c * max(blocks, TILE)
            total = load(bias_sums, c, 1)
            for _ in range(plan.columns):
                block = load_grid(slab, at, line, 2, pitch, 2)
                both = add(block[:2], block[2:])
                total = add(total, add(both[:1], both[1:]))
                half = transposed(_times_a(block), 2)
                store_rows(spread, place, step, _times_a(half))
                at += 2 * pitch
                place += LANES
            store(bias_sums, c, total)
        to += plan.columns * LANES


# --- forward, and the gradient of the input -------------------------------------------------------


@kernel
def _multiply(x, w, y, blocks, channels, filters):
    """At every position: (blocks x channels) times (channels x filters)."""
    x_step, y_step = _position(blocks, channels), _position(blocks, filters)
    blocks = max(blocks, TILE)
    k = 0
    for position in range(16):
        for f in range(0, filters, LANES):
            for t in range(0, blocks, TILE):
                start = LANES * min(t, blocks - TILE)
                acc = full(y, 0.0, TILE)
                weight = k
                for c in range(0, channels, LANES):
                    at = position * x_step + c * blocks + start
                    for q in range(LANES):
                        acc = outer_fma(acc, x, _BLOCKS, at + q, load(w, weight, 1))
                        weight += LANES
                store(y, position * y_step + f * blocks + start, acc)
            k += round_up(channels, LANES) * LANES


@inlined
def _store_pixels(y, to, plan, pixels, count, valid):
    """One line of a block: ``count`` pixels, of which ``valid`` channels belong to this vector."""
    if valid >= LANES and count == 2:
        store_rows(y, to, plan.filters, pixels)
    elif valid >= LANES:
        store(y, to, pixels[:1])
    else:
        store_parts(y, to, plan.filters, pixels[:1], valid)
        if count == 2:
            store_parts(y, to + plan.filters, plan.filters, pixels[1:], valid)


@kernel
def _gather(m, plan, first, last, bias, clip, y):
    """act(A' m A + bias) for the blocks of rows ``first`` to ``last``."""
    blocks = (last - first) * plan.columns
    step = _position(blocks, plan.filters)
    line = plan.out_width * plan.filters
    for f in range(0, plan.filters, LANES):
        at, valid, offset = f * max(blocks, TILE), plan.filters - f, tile(load(bias, f, 1), 4)
        for row in range(first, last):
            image, h = row // plan.rows, 2 * (row % plan.rows)
            to = (image * plan.out_height + h) * line + f
            for w in range(0, plan.out_width, 2):
                half = transposed(_times_at(load_grid(m, at, 0, 1, step, 16)), 4)
                block = add(_times_at(half), offset)
                if clip:
                    block = relu(block)
                count = min(2, plan.out_width - w)
                _store_pixels(y, to, plan, block[:2], count, valid)
                if h + 1 < plan.out_height:
                    _store_pixels(y, to + line, plan, block[2:], count, valid)
                at += LANES
                to += 2 * plan.filters


@task
def _chunk(chunk, source, mask, w, bias, clip, y, plans):
    plan = plans[0]
    first = chunk * plan.rows_per_chunk
    last = min(first + plan.rows_per_chunk, plan.images * plan.rows)
    blocks = (last - first) * plan.columns
    slab = np.empty(4 * (2 * plan.columns + 2) * round_up(plan.channels, LANES), source.dtype)
    x = np.empty(16 * _position(blocks, plan.channels), source.dtype)
    m = np.empty(16 * _position(blocks, plan.filters), source.dtype)
    if blocks < TILE:
        clear(x, 0, x.size)
    _spread_pixels(source, mask, plan, first, last, slab, x)
    _multiply(x, w, m, blocks, plan.channels, plan.filters)
    _gather(m, plan, first, last, bias, clip, y)


@task
def _spread_weights(c, w, channels, filters, spread):
    """G w G' of one channel: w (3, 3, channels, filters), both filled up to whole vectors."""
    tap, position = channels * filters, channels * filters
    for f in range(0, filters, LANES):
        half = transposed(_times_g(load_grid(w, c * filters + f, 0, 1, tap, 9)), 3)
        store_rows(spread, f * channels + c * LANES, position, _times_g(half))


@entry
def _correlate(most, source, mask, w, spread, bias, clip, y, plans):
    plan = plans[0]
    channels, filters = round_up(plan.channels, LANES), round_up(plan.filters, LANES)
    _spread_weights(channels, most, (w, channels, filters, spread))
    _chunk(plan.chunks, most, (source, mask, spread, bias, clip, y, plans))


# --- the gradient of the kernel -------------------------------------------------------------------


@kernel
def _add_products(x, g, blocks, channels, filters, sums):
    """At every position: (channels x blocks) times (blocks x filters), added to the sums, which
    are stored as (position, vector of channels, vector of filters, LANES, LANES)."""
    x_step, g_step = _position(blocks, channels), _position(blocks, filters)
    stored = max(blocks, TILE)
    to = 0
    for position in range(16):
        for c in range(0, channels, LANES):
            for f in range(0, filters, LANES):
                acc = load(sums, to, LANES)
                x_at, g_at = position * x_step + c * stored, position * g_step + f * stored
                for _ in range(blocks):
                    acc = outer_fma(acc, x, _CHANNELS, x_at, load(g, g_at, 1))
                    x_at += LANES
                    g_at += LANES
                store(sums, to, acc)
                to += LANES * LANES


@task
def _unit(unit, source, g, mask, sums, bias_sums, plans):
    plan = plans[0]
    units = sums.shape[0]
    clear(sums[unit], 0, sums.shape[1])
    clear(bias_sums[unit], 0, bias_sums.shape[1])
    blocks = plan.rows_per_chunk * plan.columns
    columns = 2 * plan.columns + 2
    size = max(4 * columns * plan.channels, 2 * columns * plan.filters) + 4 * columns * LANES
    slab = np.empty(size, source.dtype)
    x = np.empty(16 * _position(blocks, plan.channels), source.dtype)
    dy = np.empty(16 * _position(blocks, plan.filters), source.dtype)
    for chunk in range(unit * plan.chunks // units, (unit + 1) * plan.chunks // units):
        first = chunk * plan.rows_per_chunk
        last = min(first + plan.rows_per_chunk, plan.images * plan.rows)
        blocks = (last - first) * plan.columns
        _spread_pixels(source, source[:0], plan, first, last, slab, x)
        _spread_gradients(g, mask, plan, first, last, slab, dy, bias_sums[unit])
        _add_products(x, dy, blocks, plan.channels, plan.filters, sums[unit])


@task
def _gather_weights(pair, sums, dw, plans):
    """G' m G for a vector of channels and a vector of filters, m summed over the units."""
    plan = plans[0]
    vectors = round_up(plan.filters, LANES) // LANES
    c, f = pair // vectors * LANES, pair % vectors * LANES
    step = round_up(plan.channels, LANES) * vectors * LANES
    for q in range(min(LANES, plan.channels - c)):
        at = (pair * LANES + q) * LANES
        total = load_grid(sums[0], at, 0, 1, step, 16)
        for unit in range(1, sums.shape[0]):
            total = add(total, load_grid(sums[unit], at, 0, 1, step, 16))
        half = transposed(_times_gt(total), 4)
        to, tap = (c + q) * plan.filters + f, plan.channels * plan.filters
        if f + LANES <= plan.filters:
            store_rows(dw, to, tap, _times_gt(half))
        else:
            store_parts(dw, to, tap, _times_gt(half), plan.filters - f)


@entry
def _correlate_grad(most, source, g, mask, dw, db, sums, bias_sums, plans):
    plan = plans[0]
    _unit(sums.shape[0], most, (source, g, mask, sums, bias_sums, plans))
    vectors = round_up(plan.channels, LANES) * round_up(plan.filters, LANES) // LANES**2
    _gather_weights(vectors, most, (sums, dw, plans))
    for f in range(db.size):
        for unit in range(sums.shape[0]):
            db[f] += bias_sums[unit, f]


# --- what `conv` calls ----------------------------------------------------------------------------


def fits(w_shape: Ints, strides: Ints, dilation: Ints, groups: int, dtype: np.dtype) -> bool:
    """Whether a convolution with such a kernel is done like this."""
    return (
        w_shape[:-2] == (3, 3)
        and max(*strides, *dilation, groups) == 1
        and min(w_shape[2:]) >= LANES // 2
        and dtype == np.float32
    )


@lru_cache(maxsize=1024)
def _plan(x_shape: Ints, out_shape: Ints, above: int, left: int) -> tuple[Plan, Array]:
    images, height, width, channels = x_shape
    _, out_height, out_width, filters = out_shape
    rows, columns = -(-out_height // 2), -(-out_width // 2)
    blocks = max(2 * TILE, CHUNK_ELEMENTS // (16 * (channels + filters)))
    per_chunk = max(1, min(blocks // columns, -(-images * rows // CHUNKS)))
    plan = Plan(
        images, height, width, channels, above, left, rows, columns, out_height, out_width,
        filters, per_chunk, -(-images * rows // per_chunk),
    )  # fmt: skip
    return plan, as_record(plan)


def _whole_vectors(w: Array) -> Array:
    """w (3, 3, C, F) with zeros behind the channels and the filters, contiguous."""
    filled = [-(-size // LANES) * LANES for size in w.shape[2:]]
    if filled == list(w.shape[2:]):
        return np.ascontiguousarray(w)
    wide = np.zeros((3, 3, *filled), w.dtype)
    wide[:, :, : w.shape[2], : w.shape[3]] = w
    return wide


def correlate(
    most: int, x: Array, mask: Array, w: Array, padding: Pads, bias: Array, clip: bool, y: Array
) -> None:
    """``y = act(conv(x, w) + bias)``, x masked with ``mask > 0`` unless that is empty.

    ``bias`` has a vector's room behind it; y is contiguous, x need not be.
    """
    _, plan = _plan(x.shape, y.shape, padding[0][0], padding[1][0])
    w = _whole_vectors(w)
    spread = empty((16 * w.shape[2] * w.shape[3],), w.dtype)
    source = ready(x, y.dtype)
    _correlate(most, source, mask, w.reshape(-1), spread, bias, clip, y.reshape(-1), plan)


def correlate_grad(
    most: int, x: Array, g: Array, mask: Array, padding: Pads, dw: Array, db: Array
) -> None:
    """The gradients of the kernel and (added to ``db``) of the bias."""
    plan, record = _plan(x.shape, g.shape, padding[0][0], padding[1][0])
    channels, filters = (-(-size // LANES) * LANES for size in dw.shape[2:])
    size = 16 * channels * filters
    units = max(1, min(UNITS, plan.chunks, SUMS_ELEMENTS // size))
    sums, bias_sums = empty((units, size), dw.dtype), empty((units, filters), dw.dtype)
    x, g = ready(x, dw.dtype), ready(g, dw.dtype)
    _correlate_grad(most, x, g, mask, dw.reshape(-1), db, sums, bias_sums, record)
