"""Quantiles, sums and extremes that pass over nan, and what compares rows of numbers.

`axis` and `keepdims` are as in `ops/reduce.py`. All is made of other ops, so gradients flow where
there are any: from a quantile to the one or two elements that it lies between.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from minitorch_ciml import kernels
from minitorch_ciml.autograd.arithmetic import equal, maximum, not_equal, sqrt, where
from minitorch_ciml.autograd.tensor import FLOATS, Tensor, as_tensor
from minitorch_ciml.ops.axes import Axes, Axis, check_axes, check_axis, kept_shape
from minitorch_ciml.ops.conv import conv
from minitorch_ciml.ops.creation import cast, floats, wide
from minitorch_ciml.ops.indexing import ALL, _getitem, take_along_axis
from minitorch_ciml.ops.linalg import diagonal, matmul
from minitorch_ciml.ops.math import ceil, floor, isnan, logical_not, round
from minitorch_ciml.ops.order import sort
from minitorch_ciml.ops.reduce import (
    all,
    argmax,
    argmin,
    cumprod,
    cumsum,
    max,
    mean,
    min,
    prod,
    sum,
)
from minitorch_ciml.ops.shape import _reshape, _transpose, flip, moveaxis, pad

__all__ = [
    "corrcoef", "correlate", "diff", "median", "nanargmax", "nanargmin", "nancumprod", "nancumsum",
    "nanmax", "nanmean", "nanmedian", "nanmin", "nanpercentile", "nanprod", "nanquantile",
    "nanstd", "nansum", "nanvar", "percentile", "quantile", "trapezoid",
]  # fmt: skip


# --- quantiles ----------------------------------------------------------------------------------

# The value between two neighbours a <= b, where `share` of the way has been gone.
_METHODS: dict[str, Callable] = {
    # Where the share is 0, b - a may be infinity less infinity.
    "linear": lambda a, b, share: a + (where(share == 0, 0, b) - where(share == 0, 0, a)) * share,
    "lower": lambda a, b, share: a,
    "higher": lambda a, b, share: b,
    "midpoint": lambda a, b, share: (a + b) / 2,
}


def quantile(
    x: Any, q: Any, axis: Axis = None, method: str = "linear", keepdims: bool = False
) -> Tensor:
    """The value below which a share `q` of the elements of `x` along `axis` lies.

    Sorted, the elements are counted from 0 to n - 1; y is what stands at the place q (n - 1). It
    is nan where some element is.

    Args:
        x: a tensor; integers are computed as floats.
        q: a number from 0 to 1, or several.
        axis: which axes to reduce; None: all of them.
        method: if the place is between two elements: 'linear' (in proportion), 'lower', 'higher',
            'midpoint' (their mean) or 'nearest' (the element at the nearest place, an even one
            if both are as near).
        keepdims: keep the reduced axes, with size 1.

    Returns:
        One value for each q, in the shape of `q`, in front of the axes that remain.

    Raises:
        ValueError: q is not from 0 to 1, the method is unknown, or there are no elements.
    """
    return _quantile("quantile", x, q, axis, method, keepdims)


def nanquantile(
    x: Any, q: Any, axis: Axis = None, method: str = "linear", keepdims: bool = False
) -> Tensor:
    """As `quantile`, of the elements that are not nan; nan where there are none."""
    return _quantile("nanquantile", x, q, axis, method, keepdims, over_nan=True)


def percentile(
    x: Any, q: Any, axis: Axis = None, method: str = "linear", keepdims: bool = False
) -> Tensor:
    """As `quantile`, with `q` from 0 to 100."""
    return _quantile("percentile", x, q, axis, method, keepdims, whole=100)


def nanpercentile(
    x: Any, q: Any, axis: Axis = None, method: str = "linear", keepdims: bool = False
) -> Tensor:
    """As `nanquantile`, with `q` from 0 to 100."""
    return _quantile("nanpercentile", x, q, axis, method, keepdims, whole=100, over_nan=True)


def median(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The element in the middle of the sorted ones, or the mean of the two in the middle."""
    return _quantile("median", x, 0.5, axis, "linear", keepdims)


