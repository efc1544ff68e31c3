"""What can be told to the OpenBLAS that NumPy has loaded already, when variables come too late."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator

_SETTERS = (
    "scipy_openblas_set_num_threads64_", "scipy_openblas_set_num_threads",
    "openblas_set_num_threads64_", "openblas_set_num_threads",
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


def set_num_threads(count: int) -> None:
    """Lets every OpenBLAS in this process use `count` threads."""
    for library in _loaded():
        for name in _SETTERS:
            if hasattr(library, name):
                getattr(library, name)(ctypes.c_int(count))
                break


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
