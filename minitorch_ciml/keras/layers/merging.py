"""Layers that merge several inputs into one, and their function forms."""

from __future__ import annotations

from functools import reduce
from typing import Any

from minitorch_ciml import ops
from minitorch_ciml.keras.layers.layer import Layer
from minitorch_ciml.keras.serialization import serializable


class Merge(Layer):
    """Combines a list of inputs, element by element; their shapes broadcast."""

    fewest = 2
    _makes_masks = False

    def combine(self, inputs: list) -> Any:
        """The layer's formula."""
        raise NotImplementedError

    def _check(self, inputs: Any) -> None:
        count = len(inputs) if isinstance(inputs, (list, tuple)) else 0
        if count < self.fewest:
            given = count or "one that is in no list"
            raise ValueError(
                f"{type(self).__name__} takes a list of {self.fewest} or more inputs, got {given}; "
                "call it as layer([a, b])."
            )

    def build(self, input_shape: Any) -> None:
        if not (input_shape and isinstance(input_shape[0], (list, tuple))):
            self._check(input_shape if isinstance(input_shape, list) else None)

    def call(self, inputs: Any) -> Any:
        self._check(inputs if isinstance(inputs, (list, tuple)) else None)
        return self.combine(list(inputs))

    def compute_output_shape(self, input_shape: Any) -> tuple:
        self._check(input_shape)
        return reduce(_broadcast, input_shape)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """Where any of the inputs counts; None if one of them has no mask."""
        if mask is None or any(m is None for m in mask):
            return None
        return reduce(ops.logical_or, mask)


def _broadcast(a: tuple, b: tuple) -> tuple:
    """The shape of `a` combined with `b`, None where it is unknown."""
    n = max(len(a), len(b))
    a, b = (1,) * (n - len(a)) + tuple(a), (1,) * (n - len(b)) + tuple(b)
    for x, y in zip(a, b):
        if x != y and None not in (x, y) and 1 not in (x, y):
            raise ValueError(f"cannot merge inputs of shapes {a} and {b}: {x} is not {y}.")
    return tuple((y if x == 1 else x if y == 1 else None if None in (x, y) else x)
                 for x, y in zip(a, b))  # fmt: skip


@serializable("keras.layers")
class Add(Merge):
    """y = x1 + x2 + ..."""

    def combine(self, inputs: list) -> Any:
        return reduce(ops.add, inputs)


@serializable("keras.layers")
class Subtract(Merge):
    """y = x1 - x2."""

    def combine(self, inputs: list) -> Any:
        if len(inputs) != 2:
            raise ValueError(f"Subtract takes exactly two inputs, got {len(inputs)}.")
        return ops.subtract(*inputs)


@serializable("keras.layers")
class Multiply(Merge):
    """y = x1 * x2 * ..."""

    def combine(self, inputs: list) -> Any:
        return reduce(ops.multiply, inputs)


@serializable("keras.layers")
class Average(Merge):
    """y = (x1 + x2 + ...) / n."""

    def combine(self, inputs: list) -> Any:
        return reduce(ops.add, inputs) / len(inputs)


@serializable("keras.layers")
class Maximum(Merge):
    """y = the largest of the inputs, element by element."""

    def combine(self, inputs: list) -> Any:
        return reduce(ops.maximum, inputs)


@serializable("keras.layers")
class Minimum(Merge):
    """y = the smallest of the inputs, element by element."""

    def combine(self, inputs: list) -> Any:
        return reduce(ops.minimum, inputs)


@serializable("keras.layers")
class Concatenate(Merge):
    """The inputs one after the other along `axis`; all other sizes are equal."""

    fewest = 1
    _makes_masks = False

    def __init__(self, axis: int = -1, **kwargs: Any):
        super().__init__(**kwargs)
        self.axis = axis

    def combine(self, inputs: list) -> Any:
        return ops.concatenate(inputs, axis=self.axis)

    def compute_output_shape(self, input_shape: Any) -> tuple:
        self._check(input_shape)
        first = list(input_shape[0])
        sizes = [shape[self.axis] for shape in input_shape]
        for shape in input_shape[1:]:
            others = [(a, b) for i, (a, b) in enumerate(zip(first, shape))
                      if i != self.axis % len(first)]  # fmt: skip
            if len(shape) != len(first) or any(a != b for a, b in others if None not in (a, b)):
                raise ValueError(
                    f"Concatenate: all sizes but that of axis {self.axis} must be equal, got "
                    f"shapes {[tuple(s) for s in input_shape]}."
                )
        first[self.axis] = None if None in sizes else sum(sizes)
        return tuple(first)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """Where any of the joined elements counts; those without a mask all do."""
        if mask is None or all(m is None for m in mask):
            return None
        whole = [_mask_like(x, m) for x, m in zip(inputs, mask)]
        return ops.any(ops.concatenate(whole, axis=self.axis), axis=-1)


