"""Reading and writing parts of arrays, with all that NumPy can index with.

An index has two parts. Numbers, slices and new axes name a regular pattern of places: a copy
(`shape.py`), or a view where that is a block of rows. Arrays of integers or truth values become
one array of places in the flattened axes that they index (`_Places`); then the kernels here see x
as (outer, rows, width) and read, write or add whole rows, neighbouring threads at neighbouring
elements. All are bound by memory.

Index arrays come from the host or lie on the GPU. Those from the host are checked. One on the GPU
is not copied to the host to be checked: a place out of range is taken as the nearest one when it is
read, and left out when it is written or added to. Truth values are the exception, as in PyTorch:
how many are true decides a shape, which the host has to know.

Where a place occurs several times, the elements are added in their order, by one thread: results
repeat bit for bit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import cuda, int32

from minitorch_ciml.kernels.cuda.elements import read, write
from minitorch_ciml.kernels.cuda.elementwise import ALL, THREADS, blocks_for, cast
from minitorch_ciml.kernels.cuda.functions import where
from minitorch_ciml.kernels.cuda.intrinsics import like
from minitorch_ciml.kernels.cuda.launch import kernel
from minitorch_ciml.kernels.cuda.memory import (
    CudaArray,
    Shape,
    constant,
    empty,
    full,
    to_device,
    zeros,
)
from minitorch_ciml.kernels.cuda.ptx import ptx
from minitorch_ciml.kernels.cuda.scan import cumsum
from minitorch_ciml.kernels.cuda.shape import Pattern, broadcast_to, copy, transpose, whole
from minitorch_ciml.kernels.cuda.sort import order_of
from minitorch_ciml.kernels.cuda.table import TABLE
from minitorch_ciml.kernels.cuda.windows import divided

_UNITS = ("u1", "u2", "u4", "u8")
_ADDED = ("f4", "f8", "f2", "bf2", "i4", "i8")

# --- an index, in its two parts -------------------------------------------------------------------


@dataclass(frozen=True)
class _Places:
    """The arrays of an index.

    Attributes:
        axis: the first of the axes that they index, once those are neighbours.
        axes: how many these are.
        order: of all axes, to make them neighbours; None if they are.
        places: in the flattened axes; checked, or on the GPU.
        shape: of the arrays, broadcast together.
    """

    axis: int
    axes: int
    order: tuple[int, ...] | None
    places: np.ndarray | CudaArray
    shape: Shape


@dataclass(frozen=True)
class _Index:
    """An index to an array: first the pattern, then the places in what it gives.

    Attributes:
        pattern: where the elements lie that numbers and slices choose.
        sizes: the shape of those.
        places: what arrays choose of them, or None.
    """

    pattern: Pattern
    sizes: Shape
    places: _Places | None


def _parsed(index: Any, shape: Shape) -> _Index:
    """The index in its two parts."""
    parts = list(index) if type(index) is tuple else [index]
    parts = [_truth_as_places(part) for part in parts]
    parts = [p for part in parts for p in (part if type(part) is tuple else (part,))]
    used = sum(part is not None and part is not Ellipsis for part in parts)
    if used > len(shape):
        raise IndexError(f"too many indices: {used} for {len(shape)} dimensions")
    missing = [slice(None)] * (len(shape) - used)
    at = next((i for i, part in enumerate(parts) if part is Ellipsis), len(parts))
    parts[at : at + 1] = missing
    if any(part is Ellipsis for part in parts):
        raise IndexError("an index can only have a single ellipsis ('...')")
    return _split(parts, shape)


def _truth_as_places(part: Any) -> Any:
    """An array of truth values as the arrays of the places that are true."""
    if not isinstance(part, (np.ndarray, CudaArray)) or part.dtype.kind != "b":
        return part
    if isinstance(part, CudaArray):
        return nonzero(part) if part.ndim else (None, nonzero(part.reshape(1))[0])
    return part.nonzero() if part.ndim else (None, part.reshape(1).nonzero()[0])


def _split(parts: list, shape: Shape) -> _Index:
    """The two parts of an index that has an entry for every axis."""
    is_array = [isinstance(part, (np.ndarray, CudaArray)) for part in parts]
    with_arrays = True in is_array
    start, sizes, steps, arrays = 0, [], [], []
    own, axis = whole(shape).steps, 0
    for number, part in enumerate(parts):
        if part is None:
            sizes.append(1)
            steps.append(0)
            continue
        n, step = shape[axis], own[axis]
        if is_array[number] or (with_arrays and not isinstance(part, slice)):
            arrays.append((number, len(sizes), part))
            sizes.append(n)
            steps.append(step)
        elif isinstance(part, slice):
            first, stop, by = part.indices(n)
            sizes.append(len(range(first, stop, by)))
            steps.append(step * by)
            start += first * step if sizes[-1] else 0
        else:
            start += _checked(int(part), n, axis) * step
        axis += 1
    places = _places(arrays, tuple(sizes)) if arrays else None
    return _Index(Pattern(start, tuple(steps)), tuple(sizes), places)


def _checked(i: int, n: int, axis: int) -> int:
    if not -n <= i < n:
        raise IndexError(f"index {i} is out of bounds for axis {axis} with size {n}")
    return i % n


def _places(arrays: list[tuple[int, int, Any]], sizes: Shape) -> _Places:
    axes = [axis for _, axis, _ in arrays]
    numbers = [number for number, _, _ in arrays]
    together = numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    order = None
    first = axes[0]
    if not together:  # then NumPy has the arrays' axes first
        order = (*axes, *[a for a in range(len(sizes)) if a not in axes])
        first = 0
    given = [part for _, _, part in arrays]
    shape = np.broadcast_shapes(*[np.shape(part) for part in given])
    on_gpu = any(isinstance(part, CudaArray) for part in given)
    combine = _on_gpu if on_gpu else _on_host
    places = combine(given, [sizes[a] for a in axes], axes)
    return _Places(first, len(axes), order, places, shape)


def _on_host(given: list, sizes: list[int], axes: list[int]) -> np.ndarray:
    place: Any = np.zeros((), np.int32)
    for i, n, axis in zip(given, sizes, axes):
        i = np.asarray(i)
        if i.size:
            _checked(int(i.min()), n, axis), _checked(int(i.max()), n, axis)
        i = i.astype(np.int64)
        place = place * n + np.where(i < 0, i + n, i)
    return place.astype(np.int32)


def _on_gpu(given: list, sizes: list[int], axes: list[int]) -> CudaArray:
    """The places, and -1 for those out of range."""
    place, wrong = None, None
    for i, n in zip(given, sizes):
        i = i if isinstance(i, CudaArray) else to_device(np.asarray(i))
        i = cast(cast(i, "int64"), "int32")
        number = lambda value: constant(value, np.dtype("int32"))  # noqa: E731
        i = where(TABLE["less"](i, number(0)), TABLE["add"](i, number(n)), i)
        outside = TABLE["add"](TABLE["less"](i, number(0)), TABLE["greater_equal"](i, number(n)))
        i = TABLE["clip"](i, number(0), number(max(n - 1, 0)))
        place = i if place is None else TABLE["add"](TABLE["multiply"](place, number(n)), i)
        wrong = outside if wrong is None else TABLE["add"](wrong, outside)
    assert place is not None and wrong is not None
    # A place out of range is -1 - the nearest one: readers and writers tell it by the sign.
    minus = TABLE["subtract"](constant(-1, np.dtype("int32")), place)
    return where(wrong, minus, place)


# --- reading --------------------------------------------------------------------------------------


@kernel("T* T* i4* i4 i4 i4 i4", threads=THREADS, T=_UNITS)
def _gather(y, x, places, count, rows, width, n):
    """y[o, i, w] = x[o, places[i], w], with `count` places."""
    k = cuda.grid(1)
    if k < n:
        line, w = divided(k, width)
        o, i = divided(line, count)
        place = places[i]
        if place < 0:
            place = -1 - place
        y[k] = x[(o * rows + place) * width + w]


def getitem(x: CudaArray, *, index: Any) -> CudaArray:
    """x[index]."""
    parsed = _parsed(index, x.shape)
    if parsed.places is None:
        shape = _shape_of(index, x.shape)
        return _selected(x, parsed).reshape(shape)
    source = _selected(x, parsed)
    places = parsed.places
    if places.order is not None:
        source = transpose(source, axes=places.order)
    outer, rows, width = _blocks(source.shape, places)
    shape = _result_shape(source.shape, places)
    y = empty(shape, x.dtype)
    if y.size:
        on_gpu, count = _as_device(places.places), math.prod(places.shape)
        size = x.dtype.itemsize
        _gather(
            *blocks_for(y.size), y.as_integers(size), source.as_integers(size), on_gpu,
            count, rows, width, y.size,
        )  # fmt: skip
    return y


def _shape_of(index: Any, shape: Shape) -> Shape:
    return np.broadcast_to(np.int8(0), shape)[index].shape


def _selected(x: CudaArray, index: _Index) -> CudaArray:
    """What the index's pattern gives, as a view if that is possible."""
    pattern, sizes = index.pattern, index.sizes
    n = math.prod(sizes)
    if n == 0:
        return empty(sizes, x.dtype)
    if _is_block(pattern, sizes):
        return x.block(pattern.start, sizes)
    y = empty(sizes, x.dtype)
    copy(y, whole(sizes), x, pattern, sizes)
    return y


