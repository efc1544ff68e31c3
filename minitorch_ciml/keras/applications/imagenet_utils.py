"""What networks for ImageNet expect of pixels, and what their answers are called."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from minitorch_ciml.autograd.tensor import FLOATS
from minitorch_ciml.keras import backend, ops
from minitorch_ciml.keras.applications.weights import fetch
from minitorch_ciml.keras.symbolic import KerasTensor

__all__ = ["decode_predictions", "preprocess_input"]

_NAMES = (
    "imagenet_class_index.json",
    "https://storage.googleapis.com/download.tensorflow.org/data/imagenet_class_index.json",
    "c2c37ea517e94d9795004a39431a14cb",
)
# Of the images of ImageNet, red, green, blue: what the networks were trained with.
_MEANS = 123.68, 116.779, 103.939
_MODES: dict[str, tuple] = {  # unit, means, deviations
    "caffe": (None, _MEANS, None),
    "tf": (127.5, (1.0, 1.0, 1.0), None),
    "torch": (255.0, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}


def preprocess_input(x: Any, data_format: str | None = None, mode: str = "caffe") -> Any:
    """Pixels as a network expects them: (x / unit - means) / deviations, for each channel.

    Args:
        x: images, red, green, blue from 0 to 255: (height, width, 3) or (n, height, width, 3).
        data_format: where the channels are; None: as `config.image_data_format()` says.
        mode: "caffe": blue, green, red, minus ImageNet's means. "tf": from -1 to 1. "torch": from
            0 to 1, then minus ImageNet's means, over its deviations.

    Returns:
        As `x`, of `config.floatx()` where `x` has integers. An array gives a new array.

    Raises:
        ValueError: another mode or data format, or `x` is no image.
    """
    if mode not in _MODES:
        raise ValueError(f"preprocess_input: got mode={mode!r}, expected 'caffe', 'tf' or 'torch'.")
    data_format = data_format or backend.image_data_format()
    if data_format not in ("channels_first", "channels_last"):
        raise ValueError(
            f"preprocess_input: got data_format={data_format!r}, expected 'channels_first' or "
            "'channels_last'."
        )
    is_tensor = isinstance(x, KerasTensor) or hasattr(x, "backward")
    if not is_tensor:
        x = np.asarray(x)
        x = x.astype(x.dtype if x.dtype.kind in FLOATS else backend.floatx())
    axis = len(x.shape) - 1 if data_format == "channels_last" else len(x.shape) - 3
    if len(x.shape) not in (3, 4) or x.shape[axis] != 3:
        raise ValueError(
            f"preprocess_input: got shape {tuple(x.shape)}, expected images with 3 channels, or a "
            f"batch of them ({data_format})."
        )

    def along_axis(values: tuple[float, ...]) -> np.ndarray:
        shape = [3 if i == axis else 1 for i in range(len(x.shape))]
        return np.reshape(values, shape).astype(str(x.dtype))

    unit, means, deviations = _MODES[mode]
    scaled = (x if unit is None else x / unit) - along_axis(means)
    if deviations is not None:
        scaled = scaled / along_axis(deviations)
    if mode != "caffe":
        return scaled
    if is_tensor:
        return ops.flip(scaled, axis)  # type: ignore[attr-defined]
    return np.ascontiguousarray(np.flip(scaled, axis))


def decode_predictions(preds: Any, top: int = 5) -> list[list[tuple[str, str, float]]]:
    """The likeliest classes of ImageNet, as (identifier in WordNet, name, probability).

    Their names are a file that is downloaded once, into Keras' folder of models.

    Args:
        preds: probabilities, (n, 1000).
        top: how many for each image, the likeliest first.

    Raises:
        ValueError: another shape.
        ConnectionError: the file cannot be had.
    """
    values = np.asarray(preds.numpy() if hasattr(preds, "numpy") else preds)
    if values.ndim != 2 or values.shape[1] != 1000:
        raise ValueError(
            f"decode_predictions: got an array of shape {values.shape}, expected (samples, 1000): "
            "what a network with include_top=True and weights='imagenet' predicts."
        )
    names = _names()
    best = np.argsort(-values, axis=1, kind="stable")[:, :top]
    return [
        [(*names[i], float(row[i])) for i in places]  # type: ignore[misc]
        for row, places in zip(values, best)
    ]


@cache
def _names() -> list[tuple[str, str]]:
    with open(fetch(*_NAMES)) as file:
        names = json.load(file)
    return [tuple(names[str(i)]) for i in range(len(names))]


def preprocessing(mode: str | None) -> Callable[..., Any]:
    """The `preprocess_input` of a family of networks; None: they scale pixels themselves."""

    def preprocess(x: Any, data_format: str | None = None) -> Any:
        """Pixels as these networks expect them; see `imagenet_utils.preprocess_input`."""
        return x if mode is None else preprocess_input(x, data_format, mode)

    preprocess.__name__ = preprocess.__qualname__ = "preprocess_input"
    return preprocess


def __dir__() -> list[str]:
    return __all__
