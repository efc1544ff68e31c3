"""Residual networks that normalise first (He, Zhang, Ren and Sun, 2016, arXiv 1603.05027)."""

from __future__ import annotations

from functools import partial
from typing import Any

from minitorch_ciml.keras import layers
from minitorch_ciml.keras.applications.building import Blueprint, channel_axis, network
from minitorch_ciml.keras.applications.imagenet_utils import decode_predictions, preprocessing
from minitorch_ciml.keras.applications.resnet import EPSILON
from minitorch_ciml.keras.applications.weights import published

_FIRST = 64  # filters of the first group's narrow convolutions

preprocess_input = preprocessing("tf")


def _activated(x: Any, name: str, relu: str | None = None) -> Any:
    """Normalisation and ReLU."""
    x = layers.BatchNormalization(channel_axis(), epsilon=EPSILON, name=f"{name}_bn")(x)
    return layers.Activation("relu", name=relu or f"{name}_relu")(x)


def _block(x: Any, filters: int, strides: int, widens: bool, name: str) -> Any:
    """Convolutions 1x1, 3x3, 1x1 beside a shortcut, each after a normalisation."""
    activated = _activated(x, f"{name}_preact")
    if widens:
        shortcut = layers.Conv2D(4 * filters, 1, strides, name=f"{name}_0_conv")(activated)
    else:
        shortcut = layers.MaxPooling2D(1, strides)(x) if strides > 1 else x
    x = layers.Conv2D(filters, 1, use_bias=False, name=f"{name}_1_conv")(activated)
    x = _activated(x, f"{name}_1")
    x = layers.ZeroPadding2D(1, name=f"{name}_2_pad")(x)
    x = layers.Conv2D(filters, 3, strides, use_bias=False, name=f"{name}_2_conv")(x)
    x = _activated(x, f"{name}_2")
    x = layers.Conv2D(4 * filters, 1, name=f"{name}_3_conv")(x)
    return layers.Add(name=f"{name}_out")([shortcut, x])


def _features(x: Any, counts: tuple[int, ...]) -> Any:
    """`counts`: the blocks of each group; the last block of each but the last halves the sizes."""
    x = layers.ZeroPadding2D(3, name="conv1_pad")(x)
    x = layers.Conv2D(64, 7, 2, name="conv1_conv")(x)
    x = layers.ZeroPadding2D(1, name="pool1_pad")(x)
    x = layers.MaxPooling2D(3, 2, name="pool1_pool")(x)
    for group, count in enumerate(counts):
        for i in range(count):
            strides = 2 if i == count - 1 and group < len(counts) - 1 else 1
            x = _block(x, _FIRST << group, strides, not i, f"conv{group + 2}_block{i + 1}")
    return _activated(x, "post")


def _resnet(layer_count: int, counts: tuple[int, ...], *digests: str) -> Any:
    name = f"resnet{layer_count}v2"
    about = (
        f"ResNet V2 with {layer_count} layers; images as `resnet_v2.preprocess_input` gives them."
    )
    files = published(f"resnet/{name}_weights_tf_dim_ordering_tf_kernels", *digests)
    features = partial(_features, counts=counts)
    blueprint = Blueprint(name, features, files, names_pooling=True)
    return network(f"ResNet{layer_count}V2", about, blueprint)


ResNet50V2 = _resnet(
    50, (3, 4, 6, 3), "3ef43a0b657b3be2300d5770ece849e0", "fac2f116257151a9d068a22e544a4917"
)
ResNet101V2 = _resnet(
    101, (3, 4, 23, 3), "6343647c601c52e1368623803854d971", "c0ed64b8031c3730f411d2eb4eea35b5"
)
ResNet152V2 = _resnet(
    152, (3, 8, 36, 3), "a49b44d1979771252814e80f8ec446f9", "ed17cf2e0169df9d443503ef94b23b33"
)

__all__ = ["ResNet101V2", "ResNet152V2", "ResNet50V2", "decode_predictions", "preprocess_input"]


def __dir__() -> list[str]:
    return __all__
