"""Elementwise functions: one table of functions of numbers; the kernels are made from it.

A function below is written once, for numbers. `elementwise` makes kernels of it that read one, two
or three inputs, broadcast as NumPy does, and write each result once. They are bound by memory: what
counts is that neighbouring threads read neighbouring elements.

A number in Python source is a float64 to numba, and would make everything around it one: `like(x,
0.5)` is 0.5 in the type of x.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from types import BuiltinFunctionType
from typing import Any

import numpy as np
from numba import cuda

from minitorch_ciml import kernels
from minitorch_ciml.kernels.cuda.intrinsics import like
from minitorch_ciml.kernels.cuda.launch import Kernel, ceil_div, code_of, kernel
from minitorch_ciml.kernels.cuda.memory import CudaArray, Shape, empty

FLOATS = ("f4", "f8")
INTEGERS = ("i4", "i8", "u1", "u4")
NUMBERS = FLOATS + INTEGERS
ALL = ("b1", *NUMBERS)

THREADS = 256  # of a block: a multiple of the warp, and four of them fill a multiprocessor's half
_BLOCKS = 2048  # more do not fill a GPU better; a thread then computes several elements
_MOST_AXES = 4  # of a broadcast, after neighbouring axes have been merged


def blocks_for(n: int) -> tuple[int, int]:
    """Blocks, and threads of each, for n elements; small arrays take few threads."""
    threads = min(THREADS, ceil_div(n, 32) * 32)
    return min(ceil_div(n, threads), _BLOCKS), threads


# --- kernels from a function of numbers -----------------------------------------------------------


def _flat(f: Callable, arity: int) -> Callable:
    """Every input has the result's size (step 1), or one element (step 0)."""

    def unary(y, a, sa, n):
        for i in range(cuda.grid(1), n, cuda.gridsize(1)):
            y[i] = f(a[i * sa])

    def binary(y, a, b, sa, sb, n):
        for i in range(cuda.grid(1), n, cuda.gridsize(1)):
            y[i] = f(a[i * sa], b[i * sb])

    def ternary(y, a, b, c, sa, sb, sc, n):
        for i in range(cuda.grid(1), n, cuda.gridsize(1)):
            y[i] = f(a[i * sa], b[i * sb], c[i * sc])

    return (unary, binary, ternary)[arity - 1]


def _strided(f: Callable, arity: int) -> Callable:
    """Up to four axes; n1, n2, n3 are the sizes of all but the first."""

    def unary(y, a, a0, a1, a2, a3, n1, n2, n3, n):
        for i in range(cuda.grid(1), n, cuda.gridsize(1)):
            r, s = i // n3, i % n3
            q, r = r // n2, r % n2
            p, q = q // n1, q % n1
            y[i] = f(a[p * a0 + q * a1 + r * a2 + s * a3])

    def binary(y, a, b, a0, a1, a2, a3, b0, b1, b2, b3, n1, n2, n3, n):
        for i in range(cuda.grid(1), n, cuda.gridsize(1)):
            r, s = i // n3, i % n3
            q, r = r // n2, r % n2
            p, q = q // n1, q % n1
            y[i] = f(
                a[p * a0 + q * a1 + r * a2 + s * a3],
                b[p * b0 + q * b1 + r * b2 + s * b3],
            )

    def ternary(
        y, a, b, c, a0, a1, a2, a3, b0, b1, b2, b3, c0, c1, c2, c3, n1, n2, n3, n
    ):  # fmt: skip
        for i in range(cuda.grid(1), n, cuda.gridsize(1)):
            r, s = i // n3, i % n3
            q, r = r // n2, r % n2
            p, q = q // n1, q % n1
            y[i] = f(
                a[p * a0 + q * a1 + r * a2 + s * a3],
                b[p * b0 + q * b1 + r * b2 + s * b3],
                c[p * c0 + q * c1 + r * c2 + s * c3],
            )

    return (unary, binary, ternary)[arity - 1]


