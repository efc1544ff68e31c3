"""Reading and writing parts of tensors.

There is one pair of ops: `getitem` reads x[index], and its adjoint `put` adds into zeros at index;
each is the derivative of the other. `take`, `take_along_axis`, the functions of `ops/scatter.py`
and the slices of `ops/shape.py` only prepare an index for them. `replace` writes over a part of a
tensor.
"""

from __future__ import annotations

from builtins import slice as Slice  # `slice` is one of the functions here
from collections.abc import Sequence
from typing import Any

import numpy as np

from minitorch_ciml import kernels
from minitorch_ciml.autograd import arithmetic
from minitorch_ciml.autograd.engine import Op
from minitorch_ciml.autograd.tensor import Tensor, as_array, as_tensor
from minitorch_ciml.ops.axes import check_axis
from minitorch_ciml.ops.creation import arange, zeros

__all__ = [
    "get_item", "getitem", "nonzero", "searchsorted", "select", "slice", "slice_update", "take",
    "take_along_axis", "unravel_index", "where",
]  # fmt: skip

Shape = tuple[int, ...]
ALL = Slice(None)

_getitem: Op = Op(
    "getitem",
    lambda g, y, x, index: _put(g, index=index, shape=x.shape),
    doc="y = x[index].",
)
_put: Op = Op(
    "put",
    lambda g, y, x, index, shape: _getitem(g, index=index),
    doc="y = zeros of `shape`, with x added at `index`.",
)


def _replace_rule(g, y, x, new, index):
    kept = _getitem(g, index=index)
    if not _may_repeat(index):
        return kept
    # Of several new elements for one place only the last one counts.
    order = arange(kept.size).reshape(kept.shape).to(kept.device)
    winner = _replace(zeros(y.shape, "int64").to(kept.device), order, index=index)
    return arithmetic.where(arithmetic.equal(_getitem(winner, index=index), order), kept, 0.0)


def _may_repeat(index: Any) -> bool:
    return any(hasattr(i, "dtype") for i in (index if type(index) is tuple else (index,)))


_replace: Op = Op(
    "replace",
    lambda g, y, x, new, index: _replace(g, 0.0, index=index),
    _replace_rule,
    dtypes="common",
    doc="y = x, with `new` instead of x[index].",
)


def getitem(x: Any, index: Any) -> Tensor:
    """`x[index]`, with all that NumPy can index with.

    Args:
        x: a tensor.
        index: an int, a slice, `...`, None, an integer or boolean array (or list, or tensor), or a
            tuple of them. Integer arrays are broadcast together.

    Returns:
        The elements. Where an element is read several times, its gradients are added.

    Raises:
        IndexError: an index is out of range, or there are too many.
    """
    return _getitem(x, index=_plain(index))


def get_item(x: Any, key: Any) -> Tensor:
    """`x[key]`; see `getitem`."""
    return _getitem(x, index=_plain(key))


def _plain(index: Any) -> Any:
    """`index` with tensors, lists and booleans as NumPy arrays."""
    if type(index) is tuple:
        return tuple([i if type(i) is int or type(i) is Slice else _plain_item(i) for i in index])
    return index if type(index) is int or type(index) is Slice else _plain_item(index)


def _plain_item(index: Any) -> Any:
    if isinstance(index, Tensor):
        index = index.value
    elif isinstance(index, (list, tuple, range)):
        index = np.asarray([i.value if isinstance(i, Tensor) else i for i in index])
        index = index if index.size else index.astype(int)
    elif isinstance(index, (bool, np.bool_)):
        index = np.asarray(index)
    if hasattr(index, "dtype") and index.dtype.kind not in "iub":
        raise IndexError(
            f"getitem: an index must be made of integers or booleans, got dtype {index.dtype}; "
            "convert it with .astype('int64')."
        )
    return index


def integers(indices: Any, caller: str) -> Any:
    """An array of integers, on the device of a tensor, otherwise on the host."""
    array = indices.value if isinstance(indices, Tensor) else as_array(indices)
    if array.dtype.kind not in "iu" and array.size:
        raise TypeError(
            f"{caller}: the indices must be integers, got dtype {array.dtype}; convert them with "
            ".astype('int64')."
        )
    return array if array.size else array.astype(int)


def take(x: Any, indices: Any, axis: int | None = None) -> Tensor:
    """The slices of `x` at `indices` along `axis`: y[..., i..., ...] = x[..., indices[i...], ...].

    Args:
        x: a tensor.
        indices: integers of any shape; negative ones count from the end.
        axis: along which axis; None takes from the flattened `x`.

    Raises:
        IndexError: an index is out of range.
        TypeError: the indices are no integers.
    """
    index = integers(indices, "take")
    if axis is None:
        return _getitem(as_tensor(x).reshape(-1), index=index)
    if axis == 0:
        return _getitem(x, index=index)
    x = as_tensor(x)
    return _getitem(x, index=(ALL,) * check_axis(axis, x.ndim, "take") + (index,))


