"""Pooling: the maximum or mean over windows, or over everything."""

from __future__ import annotations

from typing import Any

from minitorch_ciml import ops
from minitorch_ciml.keras.backend import standardize_data_format
from minitorch_ciml.keras.layers.input_spec import InputSpec
from minitorch_ciml.keras.layers.kernel_layer import padding_mode
from minitorch_ciml.keras.layers.layer import Layer
from minitorch_ciml.keras.serialization import serializable
from minitorch_ciml.ops.conv import per_dimension


class BasePooling(Layer):
    """Pools over windows of `pool_size`; x (N, *S, C) -> y (N, *O, C).

    Args:
        pool_size: the window, an int or one per dimension.
        strides: its step, `pool_size` if left out.
        padding: "valid", or "same" (O = ceil(S / strides); padded places do not count).
        data_format: "channels_last", or "channels_first" (N, C, *S).
    """

    rank: int

    def __init__(
        self,
        pool_size: Any = 2,
        strides: Any = None,
        padding: str = "valid",
        data_format: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        name = type(self).__name__
        self.pool_size = per_dimension(name, "pool_size", pool_size, self.rank)
        steps = self.pool_size if strides is None else strides
        self.strides = per_dimension(name, "strides", steps, self.rank)
        self.padding = padding_mode(name, padding)
        self.data_format = standardize_data_format(data_format)
        self.input_spec = InputSpec(ndim=self.rank + 2)
        self.built = True

    def pool(self, *args: Any) -> Any:
        raise NotImplementedError

    def call(self, inputs: Any) -> Any:
        return self.pool(inputs, self.pool_size, self.strides, self.padding, self.data_format)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        first = 1 if self.data_format == "channels_last" else 2
        shape = list(input_shape)
        for i, (window, step) in enumerate(zip(self.pool_size, self.strides), start=first):
            if shape[i] is not None:
                free = shape[i] - (window if self.padding == "valid" else 1)
                if free < 0:
                    raise ValueError(
                        f"layer {self.name!r}: the window of size {window} is larger than the "
                        f"input's {shape[i]}; use a smaller pool_size or padding='same'."
                    )
                shape[i] = free // step + 1
        return tuple(shape)


class _MaxPooling(BasePooling):
    def pool(self, *args: Any) -> Any:
        return ops.max_pool(*args)


class _AveragePooling(BasePooling):
    def pool(self, *args: Any) -> Any:
        return ops.average_pool(*args)


class _GlobalPooling(Layer):
    """Reduces all spatial dimensions; x (N, *S, C) -> y (N, C), or (N, 1, .., C) with keepdims.

    Args:
        data_format: "channels_last", or "channels_first" (N, C, *S).
        keepdims: keep the spatial dimensions, with size 1.
    """

    rank: int

    def __init__(self, data_format: str | None = None, keepdims: bool = False, **kwargs: Any):
        super().__init__(**kwargs)
        self.data_format = standardize_data_format(data_format)
        self.keepdims = keepdims
        self.input_spec = InputSpec(ndim=self.rank + 2)
        self.built = True

    @property
    def spatial_axes(self) -> tuple[int, ...]:
        first = 1 if self.data_format == "channels_last" else 2
        return tuple(range(first, first + self.rank))

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        if self.keepdims:
            return tuple(1 if i in self.spatial_axes else n for i, n in enumerate(input_shape))
        return tuple(n for i, n in enumerate(input_shape) if i not in self.spatial_axes)


class _GlobalMax(_GlobalPooling):
    def call(self, inputs: Any) -> Any:
        return ops.max(inputs, self.spatial_axes, self.keepdims)


class _GlobalAverage(_GlobalPooling):
    def call(self, inputs: Any) -> Any:
        return ops.mean(inputs, self.spatial_axes, self.keepdims)


class _AdaptivePooling(Layer):
    """As many parts as wanted, and one number for each: x (N, *S, C) -> y (N, *output_size, C).

    Part i of O along an axis of size S goes from floor(i S / O) to ceil((i + 1) S / O).

    Args:
        output_size: the number of parts, or one for each dimension.
        data_format: "channels_last", or "channels_first" (N, C, *S).
    """

    rank: int

    def __init__(self, output_size: Any, data_format: str | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        name = type(self).__name__
        self.output_size = per_dimension(name, "output_size", output_size, self.rank)
        self.data_format = standardize_data_format(data_format)
        self.input_spec = InputSpec(ndim=self.rank + 2)
        self.built = True

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        if self.data_format == "channels_last":
            return (input_shape[0], *self.output_size, input_shape[-1])
        return (*input_shape[:2], *self.output_size)


class _AdaptiveMax(_AdaptivePooling):
    def call(self, inputs: Any) -> Any:
        return ops.adaptive_max_pool(inputs, self.output_size, self.data_format)


class _AdaptiveAverage(_AdaptivePooling):
    def call(self, inputs: Any) -> Any:
        return ops.adaptive_average_pool(inputs, self.output_size, self.data_format)


def _family(base: type, name: str, ranks: tuple[int, ...], *aliases: str) -> list[type]:
    """`<name>1D`, `<name>2D`, ...: the same formula in each number of dimensions."""
    made = []
    for rank in ranks:
        members = {"rank": rank, "__doc__": base.__doc__ or base.__mro__[1].__doc__,
                   "__module__": __name__}  # fmt: skip
        cls = type(f"{name}{rank}D", (base,), members)
        made.append(serializable("keras.layers", *(f"{a}{rank}D" for a in aliases))(cls))
    return made


MaxPooling1D, MaxPooling2D, MaxPooling3D = _family(_MaxPooling, "MaxPooling", (1, 2, 3), "MaxPool")
AveragePooling1D, AveragePooling2D, AveragePooling3D = _family(
    _AveragePooling, "AveragePooling", (1, 2, 3), "AvgPool"
)
GlobalMaxPooling1D, GlobalMaxPooling2D, GlobalMaxPooling3D = _family(
    _GlobalMax, "GlobalMaxPooling", (1, 2, 3), "GlobalMaxPool"
)
GlobalAveragePooling2D, GlobalAveragePooling3D = _family(
    _GlobalAverage, "GlobalAveragePooling", (2, 3), "GlobalAvgPool"
)
AdaptiveMaxPooling1D, AdaptiveMaxPooling2D, AdaptiveMaxPooling3D = _family(
    _AdaptiveMax, "AdaptiveMaxPooling", (1, 2, 3)
)
AdaptiveAveragePooling1D, AdaptiveAveragePooling2D, AdaptiveAveragePooling3D = _family(
    _AdaptiveAverage, "AdaptiveAveragePooling", (1, 2, 3)
)


@serializable("keras.layers", "GlobalAvgPool1D")
class GlobalAveragePooling1D(_GlobalAverage):
    """The mean over the steps; x (N, T, C) -> y (N, C), or (N, 1, C) with keepdims.

    Args:
        data_format: "channels_last", or "channels_first" (N, C, T).
        keepdims: keep the axis of the steps, with size 1.

    Call arguments:
        mask: booleans (N, T): which steps the mean is over.
    """

    rank = 1
    _makes_masks = False

    def call(self, inputs: Any, mask: Any = None) -> Any:
        if mask is None:
            return super().call(inputs)
        (axis,) = self.spatial_axes
        kept = ops.expand_dims(ops.cast(mask, inputs.dtype), 3 - axis)
        total = ops.sum(ops.where(kept != 0, inputs, 0.0), axis, self.keepdims)
        return total / ops.sum(kept, axis, self.keepdims)

    def compute_mask(self, inputs: Any, mask: Any = None) -> None:
        return None
