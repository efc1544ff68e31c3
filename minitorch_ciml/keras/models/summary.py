"""The table that `model.summary()` prints."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from minitorch_ciml.keras.tree import flatten


def print_summary(
    model: Any,
    line_length: int | None = None,
    print_fn: Callable[[str], None] | None = None,
    expand_nested: bool = False,
    show_trainable: bool = False,
) -> None:
    """Prints the layers of `model` with output shapes and parameters, and the totals."""
    from rich.console import Console
    from rich.table import Table

    connected = _branches(model)
    table = Table(width=line_length, show_lines=True)
    table.add_column("Layer (type)")
    table.add_column("Output Shape")
    table.add_column("Param #", justify="right")
    if connected:
        table.add_column("Connected to")
    if show_trainable:
        table.add_column("Trainable", justify="center")
    for layer in model.layers:
        _add_rows(table, layer, 0, connected, expand_nested, show_trainable)
    plain = print_fn is not None or not sys.stdout.isatty()
    console = Console(width=line_length or (_width(table) if plain else None))
    with console.capture() as capture:
        console.print(f'[bold]Model: "{model.name}"[/bold]', highlight=False)
        console.print(table)
        for line in _totals(model):
            console.print(line, highlight=False)
    (print_fn or print)(capture.get().rstrip("\n"))


def _width(table: Any) -> int:
    """Wide enough for every cell, where there is no terminal to fit into."""
    cells = [[len(str(c)) for c in (column.header, *column.cells)] for column in table.columns]
    return max(60, sum(max(column) for column in cells) + 3 * len(cells) + 1)


def _branches(model: Any) -> bool:
    """Whether the layers do not simply follow one another: then connections are shown."""
    graph = model._graph
    if graph is None or hasattr(model, "_tensors"):
        return False
    return len(model.inputs) > 1 or any(len(node.inputs) != 1 for node in graph.nodes) or any(
        node.inputs[0].node is not (graph.nodes[i - 1] if i else model.inputs[0].node)
        for i, node in enumerate(graph.nodes)
    )  # fmt: skip


def _add_rows(
    table: Any, layer: Any, depth: int, connected: bool, expand: bool, show_trainable: bool
) -> None:
    name = f"{'   ' * depth}{'└ ' if depth else ''}{layer.name} ({type(layer).__name__})"
    parameters = f"{sum(w.size for w in layer.weights):,}"
    row = [name, _shape(layer), parameters if layer.built else "0 (unbuilt)"]
    if connected:
        row.append("\n".join(_sources(layer)) if not depth else "")
    if show_trainable:
        row.append("-" if not layer.weights else "Y" if layer.trainable else "N")
    table.add_row(*row)
    if expand and hasattr(layer, "layers"):
        for inner in layer.layers:
            _add_rows(table, inner, depth + 1, connected, expand, show_trainable)


def _shape(layer: Any) -> str:
    try:
        output = layer.output
    except AttributeError:
        return "?"
    return ", ".join(str(t.shape) for t in flatten(output))


def _sources(layer: Any) -> list[str]:
    if not layer._inbound_nodes:
        return ["-"]
    inputs = [x for node in layer._inbound_nodes for x in node.inputs]
    return [f"{x.node.layer.name}[{x.node.position}][{x.index}]" for x in inputs] or ["-"]


def _totals(model: Any) -> list[str]:
    groups = {"Trainable": model.trainable_weights, "Non-trainable": model.non_trainable_weights}
    if model.optimizer is not None and model.optimizer.built:
        groups["Optimizer"] = model.optimizer.variables
    groups = {"Total": [v for variables in groups.values() for v in variables], **groups}
    return [
        f" [bold]{name} params:[/bold] {sum(v.size for v in variables):,} ({_bytes(variables)})"
        for name, variables in groups.items()
    ]


def _bytes(arrays: list) -> str:
    size = float(sum(np.asarray(a).nbytes for a in arrays))
    for unit in ("B", "KB", "MB"):
        if size < 1024:
            return f"{size:.2f} {unit}"
        size /= 1024
    return f"{size:.2f} GB"
