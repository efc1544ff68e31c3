"""Draws a recorded graph: boxes for variables, circles for operations, from left to right.

The pictures of models run from top to bottom: the same layout, turned.

The layout is Sugiyama's (1981), in four small steps: every node gets a layer such that edges run to
the right; edges that skip layers get a waypoint in each; nodes are ordered within their layers by
the barycentre of their neighbours, so that few edges cross; then heights are chosen so that edges
are as straight as that order allows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from minitorch_ciml.autograd.engine import Variable
from minitorch_ciml.autograd.graph import ROLES, Graph
from minitorch_ciml.kernels.formula import in_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# All lengths are inches on paper, so that text fits its box whatever the size of the graph.
TEXT_SIZE = 9.0  # points
LINE = 0.17
PADDING = 0.09
ROW_GAP = 0.16
LAYER_GAP = 0.42
MARGIN = 0.25
SWEEPS = 12

INK = "#222222"
PALE = "#8c8c8c"
GRADIENT = "#b3470a"  # a vermilion dark enough to read


@dataclass(eq=False)
class Node:
    """A box, a circle or (without lines of text) a waypoint of a long edge."""

    lines: list[tuple[str, str]] = field(default_factory=list)  # text and its colour
    role: str = ""  # a key of ROLES; "" for an operation
    layer: int = 0
    x: float = 0.0  # the middle, and that of its column
    column: float = 0.0  # the width of its column
    y: float = 0.0
    least_width: float = 0.0  # where its text changes from picture to picture
    lit: bool = False  # drawn in the gradient's colour
    turned: bool = False  # layers are laid out downwards: x counts down, y to the right
    before: list[Node] = field(default_factory=list)
    after: list[Node] = field(default_factory=list)

    @property
    def width(self) -> float:
        if not self.lines:
            return 0.0
        text = max(_text_width(line) for line, _ in self.lines)
        return max(text + 2 * PADDING, 0.0 if self.role else self.height, self.least_width)

    @property
    def height(self) -> float:
        return len(self.lines) * LINE + PADDING if self.lines else 0.02

    @property
    def length(self) -> float:
        """Its size along the edges."""
        return self.height if self.turned and self.lines else self.width

    @property
    def breadth(self) -> float:
        """Its size across the edges."""
        return self.width if self.turned and self.lines else self.height

    def on_paper(self, x: float, y: float) -> tuple[float, float]:
        """A point of the layout in the picture."""
        return (y, -x) if self.turned else (x, y)


def draw(graph: Graph) -> Figure:
    """Draws `graph` on a figure of its own, as large as it needs to be."""
    boxes, circles = nodes_of(graph)
    nodes = [*boxes.values(), *circles.values()]
    return drawing(nodes, roles_of(nodes), (graph.freed_note() or "").replace(": ", ":\n"))


def roles_of(nodes: Sequence[Node]) -> list[str]:
    """The roles that a legend has to explain."""
    return [role for role in ROLES if any(n.role == role for n in nodes)]


def drawing(nodes: list[Node], roles: Sequence[str] = (), note: str = "") -> Figure:
    """The figure of `nodes`, laid out by their edges, over a legend of `roles` and a note."""
    return on_paper(nodes, layered(nodes), roles, note)


def on_paper(
    nodes: list[Node],
    edges: list[list[Node]],
    roles: Sequence[str] = (),
    note: str = "",
    least_width: float = 0.0,
) -> Figure:
    """The figure of nodes that have their places, at least so many inches wide."""
    from minitorch_ciml.viz.figure import Picture

    middles = [(n, *n.on_paper(n.x, n.y)) for n in nodes]
    left = min(x - n.width / 2 for n, x, _ in middles) - MARGIN
    width = max(x + n.width / 2 for n, x, _ in middles) - left + MARGIN
    low = min(y - n.height / 2 for n, _, y in middles)
    height = max(y + n.height / 2 for n, _, y in middles) - low + MARGIN
    width = max(width, _legend_width(roles), width_of(note), least_width)
    footer = LINE * (3.5 + note.count("\n") if note else 1.5 if roles else 0)
    figure = Picture(figsize=(width + MARGIN, height + MARGIN + footer), dpi=150)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(left, left + width + MARGIN), ylim=(low - MARGIN - footer, low + height))
    axes.set_axis_off()
    for path in edges:
        _draw_edge(axes, path)
    for node in nodes:
        _draw_node(axes, node)
    _draw_legend(axes, roles, low - MARGIN - LINE)
    if note:
        place: dict[str, Any] = {"va": "top", "size": TEXT_SIZE, "color": GRADIENT}
        axes.text(MARGIN, low - MARGIN - 2 * LINE, note.replace("$", r"\$"), **place)
    return figure


def width_of(note: str) -> float:
    """Of a note under a picture, in inches."""
    return MARGIN + max(map(_text_width, note.split("\n")))


# --- nodes and layers ---------------------------------------------------------------------------


def nodes_of(graph: Graph) -> tuple[dict[Variable, Node], dict[Variable, Node]]:
    """A box per variable, and a circle per operation, by its result; joined."""
    boxes = {}
    for v in graph.variables:
        colours = [INK, INK]
        lines = graph.label(v)
        if lines[0] != graph.names[v] or lines[0] == in_words(v.value):
            colours = [INK]  # a number has no name above its value
        elif not v.name:
            colours = [PALE, INK]
        colours += [GRADIENT] * (len(lines) - len(colours))
        boxes[v] = Node(list(zip(lines, colours)), graph.role(v))
    circles = {}
    for result, sign, inputs in graph.steps():
        circle = circles[result] = Node([(sign, INK)])
        for before, after in [*((boxes[x], circle) for x in inputs), (circle, boxes[result])]:
            before.after.append(after)
            after.before.append(before)
    return boxes, circles


def layered(nodes: list[Node]) -> list[list[Node]]:
    """Places the nodes, and returns each edge as the nodes and waypoints that it runs through."""
    _assign_layers(nodes)
    layers: list[list[Node]] = [[] for _ in range(1 + max(n.layer for n in nodes))]
    for n in nodes:
        layers[n.layer].append(n)
    edges = _with_waypoints(nodes, layers)
    _order(layers)
    _place(layers)
    return edges


def _assign_layers(nodes: list[Node]) -> None:
    """The longest path from a leaf; then leaves move right, up to where they are first used."""
    waiting = {n: len(n.before) for n in nodes}
    ready = [n for n in nodes if not n.before]
    while ready:
        n = ready.pop()
        for m in n.after:
            m.layer = max(m.layer, n.layer + 1)
            waiting[m] -= 1
            if waiting[m] == 0:
                ready.append(m)
    for n in nodes:
        if not n.before and n.after:
            n.layer = min(m.layer for m in n.after) - 1


def _with_waypoints(nodes: list[Node], layers: list[list[Node]]) -> list[list[Node]]:
    """Splits edges that skip layers; afterwards all neighbours are in adjacent layers."""
    edges = []
    for n in nodes:
        for i, m in enumerate(n.after):
            path = [n, *(Node(layer=k, turned=n.turned) for k in range(n.layer + 1, m.layer)), m]
            for k, waypoint in enumerate(path[1:-1], 1):
                layers[waypoint.layer].append(waypoint)
                waypoint.before, waypoint.after = [path[k - 1]], [path[k + 1]]
            if len(path) > 2:
                n.after[i] = path[1]
                m.before[m.before.index(n)] = path[-2]
            edges.append(path)
    return edges


def _order(layers: list[list[Node]]) -> None:
    """Sorts each layer by the mean position of its neighbours, sweeping to and fro.

    Keeps the order with the fewest crossings that it has seen.
    """
    best, fewest = [list(layer) for layer in layers], _crossings(layers)
    for sweep in range(SWEEPS):
        forward = sweep % 2 == 0
        for layer in layers if forward else layers[::-1]:
            position = {n: i for whole in layers for i, n in enumerate(whole)}

            def barycentre(n: Node, position: dict = position, forward: bool = forward) -> float:
                neighbours = n.before if forward else n.after
                return float(np.mean([position[m] for m in neighbours or [n]]))

            layer.sort(key=barycentre)
        crossings = _crossings(layers)
        if crossings < fewest:
            best, fewest = [list(layer) for layer in layers], crossings
    layers[:] = best


def _crossings(layers: list[list[Node]]) -> int:
    total = 0
    for left, right in zip(layers, layers[1:]):
        position = {n: i for i, n in enumerate(right)}
        ends = np.array(
            [position[m] for n in left for m in sorted(n.after, key=position.__getitem__)]
        )
        total += int(np.triu(ends[:, None] > ends).sum())
    return total


def _place(layers: list[list[Node]]) -> None:
    """Columns by the widest box; heights by pulling each node towards its neighbours."""
    x = MARGIN
    for layer in layers:
        width = max(n.length for n in layer)
        for n in layer:
            n.x, n.column = x + width / 2, width
        x += width + LAYER_GAP
        _spread(layer, [-i * (LINE + ROW_GAP) for i in range(len(layer))])
    for sweep in range(2 * SWEEPS):
        for layer in layers if sweep % 2 else layers[::-1]:
            _spread(layer, [_wish(n, sweep) for n in layer])
    for layer in layers[::-1]:  # last, an operation moves level with its result
        _spread(layer, [n.after[0].y if _is_alone(n) else n.y for n in layer])


def _wish(n: Node, sweep: int) -> float:
    """The height that makes the edges of `n` straightest: the mean of its neighbours' heights.

    At first of those on the side that the sweep comes from, so that the whole graph unfolds; then
    of all.
    """
    sides = (n.before, n.after) if sweep % 2 else (n.after, n.before)
    neighbours = n.before + n.after if sweep > SWEEPS else sides[0] or sides[1]
    return float(np.mean([m.y for m in neighbours])) if neighbours else n.y


def _is_alone(n: Node) -> bool:
    """True where one edge leaves `n` and no other arrives where it ends: it can run level."""
    return len(n.after) == 1 and len(n.after[0].before) == 1


def _spread(layer: Sequence[Node], wishes: Sequence[float]) -> None:
    """The heights nearest to `wishes` (least squares) at which the nodes keep order and distance.

    Measured from the tightest stack, the heights must only not increase from one node to the next:
    isotonic regression, solved by pooling neighbours that violate it.
    """
    stack = np.zeros(len(layer))
    for i in range(1, len(layer)):
        upper, lower = layer[i - 1], layer[i]
        stack[i] = stack[i - 1] - (upper.breadth + lower.breadth) / 2 - ROW_GAP
    pools: list[tuple[float, int]] = []  # mean and size
    for wish in np.asarray(wishes) - stack:
        mean, size = float(wish), 1
        while pools and pools[-1][0] < mean:
            above, count = pools.pop()
            mean, size = (above * count + mean * size) / (count + size), count + size
        pools.append((mean, size))
    offsets = [mean for mean, size in pools for _ in range(size)]
    for n, y in zip(layer, stack + offsets):
        n.y = float(y)


# --- ink ----------------------------------------------------------------------------------------


@lru_cache(maxsize=1000)
def _text_width(text: str) -> float:
    """In inches."""
    from matplotlib.textpath import TextPath

    return TextPath((0, 0), text, size=TEXT_SIZE).get_extents().width / 72 if text.strip() else 0.0


def _draw_node(axes: Axes, node: Node) -> None:
    from matplotlib.patches import Circle, FancyBboxPatch

    middle, height = node.on_paper(node.x, node.y)
    fill, frame = ROLES[node.role] if node.role else ("white", INK)
    ink: dict[str, Any] = {"facecolor": fill, "edgecolor": frame, "lw": 1.0, "zorder": 2}
    if node.lit:
        ink |= {"edgecolor": GRADIENT, "lw": 2.0}
    if node.role or node.width > node.height:
        style = f"round,pad=0,rounding_size={0.05 if node.role else node.height / 2}"
        corner = (middle - node.width / 2, height - node.height / 2)
        axes.add_patch(FancyBboxPatch(corner, node.width, node.height, style, **ink))
    else:
        axes.add_patch(Circle((middle, height), node.height / 2, **ink))
    for i, (line, colour) in enumerate(node.lines):
        y = height + ((len(node.lines) - 1) / 2 - i) * LINE
        text = line.replace("$", r"\$")
        place: dict[str, Any] = {"ha": "center", "va": "center_baseline", "zorder": 3}
        axes.text(middle, y, text, size=TEXT_SIZE, color=colour, **place)


def _draw_edge(axes: Axes, path: list[Node]) -> None:
    """A smooth curve that leaves and arrives level and passes through the waypoints."""
    from matplotlib.patches import FancyArrowPatch
    from matplotlib.path import Path

    # Within a column it runs level, so that it never passes behind a box; it climbs between them.
    first, last = path[0], path[-1]
    vertices, codes = [(first.x + first.length / 2, first.y)], [Path.MOVETO]
    for n, m in zip(path, path[1:]):
        start, end = n.x + n.column / 2, m.x - m.column / 2
        middle = (start + end) / 2
        vertices += [(start, n.y), (middle, n.y), (middle, m.y), (end, m.y)]
        codes += [Path.LINETO, *[Path.CURVE4] * 3]
    if last.length < last.column:
        vertices.append((last.x - last.length / 2, last.y))
        codes.append(Path.LINETO)
    axes.add_patch(
        FancyArrowPatch(
            path=Path([first.on_paper(*vertex) for vertex in vertices], codes),
            arrowstyle="-|>",
            mutation_scale=7,
            color=GRADIENT if first.lit and last.lit else "#6b6b6b",
            lw=1.8 if first.lit and last.lit else 0.9,
            shrinkA=0,
            shrinkB=0,
            zorder=1,
        )  # fmt: skip
    )


def _legend_width(roles: Sequence[str]) -> float:
    return MARGIN + sum(_text_width(role) + 0.5 for role in roles)


def _draw_legend(axes: Axes, roles: Sequence[str], y: float) -> None:
    from matplotlib.patches import Rectangle

    x = MARGIN
    for role in roles:
        fill, frame = ROLES[role]
        axes.add_patch(
            Rectangle((x, y - 0.06), 0.16, 0.12, facecolor=fill, edgecolor=frame, lw=0.8)
        )
        axes.text(x + 0.22, y, role, size=TEXT_SIZE, color=INK, va="center_baseline")
        x += _text_width(role) + 0.5
