"""Sums, products, extremes, means and what is made of them along axes."""

from __future__ import annotations

from collections.abc import Callable
from math import prod as product

import numpy as np

from minitorch_ciml.kernels.cpu import folds
from minitorch_ciml.kernels.cpu.broadcasting import (
    divide,
    exp_difference,
    multiply,
    square,
    stretched,
    subtract,
)
from minitorch_ciml.kernels.reference import reduce as reference

Array = np.ndarray
Axes = tuple[int, ...]
Needs = tuple[bool, ...]
Gradients = tuple[Array | None, ...]

SMALL = 4096  # with fewer elements NumPy is as fast


def _is_simple(x: Array, axis: Axes) -> bool:
    if x.size < SMALL or x.dtype.char not in "fd" or not x.flags.c_contiguous:
        return False
    return any([x.shape[i] != 1 for i in axis])


def _folded(run: Callable, x: Array, axis: Axes, keepdims: bool) -> Array:
    """What `run` makes of x along the axes: of neighbours at once, the last ones first."""
    sizes, y = list(x.shape), x.reshape(-1)
    left = [i for i in sorted(axis) if sizes[i] != 1]
    while left:
        first = last = left.pop()
        while left and product(sizes[left[-1] + 1 : first]) == 1:
            first = left.pop()
        along = product(sizes[first : last + 1])
        y = folds.fold_axis(run, y, product(sizes[:first]), along, product(sizes[last + 1 :]))
        sizes[first : last + 1] = [1] * (last + 1 - first)
    return y.reshape([n for i, n in enumerate(sizes) if keepdims or i not in axis])


def sum(x: Array, *, axis: Axes, keepdims: bool) -> Array:
    if not _is_simple(x, axis):
        return reference.sum(x, axis, keepdims)
    return _folded(folds.fold_sum, x, axis, keepdims)


def prod(x: Array, *, axis: Axes, keepdims: bool) -> Array:
    if not _is_simple(x, axis):
        return reference.prod(x, axis, keepdims)
    return _folded(folds.fold_prod, x, axis, keepdims)


def max(x: Array, *, axis: Axes, keepdims: bool, initial: float | None) -> Array:
    if not _is_simple(x, axis):
        return reference.max(x, axis, keepdims, initial)
    y = _folded(folds.fold_max, x, axis, keepdims)
    return y if initial is None else np.maximum(y, x.dtype.type(initial))


def min(x: Array, *, axis: Axes, keepdims: bool, initial: float | None) -> Array:
    if not _is_simple(x, axis):
        return reference.min(x, axis, keepdims, initial)
    y = _folded(folds.fold_min, x, axis, keepdims)
    return y if initial is None else np.minimum(y, x.dtype.type(initial))


def sum_to(x: Array, *, shape: Axes) -> Array:
    """The sum of x over the axes along which `shape` would be repeated to make x's."""
    added = x.ndim - len(shape)
    repeated = [i for i in range(added, x.ndim) if shape[i - added] == 1]
    return sum(x, axis=(*range(added), *repeated), keepdims=True).reshape(shape)


def mean(x: Array, *, axis: Axes, keepdims: bool) -> Array:
    """`y` = the mean of x along the axes."""
    if not _is_simple(x, axis):
        return reference.mean(x, axis, keepdims)
    y = _folded(folds.fold_sum, x, axis, keepdims)
    y *= x.dtype.type(y.size / x.size)
    return y


def _behind(y: Array, x: Array, axis: Axes) -> Array:
    """A result or its gradient, in a shape that broadcasts with x."""
    return y.reshape([1 if i in axis else n for i, n in enumerate(x.shape)])


def mean_grad(
    g: Array, y: Array, x: Array, *, needs: Needs, axis: Axes, keepdims: bool
) -> Gradients:
    """`dx` = g / n at each of the n elements that a mean is of."""
    if x.size < SMALL:
        return reference.mean_grad(g, y, x, needs=needs, axis=axis, keepdims=keepdims)
    share = np.multiply(_behind(g, x, axis), y.size / x.size, dtype=x.dtype)
    return (stretched(share, x.shape),)


def var(x: Array, *, axis: Axes, keepdims: bool) -> Array:
    if not _is_simple(x, axis):
        return reference.var(x, axis, keepdims)
    difference = subtract(x, mean(x, axis=axis, keepdims=True))
    return mean(square(difference), axis=axis, keepdims=keepdims)


def var_grad(
    g: Array, y: Array, x: Array, *, needs: Needs, axis: Axes, keepdims: bool
) -> Gradients:
    difference = subtract(x, mean(x, axis=axis, keepdims=True))
    share = 2 * y.size / (x.size or 1)
    return (multiply(difference, np.multiply(_behind(g, x, axis), share, dtype=x.dtype)),)


def prod_grad(
    g: Array, y: Array, x: Array, *, needs: Needs, axis: Axes, keepdims: bool
) -> Gradients:
    """g times the product of all the others: y / x, unless that loses something."""
    g, y = _behind(g, x, axis), _behind(y, x, axis)
    size = np.abs(y)
    if x.dtype.kind == "f" and np.all((size > np.finfo(x.dtype).tiny) & (size < np.inf)):
        return (divide(multiply(g, y), x),)
    order = (*[i for i in range(x.ndim) if i not in axis], *axis)
    moved = x.transpose(order)
    line = moved.reshape(*moved.shape[: x.ndim - len(axis)], -1)
    left, right = np.ones_like(line), np.ones_like(line)
    np.cumprod(line[..., :-1], axis=-1, out=left[..., 1:])
    np.cumprod(line[..., :0:-1], axis=-1, out=right[..., -2::-1])
    others = (left * right).reshape(moved.shape).transpose(np.argsort(order))
    return (multiply(g, others),)


def vector_norm(x: Array, *, axis: Axes) -> Array:
    return np.sqrt(sum(square(x), axis=axis, keepdims=True))


def logsumexp(x: Array, *, axis: Axes, keepdims: bool) -> Array:
    if not _is_simple(x, axis) or x.dtype.char != "f":
        return reference.logsumexp(x, axis, keepdims)
    largest = _folded(folds.fold_max, x, axis, True)
    shift = np.where(np.isfinite(largest), largest, x.dtype.type(0))
    if not np.array_equal(shift, largest):  # infinities, or NaN
        return reference.logsumexp(x, axis, keepdims)
    y = np.log(sum(exp_difference(x, shift), axis=axis, keepdims=keepdims))
    y += shift.reshape(y.shape)
    return y


def logsumexp_grad(
    g: Array, y: Array, x: Array, *, needs: Needs, axis: Axes, keepdims: bool
) -> Gradients:
    y, g = _behind(y, x, axis), _behind(g, x, axis)
    # Where all x are -infinity so is y; x - y would be NaN where e^x is 0.
    y = np.where(np.isneginf(y), x.dtype.type(0), y)
    if not _is_simple(x, axis) or x.dtype.char != "f":
        return (multiply(g, np.exp(x - y)),)
    return (multiply(g, exp_difference(x, y)),)
