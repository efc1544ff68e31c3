"""The elementwise ops' kernels: those of the table (`table.py`), and what is made of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minitorch_ciml import kernels
from minitorch_ciml.kernels.cuda.elementwise import Elementwise, cast, is_float
from minitorch_ciml.kernels.cuda.memory import CudaArray, constant, full
from minitorch_ciml.kernels.cuda.table import TABLE

Needs = tuple[bool, ...]
Gradients = tuple[CudaArray | None, ...]


def __getattr__(name: str) -> Elementwise:
    """The table's functions are this module's functions."""
    try:
        return TABLE[name]
    except KeyError:
        raise AttributeError(name) from None


# --- functions that prepare their arguments -------------------------------------------------------


def identity(x: CudaArray) -> CudaArray:
    return x


def to(x: CudaArray, device: str) -> Any:
    return kernels.place(x, device)


def _number(x: CudaArray, value: float) -> CudaArray:
    """A number in the type of x."""
    return constant(value, x.dtype)


def leaky_relu(x: CudaArray, *, negative_slope: float) -> CudaArray:
    return TABLE["_leaky_relu"](x, _number(x, negative_slope))


def clipped_relu(x: CudaArray, *, max_value: float) -> CudaArray:
    return TABLE["_clipped_relu"](x, _number(x, max_value))


def elu(x: CudaArray, *, alpha: float) -> CudaArray:
    return TABLE["_elu"](x, _number(x, alpha))


def where(condition: CudaArray, a: CudaArray, b: CudaArray) -> CudaArray:
    return TABLE["_where"](cast(condition, bool), a, b)


def _of_floats(name: str) -> Callable[[CudaArray], CudaArray]:
    """A function that leaves whole numbers as they are."""

    def function(x: CudaArray) -> CudaArray:
        return TABLE[name](x) if is_float(x) else x

    return function


floor, ceil, trunc = map(_of_floats, ("_floor", "_ceil", "_trunc"))


def _question(name: str, otherwise: bool) -> Callable[[CudaArray], CudaArray]:
    """A question to floats; for all other numbers the answer is known."""

    def function(x: CudaArray) -> CudaArray:
        if not is_float(x):
            return full(x.shape, otherwise, bool)
        return TABLE[name](x)

    return function


isnan, isinf, isfinite = (
    _question("_isnan", False), _question("_isinf", False), _question("_isfinite", True)
)  # fmt: skip
isposinf, isneginf = _question("_isposinf", False), _question("_isneginf", False)


def isreal(x: CudaArray) -> CudaArray:
    return full(x.shape, True, bool)


def round(x: CudaArray, *, decimals: int) -> CudaArray:
    if decimals >= 0 and not is_float(x):
        return x
    if decimals == 0:
        return TABLE["_rint"](x)
    floats = x if is_float(x) else cast(x, "float64")
    power = _number(floats, 10.0 ** abs(decimals))
    to_whole, back = ("multiply", "divide") if decimals > 0 else ("divide", "multiply")
    return cast(TABLE[back](TABLE["_rint"](TABLE[to_whole](floats, power)), power), x.dtype)


def nan_to_num(
    x: CudaArray, *, nan: float, posinf: float | None, neginf: float | None
) -> CudaArray:
    if not is_float(x):
        return x
    limits = np.finfo(x.dtype)
    for question, number in (
        ("_isnan", nan),
        ("_isposinf", limits.max if posinf is None else posinf),
        ("_isneginf", limits.min if neginf is None else neginf),
    ):
        x = where(TABLE[question](x), _number(x, float(number)), x)
    return x


def isclose(a: CudaArray, b: CudaArray, *, rtol: float, atol: float, equal_nan: bool) -> CudaArray:
    if not is_float(a):
        a, b = cast(a, "float64"), cast(b, "float64")
    most = TABLE["add"](TABLE["multiply"](TABLE["absolute"](b), _number(b, rtol)), _number(b, atol))
    close = TABLE["_is_close"](a, b, most)
    if not equal_nan:
        return close
    return TABLE["add"](close, TABLE["multiply"](isnan(a), isnan(b)))


def _of_truth(name: str) -> Callable[[CudaArray, CudaArray], CudaArray]:
    """A function of truth values; numbers other than 0 are true."""

    def function(a: CudaArray, b: CudaArray) -> CudaArray:
        return TABLE[name](cast(a, bool), cast(b, bool))

    return function


logical_and, logical_or, logical_xor = map(_of_truth, ("bitwise_and", "bitwise_or", "bitwise_xor"))

# --- gradients in one step ------------------------------------------------------------------------


def tanh_grad(g: CudaArray, y: CudaArray, x: CudaArray, *, needs: Needs) -> Gradients:
    return (TABLE["_tanh_grad"](g, y),)


def sigmoid_grad(g: CudaArray, y: CudaArray, x: CudaArray, *, needs: Needs) -> Gradients:
    return (TABLE["_sigmoid_grad"](g, y),)


def relu_grad(g: CudaArray, y: CudaArray, x: CudaArray, *, needs: Needs) -> Gradients:
    return (TABLE["_relu_grad"](g, y),)


def clipped_relu_grad(
    g: CudaArray, y: CudaArray, x: CudaArray, *, needs: Needs, max_value: float
) -> Gradients:
    return (TABLE["_clipped_relu_grad"](g, y, _number(y, max_value)),)


def mean_grad(
    g: CudaArray, y: CudaArray, x: CudaArray, *, needs: Needs, axis: tuple, keepdims: bool
) -> Gradients:
    if not keepdims:
        g = g.reshape([1 if i in axis else n for i, n in enumerate(x.shape)])
    return (TABLE["multiply"](g, _number(g, y.size / (x.size or 1)), shape=x.shape),)