def _is_block(pattern: Pattern, sizes: Shape) -> bool:
    """Whether the elements lie one after another."""
    expected = whole(sizes).steps
    return all(n == 1 or p == q for n, p, q in zip(sizes, pattern.steps, expected))


def _blocks(shape: Shape, places: _Places) -> tuple[int, int, int]:
    """(outer, rows, width): the axes before, of, and behind the places."""
    end = places.axis + places.axes
    parts = shape[: places.axis], shape[places.axis : end], shape[end:]
    outer, rows, width = map(math.prod, parts)
    return outer, rows, width


def _result_shape(shape: Shape, places: _Places) -> Shape:
    return (*shape[: places.axis], *places.shape, *shape[places.axis + places.axes :])


def _as_device(places: np.ndarray | CudaArray) -> CudaArray:
    return places if isinstance(places, CudaArray) else to_device(places)


# --- adding ---------------------------------------------------------------------------------------


@kernel("T* T* i4* i4* i4 i4 i4 i4", threads=THREADS, T=_ADDED)
def _add_runs(y, x, places, order, count, rows, width, n):
    """Adds x[o, order[i], w] to y[o, places[order[i]], w], for `count` places in their order.

    Sorted, equal places are a run: the thread at its first element adds all of them.
    """
    k = cuda.grid(1)
    if k < n:
        line, w = divided(k, width)
        o, i = divided(line, count)
        place = places[order[i]]
        if place >= 0 and (i == 0 or places[order[i - 1]] != place):
            total = read(x, (o * count + order[i]) * width + w)
            i += 1
            while i < count and places[order[i]] == place:
                total += read(x, (o * count + order[i]) * width + w)
                i += 1
            write(y, (o * rows + place) * width + w, total)


