"""`InputSpec`: what a layer asks of its input."""

from __future__ import annotations

import math
from typing import Any


class InputSpec:
    """What a layer asks of an input.

    Args:
        ndim: the number of axes; `min_ndim`: the least one.
        axes: the size that an axis must have, such as {-1: 3}.
        allow_last_axis_squeeze: a last axis of size 1 may be there or not.
        name: of the input.
        optional: whether it may be None.
    """

    def __init__(
        self,
        dtype: Any = None,
        shape: tuple | None = None,
        ndim: int | None = None,
        max_ndim: int | None = None,
        min_ndim: int | None = None,
        axes: dict[int, int] | None = None,
        allow_last_axis_squeeze: bool = False,
        name: str | None = None,
        optional: bool = False,
    ):
        if allow_last_axis_squeeze and shape is not None:
            if shape[-1] == 1:
                shape = tuple(shape)[:-1]
        self.dtype = dtype
        self.name = name
        self.optional = optional
        self.allow_last_axis_squeeze = allow_last_axis_squeeze
        self.shape = shape
        self.ndim = ndim if shape is None else len(shape)
        self.max_ndim = max_ndim
        self.min_ndim = min_ndim
        self._fewest = self.ndim if self.ndim is not None else min_ndim or 0
        self._most = self.ndim if self.ndim is not None else max_ndim or math.inf
        self.axes = {int(axis): size for axis, size in (axes or {}).items()}
        self.axes.update({i: n for i, n in enumerate(shape or ()) if n is not None})

    def get_config(self) -> dict:
        """The arguments that make such a specification again."""
        names = ("dtype", "shape", "ndim", "max_ndim", "min_ndim", "axes", "optional")
        axes = {} if self.shape is not None else self.axes
        return {name: axes if name == "axes" else getattr(self, name) for name in names}

    @classmethod
    def from_config(cls, config: dict) -> InputSpec:
        return cls(**config)

    def check(self, shape: tuple, layer: Any) -> None:
        """Raises ValueError if an input of this shape does not fit `layer`."""
        if self.allow_last_axis_squeeze and self.shape is not None and shape[-1:] == (1,):
            shape = shape[:-1]
        ndim, wrong = len(shape), None
        if not self._fewest <= ndim <= self._most:
            limit = self._fewest if ndim < self._fewest else self._most
            few = "" if self._fewest == self._most else "at least " if ndim < limit else "at most "
            wrong = f"{few}{limit} dimensions, got {ndim}"
        else:
            for axis, size in self.axes.items():
                if shape[axis] != size and shape[axis] is not None:
                    wrong = f"size {size} on axis {axis}, got {shape[axis]}"
        if wrong:
            raise ValueError(
                f"layer {layer.name!r} ({type(layer).__name__}) expects an input with {wrong}; the "
                f"input's shape is {tuple(shape)}."
            )
