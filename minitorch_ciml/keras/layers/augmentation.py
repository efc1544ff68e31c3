"""Layers that change images at random, in training only, so that a model sees more than there is.

Called by themselves they act, too, as in Keras: `RandomFlip()(images)`. Here are those that move
pixels; `colours.py` has those that change values, and `mixing.py` what is made of several images or
several layers.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minitorch_ciml import config
from minitorch_ciml.autograd import Tensor
from minitorch_ciml.autograd.tensor import FLOATS, as_array
from minitorch_ciml.keras.layers.image_boxes import mapped, scaled
from minitorch_ciml.keras.layers.images import ImageLayer, one_of
from minitorch_ciml.keras.layers.kernel_layer import positive
from minitorch_ciml.keras.layers.resampling import (
    FILL_MODES,
    INTERPOLATIONS,
    blurred,
    centre_box,
    homographies,
    resize,
    sampled,
    transformed,
)
from minitorch_ciml.keras.serialization import serializable
from minitorch_ciml.kernels import halves
from minitorch_ciml.ops import random


class ImageChange(ImageLayer):
    """A base of what changes images (N, H, W, C), or one of them, in training.

    `draw` gives the random numbers, and `change` applies them. Besides images a layer takes a
    dictionary with "images" and, along with them, "labels", "segmentation_masks" and
    "bounding_boxes", and changes what belongs together alike.

    Args:
        data_format: see `ImageLayer`.
    """

    always = False  # also when not in training
    moves_boxes = False  # whether there is a `change_boxes`

    def draw(self, n: int, height: int, width: int, channels: int) -> Any:
        """The random numbers for n images."""
        return None

    def change(self, images: np.ndarray, drawn: Any) -> np.ndarray:
        """Floats (N, H, W, C) -> the same."""
        raise NotImplementedError

    def change_masks(self, masks: np.ndarray, drawn: Any) -> np.ndarray:
        """Segmentation masks (N, H, W, 1), as floats."""
        return masks

    def change_labels(self, labels: np.ndarray, drawn: Any) -> np.ndarray:
        """Labels (N, ...)."""
        return labels

    def change_boxes(self, boxes: np.ndarray, drawn: Any, height: int, width: int) -> np.ndarray:
        """Boxes (N, K, 4) in images of that size; see `image_boxes`."""
        return boxes

    def call(self, inputs: Any, training: bool = True) -> Any:
        data = self._with_name(inputs)
        images = self._images(data["images"])
        images = images.astype(np.result_type(self.dtype_policy.arithmetic, "f4"), copy=False)
        acts = self.always or training
        drawn = self.draw(*images.shape) if acts else None
        changed = self.change(images, drawn) if acts else images
        results = {**data, "images": self._outputs(changed, data["images"])}
        if "segmentation_masks" in data:
            masks = self._images(data["segmentation_masks"])
            masks = self.change_masks(masks, drawn) if acts else masks
            results["segmentation_masks"] = self._outputs(masks, data["segmentation_masks"])
        if "labels" in data:
            results["labels"] = self._labels(data["labels"], data["images"], drawn, acts)
        if "bounding_boxes" in data:
            given = data["bounding_boxes"]
            results["bounding_boxes"] = self._boxes_of(given, data, results, drawn)
        return results if isinstance(inputs, dict) else results["images"]

    def _boxes_of(self, given: Any, before: dict, after: dict, drawn: Any) -> dict:
        """Bounding boxes in the images after the change; None was drawn if there is none."""

        def move(boxes: np.ndarray) -> np.ndarray:
            return self.change_boxes(boxes, drawn, *self._size_of(before["images"]))

        moves = self.moves_boxes and drawn is not None
        return self._moved_boxes(given, before["images"], after["images"], move if moves else None)

    def _labels(self, labels: Any, images: Any, drawn: Any, acts: bool) -> Tensor:
        given = as_array(labels)
        if not acts:
            return Tensor.constant(given)
        array, single = halves.wide(given), len(images.shape) == 3
        array = self.change_labels(array[None] if single else array, drawn)
        array = array[0] if single else array
        dtype = given.dtype if given.dtype.kind in FLOATS else array.dtype
        return Tensor.constant(array.astype(dtype, copy=False))

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return input_shape


class RandomImages(ImageChange):
    """A base of what needs random numbers.

    They are the same however many ranks share a batch.

    Args:
        seed: an integer that fixes them.
        data_format: see `ImageLayer`.
    """

    def __init__(self, seed: int | None = None, data_format: str | None = None, **kwargs: Any):
        super().__init__(data_format, **kwargs)
        self.seed = seed
        # 32 bits, because a saved model has no room for more.
        drawn = random.draw_seed() & 0xFFFFFFFF if seed is None else seed
        self.generator = random.SeedGenerator(drawn, name="seed_generator")

    def _draw(
        self, n: int, limits: tuple[float, float] = (0.0, 1.0), shape: tuple = ()
    ) -> np.ndarray:
        """Numbers for each image, (n, *shape); where ranks share a batch, those of this rank's."""
        first, total = _rows(n)
        drawn = random.uniform((total, *shape), *limits, dtype="float32", seed=self.generator)
        return drawn.numpy()[first : first + n]

    def _draw_one(self, limits: tuple[float, float]) -> float:
        """A number for all images of a batch."""
        return random.uniform((), *limits, dtype="float32", seed=self.generator).item()

    def _normal(self, n: int, shape: tuple) -> np.ndarray:
        """Normal numbers for each image, (n, *shape)."""
        first, total = _rows(n)
        drawn = random.normal((total, *shape), dtype="float32", seed=self.generator)
        return drawn.numpy()[first : first + n]

    def _chosen(self, n: int, limits: tuple[float, float]) -> np.ndarray:
        """Which images are changed, with a probability between the limits: (n, 1, 1, 1)."""
        probability = self._draw(n, limits)
        return (self._draw(n) < probability)[:, None, None, None]

    def _limits(
        self, name: str, factor: Any, bounds: tuple[float, float] = (-1, 1)
    ) -> tuple[float, float]:
        """A factor as the lowest and the highest: one number stands for minus it to it, as far as
        the bounds go."""
        pair = factor if isinstance(factor, (tuple, list)) else (max(-factor, bounds[0]), factor)
        if len(pair) != 2 or not all(bounds[0] <= x <= bounds[1] for x in pair):
            raise ValueError(
                f"{type(self).__name__}: {name} must be a number or two between {bounds[0]} and "
                f"{bounds[1]}, got {factor!r}."
            )
        low, high = sorted(map(float, pair))
        return low, high


