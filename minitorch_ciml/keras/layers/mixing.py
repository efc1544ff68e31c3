"""Augmentation by several images (MixUp, CutMix), holes (RandomErasing) or several layers."""

from __future__ import annotations

from typing import Any

import numpy as np

from minitorch_ciml.autograd import Tensor
from minitorch_ciml.keras.layers.augmentation import (
    RandomImages,
    RandomRotation,
    RandomShear,
    RandomTranslation,
    no_boxes,
)
from minitorch_ciml.keras.layers.colours import (
    BYTES,
    AutoContrast,
    Equalization,
    RandomBrightness,
    RandomColorDegeneration,
    RandomContrast,
    RandomHue,
    RandomPosterization,
    RandomSaturation,
    RandomSharpness,
    Solarization,
    checked_range,
)
from minitorch_ciml.keras.layers.layer import Layer
from minitorch_ciml.keras.serialization import deserialize_keras_object, serializable
from minitorch_ciml.ops import random


class _Mixed(RandomImages):
    """A base of what puts two images of a batch together, and their labels.

    The partners come from the images at hand: where ranks share a batch, from the rank's part.
    """

    def _partners(self, n: int) -> np.ndarray:
        return random.shuffle(np.arange(n), seed=self.generator).numpy()

    def _weights(self, n: int, alpha: float) -> np.ndarray:
        """Numbers with the beta distribution, one for each image."""
        return random.beta((n,), alpha, alpha, dtype="float32", seed=self.generator).numpy()


@serializable("keras.layers")
class MixUp(_Mixed):
    """y = w x + (1 - w) x' with another image x', and the labels alike (Zhang et al. 2018).

        mixed = MixUp(alpha=0.2)({"images": images, "labels": one_hot_labels})

    Where ranks share a batch, x' comes from the rank's part of it.

    Args:
        alpha: w has the distribution beta(alpha, alpha).
        data_format: see `ImageLayer`.
        seed: an integer that fixes the random numbers.
    """

    def __init__(
        self, alpha: float = 0.2, data_format: str | None = None, seed: int | None = None,
        **kwargs: Any,
    ):  # fmt: skip
        super().__init__(seed, data_format, **kwargs)
        if alpha <= 0:
            raise ValueError(f"MixUp: alpha must be positive, got {alpha!r}.")
        self.alpha = alpha

    def draw(self, n: int, height: int, width: int, channels: int) -> Any:
        return self._partners(n), self._weights(n, self.alpha)

    def change(self, images: np.ndarray, drawn: Any) -> np.ndarray:
        return _between(images, *drawn)

    def change_masks(self, masks: np.ndarray, drawn: Any) -> np.ndarray:
        return self.change(masks, drawn)

    def change_labels(self, labels: np.ndarray, drawn: Any) -> np.ndarray:
        return _between(labels, *drawn)

    def _boxes_of(self, given: Any, before: dict, after: dict, drawn: Any) -> dict:
        boxes = super()._boxes_of(given, before, after, drawn)
        if drawn is None or boxes["labels"].ndim == 1:
            return boxes
        both = {k: (x.numpy(), x.numpy()[drawn[0]]) for k, x in boxes.items()}
        return {k: Tensor.constant(np.concatenate(pair, axis=1)) for k, pair in both.items()}