class Elementwise:
    """A function of arrays, from a function of numbers.

    Args:
        name: of the op.
        function: of one, two or three numbers.
        inputs: the inputs' types, as in a kernel's signature: "T T", or "b1 T T".
        result: the result's type: "T", or "b1".
        types: the values of T.
    """

    def __init__(
        self, name: str, function: Callable, inputs: str, result: str, types: tuple[str, ...]
    ):
        self.arity = len(inputs.split())
        self._result = None if result == "T" else np.dtype(result)
        pointers = " ".join(word + "*" for word in (result + " " + inputs).split())
        # Functions of `math` are known to numba as they are.
        of_math = isinstance(function, BuiltinFunctionType)
        device_function = function if of_math else cuda.jit(device=True)(function)

        def make(build: Callable, what: str, numbers: int) -> Kernel:
            signature = pointers + " i4" * numbers
            declare = kernel(signature, threads=THREADS, name=f"{name}.{what}", T=types)
            return declare(build(device_function, self.arity))

        self.flat = make(_flat, "flat", self.arity + 1)
        self.strided = make(_strided, "strided", _MOST_AXES * self.arity + _MOST_AXES)

    def __call__(self, *inputs: CudaArray, out: CudaArray | None = None) -> CudaArray:
        """The result, in `out` if it is given: that may be one of the inputs of its shape."""
        shapes = {x.shape for x in inputs}
        shape = inputs[0].shape if len(shapes) == 1 else np.broadcast_shapes(*shapes)
        y = empty(shape, self._result or inputs[-1].dtype) if out is None else out
        if y.size:
            self._fill(y, inputs)
        return y

    def _fill(self, y: CudaArray, inputs: Sequence[CudaArray]) -> None:
        grid, block = blocks_for(y.size)
        if all(x.size in (1, y.size) for x in inputs):
            steps = [int(x.size == y.size) for x in inputs]
            self.flat(grid, block, y, *inputs, *steps, y.size)
            return
        sizes, steps_of = merged(y.shape, [x.shape for x in inputs])
        if len(sizes) > _MOST_AXES:
            self._by_rows(y, inputs)
            return
        missing = _MOST_AXES - len(sizes)
        sizes = [1] * missing + sizes
        steps = [s for steps in steps_of for s in [0] * missing + steps]
        self.strided(grid, block, y, *inputs, *steps, *sizes[1:], y.size)

    def _by_rows(self, y: CudaArray, inputs: Sequence[CudaArray]) -> None:
        """Row by row of the result: for shapes in which many axes alternate."""
        full = [x.reshape((1,) * (y.ndim - x.ndim) + x.shape) for x in inputs]
        for i in range(y.shape[0]):
            rows = [x.rows(i, i + 1) if x.shape[0] > 1 else x for x in full]
            row = y.rows(i, i + 1)
            self._fill(row.reshape(row.shape[1:]), [x.reshape(x.shape[1:]) for x in rows])


def merged(shape: Shape, inputs: Sequence[Shape]) -> tuple[list[int], list[list[int]]]:
    """The result's sizes and each input's steps, with neighbouring axes merged where possible.

    Two axes become one where no input is broadcast along one of them alone.
    """
    padded = [(1,) * (len(shape) - len(s)) + tuple(s) for s in inputs]
    sizes: list[int] = []
    patterns: list[list[bool]] = []
    for axis, n in enumerate(shape):
        if n == 1:
            continue
        pattern = [s[axis] != 1 for s in padded]
        if patterns and patterns[-1] == pattern:
            sizes[-1] *= n
        else:
            sizes.append(n)
            patterns.append(pattern)
    steps_of: list[list[int]] = []
    for number in range(len(inputs)):
        step, steps = 1, []
        for n, pattern in zip(reversed(sizes), reversed(patterns)):
            steps.append(step if pattern[number] else 0)
            step *= n if pattern[number] else 1
        steps_of.append(steps[::-1])
    return sizes, steps_of


