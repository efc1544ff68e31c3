"""Fourier transforms, through NumPy. The last axis of an array holds real and imaginary parts."""

import numpy as np


def _complex(z: np.ndarray) -> np.ndarray:
    pairs = np.ascontiguousarray(z, np.result_type(z.dtype, np.float32))
    return pairs.view(np.result_type(pairs.dtype, np.complex64))[..., 0]


def _pairs(numbers: np.ndarray, dtype: np.dtype) -> np.ndarray:
    parts = np.ascontiguousarray(numbers)[..., None].view(numbers.real.dtype)
    return parts.astype(dtype, copy=False)


def transform(z: np.ndarray, inverse: bool) -> np.ndarray:
    """y_k = sum over j of z_j exp(-2 pi i j k / n), or + for the inverse, not divided by n."""
    numbers = _complex(z)
    return _pairs(np.fft.ifft(numbers, norm="forward") if inverse else np.fft.fft(numbers), z.dtype)


def real_transform(x: np.ndarray) -> np.ndarray:
    """The same for real x, and k = 0 ... n / 2."""
    return _pairs(np.fft.rfft(x.astype(np.result_type(x.dtype, np.float32), copy=False)), x.dtype)


def real_transform_adjoint(z: np.ndarray, n: int) -> np.ndarray:
    """y_j = the real part of the sum over k = 0 ... n / 2 of z_k exp(2 pi i j k / n)."""
    numbers = _complex(z) / 2
    numbers[..., 0] *= 2  # NumPy counts the others twice, with their conjugates
    if n % 2 == 0:
        numbers[..., -1] *= 2
    return np.fft.irfft(numbers, n, norm="forward").astype(z.dtype, copy=False)
