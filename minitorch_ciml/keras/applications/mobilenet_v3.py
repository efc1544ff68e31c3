"""MobileNetV3 (Howard and others, 2019, arXiv 1905.02244): blocks found by search."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from minitorch_ciml.keras import layers
from minitorch_ciml.keras.applications.building import (
    Blueprint,
    channel_axis,
    documented,
    trained_size,
)
from minitorch_ciml.keras.applications.imagenet_utils import decode_predictions, preprocessing
from minitorch_ciml.keras.applications.mobilenet_v2 import correct_pad, divisible
from minitorch_ciml.keras.applications.weights import published
from minitorch_ciml.keras.models import Model


class _Block(NamedTuple):
    inside: float  # how many times as many channels as before
    filters: int
    kernel: int
    strides: int
    weighs: bool  # channels, by what it sees in their means
    bends: bool  # x relu6(x + 3) / 6 instead of ReLU


_SMALL = (
    _Block(1, 16, 3, 2, weighs=True, bends=False),
    _Block(72 / 16, 24, 3, 2, weighs=False, bends=False),
    _Block(88 / 24, 24, 3, 1, weighs=False, bends=False),
    _Block(4, 40, 5, 2, weighs=True, bends=True),
    _Block(6, 40, 5, 1, weighs=True, bends=True),
    _Block(6, 40, 5, 1, weighs=True, bends=True),
    _Block(3, 48, 5, 1, weighs=True, bends=True),
    _Block(3, 48, 5, 1, weighs=True, bends=True),
    _Block(6, 96, 5, 2, weighs=True, bends=True),
    _Block(6, 96, 5, 1, weighs=True, bends=True),
    _Block(6, 96, 5, 1, weighs=True, bends=True),
)
_LARGE = (
    _Block(1, 16, 3, 1, weighs=False, bends=False),
    _Block(4, 24, 3, 2, weighs=False, bends=False),
    _Block(3, 24, 3, 1, weighs=False, bends=False),
    _Block(3, 40, 5, 2, weighs=True, bends=False),
    _Block(3, 40, 5, 1, weighs=True, bends=False),
    _Block(3, 40, 5, 1, weighs=True, bends=False),
    _Block(6, 80, 3, 2, weighs=False, bends=True),
    _Block(2.5, 80, 3, 1, weighs=False, bends=True),
    _Block(2.3, 80, 3, 1, weighs=False, bends=True),
    _Block(2.3, 80, 3, 1, weighs=False, bends=True),
    _Block(6, 112, 3, 1, weighs=True, bends=True),
    _Block(6, 112, 3, 1, weighs=True, bends=True),
    _Block(6, 160, 5, 2, weighs=True, bends=True),
    _Block(6, 160, 5, 1, weighs=True, bends=True),
    _Block(6, 160, 5, 1, weighs=True, bends=True),
)
_FIRST = 16  # filters before all blocks
_LAST_EXPANSION = 6  # how many times as many channels the last convolution gives as the blocks

# MD5 of the files with the top and without, by size, kind and alpha.
_DIGESTS: dict[str, tuple[str, str]] = {
    "large_224_0.75": ("765b44a33ad4005b3ac83185abf1d0eb", "40af19a13ebea4e2ee0c676887f69a2e"),
    "large_224_1.0": ("59e551e166be033d707958cf9e29a6a7", "07fb09a5933dd0c8eaafa16978110389"),
    "large_minimalistic_224_1.0": (
        "675e7b876c45c57e9e63e6d90a36599c", "ec5221f64a2f6d1ef965a614bdae7973",
    ),
    "small_224_0.75": ("cb65d4e5be93758266aa0a7f2c6708b7", "ebdb5cc8e0b497cd13a7c275d475c819"),
    "small_224_1.0": ("8768d4c2e7dee89b9d02b2d03d65d862", "d3e8ec802a04aa4fc771ee12a9a9b836"),
    "small_minimalistic_224_1.0": (
        "99cd97fb2fcdad2bf028eb838de69e37", "cde8136e733e811080d9fcd8a252f7e4",
    ),
}  # fmt: skip

preprocess_input = preprocessing(None)


def _activated(x: Any, bends: bool) -> Any:
    return layers.Activation("hard_silu")(x) if bends else layers.ReLU()(x)


def _normalized(x: Any, name: str) -> Any:
    return layers.BatchNormalization(
        axis=channel_axis(), epsilon=1e-3, momentum=0.999, name=f"{name}_bn"
    )(x)  # fmt: skip


def _convolution(x: Any, filters: int, name: str, kernel: int = 1, strides: int = 1) -> Any:
    x = layers.Conv2D(filters, kernel, strides, "same", use_bias=False, name=name)(x)
    return _normalized(x, name)


def _squeeze_and_excite(x: Any, name: str) -> Any:
    """Weighs channels, from 0 to 1, by what a quarter as many filters see in their means."""
    channels = x.shape[channel_axis()]
    weights = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_avg_pool")(x)
    weights = layers.Conv2D(divisible(channels / 4), 1, padding="same", name=f"{name}_conv")(
        weights
    )
    weights = layers.ReLU(name=f"{name}_relu")(weights)
    weights = layers.Conv2D(channels, 1, padding="same", name=f"{name}_conv_1")(weights)
    weights = layers.ReLU(6.0)(weights + 3.0) * (1 / 6)
    return layers.Multiply(name=f"{name}_mul")([x, weights])


def _block(x: Any, block: _Block, filters: int, name: str) -> Any:
    """Expand, convolve each channel, weigh channels, project; a shortcut where shapes allow it."""
    before, channels = x, x.shape[channel_axis()]
    if name != "expanded_conv":  # the first
        x = _convolution(x, divisible(channels * block.inside), f"{name}_expand")
        x = _activated(x, block.bends)
    padding = "same"
    if block.strides > 1:
        x = layers.ZeroPadding2D(correct_pad(x, block.kernel), name=f"{name}_depthwise_pad")(x)
        padding = "valid"
    x = layers.DepthwiseConv2D(
        block.kernel, block.strides, padding, use_bias=False, name=f"{name}_depthwise"
    )(x)  # fmt: skip
    x = _activated(_normalized(x, f"{name}_depthwise"), block.bends)
    if block.weighs:
        x = _squeeze_and_excite(x, f"{name}_squeeze_excite")
    x = _convolution(x, filters, f"{name}_project")
    if block.strides > 1 or channels != filters:
        return x
    return layers.Add(name=f"{name}_add")([before, x])


def _features(
    x: Any, blocks: tuple[_Block, ...], alpha: float, minimalistic: bool, preprocesses: bool
) -> Any:
    if preprocesses:
        x = layers.Rescaling(1 / 127.5, offset=-1.0)(x)
    x = _activated(_convolution(x, _FIRST, "conv", 3, 2), not minimalistic)
    for i, block in enumerate(blocks):
        if minimalistic:
            block = block._replace(kernel=3, weighs=False, bends=False)
        name = f"expanded_conv_{i}" if i else "expanded_conv"
        x = _block(x, block, divisible(block.filters * alpha), name)
    last = divisible(x.shape[channel_axis()] * _LAST_EXPANSION)
    return _activated(_convolution(x, last, "conv_1"), not minimalistic)


def _top(
    x: Any, classes: int, activation: Any, width: int, minimalistic: bool, dropout: float
) -> Any:
    x = layers.GlobalAveragePooling2D(keepdims=True)(x)
    x = layers.Conv2D(width, 1, padding="same", name="conv_2")(x)
    x = _activated(x, not minimalistic)
    if dropout > 0:
        x = layers.Dropout(dropout)(x)
    x = layers.Conv2D(classes, 1, padding="same", name="logits")(x)
    x = layers.Flatten()(x)
    return layers.Activation(activation, name="predictions")(x)


def _mobilenet(size: str, blocks: tuple[_Block, ...], width: int) -> Callable[..., Model]:
    """`width`: the filters of the top."""
    title = f"MobileNetV3{size}"

    @documented(
        f"{title}; images from 0 to 255, which it scales itself.",
        "alpha: multiplies the number of filters; 0.75 or 1 with trained weights.",
        "minimalistic: plain blocks, without weighing of channels, large kernels and bent\n"
        "            activations; alpha is 1 then with trained weights.",
        "dropout_rate: of the top: the share of features that is left out in training.",
        "include_preprocessing: scale pixels; False: they come from -1 to 1.",
    )
    def build(
        input_shape: tuple | None = None,
        alpha: float = 1.0,
        minimalistic: bool = False,
        include_top: bool = True,
        weights: Any = "imagenet",
        input_tensor: Any = None,
        classes: int = 1000,
        pooling: str | None = None,
        dropout_rate: float = 0.2,
        classifier_activation: Any = "softmax",
        include_preprocessing: bool = True,
        name: str = title,
    ) -> Model:
        alphas = (1.0,) if minimalistic else (0.75, 1.0)
        trained = trained_size(title, (224,), alpha, alphas, input_shape, weights)
        kind = f"{size.lower()}{'_minimalistic' if minimalistic else ''}_{trained}_{float(alpha)}"
        whole, without_top = _DIGESTS.get(kind, (None, None))
        blueprint = Blueprint(
            title,
            partial(
                _features, blocks=blocks, alpha=alpha, minimalistic=minimalistic,
                preprocesses=include_preprocessing,
            ),
            published(
                f"mobilenet_v3/weights_mobilenet_v3_{kind}_float", whole, without_top,
                ending="_no_top_v2",
            ),
            partial(
                _top, width=divisible(width * alpha) if alpha > 1 else width,
                minimalistic=minimalistic, dropout=dropout_rate,
            ),
            size=None,
            names_pooling=True,
        )  # fmt: skip
        return blueprint.build(
            include_top, weights, input_tensor, input_shape, pooling, classes,
            classifier_activation, name,
        )  # fmt: skip

    build.__name__ = build.__qualname__ = title
    return build


MobileNetV3Small = _mobilenet("Small", _SMALL, 1024)
MobileNetV3Large = _mobilenet("Large", _LARGE, 1280)

__all__ = ["MobileNetV3Large", "MobileNetV3Small", "decode_predictions", "preprocess_input"]


def __dir__() -> list[str]:
    return __all__
