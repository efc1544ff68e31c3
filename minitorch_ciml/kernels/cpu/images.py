"""Images read off at other places, a row of the result at a time."""

from __future__ import annotations

import numpy as np

from minitorch_ciml.kernels.cpu.jit import entry, kernel
from minitorch_ciml.kernels.cpu.threads import task, threads_for
from minitorch_ciml.kernels.reference import images as reference

Array = np.ndarray

_CONSTANT, _NEAREST, _WRAP, _REFLECT = range(4)
_MODES = {"constant": _CONSTANT, "nearest": _NEAREST, "wrap": _WRAP, "reflect": _REFLECT}


@kernel
def _inside(i, n, mode):
    """Where an index outside of 0 ... n - 1 is read; -1 for nowhere."""
    if 0 <= i < n:
        return i
    if mode == _CONSTANT:
        return -1
    if mode == _NEAREST:
        return 0 if i < 0 else n - 1
    if mode == _WRAP:
        return i % n
    i = i % (2 * n)
    return i if i < n else 2 * n - 1 - i


@kernel
def _pixel(i, j, height, width, mode):
    """The number of the pixel that stands for (i, j); -1 for none."""
    i, j = _inside(i, height, mode), _inside(j, width, mode)
    return -1 if i < 0 or j < 0 else i * width + j


@task
def _sample_line(line, images, rows, columns, result, sizes, nearest, mode, fill):
    lines, length, height, width, channels = sizes
    start = line // lines * height * width * channels  # of the image
    zero, one = images.dtype.type(0), images.dtype.type(1)  # a plain 1 would make them float64
    for at in range(line * length, (line + 1) * length):
        row, column, to = rows[at], columns[at], at * channels
        if nearest:
            p = _pixel(int(np.rint(row)), int(np.rint(column)), height, width, mode)
            for c in range(channels):
                result[to + c] = images[start + p * channels + c] if p >= 0 else fill
            continue
        top, left = np.floor(row), np.floor(column)
        down, right = row - top, column - left
        up, back = one - down, one - right
        i, j = int(top), int(left)
        a, b = _pixel(i, j, height, width, mode), _pixel(i, j + 1, height, width, mode)
        c, d = _pixel(i + 1, j, height, width, mode), _pixel(i + 1, j + 1, height, width, mode)
        wa, wb, wc, wd = up * back, up * right, down * back, down * right
        filled = zero
        # What is nowhere counts with the fill value, and reads any pixel with weight 0.
        if a < 0:
            filled, wa, a = filled + fill * wa, zero, 0
        if b < 0:
            filled, wb, b = filled + fill * wb, zero, 0
        if c < 0:
            filled, wc, c = filled + fill * wc, zero, 0
        if d < 0:
            filled, wd, d = filled + fill * wd, zero, 0
        a, b = start + a * channels, start + b * channels
        c, d = start + c * channels, start + d * channels
        for k in range(channels):
            above = wa * images[a + k] + wb * images[b + k]
            result[to + k] = filled + above + wc * images[c + k] + wd * images[d + k]


@entry
def _sample(images, rows, columns, result, lines, sizes, nearest, mode, fill, most):
    work = (images, rows, columns, result, sizes, nearest, mode, fill)
    _sample_line(lines, most, work)


def sample_images(
    images: Array,
    rows: Array,
    columns: Array,
    *,
    interpolation: str,
    fill_mode: str,
    fill_value: float,
) -> Array:
    if images.dtype.char not in "fd" or not images.size:
        return reference.sample_images(
            images, rows, columns, interpolation=interpolation, fill_mode=fill_mode,
            fill_value=fill_value,
        )  # fmt: skip
    flat = [np.ascontiguousarray(a, images.dtype).reshape(-1) for a in (images, rows, columns)]
    n, height, width, channels = images.shape
    lines, length = rows.shape[1:]
    result = np.empty((*rows.shape, channels), images.dtype)
    _sample(
        *flat, result.reshape(-1), n * lines, (lines, length, height, width, channels),
        interpolation == "nearest", _MODES[fill_mode], images.dtype.type(fill_value),
        threads_for(8 * result.size),
    )  # fmt: skip
    return result
