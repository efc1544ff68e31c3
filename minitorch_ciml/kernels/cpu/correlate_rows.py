"""The correlation kernel for few outputs: along rows, where windows share what they read.

With one vector of outputs (16 filters, say) a tile as in `correlate` loads one number of x for
each multiplication, and the loads cannot keep up. But windows that lie side by side in a row share
most of their columns. Here a number of x is loaded once and multiplied with all the places of the
window that meet it:

    y[t, f] += x[t + k, c] * w[k, c, f]        for t < tile and k < window; each x is read once

For that the columns must be a constant number of elements apart: they are where there is one
channel, or one vector of channels; otherwise the rows are copied into a *slab*, by vectors of
channels. Taps that meet only padding above or below the image are skipped.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from minitorch_ciml.kernels.cpu import vector
from minitorch_ciml.kernels.cpu.geometry import (
    CHUNK_OUTPUTS,
    CHUNKS,
    SLAB_ELEMENTS,
    Axis,
    as_record,
)
from minitorch_ciml.kernels.cpu.jit import entry, inlined
from minitorch_ciml.kernels.cpu.loads import clear, load, store, store_parts, store_rows
from minitorch_ciml.kernels.cpu.simd import keep_positive, lanes, relu, row_fma, tile
from minitorch_ciml.kernels.cpu.threads import task
from minitorch_ciml.kernels.reference.conv import Ints

# Outputs in a tile. Its sums, the window's places and a number of x must fit the registers; fewer
# than 8 sums leave the processor waiting. Rows of any even length from 20 on are some of these.
SIZES = (14, 12, 8) if vector.REGISTERS == 32 else (10, 8, 8)
LARGEST_OVERLAP = 0.15
# Places of the window in a row.
WINDOWS = range(2, 6)


class Rows(NamedTuple):
    """The integers that the kernel needs; steps count elements."""

    chunks_per_image: int
    rows_per_chunk: int
    rows: int  # outputs along depth, height and width
    lines: int
    count: int  # type: ignore[assignment]  # of a tuple
    row_step: int  # planes of the source from one row of outputs to the next
    line_step: int
    depth: int  # the source
    height: int
    width: int
    channels: int
    first: int  # column of the source that the first place of the first window meets
    use_slab: int
    outputs: int
    out_first: int
    out_image_step: int
    out_row_step: int
    out_line_step: int
    out_step: int


class RowPlan(NamedTuple):
    """A plan with its tables (int64)."""

    chunks: int
    window: Ints  # as long as the window is wide
    apart: bool | None  # columns are a vector apart, not next to each other
    record: np.ndarray
    depth_at: np.ndarray  # of each tap: planes and lines from the output's to the source's, rising
    height_at: np.ndarray
    order: np.ndarray  # which place of the window, counted in C order, each tap and place is
    tiles: np.ndarray  # (start, size) of the tiles of a row


def _cover(count: int) -> list[tuple[int, int]]:
    """Start and size of the tiles for `count` outputs; the last may overlap the one before."""
    tiles, start = [], 0
    sizes = [s for s in SIZES if s <= count]
    while sizes and start < count:
        each = -(-(count - start) // -(-(count - start) // SIZES[0]))
        size = min((s for s in sizes if s >= each), default=sizes[0])
        tiles.append((min(start, count - size), size))
        start += size
    return tiles


def fits(axes: Sequence[Axis], outputs: int, step: int) -> bool:
    """Whether these axes, and so many outputs, are this kernel's; `step` is the vector's width.

    More than one vector of outputs reuse each number of x as it is. In short rows too many outputs
    would be computed twice.
    """
    width = axes[2]
    neighbours = all(b == a + 1 for a, b in zip(width.at, width.at[1:], strict=False))
    row = width.step == 1 and neighbours and len(width.at) in WINDOWS and all(a.at for a in axes)
    computed = sum(size for _, size in _cover(width.count))
    return row and outputs <= step and 0 < computed <= (1 + LARGEST_OVERLAP) * width.count


def row_plan(
    images: int,
    axes: Sequence[Axis],
    order: np.ndarray,
    channels: int,
    out_channels: int,
    *,
    masked: bool,
    step: int,
) -> RowPlan:
    """Plan and tables for one correlation whose axes are depth, height and width."""
    depth, height, width = axes
    taps = len(width.at)
    inside = width.at[0] >= 0 and width.at[-1] + width.count <= width.size
    use_slab = masked or not inside or channels not in (1, step)
    plane = height.size * (width.count + taps - 1) * -(-channels // step) * step
    per_chunk = max(1, min(depth.count, SLAB_ELEMENTS // (plane * depth.step)))
    row_outputs = height.count * width.count
    for_threads = -(-depth.count * images // CHUNKS)
    per_chunk = max(1, min(per_chunk, max(for_threads, CHUNK_OUTPUTS // row_outputs)))
    blocks = -(-depth.count // per_chunk)
    out_line = width.out_size * out_channels
    out_plane = height.out_size * out_line
    record = Rows(
        chunks_per_image=blocks,
        rows_per_chunk=-(-depth.count // blocks),
        rows=depth.count,
        lines=height.count,
        count=width.count,
        row_step=depth.step,
        line_step=height.step,
        depth=depth.size,
        height=height.size,
        width=width.size,
        channels=channels,
        first=width.at[0],
        use_slab=use_slab,
        outputs=out_channels,
        out_first=depth.out_start * out_plane
        + height.out_start * out_line
        + width.out_start * out_channels,
        out_image_step=depth.out_size * out_plane,
        out_row_step=depth.out_step * out_plane,
        out_line_step=height.out_step * out_line,
        out_step=width.out_step * out_channels,
    )
    return RowPlan(
        images * blocks,
        (0,) * taps,
        None if channels == 1 else True,
        as_record(record),
        np.array(depth.at, np.int64),
        np.array(height.at, np.int64),
        order,
        np.array(_cover(width.count), np.int64),
    )


@inlined
def _pack(w, order, places, by):
    """The weights as the tiles read them: line of taps by line, channel by channel, place by
    place."""
    step = lanes(w)
    packed = np.zeros(order.size * by.inputs * step, w.dtype)
    to = 0
    for line in range(0, order.size, places):
        for i in range(by.inputs):
            for k in range(places):
                at = order[line + k] * by.tap_step + i * by.input_step
                for o in range(by.outputs):
                    packed[to + o] = w[at + o * by.output_step]
                to += step
    return packed


@inlined
def _fill_line(slab, to, source, at, mask, channels, gap, left, inside, right):
    """One line of the (masked) source between zeros, vector of channels by vector of channels.

    What lies past the last channel is never read, or overwritten by the next column.
    """
    step = lanes(source)
    masked = mask.size > 0
    for c in range(0, channels, gap):
        clear(slab, to, left * gap)
        to += left * gap
        for x in range(at + c, at + c + inside * channels, channels):
            if x + step <= source.size:
                value = load(source, x, 1)
                if masked:
                    value = keep_positive(value, load(mask, x, 1))
                store(slab, to, value)
            else:
                for q in range(source.size - x):
                    slab[to + q] = source[x + q] if not masked or mask[x + q] > 0 else 0
            to += gap
        clear(slab, to, right * gap)
        to += right * gap
    return to


@inlined
def _fill_slab(slab, source, mask, plan, columns, gap, image, first, end):
    """Copies planes `first` to `end` of an image, with zeros left and right."""
    left = min(columns, max(0, -plan.first))
    start = max(0, plan.first)
    inside = max(0, min(plan.width - start, columns - left))
    line = plan.width * plan.channels
    at = (image * plan.depth + first) * plan.height * line + start * plan.channels
    to = 0
    for _ in range((end - first) * plan.height):
        to = _fill_line(
            slab, to, source, at, mask, plan.channels, gap, left, inside, columns - left - inside
        )
        at += line


@inlined
def _met_lines(plan, depth_at, height_at, d, h, first, line_size, lines):
    """The taps' lines that lie inside of the source, as (address, tap); returns their number."""
    n = 0
    for i in range(depth_at.size):
        plane = d * plan.row_step + depth_at[i]
        if 0 <= plane < plan.depth:
            for j in range(height_at.size):
                line = h * plan.line_step + height_at[j]
                if 0 <= line < plan.height:
                    lines[n, 0] = ((plane - first) * plan.height + line) * line_size
                    lines[n, 1] = i * height_at.size + j
                    n += 1
    return n


