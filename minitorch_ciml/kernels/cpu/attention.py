"""Attention on the CPU: each thread takes one head of one sample at a time, whose weights fit in
its cache.

Only the logarithms of the sums are kept for backward, which computes the weights again from them
(Dao et al. 2022): memory grows with the length of a sequence, not with its square.

Shapes: q (N, T, H, K), k (N, S, H, K), v (N, S, H, V); the weights of a head are (T, S).
"""

from __future__ import annotations

import math

import numpy as np

from minitorch_ciml.kernels.cpu.buffers import empty
from minitorch_ciml.kernels.cpu.jit import entry, kernel, ready
from minitorch_ciml.kernels.cpu.products import pack, packed_size, places, product
from minitorch_ciml.kernels.cpu.rows import dot, exponentiate, scale, subtract, top, total
from minitorch_ciml.kernels.cpu.threads import task, threads_for
from minitorch_ciml.kernels.reference import attention as reference

Array = np.ndarray
Needs = tuple[bool, ...]
Gradients = tuple[Array | None, ...]

# --- one head -----------------------------------------------------------------------------------


@kernel
def _scores(s, q, q_rows, k, k_first, k_step, size, packed, mask, scale):
    """scale q k^T, and -inf where the mask (T or 1, S) is False; an empty mask allows all."""
    sources = s.shape[1]
    pack(k, k_first, 1, k_step, size, sources, packed)
    product(
        q, q_rows, 1, size, packed, sources, s.reshape(-1), places(0, sources, s.shape[0]), False
    )
    for t in range(s.shape[0]):
        if mask.size == 0:
            for j in range(sources):
                s[t, j] *= scale
        else:
            allowed = mask[t % mask.shape[0]]
            for j in range(sources):
                s[t, j] = s[t, j] * scale if allowed[j] else -np.inf


@kernel
def _softmax(s, log_sums):
    """Weights in the place of scores. A row without any is 0, and ln of its sum infinite."""
    n, flat = s.shape[1], s.reshape(-1)
    for t in range(s.shape[0]):
        highest = top(flat, t * n, n)
        if highest == -np.inf:
            highest = s.dtype.type(0)
        subtract(flat, t * n, n, highest, flat)
        exponentiate(flat, t * n, n)
        weight = total(flat, t * n, n)
        scale(flat, t * n, n, s.dtype.type(0) if weight == 0 else s.dtype.type(1) / weight)
        log_sums[t] = np.inf if weight == 0 else highest + math.log(weight)


@kernel
def _mask_of(mask, n, h):
    """The part of the mask for a head, or an empty one where nothing is masked."""
    if mask.size == 0:
        return mask[0, 0]
    return mask[n % mask.shape[0], h % mask.shape[1]]


@task
def _forward(i, q, k, v, mask, scale, y, log_sums, sizes):
    steps, sources, heads, size, width = sizes
    n, h = i // heads, i % heads
    q_rows = places((n * steps * heads + h) * size, heads * size, steps)
    s = np.empty((steps, sources), q.dtype)
    packed = np.empty(max(packed_size(q, size, sources), packed_size(q, sources, width)), q.dtype)
    k_first, v_first = (n * sources * heads + h) * size, (n * sources * heads + h) * width
    k_step, v_step = heads * size, heads * width
    here = _mask_of(mask, n, h)
    _scores(s, q, q_rows, k, k_first, k_step, size, packed, here, q.dtype.type(scale))
    _softmax(s, log_sums[i * steps : (i + 1) * steps])
    pack(v, v_first, v_step, 1, sources, width, packed)
    y_rows = places((n * steps * heads + h) * width, v_step, steps)
    product(s.reshape(-1), places(0, sources, steps), 1, sources, packed, width, y, y_rows, False)


@task
def _backward(i, g, y, q, k, v, mask, scale, log_sums, dq, dk, dv, sizes):
    steps, sources, heads, size, width = sizes
    n, h = i // heads, i % heads
    scale = q.dtype.type(scale)
    q_first, k_first = (n * steps * heads + h) * size, (n * sources * heads + h) * size
    g_first, v_first = (n * steps * heads + h) * width, (n * sources * heads + h) * width
    q_step, v_step = heads * size, heads * width
    q_rows, k_rows = places(q_first, q_step, steps), places(k_first, q_step, sources)
    g_rows, v_rows = places(g_first, v_step, steps), places(v_first, v_step, sources)
    rows, columns = places(0, sources, steps), places(0, 1, sources)  # of the weights
    room = max(packed_size(q, size, sources), packed_size(q, width, sources))
    room = max(room, packed_size(q, steps, width), packed_size(q, steps, size))
    packed = np.empty(max(room, packed_size(q, sources, size)), q.dtype)
    p, ds = np.empty((steps, sources), q.dtype), np.empty((steps, sources), q.dtype)
    flat_p, flat_ds = p.reshape(-1), ds.reshape(-1)

    _scores(p, q, q_rows, k, k_first, q_step, size, packed, _mask_of(mask, n, h), scale)
    for t in range(steps):
        log_sum = log_sums[i * steps + t]
        for j in range(sources):
            p[t, j] -= log_sum
    exponentiate(flat_p, 0, flat_p.size)
    pack(g, g_first, v_step, 1, steps, width, packed)
    product(flat_p, columns, sources, steps, packed, width, dv, v_rows, False)
    pack(v, v_first, 1, v_step, width, sources, packed)
    product(g, g_rows, 1, width, packed, sources, flat_ds, rows, False)
    for t in range(steps):
        mean = dot(g, y, g_rows[t], width)
        for j in range(sources):
            ds[t, j] = p[t, j] * (ds[t, j] - mean) * scale
    pack(k, k_first, q_step, 1, sources, size, packed)
    product(flat_ds, rows, 1, sources, packed, size, dq, q_rows, False)
    pack(q, q_first, q_step, 1, steps, size, packed)
    product(flat_ds, columns, sources, steps, packed, size, dk, k_rows, False)


