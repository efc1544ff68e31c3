"""Functions that move elements without changing them: reshape, transpose, pad, repeat, flip.

A few pairs of ops carry everything: reshape and reshape, transpose and its inverse, broadcast_to
and sum_to, getitem and put. The others are made of them, so they need no derivative of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from minitorch_ciml import kernels
from minitorch_ciml.autograd.engine import Op
from minitorch_ciml.autograd.tensor import Tensor, as_tensor
from minitorch_ciml.autograd.tensor import broadcast_to as _broadcast_to
from minitorch_ciml.ops.axes import Axis, check_axis, several
from minitorch_ciml.ops.indexing import (
    ALL,
    _getitem,
    _put,
    _replace,
    integers,
    take,
)

__all__ = [
    "broadcast_to", "diag", "diagflat", "diagonal", "expand_dims", "flatten", "flip", "fliplr",
    "flipud", "meshgrid", "moveaxis", "pad", "ravel", "repeat", "reshape", "roll", "rot90",
    "squeeze", "swapaxes", "tile", "transpose",
]  # fmt: skip

Shape = tuple[int, ...]

# --- the ops ------------------------------------------------------------------------------------

_reshape: Op = Op(
    "reshape",
    lambda g, y, x, shape: _reshape(g, shape=x.shape),
    gradient_kernel=True,
    doc="The elements of x, in the same order, in another shape.",
)
_squeeze = Op("squeeze", lambda g, y, x, axis: _reshape(g, shape=x.shape), doc="Drops axes.")
_expand_dims = Op(
    "expand_dims", lambda g, y, x, axis: _reshape(g, shape=x.shape), doc="New axes of size 1."
)
_transpose: Op = Op(
    "transpose",
    lambda g, y, x, axes: _transpose(g, axes=axes and inverse_order(axes)),
    gradient_kernel=True,
    doc="x with its axes in the order `axes`; reversed if None.",
)
_swapaxes: Op = Op(
    "swapaxes",
    lambda g, y, x, axis1, axis2: _swapaxes(g, axis1=axis1, axis2=axis2),
    doc="x with two axes exchanged.",
)
_roll: Op = Op(
    "roll",
    lambda g, y, x, shift, axis: _roll(g, shift=_negated(shift), axis=axis),
    doc="x, with elements shifted along axes; those that leave come in again at the other end.",
)


def inverse_order(order: Shape) -> Shape:
    return tuple(sorted(range(len(order)), key=order.__getitem__))


def _negated(shift: Any) -> Any:
    return -shift if isinstance(shift, int) else tuple([-s for s in shift])


# --- one tensor, another shape ------------------------------------------------------------------


def reshape(x: Any, newshape: int | Sequence[int]) -> Tensor:
    """The elements of `x`, in row-major order, as `newshape`; one size may be -1: what remains.

    Raises:
        ValueError: the numbers of elements differ.
    """
    return _reshape(x, shape=newshape if type(newshape) is int else tuple(newshape))  # type: ignore[arg-type]


def ravel(x: Any) -> Tensor:
    """`x` with one dimension."""
    return _reshape(x, shape=-1)


flatten = ravel


def transpose(x: Any, axes: Sequence[int] | None = None) -> Tensor:
    """`x` with its axes in the order `axes`: result axis i is axis axes[i] of `x`.

    Args:
        x: a tensor.
        axes: a permutation of the axes; None reverses them.
    """
    if axes is None:
        return _transpose(x, axes=None)
    x = as_tensor(x)
    return _transpose(x, axes=_order(tuple(axes), x.shape))


@lru_cache(maxsize=256)
def _order(axes: Shape, shape: Shape) -> Shape:
    """`axes`, counted from the front."""
    ndim = len(shape)
    order = tuple([axis % ndim for axis in axes])
    if sorted(order) != list(range(ndim)) or any(not -ndim <= a < ndim for a in axes):
        raise ValueError(
            f"transpose: got axes {axes} for shape {shape}, expected each of 0 to {ndim - 1} once."
        )
    return order


def swapaxes(x: Any, axis1: int, axis2: int) -> Tensor:
    """`x` with two axes exchanged."""
    return _swapaxes(x, axis1=axis1, axis2=axis2)


def moveaxis(x: Any, source: int | Sequence[int], destination: int | Sequence[int]) -> Tensor:
    """`x` with the axes `source` moved to `destination`; the others keep their order."""
    x = as_tensor(x)
    sources = [check_axis(a, x.ndim, "moveaxis") for a in several(source)]
    places = [check_axis(a, x.ndim, "moveaxis") for a in several(destination)]
    if len(set(sources)) != len(sources) or len(set(places)) != len(sources):
        raise ValueError(
            f"moveaxis: got source {source} and destination {destination}, expected equally many "
            "axes, each once."
        )
    order = [a for a in range(x.ndim) if a not in sources]
    for place, axis in sorted(zip(places, sources)):
        order.insert(place, axis)
    return _transpose(x, axes=tuple(order))


def squeeze(x: Any, axis: Axis = None) -> Tensor:
    """`x` without its axes of size 1, or without those named.

    Raises:
        ValueError: a named axis has another size.
    """
    return _squeeze(x, axis=axis if axis is None else tuple(several(axis)))


def expand_dims(x: Any, axis: int | Sequence[int]) -> Tensor:
    """`x` with new axes of size 1 at the positions `axis` of the result."""
    return _expand_dims(x, axis=axis if isinstance(axis, int) else tuple(axis))


def broadcast_to(x: Any, shape: Sequence[int]) -> Tensor:
    """`x` repeated along new axes in front and along axes of size 1 until it has `shape`."""
    return _broadcast_to(x, shape=tuple(shape))


# --- padding and repeating ----------------------------------------------------------------------


def pad(
    x: Any,
    pad_width: int | Sequence,
    mode: str = "constant",
    constant_values: float | None = None,
) -> Tensor:
    """`x` with elements added before and after, along each axis.

    Args:
        x: a tensor.
        pad_width: ((before, after), ...) for each axis; (before, after) or one number for all.
        mode: 'constant', or where the new elements come from: 'reflect' (mirrored at the edge
            element), 'symmetric' (mirrored behind it), 'edge' (the edge element) or 'wrap'.
        constant_values: for the mode 'constant'; 0 if left out.
    """
    x = as_tensor(x)
    try:
        widths = np.broadcast_to(pad_width, (x.ndim, 2)).tolist()
    except ValueError:
        raise ValueError(
            f"pad: got pad_width {pad_width}, expected (before, after) for each of the {x.ndim} "
            "axes, or one pair or number for all."
        ) from None
    if any(n < 0 for width in widths for n in width):
        raise ValueError(f"pad: got pad_width {pad_width}, expected no negative widths.")
    if mode == "constant":
        shape = tuple([n + before + after for n, (before, after) in zip(x.shape, widths)])
        index = tuple([slice(before, before + n) for n, (before, _) in zip(x.shape, widths)])
        if not constant_values:
            return _put(x, index=index, shape=shape)
        return _replace(np.full(shape, constant_values, x.dtype), x, index=index)
    if mode not in ("reflect", "symmetric", "edge", "wrap"):
        raise ValueError(
            f"pad: got mode {mode!r}, expected 'constant', 'reflect', 'symmetric', 'edge' or "
            "'wrap'."
        )
    if constant_values is not None:
        raise ValueError(f"pad: constant_values is only for mode 'constant', got mode {mode!r}.")
    for axis, width in enumerate(widths):
        if width != [0, 0]:
            source = np.pad(np.arange(x.shape[axis]), width, mode=mode)  # type: ignore[call-overload]
            x = take(x, source, axis)
    return x


def repeat(x: Any, repeats: int | Sequence[int], axis: int | None = None) -> Tensor:
    """Each element of `x` several times in a row along `axis`; of the flattened `x` if it is None.

    Args:
        x: a tensor.
        repeats: how often; one number for all, or one per element.
        axis: along which axis.
    """
    x = as_tensor(x)
    if axis is None:
        x, axis = x.reshape(-1), 0
    axis = check_axis(axis, x.ndim, "repeat")
    n = x.shape[axis]
    if not isinstance(repeats, int):
        counts = kernels.place(integers(repeats, "repeat"), "cpu")  # they decide the shape
        if counts.size != 1:
            return take(x, _repeated(np.arange(n), counts), axis)
        repeats = int(counts.item())
    if repeats < 0:
        raise ValueError(f"repeat: got {repeats} repeats, expected none that is negative.")
    before, after = x.shape[: axis + 1], x.shape[axis + 1 :]
    repeated = _broadcast_to(
        _reshape(x, shape=(*before, 1, *after)), shape=(*before, repeats, *after)
    )
    return _reshape(repeated, shape=(*before[:-1], n * repeats, *after))


def _repeated(places: np.ndarray, counts: np.ndarray) -> np.ndarray:
    if counts.shape != places.shape:
        raise ValueError(
            f"repeat: got repeats of shape {counts.shape} for {places.size} elements; expected one "
            "number, or one per element."
        )
    if (counts < 0).any():
        raise ValueError(f"repeat: got {counts.min()} repeats, expected none that is negative.")
    return np.repeat(places, counts)


def tile(x: Any, repeats: int | Sequence[int]) -> Tensor:
    """`x` repeated as a whole, repeats[i] times along axis i.

    Axes of size 1 are put in front of `x` if there are more repeats than axes, and repeats of 1 in
    front of them if there are fewer.
    """
    x = as_tensor(x)
    times = tuple(several(repeats))
    times = (1,) * (x.ndim - len(times)) + times
    sizes = (1,) * (len(times) - x.ndim) + x.shape
    apart = [n for size in sizes for n in (1, size)]
    wide = tuple([n for pair in zip(times, sizes) for n in pair])
    tiled = _broadcast_to(x.reshape(*apart), shape=wide)
    return _reshape(tiled, shape=tuple([t * n for t, n in zip(times, sizes)]))


def meshgrid(*x: Any, indexing: str = "xy") -> list[Tensor]:
    """Coordinates of a grid: each vector, repeated along the axes of all the others.

    Args:
        *x: vectors or numbers.
        indexing: 'ij': vector i runs along axis i; 'xy': the first two are exchanged.
    """
    if indexing not in ("xy", "ij"):
        raise ValueError(f"meshgrid: got indexing {indexing!r}, expected 'xy' or 'ij'.")
    vectors = [ravel(v) for v in x]
    places = list(range(len(vectors)))
    if indexing == "xy" and len(vectors) > 1:
        places[:2] = [1, 0]
    shape = [0] * len(vectors)
    for place, v in zip(places, vectors):
        shape[place] = v.size
    return [
        _broadcast_to(
            _reshape(v, shape=(-1,) + (1,) * (len(shape) - 1 - place)), shape=tuple(shape)
        )
        for place, v in zip(places, vectors)
    ]


# --- reversing and rotating ---------------------------------------------------------------------


def flip(x: Any, axis: Axis = None) -> Tensor:
    """`x` with the order of its elements reversed along `axis`; along all axes if it is None."""
    x = as_tensor(x)
    axes = [check_axis(a, x.ndim, "flip") for a in several(range(x.ndim) if axis is None else axis)]
    backwards = slice(None, None, -1)
    return _getitem(x, index=tuple([backwards if i in axes else ALL for i in range(x.ndim)]))


def fliplr(x: Any) -> Tensor:
    """`x` with the order of its columns (axis 1) reversed."""
    return flip(x, 1)


def flipud(x: Any) -> Tensor:
    """`x` with the order of its rows (axis 0) reversed."""
    return flip(x, 0)


def roll(x: Any, shift: int | Sequence[int], axis: Axis = None) -> Tensor:
    """`x` with its elements shifted along `axis`; those that leave come in at the other end.

    Args:
        x: a tensor.
        shift: by how many places; a tuple for several axes.
        axis: along which axes; None shifts the flattened `x` and restores its shape.
    """
    return _roll(
        x,
        shift=shift if isinstance(shift, int) else tuple(shift),
        axis=axis if axis is None or isinstance(axis, int) else tuple(axis),
    )


def rot90(array: Any, k: int = 1, axes: tuple[int, int] = (0, 1)) -> Tensor:
    """`array` rotated by k times 90 degrees, from the first of `axes` towards the second."""
    x = as_tensor(array)
    first, second = [check_axis(a, x.ndim, "rot90") for a in axes]
    if first == second:
        raise ValueError(f"rot90: got axes {axes}, expected two different ones.")
    if k % 4 == 0:
        return as_tensor(array)
    if k % 4 == 2:
        return flip(x, (first, second))
    if k % 4 == 1:
        return _swapaxes(flip(x, second), axis1=first, axis2=second)
    return flip(_swapaxes(x, axis1=first, axis2=second), second)


# --- diagonals ----------------------------------------------------------------------------------


def diagonal(x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
    """The elements x[i, i + offset] of the two axes, as a new last axis."""
    x = as_tensor(x)
    if x.ndim < 2:
        raise ValueError(f"diagonal: got shape {x.shape}, expected at least 2 dimensions.")
    axis1, axis2 = [check_axis(a, x.ndim, "diagonal") for a in (axis1, axis2)]
    if axis1 == axis2:
        raise ValueError(f"diagonal: got axis {axis1} twice, expected two different axes.")
    order = [a for a in range(x.ndim) if a not in (axis1, axis2)]
    if (*order, axis1, axis2) != tuple(range(x.ndim)):
        x = _transpose(x, axes=(*order, axis1, axis2))
    return _getitem(x, index=(ALL,) * len(order) + _diagonal_index(x.shape[-2:], offset))


def diag(x: Any, k: int = 0) -> Tensor:
    """From a vector the matrix with it on the diagonal `k`; from a matrix its diagonal `k`."""
    x = as_tensor(x)
    if x.ndim == 2:
        return diagonal(x, k)
    if x.ndim != 1:
        raise ValueError(f"diag: got shape {x.shape}, expected a vector or a matrix.")
    n = x.size + abs(k)
    return _put(x, index=_diagonal_index((n, n), k), shape=(n, n))


def diagflat(x: Any, k: int = 0) -> Tensor:
    """The matrix with the elements of `x` on the diagonal `k`."""
    return diag(ravel(x), k)


def _diagonal_index(shape: Shape, offset: int) -> tuple[np.ndarray, np.ndarray]:
    rows, columns = shape
    start = max(-offset, 0)
    i = np.arange(start, max(start, min(rows, columns - offset)))
    return i, i + offset
