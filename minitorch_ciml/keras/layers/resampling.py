"""Images read off at other places: what resizing and augmentation are made of.

NumPy in, NumPy out: no gradient flows through these. A pixel's place is its centre, (row, column)
counted from 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minitorch_ciml import kernels
from minitorch_ciml.kernels.reference.images import FILL_MODES, INTERPOLATIONS
from minitorch_ciml.ops.resampling import axis_weights

__all__ = [
    "FILL_MODES", "INTERPOLATIONS", "blurred", "centre_box", "convolved", "homographies", "resize",
    "resize_in_proportion", "sampled", "transformed",
]  # fmt: skip


def transformed(images: np.ndarray, matrices: np.ndarray, *how: Any) -> np.ndarray:
    """Result pixel (x, y) is what is at ((a0 x + a1 y + a2) / k, (b0 x + b1 y + b2) / k).

    Args:
        images: floats (N, H, W, C).
        matrices: a0, a1, a2, b0, b1, b2 for every image, (N, 6), where k is 1; or, for a
            perspective, also c0 and c1, (N, 8), where k = c0 x + c1 y + 1.
        how: interpolation, fill_mode, fill_value; see `sampled`.
    """
    y, x = np.mgrid[: images.shape[1], : images.shape[2]].astype(images.dtype)
    a0, a1, a2, b0, b1, b2, *c = matrices.astype(images.dtype).T[:, :, None, None]
    k = c[0] * x + c[1] * y + 1 if c else 1
    return sampled(images, (b0 * x + b1 * y + b2) / k, (a0 * x + a1 * y + a2) / k, *how)


def sampled(
    images: np.ndarray,
    rows: np.ndarray,
    columns: np.ndarray,
    interpolation: str = "bilinear",
    fill_mode: str = "reflect",
    fill_value: float = 0.0,
) -> np.ndarray:
    """What the images have at the places (rows, columns).

    Args:
        images: floats (N, H, W, C).
        rows, columns: (N, H', W').
        interpolation: "nearest" or "bilinear".
        fill_mode: what there is outside: "constant", "nearest", "wrap" or "reflect".
        fill_value: for "constant".
    """
    kernel = kernels.find("cpu", "sample_images")
    assert kernel is not None
    return kernel(
        images, rows, columns, interpolation=interpolation, fill_mode=fill_mode,
        fill_value=fill_value,
    )  # fmt: skip


def homographies(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """The perspectives that read point `after` of the result at `before`: for `transformed`.

    Args:
        before, after: four points (x, y) for every image, (N, 4, 2).
    """
    x, y = (after[..., i] for i in (0, 1))
    one, zero = np.ones_like(x), np.zeros_like(x)
    of_x = [x, y, one, zero, zero, zero, -before[..., 0] * x, -before[..., 0] * y]
    of_y = [zero, zero, zero, x, y, one, -before[..., 1] * x, -before[..., 1] * y]
    equations = np.concatenate([np.stack(of_x, axis=-1), np.stack(of_y, axis=-1)], axis=1)
    known = np.concatenate([before[..., 0], before[..., 1]], axis=1)[..., None]
    return np.linalg.solve(equations, known)[..., 0]


def blurred(images: np.ndarray, size: tuple[int, int], sigma: Any) -> np.ndarray:
    """Images (N, H, W, C) under a Gaussian, with zeros outside; the sizes are odd.

    Args:
        size: of the kernel, (width, height).
        sigma: its standard deviations, (width, height).
    """
    for axis, n, deviation in zip((2, 1), size, sigma):
        place = np.arange(n) - (n - 1) / 2
        weights = np.exp(-0.5 * (place / deviation) ** 2)
        images = convolved(images, (weights / weights.sum()).astype(images.dtype), axis)
    return images


def convolved(images: np.ndarray, weights: np.ndarray, axis: int) -> np.ndarray:
    """Images under an odd number of weights along one axis, with zeros outside."""
    margin, length = len(weights) // 2, images.shape[axis]
    margins = [(margin, margin) if i == axis else (0, 0) for i in range(images.ndim)]
    wide = np.moveaxis(np.pad(images, margins), axis, 0)
    moved = sum(w * wide[i : i + length] for i, w in enumerate(weights))
    return np.moveaxis(np.asarray(moved), 0, axis)


def resize(
    images: np.ndarray, size: tuple[int, int], interpolation: str, antialias: bool = False
) -> np.ndarray:
    """Floats (..., H, W, C) in another size; see `ops.image.resize`."""
    few = interpolation in INTERPOLATIONS and not (antialias and interpolation != "nearest")
    resize_axis = _resize_axis if few else _weigh_axis
    for axis, length in zip((-3, -2), size):
        images = resize_axis(images, length, axis, interpolation, antialias)
    return images


def resize_in_proportion(
    images: np.ndarray,
    size: tuple[int, int],
    interpolation: str,
    crop: bool = False,
    pad: bool = False,
    fill_value: float = 0.0,
    antialias: bool = False,
) -> np.ndarray:
    """As `resize`, but with `crop` or `pad` borders are cut off or added so that nothing is
    stretched."""
    if crop:
        rows, columns = centre_box(images.shape[-3:-1], size)
        images = images[..., rows, columns, :]
    if pad:
        images = _padded(images, size, fill_value)
    return resize(images, size, interpolation, antialias)


def _padded(images: np.ndarray, size: tuple[int, int], fill_value: float) -> np.ndarray:
    height, width = images.shape[-3:-1]
    rows = max(height, int(width * size[0] / size[1]))
    columns = max(width, int(height * size[1] / size[0]))
    top, left = (rows - height) // 2, (columns - width) // 2
    margins = [(0, 0)] * images.ndim  # equal on both sides, as in Keras, also for odd numbers
    margins[-3], margins[-2] = (top, top), (left, left)
    return np.pad(images, margins, constant_values=fill_value)


def _weigh_axis(
    images: np.ndarray, length: int, axis: int, interpolation: str, antialias: bool
) -> np.ndarray:
    """Each new pixel is a weighted mean of several old ones."""
    n = images.shape[axis]
    weights = axis_weights(n, length, length / n, 0.0, interpolation, antialias)
    moved = np.moveaxis(images, axis, -1) @ weights.T.astype(images.dtype)
    return np.moveaxis(moved, -1, axis)


def _resize_axis(
    images: np.ndarray, length: int, axis: int, interpolation: str, antialias: bool
) -> np.ndarray:
    """The nearest pixel, or a mean of the nearest two."""
    n = images.shape[axis]
    place = (np.arange(length) + 0.5) * n / length - 0.5
    if interpolation == "nearest":
        return np.take(images, np.floor(place + 0.5).astype(int), axis)
    place = np.clip(place, 0, n - 1)
    first = np.floor(place).astype(int)
    weight = (place - first).astype(images.dtype).reshape(-1, *[1] * (-axis - 1))
    second = np.minimum(first + 1, n - 1)
    return np.take(images, first, axis) * (1 - weight) + np.take(images, second, axis) * weight


def centre_box(shape: tuple[int, int], size: tuple[int, int]) -> tuple[slice, slice]:
    """The largest part in the middle of an image that has the proportions of `size`."""
    height, width = shape
    rows = max(min(height, int(width * size[0] / size[1])), 1)
    columns = max(min(width, int(height * size[1] / size[0])), 1)
    top, left = (height - rows) // 2, (width - columns) // 2
    return slice(top, top + rows), slice(left, left + columns)
