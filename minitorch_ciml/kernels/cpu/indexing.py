"""Adding into indexed places, and finding the largest few, without NumPy's general loops.

Every version of `put` adds in the order of the index, so results are the same to the last bit as
the reference's, whatever the number of threads.
"""

from __future__ import annotations

from functools import cache
from math import prod
from typing import Any

import numpy as np

from minitorch_ciml.kernels.cpu.buffers import empty
from minitorch_ciml.kernels.reference import shape as reference

# From this many numbers on, compiled row additions win over NumPy's, and over importing numba.
MANY = 2**15


def put(x: np.ndarray, index: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Zeros of `shape`, with x added at `index`, repeatedly where an index is repeated."""
    parts = index if type(index) is tuple else (index,)
    arrays = [i for i in parts if type(i) is np.ndarray]
    if not arrays or (len(parts) == 1 and parts[0].dtype.kind == "b"):
        y = empty(shape, x.dtype)
        y[...] = 0
        y[index] = x  # slices, numbers or one mask: no place occurs twice
        return y
    first = next(i for i, part in enumerate(parts) if type(part) is np.ndarray)
    around = (*parts[:first], *parts[first + len(arrays) :])
    whole = all(type(part) is slice and part == slice(None) for part in around)
    if whole and all(a.dtype.kind in "iu" for a in arrays):
        return _put_rows(x, arrays, first, shape)
    return reference.put(x, index, shape)


def _put_rows(
    x: np.ndarray, arrays: list[np.ndarray], axis: int, shape: tuple[int, ...]
) -> np.ndarray:
    """x[:, ..., i, j, ..., :] is added at the rows (i, j, ...) of axes `axis`, `axis` + 1, ..."""
    end = axis + len(arrays)
    before, sizes, after = shape[:axis], shape[axis:end], shape[end:]
    place = _flat(arrays, sizes, axis)
    whole = (*before, *place.shape, *after)
    outer, rows, width = prod(before), prod(sizes), prod(after)
    y = np.zeros((outer, rows, width), x.dtype)
    new = x if x.shape == whole else np.broadcast_to(x, whole)
    new = np.ascontiguousarray(new.reshape(outer, place.size, width))
    place = place.ravel()
    if outer * width > 1 and new.size >= MANY and x.dtype.kind == "f" and x.dtype.itemsize > 2:
        _row_adder()(y, place, new)
    else:
        cells = (np.arange(outer)[:, None] * rows + place)[:, :, None] * width + np.arange(width)
        np.add.at(y.reshape(-1), cells.ravel(), new.ravel())
    return y.reshape(shape)


def _flat(arrays: list[np.ndarray], sizes: tuple[int, ...], axis: int) -> np.ndarray:
    """The arrays, one index per axis, as indices into the flattened axes."""
    place: Any = 0
    for offset, (array, size) in enumerate(zip(arrays, sizes)):
        if array.size and not (-size <= array.min() and array.max() < size):
            raise IndexError(
                f"indices from {array.min()} to {array.max()} are out of bounds for axis "
                f"{axis + offset} with size {size}"
            )
        array = array.astype(np.intp)
        array[array < 0] += size
        place = place * size + array
    return place


@cache
def _row_adder():
    from minitorch_ciml.kernels.cpu.jit import entry  # numba only where it is needed

    @entry
    def add_rows(y, place, new):
        for k in range(len(new)):
            for i in range(len(place)):
                to = y[k, place[i]]
                row = new[k, i]
                for j in range(len(row)):
                    to[j] += row[j]

    return add_rows


FEW = 32  # so many of the largest are kept in order while a row is read; more are sorted for


def top_indices(x: np.ndarray, k: int) -> np.ndarray:
    """Where the k largest elements along the last axis are, largest first; the first of equals."""
    if not 0 < k <= FEW or x.size < MANY or x.dtype.char not in "fd":
        return reference.top_indices(x, k)
    rows = np.ascontiguousarray(x.reshape(-1, x.shape[-1]))
    y = np.zeros((len(rows), k), np.int64)
    _selector()(y, np.empty(k, x.dtype), rows)
    return y.reshape(*x.shape[:-1], k)


@cache
def _selector():
    from minitorch_ciml.kernels.cpu.jit import entry

    @entry
    def select(y, best, x):
        """`best` holds the largest numbers of a row so far, largest first; nan is the largest."""
        k = len(best)
        for r in range(len(x)):
            for j in range(x.shape[1]):
                value = x[r, j]
                i = min(j, k)
                while i > 0 and (
                    value > best[i - 1] or (value != value and best[i - 1] == best[i - 1])
                ):
                    if i < k:
                        best[i], y[r, i] = best[i - 1], y[r, i - 1]
                    i -= 1
                if i < k:
                    best[i], y[r, i] = value, j

    return select
