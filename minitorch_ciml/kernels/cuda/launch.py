"""`kernel`: turns a Python function into one that runs on the GPU, for the types that it declares.

    @kernel("T* T* f4 i4", T=("f4", "f8"), threads=256)
    def scale(y, x, factor, n):
        i = cuda.grid(1)
        if i < n:
            y[i] = x[i] * factor

    scale(ceil_div(n, 256), 256, y, x, 2.0, n)     # blocks, threads of each, arguments

The signature names each argument's type: "f4" a 32-bit float, "i4" a 32-bit integer, "f4*" the
elements of an array of such. Letters are variables: the kernel exists once for each of their
values. Nothing else is compiled, so the tests can look at all that will ever run.

Arrays come as flat pointers: a kernel gets sizes as numbers and computes its own indices, which are
32-bit: an array has at most 2^31 - 1 elements.
"""

from __future__ import annotations

import ctypes
import math
import struct
from collections.abc import Callable
from functools import cache, cached_property
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from minitorch_ciml.kernels.cuda import SIMULATED, compiler
from minitorch_ciml.kernels.cuda.compiler import OLDEST, Binary, Capability

# Every kernel, for the tests and the report that compile them all.
KERNELS: list[Kernel] = []

# numba's name of each type; bool and bfloat16 are handled as the integers of their size.
_NUMBA = {
    "b1": "uint8", "i1": "int8", "i2": "int16", "i4": "int32", "i8": "int64", "u1": "uint8",
    "u2": "uint16", "u4": "uint32", "u8": "uint64", "bf2": "uint16", "f2": "float16",
    "f4": "float32", "f8": "float64",
}  # fmt: skip

# How an argument is packed into its place of 8 bytes.
_PACKED = {
    "i4": "i4x", "i8": "q", "u4": "I4x", "u8": "Q", "f4": "f4x", "f8": "d",
}  # fmt: skip

Size = int | tuple[int, ...]