def nanmedian(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """As `median`, of the elements that are not nan; nan where there are none."""
    return _quantile("nanmedian", x, 0.5, axis, "linear", keepdims, over_nan=True)


def _quantile(
    name: str, x: Any, q: Any, axis: Axis, method: str, keepdims: bool,
    whole: float = 1, over_nan: bool = False,
) -> Tensor:  # fmt: skip
    if method not in _METHODS and method != "nearest":
        raise ValueError(f"{name}: got method {method!r}, expected {[*_METHODS, 'nearest']}.")
    given = kernels.to_host(q.value) if isinstance(q, Tensor) else q  # a few numbers
    shares = np.asarray(given, np.float64) / whole
    if not ((shares >= 0) & (shares <= 1)).all():
        raise ValueError(f"{name}: got q = {q}, expected numbers from 0 to {whole}.")
    x = floats(x)
    axes = check_axes(axis, x.ndim, name)
    ordered = sort(_line(x, axes, name))  # nan comes last
    places, absent = _places(ordered, shares.reshape(-1), over_nan)
    if method == "nearest":
        y = take_along_axis(ordered, cast(round(places), "int64"), -1)
    else:
        below = floor(places)
        a, b = [take_along_axis(ordered, cast(i, "int64"), -1) for i in (below, ceil(places))]
        y = _METHODS[method](a, b, cast(places - below, x.dtype))
    y = moveaxis(where(absent, math.nan, y), -1, 0)
    rest = [n for i, n in enumerate(x.shape) if i not in axes]
    return _reshape(
        y, shape=shares.shape + (kept_shape(x.shape, axes) if keepdims else tuple(rest))
    )


def _line(x: Tensor, axes: Axes, name: str) -> Tensor:
    """`x` with `axes` as one axis, the last."""
    rest = [i for i in range(x.ndim) if i not in axes]
    sizes = tuple([x.shape[i] for i in rest])
    n = math.prod([x.shape[i] for i in axes])
    if n == 0:
        raise ValueError(f"{name}: shape {x.shape} has no elements along axis {axes}.")
    return _reshape(_transpose(x, axes=(*rest, *axes)), shape=(*sizes, n))


def _places(ordered: Tensor, shares: np.ndarray, over_nan: bool) -> tuple[Tensor, Tensor]:
    """Where the quantiles are along the last axis, and where there are none."""
    missing = isnan(ordered)
    if not over_nan:
        ones = (1,) * (ordered.ndim - 1)
        places = as_tensor((shares * (ordered.shape[-1] - 1)).reshape(*ones, -1))
        return places.to(ordered.device), missing[..., -1:]
    last = sum(logical_not(missing), -1, keepdims=True) - 1
    return maximum(last, 0) * as_tensor(shares).to(ordered.device), last < 0


# --- over nan -----------------------------------------------------------------------------------


def _filled(x: Any, instead: float) -> Tensor:
    """`x` with a number instead of nan, through which no gradient flows."""
    x = as_tensor(x)
    return where(isnan(x), instead, x) if x.dtype.kind in FLOATS else x


def nansum(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """As `sum`, of the elements that are not nan."""
    return sum(_filled(x, 0.0), axis, keepdims)


def nanprod(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """As `prod`, of the elements that are not nan."""
    return prod(_filled(x, 1.0), axis, keepdims)


def nancumsum(x: Any, axis: int | None = None, dtype: Any = None) -> Tensor:
    """As `cumsum`, with 0 instead of nan."""
    return cumsum(_filled(x, 0.0), axis, dtype)


def nancumprod(x: Any, axis: int | None = None, dtype: Any = None) -> Tensor:
    """As `cumprod`, with 1 instead of nan."""
    return cumprod(_filled(x, 1.0), axis, dtype)


def nanmean(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """As `mean`, of the elements that are not nan; nan where there are none."""
    x = floats(x)
    return nansum(x, axis, keepdims) / _number(x, axis, keepdims)


def nanvar(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """As `var`, of the elements that are not nan; nan where there are none."""
    x = floats(x)
    apart = where(isnan(x), 0.0, x - nanmean(x, axis, keepdims=True))
    return sum(apart * apart, axis, keepdims) / _number(x, axis, keepdims)


def nanstd(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """As `std`, of the elements that are not nan; nan where there are none."""
    variance = nanvar(x, axis, keepdims)
    constant = equal(variance, 0)
    return where(constant, 0.0, sqrt(where(constant, 1.0, variance)))


def _number(x: Tensor, axis: Axis, keepdims: bool) -> Tensor:
    """How many elements are not nan; nan for none."""
    n = cast(sum(logical_not(isnan(x)), axis, keepdims), x.dtype)
    return where(n == 0, math.nan, n)


def nanmax(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """As `max`, of the elements that are not nan; nan where there are none."""
    return _extreme(max, x, axis, keepdims, -math.inf)


def nanmin(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """As `min`, of the elements that are not nan; nan where there are none."""
    return _extreme(min, x, axis, keepdims, math.inf)


def _extreme(function: Callable, x: Any, axis: Axis, keepdims: bool, instead: float) -> Tensor:
    x = as_tensor(x)
    y = function(_filled(x, instead), axis, keepdims)
    return where(all(isnan(x), axis, keepdims), math.nan, y) if x.dtype.kind in FLOATS else y


def nanargmax(x: Any, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """As `argmax`, among the elements that are not nan; -1 where there are none."""
    return _place(argmax, x, axis, keepdims, -math.inf)


def nanargmin(x: Any, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """As `argmin`, among the elements that are not nan; -1 where there are none."""
    return _place(argmin, x, axis, keepdims, math.inf)


def _place(function: Callable, x: Any, axis: Any, keepdims: bool, instead: float) -> Tensor:
    x = as_tensor(x)
    return where(all(isnan(x), axis, keepdims), -1, function(_filled(x, instead), axis, keepdims))


# --- neighbours, and rows of numbers ------------------------------------------------------------


def diff(a: Any, n: int = 1, axis: int = -1) -> Tensor:
    """y_i = a_(i+1) - a_i along `axis`, `n` times; for booleans, whether the two differ.

    Raises:
        ValueError: `a` has no axes, or n is negative.
    """
    y = as_tensor(a)
    front = (ALL,) * check_axis(axis, y.ndim, "diff")
    if n < 0:
        raise ValueError(f"diff: got n={n}, expected 0 or more.")
    for _ in range(n):
        later, earlier = [_getitem(y, index=(*front, part)) for part in np.s_[1:, :-1]]
        y = not_equal(later, earlier) if y.dtype.kind == "b" else later - earlier
    return y


def trapezoid(y: Any, x: Any = None, dx: float = 1.0, axis: int = -1) -> Tensor:
    """The integral along `axis` by the trapezoidal rule: the sum of dx (y_i + y_(i+1)) / 2.

    Args:
        y: the function's values.
        x: where they are: (N,), or in the shape of `y`.
        dx: the distance between them, if there is no `x`.
        axis: along which axis.
    """
    y = moveaxis(floats(y), axis, -1)
    if x is not None:
        x = as_tensor(x)
        dx = diff(x if x.ndim == 1 else moveaxis(x, axis, -1))  # type: ignore[assignment]
    return sum((y[..., 1:] + y[..., :-1]) * dx, -1) / 2


def corrcoef(x: Any) -> Tensor:
    """The correlation of every row of `x` with every other: y = c_ij / sqrt(c_ii c_jj).

    Args:
        x: (R, N): R quantities, measured N times; or (N,), which gives 1.

    Returns:
        Floats (R, R) from -1 to 1, where c is the covariance; nan for a row that is constant.
    """
    given = floats(x)
    x = wide(given)  # what is left of covariances that cancel would have no digit in 16 bits
    if x.ndim not in (1, 2):
        raise ValueError(f"corrcoef: got shape {x.shape}, expected (R, N) or (N,).")
    rows = x if x.ndim == 2 else _reshape(x, shape=(1, -1))
    apart = rows - mean(rows, 1, keepdims=True)
    covariance = matmul(apart, apart.T)
    spread = sqrt(diagonal(covariance))
    y = covariance / (_reshape(spread, shape=(-1, 1)) * spread)
    return cast(y if x.ndim == 2 else _reshape(y, shape=()), given.dtype)


def correlate(x1: Any, x2: Any, mode: str = "valid") -> Tensor:
    """y_k = sum over n of x1[n + k] x2[n]: how alike two sequences are, shifted against each other.

    Args:
        x1, x2: (M,) and (N,).
        mode: which shifts k: 'valid': where the shorter one lies inside the longer; 'same': as many
            as the longer is long; 'full': where they overlap at all.

    Returns:
        |M - N| + 1, max(M, N) or M + N - 1 numbers.
    """
    a, b = as_tensor(x1), as_tensor(x2)
    if a.ndim != 1 or b.ndim != 1 or not a.size or not b.size:
        raise ValueError(
            f"correlate: got shapes {a.shape} and {b.shape}, expected two sequences of numbers."
        )
    if mode not in ("valid", "same", "full"):
        raise ValueError(f"correlate: got mode {mode!r}, expected 'valid', 'same' or 'full'.")
    if a.size < b.size:  # the same products, with the shifts in the other order
        return flip(correlate(b, a, mode))
    around = {"valid": (0, 0), "full": (b.size - 1, b.size - 1)}.get(
        mode, (b.size // 2, b.size - 1 - b.size // 2)
    )
    y = conv(_reshape(pad(a, around), shape=(1, -1, 1)), _reshape(b, shape=(-1, 1, 1)))
    return _reshape(y, shape=-1)
