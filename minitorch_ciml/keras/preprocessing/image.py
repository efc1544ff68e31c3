"""`keras.preprocessing.image`: see `keras.utils`."""

from typing import Any

from minitorch_ciml.keras.images import array_to_img, img_to_array, load_img, save_img
from minitorch_ciml.keras.layers.images import Resizing

__all__ = ["array_to_img", "img_to_array", "load_img", "save_img", "smart_resize"]


def smart_resize(
    x: Any, size: tuple[int, int], interpolation: str = "bilinear", data_format: str | None = None
) -> Any:
    """Images in another size, without stretching: borders are cut off; see `Resizing`.

    Args:
        x: (N, H, W, C) or (H, W, C).
        size: (height, width).
        interpolation: see `Resizing`.
        data_format: "channels_last", or "channels_first".

    Returns:
        An array for an array, a tensor for a tensor.
    """
    layer = Resizing(*size, interpolation, crop_to_aspect_ratio=True, data_format=data_format)
    resized = layer(x)
    return resized if hasattr(x, "numpy") else resized.numpy()


def __dir__() -> list[str]:
    return __all__
