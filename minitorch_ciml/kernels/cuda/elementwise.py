"""Elementwise kernels, made from functions of numbers; `table.py` has them.

A function is written once, for numbers. `Elementwise` makes kernels of it that read up to four
inputs, broadcast as NumPy does, and write each result once. They are bound by memory. So
neighbouring threads read neighbouring elements, four at a time (16 bytes of float32 in one
instruction) where that is possible, and indices are divided in 32 bits, which takes a fraction of
the instructions of numba's 64.

A number in Python source is a float64 to numba, and would make everything around it one: `like(x,
0.5)` is 0.5 in the type of x.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from types import BuiltinFunctionType
from typing import Any

import numpy as np
from numba import cuda

from minitorch_ciml.kernels.cuda.elements import read, read4, write, write4
from minitorch_ciml.kernels.cuda.launch import Kernel, ceil_div, code_of, kernel, of_dtype
from minitorch_ciml.kernels.cuda.memory import CudaArray, Shape, empty
from minitorch_ciml.kernels.cuda.windows import divided

FLOATS = ("f4", "f8")
TRAINED = (*FLOATS, "f2", "bf2")  # the floats that mixed precision needs
INTEGERS = ("i4", "i8", "u1")
NUMBERS = TRAINED + INTEGERS
ALL = ("b1", *NUMBERS)

THREADS = 256  # of a block: a multiple of the warp, and eight of them fill a multiprocessor
_MOST_AXES = 4  # of a broadcast, after neighbouring axes have been merged
_MOST_INPUTS = 4


def blocks_for(n: int) -> tuple[int, int]:
    """Blocks, and threads of each, so that n threads have one thing to do; few for small n.

    A loop over several things would begin with a 64-bit division, which costs more than a thread.
    """
    threads = min(THREADS, ceil_div(n, 32) * 32)
    return ceil_div(n, threads), threads


def is_float(x: CudaArray) -> bool:
    """Whether the elements are floats; NumPy does not know bfloat16 as such."""
    return code_of(x.dtype) in TRAINED


# --- kernels from a function of numbers -----------------------------------------------------------

# Every kernel has four inputs. Where a function has fewer, the others are its result with step 0:
# as the function does not use them, nothing is read.
_WITH_FOUR = {
    1: lambda f: lambda a, b, c, d: f(a),
    2: lambda f: lambda a, b, c, d: f(a, b),
    3: lambda f: lambda a, b, c, d: f(a, b, c),
    4: lambda f: f,
}


def _flat(f: Callable) -> Callable:
    """Every input has the result's size (step 1), or one element (step 0)."""

    def flat(y, a, b, c, d, sa, sb, sc, sd, fours, n):
        k = cuda.grid(1)
        if k < fours:
            i = 4 * k
            a0, a1, a2, a3 = read4(a, i * sa, sa)
            b0, b1, b2, b3 = read4(b, i * sb, sb)
            c0, c1, c2, c3 = read4(c, i * sc, sc)
            d0, d1, d2, d3 = read4(d, i * sd, sd)
            write4(y, i, f(a0, b0, c0, d0), f(a1, b1, c1, d1), f(a2, b2, c2, d2), f(a3, b3, c3, d3))
        elif k + 3 * fours < n:  # what is left over, or all where vectors are not aligned
            i = k + 3 * fours
            write(y, i, f(read(a, i * sa), read(b, i * sb), read(c, i * sc), read(d, i * sd)))

    return flat


