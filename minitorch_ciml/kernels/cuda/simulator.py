"""A GPU in Python: kernels run as plain functions, one small thread of control per GPU thread.

For tests on machines without a GPU, and for looking into a kernel with a debugger. It is exact
about what barriers mean: threads of a block or a warp that wait at different barriers, or for one
that has already returned, raise an error here and hang on a GPU. Shared and local memory start as
NaN, and indices are checked. (numba's own simulator takes 50 microseconds and more for every
thread, knows no warps, and lets such hangs pass.)

A kernel is written for `numba.cuda`; here that name, `math` and numba's number types are exchanged
for what stands below, and so is every intrinsic for its `twin`.
"""

from __future__ import annotations

import contextvars
import math
import sys
from collections.abc import Callable
from itertools import product
from types import BuiltinFunctionType, CellType, FunctionType, ModuleType, SimpleNamespace
from typing import Any

import numpy as np

try:
    import greenlet
except ImportError:
    raise ImportError(
        "the simulated GPU needs greenlet, which is not installed; pip install greenlet."
    ) from None

WARP = 32

# What stands in for an intrinsic, by the intrinsic.
_TWINS: dict[Any, Callable] = {}


def twin(intrinsic: Any) -> Callable[[Callable], Callable]:
    """Makes a Python function what the simulator runs in place of an intrinsic."""

    def register(function: Callable) -> Callable:
        _TWINS[intrinsic] = function
        return function

    return register


# --- threads and barriers -------------------------------------------------------------------------


class Thread(greenlet.greenlet):
    """One thread of a block, which runs until it waits at a barrier or ends."""

    def __init__(self, block: Block, index: tuple[int, int, int], run: Callable[[], None]):
        super().__init__(run)
        self.gr_context = contextvars.copy_context()
        self.block = block
        self.index = Index(*index)
        width, height, _ = block.size
        self.number = index[0] + width * (index[1] + height * index[2])
        self.waits: tuple[str, Any] | None = None  # the kind of barrier, and what it brings there
        self.copies: list[list] = [[]]  # groups of asynchronous copies that have not arrived
        self.groups: list[list] = []  # what a warp group's products that were started read
        self.sums: dict[int, tuple] = {}  # and what they are added to

    def advance(self, received: Any) -> None:
        self.waits = self.switch(received) if self.waits else self.switch()


class Index:
    """x, y and z."""

    __slots__ = ("x", "y", "z")

    def __init__(self, x: int, y: int, z: int):
        self.x, self.y, self.z = x, y, z


