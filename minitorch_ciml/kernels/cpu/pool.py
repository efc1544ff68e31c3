"""Pooling on the CPU: every kernel walks its result line by line, writes each place once, and runs
lines in parallel.

The gradients are written as sums over the windows that contain an input place, not as scattered
additions: no place is written by two threads, nothing needs to be zeroed first, and the order of
the additions is always the same.
"""

from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import NamedTuple

import numpy as np

from minitorch_ciml.kernels.cpu.buffers import empty
from minitorch_ciml.kernels.cpu.geometry import as_three
from minitorch_ciml.kernels.cpu.jit import entry, inlined, kernel, ready
from minitorch_ciml.kernels.cpu.loads import clear, copy, load, store
from minitorch_ciml.kernels.cpu.maxima import add_where, keep_larger, positive_or, store_integers
from minitorch_ciml.kernels.cpu.simd import add, full, lanes
from minitorch_ciml.kernels.cpu.threads import task, threads_for
from minitorch_ciml.kernels.reference import conv as reference
from minitorch_ciml.kernels.reference.conv import Ints, Pads, output_size


class Axis(NamedTuple):
    """One spatial dimension: input and output sizes, and the window on it."""

    size: int
    outputs: int
    window: int
    stride: int
    before: int


@kernel
def _meets(axis, o):
    """`(first, last)` places of the window at output o that lie inside the input."""
    start = o * axis.stride - axis.before
    return max(0, -start), min(axis.window, axis.size - start)


@kernel
def _met_by(axis, i):
    """`(first, last)` outputs whose window contains input place i."""
    reach = i + axis.before
    return max(0, (reach - axis.window + axis.stride) // axis.stride), min(
        axis.outputs, reach // axis.stride + 1
    )


@inlined
def _met(depth, height, width, n, d, h, w, a, b, c):
    """The input place that place (a, b, c) of the window at output (d, h, w) meets."""
    place = n * depth.size + d * depth.stride - depth.before + a
    place = place * height.size + h * height.stride - height.before + b
    return place * width.size + w * width.stride - width.before + c


@kernel
def _split(line, depths, heights):
    """The image, depth and height of a line's index."""
    return line // (depths * heights), line // heights % depths, line % heights


@task
def _max_line(line, x, y, saved, depth, height, width, channels, clip):
    n, d, h = _split(line, depth.outputs, height.outputs)
    to = line * width.outputs * channels
    for w in range(width.outputs):
        best, where = y[to : to + channels], saved[to : to + channels]
        best[:] = -np.inf
        empty = True
        for a in range(*_meets(depth, d)):
            for b in range(*_meets(height, h)):
                for c in range(*_meets(width, w)):
                    k = (a * height.window + b) * width.window + c
                    place = _met(depth, height, width, n, d, h, w, a, b, c)
                    here = x[place * channels : (place + 1) * channels]
                    for q in range(channels):
                        value = here[q]
                        wins = empty or not (value <= best[q] or best[q] != best[q])
                        best[q] = value if wins else best[q]
                        where[q] = k if wins else where[q]
                    empty = False
        if clip:
            for q in range(channels):
                where[q] = where[q] if best[q] > 0 else _no_place(depth, height, width)
        to += channels


@kernel
def _no_place(depth, height, width):
    """What is saved where no place gets a gradient."""
    return depth.window * height.window * width.window


@task
def _max_line_of_vectors(line, x, y, saved, depth, height, width, channels, clip):
    """The same with the maxima of one vector of channels at a time held in registers.

    The last vector overlaps the one before where the channels are no multiple of its width.
    """
    n, d, h = _split(line, depth.outputs, height.outputs)
    to = line * width.outputs * channels
    a0, a1 = _meets(depth, d)
    b0, b1 = _meets(height, h)
    first = (a0 * height.window + b0) * width.window
    step = lanes(x)
    for w in range(width.outputs):
        c0, c1 = _meets(width, w)
        for q in range(0, channels, step):
            q = min(q, channels - step)
            best = full(x, -np.inf, 1) + full(x, first + c0, 1)
            for a in range(a0, a1):
                for b in range(b0, b1):
                    place = _met(depth, height, width, n, d, h, w, a, b, 0)
                    k = (a * height.window + b) * width.window
                    for c in range(c0, c1):
                        here = load(x, (place + c) * channels + q, 1)
                        best = keep_larger(best, here, k + c)
            store(y, to + q, best[:1])
            none = _no_place(depth, height, width)
            store_integers(saved, to + q, positive_or(best, none) if clip else best[1:])
        to += channels


