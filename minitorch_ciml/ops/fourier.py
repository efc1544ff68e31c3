"""Fourier transforms. A complex number is a pair: every function takes or gives (real, imaginary).

Underneath are linear ops on arrays whose last axis holds the two parts. Their adjoints transform in
the other direction, so they are each other's derivatives. Where there is no kernel (on a GPU) a
transform is a matrix product.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minitorch_ciml.autograd.arithmetic import cosh, where
from minitorch_ciml.autograd.engine import Op
from minitorch_ciml.autograd.tensor import Tensor, as_tensor
from minitorch_ciml.ops.creation import floats
from minitorch_ciml.ops.indexing import _getitem, _put, take
from minitorch_ciml.ops.joining import stack
from minitorch_ciml.ops.reduce import mean
from minitorch_ciml.ops.shape import pad, reshape, swapaxes

__all__ = [
    "extract_sequences", "fft", "fft2", "i0", "ifft2", "irfft", "istft", "rfft", "stft",
]  # fmt: skip

Pair = tuple[Tensor, Tensor]


def _circle(n, m, dtype):
    """The cosines and sines of 2 pi j k / n, (n, m)."""
    angle = 2 * np.pi * (np.arange(n)[:, None] * np.arange(m) % n) / n
    return np.cos(angle).astype(dtype), np.sin(angle).astype(dtype)


def _transform_ref(z, inverse):
    cosine, sine = _circle(z.shape[-2], z.shape[-2], z.dtype)
    a, b = _parts(z)
    sine = -sine if inverse else sine
    return stack([a @ cosine + b @ sine, b @ cosine - a @ sine], -1)


def _real_transform_ref(x):
    n = x.shape[-1]
    cosine, sine = _circle(n, n // 2 + 1, x.dtype)
    return stack([x @ cosine, -(x @ sine)], -1)


def _real_adjoint_ref(z, n):
    cosine, sine = _circle(n, n // 2 + 1, z.dtype)
    a, b = _parts(z)
    return a @ cosine.T - b @ sine.T


_transform: Op = Op(
    "transform",
    lambda g, y, z, inverse: _transform(g, inverse=not inverse),
    ref=_transform_ref,
    dtypes="float",
    doc="y_k = sum over j of z_j exp(-2 pi i j k / n), or +; the last axis holds the two parts.",
)
_real_transform: Op = Op(
    "real_transform",
    lambda g, y, x: _real_adjoint(g, n=x.shape[-1]),
    ref=_real_transform_ref,
    dtypes="float",
    doc="y_k = sum over j of x_j exp(-2 pi i j k / n), k = 0 ... n / 2, of real x.",
)
_real_adjoint: Op = Op(
    "real_transform_adjoint",
    lambda g, y, z, n: _real_transform(g),
    ref=_real_adjoint_ref,
    dtypes="float",
    doc="y_j = the real part of the sum over k = 0 ... n / 2 of z_k exp(2 pi i j k / n).",
)


def _pair(caller: str, x: Any) -> Pair:
    if not isinstance(x, (tuple, list)) or len(x) != 2:
        raise ValueError(f"{caller}: expected a pair of tensors, the real and imaginary parts.")
    real, imaginary = floats(x[0]), floats(x[1])
    if real.shape != imaginary.shape or not real.ndim:
        raise ValueError(
            f"{caller}: the parts have shapes {real.shape} and {imaginary.shape}; expected one "
            "shape with at least one axis."
        )
    return real, imaginary


def _parts(z: Tensor) -> Pair:
    return _getitem(z, index=(..., 0)), _getitem(z, index=(..., 1))


def fft(x: Pair) -> Pair:
    """y_k = sum over j of x_j exp(-2 pi i j k / n), along the last axis.

    Args:
        x: the real and the imaginary part.

    Returns:
        The real and the imaginary part.
    """
    return _parts(_transform(stack(_pair("fft", x), -1), inverse=False))


def fft2(x: Pair) -> Pair:
    """`fft` along the last two axes."""
    return _parts(_both_axes(stack(_pair("fft2", x), -1), inverse=False))


def ifft2(x: Pair) -> Pair:
    """The inverse of `fft2`."""
    z = stack(_pair("ifft2", x), -1)
    return _parts(_both_axes(z, inverse=True) / (z.shape[-2] * z.shape[-3]))


def _both_axes(z: Tensor, inverse: bool) -> Tensor:
    if z.ndim < 3:
        raise ValueError(f"fft2: got shape {z.shape[:-1]}, expected at least two axes.")
    once = swapaxes(_transform(z, inverse=inverse), -2, -3)
    return swapaxes(_transform(once, inverse=inverse), -2, -3)


def rfft(x: Any, fft_length: int | None = None) -> Pair:
    """`fft` of real numbers: its first n / 2 + 1 values; the others are their conjugates.

    Args:
        x: floats (..., n).
        fft_length: cut `x` off, or fill it up with zeros, to this n first.
    """
    x = floats(x)
    x = x if fft_length is None else _to_length(x, fft_length)
    return _parts(_real_transform(x))


def irfft(x: Pair, fft_length: int | None = None) -> Tensor:
    """The inverse of `rfft`: real numbers from the first n / 2 + 1 values of their transform.

    Args:
        x: the real and the imaginary part, (..., m).
        fft_length: n; 2 (m - 1) if left out.
    """
    real, imaginary = _pair("irfft", x)
    n = 2 * (real.shape[-1] - 1) if fft_length is None else fft_length
    if n < 1:
        raise ValueError(f"irfft: got the length {n}, expected at least 1.")
    parts = [_to_length(part, n // 2 + 1) for part in (real, imaginary)]
    # All but the first, and the last if n is even, stand for their conjugates, too.
    times = np.full((n // 2 + 1, 1), 2 / n)
    times[0] = 1 / n
    if n % 2 == 0:
        times[-1] = 1 / n
    return _real_adjoint(stack(parts, -1) * times.astype(real.dtype), n=n)


def _to_length(x: Tensor, n: int) -> Tensor:
    """The last axis cut off, or filled up with zeros."""
    if x.shape[-1] >= n:
        return _getitem(x, index=(..., slice(n)))
    return pad(x, [(0, 0)] * (x.ndim - 1) + [(0, n - x.shape[-1])])


# --- short times --------------------------------------------------------------------------------


def extract_sequences(x: Any, sequence_length: int, sequence_stride: int) -> Tensor:
    """Overlapping pieces of the last axis: (..., n) -> (..., pieces, sequence_length)."""
    x = as_tensor(x)
    if not x.ndim or not 1 <= sequence_length <= x.shape[-1] or sequence_stride < 1:
        raise ValueError(
            f"extract_sequences: got shape {x.shape}, sequence_length={sequence_length} and "
            f"sequence_stride={sequence_stride}; expected positive numbers, and pieces that fit."
        )
    return take(x, _places(x.shape[-1], sequence_length, sequence_stride), -1)


def _places(n: int, length: int, stride: int) -> np.ndarray:
    pieces = 1 + (n - length) // stride
    return np.arange(pieces)[:, None] * stride + np.arange(length)


def _window(caller: str, window: Any, sequence_length: int, fft_length: int, like: Tensor) -> Any:
    """The window in the middle of `fft_length` places."""
    if fft_length < sequence_length:
        raise ValueError(
            f"{caller}: got fft_length={fft_length}, expected at least the sequence_length "
            f"{sequence_length}."
        )
    if window is None:
        weights: Any = np.ones(sequence_length, like.dtype)
    elif isinstance(window, str):
        if window not in ("hann", "hamming"):
            raise ValueError(f"{caller}: got window {window!r}, expected 'hann' or 'hamming'.")
        turn = 2 * np.pi * np.arange(sequence_length) / sequence_length
        low = 0.5 if window == "hann" else 0.54
        weights = (low - (1 - low) * np.cos(turn)).astype(like.dtype)
    else:
        weights = as_tensor(window)
        if weights.shape != (sequence_length,):
            raise ValueError(
                f"{caller}: got a window of shape {weights.shape}, expected ({sequence_length},)."
            )
    before = (fft_length - sequence_length) // 2
    return pad(weights, (before, fft_length - sequence_length - before)).to(like.device)


def stft(
    x: Any,
    sequence_length: int,
    sequence_stride: int,
    fft_length: int,
    window: Any = "hann",
    center: bool = True,
) -> Pair:
    """The Fourier transforms of overlapping pieces of a signal: how its frequencies change.

    Args:
        x: floats (..., n).
        sequence_length: the length of a piece.
        sequence_stride: the step between two pieces.
        fft_length: the length of the transforms, at least `sequence_length`.
        window: weights of a piece's numbers: 'hann', 'hamming', a tensor, or None.
        center: reflect `x` at both ends, so that piece t has its middle at t * sequence_stride.

    Returns:
        The real and the imaginary part, (..., pieces, fft_length // 2 + 1).
    """
    x = floats(x)
    weights = _window("stft", window, sequence_length, fft_length, x)
    if center:
        reach = fft_length // 2
        x = pad(x, [(0, 0)] * (x.ndim - 1) + [(reach, reach)], mode="reflect")
    return rfft(extract_sequences(x, fft_length, sequence_stride) * weights)


def istft(
    x: Pair,
    sequence_length: int,
    sequence_stride: int,
    fft_length: int,
    length: int | None = None,
    window: Any = "hann",
    center: bool = True,
) -> Tensor:
    """The signal whose `stft`, with the same arguments, this is.

    The pieces are weighted with the window once more, added, and divided by the sum of the squared
    weights (D. Griffin and J. Lim, "Signal estimation from modified short-time Fourier transform",
    1984).

    Args:
        x: the real and the imaginary part, (..., pieces, fft_length // 2 + 1).
        length: of the result.
        sequence_length, sequence_stride, fft_length, window, center: as for `stft`.
    """
    real, imaginary = _pair("istft", x)
    weights = _window("istft", window, sequence_length, fft_length, real)
    pieces = irfft((real, imaginary), fft_length) * weights
    count, stride = pieces.shape[-2], sequence_stride
    n = (count - 1) * stride + fft_length
    places = _places(n, fft_length, stride)
    front = pieces.shape[:-2]
    index = (*[slice(None)] * len(front), places)
    y = _put(pieces, index=index, shape=(*front, n))
    total = _put(weights * weights + np.zeros_like(places, real.dtype), index=places, shape=(n,))
    y = y / where(total > 1e-10, total, 1.0)
    start = fft_length // 2 if center else 0
    stop = n - start if length is None else start + length
    y = _getitem(y, index=(..., slice(start, stop)))
    return y if length is None else _to_length(y, length)


# --- Bessel's function --------------------------------------------------------------------------

# The midpoints of a quarter of the circle: exact to rounding for all |x| for which y is finite.
_ANGLES = (np.arange(64) + 0.5) * np.pi / 128


def i0(x: Any) -> Tensor:
    """y = the mean of e^(x cos t) around the circle: the modified Bessel function of order 0."""
    x = floats(x)
    return mean(cosh(reshape(x, (*x.shape, 1)) * np.cos(_ANGLES).astype(x.dtype)), -1)
