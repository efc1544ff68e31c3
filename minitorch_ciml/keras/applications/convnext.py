"""ConvNeXt (Liu and others, 2022, arXiv 2201.03545): convolutions arranged as in transformers."""

from __future__ import annotations

from functools import partial
from typing import Any

from minitorch_ciml.keras import initializers, layers
from minitorch_ciml.keras.applications.building import Blueprint, channel_axis, documented
from minitorch_ciml.keras.applications.imagenet_utils import decode_predictions, preprocessing
from minitorch_ciml.keras.applications.weights import published
from minitorch_ciml.keras.models import Model, Sequential
from minitorch_ciml.keras.serialization import serializable

_EPSILON = 1e-6  # of the normalisations
_SCALE = 1e-6  # of what a block adds, at first
_MEANS = 0.485, 0.456, 0.406  # of ImageNet's red, green, blue, which go to 1
_DEVIATIONS = 0.229, 0.224, 0.225

preprocess_input = preprocessing(None)


# Under this name Keras' files have it, too.
@serializable("keras.src.applications.convnext")
class LayerScale(layers.Layer):
    """y = x * gamma, with a learned number for each channel.

    Args:
        init_values: of gamma, at first.
        projection_dim: the number of channels.
    """

    def __init__(self, init_values: float, projection_dim: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.init_values = init_values
        self.projection_dim = projection_dim

    def build(self, input_shape: tuple) -> None:
        initial = initializers.Constant(self.init_values)
        self.gamma = self.add_weight((self.projection_dim,), initial)

    def call(self, x: Any) -> Any:
        return x * self.gamma

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return input_shape


def _normalization(name: str | None = None) -> Any:
    return layers.LayerNormalization(epsilon=_EPSILON, name=name)


def _block(x: Any, filters: int, name: str) -> Any:
    """A convolution of each channel, then two dense layers for each pixel, beside a shortcut."""
    before = x
    x = layers.Conv2D(
        filters, 7, padding="same", groups=filters, name=f"{name}_depthwise_conv"
    )(x)  # fmt: skip
    x = _normalization(f"{name}_layernorm")(x)
    x = layers.Dense(4 * filters, name=f"{name}_pointwise_conv_1")(x)
    x = layers.Activation("gelu", name=f"{name}_gelu")(x)
    x = layers.Dense(filters, name=f"{name}_pointwise_conv_2")(x)
    x = LayerScale(_SCALE, filters, name=f"{name}_layer_scale")(x)
    return before + layers.Activation("linear", name=f"{name}_identity")(x)


def _stem(filters: int, name: str) -> Any:
    """Quarters height and width."""
    convolution = layers.Conv2D(filters, 4, 4, name=f"{name}_stem_conv")
    return Sequential([convolution, _normalization(f"{name}_stem_layernorm")], name=f"{name}_stem")


def _halving(filters: int, number: int, name: str) -> Any:
    """Halves height and width."""
    return Sequential(
        [
            _normalization(f"{name}_downsampling_layernorm_{number}"),
            layers.Conv2D(filters, 2, 2, name=f"{name}_downsampling_conv_{number}"),
        ],
        name=f"{name}_downsampling_block_{number}",
    )


def _features(x: Any, counts: tuple[int, ...], first: int, name: str, preprocesses: bool) -> Any:
    """`counts`: the blocks of each stage, which has twice the filters of the one before."""
    if preprocesses and x.shape[channel_axis()] == 3:
        means = [255 * mean for mean in _MEANS]
        variances = [(255 * deviation) ** 2 for deviation in _DEVIATIONS]
        x = layers.Normalization(
            mean=means, variance=variances, name=f"{name}_prestem_normalization"
        )(x)  # fmt: skip
    for stage, count in enumerate(counts):
        filters = first << stage
        x = (_halving(filters, stage - 1, name) if stage else _stem(filters, name))(x)
        for i in range(count):
            x = _block(x, filters, f"{name}_stage_{stage}_block_{i}")
    return x


def _top(x: Any, classes: int, activation: Any, name: str) -> Any:
    x = layers.GlobalAveragePooling2D(name=f"{name}_head_gap")(x)
    x = _normalization(f"{name}_head_layernorm")(x)
    return layers.Dense(classes, activation=activation, name=f"{name}_head_dense")(x)


def _convnext(size: str, counts: tuple[int, ...], first: int, *digests: str) -> Any:
    """`first`: the filters of the first stage."""
    default = f"convnext_{size.lower()}"

    @documented(
        f"ConvNeXt {size}; images from 0 to 255, which it scales itself.",
        "include_preprocessing: scale pixels; False: they come scaled.",
    )
    def build(
        include_top: bool = True,
        include_preprocessing: bool = True,
        weights: Any = "imagenet",
        input_tensor: Any = None,
        input_shape: tuple | None = None,
        pooling: str | None = None,
        classes: int = 1000,
        classifier_activation: Any = "softmax",
        name: str = default,
    ) -> Model:
        blueprint = Blueprint(
            name,
            partial(
                _features, counts=counts, first=first, name=name,
                preprocesses=include_preprocessing,
            ),
            published(f"convnext/{default}", *digests),
            partial(_top, name=name),
            behind_pooling=lambda x: _normalization()(x),
        )  # fmt: skip
        return blueprint.build(
            include_top, weights, input_tensor, input_shape, pooling, classes,
            classifier_activation,
        )  # fmt: skip

    build.__name__ = build.__qualname__ = f"ConvNeXt{size}"
    return build


ConvNeXtTiny = _convnext(
    "Tiny", (3, 3, 9, 3), 96,
    "8ae6e78ce2933352b1ef4008e6dd2f17bc40771563877d156bc6426c7cf503ff",
    "d547c096cabd03329d7be5562c5e14798aa39ed24b474157cef5e85ab9e49ef1",
)  # fmt: skip
ConvNeXtSmall = _convnext(
    "Small", (3, 3, 27, 3), 96,
    "ce1277d8f1ee5a0ef0e171469089c18f5233860ceaf9b168049cb9263fd7483c",
    "6fc8009faa2f00c1c1dfce59feea9b0745eb260a7dd11bee65c8e20843da6eab",
)  # fmt: skip
ConvNeXtBase = _convnext(
    "Base", (3, 3, 27, 3), 128,
    "52cbb006d3dadd03f6e095a8ca1aca47aecdd75acb4bc74bce1f5c695d0086e6",
    "40a20c5548a5e9202f69735ecc06c990e6b7c9d2de39f0361e27baeb24cb7c45",
)  # fmt: skip
ConvNeXtLarge = _convnext(
    "Large", (3, 3, 27, 3), 192,
    "070c5ed9ed289581e477741d3b34beffa920db8cf590899d6d2c67fba2a198a6",
    "96f02b6f0753d4f543261bc9d09bed650f24dd6bc02ddde3066135b63d23a1cd",
)  # fmt: skip
ConvNeXtXLarge = _convnext(
    "XLarge", (3, 3, 27, 3), 256,
    "c1f5ccab661354fc3a79a10fa99af82f0fbf10ec65cb894a3ae0815f17a889ee",
    "de3f8a54174130e0cecdc71583354753d557fcf1f4487331558e2a16ba0cfe05",
)  # fmt: skip

__all__ = [
    "ConvNeXtBase", "ConvNeXtLarge", "ConvNeXtSmall", "ConvNeXtTiny", "ConvNeXtXLarge",
    "decode_predictions", "preprocess_input",
]  # fmt: skip


def __dir__() -> list[str]:
    return __all__
