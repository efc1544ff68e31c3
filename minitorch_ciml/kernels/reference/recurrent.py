"""Recurrent layers in NumPy: LSTM, GRU and the simple one. Time is the first axis.

Shapes: x (T, N, I), states (N, H), w (I, k H), u (H, k H), b (k H,), where k is the number of
gates. The gradients go back through time and leave, for every step, the gradient of what enters
the activations; all others are products with that.
"""

from __future__ import annotations

import numpy as np

from minitorch_ciml.kernels.reference.elementwise import sigmoid

Array = np.ndarray
Needs = tuple[bool, ...]
Gradients = tuple[Array | None, ...]


def _flat(x: Array) -> Array:
    """All time steps of all samples as rows."""
    return x.reshape(-1, x.shape[-1])


def _weight_gradients(needs: Needs, x: Array, hs: Array, w: Array, dx: Array, dh: Array) -> tuple:
    """The gradients for x, w and u, from those of x w (`dx`) and of h u (`dh`), (T, N, k H)."""
    return (
        (_flat(dx) @ w.T).reshape(x.shape) if needs[0] else None,
        _flat(x).T @ _flat(dx) if needs[1] else None,
        _flat(hs[:-1]).T @ _flat(dh) if needs[2] else None,
    )


def lstm(
    x: Array, h: Array, c: Array, w: Array, u: Array, b: Array, *, sequences: bool
) -> tuple[Array, tuple]:
    """Of every step h, and then the last c: (T + 1, N, H); without `sequences` the last h and c.

    Saved are h and c of every step, with the initial ones before them, and the gates i, f, g, o.
    """
    hs, cs, gates = [h], [c], []
    for z in x @ w + b:
        i, f, g, o = np.split(z + hs[-1] @ u, 4, axis=-1)
        i, f, g, o = sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)
        cs.append(f * cs[-1] + i * g)
        hs.append(o * np.tanh(cs[-1]))
        gates.append(np.concatenate([i, f, g, o], axis=-1))
    y = np.stack([*hs[1:], cs[-1]] if sequences else [hs[-1], cs[-1]])
    return y, (np.stack(hs), np.stack(cs), np.stack(gates))


def lstm_grad(
    g: Array, y: Array, x: Array, h: Array, c: Array, w: Array, u: Array, b: Array, *,
    needs: Needs, saved: tuple, sequences: bool,
) -> Gradients:  # fmt: skip
    hs, cs, gates = saved
    dz, dc = np.empty_like(gates), g[-1]
    dh = np.zeros_like(h) if sequences else g[0]
    for t in reversed(range(len(x))):
        i, f, a, o = np.split(gates[t], 4, axis=-1)
        dh = dh + g[t] if sequences else dh
        tanh = np.tanh(cs[t + 1])
        dc = dc + dh * o * (1 - tanh * tanh)
        slopes = dc * a * i * (1 - i), dc * cs[t] * f * (1 - f), dc * i * (1 - a * a)
        dz[t] = np.concatenate([*slopes, dh * tanh * o * (1 - o)], axis=-1)
        dc, dh = dc * f, dz[t] @ u.T
    dx, dw, du = _weight_gradients((needs[0], *needs[3:5]), x, hs, w, dz, dz)
    return dx, dh, dc, dw, du, _flat(dz).sum(axis=0) if needs[5] else None


def gru(
    x: Array, h: Array, w: Array, u: Array, b: Array, *, sequences: bool
) -> tuple[Array, tuple]:
    """h of every step (T, N, H), or the last one (N, H).

    b (2, 3 H) has the bias of x w and that of h u. Saved are h of every step, with the initial one
    before them, the gates z, r, g, and what r multiplies.
    """
    hs, gates, inner = [h], [], []
    for z in x @ w + b[0]:
        p = hs[-1] @ u + b[1]
        (zx, rx, gx), (zh, rh, gh) = np.split(z, 3, axis=-1), np.split(p, 3, axis=-1)
        z, r = sigmoid(zx + zh), sigmoid(rx + rh)
        g = np.tanh(gx + r * gh)
        hs.append(z * hs[-1] + (1 - z) * g)
        gates.append(np.concatenate([z, r, g], axis=-1))
        inner.append(gh)
    y = np.stack(hs[1:]) if sequences else hs[-1]
    return y, (np.stack(hs), np.stack(gates), np.stack(inner))


def gru_grad(
    g: Array, y: Array, x: Array, h: Array, w: Array, u: Array, b: Array, *,
    needs: Needs, saved: tuple, sequences: bool,
) -> Gradients:  # fmt: skip
    hs, gates, inner = saved
    dx, dp = np.empty_like(gates), np.empty_like(gates)
    dh = np.zeros_like(h) if sequences else g
    for t in reversed(range(len(x))):
        z, r, a = np.split(gates[t], 3, axis=-1)
        dh = dh + g[t] if sequences else dh
        da = dh * (1 - z) * (1 - a * a)
        both = dh * (hs[t] - a) * z * (1 - z), da * inner[t] * r * (1 - r)
        dx[t] = np.concatenate([*both, da], axis=-1)
        dp[t] = np.concatenate([*both, da * r], axis=-1)
        dh = dh * z + dp[t] @ u.T
    gradients = _weight_gradients((needs[0], *needs[2:4]), x, hs, w, dx, dp)
    db = np.stack([_flat(dx).sum(axis=0), _flat(dp).sum(axis=0)]) if needs[4] else None
    return gradients[0], dh, *gradients[1:], db


def simple_rnn(
    x: Array, h: Array, w: Array, u: Array, b: Array, *, sequences: bool
) -> tuple[Array, Array]:
    """h of every step (T, N, H), or the last one (N, H); saved is also the initial one."""
    hs = [h]
    for z in x @ w + b:
        hs.append(np.tanh(z + hs[-1] @ u))
    return np.stack(hs[1:]) if sequences else hs[-1], np.stack(hs)


def simple_rnn_grad(
    g: Array, y: Array, x: Array, h: Array, w: Array, u: Array, b: Array, *,
    needs: Needs, saved: Array, sequences: bool,
) -> Gradients:  # fmt: skip
    dz = np.empty_like(saved[1:])
    dh = np.zeros_like(h) if sequences else g
    for t in reversed(range(len(x))):
        dh = dh + g[t] if sequences else dh
        dz[t] = dh * (1 - saved[t + 1] * saved[t + 1])
        dh = dz[t] @ u.T
    dx, dw, du = _weight_gradients((needs[0], *needs[2:4]), x, saved, w, dz, dz)
    return dx, dh, dw, du, _flat(dz).sum(axis=0) if needs[4] else None
