"""What a `Tensor` can do: methods with NumPy's names and arguments, and operators.

A function whose first argument is the tensor is its method as it is. The few that NumPy calls in
another way as a method than as a function are defined here.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np

from minitorch_ciml.autograd.arithmetic import operator_of
from minitorch_ciml.autograd.engine import Op
from minitorch_ciml.autograd.tensor import Tensor
from minitorch_ciml.ops import creation, indexing, linalg, math, reduce
from minitorch_ciml.ops.order import argsort

# `ops.shape` is a function; so its module is not imported by that name.
from minitorch_ciml.ops.shape import _reshape, diagonal, ravel, repeat, squeeze, swapaxes
from minitorch_ciml.ops.shape import transpose as _transpose


def reshape(x: Tensor, *newshape: Any) -> Tensor:
    """`x.reshape(2, 3)` or `x.reshape((2, 3))`; see `ops.reshape`."""
    return _reshape(x, shape=newshape if len(newshape) > 1 else newshape[0])


def transpose(x: Tensor, *axes: Any) -> Tensor:
    """`x.transpose()`, `x.transpose(1, 0)` or `x.transpose((1, 0))`; see `ops.transpose`."""
    if len(axes) == 1 and not isinstance(axes[0], int):
        (axes,) = axes
    return _transpose(x, axes or None)


def clip(x: Tensor, min: Any = None, max: Any = None) -> Tensor:
    """`x` limited to the range from `min` to `max`; None leaves that side open."""
    whole = x.dtype.kind in "iu"
    if min is None:
        min = np.iinfo(x.dtype).min if whole else -np.inf
    if max is None:
        max = np.iinfo(x.dtype).max if whole else np.inf
    return math.clip(x, min, max)


def _called_by_numpy(function: Callable) -> Callable:
    """The method that `np.mean(x)` calls, as `x.mean(axis=None, dtype=None, out=None)`."""

    @wraps(function)
    def method(x: Tensor, *args: Any, dtype: Any = None, out: Any = None, **how: Any) -> Tensor:
        if out is not None:
            raise TypeError(f"{function.__name__}: tensors are immutable, so there is no out=.")
        if how.pop("ddof", 0):
            raise TypeError(f"{function.__name__}: got ddof; pass x.numpy() instead.")
        return function(x if dtype is None else creation.cast(x, dtype), *args, **how)

    return method


def _reflected(function):
    return lambda x, other: function(other, x)


METHODS: dict[str, Any] = {
    # elementwise
    "abs": math.absolute, "exp": math.exp, "log": math.log, "sqrt": math.sqrt,
    "clip": clip, "round": math.round, "astype": creation.cast,
    # reductions
    "sum": _called_by_numpy(reduce.sum), "mean": _called_by_numpy(reduce.mean),
    "prod": _called_by_numpy(reduce.prod), "std": _called_by_numpy(reduce.std),
    "var": _called_by_numpy(reduce.var), "max": _called_by_numpy(reduce.max),
    "min": _called_by_numpy(reduce.min), "any": _called_by_numpy(reduce.any),
    "all": _called_by_numpy(reduce.all), "argmax": reduce.argmax, "argmin": reduce.argmin,
    "cumsum": reduce.cumsum, "cumprod": reduce.cumprod,
    # shape and order
    "reshape": reshape, "transpose": transpose, "flatten": ravel, "ravel": ravel,
    "squeeze": squeeze, "swapaxes": swapaxes, "repeat": repeat,
    "diagonal": diagonal, "argsort": argsort, "take": indexing.take,
    "nonzero": indexing.nonzero,
    # linear algebra
    "dot": linalg.dot, "trace": linalg.trace,
    "T": property(_transpose), "mT": property(linalg.transposed),
    # operators
    "__getitem__": indexing.getitem,
    "__matmul__": operator_of(linalg.matmul), "__rmatmul__": _reflected(linalg.matmul),
    "__floordiv__": operator_of(math.floor_divide), "__rfloordiv__": _reflected(math.floor_divide),
    "__mod__": operator_of(math.mod), "__rmod__": _reflected(math.mod),
    "__invert__": math.bitwise_not,
    "__and__": operator_of(math.bitwise_and), "__rand__": math.bitwise_and,
    "__or__": operator_of(math.bitwise_or), "__ror__": math.bitwise_or,
    "__xor__": operator_of(math.bitwise_xor), "__rxor__": math.bitwise_xor,
}  # fmt: skip


# The operator of a tensor to the right of an array, by what NumPy calls it.
_RIGHT = {
    "add": "__radd__", "subtract": "__rsub__", "multiply": "__rmul__", "divide": "__rtruediv__",
    "power": "__rpow__", "floor_divide": "__rfloordiv__", "remainder": "__rmod__",
    "matmul": "__rmatmul__", "equal": "__eq__", "not_equal": "__ne__", "less": "__gt__",
    "less_equal": "__ge__", "greater": "__lt__", "greater_equal": "__le__",
    "bitwise_and": "__rand__", "bitwise_or": "__ror__", "bitwise_xor": "__rxor__",
}  # fmt: skip


_ELEMENTWISE: dict[str, Callable] = {
    **{name: getattr(math, name) for name in math.__all__},
    "matmul": linalg.matmul, "remainder": math.mod,
}  # fmt: skip


def called_by_numpy(x: Tensor, function: np.ufunc, how: str, *inputs: Any, **options: Any) -> Any:
    """What `array + x` gives, and NumPy's elementwise functions, such as `np.exp(x)`: tensors."""
    name = function.__name__
    others = [value for value in inputs if not isinstance(value, Tensor)]
    in_place = options.pop("out", (None,))[0]  # array += x gives a tensor, too
    if how == "__call__" and not options and (in_place is None or in_place is inputs[0]):
        if name in _RIGHT and others and others[0] is inputs[0]:
            return getattr(inputs[1], _RIGHT[name])(inputs[0])
        if name in _ELEMENTWISE and in_place is None:
            return _ELEMENTWISE[name](*inputs)
    raise TypeError(f"np.{name} does not take tensors in this way; pass x.numpy() instead.")


def _bound(method: Any) -> Any:
    """An op is not bound to the tensor by itself, as a Python function is."""
    if not isinstance(method, Op):
        return method

    def bound(*inputs: Any) -> Any:
        return method(*inputs)

    bound.__doc__ = method.__doc__
    return bound


for _name, _method in METHODS.items():
    setattr(Tensor, _name, _bound(_method))
Tensor.__array_ufunc__ = called_by_numpy  # type: ignore[assignment]
