"""What all pictures share: colours, text sizes, tiles, and saving.

Pictures are plain `matplotlib.figure.Figure` objects: no window, no pyplot, no global state, so
they work on a compute node and from several threads. matplotlib is imported when one is drawn.
"""

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from minitorch_ciml.datasets.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = npt.NDArray[Any]
PathLike = str | os.PathLike[str]

# Colours that differ for every kind of colour vision (Okabe and Ito, 2008).
BLUE, ORANGE, GREEN, INK, FAINT = "#0072B2", "#D55E00", "#009E73", "#222222", "#D0D0D0"
SMALL, NORMAL, LARGE = 8, 10, 12  # points
DOTS = 150  # per inch, when saved as pixels


def new_figure(width: float, height: float) -> "Figure":
    """An empty white figure, in inches, that arranges its axes itself."""
    from minitorch_ciml.viz.figure import Picture

    return Picture(figsize=(width, height), layout="constrained", facecolor="white")


def finished(figure: "Figure", path: PathLike | None, dots: int = DOTS) -> "Figure":
    """`figure`, saved to `path` if there is one; the suffix names the format (none: PNG).

    Args:
        figure: what was drawn.
        path: the file, if any.
        dots: per inch, in a format of pixels.

    Raises:
        ValueError: if matplotlib does not write that format.
        OSError: if the file cannot be written; an older one is kept whole then.
    """
    if path is not None:
        form = Path(path).suffix.removeprefix(".") or "png"
        with atomic_write(path) as file:
            figure.savefig(file, format=form, dpi=dots)
    return figure


def heading(axes: "Axes", text: str) -> None:
    axes.set_title(text, fontsize=LARGE, color=INK, loc="left")


def plain_axes(axes: "Axes", across: str, down: str = "") -> None:
    """Two thin spines, a faint grid, named axes."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(INK)
    axes.grid(color=FAINT, linewidth=0.5)
    axes.set_axisbelow(True)
    axes.set_xlabel(across, fontsize=NORMAL, color=INK)
    axes.set_ylabel(down, fontsize=NORMAL, color=INK)
    axes.tick_params(labelsize=SMALL, colors=INK)


def no_axes(axes: "Axes") -> None:
    axes.set_axis_off()


def grid_columns(n: int, ratio: float) -> int:
    """Columns for n tiles: about `ratio` times as many as rows, and few empty places in the last.

    >>> grid_columns(25, 1.3), grid_columns(32, 5), grid_columns(10, 1)
    (5, 16, 5)
    """
    ideal = math.sqrt(n * ratio)

    def cost(columns: int) -> float:
        empty = -n % columns / n
        return 2 * empty + 0.3 * abs(math.log(columns / ideal))

    return min(range(1, n + 1), key=cost)


def enlarged(tiles: Array, times: int) -> Array:
    """Tiles (n, h, w[, 3]) with every pixel repeated: gaps can then be thinner than a pixel."""
    return tiles.repeat(times, axis=1).repeat(times, axis=2)


def montage(tiles: Array, columns: int, gaps: tuple[int, int]) -> Array:
    """Tiles (n, h, w) or (n, h, w, 3) side by side and row by row, NaN in the gaps (down, across).

    Returns:
        (rows * (h + down) - down, columns * (w + across) - across[, 3]) float64; tile i starts at
        row i // columns * (h + down), column i % columns * (w + across).
    """
    n, height, width = tiles.shape[:3]
    down, across = gaps
    rows = math.ceil(n / columns)
    colours = tiles.shape[3:]
    full = np.full((rows, height + down, columns, width + across, *colours), np.nan)
    for i, tile in enumerate(tiles):
        full[i // columns, :height, i % columns, :width] = tile
    whole = full.reshape(rows * (height + down), columns * (width + across), *colours)
    return whole[: whole.shape[0] - down, : whole.shape[1] - across]


def counted(n: int, noun: str) -> str:
    """
    >>> counted(1, "filter"), counted(1200, "filter")
    ('1 filter', '1,200 filters')
    """
    return f"{n:,} {noun}" + ("" if n == 1 else "s")


def shape_error(what: str, given: object, expected: str) -> ValueError:
    """`what` was `given`, `expected` was expected; shapes of arrays stand for the arrays."""
    shown = f"shape {given.shape}" if isinstance(given, np.ndarray) else repr(given)
    return ValueError(f"{what}: got {shown}, expected {expected}")


def class_numbers(name: str, values: object, like: Sequence[int] | None = None) -> Array:
    """`values` as class numbers (n,) int64.

    Raises:
        ValueError: if they are not one-dimensional non-negative whole numbers, `like[0]` of them.
    """
    numbers = np.asarray(values)
    expected = "class numbers (n,)" if like is None else f"class numbers ({like[0]},)"
    if numbers.ndim != 1 or (like is not None and len(numbers) != like[0]):
        raise shape_error(name, numbers, f"{expected}; from one-hot or scores take argmax(axis=-1)")
    if numbers.size and (
        numbers.dtype.kind not in "biuf" or (numbers < 0).any() or (numbers % 1 != 0).any()
    ):
        raise ValueError(f"{name}: got {numbers.dtype} values, expected whole numbers from 0 up")
    return numbers.astype(np.int64)
