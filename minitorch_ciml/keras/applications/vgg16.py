"""The VGG networks (Simonyan and Zisserman, 2014, arXiv 1409.1556)."""

from __future__ import annotations

from functools import partial
from typing import Any

from minitorch_ciml.keras import layers
from minitorch_ciml.keras.applications.building import Blueprint, network
from minitorch_ciml.keras.applications.imagenet_utils import decode_predictions, preprocessing
from minitorch_ciml.keras.applications.weights import published

_FILTERS = 64, 128, 256, 512, 512  # of each block

preprocess_input = preprocessing("caffe")


def _features(x: Any, counts: tuple[int, ...]) -> Any:
    """`counts`: the convolutions of each block; a pooling ends it."""
    for block, (filters, count) in enumerate(zip(_FILTERS, counts), 1):
        for i in range(1, count + 1):
            name = f"block{block}_conv{i}"
            x = layers.Conv2D(filters, 3, padding="same", activation="relu", name=name)(x)
        x = layers.MaxPooling2D(2, 2, name=f"block{block}_pool")(x)
    return x


def _top(x: Any, classes: int, activation: Any) -> Any:
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(4096, activation="relu", name="fc1")(x)
    x = layers.Dense(4096, activation="relu", name="fc2")(x)
    return layers.Dense(classes, activation=activation, name="predictions")(x)


def vgg(layer_count: int, counts: tuple[int, ...], *digests: str) -> Any:
    """The function of a network; see `published` for `digests`."""
    name = f"vgg{layer_count}"
    about = f"VGG with {layer_count} layers; images as `{name}.preprocess_input` gives them."
    files = published(f"{name}/{name}_weights_tf_dim_ordering_tf_kernels", *digests)
    features = partial(_features, counts=counts)
    return network(f"VGG{layer_count}", about, Blueprint(name, features, files, _top))


VGG16 = vgg(
    16, (2, 2, 3, 3, 3), "64373286793e3c8b2b4e3219cbf3544b", "6d6bbae143d832006294945121d1f1fc"
)

__all__ = ["VGG16", "decode_predictions", "preprocess_input"]


def __dir__() -> list[str]:
    return __all__
