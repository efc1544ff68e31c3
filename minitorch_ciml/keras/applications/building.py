"""How every ready-made network begins, ends, and gets its weights."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from minitorch_ciml.keras import activations, backend, layers
from minitorch_ciml.keras.applications.weights import File, fetch
from minitorch_ciml.keras.models import Model
from minitorch_ciml.keras.symbolic import KerasTensor
from minitorch_ciml.keras.utils import get_source_inputs

_CLASSES = 1000  # of ImageNet


def channel_axis() -> int:
    """Of a batch of feature maps, as the backend has them."""
    return 1 if backend.image_data_format() == "channels_first" else 3


def pool_and_classify(x: Any, classes: int, activation: Any) -> Any:
    """The end that most networks have."""
    x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
    return layers.Dense(classes, activation=activation, name="predictions")(x)


@dataclass(frozen=True)
class Blueprint:
    """What is fixed about a network.

    Attributes:
        name: of the model.
        features: from images to the last feature maps.
        weights: of what is called include_top: the weights' file (see `weights.published`).
        top: from the last feature maps, a number of classes and an activation to the answers.
        size: the height and width of images, where nobody asks for others; None: any.
        smallest: the least height and width.
        names_pooling: whether the layer of `pooling` is called avg_pool or max_pool.
        behind_pooling: what comes last without the top.
    """

    name: str
    features: Callable[[Any], Any]
    weights: Callable[[bool], File]
    top: Callable[[Any, int, Any], Any] = pool_and_classify
    size: int | None = 224
    smallest: int = 32
    names_pooling: bool = False
    behind_pooling: Callable[[Any], Any] | None = None

    def build(
        self,
        include_top: bool = True,
        weights: Any = "imagenet",
        input_tensor: Any = None,
        input_shape: tuple | None = None,
        pooling: str | None = None,
        classes: int = _CLASSES,
        classifier_activation: Any = "softmax",
        name: str | None = None,
    ) -> Model:
        """The model, with these of Keras' arguments (see `network`)."""
        name = name or self.name
        if pooling not in (None, "avg", "max"):
            raise ValueError(f"{name}: got pooling={pooling!r}, expected 'avg', 'max' or None.")
        self._check(name, include_top, weights, classes, classifier_activation)
        shape = self._input_shape(name, input_shape, include_top, weights)
        if isinstance(input_tensor, KerasTensor):
            inputs, x = get_source_inputs(input_tensor), input_tensor
        else:
            x = layers.Input(shape=shape, tensor=input_tensor)
            inputs = [x]
        x = self.features(x)
        if include_top:
            x = self.top(x, classes, classifier_activation)
        elif pooling == "avg":
            x = layers.GlobalAveragePooling2D(name="avg_pool" if self.names_pooling else None)(x)
        elif pooling == "max":
            x = layers.GlobalMaxPooling2D(name="max_pool" if self.names_pooling else None)(x)
        if not include_top and self.behind_pooling is not None:
            x = self.behind_pooling(x)
        model = Model(inputs[0] if len(inputs) == 1 else inputs, x, name=name)
        if weights is not None:
            file = fetch(*self.weights(include_top)) if weights == "imagenet" else weights
            model.load_weights(file)
        return model

    def _check(
        self, name: str, include_top: bool, weights: Any, classes: int, activation: Any
    ) -> None:
        if weights not in (None, "imagenet") and not os.path.exists(weights):
            raise ValueError(
                f"{name}: got weights={weights!r}, expected None (random numbers), 'imagenet' "
                "(what Keras has trained on ImageNet), or the path of an existing file."
            )
        if weights == "imagenet" and include_top and classes != _CLASSES:
            raise ValueError(
                f"{name}: got classes={classes}, expected {_CLASSES} with weights='imagenet' and "
                "include_top=True; for other classes say include_top=False and add a layer."
            )
        known = activations.get(activation) in (activations.get(n) for n in ("softmax", None))
        if weights is not None and include_top and not known:
            raise ValueError(
                f"{name}: got classifier_activation={activation!r}, expected None or 'softmax' "
                "with trained weights."
            )

    def _input_shape(
        self, name: str, shape: tuple | None, include_top: bool, weights: Any
    ) -> tuple[int | None, ...]:
        first = backend.image_data_format() == "channels_first"

        def ordered(size: int | None, channels: int) -> tuple[int | None, ...]:
            return (channels, size, size) if first else (size, size, channels)

        default = ordered(self.size if include_top else None, 3)
        if shape is None:
            return default
        shape = tuple(shape)
        if len(shape) != 3:
            raise ValueError(
                f"{name}: got input_shape={shape}, expected three numbers, as in "
                f"{ordered(self.size, 3)}."
            )
        channels, sizes = (shape[0], shape[1:]) if first else (shape[2], shape[:2])
        fixed = include_top and self.size is not None
        if weights == "imagenet" and (channels != 3 or (fixed and shape != default)):
            raise ValueError(
                f"{name}: got input_shape={shape}, expected {default} with weights='imagenet' and "
                f"include_top={include_top}."
            )
        if channels not in (1, 3):
            warnings.warn(
                f"{name}: an image has 1 or 3 channels, but input_shape={shape} has {channels}.",
                stacklevel=4,
            )
        if any(size is not None and size < self.smallest for size in sizes):
            raise ValueError(
                f"{name}: got input_shape={shape}, expected images of at least {self.smallest} x "
                f"{self.smallest} pixels."
            )
        if fixed and None in shape:
            raise ValueError(
                f"{name}: got input_shape={shape}, expected fixed sizes with include_top=True."
            )
        return shape


