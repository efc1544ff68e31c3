"""EfficientNet V2 (Tan and Le, 2021, arXiv 2104.00298): its first blocks are plain convolutions."""

from __future__ import annotations

import math
from functools import partial
from typing import Any, NamedTuple

from minitorch_ciml.keras import layers
from minitorch_ciml.keras.applications.building import Blueprint, channel_axis, documented
from minitorch_ciml.keras.applications.efficientnet import (
    DROPPED,
    add_shortcut,
    kernels,
    squeeze_and_excite,
    top,
)
from minitorch_ciml.keras.applications.imagenet_utils import decode_predictions, preprocessing
from minitorch_ciml.keras.applications.weights import published
from minitorch_ciml.keras.models import Model

_MOMENTUM = 0.9  # of the normalisations
_DROPOUT = 0.2
_LAST = 1280  # filters behind all stages
_MEANS = 0.485, 0.456, 0.406  # of ImageNet's red, green, blue
_DEVIATIONS = 0.229, 0.224, 0.225


class _Stage(NamedTuple):
    blocks: int
    filters: int
    strides: int  # of the first block
    expansion: int  # how much wider a block is inside
    fused: bool = False  # plain convolutions instead of depthwise ones


# Filters of the first convolution, and the stages behind it.
_B = 32, (
    _Stage(1, 16, 1, 1, fused=True),
    _Stage(2, 32, 2, 4, fused=True),
    _Stage(2, 48, 2, 4, fused=True),
    _Stage(3, 96, 2, 4),
    _Stage(5, 112, 1, 6),
    _Stage(8, 192, 2, 6),
)  # fmt: skip
_S = 24, (
    _Stage(2, 24, 1, 1, fused=True),
    _Stage(4, 48, 2, 4, fused=True),
    _Stage(4, 64, 2, 4, fused=True),
    _Stage(6, 128, 2, 4),
    _Stage(9, 160, 1, 6),
    _Stage(15, 256, 2, 6),
)  # fmt: skip
_M = 24, (
    _Stage(3, 24, 1, 1, fused=True),
    _Stage(5, 48, 2, 4, fused=True),
    _Stage(5, 80, 2, 4, fused=True),
    _Stage(7, 160, 2, 4),
    _Stage(14, 176, 1, 6),
    _Stage(18, 304, 2, 6),
    _Stage(5, 512, 1, 6),
)  # fmt: skip
_L = 32, (
    _Stage(4, 32, 1, 1, fused=True),
    _Stage(7, 64, 2, 4, fused=True),
    _Stage(7, 96, 2, 4, fused=True),
    _Stage(10, 192, 2, 4),
    _Stage(19, 224, 1, 6),
    _Stage(25, 384, 2, 6),
    _Stage(7, 640, 1, 6),
)  # fmt: skip

preprocess_input = preprocessing(None)


def _convolution(x: Any, filters: int, name: str, kernel: int = 1, strides: int = 1) -> Any:
    return layers.Conv2D(
        filters, kernel, strides, "same", use_bias=False, kernel_initializer=kernels(), name=name
    )(x)


def _normalized(x: Any, name: str) -> Any:
    return layers.BatchNormalization(
        axis=channel_axis(), momentum=_MOMENTUM, name=f"{name}_bn"
    )(x)  # fmt: skip


def _activated(x: Any, name: str) -> Any:
    return layers.Activation("silu", name=f"{name}_activation")(_normalized(x, name))


def _fused(x: Any, filters: int, strides: int, expansion: int, name: str) -> Any:
    """Expand by a 3x3 convolution and project by a 1x1; one 3x3 where nothing is expanded."""
    if expansion == 1:
        x = _convolution(x, filters, f"{name}_project_conv", 3, strides)
        return _activated(x, f"{name}_project")
    wide = expansion * x.shape[channel_axis()]
    x = _activated(_convolution(x, wide, f"{name}_expand_conv", 3, strides), f"{name}_expand")
    return _normalized(_convolution(x, filters, f"{name}_project_conv"), f"{name}_project")


