"""Rows of the table: LSTM, GRU, the simple recurrent layer, attention."""

import numpy as np
from op_table import REAL, Row, fixed, shaped, torch

from minitorch_ciml import ops
from minitorch_ciml.ops.attention import one_head_attention


def _steps(x, step, *states):
    """`step(x of a step, *states)` over all steps: the first states, and the last of all."""
    history = []
    for t in range(x.shape[1]):
        states = step(x[:, t], *states)
        history.append(states[0])
    return torch.stack(history, 1), *states


def _lstm(x, w, u, b, h, c, sequences=True):
    def step(x, h, c):
        i, f, g, o = (x @ w + h @ u + b).split(w.shape[1] // 4, 1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        return o.sigmoid() * c.tanh(), c

    hs, h, c = _steps(x, step, h, c)
    return (hs if sequences else h), h, c


def _gru(x, w, u, b, h, sequences=True):
    def step(x, h):
        zx, rx, gx = (x @ w + b[0]).split(w.shape[1] // 3, 1)
        zh, rh, gh = (h @ u + b[1]).split(w.shape[1] // 3, 1)
        z, r = (zx + zh).sigmoid(), (rx + rh).sigmoid()
        return (z * h + (1 - z) * (gx + r * gh).tanh(),)

    hs, h = _steps(x, step, h)
    return (hs if sequences else h), h


def _simple(x, w, u, b, h, sequences=True):
    hs, h = _steps(x, lambda x, h: ((x @ w + h @ u + b).tanh(),), h)
    return (hs if sequences else h), h


def _attention(q, k, v, mask=None, scale=None, is_causal=False, bias=None):
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    s = torch.einsum("nthk,nshk->nhts", q, k) * scale
    s = s if bias is None else s + bias
    if mask is not None:
        s = s.masked_fill(~mask, -torch.inf)
    if is_causal:
        s = s.masked_fill(~torch.ones(s.shape[-2:], dtype=torch.bool).tril(), -torch.inf)
    return torch.einsum("nhts,nshv->nthv", s.softmax(-1).nan_to_num(), v)


def _one_head(q, k, v, scale):
    return (q @ k.transpose(-1, -2) * scale).softmax(-1) @ v


_QKV = shaped(REAL, (2, 3, 2, 4), (2, 5, 2, 4), (2, 5, 2, 3))
_RNG = np.random.default_rng(5)
_MASKED = fixed(
    *[_RNG.normal(size=s) for s in ((2, 3, 2, 4), (2, 3, 2, 4), (2, 3, 2, 3))],
    _RNG.random((2, 1, 3, 3)) < 0.6,
)

ROWS = [
    Row(
        op,
        shaped(REAL, (2, 3, 4), (4, k * 5), (5, k * 5), bias, *[(2, 5)] * states),
        {"sequences": sequences},
        torch=peer,
    )
    for sequences in (True, False)
    for op, k, bias, states, peer in (
        (ops.lstm, 4, (20,), 2, _lstm),
        (ops.gru, 3, (2, 15), 1, _gru),
        (ops.simple_rnn, 1, (5,), 1, _simple),
    )
] + [
    Row(ops.dot_product_attention, _QKV, torch=_attention),
    Row(ops.dot_product_attention, _QKV, {"scale": 0.7, "is_causal": True}, torch=_attention),
    Row(
        ops.dot_product_attention,
        _MASKED,
        call=lambda q, k, v, mask: ops.dot_product_attention(q, k, v, mask=mask),
        torch=_attention,
        integers=False,
    ),
    *(
        Row(one_head_attention, shaped(REAL, *shapes), {"scale": 0.7}, torch=_one_head)
        for shapes in (
            ((2, 3, 4), (2, 5, 4), (2, 5, 3)),
            ((2, 2, 17, 5), (2, 2, 9, 5), (2, 2, 9, 1)),
            ((0, 3, 4), (0, 5, 4), (0, 5, 3)),
        )
    ),
    Row(
        ops.dot_product_attention,
        shaped(REAL, (2, 3, 2, 4), (2, 5, 2, 4), (2, 5, 2, 3), (2, 1, 3, 5)),
        call=lambda q, k, v, bias: ops.dot_product_attention(q, k, v, bias),
        torch=lambda q, k, v, bias: _attention(q, k, v, bias=bias),
    ),
]
