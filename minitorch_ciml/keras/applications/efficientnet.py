"""EfficientNet (Tan and Le, 2019, arXiv 1905.11946): one network at eight scales."""

from __future__ import annotations

import math
from functools import partial
from typing import Any, NamedTuple

from minitorch_ciml.keras import initializers, layers
from minitorch_ciml.keras.applications.building import Blueprint, channel_axis, documented
from minitorch_ciml.keras.applications.imagenet_utils import decode_predictions, preprocessing
from minitorch_ciml.keras.applications.mobilenet_v2 import correct_pad, divisible
from minitorch_ciml.keras.applications.weights import published
from minitorch_ciml.keras.models import Model

_ORIGIN = "https://storage.googleapis.com/keras-applications/"
_DEVIATIONS = 0.229, 0.224, 0.225  # of ImageNet's red, green, blue
DROPPED = 0.2  # how often the last block is left out in training; the first never


class _Stage(NamedTuple):
    blocks: int
    filters: int
    kernel: int
    strides: int  # of the first block
    expansion: int  # how much wider a block is inside


_STAGES = (
    _Stage(blocks=1, filters=16, kernel=3, strides=1, expansion=1),
    _Stage(blocks=2, filters=24, kernel=3, strides=2, expansion=6),
    _Stage(blocks=2, filters=40, kernel=5, strides=2, expansion=6),
    _Stage(blocks=3, filters=80, kernel=3, strides=2, expansion=6),
    _Stage(blocks=3, filters=112, kernel=5, strides=1, expansion=6),
    _Stage(blocks=4, filters=192, kernel=5, strides=2, expansion=6),
    _Stage(blocks=1, filters=320, kernel=3, strides=1, expansion=6),
)
_FIRST, _LAST = 32, 1280  # filters before and behind all stages

preprocess_input = preprocessing(None)


def kernels() -> Any:
    """How convolutions begin; a new one for each, as it gives the same numbers again."""
    return initializers.VarianceScaling(2.0, "fan_out", "truncated_normal")


def squeeze_and_excite(x: Any, squeezed: int, name: str) -> Any:
    """Weighs channels by what `squeezed` filters see in their means."""
    axis = channel_axis()
    channels = x.shape[axis]
    means = layers.GlobalAveragePooling2D(name=f"{name}_se_squeeze")(x)
    shape = (channels, 1, 1) if axis == 1 else (1, 1, channels)
    means = layers.Reshape(shape, name=f"{name}_se_reshape")(means)
    weights = layers.Conv2D(
        squeezed, 1, padding="same", activation="silu", kernel_initializer=kernels(),
        name=f"{name}_se_reduce",
    )(means)  # fmt: skip
    weights = layers.Conv2D(
        channels, 1, padding="same", activation="sigmoid", kernel_initializer=kernels(),
        name=f"{name}_se_expand",
    )(weights)  # fmt: skip
    return layers.Multiply(name=f"{name}_se_excite")([x, weights])


def add_shortcut(x: Any, before: Any, dropped: float, name: str) -> Any:
    """Adds what came before a block, which is left out in training as often as `dropped` says."""
    if dropped > 0:
        x = layers.Dropout(dropped, noise_shape=(None, 1, 1, 1), name=f"{name}_drop")(x)
    return layers.Add(name=f"{name}_add")([x, before])


def top(x: Any, classes: int, activation: Any, dropout: float) -> Any:
    """The end of every EfficientNet."""
    x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
    x = layers.Dropout(dropout, name="top_dropout")(x)
    uniform = initializers.VarianceScaling(1 / 3, "fan_out", "uniform")
    return layers.Dense(
        classes, activation=activation, kernel_initializer=uniform, name="predictions"
    )(x)


def _convolution(x: Any, filters: int, name: str, kernel: int = 1, strides: int = 1) -> Any:
    if strides > 1:
        x = layers.ZeroPadding2D(correct_pad(x, kernel), name=f"{name}_pad")(x)
    return layers.Conv2D(
        filters, kernel, strides, "valid" if strides > 1 else "same", use_bias=False,
        kernel_initializer=kernels(), name=name,
    )(x)  # fmt: skip


def _depthwise(x: Any, kernel: int, strides: int, name: str) -> Any:
    if strides > 1:
        x = layers.ZeroPadding2D(correct_pad(x, kernel), name=f"{name}_pad")(x)
    return layers.DepthwiseConv2D(
        kernel, strides, "valid" if strides > 1 else "same", use_bias=False,
        depthwise_initializer=kernels(), name=name,
    )(x)  # fmt: skip


def _normalized(x: Any, name: str) -> Any:
    return layers.BatchNormalization(axis=channel_axis(), name=f"{name}_bn")(x)


def _activated(x: Any, name: str) -> Any:
    return layers.Activation("silu", name=f"{name}_activation")(_normalized(x, name))


