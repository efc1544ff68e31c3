"""NASNet-A (Zoph et al., 2017, arXiv 1707.07012): cells that a search has found.

A cell takes the results of the two cells before it, `x` and `p`. It is five sums of pairs of
separable convolutions and poolings; a reduction cell halves height and width.
"""

from __future__ import annotations

from typing import Any

from minitorch_ciml.keras import backend, layers
from minitorch_ciml.keras.applications.building import Blueprint, documented
from minitorch_ciml.keras.applications.imagenet_utils import decode_predictions, preprocessing
from minitorch_ciml.keras.applications.mobilenet_v2 import correct_pad
from minitorch_ciml.keras.applications.weights import ORIGIN, File
from minitorch_ciml.keras.models import Model

__all__ = ["NASNetLarge", "NASNetMobile", "decode_predictions", "preprocess_input"]

_GROWTH = 2  # how many times the filters are more after a reduction

preprocess_input = preprocessing("tf")


def _normalized(x: Any, name: str) -> Any:
    return layers.BatchNormalization(momentum=0.9997, epsilon=1e-3, name=name)(x)


def _relu(x: Any, name: str | None = None) -> Any:
    return layers.Activation("relu", name=name)(x)


def _pointwise(x: Any, filters: int, name: str) -> Any:
    return layers.Conv2D(filters, 1, padding="same", use_bias=False, name=name,
                         kernel_initializer="he_normal")(x)  # fmt: skip


def _separable(x: Any, filters: int, kernel: int, name: str, strides: int = 1) -> Any:
    """Two separable convolutions; the first may halve height and width."""
    x = _relu(x)
    padding = "same"
    if strides == 2:
        x = layers.ZeroPadding2D(correct_pad(x, kernel), name=f"separable_conv_1_pad_{name}")(x)
        padding = "valid"
    for i in 1, 2:
        x = _relu(x) if i == 2 else x
        x = layers.SeparableConv2D(
            filters, kernel, strides if i == 1 else 1, padding if i == 1 else "same",
            use_bias=False, name=f"separable_conv_{i}_{name}",
        )(x)  # fmt: skip
        x = _normalized(x, f"separable_conv_{i}_bn_{name}")
    return x


