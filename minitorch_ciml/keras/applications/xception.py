"""Xception (Chollet, 2016, arXiv 1610.02357): separable convolutions beside shortcuts."""

from __future__ import annotations

from typing import Any

from minitorch_ciml.keras import layers
from minitorch_ciml.keras.applications.building import Blueprint, channel_axis, network
from minitorch_ciml.keras.applications.imagenet_utils import decode_predictions, preprocessing
from minitorch_ciml.keras.applications.weights import published

# Filters of the two convolutions of each block that halves height and width.
_ENTRY = (128, 128), (256, 256), (728, 728)
_EXIT = 728, 1024
_MIDDLE = 728  # filters of the three convolutions of each block in between
_MIDDLE_BLOCKS = 8
_LAST = 1536, 2048  # filters behind all blocks

preprocess_input = preprocessing("tf")


def _normalized(x: Any, name: str | None = None) -> Any:
    return layers.BatchNormalization(axis=channel_axis(), name=name)(x)


def _relu(x: Any, name: str) -> Any:
    return layers.Activation("relu", name=f"{name}_act")(x)


def _convolution(x: Any, filters: int, strides: int, name: str) -> Any:
    x = layers.Conv2D(filters, 3, strides, use_bias=False, name=name)(x)
    return _relu(_normalized(x, f"{name}_bn"), name)


def _separable(x: Any, filters: int, name: str) -> Any:
    x = layers.SeparableConv2D(filters, 3, padding="same", use_bias=False, name=name)(x)
    return _normalized(x, f"{name}_bn")


def _halving_block(x: Any, filters: tuple[int, int], name: str, activates: bool = True) -> Any:
    """Two separable convolutions and a pooling beside a 1x1 convolution.

    Args:
        activates: whether ReLU comes before the first convolution, too.
    """
    shortcut = layers.Conv2D(filters[1], 1, 2, "same", use_bias=False)(x)
    shortcut = _normalized(shortcut)
    x = _relu(x, f"{name}_sepconv1") if activates else x
    x = _separable(x, filters[0], f"{name}_sepconv1")
    x = _relu(x, f"{name}_sepconv2")
    x = _separable(x, filters[1], f"{name}_sepconv2")
    x = layers.MaxPooling2D(3, 2, "same", name=f"{name}_pool")(x)
    return layers.Add()([x, shortcut])


def _middle_block(x: Any, name: str) -> Any:
    """Three separable convolutions beside a shortcut."""
    before = x
    for i in 1, 2, 3:
        x = _separable(_relu(x, f"{name}_sepconv{i}"), _MIDDLE, f"{name}_sepconv{i}")
    return layers.Add()([x, before])


def _features(x: Any) -> Any:
    x = _convolution(x, 32, 2, "block1_conv1")
    x = _convolution(x, 64, 1, "block1_conv2")
    number = 2
    for filters in _ENTRY:
        x = _halving_block(x, filters, f"block{number}", activates=number > 2)
        number += 1
    for _ in range(_MIDDLE_BLOCKS):
        x = _middle_block(x, f"block{number}")
        number += 1
    x = _halving_block(x, _EXIT, f"block{number}")
    for i, count in enumerate(_LAST, 1):
        name = f"block{number + 1}_sepconv{i}"
        x = _relu(_separable(x, count, name), name)
    return x


Xception = network(
    "Xception",
    "Xception; images as `xception.preprocess_input` gives them.",
    Blueprint(
        "xception",
        _features,
        published(
            "xception/xception_weights_tf_dim_ordering_tf_kernels",
            "0a58e3b7378bc2990ea3b43d5981f1f6", "b0042744bf5b25fce3cb969f33bebb97",
        ),
        size=299,
        smallest=71,
    ),
)  # fmt: skip

__all__ = ["Xception", "decode_predictions", "preprocess_input"]


def __dir__() -> list[str]:
    return __all__
