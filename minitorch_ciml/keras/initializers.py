"""Initializers: what weights start as.

A layer's outputs keep the scale of its inputs if the weights' variance is about 1 / fan_in, the
number of inputs that each output sums over; gradients keep theirs if it is about 1 / fan_out.
`VarianceScaling` and its children choose between the two.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minitorch_ciml import ops
from minitorch_ciml.autograd import Tensor
from minitorch_ciml.config import floatx
from minitorch_ciml.keras import serialization
from minitorch_ciml.keras.serialization import (
    Configurable,
    deserialize_keras_object,
    serializable,
)
from minitorch_ciml.ops import random
from minitorch_ciml.ops.random import SeedGenerator

__all__ = [
    "Constant", "GlorotNormal", "GlorotUniform", "HeNormal", "HeUniform", "Identity",
    "IdentityInitializer", "Initializer", "LecunNormal", "LecunUniform", "Ones", "Orthogonal",
    "OrthogonalInitializer", "RandomNormal", "RandomUniform", "STFT", "STFTInitializer",
    "TruncatedNormal", "VarianceScaling", "Zeros", "constant", "deserialize", "get",
    "glorot_normal", "glorot_uniform", "he_normal", "he_uniform", "identity", "lecun_normal",
    "lecun_uniform", "ones", "orthogonal", "random_normal", "random_uniform", "serialize", "stft",
    "truncated_normal", "variance_scaling", "zeros",
]  # fmt: skip


class Initializer(Configurable):
    """The base of all initializers: `__call__(shape, dtype=None)` gives a tensor."""

    def __call__(self, shape: tuple, dtype: Any = None) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no __call__(shape, dtype).")

    def clone(self) -> Any:
        """An equal initializer."""
        return type(self).from_config(self.get_config())


@serializable("keras.initializers", "zero")
class Zeros(Initializer):
    """All 0."""

    def __call__(self, shape: tuple, dtype: Any = None) -> Tensor:
        return ops.zeros(shape, dtype)


@serializable("keras.initializers", "one")
class Ones(Initializer):
    """All 1."""

    def __call__(self, shape: tuple, dtype: Any = None) -> Tensor:
        return ops.ones(shape, dtype)


@serializable("keras.initializers")
class Constant(Initializer):
    """All `value`: a number, or an array that is broadcast to the shape."""

    def __init__(self, value: Any = 0.0):
        self.value = value

    def __call__(self, shape: tuple, dtype: Any = None) -> Tensor:
        return ops.full(shape, self.value, dtype or floatx())

    def get_config(self) -> dict:
        return {"value": self.value}


@serializable("keras.initializers", "IdentityInitializer")
class Identity(Initializer):
    """A matrix with `gain` on the diagonal and 0 elsewhere."""

    def __init__(self, gain: float = 1.0):
        self.gain = gain

    def __call__(self, shape: tuple, dtype: Any = None) -> Tensor:
        if len(shape) != 2:
            raise ValueError(f"Identity: got shape {tuple(shape)}, expected a matrix's (m, n).")
        return ops.convert_to_tensor(self.gain * np.eye(*shape), dtype or floatx())

    def get_config(self) -> dict:
        # Keras does not write `gain`; it is added where it is not the default.
        return {} if self.gain == 1 else {"gain": self.gain}


# --- random -------------------------------------------------------------------------------------


class RandomInitializer(Initializer):
    """An initializer with a seed.

    Args:
        seed: an integer gives the same numbers at every call; a `SeedGenerator` and None others at
            every call, None from the generator that `keras.utils.set_random_seed` sets.
    """

    def __init__(self, seed: int | SeedGenerator | None = None):
        if isinstance(seed, dict):
            seed = deserialize_keras_object(seed)
        if not (seed is None or isinstance(seed, (int, np.integer, SeedGenerator))):
            raise ValueError(
                f"{type(self).__name__}: got seed={seed!r}, expected an integer, None or a "
                "SeedGenerator."
            )
        self.seed = seed

    def get_config(self) -> dict:
        return {"seed": self.seed}


@serializable("keras.initializers", "normal")
class RandomNormal(RandomInitializer):
    """Normal numbers with a mean and a standard deviation."""

    def __init__(self, mean: float = 0.0, stddev: float = 0.05, seed: Any = None):
        super().__init__(seed)
        self.mean = mean
        self.stddev = stddev

    def __call__(self, shape: tuple, dtype: Any = None) -> Tensor:
        return random.normal(shape, self.mean, self.stddev, dtype, self.seed)

    def get_config(self) -> dict:
        return {**super().get_config(), "mean": self.mean, "stddev": self.stddev}


@serializable("keras.initializers")
class TruncatedNormal(RandomNormal):
    """Normal numbers, drawn again where they are more than two standard deviations off.

    That makes their own standard deviation 0.88 `stddev`.
    """

    def __call__(self, shape: tuple, dtype: Any = None) -> Tensor:
        return random.truncated_normal(shape, self.mean, self.stddev, dtype, self.seed)


@serializable("keras.initializers", "uniform")
class RandomUniform(RandomInitializer):
    """Numbers evenly distributed in [minval, maxval)."""

    def __init__(self, minval: float = -0.05, maxval: float = 0.05, seed: Any = None):
        super().__init__(seed)
        self.minval = minval
        self.maxval = maxval

    def __call__(self, shape: tuple, dtype: Any = None) -> Tensor:
        return random.uniform(shape, self.minval, self.maxval, dtype, self.seed)

    def get_config(self) -> dict:
        return {**super().get_config(), "minval": self.minval, "maxval": self.maxval}


# The standard deviation of a standard normal number that is kept between -2 and 2.
_TRUNCATED_STD = 0.87962566103423978


@serializable("keras.initializers")
class VarianceScaling(RandomInitializer):
    """Random numbers of mean 0 and variance scale / n.

    Args:
        scale: above 0.
        mode: n is "fan_in", "fan_out" or "fan_avg", the mean of the two.
        distribution: "truncated_normal", "untruncated_normal" or "uniform".
        input_axes, output_axes: the axes whose sizes make fan_in and fan_out, for kernels of
            another layout than (..., inputs, outputs); give both.
    """

    def __init__(
        self,
        scale: float = 1.0,
        mode: str = "fan_in",
        distribution: str = "truncated_normal",
        seed: Any = None,
        input_axes: Sequence[int] | None = None,
        output_axes: Sequence[int] | None = None,
    ):
        super().__init__(seed)
        name = type(self).__name__
        if scale <= 0:
            raise ValueError(f"{name}: got scale={scale}, expected a number above 0.")
        if mode not in ("fan_in", "fan_out", "fan_avg"):
            raise ValueError(
                f"{name}: got mode={mode!r}, expected 'fan_in', 'fan_out' or 'fan_avg'."
            )
        if distribution == "normal":  # Keras 2's name
            distribution = "truncated_normal"
        if distribution not in ("truncated_normal", "untruncated_normal", "uniform"):
            raise ValueError(
                f"{name}: got distribution={distribution!r}, expected 'truncated_normal', "
                "'untruncated_normal' or 'uniform'."
            )
        if (input_axes is None) != (output_axes is None):
            raise ValueError(f"{name}: give both input_axes and output_axes, or neither.")
        self.scale = scale
        self.mode = mode
        self.distribution = distribution
        self.input_axes = input_axes
        self.output_axes = output_axes

    def __call__(self, shape: tuple, dtype: Any = None) -> Tensor:
        fan_in, fan_out = compute_fans(shape, self.input_axes, self.output_axes)
        n = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[self.mode]
        std = math.sqrt(self.scale / max(1.0, n))
        if self.distribution == "truncated_normal":
            return random.truncated_normal(shape, 0.0, std / _TRUNCATED_STD, dtype, self.seed)
        if self.distribution == "untruncated_normal":
            return random.normal(shape, 0.0, std, dtype, self.seed)
        limit = math.sqrt(3.0) * std
        return random.uniform(shape, -limit, limit, dtype, self.seed)

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "scale": self.scale,
            "mode": self.mode,
            "distribution": self.distribution,
            "input_axes": self.input_axes,
            "output_axes": self.output_axes,
        }


def compute_fans(
    shape: Sequence[int],
    input_axes: Sequence[int] | None = None,
    output_axes: Sequence[int] | None = None,
) -> tuple[int, int]:
    """How many inputs each output sums over, and how many outputs each input goes to.

    A kernel (..., inputs, outputs) has a receptive field of the sizes before, which multiplies
    both. Axes that are given stand for themselves.
    """
    shape = tuple(shape)
    if input_axes is not None and output_axes is not None:
        return math.prod(shape[i] for i in input_axes), math.prod(shape[i] for i in output_axes)
    if len(shape) < 2:
        return (shape[0], shape[0]) if shape else (1, 1)
    receptive = math.prod(shape[:-2])
    return shape[-2] * receptive, shape[-1] * receptive


class _Scaled(VarianceScaling):
    """A `VarianceScaling` with a name: scale, mode and distribution are fixed."""

    fixed: tuple[float, str, str]

    def __init__(
        self,
        seed: Any = None,
        input_axes: Sequence[int] | None = None,
        output_axes: Sequence[int] | None = None,
    ):
        super().__init__(*self.fixed, seed, input_axes, output_axes)

    def get_config(self) -> dict:
        config = super().get_config()
        return {key: config[key] for key in ("seed", "input_axes", "output_axes")}


@serializable("keras.initializers")
class GlorotUniform(_Scaled):
    """Uniform, variance 2 / (fan_in + fan_out) (X. Glorot and Y. Bengio, 2010)."""

    fixed = (1.0, "fan_avg", "uniform")


@serializable("keras.initializers")
class GlorotNormal(_Scaled):
    """Truncated normal, variance 2 / (fan_in + fan_out) (X. Glorot and Y. Bengio, 2010)."""

    fixed = (1.0, "fan_avg", "truncated_normal")


@serializable("keras.initializers")
class HeUniform(_Scaled):
    """Uniform, variance 2 / fan_in: for ReLU (K. He et al., 2015)."""

    fixed = (2.0, "fan_in", "uniform")


@serializable("keras.initializers")
class HeNormal(_Scaled):
    """Truncated normal, variance 2 / fan_in: for ReLU (K. He et al., 2015)."""

    fixed = (2.0, "fan_in", "truncated_normal")


@serializable("keras.initializers")
class LecunUniform(_Scaled):
    """Uniform, variance 1 / fan_in (Y. LeCun et al., 1998)."""

    fixed = (1.0, "fan_in", "uniform")


@serializable("keras.initializers")
class LecunNormal(_Scaled):
    """Truncated normal, variance 1 / fan_in (Y. LeCun et al., 1998)."""

    fixed = (1.0, "fan_in", "truncated_normal")


@serializable("keras.initializers", "OrthogonalInitializer")
class Orthogonal(RandomInitializer):
    """`gain` times a random matrix with orthonormal rows or columns, whichever are fewer.

    All axes but the last count as rows. The matrix is Q of the QR decomposition of a normal matrix,
    with signs chosen so that all rotations are equally likely (F. Mezzadri, 2007).
    """

    def __init__(self, gain: float = 1.0, seed: Any = None):
        super().__init__(seed)
        self.gain = gain

    def __call__(self, shape: tuple, dtype: Any = None) -> Tensor:
        if len(shape) < 2:
            raise ValueError(f"Orthogonal: got shape {tuple(shape)}, expected two axes or more.")
        rows, columns = math.prod(shape[:-1]), shape[-1]
        tall = (max(rows, columns), min(rows, columns))
        q, r = np.linalg.qr(random.normal(tall, 0.0, 1.0, "float64", self.seed).numpy())
        q = q * np.where(r.diagonal() < 0, -1.0, 1.0)
        if rows < columns:
            q = q.T
        return ops.convert_to_tensor(self.gain * q.reshape(shape), dtype or floatx())

    def get_config(self) -> dict:
        return {**super().get_config(), "gain": self.gain}


_WINDOWS: dict[str, Callable] = {
    "bartlett": np.bartlett, "blackman": np.blackman, "boxcar": np.ones, "hamming": np.hamming,
    "hann": np.hanning,
}  # fmt: skip


@serializable("keras.initializers", "STFTInitializer")
class STFT(Initializer):
    """Kernels (L, 1, F) whose convolution is a Fourier transform of frames of L numbers.

    w[t, 0, k] = window[t] cos(-2 pi t k / (2 (F - 1))), or the sine.

    Args:
        side: "real" for the cosine, "imag" for the sine.
        window: "hann", "hamming", "blackman", "bartlett" or "boxcar"; an array (L,); or None.
        scaling: the window is divided by the root of the sum of its squares ("density"), by its sum
            ("spectrum"), or by nothing (None).
        periodic: whether the window goes on periodically.
    """

    def __init__(
        self,
        side: str = "real",
        window: Any = "hann",
        scaling: str | None = "density",
        periodic: bool = False,
    ):
        if side not in ("real", "imag"):
            raise ValueError(f"STFT: got side={side!r}, expected 'real' or 'imag'.")
        if scaling not in ("density", "spectrum", None):
            raise ValueError(f"STFT: got scaling={scaling!r}, expected 'density' or 'spectrum'.")
        if isinstance(window, str) and window not in _WINDOWS:
            raise ValueError(
                f"STFT: got window={window!r}, expected one of {', '.join(_WINDOWS)}; pass the "
                "numbers of any other, such as scipy.signal.get_window gives them."
            )
        self.side = side
        self.window = window
        self.scaling = scaling
        self.periodic = periodic

    def __call__(self, shape: tuple, dtype: Any = None) -> Tensor:
        length, _, frequencies = shape
        angles = -np.pi * np.outer(np.arange(length), np.arange(frequencies)) / (frequencies - 1)
        kernel = np.cos(angles) if self.side == "real" else np.sin(angles)
        if self.window is not None:
            kernel = kernel * self._weights(length)[:, None]
        return ops.convert_to_tensor(kernel[:, None], dtype or floatx())

    def _weights(self, length: int) -> np.ndarray:
        if isinstance(self.window, str):
            more = 1 if self.periodic else 0
            window = _WINDOWS[self.window](length + more)[:length]
        else:
            window = np.asarray(self.window, "float64")
        if window.shape != (length,):
            raise ValueError(f"STFT: got a window of shape {window.shape}, expected ({length},).")
        if self.scaling == "density":
            return window / np.sqrt(np.sum(window**2))
        return window / np.sum(np.abs(window)) if self.scaling == "spectrum" else window

    def get_config(self) -> dict:
        return {"side": self.side, "window": self.window, "periodic": self.periodic,
                "scaling": self.scaling}  # fmt: skip


# Registered here because `ops` knows nothing of the facade.
serializable("keras.random")(SeedGenerator)

zeros, ones, constant, identity = Zeros, Ones, Constant, Identity
IdentityInitializer, OrthogonalInitializer = Identity, Orthogonal
STFTInitializer = stft = STFT
random_normal, random_uniform, truncated_normal = RandomNormal, RandomUniform, TruncatedNormal
variance_scaling, orthogonal = VarianceScaling, Orthogonal
glorot_normal, glorot_uniform = GlorotNormal, GlorotUniform
he_normal, he_uniform = HeNormal, HeUniform
lecun_normal, lecun_uniform = LecunNormal, LecunUniform


def get(identifier: Any) -> Any:
    """The initializer that a name, class, configuration, array or object means; None for None."""
    if isinstance(identifier, (np.ndarray, Tensor)):
        return Constant(np.asarray(identifier))
    return serialization.get("keras.initializers", identifier, "initializer")


def serialize(initializer: Any) -> Any:
    """The initializer as a configuration."""
    return serialization.serialize_keras_object(initializer)


def deserialize(config: Any, custom_objects: dict | None = None) -> Any:
    """The initializer that a name or a configuration describes."""
    return serialization.deserialize("keras.initializers", config, "initializer", custom_objects)


def __dir__() -> list[str]:
    return __all__