@entry
def _max_pool(x, y, saved, depth, height, width, images, channels, most, clip):
    lines = images * depth.outputs * height.outputs
    work = (x, y, saved, depth, height, width, channels, clip)
    if channels < lanes(x):
        _max_line(lines, most, work)
    else:
        _max_line_of_vectors(lines, most, work)


@task
def _max_grad_line(line, g, saved, dx, depth, height, width, channels):
    n, d, h = _split(line, depth.size, height.size)
    to = line * width.size * channels
    clear(dx, to, width.size * channels)
    step = lanes(g)
    whole = channels // step * step
    for a in range(*_met_by(depth, d)):
        for b in range(*_met_by(height, h)):
            place = ((n * depth.outputs + a) * height.outputs + b) * width.outputs * channels
            k = d + depth.before - a * depth.stride
            k = (k * height.window + h + height.before - b * height.stride) * width.window
            for w in range(width.outputs):
                first, end = _meets(width, w)
                for c in range(first, end):
                    at = to + (w * width.stride - width.before + c) * channels
                    for q in range(0, whole, step):
                        total = load(dx, at + q, 1)
                        store(dx, at + q, add_where(total, g, saved, place + q, k + c))
                    for q in range(whole, channels):
                        if saved[place + q] == k + c:
                            dx[at + q] += g[place + q]
                place += channels


@entry
def _max_pool_scatter(g, saved, dx, depth, height, width, images, channels, most):
    lines = images * depth.size * height.size
    _max_grad_line(lines, most, (g, saved, dx, depth, height, width, channels))


@task
def _gather_line(line, x, saved, y, depth, height, width, channels):
    n, d, h = _split(line, depth.outputs, height.outputs)
    to = line * width.outputs * channels
    for w in range(width.outputs):
        for q in range(channels):
            k = np.int64(saved[to])
            a, b = k // (height.window * width.window), k // width.window % height.window
            place = _met(depth, height, width, n, d, h, w, a, b, k % width.window)
            y[to] = x[place * channels + q]
            to += 1


@entry
def _max_pool_gather(x, saved, y, depth, height, width, images, channels, most):
    lines = images * depth.outputs * height.outputs
    _gather_line(lines, most, (x, saved, y, depth, height, width, channels))


@kernel
def _window_count(depth, height, width, d, h, w):
    """Places of the window at output (d, h, w) that lie inside the input."""
    a, b, c = _meets(depth, d), _meets(height, h), _meets(width, w)
    return (a[1] - a[0]) * (b[1] - b[0]) * (c[1] - c[0])


@task
def _avg_line(line, x, y, depth, height, width, channels):
    n, d, h = _split(line, depth.outputs, height.outputs)
    to = line * width.outputs * channels
    for w in range(width.outputs):
        total = y[to : to + channels]
        total[:] = 0
        for a in range(*_meets(depth, d)):
            for b in range(*_meets(height, h)):
                for c in range(*_meets(width, w)):
                    place = _met(depth, height, width, n, d, h, w, a, b, c)
                    here = x[place * channels : (place + 1) * channels]
                    for q in range(channels):
                        total[q] += here[q]
        count = _window_count(depth, height, width, d, h, w)
        for q in range(channels):
            total[q] /= count
        to += channels


@entry
def _avg_pool(x, y, depth, height, width, images, channels, most):
    lines = images * depth.outputs * height.outputs
    _avg_line(lines, most, (x, y, depth, height, width, channels))


@task
def _avg_grad_line(line, g, dx, depth, height, width, channels):
    n, d, h = _split(line, depth.size, height.size)
    to = line * width.size * channels
    for w in range(width.size):
        total = dx[to : to + channels]
        total[:] = 0
        for a in range(*_met_by(depth, d)):
            for b in range(*_met_by(height, h)):
                for c in range(*_met_by(width, w)):
                    place = (n * depth.outputs + a) * height.outputs + b
                    place = (place * width.outputs + c) * channels
                    count = _window_count(depth, height, width, a, b, c)
                    part = g.dtype.type(1 / count)  # a division takes longer than a product
                    share = g[place : place + channels]
                    for q in range(channels):
                        total[q] += share[q] * part
        to += channels


