"""Shapes of inputs: one, or lists and dictionaries of them."""

from __future__ import annotations

from typing import Any

from minitorch_ciml.keras.symbolic import KerasTensor
from minitorch_ciml.keras.tree import map_structure


def shapes_of(inputs: Any) -> Any:
    """The shape of each input; None for what has none."""
    return map_structure(lambda x: getattr(x, "shape", None), inputs)


def as_shapes(shape: Any) -> Any:
    """Lists from a file as the tuples that `build` expects."""
    if isinstance(shape, int):
        raise TypeError(f"got the shape {shape}, expected one with the batch: (None, {shape}).")
    if isinstance(shape, dict):
        return {key: as_shapes(value) for key, value in shape.items()}
    if shape and isinstance(shape[0], (list, tuple)):
        return [as_shapes(s) for s in shape]
    return tuple(shape)


def any_batch(shape: Any) -> Any:
    """Shapes with None for the first size."""
    if isinstance(shape, dict):
        return {key: any_batch(value) for key, value in shape.items()}
    if shape and isinstance(shape[0], (list, tuple)):
        return [any_batch(s) for s in shape]
    return (None, *shape[1:]) if shape else shape


def as_lists(shape: Any) -> Any:
    """Shapes as plain data, for a file."""
    if isinstance(shape, dict):
        return {key: as_lists(value) for key, value in shape.items()}
    return [as_lists(n) for n in shape] if isinstance(shape, (list, tuple)) else shape


def symbolic(shape: Any) -> Any:
    """A KerasTensor for each shape."""
    if isinstance(shape, dict):
        return {key: symbolic(value) for key, value in shape.items()}
    return [symbolic(s) for s in shape] if isinstance(shape, list) else KerasTensor(shape)
