"""Inception V3 (Szegedy and others, 2015, arXiv 1512.00567): kernels of many shapes abreast."""

from __future__ import annotations

from typing import Any

from minitorch_ciml.keras import layers
from minitorch_ciml.keras.applications.building import Blueprint, channel_axis, network
from minitorch_ciml.keras.applications.imagenet_utils import decode_predictions, preprocessing
from minitorch_ciml.keras.applications.weights import published

_POOLED = 32, 64, 64  # filters behind the pooling of each block with 35 rows
_NARROW = 128, 160, 160, 192  # filters of the long branches of each block with 17 rows

preprocess_input = preprocessing("tf")


def convolution(
    x: Any,
    filters: int,
    kernel: Any,
    strides: int = 1,
    padding: str = "same",
    name: str | None = None,
) -> Any:
    """Convolution, normalisation that only shifts, ReLU."""
    bn, relu = (name and f"{name}_{part}" for part in ("bn", "ac"))
    x = layers.Conv2D(filters, kernel, strides, padding, use_bias=False, name=name)(x)
    x = layers.BatchNormalization(axis=channel_axis(), scale=False, name=bn)(x)
    return layers.Activation("relu", name=relu)(x)


def chain(x: Any, *convolutions: tuple) -> Any:
    """Convolutions one after another, each of (filters, kernel)."""
    for filters, kernel in convolutions:
        x = convolution(x, filters, kernel)
    return x


def averaged(x: Any, filters: int) -> Any:
    return convolution(layers.AveragePooling2D(3, 1, "same")(x), filters, 1)


def join(branches: list, name: str | None = None) -> Any:
    return layers.Concatenate(channel_axis(), name=name)(branches)


def stem(x: Any) -> Any:
    x = convolution(x, 32, 3, 2, "valid")
    x = convolution(x, 32, 3, padding="valid")
    x = convolution(x, 64, 3)
    x = layers.MaxPooling2D(3, 2)(x)
    x = convolution(x, 80, 1, padding="valid")
    x = convolution(x, 192, 3, padding="valid")
    return layers.MaxPooling2D(3, 2)(x)


def _fine_block(x: Any, pooled: int, name: str) -> Any:
    """For 35 rows."""
    one = convolution(x, 64, 1)
    five = chain(x, (48, 1), (64, 5))
    three_twice = chain(x, (64, 1), (96, 3), (96, 3))
    return join([one, five, three_twice, averaged(x, pooled)], name)


def _to_medium(x: Any) -> Any:
    """From 35 rows to 17."""
    three = convolution(x, 384, 3, 2, "valid")
    three_twice = convolution(chain(x, (64, 1), (96, 3)), 96, 3, 2, "valid")
    return join([three, three_twice, layers.MaxPooling2D(3, 2)(x)], "mixed3")


def _medium_block(x: Any, narrow: int, name: str) -> Any:
    """For 17 rows: a kernel 7x7 is 1x7 and 7x1."""
    one = convolution(x, 192, 1)
    seven = chain(x, (narrow, 1), (narrow, (1, 7)), (192, (7, 1)))
    seven_twice = chain(
        x, (narrow, 1), (narrow, (7, 1)), (narrow, (1, 7)), (narrow, (7, 1)), (192, (1, 7))
    )
    return join([one, seven, seven_twice, averaged(x, 192)], name)


def _to_coarse(x: Any) -> Any:
    """From 17 rows to 8."""
    three = convolution(chain(x, (192, 1)), 320, 3, 2, "valid")
    seven = chain(x, (192, 1), (192, (1, 7)), (192, (7, 1)))
    seven = convolution(seven, 192, 3, 2, "valid")
    return join([three, seven, layers.MaxPooling2D(3, 2)(x)], "mixed8")


def _coarse_block(x: Any, name: str, part: str) -> Any:
    """For 8 rows: 1x3 and 3x1 abreast."""

    def fork(x: Any, name: str | None) -> Any:
        return join([convolution(x, 384, (1, 3)), convolution(x, 384, (3, 1))], name)

    one = convolution(x, 320, 1)
    three = fork(chain(x, (384, 1)), part)
    three_twice = fork(chain(x, (448, 1), (384, 3)), None)
    return join([one, three, three_twice, averaged(x, 192)], name)


def _features(x: Any) -> Any:
    x = stem(x)
    for i, pooled in enumerate(_POOLED):
        x = _fine_block(x, pooled, f"mixed{i}")
    x = _to_medium(x)
    for i, narrow in enumerate(_NARROW):
        x = _medium_block(x, narrow, f"mixed{4 + i}")
    x = _to_coarse(x)
    for i in range(2):
        x = _coarse_block(x, f"mixed{9 + i}", f"mixed9_{i}")
    return x


InceptionV3 = network(
    "InceptionV3",
    "Inception V3; images as `inception_v3.preprocess_input` gives them.",
    Blueprint(
        "inception_v3",
        _features,
        published(
            "inception_v3/inception_v3_weights_tf_dim_ordering_tf_kernels",
            "9a0d58056eeedaa3f26cb7ebd46da564", "bcbd6486424b2319ff4ef7d526e38f63",
        ),
        size=299,
        smallest=75,
    ),
)  # fmt: skip

__all__ = ["InceptionV3", "decode_predictions", "preprocess_input"]


def __dir__() -> list[str]:
    return __all__
