"""The dense layer on the CPU.

Forward is a product with the bias and ReLU in its last pass. Backward has two products of g, which
is masked by ReLU's derivative first, as it is packed for them; for the bias it is added up in
registers by the way. Where there are few samples,

    dx^T = w g^T   and   dw = x^T g

are computed together: both have a row for each input, both read one side as it lies (w along its
rows, x across them), and both share the other side, g, packed once as it is and once turned.
"""

from __future__ import annotations

import numpy as np

from minitorch_ciml.kernels.cpu import vector
from minitorch_ciml.kernels.cpu.arrivals import makes_first
from minitorch_ciml.kernels.cpu.buffers import empty
from minitorch_ciml.kernels.cpu.jit import entry, kernel
from minitorch_ciml.kernels.cpu.loads import (
    clear,
    copy,
    load,
    load_turned,
    prefetch_at,
    store,
    store_parts,
    store_rows,
)
from minitorch_ciml.kernels.cpu.products import (
    PAGE,
    ROWS_AHEAD,
    SMALL,
    TILE,
    multiply,
    places,
    product,
)
from minitorch_ciml.kernels.cpu.rows import as_rows, is_simple
from minitorch_ciml.kernels.cpu.simd import add as plus
from minitorch_ciml.kernels.cpu.simd import full, keep_positive, lanes
from minitorch_ciml.kernels.cpu.threads import ALL, task, threads_for
from minitorch_ciml.kernels.reference import nn as reference

Array = np.ndarray
Needs = tuple[bool, ...]
Gradients = tuple[Array | None, ...]

# Up to so many samples both gradients are computed together.
FEW_SAMPLES = 256
# Parts of the inputs, and their least height.
PARTS, LEAST = 24, 2 * TILE


def dense(x: Array, w: Array, b: Array, *, activation: str) -> Array:
    if not is_simple(x, w, b):
        return reference.dense(x, w, b, activation=activation)
    y = multiply(as_rows(x), w, b, activation == "relu")
    return y if x.ndim == 2 else y.reshape(*x.shape[:-1], w.shape[1])


@makes_first
def dense_grad(
    g: Array, y: Array, x: Array, w: Array, b: Array, *, needs: Needs, activation: str
) -> Gradients:
    if not is_simple(g, y, x, w):
        return reference.dense_grad(g, y, x, w, b, needs=needs, activation=activation)
    relu, rows = activation == "relu", as_rows(x)
    if len(rows) <= FEW_SAMPLES and rows.size * w.shape[1] > SMALL and vector.VECTOR_BITS >= 256:
        dx, dw, db = _together(as_rows(g), as_rows(y), rows, w, needs, relu)
    else:
        masked, db = _masked(as_rows(g), as_rows(y), relu)
        dx = multiply(masked, w.T) if needs[0] else None
        dw = multiply(rows.T, masked) if needs[1] else None
    return dx if dx is None or x.ndim == 2 else dx.reshape(x.shape), dw, db


# --- few samples: g packed and turned, then parts of both gradients ------------------------------


@kernel
def _pack_masked(panel, g, y, relu, samples, outputs, packed, db):
    """One panel of g where y > 0 (of all g without relu), and the sums of its columns."""
    width = 2 * lanes(g)
    start, to = panel * width, panel * width * samples
    count = min(width, outputs - start)
    if count == width:
        total = full(g, 0.0, 2)
        for n in range(samples):
            at = n * outputs + start
            prefetch_at(g, (at,), ROWS_AHEAD * outputs, 2)
            row = load(g, at, 2)
            if relu:
                prefetch_at(y, (at,), ROWS_AHEAD * outputs, 2)
                row = keep_positive(row, load(y, at, 2))
            store(packed, to + n * width, row)
            total = plus(total, row)
        store(db, start, total)
        return
    clear(db, start, count)
    for n in range(samples):
        clear(packed, to + n * width, width)
        for j in range(count):
            at = n * outputs + start + j
            if not relu or y[at] > 0:
                packed[to + n * width + j] = g[at]
                db[start + j] += g[at]


@kernel
def _turn(panel, packed, samples, outputs, turned):
    """Packs what a panel holds once more, transposed: square by square, the rest one by one."""
    step, width = lanes(packed), 2 * lanes(packed)
    first, last = panel * width, min((panel + 1) * width, outputs)
    for n in range(0, samples, step):
        to = n // width * width * outputs + n % width
        for j in range(first, last, step):
            at = (panel * samples + n) * width + j - first
            if n + step <= samples and j + step <= last:
                store_rows(turned, to + j * width, width, load_turned(packed, at, width))
                continue
            for k in range(min(step, last - j)):
                for t in range(step):
                    value = packed[at + t * width + k] if n + t < samples else 0
                    turned[to + (j + k) * width + t] = value


@task
def _prepare(panel, g, y, relu, samples, outputs, packed, turned, db):
    _pack_masked(panel, g, y, relu, samples, outputs, packed, db)
    if turned.size > 0:
        _turn(panel, packed, samples, outputs, turned)


