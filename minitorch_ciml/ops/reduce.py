"""Reductions: sums, products, extremes and moments along axes, and running sums and products.

`axis` is an int, a tuple of ints or None (all axes); negative axes count from the end, and the
empty tuple reduces nothing. With `keepdims` the reduced axes stay, with size 1.
"""

from __future__ import annotations

import math
from typing import Any

from minitorch_ciml.autograd.arithmetic import (
    equal,
    exp,
    greater,
    less,
    maximum,
    not_equal,
    sqrt,
    where,
)
from minitorch_ciml.autograd.engine import Op
from minitorch_ciml.autograd.tensor import Tensor, as_tensor, broadcast_to
from minitorch_ciml.ops.axes import Axes, Axis, check_axes, check_axis, kept_shape
from minitorch_ciml.ops.creation import cast, full_like
from minitorch_ciml.ops.indexing import ALL, _getitem, take_along_axis
from minitorch_ciml.ops.joining import _concatenate
from minitorch_ciml.ops.math import isclose
from minitorch_ciml.ops.shape import _reshape, _roll, _transpose, expand_dims, flip, inverse_order

__all__ = [
    "all", "allclose", "amax", "amin", "any", "argmax", "argmin", "average", "count_nonzero",
    "cumprod", "cumsum", "in_top_k", "logsumexp", "max", "mean", "min", "moments", "prod", "ptp",
    "std", "sum", "var",
]  # fmt: skip


def _behind(g: Tensor, x: Tensor, axis: Axes, keepdims: bool) -> Tensor:
    """A result or its gradient, in a shape that broadcasts with `x`."""
    return g if keepdims or g.ndim == x.ndim else _reshape(g, shape=kept_shape(x.shape, axis))


def _count(x: Tensor, axes: Axes) -> int:
    return math.prod([x.shape[a] for a in axes])


def _check_elements(op: Op, x: Tensor, axes: Axes) -> None:
    if x.size == 0 and _count(x, axes) == 0:
        raise ValueError(
            f"{op.name}: shape {x.shape} has no elements along axis {axes}, so there is no result."
        )


def _reduction(
    op: Op, x: Any, axis: Axis, keepdims: bool, needed: bool = False, **params: Any
) -> Tensor:
    """`op` along the normalised axes; with `needed`, there must be elements."""
    x = as_tensor(x)
    axes = check_axes(axis, x.ndim, op.name)
    if needed:
        _check_elements(op, x, axes)
    return op(x, axis=axes, keepdims=keepdims, **params)


# --- sums and means -----------------------------------------------------------------------------

_sum = Op(
    "sum",
    lambda g, y, x, axis, keepdims: broadcast_to(_behind(g, x, axis, keepdims), shape=x.shape),
    doc="y = the sum of x along axes.",
)
_mean = Op(
    "mean",
    lambda g, y, x, axis, keepdims: broadcast_to(
        _behind(g, x, axis, keepdims) * (1 / _count(x, axis)), shape=x.shape
    ),
    gradient_kernel=True,
    dtypes="float",
    doc="y = the mean of x along axes.",
)


def _variance_rule(g, y, x, axis, keepdims):
    g = _behind(g, x, axis, keepdims)
    return (x - _mean(x, axis=axis, keepdims=True)) * g * (2 / _count(x, axis))


_var = Op(
    "var",
    _variance_rule,
    gradient_kernel=True,
    dtypes="float",
    doc="y = mean((x - mean(x))^2) along axes, in two passes.",
)