def _tile(size: int) -> Any:
    """Compiles the tile of `size` outputs in a row."""

    @inlined
    def row_tile(x, base, lines, n, channel_at, w, bias, clip, y, to, plan, window, apart):
        acc = tile(load(bias, 0, 1), size)
        width = len(window) * lanes(x)
        for i in range(n):
            at = base + lines[i, 0]
            k = lines[i, 1] * channel_at.size * width
            for c in channel_at:
                acc = row_fma(acc, x, at + c, apart, w, k, window)
                k += width
        if clip:
            acc = relu(acc)
        if plan.outputs >= lanes(x):
            store_rows(y, to, plan.out_step, acc)
        else:
            store_parts(y, to, plan.out_step, acc, plan.outputs)

    return row_tile


_first_tile, _second_tile, _third_tile = (_tile(size) for size in SIZES)


@inlined
def _row(x, base, gap, lines, n, channel_at, w, bias, clip, y, out, tiles, plan, window, apart):
    """One row of outputs, tile by tile."""
    for i in range(tiles.shape[0]):
        at, to, size = base + tiles[i, 0] * gap, out + tiles[i, 0] * plan.out_step, tiles[i, 1]
        if size == SIZES[0]:
            _first_tile(x, at, lines, n, channel_at, w, bias, clip, y, to, plan, window, apart)
        elif size == SIZES[1]:
            _second_tile(x, at, lines, n, channel_at, w, bias, clip, y, to, plan, window, apart)
        else:
            _third_tile(x, at, lines, n, channel_at, w, bias, clip, y, to, plan, window, apart)