def _block(x: Any, filters: int, strides: int, stage: _Stage, dropped: float, name: str) -> Any:
    """Expand, convolve each channel, weigh channels, project; a shortcut where shapes allow it."""
    before, channels = x, x.shape[channel_axis()]
    if stage.expansion > 1:
        x = _convolution(x, stage.expansion * channels, f"{name}_expand_conv")
        x = _activated(x, f"{name}_expand")
    x = _activated(_depthwise(x, stage.kernel, strides, f"{name}_dwconv"), name)
    x = squeeze_and_excite(x, max(1, channels // 4), name)
    x = _normalized(_convolution(x, filters, f"{name}_project_conv"), f"{name}_project")
    if strides > 1 or channels != filters:
        return x
    return add_shortcut(x, before, dropped, name)


def _features(x: Any, width: float, depth: float, trained: bool) -> Any:
    """`trained`: with the scaling that only the published weights need."""
    x = layers.Rescaling(1 / 255)(x)
    x = layers.Normalization(channel_axis())(x)
    if trained:
        # They hold deviations where variances belong: so pixels are over the deviations' roots
        # here, and must be once more.
        x = layers.Rescaling([1 / math.sqrt(deviation) for deviation in _DEVIATIONS])(x)
    x = _convolution(x, divisible(_FIRST * width), "stem_conv", 3, 2)
    x = _activated(x, "stem")
    counts = [math.ceil(depth * stage.blocks) for stage in _STAGES]
    done = 0
    for number, (stage, count) in enumerate(zip(_STAGES, counts), 1):
        for i in range(count):
            dropped = DROPPED * done / sum(counts)
            name = f"block{number}{chr(ord('a') + i)}"
            x = _block(
                x, divisible(stage.filters * width), 1 if i else stage.strides, stage, dropped, name
            )
            done += 1
    x = _convolution(x, divisible(_LAST * width), "top_conv")
    return _activated(x, "top")


def _efficientnet(
    scale: int, width: float, depth: float, size: int, dropout: float, whole: str, without_top: str
) -> Any:
    """Where filters are `width` times as many as B0's, blocks `depth` times, images size x size."""
    default = f"efficientnetb{scale}"

    @documented(f"EfficientNet B{scale}; images from 0 to 255, which it scales itself.")
    def build(
        include_top: bool = True,
        weights: Any = "imagenet",
        input_tensor: Any = None,
        input_shape: tuple | None = None,
        pooling: str | None = None,
        classes: int = 1000,
        classifier_activation: Any = "softmax",
        name: str = default,
    ) -> Model:
        blueprint = Blueprint(
            default,
            partial(_features, width=width, depth=depth, trained=weights == "imagenet"),
            published(default, whole, without_top, origin=_ORIGIN),
            partial(top, dropout=dropout),
            size,
            names_pooling=True,
        )
        return blueprint.build(
            include_top, weights, input_tensor, input_shape, pooling, classes,
            classifier_activation, name,
        )  # fmt: skip

    build.__name__ = build.__qualname__ = f"EfficientNetB{scale}"
    return build


EfficientNetB0 = _efficientnet(
    0, 1.0, 1.0, 224, 0.2, "902e53a9f72be733fc0bcb005b3ebbac", "50bc09e76180e00e4465e1a485ddc09d"
)
EfficientNetB1 = _efficientnet(
    1, 1.0, 1.1, 240, 0.2, "1d254153d4ab51201f1646940f018540", "74c4e6b3e1f6a1eea24c589628592432"
)
EfficientNetB2 = _efficientnet(
    2, 1.1, 1.2, 260, 0.3, "b15cce36ff4dcbd00b6dd88e7857a6ad", "111f8e2ac8aa800a7a99e3239f7bfb39"
)
EfficientNetB3 = _efficientnet(
    3, 1.2, 1.4, 300, 0.3, "ffd1fdc53d0ce67064dc6a9c7960ede0", "af6d107764bb5b1abb91932881670226"
)
EfficientNetB4 = _efficientnet(
    4, 1.4, 1.8, 380, 0.4, "18c95ad55216b8f92d7e70b3a046e2fc", "ebc24e6d6c33eaebbd558eafbeedf1ba"
)
EfficientNetB5 = _efficientnet(
    5, 1.6, 2.2, 456, 0.4, "ace28f2a6363774853a83a0b21b9421a", "38879255a25d3c92d5e44e04ae6cec6f"
)
EfficientNetB6 = _efficientnet(
    6, 1.8, 2.6, 528, 0.5, "165f6e37dce68623721b423839de8be5", "9ecce42647a20130c1f39a5d4cb75743"
)
EfficientNetB7 = _efficientnet(
    7, 2.0, 3.1, 600, 0.5, "8c03f828fec3ef71311cd463b6759d99", "cbcfe4450ddf6f3ad90b1b398090fe4a"
)

__all__ = [
    "EfficientNetB0", "EfficientNetB1", "EfficientNetB2", "EfficientNetB3", "EfficientNetB4",
    "EfficientNetB5", "EfficientNetB6", "EfficientNetB7", "decode_predictions", "preprocess_input",
]  # fmt: skip


def __dir__() -> list[str]:
    return __all__
