"""Images read off at other places: resizing, and moving, turning and bending.

Resizing is one matrix product per axis, whose matrix holds the weights. Everything else computes a
place for every pixel of the result and reads the pixels around it. So gradients flow to the images,
and to the places (`map_coordinates`) and transforms, too.

Images are (H, W, C) or (N, H, W, C); with `data_format="channels_first"`, (C, H, W) or
(N, C, H, W). A pixel's place is its centre, counted from 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import numpy as np

from minitorch_ciml.autograd.arithmetic import where
from minitorch_ciml.autograd.engine import Op
from minitorch_ciml.autograd.tensor import FLOATS, Tensor, as_tensor
from minitorch_ciml.ops.conv import is_channels_first
from minitorch_ciml.ops.creation import cast, floats, saturate_cast
from minitorch_ciml.ops.indexing import _getitem, take
from minitorch_ciml.ops.joining import concatenate, stack
from minitorch_ciml.ops.linalg import einsum, solve
from minitorch_ciml.ops.math import clip, floor, logical_and, mod, round
from minitorch_ciml.ops.random import normal
from minitorch_ciml.ops.shape import broadcast_to, moveaxis, pad, reshape

__all__ = [
    "affine_transform", "elastic_transform", "map_coordinates", "perspective_transform", "resize",
    "scale_and_translate",
]  # fmt: skip

FILL_MODES = ("constant", "nearest", "wrap", "mirror", "reflect")

# --- layouts and dtypes, for all functions of images --------------------------------------------


def on_images(caller: str, images: Any, data_format: str | None, function: Callable) -> Tensor:
    """`function` of the images as (N, H, W, C), with its result in the layout of the images."""
    x = as_tensor(images)
    if x.ndim not in (3, 4):
        raise ValueError(
            f"{caller}: got images of shape {x.shape}, expected (H, W, C) or (N, H, W, C)."
        )
    first = is_channels_first(data_format)
    x = moveaxis(x, -3, -1) if first else x
    y = function(x) if x.ndim == 4 else function(x[None])[0]
    return moveaxis(y, -1, -3) if first else y


def as_floats_and_back(x: Tensor, function: Callable) -> Tensor:
    """`function` of the numbers as floats; integers are rounded again."""
    if x.dtype.kind in FLOATS:
        return function(x)
    return saturate_cast(round(function(floats(x))), x.dtype)


# --- resizing -----------------------------------------------------------------------------------


def _cubic(x: np.ndarray) -> np.ndarray:
    """R. Keys, "Cubic convolution interpolation for digital image processing", 1981."""
    near = ((1.5 * x - 2.5) * x) * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0))


def _lanczos(radius: int) -> Callable:
    return lambda x: np.where(x < radius, np.sinc(x) * np.sinc(x / radius), 0)


# The weight of a pixel by its distance.
_KERNELS: dict[str, Callable] = {
    "linear": lambda x: np.maximum(1 - x, 0), "bilinear": lambda x: np.maximum(1 - x, 0),
    "cubic": _cubic, "bicubic": _cubic, "lanczos3": _lanczos(3), "lanczos5": _lanczos(5),
}  # fmt: skip


def axis_weights(
    size: int, length: int, scale: float, translation: float, method: str, antialias: bool
) -> np.ndarray:
    """(length, size): of each pixel of the source for each of the result; rows sum to 1, or 0."""
    place = (np.arange(length) + 0.5 - translation) / scale - 0.5
    wide = max(1 / scale, 1) if antialias else 1  # covers all pixels that become one
    weights = _KERNELS[method](np.abs(place[:, None] - np.arange(size)) / wide)
    total = weights.sum(1, keepdims=True)
    inside = (place >= -0.5) & (place <= size - 0.5)
    kept = inside[:, None] & (np.abs(total) > 1e-10)
    return np.where(kept, weights / np.where(kept, total, 1), 0)


def _product_along(x: Tensor, w: Tensor, axis: int) -> Tensor:
    letters = "abcdefgh"[: x.ndim]
    result = letters.replace(letters[axis], "z")
    return einsum(f"z{letters[axis]},{letters}->{result}", w, x)


_weighted_sums = Op(
    "weighted_sums",
    ref=_product_along,
    dtypes="float",
    doc="y_i = the sum of w_ik x_k over k, along an axis.",
)

INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos3", "lanczos5")


def resize(
    images: Any,
    size: tuple[int, int],
    interpolation: str = "bilinear",
    antialias: bool = False,
    crop_to_aspect_ratio: bool = False,
    pad_to_aspect_ratio: bool = False,
    fill_mode: str = "constant",
    fill_value: float = 0.0,
    data_format: str | None = None,
) -> Tensor:
    """Images in another size.

    Args:
        images: (H, W, C) or (N, H, W, C); integers are rounded again.
        size: (height, width) of the result.
        interpolation: 'nearest', 'bilinear', 'bicubic' (as JAX and TensorFlow have it, a = -0.5),
            'lanczos3' or 'lanczos5'.
        antialias: where an image shrinks, average over all pixels that become one.
        crop_to_aspect_ratio: cut borders off first, so that nothing is stretched.
        pad_to_aspect_ratio: put borders on first, so that nothing is stretched.
        fill_mode: of these borders; 'constant' only.
        fill_value: what is in them.
        data_format: "channels_last" (the default) or "channels_first".

    Raises:
        ValueError: a name is unknown, the size is no pair, or both crop and pad are asked for.
    """
    size = _checked_size(size)
    if interpolation not in INTERPOLATIONS:
        raise ValueError(
            f"resize: got interpolation {interpolation!r}, expected 'nearest', 'bilinear', "
            "'bicubic', 'lanczos3' or 'lanczos5'."
        )
    if crop_to_aspect_ratio and pad_to_aspect_ratio:
        raise ValueError("resize: got crop and pad_to_aspect_ratio, expected one of them at most.")
    if fill_mode != "constant":
        raise ValueError(f"resize: got fill_mode {fill_mode!r}, expected 'constant'.")

    def resized(x: Tensor) -> Tensor:
        if crop_to_aspect_ratio:
            x = _cropped(x, size)
        elif pad_to_aspect_ratio:
            x = _padded(x, size, fill_value)
        if interpolation == "nearest":
            for axis, n in enumerate(size, 1):
                step = x.shape[axis] / n
                x = take(x, np.floor((np.arange(n) + 0.5) * step).astype(int), axis)
            return x
        return as_floats_and_back(x, lambda x: _resampled(x, size, interpolation, antialias))

    return on_images("resize", images, data_format, resized)


def _checked_size(size: Any) -> tuple[int, int]:
    if not (isinstance(size, Sequence) and len(size) == 2 and min(size) > 0):
        raise ValueError(f"resize: got size {size!r}, expected (height, width).")
    return int(size[0]), int(size[1])


def _resampled(x: Tensor, size: tuple[int, int], method: str, antialias: bool) -> Tensor:
    rows, columns = [
        axis_weights(x.shape[axis], n, n / x.shape[axis], 0.0, method, antialias).astype(x.dtype)
        for axis, n in enumerate(size, 1)
    ]
    return _weighted_sums(_weighted_sums(x, rows, axis=1), columns, axis=2)


def _cropped(x: Tensor, size: tuple[int, int]) -> Tensor:
    """The largest part in the middle that has the proportions of `size`."""
    height, width = x.shape[1:3]
    rows = max(min(height, int(width * size[0] / size[1])), 1)
    columns = max(min(width, int(height * size[1] / size[0])), 1)
    top, left = (height - rows) // 2, (width - columns) // 2
    return x[:, top : top + rows, left : left + columns]


def _padded(x: Tensor, size: tuple[int, int], fill_value: float) -> Tensor:
    """With borders that give it the proportions of `size`; opposite ones are alike, as in Keras."""
    height, width = x.shape[1:3]
    top = max(int(width * size[0] / size[1]) - height, 0) // 2
    left = max(int(height * size[1] / size[0]) - width, 0) // 2
    return pad(x, ((0, 0), (top, top), (left, left), (0, 0)), constant_values=fill_value)


def scale_and_translate(
    images: Any,
    output_shape: Sequence[int],
    scale: Any,
    translation: Any,
    spatial_dims: Sequence[int],
    method: str,
    antialias: bool = True,
) -> Tensor:
    """The place p of an image moves to scale p + translation, along each of some axes.

    Places are counted from the border of the first pixel. What was not in the image is 0.

    Args:
        images: floats of any shape.
        output_shape: of the result; other axes must keep their sizes.
        scale: one number for each axis.
        translation: one number for each axis.
        spatial_dims: these axes.
        method: 'linear', 'cubic', 'lanczos3' or 'lanczos5'.
        antialias: where an image shrinks, average over all pixels that become one.
    """
    x = floats(images)
    if method not in _KERNELS:
        raise ValueError(
            f"scale_and_translate: got method {method!r}, expected one of {list(_KERNELS)}."
        )
    scales, shifts = [np.ravel(as_tensor(v).numpy()).tolist() for v in (scale, translation)]
    if not len(scales) == len(shifts) == len(spatial_dims) or len(output_shape) != x.ndim:
        raise ValueError(
            f"scale_and_translate: got {len(scales)} scales, {len(shifts)} translations and "
            f"{len(spatial_dims)} axes for shapes {x.shape} and {tuple(output_shape)}; expected "
            "one of each, and as many sizes as axes."
        )
    for axis, a, b in zip(spatial_dims, scales, shifts):
        weights = axis_weights(x.shape[axis], output_shape[axis], a, b, method, antialias)
        x = _weighted_sums(x, weights.astype(x.dtype), axis=axis % x.ndim)
    if x.shape != tuple(output_shape):
        raise ValueError(
            f"scale_and_translate: got the output_shape {tuple(output_shape)}, but along other "
            f"axes than {tuple(spatial_dims)} the images have {x.shape}."
        )
    return x


# --- reading at places --------------------------------------------------------------------------


def _mirror(i: Tensor, n: int) -> Tensor:
    period = max(2 * (n - 1), 1)
    i = mod(i, period)
    return where(i > n - 1, period - i, i)


def _reflect(i: Tensor, n: int) -> Tensor:
    i = mod(i, 2 * n)
    return where(i > n - 1, 2 * n - 1 - i, i)


# Where an index outside of 0 ... n - 1 is read instead.
_INSIDE: dict[str, Callable] = {
    "constant": lambda i, n: clip(i, 0, n - 1),  # and replaced by the fill value afterwards
    "nearest": lambda i, n: clip(i, 0, n - 1),
    "wrap": mod,  # a b c d | a b c d
    "mirror": _mirror,  # d c b | a b c d
    "reflect": _reflect,  # d c b a | a b c d
}


def _read(
    x: Tensor, places: Sequence[Tensor], order: int, fill_mode: str, fill_value: float,
    front: tuple = (),
) -> Tensor:  # fmt: skip
    """x[(*front, *places)], interpolated between the elements around; `front` are indices."""
    sizes = x.shape[len(front) : len(front) + len(places)]
    rest = x.ndim - len(front) - len(places)
    corners = [_neighbours(place, order) for place in places]
    total: Any = None
    for corner in product(*corners):
        indices = [_INSIDE[fill_mode](i, n) for (i, _), n in zip(corner, sizes)]
        y = _getitem(x, index=(*front, *[i.value for i in indices]))
        wide = (*indices[0].shape, *(1,) * rest)
        if fill_mode == "constant":
            inside: Any = True
            for (i, _), n in zip(corner, sizes):
                inside = logical_and(inside, logical_and(i >= 0, i < n))
            y = where(reshape(inside, wide), y, fill_value)
        for _, weight in corner:
            if weight is not None:
                y = y * reshape(weight, wide)
        total = y if total is None else total + y
    return total


def _neighbours(place: Tensor, order: int) -> list[tuple[Tensor, Tensor | None]]:
    """The elements along one axis that a place is read from, and their weights."""
    if order == 0:
        return [(cast(round(place), "int64"), None)]
    below = floor(place)
    share = place - below
    index = cast(below, "int64")
    return [(index, 1 - share), (index + 1, share)]


def map_coordinates(
    inputs: Any, coordinates: Any, order: int, fill_mode: str = "constant", fill_value: float = 0
) -> Tensor:
    """y[...] = inputs[c_0[...], c_1[...], ...], interpolated between the elements around.

    Args:
        inputs: a tensor with D axes; integers are rounded again.
        coordinates: floats (D, ...): one number for each axis of `inputs`.
        order: 0 for the nearest element, 1 for linear interpolation.
        fill_mode: what there is outside: 'constant' (the `fill_value`), 'nearest' (the outermost
            element), 'wrap', 'mirror' (at the outermost element) or 'reflect' (behind it).
        fill_value: for 'constant'.
    """
    x, places = as_tensor(inputs), floats(coordinates)
    if places.ndim < 2 or len(places) != x.ndim:
        raise ValueError(
            f"map_coordinates: got inputs of shape {x.shape} and coordinates {places.shape}; "
            "expected one row of coordinates for each axis, (D, ...)."
        )
    if order not in (0, 1):
        raise ValueError(f"map_coordinates: got order {order!r}, expected 0 or 1.")
    _known("map_coordinates", "fill_mode", fill_mode, FILL_MODES)
    rows = [places[i] for i in range(x.ndim)]
    return as_floats_and_back(x, lambda x: _read(x, rows, order, fill_mode, fill_value))


def _known(caller: str, name: str, value: Any, known: Sequence) -> None:
    if value not in known:
        raise ValueError(f"{caller}: got {name} {value!r}, expected one of {tuple(known)}.")


_ORDERS = {"nearest": 0, "bilinear": 1}


def affine_transform(
    images: Any,
    transform: Any,
    interpolation: str = "bilinear",
    fill_mode: str = "constant",
    fill_value: float = 0,
    data_format: str | None = None,
) -> Tensor:
    """Pixel (x, y) of the result is what the image has at (x', y'), columns before rows.

    With a transform (a0, a1, a2, b0, b1, b2, c0, c1) and k = c0 x + c1 y + 1,
    x' = (a0 x + a1 y + a2) / k and y' = (b0 x + b1 y + b2) / k.

    Args:
        images: (H, W, C) or (N, H, W, C); integers are rounded again.
        transform: floats (8,), or (N, 8).
        interpolation: 'bilinear' or 'nearest'.
        fill_mode, fill_value: what there is outside; see `map_coordinates`.
        data_format: "channels_last" (the default) or "channels_first".
    """
    _known("affine_transform", "interpolation", interpolation, list(_ORDERS))
    _known("affine_transform", "fill_mode", fill_mode, FILL_MODES)
    numbers = floats(transform)

    def transformed(x: Tensor) -> Tensor:
        if numbers.shape not in ((8,), (len(x), 8)):
            raise ValueError(
                f"affine_transform: got a transform of shape {numbers.shape} for {len(x)} images, "
                f"expected (8,) or ({len(x)}, 8)."
            )
        rows, columns = _grid(x)
        each = reshape(broadcast_to(numbers, (len(x), 8)), (len(x), 8, 1, 1))
        a0, a1, a2, b0, b1, b2, c0, c1 = [each[:, i] for i in range(8)]
        k = c0 * columns + c1 * rows + 1
        places = (b0 * columns + b1 * rows + b2) / k, (a0 * columns + a1 * rows + a2) / k
        return _moved(x, places, interpolation, fill_mode, fill_value)

    return on_images("affine_transform", images, data_format, transformed)


def _grid(x: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """The rows and columns of the pixels of images (N, H, W, C)."""
    dtype = x.dtype if x.dtype.kind in FLOATS else np.dtype("float32")
    return tuple(np.mgrid[: x.shape[1], : x.shape[2]].astype(dtype))


def _moved(
    x: Tensor, places: Sequence, interpolation: str, fill_mode: str, fill_value: float
) -> Tensor:
    """Images (N, H, W, C), read at places (N, H, W)."""
    image = np.arange(len(x)).reshape(-1, 1, 1)
    order = _ORDERS[interpolation]
    return as_floats_and_back(
        x, lambda x: _read(x, places, order, fill_mode, fill_value, front=(image,))
    )


def perspective_transform(
    images: Any,
    start_points: Any,
    end_points: Any,
    interpolation: str = "bilinear",
    fill_value: float = 0,
    data_format: str | None = None,
) -> Tensor:
    """Images seen so that four points of theirs come to four other points.

    Args:
        images: (H, W, C) or (N, H, W, C); integers are rounded again.
        start_points: floats (4, 2) or (N, 4, 2): the points (x, y), columns before rows.
        end_points: where they come to.
        interpolation: 'bilinear' or 'nearest'.
        fill_value: what there is outside of an image.
        data_format: "channels_last" (the default) or "channels_first".
    """
    starts, ends = floats(start_points), floats(end_points)
    if starts.shape[-2:] != (4, 2) or starts.shape != ends.shape or starts.ndim > 3:
        raise ValueError(
            f"perspective_transform: got points of shapes {starts.shape} and {ends.shape}, "
            "expected (4, 2) or (N, 4, 2) both times."
        )
    transform = _perspective(ends, starts)
    return affine_transform(images, transform, interpolation, "constant", fill_value, data_format)


def _perspective(points: Tensor, images: Tensor) -> Tensor:
    """The transform (..., 8) that brings points (..., 4, 2) to others: 8 linear equations."""
    x, y = points[..., 0], points[..., 1]
    u, v = images[..., 0], images[..., 1]
    one, zero = x * 0 + 1, x * 0
    for_u = stack([x, y, one, zero, zero, zero, -x * u, -y * u], -1)
    for_v = stack([zero, zero, zero, x, y, one, -x * v, -y * v], -1)
    return solve(concatenate([for_u, for_v], -2), concatenate([u, v], -1))


def elastic_transform(
    images: Any,
    alpha: float = 20.0,
    sigma: float = 5.0,
    interpolation: str = "bilinear",
    fill_mode: str = "reflect",
    fill_value: float = 0.0,
    seed: Any = None,
    data_format: str | None = None,
) -> Tensor:
    """Every pixel displaced at random, neighbours nearly alike (Simard et al. 2003).

    Args:
        images: (H, W, C) or (N, H, W, C); integers are rounded again.
        alpha: how far.
        sigma: how wide the Gaussian is that makes neighbours alike, in pixels.
        interpolation: 'bilinear' or 'nearest'.
        fill_mode, fill_value: what there is outside; see `map_coordinates`.
        seed: an int or a `SeedGenerator`, so that it can be repeated.
        data_format: "channels_last" (the default) or "channels_first".
    """
    _known("elastic_transform", "interpolation", interpolation, list(_ORDERS))
    _known("elastic_transform", "fill_mode", fill_mode, FILL_MODES)

    def bent(x: Tensor) -> Tensor:
        from minitorch_ciml.ops.image import blurred  # which imports this module

        rows, columns = _grid(x)
        reach = (max(int(6 * sigma) | 1, 3),) * 2
        noise = normal((*x.shape[:3], 2), dtype=rows.dtype, seed=seed).to(x.device)
        shifts = blurred(noise, reach, (sigma, sigma)) * alpha
        places = shifts[..., 0] + rows, shifts[..., 1] + columns
        return _moved(x, places, interpolation, fill_mode, fill_value)

    return on_images("elastic_transform", images, data_format, bent)
