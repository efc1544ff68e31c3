"""Draws a model: a box for every call of a layer, from the inputs to the outputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from minitorch_ciml.keras.layers.function import Function
from minitorch_ciml.keras.tree import flatten
from minitorch_ciml.viz.graph import INK, PALE, Node, drawing

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_model(model: Any, shapes: bool, dtypes: bool, names: bool, downwards: bool) -> Figure:
    """Draws the layers of a Sequential or functional model; those with weights are coloured.

    Args:
        model: the model; its input's shape must be known.
        shapes, dtypes, names: whether the boxes tell the outputs' shapes and dtypes, and the
            layers' names.
        downwards: from top to bottom, otherwise from left to right.

    Raises:
        ValueError: there is no graph of layers.
    """
    graph = model._graph
    if graph is None:
        raise ValueError(
            f"plot_model: {model.name!r} has no graph of layers to draw; give a Sequential its "
            "input's shape, or write the model with keras.Model(inputs, outputs)."
        )
    calls = dict.fromkeys([*(x.node for x in flatten(graph.inputs)), *graph.nodes])
    boxes = {call: _box(call, shapes, dtypes, names) for call in calls}
    for box in boxes.values():
        box.turned = downwards
    for call in graph.nodes:
        for source in dict.fromkeys(x.node for x in call.inputs):
            boxes[source].after.append(boxes[call])
            boxes[call].before.append(boxes[source])
    return drawing(list(boxes.values()))


def _box(call: Any, shapes: bool, dtypes: bool, names: bool) -> Node:
    layer = call.layer
    outputs = flatten(call.outputs)
    lines = [(layer.function if isinstance(layer, Function) else type(layer).__name__, INK)]
    if names:
        lines.append((layer.name, PALE))
    if shapes:
        lines.append((", ".join(str(y.shape) for y in outputs), INK))
    if dtypes:
        lines.append((", ".join(y.dtype for y in outputs), PALE))
    is_input = not call.inputs
    return Node(lines, "leaf" if is_input else "parameter" if layer.weights else "value")
