"""What a kernel is compiled from: its code, that of all it calls, and the constants they use.

Two kernels with the same fingerprint are the same program, so the one on disk can be taken.
Comments, and other kernels in the same file, do not change it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from functools import cache
from importlib.metadata import version
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np

_OURS = __package__.partition(".")[0]
_TOOLS = ("numba-cuda", "cuda-core", "nvidia-nvvm", "nvidia-nvjitlink")


def fingerprint(function: Callable) -> str:
    """Changes when anything does that the function is compiled from, or with."""
    digest = hashlib.sha256()
    for part in (*map(_version, _TOOLS), *_parts(function, set())):
        digest.update(part.encode() + b"\0")
    return digest.hexdigest()


def _parts(value: Any, seen: set[int]) -> Iterator[str]:
    """Texts that tell a value apart; functions are taken apart."""
    value = getattr(value, "py_func", value)  # of a function that numba compiles
    if isinstance(value, FunctionType):
        yield value.__qualname__
        if id(value) not in seen:
            seen.add(id(value))
            yield from _function_parts(value, seen)
    elif isinstance(value, CodeType):
        yield from _code_parts(value, seen)
    elif hasattr(value, "_defn"):  # an intrinsic: whatever its module says
        yield value._defn.__name__
        yield _file_digest(value._defn.__code__.co_filename)
    elif isinstance(value, ModuleType):
        yield value.__name__
        if value.__name__.startswith(_OURS):
            yield _file_digest(value.__file__ or "")
    elif isinstance(value, (tuple, list)):
        yield str(len(value))
        for item in value:
            yield from _parts(item, seen)
    elif isinstance(value, np.ndarray):
        yield repr((value.shape, value.dtype, value.tobytes()))
    else:
        yield getattr(value, "__qualname__", None) or repr(value)


def _function_parts(function: FunctionType, seen: set[int]) -> Iterator[str]:
    code = function.__code__
    yield from _code_parts(code, seen)
    yield from _parts(function.__defaults__, seen)
    for cell in function.__closure__ or ():
        yield from _parts(cell.cell_contents, seen)
    for name in sorted(set(_names(code)) & function.__globals__.keys()):
        yield name
        yield from _parts(function.__globals__[name], seen)


def _code_parts(code: CodeType, seen: set[int]) -> Iterator[str]:
    yield code.co_code.hex()
    yield repr((code.co_names, code.co_varnames, code.co_freevars))
    yield from _parts(code.co_consts, seen)


def _names(code: CodeType) -> list[str]:
    """The global names in a function's code, inner functions included."""
    inner = [c for c in code.co_consts if isinstance(c, CodeType)]
    return [*code.co_names, *(name for c in inner for name in _names(c))]


@cache
def _file_digest(path: str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


@cache
def _version(package: str) -> str:
    try:
        return version(package)
    except ImportError:
        return "none"
