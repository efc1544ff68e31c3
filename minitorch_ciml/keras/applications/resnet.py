"""Residual networks (He, Zhang, Ren and Sun, 2015, arXiv 1512.03385)."""

from __future__ import annotations

from functools import partial
from typing import Any

from minitorch_ciml.keras import layers
from minitorch_ciml.keras.applications.building import Blueprint, channel_axis, network
from minitorch_ciml.keras.applications.imagenet_utils import decode_predictions, preprocessing
from minitorch_ciml.keras.applications.weights import published

EPSILON = 1.001e-5  # of the normalisations
_FIRST = 64  # filters of the first group's narrow convolutions

preprocess_input = preprocessing("caffe")


def _normalized(x: Any, filters: int, kernel: int, strides: int, name: str) -> Any:
    """Convolution and normalisation."""
    padding = "same" if kernel > 1 else "valid"
    x = layers.Conv2D(filters, kernel, strides, padding, name=f"{name}_conv")(x)
    return layers.BatchNormalization(channel_axis(), epsilon=EPSILON, name=f"{name}_bn")(x)


def _block(x: Any, filters: int, strides: int, widens: bool, name: str) -> Any:
    """Convolutions 1x1, 3x3, 1x1 beside a shortcut."""
    shortcut = _normalized(x, 4 * filters, 1, strides, f"{name}_0") if widens else x
    x = _normalized(x, filters, 1, strides, f"{name}_1")
    x = layers.Activation("relu", name=f"{name}_1_relu")(x)
    x = _normalized(x, filters, 3, 1, f"{name}_2")
    x = layers.Activation("relu", name=f"{name}_2_relu")(x)
    x = _normalized(x, 4 * filters, 1, 1, f"{name}_3")
    x = layers.Add(name=f"{name}_add")([shortcut, x])
    return layers.Activation("relu", name=f"{name}_out")(x)


def _features(x: Any, counts: tuple[int, ...]) -> Any:
    """`counts`: the blocks of each group; every group but the first halves height and width."""
    x = layers.ZeroPadding2D(3, name="conv1_pad")(x)
    x = layers.Conv2D(64, 7, 2, name="conv1_conv")(x)
    x = layers.BatchNormalization(channel_axis(), epsilon=EPSILON, name="conv1_bn")(x)
    x = layers.Activation("relu", name="conv1_relu")(x)
    x = layers.ZeroPadding2D(1, name="pool1_pad")(x)
    x = layers.MaxPooling2D(3, 2, name="pool1_pool")(x)
    for group, count in enumerate(counts):
        for i in range(count):
            strides = 2 if group and not i else 1
            x = _block(x, _FIRST << group, strides, not i, f"conv{group + 2}_block{i + 1}")
    return x


def _resnet(layer_count: int, counts: tuple[int, ...], *digests: str) -> Any:
    name = f"resnet{layer_count}"
    about = f"ResNet with {layer_count} layers; images as `resnet.preprocess_input` gives them."
    files = published(f"resnet/{name}_weights_tf_dim_ordering_tf_kernels", *digests)
    features = partial(_features, counts=counts)
    blueprint = Blueprint(name, features, files, names_pooling=True)
    return network(f"ResNet{layer_count}", about, blueprint)


ResNet50 = _resnet(
    50, (3, 4, 6, 3), "2cb95161c43110f7111970584f804107", "4d473c1dd8becc155b73f8504c6f6626"
)
ResNet101 = _resnet(
    101, (3, 4, 23, 3), "f1aeb4b969a6efcfb50fad2f0c20cfc5", "88cf7a10940856eca736dc7b7e228a21"
)
ResNet152 = _resnet(
    152, (3, 8, 36, 3), "100835be76be38e30d865e96f2aaae62", "ee4c566cf9a93f14d82f913c2dc6dd0c"
)

__all__ = ["ResNet101", "ResNet152", "ResNet50", "decode_predictions", "preprocess_input"]


def __dir__() -> list[str]:
    return __all__
