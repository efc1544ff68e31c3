"""Master shapes of the ten digits, from fonts and from pen strokes, as signed distance fields.

A distance field says, at every point of a grid, how far the outline is (positive inside). Unlike a
picture it can be enlarged, sheared and bent without blurring, and drawn with a thicker or thinner
stroke by moving its threshold (Frisken et al., 2000; Green, 2007).
"""

import functools
import os
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from minitorch_ciml.datasets.pen import PEN, Stroke

Array32 = npt.NDArray[np.float32]
Array64 = npt.NDArray[np.float64]

# Faces whose digits differ from each other, all carried by matplotlib itself since 3.8 or before.
# DejaVu Sans Mono is missing for its dotted zero; cmtt10 is the typewriter face here.
FACES = (
    "DejaVuSans",
    "DejaVuSans-Oblique",
    "DejaVuSerif",
    "DejaVuSerif-Italic",
    "STIXGeneral",
    "STIXGeneralItalic",
    "STIXGeneralBolIta",
    "cmr10",
    "cmss10",
    "cmtt10",
    "cmmi10",
)
GRID = 64  # points a side: more than two for each pixel of the finished image
REACH = 0.75  # the grid spans [-REACH, REACH]^2 around a digit whose longer side is 1
DIRECTIONS = np.array(
    [(1, 0), (2, 1), (1, 1), (1, 2), (0, 1), (-1, 2), (-1, 1), (-2, 1)], np.float64
)


class Masters(NamedTuple):
    """K master shapes; lengths in units of a digit's longer side."""

    digits: npt.NDArray[np.intp]  # (K,)
    fields: Array32  # (K, GRID, GRID): signed distance, rows downwards
    centres: Array32  # (K, 2): centre of mass (x, y), y downwards
    hulls: Array32  # (K, 16, 2): the outermost points in 16 directions
    half_widths: Array32  # (K,): half the width of the stroke; 0 for a pen's bare line


@functools.cache
def font_masters() -> Masters:
    """The ten digits in each of FACES."""
    shapes = [(digit, _outline(face, digit)) for face in FACES for digit in range(10)]
    return _masters(shapes, pen=False)


def pen_masters(rng: np.random.Generator, hands: int) -> Masters:
    """Every variant in PEN as `hands` people write it; `rng` draws how each deviates from it."""
    shapes = [
        (digit, _write(rng, strokes))
        for digit, variants in enumerate(PEN)
        for strokes in variants
        for _ in range(hands)
    ]
    return _masters(shapes, pen=True)


def joined(first: Masters, second: Masters) -> Masters:
    """The masters of both, `first` first."""
    return Masters(
        np.concatenate([first.digits, second.digits]),
        np.concatenate([first.fields, second.fields]),
        np.concatenate([first.centres, second.centres]),
        np.concatenate([first.hulls, second.hulls]),
        np.concatenate([first.half_widths, second.half_widths]),
    )


def _masters(shapes: list[tuple[int, list[Array64]]], pen: bool) -> Masters:
    made = [_master(lines, pen) for _, lines in shapes]
    digits = np.array([digit for digit, _ in shapes])
    return Masters(digits, *(np.array(part, np.float32) for part in zip(*made, strict=True)))


def _master(lines: list[Array64], pen: bool) -> tuple[Array64, Array64, Array64, float]:
    """Distance field, centre of mass, hull and half stroke width of one shape's polylines."""
    points = np.concatenate(lines)
    low, high = points.min(axis=0), points.max(axis=0)
    scale = 1 / (high - low).max()
    lines = [(line - (low + high) / 2) * scale * (1, -1) for line in lines]
    starts = np.concatenate([line[:-1] for line in lines])
    ends = np.concatenate([line[1:] for line in lines])
    distance = _distance(starts, ends)
    field = -distance if pen else np.where(_inside(starts, ends), distance, -distance)
    return field, _centre(field), _hull(np.concatenate(lines)), 0.0 if pen else _half_width(field)


def _grid() -> tuple[Array64, Array64]:
    """x (1, GRID) and y (GRID, 1) of the grid's points."""
    axis = (2 * np.arange(GRID) / (GRID - 1) - 1) * REACH
    return axis[None, :], axis[:, None]


