"""Sizes of vectors and matrices, and distances."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minitorch_ciml.autograd.arithmetic import absolute, not_equal, where
from minitorch_ciml.autograd.engine import Op
from minitorch_ciml.autograd.tensor import Tensor, as_tensor
from minitorch_ciml.ops.axes import check_axis
from minitorch_ciml.ops.decompositions import svd
from minitorch_ciml.ops.reduce import max as _max
from minitorch_ciml.ops.reduce import min as _min
from minitorch_ciml.ops.reduce import sum as _sum
from minitorch_ciml.ops.shape import _expand_dims, _squeeze, moveaxis

__all__ = ["cdist", "norm"]

_vector_norm = Op(
    "vector_norm",
    lambda g, y, x, axis: g * x / where(y == 0, 1.0, y),
    dtypes="float",
    doc="y = sqrt(sum of x^2), with the summed axes kept. The derivative at 0 is taken as 0.",
)


def norm(
    x: Any,
    ord: int | float | str | None = None,
    axis: int | Sequence[int] | None = None,
    keepdims: bool = False,
) -> Tensor:
    """The size of vectors or matrices.

    Args:
        x: a tensor.
        ord: None: the root of the sum of squares. For vectors, p: (sum of |x|^p)^(1/p), inf: the
            largest |x|, -inf: the smallest, 0: how many are not zero. For matrices, 'fro': as None,
            1 and -1: the largest and smallest sum of |x| in a column, inf and -inf: in a row, 2 and
            -2: the largest and smallest singular value, 'nuc': the sum of them all.
        axis: one axis for vectors, two for matrices; None for all of `x`.
        keepdims: keep the reduced axes with size 1.

    Raises:
        ValueError: there is no such norm.
    """
    x = as_tensor(x)
    if axis is None:
        axes = tuple(range(x.ndim))
        if ord is not None and x.ndim not in (1, 2):
            raise ValueError(
                f"norm: got shape {x.shape} and ord={ord!r}; pass one axis or two with `axis`."
            )
    else:
        given = (axis,) if isinstance(axis, int) else axis
        axes = tuple([check_axis(a, x.ndim, "norm") for a in given])
    if ord is None or (ord == 2 and len(axes) == 1) or (ord == "fro" and len(axes) == 2):
        y = _vector_norm(x, axis=axes)
        return y if keepdims else _squeeze(y, axis=axes)
    if len(axes) == 1 and not isinstance(ord, str):
        return _p_norm(x, ord, axes[0], keepdims)
    if len(axes) == 2 and ord in (1, -1, np.inf, -np.inf):
        row, column = axes
        summed, other = (row, column) if ord in (1, -1) else (column, row)
        sums = _sum(absolute(x), axis=summed, keepdims=True)
        y = (_max if ord > 0 else _min)(sums, axis=other, keepdims=True)  # type: ignore[operator]
        return y if keepdims else _squeeze(y, axis=axes)
    if len(axes) == 2 and ord in _SPECTRAL:
        s = svd(moveaxis(x, axes, (-2, -1)), compute_uv=False)
        y = _SPECTRAL[ord](s, axis=-1)
        return _expand_dims(y, axis=axes) if keepdims else y
    raise ValueError(
        f"norm: got ord={ord!r} for {len(axes)} axes, expected a number for one axis, or None, "
        "'fro', 'nuc', 1, -1, 2, -2, inf or -inf for two."
    )


# Norms made of the singular values.
_SPECTRAL: dict[Any, Callable] = {2: _max, -2: _min, "nuc": _sum}


def _p_norm(x: Tensor, p: int | float, axis: int, keepdims: bool) -> Tensor:
    if p == 0:
        return _sum(not_equal(x, 0).astype(x.dtype), axis=axis, keepdims=keepdims)
    size = absolute(x)
    if abs(p) == np.inf:
        return (_max if p > 0 else _min)(size, axis=axis, keepdims=keepdims)
    if p == 1:
        return _sum(size, axis=axis, keepdims=keepdims)
    total: Any = _sum(size**p, axis=axis, keepdims=keepdims)
    return total ** (1 / p)


def cdist(x: Any, y: Any) -> Tensor:
    """d[..., i, j] = |x[..., i, :] - y[..., j, :]|: the distance of every vector to every other.

    Args:
        x: (..., M, D).
        y: (..., N, D).

    Returns:
        Floats (..., M, N). Where it is 0, the gradient is taken as 0.
    """
    a, b = as_tensor(x), as_tensor(y)
    if a.ndim < 2 or b.ndim < 2 or a.shape[-1] != b.shape[-1]:
        raise ValueError(
            f"cdist: got shapes {a.shape} and {b.shape}, expected (..., M, D) and (..., N, D)."
        )
    return norm(_expand_dims(a, axis=-2) - _expand_dims(b, axis=-3), axis=-1)
