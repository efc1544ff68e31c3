"""Inception-ResNet V2 (Szegedy and others, 2016, arXiv 1602.07261): Inception beside shortcuts."""

from __future__ import annotations

from typing import Any

from minitorch_ciml.keras import layers
from minitorch_ciml.keras.applications.building import Blueprint, channel_axis, network
from minitorch_ciml.keras.applications.imagenet_utils import decode_predictions, preprocessing
from minitorch_ciml.keras.applications.inception_v3 import averaged, chain, convolution, join, stem
from minitorch_ciml.keras.applications.weights import published
from minitorch_ciml.keras.serialization import serializable

preprocess_input = preprocessing("tf")


# Under this name Keras' files have it, too.
@serializable("keras.src.applications.inception_resnet_v2")
class CustomScaleLayer(layers.Layer):
    """y = a + b * scale, of inputs [a, b]."""

    def __init__(self, scale: float, **kwargs: Any):
        super().__init__(**kwargs)
        self.scale = scale

    def call(self, inputs: list) -> Any:
        return inputs[0] + inputs[1] * self.scale

    def compute_output_shape(self, input_shape: list) -> Any:
        return input_shape[0]


def _residual(x: Any, branches: list, scale: float, name: str, activates: bool = True) -> Any:
    """Adds `scale` times what a 1x1 convolution makes of the branches."""
    mixed = join(branches, f"{name}_mixed")
    channels = x.shape[channel_axis()]
    mixed = layers.Conv2D(channels, 1, padding="same", name=f"{name}_conv")(mixed)
    x = CustomScaleLayer(scale)([x, mixed])
    return layers.Activation("relu", name=f"{name}_ac")(x) if activates else x


def _inception(x: Any) -> Any:
    one = convolution(x, 96, 1)
    five = chain(x, (48, 1), (64, 5))
    three_twice = chain(x, (64, 1), (96, 3), (96, 3))
    return join([one, five, three_twice, averaged(x, 64)], "mixed_5b")


def _fine_block(x: Any, name: str) -> Any:
    """For 35 rows."""
    one = convolution(x, 32, 1)
    three = chain(x, (32, 1), (32, 3))
    three_twice = chain(x, (32, 1), (48, 3), (64, 3))
    return _residual(x, [one, three, three_twice], 0.17, name)


def _to_medium(x: Any) -> Any:
    """From 35 rows to 17."""
    three = convolution(x, 384, 3, 2, "valid")
    three_twice = convolution(chain(x, (256, 1), (256, 3)), 384, 3, 2, "valid")
    return join([three, three_twice, layers.MaxPooling2D(3, 2)(x)], "mixed_6a")


def _medium_block(x: Any, name: str) -> Any:
    """For 17 rows."""
    one = convolution(x, 192, 1)
    seven = chain(x, (128, 1), (160, (1, 7)), (192, (7, 1)))
    return _residual(x, [one, seven], 0.1, name)


def _to_coarse(x: Any) -> Any:
    """From 17 rows to 8."""
    wide = convolution(chain(x, (256, 1)), 384, 3, 2, "valid")
    narrow = convolution(chain(x, (256, 1)), 288, 3, 2, "valid")
    three_twice = convolution(chain(x, (256, 1), (288, 3)), 320, 3, 2, "valid")
    return join([wide, narrow, three_twice, layers.MaxPooling2D(3, 2)(x)], "mixed_7a")


def _coarse_block(x: Any, name: str, is_last: bool) -> Any:
    """For 8 rows."""
    one = convolution(x, 192, 1)
    three = chain(x, (192, 1), (224, (1, 3)), (256, (3, 1)))
    return _residual(x, [one, three], 1.0 if is_last else 0.2, name, activates=not is_last)


def _features(x: Any) -> Any:
    x = _inception(stem(x))
    for i in range(1, 11):
        x = _fine_block(x, f"block35_{i}")
    x = _to_medium(x)
    for i in range(1, 21):
        x = _medium_block(x, f"block17_{i}")
    x = _to_coarse(x)
    for i in range(1, 11):
        x = _coarse_block(x, f"block8_{i}", is_last=i == 10)
    return convolution(x, 1536, 1, name="conv_7b")


InceptionResNetV2 = network(
    "InceptionResNetV2",
    "Inception-ResNet V2; images as `inception_resnet_v2.preprocess_input` gives them.",
    Blueprint(
        "inception_resnet_v2",
        _features,
        published(
            "inception_resnet_v2/inception_resnet_v2_weights_tf_dim_ordering_tf_kernels",
            "e693bd0210a403b3192acc6073ad2e96", "d19885ff4a710c122648d3b5c3b684e4",
        ),
        size=299,
        smallest=75,
    ),
)  # fmt: skip

__all__ = ["InceptionResNetV2", "decode_predictions", "preprocess_input"]


def __dir__() -> list[str]:
    return __all__
