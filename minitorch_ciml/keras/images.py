"""Image files as arrays and back, through Pillow (which matplotlib brings along)."""

from __future__ import annotations

from typing import Any

import numpy as np

from minitorch_ciml import config
from minitorch_ciml.autograd.tensor import as_array
from minitorch_ciml.kernels.halves import dtype_of

_MODES = {"grayscale": "L", "rgb": "RGB", "rgba": "RGBA"}
_INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "hamming", "box", "lanczos")


def load_img(
    path: Any,
    color_mode: str = "rgb",
    target_size: tuple[int, int] | None = None,
    interpolation: str = "nearest",
    keep_aspect_ratio: bool = False,
) -> Any:
    """Reads an image file.

    Args:
        path: its name, or an open binary file.
        color_mode: "rgb", "rgba" or "grayscale".
        target_size: (height, width) to bring it to.
        interpolation: how: "nearest", "bilinear", "bicubic", "hamming", "box" or "lanczos".
        keep_aspect_ratio: cut borders off first, so that nothing is stretched.

    Returns:
        A `PIL.Image.Image`; `img_to_array` makes an array of it.

    Raises:
        ValueError: an unknown mode or interpolation, or the file holds no image.
        FileNotFoundError: there is no such file.
    """
    from PIL import Image, UnidentifiedImageError  # on request only

    _known("color_mode", color_mode, tuple(_MODES))
    _known("interpolation", interpolation, _INTERPOLATIONS)
    try:
        with Image.open(path) as file:
            image = file.convert(_MODES[color_mode])
    except UnidentifiedImageError:
        raise ValueError(f"load_img: {str(path)!r} holds no image that can be read.") from None
    if target_size is None or image.size == (target_size[1], target_size[0]):
        return image
    box = None
    if keep_aspect_ratio:
        rows, columns = _middle((image.height, image.width), target_size)
        box = (columns.start, rows.start, columns.stop, rows.stop)
    size = (target_size[1], target_size[0])
    return image.resize(size, Image.Resampling[interpolation.upper()], box)


def _middle(shape: tuple[int, int], size: tuple[int, int]) -> tuple[slice, slice]:
    from minitorch_ciml.keras.layers.resampling import centre_box

    return centre_box(shape, size)


def img_to_array(img: Any, data_format: str | None = None, dtype: Any = None) -> np.ndarray:
    """An image as numbers (H, W, C), 0 to 255; C is 1 for shades of grey.

    Args:
        img: a `PIL.Image.Image`, or an array (H, W) or (H, W, C).
        data_format: "channels_last", or "channels_first" for (C, H, W).
        dtype: `floatx()` if left out.
    """
    array = np.asarray(img, dtype=dtype_of(dtype or config.floatx()))
    if array.ndim not in (2, 3):
        raise ValueError(f"img_to_array: expected an image (H, W) or (H, W, C), got {array.shape}.")
    array = array[..., None] if array.ndim == 2 else array
    return np.moveaxis(array, -1, 0) if data_format == "channels_first" else array


def array_to_img(
    x: Any, data_format: str | None = None, scale: bool = True, dtype: Any = None
) -> Any:
    """Numbers (H, W, C) as a `PIL.Image.Image`; C is 1, 3 or 4.

    Args:
        x: the numbers.
        data_format: "channels_last", or "channels_first" for (C, H, W).
        scale: stretch them so that the least is 0 and the largest 255.
        dtype: in which that is computed; `floatx()` if left out.
    """
    from PIL import Image  # on request only

    array = as_array(x).astype(dtype_of(dtype or config.floatx()))
    if data_format == "channels_first":
        array = np.moveaxis(array, 0, -1)
    if array.ndim != 3 or array.shape[-1] not in (1, 3, 4):
        raise ValueError(
            f"array_to_img: expected an array (H, W, C) with 1, 3 or 4 channels, got {array.shape}."
        )
    if scale:
        array = array - array.min()
        largest = array.max()
        array = array / largest * 255 if largest else array
    bytes_ = array.astype("uint8")
    return Image.fromarray(bytes_[..., 0] if array.shape[-1] == 1 else bytes_)


def save_img(
    path: Any,
    x: Any,
    data_format: str | None = None,
    file_format: str | None = None,
    scale: bool = True,
    **options: Any,
) -> None:
    """Writes numbers as an image file.

    Args:
        path: its name; the ending tells the format.
        x, data_format, scale: see `array_to_img`.
        file_format: such as "png", where `path` is an open file.
        options: Pillow's, for the format.
    """
    image = array_to_img(x, data_format, scale)
    if image.mode == "RGBA" and (file_format or str(path)).lower().endswith(("jpg", "jpeg")):
        image = image.convert("RGB")  # JPEG has no transparency
    image.save(path, format=file_format, **options)


def _known(name: str, value: Any, known: tuple) -> None:
    if value not in known:
        raise ValueError(f"load_img: got {name}={value!r}, expected one of {known}.")
