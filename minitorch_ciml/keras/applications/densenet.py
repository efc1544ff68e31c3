"""DenseNet (Huang and others, 2016, arXiv 1608.06993): every block sees all before it."""

from __future__ import annotations

from functools import partial
from typing import Any

from minitorch_ciml.keras import layers
from minitorch_ciml.keras.applications.building import Blueprint, channel_axis, network
from minitorch_ciml.keras.applications.imagenet_utils import decode_predictions, preprocessing
from minitorch_ciml.keras.applications.weights import published

_EPSILON = 1.001e-5  # of the normalisations
_GROWTH = 32  # channels that a block adds

preprocess_input = preprocessing("torch")


def _activated(x: Any, name: str, relu: str) -> Any:
    """Normalisation and ReLU."""
    x = layers.BatchNormalization(axis=channel_axis(), epsilon=_EPSILON, name=name)(x)
    return layers.Activation("relu", name=relu)(x)


def _block(x: Any, name: str) -> Any:
    """Convolutions 1x1 and 3x3, each after a normalisation; their channels join those before."""
    before = x
    x = _activated(x, f"{name}_0_bn", f"{name}_0_relu")
    x = layers.Conv2D(4 * _GROWTH, 1, use_bias=False, name=f"{name}_1_conv")(x)
    x = _activated(x, f"{name}_1_bn", f"{name}_1_relu")
    x = layers.Conv2D(_GROWTH, 3, padding="same", use_bias=False, name=f"{name}_2_conv")(x)
    return layers.Concatenate(channel_axis(), name=f"{name}_concat")([before, x])


def _transition(x: Any, name: str) -> Any:
    """Halves channels, height and width."""
    x = _activated(x, f"{name}_bn", f"{name}_relu")
    channels = x.shape[channel_axis()]
    x = layers.Conv2D(channels // 2, 1, use_bias=False, name=f"{name}_conv")(x)
    return layers.AveragePooling2D(2, 2, name=f"{name}_pool")(x)


def _features(x: Any, counts: tuple[int, ...]) -> Any:
    """`counts`: the blocks of each group."""
    x = layers.ZeroPadding2D(3)(x)
    x = layers.Conv2D(64, 7, 2, use_bias=False, name="conv1_conv")(x)
    x = _activated(x, "conv1_bn", "conv1_relu")
    x = layers.ZeroPadding2D(1)(x)
    x = layers.MaxPooling2D(3, 2, name="pool1")(x)
    for group, count in enumerate(counts, 2):
        if group > 2:
            x = _transition(x, f"pool{group - 1}")
        for i in range(count):
            x = _block(x, f"conv{group}_block{i + 1}")
    return _activated(x, "bn", "relu")


def _densenet(layer_count: int, counts: tuple[int, ...], *digests: str) -> Any:
    name = f"densenet{layer_count}"
    about = f"DenseNet with {layer_count} layers; images as `densenet.preprocess_input` gives them."
    files = published(f"densenet/{name}_weights_tf_dim_ordering_tf_kernels", *digests)
    blueprint = Blueprint(name, partial(_features, counts=counts), files, names_pooling=True)
    return network(f"DenseNet{layer_count}", about, blueprint)


DenseNet121 = _densenet(
    121, (6, 12, 24, 16), "9d60b8095a5708f2dcce2bca79d332c7", "30ee3e1110167f948a6b9946edeeb738"
)
DenseNet169 = _densenet(
    169, (6, 12, 32, 32), "d699b8f76981ab1b30698df4c175e90b", "b8c4d4c20dd625c148057b9ff1c1176b"
)
DenseNet201 = _densenet(
    201, (6, 12, 48, 32), "1ceb130c1ea1b78c3bf6114dbdfd8807", "c13680b51ded0fb44dff2d8f86ac8bb1"
)

__all__ = ["DenseNet121", "DenseNet169", "DenseNet201", "decode_predictions", "preprocess_input"]


def __dir__() -> list[str]:
    return __all__
