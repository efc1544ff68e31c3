"""The kernel's gradient of convolution: `dw[k, f] = sum over p of x[at(p, k)] g[p, f]`.

k counts taps and channels, and `geometry` has the addresses. The bias' gradient is added up
beside it, and g is masked with ReLU's derivative while it is read.

The filters are cut into *panels* of one or two vectors. For a panel, `BLOCK` outputs at a time,
g is packed so that it lies side by side in the first-level cache, and then read by one *tile* of
the window's places after the other, which keeps its sums in registers.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minitorch_ciml.kernels.cpu import vector
from minitorch_ciml.kernels.cpu.correlate import (
    NARROW,
    WIDE,
    chunk_outputs,
    chunk_start,
    fill_slab,
    round_up,
)
from minitorch_ciml.kernels.cpu.jit import entry, inlined, kernel
from minitorch_ciml.kernels.cpu.loads import addresses, clear, load, load_at, store
from minitorch_ciml.kernels.cpu.simd import add, full, keep_positive, lane_fma, lanes, outer_fma
from minitorch_ciml.kernels.cpu.threads import task

# The tile where whole vectors of x lie side by side (16 channels, say): FILTERS numbers of g, which
# are neighbours and share one address, times VECTORS vectors of x. Measured with 16 filters of
# 3 x 3 x 16: 70% of the matrix product's speed, where 12 x 1 gives 55%; with 32 filters and more,
# 6 x 2 is faster.
FILTERS = 8
VECTORS = 3 if vector.REGISTERS == 32 else 1
_NEIGHBOURS = tuple(range(FILTERS))
_SUMS = FILTERS * VECTORS

# Outputs whose gradients (two vectors each) stay in the first-level cache.
BLOCK = 192


def _tile(places: int, vectors: int, lanewise: bool) -> Any:
    """Compiles the tile of `places` of the window x `vectors` of filters."""
    size = places * vectors

    @inlined
    def tile(x, base, pix, first, end, at_places, place, g, sums, to):
        width = vectors * lanes(x)
        at = addresses(at_places, place, at_places.size - 1, places)
        acc = full(x, 0.0, size)
        g_at = 0
        for p in range(first, end):
            if lanewise:
                acc = lane_fma(acc, x, at, base + pix[p], load(g, g_at, 1))
            else:
                acc = outer_fma(acc, x, at, base + pix[p], load(g, g_at, vectors))
            g_at += width
        store(sums, to, add(load(sums, to, size), acc))

    return tile


@inlined
def _vector_tile(x, base, pix, first, end, at_vectors, k, g, g_at, sums, to):
    """The tile of `VECTORS` vectors of places of the window x `FILTERS` filters."""
    width = lanes(x)
    at = addresses(at_vectors, k, at_vectors.size - 1, VECTORS)
    acc = full(x, 0.0, _SUMS)
    for p in range(first, end):
        acc = outer_fma(acc, g, _NEIGHBOURS, g_at, load_at(x, at, base + pix[p], 1))
        g_at += width
    store(sums, to, add(load(sums, to, _SUMS), acc))


_wide_tile = _tile(WIDE, 2, False)
_narrow_tile = _tile(NARROW, 1, False)
_lanewise_tile = _tile(NARROW, 1, True)


def _packer(vectors: int) -> Any:
    """Compiles the copy of `vectors` of filters of the (masked) g into a packed block."""

    @inlined
    def pack(g, mask, first, end, stride, packed, bias_sums, b):
        """Also adds the block to db. Lanes past the panel's last filter hold what comes after it
        in g, and are dropped in the end."""
        step, to = lanes(g), 0
        total = load(bias_sums, b, vectors)
        masked = mask.size > 0
        for at in range(first, end, stride):
            if at + vectors * step <= g.size:
                values = load(g, at, vectors)
                if masked:
                    values = keep_positive(values, load(mask, at, vectors))
                store(packed, to, values)
            else:
                for q in range(g.size - at):
                    keep = not masked or mask[at + q] > 0
                    packed[to + q] = g[at + q] if keep else 0
                clear(packed, to + g.size - at, vectors * step - (g.size - at))
            total = add(total, load(packed, to, vectors))
            to += vectors * step
        store(bias_sums, b, total)

    return pack


_pack_one, _pack_two = _packer(1), _packer(2)


@kernel
def _layout(places, vectors, wide, filters, step):
    """Tiles along the window's places, and sums in each, for one panel of filters."""
    if vectors > 0:
        return round_up(vectors, VECTORS) // VECTORS, VECTORS * step * round_up(filters, FILTERS)
    height = WIDE if wide else NARROW
    return round_up(places, height) // height, height * (2 * step if wide else step)


