"""3 x 3 convolutions with four times fewer multiplications (S. Winograd, 1980; A. Lavin and S.
Gray, 2016).

A *block* of 4 x 4 results depends on 6 x 6 pixels. Directly it takes 16 * 9 multiplications per
channel and filter, but 36 are enough if something else than the pixels x is multiplied with
something else than the weights w:

    block = A' [ (G w G') * (B' x B) ] A        * element by element, A' the transpose of A

with the small matrices below. At each of these 36 *positions* the sum over the channels is a
matrix product, (blocks x channels) times (channels x filters). There the time goes, and there all
numbers lie side by side in the order in which they are read.

The gradient of the input is such a convolution, too, with the flipped kernel; the kernel's is

    dw = G' [ (A dy A') * (B' x B) ] G          summed over all blocks of the batch

All of it is done in *chunks*, some rows of blocks whose numbers stay in the second-level cache.

The matrices come from polynomials: a block of results is a product of polynomials, which six values
determine, at the points 0, p, -p, q, -q and infinity. The values at p and at -p are the sum and
the difference of an even and an odd part (`PAIRS`), so that each part is computed once. Which p
and q makes no difference to the work, but to rounding: against float64 the results differ by 0.8e-6
of the largest with 3/4 and 3/2, and by 3e-6 with the usual 1 and 2.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from minitorch_ciml.kernels.cpu import vector
from minitorch_ciml.kernels.cpu.buffers import empty
from minitorch_ciml.kernels.cpu.correlate import copy_masked, round_up, workspace
from minitorch_ciml.kernels.cpu.geometry import as_record
from minitorch_ciml.kernels.cpu.jit import entry, inlined, kernel, ready
from minitorch_ciml.kernels.cpu.loads import clear, load, load_grid, store, store_parts, store_rows
from minitorch_ciml.kernels.cpu.maxima import add_where, keep_larger, positive_or, store_integers
from minitorch_ciml.kernels.cpu.simd import add, full, matrix, outer_fma, relu, tile, transposed
from minitorch_ciml.kernels.cpu.threads import task
from minitorch_ciml.kernels.reference.conv import Ints, Pads

Array = np.ndarray

SIZE = 4  # results along one side of a block
REACH = SIZE + 2  # pixels
POSITIONS = REACH**2

P, Q = 3 / 4, 3 / 2
P2, Q2 = P * P, Q * Q
_AT_P, _AT_Q = 2 * P2 * (P2 - Q2), 2 * Q2 * (Q2 - P2)
PAIRS = (
    (1, 0, 0, 0, 0, 0),
    (0, 1, 1, 0, 0, 0),
    (0, 1, -1, 0, 0, 0),
    (0, 0, 0, 1, 1, 0),
    (0, 0, 0, 1, -1, 0),
    (0, 0, 0, 0, 0, 1),
)
# A = PAIRS * EVEN_ODD_A, G = PAIRS * EVEN_ODD_G and B' = PAIRS * EVEN_ODD_B.
EVEN_ODD_A = (
    (1, 0, 0, 0),
    (1, 0, P2, 0),
    (0, P, 0, P * P2),
    (1, 0, Q2, 0),
    (0, Q, 0, Q * Q2),
    (0, 0, 0, 1),
)
EVEN_ODD_G = (
    (1 / (P2 * Q2), 0, 0),
    (1 / _AT_P, 0, P2 / _AT_P),
    (0, P / _AT_P, 0),
    (1 / _AT_Q, 0, Q2 / _AT_Q),
    (0, Q / _AT_Q, 0),
    (0, 0, 1),
)
EVEN_ODD_B = (
    (P2 * Q2, 0, -P2 - Q2, 0, 1, 0),
    (0, 0, -Q2, 0, 1, 0),
    (0, -P * Q2, 0, P, 0, 0),
    (0, 0, -P2, 0, 1, 0),
    (0, -P2 * Q, 0, Q, 0, 0),
    (0, P2 * Q2, 0, -P2 - Q2, 0, 1),
)

pairs = matrix(PAIRS)
even_odd_a, even_odd_g, even_odd_b = map(matrix, (EVEN_ODD_A, EVEN_ODD_G, EVEN_ODD_B))
even_odd_at, even_odd_gt = (matrix(tuple(zip(*m))) for m in (EVEN_ODD_A, EVEN_ODD_G))

# Only float32 is computed like this: float64 is there for checks.
LANES = vector.VECTOR_BITS // 32
# Blocks that are multiplied with one vector of filters at a time, their sums in registers.
TILE = 12
_BLOCKS = tuple(LANES * t for t in range(TILE))
# Numbers of a chunk, at all positions: a quarter of a second-level cache of 1 MB.
CHUNK_ELEMENTS = 64 * 1024
CHUNKS = 64
# In place of the places of maxima, where there are none.
NOWHERE = np.empty(0, np.uint8)


class Plan(NamedTuple):
    """The integers that the kernels need; the source is what the 6 x 6 pixels are taken from."""

    images: int
    height: int
    width: int
    channels: int
    above: int  # zeros
    left: int
    rows: int  # of blocks, in an image
    columns: int
    grid: int  # rows that are counted for an image, at least as many
    out_height: int
    out_width: int
    filters: int
    rows_per_chunk: int
    chunks: int


@kernel
def position_step(blocks, channels):
    """Elements from one position to the next; not a power of two, which would share cache lines."""
    return round_up(channels, LANES) * max(blocks, TILE) + LANES


@kernel
def half_step(blocks, filters):
    """The same for sums of which only the columns are still at the positions."""
    return round_up(filters, LANES) * blocks * SIZE + LANES


@kernel
def rows_between(plan, first, last):
    """Rows of blocks from `first` to `last`, where every image counts as `plan.grid`."""
    before = first // plan.grid * plan.rows + min(first % plan.grid, plan.rows)
    return last // plan.grid * plan.rows + min(last % plan.grid, plan.rows) - before


@kernel
def frame(source, mask, places, plan, image, line, lines, columns, slab):
    """Lines of an image, from `line` on, with zeros where there are no pixels; each pixel's
    channels are filled up to whole vectors.

    Returns an array, where they start in it, and the elements from one line to the next: the source
    itself where that will do, or else the slab.
    """
    first, width, channels = -plan.left, plan.width, plan.channels
    pitch = round_up(channels, LANES)
    whole = line >= 0 and line + lines <= plan.height and first >= 0 and first + columns <= width
    if whole and pitch == channels and mask.size == places.size == 0:
        return source, ((image * plan.height + line) * width + first) * channels, width * channels
    left = min(columns, max(0, -first))
    right = left + max(0, min(width - first, columns) - left)
    to = 0
    for h in range(line, line + lines):
        if not 0 <= h < plan.height:
            clear(slab, to, columns * pitch)
        else:
            clear(slab, to, left * pitch)
            inside = to + left * pitch
            if places.size > 0:
                _fill_from_pool(slab, inside, source, places, plan, image, h, right - left)
            else:
                at = ((image * plan.height + h) * width + first + left) * channels
                _fill(slab, inside, source, at, mask, channels, right - left)
            clear(slab, to + right * pitch, (columns - right) * pitch)
        to += columns * pitch
    return slab, 0, columns * pitch


@inlined
def _fill(slab, to, source, at, mask, channels, count):
    """Pixels of a line, masked."""
    pitch = round_up(channels, LANES)
    if pitch == channels:
        copy_masked(slab, to, source, at, count * channels, mask)
        return
    for _ in range(count):
        copy_masked(slab, to, source, at, channels, mask)
        clear(slab, to + channels, pitch - channels)
        at += channels
        to += pitch


@inlined
def _fill_from_pool(slab, to, source, places, plan, image, h, count):
    """Line h of the gradient of 2 x 2 pooling, which is the source at the places of the maxima."""
    height, width, channels = plan.height // 2, plan.width // 2, plan.channels
    if h // 2 >= height:
        clear(slab, to, count * channels)
        return
    at, zero = (image * height + h // 2) * width * channels, full(source, 0.0, 1)
    k = 2 * (h % 2)
    for _ in range(min(width, count // 2)):
        for q in range(at, at + channels, LANES):
            store(slab, to, add_where(zero, source, places, q, k))
            store(slab, to + channels, add_where(zero, source, places, q, k + 1))
            to += LANES
        at += channels
        to += channels
    clear(slab, to, (count - 2 * width) * channels)


# --- pixels at the 36 positions -------------------------------------------------------------------
#
# First B' x, for all columns of pixels in a row of blocks: neighbours share two of six. It is
# stored as (row of positions, vector of channels, row of blocks, column, LANES). Then (B' x) B,
# for one row of positions at a time, which stays in the first-level cache, as (position, vector of
# channels, block, LANES).


@kernel
def spread_columns(x, start, line, rows, columns, channels, half, to, all_rows):
    """B' x for some of `all_rows` rows of blocks."""
    pixels, pitch = SIZE * columns + 2, round_up(channels, LANES)
    step = position_step(all_rows, pixels * pitch)
    for _ in range(rows):
        for c in range(0, pitch, LANES):
            at, place = start + c, to + c * all_rows * pixels
            for _ in range(pixels):
                values = load_grid(x, at, line, REACH, 0, 1)
                store_rows(half, place, step, pairs(even_odd_b(values)))
                at += pitch
                place += LANES
        to += pixels * LANES
        start += SIZE * line
    return to


