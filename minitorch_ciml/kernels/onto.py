"""Where two gradients meet, in a value that two ops use, their sum need be no pass of its own."""

from __future__ import annotations

from collections.abc import Callable


def adds_onto(kernel: Callable) -> Callable:
    """Says that a gradient kernel takes `onto`, and returns the first input's gradient plus that.

    `onto` is what other ops have contributed to the gradient of the same variable, of its shape
    and dtype, or None. Others may hold the same array, so it must not be written to.
    """
    kernel.adds_onto = True  # type: ignore[attr-defined]
    return kernel
