"""Images: colours, borders, patches, filters and likeness; and all of `ops/resampling.py`.

These are `ops.image.<name>`, not `ops.<name>`, as in Keras. Images are (H, W, C) or (N, H, W, C);
with `data_format="channels_first"`, (C, H, W) or (N, C, H, W).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from minitorch_ciml.autograd.arithmetic import equal, maximum, minimum, where
from minitorch_ciml.autograd.tensor import FLOATS, Tensor, as_tensor
from minitorch_ciml.ops.conv import depthwise_conv, is_channels_first
from minitorch_ciml.ops.creation import cast, floats
from minitorch_ciml.ops.indexing import take
from minitorch_ciml.ops.joining import stack
from minitorch_ciml.ops.math import mod
from minitorch_ciml.ops.reduce import max as _max
from minitorch_ciml.ops.reduce import mean
from minitorch_ciml.ops.reduce import min as _min
from minitorch_ciml.ops.reduce import sum as _sum
from minitorch_ciml.ops.resampling import (
    affine_transform,
    elastic_transform,
    map_coordinates,
    on_images,
    perspective_transform,
    resize,
    scale_and_translate,
)
from minitorch_ciml.ops.shape import moveaxis, pad, reshape, transpose

__all__ = [
    "affine_transform", "crop_images", "elastic_transform", "extract_patches",
    "extract_patches_3d", "gaussian_blur", "hsv_to_rgb", "map_coordinates", "pad_images",
    "perspective_transform", "resize", "rgb_to_grayscale", "rgb_to_hsv", "scale_and_translate",
    "sobel_edges", "ssim",
]  # fmt: skip

# --- colours ------------------------------------------------------------------------------------

_LUMINANCE = (0.2989, 0.587, 0.114)  # of red, green and blue (ITU-R BT.601)


def rgb_to_grayscale(images: Any, data_format: str | None = None) -> Tensor:
    """y = 0.2989 red + 0.587 green + 0.114 blue, with one channel, in the dtype of the images."""

    def grey(x: Tensor) -> Tensor:
        _three("rgb_to_grayscale", x)
        weights = np.asarray(_LUMINANCE, floats(x).dtype)
        y = _sum(floats(x) * weights, -1, keepdims=True)
        return y if x.dtype.kind in FLOATS else cast(y, x.dtype)

    return on_images("rgb_to_grayscale", images, data_format, grey)


def rgb_to_hsv(images: Any, data_format: str | None = None) -> Tensor:
    """Red, green and blue from 0 to 1 as hue (0 to 1, around the circle), saturation and value.

    Where a colour is grey, the hue is 0, and its gradient too.
    """

    def converted(x: Tensor) -> Tensor:
        _float_colours("rgb_to_hsv", x)
        r, g, b = x[..., 0], x[..., 1], x[..., 2]
        value, low = _max(x, -1), _min(x, -1)
        span = value - low
        grey = equal(span, 0)
        divisor = where(grey, 1.0, span)
        sixths = where(
            equal(value, r), (g - b) / divisor,
            where(equal(value, g), (b - r) / divisor + 2, (r - g) / divisor + 4),
        )  # fmt: skip
        hue = where(grey, 0.0, mod(sixths / 6, 1.0))
        black = equal(value, 0)
        saturation = where(black, 0.0, span / where(black, 1.0, value))
        return stack([hue, saturation, value], -1)

    return on_images("rgb_to_hsv", images, data_format, converted)


def hsv_to_rgb(images: Any, data_format: str | None = None) -> Tensor:
    """Hue, saturation and value from 0 to 1 as red, green and blue."""

    def converted(x: Tensor) -> Tensor:
        _float_colours("hsv_to_rgb", x)
        hue, saturation, value = x[..., 0], x[..., 1], x[..., 2]

        def channel(n: int) -> Tensor:
            k = mod(hue * 6 + n, 6.0)
            ramp = maximum(minimum(minimum(k, 4 - k), 1.0), 0.0)
            return value - value * saturation * ramp

        return stack([channel(5), channel(3), channel(1)], -1)

    return on_images("hsv_to_rgb", images, data_format, converted)


def _three(caller: str, x: Tensor) -> None:
    if x.shape[-1] != 3:
        raise ValueError(f"{caller}: got {x.shape[-1]} channels, expected 3.")


def _float_colours(caller: str, x: Tensor) -> None:
    _three(caller, x)
    if x.dtype.kind not in FLOATS:
        raise ValueError(f"{caller}: got {x.dtype}, expected floats from 0 to 1; divide by 255.")


# --- borders ------------------------------------------------------------------------------------


def pad_images(
    images: Any,
    top_padding: int | None = None,
    left_padding: int | None = None,
    bottom_padding: int | None = None,
    right_padding: int | None = None,
    target_height: int | None = None,
    target_width: int | None = None,
    data_format: str | None = None,
) -> Tensor:
    """Images with rows and columns of zeros around them.

    Of top, bottom and the target height give two, and so for left, right and the target width.
    """

    def padded(x: Tensor) -> Tensor:
        rows = _borders("pad_images", "height", x.shape[1], top_padding, bottom_padding,
                        target_height, 1)  # fmt: skip
        columns = _borders("pad_images", "width", x.shape[2], left_padding, right_padding,
                           target_width, 1)  # fmt: skip
        return pad(x, ((0, 0), rows, columns, (0, 0)))

    return on_images("pad_images", images, data_format, padded)


def crop_images(
    images: Any,
    top_cropping: int | None = None,
    left_cropping: int | None = None,
    bottom_cropping: int | None = None,
    right_cropping: int | None = None,
    target_height: int | None = None,
    target_width: int | None = None,
    data_format: str | None = None,
) -> Tensor:
    """Images without some of their outer rows and columns.

    Of top, bottom and the target height give two, and so for left, right and the target width.
    """

    def cropped(x: Tensor) -> Tensor:
        height, width = x.shape[1:3]
        top, bottom = _borders("crop_images", "height", height, top_cropping, bottom_cropping,
                               target_height, -1)  # fmt: skip
        left, right = _borders("crop_images", "width", width, left_cropping, right_cropping,
                               target_width, -1)  # fmt: skip
        return x[:, top : height - bottom, left : width - right]

    return on_images("crop_images", images, data_format, cropped)


def _borders(
    caller: str, name: str, n: int, before: int | None, after: int | None, target: int | None,
    sign: int,
) -> tuple[int, int]:  # fmt: skip
    """How much goes before and after, of which one may be missing, to get from n to target."""
    if (before is None) + (after is None) + (target is None) != 1:
        raise ValueError(
            f"{caller}: for the {name} got {before} before, {after} after and the target {target}; "
            "expected two of the three."
        )
    if target is not None:
        both = sign * (target - n)
        before = both - after if before is None else before  # type: ignore[operator]
        after = both - before
    if before < 0 or after < 0 or n + sign * (before + after) <= 0:  # type: ignore[operator]
        raise ValueError(
            f"{caller}: the {name} {n} cannot change by {before} before and {after} after."
        )
    return before, after  # type: ignore[return-value]


# --- patches ------------------------------------------------------------------------------------


def extract_patches(
    images: Any,
    size: int | Sequence[int],
    strides: int | Sequence[int] | None = None,
    dilation_rate: int | Sequence[int] = 1,
    padding: str = "valid",
    data_format: str | None = None,
) -> Tensor:
    """Windows of the images, each as one row of channels: (N, H', W', rows * columns * C).

    Args:
        images: (H, W, C) or (N, H, W, C).
        size: of a window: an int, or (rows, columns); with three, or where the images have five
            axes, see `extract_patches_3d`.
        strides: the step between two windows; `size` if left out.
        dilation_rate: the step between two pixels of a window.
        padding: "valid" (none), or "same": zeros, so that H' = ceil(H / stride).
        data_format: "channels_last" (the default) or "channels_first".
    """
    images = as_tensor(images)
    if images.ndim == 5 or (isinstance(size, Sequence) and len(size) == 3):
        return extract_patches_3d(images, size, strides, dilation_rate, padding, data_format)
    return _patches("extract_patches", images, 2, size, strides, dilation_rate, padding,
                    data_format)  # fmt: skip


def extract_patches_3d(
    volumes: Any,
    size: int | Sequence[int],
    strides: int | Sequence[int] | None = None,
    dilation_rate: int | Sequence[int] = 1,
    padding: str = "valid",
    data_format: str | None = None,
) -> Tensor:
    """As `extract_patches`, of volumes (D, H, W, C) or (N, D, H, W, C)."""
    return _patches("extract_patches_3d", volumes, 3, size, strides, dilation_rate, padding,
                    data_format)  # fmt: skip


def _patches(
    caller: str, images: Any, rank: int, size: Any, strides: Any, dilation_rate: Any, padding: str,
    data_format: str | None,
) -> Tensor:  # fmt: skip
    if padding not in ("valid", "same"):
        raise ValueError(f"{caller}: got padding {padding!r}, expected 'valid' or 'same'.")
    window = _each(caller, "size", size, rank)
    steps = window if strides is None else _each(caller, "strides", strides, rank)
    gaps = _each(caller, "dilation_rate", dilation_rate, rank)
    x = as_tensor(images)
    if x.ndim not in (rank + 1, rank + 2):
        raise ValueError(f"{caller}: got shape {x.shape}, expected {rank + 1} or {rank + 2} axes.")
    first = is_channels_first(data_format)
    single = x.ndim == rank + 1
    x = x[None] if single else x
    x = moveaxis(x, 1, -1) if first else x
    for d in range(rank):  # axis 1 + 2 d becomes the windows', and the next one theirs inside
        x = _windows(caller, x, 1 + 2 * d, window[d], steps[d], gaps[d], padding)
    order = [0, *range(1, 2 * rank, 2), *range(2, 2 * rank + 1, 2), 2 * rank + 1]
    y = transpose(x, order)
    y = reshape(y, (*y.shape[: rank + 1], -1))
    y = moveaxis(y, -1, 1) if first else y
    return y[0] if single else y


def _each(caller: str, name: str, value: Any, rank: int) -> tuple[int, ...]:
    values = (value,) * rank if isinstance(value, int) else tuple(value)
    if len(values) != rank or min(values) < 1:
        raise ValueError(f"{caller}: got {name}={value!r}, expected {rank} positive ints, or one.")
    return values


def _windows(
    caller: str, x: Tensor, axis: int, size: int, step: int, gap: int, padding: str
) -> Tensor:
    """x with its axis as two: the windows', and the places in a window."""
    n, reach = x.shape[axis], (size - 1) * gap + 1
    before = 0
    if padding == "same":
        count = -(-n // step)
        missing = max((count - 1) * step + reach - n, 0)
        before = missing // 2
        around = [(0, 0)] * x.ndim
        around[axis] = (before, missing - before)
        x = pad(x, around)
    elif reach > n:
        raise ValueError(f"{caller}: a window of {reach} does not fit in {n} pixels.")
    else:
        count = (n - reach) // step + 1
    places = np.arange(count)[:, None] * step + np.arange(size) * gap
    return take(x, places, axis)


# --- filters ------------------------------------------------------------------------------------


def gaussian_blur(
    images: Any,
    kernel_size: Sequence[int] = (3, 3),
    sigma: Sequence[float] = (1.0, 1.0),
    data_format: str | None = None,
) -> Tensor:
    """Every pixel a mean of its neighbours, weighted by e^(-d^2 / (2 sigma^2)).

    Outside of the images there are zeros.

    Args:
        images: floats (H, W, C) or (N, H, W, C).
        kernel_size: how many columns and rows of neighbours count, the pixel included.
        sigma: the standard deviations, across columns and across rows.
        data_format: "channels_last" (the default) or "channels_first".
    """
    size = _each("gaussian_blur", "kernel_size", kernel_size, 2)
    deviations = (sigma, sigma) if isinstance(sigma, (int, float)) else tuple(sigma)
    if len(deviations) != 2 or min(deviations) <= 0:
        raise ValueError(f"gaussian_blur: got sigma={sigma!r}, expected two positive numbers.")
    return on_images(
        "gaussian_blur",
        images,
        data_format,
        # Columns before rows, as Keras computes it.
        lambda x: blurred(floats(x), size[::-1], deviations[::-1]),
    )


def blurred(
    x: Tensor, size: Sequence[int], sigma: Sequence[float], padding: str = "same"
) -> Tensor:
    """Images (N, H, W, C), filtered along the rows, then along the columns."""
    for axis in (0, 1):
        weights = _bell(size[axis], sigma[axis]).astype(x.dtype)
        shape = (-1, 1, 1, 1) if axis == 0 else (1, -1, 1, 1)
        kernel = np.tile(weights.reshape(shape), (1, 1, x.shape[-1], 1))
        x = depthwise_conv(x, kernel, padding=padding)
    return x


def _bell(size: int, sigma: float) -> np.ndarray:
    """A Gaussian around the middle, with the sum 1."""
    weights = np.exp(-0.5 * ((np.arange(size) - (size - 1) / 2) / sigma) ** 2)
    return weights / weights.sum()


_SOBEL = np.array([[-1.0, -2.0, -1.0], [0.0, 0.0, 0.0], [1.0, 2.0, 1.0]])


def sobel_edges(images: Any, data_format: str | None = None) -> Tensor:
    """The slopes down and to the right, by I. Sobel's filters; zeros go on outside.

    Args:
        images: floats (H, W, C) or (N, H, W, C).
        data_format: "channels_last" (the default) or "channels_first".

    Returns:
        In the layout of the images, with a new last axis for the two.
    """

    def slope(kernel: np.ndarray) -> Tensor:
        def filtered(x: Tensor) -> Tensor:
            x = floats(x)
            weights = np.tile(kernel[:, :, None, None].astype(x.dtype), (1, 1, x.shape[-1], 1))
            return depthwise_conv(x, weights, padding="same")

        return on_images("sobel_edges", images, data_format, filtered)

    return stack([slope(_SOBEL), slope(_SOBEL.T)], -1)


def ssim(
    image1: Any,
    image2: Any,
    max_val: float = 1.0,
    filter_size: int = 11,
    filter_sigma: float = 1.5,
    k1: float = 0.01,
    k2: float = 0.03,
    data_format: str | None = None,
) -> Tensor:
    """The structural similarity of images, 1 for equal ones (Wang et al. 2004).

    In windows, weighted by a Gaussian, means m, variances v and the covariance c are compared:
    (2 m1 m2 + a) (2 c + b) / ((m1^2 + m2^2 + a) (v1 + v2 + b)), a = (k1 max_val)^2 and
    b = (k2 max_val)^2; and averaged over windows and channels.

    Args:
        image1, image2: (H, W, C) or (N, H, W, C), at least `filter_size` high and wide.
        max_val: the range of the numbers.
        filter_size: of the windows.
        filter_sigma: the Gaussian's standard deviation.
        k1, k2: what keeps the quotients stable.
        data_format: "channels_last" (the default) or "channels_first".

    Returns:
        Floats (N,), or a number.
    """
    first, second = as_tensor(image1), as_tensor(image2)
    if first.shape != second.shape or first.ndim not in (3, 4):
        raise ValueError(
            f"ssim: got images of shapes {first.shape} and {second.shape}, expected two of one "
            "shape, (H, W, C) or (N, H, W, C)."
        )
    if is_channels_first(data_format):
        first, second = moveaxis(first, -3, -1), moveaxis(second, -3, -1)
    if min(first.shape[-3:-1]) < filter_size:
        raise ValueError(f"ssim: windows of {filter_size} do not fit in images {first.shape}.")
    single = first.ndim == 3
    x, y = [floats(z)[None] if single else floats(z) for z in (first, second)]

    def local(z: Tensor) -> Tensor:
        return blurred(z, (filter_size,) * 2, (filter_sigma,) * 2, padding="valid")

    m1, m2 = local(x), local(y)
    a, b = (k1 * max_val) ** 2, (k2 * max_val) ** 2
    variances = local(x * x) + local(y * y) - m1 * m1 - m2 * m2
    covariance = local(x * y) - m1 * m2
    alike = (m1 * m2 * 2 + a) * (covariance * 2 + b)
    result = mean(alike / ((m1 * m1 + m2 * m2 + a) * (variances + b)), (1, 2, 3))
    return result[0] if single else result


def __dir__() -> list[str]:
    return __all__
