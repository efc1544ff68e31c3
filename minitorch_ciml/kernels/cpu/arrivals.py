"""Where the gradients of two ops that use the same value meet: their sum, in place."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from minitorch_ciml.kernels.cpu.elementwise import SMALL, add_into


def makes_first(kernel: Callable) -> Callable:
    """Says that the first gradient that a gradient kernel returns is an array that it has made.

    So nobody else holds it, and what has arrived at that input before may be added into it.
    """
    kernel.add_arrived = _add_arrived  # type: ignore[attr-defined]
    return kernel


def _add_arrived(gradient: np.ndarray, arrived: np.ndarray) -> None:
    """`gradient += arrived`, of one shape and dtype."""
    simple = gradient.flags.c_contiguous and gradient.dtype.char in "fd"
    if simple and gradient.size > SMALL:
        add_into(gradient, arrived, relu=False)
    else:
        np.add(gradient, arrived, out=gradient)
