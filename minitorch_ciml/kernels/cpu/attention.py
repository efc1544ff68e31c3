"""Attention on the CPU: the weights of a few samples at a time, which stay in the cache.

Only the logarithms of the sums are kept for backward, which computes the weights again from them
(Dao et al. 2022): memory grows with the length of a sequence, not with its square.

Shapes: q (N, T, H, K), k (N, S, H, K), v (N, S, H, V); weights (N, H, T, S).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from minitorch_ciml.kernels.cpu.exponential import exp
from minitorch_ciml.kernels.cpu.jit import entry
from minitorch_ciml.kernels.cpu.threads import ALL, task
from minitorch_ciml.kernels.reference import attention as reference

Array = np.ndarray
Needs = tuple[bool, ...]
Gradients = tuple[Array | None, ...]

# As many weights at a time as half of a core's second cache holds in float32.
_AT_A_TIME = 128 * 1024


@task
def _softmax_part(i, s, mask, scale, log_sums):
    """Head i of the samples: the weights in the place of the scores, and ln of their sums."""
    n, h = i // s.shape[1], i % s.shape[1]
    steps, sources = s.shape[2:]
    scale = s.dtype.type(scale)
    allowed = mask[n % mask.shape[0], h % mask.shape[1]]
    for t in range(steps):
        row = s[n, h, t]
        for j in range(sources):
            row[j] = row[j] * scale if allowed[t % allowed.shape[0], j] else -np.inf
        top = s.dtype.type(-np.inf)
        for j in range(sources):
            top = max(top, row[j])
        if top == -np.inf:
            top = s.dtype.type(0)
        for j in range(sources):
            row[j] = exp(row[j] - top)
        total = s.dtype.type(0)
        for j in range(sources):
            total += row[j]
        share = 1 / total if total > 0 else total
        for j in range(sources):
            row[j] *= share
        log_sums[n, h, t] = top + math.log(total) if total > 0 else np.inf


@task
def _again_part(i, s, mask, scale, log_sums):
    """Head i of the samples: the weights in the place of the scores, from ln of their sums."""
    n, h = i // s.shape[1], i % s.shape[1]
    scale = s.dtype.type(scale)
    allowed = mask[n % mask.shape[0], h % mask.shape[1]]
    for t in range(s.shape[2]):
        row = s[n, h, t]
        for j in range(s.shape[3]):
            row[j] = row[j] * scale if allowed[t % allowed.shape[0], j] else -np.inf
        for j in range(s.shape[3]):
            row[j] = exp(row[j] - log_sums[n, h, t])


@task
def _slope_part(i, ds, p, g, y, scale):
    """Head i of the samples: the gradients of q k^T in the place of those of the weights."""
    n, h = i // p.shape[1], i % p.shape[1]
    scale = p.dtype.type(scale)
    for t in range(p.shape[2]):
        mean = p.dtype.type(0)
        for j in range(g.shape[3]):
            mean += g[n, t, h, j] * y[n, t, h, j]
        for j in range(p.shape[3]):
            ds[n, h, t, j] = p[n, h, t, j] * (ds[n, h, t, j] - mean) * scale


@entry
def _softmax(s, mask, scale, log_sums):
    _softmax_part(s.shape[0] * s.shape[1], ALL, (s, mask, scale, log_sums))


@entry
def _again(s, mask, scale, log_sums):
    _again_part(s.shape[0] * s.shape[1], ALL, (s, mask, scale, log_sums))


@entry
def _slope(ds, p, g, y, scale):
    _slope_part(p.shape[0] * p.shape[1], ALL, (ds, p, g, y, scale))


def _is_simple(*arrays: Array) -> bool:
    return all(x.dtype.char in "fd" and x.dtype == arrays[0].dtype for x in arrays)


def _mask_rows(mask: Array, steps: int, sources: int) -> Array:
    """The mask as (N or 1, H or 1, T or 1, S), contiguous."""
    mask = mask.reshape((1,) * (4 - mask.ndim) + mask.shape)
    return np.ascontiguousarray(np.broadcast_to(mask, (*mask.shape[:3], sources)))


def _portions(q: Array, k: Array) -> Iterator[tuple[slice, Array]]:
    """Some samples at a time, and room for their weights, which is used again and again."""
    samples, steps, heads, _ = q.shape
    each = heads * steps * k.shape[1]
    size = min(max(_AT_A_TIME // max(each, 1), 1), samples)
    room = np.empty((size, heads, steps, k.shape[1]), q.dtype)
    for first in range(0, samples, size):
        last = min(first + size, samples)
        yield slice(first, last), room[: last - first]


def _heads_first(x: Array) -> Array:
    return x.transpose(0, 2, 1, 3)


def _of_samples(x: Array, which: slice) -> Array:
    return x[which] if len(x) > 1 else x


def attention(q: Array, k: Array, v: Array, mask: Array, *, scale: float) -> tuple[Array, Array]:
    if not _is_simple(q, k, v):
        return reference.attention(q, k, v, mask, scale=scale)
    samples, steps, heads, _ = q.shape
    mask = _mask_rows(mask, steps, k.shape[1])
    y = np.empty((samples, steps, heads, v.shape[3]), q.dtype)
    log_sums = np.empty((samples, heads, steps), q.dtype)
    for which, s in _portions(q, k):
        np.matmul(_heads_first(q[which]), k[which].transpose(0, 2, 3, 1), out=s)
        _softmax(s, _of_samples(mask, which), scale, log_sums[which])
        np.matmul(s, _heads_first(v[which]), out=_heads_first(y[which]))
    return y, log_sums


def attention_grad(
    g: Array, y: Array, q: Array, k: Array, v: Array, mask: Array, *,
    needs: Needs, saved: Array, scale: float,
) -> Gradients:  # fmt: skip
    if not _is_simple(g, q, k, v):
        return reference.attention_grad(g, y, q, k, v, mask, needs=needs, saved=saved, scale=scale)
    mask = _mask_rows(mask, q.shape[1], k.shape[1])
    g = np.ascontiguousarray(g)
    dq, dk, dv = (np.empty(x.shape, x.dtype) for x in (q, k, v))
    slopes = np.empty(0, q.dtype)
    for which, p in _portions(q, k):
        slopes = slopes if slopes.shape == p.shape else np.empty_like(p)
        heads_g = _heads_first(g[which])
        np.matmul(_heads_first(q[which]), k[which].transpose(0, 2, 3, 1), out=p)
        _again(p, _of_samples(mask, which), scale, saved[which])
        np.matmul(p.transpose(0, 1, 3, 2), heads_g, out=_heads_first(dv[which]))
        np.matmul(heads_g, v[which].transpose(0, 2, 3, 1), out=slopes)
        _slope(slopes, p, g[which], y[which], scale)
        np.matmul(slopes, _heads_first(k[which]), out=_heads_first(dq[which]))
        np.matmul(slopes.transpose(0, 1, 3, 2), _heads_first(q[which]), out=_heads_first(dk[which]))
    return dq, dk, dv, None
