"""Normalisation of groups of channels, by the root of the mean square, and to length 1."""

from __future__ import annotations

from typing import Any

from minitorch_ciml import ops
from minitorch_ciml.keras.layers.input_spec import InputSpec
from minitorch_ciml.keras.layers.layer import Layer
from minitorch_ciml.keras.layers.normalization import ScaleAndShift, axes_of
from minitorch_ciml.keras.serialization import serializable
from minitorch_ciml.ops.creation import wide


@serializable("keras.layers")
class GroupNormalization(ScaleAndShift):
    """y = gamma (x - mean) / sqrt(variance + epsilon) + beta (Wu, He 2018).

    Mean and variance are those of a sample's group of channels, at all places. Other samples do not
    matter, so it does the same in training and afterwards, with batches of any size.

    Args:
        groups: into how many groups the C channels are divided; -1 for one each.
        axis: the channels.
        epsilon: keeps the root away from 0.
        center, scale: whether there is a beta, a gamma.
        beta_initializer, gamma_initializer, ...: of the weights, each (C,).
    """

    def __init__(
        self,
        groups: int = 32,
        axis: int = -1,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        beta_regularizer: Any = None,
        gamma_regularizer: Any = None,
        beta_constraint: Any = None,
        gamma_constraint: Any = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self._set_up(
            center, scale, beta_initializer, gamma_initializer, beta_regularizer,
            gamma_regularizer, beta_constraint, gamma_constraint,
        )  # fmt: skip
        self.groups = groups
        self.axis = axis
        self.epsilon = epsilon

    def build(self, input_shape: tuple) -> None:
        channels = input_shape[self.axis]
        if channels is None:
            raise ValueError(
                f"GroupNormalization: the size of axis {self.axis} must be known, got shape "
                f"{tuple(input_shape)}."
            )
        if self.groups == -1:
            self.groups = channels
        if not 1 <= self.groups <= channels or channels % self.groups:
            raise ValueError(
                f"GroupNormalization: groups={self.groups} does not divide the {channels} channels."
            )
        self._add_scale_and_shift((channels,))
        self.input_spec = InputSpec(ndim=len(input_shape), axes={self.axis: channels})

    def call(self, inputs: Any) -> Any:
        x = wide(ops.moveaxis(inputs, self.axis, -1))
        centred = x - self._of_groups(x)
        variance = self._of_groups(ops.square(centred))
        y = centred * ops.rsqrt(variance + self.epsilon)
        if self.gamma is not None:
            y = y * ops.cast(self.gamma, y.dtype)
        if self.beta is not None:
            y = y + ops.cast(self.beta, y.dtype)
        return ops.cast(ops.moveaxis(y, -1, self.axis), inputs.dtype)

    def _of_groups(self, x: Any) -> Any:
        """The mean over each sample's places and group, once for each channel: (N, 1, ..., C)."""
        channels = ops.mean(x, axis=tuple(range(1, x.ndim - 1)), keepdims=True)
        means = ops.mean(ops.reshape(channels, (*channels.shape[:-1], self.groups, -1)), axis=-1)
        return ops.repeat(means, x.shape[-1] // self.groups, axis=-1)


@serializable("keras.layers")
class RMSNormalization(Layer):
    """y = scale x / sqrt(mean(x^2) + epsilon) (Zhang, Sennrich 2019).

    Args:
        axis: the axis or axes of the mean; `scale` has their sizes.
        epsilon: keeps the root away from 0.
    """

    supports_masking = True

    def __init__(self, axis: Any = -1, epsilon: float = 1e-6, **kwargs: Any):
        super().__init__(**kwargs)
        self.axis = list(axis) if isinstance(axis, (list, tuple)) else axis
        self.epsilon = epsilon

    def build(self, input_shape: tuple) -> None:
        self.axis = axes_of(self.axis)
        axes = [axis % len(input_shape) for axis in self.axis]
        shape = tuple(input_shape[axis] for axis in axes)
        self.scale = self.add_weight(shape, "ones", name="scale")
        self._scale_shape = tuple(n if i in axes else 1 for i, n in enumerate(input_shape))

    def call(self, inputs: Any) -> Any:
        x = wide(inputs)
        squares = ops.mean(ops.square(x), axis=tuple(self.axis), keepdims=True)
        scale = ops.reshape(ops.cast(self.scale, x.dtype), self._scale_shape)
        return ops.cast(x * ops.rsqrt(squares + self.epsilon) * scale, inputs.dtype)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return input_shape


@serializable("keras.layers")
class UnitNormalization(Layer):
    """y = x / sqrt(sum(x^2)): vectors of length 1; those of length 0 stay as they are.

    Args:
        axis: the axis or axes of the sum.
    """

    supports_masking = True

    def __init__(self, axis: Any = -1, **kwargs: Any):
        super().__init__(**kwargs)
        self.axis = list(axis) if isinstance(axis, (list, tuple)) else axis

    def call(self, inputs: Any) -> Any:
        squares = ops.sum(ops.square(inputs), axis=tuple(axes_of(self.axis)), keepdims=True)
        return inputs * ops.rsqrt(ops.maximum(squares, 1e-24))

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return input_shape
