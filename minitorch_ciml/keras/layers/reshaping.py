"""Layers that move, repeat, pad or crop."""

from __future__ import annotations

import math
from typing import Any

from minitorch_ciml import ops
from minitorch_ciml.keras.backend import standardize_data_format
from minitorch_ciml.keras.layers.input_spec import InputSpec
from minitorch_ciml.keras.layers.kernel_layer import positive
from minitorch_ciml.keras.layers.layer import Layer
from minitorch_ciml.keras.serialization import serializable
from minitorch_ciml.ops.conv import per_dimension


@serializable("keras.layers")
class Reshape(Layer):
    """(N, ...) -> (N, *target_shape); one size in it may be -1: what is left."""

    def __init__(self, target_shape: Any, **kwargs: Any):
        super().__init__(**kwargs)
        shape = (target_shape,) if isinstance(target_shape, int) else target_shape
        self.target_shape = tuple(int(n) for n in shape)
        if self.target_shape.count(-1) > 1:
            raise ValueError(
                f"Reshape: one size at most may be -1, got target_shape={self.target_shape}."
            )
        self.built = True

    def call(self, inputs: Any) -> Any:
        return ops.reshape(inputs, self.compute_output_shape(inputs.shape))

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        if None in input_shape[1:]:
            return (input_shape[0], *(None if n == -1 else n for n in self.target_shape))
        size = math.prod(input_shape[1:])
        known = math.prod(n for n in self.target_shape if n != -1)
        fits = size % known == 0 if -1 in self.target_shape and known else size == known
        if not fits:
            raise ValueError(
                f"layer {self.name!r}: samples of shape {tuple(input_shape[1:])} ({size} numbers) "
                f"cannot be reshaped to {self.target_shape}."
            )
        return (input_shape[0], *(size // known if n == -1 else n for n in self.target_shape))


@serializable("keras.layers")
class Permute(Layer):
    """Reorders the axes of each sample; `dims` counts from 1, as the batch is axis 0."""

    def __init__(self, dims: Any, **kwargs: Any):
        super().__init__(**kwargs)
        self.dims = tuple(dims)
        if sorted(self.dims) != list(range(1, len(self.dims) + 1)):
            raise ValueError(
                f"Permute: dims must be the numbers 1 to {len(self.dims)} in any order, got {dims}."
            )
        self.input_spec = InputSpec(ndim=len(self.dims) + 1)
        self.built = True

    def call(self, inputs: Any) -> Any:
        return ops.transpose(inputs, (0, *self.dims))

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return (input_shape[0], *(input_shape[axis] for axis in self.dims))


@serializable("keras.layers")
class RepeatVector(Layer):
    """(N, F) -> (N, n, F): the vector n times."""

    def __init__(self, n: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.n = positive("RepeatVector", "n", n)
        self.input_spec = InputSpec(ndim=2)
        self.built = True

    def call(self, inputs: Any) -> Any:
        return ops.repeat(ops.expand_dims(inputs, 1), self.n, axis=1)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return (input_shape[0], self.n, input_shape[1])


class _Margins(Layer):
    """A base of padding and cropping: a pair of margins per spatial dimension."""

    rank: int
    sign: int

    def _set_up(self, argument: str, value: Any, data_format: str | None) -> tuple:
        self.data_format = standardize_data_format(data_format)
        self.input_spec = InputSpec(ndim=self.rank + 2)
        self.built = True
        if isinstance(value, int):
            return ((value, value),) * self.rank
        pairs = tuple(value)
        if self.rank == 1 and len(pairs) == 2 and all(isinstance(n, int) for n in pairs):
            pairs = (pairs,)
        pairs = tuple((n, n) if isinstance(n, int) else tuple(n) for n in pairs)
        if len(pairs) != self.rank or any(len(p) != 2 or min(p) < 0 for p in pairs):
            raise ValueError(
                f"{type(self).__name__}: {argument} must be an integer, {self.rank} of them, or "
                f"{self.rank} pairs (before, after), got {value!r}."
            )
        return pairs

    @property
    def pairs(self) -> tuple:
        """The margins (before, after) of each spatial dimension."""
        raise NotImplementedError

    def _all_pairs(self) -> list:
        spatial = list(self.pairs)
        if self.data_format == "channels_last":
            return [(0, 0), *spatial, (0, 0)]
        return [(0, 0), (0, 0), *spatial]

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        shape = tuple(
            None if n is None else n + self.sign * sum(pair)
            for n, pair in zip(input_shape, self._all_pairs())
        )
        if any(n is not None and n <= 0 for n in shape[1:]):
            raise ValueError(
                f"layer {self.name!r}: nothing is left of an input of shape {tuple(input_shape)}."
            )
        return shape


class _ZeroPadding(_Margins):
    """Zeros around the spatial dimensions.

    Args:
        padding: an int, one per dimension, or one pair (before, after) per dimension.
        data_format: "channels_last" or "channels_first".
    """

    sign = 1

    def __init__(self, padding: Any = 1, data_format: str | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        pairs = self._set_up("padding", padding, data_format)
        self.padding = pairs[0] if self.rank == 1 else pairs

    @property
    def pairs(self) -> tuple:
        return (self.padding,) if self.rank == 1 else self.padding

    def call(self, inputs: Any) -> Any:
        return ops.pad(inputs, self._all_pairs())


class _Cropping(_Margins):
    """Cuts margins off the spatial dimensions.

    Args:
        cropping: an int, one per dimension, or one pair (before, after) per dimension.
        data_format: "channels_last" or "channels_first".
    """

    sign = -1

    def __init__(self, cropping: Any = 1, data_format: str | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        pairs = self._set_up("cropping", cropping, data_format)
        self.cropping = pairs[0] if self.rank == 1 else pairs

    @property
    def pairs(self) -> tuple:
        return (self.cropping,) if self.rank == 1 else self.cropping

    def call(self, inputs: Any) -> Any:
        self.compute_output_shape(inputs.shape)
        pairs = zip(inputs.shape, self._all_pairs())
        return inputs[tuple(slice(before, n - after) for n, (before, after) in pairs)]


@serializable("keras.layers")
class ZeroPadding1D(_ZeroPadding):
    __doc__ = _ZeroPadding.__doc__
    rank = 1


@serializable("keras.layers")
class ZeroPadding2D(_ZeroPadding):
    __doc__ = _ZeroPadding.__doc__
    rank = 2


@serializable("keras.layers")
class ZeroPadding3D(_ZeroPadding):
    __doc__ = _ZeroPadding.__doc__
    rank = 3


@serializable("keras.layers")
class Cropping1D(_Cropping):
    __doc__ = _Cropping.__doc__
    rank = 1


@serializable("keras.layers")
class Cropping2D(_Cropping):
    __doc__ = _Cropping.__doc__
    rank = 2

    def __init__(self, cropping: Any = 0, data_format: str | None = None, **kwargs: Any):
        super().__init__(cropping, data_format, **kwargs)  # nothing by default, as in Keras


@serializable("keras.layers")
class Cropping3D(_Cropping):
    __doc__ = _Cropping.__doc__
    rank = 3


@serializable("keras.layers")
class UpSampling1D(Layer):
    """(N, S, C) -> (N, size * S, C): every step `size` times."""

    def __init__(self, size: int = 2, **kwargs: Any):
        super().__init__(**kwargs)
        self.size = positive("UpSampling1D", "size", size)
        self.input_spec = InputSpec(ndim=3)
        self.built = True

    def call(self, inputs: Any) -> Any:
        return ops.upsample(inputs, self.size)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        steps = None if input_shape[1] is None else input_shape[1] * self.size
        return (input_shape[0], steps, input_shape[2])


@serializable("keras.layers")
class UpSampling2D(Layer):
    """(N, H, W, C) -> (N, a H, b W, C).

    Args:
        size: the factors (a, b), or one int.
        data_format: "channels_last" or "channels_first".
        interpolation: "nearest" repeats rows and columns; "bilinear" weighs the two nearest.
    """

    def __init__(
        self,
        size: Any = (2, 2),
        data_format: str | None = None,
        interpolation: str = "nearest",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.size = per_dimension("UpSampling2D", "size", size, 2)
        self.data_format = standardize_data_format(data_format)
        self.interpolation = interpolation.lower()
        if self.interpolation not in ("nearest", "bilinear"):
            raise ValueError(
                f"UpSampling2D: got interpolation={interpolation!r}, expected 'nearest' or "
                "'bilinear'."
            )
        self.input_spec = InputSpec(ndim=4)
        self.built = True

    @property
    def _axes(self) -> tuple[int, int]:
        return (1, 2) if self.data_format == "channels_last" else (2, 3)

    def call(self, inputs: Any) -> Any:
        if self.interpolation == "nearest":
            return ops.upsample(inputs, self.size, self.data_format)
        size = tuple([inputs.shape[a] * factor for a, factor in zip(self._axes, self.size)])
        return ops.image.resize(inputs, size, "bilinear", data_format=self.data_format)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        shape = list(input_shape)
        for axis, factor in zip(self._axes, self.size):
            shape[axis] = None if shape[axis] is None else shape[axis] * factor
        return tuple(shape)


@serializable("keras.layers")
class UpSampling3D(Layer):
    """(N, D, H, W, C) -> (N, a D, b H, c W, C), each number repeated.

    Args:
        size: the factors (a, b, c), or one int.
        data_format: "channels_last" or "channels_first".
    """

    def __init__(self, size: Any = (2, 2, 2), data_format: str | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.size = per_dimension("UpSampling3D", "size", size, 3)
        self.data_format = standardize_data_format(data_format)
        self.input_spec = InputSpec(ndim=5)
        self.built = True

    @property
    def _first_axis(self) -> int:
        return 1 if self.data_format == "channels_last" else 2

    def call(self, inputs: Any) -> Any:
        for axis, n in enumerate(self.size, start=self._first_axis):
            inputs = ops.repeat(inputs, n, axis=axis)
        return inputs

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        shape = list(input_shape)
        for axis, n in enumerate(self.size, start=self._first_axis):
            shape[axis] = None if shape[axis] is None else n * shape[axis]
        return tuple(shape)
