"""Activations as layers."""

from __future__ import annotations

from typing import Any

from minitorch_ciml import ops
from minitorch_ciml.autograd.tensor import as_booleans
from minitorch_ciml.keras import activations
from minitorch_ciml.keras.layers.layer import Layer
from minitorch_ciml.keras.serialization import get, serializable
from minitorch_ciml.kernels.halves import finfo


class _Elementwise(Layer):
    supports_masking = True

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.built = True

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return input_shape


@serializable("keras.layers")
class ReLU(_Elementwise):
    """y = x above `threshold`, at most `max_value`; below it negative_slope * (x - threshold)."""

    def __init__(
        self,
        max_value: float | None = None,
        negative_slope: float = 0.0,
        threshold: float = 0.0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        for name, value in (("max_value", max_value), ("negative_slope", negative_slope),
                            ("threshold", threshold)):  # fmt: skip
            if value is not None and value < 0:
                raise ValueError(f"ReLU: {name} must not be negative, got {value}.")
        self.max_value = max_value
        self.negative_slope = negative_slope
        self.threshold = threshold

    def call(self, inputs: Any) -> Any:
        return activations.relu(inputs, self.negative_slope, self.max_value, self.threshold)


@serializable("keras.layers")
class LeakyReLU(_Elementwise):
    """y = x for x > 0, otherwise negative_slope * x."""

    def __init__(self, negative_slope: float = 0.3, **kwargs: Any):
        negative_slope = kwargs.pop("alpha", negative_slope)  # the name in Keras 2
        super().__init__(**kwargs)
        if negative_slope is None or negative_slope < 0:
            raise ValueError(
                f"LeakyReLU: negative_slope must not be negative, got {negative_slope}."
            )
        self.negative_slope = negative_slope

    def call(self, inputs: Any) -> Any:
        return ops.leaky_relu(inputs, self.negative_slope)


@serializable("keras.layers")
class ELU(_Elementwise):
    """y = x for x > 0, otherwise alpha * (e^x - 1)."""

    def __init__(self, alpha: float = 1.0, **kwargs: Any):
        super().__init__(**kwargs)
        self.alpha = alpha

    def call(self, inputs: Any) -> Any:
        return ops.elu(inputs, self.alpha)


@serializable("keras.layers")
class PReLU(Layer):
    """y = x for x > 0, otherwise alpha * x, with a learned alpha.

    Args:
        alpha_initializer, alpha_regularizer, alpha_constraint: of the weight alpha.
        shared_axes: axes along which alpha is the same, such as [1, 2] for images.
    """

    supports_masking = True

    def __init__(
        self,
        alpha_initializer: Any = "Zeros",
        alpha_regularizer: Any = None,
        alpha_constraint: Any = None,
        shared_axes: Any = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.alpha_initializer = get("keras.initializers", alpha_initializer, "initializer")
        self.alpha_regularizer = get("keras.regularizers", alpha_regularizer, "regularizer")
        self.alpha_constraint = get("keras.constraints", alpha_constraint, "constraint")
        self.shared_axes = [shared_axes] if isinstance(shared_axes, int) else shared_axes

    def build(self, input_shape: tuple) -> None:
        shape = list(input_shape[1:])
        for axis in self.shared_axes or ():
            shape[axis - 1] = 1
        self.alpha = self.add_weight(
            shape, self.alpha_initializer, regularizer=self.alpha_regularizer,
            constraint=self.alpha_constraint, name="alpha",
        )  # fmt: skip

    def call(self, inputs: Any) -> Any:
        return ops.where(inputs > 0, inputs, self.alpha * inputs)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return input_shape


@serializable("keras.layers")
class Softmax(_Elementwise):
    """y = e^x / sum of e^x along `axis`.

    Call arguments:
        mask: booleans that broadcast to x; where it is False, y is 0 and x does not count.
    """

    def __init__(self, axis: int = -1, **kwargs: Any):
        super().__init__(**kwargs)
        self.axis = axis

    def call(self, inputs: Any, mask: Any = None) -> Any:
        if mask is None:
            return ops.softmax(inputs, axis=self.axis)
        kept = _checked_mask(self, mask, inputs.shape)
        least = float(finfo(inputs.dtype).min) / 2
        return ops.where(kept, ops.softmax(ops.where(kept, inputs, least), axis=self.axis), 0.0)


def _checked_mask(layer: Layer, mask: Any, shape: tuple) -> Any:
    """The mask as booleans, if it broadcasts to the shape."""
    kept = as_booleans(mask)
    if kept.ndim > len(shape) or any(
        n not in (1, m) for n, m in zip(kept.shape[::-1], shape[::-1])
    ):
        raise ValueError(
            f"layer {layer.name!r}: the mask has shape {kept.shape}, which does not broadcast "
            f"to the input's {shape}; use Activation('softmax') where a mask is only passed on."
        )
    return kept
