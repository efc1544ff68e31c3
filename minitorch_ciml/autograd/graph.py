"""`Graph`: what was recorded, to be printed, drawn and exported.

A graph takes down the records when it is made, so it can still be shown after `backward` has freed
them. Gradients of leaves are shown where `backward` left them, in `.grad`. Those of the values in
between are stored nowhere; `Graph.backward()` computes them all and keeps them in the graph.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from minitorch_ciml.autograd.engine import Variable, grad
from minitorch_ciml.autograd.record import FREED, Record
from minitorch_ciml.autograd.symbols import expression, names_for
from minitorch_ciml.autograd.tensor import Parameter
from minitorch_ciml.kernels.formula import in_words

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from minitorch_ciml.viz.film import Film

# The roles, and the colours of their boxes: fill and frame (Okabe and Ito, 2008).
ROLES = {
    "parameter": ("#fbe3b5", "#e69f00"),
    "leaf": ("#d3e9f8", "#0072b2"),
    "constant": ("#efefef", "#8c8c8c"),
    "value": ("#ffffff", "#595959"),
    "result": ("#cdebdf", "#009e73"),
}

_SIGNS = {
    "add": "+", "subtract": "−", "negative": "−", "multiply": "×", "divide": "÷", "matmul": "@",
    "power": "^", "equal": "=", "not_equal": "≠", "less": "<", "less_equal": "≤", "greater": ">",
    "greater_equal": "≥",
}  # fmt: skip


class Graph:
    """The recorded graph behind one or several variables.

    >>> from minitorch_ciml import Scalar
    >>> a, b = Scalar(2.0, name="a"), Scalar(3.0, name="b")
    >>> print(Graph(a * b + a).backward())
    a            2  gradient 4
    b            3  gradient 2
    t1 = a * b   6  gradient 1
    t2 = t1 + a  8  gradient 1

    Attributes:
        outputs: the variables it was made for.
        variables: every variable in it: the leaves, then the results, each from old to young.
        records: how each was made: None for a leaf, `FREED` where backward has forgotten it.
        names: what each is called here.
        gradients: what `Graph.backward` has found.
    """

    def __init__(self, *outputs: Variable):
        self.outputs = outputs
        self.records: dict[Variable, Record | None] = {}
        stack = list(outputs)
        while stack:
            v = stack.pop()
            if v not in self.records:
                self.records[v] = v.record
                stack.extend(v.record.inputs if v.record is not None else ())
        # Leaves first: a parameter that was assigned is younger than what was computed with it.
        self.variables = sorted(self.records, key=lambda v: (not self._is_leaf(v), v.serial))
        self.names = names_for(self.variables)
        self.gradients: dict[Variable, Variable] = {}

    def backward(self, gradient: Any = None) -> Graph:
        """Computes the gradient of the outputs (their sum) for every variable in the graph.

        The gradients are kept here, for printing and drawing. The variables do not notice: no
        `.grad` is touched and no record is freed.

        Args:
            gradient: the gradient of one final value with respect to each output; 1 for scalars.

        Returns:
            The graph itself, so that `loss.graph().backward().draw()` works.
        """
        wanted = [v for v in self.variables if v.requires_grad]
        seeds = gradient if gradient is None or len(self.outputs) > 1 else [gradient]
        found = grad(list(self.outputs), wanted, seeds, retain_graph=True, allow_unused=True)
        self.gradients = {v: g for v, g in zip(wanted, found) if g is not None}
        return self

    # --- what there is to show ------------------------------------------------------------------

    def gradient(self, v: Variable) -> Variable | None:
        """The gradient to show for `v`: what `Graph.backward` found, otherwise `v.grad`."""
        return self.gradients.get(v, v.grad)

    def role(self, v: Variable) -> str:
        """What `v` is in this graph: one of `ROLES`."""
        if any(v is y for y in self.outputs):
            return "result"
        if not self._is_leaf(v):
            return "value"
        if isinstance(v, Parameter):
            return "parameter"
        return "leaf" if v.requires_grad else "constant"

    def label(self, v: Variable) -> list[str]:
        """The lines in the box of `v`: its name, its value, its gradient."""
        lines = [self.names[v], in_words(v.value)]
        if lines[0] == lines[1]:
            del lines[0]
        if self.records[v] is FREED:
            lines.append("(freed)")
        gradient = self.gradient_in_words(v)
        return [*lines, gradient] if gradient else lines

    def steps(self) -> Iterator[tuple[Variable, str, tuple[Variable, ...]]]:
        """(result, the op's sign or name, its inputs) for every recorded operation."""
        for v in self.variables:
            record = self.records[v]
            if record is not None and record is not FREED:
                yield v, _SIGNS.get(record.op.name, record.op.name), record.inputs

    @property
    def freed(self) -> list[Variable]:
        """The variables whose history an earlier backward has freed."""
        return [v for v in self.variables if self.records[v] is FREED]

    def freed_note(self) -> str | None:
        """What to say about freed variables, or None if there is none."""
        if not self.freed:
            return None
        names = ", ".join(self.names[v] for v in self.freed)
        return (
            f"The graph behind {names} was freed by an earlier backward: make the graph before it, "
            "or call backward(retain_graph=True)."
        )

    def _is_leaf(self, v: Variable) -> bool:
        return self.records[v] is None

    def _formula(self, v: Variable) -> str:
        record = self.records[v]
        if record is None:
            return self.names[v]
        made = "(freed)" if record is FREED else expression(record, self.names)
        return f"{self.names[v]} = {made}"

    def gradient_in_words(self, v: Variable) -> str:
        """The line in the box of `v` that tells its gradient; empty if there is none."""
        g = self.gradient(v)
        if g is None:
            return ""
        # It has the shape of the value, which is written beside it.
        return f"gradient {in_words(g.value).removeprefix(f'{np.shape(g.value)} ')}"

    # --- text -----------------------------------------------------------------------------------

    def __str__(self) -> str:
        """One line per variable: name, formula, value, gradient. Plain numbers have none."""
        rows = []
        for v in self.variables:
            value = in_words(v.value)
            if self.names[v] != value or self.role(v) == "result":
                rows.append((self._formula(v), value, self.gradient_in_words(v)))
        widths = [max(map(len, column)) for column in zip(*rows)]
        note = self.freed_note()
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip()
            for row in rows
        ]
        return "\n".join(lines if note is None else [*lines, note])

    def __repr__(self) -> str:
        steps = sum(1 for _ in self.steps())
        return f"<Graph of {len(self.variables)} variables and {steps} operations>"

    def to_dot(self) -> str:
        """The graph in the language of Graphviz."""
        ids = self._ids()
        lines = ["digraph {", "  rankdir=LR;", '  node [fontname="sans-serif", style=filled];']
        for v, key in ids.items():
            fill, frame = ROLES[self.role(v)]
            label = "\\n".join(map(_dot_escaped, self.label(v)))
            lines.append(
                f'  {key} [shape=box, label="{label}", fillcolor="{fill}", color="{frame}"];'
            )
        for v, sign, inputs in self.steps():
            op = f"op_{ids[v]}"
            lines.append(f'  {op} [shape=circle, label="{_dot_escaped(sign)}", fillcolor=white];')
            lines += [f"  {ids[x]} -> {op};" for x in inputs]
            lines.append(f"  {op} -> {ids[v]};")
        return "\n".join([*lines, "}"])

    def to_mermaid(self) -> str:
        """The graph in the language of Mermaid, which many wikis and Markdown viewers draw."""
        ids = self._ids()
        lines = ["flowchart LR"]
        for v, key in ids.items():
            label = "<br/>".join(map(_mermaid_escaped, self.label(v)))
            lines.append(f'  {key}["{label}"]:::{self.role(v)}')
        for v, sign, inputs in self.steps():
            op = f"op_{ids[v]}"
            lines.append(f'  {op}(("{_mermaid_escaped(sign)}"))')
            lines += [f"  {ids[x]} --> {op}" for x in inputs]
            lines.append(f"  {op} --> {ids[v]}")
        for role, (fill, frame) in ROLES.items():
            lines.append(f"  classDef {role} fill:{fill},stroke:{frame},color:#000000")
        return "\n".join(lines)

    def _ids(self) -> dict[Variable, str]:
        return {v: f"v{i}" for i, v in enumerate(self.variables)}

    # --- pictures -------------------------------------------------------------------------------

    def draw(self, path: str | Path | None = None) -> Figure:
        """Draws the graph with matplotlib: boxes for variables, circles for operations.

        Args:
            path: where to save it (the ending tells the format: png, svg, pdf); nowhere if None.

        Returns:
            The figure; in a notebook it shows itself.
        """
        from minitorch_ciml.viz.graph import draw  # the one step upwards: pictures are on request

        figure = draw(self)
        if path is not None:
            figure.savefig(path)
        return figure

    def film(
        self, path: str | Path | None = None, gradient: Any = None, seconds: float = 2.5
    ) -> Film:
        """Backward as a film: one picture per step, with the chain rule written under it.

        Args:
            path: where to save it, an animated GIF; nowhere if None.
            gradient: as for `Graph.backward`.
            seconds: for which each picture is shown.

        Returns:
            The film; in a notebook it runs.
        """
        from minitorch_ciml.viz.film import Film  # the one step upwards: pictures are on request

        film = Film(self, gradient, seconds)
        if path is not None:
            film.save(path)
        return film

    def _repr_svg_(self) -> str:
        """How a notebook shows it."""
        text = io.StringIO()
        self.draw().savefig(text, format="svg")
        return text.getvalue()


def _dot_escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _mermaid_escaped(text: str) -> str:
    # Mermaid writes any character as #code; and must not see its own quotes, tags and backticks.
    special = '"#&<>`\\'
    return "".join(f"#{ord(c)};" if c in special else c for c in text).replace("\n", "<br/>")