def put(x: CudaArray, *, index: Any, shape: Shape) -> CudaArray:
    """The adjoint of `getitem`: zeros of `shape`, with x added at `index`."""
    parsed = _parsed(index, shape)
    if parsed.places is None:
        y = zeros(shape, x.dtype)
        x = broadcast_to(x, shape=_shape_of(index, shape))
        copy(y, parsed.pattern, x, whole(parsed.sizes), parsed.sizes)
        return y
    places = parsed.places
    part = _added(x, places, _ordered(parsed.sizes, places))
    if places.order is not None:
        part = transpose(part, axes=_inverse(places.order))
    if part.shape == shape and _is_block(parsed.pattern, shape):
        return part
    y = zeros(shape, x.dtype)
    copy(y, parsed.pattern, part, whole(parsed.sizes), parsed.sizes)
    return y


def _added(x: CudaArray, places: _Places, sizes: Shape) -> CudaArray:
    y = zeros(sizes, x.dtype)
    x = broadcast_to(x, shape=_result_shape(sizes, places))
    if x.size:
        outer, rows, width = _blocks(sizes, places)
        count = math.prod(places.shape)
        if isinstance(places.places, CudaArray):
            order = order_of(places.places.reshape(1, count))
        else:
            sorted_on_host = np.argsort(places.places.reshape(-1), kind="stable")
            order = to_device(sorted_on_host.astype(np.int32))
        _add_runs(
            *blocks_for(x.size), y, x, _as_device(places.places), order, count, rows, width, x.size
        )
    return y


