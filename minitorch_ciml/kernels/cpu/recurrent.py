"""Recurrent layers on the CPU.

Samples do not depend on each other, so each thread takes some of them through all steps and waits
for nobody; per step it computes one product and one pass over the gates. Where states and inputs
are only added up (LSTM, the simple one), a row of state, inputs and a 1 is multiplied by all
weights and the bias at once, and the gradients of all these are one large product. A GRU needs its
sums with the state alone: there the inputs of all steps are multiplied first.

Within a pass every loop starts at 0, writes one array and reads few: then the compiler can tell
that no index is negative and no two arrays overlap, and vectorises it.

Shapes and formulas are those of `reference/recurrent.py`.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from minitorch_ciml.kernels.cpu.buffers import empty
from minitorch_ciml.kernels.cpu.exponential import sigmoid, tanh
from minitorch_ciml.kernels.cpu.jit import entry, kernel
from minitorch_ciml.kernels.cpu.products import (
    LOW_TILE,
    multiply,
    pack,
    packed_size,
    places,
    product,
)
from minitorch_ciml.kernels.cpu.threads import ALL, get_num_threads, task
from minitorch_ciml.kernels.reference import recurrent as reference

Array = np.ndarray
Needs = tuple[bool, ...]
Gradients = tuple[Array | None, ...]

# The most samples that a thread takes through all steps at a time: their gates stay in its cache.
BLOCK = 64


def _is_simple(*arrays: Array) -> bool:
    return all(x.dtype.char in "fd" and x.dtype == arrays[0].dtype for x in arrays)


def _flat(x: Array) -> Array:
    return x.reshape(prod(x.shape[:-1]), x.shape[-1])


def _contiguous(*arrays: Array) -> list[Array]:
    return [np.ascontiguousarray(x) for x in arrays]


def _projected(x: Array, w: Array) -> Array:
    """x w for all steps."""
    return multiply(_flat(x), w).reshape(*x.shape[:-1], w.shape[1])


def _blocks(h: Array) -> tuple[int, int]:
    """The number of blocks of samples, and their size: one for each thread, of whole tiles."""
    share = -(-len(h) // get_num_threads())
    size = min(BLOCK, max(1, -(-share // LOW_TILE)) * LOW_TILE)
    return -(-len(h) // size), size


def _rows_with(x: Array, h: Array) -> Array:
    """(T + 1, N, H + I + 1): rows of a state, here the first step's, the step's inputs, and a 1."""
    (steps, samples, inputs), units = x.shape, h.shape[1]
    rows = empty((steps + 1, samples, units + inputs + 1), x.dtype)
    rows[0, :, :units] = h
    rows[:-1, :, units:-1] = x
    rows[..., -1] = 1
    return rows


def _gradients_of_rows(needs: Needs, rows: Array, w: Array, dz: Array) -> tuple:
    """The gradients for x, w, u and b from those of rows times (u, w, b), (T, N, k H)."""
    steps, samples, columns = dz.shape
    inputs, units = len(w), rows.shape[2] - len(w) - 1
    dx = multiply(_flat(dz), w.T).reshape(steps, samples, inputs) if needs[0] else None
    if not any(needs[1:]):
        return dx, None, None, None
    together = multiply(_flat(rows[:-1]).T, _flat(dz))
    return dx, together[units:-1], together[:units], together[-1]


def _history(x: Array, start: Array, more: int = 0) -> Array:
    """Room for the state before the first step, which is filled in, and after every step."""
    states = empty((len(x) + 1 + more, *start.shape), start.dtype)
    states[0] = start
    return states


def _column_sums(dz: Array) -> Array:
    rows = _flat(dz)
    return np.ones(len(rows), rows.dtype) @ rows


def _weight_gradients(needs: Needs, x: Array, hs: Array, w: Array, dx: Array, dh: Array) -> tuple:
    """The gradients for x, w and u, from those of x w (`dx`) and of h u (`dh`), (T, N, k H)."""
    return (
        multiply(_flat(dx), w.T).reshape(x.shape) if needs[0] else None,
        multiply(_flat(x).T, _flat(dx)) if needs[1] else None,
        multiply(_flat(hs[:-1]).T, _flat(dh)) if needs[2] else None,
    )


def _incoming(g: Array, sequences: bool) -> Array:
    """The gradients of the sequence's states; without sequences, a single one that is 0."""
    return np.ascontiguousarray(g) if sequences else np.zeros((1, *g.shape[-2:]), g.dtype)


