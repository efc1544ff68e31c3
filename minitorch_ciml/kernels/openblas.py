"""What can be told to the OpenBLAS that NumPy has loaded already, when variables come too late."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator
from functools import cache
from threading import Lock

import numpy as np

# How builds decorate the names of functions.
_NAMES = (
    "scipy_openblas_{}64_", "scipy_openblas_{}", "openblas_{}64_", "openblas_{}",
)  # fmt: skip

# Two to this power is how many cycles an idle thread spins before it sleeps: some 0.3 ms.
PATIENCE = "20"


def _loaded() -> Iterator[ctypes.CDLL]:
    try:
        with open("/proc/self/maps") as maps:
            paths = {line.split()[-1] for line in maps if "openblas" in line}
    except OSError:  # not Linux
        return
    for path in paths:
        yield ctypes.CDLL(path)


def _function(library: ctypes.CDLL, name: str) -> Callable | None:
    decorated = (pattern.format(name) for pattern in _NAMES)
    return next((getattr(library, n) for n in decorated if hasattr(library, n)), None)


def set_num_threads(count: int) -> None:
    """Lets every OpenBLAS in this process use `count` threads."""
    for library in _loaded():
        set_count = _function(library, "set_num_threads")
        if set_count is not None:
            set_count(ctypes.c_int(count))


_one_at_a_time = Lock()


@cache
def _counts() -> tuple[Callable[[], int], Callable[[int], None]] | None:
    """The functions that read and set how many threads NumPy's OpenBLAS uses; None without it."""
    libraries = list(_loaded())
    numpys = [x for x in libraries if "numpy" in x._name] or libraries  # SciPy has another one
    if len(numpys) != 1:
        return None
    get, set_ = (_function(numpys[0], f"{verb}_num_threads") for verb in ("get", "set"))
    return None if get is None or set_ is None else (get, set_)


def knows_its_threads() -> bool:
    """Whether `product_on_one_thread` is what it says: NumPy has an OpenBLAS of its own."""
    return _counts() is not None


def product_on_one_thread(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a b by BLAS, which does not wake threads that would be in the way of ours."""
    get, set_ = _counts()  # type: ignore[misc]
    with _one_at_a_time:
        before = get()
        set_(1)
        try:
            return np.matmul(a, b)
        finally:
            set_(before)


def let_idle_threads_sleep() -> None:
    """Makes idle BLAS threads sleep after 0.3 ms, unless OPENBLAS_THREAD_TIMEOUT is set.

    By default they spin for 2^26 cycles, some 20 ms, on cores that our kernels' threads then
    want: on two cores a training step of the course's network took 11.8 ms, and 7.7 ms like this.
    The variable is read when the threads are started, so they are stopped and started again.
    """
    if "OPENBLAS_THREAD_TIMEOUT" in os.environ:
        return
    os.environ["OPENBLAS_THREAD_TIMEOUT"] = PATIENCE
    for library in _loaded():
        try:
            steps = (
                library.openblas_read_env,
                library.blas_thread_shutdown_,
                library.blas_thread_init,
            )
        except AttributeError:  # a build without threads of its own
            continue
        for step in steps:
            step()