# --- all heads ----------------------------------------------------------------------------------


@entry
def _attention(most, count, q, k, v, mask, scale, y, log_sums, sizes):
    _forward(count, most, (q, k, v, mask, scale, y, log_sums, sizes))


@entry
def _attention_grad(most, count, g, y, q, k, v, mask, scale, log_sums, dq, dk, dv, sizes):
    _backward(count, most, (g, y, q, k, v, mask, scale, log_sums, dq, dk, dv, sizes))


def _is_simple(*arrays: Array) -> bool:
    return all([x.dtype.char in "fd" and x.dtype == arrays[0].dtype for x in arrays])


def _rows_of(mask: Array, sources: int) -> Array:
    """The mask as (N or 1, H or 1, T or 1, S), contiguous; empty where it allows everything."""
    if mask.all():
        return _NO_MASK
    mask = mask.reshape((1,) * (4 - mask.ndim) + mask.shape)
    return np.ascontiguousarray(np.broadcast_to(mask, (*mask.shape[:3], sources)))


_NO_MASK = np.empty((1, 1, 0, 0), bool)


def _sizes(q: Array, k: Array, v: Array) -> tuple[int, ...]:
    """T, S, H, K, V."""
    return q.shape[1], k.shape[1], *v.shape[2:3], q.shape[3], v.shape[3]


def _threads(count: int, sizes: tuple[int, ...]) -> int:
    """How many threads so many heads are worth."""
    steps, sources, _, size, width = sizes
    return threads_for(count * steps * sources * (size + width))


def _run(q: Array, k: Array, v: Array, mask: Array, scale: float, y: Array, sizes: tuple) -> Array:
    """Fills y; the logarithms of the sums, of shape (samples * heads * T,)."""
    count = y.size // max(1, sizes[0] * sizes[4])
    log_sums = np.empty(count * sizes[0], q.dtype)
    flat = [ready(x, q.dtype) for x in (q, k, v)]
    most = _threads(count, sizes)
    _attention(most, count, *flat, mask, float(scale), y.reshape(-1), log_sums, sizes)
    return log_sums


def _run_grad(
    g: Array, y: Array, q: Array, k: Array, v: Array, mask: Array, scale: float, saved: Array,
    sizes: tuple,
) -> list[Array]:  # fmt: skip
    count = saved.size // max(1, sizes[0])
    gradients = [empty(x.shape, x.dtype) for x in (q, k, v)]
    flat = [ready(x, q.dtype) for x in (g, y, q, k, v)]
    _attention_grad(
        _threads(count, sizes), count, *flat, mask, float(scale), saved.reshape(-1),
        *[x.reshape(-1) for x in gradients], sizes,
    )  # fmt: skip
    return gradients


def attention(q: Array, k: Array, v: Array, mask: Array, *, scale: float) -> tuple[Array, Array]:
    if not _is_simple(q, k, v):
        return reference.attention(q, k, v, mask, scale=scale)
    samples, steps, heads, _ = q.shape
    y = empty((samples, steps, heads, v.shape[3]), q.dtype)
    log_sums = _run(q, k, v, _rows_of(mask, k.shape[1]), scale, y, _sizes(q, k, v))
    return y, log_sums.reshape(samples, heads, steps)


def attention_grad(
    g: Array, y: Array, q: Array, k: Array, v: Array, mask: Array, *,
    needs: Needs, saved: Array, scale: float,
) -> Gradients:  # fmt: skip
    if not _is_simple(g, q, k, v):
        return reference.attention_grad(g, y, q, k, v, mask, needs=needs, saved=saved, scale=scale)
    mask = _rows_of(mask, k.shape[1])
    return *_run_grad(g, y, q, k, v, mask, scale, saved, _sizes(q, k, v)), None


# --- a head of its own --------------------------------------------------------------------------

# So few weights NumPy has as soon, and nothing needs to be compiled.
FEW_WEIGHTS = 1 << 13


def one_head_attention(q: Array, k: Array, v: Array, *, scale: float) -> tuple[Array, Array]:
    if q.size // max(1, q.shape[-1]) * k.shape[-2] <= FEW_WEIGHTS or not _is_simple(q, k, v):
        return reference.one_head_attention(q, k, v, scale=scale)
    y = empty((*q.shape[:-1], v.shape[-1]), q.dtype)
    return y, _run(q, k, v, _NO_MASK, scale, y, _sizes_of_one(q, k, y))


def one_head_attention_grad(
    g: Array, y: Array, q: Array, k: Array, v: Array, *, needs: Needs, saved: Array, scale: float
) -> Gradients:
    if saved.ndim > 1:  # the weights themselves: NumPy's
        return reference.one_head_attention_grad(
            g, y, q, k, v, needs=needs, saved=saved, scale=scale
        )
    return tuple(_run_grad(g, y, q, k, v, _NO_MASK, scale, saved, _sizes_of_one(q, k, y)))


def _sizes_of_one(q: Array, k: Array, y: Array) -> tuple[int, ...]:
    return q.shape[-2], k.shape[-2], 1, q.shape[-1], y.shape[-1]
