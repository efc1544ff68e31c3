"""Weighted sums along an axis, of few elements each: what resizing an image does with either side.

As a product with the matrix of weights, nearly all of which are 0, each side took a transposition
and a hundred times the multiplications; adding up the few others takes one pass.
"""

from __future__ import annotations

from math import prod

import numpy as np

from minitorch_ciml.kernels.cpu.buffers import empty
from minitorch_ciml.kernels.cpu.jit import ready
from minitorch_ciml.kernels.cpu.loads import clear
from minitorch_ciml.kernels.cpu.threads import PIECE, parallel

Array = np.ndarray
Needs = tuple[bool, ...]
Gradients = tuple[Array | None, ...]

SMALL = 4096  # with fewer elements NumPy's product is as fast


@parallel
def _add_up(i, tasks, sizes, starts, places, weights, x, y):
    """y (before, length, behind): element r is the sum of weights[t] x[places[t]], for t from
    starts[r] to starts[r + 1]; x (before, along, behind).
    """
    before, along, length, behind = sizes
    units = before * length
    for unit in range(i * units // tasks, (i + 1) * units // tasks):
        a, r = unit // length, unit % length
        to = np.uint64(unit * behind)
        if starts[r] == starts[r + 1]:
            clear(y, unit * behind, behind)
        for t in range(starts[r], starts[r + 1]):
            at, weight = np.uint64((a * along + places[t]) * behind), weights[t]
            if t == starts[r]:
                for j in range(np.uint64(behind)):
                    y[to + j] = weight * x[at + j]
            else:
                for j in range(np.uint64(behind)):
                    y[to + j] += weight * x[at + j]


def weighted_sums(x: Array, w: Array, *, axis: int) -> Array:
    """y_i = the sum of w_ik x_k over k, along an axis."""
    shape = (*x.shape[:axis], w.shape[0], *x.shape[axis + 1 :])
    if x.size < SMALL or x.dtype != w.dtype or x.dtype.char not in "fd":
        return np.moveaxis(np.tensordot(w, x, (1, axis)), 0, axis)
    rows, places = np.nonzero(w)
    starts = np.searchsorted(rows, np.arange(len(w) + 1))
    y = empty(shape, x.dtype)
    sizes = prod(shape[:axis]), x.shape[axis], len(w), prod(shape[axis + 1 :])
    flat = ready(x, x.dtype), y.reshape(-1)
    _add_up(-(-y.size // PIECE), sizes, starts, places, w[rows, places], *flat)
    return y


def weighted_sums_grad(
    g: Array, y: Array, x: Array, w: Array, *, needs: Needs, axis: int
) -> Gradients:
    dw = None
    if needs[1]:
        others = [i for i in range(x.ndim) if i != axis]
        dw = np.tensordot(g, x, (others, others))
    return weighted_sums(g, w.T, axis=axis) if needs[0] else None, dw
