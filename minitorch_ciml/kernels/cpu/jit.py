"""How kernels are compiled and cached.

`kernel` compiles a function that other kernels call, `entry` one that Python calls, and
`threads.task` one that runs on all threads. Only entries are cached on disk (in `__pycache__`
beside the source or, where that is read-only, in the user's cache directory): what they call is
inside of them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from threading import Timer
from types import FunctionType
from typing import Any

import numpy as np
from llvmlite.binding import Linkage
from numba import njit, types
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler

from minitorch_ciml.kernels.cpu.cache import KernelCache
from minitorch_ciml.kernels.garbage import collected_later

# What every kernel is built from: a change there must recompile them all.
_FOUNDATION = [
    Path(__file__).with_name(f"{name}.py")
    for name in (
        "correlate",
        "each",
        "exponential",
        "jit",
        "loads",
        "maxima",
        "products",
        "rows",
        "simd",
        "threads",
        "vector",
        "winograd",
    )  # fmt: skip
]


def _source_stamp(*functions: Callable) -> tuple[tuple[int, int], ...]:
    """Changes with the functions' files, of which numba watches the first, and the foundation's."""
    files = [*(Path(function.__code__.co_filename) for function in functions), *_FOUNDATION]
    stamps = [file.stat() for file in files if file.exists()]
    return tuple((stamp.st_mtime_ns, stamp.st_size) for stamp in stamps)


class _PartLibrary(JITCodeLibrary):
    """The code of a kernel that only kernels call: simplified, but neither optimised nor turned
    into machine code by itself.

    Numba would do both, link it into its caller, and do both again there with all of it, at each
    level of calls. Here an entry does it once, for all that it calls: measured, the course's CNN
    compiles in half the time. Simplified it must be: LLVM then inlines as before (without, an
    LSTM's step took 1.2 times as long, a convolution of one channel 1.9 times).
    """

    def _optimize_final_module(self) -> None:
        pass

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._finalized = True

    def get_pointer_to_function(self, name: str) -> int:
        """0, as numba says where there is no machine code."""
        self._ensure_finalized()
        return 0

    @property
    def codegen(self) -> Any:
        """For `set_env`, where numba keeps what `print` and objects of Python would need."""
        return self

    def set_env(self, name: str, environment: Any) -> None:
        pass


class _PartCompiler(Compiler):
    """Numba's compiler, but what it makes is part of an entry."""

    def __init__(self, typingctx: Any, targetctx: Any, library: Any, *rest: Any) -> None:
        super().__init__(
            typingctx, targetctx, library or _PartLibrary(targetctx.codegen(), "part"), *rest
        )


class _EntryLibrary(JITCodeLibrary):
    """The code of an entry, whose parts no other entry can see.

    Numba names a function by its place, its types and a number that counts the functions of this
    process. Code from the cache was numbered in another process: two closures of one factory, such
    as `panel` in `correlate`, may have the same name then, and the one loaded first was called
    for both.
    """

    def _optimize_final_module(self) -> None:
        super()._optimize_final_module()
        for function in self._final_module.functions:
            if function.linkage == Linkage.linkonce_odr and not function.is_declaration:
                function.linkage = Linkage.internal


class _EntryCompiler(Compiler):
    """Numba's compiler, but the parts of what it makes are its own."""

    def __init__(self, typingctx: Any, targetctx: Any, library: Any, *rest: Any) -> None:
        if library is None:
            library = _EntryLibrary(targetctx.codegen(), "entry")
            library.enable_object_caching()  # as numba does with one of its own
        super().__init__(typingctx, targetctx, library, *rest)


def _part(function: Callable, **options: Any) -> Any:
    """Compiles a function that only kernels call."""
    options |= {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    compiled = njit(nogil=True, error_model="numpy", pipeline_class=_PartCompiler, **options)(
        function
    )
    compile_types = compiled.compile
    # Not for each constant anew: numba tries `i = 0` as a constant before it finds `i += 1`.
    compiled.compile = lambda kinds: compile_types(tuple(map(types.unliteral, kinds)))
    return compiled


def kernel(function: Callable) -> Any:
    """Compiles a function for use in kernels. As in NumPy, division does not check for zero."""
    return _part(function)


def inlined(function: Callable) -> Any:
    """A kernel that becomes part of its caller. An array is seven arguments: measured, a call with
    eight arrays costs as much as a tile of 12 x 16 sums.
    """
    return _part(function, forceinline=True)


# Seconds after which a compilation is worth a word.
PATIENCE = 1.0
_told = False


def _tell() -> None:
    global _told
    if not _told:
        _told = True
        print("Compiling kernels for this machine, once ...", file=sys.stderr, flush=True)


def _with_a_word(compile_types: Callable) -> Callable:
    """The same, but says so, once in a process, where it takes long."""

    def compile_and_tell(*types: Any) -> Any:
        timer = Timer(PATIENCE, _tell)
        timer.daemon = True
        timer.start()
        try:
            with collected_later():
                return compile_types(*types)
        finally:
            timer.cancel()

    return compile_and_tell


def entry(function: Callable, *made_of: Callable, **options: Any) -> Any:
    """Compiles a kernel that Python calls; cached on disk where a folder can be written.

    Args:
        made_of: functions that it calls and that are written in other files.
    """
    options |= {"pipeline_class": _EntryCompiler}
    compiled = njit(nogil=True, error_model="numpy", **options)(function)
    # Numba calls this where the cache has nothing.
    compiled._compiler.compile = _with_a_word(compiled._compiler.compile)
    try:
        compiled._cache = KernelCache(function, _source_stamp(function, *made_of))
    except RuntimeError:  # no folder is writable: every process compiles for itself
        pass
    return compiled


def named(function: Callable, name: str, **known: Any) -> FunctionType:
    """A copy of a function that knows more global names: the cache finds its code by its name.

    What a factory makes must differ in name, and must not be a closure: numba never finds the code
    of one that holds other kernels.
    """
    twin = FunctionType(function.__code__, {**function.__globals__, **known}, name)
    twin.__qualname__ = name
    return twin


def common_dtype(a: np.ndarray, b: np.ndarray) -> np.dtype:
    """The dtype that both are computed in; nearly always they have the same one."""
    return a.dtype if a.dtype is b.dtype else np.result_type(a, b)


def ready(a: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """`a` flat, C-contiguous, aligned and writable: numba compiles for each kind of array."""
    if a.dtype != dtype or not a.flags.carray:
        a = np.array(a, dtype, order="C")
    return a.reshape(-1)


def ready_or_empty(a: np.ndarray | None, dtype: np.dtype) -> np.ndarray:
    """`ready`; an array without elements stands for None."""
    return np.empty(0, dtype) if a is None else ready(a, dtype)