@inlined
def _gap(x, apart):
    """Elements between two columns."""
    return 1 if apart is None else lanes(x)


@task
def _chunk(
    chunk, source, mask, w, bias, clip, y, depth_at, height_at, tiles, channel_at, plans, window,
    apart,
):  # fmt: skip
    """All outputs of some rows of an image."""
    plan = plans[0]
    gap = _gap(source, apart)
    image = chunk // plan.chunks_per_image
    row = chunk % plan.chunks_per_image * plan.rows_per_chunk
    stop = min(row + plan.rows_per_chunk, plan.rows)
    x, first = source, 0
    line_size = plan.width * plan.channels
    base = image * plan.depth * plan.height * line_size + plan.first * plan.channels
    if plan.use_slab:
        first = max(0, row * plan.row_step + depth_at[0])
        end = (stop - 1) * plan.row_step + depth_at[depth_at.size - 1] + 1
        last = max(first, min(plan.depth, end))
        columns = plan.count + len(window) - 1
        line_size = columns * ((plan.channels + gap - 1) // gap) * gap
        x = np.empty((last - first) * plan.height * line_size + lanes(source), source.dtype)
        base = 0
        _fill_slab(x, source, mask, plan, columns, gap, image, first, last)
    lines = np.empty((depth_at.size * height_at.size, 2), np.int64)
    for d in range(row, stop):
        for h in range(plan.lines):
            n = _met_lines(plan, depth_at, height_at, d, h, first, line_size, lines)
            out = plan.out_first + image * plan.out_image_step
            out += d * plan.out_row_step + h * plan.out_line_step
            _row(
                x, base, gap, lines, n, channel_at, w, bias, clip, y, out, tiles, plan, window,
                apart,
            )  # fmt: skip


@entry
def correlate_rows(
    most, chunks, source, mask, w, bias, clip, y, depth_at, height_at, order, tiles, plans, bys,
    window, apart,
):  # fmt: skip
    """`window` is a tuple as long as the window is wide, and `apart` True or None (see
    `simd.row_fma`): the kernel is compiled for either."""
    plan = plans[0]
    packed = _pack(w, order, len(window), bys[0])
    gap = _gap(source, apart)
    channel_at = np.empty(plan.channels, np.int64)
    for c in range(plan.channels):
        channel_at[c] = c // gap * gap * (plan.count + len(window) - 1) + c % gap
    work = (source, mask, packed, bias, clip, y, depth_at, height_at, tiles, channel_at, plans)
    _chunk(chunks, most, (*work, window, apart))
