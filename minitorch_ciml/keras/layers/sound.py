"""Layers for sound: what frequencies there are, moment by moment."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minitorch_ciml import ops
from minitorch_ciml.keras.backend import epsilon, standardize_data_format
from minitorch_ciml.keras.initializers import STFT
from minitorch_ciml.keras.layers.images import one_of
from minitorch_ciml.keras.layers.input_spec import InputSpec
from minitorch_ciml.keras.layers.kernel_layer import positive
from minitorch_ciml.keras.layers.layer import Layer
from minitorch_ciml.keras.serialization import serializable

_MODES = ("log", "magnitude", "psd", "real", "imag", "angle", "stft")


@serializable("keras.layers")
class STFTSpectrogram(Layer):
    """The Fourier transform of frames of a signal (N, T, C), by convolutions whose kernels are
    weights, and so can be trained.

    The result is (N, frames, C * F), F = fft_length / 2 + 1 frequencies; with `expand_dims`
    (N, frames, F, C).

    Args:
        mode: what is told of each frequency: "real", "imag", both of them ("stft"), "angle",
            "magnitude", its logarithm ("log"), or the power ("psd").
        frame_length: L, the numbers in a frame.
        frame_step: from frame to frame; half a frame if left out.
        fft_length: at least L; the next power of two if left out.
        window: of a frame: "hann" or another name that `initializers.STFT` knows, an array (L,),
            or None.
        periodic: whether the window goes on periodically, as for a Fourier transform.
        scaling: the window is divided by the root of the sum of its squares ("density"), by its sum
            ("spectrum"), or by nothing (None).
        padding: "valid" or "same".
        expand_dims: give each channel an axis.
        data_format: "channels_last", or "channels_first" (N, C, T).
    """

    def __init__(
        self,
        mode: str = "log",
        frame_length: int = 256,
        frame_step: int | None = None,
        fft_length: int | None = None,
        window: Any = "hann",
        periodic: bool = False,
        scaling: str | None = "density",
        padding: str = "valid",
        expand_dims: bool = False,
        data_format: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        name = "STFTSpectrogram"
        self.mode = one_of(name, "mode", mode, _MODES)
        self.frame_length = positive(name, "frame_length", frame_length)
        if frame_step is not None and not 1 <= frame_step <= frame_length:
            raise ValueError(f"{name}: frame_step must be from 1 to {frame_length}: {frame_step}.")
        if fft_length is not None and fft_length < frame_length:
            raise ValueError(f"{name}: fft_length must be at least {frame_length}: {fft_length}.")
        self.frame_step = frame_step
        self.fft_length = fft_length
        self.window = window
        self.periodic = periodic
        self.scaling = scaling
        STFT("real", window, scaling, periodic)  # which checks both
        self.padding = one_of(name, "padding", padding, ("valid", "same"))
        self.expand_dims = expand_dims
        self.data_format = standardize_data_format(data_format)
        self.input_spec = InputSpec(ndim=3)

    @property
    def _step(self) -> int:
        return self.frame_step or self.frame_length // 2

    @property
    def _frequencies(self) -> int:
        length = self.fft_length or 2 ** math.ceil(math.log2(self.frame_length))
        return length // 2 + 1

    def build(self, input_shape: tuple) -> None:
        if self.mode != "imag":
            self.real_kernel = self._kernel("real")
        if self.mode != "real":
            self.imag_kernel = self._kernel("imag")

    def _kernel(self, side: str) -> Any:
        make = STFT(side, self.window, self.scaling, self.periodic)
        shape = (self.frame_length, 1, self._frequencies)
        return self.add_weight(shape, make, name=f"{side}_kernel")

    def call(self, inputs: Any) -> Any:
        signal = inputs if self.data_format == "channels_last" else ops.moveaxis(inputs, 1, -1)
        if self.mode in ("real", "imag"):
            return self._arranged(self._transformed(signal, getattr(self, f"{self.mode}_kernel")))
        real = self._transformed(signal, self.real_kernel)
        imag = self._transformed(signal, self.imag_kernel)
        if self.mode == "angle":
            return self._arranged(ops.arctan2(imag, real))
        if self.mode == "stft":
            return self._arranged(ops.concatenate([real, imag], axis=-1))
        power = ops.square(real) + ops.square(imag)
        if self.mode == "psd":  # but for the first and the last, there are two of each frequency
            twice = np.ones(self._frequencies, "float32") * 2
            twice[[0, -1]] = 1
            return self._arranged(power * ops.cast(twice, power.dtype))
        magnitude = self._arranged(ops.sqrt(ops.maximum(power, epsilon())))
        if self.mode == "magnitude":
            return magnitude
        return ops.log(ops.maximum(magnitude, epsilon()))

    def _transformed(self, signal: Any, kernel: Any) -> Any:
        """(N, T, C) -> (N, C, frames, F)."""
        batch, steps, channels = signal.shape
        rows = ops.reshape(ops.swapaxes(signal, 1, 2), (batch * channels, steps, 1))
        y = ops.conv(rows, kernel, self._step, self.padding)
        return ops.reshape(y, (batch, channels, *y.shape[1:]))

    def _arranged(self, y: Any) -> Any:
        """(N, C, frames, F) in the layout of the result."""
        last = self.data_format == "channels_last"
        if self.expand_dims:
            return ops.transpose(y, (0, 2, 3, 1)) if last else y
        batch, channels, frames, frequencies = y.shape
        y = ops.reshape(ops.swapaxes(y, 2, 3), (batch, channels * frequencies, frames))
        return ops.swapaxes(y, 1, 2) if last else y

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        last = self.data_format == "channels_last"
        batch, steps, channels = input_shape if last else (*input_shape[::2], input_shape[1])
        frequencies = self._frequencies * (2 if self.mode == "stft" else 1)
        frames = None
        if steps is not None:
            left = steps if self.padding == "same" else steps - self.frame_length + 1
            frames = -(-left // self._step)
        if self.expand_dims:
            return (batch, frames, frequencies, channels) if last else (
                batch, channels, frames, frequencies
            )  # fmt: skip
        rows = None if channels is None else channels * frequencies
        return (batch, frames, rows) if last else (batch, rows, frames)


@serializable("keras.layers")
class MelSpectrogram(Layer):
    """How loud a signal (N, T) or (T,) is at pitches as we hear them: (N, num_mel_bins, frames).

    Frames overlap and are windowed; bins are triangles that are equally wide on the mel scale,
    1127 ln(1 + f / 700).

    Args:
        fft_length: the numbers that are transformed at once.
        sequence_stride: from frame to frame.
        sequence_length: the numbers of a frame; fft_length if left out.
        window: "hann" or "hamming".
        sampling_rate: numbers per second.
        num_mel_bins: how many pitches.
        min_freq, max_freq: the lowest and highest, in hertz; half the sampling rate if left out.
        power_to_db: give decibels, 10 log10(power / ref_power).
        top_db: of these, the loudest number less top_db is the least.
        mag_exp: the power of the magnitude that is added up: 2 for the energy.
        min_power: the least power; `ref_power`: that of 0 decibels.
    """

    def __init__(
        self,
        fft_length: int = 2048,
        sequence_stride: int = 512,
        sequence_length: int | None = None,
        window: str = "hann",
        sampling_rate: int = 16000,
        num_mel_bins: int = 128,
        min_freq: float = 20.0,
        max_freq: float | None = None,
        power_to_db: bool = True,
        top_db: float = 80.0,
        mag_exp: float = 2.0,
        min_power: float = 1e-10,
        ref_power: float = 1.0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.fft_length = positive("MelSpectrogram", "fft_length", fft_length)
        self.sequence_stride = positive("MelSpectrogram", "sequence_stride", sequence_stride)
        self.sequence_length = sequence_length or fft_length
        if self.fft_length < self.sequence_length:
            raise ValueError(
                f"MelSpectrogram: fft_length ({fft_length}) must be at least sequence_length "
                f"({sequence_length})."
            )
        self.window = window
        self.sampling_rate = sampling_rate
        self.num_mel_bins = positive("MelSpectrogram", "num_mel_bins", num_mel_bins)
        self.min_freq = min_freq
        self.max_freq = max_freq or sampling_rate // 2
        self.power_to_db = power_to_db
        self.top_db = top_db
        self.mag_exp = mag_exp
        self.min_power = min_power
        self.ref_power = ref_power

    def call(self, inputs: Any) -> Any:
        real, imag = ops.stft(
            inputs, self.sequence_length, self.sequence_stride, self.fft_length, self.window
        )
        magnitude = ops.sqrt(ops.square(real) + ops.square(imag))
        bins = self.linear_to_mel_weight_matrix(
            self.num_mel_bins, magnitude.shape[-1], self.sampling_rate, self.min_freq, self.max_freq
        )
        powers = ops.matmul(ops.power(magnitude, self.mag_exp), ops.cast(bins, magnitude.dtype))
        if self.power_to_db:
            powers = self._decibels(powers)
        return ops.cast(ops.swapaxes(powers, -1, -2), self.compute_dtype)

    def _decibels(self, powers: Any) -> Any:
        reference = 10.0 * math.log10(max(abs(self.ref_power), self.min_power))
        decibels = 10.0 * ops.log10(ops.maximum(powers, self.min_power)) - reference
        return ops.maximum(decibels, ops.max(decibels) - self.top_db)

    def linear_to_mel_weight_matrix(
        self,
        num_mel_bins: int = 20,
        num_spectrogram_bins: int = 129,
        sampling_rate: float = 8000,
        lower_edge_hertz: float = 125.0,
        upper_edge_hertz: float = 3800.0,
        dtype: Any = "float32",
    ) -> np.ndarray:
        """How much of each frequency is in each bin: (num_spectrogram_bins, num_mel_bins)."""
        frequencies = np.linspace(0.0, sampling_rate / 2, num_spectrogram_bins)
        first, last = _mel([lower_edge_hertz, upper_edge_hertz]).tolist()
        edges = np.linspace(first, last, num_mel_bins + 2)
        lower, centre, upper = edges[:-2], edges[1:-1], edges[2:]
        pitch = _mel(frequencies)[:, None]
        rising, falling = (pitch - lower) / (centre - lower), (upper - pitch) / (upper - centre)
        weights = np.maximum(0.0, np.minimum(rising, falling))
        weights[0] = 0.0  # the mean of the signal is no pitch
        return weights.astype(dtype)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        steps, stride = input_shape[-1], self.sequence_stride
        frames = None if steps is None else (steps + stride + 1) // stride
        return (*input_shape[:-1], self.num_mel_bins, frames)


def _mel(hertz: Any) -> np.ndarray:
    """The mel scale of HTK's."""
    return 1127.0 * np.log(1.0 + np.asarray(hertz) / 700.0)
