"""Where a sliding window finds its input: plain integers and tables, computed once per shape.

The convolution kernels know nothing of ranks, strides, dilation or padding. They see a *source*
array, and tables of addresses in it::

    y[to[p] + f] = sum over taps r and q < run of  source[pix[p] + taps[r] + q] * w[r, q, f]

(the indirect convolution of M. Dukhan, 2019). `p` runs over the outputs of a *chunk*, some whole
images or some rows of one image, and the tables are the same for every chunk. Where padding is
needed the chunk's part of the source is first copied into a small zero-framed *slab* that stays in
the cache.

Spatial dimensions are counted as three: depth (along which an image may be cut into row blocks),
height, width.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import prod
from typing import NamedTuple

import numpy as np

from minitorch_ciml.kernels.reference.conv import Ints, output_size

# A chunk should stay in the second-level cache, with room for the weights.
SLAB_ELEMENTS = 48 * 1024
# Enough chunks for the threads of a large node, as long as each has enough outputs to be worth a
# visit.
CHUNKS = 64
CHUNK_OUTPUTS = 256


class Axis(NamedTuple):
    """One spatial dimension: output i meets source places `step * i + at[k]`.

    There, it is multiplied with the window's places `taps[k]`. Output i is stored at
    `out_start + out_step * i` of `out_size`.
    """

    size: int
    taps: Ints
    at: Ints
    step: int
    count: int  # type: ignore[assignment]  # of a tuple
    out_start: int
    out_step: int
    out_size: int

    @property
    def before(self) -> int:
        """Zeros needed in front of the source."""
        return max(0, -min(self.at, default=0))

    def extent(self, count: int) -> int:
        """Source places, zeros in front included, that `count` outputs in a row can meet."""
        return (count - 1) * self.step + max(self.at, default=0) + self.before + 1


def forward_axis(size: int, window: int, stride: int, pads: tuple[int, int], dilation: int) -> Axis:
    """The axis of `conv(x, w)`: output i meets x at `stride * i + dilation * k - before`."""
    count = output_size(size, window, stride, pads, dilation)
    taps = tuple(range(window))
    return Axis(size, taps, tuple(dilation * k - pads[0] for k in taps), stride, count, 0, 1, count)


def backward_axes(
    size: int, window: int, stride: int, pads: tuple[int, int], dilation: int
) -> list[Axis]:
    """The axes of `dx = conv_input_grad(g, w)`, one per remainder of x's index modulo the stride.

    `x[i]` met `g[(i + before - dilation * k) / stride]` for those k that divide. For `i =
    start + stride * m` these k are the same for all m, and g is met at `m + (start + before -
    dilation * k) / stride`: a convolution with stride 1, whose outputs are stored `stride`
    apart.
    """
    outputs = output_size(size, window, stride, pads, dilation)
    axes = []
    for start in range(min(stride, size)):
        reach = [(start + pads[0] - dilation * k, k) for k in reversed(range(window))]
        met = [(distance // stride, k) for distance, k in reach if distance % stride == 0]
        count = (size - start + stride - 1) // stride
        taps, at = tuple(k for _, k in met), tuple(place for place, _ in met)
        axes.append(Axis(outputs, taps, at, 1, count, start, stride, size))
    return axes


class Plan(NamedTuple):
    """The integers that kernels need about one convolution; lengths and steps count elements."""

    images: int
    images_per_chunk: int
    rows: int  # outputs along the depth
    rows_per_chunk: int
    row_blocks: int
    chunks: int
    row_outputs: int  # outputs in one row: along height and width
    run: int  # source elements next to each other that one tap meets
    use_slab: int
    # the source: sizes, and steps from one image, plane or line to the next
    depth: int
    lines: int
    line: int
    image_step: int
    plane_step: int
    # the slab
    slab_depth: int
    slab_lines: int
    slab_line: int
    slab_size: int
    before_depth: int
    before_lines: int
    before_line: int
    row_step: int  # planes from one row of outputs to the next
    # the result
    out_first: int
    out_image_step: int
    out_row_step: int


class Window(NamedTuple):
    """A plan with its tables (int64) of addresses."""

    plan: Plan
    record: np.ndarray  # the plan, for the kernels
    pix: np.ndarray  # of each output of a chunk: where its window starts in the source
    to: np.ndarray  # and where it is stored
    taps: np.ndarray  # of each place of the window, relative to its start
    order: np.ndarray  # which place of the window, counted in C order, each tap is


def as_record(values: NamedTuple) -> np.ndarray:
    """A named tuple of ints as an array of one record: a single argument, with the same names."""
    return np.array([tuple(values)], [(name, np.int64) for name in values._fields])


def as_three(values: Sequence, filler: object) -> tuple:
    """One value per spatial dimension as (depth, height, width)."""
    missing = (filler,) * (3 - len(values))
    return (*values[:1], *missing, *values[1:])


def tap_order(axes: Sequence[Axis], window_shape: Ints) -> np.ndarray:
    """Which place of the window, counted in C order, each tap is."""
    order = [np.ravel_multi_index(k, window_shape) for k in product(*(a.taps for a in axes))]
    return np.array(order, np.int64)


def _chunking(images: int, rows: int, row_outputs: int, slab: int, image_outputs: int) -> Ints:
    """Images and rows per chunk: small enough for the cache, enough of them for many threads."""
    fitting = max(1, SLAB_ELEMENTS // max(1, slab))
    for_outputs = -(-CHUNK_OUTPUTS // max(1, image_outputs))
    for_threads = max(1, images // CHUNKS)
    per_chunk = min(images, fitting, max(for_outputs, for_threads))
    if per_chunk > 1 or rows == 1:
        return per_chunk, rows
    blocks = max(
        -(-slab // SLAB_ELEMENTS), min(CHUNKS // images, image_outputs // CHUNK_OUTPUTS), 1
    )
    return 1, -(-rows // min(blocks, rows))


def _places(steps: Sequence[int], counts: Sequence[int]) -> np.ndarray:
    """Where the elements of an array with these sizes and steps lie, in C order."""
    grid = np.ogrid[tuple(slice(0, count) for count in counts)]
    total = sum(step * index for step, index in zip(steps, grid, strict=True))
    return np.ascontiguousarray(np.broadcast_to(total, counts), np.int64).ravel()


def window(
    images: int,
    axes: Sequence[Axis],
    window_shape: Ints,
    channels: int,
    out_channels: int,
    *,
    groups: int,
    need_slab: bool,
) -> Window:
    """Plan and tables for one convolution.

    Args:
        images: the batch.
        axes: depth, height and width.
        window_shape: the whole window, for `order`.
        channels: of the source.
        out_channels: of the result.
        groups: with one group, all channels of places side by side are read as one run.
        need_slab: copy the source even where it needs no padding.
    """
    depth, height, width = axes
    rows, row_outputs = depth.count, height.count * width.count
    inner = (height.extent(height.count), width.extent(width.count))
    image_slab = depth.extent(rows) * prod(inner) * channels
    per_chunk, rows_per_chunk = _chunking(images, rows, row_outputs, image_slab, rows * row_outputs)
    row_blocks = -(-rows // rows_per_chunk)

    inside = all(a.before == 0 and a.extent(a.count) <= a.size for a in axes)
    use_slab = need_slab or not inside
    slab_depth = depth.extent(rows_per_chunk)
    line_step = inner[1] * channels if use_slab else width.size * channels
    plane_step = inner[0] * line_step if use_slab else height.size * line_step
    image_step = slab_depth * plane_step if use_slab else depth.size * plane_step

    outputs = (per_chunk, rows_per_chunk, height.count, width.count)
    steps = (depth.step * plane_step, height.step * line_step, width.step * channels)
    out_line = width.out_size * out_channels
    out_plane = height.out_size * out_line
    out_steps = (
        depth.out_step * out_plane,
        height.out_step * out_line,
        width.out_step * out_channels,
    )
    first = (
        depth.out_start * out_plane + height.out_start * out_line + width.out_start * out_channels
    )

    across = tuple(zip(width.at, width.taps, strict=True))
    adjacent = all(b[0] == a[0] + 1 for a, b in zip(across, across[1:], strict=False))
    merged = groups == 1 and adjacent
    runs = across[:1] if merged else across
    taps = [
        (d + depth.before) * plane_step
        + (h + height.before) * line_step
        + (w + width.before) * channels
        for d, h, (w, _) in product(depth.at, height.at, runs)
    ]
    plan = Plan(
        images=images,
        images_per_chunk=per_chunk,
        rows=rows,
        rows_per_chunk=rows_per_chunk,
        row_blocks=row_blocks,
        chunks=-(-images // per_chunk) * row_blocks,
        row_outputs=row_outputs,
        run=channels // groups * (len(across) if merged else 1),
        use_slab=use_slab,
        depth=depth.size,
        lines=height.size,
        line=width.size * channels,
        image_step=depth.size * height.size * width.size * channels,
        plane_step=height.size * width.size * channels,
        slab_depth=slab_depth,
        slab_lines=inner[0],
        slab_line=inner[1] * channels,
        slab_size=per_chunk * slab_depth * prod(inner) * channels,
        before_depth=depth.before,
        before_lines=height.before,
        before_line=width.before * channels,
        row_step=depth.step,
        out_first=first,
        out_image_step=depth.out_size * out_plane,
        out_row_step=depth.out_step * out_plane,
    )
    return Window(
        plan,
        as_record(plan),
        _places((image_step, *steps), outputs),
        _places((plan.out_image_step, *out_steps), outputs),
        np.array(taps, np.int64),
        tap_order(axes, window_shape),
    )
