"""Images read off at other places: what resizing and augmentation are made of.

NumPy in, NumPy out: no gradient flows through these. A pixel's place is its centre, (row, column)
counted from 0.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

INTERPOLATIONS = ("nearest", "bilinear")

# Where an index outside of 0 ... n - 1 is read instead.
_FILL_MODES: dict[str, Callable] = {
    "constant": lambda i, n: np.clip(i, 0, n - 1),  # and replaced by the fill value afterwards
    "nearest": lambda i, n: np.clip(i, 0, n - 1),
    "wrap": lambda i, n: i % n,
    "reflect": lambda i, n: n - 1 - np.abs(i % (2 * n) - n + 0.5).astype(int),  # d c b a | a b c d
}
FILL_MODES = tuple(_FILL_MODES)


def affine(
    images: np.ndarray,
    matrices: np.ndarray,
    interpolation: str = "bilinear",
    fill_mode: str = "reflect",
    fill_value: float = 0.0,
) -> np.ndarray:
    """Result pixel (y, x) is what the image has at (b0 x + b1 y + b2, a0 x + a1 y + a2).

    Args:
        images: floats (N, H, W, C).
        matrices: a0, a1, a2, b0, b1, b2 for every image, (N, 6).
        interpolation: "nearest" or "bilinear".
        fill_mode: what there is outside: "constant", "nearest", "wrap" or "reflect".
        fill_value: for "constant".
    """
    height, width = images.shape[1:3]
    y, x = np.mgrid[:height, :width].astype(images.dtype)
    a0, a1, a2, b0, b1, b2 = matrices.astype(images.dtype).T[:, :, None, None]
    places = b0 * x + b1 * y + b2, a0 * x + a1 * y + a2
    corners = [_neighbours(place, interpolation) for place in places]
    result = np.zeros_like(images)
    image = np.arange(len(images))[:, None, None]
    for row, row_weight in corners[0]:
        for column, column_weight in corners[1]:
            i = _FILL_MODES[fill_mode](row, height)
            j = _FILL_MODES[fill_mode](column, width)
            pixels = images[image, i, j]
            if fill_mode == "constant":
                outside = (i != row) | (j != column)
                pixels = np.where(outside[..., None], images.dtype.type(fill_value), pixels)
            result += pixels * (row_weight * column_weight)[..., None]
    return result


def _neighbours(place: np.ndarray, interpolation: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """The pixels along one axis that a place is read from, and their weights."""
    if interpolation == "nearest":
        return [(np.rint(place).astype(int), np.ones_like(place))]
    first = np.floor(place)
    rest = place - first
    return [(first.astype(int), 1 - rest), (first.astype(int) + 1, rest)]


def resize(images: np.ndarray, size: tuple[int, int], interpolation: str) -> np.ndarray:
    """Floats (..., H, W, C) in another size; at the border, the outermost pixels go on."""
    for axis, length in zip((-3, -2), size):
        images = _resize_axis(images, length, axis, interpolation)
    return images


def resize_in_proportion(
    images: np.ndarray,
    size: tuple[int, int],
    interpolation: str,
    crop: bool = False,
    pad: bool = False,
    fill_value: float = 0.0,
) -> np.ndarray:
    """As `resize`, but with `crop` or `pad` borders are cut off or added so that nothing is
    stretched."""
    if crop:
        rows, columns = centre_box(images.shape[-3:-1], size)
        images = images[..., rows, columns, :]
    if pad:
        images = _padded(images, size, fill_value)
    return resize(images, size, interpolation)


def _padded(images: np.ndarray, size: tuple[int, int], fill_value: float) -> np.ndarray:
    height, width = images.shape[-3:-1]
    rows = max(height, int(width * size[0] / size[1]))
    columns = max(width, int(height * size[1] / size[0]))
    top, left = (rows - height) // 2, (columns - width) // 2
    margins = [(0, 0)] * images.ndim  # equal on both sides, as in Keras, also for odd numbers
    margins[-3], margins[-2] = (top, top), (left, left)
    return np.pad(images, margins, constant_values=fill_value)


def _resize_axis(images: np.ndarray, length: int, axis: int, interpolation: str) -> np.ndarray:
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
