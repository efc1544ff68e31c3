"""Backward as a film: the graph, step by step, with the chain rule written under it."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from copy import copy
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minitorch_ciml.autograd.backward import backpropagate
from minitorch_ciml.autograd.engine import Variable
from minitorch_ciml.autograd.graph import Graph
from minitorch_ciml.autograd.trace import Trace
from minitorch_ciml.datasets.files import atomic_write
from minitorch_ciml.viz.graph import GRADIENT, layered, nodes_of, on_paper, roles_of, width_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Film:
    """The steps of a backward, as pictures of one size: `Graph.film` makes it.

    Nothing is changed: no `.grad` is touched and no record is freed. It can be shown after a
    `backward` that frees them, too.

    Attributes:
        steps: for each picture what is written under it, the variables that take part in the step
            (the first passes its gradient on to the others), and the gradients so far.
    """

    def __init__(self, graph: Graph, gradient: Any = None, seconds: float = 2.5):
        self.graph = graph
        self.seconds = seconds
        self.steps: list[tuple[str, list[Variable], dict[Variable, Variable]]] = []
        told: list[str] = []
        trace = Trace(*graph.outputs, tell=told.append, onto_grad=False)

        def watch(v: Variable, g: Variable, input_gradients: Any) -> None:
            trace.arrived.setdefault(v, g)
            trace(v, g, input_gradients)
            inputs = v.record.inputs if v.record is not None else ()
            receivers = [x for x, gx in zip(inputs, input_gradients) if gx is not None]
            self.steps.append((told.pop(), [v, *receivers], dict(trace.arrived)))

        wanted = [v for v in graph.variables if v.requires_grad]
        seeds = gradient if gradient is None or len(graph.outputs) > 1 else [gradient]
        seeds = [None] * len(graph.outputs) if seeds is None else list(seeds)
        backpropagate(list(graph.outputs), seeds, wanted, retain_graph=True, observer=watch)

    def __len__(self) -> int:
        return len(self.steps) + 2

    def pictures(self) -> Iterator[Figure]:
        """The figures: what was computed, then a step each, then everything."""
        last = self.steps[-1][2] if self.steps else {}
        graph = copy(self.graph)  # as it was recorded: a backward since may have freed it
        graph.gradients = last
        boxes, circles = nodes_of(graph)
        nodes = [*boxes.values(), *circles.values()]
        edges = layered(nodes)
        texts = {v: box.lines for v, box in boxes.items()}
        for box in boxes.values():
            box.least_width = box.width
        told = [
            ("Forward: every value was computed from left to right.", [], {}),
            *self.steps,
            ("Done: every value has its gradient.", [], last),
        ]
        wide = max(width_of(words) for words, _, _ in told)
        lines = max(words.count("\n") for words, _, _ in told)
        for words, active, gradients in told:
            graph.gradients = gradients
            for v, box in boxes.items():
                if v in last:  # an empty line holds the place of a gradient to come
                    words_so_far = graph.gradient_in_words(v) if v in gradients else ""
                    box.lines = [*texts[v][:-1], (words_so_far, GRADIENT)]
                box.lit = any(v is x for x in active)
            for v, circle in circles.items():
                circle.lit = bool(active) and v is active[0]
            note = words + "\n" * (lines - words.count("\n"))
            yield on_paper(nodes, edges, roles_of(nodes), note, wide)

    def save(self, path: str | Path) -> None:
        """Writes the film as an animated GIF."""
        if Path(path).suffix.lower() != ".gif":
            raise ValueError(f"film: the file name must end in .gif, got {str(path)!r}.")
        with atomic_write(path) as file:
            file.write(self._gif())

    def _gif(self) -> bytes:
        from PIL import Image

        images = []
        for figure in self.pictures():
            figure.set_dpi(110)
            png = BytesIO()
            figure.savefig(png, format="png", dpi=110)
            images.append(Image.open(png).convert("P", palette=Image.Palette.ADAPTIVE))
        file = BytesIO()
        images[0].save(
            file, format="GIF", save_all=True, append_images=images[1:], loop=0,
            duration=round(1000 * self.seconds),
        )  # fmt: skip
        return file.getvalue()

    def _repr_html_(self) -> str:
        """How a notebook shows it."""
        text = base64.b64encode(self._gif()).decode()
        return f'<img alt="backward, step by step" src="data:image/gif;base64,{text}">'
