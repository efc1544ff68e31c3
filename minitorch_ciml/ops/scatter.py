"""Values that come together at places given by indices: added, multiplied, or the largest of them.

Sums add into zeros (`put`). For products and extremes the values are first sorted by their places,
so that those of one place stand in a row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minitorch_ciml.autograd.arithmetic import equal, maximum, minimum, multiply, where
from minitorch_ciml.autograd.tensor import FLOATS, Tensor, as_tensor
from minitorch_ciml.ops.creation import arange, cast, full
from minitorch_ciml.ops.indexing import (
    _getitem,
    _put,
    _replace,
    integers,
    kernel_for,
    searchsorted,
    take,
    take_along_axis,
)
from minitorch_ciml.ops.joining import concatenate
from minitorch_ciml.ops.order import argsort
from minitorch_ciml.ops.reduce import _recurrence
from minitorch_ciml.ops.shape import _reshape

__all__ = [
    "scatter", "scatter_update", "segment_max", "segment_min", "segment_prod", "segment_sum",
]  # fmt: skip

# --- at indices ---------------------------------------------------------------------------------


def scatter(indices: Any, values: Any, shape: Sequence[int]) -> Tensor:
    """Zeros of `shape`, with `values` added at `indices`.

    Args:
        indices: integers (..., K); each row is an index into the first K axes of the result.
        values: what to add, (..., *shape[K:]).
        shape: the result's shape.
    """
    return _put(values, index=_rows(indices, shape, "scatter"), shape=tuple(shape))


def scatter_update(inputs: Any, indices: Any, updates: Any, reduction: str | None = None) -> Tensor:
    """`inputs`, with `updates` at `indices`.

    Args:
        inputs: a tensor.
        indices: integers (..., K); each row is an index into the first K axes of `inputs`.
        updates: the new values, (..., *inputs.shape[K:]).
        reduction: None to replace what is there (if an index is repeated, the last update stays),
            or what to do with it and all updates: 'add', 'mul', 'max' or 'min'.
    """
    inputs = as_tensor(inputs)
    index = _rows(indices, inputs.shape, "scatter_update")
    if reduction is None:
        return _replace(inputs, updates, index=index)
    if reduction == "add":
        return inputs + _put(updates, index=index, shape=inputs.shape)
    if reduction not in _COMBINATIONS:
        raise ValueError(
            f"scatter_update: got reduction {reduction!r}, expected None, 'add', 'mul', 'max' or "
            "'min'."
        )
    combine, at_segments = _COMBINATIONS[reduction]
    whole, row = inputs.shape[: len(index)], inputs.shape[len(index) :]
    places = _flat_places([Tensor.constant(i) for i in index], whole)
    rows = at_segments(_reshape(updates, shape=(places.size, *row)), places, math.prod(whole))
    return combine(inputs, cast(_reshape(rows, shape=inputs.shape), inputs.dtype))


def _flat_places(index: Sequence[Tensor], shape: tuple[int, ...]) -> Tensor:
    """Where the rows are, counted through the first axes."""
    places: Any = 0
    for i, n in zip(index, shape):
        places = places * n + where(i < 0, i + n, i)
    return _reshape(places, shape=-1)


def _rows(indices: Any, shape: Sequence[int], caller: str) -> tuple:
    array = integers(indices, caller)
    if array.ndim == 0 or array.shape[-1] > len(shape):
        raise ValueError(
            f"{caller}: got indices of shape {array.shape}; their last axis must hold one number "
            f"for each of the first axes of {tuple(shape)}."
        )
    rows = Tensor.constant(array)
    return tuple([_getitem(rows, index=(..., k)).value for k in range(array.shape[-1])])


# --- segments: an id for each row ---------------------------------------------------------------


def segment_sum(
    data: Any, segment_ids: Any, num_segments: int | None = None, sorted: bool = False
) -> Tensor:
    """y[s] = the sum of the rows data[i] with segment_ids[i] = s; 0 where there are none.

    Args:
        data: (N, ...).
        segment_ids: integers (N,).
        num_segments: the number of rows of the result; the largest id plus 1 if left out.
        sorted: accepted as in Keras; the result is the same.

    Raises:
        ValueError: there is not one id for each row.
        IndexError: an id is as large as `num_segments`.
    """
    data, ids, number = _segments("segment_sum", data, segment_ids, num_segments)
    return _put(data, index=ids, shape=(number, *data.shape[1:]))


def segment_max(
    data: Any, segment_ids: Any, num_segments: int | None = None, sorted: bool = False
) -> Tensor:
    """y[s] = the largest of the rows data[i] with segment_ids[i] = s, element by element.

    Where there are none it is -infinity, or the least integer. The arguments are those of
    `segment_sum`. Of equal elements the last one gets the gradient.
    """
    data, ids, number = _segments("segment_max", data, segment_ids, num_segments)
    return _extreme(data, ids, number, "segment_max", last=True)


def segment_min(
    data: Any, segment_ids: Any, num_segments: int | None = None, sorted: bool = False
) -> Tensor:
    """y[s] = the least of the rows data[i] with segment_ids[i] = s, element by element.

    Where there are none it is infinity, or the largest integer. The arguments are those of
    `segment_sum`. Of equal elements the first one gets the gradient.
    """
    data, ids, number = _segments("segment_min", data, segment_ids, num_segments)
    return _extreme(data, ids, number, "segment_min", last=False)


def segment_prod(
    data: Any, segment_ids: Any, num_segments: int | None = None, sorted: bool = False
) -> Tensor:
    """y[s] = the product of the rows data[i] with segment_ids[i] = s; 1 where there are none.

    The arguments are those of `segment_sum`. The gradient is right also where elements are 0.
    """
    data, ids, number = _segments("segment_prod", data, segment_ids, num_segments)
    ordered, empty, places = _by_segment(ids, number, "segment_prod", last=True)
    if not ordered.size or not number:
        return full((number, *data.shape[1:]), 1, data.dtype).to(data.device)
    x = take(data, argsort(Tensor.constant(ids)), 0)
    same = _getitem(ordered, index=np.s_[1:]) == _getitem(ordered, index=np.s_[:-1])
    goes_on = _aligned(concatenate([full(1, False, bool).to(data.device), same]), x)
    # y_i = a_i y_(i-1) + b_i, where at the first row of a segment a is 0 and b the row.
    running = _recurrence(where(goes_on, x, 0), where(goes_on, 0, x), axis=0)
    return cast(where(_aligned(empty, x), 1, take(running, places, 0)), data.dtype)


def _segments(
    caller: str, data: Any, segment_ids: Any, num_segments: int | None
) -> tuple[Tensor, Any, int]:
    """The rows, their ids, and how many segments there are."""
    ids = integers(segment_ids, caller)
    data = as_tensor(data)
    if ids.ndim != 1 or ids.shape != data.shape[:1]:
        raise ValueError(
            f"{caller}: got data of shape {data.shape} and segment_ids of shape {ids.shape}; "
            "expected one id per row."
        )
    if num_segments is None:
        largest = kernel_for(ids, "max")(ids, axis=(0,), keepdims=False, initial=-1)
        num_segments = int(largest.item()) + 1
    return data, ids, num_segments


def _by_segment(ids: Any, number: int, caller: str, last: bool) -> tuple[Tensor, Tensor, Tensor]:
    """The ids in order; which segments are empty; where the last (or first) row of each stands."""
    ids = Tensor.constant(ids)
    ordered = take(ids, argsort(ids))
    for id in (ordered[0], ordered[-1]) if ordered.size else ():
        if not 0 <= int(id) < number:
            raise IndexError(f"{caller}: got id {int(id)}, expected 0 to {number - 1}.")
    segments = arange(number).to(ordered.device)
    start, stop = [searchsorted(ordered, segments, side) for side in ("left", "right")]
    empty = equal(start, stop)
    return ordered, empty, where(empty, 0, stop - 1 if last else start)


def _extreme(data: Tensor, ids: Any, number: int, caller: str, last: bool) -> Tensor:
    """The last or the first of each segment's elements, when they are sorted."""
    _, empty, places = _by_segment(ids, number, caller, last)
    if data.dtype.kind in FLOATS:
        neutral = -math.inf if last else math.inf
    else:
        limits = np.iinfo(data.dtype)
        neutral = limits.min if last else limits.max
    shape = (number, *data.shape[1:])
    if not data.size or not number:
        return full(shape, neutral, data.dtype).to(data.device)
    rows = _reshape(data, shape=(len(data), -1))
    by_size = argsort(rows, 0)
    order = take_along_axis(by_size, argsort(take(Tensor.constant(ids), by_size), 0), 0)
    y = take(take_along_axis(rows, order, 0), places, 0)
    return _reshape(where(_aligned(empty, y), neutral, y), shape=shape)


def _aligned(x: Tensor, rows: Tensor) -> Tensor:
    """(N,) in a shape that broadcasts with (N, ...)."""
    return _reshape(x, shape=(-1,) + (1,) * (rows.ndim - 1))


# How an update joins what is there, and how updates of one place are joined.
_COMBINATIONS: dict[str, tuple[Callable, Callable]] = {
    "mul": (multiply, segment_prod), "max": (maximum, segment_max), "min": (minimum, segment_min),
}  # fmt: skip
