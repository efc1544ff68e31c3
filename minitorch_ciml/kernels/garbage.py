"""Python's collector of garbage, while kernels are compiled."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collected_later() -> Iterator[None]:
    """Within it, Python does not look for garbage that refers to itself.

    Compilation leaves little of that, and looking through all that numba keeps took an eighth of
    its time.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()
