"""The argument `axis`: checked, and counted from the front."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

Axis = int | Sequence[int] | None  # as it is given: None means all
Axes = tuple[int, ...]  # as the ops get it: each from 0 to ndim - 1


def check_axis(axis: int, ndim: int, caller: str) -> int:
    """`axis`, counted from the front."""
    if not -ndim <= axis < ndim:
        raise ValueError(
            f"{caller}: got axis {axis} for {ndim} dimensions, expected {-ndim} to {ndim - 1}."
        )
    return axis % ndim


def several(axis: int | Sequence[int]) -> Sequence[int]:
    """One axis or several as a sequence."""
    return (axis,) if isinstance(axis, int) else axis


def check_axes(axis: Axis, ndim: int, caller: str) -> Axes:
    """`axis` as a tuple of different axes, counted from the front."""
    if axis is None:
        return tuple(range(ndim))
    given = (axis,) if isinstance(axis, (int, np.integer)) else tuple(axis)
    return _from_the_front(given, ndim, caller)


@lru_cache(maxsize=256)
def _from_the_front(given: Axes, ndim: int, caller: str) -> Axes:
    axes = tuple([check_axis(a, ndim, caller) for a in given])
    if len(set(axes)) != len(axes):
        raise ValueError(f"{caller}: got axis {given}, in which an axis stands twice.")
    return axes


def kept_shape(shape: Axes, axes: Axes) -> Axes:
    """The shape of a result in which the reduced `axes` are kept with size 1."""
    return tuple([1 if i in axes else n for i, n in enumerate(shape)])
