"""Pictures made of curves and bars: the history of a training, the flow of gradients."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from minitorch_ciml.viz.style import (
    BLUE,
    FAINT,
    GREEN,
    INK,
    ORANGE,
    SMALL,
    Array,
    PathLike,
    finished,
    heading,
    new_figure,
    plain_axes,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RATES = (
    "learning_rate",
    "lr",
)  # recorded by callbacks beside the metrics, but neither good nor bad
RUNS = (BLUE, ORANGE, GREEN, "#CC79A7", "#E69F00", "#56B4E9", INK)  # Okabe and Ito (2008)
HIGHER_IS_BETTER = ("acc", "auc", "precision", "recall", "f1", "fbeta", "iou", "r2", "similarity")


def history(history: object, path: PathLike | None = None) -> "Figure":
    """Loss and metrics over the epochs, training and validation, the best epoch of each marked.

    Args:
        history: what `fit` returns, or its dict: a list with one number for each epoch under
            "loss", "val_loss", "accuracy", "val_accuracy" and the like.
        path: file to save to.

    Returns:
        The figure, one panel for each quantity.

    Raises:
        TypeError: if there is no such dict.
        ValueError: if it holds no epoch.
    """
    records = getattr(history, "history", history)
    if not isinstance(records, Mapping):
        raise TypeError(
            f"history: got {type(history).__name__}, expected what fit returns, or a dict of lists"
        )
    curves = {str(name): np.asarray(values, np.float64) for name, values in records.items()}
    curves = {name: values for name, values in curves.items() if values.ndim == 1 and values.size}
    panels = list(dict.fromkeys(name.removeprefix("val_") for name in curves))
    panels.sort(key=lambda name: (name != "loss", name in RATES))
    if not panels:
        raise ValueError(f"history: got no epoch under {list(records)}, expected lists of numbers")

    columns = min(len(panels), 3)
    rows = math.ceil(len(panels) / columns)
    figure = new_figure(4.2 * columns, 3.2 * rows)
    for place, name in enumerate(panels):
        axes = figure.add_subplot(rows, columns, place + 1)
        _curve_panel(axes, name, curves.get(name), curves.get(f"val_{name}"))
    return finished(figure, path)


def compare(
    histories: Mapping[str, object], metric: str = "loss", path: PathLike | None = None
) -> "Figure":
    """One metric of several trainings over the epochs, in one panel; the best value is in the key.

    More than seven trainings take the colours of a scale, in the order given.

    Args:
        histories: what `fit` returned (or its dict), under the training's name.
        metric: a key of every history, such as "val_loss".
        path: file to save to.

    Returns:
        The figure; on a logarithmic scale where the values are positive and span more than 30 to 1.

    Raises:
        TypeError: if one is no history.
        ValueError: if there is none, or one lacks the metric or has no epoch.
    """
    if not histories:
        raise ValueError("compare: got no histories, expected at least one")
    curves = {str(name): _values(name, run, metric) for name, run in histories.items()}
    figure = new_figure(6.4, 3.4)
    axes = figure.add_subplot()
    plain_axes(axes, across="epoch")
    heading(axes, metric.removeprefix("val_").replace("_", " "))
    if metric.startswith("val_"):
        axes.set_title("validation", fontsize=SMALL, color=INK, loc="right")
    for colour, (name, values) in zip(_run_colours(len(curves)), curves.items()):
        label = f"{name}: {_best(metric, values):.3g}"
        epochs = np.arange(len(values)) + 1
        dots = "o" if len(values) <= 30 else ""
        axes.plot(
            epochs, values, color=colour, marker=dots, markersize=3, linewidth=1.5, label=label
        )
    finite = np.concatenate(list(curves.values()))
    finite = finite[np.isfinite(finite)]
    if finite.size and finite.min() > 0 and finite.max() > 30 * finite.min():
        axes.set_yscale("log")
    _whole_epochs(axes, max(map(len, curves.values())))
    key = axes.legend(
        fontsize=SMALL, frameon=False, loc="upper left", bbox_to_anchor=(1.01, 1), title="best",
        title_fontsize=SMALL, alignment="left",
    )  # fmt: skip
    key.get_title().set_color(INK)
    return finished(figure, path)


def gradient_flow(
    names: Sequence[str], gradients: Sequence[object], path: PathLike | None = None
) -> "Figure":
    """Mean and largest |gradient| of each parameter on a logarithmic scale, first layer on top.

    A mean that falls by orders of magnitude towards the top is a vanishing gradient; zeros, NaN and
    missing gradients are named beside their rows.

    Args:
        names: of the parameters.
        gradients: for each an array of any shape, or None where backward brought none.
        path: file to save to.

    Returns:
        The figure.

    Raises:
        ValueError: if there is none, or the numbers of names and gradients differ.
    """
    if not names or len(names) != len(gradients):
        raise ValueError(
            f"gradient_flow: got {len(names)} names and {len(gradients)} gradients, expected one "
            "gradient for each of at least one name"
        )
    sizes = [None if gradient is None else np.abs(np.asarray(gradient)) for gradient in gradients]
    figure = new_figure(7, 1.1 + 0.28 * len(names))
    axes = figure.add_subplot()
    plain_axes(axes, across="|gradient|")
    axes.set_xscale("log")
    for row, size in enumerate(sizes):
        if trouble := _trouble(size):
            where = axes.get_yaxis_transform()
            axes.text(
                0.01, row, trouble, transform=where, color=ORANGE, fontsize=SMALL, va="center"
            )
        elif size is not None:
            mean, largest = float(size.mean()), float(size.max())
            axes.plot([mean, largest], [row, row], color=FAINT, linewidth=4, zorder=1)
            axes.scatter([mean], [row], color=BLUE, s=36, label="mean", zorder=2)
            axes.scatter([largest], [row], color=ORANGE, s=36, marker="D", label="max", zorder=2)
    axes.set_yticks(range(len(names)), [str(name) for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        axes.legend(
            handles[:2],
            labels[:2],
            fontsize=SMALL,
            ncols=2,
            loc="lower right",
            bbox_to_anchor=(1, 1),
            frameon=False,
        )
    heading(axes, "gradient flow")
    return finished(figure, path)


def _curve_panel(axes: "Axes", name: str, train: Array | None, validation: Array | None) -> None:
    """One quantity: training and validation over the epochs from 1."""
    plain_axes(axes, across="epoch")
    heading(axes, name.replace("_", " "))
    epochs = max(len(values) for values in (train, validation) if values is not None)
    drawn = [
        ("training", train, BLUE, "o"),
        ("validation", validation, ORANGE, "s"),
    ]
    best: tuple[Array, Array, str] | None = None
    for label, values, colour, marker in drawn:
        if values is not None:
            # Validation every k-th epoch leaves fewer numbers than epochs.
            x = (np.arange(len(values)) + 1) * (epochs // len(values))
            dots = marker if len(values) <= 30 else ""
            axes.plot(
                x, values, color=colour, marker=dots, markersize=3.5, linewidth=1.5, label=label
            )
            best = (x, values, colour)
    if best is not None and name not in RATES:
        _mark_best(axes, name, *best)
    _whole_epochs(axes, epochs)
    if name not in RATES:
        axes.legend(fontsize=SMALL, frameon=False)


def _whole_epochs(axes: "Axes", epochs: int) -> None:
    """Epochs 1 to `epochs` across, whole numbers only."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, min_n_ticks=1))
    margin = 0.5 if epochs == 1 else 0.02 * epochs
    axes.set_xlim(1 - margin, epochs + margin)