_ARGUMENTS = """

    Args:
        include_top: with the layers that classify.
        weights: "imagenet": what Keras has trained on ImageNet, downloaded once into Keras' folder
            of models. The path of a weights' file. None: random numbers.
        input_tensor: a symbolic tensor of images, instead of an input of the model's own.
        input_shape: (height, width, channels) of images; needed where sizes must be known, as for a
            `Flatten` behind the network.
        pooling: without the top: "avg" or "max" over each feature map, which gives (n, channels);
            None: the feature maps.
        classes: of the top; 1000 with trained weights.
        classifier_activation: of the top: "softmax", or None for logits.
        name: of the model.
"""
_RAISES = """
    Raises:
        ValueError: arguments that do not fit each other.
        ConnectionError: the weights are not here and cannot be downloaded.
    """


def trained_size(
    network: str, sizes: tuple[int, ...], alpha: float, alphas: tuple, shape: Any, weights: Any
) -> int:
    """For a network that was trained for several sizes: the one for images of `shape`.

    Args:
        network: its name, for errors.
        sizes: of images; the last is for all others.
        alpha: what multiplies the number of filters.
        alphas: those that were trained.
        shape: (height, width, channels) or None.
        weights: "imagenet", or others, which may be of any width.

    Raises:
        ValueError: no network with this `alpha` was trained.
    """
    if weights == "imagenet" and alpha not in alphas:
        raise ValueError(
            f"{network}: got alpha={alpha}, expected one of {', '.join(map(str, alphas))} with "
            "weights='imagenet'."
        )
    rows, columns = image_rows_and_columns(shape)
    return rows if rows == columns and rows in sizes else sizes[-1]  # type: ignore[return-value]


def image_rows_and_columns(shape: Any) -> tuple[int | None, int | None]:
    """Of an `input_shape`, where the channels are as the backend has them."""
    if shape is None or len(shape) != 3:
        return None, None
    return tuple(shape[1:] if backend.image_data_format() == "channels_first" else shape[:2])


def documented(about: str, *more: str) -> Callable[[Callable[..., Model]], Callable[..., Model]]:
    """Gives a network's function its documentation.

    Args:
        about: its first lines.
        more: about arguments besides the usual ones, "name: what it is".
    """

    def document(function: Callable[..., Model]) -> Callable[..., Model]:
        others = "".join(f"        {text}\n" for text in more)
        function.__doc__ = about + _ARGUMENTS + others + _RAISES
        return function

    return document


def network(title: str, about: str, blueprint: Blueprint) -> Callable[..., Model]:
    """The public function of a blueprint, with the arguments that Keras' functions have.

    Args:
        title: the function's name.
        about: the first lines of its documentation.
    """

    @documented(about)
    def build(
        include_top: bool = True,
        weights: Any = "imagenet",
        input_tensor: Any = None,
        input_shape: tuple | None = None,
        pooling: str | None = None,
        classes: int = _CLASSES,
        classifier_activation: Any = "softmax",
        name: str = blueprint.name,
    ) -> Model:
        return blueprint.build(
            include_top, weights, input_tensor, input_shape, pooling, classes,
            classifier_activation, name,
        )  # fmt: skip

    build.__name__ = build.__qualname__ = title
    return build
