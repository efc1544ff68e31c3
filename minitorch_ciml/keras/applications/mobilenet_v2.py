"""MobileNetV2 (Sandler and others, 2018, arXiv 1801.04381): blocks that are wide inside."""

from __future__ import annotations

from functools import partial
from typing import Any

from minitorch_ciml.keras import layers
from minitorch_ciml.keras.applications.building import (
    Blueprint,
    channel_axis,
    documented,
    image_rows_and_columns,
    trained_size,
)
from minitorch_ciml.keras.applications.imagenet_utils import decode_predictions, preprocessing
from minitorch_ciml.keras.applications.weights import published
from minitorch_ciml.keras.models import Model

# Filters, blocks, and strides of the first one, of each group.
_GROUPS = (24, 2, 2), (32, 3, 2), (64, 4, 2), (96, 3, 1), (160, 3, 2), (320, 1, 1)
_EXPANSION = 6  # how much wider a block is inside
_LAST = 1280  # filters
_SIZES = 96, 128, 160, 192, 224  # that were trained
_WIDTHS = 0.35, 0.5, 0.75, 1.0, 1.3, 1.4

preprocess_input = preprocessing("tf")


def divisible(filters: float) -> int:
    """The multiple of 8 that is nearest, and not less than 0.9 of it."""
    nearest = max(8, int(filters + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * filters else nearest + 8


def correct_pad(x: Any, kernel: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """The padding before a convolution with strides 2 that sees what one with odd sizes would."""
    rows, columns = image_rows_and_columns(x.shape[1:])
    half = kernel // 2
    return tuple((half - (n is None or n % 2 == 0), half) for n in (rows, columns))  # type: ignore[return-value]


def _convolution(x: Any, filters: int, name: str, bn: str, relu: str | None, **options: Any) -> Any:
    """1x1 unless `options` say otherwise; normalised, and activated if `relu` is a name."""
    options = {"kernel_size": 1, "padding": "same", **options}
    x = layers.Conv2D(filters, use_bias=False, name=name, **options)(x)
    return _activated(x, bn, relu)


def _activated(x: Any, bn: str, relu: str | None) -> Any:
    x = layers.BatchNormalization(channel_axis(), 0.999, 1e-3, name=bn)(x)
    return x if relu is None else layers.ReLU(6.0, name=relu)(x)


def _block(x: Any, filters: int, strides: int, expansion: int, name: str) -> Any:
    """Expand, convolve each channel, project; beside it a shortcut where the shapes allow it."""
    before, channels = x, x.shape[channel_axis()]
    if expansion > 1:
        bn, relu = f"{name}expand_BN", f"{name}expand_relu"
        x = _convolution(x, expansion * channels, f"{name}expand", bn, relu)
    padding = "same"
    if strides > 1:
        x = layers.ZeroPadding2D(correct_pad(x, 3), name=f"{name}pad")(x)
        padding = "valid"
    x = layers.DepthwiseConv2D(3, strides, padding, use_bias=False, name=f"{name}depthwise")(x)
    x = _activated(x, f"{name}depthwise_BN", f"{name}depthwise_relu")
    x = _convolution(x, filters, f"{name}project", f"{name}project_BN", None)
    if strides == 1 and channels == filters:
        return layers.Add(name=f"{name}add")([before, x])
    return x


def _features(x: Any, alpha: float) -> Any:
    first = divisible(32 * alpha)
    x = _convolution(x, first, "Conv1", "bn_Conv1", "Conv1_relu", kernel_size=3, strides=2)
    x = _block(x, divisible(16 * alpha), 1, 1, "expanded_conv_")
    number = 0
    for filters, count, strides in _GROUPS:
        for i in range(count):
            number += 1
            width = divisible(int(filters * alpha))
            x = _block(x, width, 1 if i else strides, _EXPANSION, f"block_{number}_")
    last = divisible(_LAST * alpha) if alpha > 1 else _LAST
    return _convolution(x, last, "Conv_1", "Conv_1_bn", "out_relu", padding="valid")


def _top(x: Any, classes: int, activation: Any) -> Any:
    x = layers.GlobalAveragePooling2D()(x)
    return layers.Dense(classes, activation=activation, name="predictions")(x)


@documented(
    "MobileNetV2; images as `mobilenet_v2.preprocess_input` gives them.",
    "alpha: multiplies the number of filters; 0.35, 0.5, 0.75, 1, 1.3 or 1.4 with trained weights.",
)
def MobileNetV2(
    input_shape: tuple | None = None,
    alpha: float = 1.0,
    include_top: bool = True,
    weights: Any = "imagenet",
    input_tensor: Any = None,
    pooling: str | None = None,
    classes: int = 1000,
    classifier_activation: Any = "softmax",
    name: str | None = None,
) -> Model:
    size = trained_size("MobileNetV2", _SIZES, alpha, _WIDTHS, input_shape, weights)
    rows = image_rows_and_columns(input_shape)[0] or (size if include_top else None)
    rows = size if weights == "imagenet" else rows
    path = "mobilenet_v2/mobilenet_v2_weights_tf_dim_ordering_tf_kernels"
    blueprint = Blueprint(
        f"mobilenetv2_{alpha:.2f}_{rows}",
        partial(_features, alpha=alpha),
        published(f"{path}_{float(alpha)}_{size}", ending="_no_top"),
        _top,
        size,
    )
    return blueprint.build(
        include_top, weights, input_tensor, input_shape, pooling, classes, classifier_activation,
        name,
    )  # fmt: skip


__all__ = ["MobileNetV2", "decode_predictions", "preprocess_input"]


def __dir__() -> list[str]:
    return __all__
