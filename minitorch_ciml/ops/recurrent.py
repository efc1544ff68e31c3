"""Recurrent layers as one op each: LSTM, GRU and the simple one.

Their steps (`lstm_step`, `gru_step`, `simple_rnn_step`) are written with other ops; that is what
the fused ops mean, what the cells of `keras.layers` compute, and where second derivatives come
from.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minitorch_ciml.autograd.arithmetic import sigmoid, tanh
from minitorch_ciml.autograd.engine import Op
from minitorch_ciml.autograd.tensor import FLOATS, Tensor, as_tensor
from minitorch_ciml.ops.joining import split, stack
from minitorch_ciml.ops.linalg import matmul
from minitorch_ciml.ops.shape import swapaxes

__all__ = ["gru", "lstm", "simple_rnn"]

# --- one step -----------------------------------------------------------------------------------


def _affine(x: Any, w: Any, b: Any) -> Tensor:
    y = matmul(x, w)
    return y if b is None else y + b


def simple_rnn_step(x, h, w, u, b=None, activation=tanh):
    """The next h: activation(x w + h u + b)."""
    return activation(_affine(x, w, b) + matmul(h, u))


def lstm_step(x, h, c, w, u, b=None, activation=tanh, recurrent_activation=sigmoid):
    """The next h and c (Hochreiter and Schmidhuber 1997; the gate f: Gers et al. 2000).

    c' = f c + i g and h' = o activation(c'), where i, f, g, o are the quarters of
    x w + h u + b, after `activation` for g and `recurrent_activation` for the others.
    """
    i, f, g, o = split(_affine(x, w, b) + matmul(h, u), 4, axis=-1)
    c = recurrent_activation(f) * c + recurrent_activation(i) * activation(g)
    return recurrent_activation(o) * activation(c), c


def gru_step(
    x, h, w, u, b=None, activation=tanh, recurrent_activation=sigmoid, reset_after=True,
    carried=None,
):  # fmt: skip
    """The next h (Cho et al. 2014): z h + (1 - z) g.

    z, r and g come from the thirds of x w + b[0] and of h u + b[1]; r multiplies the last third
    of the latter (`reset_after`), or h before its product with the last third of u. `carried` is h
    without dropout, for the term z h.
    """
    units = h.shape[-1]
    z, r, g = split(_affine(x, w, b if b is None or b.ndim == 1 else b[0]), 3, axis=-1)
    if reset_after:
        zh, rh, gh = split(_affine(h, u, None if b is None else b[1]), 3, axis=-1)
        r = recurrent_activation(r + rh)
        g = activation(g + r * gh)
    else:
        zh, rh = split(matmul(h, u[:, : 2 * units]), 2, axis=-1)
        r = recurrent_activation(r + rh)
        g = activation(g + matmul(r * h, u[:, 2 * units :]))
    z = recurrent_activation(z + zh)
    return z * (h if carried is None else carried) + (1 - z) * g


# --- all steps ----------------------------------------------------------------------------------


def _lstm_ref(x, h, c, w, u, b, sequences):
    hs = []
    for t in range(x.shape[0]):
        h, c = lstm_step(x[t], h, c, w, u, b)
        hs.append(h)
    return stack([*hs, c] if sequences else [h, c])


def _unrolled(step: Callable) -> Callable:
    def ref(x, h, w, u, b, sequences):
        hs = []
        for t in range(x.shape[0]):
            h = step(x[t], h, w, u, b)
            hs.append(h)
        return stack(hs) if sequences else h

    return ref


# x (T, N, I): time comes first, so that the states of a step lie together.
_lstm = Op(
    "lstm",
    ref=_lstm_ref,
    saves=True,
    dtypes="float",
    doc="h of every step, then the last c: (T + 1, N, H); without `sequences` the last h and c.",
)
_gru = Op(
    "gru",
    ref=_unrolled(gru_step),
    saves=True,
    dtypes="float",
    doc="h of every step (T, N, H), or the last one.",
)
_simple_rnn = Op(
    "simple_rnn",
    ref=_unrolled(simple_rnn_step),
    saves=True,
    dtypes="float",
    doc="h of every step (T, N, H), or the last one.",
)


def lstm(
    x: Any, w: Any, u: Any, b: Any = None, h: Any = None, c: Any = None, sequences: bool = True
) -> tuple[Tensor, Tensor, Tensor]:
    """A long short-term memory over all steps of a sequence; for one step see `lstm_step`.

    Args:
        x: floats (N, T, I) with at least one step.
        w: floats (I, 4 H), for the gates i, f, g, o.
        u: floats (H, 4 H).
        b: floats (4 H,); 0 if left out.
        h, c: the initial states, floats (N, H); 0 if left out.
        sequences: give h of every step, and not only the last one.

    Returns:
        (h of every step (N, T, H), or the last one (N, H); the last h; the last c).

    Raises:
        ValueError: the shapes do not fit.
    """
    x, h, b = _checked("lstm", 4, x, w, u, b, h)
    c = _state("lstm", "c", c, h.shape, x.dtype)
    y = _lstm(swapaxes(x, 0, 1), h, c, w, u, b, sequences=sequences)
    if not sequences:
        return y[0], y[0], y[1]
    return swapaxes(y[:-1], 0, 1), y[-2], y[-1]


def gru(
    x: Any, w: Any, u: Any, b: Any = None, h: Any = None, sequences: bool = True
) -> tuple[Tensor, Tensor]:
    """A gated recurrent unit over all steps of a sequence; for one step see `gru_step`.

    Args:
        x: floats (N, T, I) with at least one step.
        w: floats (I, 3 H), for the gates z, r, g.
        u: floats (H, 3 H).
        b: floats (2, 3 H), added to x w and to h u; 0 if left out.
        h: the initial state, floats (N, H); 0 if left out.
        sequences: give h of every step, and not only the last one.

    Returns:
        (h of every step (N, T, H), or the last one (N, H); the last h).

    Raises:
        ValueError: the shapes do not fit.
    """
    return _run(_gru, 3, x, w, u, b, h, sequences, biases=(2,))


def simple_rnn(
    x: Any, w: Any, u: Any, b: Any = None, h: Any = None, sequences: bool = True
) -> tuple[Tensor, Tensor]:
    """h' = tanh(x w + h u + b) over all steps of a sequence (Elman 1990).

    Args:
        x: floats (N, T, I) with at least one step.
        w: floats (I, H).
        u: floats (H, H).
        b: floats (H,); 0 if left out.
        h: the initial state, floats (N, H); 0 if left out.
        sequences: give h of every step, and not only the last one.

    Returns:
        (h of every step (N, T, H), or the last one (N, H); the last h).

    Raises:
        ValueError: the shapes do not fit.
    """
    return _run(_simple_rnn, 1, x, w, u, b, h, sequences)


def _run(op: Op, gates: int, x, w, u, b, h, sequences: bool, biases: tuple = ()) -> tuple:
    x, h, b = _checked(op.name, gates, x, w, u, b, h, biases)
    y = op(swapaxes(x, 0, 1), h, w, u, b, sequences=sequences)
    return (swapaxes(y, 0, 1), y[-1]) if sequences else (y, y)


def _checked(name: str, gates: int, x, w, u, b, h, biases: tuple = ()) -> tuple:
    """x, the initial h and b, with zeros for what is left out."""
    x, sizes, states = as_tensor(x), np.shape(w), np.shape(u)
    if x.ndim != 3 or x.shape[1] == 0:
        raise ValueError(
            f"{name}: x has shape {x.shape}, expected (samples, steps, inputs), at least one step."
        )
    units = states[0] if states else 0
    if sizes != (x.shape[2], gates * units) or states != (units, gates * units):
        raise ValueError(
            f"{name}: w has shape {sizes} and u {states}; expected ({x.shape[2]}, {gates} H) and "
            f"(H, {gates} H), since x has {x.shape[2]} inputs."
        )
    h = _state(name, "h", h, (x.shape[0], units), x.dtype)
    return x, h, _state(name, "b", b, (*biases, gates * units), x.dtype)


def _state(name: str, label: str, value: Any, shape: tuple, dtype: np.dtype) -> Any:
    if value is None:
        return Tensor.constant(np.zeros(shape, dtype if dtype.kind in FLOATS else "float32"))
    if np.shape(value) != shape:
        raise ValueError(f"{name}: {label} has shape {np.shape(value)}, expected {shape}.")
    return as_tensor(value)
