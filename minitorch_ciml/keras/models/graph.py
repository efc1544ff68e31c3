"""A model's graph of layer calls: sorted once, then run like a straight program."""

from __future__ import annotations

from typing import Any

from minitorch_ciml.autograd import Tensor
from minitorch_ciml.keras.layers.layer import Layer
from minitorch_ciml.keras.models.fusion import fused
from minitorch_ciml.keras.models.losses_and_metrics import output_names
from minitorch_ciml.keras.symbolic import KerasTensor, Node
from minitorch_ciml.keras.tree import flatten, map_structure, pack_as
from minitorch_ciml.ops import expand_dims, squeeze


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
        self.nodes, discovered = _sorted_nodes(flatten(inputs), flatten(outputs))
        self.calls = fused(self.nodes, outputs)
        self._steps = [(call, _is_flat(call)) for call in self.calls]
        self._single_steps = [(node, _is_flat(node)) for node in self.nodes]
        self.output_names = output_names(outputs, [y.node.layer.name for y in flatten(outputs)])
        self.layers = _sorted_layers(flatten(inputs), self.nodes, discovered)
        names = [layer.name for layer in self.layers]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(
                f"Model: {names.count(twice[0])} layers are named {twice[0]!r}; files tell layers "
                "apart by their names, so give each its own name=."
            )

    def __call__(self, inputs: Any, one_by_one: bool = False) -> Any:
        """Runs the calls on data; returns tensors in the structure of `outputs`.

        Args:
            inputs: in the structure of `self.inputs`.
            one_by_one: call every layer for itself; `fusion` is left out.
        """
        if type(self.inputs) is KerasTensor and isinstance(inputs, Tensor):  # nearly always
            values: dict[int, Any] = {id(self.inputs): _of_rank(self.inputs, inputs)}
        else:
            given = zip(flatten(self.inputs), self._in_order(inputs))
            values = {id(t): _of_rank(t, x) for t, x in given}

        def value(x: Any) -> Any:
            return values[id(x)] if isinstance(x, KerasTensor) else x

        for node, flat in self._single_steps if one_by_one else self._steps:
            args, kwargs = node.args, node.kwargs
            if flat:
                result = node.layer(*[values.get(id(x), x) for x in args])
            else:
                result = node.layer(*map_structure(value, args), **map_structure(value, kwargs))
            if type(node.outputs) is KerasTensor:
                values[id(node.outputs)] = result
            else:
                values.update(zip(map(id, flatten(node.outputs)), flatten(result)))
        if type(self.outputs) is KerasTensor:
            return values[id(self.outputs)]
        return self.pack_outputs([values[id(t)] for t in flatten(self.outputs)])

    def _in_order(self, inputs: Any) -> list:
        """The data in the order of the symbolic inputs.

        Dictionaries are matched by their keys, or by the inputs' names; as in Keras, they may have
        more than that.
        """
        expected = flatten(self.inputs)
        if isinstance(inputs, dict):
            names = [t.name for t in expected]
            if not isinstance(self.inputs, dict):
                return [inputs[name] for name in _all_of(names, inputs)]
            keys = list(self.inputs)
            if not set(keys) <= inputs.keys() and set(names) <= inputs.keys():
                return [inputs[name] for name in names]
            inputs = {key: inputs[key] for key in _all_of(keys, inputs)}
        given = flatten(inputs)
        if len(given) != len(expected):
            raise ValueError(
                f"the model has {len(expected)} input{'s' * (len(expected) > 1)} "
                f"({', '.join(t.name for t in expected)}), got {len(given)}."
            )
        return given

    def pack_outputs(self, leaves: list) -> Any:
        """`leaves` in the structure of the outputs; names are sorted, as in Keras.

        A list of one is that one, as in Keras.
        """
        if len(leaves) == 1 and type(self.outputs) in (list, tuple):
            return leaves[0]
        packed = pack_as(self.outputs, leaves)
        if type(packed) is dict:
            return {name: packed[name] for name in sorted(packed)}
        return packed


def _all_of(names: list[str], data: dict) -> list[str]:
    """The names, if all are keys of the data."""
    missing = [name for name in names if name not in data]
    if missing:
        raise ValueError(
            f"the model has inputs {names}, but the data have only {sorted(data)}; missing: "
            f"{missing}."
        )
    return names


def _of_rank(expected: KerasTensor, x: Any) -> Any:
    """As in Keras, a last axis of size 1 may be left out, or be there where none is expected.

    So images (N, 28, 28) suit an input (28, 28, 1), and N numbers an input (1,).
    """
    rank = len(expected.shape)
    if not isinstance(x, Tensor) or x.ndim == rank:
        return x
    if x.ndim == rank - 1 and expected.shape[-1] == 1:
        return expand_dims(x, -1)
    if x.ndim == rank + 1 and x.shape[-1] == 1:
        return squeeze(x, -1)
    is_one_sample = tuple(x.shape) == tuple(expected.shape[1:])
    raise ValueError(
        f"the model's input {expected.name!r} has shape {expected.shape}, got data of shape "
        f"{tuple(x.shape)}{'; pass one sample as a batch: x[None]' if is_one_sample else ''}."
    )


def _is_flat(call: Any) -> bool:
    """Whether nothing is nested in the arguments of a call, and none has a name."""
    nested = any(isinstance(x, (list, tuple, dict)) for x in call.args)
    return not call.kwargs and not nested


def _sorted_nodes(inputs: list, outputs: list) -> tuple[list[Node], list[Node]]:
    """Every call between `inputs` and `outputs`: each after those it needs, and as discovered.

    The second list includes the calls that make the inputs.
    """
    order: list[Node] = []
    discovered: dict[Node, None] = {}
    done: set[Node] = set()
    given = {id(x) for x in inputs}
    # Depth first, without recursion: a node is visited again when its inputs have been listed.
    stack = [(y, False) for y in reversed(outputs)]
    while stack:
        tensor, inputs_are_listed = stack.pop()
        node = tensor.node
        discovered.setdefault(node)
        if id(tensor) in given or node in done:
            continue
        if inputs_are_listed:
            done.add(node)
            order.append(node)
            continue
        if not node.inputs:
            raise ValueError(
                f"the graph is disconnected: the outputs need {tensor.name!r}, which is not among "
                f"the inputs {[x.name for x in inputs]}."
            )
        stack.append((tensor, True))
        stack.extend((x, False) for x in reversed(node.inputs))
    return order, list(discovered)


def _sorted_layers(inputs: list, nodes: list[Node], discovered: list[Node]) -> list[Layer]:
    """The layers in Keras' order, which is that of the weights in its files.

    A layer's depth is the longest way from it to an output; deeper layers come first, and among
    equals those that are found first on the way back from the outputs.
    """
    depths: dict[Node, int] = {}
    layer_depths: dict[Layer, int] = {}
    makers = [x.node for x in inputs if not x.node.inputs]
    for node in [*reversed(nodes), *makers]:
        # A shared layer counts with its deepest call.
        depth = max(depths.get(node, 0), layer_depths.get(node.layer, 0))
        layer_depths[node.layer] = depth
        for x in node.inputs:
            depths[x.node] = max(depths.get(x.node, 0), depth + 1)
    found: dict[Layer, int] = {}
    for node in discovered:
        found.setdefault(node.layer, len(found))
    return sorted(layer_depths, key=lambda layer: (-layer_depths[layer], found.get(layer, -1)))
