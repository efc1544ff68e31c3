"""The correlation kernel of convolution, as a register-tiled matrix product.

    y[p, f] = act(b[f] + sum over k of x[at(p, k)] w[k, f] + plus[p, f])

where k counts taps and channels, and `geometry` has the addresses. It is the forward pass, and
also the input gradient: the gradient correlated with the flipped kernel.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from minitorch_ciml.kernels.cpu.jit import entry, kernel
from minitorch_ciml.kernels.cpu.loads import (
    addresses,
    clear,
    copy,
    load,
    load_at,
    prefetch_at,
    store,
    store_at,
)
from minitorch_ciml.kernels.cpu.simd import (
    add,
    full,
    keep_positive,
    lane_fma,
    lanes,
    outer_fma,
    relu,
    row_sums,
    tile,
)
from minitorch_ciml.kernels.cpu.threads import task

# A tile's rows: outputs in `_correlate`, places of the window in `_correlate_grad`. Each row needs
# an address in one of 16 integer registers, and each sum a vector register; eight sums or more hide
# the latency of the arithmetic. Measured with 64 channels and AVX-512, GFLOP/s on one core whose
# matrix product has 225: 6 x 2 vectors 246, 8 x 2 211, 12 x 2 211, 14 x 2 244 (but 60 for the
# gradient: too few registers), 6 x 4 217; 8 x 1 182, 12 x 1 190, 14 x 1 155.
WIDE = 6
NARROW = 12
# Outputs in a tile of a filter that is alone.
ALONE = 8


class Weights(NamedTuple):
    """Where `w[group, tap, i, o]` lies in a kernel array, as element steps; `i` and `o` are
    summed over and kept.
    """

    groups: int
    inputs: int
    outputs: int
    group_step: int
    tap_step: int
    input_step: int
    output_step: int
    lanewise: int  # one input and one output per group: vectors run over the groups


@kernel
def round_up(n, unit):
    return (n + unit - 1) // unit * unit


@kernel
def workspace(size, like):
    """An array for so many elements that starts on a cache line, as numba's own need not: a vector
    that lies across two lines is read and written half as fast.
    """
    step = lanes(like)
    whole = np.empty(size + step, like.dtype)
    start = -whole.ctypes.data // whole.itemsize % step
    return whole[start : start + size]


@kernel
def copy_masked(to, i, source, j, n, mask):
    """`to[i : i + n] = source[j : j + n]`, zero where a mask is given and is not > 0."""
    if mask.size == 0:
        copy(to, i, source, j, n)
        return
    step = lanes(source)
    whole = n // step * step
    for q in range(0, whole, step):
        store(to, i + q, keep_positive(load(source, j + q, 1), load(mask, j + q, 1)))
    for q in range(whole, n):
        to[i + q] = source[j + q] if mask[j + q] > 0 else 0


@kernel
def fill_slab(slab, source, mask, plan, image, row):
    """Copies the part of the source that a chunk meets into the slab, with zeros around."""
    to = 0
    for n in range(image, min(image + plan.images_per_chunk, plan.images)):
        for i in range(plan.slab_depth):
            d = row * plan.row_step + i - plan.before_depth
            for j in range(plan.slab_lines):
                h = j - plan.before_lines
                if 0 <= d < plan.depth and 0 <= h < plan.lines:
                    left = min(plan.before_line, plan.slab_line)
                    right = min(left + plan.line, plan.slab_line)
                    start = n * plan.image_step + d * plan.plane_step + h * plan.line
                    clear(slab, to, left)
                    copy_masked(slab, to + left, source, start, right - left, mask)
                    clear(slab, to + right, plan.slab_line - right)
                else:
                    clear(slab, to, plan.slab_line)
                to += plan.slab_line


@kernel
def pack_weights(w, order, bys):
    """Weights in the order in which they are needed: per group, per panel of `width` outputs, tap
    by tap.
    """
    by = bys[0]
    width = lanes(w) if by.lanewise else 2 * lanes(w)
    step = lanes(w)
    padded = round_up(by.outputs, step)
    packed = np.zeros(by.groups * order.size * by.inputs * padded, w.dtype)
    to = 0
    for group in range(by.groups):
        for first in range(0, padded, width):
            here = min(width, padded - first)
            valid = min(here, by.outputs - first)
            for tap in order:
                for i in range(by.inputs):
                    at = group * by.group_step + tap * by.tap_step + i * by.input_step
                    at += first * by.output_step
                    for o in range(valid):
                        packed[to + o] = w[at + o * by.output_step]
                    to += here
    return packed


def _panel(pixels: int, vectors: int, lanewise: int) -> Any:
    """Compiles the tile of `pixels` outputs x `vectors` vectors of filters, moved along the
    outputs of a chunk.
    """

    @kernel
    def panel(x, base, count, pix, taps, run, w, first, bias, plus, clip, y, y_base, to, valid):
        width = vectors * lanes(x)
        spill = np.empty(pixels * width, x.dtype)
        for p in range(0, count, pixels):
            at = addresses(pix, p, count - 1, pixels)
            acc = tile(load(bias, 0, vectors), pixels)
            # Lines of two panels take turns in memory, which the processor does not foresee.
            next_at = addresses(to, p + pixels, count - 1, pixels)
            prefetch_at(y, next_at, y_base, vectors)
            if plus.size > 0:
                prefetch_at(plus, next_at, y_base, vectors)
            k = first
            for tap in taps:
                if lanewise:
                    acc = lane_fma(acc, x, at, base + tap, load(w, k, 1))
                    k += width
                else:
                    for q in range(base + tap, base + tap + run):
                        acc = outer_fma(acc, x, at, q, load(w, k, vectors))
                        k += width
            if p + pixels <= count and valid >= width:
                y_at = addresses(to, p, count - 1, pixels)
                if plus.size > 0:
                    acc = add(acc, load_at(plus, y_at, y_base, vectors))
                store_at(y, y_at, y_base, relu(acc) if clip else acc)
            else:
                store(spill, 0, acc)
                for t in range(min(pixels, count - p)):
                    for f in range(min(width, valid)):
                        place, value = y_base + to[p + t] + f, spill[t * width + f]
                        if plus.size > 0:
                            value += plus[place]
                        y[place] = 0 if clip and value <= 0 else value

    return panel


@kernel
def is_alone(run, by, step):
    """Whether there is one filter only, whose window is a few runs of whole vectors."""
    return by.outputs == 1 and by.groups == 1 and not by.lanewise and run % step == 0


@kernel
def _weights_of_one(w, order, by):
    """The weights of a filter that is alone, one after the other."""
    packed, to = np.empty(order.size * by.inputs, w.dtype), 0
    for tap in order:
        for i in range(by.inputs):
            packed[to] = w[tap * by.tap_step + i * by.input_step]
            to += 1
    return packed


@kernel
def _panel_of_one(x, base, count, pix, taps, run, w, bias, plus, clip, y, y_base, to):
    """The outputs of a filter that is alone: vectors run along the channels.

    Each output has a vector of sums; a square of them is turned to be added up.
    """
    step = lanes(x)
    rows = max(step, ALONE)
    sums = np.empty(rows * step, x.dtype)
    for p in range(0, count, step):
        for t in range(0, rows, ALONE):
            at = addresses(pix, p + t, count - 1, ALONE)
            acc, k = full(x, 0.0, ALONE), 0
            for tap in taps:
                for q in range(base + tap, base + tap + run, step):
                    acc = lane_fma(acc, x, at, q, load(w, k, 1))
                    k += step
            store(sums, t * step, acc)
        store(sums, 0, row_sums(sums, 0))
        for t in range(min(step, count - p)):
            place, value = y_base + to[p + t], sums[t] + bias[0]
            if plus.size > 0:
                value += plus[place]
            y[place] = 0 if clip and value <= 0 else value


wide_panel = _panel(WIDE, 2, False)
narrow_panel = _panel(NARROW, 1, False)
_lanewise_panel = _panel(NARROW, 1, True)


@kernel
def chunk_start(plan, chunk):
    """The chunk's first image, first row, and where the source of these begins."""
    image = chunk // plan.row_blocks * plan.images_per_chunk
    row = chunk % plan.row_blocks * plan.rows_per_chunk
    return image, row, image * plan.image_step + row * plan.row_step * plan.plane_step