def _values(name: object, run: object, metric: str) -> Array:
    """The metric of one training, a number for each epoch."""
    records = getattr(run, "history", run)
    if not isinstance(records, Mapping):
        raise TypeError(
            f"compare: {name!r} is a {type(run).__name__}, expected what fit returns, or a dict"
        )
    if not len(records.get(metric, ())):
        raise ValueError(f"compare: {name!r} has no epoch of {metric!r}; it has {list(records)}")
    return np.asarray(records[metric], np.float64)


def _run_colours(n: int) -> Any:
    if n <= len(RUNS):
        return RUNS
    import matplotlib

    return matplotlib.colormaps["viridis"](np.linspace(0, 0.95, n))


def _best(metric: str, values: Array) -> float:
    """The largest or the least value, whichever is better of this metric."""
    if np.isnan(values).all():
        return math.nan
    return float(np.nanmax(values) if _higher_is_better(metric) else np.nanmin(values))


def _higher_is_better(metric: str) -> bool:
    return any(part in metric.lower() for part in HIGHER_IS_BETTER)


def _mark_best(axes: "Axes", name: str, epochs: Array, values: Array, colour: str) -> None:
    """A ring and a line at the best value: of the validation where there is one."""
    if np.isnan(values).all():
        return
    at = int(np.nanargmax(values) if _higher_is_better(name) else np.nanargmin(values))
    axes.axvline(epochs[at], color=INK, linewidth=0.8, linestyle=":")
    label = f"best {values[at]:.4g}, epoch {epochs[at]:.0f}"
    axes.plot(
        epochs[at], values[at], "o", markersize=9, markerfacecolor="none", color=colour, label=label
    )


def _trouble(size: Array | None) -> str:
    """What keeps a gradient off a logarithmic scale, in words; empty if nothing does."""
    if size is None or not size.size:
        return "no gradient"
    if not np.isfinite(size).all():
        return "NaN or infinity"
    return "" if size.any() else "zero"