@kernel
def spread_pixels(source, mask, plan, first, last, slab, half):
    """B' x for the blocks of rows `first` to `last`, counted through all images."""
    to, all_rows = 0, rows_between(plan, first, last)
    while first < last:
        image, h = first // plan.grid, first % plan.grid
        rows = min(plan.rows - h, last - first)
        if rows > 0:
            x, start, line = frame(
                source, mask, NOWHERE, plan, image, SIZE * h - plan.above, SIZE * rows + 2,
                SIZE * plan.columns + 2, slab,
            )  # fmt: skip
            to = spread_columns(
                x, start, line, rows, plan.columns, plan.channels, half, to, all_rows
            )
        first += plan.grid - h


@kernel
def spread_rows(half, row, rows, columns, channels, spread):
    """(B' x) B for one row of positions."""
    at = row * position_step(rows, (SIZE * columns + 2) * round_up(channels, LANES))
    blocks = rows * columns
    step = position_step(blocks, channels)
    for c in range(0, channels, LANES):
        place = c * max(blocks, TILE)
        for _ in range(rows):
            for _ in range(columns):
                store_rows(spread, place, step, pairs(even_odd_b(load(half, at, REACH))))
                at += SIZE * LANES
                place += LANES
            at += 2 * LANES


# --- forward, and the gradient of the input -------------------------------------------------------


