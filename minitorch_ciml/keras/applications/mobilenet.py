"""MobileNet (Howard and others, 2017, arXiv 1704.04861): depthwise, then 1x1 convolutions."""

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

# Filters and strides of each pair of convolutions.
_BLOCKS = (
    (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2),
    (1024, 1),
)  # fmt: skip

_SIZES = 128, 160, 192, 224  # that were trained
_WIDTHS = {0.25: "2_5", 0.5: "5_0", 0.75: "7_5", 1.0: "1_0"}  # in the names of files

preprocess_input = preprocessing("tf")


def _activated(x: Any, name: str) -> Any:
    """Normalisation and ReLU up to 6."""
    x = layers.BatchNormalization(channel_axis(), name=f"{name}_bn")(x)
    return layers.ReLU(6.0, name=f"{name}_relu")(x)


def _features(x: Any, alpha: float, depth_multiplier: int) -> Any:
    x = layers.Conv2D(int(32 * alpha), 3, 2, "same", use_bias=False, name="conv1")(x)
    x = _activated(x, "conv1")
    for i, (filters, strides) in enumerate(_BLOCKS, 1):
        padding = "same"
        if strides > 1:
            x = layers.ZeroPadding2D(((0, 1), (0, 1)), name=f"conv_pad_{i}")(x)
            padding = "valid"
        x = layers.DepthwiseConv2D(
            3, strides, padding, depth_multiplier, use_bias=False, name=f"conv_dw_{i}"
        )(x)
        x = _activated(x, f"conv_dw_{i}")
        x = layers.Conv2D(
            int(filters * alpha), 1, padding="same", use_bias=False, name=f"conv_pw_{i}"
        )(x)
        x = _activated(x, f"conv_pw_{i}")
    return x


def _top(x: Any, classes: int, activation: Any, dropout: float) -> Any:
    x = layers.GlobalAveragePooling2D(keepdims=True)(x)
    x = layers.Dropout(dropout, name="dropout")(x)
    x = layers.Conv2D(classes, 1, padding="same", name="conv_preds")(x)
    x = layers.Reshape((classes,), name="reshape_2")(x)
    return layers.Activation(activation, name="predictions")(x)


@documented(
    "MobileNet; images as `mobilenet.preprocess_input` gives them.",
    "alpha: multiplies the number of filters; 0.25, 0.5, 0.75 or 1 with trained weights.",
    "depth_multiplier: the filters of depthwise convolutions for each channel.",
    "dropout: of the top: the share of features that is left out in training.",
)
def MobileNet(
    input_shape: tuple | None = None,
    alpha: float = 1.0,
    depth_multiplier: int = 1,
    dropout: float = 1e-3,
    include_top: bool = True,
    weights: Any = "imagenet",
    input_tensor: Any = None,
    pooling: str | None = None,
    classes: int = 1000,
    classifier_activation: Any = "softmax",
    name: str | None = None,
) -> Model:
    if weights == "imagenet" and depth_multiplier != 1:
        raise ValueError(
            f"MobileNet: got depth_multiplier={depth_multiplier}, expected 1 with "
            "weights='imagenet'."
        )
    size = trained_size("MobileNet", _SIZES, alpha, tuple(_WIDTHS), input_shape, weights)
    rows = image_rows_and_columns(input_shape)[0] or (size if include_top else None)
    rows = size if weights == "imagenet" else rows
    path = f"mobilenet/mobilenet_{_WIDTHS.get(alpha)}_{size}_tf"
    blueprint = Blueprint(
        f"mobilenet_{alpha:.2f}_{rows}",
        partial(_features, alpha=alpha, depth_multiplier=depth_multiplier),
        published(path, ending="_no_top"),
        partial(_top, dropout=dropout),
        size,
    )
    return blueprint.build(
        include_top, weights, input_tensor, input_shape, pooling, classes, classifier_activation,
        name,
    )  # fmt: skip


__all__ = ["MobileNet", "decode_predictions", "preprocess_input"]


def __dir__() -> list[str]:
    return __all__
