"""What convolution and pooling mean, in NumPy: one matrix product (or one comparison) per place of
the window.

Everything is channels-last and works for any number of spatial dimensions: `x (N, *S, C)`, `w
(*K, C // groups, F)`, `y` and `g` `(N, *O, F)`. `strides` and `dilation` hold one int,
and `padding` one `(before, after)` pair, per spatial dimension. With `k` running over the
places of the window::

    y[n, o, f] = sum over k and c of  x[n, strides * o + dilation * k - before, c] * w[k, c, f]

where `x` is zero outside its bounds. As in every deep-learning library this is a
cross-correlation.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

Ints = tuple[int, ...]
Pads = tuple[tuple[int, int], ...]


def output_size(
    size: int, window: int, stride: int, pads: tuple[int, int], dilation: int = 1
) -> int:
    """Number of places a dilated window can take along one padded dimension (zero if it does not
    fit).
    """
    room = size + sum(pads) - dilation * (window - 1) - 1
    return max(0, room // stride + 1)


def _places(
    window: Ints, spatial: Ints, strides: Ints, padding: Pads, dilation: Ints
) -> Iterator[tuple[Ints, tuple[slice, ...]]]:
    """Each place `k` of the window, with the slices of the padded input that it meets at all
    outputs.
    """
    outputs = [
        output_size(*sizes)
        for sizes in zip(spatial, window, strides, padding, dilation, strict=True)
    ]
    for k in np.ndindex(*window):
        yield (
            k,
            (slice(None),)
            + tuple(
                slice(i * d, i * d + s * (o - 1) + 1 if o else 0, s)
                for i, d, s, o in zip(k, dilation, strides, outputs, strict=True)
            ),
        )


def _pad(x: np.ndarray, padding: Pads, value: float = 0.0) -> np.ndarray:
    return np.pad(x, ((0, 0), *padding, (0, 0)), constant_values=value)


def _crop(x: np.ndarray, padding: Pads, spatial: Ints) -> np.ndarray:
    """The inverse of :func:`_pad`: the part of `x` that was there before padding."""
    inside = tuple(slice(p[0], p[0] + s) for p, s in zip(padding, spatial, strict=True))
    return np.ascontiguousarray(x[(slice(None), *inside)])


def _by_group(a: np.ndarray, groups: int) -> np.ndarray:
    """`(..., G * M)` as `(..., G, M)`."""
    return a.reshape(*a.shape[:-1], groups, a.shape[-1] // groups)


def conv(
    x: np.ndarray, w: np.ndarray, *, strides: Ints, padding: Pads, dilation: Ints, groups: int
) -> np.ndarray:
    """`y = x * w`: x `(N, *S, C)`, w `(*K, C // groups, F)` -> y `(N, *O, F)`.

    Group `i` connects the `i`-th slice of the input channels with the `i`-th slice of the
    filters.
    """
    window, spatial = w.shape[:-2], x.shape[1:-1]
    padded = _by_group(_pad(x, padding), groups)
    outputs = [
        output_size(*sizes)
        for sizes in zip(spatial, window, strides, padding, dilation, strict=True)
    ]
    y = np.zeros((x.shape[0], *outputs, groups, w.shape[-1] // groups), np.result_type(x, w))
    for k, at in _places(window, spatial, strides, padding, dilation):
        y += np.einsum("...gc,cgf->...gf", padded[at], _by_group(w[k], groups))
    return y.reshape(*y.shape[:-2], w.shape[-1])


def conv_input_grad(
    g: np.ndarray,
    w: np.ndarray,
    *,
    input_shape: Ints,
    strides: Ints,
    padding: Pads,
    dilation: Ints,
    groups: int,
) -> np.ndarray:
    """`dx = dL/dx` for `y = conv(x, w)`: g `(N, *O, F)`, w `(*K, C // groups, F)` -> dx
    `(N, *S, C)`.
    """
    window, spatial = w.shape[:-2], input_shape[1:-1]
    dx = np.zeros(input_shape, np.result_type(g, w))
    padded = _by_group(_pad(dx, padding), groups)
    for k, at in _places(window, spatial, strides, padding, dilation):
        padded[at] += np.einsum("...gf,cgf->...gc", _by_group(g, groups), _by_group(w[k], groups))
    return _crop(padded.reshape(*padded.shape[:-2], input_shape[-1]), padding, spatial)


def conv_kernel_grad(
    x: np.ndarray,
    g: np.ndarray,
    *,
    kernel_shape: Ints,
    strides: Ints,
    padding: Pads,
    dilation: Ints,
    groups: int,
) -> np.ndarray:
    """`dw = dL/dw` for `y = conv(x, w)`: x `(N, *S, C)`, g `(N, *O, F)` -> dw `(*K, C //
    groups, F)`.
    """
    padded = _by_group(_pad(x, padding), groups)
    by_place = g.reshape(math.prod(g.shape[:-1]), groups, g.shape[-1] // groups)
    dw = np.zeros(kernel_shape, np.result_type(x, g))
    for k, at in _places(kernel_shape[:-2], x.shape[1:-1], strides, padding, dilation):
        met = padded[at].reshape(len(by_place), groups, kernel_shape[-2])
        product = np.einsum("pgc,pgf->cgf", met, by_place)
        dw[k] = product.reshape(kernel_shape[-2:])
    return dw


def conv_bias_act(
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray,
    *,
    strides: Ints,
    padding: Pads,
    dilation: Ints,
    groups: int,
    activation: str,
) -> np.ndarray:
    """`y = activation(conv(x, w) + b)`; b `(F,)`; activation `"linear"` or `"relu"`."""
    z = conv(x, w, strides=strides, padding=padding, dilation=dilation, groups=groups) + b
    return np.maximum(z, 0) if activation == "relu" else z


def conv_bias_act_grad(
    g: np.ndarray,
    y: np.ndarray,
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray,
    *,
    needs: tuple[bool, bool, bool],
    strides: Ints,
    padding: Pads,
    dilation: Ints,
    groups: int,
    activation: str,
) -> tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None]:
    """`(dx, dw, db)` of :func:`conv_bias_act`, each None unless `needs` asks for it; y is its
    output.
    """
    how: Any = dict(strides=strides, padding=padding, dilation=dilation, groups=groups)
    if activation == "relu":
        g = np.where(y > 0, g, 0)
    return (
        conv_input_grad(g, w, input_shape=x.shape, **how) if needs[0] else None,
        conv_kernel_grad(x, g, kernel_shape=w.shape, **how) if needs[1] else None,
        g.sum(axis=tuple(range(g.ndim - 1))).astype(b.dtype) if needs[2] else None,
    )


def conv_bias_add_act(
    x: np.ndarray, w: np.ndarray, b: np.ndarray, r: np.ndarray, *, activation: str, **how
) -> np.ndarray:
    """`y = activation(conv(x, w) + b + r)`; r has y's shape, the rest is as above."""
    z = conv(x, w, **how) + b + r
    return np.maximum(z, 0) if activation == "relu" else z