@entry
def _avg_pool_grad(g, dx, depth, height, width, images, channels, most):
    lines = images * depth.size * height.size
    _avg_grad_line(lines, most, (g, dx, depth, height, width, channels))


@task
def _upsample_line(line, x, y, sizes, times, channels):
    """One line of the result, and its copies."""
    depth, height, width = sizes
    n, d, h = _split(line, depth, height)
    run = width * times[2] * channels
    start = ((n * depth + d) * times[0] * height + h) * times[1] * run
    step, to = lanes(x), start
    whole = channels // step * step
    for at in range(line * width * channels, (line + 1) * width * channels, channels):
        for q in range(0, whole, step):
            value = load(x, at + q, 1)
            for k in range(times[2]):
                store(y, to + k * channels + q, value)
        for q in range(whole, channels):
            for k in range(times[2]):
                y[to + k * channels + q] = x[at + q]
        to += times[2] * channels
    for i in range(times[0]):
        for j in range(times[1]):
            if i + j > 0:
                copy(y, start + (i * height * times[1] + j) * run, y, start, run)


@entry
def _upsample(x, y, sizes, times, images, channels, most):
    _upsample_line(images * sizes[0] * sizes[1], most, (x, y, sizes, times, channels))


@task
def _upsample_grad_line(line, g, dx, sizes, times, channels):
    depth, height, width = sizes
    n, d, h = _split(line, depth, height)
    run = width * times[2] * channels
    start = ((n * depth + d) * times[0] * height + h) * times[1] * run
    step = lanes(g)
    whole = channels // step * step
    to = line * width * channels
    for first in range(start, start + run, times[2] * channels):
        for q in range(0, whole, step):
            total = full(g, 0.0, 1)
            for i in range(times[0]):
                for j in range(times[1]):
                    at = first + (i * height * times[1] + j) * run + q
                    for k in range(times[2]):
                        total = add(total, load(g, at + k * channels, 1))
            store(dx, to + q, total)
        for q in range(whole, channels):
            dx[to + q] = 0
            for i in range(times[0]):
                for j in range(times[1]):
                    at = first + (i * height * times[1] + j) * run + q
                    for k in range(times[2]):
                        dx[to + q] += g[at + k * channels]
        to += channels


@entry
def _upsample_grad(g, dx, sizes, times, images, channels, most):
    _upsample_grad_line(images * sizes[0] * sizes[1], most, (g, dx, sizes, times, channels))


@lru_cache(maxsize=1024)
def _plan(
    input_shape: Ints, pool_size: Ints, strides: Ints, padding: Pads
) -> tuple[Axis, Axis, Axis, int, int]:
    axis_1, axis_2, axis_3 = [
        Axis(size, output_size(size, window, stride, pads), window, stride, pads[0])
        for size, window, stride, pads in zip(
            as_three(input_shape[1:-1], 1),
            as_three(pool_size, 1),
            as_three(strides, 1),
            as_three(padding, (0, 0)),
            strict=True,
        )
    ]
    return axis_1, axis_2, axis_3, input_shape[0], input_shape[-1]


def _output_shape(input_shape: Ints, pool_size: Ints, strides: Ints, padding: Pads) -> Ints:
    sizes = zip(input_shape[1:-1], pool_size, strides, padding, strict=True)
    return (input_shape[0], *(output_size(*one) for one in sizes), input_shape[-1])


def _threads(x: np.ndarray) -> int:
    """A place of the input costs about as much as 16 multiplications of a convolution."""
    return threads_for(16 * x.size)