def ceil_div(a: int, b: int) -> int:
    """a / b, rounded up: how many blocks of b cover a."""
    return -(-a // b)


@cache
def code_of(dtype: np.dtype) -> str:
    """A dtype's name in signatures: 'f4' for float32."""
    return "bf2" if dtype.name == "bfloat16" else dtype.str[1:]


def of_dtype(kernels: dict[str, Any], dtype: np.dtype) -> Any:
    """What a table by the dtype's name holds for it.

    Raises:
        TypeError: nothing.
    """
    try:
        return kernels[code_of(dtype)]
    except KeyError:
        raise TypeError(
            f"not on the GPU for {dtype}; cast first, to one of {', '.join(kernels)}"
        ) from None


class Launch(NamedTuple):
    """What a kernel is called with."""

    kernel: Kernel
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    arguments: tuple


# Where launches are written down instead of being done; None where they are done (`bounds.py`).
planned: list[Launch] | None = None


class Kernel:
    """A function for the GPU. Call it with blocks, threads per block, and its arguments.

    Attributes:
        name: for reports; functions of one factory have different ones.
        signatures: the types it exists for, each a tuple of codes such as ("f4*", "i4").
        threads: threads of a block at most.
        blocks: blocks that one multiprocessor holds at the same time, at least.
        shared: bytes of shared memory that a launch asks for beyond what is declared in it.
        needs: the lowest compute capability that has the instructions it uses.
        alone: whether no other capability has them.
    """

    def __init__(
        self,
        function: Callable,
        signature: str,
        variables: dict[str, tuple[str, ...]],
        threads: int,
        blocks: int,
        shared: int,
        name: str | None,
        needs: Capability,
        alone: bool,
    ):
        self.function = function
        self.name = name or f"{function.__module__.rpartition('.')[2]}.{function.__name__}"
        self.signatures = _expanded(signature, variables)
        self.threads = threads
        self.blocks = blocks
        self.shared = shared
        self.needs = needs
        self.alone = alone
        self.__doc__ = function.__doc__
        self._loaded: dict[tuple[str, ...], Callable] = {}
        KERNELS.append(self)

    def __call__(self, grid: Size, block: Size, *args: Any) -> None:
        if planned is not None:
            planned.append(Launch(self, _three(grid), _three(block), args))
            return
        key = tuple([_type_of(arg) for arg in args])
        run = self._loaded.get(key)
        if run is None:
            run = self._loaded[key] = self._load(key)
        run(_three(grid), _three(block), args)

    def is_for(self, capability: Capability) -> bool:
        """Whether GPUs of that compute capability have the instructions it uses."""
        return capability == self.needs or (capability > self.needs and not self.alone)

    def compile(self, signature: tuple[str, ...], capability: Capability) -> Binary:
        """The machine code for one of the signatures."""
        types = tuple(map(_numba_type, signature))
        bounds = (self.threads, self.blocks)
        return compiler.compiled(self.function, types, capability, bounds)

    def _load(self, signature: tuple[str, ...]) -> Callable:
        if signature not in self.signatures:
            taken = dict.fromkeys(code for s in self.signatures for code in s)
            raise TypeError(
                f"kernel {self.name} does not exist for ({' '.join(signature)}); cast first, to "
                f"what it takes: {', '.join(taken)}."
            )
        return self._simulate if SIMULATED else _Launcher(self, signature)

    def _simulate(self, grid: tuple, block: tuple, args: tuple) -> None:
        if math.prod(block) > self.threads:
            raise ValueError(
                f"kernel {self.name} takes blocks of {self.threads} threads at most, got {block}."
            )
        from minitorch_ciml.kernels.cuda.runtime import runtime

        values = tuple(map(_simulated, args))
        runtime().launch(lambda: self._simulator(grid, block, self.shared, values))

    @cached_property
    def _simulator(self) -> Callable:
        from minitorch_ciml.kernels.cuda.simulator import simulated

        return simulated(self.function)


def kernel(
    signature: str,
    *,
    threads: int = 256,
    blocks: int = 1,
    shared: int = 0,
    name: str | None = None,
    needs: Capability = OLDEST,
    alone: bool = False,
    **variables: tuple[str, ...],
) -> Callable[[Callable], Kernel]:
    """Makes a function a `Kernel`; see the head of this file."""
    return lambda function: Kernel(
        function, signature, variables, threads, blocks, shared, name, needs, alone
    )


def _expanded(signature: str, variables: dict[str, tuple[str, ...]]) -> list[tuple[str, ...]]:
    """The signature for every combination of its variables."""
    expanded = []
    for choice in product(*variables.values()):
        values = dict(zip(variables, choice))
        words = [word.rstrip("*") for word in signature.split()]
        stars = ["*" * word.count("*") for word in signature.split()]
        expanded.append(tuple(values.get(w, w) + star for w, star in zip(words, stars)))
    return expanded


def _three(size: Size) -> tuple[int, int, int]:
    if isinstance(size, int):
        return (size, 1, 1)
    x, y, z = (*size, 1, 1)[:3]
    return (x, y, z)


def _type_of(arg: Any) -> str:
    if isinstance(arg, int):  # bool, too
        return "i4"
    if isinstance(arg, float) and not isinstance(arg, np.generic):
        return "f4"
    if isinstance(arg, np.generic):
        return arg.dtype.str[1:]
    try:
        return arg.pointer_type
    except AttributeError:
        raise TypeError(
            f"a kernel on the GPU got a {type(arg).__name__}; move it with .to('cuda')"
        ) from None


def _simulated(arg: Any) -> Any:
    if isinstance(arg, (int, np.generic)):
        return arg
    return np.float32(arg) if isinstance(arg, float) else arg.elements


def _numba_type(code: str) -> Any:
    from numba import types

    element = getattr(types, _NUMBA[code.rstrip("*")])
    return types.CPointer(element) if code.endswith("*") else element


class _Launcher:
    """One compiled signature of a kernel, loaded onto the GPU at hand."""

    def __init__(self, kernel: Kernel, signature: tuple[str, ...]):
        from minitorch_ciml.kernels.cuda.runtime import runtime

        self._runtime = runtime()
        binary = kernel.compile(signature, self._runtime.capability)
        self._function = self._runtime.load(binary, kernel.shared)
        self._shared = kernel.shared
        self._pointers = [code.endswith("*") for code in signature]
        self._packing = struct.Struct(
            "<" + "".join("Q" if code.endswith("*") else _PACKED[code] for code in signature)
        )
        self._offsets = range(0, 8 * len(signature), 8)
        self._addresses = ctypes.c_void_p * len(signature)

    def __call__(self, grid: tuple, block: tuple, args: tuple) -> None:
        values = [a.pointer if is_pointer else a for a, is_pointer in zip(args, self._pointers)]
        packed = ctypes.create_string_buffer(self._packing.pack(*values))
        start = ctypes.addressof(packed)
        places = self._addresses(*[start + offset for offset in self._offsets])
        self._runtime.launch(self._function, grid, block, self._shared, ctypes.addressof(places))
