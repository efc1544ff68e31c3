"""A function of `keras.ops`: Keras' names of its arguments, also on a model's symbolic tensors."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from functools import cache, wraps
from typing import Any

import numpy as np

from minitorch_ciml.autograd.engine import Op
from minitorch_ciml.keras.ops import control
from minitorch_ciml.keras.ops.table import FUNCTIONS
from minitorch_ciml.keras.symbolic import KerasTensor, any_symbolic, symbolic_call

# The elementwise ops of two inputs, by what Keras calls these.
_TWO = frozenset({
    "add", "arctan2", "divide", "equal", "floor_divide", "fmod", "gcd", "greater", "greater_equal",
    "heaviside", "hypot", "lcm", "less", "less_equal", "logaddexp", "logaddexp2", "logical_and",
    "logical_or", "logical_xor", "maximum", "minimum", "mod", "multiply", "not_equal", "power",
    "subtract",
})  # fmt: skip
_BITS = frozenset({"bitwise_and", "bitwise_or", "bitwise_xor", "left_shift", "right_shift"})

# What is known of a symbolic tensor without computing anything.
KNOWN: dict[str, Callable[[KerasTensor], Any]] = {
    "shape": lambda x: x.shape, "ndim": lambda x: x.ndim, "dtype": lambda x: x.dtype,
    "is_tensor": lambda x: False, "convert_to_numpy": np.asarray,  # which raises an error
}  # fmt: skip


# They deal with symbolic tensors themselves.
_BY_THEMSELVES = (control.cond, control.switch, control.custom_gradient, control.vectorize)


def all_as_keras(names: Iterable[str]) -> dict[str, Callable]:
    """The functions of these names, as Keras has them."""
    return {name: as_keras(name) for name in names}


@cache
def as_keras(name: str) -> Callable:
    """The function with Keras' signature; on symbolic tensors it becomes a layer of their model."""
    function = FUNCTIONS[name]
    if function in _BY_THEMSELVES:
        return function
    signature = _signature(function) if isinstance(function, Op) else None

    def call(*args: Any, **kwargs: Any) -> Any:
        if kwargs and signature is not None:  # an op knows its inputs by their places only
            args, kwargs = signature.bind(*args, **kwargs).args, {}
        if any_symbolic((args, kwargs)):
            return symbolic_call(name, *args, **kwargs)
        return function(*args, **kwargs)

    _dress(call, name, function)
    if signature is not None:
        call.__signature__ = signature  # type: ignore[attr-defined]
    return call


def as_known(name: str, function: Callable) -> Callable:
    """`function`, which tells what a tensor is, also of symbolic ones."""
    answer = KNOWN[name]

    def call(x: Any) -> Any:
        return answer(x) if isinstance(x, KerasTensor) else function(x)

    _dress(call, name, function)
    return call


def _dress(call: Callable, name: str, like: Callable) -> None:
    """Gives `call` the name and the description of `like`, and so its signature."""
    wraps(like, updated=())(call)  # an op's attributes are its own business
    call.__name__ = call.__qualname__ = name


def _signature(op: Op) -> inspect.Signature:
    """What Keras calls the inputs of an elementwise function."""
    names: tuple[str, ...] = ("x",)
    if op.name in _TWO:
        names = ("x1", "x2")
    elif op.name in _BITS:
        names = ("x", "y")
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    return inspect.Signature([inspect.Parameter(name, kind) for name in names])