# --- the table ------------------------------------------------------------------------------------


def _sign(x):
    return like(x, x > 0) - like(x, x < 0)


def _absolute(x):
    return -x if x < 0 else x + like(x, 0)  # -0.0 becomes 0.0


def _power(a, b):
    return like(a, math.pow(a, b))


def _sigmoid(x):
    # With e^-|x| no exponential overflows.
    small = math.exp(-abs(x))
    return (like(x, 1) if x >= 0 else small) / (like(x, 1) + small)


def _maximum(a, b):
    return a if a > b or a != a else b  # NaN stays


def _minimum(a, b):
    return a if a < b or a != a else b


_UNARY = {
    "copy": (lambda x: x, ALL),
    "negative": (lambda x: -x, NUMBERS),
    "absolute": (_absolute, NUMBERS),
    "sign": (_sign, NUMBERS),
    "square": (lambda x: x * x, NUMBERS),
    "exp": (math.exp, FLOATS),
    "expm1": (math.expm1, FLOATS),
    "log": (math.log, FLOATS),
    "log1p": (math.log1p, FLOATS),
    "sqrt": (math.sqrt, FLOATS),
    "sin": (math.sin, FLOATS),
    "cos": (math.cos, FLOATS),
    "tan": (math.tan, FLOATS),
    "tanh": (math.tanh, FLOATS),
    "erf": (math.erf, FLOATS),
    "sigmoid": (_sigmoid, FLOATS),
    "relu": (lambda x: x if x > 0 or x != x else like(x, 0), NUMBERS),
}
_BINARY = {
    "add": (lambda a, b: a + b, NUMBERS),
    "subtract": (lambda a, b: a - b, NUMBERS),
    "multiply": (lambda a, b: a * b, NUMBERS),
    "divide": (lambda a, b: a / b, FLOATS),
    "power": (_power, FLOATS),
    "maximum": (_maximum, NUMBERS),
    "minimum": (_minimum, NUMBERS),
}
_COMPARISONS = {
    "equal": lambda a, b: a == b,
    "not_equal": lambda a, b: a != b,
    "less": lambda a, b: a < b,
    "less_equal": lambda a, b: a <= b,
    "greater": lambda a, b: a > b,
    "greater_equal": lambda a, b: a >= b,
}

TABLE = {
    **{name: Elementwise(name, f, "T", "T", types) for name, (f, types) in _UNARY.items()},
    **{name: Elementwise(name, f, "T T", "T", types) for name, (f, types) in _BINARY.items()},
    **{name: Elementwise(name, f, "T T", "b1", ALL) for name, f in _COMPARISONS.items()},
    "where": Elementwise("where", lambda c, a, b: a if c else b, "b1 T T", "T", ALL),
}


def __getattr__(name: str) -> Elementwise:
    """The table's functions are this module's functions."""
    try:
        return TABLE[name]
    except KeyError:
        raise AttributeError(name) from None


def identity(x: CudaArray) -> CudaArray:
    return x


def to(x: CudaArray, device: str) -> Any:
    return kernels.place(x, device)


# --- casts ----------------------------------------------------------------------------------------


@kernel("T* U* i4", threads=THREADS, T=ALL, U=ALL)
def _cast(y, x, n):
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        y[i] = x[i]


@kernel("b1* T* i4", threads=THREADS, T=NUMBERS)
def _is_not_zero(y, x, n):
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        y[i] = x[i] != 0


def cast(x: CudaArray, dtype: Any) -> CudaArray:
    dtype = np.dtype(dtype)
    if x.dtype == dtype:
        return x
    y = empty(x.shape, dtype)
    if x.size:
        run = _is_not_zero if code_of(dtype) == "b1" else _cast
        run(*blocks_for(x.size), y, x, x.size)
    return y