@kernel
def _packed(u, transposed):
    """u (H, k H), or its transpose, in the order in which `product` reads it."""
    units, columns = u.shape
    if transposed:
        packed = np.empty(packed_size(u, columns, units), u.dtype)
        pack(u.reshape(-1), 0, 1, columns, columns, units, packed)
    else:
        packed = np.empty(packed_size(u, units, columns), u.dtype)
        pack(u.reshape(-1), 0, columns, 1, units, columns, packed)
    return packed


@kernel
def _times(a, t, first, last, packed, y, y_first):
    """Rows first to last of a[t], times a packed matrix with as many columns as y, into y."""
    inner, columns = a.shape[2], y.shape[1]
    rows = places((t * a.shape[1] + first) * inner, inner, last - first)
    to = places(y_first * columns, columns, last - first)
    product(a.reshape(-1), rows, 1, inner, packed, columns, y.reshape(-1), to, False)


# --- LSTM ---------------------------------------------------------------------------------------


@kernel
def _lstm_step(z, rows, cs, hs, t, first, last):
    """Gates in the place of z[t], their sums, and the next states."""
    units = cs.shape[2]
    for n in range(first, last):
        row, c, c_next, h_next = z[t, n], cs[t, n], cs[t + 1, n], hs[t + 1, n]
        for j in range(2 * units):
            row[j] = sigmoid(row[j])
        for j in range(units):
            row[2 * units + j] = tanh(row[2 * units + j])
        for j in range(units):
            row[3 * units + j] = sigmoid(row[3 * units + j])
        for j in range(units):
            c_next[j] = row[units + j] * c[j] + row[j] * row[2 * units + j]
        for j in range(units):
            h_next[j] = row[3 * units + j] * tanh(c_next[j])
        rows[t + 1, n, :units] = h_next


@kernel
def _lstm_step_grad(dhs, g, dcs, gates, cs, dzs, t, first, last):
    """The gradients of what enters the gates, and of the cell state before, in place."""
    units = cs.shape[2]
    f, a, o = units, 2 * units, 3 * units
    one = gates.dtype.type(1)
    for n in range(first, last):
        dh, dc, z, dz = dhs[n], dcs[n], gates[t, n], dzs[t, n]
        c, c_next, g_row = cs[t, n], cs[t + 1, n], g[t % g.shape[0], n]
        for j in range(units):
            dh[j] += g_row[j]
        for j in range(units):  # tanh(c) for now
            dz[o + j] = tanh(c_next[j])
        for j in range(units):
            dc[j] += dh[j] * z[o + j] * (one - dz[o + j] * dz[o + j])
        for j in range(units):
            dz[o + j] *= dh[j] * z[o + j] * (one - z[o + j])
        for j in range(units):
            dz[j] = dc[j] * z[a + j] * z[j] * (one - z[j])
        for j in range(units):
            dz[f + j] = dc[j] * c[j] * z[f + j] * (one - z[f + j])
        for j in range(units):
            dz[a + j] = dc[j] * z[j] * (one - z[a + j] * z[a + j])
        for j in range(units):
            dc[j] *= z[f + j]


@task
def _lstm_block(i, size, rows, packed, z, cs, hs):
    steps, samples, columns = z.shape
    first, last = i * size, min((i + 1) * size, samples)
    sums = z.reshape(steps * samples, columns)
    for t in range(steps):
        _times(rows, t, first, last, packed, sums, t * samples + first)
        _lstm_step(z, rows, cs, hs, t, first, last)


@task
def _lstm_grad_block(i, size, packed, dh, g, dc, gates, cs, dz):
    first, last = i * size, min((i + 1) * size, dh.shape[0])
    for t in range(dz.shape[0] - 1, -1, -1):
        _lstm_step_grad(dh, g, dc, gates, cs, dz, t, first, last)
        _times(dz, t, first, last, packed, dh, first)


@entry
def _lstm(blocks, rows, weights, z, cs, hs):
    _lstm_block(blocks[0], ALL, (blocks[1], rows, _packed(weights, False), z, cs, hs))


@entry
def _lstm_grad(blocks, u, dh, g, dc, gates, cs, dz):
    _lstm_grad_block(blocks[0], ALL, (blocks[1], _packed(u, True), dh, g, dc, gates, cs, dz))


def lstm(
    x: Array, h: Array, c: Array, w: Array, u: Array, b: Array, *, sequences: bool
) -> tuple[Array, tuple]:
    if not _is_simple(x, h, c, w, u, b):
        return reference.lstm(x, h, c, w, u, b, sequences=sequences)
    rows, hs, cs = _rows_with(x, h), _history(x, h, more=1), _history(x, c)
    gates = empty((*x.shape[:2], w.shape[1]), x.dtype)
    _lstm(_blocks(h), rows, np.concatenate((u, w, b[None])), gates, cs, hs)
    if not sequences:
        return np.stack([hs[len(x)], cs[-1]]), (rows, cs, gates)
    hs[-1] = cs[-1]
    return hs[1:], (rows, cs, gates)


