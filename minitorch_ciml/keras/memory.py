"""Keras' names for computing results anew on the way back, in place of keeping them.

Here all results are kept, so both of them change nothing but the memory that a script needs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

MODES = (None, "full", "activations", "larger_than", "list_of_layers")


class RematScope:
    """`with RematScope(mode="full"):`, as in Keras; layers that are made in it are as any other.

    Args:
        mode, output_size_threshold, layer_names: which layers Keras would compute anew.
    """

    def __init__(
        self,
        mode: str | None = "full",
        output_size_threshold: int = 1024,
        layer_names: list[str] | None = None,
    ):
        if mode not in MODES:
            raise ValueError(f"RematScope: got mode={mode!r}, expected one of {MODES}.")
        self.mode = mode
        self.output_size_threshold = output_size_threshold
        self.layer_names = layer_names or []

    def __enter__(self) -> RematScope:
        return self

    def __exit__(self, *error: Any) -> None:
        pass


def remat(f: Callable) -> Callable:
    """`f`, whose results Keras would compute anew on the way back."""
    return f