def _adjusted(p: Any, x: Any, filters: int, name: str) -> Any:
    """What was before `x`, brought to its height and width and to `filters`."""
    if p is None:
        return x
    if p.shape[2] != x.shape[2]:
        p = _relu(p, f"adjust_relu_1_{name}")
        halves = []
        for i in 1, 2:
            half = p
            if i == 2:  # one pixel further right and down
                half = layers.Cropping2D(((1, 0), (1, 0)))(
                    layers.ZeroPadding2D(((0, 1), (0, 1)))(p)
                )
            half = layers.AveragePooling2D(1, 2, name=f"adjust_avg_pool_{i}_{name}")(half)
            halves.append(_pointwise(half, filters // 2, f"adjust_conv_{i}_{name}"))
        return _normalized(layers.concatenate(halves), f"adjust_bn_{name}")
    if p.shape[-1] != filters:
        p = _pointwise(_relu(p), filters, f"adjust_conv_projection_{name}")
        return _normalized(p, f"adjust_bn_{name}")
    return p


def _normal_cell(x: Any, p: Any, filters: int, name: str) -> tuple[Any, Any]:
    before, p = x, _adjusted(p, x, filters, name)
    h = _normalized(_pointwise(_relu(x), filters, f"normal_conv_1_{name}"), f"normal_bn_1_{name}")

    def mean(x: Any, side: str) -> Any:
        return layers.AveragePooling2D(3, 1, "same", name=f"normal_{side}_{name}")(x)

    def branch(x: Any, kernel: int, side: str) -> Any:
        return _separable(x, filters, kernel, f"normal_{side}_{name}")

    def total(i: int, *parts: Any) -> Any:
        return layers.add(list(parts), name=f"normal_add_{i}_{name}")

    sums = [
        total(1, branch(h, 5, "left1"), branch(p, 3, "right1")),
        total(2, branch(p, 5, "left2"), branch(p, 3, "right2")),
        total(3, mean(h, "left3"), p),
        total(4, mean(p, "left4"), mean(p, "right4")),
        total(5, branch(h, 3, "left5"), h),
    ]
    return layers.concatenate([p, *sums], name=f"normal_concat_{name}"), before


def _reduction_cell(x: Any, p: Any, filters: int, name: str) -> tuple[Any, Any]:
    before, p = x, _adjusted(p, x, filters, name)
    h = _pointwise(_relu(x), filters, f"reduction_conv_1_{name}")
    h = _normalized(h, f"reduction_bn_1_{name}")
    wide = layers.ZeroPadding2D(correct_pad(h, 3), name=f"reduction_pad_1_{name}")(h)

    def branch(x: Any, kernel: int, side: str, strides: int = 2) -> Any:
        return _separable(x, filters, kernel, f"reduction_{side}_{name}", strides)

    def largest(side: str) -> Any:
        return layers.MaxPooling2D(3, 2, name=f"reduction_{side}_{name}")(wide)

    def total(parts: list, place: str | None) -> Any:
        return layers.add(parts, name=place and f"reduction_{place}_{name}")

    x1 = total([branch(h, 5, "left1"), branch(p, 7, "right1")], "add_1")
    x2 = total([largest("left2"), branch(p, 7, "right2")], "add_2")
    mean = layers.AveragePooling2D(3, 2, name=f"reduction_left3_{name}")(wide)
    x3 = total([mean, branch(p, 5, "right3")], "add3")
    mean = layers.AveragePooling2D(3, 1, "same", name=f"reduction_left4_{name}")(x1)
    x4 = total([x2, mean], None)
    x5 = total([branch(x1, 3, "left4", strides=1), largest("right5")], "add4")
    return layers.concatenate([x2, x3, x4, x5], name=f"reduction_concat_{name}"), before


def _features(stem: int, blocks: int, last: int, skips: bool) -> Any:
    """The network from images to feature maps.

    Args:
        stem: the filters of the first convolution.
        blocks: the normal cells between two reductions.
        last: the filters of the last cell's result.
        skips: the cell after a reduction takes what was before the one before it.
    """
    filters = last // 24

    def features(x: Any) -> Any:
        x = layers.Conv2D(stem, 3, 2, use_bias=False, name="stem_conv1",
                          kernel_initializer="he_normal")(x)  # fmt: skip
        x = _normalized(x, "stem_bn1")
        x, p = _reduction_cell(x, None, filters // _GROWTH**2, "stem_1")
        x, p = _reduction_cell(x, p, filters // _GROWTH, "stem_2")
        for stage in range(3):
            width = filters * _GROWTH**stage
            if stage:
                x, before = _reduction_cell(x, p, width, f"reduce_{stage * blocks}")
                p = p if skips else before
            for i in range(blocks):
                number = stage * blocks + i + (1 if stage else 0)
                x, p = _normal_cell(x, p, width, str(number))
        return _relu(x)

    return features


def _top(x: Any, classes: int, activation: Any) -> Any:
    x = layers.GlobalAveragePooling2D()(x)
    return layers.Dense(classes, activation=activation, name="predictions")(x)


def _files(size: str, whole: str, without_top: str) -> Any:
    def file(include_top: bool) -> File:
        ending = "" if include_top else "_no_top"
        address = f"{ORIGIN}nasnet/NASNet-{size}{ending.replace('_', '-')}.h5"
        return f"nasnet_{size}{ending}.h5", address, whole if include_top else without_top

    return file


_MOBILE = Blueprint(
    "nasnet_mobile",
    _features(32, 4, 1056, skips=False),
    _files("mobile", "020fb642bf7360b370c678b08e0adf61", "1ed92395b5b598bdda52abe5c0dbfd63"),
    top=_top,
)
_LARGE = Blueprint(
    "nasnet_large",
    _features(96, 6, 4032, skips=True),
    _files("large", "11577c9a518f0070763c2b964a382f17", "d81d89dc07e6e56530c4e77faddd61b5"),
    top=_top,
    size=331,
)


def _build(blueprint: Blueprint, shape: Any, include_top: bool, *others: Any) -> Model:
    if backend.image_data_format() == "channels_first":
        raise ValueError(f"{blueprint.name}: channels must come last, as in Keras.")
    if shape is None and not include_top:  # cells must know heights and widths
        shape = (blueprint.size, blueprint.size, 3)
    weights, input_tensor, pooling, classes, activation, name = others
    return blueprint.build(
        include_top, weights, input_tensor, shape, pooling, classes, activation, name
    )


@documented("NASNet-A (4 @ 1056), for phones; images as `nasnet.preprocess_input` gives them.")
def NASNetMobile(
    input_shape: tuple | None = None,
    include_top: bool = True,
    weights: Any = "imagenet",
    input_tensor: Any = None,
    pooling: str | None = None,
    classes: int = 1000,
    classifier_activation: Any = "softmax",
    name: str = "nasnet_mobile",
) -> Model:
    return _build(_MOBILE, input_shape, include_top, weights, input_tensor, pooling, classes,
                  classifier_activation, name)  # fmt: skip


@documented("NASNet-A (6 @ 4032); images as `nasnet.preprocess_input` gives them.")
def NASNetLarge(
    input_shape: tuple | None = None,
    include_top: bool = True,
    weights: Any = "imagenet",
    input_tensor: Any = None,
    pooling: str | None = None,
    classes: int = 1000,
    classifier_activation: Any = "softmax",
    name: str = "nasnet_large",
) -> Model:
    return _build(_LARGE, input_shape, include_top, weights, input_tensor, pooling, classes,
                  classifier_activation, name)  # fmt: skip


def __dir__() -> list[str]:
    return __all__
