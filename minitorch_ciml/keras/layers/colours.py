"""Layers that change the values of images, at random or not: brightness, contrast, colours.

Most take `value_range`, the range of the values in the images, and keep results in it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minitorch_ciml.keras.layers.augmentation import ImageChange, RandomImages
from minitorch_ciml.keras.layers.kernel_layer import positive
from minitorch_ciml.keras.layers.resampling import blurred, convolved
from minitorch_ciml.keras.serialization import serializable

_GREY = np.array([0.2989, 0.587, 0.114], "float32")  # as ITU-R BT.601 weighs red, green and blue


def grey(images: np.ndarray) -> np.ndarray:
    """Red, green and blue (..., 3) as shades of grey (..., 1)."""
    return (images @ _GREY.astype(images.dtype))[..., None]


def rgb_to_hsv(images: np.ndarray) -> np.ndarray:
    """Red, green and blue (..., 3) as hue and saturation, 0 to 1, and value (Smith 1978)."""
    red, green, blue = planes(images)
    value = np.maximum(np.maximum(red, green), blue)
    span = value - np.minimum(np.minimum(red, green), blue)
    step = 1 / (6 * np.where(span > 0, span, 1))
    hue = np.where(value == green, step * (blue - red) + 1 / 3, step * (red - green) + 2 / 3)
    hue = np.where(value == red, step * (green - blue), hue)
    hue = np.where(span > 0, hue, 0)
    saturation = np.where(value > 0, span / np.where(value > 0, value, 1), 0)
    return np.stack([hue + (hue < 0), saturation, value], axis=-1).astype(images.dtype, copy=False)


def hsv_to_rgb(images: np.ndarray) -> np.ndarray:
    """Hue, saturation and value (..., 3) as red, green and blue."""
    hue, saturation, value = planes(images)
    sixth = hue % 1 * 6
    pure = [abs(sixth - 3) - 1, 2 - abs(sixth - 2), 2 - abs(sixth - 4)]
    mixed = [value * (1 - saturation * (1 - np.clip(colour, 0, 1))) for colour in pure]
    return np.stack(mixed, axis=-1).astype(images.dtype, copy=False)


def planes(images: np.ndarray) -> np.ndarray:
    """The channels (C, ...) of images (..., C), each in one piece: that is faster to work on."""
    return np.ascontiguousarray(np.moveaxis(images, -1, 0))


def rescaled(images: np.ndarray, before: Any, after: Any) -> np.ndarray:
    """Values of one range in another."""
    if tuple(before) == tuple(after):
        return images
    return (images - before[0]) / (before[1] - before[0]) * (after[1] - after[0]) + after[0]


BYTES = (0, 255)


class _Ranged(ImageChange):
    """A base of what depends on the range of the values.

    Args:
        value_range: (lowest, highest), such as (0, 255) or (0, 1).
        data_format: see `ImageLayer`.
    """

    def __init__(self, value_range: Any = BYTES, data_format: str | None = None, **kwargs: Any):
        super().__init__(data_format=data_format, **kwargs)
        self.value_range = checked_range(type(self).__name__, value_range)

    def _kept(self, images: np.ndarray) -> np.ndarray:
        """The images with values in the range."""
        return np.clip(images, *self.value_range)


def checked_range(layer: str, value_range: Any) -> tuple:
    """`value_range` as (lowest, highest)."""
    if not isinstance(value_range, (tuple, list)) or len(value_range) != 2:
        raise ValueError(f"{layer}: value_range must be two numbers, got {value_range!r}.")
    low, high = sorted(value_range)
    return low, high


class _RandomRanged(_Ranged, RandomImages):
    """A base of what changes every image by a factor of its own.

    Args:
        factor: up to a number, or between two.
        value_range: (lowest, highest), such as (0, 255) or (0, 1).
        seed: an integer that fixes the random numbers.
        data_format: see `ImageLayer`.
    """

    bounds: tuple[float, float] = (0, 1)

    def __init__(
        self, factor: Any, value_range: Any = BYTES, data_format: str | None = None,
        seed: int | None = None, **kwargs: Any,
    ):  # fmt: skip
        super().__init__(value_range, data_format, seed=seed, **kwargs)
        self.factor = self._limits("factor", factor, self.bounds)

    def draw(self, n: int, height: int, width: int, channels: int) -> Any:
        return self._draw(n, self.factor)[:, None, None, None]


@serializable("keras.layers")
class RandomBrightness(_RandomRanged):
    """y = x + factor * (highest - lowest).

    Args:
        factor: from -1 (black) to 1 (white): a number for -factor to factor, or (lowest, highest).
        value_range: (lowest, highest), such as (0, 255) or (0, 1).
        seed: an integer that fixes the random numbers.
        data_format: see `ImageLayer`.
    """

    bounds = (-1, 1)

    def __init__(
        self, factor: Any, value_range: Any = BYTES, seed: int | None = None,
        data_format: str | None = None, **kwargs: Any,
    ):  # fmt: skip
        super().__init__(factor, value_range, data_format, seed, **kwargs)

    def change(self, images: np.ndarray, drawn: Any) -> np.ndarray:
        low, high = self.value_range
        return self._kept(images + drawn * (high - low))


@serializable("keras.layers")
class RandomContrast(_RandomRanged):
    """y = (x - mean) c + mean, with the mean of each channel and c from 1 - lower to 1 + upper.

    Args:
        factor: (lower, upper), from 0 to 1; a number stands for (0, factor), as Keras does it.
        value_range: (lowest, highest), such as (0, 255) or (0, 1).
        seed: an integer that fixes the random numbers.
        data_format: see `ImageLayer`.
    """

    def __init__(
        self, factor: Any, value_range: Any = BYTES, seed: int | None = None,
        data_format: str | None = None, **kwargs: Any,
    ):  # fmt: skip
        super().__init__(factor, value_range, data_format, seed, **kwargs)

    def draw(self, n: int, height: int, width: int, channels: int) -> Any:
        limits = 1 - self.factor[0], 1 + self.factor[1]
        return self._draw(n, limits)[:, None, None, None]

    def change(self, images: np.ndarray, drawn: Any) -> np.ndarray:
        mean = images.mean(axis=(1, 2), keepdims=True)
        return self._kept((images - mean) * drawn + mean)


@serializable("keras.layers")
class RandomSaturation(_RandomRanged):
    """The saturation times f / (1 - f): 0 is grey, 0.5 leaves images as they are.

    Args:
        factor: f, from 0 to 1: up to a number, or between two.
        value_range, data_format, seed: as in `RandomBrightness`.
    """

    def draw(self, n: int, height: int, width: int, channels: int) -> Any:
        factor = super().draw(n, height, width, channels)[..., 0]
        return factor / (1 - factor + 1e-7)

    def change(self, images: np.ndarray, drawn: Any) -> np.ndarray:
        hsv = rgb_to_hsv(images)
        hsv[..., 1] = self._kept(hsv[..., 1] * drawn)
        return hsv_to_rgb(hsv)


@serializable("keras.layers")
class RandomHue(_RandomRanged):
    """Turns the colours by up to half a circle in either direction.

    Args:
        factor: the share of half a circle, from 0 to 1: up to a number, or between two.
        value_range, data_format, seed: as in `RandomBrightness`.
    """

    def draw(self, n: int, height: int, width: int, channels: int) -> Any:
        sign = np.where(self._draw(n) > 0.5, -1, 1)[:, None, None]
        return super().draw(n, height, width, channels)[..., 0] * sign * 0.5

    def change(self, images: np.ndarray, drawn: Any) -> np.ndarray:
        hsv = rgb_to_hsv(rescaled(images, self.value_range, (0, 1)))
        hsv[..., 0] = (hsv[..., 0] + drawn) % 1
        return rescaled(np.clip(hsv_to_rgb(hsv), 0, 1), (0, 1), self.value_range)


@serializable("keras.layers")
class RandomGrayscale(RandomImages):
    """Shades of grey in place of the colours of some images, still in three channels.

    Args:
        factor: the probability, 0 to 1.
        data_format: see `ImageLayer`.
        seed: an integer that fixes the choice.
    """

    def __init__(
        self, factor: float = 0.5, data_format: str | None = None, seed: int | None = None,
        **kwargs: Any,
    ):  # fmt: skip
        super().__init__(seed, data_format, **kwargs)
        if not 0 <= factor <= 1:
            raise ValueError(f"RandomGrayscale: factor must be between 0 and 1, got {factor!r}.")
        self.factor = factor

    def draw(self, n: int, height: int, width: int, channels: int) -> Any:
        return (self._draw(n) < self.factor)[:, None, None, None]

    def change(self, images: np.ndarray, drawn: Any) -> np.ndarray:
        return np.where(drawn, grey(images), images)


@serializable("keras.layers")
class RandomColorDegeneration(_RandomRanged):
    """y = x + factor (grey - x): 0 leaves images as they are, 1 makes them grey.

    Args:
        factor: from 0 to 1: up to a number, or between two.
        value_range, data_format, seed: as in `RandomBrightness`.
    """

    bounds = (-1, 1)

    def change(self, images: np.ndarray, drawn: Any) -> np.ndarray:
        return self._kept(images + drawn * (grey(images) - images))


@serializable("keras.layers")
class RandomSharpness(_RandomRanged):
    """Between blurred (factor 0), as it is (0.5) and sharpened (1).

    Blurred means under (1, 1, 1; 1, 5, 1; 1, 1, 1) / 13, with zeros outside.

    Args:
        factor: from 0 to 1: up to a number, or between two.
        value_range, data_format, seed: as in `RandomBrightness`.
    """

    def change(self, images: np.ndarray, drawn: Any) -> np.ndarray:
        ones = np.ones(3, images.dtype)
        smooth = (convolved(convolved(images, ones, 1), ones, 2) + 4 * images) / 13
        return self._kept(images + (1 - 2 * drawn) * (smooth - images))


@serializable("keras.layers")
class RandomPosterization(_RandomRanged):
    """Keeps the highest bits of every value only, so that there are fewer shades.

    Args:
        factor: the number of bits, 1 to 8: from 1 to below a number, or from one to below another
            (exactly it, if both are equal).
        value_range, data_format, seed: as in `RandomBrightness`.
    """

    bounds = (1, 8)

    def draw(self, n: int, height: int, width: int, channels: int) -> Any:
        low, high = map(int, self.factor)
        bits = low + np.floor(self._draw(n) * max(high - low, 1)).astype("uint8")
        return (8 - bits)[:, None, None, None]

    def change(self, images: np.ndarray, drawn: Any) -> np.ndarray:
        shades = rescaled(images, self.value_range, BYTES).astype("uint8")
        kept = (shades >> drawn << drawn).astype(images.dtype)
        return rescaled(kept, BYTES, self.value_range)


@serializable("keras.layers")
class RandomInvert(_RandomRanged):
    """y = highest - x, for some images.

    Args:
        factor: the probability: up to a number, or between two.
        value_range, seed, data_format: as in `RandomBrightness`.
    """

    def __init__(
        self, factor: Any = 1.0, value_range: Any = BYTES, seed: int | None = None,
        data_format: str | None = None, **kwargs: Any,
    ):  # fmt: skip
        super().__init__(factor, value_range, data_format, seed, **kwargs)

    def draw(self, n: int, height: int, width: int, channels: int) -> Any:
        return self._chosen(n, self.factor)

    def change(self, images: np.ndarray, drawn: Any) -> np.ndarray:
        return np.where(drawn, self.value_range[1] - images, images)


@serializable("keras.layers")
class RandomGaussianBlur(_RandomRanged):
    """Blurs some images by a Gaussian, one for the whole batch.

    Args:
        factor: the probability: up to a number, or between two.
        kernel_size: odd: a number, or (width, height).
        sigma: the Gaussian's standard deviation, 0 to 1: up to a number, or between two.
        value_range, data_format, seed: as in `RandomBrightness`.
    """

    def __init__(
        self, factor: Any = 1.0, kernel_size: Any = 3, sigma: Any = 1.0, value_range: Any = BYTES,
        data_format: str | None = None, seed: int | None = None, **kwargs: Any,
    ):  # fmt: skip
        super().__init__(factor, value_range, data_format, seed, **kwargs)
        size = (kernel_size, kernel_size) if isinstance(kernel_size, int) else tuple(kernel_size)
        if len(size) != 2 or any(n % 2 == 0 for n in size):
            raise ValueError(
                f"RandomGaussianBlur: kernel_size must be one or two odd numbers, got "
                f"{kernel_size!r}."
            )
        self.kernel_size = size
        self.sigma = self._limits("sigma", sigma, (0, 1))

    def draw(self, n: int, height: int, width: int, channels: int) -> Any:
        deviations = [self._draw_one(self.sigma) + 1e-6 for _ in range(2)]
        return self._chosen(n, self.factor), deviations

    def change(self, images: np.ndarray, drawn: Any) -> np.ndarray:
        chosen, deviations = drawn
        return self._kept(np.where(chosen, blurred(images, self.kernel_size, deviations), images))


@serializable("keras.layers")
class Solarization(_Ranged, RandomImages):
    """Adds something, and inverts the values that are not below a threshold then.

    Args:
        addition_factor, threshold_factor: the share of 255 (the values are brought to 0 to 255
            meanwhile): from 0 to a number, or between two; from 0 to 1.
        value_range: (lowest, highest), such as (0, 255) or (0, 1).
        seed: an integer that fixes the random numbers.
    """

    def __init__(
        self, addition_factor: Any = 0.0, threshold_factor: Any = 0.0, value_range: Any = BYTES,
        seed: int | None = None, **kwargs: Any,
    ):  # fmt: skip
        super().__init__(value_range, seed=seed, **kwargs)
        self.addition_factor = self._limits("addition_factor", addition_factor, (0, 1))
        self.threshold_factor = self._limits("threshold_factor", threshold_factor, (0, 1))

    def draw(self, n: int, height: int, width: int, channels: int) -> Any:
        # The lower limit is not times 255: so Keras does it.
        limits = [(f[0], f[1] * 255) for f in (self.addition_factor, self.threshold_factor)]
        return [self._draw(n, limit)[:, None, None, None] for limit in limits]

    def change(self, images: np.ndarray, drawn: Any) -> np.ndarray:
        addition, threshold = drawn
        added = np.clip(rescaled(images, self.value_range, BYTES) + addition, 0, 255)
        return rescaled(np.where(added < threshold, added, 255 - added), BYTES, self.value_range)


@serializable("keras.layers")
class AutoContrast(_Ranged):
    """Stretches each channel of every image so that it fills the range; not only in training.

    Args:
        value_range: (lowest, highest), such as (0, 255) or (0, 1).
    """

    always = True

    def change(self, images: np.ndarray, drawn: Any) -> np.ndarray:
        low, high = (f(axis=(1, 2), keepdims=True) for f in (images.min, images.max))
        span = high - low
        share = (images - low) / np.where(span == 0, 1, span)
        return np.where(span == 0, images, rescaled(share, (0, 1), self.value_range))


@serializable("keras.layers")
class Equalization(_Ranged):
    """Makes all values in a channel equally frequent (histogram equalisation), in training.

    As in Keras the histogram is that of all images of the batch together.

    Args:
        value_range: (lowest, highest), such as (0, 255) or (0, 1).
        bins: of the histogram.
        data_format: see `ImageLayer`.
    """

    def __init__(
        self, value_range: Any = BYTES, bins: int = 256, data_format: str | None = None,
        **kwargs: Any,
    ):  # fmt: skip
        super().__init__(value_range, data_format, **kwargs)
        self.bins = positive("Equalization", "bins", bins)

    def change(self, images: np.ndarray, drawn: Any) -> np.ndarray:
        scaled = rescaled(images, self.value_range, BYTES)
        channels = [self._equal(scaled[..., i]) for i in range(images.shape[-1])]
        return rescaled(np.stack(channels, axis=-1), BYTES, self.value_range)

    def _equal(self, channel: np.ndarray) -> np.ndarray:
        index = np.clip((channel * (self.bins - 1) / 255).astype(int), 0, self.bins - 1)
        counts = np.bincount(index.ravel(), minlength=self.bins)
        if np.count_nonzero(counts) <= 1:
            return channel
        below = counts.cumsum()
        first = below[below.nonzero()[0][0]]
        table = np.rint((below - first) * 255 / (below[-1] - first))
        return table.astype(channel.dtype)[index]


@serializable("keras.layers")
class ContrastLimitedAdaptiveHistogramEqualization(_Ranged):
    """Equalises each tile of every image by its own histogram (CLAHE, Zuiderveld 1994).

    Between the centres of the tiles the results are interpolated. Not only in training.

    Args:
        value_range: (lowest, highest), such as (0, 255) or (0, 1).
        clip_limit: bins with more than so many times the mean are cut, and the rest is spread over
            all bins; 0 for no limit.
        tile_grid_size: the number of tiles, (rows, columns).
        data_format: see `ImageLayer`.
    """

    always = True

    def __init__(
        self, value_range: Any = BYTES, clip_limit: float = 4.0, tile_grid_size: Any = (8, 8),
        data_format: str | None = None, **kwargs: Any,
    ):  # fmt: skip
        super().__init__(value_range, data_format, **kwargs)
        self.clip_limit = clip_limit
        self.tile_grid_size = tuple(tile_grid_size)

    def change(self, images: np.ndarray, drawn: Any) -> np.ndarray:
        scaled = rescaled(images, self.value_range, BYTES)
        tiles = [-(-n // parts) for n, parts in zip(images.shape[1:3], self.tile_grid_size)]
        margins = [(0, t * g - n) for t, g, n in
                   zip(tiles, self.tile_grid_size, images.shape[1:3])]  # fmt: skip
        wide = np.pad(scaled, ((0, 0), *margins, (0, 0)), mode="symmetric")
        equal = self._between(wide, self._tables(wide, tiles), tiles)
        equal = equal[:, : images.shape[1], : images.shape[2]]
        return rescaled(equal, BYTES, self.value_range).astype(images.dtype)

    def _tables(self, images: np.ndarray, tiles: list[int]) -> np.ndarray:
        """What every tile makes of 0 to 255: (N, rows + 2, columns + 2, C, 256), borders twice."""
        n, channels = len(images), images.shape[-1]
        rows, columns = self.tile_grid_size
        parts = images.reshape(n, rows, tiles[0], columns, tiles[1], channels)
        parts = np.clip(parts.transpose(0, 1, 3, 5, 2, 4).astype(int), 0, 255)
        flat = parts.reshape(-1, tiles[0] * tiles[1])
        places = flat + 256 * np.arange(len(flat))[:, None]
        counts = np.bincount(places.ravel(), minlength=256 * len(flat)).reshape(-1, 256)
        histograms = counts.astype("float64")
        size = tiles[0] * tiles[1]
        if self.clip_limit > 0:
            cut = np.minimum(histograms, self.clip_limit * size / 256)
            histograms = cut + (histograms - cut).sum(axis=-1, keepdims=True) / 256
        below = histograms.cumsum(axis=-1)
        first = below[:, :1]
        table = np.clip((below - first) * 255 / np.where(size == first, 1, size - first), 0, 255)
        table = table.reshape(n, rows, columns, channels, 256)
        return np.pad(table, ((0, 0), (1, 1), (1, 1), (0, 0), (0, 0)), mode="edge")

    def _between(self, images: np.ndarray, tables: np.ndarray, tiles: list[int]) -> np.ndarray:
        """Every value by the tables of the four nearest tiles."""
        n, height, width, channels = images.shape
        places = [(np.arange(length) - tile / 2) / tile + 1
                  for length, tile in zip((height, width), tiles)]  # fmt: skip
        (y, wy), (x, wx) = ((np.floor(p).astype(int), p - np.floor(p)) for p in places)
        wy, wx = wy[:, None, None], wx[:, None]
        image, channel = np.arange(n)[:, None, None, None], np.arange(channels)
        value = np.clip(images, 0, 255).astype(int)

        def at(row: int, column: int) -> np.ndarray:
            i = np.clip(y + row, 0, tables.shape[1] - 1)[:, None, None]
            j = np.clip(x + column, 0, tables.shape[2] - 1)[:, None]
            return tables[image, i, j, channel, value]

        top = at(0, 0) * (1 - wx) + at(0, 1) * wx
        bottom = at(1, 0) * (1 - wx) + at(1, 1) * wx
        return top * (1 - wy) + bottom * wy