@inlined
def _panel_grad(
    x, base, pix, count, g, mask, g_at, stride, wide, valid, places, at_vectors, part, slices,
    packed, sums, to, bias_sums, b, lanewise,
):  # fmt: skip
    """Adds what one panel of filters gets from one chunk; works on slice `part` of the tiles."""
    step = lanes(x)
    tiles, size = _layout(places.size, at_vectors.size, wide, valid, step)
    for p in range(0, count, BLOCK):
        stop = min(p + BLOCK, count)
        if lanewise is None and wide:
            _pack_two(
                g, mask, g_at + p * stride, g_at + stop * stride, stride, packed, bias_sums, b
            )
        else:
            _pack_one(
                g, mask, g_at + p * stride, g_at + stop * stride, stride, packed, bias_sums, b
            )
        for index in range(part * tiles // slices, (part + 1) * tiles // slices):
            at = to + index * size
            if lanewise is not None:
                k = index * NARROW
                _lanewise_tile(x, base, pix, p, stop, places, k, packed, sums, at)
            elif at_vectors.size > 0:
                k = index * VECTORS
                for o in range(0, valid, FILTERS):
                    _vector_tile(x, base, pix, p, stop, at_vectors, k, packed, o, sums, at)
                    at += _SUMS * step
            elif wide:
                _wide_tile(x, base, pix, p, stop, places, index * WIDE, packed, sums, at)
            else:
                _narrow_tile(x, base, pix, p, stop, places, index * NARROW, packed, sums, at)
    return to + tiles * size


@kernel
def _chunk_grad(
    chunk, x, g, mask, sums, bias_sums, part, slices, pix, places, at_vectors, plans, bys, lanewise
):
    """Adds one chunk's part of dw and db; works on slice `part` of the window's places."""
    plan, by = plans[0], bys[0]
    image, row, base = chunk_start(plan, chunk)
    count = chunk_outputs(plan, image, row)
    step = lanes(x)
    filters = by.groups * by.outputs
    g_base = (image * plan.rows + row) * plan.row_outputs * filters
    packed = np.empty(BLOCK * 2 * step + FILTERS, g.dtype)
    if plan.use_slab:
        slab = np.empty(plan.slab_size + step, x.dtype)
        fill_slab(slab, x, g[:0], plan, image, row)
        x = slab
        base = 0
    to, b = 0, 0
    for group in range(by.groups):
        f = group * by.outputs
        end = f + by.outputs
        while f < end:
            wide = end - f > step and not by.lanewise
            width = 2 * step if wide else step
            x_at = base + (f if by.lanewise else group * by.inputs)
            to = _panel_grad(
                x, x_at, pix, count, g, mask, g_base + f, filters, wide, min(width, end - f),
                places, at_vectors, part, slices, packed, sums, to, bias_sums, b, lanewise,
            )  # fmt: skip
            f += width
            b += width


@kernel
def _sum_parts(parts):
    """`parts[0] += parts[1] + ...`, in this order whatever the number of threads."""
    step = lanes(parts)
    total = parts[0]
    for part in parts[1:]:
        for i in range(0, total.size, step):
            store(total, i, add(load(total, i, 1), load(part, i, 1)))


@kernel
def _unpack(sums, bias_sums, dw, db, places, vectors, bys):
    """Puts the panels and their tiles in the order of db and dw."""
    by = bys[0]
    step = lanes(dw)
    to, b = 0, 0
    filters = by.groups * by.outputs
    block = VECTORS * step
    for group in range(by.groups):
        f = group * by.outputs
        end = f + by.outputs
        while f < end:
            wide = end - f > step and not by.lanewise
            width = 2 * step if wide else step
            valid = min(width, end - f)
            tiles, size = _layout(places, vectors, wide, valid, step)
            for o in range(valid):
                db[f + o] = bias_sums[0, b + o]
            for k in range(places):
                at, hop = to + k * width, 1
                if vectors > 0:
                    at, hop = to + k // block * size + k % block, block
                for o in range(valid):
                    dw[k * filters + f + o] = sums[0, at + o * hop]
            to += tiles * size
            f += width
            b += width


@task
def _unit_grad(
    unit, x, g, mask, sums, bias_sums, chunks, slices, pix, places, at_vectors, plans, bys, lanewise
):
    """Adds the chunks of one part of the batch, for one slice of the window's places."""
    part, piece = unit // slices, unit % slices
    parts = sums.shape[0]
    for chunk in range(part * chunks // parts, (part + 1) * chunks // parts):
        _chunk_grad(
            chunk, x, g, mask, sums[part], bias_sums[piece * parts + part], piece, slices,
            pix, places, at_vectors, plans, bys, lanewise,
        )  # fmt: skip


@entry
def correlate_grad(
    most, chunks, x, g, mask, dw, db, sums, bias_sums, slices, pix, places, at_vectors, plans, bys,
    lanewise,
):  # fmt: skip
    """Parts of the batch x slices of the window run in parallel, each into its own sums."""
    parts = sums.shape[0]
    clear(sums, 0, sums.size)
    work = (x, g, mask, sums, bias_sums, chunks, slices, pix, places, at_vectors, plans, bys)
    _unit_grad(parts * slices, most, (*work, lanewise))
    _sum_parts(sums)
    _sum_parts(bias_sums[:parts])
    _unpack(sums, bias_sums, dw, db, places.size, at_vectors.size, bys)