def _strided(f: Callable) -> Callable:
    """Four axes, with the steps of each input along them; n1, n2, n3 are the sizes of the last.

    The last axis, and with it n3, is counted in units of `width` elements: four or one. `outer` is
    whether there are more than two axes.
    """

    def strided(
        y, a, b, c, d, a0, a1, a2, a3, b0, b1, b2, b3, c0, c1, c2, c3, d0, d1, d2, d3,
        n1, n2, n3, outer, width, units,
    ):  # fmt: skip
        k = cuda.grid(1)
        if k < units:
            r, s = divided(k, n3)
            p = q = 0
            if outer:
                q, r = divided(r, n2)
                p, q = divided(q, n1)
            s *= width
            i = p * a0 + q * a1 + r * a2 + s * a3
            j = p * b0 + q * b1 + r * b2 + s * b3
            m = p * c0 + q * c1 + r * c2 + s * c3
            o = p * d0 + q * d1 + r * d2 + s * d3
            if width == 1:
                write(y, k, f(read(a, i), read(b, j), read(c, m), read(d, o)))
            else:
                t0, t1, t2, t3 = read4(a, i, a3)
                u0, u1, u2, u3 = read4(b, j, b3)
                v0, v1, v2, v3 = read4(c, m, c3)
                w0, w1, w2, w3 = read4(d, o, d3)
                write4(
                    y, 4 * k,
                    f(t0, u0, v0, w0), f(t1, u1, v1, w1), f(t2, u2, v2, w2), f(t3, u3, v3, w3),
                )  # fmt: skip

    return strided


class Elementwise:
    """A function of arrays, from functions of numbers.

    Args:
        name: of the op.
        variants: what computes it for which types: the function, the types of its inputs and its
            result as in a kernel's signature ("b1 T T", "T"), and the values of T, which is the
            type of the last input.
    """

    def __init__(self, name: str, *variants: tuple[Callable, str, str, tuple[str, ...]]):
        self.name = name
        self._kernels: dict[str, tuple[Kernel, Kernel | None]] = {}
        self._results: dict[str, str] = {}
        for function, inputs, result, types in variants:
            suffix = f".{types[0]}" if self._kernels else ""
            made = _kernels(f"{name}{{}}{suffix}", function, inputs.split(), result, types)
            self._kernels |= dict.fromkeys(types, made)
            self._results |= dict.fromkeys(types, result)

    def __call__(
        self, *inputs: CudaArray, shape: Shape | None = None, out: CudaArray | None = None
    ) -> CudaArray:
        """The function of the inputs, broadcast together.

        Args:
            shape: to which the inputs are broadcast, too.
            out: where the result goes; that may be one of the inputs, in its shape.
        """
        for x in inputs:
            if type(x) is not CudaArray:
                raise TypeError(f"a kernel on the GPU got a {type(x).__name__}")
        if out is not None:
            shape = out.shape
        if shape is None:
            shape = _broadcast(tuple([x.shape for x in inputs]))
        code = code_of(inputs[-1].dtype)
        result = of_dtype(self._results, inputs[-1].dtype)
        y = empty(shape, inputs[-1].dtype if result == "T" else result) if out is None else out
        if y.size:
            self._fill(y, inputs, *self._kernels[code])
        return y

    def _fill(
        self, y: CudaArray, inputs: Sequence[CudaArray], flat: Kernel, strided: Kernel | None
    ) -> None:
        missing = _MOST_INPUTS - len(inputs)
        unused = (y,) * missing
        if all(x.size in (1, y.size) for x in inputs):
            steps = [int(x.size == y.size) for x in inputs]
            aligned = y.is_aligned and all(x.is_aligned for x in inputs)
            fours = y.size // 4 if aligned else 0
            grid, block = blocks_for(y.size - 3 * fours)
            flat(grid, block, y, *inputs, *unused, *steps, *[0] * missing, fours, y.size)
            return
        assert strided is not None, "a single input has the size of the result"
        plan = _plan(y.shape, tuple([x.shape for x in inputs]))
        if plan is None:
            self._by_rows(y, inputs, flat, strided)
            return
        sizes, steps = plan
        aligned = sizes[3] % 4 == 0 and y.is_aligned and all(x.is_aligned for x in inputs)
        width = 4 if aligned else 1
        units = y.size // width
        strided(
            *blocks_for(units), y, *inputs, *unused, *steps, *[0] * missing * _MOST_AXES,
            sizes[1], sizes[2], sizes[3] // width, sizes[0] * sizes[1] > 1, width, units,
        )  # fmt: skip

    def _by_rows(self, y: CudaArray, inputs: Sequence[CudaArray], *made: Any) -> None:
        """Row by row of the result: for shapes in which many axes alternate."""
        full = [x.reshape((1,) * (y.ndim - x.ndim) + x.shape) for x in inputs]
        for i in range(y.shape[0]):
            rows = [x.rows(i, i + 1) if x.shape[0] > 1 else x for x in full]
            row = y.rows(i, i + 1)
            self._fill(row.reshape(row.shape[1:]), [x.reshape(x.shape[1:]) for x in rows], *made)


