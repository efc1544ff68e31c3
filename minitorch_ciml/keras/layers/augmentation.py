"""Layers that change images at random, in training only, so that a model sees more than there is.

Called by themselves they act, too, as in Keras: `RandomFlip()(images)`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minitorch_ciml import config
from minitorch_ciml.keras.layers.images import ImageLayer, one_of
from minitorch_ciml.keras.layers.resampling import FILL_MODES, INTERPOLATIONS, affine
from minitorch_ciml.keras.serialization import serializable
from minitorch_ciml.ops import random


class _RandomImages(ImageLayer):
    """A base: `change(images)` gets and gives floats (N, H, W, C)."""

    def __init__(self, seed: int | None = None, data_format: str | None = None, **kwargs: Any):
        super().__init__(data_format, **kwargs)
        self.seed = seed
        # 32 bits, because a saved model has no room for more.
        drawn = random.draw_seed() & 0xFFFFFFFF if seed is None else seed
        self.generator = random.SeedGenerator(drawn, name="seed_generator")

    def change(self, images: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def call(self, inputs: Any, training: bool = True) -> Any:
        images = self._images(inputs).astype(self.compute_dtype, copy=False)
        return self._outputs(self.change(images) if training else images, inputs)

    def _draw(self, n: int, limits: tuple[float, float] = (0.0, 1.0)) -> np.ndarray:
        """A number for each image; where ranks share a batch, those of this rank's images."""
        rows = config.part.get()
        first, total = (0, n) if rows is None else (rows.scaled(n).first, rows.scaled(n).total)
        drawn = random.uniform((total,), *limits, dtype="float32", seed=self.generator)
        return drawn.numpy()[first : first + n]

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return input_shape


@serializable("keras.layers")
class RandomFlip(_RandomImages):
    """Mirrors every second image, at random.

    Args:
        mode: "horizontal" (left and right), "vertical", or "horizontal_and_vertical" for both.
        seed: an integer that fixes the choice.
        data_format: see `ImageLayer`.
    """

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

    def change(self, images: np.ndarray) -> np.ndarray:
        flipped = images[:, :, ::-1] if "horizontal" in self.mode else images
        flipped = flipped[:, ::-1] if "vertical" in self.mode else flipped
        chosen = self._draw(len(images)) <= 0.5
        return np.where(chosen[:, None, None, None], flipped, images)


class _Moving(_RandomImages):
    """A base of what reads the images off at other places (`resampling.affine`).

    Args:
        fill_mode: what there is outside of an image: "reflect", "wrap", "constant" or "nearest".
        interpolation: "bilinear" or "nearest".
        seed: an integer that fixes the random numbers.
        fill_value: for "constant".
        data_format: see `ImageLayer`.
    """

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

    def change(self, images: np.ndarray) -> np.ndarray:
        n, height, width, _ = images.shape
        rows = [np.broadcast_to(entry, (n,)) for entry in self.matrices(n, height, width)]
        matrices = np.stack(rows, axis=1)
        return affine(images, matrices, self.interpolation, self.fill_mode, self.fill_value)

    def _limits(self, name: str, factor: Any) -> tuple[float, float]:
        """A factor as the lowest and the highest: of one number, minus it and it."""
        pair = factor if isinstance(factor, (tuple, list)) else (-abs(factor), abs(factor))
        if len(pair) != 2 or not all(-1 <= x <= 1 for x in pair):
            raise ValueError(
                f"{type(self).__name__}: {name} must be a number or two between -1 and 1, got "
                f"{factor!r}."
            )
        low, high = sorted(map(float, pair))
        return low, high


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