def take_along_axis(x: Any, indices: Any, axis: int | None = None) -> Tensor:
    """Matches `indices` with `x` along `axis`: for 2 dimensions, y[i, j] = x[i, indices[i, j]].

    Args:
        x: a tensor.
        indices: integers, with as many dimensions as `x`; the sizes of the other axes broadcast.
        axis: along which axis; None takes from the flattened `x`.

    Raises:
        ValueError: the numbers of dimensions differ.
        IndexError: an index is out of range.
    """
    index = integers(indices, "take_along_axis")
    x = as_tensor(x)
    if axis is None:
        x, axis, index = x.reshape(-1), 0, index.reshape(-1)
    if index.ndim != x.ndim:
        raise ValueError(
            f"take_along_axis: x has {x.ndim} dimensions, the indices {index.ndim}; they must be "
            "equal."
        )
    axis = check_axis(axis, x.ndim, "take_along_axis")
    ones = [1] * x.ndim
    grid = [np.arange(n).reshape(*ones[:i], n, *ones[i + 1 :]) for i, n in enumerate(x.shape)]
    grid[axis] = index
    return _getitem(x, index=tuple(grid))


# --- blocks --------------------------------------------------------------------------------------


def slice(inputs: Any, start_indices: Sequence[int], shape: Sequence[int]) -> Tensor:
    """The block of `inputs` of size `shape` that begins at `start_indices`.

    A size of -1 means everything up to the end of that axis.
    """
    inputs = as_tensor(inputs)
    return _getitem(inputs, index=_block(inputs.shape, start_indices, shape, "slice"))


def slice_update(inputs: Any, start_indices: Sequence[int], updates: Any) -> Tensor:
    """`inputs`, with the block that begins at `start_indices` replaced by `updates`."""
    inputs, updates = as_tensor(inputs), as_tensor(updates)
    index = _block(inputs.shape, start_indices, updates.shape, "slice_update")
    return _replace(inputs, updates, index=index)


def _block(whole: Shape, starts: Sequence[int], shape: Sequence[int], caller: str) -> tuple:
    starts, sizes = [int(i) for i in starts], [int(n) for n in shape]
    if not len(whole) == len(starts) == len(sizes):
        raise ValueError(
            f"{caller}: expected one start and one size for each axis of {whole}, got starts "
            f"{starts} and sizes {sizes}."
        )
    ends = [n if size == -1 else start + size for start, size, n in zip(starts, sizes, whole)]
    if any(not 0 <= start <= end <= n for start, end, n in zip(starts, ends, whole)):
        raise IndexError(
            f"{caller}: the block of size {sizes} at {starts} is not inside the shape {whole}."
        )
    return tuple([np.s_[start:end] for start, end in zip(starts, ends)])


# --- places -------------------------------------------------------------------------------------


def nonzero(x: Any) -> tuple[Tensor, ...]:
    """Where `x` is not zero: for each axis, the indices along it. No gradient flows."""
    value = as_tensor(x).value
    return tuple([Tensor.constant(i) for i in kernel_for(value, "nonzero")(value)])


def where(condition: Any, x1: Any = None, x2: Any = None) -> Any:
    """y = x1 where the condition is true, otherwise x2; with one argument, `nonzero(condition)`."""
    if x1 is None and x2 is None:
        return nonzero(condition)
    if x1 is None or x2 is None:
        raise ValueError("where: got one of x1 and x2, expected both or none.")
    return arithmetic.where(condition, x1, x2)


def select(condlist: Sequence, choicelist: Sequence, default: Any = 0) -> Tensor:
    """y = the choice that belongs to the first condition that is true, otherwise `default`.

    Args:
        condlist: booleans, one tensor for each choice; all broadcast together.
        choicelist: what to choose from.
        default: where no condition is true.

    Raises:
        ValueError: there are not as many choices as conditions, or none.
    """
    if len(condlist) != len(choicelist) or not len(condlist):
        raise ValueError(
            f"select: got {len(condlist)} conditions and {len(choicelist)} choices, expected as "
            "many of both."
        )
    y = default
    for condition, choice in zip(reversed(condlist), reversed(choicelist)):
        y = arithmetic.where(condition, choice, y)
    return y


def unravel_index(indices: Any, shape: Sequence[int]) -> tuple[Tensor, ...]:
    """For each axis of `shape`, the indices along it of places in the flattened array."""
    places = integers(indices, "unravel_index")
    found = kernel_for(places, "unravel_index")(places, tuple(shape))
    return tuple([Tensor(np.asarray(i) if isinstance(places, np.ndarray) else i) for i in found])


def kernel_for(value: Any, name: str) -> Any:
    """The kernel of an op with several results, which is no `Op`."""
    return kernels.find(kernels.device_of(type(value)), name)


def searchsorted(sorted_sequence: Any, values: Any, side: str = "left") -> Tensor:
    """Where `values` belong in the sorted 1-D `sorted_sequence`, before or after equal elements.

    Args:
        side: 'left' for the first possible place, 'right' for the last. No gradient flows.
    """
    if side not in ("left", "right"):
        raise ValueError(f"searchsorted: got side {side!r}, expected 'left' or 'right'.")
    return _searchsorted(sorted_sequence, values, side=side)


_searchsorted = Op("searchsorted")