def _ordered(sizes: Shape, places: _Places) -> Shape:
    return sizes if places.order is None else tuple([sizes[a] for a in places.order])


def _inverse(order: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sorted(range(len(order)), key=order.__getitem__))


# --- replacing ------------------------------------------------------------------------------------


@ptx("atom.global.max.s32 $0, [$1], $2;", "r", "g r")
def _atomic_max(array, i, value):
    """Makes an element the larger of itself and a number; gives what it was."""
    before = array[i]
    array[i] = max(before, value)
    return before


@kernel("i4* i4* i4", threads=THREADS)
def _last_of(winners, places, count):
    """The number of the last element for each place: the order of the threads does not matter."""
    i = cuda.grid(1)
    if i < count:
        if places[i] >= 0:
            _atomic_max(winners, places[i], int32(i))


@kernel("T* T* i4* i4* i4 i4 i4 i4", threads=THREADS, T=_UNITS)
def _scatter(y, x, places, winners, count, rows, width, n):
    """y[o, places[i], w] = x[o, i, w], where i is the last one for its place."""
    k = cuda.grid(1)
    if k < n:
        line, w = divided(k, width)
        o, i = divided(line, count)
        place = places[i]
        if place >= 0 and winners[place] == i:
            y[(o * rows + place) * width + w] = x[k]


def replace(x: CudaArray, new: CudaArray, *, index: Any) -> CudaArray:
    """x, with `new` instead of x[index]; of several elements for one place, the last one."""
    y = x.copy()
    parsed = _parsed(index, x.shape)
    if parsed.places is None:
        shape = _shape_of(index, x.shape)
        new = broadcast_to(_without_leading_ones(new, len(shape)), shape=shape)
        copy(y, parsed.pattern, new, whole(parsed.sizes), parsed.sizes)
        return y
    places = parsed.places
    part = _selected(y, parsed)
    if places.order is not None:
        part = transpose(part, axes=places.order)
    shape = _result_shape(part.shape, places)
    new = broadcast_to(_without_leading_ones(new, len(shape)), shape=shape)
    if new.size:
        outer, rows, width = _blocks(part.shape, places)
        on_gpu, count, size = _as_device(places.places), math.prod(places.shape), x.dtype.itemsize
        winners = full((rows,), -1, "int32")
        _last_of(*blocks_for(count), winners, on_gpu, count)
        _scatter(
            *blocks_for(new.size), part.as_integers(size), new.as_integers(size), on_gpu, winners,
            count, rows, width, new.size,
        )  # fmt: skip
    if places.order is not None:
        part = transpose(part, axes=_inverse(places.order))
    if places.order is not None or not _is_block(parsed.pattern, parsed.sizes):
        copy(y, parsed.pattern, part, whole(parsed.sizes), parsed.sizes)
    return y