def max_pool(
    x: np.ndarray, *, pool_size: Ints, strides: Ints, padding: Pads, clip: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """`y[n, o, c]` = maximum of x over the window at `o`; padded places never win; NaN does.

    Also returns `saved`, of y's shape: which place of the window (counted in C order) held the
    first maximum, `uint8` when the window has at most 255 places, else `int64`. With `clip`
    it is the number of places, which is none of them, where the maximum is not > 0: x are results
    of a ReLU, through which no gradient flows there.
    """
    shape = _output_shape(x.shape, pool_size, strides, padding)
    y = empty(shape, x.dtype)
    saved = empty(shape, np.uint8 if prod(pool_size) <= 255 else np.int64)
    plan = _plan(x.shape, pool_size, strides, padding)
    _max_pool(ready(x, x.dtype), y.reshape(-1), saved.reshape(-1), *plan, _threads(x), clip)
    return y, saved


def max_pool_scatter(
    g: np.ndarray,
    saved: np.ndarray,
    *,
    input_shape: Ints,
    pool_size: Ints,
    strides: Ints,
    padding: Pads,
) -> np.ndarray:
    """`dx`: g `(N, *O, C)` added at the places that `max_pool` saved -> `input_shape`."""
    dx = empty(input_shape, g.dtype)
    plan = _plan(tuple(input_shape), pool_size, strides, padding)
    _max_pool_scatter(
        ready(g, g.dtype), ready(saved, saved.dtype), dx.reshape(-1), *plan, _threads(dx)
    )
    return dx


def max_pool_places(x: np.ndarray, **how) -> np.ndarray:
    """The places alone that :func:`max_pool` saves."""
    return max_pool(x, **how)[1]


def max_pool_grad(
    g: np.ndarray, y: np.ndarray, x: np.ndarray, *, needs: tuple, saved: np.ndarray, **how
) -> tuple:
    return (max_pool_scatter(g, saved, input_shape=x.shape, **how),)


def max_pool_gather(
    x: np.ndarray, saved: np.ndarray, *, pool_size: Ints, strides: Ints, padding: Pads
) -> np.ndarray:
    """`y`: x `(N, *S, C)` read at the places that :func:`max_pool` saved; adjoint of
    :func:`max_pool_scatter`.
    """
    y = empty(saved.shape, x.dtype)
    plan = _plan(x.shape, pool_size, strides, padding)
    _max_pool_gather(
        ready(x, x.dtype), ready(saved, saved.dtype), y.reshape(-1), *plan, _threads(x)
    )
    return y


def avg_pool(x: np.ndarray, *, pool_size: Ints, strides: Ints, padding: Pads) -> np.ndarray:
    """`y[n, o, c]` = mean of x over those places of the window at `o` that lie inside x."""
    y = empty(_output_shape(x.shape, pool_size, strides, padding), x.dtype)
    _avg_pool(
        ready(x, x.dtype), y.reshape(-1), *_plan(x.shape, pool_size, strides, padding), _threads(x)
    )
    return y


def avg_pool_grad(
    g: np.ndarray, *, input_shape: Ints, pool_size: Ints, strides: Ints, padding: Pads
) -> np.ndarray:
    """`dx` of :func:`avg_pool`: each output's gradient, shared by the places it averaged."""
    dx = empty(input_shape, g.dtype)
    plan = _plan(tuple(input_shape), pool_size, strides, padding)
    _avg_pool_grad(ready(g, g.dtype), dx.reshape(-1), *plan, _threads(dx))
    return dx


def _repeats(x_shape: Ints, size: Ints) -> tuple[Ints, Ints, int, int]:
    return as_three(x_shape[1:-1], 1), as_three(size, 1), x_shape[0], x_shape[-1]


def upsample(x: np.ndarray, *, size: Ints) -> np.ndarray:
    """`y[n, i, c] = x[n, i // size, c]`: every place repeated along each spatial dimension."""
    if x.dtype.char not in "fd":
        return reference.upsample(x, size=size)
    spatial = (n * times for n, times in zip(x.shape[1:-1], size, strict=True))
    y = empty((x.shape[0], *spatial, x.shape[-1]), x.dtype)
    _upsample(ready(x, x.dtype), y.reshape(-1), *_repeats(x.shape, size), _threads(y))
    return y


def upsample_grad(
    g: np.ndarray, y: np.ndarray, x: np.ndarray, *, needs: tuple, size: Ints
) -> tuple[np.ndarray]:
    """`dx` of :func:`upsample`: the sum of g over the places that repeat one of x."""
    if g.dtype.char not in "fd":
        return reference.upsample_grad(g, y, x, needs=needs, size=size)
    dx = empty(x.shape, g.dtype)
    _upsample_grad(ready(g, g.dtype), dx.reshape(-1), *_repeats(x.shape, size), _threads(g))
    return (dx,)