@kernel
def _store_turned(block, pitch, count, samples, dx, first, inputs):
    """dx[n, first + r] = block[r, n] for r < count."""
    step = lanes(dx)
    for r in range(0, count, step):
        for n in range(0, samples, step):
            to = n * inputs + first + r
            if n + step > samples:
                for t in range(samples - n):
                    for k in range(min(step, count - r)):
                        dx[to + t * inputs + k] = block[(r + k) * pitch + n + t]
                continue
            square = load_turned(block, r * pitch + n, pitch)
            if r + step <= count:
                store_rows(dx, to, inputs, square)
            else:
                store_parts(dx, to, inputs, square, count - r)


@kernel
def _input_gradient(first, count, sizes, w, turned, dx):
    """dx for some inputs: rows of w times the turned g, turned back in the nearest cache."""
    samples, inputs, outputs, _ = sizes
    step = lanes(w)
    pitch = (samples + step - 1) // step * step + step  # not a power of two: see PAGE
    block = np.empty((count + step) * pitch, w.dtype)
    source, rows = w, places(first * outputs, outputs, count)
    if outputs * w.itemsize % PAGE == 0:
        source, rows = np.empty(count * (outputs + step), w.dtype), places(0, outputs + step, count)
        for r in range(count):
            copy(source, rows[r], w, (first + r) * outputs, outputs)
    to = places(0, pitch, count)
    product(source, rows, 1, outputs, turned, samples, block, to, False)
    _store_turned(block, pitch, count, samples, dx, first, inputs)


@task
def _gradients_part(i, sizes, x, w, packed, turned, dx, dw):
    samples, inputs, outputs, height = sizes
    first = i * height
    count = min(height, inputs - first)
    if dw.size > 0:
        to = places(first * outputs, outputs, count)
        product(x, places(first, 1, count), inputs, samples, packed, outputs, dw, to, False)
    if dx.size > 0:
        _input_gradient(first, count, sizes, w, turned, dx)


@entry
def _gradients(most, sizes, relu, g, y, x, w, packed, turned, dx, dw, db):
    samples, inputs, outputs, height = sizes
    panels = packed.size // (2 * lanes(g) * samples)
    _prepare(panels, most, (g, y, relu, samples, outputs, packed, turned, db))
    parts = (inputs + height - 1) // height
    _gradients_part(parts, most, (sizes, x, w, packed, turned, dx, dw))


def _together(g: Array, y: Array, x: Array, w: Array, needs: Needs, relu: bool) -> tuple:
    (samples, inputs), outputs, dtype = x.shape, w.shape[1], x.dtype
    width = 2 * vector.lanes_of(dtype)

    def panels(inner: int, columns: int) -> Array:
        return empty((-(-columns // width) * width * inner,), dtype)

    packed = panels(samples, outputs)
    turned = panels(outputs, samples) if needs[0] else packed[:0]
    dx = empty(x.shape if needs[0] else (0, 0), dtype)
    dw = empty(w.shape if needs[1] else (0, 0), dtype)
    db = np.empty(outputs, dtype)
    height = max(LEAST, -(-inputs // (PARTS * TILE)) * TILE)
    arrays = (np.ascontiguousarray(a).reshape(-1) for a in (g, y, x, w))
    work = samples * inputs * -(-outputs // width) * width * sum(needs[:2])
    _gradients(
        threads_for(work),
        (samples, inputs, outputs, height), relu, *arrays, packed, turned,
        dx.reshape(-1), dw.reshape(-1), db,
    )  # fmt: skip
    return dx if needs[0] else None, dw if needs[1] else None, db


# --- many samples: g masked once, then two products ---------------------------------------------

# Elements of g that a thread masks and adds up at a time.
PIECE = 1 << 15
FEW_ELEMENTS = 512  # with fewer NumPy is faster than a call of a kernel


@task
def _mask_piece(i, rows, g, y, relu, masked, totals):
    total = totals[i]
    total[:] = 0
    for n in range(i * rows, min((i + 1) * rows, g.shape[0])):
        from_, gate, to = g[n], y[n], masked[n]
        if relu:
            for j in range(to.size):
                to[j] = from_[j] if gate[j] > 0 else 0
        for j in range(total.size):
            total[j] += to[j]


@entry
def _mask_and_sum(rows, g, y, relu, masked, totals):
    """g where y > 0 (g itself without relu), and the sums of its rows, piece by piece."""
    _mask_piece(totals.shape[0], ALL, (rows, g, y, relu, masked, totals))


def _masked(g: Array, y: Array, relu: bool) -> tuple[Array, Array]:
    if g.size <= FEW_ELEMENTS and not relu:
        return g, np.add.reduce(g, 0)
    rows = max(1, PIECE // max(1, g.shape[1]))
    masked = empty(g.shape, g.dtype) if relu else g
    totals = np.empty((-(-g.shape[0] // rows), g.shape[1]), g.dtype)
    _mask_and_sum(rows, g, y, relu, masked, totals)
    return masked, totals[0] if len(totals) == 1 else totals.sum(0)