def conv_bias_add_act_grad(
    g: np.ndarray,
    y: np.ndarray,
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray,
    r: np.ndarray,
    *,
    needs: tuple[bool, bool, bool, bool],
    activation: str,
    **how,
) -> tuple[np.ndarray | None, ...]:
    """`(dx, dw, db, dr)` of :func:`conv_bias_add_act`, each None unless `needs` asks for it."""
    grads = conv_bias_act_grad(g, y, x, w, b, needs=needs[:3], activation=activation, **how)
    dr = np.where(y > 0, g, 0) if activation == "relu" else g
    return (*grads, dr if needs[3] else None)


def max_pool(
    x: np.ndarray, *, pool_size: Ints, strides: Ints, padding: Pads
) -> tuple[np.ndarray, np.ndarray]:
    """`y[n, o, c]` = maximum of x over the window at `o`; padded places never win; NaN does.

    Also returns `saved`, of y's shape: which place of the window (counted in C order) held the
    first maximum, `uint8` when the window has at most 255 places, else `int64`.
    """
    padded, ones = _pad(x, padding, -np.inf), (1,) * len(pool_size)
    inside = _pad(np.ones(x.shape, bool), padding, False)
    windows = [at for _, at in _places(pool_size, x.shape[1:-1], strides, padding, ones)]
    y = np.full(padded[windows[0]].shape, -np.inf, x.dtype)
    saved = np.full(y.shape, -1, np.int64)
    for k, at in enumerate(windows):
        value = padded[at]
        first = (saved < 0) & inside[at]
        wins = first | (value > y) | (np.isnan(value) & ~np.isnan(y))
        y, saved = np.where(wins, value, y), np.where(wins, k, saved)
    return y, saved.astype(np.uint8 if len(windows) <= 255 else np.int64)


def conv_max_pool(
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray,
    *,
    activation: str,
    pool_size: Ints,
    pool_strides: Ints,
    pool_padding: Pads,
    **how,
) -> tuple[np.ndarray, np.ndarray]:
    """:func:`max_pool` of :func:`conv_bias_act`.

    `saved` is the number of places, which is none of them, where ReLU has cut off the maximum.
    """
    z = conv_bias_act(x, w, b, activation=activation, **how)
    y, saved = max_pool(z, pool_size=pool_size, strides=pool_strides, padding=pool_padding)
    if activation == "relu":
        saved = np.where(y > 0, saved, saved.dtype.type(math.prod(pool_size)))
    return y, saved


