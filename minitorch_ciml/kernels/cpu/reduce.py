"""Sums, products, extremes and means along axes, and the gradient of a mean."""

from __future__ import annotations

from collections.abc import Callable
from math import prod as product

import numpy as np

from minitorch_ciml.kernels.cpu import folds
from minitorch_ciml.kernels.cpu.buffers import empty
from minitorch_ciml.kernels.cpu.jit import entry, ready
from minitorch_ciml.kernels.cpu.threads import ALL, task
from minitorch_ciml.kernels.reference import reduce as reference

Array = np.ndarray
Axes = tuple[int, ...]

SMALL = 4096  # with fewer elements NumPy is as fast


@task
def _spread_one(i, g, count, dx):
    first = dx[i, 0]
    for j in range(first.size):  # once: a division takes longer than the memory of its result
        first[j] = g[i, j] / count
    for k in range(1, dx.shape[1]):
        row = dx[i, k]
        for j in range(row.size):
            row[j] = first[j]


@entry
def _spread(g, count, dx):
    _spread_one(dx.shape[0], ALL, (g, count, dx))


# --- along any axes -----------------------------------------------------------------------------


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


def mean_grad(
    g: Array, y: Array, x: Array, *, needs: tuple, axis: Axes, keepdims: bool
) -> tuple[Array]:
    """`dx` = g / n at each of the n elements that a mean is of."""
    dx = empty(x.shape, x.dtype)
    sizes = _in_three(x.shape, axis) if x.size >= SMALL else None
    if sizes is not None and x.dtype == g.dtype and x.dtype.char in "fd":
        _spread(ready(g, g.dtype).reshape(sizes[0], sizes[2]), sizes[1], dx.reshape(sizes))
        return (dx,)
    if not keepdims:
        g = g.reshape([1 if i in axis else n for i, n in enumerate(x.shape)])
    return (np.multiply(g, y.size / (x.size or 1), out=dx),)


def _in_three(shape: Axes, axis: Axes) -> Axes | None:
    """The sizes before, along and behind the axes, if these are neighbours before others."""
    first, last = (axis[0], axis[-1]) if axis else (0, -1)
    if tuple(range(first, last + 1)) != axis or not axis or last + 1 == len(shape):
        return None
    return product(shape[:first]), product(shape[first : last + 1]), product(shape[last + 1 :])
