"""The gradients of a 1 x 1 convolution: `dw[c, f] = sum over p of x[p, c] g[p, f]`, and with it,
where it is wanted, `dx[p, c] = sum over f of g[p, f] w[c, f]`.

The first is a matrix product with a small result and a very long sum. Both arrays are read as they
lie: the channels of a place are neighbours, so a tile of `CHANNELS` x one vector of filters needs
one address in x and one in g.  g is masked with ReLU's derivative, and added up for the bias, block
by block of places that stay in the first-level cache: x, g and the mask are read from memory once
for all three gradients.
"""

from __future__ import annotations

import numpy as np

from minitorch_ciml.kernels.cpu import vector
from minitorch_ciml.kernels.cpu.buffers import empty
from minitorch_ciml.kernels.cpu.correlate import (
    Weights,
    copy_masked,
    narrow_panel,
    pack_weights,
    wide_panel,
)
from minitorch_ciml.kernels.cpu.geometry import as_record
from minitorch_ciml.kernels.cpu.jit import entry, kernel
from minitorch_ciml.kernels.cpu.loads import (
    clear,
    copy,
    load,
    load_grid,
    prefetch_at,
    store,
    store_rows,
)
from minitorch_ciml.kernels.cpu.products import places as rows_at
from minitorch_ciml.kernels.cpu.simd import add, lanes, outer_fma
from minitorch_ciml.kernels.cpu.threads import task

Array = np.ndarray

CHANNELS = 8
_NEIGHBOURS = tuple(range(CHANNELS))
# Places whose x and g stay in the first-level cache while all tiles go over them.
BLOCK = 96
# Work units, each with sums of its own: as many for any number of threads.
UNITS = 32
PLACES_PER_UNIT = 4 * BLOCK
SUMS_ELEMENTS = 1 << 20
_NO_WEIGHTS = as_record(Weights(0, 0, 0, 0, 0, 0, 0, 0))


@kernel
def _add_products(x, x_first, g, g_first, count, channels, filters, total):
    """`total[c, f] += x[p, c] g[p, f]` for some places p."""
    for c in range(0, channels, CHANNELS):
        for f in range(0, filters, lanes(x)):
            to = c * filters + f
            acc = load_grid(total, to, filters, CHANNELS, 0, 1)
            x_at, g_at = x_first + c, g_first + f
            for _ in range(count):
                prefetch_at(x, (x_at,), BLOCK * channels, 1)  # of the next block
                acc = outer_fma(acc, x, _NEIGHBOURS, x_at, load(g, g_at, 1))
                x_at += channels
                g_at += filters
            store_rows(total, to, filters, acc)


@kernel
def _add_rows(g, first, count, filters, total):
    """`total[f] += g[p, f]` for some places p."""
    for f in range(0, filters, lanes(g)):
        acc = load(total, f, 1)
        for at in range(first + f, first + f + count * filters, filters):
            acc = add(acc, load(g, at, 1))
        store(total, f, acc)


@kernel
def _input_rows(g, g_first, count, filters, w, channels, dx, to):
    """`dx[p, c] = sum over f of g[p, f] w[f, c]` for some places p and packed weights."""
    step = lanes(g)
    from_, rows = rows_at(0, filters, count), rows_at(0, channels, count)
    zero, none, here = np.zeros(2 * step, g.dtype), g[:0], rows_at(0, 0, 1)
    c = k = 0
    while c < channels:
        left, y_at = channels - c, to + c
        if left > step:
            wide_panel(
                g, g_first, count, from_, here, filters, w, k, zero, none, False, dx, y_at, rows,
                left,
            )  # fmt: skip
            k += filters * 2 * step
            c += 2 * step
        else:
            narrow_panel(
                g, g_first, count, from_, here, filters, w, k, zero, none, False, dx, y_at, rows,
                left,
            )  # fmt: skip
            c += step


@task
def _unit(unit, x, g, mask, w, sums, bias_sums, dx, all_masked, places, channels, filters):
    total, bias = sums[unit], bias_sums[unit]
    clear(total, 0, total.size)
    clear(bias, 0, bias.size)
    masked = np.empty(BLOCK * filters if mask.size > 0 else 0, g.dtype)
    first, last = unit * places // sums.shape[0], (unit + 1) * places // sums.shape[0]
    for start in range(first, last, BLOCK):
        count = min(BLOCK, last - start)
        source, at = g, start * filters
        if mask.size > 0:
            copy_masked(masked, 0, g, at, count * filters, mask)
            source, at = masked, 0
            if all_masked.size > 0:
                copy(all_masked, start * filters, masked, 0, count * filters)
        _add_products(x, start * channels, source, at, count, channels, filters, total)
        _add_rows(source, at, count, filters, bias)
        if dx.size > 0:
            _input_rows(source, at, count, filters, w, channels, dx, start * channels)


@kernel
def _add_up(parts, total):
    total[:] = parts[0]
    for part in range(1, parts.shape[0]):
        for i in range(total.size):
            total[i] += parts[part, i]


@entry
def _product_grad(
    most, x, g, mask, w, by, sums, bias_sums, dw, db, dx, all_masked, places, channels, filters
):
    packed = pack_weights(w, rows_at(0, 0, 1), by) if dx.size > 0 else w
    work = (x, g, mask, packed, sums, bias_sums, dx, all_masked, places, channels, filters)
    _unit(sums.shape[0], most, work)
    _add_up(sums, dw)
    _add_up(bias_sums, db)


def fits(channels: int, filters: int, dtype: np.dtype) -> bool:
    """Whether the tiles cover the result exactly."""
    return channels % CHANNELS == 0 and filters % vector.lanes_of(dtype) == 0


def product_grad(
    most: int,
    x: Array,
    g: Array,
    mask: Array,
    w: Array | None = None,
    by: Array | None = None,
    dx: Array | None = None,
    masked: Array | None = None,
) -> tuple[Array, Array]:
    """`(dw, db)` of (C, F) and (F,), for contiguous x (P, C), g (P, F) and mask (P * F or 0).

    With the weights w and how they lie (`by`), dx (P * C) is written, too; and so is the masked g
    where an array for it is given.
    """
    (places, channels), filters = x.shape, g.shape[1]
    units = min(UNITS, SUMS_ELEMENTS // (channels * filters), -(-places // PLACES_PER_UNIT))
    sums = empty((max(1, units), channels * filters), x.dtype)
    bias_sums = empty((len(sums), filters), x.dtype)
    dw, db = np.empty(channels * filters, x.dtype), np.empty(filters, x.dtype)
    nothing = mask[:0]
    _product_grad(
        most, x.reshape(-1), g.reshape(-1), mask,
        nothing if w is None else w, _NO_WEIGHTS if by is None else by,
        sums, bias_sums, dw, db,
        nothing if dx is None else dx, nothing if masked is None else masked,
        places, channels, filters,
    )  # fmt: skip
    return dw.reshape(channels, filters), db
