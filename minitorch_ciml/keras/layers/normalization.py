"""Normalisation: over the batch, or within each sample."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minitorch_ciml import config, distributed, kernels, ops
from minitorch_ciml.autograd.tensor import as_booleans
from minitorch_ciml.config import no_grad
from minitorch_ciml.keras.layers.input_spec import InputSpec
from minitorch_ciml.keras.layers.layer import Layer
from minitorch_ciml.keras.serialization import get, serializable
from minitorch_ciml.ops.axes import check_axis
from minitorch_ciml.ops.creation import wide
from minitorch_ciml.ops.normalization import normalize_batch


def axes_of(axis: Any) -> list[int]:
    """One axis or several, as a list."""
    return axis if isinstance(axis, list) else [axis]


class ScaleAndShift(Layer):
    """A base with the weights gamma and beta, and where they come from."""

    supports_masking = True

    def _set_up(
        self,
        center: bool,
        scale: bool,
        beta_initializer: Any,
        gamma_initializer: Any,
        beta_regularizer: Any,
        gamma_regularizer: Any,
        beta_constraint: Any,
        gamma_constraint: Any,
    ) -> None:
        self.center = center
        self.scale = scale
        self.beta_initializer = get("keras.initializers", beta_initializer, "initializer")
        self.gamma_initializer = get("keras.initializers", gamma_initializer, "initializer")
        self.beta_regularizer = get("keras.regularizers", beta_regularizer, "regularizer")
        self.gamma_regularizer = get("keras.regularizers", gamma_regularizer, "regularizer")
        self.beta_constraint = get("keras.constraints", beta_constraint, "constraint")
        self.gamma_constraint = get("keras.constraints", gamma_constraint, "constraint")

    def _add_scale_and_shift(self, shape: tuple) -> None:
        self.gamma = self.beta = None
        if self.scale:
            self.gamma = self.add_weight(
                shape, self.gamma_initializer, regularizer=self.gamma_regularizer,
                constraint=self.gamma_constraint, name="gamma",
            )  # fmt: skip
        if self.center:
            self.beta = self.add_weight(
                shape, self.beta_initializer, regularizer=self.beta_regularizer,
                constraint=self.beta_constraint, name="beta",
            )  # fmt: skip

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return input_shape


@serializable("keras.layers")
class BatchNormalization(ScaleAndShift):
    """y = gamma (x - mean) / sqrt(variance + epsilon) + beta, per channel (Ioffe, Szegedy 2015).

    In training, mean and variance are the batch's, and the moving averages follow them:
    moving = momentum * moving + (1 - momentum) * batch. Otherwise they are the moving averages.
    A frozen layer (trainable=False) uses the moving averages in training too.

    Args:
        axis: the channels.
        momentum: how slowly the moving averages follow.
        epsilon: keeps the root away from 0.
        center, scale: whether there is a beta, a gamma.
        beta_initializer, gamma_initializer, ...: of the weights, each (channels,).
        synchronized: where ranks share a batch, take its statistics over all of it, as one process
            would. Otherwise each rank takes those of its part.
        renorm: batch renormalisation (Ioffe 2017), for small batches: in training, too, y is what
            moving averages of the mean and the standard deviation give; but they count as constants
            beside the batch's own: y = gamma (r (x - mean) / stddev + d) + beta, with
            r = stddev / moving stddev and d = (mean - moving mean) / moving stddev.
        renorm_clipping: a dictionary with limits of r and d: "rmin", "rmax", "dmax" (for |d|).
        renorm_momentum: how slowly these averages follow.

    Call arguments:
        mask: booleans in the shape of x without the channels; where it is False, x does not count
            in the batch's mean and variance.
    """

    acts_in_training = True

    def __init__(
        self,
        axis: int = -1,
        momentum: float = 0.99,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        moving_mean_initializer: Any = "zeros",
        moving_variance_initializer: Any = "ones",
        beta_regularizer: Any = None,
        gamma_regularizer: Any = None,
        beta_constraint: Any = None,
        gamma_constraint: Any = None,
        synchronized: bool = False,
        renorm: bool = False,
        renorm_clipping: dict[str, float] | None = None,
        renorm_momentum: float = 0.99,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self._set_up(
            center, scale, beta_initializer, gamma_initializer, beta_regularizer,
            gamma_regularizer, beta_constraint, gamma_constraint,
        )  # fmt: skip
        self.axis = axis
        self.momentum = momentum
        self.epsilon = epsilon
        self.moving_mean_initializer = get(
            "keras.initializers", moving_mean_initializer, "initializer"
        )
        self.moving_variance_initializer = get(
            "keras.initializers", moving_variance_initializer, "initializer"
        )
        self.synchronized = synchronized
        self.renorm = renorm
        self.renorm_clipping = _limits(renorm_clipping or {}) if renorm else renorm_clipping
        self.renorm_momentum = renorm_momentum

    def build(self, input_shape: tuple) -> None:
        check_axis(self.axis, len(input_shape), "BatchNormalization")
        channels = input_shape[self.axis]
        if channels is None:
            raise ValueError(
                f"BatchNormalization: the size of axis {self.axis} must be known, got shape "
                f"{tuple(input_shape)}."
            )
        self._add_scale_and_shift((channels,))
        self.moving_mean = self.add_weight(
            (channels,), self.moving_mean_initializer, trainable=False, name="moving_mean"
        )
        self.moving_variance = self.add_weight(
            (channels,), self.moving_variance_initializer, trainable=False, name="moving_variance"
        )
        if self.renorm:
            self._add_renormalization(channels)
        self.input_spec = InputSpec(ndim=len(input_shape), axes={self.axis: channels})

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        return ops.cast(self.normalize(inputs, training, mask), self.compute_dtype)

    def normalize(
        self, inputs: Any, training: bool | None, mask: Any = None, activation: str = "linear"
    ) -> Any:
        """What `call` gives, with an activation of `ops.batch_normalization` behind it."""
        inputs = wide(inputs)
        rows = config.part.get()
        synchronized = self.synchronized and rows is not None
        if not (training and self.trainable) or (not synchronized and rows and not rows.own):
            return ops.batch_normalization(
                inputs, self.moving_mean, self.moving_variance, self.axis, self.beta, self.gamma,
                self.epsilon, activation,
            )  # fmt: skip
        weights = (None, None) if self.renorm else (self.gamma, self.beta)
        if synchronized or mask is not None:
            y, mean, variance = self._normalize_stepwise(
                inputs, mask, synchronized, *weights, "linear" if self.renorm else activation
            )
        else:
            y, mean, variance = normalize_batch(
                inputs, *weights, self.axis, self.epsilon, "linear" if self.renorm else activation
            )
        self._follow(self.moving_mean, mean, self.momentum)
        if self.renorm:
            return self._renormalize(y, mean.detach(), variance.detach(), activation)
        self._follow(self.moving_variance, variance, self.momentum)
        return y

    def _normalize_stepwise(
        self, x: Any, mask: Any, over_ranks: bool, gamma: Any, beta: Any, activation: str
    ) -> tuple:
        """As `normalize_batch`, with the moments of what a mask keeps, or of all ranks' inputs."""
        axis = self.axis % x.ndim
        others = tuple(a for a in range(x.ndim) if a != axis)
        shape = [-1 if a == axis else 1 for a in range(x.ndim)]
        kept: Any = True
        n: Any = x.size // x.shape[axis]
        if mask is not None:
            kept = as_booleans(mask)[..., None]
            n = _count(kept) * (n / kept.size)
        if over_ranks:
            n = distributed.init().total(float(n))
        if mask is not None:
            n += 1e-7  # as in Keras: nothing may be left

        def total(values: Any) -> Any:
            sums = ops.sum(ops.where(kept, values, 0.0), others)
            return distributed.all_sum(sums) if over_ranks else sums

        mean = total(x) / n
        # The squared deviations, not the mean of squares: that one loses digits.
        deviation = x - ops.reshape(mean, shape)
        variance = total(deviation * deviation) / n
        y = ops.batch_normalization(
            x, mean, variance, self.axis, beta, gamma, self.epsilon, activation
        )
        return y, mean, variance

    def _follow(self, average: Any, value: Any, momentum: float) -> None:
        """average = momentum average + (1 - momentum) value, in place and where they are."""
        kernel = kernels.find(value.device, "moving_average")
        kernel(average.value, value.value.astype(average.dtype, copy=False), momentum)  # type: ignore[misc]
        average.touch()

    def _add_renormalization(self, channels: int) -> None:
        """The moving standard deviation, and the faster averages that training renormalises by."""

        def deviation(shape: tuple, dtype: Any = None) -> Any:
            return ops.sqrt(self.moving_variance_initializer(shape, dtype))

        def average(initializer: Any, name: str) -> Any:
            return self.add_weight((channels,), initializer, trainable=False, name=name)

        self.moving_stddev = average(deviation, "moving_stddev")
        self.renorm_mean = average(self.moving_mean_initializer, "renorm_mean")
        self.renorm_stddev = average(deviation, "renorm_stddev")

    def _renormalize(self, x: Any, mean: Any, variance: Any, activation: str) -> Any:
        """gamma (r x + d) + beta, x normalised by the batch's moments; averages follow."""
        with no_grad():
            stddev = ops.sqrt(variance + self.epsilon)
            moving = ops.maximum(self.renorm_stddev, math.sqrt(self.epsilon))
            r, d = stddev / moving, (mean - self.renorm_mean) / moving
            limits = self.renorm_clipping or {}
            r = ops.clip(r, limits.get("rmin", 0.0), limits.get("rmax", math.inf))
            most = limits.get("dmax", math.inf)
            d = ops.clip(d, -most, most)
            self._follow(self.renorm_mean, mean, self.renorm_momentum)
            self._follow(self.renorm_stddev, stddev, self.renorm_momentum)
            self._follow(self.moving_stddev, stddev, self.momentum)
            self.moving_variance.assign(ops.relu(self.moving_stddev**2 - self.epsilon))
        scale, shift = (r, d) if self.gamma is None else (r * self.gamma, d * self.gamma)
        shift = shift if self.beta is None else shift + self.beta
        shape = [-1 if a == self.axis % x.ndim else 1 for a in range(x.ndim)]
        y = x * ops.reshape(scale, shape) + ops.reshape(shift, shape)
        return y if activation == "linear" else getattr(ops, activation)(y)