def _distance(starts: Array64, ends: Array64) -> Array64:
    """Distance (GRID, GRID) of each grid point to the nearest segment from (S, 2) to (S, 2)."""
    x, y = _grid()
    nearest = np.full((GRID, GRID), np.inf)
    for (ax, ay), (bx, by) in zip(starts, ends, strict=True):
        dx, dy = bx - ax, by - ay
        length = dx * dx + dy * dy
        if length == 0:
            continue
        along = np.clip(((x - ax) * dx + (y - ay) * dy) / length, 0, 1)
        nearest = np.minimum(nearest, (x - ax - along * dx) ** 2 + (y - ay - along * dy) ** 2)
    return np.sqrt(nearest)


def _inside(starts: Array64, ends: Array64) -> npt.NDArray[np.bool_]:
    """Whether each grid point has a winding number other than 0 (the rule of font outlines)."""
    x, y = _grid()
    winding = np.zeros((GRID, GRID), np.int64)
    for (ax, ay), (bx, by) in zip(starts, ends, strict=True):
        if ay != by:
            crosses = (y >= min(ay, by)) & (y < max(ay, by))
            crosses = crosses & (x < ax + (y - ay) * (bx - ax) / (by - ay))
            winding += crosses if by > ay else -1 * crosses
    return winding != 0


def _centre(field: Array64) -> Array64:
    """Centre of mass of the shape, a pen's line taken as wide as a pen's stroke is."""
    x, y = _grid()
    ink = field > min(0.0, field.max() - 0.06)
    return np.array([(x * ink).sum(), (y * ink).sum()]) / ink.sum()


def _hull(points: Array64) -> Array64:
    """The points that lie furthest in 16 directions: enough to know a warped shape's extent."""
    directions = np.concatenate([DIRECTIONS, -DIRECTIONS])
    heights = points[:, :1] * directions[:, 0] + points[:, 1:] * directions[:, 1]
    return points[heights.argmax(axis=0)]


def _half_width(field: Array64) -> float:
    """Typical half width of the stroke: the median of the distance along its ridge."""
    core = field[1:-1, 1:-1]
    ridge = (core > 0) & (
        ((core >= field[1:-1, :-2]) & (core > field[1:-1, 2:]))
        | ((core >= field[:-2, 1:-1]) & (core > field[2:, 1:-1]))
    )
    return float(np.median(core[ridge]))


def _outline(face: str, digit: int) -> list[Array64]:
    """Closed polylines around `digit` in one of matplotlib's own fonts."""
    import matplotlib
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    file = os.path.join(matplotlib.get_data_path(), "fonts", "ttf", f"{face}.ttf")
    path = TextPath((0, 0), str(digit), size=1, prop=FontProperties(fname=file))
    # Flattened here and not by matplotlib, whose choice of points depends on the size on screen.
    step = np.arange(1, 7)[:, None] / 6
    lines: list[list[Array64]] = []
    for vertices, code in path.iter_segments(curves=True, simplify=False):
        corners = np.asarray(vertices, np.float64).reshape(-1, 2)
        if code == path.MOVETO:
            lines.append([corners])
        elif code == path.CLOSEPOLY:
            lines[-1].append(lines[-1][0])
        else:
            lines[-1].append(_bezier(np.concatenate([lines[-1][-1][-1:], corners]), step))
    return [np.concatenate(line) for line in lines]


def _bezier(corners: Array64, t: Array64) -> Array64:
    """Points at t (T, 1) of the Bezier curve with controls `corners` (n, 2) (de Casteljau)."""
    points = [corner[None, :] for corner in corners]
    while len(points) > 1:
        points = [a + (b - a) * t for a, b in zip(points, points[1:], strict=False)]
    return points[0]


def _write(rng: np.random.Generator, strokes: list[Stroke]) -> list[Array64]:
    """One person's version of a digit: points moved by up to 5% of its height, joints kept."""
    moved = {
        point: np.array(point) + (rng.random(2) - 0.5) * 0.1
        for point in dict.fromkeys(point for stroke in strokes for point in stroke)
    }
    return [_smooth(np.array([moved[point] for point in stroke])) for stroke in strokes]


def _smooth(points: Array64) -> Array64:
    """A Catmull-Rom spline through `points` (n, 2), six steps from each to the next."""
    before = np.concatenate([points[:1], points[:-1]])
    after = np.concatenate([points[2:], points[-1:]])
    t = np.arange(6)[:, None] / 6
    pieces = [
        b + t / 2 * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))
        for a, b, c, d in zip(before, points[:-1], points[1:], after, strict=False)
    ]
    return np.concatenate([*pieces, points[-1:]])
