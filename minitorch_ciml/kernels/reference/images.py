"""Images read off at other places. A pixel's place is its centre, (row, column) counted from 0."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Array = np.ndarray

# Where an index outside of 0 ... n - 1 is read instead.
_FILL_MODES: dict[str, Callable] = {
    "constant": lambda i, n: np.clip(i, 0, n - 1),  # and replaced by the fill value afterwards
    "nearest": lambda i, n: np.clip(i, 0, n - 1),
    "wrap": lambda i, n: i % n,
    "reflect": lambda i, n: n - 1 - np.abs(i % (2 * n) - n + 0.5).astype(int),  # d c b a | a b c d
}
FILL_MODES = tuple(_FILL_MODES)
INTERPOLATIONS = ("nearest", "bilinear")


def sample_images(
    images: Array,
    rows: Array,
    columns: Array,
    *,
    interpolation: str,
    fill_mode: str,
    fill_value: float,
) -> Array:
    """What images (N, H, W, C) have at the places (rows, columns), each (N, H', W')."""
    height, width = images.shape[1:3]
    corners = [_neighbours(place, interpolation) for place in (rows, columns)]
    result = np.zeros((*rows.shape, images.shape[-1]), images.dtype)
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


def _neighbours(place: Array, interpolation: str) -> list[tuple[Array, Array]]:
    """The pixels along one axis that a place is read from, and their weights."""
    if interpolation == "nearest":
        return [(np.rint(place).astype(int), np.ones_like(place))]
    first = np.floor(place)
    rest = place - first
    return [(first.astype(int), 1 - rest), (first.astype(int) + 1, rest)]
