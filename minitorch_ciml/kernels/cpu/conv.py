"""Convolution on the CPU, and its gradients, as register-tiled matrix products (see ``simd`` and
``geometry``).

Two families of kernels do everything, for any number of spatial dimensions, strides, dilations,
paddings and groups:

- ``_correlate``: ``y[p, f] = act(b[f] + sum over k of x[at(p, k)] w[k, f])``, where k counts taps
  and channels.  It is the forward pass, and also the input gradient: the gradient correlated with
  the flipped kernel.
- ``_correlate_grad``: ``dw[k, f] = sum over p of x[at(p, k)] g[p, f]``, and the bias' gradient
  beside it.

Both mask g with ReLU's derivative while they read it, so no masked copy of it is ever stored.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from minitorch_ciml.kernels.cpu import simd
from minitorch_ciml.kernels.cpu.buffers import empty
from minitorch_ciml.kernels.cpu.geometry import (
    Window,
    as_record,
    as_three,
    backward_axes,
    forward_axis,
    window,
)
from minitorch_ciml.kernels.cpu.jit import entry, kernel, ready
from minitorch_ciml.kernels.cpu.simd import (
    add,
    addresses,
    clear,
    copy,
    full,
    keep_positive,
    lane_fma,
    lanes,
    load,
    load_at,
    outer_fma,
    relu,
    store,
    store_at,
    tile,
)
from minitorch_ciml.kernels.cpu.threads import task, threads_for
from minitorch_ciml.kernels.reference.conv import Ints, Pads, output_size

# A tile's rows: outputs in `_correlate`, places of the window in `_correlate_grad`.  Each row needs
# an address in one of 16 integer registers, and each sum a vector register; eight sums or more hide
# the latency of the arithmetic.  Measured with 64 channels and AVX-512, GFLOP/s on one core whose
# matrix product has 225: 6 x 2 vectors 246, 8 x 2 211, 12 x 2 211, 14 x 2 244 (but 60 for the
# gradient: too few registers), 6 x 4 217; 8 x 1 182, 12 x 1 190, 14 x 1 155.
WIDE = 6
NARROW = 12

# The kernel gradient's tile where whole vectors of x lie side by side (16 channels, say): FILTERS
# numbers of g, which are neighbours and share one address, times VECTORS vectors of x.  Measured
# with 16 filters of 3 x 3 x 16: 70% of the matrix product's speed, where 12 x 1 gives 55%; with
# 32 filters and more, 6 x 2 is faster.
FILTERS = 8
VECTORS = 3 if simd.REGISTERS == 32 else 1
_NEIGHBOURS = tuple(range(FILTERS))
_SUMS = FILTERS * VECTORS

# Outputs over which the kernel gradient sums before it turns to the next places of the window:
# their gradients (two vectors each) stay in the first-level cache.
GRAD_OUTPUTS = 192


class Weights(NamedTuple):
    """Where ``w[group, tap, i, o]`` lies in a kernel array, as element steps; ``i`` and ``o`` are
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
def _round_up(n, unit):
    return (n + unit - 1) // unit * unit


@kernel
def _copy_masked(to, i, source, j, n, mask):
    """``to[i : i + n] = source[j : j + n]``, zero where a mask is given and is not > 0."""
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
def _fill_slab(slab, source, mask, plan, image, row):
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
                    _copy_masked(slab, to + left, source, start, right - left, mask)
                    clear(slab, to + right, plan.slab_line - right)
                else:
                    clear(slab, to, plan.slab_line)
                to += plan.slab_line


@kernel
def _pack(w, order, bys):
    by = bys[0]
    width = lanes(w) if by.lanewise else 2 * lanes(w)
    """Weights in the order in which they are needed: per group, per panel of ``width`` outputs, tap
    by tap.
    """
    step = lanes(w)
    padded = _round_up(by.outputs, step)
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
    """Compiles the tile of ``pixels`` outputs x ``vectors`` vectors of filters, moved along the
    outputs of a chunk.
    """

    @kernel
    def panel(x, base, count, pix, taps, run, w, first, bias, clip, y, y_base, to, valid):
        width = vectors * lanes(x)
        spill = np.empty(pixels * width, x.dtype)
        for p in range(0, count, pixels):
            at = addresses(pix, p, count - 1, pixels)
            acc = tile(load(bias, 0, vectors), pixels)
            k = first
            for tap in taps:
                if lanewise:
                    acc = lane_fma(acc, x, at, base + tap, load(w, k, 1))
                    k += width
                else:
                    for q in range(base + tap, base + tap + run):
                        acc = outer_fma(acc, x, at, q, load(w, k, vectors))
                        k += width
            if clip:
                acc = relu(acc)
            if p + pixels <= count and valid >= width:
                store_at(y, addresses(to, p, count - 1, pixels), y_base, acc)
            else:
                store(spill, 0, acc)
                for t in range(min(pixels, count - p)):
                    for f in range(min(width, valid)):
                        y[y_base + to[p + t] + f] = spill[t * width + f]

    return panel


