"""`InputSpec`: what a layer asks of its input."""

from __future__ import annotations

from typing import Any


class InputSpec:
    """What a layer asks of an input.

    Args:
        ndim: the number of axes; `min_ndim`: the least one.
        axes: the size that an axis must have, such as {-1: 3}.
    """

    def __init__(
        self,
        dtype: Any = None,
        shape: tuple | None = None,
        ndim: int | None = None,
        max_ndim: int | None = None,
        min_ndim: int | None = None,
        axes: dict[int, int] | None = None,
    ):
        self.dtype = dtype
        self.shape = shape
        self.ndim = ndim if shape is None else len(shape)
        self.max_ndim = max_ndim
        self.min_ndim = min_ndim
        self.axes = {int(axis): size for axis, size in (axes or {}).items()}
        self.axes.update({i: n for i, n in enumerate(shape or ()) if n is not None})

    def check(self, shape: tuple, layer: Any) -> None:
        """Raises ValueError if an input of this shape does not fit `layer`."""
        ndim, wrong = len(shape), None
        if self.ndim is not None and ndim != self.ndim:
            wrong = f"{self.ndim} dimensions, got {ndim}"
        elif self.min_ndim is not None and ndim < self.min_ndim:
            wrong = f"at least {self.min_ndim} dimensions, got {ndim}"
        elif self.max_ndim is not None and ndim > self.max_ndim:
            wrong = f"at most {self.max_ndim} dimensions, got {ndim}"
        else:
            for axis, size in self.axes.items():
                if shape[axis] is not None and shape[axis] != size:
                    wrong = f"size {size} on axis {axis}, got {shape[axis]}"
        if wrong:
            raise ValueError(
                f"layer {layer.name!r} ({type(layer).__name__}) expects an input with {wrong}; the "
                f"input's shape is {tuple(shape)}."
            )
