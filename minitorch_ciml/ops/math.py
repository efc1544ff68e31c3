"""Elementwise functions, and the creation and conversion of tensors."""

from __future__ import annotations

from minitorch_ciml.autograd.arithmetic import (
    absolute,
    add,
    cos,
    cosh,
    divide,
    equal,
    erf,
    exp,
    expm1,
    greater,
    greater_equal,
    less,
    less_equal,
    log,
    log1p,
    maximum,
    minimum,
    multiply,
    negative,
    not_equal,
    power,
    sign,
    sin,
    sinh,
    sqrt,
    subtract,
    tan,
    tanh,
    where,
)

__all__ = [
    "absolute", "add", "cos", "cosh", "divide", "equal", "erf", "exp", "expm1", "greater",
    "greater_equal", "less", "less_equal", "log", "log1p", "maximum", "minimum", "multiply",
    "negative", "not_equal", "power", "sign", "sin", "sinh", "sqrt", "subtract", "tan", "tanh",
    "where",
]  # fmt: skip
