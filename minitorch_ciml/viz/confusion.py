"""Which class is taken for which."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from minitorch_ciml.viz.style import (
    INK,
    LARGE,
    NORMAL,
    SMALL,
    PathLike,
    class_numbers,
    finished,
    new_figure,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_NUMBERED = 20  # classes; the counts of more would be unreadable


def confusion_counts(y_true: object, y_pred: object, n_classes: int) -> npt.NDArray[np.int64]:
    """How often class i was predicted as class j.

    Args:
        y_true: (n,) class numbers.
        y_pred: (n,) class numbers.
        n_classes: number of classes.

    Returns:
        (n_classes, n_classes) int64, true classes down, predicted classes across.

    Raises:
        ValueError: if the shapes differ or a number is no class.
    """
    true = class_numbers("confusion, y_true", y_true)
    predicted = class_numbers("confusion, y_pred", y_pred, true.shape)
    largest = max(true.max(initial=0), predicted.max(initial=0))
    if largest >= n_classes:
        raise ValueError(f"confusion: got class {largest}, expected 0 to {n_classes - 1}")
    counts = np.bincount(true * n_classes + predicted, minlength=n_classes * n_classes)
    return counts.reshape(n_classes, n_classes).astype(np.int64)


def confusion_matrix(
    y_true: object,
    y_pred: object,
    class_names: Sequence[str] | None = None,
    path: PathLike | None = None,
) -> "Figure":
    """The confusion matrix, coloured by the share of each true class, with the counts written in.

    Args:
        y_true: (n,) class numbers, n at least 1.
        y_pred: (n,) class numbers.
        class_names: of all classes; without it they are numbered up to the largest seen.
        path: file to save to.

    Returns:
        The figure; counts are left out with more than 20 classes.

    Raises:
        ValueError: if the shapes differ, there is no example, or a number is no class.
    """
    true = class_numbers("confusion, y_true", y_true)
    predicted = class_numbers("confusion, y_pred", y_pred, true.shape)
    if not len(true):
        raise ValueError("confusion: got no examples, expected at least one")
    if class_names is None:
        class_names = [str(i) for i in range(int(max(true.max(), predicted.max())) + 1)]
    n = len(class_names)
    counts = confusion_counts(true, predicted, n)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return finished(_matrix(counts, shares, class_names), path)


def _matrix(
    counts: npt.NDArray[np.int64], shares: npt.NDArray[np.float64], names: Sequence[str]
) -> "Figure":
    """The picture of counts (n, n), coloured by shares (n, n) of each row."""
    from matplotlib.colors import PowerNorm
    from matplotlib.ticker import PercentFormatter

    n = len(names)
    inches = min(max(0.5 * n, 3.0), 9.0)
    figure = new_figure(inches + 1.6, inches + 0.9)
    axes = figure.add_subplot()
    # The square root: one example in a hundred should be seen beside ninety-nine.
    norm = PowerNorm(0.5, vmin=0, vmax=1)
    shown = axes.imshow(shares, cmap="Blues", norm=norm, interpolation="nearest")
    if n <= MOST_NUMBERED:
        for i, j in np.argwhere(counts):
            colour = "white" if shares[i, j] > 0.4 else INK
            axes.text(
                j, i, f"{counts[i, j]}", ha="center", va="center", fontsize=SMALL, color=colour
            )
    every = max(1, -(-n // 40))
    widest = 0.09 * max(len(str(name)) for name in names)  # inches
    turned = 90 if widest > every * inches / n else 0
    places = range(0, n, every)
    axes.set_xticks(places, [str(names[i]) for i in places], rotation=turned)
    axes.set_yticks(places, [str(names[i]) for i in places])
    axes.tick_params(labelsize=SMALL if n > 10 else NORMAL, colors=INK, length=0)
    axes.set_xlabel("predicted", fontsize=NORMAL, color=INK)
    axes.set_ylabel("true", fontsize=NORMAL, color=INK)
    right, total = int(np.trace(counts)), int(counts.sum())
    axes.set_title(
        f"{right:,} of {total:,} right ({right / total:.2%})", fontsize=LARGE, color=INK, loc="left"
    )
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(shown, ax=axes, shrink=0.8, format=PercentFormatter(1), aspect=30)
    bar.set_label("share of the true class", fontsize=NORMAL, color=INK)
    bar.ax.tick_params(labelsize=SMALL, colors=INK)
    bar.outline.set_visible(False)
    return figure