class Block:
    """A block of threads, with its shared memory."""

    def __init__(self, position: tuple, size: tuple, grid: tuple, shared: int):
        self.position = Index(*position)
        self.size = size
        self.grid = grid
        self.dynamic = np.full(shared, 0xFF, np.uint8)  # NaN, as floats
        self.arrays: dict[tuple, np.ndarray] = {}  # by the place in the code that declares them
        self.together: dict[int, tuple] = {}  # what each warp has computed last (`by_warp`)
        self._flat: dict[tuple, np.ndarray] = {}  # the arrays, by their number and an element type

    def address(self, array: np.ndarray) -> int:
        """Where an array lies in shared memory: each begins at its own multiple of 1 MiB."""
        arrays = (self.dynamic, *self.arrays.values())
        return [a.ctypes.data for a in arrays].index(array.ctypes.data) + 1 << 20

    def window(self, address: int, nbytes: int, element: type = np.uint8) -> np.ndarray:
        """Bytes of shared memory, as elements of a type; they must lie in one array."""
        number, offset = address >> 20, address & 0xFFFFF
        flat = self._flat.get((number, element))
        if flat is None:
            flat = self._flat[number, element] = self._elements(number, element)
        first, end = offset // flat.itemsize, (offset + nbytes) // flat.itemsize
        if end > flat.size:
            raise IndexError(f"a kernel uses {nbytes} bytes at {address} of shared memory.")
        return flat[first:end]

    def _elements(self, number: int, element: type) -> np.ndarray:
        arrays = (self.dynamic, *self.arrays.values())
        if not 1 <= number <= len(arrays):
            raise IndexError(f"a kernel uses address {number << 20}, which no array has.")
        raw = arrays[number - 1].view(np.uint8).reshape(-1)
        size = np.dtype(element).itemsize
        return raw[: raw.size // size * size].view(element)

    def run(self, function: Callable, args: tuple) -> None:
        width, height, depth = self.size
        points = product(range(depth), range(height), range(width))
        threads = [Thread(self, (x, y, z), lambda: function(*args)) for z, y, x in points]
        ready: list[tuple[Thread, Any]] = [(thread, None) for thread in threads]
        while ready:
            for thread, received in ready:
                thread.advance(received)
            ready = _released(threads)


def _released(threads: list[Thread]) -> list[tuple[Thread, Any]]:
    """The threads whose barrier is complete, each with what it receives there."""
    alive = [t for t in threads if not t.dead]
    if not alive:
        return []
    if len(alive) == len(threads) and all(t.waits[0] == "syncthreads" for t in alive):
        return [(t, None) for t in alive]
    ready = []
    for start in range(0, len(threads), WARP):
        warp = threads[start : start + WARP]
        kinds = {None if t.dead else t.waits[0] for t in warp}
        if len(kinds) == 1 and not kinds & {None, "syncthreads"}:
            values = [t.waits[1] for t in warp]
            ready += [(t, values) for t in warp]
    if not ready:
        states = {"has returned" if t.dead else f"waits at {t.waits[0]}" for t in threads}
        raise RuntimeError(f"the threads of a block do not meet: one {', another '.join(states)}.")
    return ready


current: Callable[[], Any] = greenlet.getcurrent  # the thread that is running


def collect(kind: str, value: Any) -> list:
    """What each thread of the warp brings to this place, in the order of their lanes."""
    return current().parent.switch((kind, value))


def by_warp(kind: str, value: Any, compute: Callable[[list], Any]) -> Any:
    """This thread's part of what is computed, once, from what all threads of the warp bring.

    `compute` gives one part for each lane.
    """
    values = collect(kind, value)
    thread = current()
    together = thread.block.together
    warp, lane = divmod(thread.number, WARP)
    if together.get(warp, (None, None))[0] is not values:  # all lanes get the same list
        together[warp] = (values, compute(values))
    return together[warp][1][lane]


# --- what a kernel knows as `cuda` ----------------------------------------------------------------


class _Memory:
    """`cuda.shared` or `cuda.local`: an array per place in the code and block, or per thread."""

    def __init__(self, shared: bool):
        self._shared = shared

    def array(self, shape: Any, dtype: Any, alignment: int | None = None) -> np.ndarray:
        if not self._shared:
            return _unset(shape, dtype)
        block = current().block
        if shape == 0:
            return block.dynamic.view(_numpy_type(dtype))
        caller = sys._getframe(1)
        place = (caller.f_code, caller.f_lasti)
        if place not in block.arrays:
            block.arrays[place] = _unset(shape, dtype)
        return block.arrays[place]


def _numpy_type(dtype: Any) -> np.dtype:
    return np.dtype(getattr(dtype, "name", dtype))


_UNSET: dict[tuple, np.ndarray] = {}  # arrays that are copied, by shape and type


def _unset(shape: Any, dtype: Any) -> np.ndarray:
    unset = _UNSET.get((shape, dtype))
    if unset is None:
        unset = _UNSET[shape, dtype] = np.empty(shape, _numpy_type(dtype))
        unset.view(np.uint8)[...] = 0xFF
    return unset.copy()


class Cuda:
    """The names of `numba.cuda` that kernels use."""

    shared, local = _Memory(shared=True), _Memory(shared=False)

    threadIdx = property(lambda self: current().index)
    blockIdx = property(lambda self: current().block.position)
    blockDim = property(lambda self: Index(*current().block.size))
    gridDim = property(lambda self: Index(*current().block.grid))
    laneid = property(lambda self: current().number % WARP)

    def grid(self, axes: int) -> int:
        """The thread's place along the first axis of the whole grid."""
        thread = current()
        return thread.index.x + thread.block.position.x * thread.block.size[0]

    def gridsize(self, axes: int) -> int:
        block = current().block
        return block.size[0] * block.grid[0]

    def syncthreads(self) -> None:
        current().parent.switch(("syncthreads", None))

    def syncwarp(self, mask: int = 0xFFFFFFFF) -> None:
        collect("syncwarp", None)

    def shfl_xor_sync(self, mask: int, value: Any, lanes: int) -> Any:
        return collect("shfl_xor_sync", value)[self.laneid ^ lanes]

    def shfl_up_sync(self, mask: int, value: Any, by: int) -> Any:
        values = collect("shfl_up_sync", value)
        return values[self.laneid - by] if self.laneid >= by else value

    def any_sync(self, mask: int, predicate: Any) -> bool:
        return any(collect("any_sync", predicate))


def _by_numpy(function: Callable) -> Callable:
    """A function of Python floats, with NumPy's types, and infinities where Python would raise."""

    def compute(x: Any) -> Any:
        return np.asarray(x).dtype.type(function(float(x)))

    return compute


# `math`, as on a GPU: float32 stays float32, and nothing raises.
_MATH = SimpleNamespace(
    exp=np.exp, expm1=np.expm1, log=np.log, log1p=np.log1p, log2=np.log2, log10=np.log10,
    sqrt=np.sqrt, sin=np.sin, cos=np.cos, tan=np.tan, asin=np.arcsin, acos=np.arccos,
    atan=np.arctan, atan2=np.arctan2, sinh=np.sinh, cosh=np.cosh, tanh=np.tanh,
    asinh=np.arcsinh, acosh=np.arccosh, atanh=np.arctanh, floor=np.floor, ceil=np.ceil,
    trunc=np.trunc, fabs=np.fabs, pow=np.power, fmod=np.fmod, hypot=np.hypot,
    copysign=np.copysign, isnan=np.isnan, isinf=np.isinf, isfinite=np.isfinite,
    erf=_by_numpy(math.erf), erfc=_by_numpy(math.erfc), lgamma=_by_numpy(math.lgamma),
    inf=math.inf, nan=math.nan, pi=math.pi,
)  # fmt: skip


class Number:
    """One of numba's number types, as a function and as a dtype.

    Integers are Python's, which do not overflow; the unsigned ones are wrapped.
    """

    def __init__(self, name: str, convert: Callable):
        self.name = name
        self.convert = convert

    def __call__(self, x: Any) -> Any:
        return self.convert(x)


def _wrapped(bits: int) -> Callable[[Any], int]:
    return lambda x: int(x) & ((1 << bits) - 1)


_NUMBERS = {
    name: Number(name, convert)
    for name, convert in {
        "float16": np.float16, "float32": np.float32, "float64": np.float64, "bool": bool,
        "int8": int, "int32": int, "int64": int, "uint8": _wrapped(8), "uint16": _wrapped(16),
        "uint32": _wrapped(32), "uint64": _wrapped(64),
    }.items()
}  # fmt: skip

CUDA = Cuda()


class Pointer:
    """The elements that a kernel gets as a flat pointer; indices are checked."""

    __slots__ = ("elements",)

    def __init__(self, elements: np.ndarray):
        self.elements = elements

    def __getitem__(self, i: int) -> Any:
        if not 0 <= i < self.elements.size:
            raise IndexError(f"a kernel reads element {i} of {self.elements.size}.")
        return self.elements[i]

    def __setitem__(self, i: int, value: Any) -> None:
        if not 0 <= i < self.elements.size:
            raise IndexError(f"a kernel writes element {i} of {self.elements.size}.")
        self.elements[i] = value


# --- running --------------------------------------------------------------------------------------


def simulated(function: Callable) -> Callable:
    """`run(grid, block, shared, args)` for a kernel; grid and block have three sizes each."""
    translated = _translated(function, {})

    def run(grid: tuple, block: tuple, shared: int, args: tuple) -> None:
        values = tuple([Pointer(a) if isinstance(a, np.ndarray) else a for a in args])
        with np.errstate(all="ignore"):
            for z, y, x in product(range(grid[2]), range(grid[1]), range(grid[0])):
                Block((x, y, z), block, grid, shared).run(translated, values)

    return run


def _translated(function: Callable, known: dict[Callable, Callable]) -> Callable:
    """The function, with the names it uses exchanged; `known` are those already translated."""
    if function in known:
        return known[function]
    used = set(_names(function.__code__))
    scope = {"__builtins__": function.__globals__["__builtins__"]}
    closure = tuple([CellType() for _ in function.__closure__ or ()])
    made = FunctionType(function.__code__, scope, function.__name__, function.__defaults__, closure)
    known[function] = made
    for name in used & function.__globals__.keys():
        scope[name] = _exchanged(function.__globals__[name], known)
    for new, old in zip(closure, function.__closure__ or ()):
        new.cell_contents = _exchanged(old.cell_contents, known)
    return made


def _names(code: Any) -> list[str]:
    """The global names in a function's code, inner functions included."""
    inner = [c for c in code.co_consts if hasattr(c, "co_names")]
    return [*code.co_names, *(name for c in inner for name in _names(c))]


def _exchanged(value: Any, known: dict) -> Any:
    if isinstance(value, ModuleType):
        return {"math": _MATH, "numba.cuda": CUDA}.get(value.__name__, value)
    try:
        if value in _TWINS:
            return _TWINS[value]
    except TypeError:  # not hashable
        return value
    if isinstance(value, BuiltinFunctionType) and value.__module__ == "math":
        return getattr(_MATH, value.__name__)
    if hasattr(value, "py_func"):  # a device function
        return _translated(value.py_func, known)
    if isinstance(value, FunctionType):
        return _translated(value, known)
    if type(value).__module__.startswith(("numba.core.types", "numba.cuda.types")):
        return _NUMBERS.get(str(value), value)
    return value
