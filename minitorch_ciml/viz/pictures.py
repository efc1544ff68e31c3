"""Pictures made of tiles: contact sheets, mistakes, filters, feature maps."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from minitorch_ciml.viz.style import (
    FAINT,
    INK,
    LARGE,
    NORMAL,
    SMALL,
    Array,
    PathLike,
    class_numbers,
    counted,
    enlarged,
    finished,
    grid_columns,
    heading,
    montage,
    new_figure,
    no_axes,
    shape_error,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_IMAGES = 100  # on one sheet; more are too small to judge
MOST_FILTERS = 512
MOST_CHANNELS = 16  # of a filter; the strongest are shown
TILE = 0.75  # inch


def images(
    x: object,
    labels: Sequence[object] | Array | None = None,
    n: int = MOST_IMAGES,
    path: PathLike | None = None,
    columns: int | None = None,
) -> "Figure":
    """A contact sheet of the first images.

    Args:
        x: (n, h, w), (n, h, w, 1) or (n, h, w, 3); uint8, or float from 0 to 1 or of any range.
        labels: one caption for each image.
        n: the most images shown.
        path: file to save to.
        columns: images in a row; as many as make a pleasant sheet if left out.

    Returns:
        The figure.

    Raises:
        ValueError: if the shapes are others, there is no image, a label is missing, or there is
            less than one column.
    """
    tiles = _images(x)
    if labels is not None and len(labels) != len(tiles):
        raise ValueError(f"images: got {len(labels)} labels for {len(tiles)} images")
    if columns is not None and columns < 1:
        raise ValueError(f"images: got columns={columns}, expected at least 1")
    shown = tiles[:n]
    captions = [] if labels is None else [str(label) for label in labels[:n]]
    title = f"{len(shown)} of {counted(len(tiles), 'image')}" if len(shown) < len(tiles) else ""
    return finished(_sheet(shown, captions, title, columns), path)


def mistakes(
    x: object,
    y_true: object,
    y_pred: object,
    probabilities: object = None,
    n: int = 25,
    class_names: Sequence[str] | None = None,
    path: PathLike | None = None,
) -> "Figure":
    """The misclassified images, the most confident first, each captioned "true → predicted (p)".

    Args:
        x: images as for `images`, N of them.
        y_true: (N,) class numbers.
        y_pred: (N,) class numbers.
        probabilities: (N, classes) predicted distribution, or (N,) probability of the predicted
            class; without it the mistakes come in their own order.
        n: the most images shown.
        class_names: shown instead of numbers.
        path: file to save to.

    Returns:
        The figure; a line of text if there is no mistake.

    Raises:
        ValueError: if shapes do not fit together.
    """
    tiles = _images(x)
    true = class_numbers("mistakes, y_true", y_true, tiles.shape)
    predicted = class_numbers("mistakes, y_pred", y_pred, tiles.shape)
    confidence = _confidence(probabilities, predicted)
    wrong = np.flatnonzero(true != predicted)
    if confidence is not None:
        wrong = wrong[np.argsort(-confidence[wrong], kind="stable")]
    title = f"{counted(len(wrong), 'mistake')} in {len(true):,} ({len(wrong) / len(true):.2%})"
    if len(wrong) == 0:
        return finished(_message(title), path)

    def name(number: int) -> str:
        return str(number) if class_names is None else class_names[number]

    captions = [
        f"{name(true[i])} → {name(predicted[i])}"
        + ("" if confidence is None else f" ({confidence[i]:.2f})")
        for i in wrong[:n]
    ]
    if n < len(wrong):
        title += f", the first {n}" if confidence is None else f", the {n} most confident"
    figure = _sheet(tiles[wrong[:n]], captions, title)
    legend = "true → predicted" + ("" if confidence is None else " (probability)")
    figure.set_figheight(figure.get_figheight() + 0.25)
    figure.supxlabel(legend, fontsize=SMALL, color=INK)
    return finished(figure, path)


def filters(kernel: object, path: PathLike | None = None) -> "Figure":
    """A convolution's filters, blue negative, white zero, red positive, on one symmetric scale.

    A filter with several input channels is a block of tiles, one for each channel; of more than 16
    channels those with the largest weights are shown, strongest first.

    Args:
        kernel: (kh, kw, channels, filters) weights.
        path: file to save to.

    Returns:
        The figure; at most 512 filters.

    Raises:
        ValueError: if the kernel is not 4-dimensional, is empty or holds NaN or infinity.
    """
    import matplotlib

    weights = np.asarray(kernel)
    if weights.ndim != 4 or not weights.size:
        raise shape_error("filters", weights, "a convolution's kernel (kh, kw, channels, filters)")
    if not np.isfinite(weights).all():
        raise ValueError("filters: the kernel holds NaN or infinity; did the training diverge?")
    height, width, channels, count = weights.shape
    picture = _filter_tiles(np.moveaxis(weights[..., :MOST_FILTERS], (3, 2), (0, 1)))
    scale = float(np.abs(weights).max()) or 1.0

    title = f"{counted(count, 'filter')} {height} × {width}"
    if count > MOST_FILTERS:
        title = f"the first {MOST_FILTERS} of {title}"
    if channels > MOST_CHANNELS:
        title += f", the strongest {MOST_CHANNELS} of {channels} channels of each"
    elif channels > 1:
        title += f", {channels} channels each"
    figure, axes = _fitted(picture, title)
    colours = matplotlib.colormaps["RdBu_r"].with_extremes(
        bad=FAINT
    )  # white would be a weight of 0
    shown = axes.imshow(picture, cmap=colours, vmin=-scale, vmax=scale, interpolation="nearest")
    bar = figure.colorbar(shown, ax=axes, shrink=0.8, aspect=30, pad=0.02)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=SMALL, colors=INK)
    bar.set_label("weight", fontsize=NORMAL, color=INK)
    return finished(figure, path)


def feature_maps(
    image: object,
    activations: Sequence[object] | Mapping[str, object],
    names: Sequence[str] | None = None,
    path: PathLike | None = None,
) -> "Figure":
    """What each layer makes of one image: the image, and a grid of every layer's channels.

    Each layer has its own scale from its least to its largest value, shared by its channels, so a
    channel without signal looks empty.

    Args:
        image: (h, w), (h, w, 1) or (h, w, 3), with or without a leading batch axis of 1.
        activations: for each layer (h, w, channels) or (units,), with or without a leading batch
            axis of 1; or a dict of such by name.
        names: of the layers.
        path: file to save to.

    Returns:
        The figure.

    Raises:
        ValueError: if a shape is another, or the numbers of names and layers differ.
    """
    if isinstance(activations, Mapping):
        names, activations = list(activations), list(activations.values())
    if not activations:
        raise ValueError("feature_maps: got no activations, expected one array for each layer")
    if names is None:
        names = [f"layer {i + 1}" for i in range(len(activations))]
    if len(names) != len(activations):
        raise ValueError(f"feature_maps: got {len(names)} names for {len(activations)} layers")
    given = np.asarray(image)
    picture = _images(given if len(given) == 1 and given.ndim > 2 else given[None])[0]
    maps = [_channels(name, layer) for name, layer in zip(names, activations)]
    pictures = [_channel_tiles(layer) for layer in maps]

    width = 8.0  # inches, of the maps
    heights = [min(max(0.4, width * tiles.shape[0] / tiles.shape[1]), 3.0) for tiles in pictures]
    figure = new_figure(width + 2, sum(heights) + 0.4 * len(heights))
    grid = figure.add_gridspec(len(maps), 2, width_ratios=(2, width), height_ratios=heights)
    axes = figure.add_subplot(grid[:, 0])
    no_axes(axes)
    axes.imshow(picture, cmap="gray", interpolation="nearest")
    axes.set_anchor("N")
    heading(axes, "image")
    for row, (name, layer, tiles) in enumerate(zip(names, maps, pictures)):
        axes = figure.add_subplot(grid[row, 1])
        no_axes(axes)
        axes.imshow(tiles, cmap="viridis", interpolation="nearest")
        axes.set_anchor("NW")
        size = f"{layer.shape[1]} × {layer.shape[2]}, " if layer[0].size > 1 else ""
        heading(axes, f"{name}: {size}{counted(len(layer), 'channel' if size else 'unit')}")
    return finished(figure, path)


def _images(x: object) -> Array:
    """Images as (n, h, w) or (n, h, w, 3) float64 from 0 to 1."""
    given = np.asarray(x)
    if given.ndim == 4 and given.shape[3] == 1:
        given = given[..., 0]
    if given.ndim not in (3, 4) or given.shape[3:] not in ((), (3,)) or not given.size:
        raise shape_error("images", given, "(n, h, w), (n, h, w, 1) or (n, h, w, 3), n at least 1")
    values = given.astype(np.float64)
    if given.dtype == np.uint8:
        return values / 255
    low, high = np.nanmin(values), np.nanmax(values)
    if 0 <= low and high <= 1:
        return values
    return (values - low) / ((high - low) or 1)


def _sheet(tiles: Array, captions: list[str], title: str, columns: int | None = None) -> "Figure":
    """Tiles on a grid, each with its caption above it."""
    columns = columns or grid_columns(len(tiles), ratio=1.3)
    height, width = tiles.shape[1:3]
    widest = 0.075 * max((len(caption) for caption in captions), default=0)  # inches
    # One picture for all, not one axes for each: a hundred axes take seconds to lay out.
    across = max(width // 14, round(width * (widest / TILE - 1)), 1)
    down = max(1, round(width * 0.25 / TILE)) if captions else across
    picture = montage(tiles, columns, (down, across))
    inch = TILE / width  # of a pixel
    figure = new_figure(
        max(picture.shape[1] * inch, 0.1 * len(title)) + 0.2,
        picture.shape[0] * inch + (0.25 if captions else 0) + (0.35 if title else 0) + 0.1,
    )
    axes = figure.add_subplot()
    no_axes(axes)
    if title:
        axes.set_title(title, fontsize=LARGE, color=INK, loc="left", pad=22 if captions else 6)
    axes.imshow(picture, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    for i, caption in enumerate(captions):
        middle = i % columns * (width + across) + (width - 1) / 2
        top = i // columns * (height + down) - 0.5 - 0.05 * height
        axes.text(middle, top, caption, fontsize=SMALL, color=INK, ha="center", va="bottom")
    return figure


def _message(text: str) -> "Figure":
    figure = new_figure(5, 1)
    figure.text(0.5, 0.5, text, fontsize=LARGE, color=INK, ha="center", va="center")
    return figure


def _confidence(probabilities: object, predicted: Array) -> Array | None:
    """The probability (N,) of each predicted class (N,)."""
    if probabilities is None:
        return None
    given = np.asarray(probabilities, np.float64)
    n = len(predicted)
    if given.shape == (n,):
        return given
    if given.ndim != 2 or len(given) != n or given.shape[1] <= predicted.max(initial=0):
        expected = f"({n},) or ({n}, more classes than {predicted.max(initial=0)})"
        raise shape_error("mistakes, probabilities", given, expected)
    chosen: Array = given[np.arange(n), predicted]
    return chosen


def _filter_tiles(weights: Array) -> Array:
    """One picture of weights (filters, channels, kh, kw): a block for each filter."""
    if weights.shape[1] > MOST_CHANNELS:
        strength = np.abs(weights).sum(axis=(2, 3))
        strongest = np.argsort(-strength, axis=1, kind="stable")[:, :MOST_CHANNELS]
        weights = np.take_along_axis(weights, strongest[:, :, None, None], axis=1)
    count, channels, height, width = weights.shape
    times = max(2, 24 // max(height, width) if count * channels <= 1024 else 2)
    inner, outer = (1, 2) if times < 4 else (2, 6)
    across = grid_columns(channels, ratio=1.2 * height / width)
    blocks = np.array([montage(enlarged(one, times), across, (inner, inner)) for one in weights])
    columns = grid_columns(count, ratio=1.6 * blocks.shape[1] / blocks.shape[2])
    return montage(blocks, columns, (outer, outer) if channels > 1 else (inner, inner))


def _fitted(picture: Array, title: str) -> tuple["Figure", "Axes"]:
    """A figure with one axes in the proportions of `picture`, neither tiny nor huge."""
    height, width = picture.shape[:2]
    inches = min(max(3.0, width / 60), 12.0)
    inches *= min(1, 9 * width / (height * inches))  # at most 9 high
    figure = new_figure(max(inches, 0.1 * len(title)) + 1, inches * height / width + 0.5)
    axes = figure.add_subplot()
    no_axes(axes)
    heading(axes, title)
    return figure, axes


def _channels(name: str, layer: object) -> Array:
    """A layer's activation as tiles (channels, h, w) from 0 to 1."""
    values = np.asarray(layer).astype(np.float64)
    if values.ndim in (2, 4) and len(values) == 1:
        values = values[0]
    if values.ndim == 1:
        values = values[None, None, :]
    if values.ndim != 3 or not values.size:
        raise shape_error(
            f"feature_maps, {name}", np.asarray(layer), "(h, w, channels) or (units,) of one image"
        )
    low, high = np.nanmin(values), np.nanmax(values)
    return np.moveaxis((values - low) / ((high - low) or 1), 2, 0)


def _channel_tiles(channels: Array) -> Array:
    """One wide picture of (channels, h, w)."""
    height, width = channels.shape[1:]
    tiles = enlarged(channels, max(1, 32 // max(height, width)))
    return montage(tiles, grid_columns(len(tiles), ratio=10 * height / width), (2, 2))
