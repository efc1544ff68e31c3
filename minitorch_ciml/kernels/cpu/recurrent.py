"""Recurrent layers on the CPU.

The inputs of all steps are multiplied by their weights at once, and so is everything that the
gradients of the weights need: large products, for BLAS. What is left for a step is the product with
the state, BLAS again, and one pass over the gates. Within a pass every loop writes one array and
reads few, so that the compiler can prove that they do not overlap, and vectorises it.

Shapes and formulas are those of `reference/recurrent.py`.
"""

from __future__ import annotations

from math import prod

import numpy as np

from minitorch_ciml.kernels.cpu.buffers import empty
from minitorch_ciml.kernels.cpu.exponential import sigmoid, tanh
from minitorch_ciml.kernels.cpu.jit import entry
from minitorch_ciml.kernels.reference import recurrent as reference

Array = np.ndarray
Needs = tuple[bool, ...]
Gradients = tuple[Array | None, ...]


def _is_simple(*arrays: Array) -> bool:
    return all(x.dtype.char in "fd" and x.dtype == arrays[0].dtype for x in arrays)


def _flat(x: Array) -> Array:
    return x.reshape(prod(x.shape[:-1]), x.shape[-1])


def _projected(x: Array, w: Array) -> Array:
    """x w for all steps."""
    z = empty((*x.shape[:-1], w.shape[1]), w.dtype)
    np.dot(_flat(x), w, out=_flat(z))
    return z


def _history(x: Array, start: Array, more: int = 0) -> Array:
    """Room for the state before the first step, which is filled in, and after every step."""
    states = empty((len(x) + 1 + more, *start.shape), start.dtype)
    states[0] = start
    return states


def _column_sums(dz: Array) -> Array:
    rows = _flat(dz)
    return np.ones(len(rows), rows.dtype) @ rows


def _incoming(g: Array, sequences: bool) -> Array:
    """The gradients of the sequence's states; without sequences, a single one that is 0."""
    return np.ascontiguousarray(g) if sequences else np.zeros((1, *g.shape[-2:]), g.dtype)


# --- LSTM ---------------------------------------------------------------------------------------


@entry
def _lstm_step(z, product, b, c, c_next, h_next):
    """Gates from z, in its place, and the next state."""
    units = c.shape[1]
    for n in range(z.shape[0]):
        for j in range(4 * units):
            z[n, j] += product[n, j] + b[j]
        for j in range(2 * units):
            z[n, j] = sigmoid(z[n, j])
        for j in range(units):
            z[n, 2 * units + j] = tanh(z[n, 2 * units + j])
        for j in range(units):
            z[n, 3 * units + j] = sigmoid(z[n, 3 * units + j])
        for j in range(units):
            c_next[n, j] = z[n, units + j] * c[n, j] + z[n, j] * z[n, 2 * units + j]
        for j in range(units):
            h_next[n, j] = z[n, 3 * units + j] * tanh(c_next[n, j])


@entry
def _lstm_step_grad(dh, g, dc, z, c, c_next, dz):
    """The gradients of what enters the gates, and of the cell state before, in place."""
    units = c.shape[1]
    i, f, a, o = 0, units, 2 * units, 3 * units
    one = z.dtype.type(1)
    for n in range(z.shape[0]):
        for j in range(units):
            dh[n, j] += g[n, j]
        for j in range(units):  # tanh(c) for now
            dz[n, o + j] = tanh(c_next[n, j])
        for j in range(units):
            t = dz[n, o + j]
            dc[n, j] += dh[n, j] * z[n, o + j] * (one - t * t)
        for j in range(units):
            dz[n, o + j] *= dh[n, j] * z[n, o + j] * (one - z[n, o + j])
        for j in range(units):
            dz[n, i + j] = dc[n, j] * z[n, a + j] * z[n, i + j] * (one - z[n, i + j])
        for j in range(units):
            dz[n, f + j] = dc[n, j] * c[n, j] * z[n, f + j] * (one - z[n, f + j])
        for j in range(units):
            dz[n, a + j] = dc[n, j] * z[n, i + j] * (one - z[n, a + j] * z[n, a + j])
        for j in range(units):
            dc[n, j] *= z[n, f + j]


