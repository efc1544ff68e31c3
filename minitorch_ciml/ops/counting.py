"""How often, and where: counts of numbers, bins, and sets of different numbers.

All is made of sorting and of adding at indices. Where the size of a result depends on the numbers
(`unique`, `bincount` without a length), the GPU is waited for.
"""

from __future__ import annotations

import math
from builtins import range as _range  # `range` is an argument here
from typing import Any

import numpy as np

from minitorch_ciml.autograd.arithmetic import minimum, not_equal, where
from minitorch_ciml.autograd.tensor import FLOATS, Tensor, as_tensor
from minitorch_ciml.ops.axes import check_axis
from minitorch_ciml.ops.creation import arange, cast, full, ones_like, zeros
from minitorch_ciml.ops.indexing import (
    _getitem,
    _put,
    _replace,
    integers,
    nonzero,
    searchsorted,
    take,
)
from minitorch_ciml.ops.joining import concatenate
from minitorch_ciml.ops.math import logical_and, logical_not
from minitorch_ciml.ops.order import argsort, sort
from minitorch_ciml.ops.reduce import any as _any
from minitorch_ciml.ops.reduce import cumsum
from minitorch_ciml.ops.reduce import max as _max
from minitorch_ciml.ops.reduce import min as _min
from minitorch_ciml.ops.shape import _reshape, broadcast_to, moveaxis, ravel

__all__ = ["bincount", "digitize", "histogram", "isin", "unique"]


def bincount(x: Any, weights: Any = None, minlength: int = 0, sparse: bool = False) -> Tensor:
    """y_k = how often the number k is in `x`, or the sum of the weights that stand there.

    Args:
        x: integers (N,), or (B, N) for a count of each row; none is negative.
        weights: in the shape of `x`.
        minlength: the result has at least so many numbers.
        sparse: must be False: there are no sparse tensors.

    Returns:
        (K,) or (B, K) with K = max(x) + 1: integers, or the weights' dtype.

    Raises:
        ValueError: a number is negative, or the shapes do not fit.
    """
    if sparse:
        raise ValueError("bincount: there are no sparse tensors here; pass sparse=False.")
    places = Tensor.constant(integers(x, "bincount"))
    if places.ndim not in (1, 2):
        raise ValueError(f"bincount: got shape {places.shape}, expected (N,) or (B, N).")
    amounts = ones_like(places, "int64") if weights is None else as_tensor(weights)
    if amounts.shape != places.shape:
        raise ValueError(
            f"bincount: x has shape {places.shape} and the weights {amounts.shape}; they must be "
            "equal."
        )
    if places.size and int(_min(places)) < 0:
        raise ValueError(f"bincount: got the number {int(_min(places))}, expected none below 0.")
    size = max(minlength, int(_max(places)) + 1 if places.size else 0)
    if places.ndim == 1:
        return _put(amounts, index=places.value, shape=(size,))
    rows = np.arange(len(places)).reshape(-1, 1)
    return _put(amounts, index=(rows, places.value), shape=(len(places), size))


def digitize(x: Any, bins: Any) -> Tensor:
    """y = how many of the ascending numbers `bins` are <= x: the number of the bin x lies in."""
    edges = as_tensor(bins)
    if edges.ndim != 1:
        raise ValueError(f"digitize: got bins of shape {edges.shape}, expected (K,).")
    return searchsorted(edges, x, side="right")


def histogram(
    x: Any, bins: int = 10, range: tuple[float, float] | None = None
) -> tuple[Tensor, Tensor]:
    """How many numbers of `x` lie in each of so many equally wide bins.

    A bin holds its lower edge and not its upper one; the last bin holds both.

    Args:
        x: a tensor of any shape.
        bins: how many.
        range: the edges of the first and the last bin; the least and the largest number of `x` if
            left out. Numbers outside are not counted.

    Returns:
        Integers (bins,), and the edges (bins + 1,).

    Raises:
        ValueError: bins is not positive, or the range is not ascending.
    """
    if not isinstance(bins, int) or bins < 1:
        raise ValueError(f"histogram: got bins={bins!r}, expected a positive int.")
    numbers = ravel(x)
    if range is None:
        range = (_min(numbers).item(), _max(numbers).item()) if numbers.size else (0.0, 1.0)
    low, high = map(float, range)
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise ValueError(f"histogram: got the range {low} to {high}, expected an ascending one.")
    if low == high:
        low, high = low - 0.5, high + 0.5
    dtype = numbers.dtype if numbers.dtype.kind in FLOATS else as_tensor(0.5).dtype
    numbers = cast(numbers, dtype)
    edges = as_tensor(np.linspace(low, high, bins + 1).astype(dtype)).to(numbers.device)
    place = minimum(searchsorted(edges, numbers, side="right") - 1, bins - 1)
    inside = logical_and(numbers >= low, numbers <= edges[-1])
    # Numbers outside are counted in a bin of their own, which is dropped.
    counted = where(inside, place, bins)
    return _put(ones_like(counted), index=counted.value, shape=(bins + 1,))[:-1], edges