def _limits(given: dict[str, float]) -> dict[str, float]:
    """`renorm_clipping`, without what is None."""
    limits = {name: value for name, value in given.items() if value is not None}
    rmin, dmax = limits.get("rmin", 0.0), limits.get("dmax", 0.0)
    unknown = limits.keys() - {"rmin", "rmax", "dmax"}
    if unknown or limits.get("rmax", math.inf) < rmin or dmax < 0:
        raise ValueError(
            f"BatchNormalization: got renorm_clipping={given!r}, expected a dictionary with 'rmin' "
            "not above 'rmax', and 'dmax' not below 0."
        )
    return limits


def _count(kept: Any) -> Any:
    """How many are True: a number, or a tensor on the GPU, which is not waited for."""
    if isinstance(kept, np.ndarray):
        return float(kept.sum())
    return ops.sum(ops.cast(kept, config.floatx()))


@serializable("keras.layers")
class LayerNormalization(ScaleAndShift):
    """y = gamma (x - mean) / sqrt(variance + epsilon) + beta, within each sample (Ba et al. 2016).

    Args:
        axis: the axis or axes over which mean and variance are taken; gamma and beta have their
            sizes.
        epsilon: keeps the root away from 0.
        center, scale: whether there is a beta, a gamma.
        beta_initializer, gamma_initializer, ...: of the weights.
    """

    def __init__(
        self,
        axis: Any = -1,
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
        self.axis = list(axis) if isinstance(axis, (list, tuple)) else axis
        self.epsilon = epsilon

    def build(self, input_shape: tuple) -> None:
        self.axis = axes_of(self.axis)
        for axis in self.axis:
            check_axis(axis, len(input_shape), "LayerNormalization")
        self._add_scale_and_shift(tuple(input_shape[axis] for axis in self.axis))

    def call(self, inputs: Any) -> Any:
        y = ops.layer_normalization(wide(inputs), self.gamma, self.beta, self.axis, self.epsilon)
        return ops.cast(y, self.compute_dtype)
