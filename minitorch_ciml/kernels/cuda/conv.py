"""Convolution on the GPU, and its gradients: which kernel computes what.

- `conv`, with bias and ReLU if asked for, is one correlation (`conv_plan.py`); the gradient for the
  input is one or several, of the result's gradient with the flipped kernel.
- The gradient for the kernel is a sum over all pixels; many blocks sum a share each, and the shares
  are added in a fixed order, so that results repeat bit for bit.
- Where the window is a single element, or all of the input, they are products of matrices.

Float32 goes through tiles (`conv_tiles.py`), except where there is a group for nearly every
channel; that, and float64, is computed element by element (`conv_direct.py`).
"""

from __future__ import annotations

import math

from minitorch_ciml.kernels.cuda import conv_direct, conv_tiles
from minitorch_ciml.kernels.cuda.conv_plan import Correlation, Taps, backward, forward
from minitorch_ciml.kernels.cuda.conv_tiles import LARGE, NARROW, SMALL, Tile
from minitorch_ciml.kernels.cuda.launch import ceil_div
from minitorch_ciml.kernels.cuda.matmul import dense, matmul
from minitorch_ciml.kernels.cuda.memory import CudaArray, empty, zeros
from minitorch_ciml.kernels.cuda.runtime import runtime
from minitorch_ciml.kernels.cuda.sums import bias_grad, shares_of, summed
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
    parts = backward(spatial, outputs, window, strides, padding, dilation)
    dx = empty(input_shape, g.dtype)
    if dx.size:
        for part in parts:
            _correlate(dx, g, _flipped(w, part.taps, groups), None, False, part, groups)
    return dx


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
    how = forward(spatial, outputs, window, strides, padding, dilation)
    return _correlate_grad(x, g, kernel_shape, how, groups)


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
    y = empty(shape, x.dtype)
    if y.size:
        how = forward(spatial, outputs, window, strides, padding, dilation)
        _correlate(y, x, w, b, is_relu, how, groups)
    return y


def _is_product(
    spatial: Ints, outputs: Ints, window: Ints, strides: Ints, padding: Pads, groups: int
) -> bool:
    """Whether x is a matrix already: the window is one element, or all of the input."""
    is_single = math.prod(window) == 1 and set(strides) <= {1}
    is_whole = window == spatial and math.prod(outputs) == 1
    return groups == 1 and not any(map(any, padding)) and (is_single or is_whole)


def _is_tiled(x: CudaArray, taken: int, filters: int, groups: int) -> bool:
    """Whether there are matrices to multiply."""
    is_small = groups > 1 and max(taken, filters) < _SMALL_GROUP
    return x.pointer_type == "f4*" and not is_small


def _correlate(
    y: CudaArray, x: CudaArray, w: CudaArray, b: CudaArray | None, is_relu: bool,
    how: Correlation, groups: int,
) -> None:  # fmt: skip
    """One correlation of x (N, *S, C) with w (taps, C / groups, F), into all or some of y."""
    taken, all_filters = w.shape[-2:]
    filters = all_filters // groups
    pixels = x.shape[0] * math.prod(how.places)
    sizes = (taken, x.shape[-1], filters, all_filters, b is not None, is_relu)
    bias = w if b is None else b
    arrays = (y, x, w, bias)
    if not _is_tiled(x, taken, filters, groups):
        count = pixels * all_filters
        conv_direct.correlate(
            *over(count), *arrays, count, *sizes, *how.arguments, *how.target_arguments
        )
        return
    tile = _tile_for(pixels, filters, groups)
    grid = (ceil_div(pixels, tile.rows), ceil_div(filters, tile.columns), groups)
    by_fours = is_by_fours(x, taken), is_by_fours(w, filters) and bias.is_aligned
    conv_tiles.CORRELATE[tile](
        grid, tile.threads, *arrays, pixels, *sizes, *by_fours, how.is_dense, *how.arguments,
        *how.target_arguments,
    )  # fmt: skip


def is_by_fours(x: CudaArray, size: int) -> bool:
    """Whether parts of so many elements of x's last axis can be read in fours."""
    return size % 4 == 0 and x.shape[-1] % 4 == 0 and x.is_aligned


def _tile_for(rows: int, filters: int, groups: int, shares: int = 1) -> Tile:
    """The largest tile that leaves no multiprocessor without work, and little of itself empty."""
    if filters <= NARROW.columns:
        return NARROW
    blocks = ceil_div(rows, LARGE.rows) * ceil_div(filters, LARGE.columns) * groups * shares
    is_enough = filters > SMALL.columns and blocks >= runtime().multiprocessors
    return LARGE if is_enough else SMALL


def _correlate_grad(
    x: CudaArray, g: CudaArray, shape: Ints, how: Correlation, groups: int
) -> CudaArray:
    taken, all_filters = shape[-2:]
    filters, count = all_filters // groups, math.prod(shape)
    length, pixels = count // all_filters, g.size // all_filters
    sizes = (taken, x.shape[-1], filters, all_filters)
    is_tiled = _is_tiled(x, taken, filters, groups)
    if is_tiled:
        tile = _tile_for(length, filters, groups, shares_of(pixels, 1)[1])
        blocks = (ceil_div(length, tile.rows), ceil_div(filters, tile.columns))
        share, shares = shares_of(pixels, math.prod(blocks) * groups * tile.threads)
    else:
        share, shares = shares_of(pixels, count)
    parts = empty((shares, *shape), x.dtype)
    if is_tiled:
        grid = (*blocks, groups * shares)
        conv_tiles.CORRELATE_GRAD[tile](
            grid, tile.threads, parts, x, g, pixels, share, shares, *sizes,
            is_by_fours(x, taken), is_by_fours(g, filters), *how.arguments,
        )  # fmt: skip
    else:
        blocks, threads = over(count)
        conv_direct.correlate_grad(
            (blocks, shares), threads, parts, x, g, count, pixels, share, shares, *sizes,
            *how.arguments,
        )  # fmt: skip
    return summed(parts)


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
            grid, (square, conv_direct.ROWS), out, w, taken, filters, groups, *taps.count,
            *in_three(tuple(window))[1:], *taps.first, *taps.step,
        )  # fmt: skip
    return out
