"""Convolutions with many weights as products of matrices that pack what they read again.

The other kernels read the weights once for each of a few places. That is free while the weights
stay in a core's first cache, and takes up to two thirds of the time where they do not: with windows
of one place, 16 images of 6 x 6 with 96 channels and 576 filters ran at 108 GFLOP/s, and run at 164
this way; 16 of 3 x 3 with 960 and 160 at 54, and at 158. Larger windows are copied side by side
first, where there are few of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

import numpy as np

from minitorch_ciml.kernels.cpu.buffers import empty
from minitorch_ciml.kernels.cpu.dense import dense_grad
from minitorch_ciml.kernels.cpu.jit import ready
from minitorch_ciml.kernels.cpu.products import multiply
from minitorch_ciml.kernels.reference.conv import Ints, Pads, output_size

# Weights, from which on it is faster: with windows of one place (backward: where few places are to
# be added up), and otherwise.
WIDE_PLACE, WIDE = 1 << 14, 1 << 17
FEW_PLACES = 1 << 11

# Winograd's method takes a quarter of the multiplications, but writes and reads 36 numbers for each
# 9 weights. That takes as long as so many multiplications by each weight, as measured with 3 x 3 x
# 256 x 256 and 512 x 512 weights; backward it does so for each chunk of the places.
FORWARD, BACKWARD = 1500, 5000


class WideProduct(NamedTuple):
    """Such a convolution: of x `(N, *S, C)` with w `(*K, C, F)`.

    Attributes:
        x_shape, w_shape: as above.
        sizes: `(N, *O)`.
        strides, padding: as of a convolution.
    """

    x_shape: Ints
    w_shape: Ints
    sizes: Ints
    strides: Ints
    padding: Pads

    def forward(self, x: np.ndarray, w: np.ndarray, b: np.ndarray | None, clip: bool) -> np.ndarray:
        """`y = x * w + b`, or `max(y, 0)`."""
        dtype = np.result_type(x, w)
        bias = None if b is None else ready(b, dtype)
        y = multiply(self._windows(x, dtype), _rows(w, dtype), bias, clip)
        return y.reshape(*self.sizes, w.shape[-1])

    def gradients(
        self, x: np.ndarray, g: np.ndarray, w: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """`(dx, dw, db)`."""
        dtype = np.result_type(x, w)
        rows = _rows(g, dtype)
        dx, dw, db = dense_grad(
            rows, rows, self._windows(x, dtype), _rows(w, dtype), rows[0], needs=(True,) * 3,
            activation="linear",
        )  # fmt: skip
        return self._added_up(dx), dw.reshape(w.shape), db

    def input_grad(self, g: np.ndarray, w: np.ndarray) -> np.ndarray:
        """`dx`."""
        dtype = np.result_type(g, w)
        return self._added_up(multiply(_rows(g, dtype), _rows(w, dtype).T))

    def kernel_grad(self, x: np.ndarray, g: np.ndarray) -> np.ndarray:
        """`dw`."""
        dtype = np.result_type(x, g)
        dw = multiply(self._windows(x, dtype).T, _rows(g, dtype))
        return dw.reshape(self.w_shape)

    def _windows(self, x: np.ndarray, dtype: np.dtype) -> np.ndarray:
        """What the window sees at every place, as a row."""
        if self._is_one_place():
            met = x[(slice(None), *(slice(None, None, step) for step in self.strides))]
            return ready(met, dtype).reshape(-1, x.shape[-1])
        x = np.pad(x, ((0, 0), *self.padding, (0, 0)))
        windows = empty((*self.sizes, math.prod(self.w_shape[:-2]), x.shape[-1]), dtype)
        for tap, place in enumerate(self._taps()):
            windows[..., tap, :] = x[place]
        return windows.reshape(math.prod(self.sizes), -1)

    def _added_up(self, rows: np.ndarray) -> np.ndarray:
        """The reverse: every element of x gets the sum of those that show it."""
        if self._is_one_place() and max(self.strides) == 1:
            return rows.reshape(self.x_shape)
        sizes = [s + sum(pads) for s, pads in zip(self.x_shape[1:-1], self.padding)]
        x = empty((self.x_shape[0], *sizes, self.x_shape[-1]), rows.dtype)
        x.fill(0)
        windows = rows.reshape(*self.sizes, -1, self.x_shape[-1])
        for tap, place in enumerate(self._taps()):
            x[place] += windows[..., tap, :]
        inside = (slice(p[0], p[0] + s) for s, p in zip(self.x_shape[1:-1], self.padding))
        return x[(slice(None), *inside)]

    def _is_one_place(self) -> bool:
        return max(self.w_shape[:-2]) == 1 and not any(map(any, self.padding))

    def _taps(self) -> Iterator[tuple[slice, ...]]:
        """Where each element of the window lies, for all places."""
        for tap in product(*map(range, self.w_shape[:-2])):
            steps = zip(tap, self.sizes[1:], self.strides)
            yield slice(None), *(slice(t, t + (n - 1) * s + 1, s) for t, n, s in steps)


def wide_product(
    x_shape: Ints,
    w_shape: Ints,
    strides: Ints,
    padding: Pads,
    dilation: Ints,
    groups: int,
    dtype: np.dtype,
    patience: int,
) -> WideProduct | None:
    """The convolution as a `WideProduct`; None where the other kernels are faster.

    Args:
        patience: `FORWARD` or `BACKWARD`; the others are as of a convolution.
    """
    if groups > 1 or math.prod(w_shape) < WIDE_PLACE or dtype.char not in "fd":
        return None
    window = zip(x_shape[1:-1], w_shape[:-2], strides, padding, dilation)
    sizes = (x_shape[0], *(output_size(*how) for how in window))
    one_place = max(w_shape[:-2]) == 1 and not any(map(any, padding))
    light = one_place and (patience == FORWARD or math.prod(sizes) <= FEW_PLACES)
    if 0 in sizes or (math.prod(w_shape) < WIDE and not light):
        return None
    if not one_place:
        blocks = x_shape[0] * math.prod(-(-n // 4) for n in sizes[1:])
        more = (math.prod(sizes) - 4 * blocks) * math.prod(w_shape[:-2])
        if max(dilation) > 1 or more > patience:
            return None
    return WideProduct(x_shape, w_shape, sizes, strides, padding)


def _rows(x: np.ndarray, dtype: np.dtype) -> np.ndarray:
    return ready(x, dtype).reshape(-1, x.shape[-1])
