"""Convolution on the GPU, and its gradients: which kernel computes what.

- `conv`, with bias and ReLU if asked for, is one correlation (`conv_plan.py`); the gradient for the
  input is one or several, of the result's gradient with the flipped kernel.
- The gradient for the kernel is a sum over all pixels; many blocks sum a share each, and the shares
  are added in a fixed order, so that results repeat bit for bit.
- Where the window is a single element, or all of the input, they are products of matrices.

16-bit floats go through tensor cores (`conv_cores.py`), as float32 does if asked for; otherwise it
goes through tiles on the ordinary cores (`conv_tiles.py`). Where there is a group for every
channel, four channels are computed at a time (`conv_depthwise.py`); in other small groups, and in
float64, each element is computed for itself (`conv_direct.py`).
"""

from __future__ import annotations

import math

import numpy as np

from minitorch_ciml.kernels.cuda import conv_cores, conv_depthwise, conv_direct, conv_tiles
from minitorch_ciml.kernels.cuda.conv_plan import Correlation, Taps, backward, forward
from minitorch_ciml.kernels.cuda.cores import TILES, CoreTile, arithmetic
from minitorch_ciml.kernels.cuda.launch import ceil_div
from minitorch_ciml.kernels.cuda.matmul import dense, matmul
from minitorch_ciml.kernels.cuda.memory import CudaArray, empty, zeros
from minitorch_ciml.kernels.cuda.runtime import runtime
from minitorch_ciml.kernels.cuda.sums import bias_grad, shares_of, summed
from minitorch_ciml.kernels.cuda.tiles import MEDIUM, NARROW, SHORT, Tile
from minitorch_ciml.kernels.cuda.windows import in_three, output_sizes, over
from minitorch_ciml.kernels.reference.conv import Ints, Pads

Needs = tuple[bool, ...]

_SMALL_GROUP = 8  # groups of fewer channels and filters leave tiles empty


def conv(
    x: CudaArray, w: CudaArray, *, strides: Ints, padding: Pads, dilation: Ints, groups: int
) -> CudaArray:
    return _conv(x, w, None, False, strides, padding, dilation, groups)


def conv_bias_act(
    x: CudaArray, w: CudaArray, b: CudaArray, *,
    strides: Ints, padding: Pads, dilation: Ints, groups: int, activation: str,
) -> CudaArray:  # fmt: skip
    return _conv(x, w, b, activation == "relu", strides, padding, dilation, groups)