def _between(a: np.ndarray, partners: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """w a + (1 - w) of the partners."""
    w = weights.reshape(-1, *[1] * (a.ndim - 1)).astype(a.dtype if a.dtype.kind == "f" else "f4")
    return w * a + (1 - w) * a[partners]


def _boxes(layer: RandomImages, shares: np.ndarray, height: int, width: int) -> tuple:
    """A box in each image.

    Args:
        layer: draws the places.
        shares: of the width and the height, (n, 2).

    Returns:
        Which pixels are in the box, (n, H, W, 1), and the share of the area.
    """
    n = len(shares)
    sizes = np.array([width, height], "float32")
    lengths = shares * sizes
    begins = layer._draw(n, shape=(2,)) * (sizes - lengths)
    ends = begins + lengths
    inside = []
    for axis, size in enumerate((width, height)):
        place = np.arange(size)
        inside.append((place >= begins[:, axis, None]) & (place < ends[:, axis, None]))
    across, down = inside
    area = (lengths / sizes).prod(axis=1)
    return (down[:, :, None] & across[:, None, :])[..., None], area


@serializable("keras.layers")
class CutMix(_Mixed):
    """A box of every image comes from another one; labels are mixed by area (Yun et al. 2019).

        mixed = CutMix()({"images": images, "labels": one_hot_labels})

    Where ranks share a batch, the other image comes from the rank's part of it.

    Args:
        factor: the share of the image that is kept has the distribution beta(a, a), with a up to
            a number, or between two.
        seed: an integer that fixes the random numbers.
        data_format: see `ImageLayer`.
    """

    moves_boxes = True

    def __init__(
        self, factor: Any = 1.0, seed: int | None = None, data_format: str | None = None,
        **kwargs: Any,
    ):  # fmt: skip
        super().__init__(seed, data_format, **kwargs)
        self.factor = self._limits("factor", factor, (0, 1))

    def draw(self, n: int, height: int, width: int, channels: int) -> Any:
        alpha = self._draw_one(self.factor) + 1e-6
        side = np.sqrt(1 - self._weights(n, alpha))
        inside, area = _boxes(self, np.stack([side, side], axis=1), height, width)
        return self._partners(n), inside, 1 - area

    def change(self, images: np.ndarray, drawn: Any) -> np.ndarray:
        partners, inside, _ = drawn
        return np.where(inside, images[partners], images)

    def change_masks(self, masks: np.ndarray, drawn: Any) -> np.ndarray:
        return self.change(masks, drawn)

    def change_labels(self, labels: np.ndarray, drawn: Any) -> np.ndarray:
        partners, _, kept = drawn
        return _between(labels, partners, kept)

    def change_boxes(self, boxes: np.ndarray, drawn: Any, height: int, width: int) -> np.ndarray:
        raise NotImplementedError(no_boxes(self))


@serializable("keras.layers")
class RandomErasing(RandomImages):
    """Covers a box of some images with noise or a value (Zhong et al. 2020).

    Args:
        factor: the probability: up to a number, or between two.
        scale: of the box: the squares of its width and its height as shares of the image's, up to
            a number or between two.
        fill_value: a number, or one for each of three channels; None for normal noise with the
            standard deviation of the highest value.
        value_range: (lowest, highest), such as (0, 255) or (0, 1).
        seed: an integer that fixes the random numbers.
        data_format: see `ImageLayer`.
    """

    def __init__(
        self, factor: Any = 1.0, scale: Any = (0.02, 0.33), fill_value: Any = None,
        value_range: Any = BYTES, seed: int | None = None, data_format: str | None = None,
        **kwargs: Any,
    ):  # fmt: skip
        super().__init__(seed, data_format, **kwargs)
        self.factor = self._limits("factor", factor, (0, 1))
        self.scale = self._limits("scale", scale, (0, 1))
        self.fill_value = fill_value
        self.value_range = checked_range("RandomErasing", value_range)

    def draw(self, n: int, height: int, width: int, channels: int) -> Any:
        inside, _ = _boxes(self, np.sqrt(self._draw(n, self.scale, (2,))), height, width)
        covered = inside & self._chosen(n, self.factor)
        if self.fill_value is not None:
            return covered, self.fill_value
        return covered, self._normal(n, (height, width, channels)) * self.value_range[1]

    def change(self, images: np.ndarray, drawn: Any) -> np.ndarray:
        covered, filling = drawn
        filling = np.clip(np.asarray(filling, images.dtype), *self.value_range)
        return np.where(covered, filling, images)


# --- several layers -------------------------------------------------------------------------------


class _Several(RandomImages):
    """A base of what applies other layers.

    `draw` gives pairs of a layer and what it has drawn.
    """

    def change(self, images: np.ndarray, drawn: Any) -> np.ndarray:
        for layer, own in drawn:
            images = layer.change(images, own)
        return images

    def change_masks(self, masks: np.ndarray, drawn: Any) -> np.ndarray:
        for layer, own in drawn:
            masks = layer.change_masks(masks, own)
        return masks

    def change_boxes(self, boxes: np.ndarray, drawn: Any, height: int, width: int) -> np.ndarray:
        for layer, own in drawn:
            boxes = layer.change_boxes(boxes, own, height, width)
        return boxes

    def _make_all(self, factor: tuple, value_range: Any, interpolation: str) -> list[str]:
        """Makes the layers of RandAugment and AugMix; their names."""
        one: dict[str, Any] = {"seed": self.seed, "data_format": self.data_format}
        ranged = {**one, "value_range": value_range}
        moving = {**one, "interpolation": interpolation}
        self.random_shear = RandomShear(factor, factor, **moving)
        self.random_translation = RandomTranslation(factor, factor, **moving)
        self.random_rotation = RandomRotation(factor, **moving)
        self.random_brightness = RandomBrightness(factor, **ranged)
        self.random_color_degeneration = RandomColorDegeneration(factor, **ranged)
        self.random_contrast = RandomContrast(factor, **ranged)
        self.random_sharpness = RandomSharpness(factor, **ranged)
        self.random_posterization = RandomPosterization(max(1, int(8 * factor[1])), **ranged)
        self.solarization = Solarization(factor, factor, **ranged)
        self.auto_contrast = AutoContrast(value_range, data_format=self.data_format)
        self.equalization = Equalization(value_range, data_format=self.data_format)
        return [name for name, value in self.__dict__.items() if isinstance(value, Layer)]


@serializable("keras.layers")
class RandomColorJitter(_Several):
    """RandomBrightness, RandomContrast, RandomSaturation and RandomHue, those that have a factor.

    Args:
        value_range: (lowest, highest), such as (0, 255) or (0, 1).
        brightness_factor, contrast_factor, saturation_factor, hue_factor: the layers' factors.
        seed: an integer that fixes the random numbers.
        data_format: see `ImageLayer`.
    """

    def __init__(
        self, value_range: Any = BYTES, brightness_factor: Any = None, contrast_factor: Any = None,
        saturation_factor: Any = None, hue_factor: Any = None, seed: int | None = None,
        data_format: str | None = None, **kwargs: Any,
    ):  # fmt: skip
        super().__init__(seed, data_format, **kwargs)
        self.value_range = checked_range("RandomColorJitter", value_range)
        self.brightness_factor, self.contrast_factor = brightness_factor, contrast_factor
        self.saturation_factor, self.hue_factor = saturation_factor, hue_factor
        self._names = []
        for name, kind in {"brightness": RandomBrightness, "contrast": RandomContrast,
                           "saturation": RandomSaturation, "hue": RandomHue}.items():  # fmt: skip
            factor = getattr(self, f"{name}_factor")
            if factor is not None:
                layer = kind(factor, value_range=self.value_range, seed=seed,
                             data_format=data_format)  # fmt: skip
                setattr(self, f"random_{name}", layer)
                self._names.append(f"random_{name}")

    def draw(self, n: int, height: int, width: int, channels: int) -> Any:
        chosen = [getattr(self, name) for name in self._names]
        return [(layer, layer.draw(n, height, width, channels)) for layer in chosen]


@serializable("keras.layers")
class RandAugment(_Several):
    """Applies a few layers that are drawn for every batch (Cubuk et al. 2020).

    Out of: shear, translation, rotation, brightness, colour degeneration, contrast, sharpness,
    posterization, solarization, auto-contrast, equalization.

    Args:
        value_range: (lowest, highest), such as (0, 255) or (0, 1).
        num_ops: how many.
        factor: their factor: up to a number, or between two; from 0 to 1.
        interpolation: "bilinear" or "nearest".
        seed: an integer that fixes the random numbers.
        data_format: see `ImageLayer`.
    """

    moves_boxes = True

    def __init__(
        self, value_range: Any = BYTES, num_ops: int = 2, factor: Any = 0.5,
        interpolation: str = "bilinear", seed: int | None = None, data_format: str | None = None,
        **kwargs: Any,
    ):  # fmt: skip
        super().__init__(seed, data_format, **kwargs)
        self.value_range = checked_range("RandAugment", value_range)
        self.num_ops = num_ops
        self.factor = self._limits("factor", factor, (0, 1))
        self.interpolation = interpolation
        self._names = self._make_all(self.factor, self.value_range, interpolation)

    def draw(self, n: int, height: int, width: int, channels: int) -> Any:
        numbers = random.randint((self.num_ops,), 0, len(self._names), seed=self.generator)
        chosen = [getattr(self, self._names[i]) for i in numbers.numpy()]
        return [(layer, layer.draw(n, height, width, channels)) for layer in chosen]


@serializable("keras.layers")
class AugMix(_Several):
    """Mixes images with the results of chains of layers (Hendrycks et al. 2020).

    y = m x + (1 - m) (w1 chain1(x) + w2 chain2(x) + ...), where m has the distribution
    beta(alpha, alpha), w the Dirichlet distribution of alpha, and a link of a chain is one of the
    layers of `RandAugment`, or none. They are drawn for every batch.

    Args:
        value_range: (lowest, highest), such as (0, 255) or (0, 1).
        num_chains, chain_depth: how many chains, and links in each.
        factor: the layers' factor: up to a number, or between two; from 0 to 1.
        alpha: see above.
        all_ops: False leaves out brightness, colour degeneration, contrast and sharpness.
        interpolation: "bilinear" or "nearest".
        seed: an integer that fixes the random numbers.
        data_format: see `ImageLayer`.
    """

    def __init__(
        self, value_range: Any = BYTES, num_chains: int = 3, chain_depth: int = 3,
        factor: Any = 0.3, alpha: float = 1.0, all_ops: bool = True,
        interpolation: str = "bilinear", seed: int | None = None, data_format: str | None = None,
        **kwargs: Any,
    ):  # fmt: skip
        super().__init__(seed, data_format, **kwargs)
        self.value_range = checked_range("AugMix", value_range)
        self.num_chains, self.chain_depth = num_chains, chain_depth
        self.factor = self._limits("factor", factor, (0, 1))
        self.alpha = alpha
        self.all_ops = all_ops
        self.interpolation = interpolation
        names = self._make_all(self.factor, self.value_range, interpolation)
        colours = ("brightness", "color_degeneration", "contrast", "sharpness")
        self._names = [n for n in names if all_ops or n.removeprefix("random_") not in colours]

    def draw(self, n: int, height: int, width: int, channels: int) -> Any:
        shape = (self.num_chains, self.chain_depth)
        numbers = random.randint(shape, 0, len(self._names) + 1, seed=self.generator).numpy()
        chains = []
        for links in numbers:
            chosen = [getattr(self, self._names[i]) for i in links if i < len(self._names)]
            chains.append([(layer, layer.draw(n, height, width, channels)) for layer in chosen])
        gamma = random.gamma((self.num_chains,), self.alpha, seed=self.generator).numpy()
        kept = random.beta((), self.alpha, self.alpha, seed=self.generator).item()
        return chains, gamma / gamma.sum(), kept

    def change(self, images: np.ndarray, drawn: Any) -> np.ndarray:
        chains, weights, kept = drawn
        results = (w * _Several.change(self, images, chain) for w, chain in zip(weights, chains))
        mixed = kept * images + (1 - kept) * np.sum(list(results), axis=0)
        return np.clip(mixed, *self.value_range).astype(images.dtype)

    def change_masks(self, masks: np.ndarray, drawn: Any) -> np.ndarray:
        return masks


@serializable("keras.layers")
class Pipeline(Layer):
    """Layers one after the other, as one layer; also on dictionaries of images and labels.

    Args:
        layers: in order.
    """

    def __init__(self, layers: Any, name: str | None = None):
        super().__init__(name=name)
        self.layers = list(layers)
        self.built = True

    def call(self, inputs: Any, training: bool = True) -> Any:
        for layer in self.layers:
            takes = "training" in layer._call_names
            inputs = layer(inputs, training=training) if takes else layer(inputs)
        return inputs

    def get_config(self) -> dict:
        return {"name": self.name, "layers": self.layers}

    @classmethod
    def from_config(cls, config: dict) -> Any:
        layers = [deserialize_keras_object(layer) for layer in config["layers"]]
        return cls(layers, name=config.get("name"))