def conv_max_pool_grad(
    g: np.ndarray,
    y: np.ndarray,
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray,
    *,
    needs: tuple[bool, bool, bool],
    saved: np.ndarray,
    activation: str,
    pool_size: Ints,
    pool_strides: Ints,
    pool_padding: Pads,
    **how,
) -> tuple[np.ndarray | None, ...]:
    """`(dx, dw, db)` of :func:`conv_max_pool`, each None unless `needs` asks for it."""
    sizes = zip(x.shape[1:-1], w.shape, how["strides"], how["padding"], how["dilation"])
    shape = (x.shape[0], *(output_size(n, k, s, p, d) for n, k, s, p, d in sizes), w.shape[-1])
    g = max_pool_scatter(
        g, saved, input_shape=shape,
        pool_size=pool_size, strides=pool_strides, padding=pool_padding,
    )  # fmt: skip
    return conv_bias_act_grad(g, g, x, w, b, needs=needs, activation="linear", **how)


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
    spatial, ones = input_shape[1:-1], (1,) * len(pool_size)
    padded = _pad(np.zeros(input_shape, g.dtype), padding)
    for k, (_, at) in enumerate(_places(pool_size, spatial, strides, padding, ones)):
        padded[at] += np.where(saved == k, g, 0)
    return _crop(padded, padding, spatial)


def max_pool_gather(
    x: np.ndarray, saved: np.ndarray, *, pool_size: Ints, strides: Ints, padding: Pads
) -> np.ndarray:
    """`y`: x `(N, *S, C)` read at the places that :func:`max_pool` saved; adjoint of
    :func:`max_pool_scatter`.
    """
    padded, ones = _pad(x, padding), (1,) * len(pool_size)
    y = np.zeros(saved.shape, x.dtype)
    for k, (_, at) in enumerate(_places(pool_size, x.shape[1:-1], strides, padding, ones)):
        y = np.where(saved == k, padded[at], y)
    return y


def _window_counts(spatial: Ints, pool_size: Ints, strides: Ints, padding: Pads) -> np.ndarray:
    """`(1, *O, 1)`: how many places of each window lie inside the input."""
    inside, ones = _pad(np.ones((1, *spatial, 1)), padding), (1,) * len(pool_size)
    counts: Any = sum(inside[at] for _, at in _places(pool_size, spatial, strides, padding, ones))
    return counts


def avg_pool(x: np.ndarray, *, pool_size: Ints, strides: Ints, padding: Pads) -> np.ndarray:
    """`y[n, o, c]` = mean of x over those places of the window at `o` that lie inside x."""
    spatial, ones = x.shape[1:-1], (1,) * len(pool_size)
    padded = _pad(x, padding)
    total = sum(padded[at] for _, at in _places(pool_size, spatial, strides, padding, ones))
    return (total / _window_counts(spatial, pool_size, strides, padding)).astype(x.dtype)


def avg_pool_grad(
    g: np.ndarray, *, input_shape: Ints, pool_size: Ints, strides: Ints, padding: Pads
) -> np.ndarray:
    """`dx` of :func:`avg_pool`: each output's gradient, shared by the places it averaged."""
    spatial, ones = input_shape[1:-1], (1,) * len(pool_size)
    share = (g / _window_counts(spatial, pool_size, strides, padding)).astype(g.dtype)
    padded = _pad(np.zeros(input_shape, g.dtype), padding)
    for _, at in _places(pool_size, spatial, strides, padding, ones):
        padded[at] += share
    return _crop(padded, padding, spatial)


def upsample(x: np.ndarray, *, size: Ints) -> np.ndarray:
    """`y[n, i, c] = x[n, i // size, c]`: every place repeated along each spatial dimension."""
    for axis, times in enumerate(size, 1):
        x = np.repeat(x, times, axis)
    return x


def upsample_grad(
    g: np.ndarray, y: np.ndarray, x: np.ndarray, *, needs: tuple, size: Ints
) -> tuple[np.ndarray]:
    """`dx` of :func:`upsample`: the sum of g over the places that repeat one of x."""
    split = [n for pair in zip(x.shape[1:-1], size, strict=True) for n in pair]
    axes = tuple(range(2, 2 + 2 * len(size), 2))
    return (g.reshape(x.shape[0], *split, x.shape[-1]).sum(axis=axes),)