def lstm(
    x: Array, h: Array, c: Array, w: Array, u: Array, b: Array, *, sequences: bool
) -> tuple[Array, tuple]:
    if not _is_simple(x, h, c, w, u, b):
        return reference.lstm(x, h, c, w, u, b, sequences=sequences)
    x, u, b = (np.ascontiguousarray(a) for a in (x, u, b))
    gates = _projected(x, w)
    hs, cs = _history(x, h, more=1), _history(x, c)
    product = np.empty_like(gates, shape=gates.shape[1:])
    for t in range(len(x)):
        np.dot(hs[t], u, out=product)
        _lstm_step(gates[t], product, b, cs[t], cs[t + 1], hs[t + 1])
    if not sequences:
        return np.stack([hs[len(x)], cs[-1]]), (hs[:-1], cs, gates)
    hs[-1] = cs[-1]
    return hs[1:], (hs[:-1], cs, gates)


def lstm_grad(
    g: Array, y: Array, x: Array, h: Array, c: Array, w: Array, u: Array, b: Array, *,
    needs: Needs, saved: tuple, sequences: bool,
) -> Gradients:  # fmt: skip
    if not _is_simple(g, x, h, c, w, u, b):
        return reference.lstm_grad(
            g, y, x, h, c, w, u, b, needs=needs, saved=saved, sequences=sequences
        )
    hs, cs, gates = saved
    steps = _incoming(g, sequences)
    dz = empty(gates.shape, gates.dtype)
    dh, dc = np.zeros(h.shape, h.dtype) if sequences else g[0].copy(), g[-1].copy()
    for t in range(len(x) - 1, -1, -1):
        _lstm_step_grad(dh, steps[t if sequences else 0], dc, gates[t], cs[t], cs[t + 1], dz[t])
        np.dot(dz[t], u.T, out=dh)
    dx, dw, du = reference.weight_gradients((needs[0], *needs[3:5]), x, hs, w, dz, dz)
    return dx, dh, dc, dw, du, _column_sums(dz) if needs[5] else None


# --- GRU ----------------------------------------------------------------------------------------


@entry
def _gru_step(z, product, b, inner, h, h_next):
    """Gates from z, in its place, what the reset gate multiplies, and the next state."""
    units = h.shape[1]
    one = z.dtype.type(1)
    for n in range(z.shape[0]):
        for j in range(2 * units):
            z[n, j] += product[n, j] + (b[0, j] + b[1, j])
        for j in range(2 * units):
            z[n, j] = sigmoid(z[n, j])
        for j in range(units):
            inner[n, j] = product[n, 2 * units + j] + b[1, 2 * units + j]
        for j in range(units):
            z[n, 2 * units + j] += b[0, 2 * units + j] + z[n, units + j] * inner[n, j]
        for j in range(units):
            z[n, 2 * units + j] = tanh(z[n, 2 * units + j])
        for j in range(units):
            h_next[n, j] = z[n, j] * h[n, j] + (one - z[n, j]) * z[n, 2 * units + j]


@entry
def _gru_step_grad(dh, g, z, inner, h, dx, dp):
    """The gradients of x w and of h u; in `dh` what passes to the state before directly."""
    units = h.shape[1]
    r, a = units, 2 * units
    one = z.dtype.type(1)
    for n in range(z.shape[0]):
        for j in range(units):
            dh[n, j] += g[n, j]
        for j in range(units):
            dx[n, a + j] = dh[n, j] * (one - z[n, j]) * (one - z[n, a + j] * z[n, a + j])
        for j in range(units):
            dx[n, j] = dh[n, j] * (h[n, j] - z[n, a + j]) * z[n, j] * (one - z[n, j])
        for j in range(units):
            dx[n, r + j] = dx[n, a + j] * inner[n, j] * z[n, r + j] * (one - z[n, r + j])
        for j in range(2 * units):
            dp[n, j] = dx[n, j]
        for j in range(units):
            dp[n, a + j] = dx[n, a + j] * z[n, r + j]
        for j in range(units):
            dh[n, j] *= z[n, j]