@kernel
def chunk_outputs(plan, image, row):
    """Number of outputs in the chunk that starts at this image and row."""
    images = min(plan.images_per_chunk, plan.images - image)
    return images * min(plan.rows_per_chunk, plan.rows - row) * plan.row_outputs


@task
def _correlate_chunk(
    chunk, source, mask, w, bias, plus, clip, y, pix, to, taps, plans, bys, lanewise
):
    """All outputs of one chunk; `lanewise` is None or True, and compiled for either."""
    plan, by = plans[0], bys[0]
    image, row, base = chunk_start(plan, chunk)
    count = chunk_outputs(plan, image, row)
    step = lanes(source)
    x = source
    if plan.use_slab:
        x = np.empty(plan.slab_size + step, source.dtype)
        base = 0
        fill_slab(x, source, mask, plan, image, row)
    y_base = plan.out_first + image * plan.out_image_step + row * plan.out_row_step
    if is_alone(plan.run, by, step):
        _panel_of_one(x, base, count, pix, taps, plan.run, w, bias, plus, clip, y, y_base, to)
        return
    group_size = taps.size * plan.run * round_up(by.outputs, step)
    for group in range(by.groups):
        f, k = group * by.outputs, group * group_size
        end = f + by.outputs
        while f < end:
            b, y_at, left = bias[f:], y_base + f, end - f
            if lanewise is not None:
                x_at = base + f
                _lanewise_panel(
                    x, x_at, count, pix, taps, 1, w, k, b, plus, clip, y, y_at, to, left
                )
                k += taps.size * step
                f += step
            elif left > step:
                x_at = base + group * by.inputs
                wide_panel(
                    x, x_at, count, pix, taps, plan.run, w, k, b, plus, clip, y, y_at, to, left
                )
                k += taps.size * plan.run * 2 * step
                f += 2 * step
            else:
                x_at = base + group * by.inputs
                narrow_panel(
                    x, x_at, count, pix, taps, plan.run, w, k, b, plus, clip, y, y_at, to, left
                )
                f += step


@entry
def correlate(
    most, chunks, source, mask, w, bias, plus, clip, y, pix, to, taps, order, plan, by, lanewise
):
    if is_alone(plan[0].run, by[0], lanes(source)):
        packed = _weights_of_one(w, order, by[0])
    else:
        packed = pack_weights(w, order, by)
    work = (source, mask, packed, bias, plus, clip, y, pix, to, taps, plan, by, lanewise)
    _correlate_chunk(chunks, most, work)