def _rows(n: int) -> tuple[int, int]:
    """The number of the first of n images in the whole batch, and that of all its images."""
    rows = config.part.get()
    return (0, n) if rows is None else (rows.scaled(n).first, rows.scaled(n).total)


@serializable("keras.layers")
class RandomFlip(RandomImages):
    """Mirrors every second image, at random.

    Args:
        mode: "horizontal" (left and right), "vertical", or "horizontal_and_vertical" for both.
        seed: an integer that fixes the choice.
        data_format: see `ImageLayer`.
    """

    moves_boxes = True

    def __init__(
        self,
        mode: str = "horizontal_and_vertical",
        seed: int | None = None,
        data_format: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(seed, data_format, **kwargs)
        modes = ("horizontal", "vertical", "horizontal_and_vertical")
        self.mode = one_of("RandomFlip", "mode", mode, modes)

    def draw(self, n: int, height: int, width: int, channels: int) -> np.ndarray:
        return self._draw(n) <= 0.5

    def change(self, images: np.ndarray, drawn: Any) -> np.ndarray:
        flipped = images[:, :, ::-1] if "horizontal" in self.mode else images
        flipped = flipped[:, ::-1] if "vertical" in self.mode else flipped
        return np.where(drawn[:, None, None, None], flipped, images)

    def change_masks(self, masks: np.ndarray, drawn: Any) -> np.ndarray:
        return self.change(masks, drawn)

    def change_boxes(self, boxes: np.ndarray, drawn: Any, height: int, width: int) -> np.ndarray:
        x1, y1, x2, y2 = np.moveaxis(boxes, -1, 0)
        if "horizontal" in self.mode:
            x1, x2 = width - x2, width - x1
        if "vertical" in self.mode:
            y1, y2 = height - y2, height - y1
        return np.where(drawn[:, None, None], np.stack([x1, y1, x2, y2], axis=-1), boxes)


@serializable("keras.layers")
class RandomCrop(RandomImages):
    """A part of the images, `height` x `width`, at one place for the whole batch.

    When not in training, or where images are not larger in both directions, it is the middle, and
    what is too small then is enlarged.

    Args:
        height, width: the size.
        seed: an integer that fixes the places.
        data_format: see `ImageLayer`.
    """

    always = True
    moves_boxes = True

    def __init__(
        self, height: int, width: int, seed: int | None = None, data_format: str | None = None,
        **kwargs: Any,
    ):  # fmt: skip
        super().__init__(seed, data_format, **kwargs)
        self.height = positive("RandomCrop", "height", height)
        self.width = positive("RandomCrop", "width", width)
        self._at_random = True

    def call(self, inputs: Any, training: bool = True) -> Any:
        self._at_random = training
        return super().call(inputs, training)

    def draw(self, n: int, height: int, width: int, channels: int) -> Any:
        if not (self._at_random and height > self.height and width > self.width):
            rows, columns = centre_box((height, width), (self.height, self.width))
            return rows.start, columns.start
        return [int(self._draw_one((0.0, size - own + 1.0)))
                for size, own in ((height, self.height), (width, self.width))]  # fmt: skip

    def change(self, images: np.ndarray, drawn: Any) -> np.ndarray:
        return self._part(images, drawn, "bilinear")

    def change_masks(self, masks: np.ndarray, drawn: Any) -> np.ndarray:
        return self._part(masks, drawn, "nearest")

    def _part(self, images: np.ndarray, drawn: Any, interpolation: str) -> np.ndarray:
        top, left = drawn
        part = images[:, top : top + self.height, left : left + self.width]
        return resize(part, (self.height, self.width), interpolation)

    def change_boxes(self, boxes: np.ndarray, drawn: Any, height: int, width: int) -> np.ndarray:
        top, left = drawn
        across = self.width / min(self.width, width - left)
        down = self.height / min(self.height, height - top)
        return scaled(boxes, across, down, left * across, top * down)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return self._sized(input_shape, self.height, self.width)


class _Moving(RandomImages):
    """A base of what reads the images off at other places (`resampling.transformed`).

    Args:
        fill_mode: what there is outside of an image: "reflect", "wrap", "constant" or "nearest".
        interpolation: "bilinear" or "nearest".
        seed: an integer that fixes the random numbers.
        fill_value: for "constant".
        data_format: see `ImageLayer`.
    """

    moves_boxes = True

    def __init__(
        self,
        fill_mode: str = "reflect",
        interpolation: str = "bilinear",
        seed: int | None = None,
        fill_value: float = 0.0,
        data_format: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(seed, data_format, **kwargs)
        name = type(self).__name__
        self.fill_mode = one_of(name, "fill_mode", fill_mode, FILL_MODES)
        self.interpolation = one_of(name, "interpolation", interpolation, INTERPOLATIONS)
        self.fill_value = fill_value

    def matrices(self, n: int, height: int, width: int) -> tuple:
        """a0, a1, a2, b0, b1, b2 for every image, each a number or (n,)."""
        raise NotImplementedError

    def draw(self, n: int, height: int, width: int, channels: int) -> np.ndarray:
        rows = [np.broadcast_to(entry, (n,)) for entry in self.matrices(n, height, width)]
        return np.stack(rows, axis=1)

    def change(self, images: np.ndarray, drawn: Any) -> np.ndarray:
        return transformed(images, drawn, self.interpolation, self.fill_mode, self.fill_value)

    def change_masks(self, masks: np.ndarray, drawn: Any) -> np.ndarray:
        return transformed(masks, drawn, "nearest", self.fill_mode, self.fill_value)

    def change_boxes(self, boxes: np.ndarray, drawn: Any, height: int, width: int) -> np.ndarray:
        return mapped(boxes, drawn)


@serializable("keras.layers")
class RandomRotation(_Moving):
    """Turns every image by an angle of its own.

    Args:
        factor: the share of a full turn: a number for -factor to factor, or (lowest, highest).
        fill_mode, interpolation, seed, fill_value, data_format: as in `RandomZoom`.
    """

    def __init__(
        self, factor: Any, fill_mode: str = "reflect", interpolation: str = "bilinear",
        seed: int | None = None, fill_value: float = 0.0, data_format: str | None = None,
        **kwargs: Any,
    ):  # fmt: skip
        super().__init__(fill_mode, interpolation, seed, fill_value, data_format, **kwargs)
        self.factor = self._limits("factor", factor)

    def matrices(self, n: int, height: int, width: int) -> tuple:
        angle = self._draw(n, self.factor).astype("float64") * 2 * np.pi
        cos, sin = np.cos(angle), np.sin(angle)
        x, y = (width - 1) / 2, (height - 1) / 2  # the point that stays
        return cos, -sin, x - x * cos + y * sin, sin, cos, y - x * sin - y * cos


@serializable("keras.layers")
class RandomZoom(_Moving):
    """Enlarges or shrinks every image.

    Args:
        height_factor: a number f for 1 - f to 1 + f times the height, or (lowest, highest) for
            other limits; negative factors zoom in.
        width_factor: likewise; as the height if left out, which keeps the proportions.
        fill_mode: what there is outside of an image: "reflect", "wrap", "constant" or "nearest".
        interpolation: "bilinear" or "nearest".
        seed: an integer that fixes the random numbers.
        fill_value: for "constant".
        data_format: see `ImageLayer`.
    """

    def __init__(
        self, height_factor: Any, width_factor: Any = None, fill_mode: str = "reflect",
        interpolation: str = "bilinear", seed: int | None = None, fill_value: float = 0.0,
        data_format: str | None = None, **kwargs: Any,
    ):  # fmt: skip
        super().__init__(fill_mode, interpolation, seed, fill_value, data_format, **kwargs)
        self.height_factor = height_factor
        self.width_factor = width_factor
        self._height_limits = self._limits("height_factor", height_factor)
        self._width_limits = None
        if width_factor is not None:
            self._width_limits = self._limits("width_factor", width_factor)

    def matrices(self, n: int, height: int, width: int) -> tuple:
        zoom_y = 1 + self._draw(n, self._height_limits)
        zoom_x = zoom_y
        if self._width_limits is not None:
            zoom_x = 1 + self._draw(n, self._width_limits)
        return (zoom_x, 0, (width - 1) / 2 * (1 - zoom_x),
                0, zoom_y, (height - 1) / 2 * (1 - zoom_y))  # fmt: skip


@serializable("keras.layers")
class RandomTranslation(_Moving):
    """Shifts every image.

    Args:
        height_factor: the share of the height: a number for -factor (up) to factor (down), or
            (lowest, highest).
        width_factor: the share of the width, likewise (negative to the left).
        fill_mode, interpolation, seed, fill_value, data_format: as in `RandomZoom`.
    """

    def __init__(
        self, height_factor: Any, width_factor: Any, fill_mode: str = "reflect",
        interpolation: str = "bilinear", seed: int | None = None, fill_value: float = 0.0,
        data_format: str | None = None, **kwargs: Any,
    ):  # fmt: skip
        super().__init__(fill_mode, interpolation, seed, fill_value, data_format, **kwargs)
        self.height_factor = height_factor
        self.width_factor = width_factor
        self._height_limits = self._limits("height_factor", height_factor)
        self._width_limits = self._limits("width_factor", width_factor)

    def matrices(self, n: int, height: int, width: int) -> tuple:
        down = self._draw(n, self._height_limits) * height
        right = self._draw(n, self._width_limits) * width
        return 1, 0, -right, 0, 1, -down


@serializable("keras.layers")
class RandomShear(_Moving):
    """Slants every image, along both axes in one direction.

    Args:
        x_factor, y_factor: the shear: a number for -factor to factor, or (lowest, highest).
        interpolation, fill_mode, fill_value, data_format, seed: as in `RandomZoom`.
    """

    def __init__(
        self, x_factor: Any = 0.0, y_factor: Any = 0.0, interpolation: str = "bilinear",
        fill_mode: str = "reflect", fill_value: float = 0.0, data_format: str | None = None,
        seed: int | None = None, **kwargs: Any,
    ):  # fmt: skip
        super().__init__(fill_mode, interpolation, seed, fill_value, data_format, **kwargs)
        self.x_factor, self.y_factor = x_factor, y_factor
        self._x_limits = self._limits("x_factor", x_factor)
        self._y_limits = self._limits("y_factor", y_factor)

    def matrices(self, n: int, height: int, width: int) -> tuple:
        sign = np.where(self._draw(n) > 0.5, -1, 1)
        across, down = self._draw(n, self._x_limits) * sign, self._draw(n, self._y_limits) * sign
        return 1, across, 0, down, 1, 0


@serializable("keras.layers")
class RandomPerspective(RandomImages):
    """Moves the corners of images, as if they were seen from another side.

    Args:
        factor: the probability with which an image is changed: up to a number, or between two.
        scale: how far corners move, as a share of their place: up to half of it.
        interpolation: "bilinear" or "nearest".
        fill_value: what there is outside of an image.
        seed: an integer that fixes the random numbers.
        data_format: see `ImageLayer`.
    """

    moves_boxes = True

    def __init__(
        self, factor: Any = 1.0, scale: float = 1.0, interpolation: str = "bilinear",
        fill_value: float = 0.0, seed: int | None = None, data_format: str | None = None,
        **kwargs: Any,
    ):  # fmt: skip
        super().__init__(seed, data_format, **kwargs)
        self.factor = self._limits("factor", factor, (0, 1))
        if not 0 <= scale <= 1:
            raise ValueError(f"RandomPerspective: scale must be between 0 and 1, got {scale!r}.")
        self.scale = scale
        self.interpolation = one_of("RandomPerspective", "interpolation", interpolation,
                                    INTERPOLATIONS)  # fmt: skip
        self.fill_value = fill_value

    def draw(self, n: int, height: int, width: int, channels: int) -> Any:
        chosen = self._chosen(n, self.factor)
        shift = self._draw(n, (-0.5 * self.scale, 0.5 * self.scale), (4, 2))
        right, bottom = width - 1.0, height - 1.0
        corners = np.array([[[0, 0], [right, 0], [0, bottom], [right, bottom]]])
        return chosen, homographies(np.repeat(corners, n, axis=0), corners + corners * shift)

    def change(self, images: np.ndarray, drawn: Any) -> np.ndarray:
        return self._seen(images, drawn, self.interpolation)

    def change_masks(self, masks: np.ndarray, drawn: Any) -> np.ndarray:
        return self._seen(masks, drawn, "nearest")

    def _seen(self, images: np.ndarray, drawn: Any, interpolation: str) -> np.ndarray:
        chosen, matrices = drawn
        seen = transformed(images, matrices, interpolation, "constant", self.fill_value)
        return np.where(chosen, seen, images)

    def change_boxes(self, boxes: np.ndarray, drawn: Any, height: int, width: int) -> np.ndarray:
        chosen, matrices = drawn
        return np.where(chosen[..., 0], mapped(boxes, matrices), boxes)


@serializable("keras.layers")
class RandomElasticTransform(_Moving):
    """Bends images by a smooth field of shifts (Simard, Steinkraus and Platt, 2003).

    With a strength s, the field is noise of standard deviation d = 0.05 s min(H, W) under a
    Gaussian of the same d, times 0.1 s max(H, W).

    Args:
        factor: the probability with which an image is changed: up to a number, or between two.
        scale: s: up to a number, or between two.
        interpolation, fill_mode, fill_value, seed, data_format: as in `RandomZoom`.
        value_range: results are kept in it.
    """

    def __init__(
        self, factor: Any = 1.0, scale: Any = 1.0, interpolation: str = "bilinear",
        fill_mode: str = "reflect", fill_value: float = 0.0, value_range: Any = (0, 255),
        seed: int | None = None, data_format: str | None = None, **kwargs: Any,
    ):  # fmt: skip
        super().__init__(fill_mode, interpolation, seed, fill_value, data_format, **kwargs)
        self.factor = self._limits("factor", factor, (0, 1))
        self.scale = self._limits("scale", scale, (0, 1))
        self.value_range = value_range

    def draw(self, n: int, height: int, width: int, channels: int) -> Any:
        chosen = self._chosen(n, self.factor)
        strength = self._draw_one(self.scale)
        deviation = 0.05 * strength * min(height, width)
        field = self._normal(n, (height, width, 2)) * deviation
        if deviation:
            size = int(6 * deviation) | 1
            field = blurred(field, (size, size), (deviation, deviation))
        return chosen, field * (0.1 * strength * max(height, width))

    def change(self, images: np.ndarray, drawn: Any) -> np.ndarray:
        return np.clip(self._bent(images, drawn, self.interpolation), *self.value_range)

    def change_masks(self, masks: np.ndarray, drawn: Any) -> np.ndarray:
        return self._bent(masks, drawn, "nearest")

    def _bent(self, images: np.ndarray, drawn: Any, interpolation: str) -> np.ndarray:
        chosen, field = drawn
        y, x = np.mgrid[: images.shape[1], : images.shape[2]].astype(images.dtype)
        bent = sampled(
            images, y + field[..., 0], x + field[..., 1], interpolation, self.fill_mode,
            self.fill_value,
        )  # fmt: skip
        return np.where(chosen, bent, images)

    def change_boxes(self, boxes: np.ndarray, drawn: Any, height: int, width: int) -> np.ndarray:
        raise NotImplementedError(no_boxes(self))


def no_boxes(layer: Any) -> str:
    """The message of a layer under which boxes are no boxes any more."""
    return f"{type(layer).__name__} does not take bounding boxes; give it the images without them."