def gru(
    x: Array, h: Array, w: Array, u: Array, b: Array, *, sequences: bool
) -> tuple[Array, tuple]:
    if not _is_simple(x, h, w, u, b):
        return reference.gru(x, h, w, u, b, sequences=sequences)
    x, u, b = (np.ascontiguousarray(a) for a in (x, u, b))
    gates, hs = _projected(x, w), _history(x, h)
    inner = empty(hs[1:].shape, h.dtype)
    product = np.empty_like(gates, shape=gates.shape[1:])
    for t in range(len(x)):
        np.dot(hs[t], u, out=product)
        _gru_step(gates[t], product, b, inner[t], hs[t], hs[t + 1])
    return hs[1:] if sequences else hs[-1].copy(), (hs, gates, inner)


def gru_grad(
    g: Array, y: Array, x: Array, h: Array, w: Array, u: Array, b: Array, *,
    needs: Needs, saved: tuple, sequences: bool,
) -> Gradients:  # fmt: skip
    if not _is_simple(g, x, h, w, u, b):
        return reference.gru_grad(
            g, y, x, h, w, u, b, needs=needs, saved=saved, sequences=sequences
        )
    hs, gates, inner = saved
    steps = _incoming(g, sequences)
    dx, dp = empty(gates.shape, gates.dtype), empty(gates.shape, gates.dtype)
    dh = np.zeros(h.shape, h.dtype) if sequences else g.copy()
    product = np.empty_like(dh)
    for t in range(len(x) - 1, -1, -1):
        _gru_step_grad(dh, steps[t if sequences else 0], gates[t], inner[t], hs[t], dx[t], dp[t])
        dh += np.dot(dp[t], u.T, out=product)
    gradients = reference.weight_gradients((needs[0], *needs[2:4]), x, hs, w, dx, dp)
    db = np.stack([_column_sums(dx), _column_sums(dp)]) if needs[4] else None
    return gradients[0], dh, *gradients[1:], db


# --- the simple one -----------------------------------------------------------------------------


@entry
def _simple_step(z, product, b, h_next):
    for n in range(z.shape[0]):
        for j in range(z.shape[1]):
            h_next[n, j] = z[n, j] + product[n, j] + b[j]
        for j in range(z.shape[1]):
            h_next[n, j] = tanh(h_next[n, j])


@entry
def _simple_step_grad(dh, g, h_next, dz):
    one = h_next.dtype.type(1)
    for n in range(dz.shape[0]):
        for j in range(dz.shape[1]):
            dz[n, j] = (dh[n, j] + g[n, j]) * (one - h_next[n, j] * h_next[n, j])


def simple_rnn(
    x: Array, h: Array, w: Array, u: Array, b: Array, *, sequences: bool
) -> tuple[Array, Array]:
    if not _is_simple(x, h, w, u, b):
        return reference.simple_rnn(x, h, w, u, b, sequences=sequences)
    x, u, b = (np.ascontiguousarray(a) for a in (x, u, b))
    z, hs = _projected(x, w), _history(x, h)
    product = np.empty_like(h)
    for t in range(len(x)):
        np.dot(hs[t], u, out=product)
        _simple_step(z[t], product, b, hs[t + 1])
    return hs[1:] if sequences else hs[-1].copy(), hs


def simple_rnn_grad(
    g: Array, y: Array, x: Array, h: Array, w: Array, u: Array, b: Array, *,
    needs: Needs, saved: Array, sequences: bool,
) -> Gradients:  # fmt: skip
    if not _is_simple(g, x, h, w, u, b):
        return reference.simple_rnn_grad(
            g, y, x, h, w, u, b, needs=needs, saved=saved, sequences=sequences
        )
    steps = _incoming(g, sequences)
    dz = empty(saved[1:].shape, saved.dtype)
    dh = np.zeros(h.shape, h.dtype) if sequences else g.copy()
    for t in range(len(x) - 1, -1, -1):
        _simple_step_grad(dh, steps[t if sequences else 0], saved[t + 1], dz[t])
        np.dot(dz[t], u.T, out=dh)
    dx, dw, du = reference.weight_gradients((needs[0], *needs[2:4]), x, saved, w, dz, dz)
    return dx, dh, dw, du, _column_sums(dz) if needs[4] else None