def _without_leading_ones(new: CudaArray, ndim: int) -> CudaArray:
    """NumPy lets what is assigned have more axes, of size 1 in front."""
    extra = new.ndim - ndim
    return new.reshape(new.shape[extra:]) if extra > 0 else new


# --- where elements are not zero ------------------------------------------------------------------


@kernel("i8* i8* i4", threads=THREADS)
def _compact(y, numbers, n):
    """Writes i to place numbers[i] - 1, where that is more than the number before."""
    i = cuda.grid(1)
    if i < n:
        before = numbers[i - 1] if i > 0 else 0
        if numbers[i] != before:
            y[numbers[i] - 1] = i


@kernel("i8* i8* i4 i4 i4", threads=THREADS)
def _unravel(y, places, step, size, n):
    """The index along an axis of this step and size."""
    i = cuda.grid(1)
    if i < n:
        y[i] = (places[i] // step) % size


def nonzero(x: CudaArray) -> tuple[CudaArray, ...]:
    """For each axis, the indices of what is not 0. Waits for the GPU to know how many it is."""
    if x.size == 0:
        return tuple([empty((0,), "int64") for _ in x.shape])
    numbers = cumsum(cast(cast(x, bool).reshape(-1), "int64"), 0)
    count = numbers.rows(x.size - 1, x.size).item()
    places = empty((count,), "int64")
    if count:
        _compact(*blocks_for(x.size), places, numbers, x.size)
    return unravel_index(places, x.shape)


def unravel_index(places: CudaArray, shape: Shape) -> tuple[CudaArray, ...]:
    """For each axis, the indices along it of places in the flattened array."""
    indices = []
    for step, size in zip(whole(shape).steps, shape):
        index = empty(places.shape, "int64")
        if places.size:
            _unravel(*blocks_for(places.size), index, places, step, size, places.size)
        indices.append(index)
    return tuple(indices)


# --- arrays made by their indices -----------------------------------------------------------------


@kernel("T* I* i4 i4 i4", threads=THREADS, T=ALL, I=("i4", "i8", "u1"))
def _one_hot(y, x, classes, inner, n):
    """y[o, k, b] = 1 where x[o, b] = k."""
    i = cuda.grid(1)
    if i < n:
        line, b = divided(i, inner)
        o, k = divided(line, classes)
        write(y, i, x[o * inner + b] == k)


def one_hot(x: CudaArray, *, num_classes: int, axis: int, dtype: np.dtype) -> CudaArray:
    axis %= x.ndim + 1
    y = empty((*x.shape[:axis], num_classes, *x.shape[axis:]), dtype)
    if y.size:
        x = x if x.dtype.kind in "iu" and x.dtype.itemsize in (4, 8) else cast(x, "int64")
        _one_hot(*blocks_for(y.size), y, x, num_classes, math.prod(x.shape[axis:]), y.size)
    return y


@kernel("T* T* i4 i4 i4 i4 i4", threads=THREADS, T=_UNITS)
def _triangle(y, x, rows, columns, offset, upper, n):
    """x above (or below) a diagonal, and 0 elsewhere."""
    i = cuda.grid(1)
    if i < n:
        line, column = divided(i, columns)
        _, row = divided(line, rows)
        distance = column - row - offset
        kept = distance >= 0 if upper else distance <= 0
        y[i] = x[i] if kept else like(x[i], 0)


def triu(x: CudaArray, k: int = 0) -> CudaArray:
    return _triangular(x, k, True)


def tril(x: CudaArray, k: int = 0) -> CudaArray:
    return _triangular(x, k, False)


def _triangular(x: CudaArray, k: int, upper: bool) -> CudaArray:
    y, size = empty(x.shape, x.dtype), x.dtype.itemsize
    if x.size:
        arrays = y.as_integers(size), x.as_integers(size)
        _triangle(*blocks_for(x.size), *arrays, *x.shape[-2:], k, upper, x.size)
    return y
