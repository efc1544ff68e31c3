"""Recurrent layers on the GPU. Shapes and formulas are those of `reference/recurrent.py`.

The inputs of all steps are multiplied by their weights at once, and so is everything that the
gradients of the weights need. For each step there is left one product with the state, and one
kernel for all that happens to the gates, with a thread for every unit of every sample. The kernels
are bound by memory; with few samples the time is that of starting them, two for each step, which
recording them as a graph saves.
"""

from __future__ import annotations

import math

from numba import cuda

from minitorch_ciml.kernels.cuda.elements import read, write
from minitorch_ciml.kernels.cuda.elementwise import TRAINED
from minitorch_ciml.kernels.cuda.functions import add
from minitorch_ciml.kernels.cuda.intrinsics import i32, like
from minitorch_ciml.kernels.cuda.launch import kernel
from minitorch_ciml.kernels.cuda.matmul import matmul
from minitorch_ciml.kernels.cuda.memory import CudaArray, empty, zeros
from minitorch_ciml.kernels.cuda.sums import bias_grad
from minitorch_ciml.kernels.cuda.windows import THREADS, divided, over

Needs = tuple[bool, ...]
Gradients = tuple[CudaArray | None, ...]


@cuda.jit(device=True)
def _sigmoid(x):
    return like(x, 1) / (like(x, 1) + math.exp(-x))


@cuda.jit(device=True)
def _slope_of_sigmoid(y):
    """The derivative, from the value."""
    return y * (like(y, 1) - y)


@cuda.jit(device=True)
def _slope_of_tanh(y):
    """The derivative, from the value."""
    return like(y, 1) - y * y


# --- what the layers share ------------------------------------------------------------------------


def _rows(x: CudaArray) -> CudaArray:
    """All time steps of all samples as rows."""
    return x.reshape(math.prod(x.shape[:-1]), x.shape[-1])


def _at(x: CudaArray, t: int) -> CudaArray:
    """One step, as a view."""
    return x.rows(t, t + 1).reshape(x.shape[1:])


def _projected(x: CudaArray, w: CudaArray) -> CudaArray:
    """x w, for all steps."""
    return matmul(_rows(x), w).reshape(*x.shape[:-1], w.shape[1])


def _history(x: CudaArray, start: CudaArray, more: int = 0) -> CudaArray:
    """Room for the state before the first step, which is filled in, and after every step."""
    states = empty((len(x) + 1 + more, *start.shape), start.dtype)
    _at(states, 0).assign(start)
    return states


def _weight_gradients(
    needs: Needs, x: CudaArray, hs: CudaArray, w: CudaArray, dx: CudaArray, dh: CudaArray
) -> Gradients:
    """The gradients for x, w and u, from those of x w (`dx`) and of h u (`dh`), (T, N, k H)."""
    dx, dh = _rows(dx), _rows(dh)
    return (
        matmul(dx, w, transpose_b=True).reshape(x.shape) if needs[0] else None,
        matmul(_rows(x), dx, transpose_a=True) if needs[1] else None,
        matmul(_rows(hs.rows(0, len(x))), dh, transpose_a=True) if needs[2] else None,
    )


def _sums(dz: CudaArray) -> CudaArray:
    """The sum over all steps and samples."""
    rows = _rows(dz)
    return bias_grad(rows, rows, False)[1]


def _last_gradient(g: CudaArray, sequences: bool) -> CudaArray:
    """What the state after the last step gets from outside, apart from `g` at each step."""
    return zeros(g.shape[1:], g.dtype) if sequences else g.copy()


# --- LSTM -----------------------------------------------------------------------------------------


@kernel("T* T* T* T* T* T* i4 i4", threads=THREADS, T=TRAINED)
def _lstm_step(h_next, c_next, gates, p, b, c, count, units):
    """In `gates` is x w, which the gates i, f, g, o replace; p is h u."""
    e = i32(cuda.grid(1))
    if e < count:
        n, j = divided(e, units)
        at = i32(4 * n * units + j)
        i = _sigmoid(read(gates, at) + read(b, j) + read(p, at))
        j, to = i32(j + units), i32(at + units)
        f = _sigmoid(read(gates, to) + read(b, j) + read(p, to))
        j, to = i32(j + units), i32(to + units)
        g = math.tanh(read(gates, to) + read(b, j) + read(p, to))
        j, to = i32(j + units), i32(to + units)
        o = _sigmoid(read(gates, to) + read(b, j) + read(p, to))
        write(gates, at, i)
        write(gates, i32(at + units), f)
        write(gates, i32(at + 2 * units), g)
        write(gates, to, o)
        cell = f * read(c, e) + i * g
        write(c_next, e, cell)
        write(h_next, e, o * math.tanh(cell))


