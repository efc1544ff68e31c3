"""How kernels are compiled, cached and run on threads.

``kernel`` compiles a function that runs on one thread; ``parallel_kernel`` one that contains a ``prange`` loop and is
called from Python.  Only the latter are cached on disk (in ``__pycache__`` beside the source or, where that is
read-only, in the user's cache directory): what they call is inside of them.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

# An idle OpenMP thread spins, by default for milliseconds, and steals the core from the BLAS thread that comes next:
# a 512 x 512 matrix product after a kernel took 7 ms instead of 1.1 ms.  A thousand turns (some microseconds) are
# enough to make the launch of the next kernel cheap (2 us).  Both libraries read this when they are loaded.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # GNU's OpenMP
os.environ.setdefault("KMP_BLOCKTIME", "0")  # LLVM's and Intel's OpenMP

import numpy as np
from numba import njit


def _source_stamp() -> tuple[tuple[str, int, int], ...]:
    """Changes when any source file of the kernels does; numba itself watches only the file of the function."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return tuple((file.name, file.stat().st_mtime_ns, file.stat().st_size) for file in files)


_STAMP = _source_stamp()


def kernel(function: Callable) -> Any:
    """Compiles for one thread; usable inside other kernels.  Division follows NumPy: no checks for zero."""
    return njit(nogil=True, error_model="numpy")(function)


def parallel_kernel(function: Callable) -> Any:
    """Compiles a driver whose ``prange`` loop runs on numba's threads; cached on disk.

    Each costs some 0.4 s to compile, whatever its size, so there is one per family of kernels.
    """
    compiled = njit(nogil=True, error_model="numpy", parallel=True, cache=True)(function)
    compiled._cache._cache_file._source_stamp = _STAMP
    return compiled


def ready(a: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """``a`` flat, C-contiguous, aligned and writable: numba compiles once for each kind of array."""
    if a.dtype != dtype or not a.flags.carray:
        a = np.array(a, dtype, order="C")
    return a.reshape(-1)