def lstm_grad(
    g: Array, y: Array, x: Array, h: Array, c: Array, w: Array, u: Array, b: Array, *,
    needs: Needs, saved: tuple, sequences: bool,
) -> Gradients:  # fmt: skip
    if not _is_simple(x, h, c, w, u, b):
        return reference.lstm_grad(
            g, y, x, h, c, w, u, b, needs=needs, saved=saved, sequences=sequences
        )
    rows, cs, gates = saved
    dz = empty(gates.shape, gates.dtype)
    dh, dc = np.zeros(h.shape, h.dtype) if sequences else g[0].copy(), g[-1].copy()
    steps = np.ascontiguousarray(g[:-1]) if sequences else _incoming(g, sequences)
    _lstm_grad(_blocks(h), *_contiguous(u), dh, steps, dc, gates, cs, dz)
    dx, *others = _gradients_of_rows((needs[0], *needs[3:]), rows, w, dz)
    return dx, dh, dc, *others


# --- GRU ----------------------------------------------------------------------------------------


@kernel
def _gru_step(z, hu, b, inners, hs, t, first, last):
    """Gates in the place of z[t] = x w, what the reset gate multiplies, and the next state."""
    units = hs.shape[2]
    one = z.dtype.type(1)
    for n in range(first, last):
        row, p, inner, h, h_next = z[t, n], hu[n - first], inners[t, n], hs[t, n], hs[t + 1, n]
        for j in range(2 * units):
            row[j] += p[j] + (b[0, j] + b[1, j])
        for j in range(2 * units):
            row[j] = sigmoid(row[j])
        for j in range(units):
            inner[j] = p[2 * units + j] + b[1, 2 * units + j]
        for j in range(units):
            row[2 * units + j] += b[0, 2 * units + j] + row[units + j] * inner[j]
        for j in range(units):
            row[2 * units + j] = tanh(row[2 * units + j])
        for j in range(units):
            h_next[j] = row[j] * h[j] + (one - row[j]) * row[2 * units + j]


@kernel
def _gru_step_grad(dhs, g, gates, inners, hs, dxs, dps, t, first, last):
    """The gradients of x w and of h u; in `dhs` what passes to the state before directly."""
    units = hs.shape[2]
    r, a = units, 2 * units
    one = gates.dtype.type(1)
    for n in range(first, last):
        dh, z, dx, dp = dhs[n], gates[t, n], dxs[t, n], dps[t, n]
        inner, h, g_row = inners[t, n], hs[t, n], g[t % g.shape[0], n]
        for j in range(units):
            dh[j] += g_row[j]
        for j in range(units):
            dx[a + j] = dh[j] * (one - z[j]) * (one - z[a + j] * z[a + j])
        for j in range(units):
            dx[j] = dh[j] * (h[j] - z[a + j]) * z[j] * (one - z[j])
        for j in range(units):
            dx[r + j] = dx[a + j] * inner[j] * z[r + j] * (one - z[r + j])
        for j in range(2 * units):
            dp[j] = dx[j]
        for j in range(units):
            dp[a + j] = dx[a + j] * z[r + j]
        for j in range(units):
            dh[j] *= z[j]


@task
def _gru_block(i, size, z, packed, b, inner, hs):
    first, last = i * size, min((i + 1) * size, z.shape[1])
    hu = np.empty((last - first, z.shape[2]), z.dtype)
    for t in range(z.shape[0]):
        _times(hs, t, first, last, packed, hu, 0)
        _gru_step(z, hu, b, inner, hs, t, first, last)


@task
def _gru_grad_block(i, size, packed, dh, g, gates, inner, hs, dx, dp):
    first, last = i * size, min((i + 1) * size, dh.shape[0])
    back = np.empty((last - first, dh.shape[1]), dh.dtype)
    for t in range(dx.shape[0] - 1, -1, -1):
        _gru_step_grad(dh, g, gates, inner, hs, dx, dp, t, first, last)
        _times(dp, t, first, last, packed, back, 0)
        for n in range(first, last):
            to, from_ = dh[n], back[n - first]
            for j in range(to.size):
                to[j] += from_[j]


@entry
def _gru(blocks, z, u, b, inner, hs):
    _gru_block(blocks[0], ALL, (blocks[1], z, _packed(u, False), b, inner, hs))