@kernel
def multiply(x, w, k, y, blocks, channels, filters):
    """At every position of a row: (blocks x channels) times (channels x filters)."""
    x_step, y_step = position_step(blocks, channels), position_step(blocks, filters)
    blocks = max(blocks, TILE)
    for position in range(REACH):
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


@kernel
def gather_rows(m, blocks, filters, half):
    """m A for one row of positions."""
    step = position_step(blocks, filters)
    to = 0
    for f in range(0, filters, LANES):
        at = f * max(blocks, TILE)
        for _ in range(blocks):
            store(half, to, even_odd_at(pairs(load_grid(m, at, 0, 1, step, REACH))))
            at += LANES
            to += SIZE * LANES


@inlined
def _results(half, at, step, bias, f, clip):
    """One column of a block."""
    values = even_odd_at(pairs(load_grid(half, at, 0, 1, step, REACH)))
    values = add(values, tile(load(bias, f, 1), SIZE))
    return relu(values) if clip else values


@inlined
def _gather_row(half, at, step, plan, image, h, f, bias, clip, y):
    """One row of blocks; some lines or channels of them may not belong to the image."""
    line = plan.out_width * plan.filters
    to = (image * plan.out_height + h) * line + f
    lines, valid = plan.out_height - h, plan.filters - f
    for _ in range(plan.out_width):
        values = _results(half, at, step, bias, f, clip)
        if lines >= SIZE and valid >= LANES:
            store_rows(y, to, line, values)
        else:
            store_parts(y, to, line, values[:1], valid)
            if lines > 1:
                store_parts(y, to + line, line, values[1:2], valid)
            if lines > 2:
                store_parts(y, to + 2 * line, line, values[2:3], valid)
            if lines > 3:
                store_parts(y, to + 3 * line, line, values[3:], valid)
        at += LANES
        to += plan.filters