_wide_panel = _panel(WIDE, 2, False)
_narrow_panel = _panel(NARROW, 1, False)
_lanewise_panel = _panel(NARROW, 1, True)


@kernel
def _chunk_outputs(plan, image, row):
    """Number of outputs in the chunk that starts at this image and row."""
    images = min(plan.images_per_chunk, plan.images - image)
    return images * min(plan.rows_per_chunk, plan.rows - row) * plan.row_outputs


@task
def _correlate_chunk(chunk, source, mask, w, bias, clip, y, pix, to, taps, plans, bys, lanewise):
    """All outputs of one chunk; ``lanewise`` is None or True, and compiled for either."""
    plan, by = plans[0], bys[0]
    image = chunk // plan.row_blocks * plan.images_per_chunk
    row = chunk % plan.row_blocks * plan.rows_per_chunk
    count = _chunk_outputs(plan, image, row)
    step = lanes(source)
    x = source
    base = image * plan.image_step + row * plan.row_step * plan.plane_step
    if plan.use_slab:
        x = np.empty(plan.slab_size + step, source.dtype)
        base = 0
        _fill_slab(x, source, mask, plan, image, row)
    y_base = plan.out_first + image * plan.out_image_step + row * plan.out_row_step
    group_size = taps.size * plan.run * _round_up(by.outputs, step)
    for group in range(by.groups):
        f, k = group * by.outputs, group * group_size
        end = f + by.outputs
        while f < end:
            b, y_at, left = bias[f:], y_base + f, end - f
            if lanewise is not None:
                x_at = base + f
                _lanewise_panel(x, x_at, count, pix, taps, 1, w, k, b, clip, y, y_at, to, left)
                k += taps.size * step
                f += step
            elif left > step:
                x_at = base + group * by.inputs
                _wide_panel(x, x_at, count, pix, taps, plan.run, w, k, b, clip, y, y_at, to, left)
                k += taps.size * plan.run * 2 * step
                f += 2 * step
            else:
                x_at = base + group * by.inputs
                _narrow_panel(x, x_at, count, pix, taps, plan.run, w, k, b, clip, y, y_at, to, left)
                f += step


@entry
def _correlate(
    most, chunks, source, mask, w, bias, clip, y, pix, to, taps, order, plan, by, lanewise
):
    packed = _pack(w, order, by)
    work = (source, mask, packed, bias, clip, y, pix, to, taps, plan, by, lanewise)
    _correlate_chunk(chunks, most, work)


def _grad_panel(places: int, vectors: int, lanewise: bool) -> Any:
    """Compiles the tile of ``places`` of the window x ``vectors`` of filters, summed over p."""
    size = places * vectors

    @kernel
    def panel(x, base, pix, first, end, at_places, place, g, sums, to):
        width = vectors * lanes(x)
        at = addresses(at_places, place, at_places.size - 1, places)
        acc = full(x, 0.0, size)
        g_at = first * width
        for p in range(first, end):
            if lanewise:
                acc = lane_fma(acc, x, at, base + pix[p], load(g, g_at, 1))
            else:
                acc = outer_fma(acc, x, at, base + pix[p], load(g, g_at, vectors))
            g_at += width
        store(sums, to, add(load(sums, to, size), acc))

    return panel


@kernel
def _vector_grad_panel(x, base, pix, first, end, at_vectors, k, g, g_at, width, sums, to):
    """The tile of ``VECTORS`` vectors of places of the window x ``FILTERS`` filters."""
    at = addresses(at_vectors, k, at_vectors.size - 1, VECTORS)
    acc = full(x, 0.0, _SUMS)
    g_at += first * width
    for p in range(first, end):
        acc = outer_fma(acc, g, _NEIGHBOURS, g_at, load_at(x, at, base + pix[p]))
        g_at += width
    store(sums, to, add(load(sums, to, _SUMS), acc))