def conv_input_grad(
    g: CudaArray, w: CudaArray, *,
    input_shape: Ints, strides: Ints, padding: Pads, dilation: Ints, groups: int,
) -> CudaArray:  # fmt: skip
    spatial, outputs, window = input_shape[1:-1], g.shape[1:-1], w.shape[:-2]
    if _is_product(spatial, outputs, window, strides, padding, groups):
        length, filters = math.prod(w.shape[:-1]), w.shape[-1]
        g, w = g.reshape(math.prod(g.shape[:-1]), filters), w.reshape(length, filters)
        return matmul(g, w, transpose_b=True).reshape(input_shape)
    dtype = g.dtype
    how = _How(g, w.shape[-1] // groups, w.shape[-2], groups)
    if how.is_widened:
        g, w = g.astype(np.float32), w.astype(np.float32)
        how = _How(g, how.taken, how.filters, groups)
    dx = empty(input_shape, g.dtype)
    if dx.size:
        for part in backward(spatial, outputs, window, strides, padding, dilation):
            how.correlate(dx, g, _flipped(w, part.taps, groups), None, False, part)
    return dx.astype(dtype, copy=False)


def conv_kernel_grad(
    x: CudaArray, g: CudaArray, *,
    kernel_shape: Ints, strides: Ints, padding: Pads, dilation: Ints, groups: int,
) -> CudaArray:  # fmt: skip
    spatial, outputs, window = x.shape[1:-1], g.shape[1:-1], kernel_shape[:-2]
    if g.size == 0 or math.prod(kernel_shape) == 0:
        return zeros(kernel_shape, x.dtype)
    if _is_product(spatial, outputs, window, strides, padding, groups):
        length, filters = math.prod(kernel_shape[:-1]), kernel_shape[-1]
        rows = x.reshape(x.size // length, length), g.reshape(g.size // filters, filters)
        return matmul(*rows, transpose_a=True).reshape(kernel_shape)
    dtype = x.dtype
    how = _How(x, kernel_shape[-2], kernel_shape[-1] // groups, groups)
    if how.is_widened or how.is_two_bytes and not how.has_chunks(x):
        x, g = x.astype(np.float32), g.astype(np.float32)
        how = _How(x, how.taken, how.filters, groups)
    places = forward(spatial, outputs, window, strides, padding, dilation)
    return how.correlate_grad(x, g, kernel_shape, places).astype(dtype, copy=False)


def conv_bias_act_grad(
    g: CudaArray, y: CudaArray, x: CudaArray, w: CudaArray, b: CudaArray, *,
    needs: Needs, strides: Ints, padding: Pads, dilation: Ints, groups: int, activation: str,
) -> tuple[CudaArray | None, ...]:  # fmt: skip
    how = {"strides": strides, "padding": padding, "dilation": dilation, "groups": groups}
    is_relu, db = activation == "relu", None
    if is_relu or needs[2]:
        g, db = bias_grad(g, y, is_relu)
    return (
        conv_input_grad(g, w, input_shape=x.shape, **how) if needs[0] else None,
        conv_kernel_grad(x, g, kernel_shape=w.shape, **how) if needs[1] else None,
        db if needs[2] else None,
    )


# --- the parts ------------------------------------------------------------------------------------


def _conv(
    x: CudaArray, w: CudaArray, b: CudaArray | None, is_relu: bool,
    strides: Ints, padding: Pads, dilation: Ints, groups: int,
) -> CudaArray:  # fmt: skip
    spatial, window = x.shape[1:-1], w.shape[:-2]
    outputs = output_sizes(spatial, window, strides, padding, dilation)
    shape = (x.shape[0], *outputs, w.shape[-1])
    if _is_product(spatial, outputs, window, strides, padding, groups):
        length = math.prod(w.shape[:-1])
        x, w = x.reshape(math.prod(shape[:-1]), length), w.reshape(length, shape[-1])
        activation = "relu" if is_relu else "linear"
        y = matmul(x, w) if b is None else dense(x, w, b, activation=activation)
        return y.reshape(shape)
    dtype = x.dtype
    how = _How(x, w.shape[-2], w.shape[-1] // groups, groups)
    if how.is_widened:
        x, w = x.astype(np.float32), w.astype(np.float32)
        b = b and b.astype(np.float32)
        how = _How(x, how.taken, how.filters, groups)
    y = empty(shape, x.dtype)
    if y.size:
        places = forward(spatial, outputs, window, strides, padding, dilation)
        how.correlate(y, x, w, b, is_relu, places)
    return y.astype(dtype, copy=False)


def _is_product(
    spatial: Ints, outputs: Ints, window: Ints, strides: Ints, padding: Pads, groups: int
) -> bool:
    """Whether x is a matrix already: the window is one element, or all of the input."""
    is_single = math.prod(window) == 1 and set(strides) <= {1}
    is_whole = window == spatial and math.prod(outputs) == 1
    return groups == 1 and not any(map(any, padding)) and (is_single or is_whole)


class _How:
    """How correlations of such an input are computed, of so many channels and filters per group.

    Attributes:
        is_direct: element by element, for want of matrices.
        numbers: how tensor cores multiply the numbers; None where they do not.
        is_two_bytes: whether the numbers are 16-bit floats.
        is_widened: whether these must be widened to float32 first.
    """

    def __init__(self, x: CudaArray, taken: int, filters: int, groups: int):
        self.taken, self.filters, self.groups = taken, filters, groups
        is_small = groups > 1 and max(taken, filters) < _SMALL_GROUP
        self.is_direct = is_small or x.pointer_type == "f8*"
        self.is_two_bytes = x.dtype.itemsize == 2
        self.numbers = None if self.is_direct else arithmetic(x.pointer_type[:-1], filters)
        is_odd = taken % 2 == 1 or filters % 2 == 1  # four bytes are the least that can be copied
        no_cores = self.numbers is None or is_odd
        self.is_widened = self.is_two_bytes and not self.is_direct and no_cores

    def has_chunks(self, x: CudaArray) -> bool:
        """Whether x's channels, those of a group, come in parts of 16 bytes."""
        return self._is_by(16 // x.dtype.itemsize, x, self.taken)

    def _is_depthwise(self, *arrays: CudaArray) -> bool:
        """Whether every channel has one filter, and there are four channels for each thread."""
        is_single = self.taken == self.filters == 1 and self.groups % 4 == 0
        is_aligned = all(x.is_aligned and x.pointer_type != "f8*" for x in arrays)
        return is_single and is_aligned

    @staticmethod
    def _is_by(count: int, x: CudaArray, size: int) -> bool:
        """Whether parts of `size` of x's last axis can be read so many elements at a time."""
        return size % count == 0 and x.shape[-1] % count == 0 and x.is_aligned

    def correlate(
        self, y: CudaArray, x: CudaArray, w: CudaArray, b: CudaArray | None, is_relu: bool,
        how: Correlation,
    ) -> None:  # fmt: skip
        """One correlation of x (N, *S, C) with w (taps, C / groups, F), into all or some of y."""
        pixels, all_filters = x.shape[0] * math.prod(how.places), w.shape[-1]
        if self.is_two_bytes and not self.is_direct:
            x, w = _aligned(x), _aligned(w)
        sizes = self.taken, x.shape[-1], self.filters, all_filters, b is not None, is_relu
        bias = w if b is None else b
        arrays, more = (y, x, w, bias), (*how.arguments, *how.target_arguments)
        if self._is_depthwise(x, w, bias):
            count = pixels * all_filters // 4
            flags = b is not None, is_relu
            conv_depthwise.correlate(*over(count), *arrays, count, all_filters, *flags, *more)
            return
        if self.is_direct:
            count = pixels * all_filters
            conv_direct.correlate(*over(count), *arrays, count, *sizes, *more)
            return
        tile: Tile | CoreTile
        if self.numbers is not None:
            each = 16 // x.dtype.itemsize
            tile = self._core_tile(pixels)
            run, flags = (
                conv_cores.CORRELATE[self.numbers, tile],
                (self.has_chunks(x), self._is_by(each, w, self.filters),
                 self._is_by(8 // y.dtype.itemsize, y, self.filters)),
            )  # fmt: skip
        else:
            tile = self._tile(pixels)
            by_fours = self._is_by(4, w, self.filters) and bias.is_aligned
            run, flags = conv_tiles.CORRELATE[tile], (self.has_chunks(x), by_fours)
        grid = (ceil_div(pixels, tile.rows), ceil_div(self.filters, tile.columns), self.groups)
        run(grid, tile.threads, *arrays, pixels, *sizes, *flags, how.is_dense, *more)

    def correlate_grad(
        self, x: CudaArray, g: CudaArray, shape: Ints, how: Correlation
    ) -> CudaArray:  # fmt: skip
        """The gradient for a kernel of this shape."""
        all_filters, count = shape[-1], math.prod(shape)
        length, pixels = count // all_filters, g.size // all_filters
        sizes = self.taken, x.shape[-1], self.filters, all_filters
        dtype = np.float64 if x.pointer_type == "f8*" else np.float32
        if self._is_depthwise(x, g):
            count //= 4
            share, shares = shares_of(pixels, count)
            parts = empty((shares, *shape), dtype)
            blocks, threads = over(count)
            conv_depthwise.correlate_grad(
                (blocks, shares), threads, parts, x, g, count, pixels, share, all_filters,
                *how.arguments,
            )  # fmt: skip
            return summed(parts)
        if self.is_direct:
            share, shares = shares_of(pixels, count)
            parts = empty((shares, *shape), dtype)
            blocks, threads = over(count)
            conv_direct.CORRELATE_GRAD[x.pointer_type[:-1]](
                (blocks, shares), threads, parts, x, g, count, pixels, share, shares, *sizes,
                *how.arguments,
            )  # fmt: skip
            return summed(parts)
        tile: Tile | CoreTile
        if self.numbers is not None and self.has_chunks(x):
            g = _aligned(g) if self.is_two_bytes else g
            tile = self._core_tile(length, shares_of(pixels, 1)[1])
            run = conv_cores.CORRELATE_GRAD[self.numbers, tile]
            each = 16 // g.dtype.itemsize
            flags = self._is_by(each, g, self.filters), all_filters % 2 == self.filters % 2 == 0
        else:
            tile = self._tile(length, shares_of(pixels, 1)[1])
            run = conv_tiles.CORRELATE_GRAD[tile]
            flags = self.has_chunks(x), self._is_by(4, g, self.filters)
        blocks_of_dw = ceil_div(length, tile.rows), ceil_div(self.filters, tile.columns)
        share, shares = shares_of(pixels, math.prod(blocks_of_dw) * self.groups * tile.threads)
        parts = empty((shares, *shape), dtype)
        run(
            (*blocks_of_dw, self.groups * shares), tile.threads, parts, x, g, pixels, share, shares,
            *sizes, *flags, *how.arguments,
        )  # fmt: skip
        return summed(parts)

    def _tile(self, rows: int, shares: int = 1) -> Tile:
        """The largest tile that leaves no multiprocessor without work, and little of it empty."""
        if self.filters <= NARROW.columns:
            return NARROW
        return SHORT if self._is_enough(rows, shares) else MEDIUM

    def _core_tile(self, rows: int, shares: int = 1) -> CoreTile:
        tiles = TILES[self.numbers]
        return (tiles[0] if self._is_enough(rows, shares) else tiles[-1])[0]

    def _is_enough(self, rows: int, shares: int) -> bool:
        """Whether there is a large tile for every multiprocessor."""
        tiles = ceil_div(rows, SHORT.rows) * ceil_div(self.filters, SHORT.columns)
        is_enough = tiles * self.groups * shares >= runtime().multiprocessors
        return self.filters > MEDIUM.columns and is_enough


def _aligned(x: CudaArray) -> CudaArray:
    return x if x.is_aligned else x.copy()


def _flipped(w: CudaArray, taps: Taps, groups: int) -> CudaArray:
    """w (*K, C / groups, F) as (taps, F / groups, C): what the gradient is correlated with."""
    *window, taken, all_filters = w.shape
    filters = all_filters // groups
    count = math.prod(taps.count)
    out = empty((count, filters, groups * taken), w.dtype)
    if out.size:
        square = conv_direct.SQUARE
        grid = (ceil_div(filters, square), ceil_div(taken, square), count * groups)
        conv_direct.FLIPPED[w.pointer_type[:-1]](
            grid, (square, conv_direct.ROWS), out, w, taken, filters, groups, *taps.count[1:],
            *in_three(tuple(window))[1:], *taps.first, *taps.step,
        )  # fmt: skip
    return out
