"""Sums, products, extremes and means along axes."""

from __future__ import annotations

from collections.abc import Callable
from math import prod as product

import numpy as np

from minitorch_ciml.kernels.cpu import folds
from minitorch_ciml.kernels.reference import reduce as reference

Array = np.ndarray
Axes = tuple[int, ...]

SMALL = 4096  # with fewer elements NumPy is as fast


def _kept(shape: Axes, axis: Axes, keepdims: bool) -> list[int]:
    return [1 if i in axis else n for i, n in enumerate(shape) if keepdims or i not in axis]


def _is_simple(x: Array) -> bool:
    return x.size >= SMALL and x.dtype.char in "fd" and x.flags.c_contiguous


def _folded(run: Callable, x: Array, axis: Axes) -> Array:
    """What `run` makes of x along the axes, flat: of neighbours at once, the last ones first."""
    sizes, y = list(x.shape), x.reshape(-1)
    left = [i for i in sorted(axis) if sizes[i] != 1]
    while left:
        first = last = left.pop()
        while left and product(sizes[left[-1] + 1 : first]) == 1:
            first = left.pop()
        along = product(sizes[first : last + 1])
        y = folds.fold_axis(run, y, product(sizes[:first]), along, product(sizes[last + 1 :]))
        sizes[first : last + 1] = [1] * (last + 1 - first)
    return y


def sum(x: Array, *, axis: Axes, keepdims: bool) -> Array:
    kept = _kept(x.shape, axis, keepdims)
    if not _is_simple(x) or product(kept) == x.size:
        return reference.sum(x, axis, keepdims)
    return _folded(folds.fold_sum, x, axis).reshape(kept)


def prod(x: Array, *, axis: Axes, keepdims: bool) -> Array:
    kept = _kept(x.shape, axis, keepdims)
    if not _is_simple(x) or product(kept) == x.size:
        return reference.prod(x, axis, keepdims)
    return _folded(folds.fold_prod, x, axis).reshape(kept)


def max(x: Array, *, axis: Axes, keepdims: bool, initial: float | None) -> Array:
    kept = _kept(x.shape, axis, keepdims)
    if not _is_simple(x) or product(kept) == x.size:
        return reference.max(x, axis, keepdims, initial)
    y = _folded(folds.fold_max, x, axis).reshape(kept)
    return y if initial is None else np.maximum(y, x.dtype.type(initial))


def min(x: Array, *, axis: Axes, keepdims: bool, initial: float | None) -> Array:
    kept = _kept(x.shape, axis, keepdims)
    if not _is_simple(x) or product(kept) == x.size:
        return reference.min(x, axis, keepdims, initial)
    y = _folded(folds.fold_min, x, axis).reshape(kept)
    return y if initial is None else np.minimum(y, x.dtype.type(initial))


def sum_to(x: Array, *, shape: Axes) -> Array:
    """The sum of x over the axes along which `shape` would be repeated to make x's."""
    added = x.ndim - len(shape)
    stretched = [i for i in range(added, x.ndim) if shape[i - added] == 1]
    return sum(x, axis=(*range(added), *stretched), keepdims=True).reshape(shape)


def mean(x: Array, *, axis: Axes, keepdims: bool) -> Array:
    """`y` = the mean of x along the axes."""
    kept = _kept(x.shape, axis, keepdims)
    if not _is_simple(x) or product(kept) == x.size:
        return reference.mean(x, axis, keepdims)
    y = _folded(folds.fold_sum, x, axis).reshape(kept)
    y *= x.dtype.type(y.size / x.size)
    return y