def _inverted(x: Any, filters: int, strides: int, expansion: int, name: str) -> Any:
    """Expand, convolve each channel, weigh channels, project."""
    channels = x.shape[channel_axis()]
    x = _activated(_convolution(x, expansion * channels, f"{name}_expand_conv"), f"{name}_expand")
    x = layers.DepthwiseConv2D(
        3, strides, "same", use_bias=False, depthwise_initializer=kernels(),
        name=f"{name}_dwconv2",
    )(x)  # fmt: skip
    x = squeeze_and_excite(_activated(x, name), max(1, channels // 4), name)
    return _normalized(_convolution(x, filters, f"{name}_project_conv"), f"{name}_project")


def _scaled(filters: int, width: float) -> int:
    """The multiple of 8 that is nearest to `width` times as many filters."""
    return max(8, int(filters * width + 4) // 8 * 8)


def _preprocess(x: Any, standardizes: bool) -> Any:
    """Scales pixels from 0 to 255: by ImageNet's means and deviations, or to -1 to 1."""
    if not standardizes or x.shape[channel_axis()] != 3:
        return layers.Rescaling(1 / 128, offset=-1)(x)
    x = layers.Rescaling(1 / 255)(x)
    variances = [deviation**2 for deviation in _DEVIATIONS]
    return layers.Normalization(channel_axis(), list(_MEANS), variances)(x)


def _features(
    x: Any,
    first: int,
    stages: tuple[_Stage, ...],
    width: float,
    depth: float,
    standardizes: bool | None,
) -> Any:
    """`standardizes`: see `_preprocess`; None: pixels come scaled."""
    if standardizes is not None:
        x = _preprocess(x, standardizes)
    x = _activated(_convolution(x, _scaled(first, width), "stem_conv", 3, 2), "stem")
    done, blocks = 0, sum(stage.blocks for stage in stages)  # of width and depth 1
    for number, stage in enumerate(stages, 1):
        for i in range(math.ceil(depth * stage.blocks)):
            before, strides = x, 1 if i else stage.strides
            name = f"block{number}{chr(ord('a') + i)}"
            block = _fused if stage.fused else _inverted
            x = block(x, _scaled(stage.filters, width), strides, stage.expansion, name)
            if x.shape == before.shape:
                x = add_shortcut(x, before, DROPPED * done / blocks, name)
            done += 1
    return _activated(_convolution(x, _scaled(_LAST, width), "top_conv"), "top")


def _efficientnet(
    scale: str, plan: tuple[int, tuple], width: float, depth: float, size: int, *digests: str
) -> Any:
    """Where filters are `width` times as many as in `plan`, blocks `depth` times, images size²."""
    default = f"efficientnetv2-{scale.lower()}"
    files = published(f"efficientnet_v2/{default}", *digests)

    @documented(
        f"EfficientNet V2 {scale}; images from 0 to 255, which it scales itself.",
        "include_preprocessing: scale pixels; False: they come scaled.",
    )
    def build(
        include_top: bool = True,
        weights: Any = "imagenet",
        input_tensor: Any = None,
        input_shape: tuple | None = None,
        pooling: str | None = None,
        classes: int = 1000,
        classifier_activation: Any = "softmax",
        include_preprocessing: bool = True,
        name: str = default,
    ) -> Model:
        standardizes = plan is _B if include_preprocessing else None
        features = partial(
            _features, first=plan[0], stages=plan[1], width=width, depth=depth,
            standardizes=standardizes,
        )  # fmt: skip
        blueprint = Blueprint(
            default, features, files, partial(top, dropout=_DROPOUT), size, names_pooling=True
        )
        return blueprint.build(
            include_top, weights, input_tensor, input_shape, pooling, classes,
            classifier_activation, name,
        )  # fmt: skip

    build.__name__ = build.__qualname__ = f"EfficientNetV2{scale}"
    return build


EfficientNetV2B0 = _efficientnet(
    "B0", _B, 1.0, 1.0, 224,
    "21ecbf6da12460d5c40bb2f29ceb2188", "893217f2bb855e2983157299931e43ff",
)  # fmt: skip
EfficientNetV2B1 = _efficientnet(
    "B1", _B, 1.0, 1.1, 240,
    "069f0534ff22adf035c89e2d9547a9dc", "0e80663031ca32d657f9caa404b6ec37",
)  # fmt: skip
EfficientNetV2B2 = _efficientnet(
    "B2", _B, 1.1, 1.2, 260,
    "424e49f28180edbde1e94797771950a7", "1dfe2e7a5d45b6632553a8961ea609eb",
)  # fmt: skip
EfficientNetV2B3 = _efficientnet(
    "B3", _B, 1.2, 1.4, 300,
    "1f1fc43bd98a6e4fd8fdfd551e02c7a0", "f6abf7b5849ac99a89b50dd3fd532856",
)  # fmt: skip
EfficientNetV2S = _efficientnet(
    "S", _S, 1.0, 1.0, 384,
    "e1d88a8495beba45748fedd0cecbe016", "af0682fb74e8c54910f2d4393339c070",
)  # fmt: skip
EfficientNetV2M = _efficientnet(
    "M", _M, 1.0, 1.0, 480,
    "a3bf6aa3276309f4fc6a34aa114c95cd", "1b8dc055df72dde80d614482840fe342",
)  # fmt: skip
EfficientNetV2L = _efficientnet(
    "L", _L, 1.0, 1.0, 480,
    "27e6d408b53c7ebc868fefa357689935", "b0b66b5c863aef5b46e8608fe1711615",
)  # fmt: skip

__all__ = [
    "EfficientNetV2B0", "EfficientNetV2B1", "EfficientNetV2B2", "EfficientNetV2B3",
    "EfficientNetV2L", "EfficientNetV2M", "EfficientNetV2S", "decode_predictions",
    "preprocess_input",
]  # fmt: skip


def __dir__() -> list[str]:
    return __all__
