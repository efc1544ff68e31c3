"""The device "Formula": here, to compute is to write down what is computed.

A `Formula` is an array together with the text that says where it came from. Its kernels compute
with the reference kernels and write the text alongside. So a derivative rule, which is written
in terms of ops, can be run on formulas, and prints itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

SHORT = 4  # arrays of up to this many elements are written out
WIDE = 40  # characters of parameters that are written out
LONG = 200  # characters; what is longer explains nothing, and nested it would fill the memory
ELIDED = "…"

# How tightly an operator binds; a name, a number or a call binds tightest.
ATOM = 6
_SIGN = 4
_OPERATORS = {
    "equal": ("==", 1), "not_equal": ("!=", 1), "less": ("<", 1), "less_equal": ("<=", 1),
    "greater": (">", 1), "greater_equal": (">=", 1), "add": ("+", 2), "subtract": ("-", 2),
    "multiply": ("*", 3), "divide": ("/", 3), "matmul": ("@", 3), "power": ("**", 5),
}  # fmt: skip


class Text(str):
    """A piece of a formula; `binding` says how tightly its outermost operator binds."""

    binding: int

    def __new__(cls, text: str, binding: int = ATOM) -> Text:
        self = super().__new__(cls, text)
        self.binding = _SIGN if binding == ATOM and text.startswith("-") else binding
        return self


class Formula:
    """An array and the text that says how it was computed.

    A `literal` is a number that the program or the rule contains. What is computed of literals
    alone is a literal again: in a formula, 3 - 1 is better written 2.
    """

    __slots__ = ("array", "text", "literal")

    def __init__(self, array: Any, text: str, literal: bool = False):
        self.array = np.asarray(array)
        self.text = text if isinstance(text, Text) else Text(text)
        self.literal = literal

    shape = property(lambda self: self.array.shape)
    dtype = property(lambda self: self.array.dtype)
    ndim = property(lambda self: self.array.ndim)
    size = property(lambda self: self.array.size)

    def astype(self, dtype: Any, copy: bool = True) -> Formula:
        """Another dtype is the same formula."""
        return Formula(self.array.astype(dtype, copy=copy), self.text, self.literal)


def in_words(value: Any) -> str:
    """A value as a few characters: a number, a short array, or shape, mean and norm.

    >>> in_words(0.30000000000000004), in_words(np.ones((28, 28)))
    ('0.3', '(28, 28) mean 1, norm 28')
    """
    array = np.asarray(value)
    if array.size > SHORT:
        floats = array.astype("float64")
        mean, norm = floats.mean(), np.sqrt(np.square(floats).sum())
        return f"{array.shape} mean {mean:.4g}, norm {norm:.4g}"
    return _nested(array.tolist())


def _nested(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_nested, value))}]"
    return f"{value + 0.0:.4g}" if isinstance(value, float) else str(value)  # -0.0 + 0.0 is 0.0


def kernel(name: str, compute: Callable) -> Callable:
    """The kernel that computes with `compute` and writes down the op `name`."""

    def write_and_compute(*inputs: Formula, **params: Any) -> Any:
        result = compute(*(x.array for x in inputs), **params)
        if all(x.literal for x in inputs):
            return Formula(result, in_words(result), literal=True)
        if name == "swapaxes" and inputs[0].ndim == 2:  # however it is asked for, this is x.T
            text = write("transpose", [inputs[0].text])
        elif name == "matmul":
            text = write(name, [_factor(x, f) for x, f in zip(inputs, _flags(**params))])
        else:
            text = write(name, [x.text for x in inputs], params)
        if len(text) > LONG:
            text = Text(ELIDED)
        if isinstance(result, tuple):  # an op that saves something for its gradient
            return Formula(result[0], text), None
        return Formula(result, text)

    return write_and_compute


def _flags(transpose_a: bool = False, transpose_b: bool = False) -> tuple[bool, bool]:
    return transpose_a, transpose_b


def _factor(x: Formula, is_transposed: bool) -> Text:
    """A factor of a matrix product."""
    if not is_transposed:
        return x.text
    if x.ndim == 2:
        return write("transpose", [x.text])
    return write("swapaxes", [x.text], {"axis1": -1, "axis2": -2})


def write(name: str, inputs: Sequence[str], params: dict[str, Any] | None = None) -> Text:
    """The op `name` applied to `inputs`, as Python writes it.

    >>> write("multiply", [write("add", ["a", "b"]), "c"])
    '(a + b) * c'
    """
    texts = [x if isinstance(x, Text) else Text(x) for x in inputs]
    if name == "identity" or name == "cast" or (name == "power" and texts[1:] == ["1"]):
        return texts[0]
    if name == "negative":
        return Text("-" + _bracketed(texts[0], _SIGN, right=True), _SIGN)
    if name == "transpose" and not any((params or {}).values()):
        return Text(_bracketed(texts[0], ATOM) + ".T")
    if name in _OPERATORS and len(texts) == 2:
        symbol, binding = _OPERATORS[name]
        is_power = name == "power"  # the one operator that groups from the right
        left = _bracketed(texts[0], binding + is_power)
        right = _bracketed(texts[1], binding + (not is_power), right=True)
        return Text(f"{left} {symbol} {right}", binding)
    told = {k: v for k, v in (params or {}).items() if not _says_nothing(v)}
    keywords = [f"{key}={_parameter(value)}" for key, value in told.items()]
    if len(", ".join(keywords)) > WIDE:
        keywords = ["..."]
    return Text(f"{name}({', '.join([*texts, *keywords])})")


def _bracketed(text: Text, needed: int, right: bool = False) -> str:
    """`text`, in parentheses where it binds less tightly than `needed` or a sign would clash."""
    clash = right and text.startswith("-")
    return f"({text})" if clash or text.binding < needed else text


def _says_nothing(value: Any) -> bool:
    """Whether a parameter is what an op does anyway, as keepdims=False and activation="linear"."""
    return value is None or value is False or (isinstance(value, str) and value == "linear")


def _parameter(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"array{value.shape}"
    if isinstance(value, np.dtype):
        return value.name
    if isinstance(value, slice):
        ends = ["" if end is None else str(end) for end in (value.start, value.stop)]
        return ":".join(ends if value.step is None else [*ends, str(value.step)])
    if isinstance(value, tuple):
        inside = ", ".join(map(_parameter, value))
        return f"({inside},)" if len(value) == 1 else f"({inside})"
    return "..." if value is Ellipsis else repr(value)