@entry
def _gru_grad(blocks, u, dh, g, gates, inner, hs, dx, dp):
    packed = _packed(u, True)
    _gru_grad_block(blocks[0], ALL, (blocks[1], packed, dh, g, gates, inner, hs, dx, dp))


def gru(
    x: Array, h: Array, w: Array, u: Array, b: Array, *, sequences: bool
) -> tuple[Array, tuple]:
    if not _is_simple(x, h, w, u, b):
        return reference.gru(x, h, w, u, b, sequences=sequences)
    x, u, b = _contiguous(x, u, b)
    gates, hs = _projected(x, w), _history(x, h)
    inner = empty(hs[1:].shape, h.dtype)
    _gru(_blocks(h), gates, u, b, inner, hs)
    return hs[1:] if sequences else hs[-1].copy(), (hs, gates, inner)


def gru_grad(
    g: Array, y: Array, x: Array, h: Array, w: Array, u: Array, b: Array, *,
    needs: Needs, saved: tuple, sequences: bool,
) -> Gradients:  # fmt: skip
    if not _is_simple(x, h, w, u, b):
        return reference.gru_grad(
            g, y, x, h, w, u, b, needs=needs, saved=saved, sequences=sequences
        )
    hs, gates, inner = saved
    dx, dp = empty(gates.shape, gates.dtype), empty(gates.shape, gates.dtype)
    dh = np.zeros(h.shape, h.dtype) if sequences else g.copy()
    steps = _incoming(g, sequences)
    _gru_grad(_blocks(h), *_contiguous(u), dh, steps, gates, inner, hs, dx, dp)
    gradients = _weight_gradients((needs[0], *needs[2:4]), x, hs, w, dx, dp)
    db = np.stack([_column_sums(dx), _column_sums(dp)]) if needs[4] else None
    return gradients[0], dh, *gradients[1:], db


# --- the simple one -----------------------------------------------------------------------------


@task
def _simple_block(i, size, rows, packed, hs):
    steps, samples, units = hs.shape
    first, last = i * size, min((i + 1) * size, samples)
    sums = hs.reshape(steps * samples, units)
    for t in range(steps - 1):
        _times(rows, t, first, last, packed, sums, (t + 1) * samples + first)
        for n in range(first, last):
            h = hs[t + 1, n]
            for j in range(units):
                h[j] = tanh(h[j])
            rows[t + 1, n, :units] = h


@task
def _simple_grad_block(i, size, packed, dhs, g, hs, dzs):
    first, last = i * size, min((i + 1) * size, dhs.shape[0])
    one = hs.dtype.type(1)
    for t in range(dzs.shape[0] - 1, -1, -1):
        for n in range(first, last):
            dh, g_row, h, dz = dhs[n], g[t % g.shape[0], n], hs[t + 1, n], dzs[t, n]
            for j in range(dz.size):
                dz[j] = (dh[j] + g_row[j]) * (one - h[j] * h[j])
        _times(dzs, t, first, last, packed, dhs, first)


@entry
def _simple(blocks, rows, weights, hs):
    _simple_block(blocks[0], ALL, (blocks[1], rows, _packed(weights, False), hs))


@entry
def _simple_grad(blocks, u, dh, g, hs, dz):
    _simple_grad_block(blocks[0], ALL, (blocks[1], _packed(u, True), dh, g, hs, dz))


def simple_rnn(
    x: Array, h: Array, w: Array, u: Array, b: Array, *, sequences: bool
) -> tuple[Array, Any]:
    if not _is_simple(x, h, w, u, b):
        return reference.simple_rnn(x, h, w, u, b, sequences=sequences)
    rows, hs = _rows_with(x, h), _history(x, h)
    _simple(_blocks(h), rows, np.concatenate((u, w, b[None])), hs)
    return hs[1:] if sequences else hs[-1].copy(), (rows, hs)


def simple_rnn_grad(
    g: Array, y: Array, x: Array, h: Array, w: Array, u: Array, b: Array, *,
    needs: Needs, saved: Any, sequences: bool,
) -> Gradients:  # fmt: skip
    if not _is_simple(x, h, w, u, b):
        return reference.simple_rnn_grad(
            g, y, x, h, w, u, b, needs=needs, saved=saved, sequences=sequences
        )
    rows, hs = saved
    dz = empty(hs[1:].shape, hs.dtype)
    dh = np.zeros(h.shape, h.dtype) if sequences else g.copy()
    _simple_grad(_blocks(h), *_contiguous(u), dh, _incoming(g, sequences), hs, dz)
    dx, *others = _gradients_of_rows((needs[0], *needs[2:]), rows, w, dz)
    return dx, dh, *others
