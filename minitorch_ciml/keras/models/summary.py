"""The table that `model.summary()` prints."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from minitorch_ciml.keras.layers.function import Function
from minitorch_ciml.keras.tree import flatten

# The right edges of the columns as shares of the width, and the width where the terminal has it.
_EDGES, _WIDTH = (0.45, 0.80, 1.0), 88
_EDGES_CONNECTED, _WIDTH_CONNECTED = (0.3, 0.56, 0.74, 1.0), 108


def print_summary(
    model: Any,
    line_length: int | None,
    positions: Any,
    print_fn: Callable[[str], None] | None,
    expand_nested: bool,
    show_trainable: bool,
    layer_range: Any,
) -> None:
    """Prints the layers of `model` with output shapes and parameters, and the totals.

    The table is that of Keras, to the character.
    """
    from rich.console import Console
    from rich.table import Table

    connected = _branches(model)
    edges = positions or (_EDGES_CONNECTED if connected else _EDGES)
    width = _WIDTH_CONNECTED if connected else _WIDTH
    headers = ["Layer (type)", "Output Shape", "Param #", *(["Connected to"] if connected else [])]
    if show_trainable:
        edges, width = [*(0.9 * edge for edge in edges), 1.0], width + 12
        headers.append("Trainable")
    width = line_length or min(width, shutil.get_terminal_size().columns - 4)
    table = Table(width=width, show_lines=True)
    for header, left, right in zip(headers, (0, *edges), edges):
        wide = int(right * width) - int(left * width)
        if wide < 4:
            raise ValueError(f"summary: {width} columns are too few; pass line_length=.")
        table.add_column(header, justify=_ALIGNMENT.get(header, "left"), width=wide)
    is_graph = model._graph is not None and not hasattr(model, "_tensors")
    layers = model._graph.layers if is_graph else model.layers  # also functions, such as x + 1
    for layer in _in_range(layers, layer_range):
        _add_rows(table, layer, 0, connected, expand_nested, show_trainable)
    plain = print_fn is not None or not sys.stdout.isatty()
    console = Console(width=max(80, width), no_color=True) if plain else Console()
    with console.capture() as capture:
        console.print(f'[bold]Model: "{model.name}"[/bold]', highlight=False)
        console.print(table)
        for line in _totals(model):
            console.print(line, highlight=False)
    (print_fn or print)(capture.get().rstrip("\n"))


_ALIGNMENT: dict[str, Any] = {"Param #": "right", "Trainable": "center"}


def _in_range(layers: list, names: Any) -> list:
    """The layers from the first that matches the first name to the last that matches the other."""
    if names is None:
        return layers
    found = [[i for i, x in enumerate(layers) if re.match(name, x.name)] for name in names]
    if len(found) != 2 or not all(found):
        raise ValueError(
            f"summary: layer_range must name the first and the last layer, got {names!r}; there "
            f"are: {', '.join(layer.name for layer in layers)}."
        )
    first, last = sorted((min(found[0]), max(found[1])))
    return layers[first : last + 1]


def _branches(model: Any) -> bool:
    """Whether the layers do not simply follow one another: then connections are shown."""
    graph = model._graph
    if graph is None or hasattr(model, "_tensors"):
        return False
    layers = [node.layer for node in graph.nodes]
    return (
        len(model.inputs) > 1
        or len(set(layers)) < len(layers)
        or any(len(node.inputs) != 1 for node in graph.nodes)
        or any(
            node.inputs[0].node is not (graph.nodes[i - 1] if i else model.inputs[0].node)
            for i, node in enumerate(graph.nodes)
        )
    )


def _add_rows(
    table: Any, layer: Any, depth: int, connected: bool, expand: bool, show_trainable: bool
) -> None:
    kind = layer.serialized_as[1] if isinstance(layer, Function) else type(layer).__name__
    name = f"{'   ' * depth}{'└ ' if depth else ''}{layer.name} ({kind})"
    parameters = f"{sum(w.size for w in layer.weights):,}"
    row = [name, _shape(layer), parameters if layer.built else "0 (unbuilt)"]
    if connected:
        row.append(", ".join(_sources(layer)) if not depth else "-")
    if show_trainable:
        row.append("-" if not layer.weights else "Y" if layer.trainable else "N")
    table.add_row(*row)
    if expand and hasattr(layer, "layers"):
        for inner in layer.layers:
            _add_rows(table, inner, depth + 1, connected, expand, show_trainable)


def _shape(layer: Any) -> str:
    try:
        shapes = [t.shape for t in flatten(layer.output)]
    except AttributeError:
        if layer._build_shape is None:
            return "?"
        shape = layer.compute_output_shape(layer._build_shape)
        shapes = shape if isinstance(shape, list) else [shape]
    texts = [f"({', '.join(map(str, shape))})" for shape in shapes]
    return texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"


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
