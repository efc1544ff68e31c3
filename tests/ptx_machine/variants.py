"""A kernel's other types and functions, run with a launch's numbers, here and by the simulator.

Tests of ops use the types that matter. A kernel has more, and most come from a factory that made
others as well; where a launch of one of them is known, so is one of each other: the same sizes, and
the arrays in other types.
"""

from __future__ import annotations

import re
from typing import Any

import ml_dtypes
import numpy as np

from minitorch_ciml.kernels.cuda.launch import KERNELS, Kernel
from minitorch_ciml.kernels.cuda.memory import CudaArray
from ptx_machine.machine import Machine
from ptx_machine.memory import Global

_BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
# Of results, relative to the largest number; none for whole numbers.
_TOLERANCES = {"f8": 1e-9, "f4": 1e-4, "f2": 4e-3, "bf2": 3e-2}


_TYPES = re.compile(r"(?<=[._])(bf2|bf16|f16|f2|f4|f8|i1|i2|i4|i8|u1|u2|u4|u8|b1)(?=[._]|$)")
_FUNCTIONS = re.compile(r".*[.](?=flat|strided)")  # elementwise kernels: of any function


# These need arrays that other kernels made of the same numbers.
_DEPENDENT = ("sort._merge",)


def related(kernel: Kernel) -> list[Kernel]:
    """Kernels that can be launched in the same way: those of a factory, for all types."""
    if kernel.name in _DEPENDENT:
        return []
    return [other for other in KERNELS if _family(other) == _family(kernel)]


def _family(kernel: Kernel) -> tuple:
    name = _FUNCTIONS.sub("", _TYPES.sub("", kernel.name)).strip(".")
    function = kernel.function
    return function.__module__, function.__qualname__, name, len(kernel.signatures[0])


def dtype_of(code: str) -> np.dtype:
    """The NumPy type of "f4*" and the like; bools are bytes, as in kernels."""
    code = code.rstrip("*")
    return _BFLOAT16 if code == "bf2" else np.dtype("u1" if code == "b1" else code)


def contents(args: tuple) -> list[Any]:
    """What a launch is called with, as it is now: arrays and numbers."""
    return [arg.numpy() if isinstance(arg, CudaArray) else arg for arg in args]


def check(
    kernel: Kernel, signature: tuple[str, ...], machine: Machine, grid: tuple, block: tuple,
    values: list[Any],
) -> None:  # fmt: skip
    """Runs the kernel for a signature, both ways, and compares all arrays afterwards."""
    with np.errstate(all="ignore"):
        given = [_converted(value, code) for value, code in zip(values, signature)]
    ours = [v.copy() if isinstance(v, np.ndarray) else v for v in given]
    memory = Global()
    arguments = [
        np.uint64(memory.add(_padded(v), 0, v.nbytes)) if isinstance(v, np.ndarray) else v
        for v in ours
    ]
    rooms = memory.buffers
    machine.launch(grid, block, arguments, memory, kernel.shared)
    theirs = [_bits(v) if isinstance(v, np.ndarray) else v for v in given]
    kernel._simulator(grid, block, kernel.shared, tuple(theirs))
    room = iter(rooms)
    for n, (code, value) in enumerate(zip(signature, given)):
        if isinstance(value, np.ndarray):
            found = next(room)[: value.nbytes].view(value.dtype)
            _compare(found, value, code.rstrip("*"), f"{kernel.name} {signature}, array {n}")


def _converted(value: Any, code: str) -> Any:
    dtype = dtype_of(code)
    if not isinstance(value, np.ndarray):
        return dtype.type(value)
    flat = np.ascontiguousarray(value).reshape(-1)
    if flat.dtype.name == dtype.name or (code == "b1*" and flat.dtype == bool):
        return flat.view(dtype).copy()
    wide = np.nan_to_num(flat.astype("float64"), posinf=1.0, neginf=-1.0)
    if dtype.kind in "iu":
        wide = np.clip(np.rint(wide * 3), 0 if dtype.kind == "u" else -100, 100)
    return np.where(code == "b1*", wide > 0, wide).astype(dtype)


def _padded(array: np.ndarray) -> np.ndarray:
    """A buffer for an array, aligned as the GPU's."""
    room = np.full(-(-array.nbytes // 512) * 512 or 512, 0xFF, np.uint8)
    room[: array.nbytes] = array.view(np.uint8)
    return room


def _bits(array: np.ndarray) -> np.ndarray:
    """As the simulator has it: bfloat16 as integers."""
    return array.view(np.uint16) if array.dtype == _BFLOAT16 else array


def _compare(found: np.ndarray, expected: np.ndarray, code: str, where: str) -> None:
    if code not in _TOLERANCES:
        np.testing.assert_array_equal(found, expected, where)
        return
    with np.errstate(all="ignore"):
        found, expected = found.astype("float64"), expected.astype("float64")
    scale = np.abs(expected[np.isfinite(expected)]).max(initial=0)
    tolerance = _TOLERANCES[code]
    np.testing.assert_allclose(found, expected, tolerance, tolerance * scale, err_msg=where)
