"""A model's graph of layer calls: sorted once, then run like a straight program."""

from __future__ import annotations

from typing import Any

from minitorch_ciml.keras.symbolic import KerasTensor, Node
from minitorch_ciml.keras.tree import flatten, map_structure, pack_as


class LayerGraph:
    """The calls that lead from `inputs` to `outputs`.

    Args:
        inputs: KerasTensors, alone or nested; usually results of `Input`, but inner tensors of
            another model do as well.
        outputs: KerasTensors, alone or nested.
    """

    def __init__(self, inputs: Any, outputs: Any):
        self.inputs, self.outputs = inputs, outputs
        for x in flatten((inputs, outputs)):
            if not isinstance(x, KerasTensor):
                raise ValueError(
                    f"Model: inputs and outputs must come from keras.Input and layers called on "
                    f"it, got {type(x).__name__}."
                )
        self.nodes = _sorted_nodes(flatten(inputs), flatten(outputs))

    def __call__(self, inputs: Any) -> Any:
        """Runs the calls on data; returns tensors in the structure of `outputs`."""
        values = {id(t): x for t, x in zip(flatten(self.inputs), self._in_order(inputs))}
        for node in self.nodes:
            args, kwargs = node.args, node.kwargs
            if len(args) == 1 and type(args[0]) is KerasTensor and not kwargs:
                result = node.layer(values[id(args[0])])
            else:

                def value(x: Any) -> Any:
                    return values[id(x)] if isinstance(x, KerasTensor) else x

                result = node.layer(*map_structure(value, args), **map_structure(value, kwargs))
            if type(node.outputs) is KerasTensor:
                values[id(node.outputs)] = result
            else:
                values.update(zip(map(id, flatten(node.outputs)), flatten(result)))
        return map_structure(lambda t: values[id(t)], self.outputs)

    def _in_order(self, inputs: Any) -> list:
        """The data in the order of the symbolic inputs; dictionaries are matched by name."""
        expected = flatten(self.inputs)
        if isinstance(inputs, dict) and not isinstance(self.inputs, dict):
            missing = [t.name for t in expected if t.name not in inputs]
            if missing:
                raise ValueError(
                    f"the model has inputs {[t.name for t in expected]}, but the data have only "
                    f"{sorted(inputs)}; missing: {missing}."
                )
            return [inputs[t.name] for t in expected]
        given = flatten(inputs)
        if len(given) != len(expected):
            raise ValueError(
                f"the model has {len(expected)} inputs ({', '.join(t.name for t in expected)}), "
                f"got {len(given)}."
            )
        return given

    def pack_outputs(self, leaves: list) -> Any:
        """`leaves` in the structure of the outputs."""
        return pack_as(self.outputs, leaves)


def _sorted_nodes(inputs: list, outputs: list) -> list[Node]:
    """Every call between `inputs` and `outputs`, each after the calls that it needs."""
    order: list[Node] = []
    done: set[int] = set()
    known = {id(x) for x in inputs}
    # Depth first, without recursion: a node is visited again when its inputs have been listed.
    stack = [(y, False) for y in reversed(outputs)]
    while stack:
        tensor, ready = stack.pop()
        node = tensor.node
        if id(tensor) in known or node is None or id(node) in done:
            if node is None and id(tensor) not in known:
                raise ValueError(f"{tensor!r} is neither an input nor made by a layer.")
            continue
        if ready:
            done.add(id(node))
            order.append(node)
            continue
        if not node.inputs:
            raise ValueError(
                f"the graph is disconnected: the outputs need {tensor.name!r}, which is not among "
                f"the inputs {[x.name for x in inputs]}."
            )
        stack.append((tensor, True))
        stack.extend((x, False) for x in reversed(node.inputs))
    return order
