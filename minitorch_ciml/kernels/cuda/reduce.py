"""Reductions along axes.

An array is seen as (outer, n, inner), and the n elements along the middle are combined. Any set of
axes is one such step, or several. All are bound by memory: every element is read once, along
rows of memory, whichever axis is reduced.

A block combines the elements of some results: each of its threads takes every so many of them, four
at a time, and then the threads' numbers are combined in a tree. Where n is large, several blocks
have a share each, and the shares are combined by a second step. How elements are shared out depends
on the shape alone, so results repeat bit for bit, and their rounding errors are those of a sum
in pairs: no chain of additions is longer than some dozens.
"""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numba import cuda, float32, float64, int32, int64

from minitorch_ciml.kernels.cuda import functions
from minitorch_ciml.kernels.cuda.elements import read, write
from minitorch_ciml.kernels.cuda.elementwise import RARE, cast, is_float
from minitorch_ciml.kernels.cuda.intrinsics import like
from minitorch_ciml.kernels.cuda.launch import Kernel, ceil_div, code_of, kernel, of_dtype
from minitorch_ciml.kernels.cuda.memory import CudaArray, Shape, constant, empty, full
from minitorch_ciml.kernels.cuda.shape import transpose
from minitorch_ciml.kernels.cuda.windows import divided

Axes = tuple[int, ...]

THREADS = 256
SHARE = 64  # elements that a thread combines at most, before the tree
_SMALL_SHARE = 16  # the same, where there would be too few blocks for a GPU
_FEW = 256  # blocks
MOST_PARTS = 65535  # of a grid's second axis
_WIDE = 32  # columns that a block takes where they are neighbours in memory

NUMBER_TYPES = {"f4": float32, "f8": float64, "i4": int32, "i8": int64}


# --- what a reduction is --------------------------------------------------------------------------


class Reduction:
    """Kernels that combine the elements along an axis.

    Args:
        name: for reports.
        types: for each type that elements are combined in, the types of elements.
        element: what is combined: a function of an element and its result's `centre`.
        start: where every thread begins: a function of some element.
        combine: two such numbers.
        finish: the result, from what was combined and the number of elements.
    """

    def __init__(
        self,
        name: str,
        types: dict[str, tuple[str, ...]],
        combine: Callable,
        start: Callable | None = None,
        element: Callable | None = None,
        finish: Callable | None = None,
    ):
        self._kernels: dict[str, tuple[str, Kernel]] = {}
        steps = element or (lambda x, centre: x), start or (lambda x: x), combine
        steps = (*steps, finish or (lambda x, count: x))
        made = [s if hasattr(s, "py_func") else cuda.jit(device=True)(s) for s in steps]
        for wide, narrow in types.items():
            declare = kernel(
                f"{wide}* T* {wide}*" + " i4" * 10,
                threads=THREADS,
                name=f"reduce.{name}.{wide}",
                T=narrow,
            )
            one_type = declare(_blocks(*made, NUMBER_TYPES[wide]))
            self._kernels |= dict.fromkeys(narrow, (wide, one_type))

    def __call__(
        self,
        x: CudaArray,
        outer: int,
        n: int,
        inner: int,
        centre: CudaArray | None = None,
        count: int = 1,
        last: bool = True,
    ) -> CudaArray:
        """(outer, parts, inner): the results, or where n is large, several parts of each.

        Args:
            x: the elements, (outer, n, inner).
            centre: element i, modulo their number, is the centre of result i.
            count: how many elements a result has in all; for `finish`.
            last: whether there is nothing to be combined after this.
        """
        wide, run = of_dtype(self._kernels, x.dtype)
        width, height = block_of(n, inner)
        tiles = ceil_div(outer * inner, width)
        share = _SMALL_SHARE if tiles < _FEW else SHARE
        chunk = builtins.max(share * height, ceil_div(n, MOST_PARTS))
        parts = ceil_div(n, chunk)
        y = empty((outer, parts, inner), wide)
        c = y if centre is None else centre
        period = 1 if centre is None else centre.size
        run(
            (tiles, parts), width * height, y, x,  c,
            outer * inner, n, inner, width, height, chunk, parts, period, count,
            parts > 1 or not last,
        )  # fmt: skip
        return y


