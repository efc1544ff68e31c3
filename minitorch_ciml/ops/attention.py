"""Attention: every step looks at all others and takes a mean of them, weighted by likeness."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minitorch_ciml.autograd.arithmetic import exp, tanh, where
from minitorch_ciml.autograd.engine import Op
from minitorch_ciml.autograd.tensor import Tensor, as_booleans, as_tensor
from minitorch_ciml.kernels.halves import finfo
from minitorch_ciml.ops.linalg import matmul
from minitorch_ciml.ops.nn import softmax
from minitorch_ciml.ops.reduce import max as _max
from minitorch_ciml.ops.reduce import sum as _sum
from minitorch_ciml.ops.shape import transpose

__all__ = ["dot_product_attention"]

_HEADS_FIRST = (0, 2, 1, 3)


def masked_softmax(scores: Tensor, mask: Any) -> Tensor:
    """Softmax along the last axis over what `mask` allows; 0 elsewhere, also in an empty row."""
    lowest = float(finfo(scores.dtype).min)
    # The shift changes nothing but the range of the exponentials, so it needs no gradient.
    top = _max(where(mask, scores.detach(), lowest), axis=-1, keepdims=True)
    e = where(mask, exp(where(mask, scores - top, 0.0)), 0.0)
    total = _sum(e, axis=-1, keepdims=True)
    return e / where(total == 0, 1.0, total)


def attention_scores(q: Tensor, k: Tensor, scale: float) -> Tensor:
    """scale q k^T for every head: (N, T, H, K), (N, S, H, K) -> (N, H, T, S)."""
    return matmul(transpose(q, _HEADS_FIRST), transpose(k, (0, 2, 3, 1))) * scale


def mix(shares: Tensor, v: Tensor) -> Tensor:
    """The means of v with these weights: (N, H, T, S), (N, S, H, V) -> (N, T, H, V)."""
    return transpose(matmul(shares, transpose(v, _HEADS_FIRST)), _HEADS_FIRST)


_attention = Op(
    "attention",
    ref=lambda q, k, v, mask, scale: mix(masked_softmax(attention_scores(q, k, scale), mask), v),
    saves=True,
    doc="y = softmax(scale q k^T) v, per head, over what the mask allows.",
)


def _one_head_ref(q, k, v, scale):
    turned = (*range(q.ndim - 2), q.ndim - 1, q.ndim - 2)
    return matmul(softmax(matmul(q, transpose(k, turned)) * scale), v)


_one_head = Op(
    "one_head_attention",
    ref=_one_head_ref,
    saves=True,
    dtypes="float",
    doc="y = softmax(scale q k^T) v.",
)


def one_head_attention(query: Any, key: Any, value: Any, scale: float) -> Tensor:
    """y = softmax(scale q k^T) v, as it is often written out by hand.

    Args:
        query: floats (..., T, K).
        key: floats (..., S, K).
        value: floats (..., S, V).
        scale: the factor of the scores.

    Returns:
        Floats (..., T, V).

    Raises:
        ValueError: the shapes do not fit.
    """
    q, k, v = as_tensor(query), as_tensor(key), as_tensor(value)
    shapes = q.shape, k.shape, v.shape
    if not (
        min(map(len, shapes)) >= 2
        and q.shape[:-2] == k.shape[:-2] == v.shape[:-2]
        and q.shape[-1] == k.shape[-1]
        and k.shape[-2] == v.shape[-2]
    ):
        raise ValueError(
            f"one_head_attention: query, key and value have shapes {q.shape}, {k.shape}, "
            f"{v.shape}; expected (..., T, K), (..., S, K), (..., S, V)."
        )
    return _one_head(q, k, v, scale=float(scale))


def dot_product_attention(
    query: Any,
    key: Any,
    value: Any,
    bias: Any = None,
    mask: Any = None,
    scale: float | None = None,
    is_causal: bool = False,
    flash_attention: bool | None = None,
    attn_logits_soft_cap: float | None = None,
) -> Tensor:
    """y = softmax(scale q k^T + bias) v for every head (Vaswani et al. 2017).

    Args:
        query: floats (N, T, H, K): samples, steps, heads, features.
        key: floats (N, S, H, K).
        value: floats (N, S, H, V).
        bias: floats that broadcast to (N, H, T, S), or None.
        mask: booleans that broadcast to (N, H, T, S): where step T may look at S; None for
            everywhere. A step that may look nowhere gives 0.
        scale: 1 / sqrt(K) if left out.
        is_causal: no step looks at later ones.
        flash_attention: accepted as in Keras, without effect.
        attn_logits_soft_cap: keep the scores s = scale q k^T + bias between -cap and cap:
            cap tanh(s / cap).

    Returns:
        Floats (N, T, H, V).

    Raises:
        ValueError: the shapes do not fit.
    """
    q, k, v = as_tensor(query), as_tensor(key), as_tensor(value)
    shapes = q.shape, k.shape, v.shape
    if any(len(s) != 4 for s in shapes) or not (
        q.shape[0] == k.shape[0] == v.shape[0]
        and q.shape[2:] == k.shape[2:]
        and k.shape[1:3] == v.shape[1:3]
    ):
        raise ValueError(
            f"dot_product_attention: query, key and value have shapes {q.shape}, {k.shape}, "
            f"{v.shape}; expected (N, T, H, K), (N, S, H, K), (N, S, H, V)."
        )
    full = (q.shape[0], q.shape[2], q.shape[1], k.shape[1])
    allowed = combined_mask(mask, is_causal, full)
    scale = 1 / math.sqrt(q.shape[3]) if scale is None else float(scale)
    if bias is not None or attn_logits_soft_cap is not None:
        scores = attention_scores(q, k, scale)
        scores = scores if bias is None else scores + bias
        if attn_logits_soft_cap is not None:
            scores = tanh(scores / attn_logits_soft_cap) * attn_logits_soft_cap
        return mix(masked_softmax(scores, allowed), v)
    q, k, v = _floats(q, k, v)
    return _attention(q, k, v, allowed, scale=scale)


def _floats(*tensors: Tensor) -> list[Tensor]:
    """The tensors in the float type they are computed in; the op itself leaves the mask alone."""
    dtypes = Tensor.promote([x.value for x in tensors], "float")
    return [x if x.dtype == a.dtype else x.astype(a.dtype) for x, a in zip(tensors, dtypes)]


def combined_mask(mask: Any, is_causal: bool, shape: tuple[int, ...]) -> Any:
    """Where to look: `mask`, which must broadcast to `shape`, and not ahead if `is_causal`."""
    allowed = np.ones((1, 1), bool) if mask is None else as_booleans(mask)
    try:
        fits = np.broadcast_shapes(allowed.shape, shape) == shape
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(
            f"attention: the mask has shape {allowed.shape}, which does not broadcast to {shape}."
        )
    return allowed & np.tri(*shape[-2:], dtype=np.bool_) if is_causal else allowed