def isin(x1: Any, x2: Any, assume_unique: bool = False, invert: bool = False) -> Tensor:
    """y = whether each element of `x1` is among the elements of `x2`, in the shape of `x1`.

    Args:
        assume_unique: accepted as in Keras; the result is the same.
        invert: ask whether it is not.
    """
    x, among = as_tensor(x1), sort(ravel(x2))
    if among.size:
        found = minimum(searchsorted(among, x), among.size - 1)
        absent = not_equal(take(among, found), x)
    else:
        absent = full(x.shape, True, bool).to(x.device)
    return absent if invert else logical_not(absent)


# --- sets ---------------------------------------------------------------------------------------


def unique(
    x: Any,
    sorted: bool = True,
    return_index: bool = False,
    return_inverse: bool = False,
    return_counts: bool = False,
    axis: int | None = None,
    size: int | None = None,
    fill_value: Any = None,
) -> Any:
    """The different elements of `x`, in ascending order.

    Args:
        x: a tensor.
        sorted: accepted as in Keras; the result is always sorted.
        return_index: also where each is first found.
        return_inverse: also where in the result each element of `x` is.
        return_counts: also how often each is found.
        axis: compare the slices along this axis, not single elements; None: flatten `x`.
        size: cut the result off, or fill it up, to so many; the filling has the index of the first
            one and the count 0.
        fill_value: what to fill up with; 0 if left out.

    Returns:
        The elements, or a tuple of them and what was asked for.
    """
    x = as_tensor(x)
    along = 0 if axis is None else check_axis(axis, x.ndim, "unique")
    rows = ravel(x) if axis is None else moveaxis(x, along, 0)
    order = _row_order(rows)
    ordered = take(rows, order, 0)
    first = _is_first(ordered)  # of those that are equal
    (starts,) = nonzero(first)
    index = take(order, starts)
    results = [take(rows, index, 0), index]
    if return_inverse:
        number = cumsum(first, dtype="int64") - 1
        inverse = _replace(zeros(len(rows), "int64").to(x.device), number, index=order.value)
        results.append(_reshape(inverse, shape=x.shape) if axis is None else inverse)
    if return_counts:
        ends = concatenate([starts[1:], full(1, len(rows), "int64").to(x.device)])
        results.append(ends[: len(starts)] - starts)
    if size is not None:
        fill = [0 if fill_value is None else fill_value, index[0] if len(index) else 0]
        counted = [(results[0], fill[0]), (results[1], fill[1])]
        results[:2] = [_of_size(y, size, value) for y, value in counted]
        if return_counts:
            results[-1] = _of_size(results[-1], size, 0)
    results[0] = moveaxis(results[0], 0, along)
    if not return_index:
        del results[1]
    return tuple(results) if len(results) > 1 else results[0]


def _row_order(rows: Tensor) -> Tensor:
    """The indices that sort rows by their first elements, then by their second, ...; stable."""
    if rows.ndim == 1:
        return argsort(rows)
    flat = _reshape(rows.detach(), shape=(len(rows), math.prod(rows.shape[1:])))
    order = arange(len(rows)).to(rows.device)
    for column in reversed(_range(flat.shape[1])):
        order = take(order, argsort(take(flat[:, column], order)))
    return order


def _is_first(ordered: Tensor) -> Tensor:
    """Whether each row differs from the one before it."""
    differs = not_equal(_getitem(ordered, index=np.s_[1:]), _getitem(ordered, index=np.s_[:-1]))
    if differs.ndim > 1:
        differs = _any(differs, axis=tuple(_range(1, differs.ndim)))
    first = full(min(1, len(ordered)), True, bool).to(ordered.device)
    return concatenate([first, differs])


def _of_size(y: Tensor, size: int, fill: Any) -> Tensor:
    if len(y) >= size:
        return _getitem(y, index=np.s_[:size])
    rest = broadcast_to(cast(fill, y.dtype), (size - len(y), *y.shape[1:]))
    return concatenate([y, rest.to(y.device)])