def block_of(n: int, inner: int) -> tuple[int, int]:
    """Results, and threads for each of them, of a block."""
    needed = _power_of_two(ceil_div(n, 4))
    if inner == 1:
        height = builtins.min(THREADS, needed)
        return THREADS // height, height
    width = builtins.min(_WIDE, _power_of_two(inner))
    return width, builtins.min(THREADS // width, needed)


def _power_of_two(n: int) -> int:
    """The smallest power of two that is n or more."""
    return 1 << builtins.max(n - 1, 0).bit_length()


def _blocks(
    element: Callable, start: Callable, combine: Callable, finish: Callable, wide: Any
) -> Callable:
    def blocks(
        y, x, c, results, n, inner, width, height, chunk, parts, period, count, partial
    ):  # fmt: skip
        shares = cuda.shared.array(THREADS, wide)
        # Neighbouring threads have neighbours in memory: of a row, or of different columns.
        if inner == 1:
            column, thread = divided(cuda.threadIdx.x, height)
        else:
            thread, column = divided(cuda.threadIdx.x, width)
        result = cuda.blockIdx.x * width + column
        outer, b = divided(_smaller(result, results - 1), inner)
        base = outer * n * inner + b
        centre = read(c, divided(outer * inner + b, period)[1])
        begin = cuda.blockIdx.y * chunk
        end = _smaller(begin + chunk, n)
        s0 = wide(start(element(read(x, base + begin * inner), centre)))
        s1 = s2 = s3 = s0
        i = begin + thread
        while i + 3 * height < end:
            at = base + i * inner
            step = height * inner
            x0, x1 = read(x, at), read(x, at + step)
            x2, x3 = read(x, at + 2 * step), read(x, at + 3 * step)
            s0 = combine(s0, wide(element(x0, centre)))
            s1 = combine(s1, wide(element(x1, centre)))
            s2 = combine(s2, wide(element(x2, centre)))
            s3 = combine(s3, wide(element(x3, centre)))
            i += 4 * height
        while i < end:
            at = base + i * inner
            s0 = combine(s0, wide(element(read(x, at), centre)))
            i += height
        place = thread * width + column
        shares[place] = combine(combine(s0, s1), combine(s2, s3))
        cuda.syncthreads()
        half = height // 2
        while half > 0:
            if thread < half:
                shares[place] = combine(shares[place], shares[place + half * width])
            cuda.syncthreads()
            half //= 2
        if thread == 0 and result < results:
            total = shares[column]
            at = (outer * parts + cuda.blockIdx.y) * inner + b
            write(y, at, total if partial else finish(total, wide(count)))

    return blocks


# --- the reductions -------------------------------------------------------------------------------

_OF_FLOATS = {"f4": ("f4", "f2", "bf2"), "f8": ("f8",)}
_REALS = {"f4": ("f4",), "f8": ("f8",)}
_SUMS = {**_OF_FLOATS, "i8": ("i8", "i4", "u1", "b1")}
CHOICES = {**_OF_FLOATS, "i8": ("i8",), "i4": ("i4", "u1", "b1")}
_QUESTIONS = {"i4": ("i4", "i8", "u1", "b1", "f4", "f8", "f2", "bf2")}


def _nothing(x):
    return like(x, 0)


def _unit(x):
    return like(x, 1)


def _plus(a, b):
    return a + b


@cuda.jit(device=True)
def _larger(a, b):
    return a if a > b or a != a else b  # NaN stays


@cuda.jit(device=True)
def _smaller(a, b):
    return a if a < b or a != a else b


def _truth(x, centre):
    return int32(x != 0)


def _squared_deviation(x, centre):
    return (x - centre) * (x - centre)


def _exponential(x, centre):
    return math.exp(x - centre)


def _quotient(total, count):
    return total / count


def _root(total, count):
    return math.sqrt(total)


_sum = Reduction("sum", _SUMS, _plus, _nothing)
_prod = Reduction("prod", _SUMS, lambda a, b: a * b, _unit)
_mean = Reduction("mean", _OF_FLOATS, _plus, _nothing, finish=_quotient)
_max = Reduction("max", CHOICES, _larger)
_min = Reduction("min", CHOICES, _smaller)
_all = Reduction("all", _QUESTIONS, _smaller, element=_truth)
_any = Reduction("any", _QUESTIONS, _larger, element=_truth)
_deviations = Reduction(
    "deviations", _OF_FLOATS, _plus, _nothing, element=_squared_deviation, finish=_quotient
)
_exponentials = Reduction("exponentials", _OF_FLOATS, _plus, _nothing, element=_exponential)
_squares = Reduction(
    "squares", _OF_FLOATS, _plus, _nothing, element=lambda x, centre: x * x, finish=_root
)
_roots = Reduction("roots", _REALS, _plus, _nothing, finish=_root)


def _reduced(
    first: Reduction,
    x: CudaArray,
    axis: Axes,
    keepdims: bool,
    then: Reduction | None = None,
    centre: CudaArray | None = None,
    count: int = 1,
) -> CudaArray:
    """`first` along axes, the results of which `then` combines where one step is not enough."""
    shape = tuple([1 if i in axis else n for i, n in enumerate(x.shape)])
    groups = _groups(x.shape, axis)
    if centre is not None and not _in_order(groups):
        kept = tuple([i for i in range(x.ndim) if i not in axis])
        x = transpose(x, axes=(*kept, *axis))
        groups = [(centre.size, False), (x.size // centre.size, True)]
    step = first
    while True:
        last = builtins.max(i for i, (_, reduced) in enumerate(groups) if reduced)
        before, after = groups[:last], groups[last + 1 :]
        sizes = [math.prod(n for n, _ in part) for part in (before, after)]
        alone = not any_reduced(before)
        x = step(x, sizes[0], groups[last][0], sizes[1], centre, count, alone)
        parts = x.shape[1]
        groups = [*before, (parts, True), *after] if parts > 1 else [*before, *after]
        if not any_reduced(groups):
            break
        step, centre = then or first, None
    return x.reshape(shape if keepdims else without(shape, axis))


@lru_cache(maxsize=4096)
def _groups(shape: Shape, axis: Axes) -> list[tuple[int, bool]]:
    """The axes' sizes, and whether they are reduced; neighbours of one kind are one."""
    groups: list[tuple[int, bool]] = []
    for i, n in enumerate(shape):
        if n == 1:
            continue
        if groups and groups[-1][1] == (i in axis):
            groups[-1] = (groups[-1][0] * n, i in axis)
        else:
            groups.append((n, i in axis))
    return groups if any_reduced(groups) else [*groups, (1, True)]


def any_reduced(groups: list[tuple[int, bool]]) -> bool:
    return True in [reduced for _, reduced in groups]


def _in_order(groups: list[tuple[int, bool]]) -> bool:
    """Whether result i of the first step belongs to result i, modulo their number, of all steps."""
    kinds = [reduced for _, reduced in groups]
    return kinds.count(True) == 1 or kinds == [True, False, True]


def without(shape: Shape, axis: Axes) -> Shape:
    return tuple([n for i, n in enumerate(shape) if i not in axis])


def _empty_result(
    x: CudaArray, axis: Axes, keepdims: bool, value: Any, dtype: Any = None
) -> CudaArray:
    shape = tuple([1 if i in axis else n for i, n in enumerate(x.shape)])
    return full(shape if keepdims else without(shape, axis), value, dtype or x.dtype)


def sum_dtype(x: CudaArray) -> np.dtype:
    """What NumPy adds in: small integers as 64-bit ones."""
    return x.dtype if is_float(x) else np.dtype("uint64" if x.dtype.kind == "u" else "int64")


def _common(x: CudaArray) -> CudaArray:
    """Rare integers as 64-bit ones."""
    return cast(x, "int64") if code_of(x.dtype) in RARE else x


def sum(x: CudaArray, axis: Axes, keepdims: bool) -> CudaArray:
    if x.size == 0:
        return _empty_result(x, axis, keepdims, 0, sum_dtype(x))
    return cast(_reduced(_sum, _common(x), axis, keepdims), sum_dtype(x))


def prod(x: CudaArray, axis: Axes, keepdims: bool) -> CudaArray:
    if x.size == 0:
        return _empty_result(x, axis, keepdims, 1, sum_dtype(x))
    return cast(_reduced(_prod, _common(x), axis, keepdims), sum_dtype(x))


def mean(x: CudaArray, axis: Axes, keepdims: bool) -> CudaArray:
    if x.size == 0:
        return _empty_result(x, axis, keepdims, math.nan)
    count = math.prod([x.shape[a] for a in axis])
    return cast(_reduced(_mean, x, axis, keepdims, count=count), x.dtype)


def var(x: CudaArray, axis: Axes, keepdims: bool) -> CudaArray:
    """In two passes: the mean, and the mean squared deviation from it."""
    if x.size == 0:
        return _empty_result(x, axis, keepdims, math.nan)
    return cast(_moments(x, axis, keepdims)[1], x.dtype)


def _moments(x: CudaArray, axis: Axes, keepdims: bool) -> tuple[CudaArray, CudaArray]:
    count = math.prod([x.shape[a] for a in axis])
    mean = _reduced(_mean, x, axis, keepdims, count=count)
    return mean, _reduced(_deviations, x, axis, keepdims, _mean, mean, count)


def max(x: CudaArray, axis: Axes, keepdims: bool, initial: float | None) -> CudaArray:
    return _extreme(_max, "maximum", x, axis, keepdims, initial)


def min(x: CudaArray, axis: Axes, keepdims: bool, initial: float | None) -> CudaArray:
    return _extreme(_min, "minimum", x, axis, keepdims, initial)


def _extreme(
    reduction: Reduction, choose: str, x: CudaArray, axis: Axes, keepdims: bool, initial: Any
) -> CudaArray:
    if x.size == 0:
        return _empty_result(x, axis, keepdims, 0 if initial is None else initial)
    y = cast(_reduced(reduction, x, axis, keepdims), x.dtype)
    if initial is None:
        return y
    return functions.TABLE[choose](y, constant(initial, x.dtype))


def all(x: CudaArray, axis: Axes, keepdims: bool) -> CudaArray:
    if x.size == 0:
        return _empty_result(x, axis, keepdims, True, bool)
    return cast(_reduced(_all, x, axis, keepdims), bool)


def any(x: CudaArray, axis: Axes, keepdims: bool) -> CudaArray:
    if x.size == 0:
        return _empty_result(x, axis, keepdims, False, bool)
    return cast(_reduced(_any, x, axis, keepdims), bool)


def logsumexp(x: CudaArray, axis: Axes, keepdims: bool) -> CudaArray:
    """In two passes: the largest element, and the sum of the exponentials of the others to it."""
    if x.size == 0:
        return _empty_result(x, axis, keepdims, -math.inf)
    table = functions.TABLE
    largest = _reduced(_max, x, axis, keepdims)
    # An infinite maximum is not subtracted: inf - inf would be nan.
    finite = functions.where(functions.isfinite(largest), largest, constant(0, largest.dtype))
    total = _reduced(_exponentials, x, axis, keepdims, _sum, finite)
    return cast(table["add"](table["log"](total), finite), x.dtype)


def vector_norm(x: CudaArray, axis: Axes) -> CudaArray:
    if x.size == 0:
        return _empty_result(x, axis, True, 0)
    axis = tuple([a % x.ndim for a in axis])
    return cast(_reduced(_squares, x, axis, True, _roots), x.dtype)


def sum_to(x: CudaArray, shape: Shape) -> CudaArray:
    """The adjoint of `broadcast_to`: sums over the axes that broadcasting would repeat."""
    added = x.ndim - len(shape)
    stretched = [added + i for i, n in enumerate(shape) if n == 1 and x.shape[added + i] != 1]
    return sum(x, (*range(added), *stretched), False).reshape(shape)