def _kernels(
    name: str, function: Callable, inputs: list[str], result: str, types: tuple[str, ...]
) -> tuple[Kernel, Kernel | None]:
    """The function's two kernels; one is enough for a single input, which is not broadcast."""
    # Functions of `math` are known to numba as they are.
    of_math = isinstance(function, BuiltinFunctionType) or not hasattr(function, "__code__")
    known = function if of_math else cuda.jit(device=True)(function)
    f = cuda.jit(device=True)(_WITH_FOUR[len(inputs)](known)) if len(inputs) < 4 else known
    pointers = [result, *inputs, *[result] * (_MOST_INPUTS - len(inputs))]
    pointers = [word + "*" for word in pointers]

    def make(build: Callable, what: str, numbers: int) -> Kernel:
        signature = " ".join([*pointers, *["i4"] * numbers])
        return kernel(signature, threads=THREADS, name=name.format(what), T=types)(build(f))

    flat = make(_flat, ".flat", 6)
    return flat, make(_strided, ".strided", 22) if len(inputs) > 1 else None


@lru_cache(maxsize=4096)
def _broadcast(shapes: tuple[Shape, ...]) -> Shape:
    return np.broadcast_shapes(*shapes)


@lru_cache(maxsize=4096)
def _plan(shape: Shape, inputs: tuple[Shape, ...]) -> tuple[list[int], list[int]] | None:
    """`merged`, with axes of size 1 put in front up to four; None if there are more than that."""
    sizes, steps_of = merged(shape, inputs)
    absent = _MOST_AXES - len(sizes)
    if absent < 0:
        return None
    return [1] * absent + sizes, [s for steps in steps_of for s in [0] * absent + steps]


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


# --- casts ----------------------------------------------------------------------------------------


RARE = ("i1", "i2", "u2", "u4", "u8")


@kernel("T* U* i4 i4", threads=THREADS, T=ALL, U=ALL)
def _cast(y, x, fours, n):
    k = cuda.grid(1)
    if k < fours:
        a, b, c, d = read4(x, 4 * k, 1)
        write4(y, 4 * k, a, b, c, d)
    elif k + 3 * fours < n:
        write(y, k + 3 * fours, read(x, k + 3 * fours))


def _convert(y, x, n):
    i = cuda.grid(1)
    if i < n:
        y[i] = x[i]


_to_rare = kernel("T* i8* i4", threads=THREADS, name="cast.to", T=RARE)(_convert)
_from_rare = kernel("i8* T* i4", threads=THREADS, name="cast.from", T=RARE)(_convert)


@kernel("b1* T* i4", threads=THREADS, T=NUMBERS)
def _is_not_zero(y, x, n):
    i = cuda.grid(1)
    if i < n:
        y[i] = read(x, i) != 0


def cast(x: CudaArray, dtype: Any) -> CudaArray:
    """The elements as another dtype."""
    dtype = np.dtype(dtype)
    if x.dtype == dtype:
        return x
    source, target = code_of(x.dtype), code_of(dtype)
    rare = source in RARE, target in RARE
    if any(rare) and "i8" not in (source, target):
        return cast(cast(x, "int64"), dtype)
    if target == "u1" and is_float(x):  # the GPU would make 0 of all negative numbers
        return cast(cast(x, "int32"), dtype)
    y = empty(x.shape, dtype)
    if x.size == 0:
        return y
    if any(rare) or target == "b1":
        run = _from_rare if rare[0] else _to_rare if rare[1] else _is_not_zero
        run(*blocks_for(x.size), y, x, x.size)
    else:
        fours = x.size // 4 if x.is_aligned and y.is_aligned else 0
        _cast(*blocks_for(x.size - 3 * fours), y, x, fours, x.size)
    return y
