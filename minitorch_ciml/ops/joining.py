"""Joining tensors, and cutting them into parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from minitorch_ciml.autograd.engine import Op
from minitorch_ciml.autograd.tensor import Tensor, as_tensor
from minitorch_ciml.autograd.tensor import stack as _stack
from minitorch_ciml.ops.axes import check_axis
from minitorch_ciml.ops.indexing import ALL, _getitem
from minitorch_ciml.ops.shape import ravel

__all__ = [
    "append", "array_split", "concatenate", "dsplit", "dstack", "hsplit", "hstack", "split",
    "stack", "unstack", "vsplit", "vstack",
]  # fmt: skip


def _concatenate_rule(g, y, *xs, needs, axis):
    front = (ALL,) * (axis % y.ndim)
    parts = []
    start = 0
    for x, need in zip(xs, needs):
        stop = start + x.shape[axis]
        parts.append(_getitem(g, index=(*front, slice(start, stop))) if need else None)
        start = stop
    return parts


_concatenate = Op(
    "concatenate", joint=_concatenate_rule, dtypes="common", doc="Joins along an existing axis."
)


# --- joining --------------------------------------------------------------------------------------


def concatenate(xs: Any, axis: int = 0) -> Tensor:
    """Joins tensors along an existing axis; the other sizes must be equal.

    Raises:
        ValueError: there are none, or the shapes do not fit.
    """
    return _concatenate(*_some(xs, "concatenate"), axis=axis)


def stack(x: Any, axis: int = 0) -> Tensor:
    """Joins tensors of one shape along a new axis, which is `axis` of the result."""
    return _stack(*_some(x, "stack"), axis=axis)


def vstack(xs: Any) -> Tensor:
    """Joins tensors along the first axis; one with 1 dimension counts as a row."""
    tensors = [as_tensor(x) for x in _some(xs, "vstack")]
    return _concatenate(*[x.reshape(1, -1) if x.ndim < 2 else x for x in tensors], axis=0)


def hstack(xs: Any) -> Tensor:
    """Joins tensors along the second axis, or along the only one."""
    tensors = [as_tensor(x) for x in _some(xs, "hstack")]
    tensors = [x.reshape(1) if x.ndim == 0 else x for x in tensors]
    return _concatenate(*tensors, axis=0 if tensors[0].ndim == 1 else 1)


def dstack(xs: Any) -> Tensor:
    """Joins tensors along the third axis, after (N,) became (1, N, 1) and (M, N) (M, N, 1)."""
    tensors = [as_tensor(x) for x in _some(xs, "dstack")]
    deep = [
        x.reshape(1, -1, 1) if x.ndim < 2 else x.reshape(*x.shape, 1) if x.ndim == 2 else x
        for x in tensors
    ]
    return _concatenate(*deep, axis=2)


def append(x1: Any, x2: Any, axis: int | None = None) -> Tensor:
    """`x1`, then `x2`, along `axis`; both flattened if it is None."""
    if axis is None:
        return _concatenate(ravel(x1), ravel(x2), axis=0)
    return _concatenate(x1, x2, axis=axis)


def _some(xs: Any, caller: str) -> list:
    tensors = list(xs)
    if not tensors:
        raise ValueError(f"{caller}: got no tensors, expected at least one.")
    return tensors


# --- splitting ------------------------------------------------------------------------------------


def split(x: Any, indices_or_sections: int | Sequence[int], axis: int = 0) -> list[Tensor]:
    """Cuts `x` along `axis`: into equal parts, or before each of the given indices.

    Args:
        x: a tensor.
        indices_or_sections: the number of parts, or where to cut.
        axis: along which axis.

    Raises:
        ValueError: the axis does not divide into so many equal parts (see `array_split`).
    """
    x = as_tensor(x)
    axis = check_axis(axis, x.ndim, "split")
    if isinstance(indices_or_sections, int) and x.shape[axis] % max(indices_or_sections, 1):
        raise ValueError(
            f"split: axis {axis} of shape {x.shape} does not divide into {indices_or_sections} "
            "equal parts; use array_split for parts of different sizes."
        )
    return array_split(x, indices_or_sections, axis)


def array_split(x: Any, indices_or_sections: int | Sequence[int], axis: int = 0) -> list[Tensor]:
    """Cuts `x` along `axis`; where the parts cannot be equal, the first ones are longer by 1."""
    x = as_tensor(x)
    axis = check_axis(axis, x.ndim, "array_split")
    n = x.shape[axis]
    if isinstance(indices_or_sections, int):
        parts = indices_or_sections
        if parts < 1:
            raise ValueError(f"array_split: got {parts} parts, expected at least 1.")
        cuts = [i * (n // parts) + min(i, n % parts) for i in range(1, parts)]
    else:
        cuts = [int(i) for i in indices_or_sections]
    front = (ALL,) * axis
    return [
        _getitem(x, index=(*front, slice(start, stop)))
        for start, stop in zip([0, *cuts], [*cuts, n])
    ]


def vsplit(x: Any, indices_or_sections: int | Sequence[int]) -> list[Tensor]:
    """Cuts `x` along its first axis; see `split`."""
    return split(x, indices_or_sections, 0)


def hsplit(x: Any, indices_or_sections: int | Sequence[int]) -> list[Tensor]:
    """Cuts `x` along its second axis, or its only one; see `split`."""
    x = as_tensor(x)
    return split(x, indices_or_sections, 0 if x.ndim == 1 else 1)


def dsplit(x: Any, indices_or_sections: int | Sequence[int]) -> list[Tensor]:
    """Cuts `x` along its third axis; see `split`."""
    return split(x, indices_or_sections, 2)


def unstack(x: Any, num: int | None = None, axis: int = 0) -> list[Tensor]:
    """The slices of `x` along `axis`, without that axis.

    Args:
        num: the size of the axis, if one wants it checked.
    """
    x = as_tensor(x)
    axis = check_axis(axis, x.ndim, "unstack")
    if num is not None and num != x.shape[axis]:
        raise ValueError(f"unstack: got num={num}, but axis {axis} of shape {x.shape} has another.")
    front = (ALL,) * axis
    return [_getitem(x, index=(*front, i)) for i in range(x.shape[axis])]