@kernel("T* T* T* T* T* T* T* i4 i4 i4", threads=THREADS, T=TRAINED)
def _lstm_step_grad(dz, dc, dh, g, gates, c, c_next, count, units, has_g):
    """dz, of what enters the gates; and in place dc, of the cell state before."""
    e = i32(cuda.grid(1))
    if e < count:
        n, j = divided(e, units)
        at = i32(4 * n * units + j)
        i, f = read(gates, at), read(gates, i32(at + units))
        a, o = read(gates, i32(at + 2 * units)), read(gates, i32(at + 3 * units))
        incoming = read(dh, e)
        if has_g:
            incoming += read(g, e)
        tanh = math.tanh(read(c_next, e))
        cell = read(dc, e) + incoming * o * _slope_of_tanh(tanh)
        write(dz, at, cell * a * _slope_of_sigmoid(i))
        write(dz, i32(at + units), cell * read(c, e) * _slope_of_sigmoid(f))
        write(dz, i32(at + 2 * units), cell * i * _slope_of_tanh(a))
        write(dz, i32(at + 3 * units), incoming * tanh * _slope_of_sigmoid(o))
        write(dc, e, cell * f)


def lstm(
    x: CudaArray, h: CudaArray, c: CudaArray, w: CudaArray, u: CudaArray, b: CudaArray, *,
    sequences: bool,
) -> tuple[CudaArray, tuple]:  # fmt: skip
    steps, units = len(x), h.shape[1]
    gates, hs, cs = _projected(x, w), _history(x, h, more=1), _history(x, c)
    for t in range(steps if h.size else 0):
        p = matmul(_at(hs, t), u)
        states = _at(hs, t + 1), _at(cs, t + 1)
        _lstm_step(*over(h.size), *states, _at(gates, t), p, b, _at(cs, t), h.size, units)
    _at(hs, steps + 1).assign(_at(cs, steps))
    saved = hs.rows(0, steps + 1), cs, gates
    return hs.rows(1 if sequences else steps, steps + 2), saved


def lstm_grad(
    g: CudaArray, y: CudaArray, x: CudaArray, h: CudaArray, c: CudaArray, w: CudaArray,
    u: CudaArray, b: CudaArray, *, needs: Needs, saved: tuple, sequences: bool,
) -> Gradients:  # fmt: skip
    hs, cs, gates = saved
    dz, dc = empty(gates.shape, gates.dtype), _at(g, len(g) - 1).copy()
    dh = zeros(h.shape, h.dtype) if sequences else _at(g, 0)
    for t in reversed(range(len(x) if h.size else 0)):
        now = _at(g, t if sequences else 0), _at(gates, t), _at(cs, t), _at(cs, t + 1)
        _lstm_step_grad(
            *over(h.size), _at(dz, t), dc, dh, *now, h.size, h.shape[1], sequences
        )  # fmt: skip
        dh = matmul(_at(dz, t), u, transpose_b=True)
    dx, dw, du = _weight_gradients((needs[0], *needs[3:5]), x, hs, w, dz, dz)
    return dx, dh, dc, dw, du, _sums(dz) if needs[5] else None


# --- GRU ------------------------------------------------------------------------------------------


@kernel("T* T* T* T* T* T* i4 i4", threads=THREADS, T=TRAINED)
def _gru_step(h_next, gates, inner, p, b, h, count, units):
    """In `gates` is x w, which the gates z, r, g replace; p is h u; `inner` is what r multiplies.

    b (2, 3 H) has the bias of x w and that of h u.
    """
    e = i32(cuda.grid(1))
    if e < count:
        n, j = divided(e, units)
        at, second = i32(3 * n * units + j), i32(j + 3 * units)
        z = _sigmoid(read(gates, at) + read(b, j) + (read(p, at) + read(b, second)))
        j, second, to = i32(j + units), i32(second + units), i32(at + units)
        r = _sigmoid(read(gates, to) + read(b, j) + (read(p, to) + read(b, second)))
        write(gates, to, r)
        j, second, to = i32(j + units), i32(second + units), i32(to + units)
        own = read(p, to) + read(b, second)
        g = math.tanh(read(gates, to) + read(b, j) + r * own)
        write(gates, at, z)
        write(gates, to, g)
        write(inner, e, own)
        write(h_next, e, z * read(h, e) + (like(z, 1) - z) * g)


@kernel("T* T* T* T* T* T* T* T* i4 i4 i4 i4", threads=THREADS, T=TRAINED)
def _gru_step_grad(dx, dp, direct, back, g, gates, inner, h, count, units, has_back, has_g):
    """dx and dp, of x w and of h u; and in place `direct`, what passes to the state before.

    The state's gradient is the sum of `direct`, of `back`, which came through the gates, and of g.
    """
    e = i32(cuda.grid(1))
    if e < count:
        n, j = divided(e, units)
        at = i32(3 * n * units + j)
        z, r, a = read(gates, at), read(gates, i32(at + units)), read(gates, i32(at + 2 * units))
        incoming = read(direct, e)
        if has_back:
            incoming += read(back, e)
        if has_g:
            incoming += read(g, e)
        da = incoming * (like(z, 1) - z) * _slope_of_tanh(a)
        dz = incoming * (read(h, e) - a) * _slope_of_sigmoid(z)
        dr = da * read(inner, e) * _slope_of_sigmoid(r)
        write(dx, at, dz)
        write(dp, at, dz)
        write(dx, i32(at + units), dr)
        write(dp, i32(at + units), dr)
        write(dx, i32(at + 2 * units), da)
        write(dp, i32(at + 2 * units), da * r)
        write(direct, e, incoming * z)