@kernel
def gather_columns(half, plan, first, last, bias, clip, y):
    """act(A' (m A) + bias) for the blocks of rows `first` to `last`."""
    step = half_step(rows_between(plan, first, last) * plan.columns, plan.filters)
    at = 0
    for f in range(0, plan.filters, LANES):
        for row in range(first, last):
            image, h = row // plan.grid, row % plan.grid
            if h < plan.rows:
                _gather_row(half, at, step, plan, image, SIZE * h, f, bias, clip, y)
                at += SIZE * plan.columns * LANES


@inlined
def _gather_maxima_of_row(half, at, step, plan, image, h, f, bias, clip, y, places):
    """One row of blocks, pooled."""
    height, width = plan.out_height // 2, plan.out_width // 2
    line = width * plan.filters
    to = (image * height + h // 2) * line + f
    for _ in range(width):
        left = _results(half, at, step, bias, f, clip)
        right = _results(half, at + LANES, step, bias, f, clip)
        for i in range(min(2, height - h // 2)):
            upper, lower = (left[:2], right[:2]) if i == 0 else (left[2:], right[2:])
            best = upper[:1] + full(y, 0, 1)
            best = keep_larger(best, lower[:1], 1)
            best = keep_larger(best, upper[1:], 2)
            best = keep_larger(best, lower[1:], 3)
            store(y, to + i * line, best[:1])
            store_integers(places, to + i * line, positive_or(best, 4) if clip else best[1:])
        at += 2 * LANES
        to += plan.filters


@kernel
def _gather_maxima(half, plan, first, last, bias, clip, y, places):
    """The maxima of `gather_columns` over windows of 2 x 2, and where they are: 0 to 3, or 4 for
    ReLU's zeros."""
    step, at = half_step((last - first) * plan.columns, plan.filters), 0
    for f in range(0, plan.filters, LANES):
        for row in range(first, last):
            image, h = row // plan.rows, SIZE * (row % plan.rows)
            _gather_maxima_of_row(half, at, step, plan, image, h, f, bias, clip, y, places)
            at += SIZE * plan.columns * LANES


@kernel
def filter_rows(half, x, w, m, rows, plan, m_half):
    """From B' x to m A, one row of positions after the other."""
    blocks = rows * plan.columns
    weights = REACH * round_up(plan.channels, LANES) * round_up(plan.filters, LANES)
    if blocks < TILE:
        clear(x, 0, REACH * position_step(blocks, plan.channels))
    for row in range(REACH):
        spread_rows(half, row, rows, plan.columns, plan.channels, x)
        multiply(x, w, row * weights, m, blocks, plan.channels, plan.filters)
        gather_rows(m, blocks, plan.filters, m_half[row * half_step(blocks, plan.filters) :])


@task
def _chunk(chunk, source, mask, w, bias, clip, y, places, plans):
    plan = plans[0]
    first = chunk * plan.rows_per_chunk
    last = min(first + plan.rows_per_chunk, plan.images * plan.grid)
    rows = last - first
    blocks = rows * plan.columns
    columns = (SIZE * plan.columns + 2) * round_up(plan.channels, LANES)
    slab = workspace((SIZE * min(plan.rows, rows) + 2) * columns, y)
    half = workspace(REACH * position_step(rows, columns), y)
    x = workspace(REACH * position_step(blocks, plan.channels), y)
    m = workspace(REACH * position_step(blocks, plan.filters), y)
    m_half = workspace(REACH * half_step(blocks, plan.filters), y)
    spread_pixels(source, mask, plan, first, last, slab, half)
    filter_rows(half, x, w, m, rows, plan, m_half)
    if places.size > 0:
        _gather_maxima(m_half, plan, first, last, bias, clip, y, places)
    else:
        gather_columns(m_half, plan, first, last, bias, clip, y)


@task
def spread_weights(c, w, channels, filters, spread):
    """G w G' of one channel: w (3, 3, channels, filters), both filled up to whole vectors."""
    tap = channels * filters
    for f in range(0, filters, LANES):
        taps = load_grid(w, c * filters + f, 0, 1, tap, 9)
        half = transposed(pairs(even_odd_g(taps)), 3)
        weights = transposed(pairs(even_odd_g(half)), REACH)
        store_rows(spread, f * channels + c * LANES, tap, weights)


@entry
def _correlate(most, source, mask, w, spread, bias, clip, y, places, plans):
    plan = plans[0]
    channels, filters = round_up(plan.channels, LANES), round_up(plan.filters, LANES)
    spread_weights(channels, most, (w, channels, filters, spread))
    _chunk(plan.chunks, most, (source, mask, spread, bias, clip, y, places, plans))


# --- what `conv` calls ----------------------------------------------------------------------------


def fits(w_shape: Ints, strides: Ints, dilation: Ints, groups: int, dtype: np.dtype) -> bool:
    """Whether a convolution with such a kernel is done like this."""
    return (
        w_shape[:-2] == (3, 3)
        and max(*strides, *dilation, groups) == 1
        and min(w_shape[2:]) >= LANES // 2
        and dtype == np.float32
    )


def rows_per_chunk(rows: int, columns: int, channels: int) -> int:
    """Rows of blocks whose numbers fit the cache, and fill whole tiles as well as possible."""
    blocks = max(2 * TILE, CHUNK_ELEMENTS // (POSITIONS * channels))
    most = max(1, min(blocks, max(2 * TILE, rows * columns // CHUNKS)) // columns)

    def waste(count: int) -> float:
        """Blocks that are computed for each one that counts; short chunks cost a little more."""
        blocks = count * columns
        return -(-blocks // TILE) * TILE / blocks + 2 / blocks

    return min(range(1, most + 1), key=waste)


@lru_cache(maxsize=1024)
def plan_of(
    x_shape: Ints, out_shape: Ints, above: int, left: int, grid: int = 0, per_chunk: int = 0
) -> tuple[Plan, Array]:
    """The plan, also as the kernels want it; with a grid and rows per chunk that are given, or
    those that suit it."""
    images, height, width, channels = x_shape
    _, out_height, out_width, filters = out_shape
    rows, columns = -(-out_height // SIZE), -(-out_width // SIZE)
    grid = grid or rows
    per_chunk = per_chunk or rows_per_chunk(images * rows, columns, channels + filters)
    plan = Plan(
        images, height, width, channels, above, left, rows, columns, grid, out_height, out_width,
        filters, per_chunk, -(-images * grid // per_chunk),
    )  # fmt: skip
    return plan, as_record(plan)


def whole_vectors(w: Array) -> Array:
    """w (3, 3, C, F) with zeros behind the channels and the filters, contiguous."""
    filled = [-(-size // LANES) * LANES for size in w.shape[2:]]
    if filled == list(w.shape[2:]):
        return np.ascontiguousarray(w)
    wide = np.zeros((3, 3, *filled), w.dtype)
    wide[:, :, : w.shape[2], : w.shape[3]] = w
    return wide


def correlate(
    most: int,
    x: Array,
    mask: Array,
    w: Array,
    padding: Pads,
    bias: Array,
    clip: bool,
    y: Array,
    places: Array | None = None,
) -> None:
    """`y = act(conv(x, w) + bias)`, x masked with `mask > 0` unless that is empty.

    `bias` has a vector's room behind it; y is contiguous, x need not be. With `places` (of y's
    shape, uint8) y is the maxima over windows of 2 x 2, the filters being whole vectors.
    """
    out_shape = y.shape
    if places is not None:
        sizes = (n + sum(pads) - 2 for n, pads in zip(x.shape[1:3], padding))
        out_shape = (y.shape[0], *sizes, y.shape[3])
    _, plan = plan_of(x.shape, out_shape, padding[0][0], padding[1][0])
    w = whole_vectors(w)
    spread = empty((POSITIONS * w.shape[2] * w.shape[3],), w.dtype)
    _correlate(
        most, ready(x, y.dtype), mask, w.reshape(-1), spread, bias, clip, y.reshape(-1),
        NOWHERE if places is None else places.reshape(-1), plan,
    )  # fmt: skip
