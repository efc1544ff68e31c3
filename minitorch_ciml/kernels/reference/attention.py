"""Attention in NumPy. Shapes: q (N, T, H, K), k (N, S, H, K), v (N, S, H, V)."""

from __future__ import annotations

import numpy as np

Array = np.ndarray
Needs = tuple[bool, ...]
Gradients = tuple[Array | None, ...]


def _shares(q: Array, k: Array, mask: Array, scale: float) -> tuple[Array, Array]:
    """The attention weights (N, H, T, S), and ln of what they were divided by (N, H, T)."""
    scores = np.einsum("nthk,nshk->nhts", q, k) * q.dtype.type(scale)
    scores = np.where(mask, scores, q.dtype.type(-np.inf))
    top = scores.max(axis=-1, keepdims=True, initial=-np.inf)
    top[top == -np.inf] = 0  # nothing to attend to: all weights are 0
    e = np.exp(scores - top)
    total = e.sum(axis=-1, keepdims=True)
    total[total == 0] = np.inf
    return e / total, (top + np.log(total))[..., 0]


def attention(q: Array, k: Array, v: Array, mask: Array, *, scale: float) -> tuple[Array, Array]:
    """y = softmax(scale q k^T) v over what `mask` (..., T, S) allows; saved is ln of the sums."""
    shares, log_sums = _shares(q, k, mask, scale)
    return np.einsum("nhts,nshv->nthv", shares, v), log_sums


def attention_grad(
    g: Array, y: Array, q: Array, k: Array, v: Array, mask: Array, *,
    needs: Needs, saved: Array, scale: float,
) -> Gradients:  # fmt: skip
    shares, _ = _shares(q, k, mask, scale)
    slope = np.einsum("nthv,nshv->nhts", g, v)
    slope = shares * (slope - np.einsum("nthv,nthv->nht", g, y)[..., None]) * q.dtype.type(scale)
    return (
        np.einsum("nhts,nshk->nthk", slope, k) if needs[0] else None,
        np.einsum("nhts,nthk->nshk", slope, q) if needs[1] else None,
        np.einsum("nhts,nthv->nshv", shares, g) if needs[2] else None,
        None,
    )


def one_head_attention(q: Array, k: Array, v: Array, *, scale: float) -> tuple[Array, Array]:
    """y = softmax(scale q k^T) v, where q is (..., T, K), k (..., S, K) and v (..., S, V).

    Saved are the weights (..., T, S).
    """
    scores = np.matmul(q, k.swapaxes(-1, -2)) * q.dtype.type(scale)
    e = np.exp(scores - scores.max(axis=-1, keepdims=True, initial=-np.inf))
    shares = e / e.sum(axis=-1, keepdims=True)
    return np.matmul(shares, v), shares


def one_head_attention_grad(
    g: Array, y: Array, q: Array, k: Array, v: Array, *, needs: Needs, saved: Array, scale: float
) -> Gradients:
    slope = saved * np.matmul(g, v.swapaxes(-1, -2))
    slope = (slope - saved * slope.sum(axis=-1, keepdims=True)) * q.dtype.type(scale)
    return (
        np.matmul(slope, k) if needs[0] else None,
        np.matmul(slope.swapaxes(-1, -2), q) if needs[1] else None,
        np.matmul(saved.swapaxes(-1, -2), g) if needs[2] else None,
    )
