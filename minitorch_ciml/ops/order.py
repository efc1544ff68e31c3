"""Sorting, and the largest elements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from minitorch_ciml.autograd.engine import Op
from minitorch_ciml.autograd.tensor import Tensor, as_tensor
from minitorch_ciml.ops.axes import check_axis
from minitorch_ciml.ops.indexing import take_along_axis
from minitorch_ciml.ops.shape import ravel

__all__ = ["argpartition", "argsort", "sort", "top_k"]

_argsort = Op("argsort", doc="The order of the elements along an axis; equal ones keep theirs.")
_sort: Op = Op(
    "sort",
    # Where an element of x stands in y: the order of the order.
    lambda g, y, x, axis: take_along_axis(g, _argsort(_argsort(x, axis=axis), axis=axis), axis),
    ref=lambda x, axis: take_along_axis(x, _argsort(x, axis=axis), axis),
    doc="x in ascending order along an axis; nan comes last.",
)
_top_indices = Op("top_indices", doc="Where the k largest elements along the last axis are.")


def argsort(x: Any, axis: int | None = -1) -> Tensor:
    """The indices that sort `x` along `axis` (flattened if None); stable."""
    if axis is None:
        x, axis = ravel(x), 0
    return _argsort(x, axis=axis)


def argpartition(x: Any, kth: int | Sequence[int], axis: int | None = -1) -> Tensor:
    """Indices that bring the `kth` element along `axis` to its place, smaller ones before it.

    Args:
        x: a tensor.
        kth: accepted as in NumPy; all elements are sorted.
        axis: along which axis; None: of the flattened `x`.
    """
    return argsort(x, axis)


def sort(x: Any, axis: int | None = -1) -> Tensor:
    """`x` in ascending order along `axis`; flattened if it is None."""
    x = as_tensor(x)
    if axis is None:
        x, axis = ravel(x), 0
    return _sort(x, axis=check_axis(axis, x.ndim, "sort"))


def top_k(x: Any, k: int, sorted: bool = True) -> tuple[Tensor, Tensor]:
    """The `k` largest elements along the last axis, largest first, and their indices.

    Args:
        x: a tensor.
        k: how many.
        sorted: accepted as in Keras; the result is always sorted.
    """
    x = as_tensor(x)
    if x.ndim == 0 or not 0 <= k <= x.shape[-1]:
        raise ValueError(f"top_k: got k={k} for shape {x.shape}; the last axis is too small.")
    indices = _top_indices(x, k=k)
    return take_along_axis(x, indices, -1), indices
