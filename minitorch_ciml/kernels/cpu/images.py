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
def _add(image, i, j, weight, to, mode, fill):
    """Adds a pixel times a weight."""
    i, j = _inside(i, image.shape[0], mode), _inside(j, image.shape[1], mode)
    for c in range(len(to)):
        to[c] += weight * (fill if i < 0 or j < 0 else image[i, j, c])


@task
def _sample_line(line, images, rows, columns, result, nearest, mode, fill):
    n, y = line // result.shape[1], line % result.shape[1]
    image = images[n]
    one = images.dtype.type(1)
    for x in range(result.shape[2]):
        to = result[n, y, x]
        to[:] = 0
        row, column = rows[n, y, x], columns[n, y, x]
        if nearest:
            _add(image, int(np.rint(row)), int(np.rint(column)), one, to, mode, fill)
            continue
        i, j = int(np.floor(row)), int(np.floor(column))
        down, right = row - i, column - j
        up, left = 1 - down, 1 - right
        _add(image, i, j, images.dtype.type(up * left), to, mode, fill)
        _add(image, i, j + 1, images.dtype.type(up * right), to, mode, fill)
        _add(image, i + 1, j, images.dtype.type(down * left), to, mode, fill)
        _add(image, i + 1, j + 1, images.dtype.type(down * right), to, mode, fill)


@entry
def _sample(images, rows, columns, result, nearest, mode, fill, most):
    work = (images, rows, columns, result, nearest, mode, fill)
    _sample_line(result.shape[0] * result.shape[1], most, work)


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
    rows, columns = (np.ascontiguousarray(a, images.dtype) for a in (rows, columns))
    result = np.empty((*rows.shape, images.shape[-1]), images.dtype)
    _sample(
        np.ascontiguousarray(images), rows, columns, result, interpolation == "nearest",
        _MODES[fill_mode], images.dtype.type(fill_value), threads_for(8 * result.size),
    )  # fmt: skip
    return result
