"""Draws a model: a box for every call of a layer, from the inputs to the outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from minitorch_ciml.keras.layers.function import Function
from minitorch_ciml.keras.tree import flatten
from minitorch_ciml.viz.graph import INK, PALE, Node, drawing

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Details:
    """What the boxes of a model's picture tell: each a line of its own."""

    names: bool = False
    shapes: bool = False
    dtypes: bool = False
    activations: bool = False
    trainable: bool = False


def draw_model(model: Any, details: Details, downwards: bool, expanded: bool) -> Figure:
    """Draws the layers of a Sequential or functional model; those with weights are coloured.

    Args:
        model: the model; its input's shape must be known.
        details: what the boxes tell besides the layers' classes.
        downwards: from top to bottom, otherwise from left to right.
        expanded: draw the layers of models that are layers of this one, in their place.

    Raises:
        ValueError: there is no graph of layers.
    """
    if not hasattr(model, "_graph"):
        raise TypeError(f"plot_model: expected a model, got {model!r}.")
    graph = model._graph
    if graph is None:
        raise ValueError(
            f"plot_model: {model.name!r} has no graph of layers to draw; give a Sequential its "
            "input's shape, or write the model with keras.Model(inputs, outputs)."
        )
    boxes = {x.node: _box(x.node, details) for x in flatten(graph.inputs)}
    makers = {id(x): boxes[x.node] for x in flatten(graph.inputs)}
    found = [*boxes.values(), *_boxes_of(graph, makers, details, expanded)]
    for box in found:
        box.turned = downwards
    return drawing(found)


def _boxes_of(graph: Any, makers: dict[int, Node], details: Details, expanded: bool) -> list[Node]:
    """A box for every call of a graph, joined to those that make its inputs.

    Args:
        makers: the box that makes each tensor; those of the graph's results are added.
    """
    found: list[Node] = []
    for call in graph.nodes:
        inner = getattr(call.layer, "_graph", None) if expanded else None
        if inner is not None:
            own = {id(t): makers[id(x)] for t, x in zip(flatten(inner.inputs), call.inputs)}
            found += _boxes_of(inner, own, details, expanded)
            results = [own[id(y)] for y in flatten(inner.outputs)]
        else:
            box = _box(call, details)
            found.append(box)
            for source in dict.fromkeys(makers[id(x)] for x in call.inputs):
                source.after.append(box)
                box.before.append(source)
            results = [box] * len(flatten(call.outputs))
        makers.update(zip(map(id, flatten(call.outputs)), results))
    return found


def _box(call: Any, details: Details) -> Node:
    layer, outputs = call.layer, flatten(call.outputs)
    lines = [(layer.function if isinstance(layer, Function) else type(layer).__name__, INK)]
    activation = getattr(getattr(layer, "activation", None), "__name__", None)
    if details.names:
        lines.append((layer.name, PALE))
    if details.activations and activation:
        lines.append((f"activation: {activation}", INK))
    if details.shapes:
        lines.append((", ".join(str(y.shape) for y in outputs), INK))
    if details.dtypes:
        lines.append((", ".join(y.dtype for y in outputs), PALE))
    if details.trainable:
        lines.append(("trainable" if layer.trainable else "not trainable", PALE))
    is_input = not call.inputs
    return Node(lines, "leaf" if is_input else "parameter" if layer.weights else "value")