def gru(
    x: CudaArray, h: CudaArray, w: CudaArray, u: CudaArray, b: CudaArray, *, sequences: bool
) -> tuple[CudaArray, tuple]:
    steps, units = len(x), h.shape[1]
    gates, hs = _projected(x, w), _history(x, h)
    inner = empty((steps, *h.shape), h.dtype)
    for t in range(steps if h.size else 0):
        p = matmul(_at(hs, t), u)
        results = _at(hs, t + 1), _at(gates, t), _at(inner, t)
        _gru_step(*over(h.size), *results, p, b, _at(hs, t), h.size, units)
    y = hs.rows(1, steps + 1) if sequences else _at(hs, steps).copy()
    return y, (hs, gates, inner)


def gru_grad(
    g: CudaArray, y: CudaArray, x: CudaArray, h: CudaArray, w: CudaArray, u: CudaArray,
    b: CudaArray, *, needs: Needs, saved: tuple, sequences: bool,
) -> Gradients:  # fmt: skip
    hs, gates, inner = saved
    dx, dp = empty(gates.shape, gates.dtype), empty(gates.shape, gates.dtype)
    direct, back = _last_gradient(g, sequences), None
    for t in reversed(range(len(x) if h.size else 0)):
        now = _at(g, t) if sequences else g, _at(gates, t), _at(inner, t), _at(hs, t)
        sizes = h.size, h.shape[1], back is not None, sequences
        results = _at(dx, t), _at(dp, t), direct
        _gru_step_grad(*over(h.size), *results, direct if back is None else back, *now, *sizes)
        back = matmul(_at(dp, t), u, transpose_b=True)
    gradients = _weight_gradients((needs[0], *needs[2:4]), x, hs, w, dx, dp)
    db = None
    if needs[4]:
        db = empty(b.shape, b.dtype)
        _at(db, 0).assign(_sums(dx))
        _at(db, 1).assign(_sums(dp))
    return gradients[0], direct if back is None else add(direct, back), *gradients[1:], db


# --- the simple one -------------------------------------------------------------------------------


@kernel("T* T* T* T* i4 i4", threads=THREADS, T=TRAINED)
def _simple_step(h_next, z, p, b, count, units):
    """z is x w, and p is h u."""
    e = i32(cuda.grid(1))
    if e < count:
        write(h_next, e, math.tanh(read(z, e) + read(b, divided(e, units)[1]) + read(p, e)))


@kernel("T* T* T* T* i4 i4", threads=THREADS, T=TRAINED)
def _simple_step_grad(dz, dh, g, h_next, count, has_g):
    e = i32(cuda.grid(1))
    if e < count:
        incoming = read(dh, e)
        if has_g:
            incoming += read(g, e)
        write(dz, e, incoming * _slope_of_tanh(read(h_next, e)))


def simple_rnn(
    x: CudaArray, h: CudaArray, w: CudaArray, u: CudaArray, b: CudaArray, *, sequences: bool
) -> tuple[CudaArray, CudaArray]:
    steps, units = len(x), h.shape[1]
    z, hs = _projected(x, w), _history(x, h)
    for t in range(steps if h.size else 0):
        p = matmul(_at(hs, t), u)
        _simple_step(*over(h.size), _at(hs, t + 1), _at(z, t), p, b, h.size, units)
    return hs.rows(1, steps + 1) if sequences else _at(hs, steps).copy(), hs


def simple_rnn_grad(
    g: CudaArray, y: CudaArray, x: CudaArray, h: CudaArray, w: CudaArray, u: CudaArray,
    b: CudaArray, *, needs: Needs, saved: CudaArray, sequences: bool,
) -> Gradients:  # fmt: skip
    dz = empty((len(x), *h.shape), h.dtype)
    dh = _last_gradient(g, sequences)
    for t in reversed(range(len(x) if h.size else 0)):
        now = _at(g, t) if sequences else g, _at(saved, t + 1)
        _simple_step_grad(*over(h.size), _at(dz, t), dh, *now, h.size, sequences)
        dh = matmul(_at(dz, t), u, transpose_b=True)
    dx, dw, du = _weight_gradients((needs[0], *needs[2:4]), x, saved, w, dz, dz)
    return dx, dh, dw, du, _sums(dz) if needs[4] else None