def sum(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """y = the sum of the elements of `x` along `axis`; 0 where there are none.

    Booleans and small integers are added as 64-bit integers.

    Args:
        x: a tensor.
        axis: which axes to reduce; None: all of them.
        keepdims: keep the reduced axes, with size 1.
    """
    return _reduction(_sum, x, axis, keepdims)


def mean(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """y = sum(x) / n along `axis`, as floats.

    Raises:
        ValueError: there are no elements along `axis`.
    """
    return _reduction(_mean, x, axis, keepdims, needed=True)


def var(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """y = mean((x - mean(x))^2) along `axis`: the variance, not corrected for the sample size.

    Raises:
        ValueError: there are no elements along `axis`.
    """
    return _reduction(_var, x, axis, keepdims, needed=True)


def std(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """y = sqrt(var(x)) along `axis`. Its gradient is taken as 0 where the variance is 0.

    Raises:
        ValueError: there are no elements along `axis`.
    """
    variance = var(x, axis, keepdims)
    constant = equal(variance, 0)
    # The slope of the square root at 0 is infinite: where it is not wanted it must not be computed.
    return where(constant, 0.0, sqrt(where(constant, 1.0, variance)))


def moments(
    x: Any, axes: Axis, keepdims: bool = False, synchronized: bool = False
) -> tuple[Tensor, Tensor]:
    """The mean and the variance of `x` along `axes`.

    Args:
        x: a tensor.
        axes: which axes to reduce.
        keepdims: keep the reduced axes, with size 1.
        synchronized: must be False; for moments over all processes use `BatchNormalization`.
    """
    if synchronized:
        raise ValueError("moments: synchronized=True is not supported here; pass False.")
    return mean(x, axes, keepdims), var(x, axes, keepdims)


def average(x: Any, axis: Axis = None, weights: Any = None) -> Tensor:
    """y = sum(w x) / sum(w) along `axis`.

    Args:
        x: a tensor.
        axis: which axes to reduce; None: all of them.
        weights: in the shape of `x`, or one weight for each element along one `axis`; 1 if left
            out.

    Raises:
        ValueError: the weights' shape fits neither.
    """
    x = as_tensor(x)
    if weights is None:
        return mean(x, axis)
    weights = as_tensor(weights)
    if weights.shape != x.shape:
        if not isinstance(axis, int) or weights.shape != (x.shape[axis],):
            raise ValueError(
                f"average: got weights of shape {weights.shape} for axis {axis} of shape "
                f"{x.shape}; expected the same shape, or one weight per element of one axis."
            )
        weights = _reshape(weights, shape=(-1,) + (1,) * (x.ndim - 1 - axis % x.ndim))
    return sum(x * weights, axis) / sum(broadcast_to(weights, shape=x.shape), axis)


# --- extremes -----------------------------------------------------------------------------------


def _extreme_rule(g, y, x, axis, keepdims, initial):
    """Equal shares for all elements that are the extreme one."""
    hits = equal(x, _behind(y, x, axis, keepdims))
    number = maximum(_sum(hits, axis=axis, keepdims=True), 1)  # none if `initial` was chosen
    return where(hits, _behind(g, x, axis, keepdims) / number, 0.0)


_max = Op("max", _extreme_rule, doc="y = the largest element along axes.")
_min = Op("min", _extreme_rule, doc="y = the smallest element along axes.")
_argmax = Op("argmax", doc="Where the largest element is, the first one of several.")
_argmin = Op("argmin", doc="Where the smallest element is, the first one of several.")


def max(x: Any, axis: Axis = None, keepdims: bool = False, initial: Any = None) -> Tensor:
    """y = the largest element of `x` along `axis`; equal ones share the gradient.

    Args:
        x: a tensor.
        axis: which axes to reduce; None: all of them.
        keepdims: keep the reduced axes, with size 1.
        initial: the result is at least this number, also where there are no elements.

    Raises:
        ValueError: there are no elements along `axis`, and no `initial`.
    """
    return _reduction(_max, x, axis, keepdims, needed=initial is None, initial=initial)


def min(x: Any, axis: Axis = None, keepdims: bool = False, initial: Any = None) -> Tensor:
    """y = the smallest element of `x` along `axis`; equal ones share the gradient.

    Args:
        x: a tensor.
        axis: which axes to reduce; None: all of them.
        keepdims: keep the reduced axes, with size 1.
        initial: the result is at most this number, also where there are no elements.

    Raises:
        ValueError: there are no elements along `axis`, and no `initial`.
    """
    return _reduction(_min, x, axis, keepdims, needed=initial is None, initial=initial)


amax, amin = max, min


def ptp(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """y = max(x) - min(x) along `axis` ("peak to peak")."""
    return max(x, axis, keepdims) - min(x, axis, keepdims)


def argmax(x: Any, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """Where along `axis` the largest element is, the first of equal ones; of all if it is None.

    Raises:
        ValueError: there are no elements along `axis`.
    """
    return _position(_argmax, x, axis, keepdims)


def argmin(x: Any, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """Where along `axis` the smallest element is, the first of equal ones; of all if it is None.

    Raises:
        ValueError: there are no elements along `axis`.
    """
    return _position(_argmin, x, axis, keepdims)


def _position(op: Op, x: Any, axis: int | None, keepdims: bool) -> Tensor:
    x = as_tensor(x)
    _check_elements(op, x, check_axes(axis, x.ndim, op.name))
    return op(x, axis=axis, keepdims=keepdims)


def logsumexp(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """y = ln(sum(e^x)) along `axis`, without overflow; -infinity where there are no elements."""
    return _reduction(_logsumexp, x, axis, keepdims)


def _logsumexp_rule(g, y, x, axis, keepdims):
    y, g = _behind(y, x, axis, keepdims), _behind(g, x, axis, keepdims)
    # Where all x are -infinity so is y; x - y would be nan where e^x is 0.
    return g * exp(x - where(y == -math.inf, 0.0, y))


_logsumexp = Op(
    "logsumexp",
    _logsumexp_rule,
    gradient_kernel=True,
    dtypes="float",
    doc="y = ln(sum(e^x)) along axes.",
)

# --- truth --------------------------------------------------------------------------------------

_all = Op("all", doc="y = whether all elements along axes are true (not 0).")
_any = Op("any", doc="y = whether some element along axes is true (not 0).")


def all(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """y = whether all elements of `x` along `axis` are true (not 0); true where there are none."""
    return _reduction(_all, x, axis, keepdims)


def any(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """y = whether some element of `x` along `axis` is true (not 0); false where there are none."""
    return _reduction(_any, x, axis, keepdims)


def allclose(
    x1: Any, x2: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> Tensor:
    """y = whether |x1 - x2| <= atol + rtol |x2| for all elements; see `isclose`."""
    return all(isclose(x1, x2, rtol, atol, equal_nan))


def count_nonzero(x: Any, axis: Axis = None) -> Tensor:
    """y = how many elements of `x` along `axis` are not 0."""
    return sum(not_equal(x, 0), axis)


def in_top_k(targets: Any, predictions: Any, k: int) -> Tensor:
    """For each row of `predictions`, whether its target class is among the k largest.

    A class counts as among them if fewer than k classes have a larger prediction.

    Args:
        targets: classes (N,).
        predictions: (N, C).
        k: how many.
    """
    scores = as_tensor(predictions)
    own = take_along_axis(scores, expand_dims(targets, 1), 1)
    return less(sum(greater(scores, own), 1), k)


# --- running sums and products ------------------------------------------------------------------

_cumsum: Op = Op(
    "cumsum",
    lambda g, y, x, axis: flip(_cumsum(flip(g, axis), axis=axis), axis),
    gradient_kernel=True,
    doc="y_i = x_0 + ... + x_i along an axis.",
)


def _before(y: Tensor, first: float, axis: int) -> Tensor:
    """Each element's predecessor along the axis, and `first` for the first one."""
    front = (ALL,) * axis
    start = full_like(_getitem(y, index=(*front, slice(0, 1))), first)
    return _concatenate(start, _getitem(y, index=(*front, slice(0, -1))), axis=axis)


def _backwards(g: Tensor, a: Tensor, axis: int) -> Tensor:
    """r_i = g_i + a_(i+1) r_(i+1): the same recurrence from the other end."""
    successors = _roll(flip(a, axis), shift=1, axis=axis)
    return flip(_recurrence(successors, flip(g, axis), axis=axis), axis)


# The derivatives of a recurrence are recurrences. None of them divides, so zeros are no matter.
_recurrence = Op(
    "recurrence",
    lambda g, y, a, b, axis: _backwards(g, a, axis) * _before(y, 0.0, axis),
    lambda g, y, a, b, axis: _backwards(g, a, axis),
    dtypes="float",
    doc="y_i = a_i y_(i-1) + b_i along an axis, from y_(-1) = 0.",
)
_cumprod = Op(
    "cumprod",
    lambda g, y, x, axis: _backwards(g, x, axis) * _before(y, 1.0, axis),
    doc="y_i = x_0 ... x_i along an axis.",
)


def _prod_rule(g, y, x, axis, keepdims):
    """g times the product of all the others: those to the left, times those to the right."""
    rest = tuple([i for i in range(x.ndim) if i not in axis])
    order = (*rest, *axis)
    moved = _transpose(x, axes=order)
    line = _reshape(moved, shape=(*[x.shape[i] for i in rest], _count(x, axis)))
    last = line.ndim - 1
    left = _before(_cumprod(line, axis=last), 1.0, last)
    right = flip(_before(_cumprod(flip(line, last), axis=last), 1.0, last), last)
    others = _transpose(_reshape(left * right, shape=moved.shape), axes=inverse_order(order))
    return _behind(g, x, axis, keepdims) * others


_prod = Op("prod", _prod_rule, gradient_kernel=True, doc="y = the product of x along axes.")


def prod(x: Any, axis: Axis = None, keepdims: bool = False, dtype: Any = None) -> Tensor:
    """y = the product of the elements of `x`, as `dtype`, along `axis`; 1 where there are none.

    The gradient is right also where elements are 0.
    """
    return _reduction(_prod, x if dtype is None else cast(x, dtype), axis, keepdims)


def cumsum(x: Any, axis: int | None = None, dtype: Any = None) -> Tensor:
    """y_i = x_0 + ... + x_i along `axis`, as `dtype`; of the flattened `x` if it is None."""
    return _running(_cumsum, x, axis, dtype)


def cumprod(x: Any, axis: int | None = None, dtype: Any = None) -> Tensor:
    """y_i = x_0 x_1 ... x_i along `axis`, as `dtype`; of the flattened `x` if it is None.

    The gradient is right also where elements are 0.
    """
    return _running(_cumprod, x, axis, dtype)


def _running(op: Op, x: Any, axis: int | None, dtype: Any) -> Tensor:
    x = as_tensor(x) if dtype is None else cast(x, dtype)
    if axis is None:
        x, axis = _reshape(x, shape=(-1,)), 0
    return op(x, axis=check_axis(axis, x.ndim, op.name))