@serializable("keras.layers")
class Dot(Merge):
    """The sums of products of two inputs along `axes`, sample by sample.

    Args:
        axes: the axis to sum over, or one for each input; axis 0 is the batch.
        normalize: scale both inputs to length 1 along `axes` first: the cosine similarity.
    """

    _makes_masks = False

    def __init__(self, axes: Any, normalize: bool = False, **kwargs: Any):
        super().__init__(**kwargs)
        self.axes = axes
        self.normalize = normalize

    def combine(self, inputs: list) -> Any:
        if len(inputs) != 2:
            raise ValueError(f"Dot takes exactly two inputs, got {len(inputs)}.")
        a, b = inputs
        axis_a, axis_b = self._axes(a.ndim, b.ndim)
        if a.shape[axis_a] != b.shape[axis_b]:
            raise ValueError(
                f"Dot: the sizes along axes {self.axes} must be equal, got shapes {a.shape} and "
                f"{b.shape}."
            )
        if self.normalize:
            a, b = _unit(a, axis_a), _unit(b, axis_b)
        # Sample by sample: sum over one axis of each, the free axes of a, then those of b.
        free_a, free_b = a.ndim - 2, b.ndim - 2
        a, b = ops.moveaxis(a, axis_a, -1), ops.moveaxis(b, axis_b, 1)
        shape = (a.shape[0], *a.shape[1:-1], *b.shape[2:])
        rows = ops.reshape(a, (a.shape[0], -1, a.shape[-1]))
        columns = ops.reshape(b, (b.shape[0], b.shape[1], -1))
        product = ops.matmul(rows, columns)
        return ops.reshape(product, shape if free_a + free_b else (shape[0], 1))

    def _axes(self, rank_a: int, rank_b: int) -> tuple[int, int]:
        a, b = (self.axes, self.axes) if isinstance(self.axes, int) else self.axes
        return a % rank_a, b % rank_b

    def compute_output_shape(self, input_shape: Any) -> tuple:
        self._check(input_shape)
        a, b = map(tuple, input_shape)
        axis_a, axis_b = self._axes(len(a), len(b))
        free = (*a[1:axis_a], *a[axis_a + 1 :], *b[1:axis_b], *b[axis_b + 1 :])
        return (a[0], *free) if free else (a[0], 1)

    def compute_mask(self, inputs: Any, mask: Any = None) -> None:
        return None


def _mask_like(x: Any, mask: Any) -> Any:
    """A mask with an axis less than `x`, or as many, in the shape of `x`; None: True everywhere."""
    if mask is None:
        return ops.ones(x.shape, bool)
    mask = ops.cast(mask, bool)
    return ops.broadcast_to(mask if mask.ndim == x.ndim else mask[..., None], x.shape)


def _unit(x: Any, axis: int) -> Any:
    squares = ops.sum(x * x, axis=axis, keepdims=True)
    return x / ops.sqrt(ops.maximum(squares, 1e-12))


def add(inputs: list, **kwargs: Any) -> Any:
    """`Add` as a function."""
    return Add(**kwargs)(inputs)


def subtract(inputs: list, **kwargs: Any) -> Any:
    """`Subtract` as a function."""
    return Subtract(**kwargs)(inputs)


def multiply(inputs: list, **kwargs: Any) -> Any:
    """`Multiply` as a function."""
    return Multiply(**kwargs)(inputs)


def average(inputs: list, **kwargs: Any) -> Any:
    """`Average` as a function."""
    return Average(**kwargs)(inputs)


def maximum(inputs: list, **kwargs: Any) -> Any:
    """`Maximum` as a function."""
    return Maximum(**kwargs)(inputs)


def minimum(inputs: list, **kwargs: Any) -> Any:
    """`Minimum` as a function."""
    return Minimum(**kwargs)(inputs)


def concatenate(inputs: list, axis: int = -1, **kwargs: Any) -> Any:
    """`Concatenate` as a function."""
    return Concatenate(axis, **kwargs)(inputs)


def dot(inputs: list, axes: Any = -1, **kwargs: Any) -> Any:
    """`Dot` as a function."""
    return Dot(axes, **kwargs)(inputs)
