"""Layers that act in training only: dropout and noise."""

from __future__ import annotations

from typing import Any

import numpy as np

from minitorch_ciml import config, ops
from minitorch_ciml.keras import regularizers
from minitorch_ciml.keras.backend import standardize_data_format
from minitorch_ciml.keras.layers.input_spec import InputSpec
from minitorch_ciml.keras.layers.layer import Layer
from minitorch_ciml.keras.serialization import serializable
from minitorch_ciml.ops import random

_SELU_END = -1.6732632423543772 * 1.0507009873554805  # of selu(x) as x falls


class _TrainingOnly(Layer):
    """The identity outside training."""

    acts_in_training = True
    supports_masking = True

    def __init__(self, seed: int | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.seed = seed
        # 32 bits, because a saved model has no room for more.
        drawn = random.draw_seed() & 0xFFFFFFFF if seed is None else seed
        self.seed_generator = random.SeedGenerator(drawn, name="seed_generator")
        self.built = True

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return input_shape

    def _noise(self, shape: tuple, mean: float, stddev: float) -> Any:
        """Normal noise; where ranks share a batch, this rank's rows of the noise for all of it."""
        rows = config.part.get()
        n = shape[0] if rows is None else rows.scaled(shape[0]).total
        noise = random.normal((n, *shape[1:]), mean, stddev, seed=self.seed_generator)
        noise = ops.cast(noise, self.compute_dtype)
        if rows is None:
            return noise
        first = rows.scaled(shape[0]).first
        return noise[first : first + shape[0]]


def _checked_rate(layer: Layer, rate: float) -> float:
    if not isinstance(rate, (int, float, np.number)) or not 0 <= rate <= 1:
        raise ValueError(f"{type(layer).__name__}: rate must be between 0 and 1, got {rate!r}.")
    return rate


@serializable("keras.layers")
class Dropout(_TrainingOnly):
    """In training, y = 0 with probability `rate`, else x / (1 - rate) (Srivastava et al. 2014).

    Args:
        rate: the share of inputs set to 0.
        noise_shape: the shape of the mask, with 1 for axes along which it is the same.
        seed: an integer that fixes the masks.
    """

    def __init__(
        self, rate: float, noise_shape: Any = None, seed: int | None = None, **kwargs: Any
    ):
        super().__init__(seed, **kwargs)
        self.rate = _checked_rate(self, rate)
        self.noise_shape = None if noise_shape is None else tuple(noise_shape)

    def call(self, inputs: Any, training: bool = False) -> Any:
        if not training or self.rate == 0:
            return inputs
        return random.dropout(inputs, self.rate, self._mask_shape(inputs), self.seed_generator)

    def _mask_shape(self, inputs: Any) -> tuple | None:
        return self.noise_shape


class _SpatialDropout(Dropout):
    """Dropout of whole channels: x (N, *S, C), one draw per sample and channel.

    Args:
        rate: the share of channels set to 0.
        seed: an integer that fixes the masks.
        data_format: "channels_last" or "channels_first".
    """

    rank: int

    def __init__(
        self, rate: float, data_format: str | None = None, seed: int | None = None, **kwargs: Any
    ):
        super().__init__(rate, None, seed, **kwargs)
        self.data_format = standardize_data_format(data_format)
        self.input_spec = InputSpec(ndim=self.rank + 2)

    def _mask_shape(self, inputs: Any) -> tuple:
        n, *sizes = inputs.shape
        ones = (1,) * self.rank
        last = self.data_format == "channels_last"
        return (n, *ones, sizes[-1]) if last else (n, sizes[0], *ones)

    def get_config(self) -> dict:
        config = super().get_config()
        config.pop("noise_shape")
        if self.rank == 1:
            config.pop("data_format")
        return config


@serializable("keras.layers")
class SpatialDropout1D(_SpatialDropout):
    __doc__ = _SpatialDropout.__doc__
    rank = 1


@serializable("keras.layers")
class SpatialDropout2D(_SpatialDropout):
    __doc__ = _SpatialDropout.__doc__
    rank = 2


@serializable("keras.layers")
class SpatialDropout3D(_SpatialDropout):
    __doc__ = _SpatialDropout.__doc__
    rank = 3


@serializable("keras.layers")
class GaussianNoise(_TrainingOnly):
    """In training, y = x + normal noise with standard deviation `stddev`."""

    def __init__(self, stddev: float, seed: int | None = None, **kwargs: Any):
        super().__init__(seed, **kwargs)
        if stddev < 0:
            raise ValueError(f"GaussianNoise: stddev must not be negative, got {stddev!r}.")
        self.stddev = stddev

    def call(self, inputs: Any, training: bool = False) -> Any:
        if not training or self.stddev == 0:
            return inputs
        return inputs + self._noise(inputs.shape, 0.0, self.stddev)


@serializable("keras.layers")
class GaussianDropout(_TrainingOnly):
    """In training, y = x * normal noise with mean 1 and variance rate / (1 - rate)."""

    def __init__(self, rate: float, seed: int | None = None, **kwargs: Any):
        super().__init__(seed, **kwargs)
        self.rate = _checked_rate(self, rate)

    def call(self, inputs: Any, training: bool = False) -> Any:
        if not training or self.rate == 0:
            return inputs
        stddev = (self.rate / (1 - self.rate)) ** 0.5
        return inputs * self._noise(inputs.shape, 1.0, stddev)


@serializable("keras.layers")
class AlphaDropout(Dropout):
    """In training, a x + b where x is kept and a s + b elsewhere, s = -1.758: what SELU ends at.

    With a = 1 / sqrt((1 - rate) (1 + rate s^2)) and b = -a s rate mean and variance stay 0 and 1
    (Klambauer et al. 2017).

    Args:
        rate: the share of inputs set to s.
        noise_shape, seed: see `Dropout`.
    """

    def call(self, inputs: Any, training: bool = False) -> Any:
        if not training or self.rate == 0:
            return inputs
        ones = ops.ones(inputs.shape, self.compute_dtype)
        kept = super().call(ones, True) * (1 - self.rate)
        a = ((1 - self.rate) * (1 + self.rate * _SELU_END**2)) ** -0.5
        return a * (inputs * kept + _SELU_END * (1 - kept)) - a * _SELU_END * self.rate


@serializable("keras.layers")
class ActivityRegularization(Layer):
    """y = x, and adds l1 * sum |x| + l2 * sum x^2 (per sample) to the loss."""

    supports_masking = True

    def __init__(self, l1: float = 0.0, l2: float = 0.0, **kwargs: Any):
        super().__init__(activity_regularizer=regularizers.L1L2(l1=l1, l2=l2), **kwargs)
        self.l1 = l1
        self.l2 = l2
        self.built = True

    def call(self, inputs: Any) -> Any:
        return inputs

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return input_shape

    def get_config(self) -> dict:
        config = super().get_config()
        del config["activity_regularizer"]  # it is made of l1 and l2
        return config