_wide_grad_panel = _grad_panel(WIDE, 2, False)
_narrow_grad_panel = _grad_panel(NARROW, 1, False)
_lanewise_grad_panel = _grad_panel(NARROW, 1, True)


@kernel
def _panel_of_grad(g, mask, first, count, stride, width, valid, panel, bias_sums, f):
    """Copies ``width`` filters of the (masked) g of a chunk next to each other; adds up db."""
    to = 0
    step = lanes(g)
    masked = mask.size > 0
    for at in range(first, first + count * stride, stride):
        if valid >= width:
            for q in range(0, width, step):
                value = load(g, at + q, 1)
                if masked:
                    value = keep_positive(value, load(mask, at + q, 1))
                store(panel, to + q, value)
                store(bias_sums, f + q, add(load(bias_sums, f + q, 1), value))
        else:
            clear(panel, to, width)
            _copy_masked(panel, to, g, at, valid, mask)
            for q in range(valid):
                bias_sums[f + q] += panel[to + q]
        to += width


@kernel
def _grad_chunk(
    chunk, x, g, mask, sums, bias_sums, part, slices, pix, places, at_vectors, plans, bys, lanewise
):
    """Adds one chunk's part of dw and db; works on slice ``part`` of the window's places."""
    plan, by = plans[0], bys[0]
    image = chunk // plan.row_blocks * plan.images_per_chunk
    row = chunk % plan.row_blocks * plan.rows_per_chunk
    count = _chunk_outputs(plan, image, row)
    step = lanes(x)
    base = image * plan.image_step + row * plan.row_step * plan.plane_step
    filters = by.groups * by.outputs
    g_base = (image * plan.rows + row) * plan.row_outputs * filters
    panel = np.empty(count * 2 * step + FILTERS, g.dtype)
    if plan.use_slab:
        slab = np.empty(plan.slab_size + step, x.dtype)
        _fill_slab(slab, x, g[:0], plan, image, row)
        x = slab
        base = 0
    to = 0
    for group in range(by.groups):
        f = group * by.outputs
        end = f + by.outputs
        while f < end:
            wide = end - f > step and not by.lanewise
            height = WIDE if wide else NARROW
            width = 2 * step if wide else step
            _panel_of_grad(g, mask, g_base + f, count, filters, width, end - f, panel, bias_sums, f)
            valid = min(width, end - f)
            tiles, size = _tiles(places.size, at_vectors.size, wide, valid, step)
            x_at = base + (f if by.lanewise else group * by.inputs)
            for p in range(0, count, GRAD_OUTPUTS):
                stop = min(p + GRAD_OUTPUTS, count)
                for index in range(part * tiles // slices, (part + 1) * tiles // slices):
                    at = to + index * size
                    k = index * height
                    if lanewise is not None:
                        _lanewise_grad_panel(x, x_at, pix, p, stop, places, k, panel, sums, at)
                    elif at_vectors.size > 0:
                        k = index * VECTORS
                        for o in range(0, valid, FILTERS):
                            _vector_grad_panel(
                                x, x_at, pix, p, stop, at_vectors, k, panel, o, width, sums, at
                            )
                            at += _SUMS * step
                    elif wide:
                        _wide_grad_panel(x, x_at, pix, p, stop, places, k, panel, sums, at)
                    else:
                        _narrow_grad_panel(x, x_at, pix, p, stop, places, k, panel, sums, at)
            to += tiles * size
            f += width


@kernel
def _tiles(places, vectors, wide, filters, step):
    """Tiles along the window's places, and sums in each, for one panel of filters."""
    if vectors > 0:
        return _round_up(vectors, VECTORS) // VECTORS, VECTORS * step * _round_up(filters, FILTERS)
    height = WIDE if wide else NARROW
    return _round_up(places, height) // height, height * (2 * step if wide else step)


@kernel
def _sum_parts(parts):
    """``parts[0] += parts[1] + ...``, in this order whatever the number of threads."""
    step = lanes(parts)
    total = parts[0]
    for part in parts[1:]:
        for i in range(0, total.size, step):
            store(total, i, add(load(total, i, 1), load(part, i, 1)))


@kernel
def _unpack(sums, dw, places, vectors, bys):
    """Puts the tiles in dw's order."""
    by = bys[0]
    step = lanes(dw)
    to = 0
    filters = by.groups * by.outputs
    block = VECTORS * step
    for group in range(by.groups):
        f = group * by.outputs
        end = f + by.outputs
        while f < end:
            wide = end - f > step and not by.lanewise
            width = 2 * step if wide else step
            valid = min(width, end - f)
            tiles, size = _tiles(places, vectors, wide, valid, step)
            for k in range(places):
                at, hop = to + k * width, 1
                if vectors > 0:
                    at, hop = to + k // block * size + k % block, block
                for o in range(valid):
                    dw[k * filters + f + o] = sums[0, at + o * hop]
            to += tiles * size
            f += width


@task
def _grad_unit(
    unit, x, g, mask, sums, bias_sums, chunks, slices, pix, places, at_vectors, plans, bys, lanewise
):
    """Adds the chunks of one part of the batch, for one slice of the window's places."""
    part, piece = unit // slices, unit % slices
    parts = sums.shape[0]
    for chunk in range(part * chunks // parts, (part + 1) * chunks // parts):
        _grad_chunk(
            chunk, x, g, mask, sums[part], bias_sums[piece * parts + part], piece, slices,
            pix, places, at_vectors, plans, bys, lanewise,
        )  # fmt: skip


@entry
def _correlate_grad(
    most, chunks, x, g, mask, dw, db, sums, bias_sums, slices, pix, places, at_vectors, plans, bys,
    lanewise,
):  # fmt: skip
    """Parts of the batch x slices of the window run in parallel, each into its own sums."""
    parts = sums.shape[0]
    work = (x, g, mask, sums, bias_sums, chunks, slices, pix, places, at_vectors, plans, bys)
    _grad_unit(parts * slices, most, (*work, lanewise))
    _sum_parts(sums)
    _unpack(sums, dw, places.size, at_vectors.size, bys)
    _sum_parts(bias_sums[:parts])
    db[:] = bias_sums[0, : db.size]


@lru_cache(maxsize=64)
def _no_bias(size: int, dtype: np.dtype) -> np.ndarray:
    return np.zeros(size, dtype)


def _padded_bias(b: np.ndarray | None, filters: int, dtype: np.dtype) -> np.ndarray:
    """b with room behind it, for the panel that is wider than the filters that are left."""
    size = filters + simd.VECTOR_BITS // 8 // dtype.itemsize * 2
    if b is None:
        return _no_bias(size, dtype)
    padded = np.zeros(size, dtype)
    padded[:filters] = b
    return padded


@lru_cache(maxsize=1024)
def _forward_window(
    x_shape: Ints, w_shape: Ints, strides: Ints, padding: Pads, dilation: Ints, groups: int
) -> Window:
    axes = [
        forward_axis(*one)
        for one in zip(
            as_three(x_shape[1:-1], 1),
            as_three(w_shape[:-2], 1),
            as_three(strides, 1),
            as_three(padding, (0, 0)),
            as_three(dilation, 1),
            strict=True,
        )
    ]
    return window(
        x_shape[0],
        axes,
        as_three(w_shape[:-2], 1),
        x_shape[-1],
        w_shape[-1],
        groups=groups,
        need_slab=groups == x_shape[-1] > 1,
    )


@lru_cache(maxsize=1024)
def _backward_windows(
    x_shape: Ints,
    w_shape: Ints,
    strides: Ints,
    padding: Pads,
    dilation: Ints,
    groups: int,
    masked: bool,
) -> list[Window]:
    axes = [
        backward_axes(*one)
        for one in zip(
            as_three(x_shape[1:-1], 1),
            as_three(w_shape[:-2], 1),
            as_three(strides, 1),
            as_three(padding, (0, 0)),
            as_three(dilation, 1),
            strict=True,
        )
    ]
    return [
        window(
            x_shape[0],
            phase,
            as_three(w_shape[:-2], 1),
            w_shape[-1],
            x_shape[-1],
            groups=groups,
            need_slab=masked or groups == x_shape[-1] > 1,
        )
        for phase in product(*axes)
    ]


def _output_shape(
    x_shape: Ints, w_shape: Ints, strides: Ints, padding: Pads, dilation: Ints
) -> Ints:
    sizes = zip(x_shape[1:-1], w_shape[:-2], strides, padding, dilation, strict=True)
    return (x_shape[0], *(output_size(s, k, st, p, d) for s, k, st, p, d in sizes), w_shape[-1])


def _is_depthwise(x_channels: int, groups: int) -> bool:
    return groups == x_channels > 1


@lru_cache(maxsize=1024)
def _forward_weights(w_shape: Ints, groups: int, depthwise: bool) -> np.ndarray:
    inputs, filters = w_shape[-2:]
    if depthwise:
        return as_record(Weights(1, 1, filters, 0, filters, 0, 1, True))
    kept = filters // groups
    by = Weights(groups, inputs, kept, kept, inputs * filters, filters, 1, False)
    return as_record(by)


@lru_cache(maxsize=1024)
def _backward_weights(w_shape: Ints, groups: int, depthwise: bool) -> np.ndarray:
    inputs, filters = w_shape[-2:]
    if depthwise:
        return as_record(Weights(1, 1, filters, 0, filters, 0, 1, True))
    summed = filters // groups
    by = Weights(groups, summed, inputs, summed, inputs * filters, 1, filters, False)
    return as_record(by)


def conv(
    x: np.ndarray, w: np.ndarray, *, strides: Ints, padding: Pads, dilation: Ints, groups: int
) -> np.ndarray:
    """``y = x * w``: x ``(N, *S, C)``, w ``(*K, C // groups, F)`` -> y ``(N, *O, F)``."""
    return _conv(x, w, None, strides, padding, dilation, groups, False)


def conv_bias_act(
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray,
    *,
    strides: Ints,
    padding: Pads,
    dilation: Ints,
    groups: int,
    activation: str,
) -> np.ndarray:
    """``y = activation(conv(x, w) + b)`` in one pass; b ``(F,)``; activation ``"linear"`` or
    ``"relu"``.
    """
    return _conv(x, w, b, strides, padding, dilation, groups, activation == "relu")


def _conv(
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray | None,
    strides: Ints,
    padding: Pads,
    dilation: Ints,
    groups: int,
    clip: bool,
) -> np.ndarray:
    dtype = np.result_type(x, w)
    depthwise = _is_depthwise(x.shape[-1], groups)
    if depthwise and w.shape[-1] > groups:
        x, groups = np.repeat(x, w.shape[-1] // groups, axis=-1), w.shape[-1]
    shape = _output_shape(x.shape, w.shape, strides, padding, dilation)
    y = empty(shape, dtype)
    if y.size == 0:
        return y
    where = _forward_window(x.shape, w.shape, strides, padding, dilation, groups)
    _correlate(
        threads_for(y.size * w.size // shape[-1]),
        where.plan.chunks,
        ready(x, dtype),
        np.empty(0, dtype),
        ready(w, dtype),
        _padded_bias(b, shape[-1], dtype),
        clip,
        y.reshape(-1),
        where.pix,
        where.to,
        where.taps,
        where.order,
        where.record,
        _forward_weights(w.shape, groups, depthwise),
        depthwise or None,
    )
    return y


def conv_input_grad(
    g: np.ndarray,
    w: np.ndarray,
    *,
    input_shape: Ints,
    strides: Ints,
    padding: Pads,
    dilation: Ints,
    groups: int,
) -> np.ndarray:
    """``dx = dL/dx`` for ``y = conv(x, w)``: g ``(N, *O, F)``, w ``(*K, C // groups, F)`` -> dx
    ``(N, *S, C)``.
    """
    return _input_grad(g, None, w, input_shape, strides, padding, dilation, groups)


def _input_grad(
    g: np.ndarray,
    mask: np.ndarray | None,
    w: np.ndarray,
    input_shape: Ints,
    strides: Ints,
    padding: Pads,
    dilation: Ints,
    groups: int,
) -> np.ndarray:
    dtype = np.result_type(g, w)
    channels, filters = input_shape[-1], w.shape[-1]
    depthwise = _is_depthwise(channels, groups)
    if depthwise and filters > groups:
        wide_shape = (*input_shape[:-1], filters)
        dx = _input_grad(g, mask, w, wide_shape, strides, padding, dilation, filters)
        return dx.reshape(*input_shape, filters // channels).sum(axis=-1)
    dx = empty(input_shape, dtype)
    if dx.size == 0:
        return dx
    if g.size == 0:
        dx.fill(0)
        return dx
    flat_g, flat_w = ready(g, dtype), ready(w, dtype)
    flat_mask = np.empty(0, dtype) if mask is None else ready(mask, dtype)
    by = _backward_weights(w.shape, groups, depthwise)
    most = threads_for(g.size * w.size // filters)
    bias = _padded_bias(None, channels, dtype)
    for where in _backward_windows(
        tuple(input_shape), w.shape, strides, padding, dilation, groups, mask is not None
    ):
        _correlate(
            most, where.plan.chunks, flat_g, flat_mask, flat_w, bias, False, dx.reshape(-1),
            where.pix, where.to, where.taps, where.order, where.record, by,
            depthwise or None,
        )  # fmt: skip
    return dx


def conv_kernel_grad(
    x: np.ndarray,
    g: np.ndarray,
    *,
    kernel_shape: Ints,
    strides: Ints,
    padding: Pads,
    dilation: Ints,
    groups: int,
) -> np.ndarray:
    """``dw = dL/dw`` for ``y = conv(x, w)``: x ``(N, *S, C)``, g ``(N, *O, F)`` -> dw ``(*K, C //
    groups, F)``.
    """
    return _kernel_grad(x, g, None, kernel_shape, strides, padding, dilation, groups)[0]


# Work units of the kernel gradient: their number depends on the shapes only, never on the threads,
# so that any number of threads gives the same sums to the last bit.
UNITS = 64
SUMS_ELEMENTS = 1 << 22


def _kernel_grad(
    x: np.ndarray,
    g: np.ndarray,
    mask: np.ndarray | None,
    kernel_shape: Ints,
    strides: Ints,
    padding: Pads,
    dilation: Ints,
    groups: int,
) -> tuple[np.ndarray, np.ndarray]:
    """``(dw, db)``, where db is the sum of the (masked) g over all but the filters."""
    dtype = np.result_type(x, g)
    filters = kernel_shape[-1]
    depthwise = _is_depthwise(x.shape[-1], groups)
    if depthwise and filters > groups:
        x, groups = np.repeat(x, filters // groups, axis=-1), filters
    dw, db = np.zeros(kernel_shape, dtype), np.zeros(filters, dtype)
    if g.size == 0:
        return dw, db
    kernel_shape = tuple(kernel_shape)
    where = _forward_window(x.shape, kernel_shape, strides, padding, dilation, groups)
    plan = where.plan
    by = _forward_weights(kernel_shape, groups, depthwise)
    places = (where.taps[:, None] + np.arange(plan.run)).ravel()
    step = simd.VECTOR_BITS // 8 // dtype.itemsize
    whole = plan.run % step == 0 and filters // groups <= step and not depthwise
    at_vectors = places[::step].copy() if whole else places[:0]
    panels = -(-filters // step) if depthwise else groups * -(-(filters // groups) // (2 * step))
    size = (places.size + max(NARROW, VECTORS * step)) * panels * max(2 * step, FILTERS)
    parts = max(1, min(plan.chunks, UNITS, SUMS_ELEMENTS // size))
    slices = min(-(-UNITS // parts), -(-places.size // NARROW))
    _correlate_grad(
        threads_for(g.size * dw.size // filters),
        plan.chunks,
        ready(x, dtype),
        ready(g, dtype),
        np.empty(0, dtype) if mask is None else ready(mask, dtype),
        dw.reshape(-1),
        db,
        np.zeros((parts, size), dtype),
        np.zeros((parts * slices, -(-filters // step) * step), dtype),
        slices,
        where.pix,
        places,
        at_vectors,
        where.record,
        by,
        depthwise or None,
    )
    return dw, db


def conv_bias_act_grad(
    g: np.ndarray,
    y: np.ndarray,
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray,
    *,
    needs: tuple[bool, bool, bool],
    strides: Ints,
    padding: Pads,
    dilation: Ints,
    groups: int,
    activation: str,
) -> tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None]:
    """``(dx, dw, db)`` of :func:`conv_bias_act`, each None unless ``needs`` asks for it; y is its
    output.
    """
    mask = y if activation == "relu" else None
    how = (strides, padding, dilation, groups)
    dx = _input_grad(g, mask, w, x.shape, *how) if needs[0] else None
    dw, db = _kernel_grad(x, g, mask, w.shape, *how) if needs[1] or needs[2] else (None, None)
    return dx, dw if needs[1] else None, db if needs[2] else None
