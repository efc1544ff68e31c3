"""Models as plain data, and back: of a functional model its layers and the calls between them."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from minitorch_ciml.keras.layers.function import Function
from minitorch_ciml.keras.layers.input import InputLayer
from minitorch_ciml.keras.layers.layer import Layer
from minitorch_ciml.keras.serialization import (
    deserialize_keras_object,
    serialize_config,
    serialize_keras_object,
    users_things_as_themselves,
)
from minitorch_ciml.keras.symbolic import KerasTensor, any_symbolic
from minitorch_ciml.keras.tree import flatten, map_structure

if TYPE_CHECKING:
    from minitorch_ciml.keras.models.model import Model


def model_from_json(json_string: str, custom_objects: dict | None = None) -> Model:
    """The model that `model.to_json()` described, with new weights.

    Args:
        json_string: what `to_json` gave, here or in Keras 3.
        custom_objects: classes and functions of your own, by their names.

    Raises:
        ValueError: this is no JSON, or it names something unknown.
    """
    try:
        config = json.loads(json_string)
    except json.JSONDecodeError as error:
        raise ValueError(f"model_from_json: expected what to_json() gave ({error}).") from None
    if not isinstance(config, dict) or "class_name" not in config:
        raise ValueError(f"model_from_json: expected what to_json() gave, got {json_string!r}.")
    return deserialize_keras_object(config, custom_objects)


def clone_model(
    model: Any,
    input_tensors: Any = None,
    clone_function: Callable | None = None,
    call_function: Callable | None = None,
    recursive: bool = False,
) -> Model:
    """A model of the same architecture with new layers and new weights, compiled like the old one.

    Args:
        model: a Sequential or functional model. Its own classes and functions need not be
            registered.
        input_tensors: the symbolic inputs of the new model; new ones if left out.
        clone_function: gives the new layer for a layer; by default one with the same arguments.
        call_function: `call_function(layer, *args, **kwargs)` gives a functional model's result of
            a layer, which may be that of other layers before and after it.
        recursive: clone models inside this one by `clone_model`, too, and not by `clone_function`.

    Raises:
        ValueError: the model is a subclass with a `call` of its own, which cannot be looked into.
    """
    if not hasattr(model, "_graph"):
        raise ValueError(
            f"clone_model: expected a model, got a {type(model).__name__}; a layer is made anew by "
            "type(layer).from_config(layer.get_config())."
        )
    if model._graph is None and not hasattr(model, "_tensors"):
        raise ValueError(
            f"clone_model: {type(model).__name__} computes in a call() of its own; make another "
            f"one with {type(model).__name__}(...)."
        )
    if call_function is not None and hasattr(model, "_tensors"):
        raise ValueError(
            "clone_model: call_function is for functional models; the layers of a Sequential are "
            "called one after the other."
        )
    new_layer = clone_function or _copy
    if recursive:
        new_layer = partial(_clone, clone_function=clone_function, call_function=call_function)
    with users_things_as_themselves():
        if input_tensors is None and new_layer is _copy and call_function is None:
            twin = type(model).from_config(serialize_config(model.get_config()))
        else:
            twin = _called_again(model, input_tensors, new_layer, call_function)
        if model.compiled:
            twin.compile_from_config(model.get_compile_config())
    return twin


def _clone(layer: Layer, clone_function: Callable | None, call_function: Callable | None) -> Layer:
    """What stands for a layer, and for a model of layers, where models are cloned by layers."""
    stack = hasattr(layer, "_tensors")
    if stack or getattr(layer, "_graph", None) is not None:
        calls = None if stack else call_function
        return clone_model(layer, None, clone_function, calls, recursive=True)
    return (clone_function or _copy)(layer)


def _copy(layer: Layer) -> Layer:
    return type(layer).from_config(layer.get_config())


def _called_again(
    model: Any, input_tensors: Any, clone_function: Callable, call_function: Callable | None
) -> Any:
    """The calls of a model's graph with other layers, on other inputs."""
    graph = model._graph
    if graph is None:  # a Sequential that has not seen data
        first = [] if input_tensors is None else [input_tensors]
        return type(model)([*first, *map(clone_function, model.layers)], name=model.name)
    if input_tensors is None:
        input_tensors = map_structure(_another_input, graph.inputs)
    results = dict(zip(map(id, flatten(graph.inputs)), flatten(input_tensors)))
    made: dict[Layer, Layer] = {}

    def new(x: Any) -> Any:
        return results[id(x)] if isinstance(x, KerasTensor) else x

    for node in graph.nodes:
        layer = node.layer
        if isinstance(layer, Function):  # such as x + 1: no layer to users
            made[layer] = Function(layer.function, layer.params, layer.name)
        elif layer not in made:
            made[layer] = clone_function(layer)
        args, kwargs = map_structure(new, (node.args, node.kwargs))
        if call_function is None or isinstance(layer, Function):
            outputs = made[layer](*args, **kwargs)
        else:
            outputs = call_function(made[layer], *args, **kwargs)
        results.update(zip(map(id, flatten(node.outputs)), flatten(outputs)))
    if hasattr(model, "_tensors"):
        layers = [new(graph.inputs), *(made[layer] for layer in model.layers)]
        return type(model)(layers, name=model.name)
    inputs, outputs = map_structure(new, (graph.inputs, graph.outputs))
    return type(model)(inputs, outputs, name=model.name)


def _another_input(tensor: KerasTensor) -> KerasTensor:
    return InputLayer(batch_shape=tensor.shape, dtype=tensor.dtype, name=tensor.name).output


def functional_config(model: Any) -> dict:
    """The configuration of a functional model, in Keras 3's form.

    A layer may have been called outside this model too, so its calls are numbered by their
    position among those that belong to the model.
    """
    positions = _positions(model)
    layers = []
    for layer in model._graph.layers:
        record = serialize_keras_object(layer)
        record["name"] = layer.name
        record["inbound_nodes"] = [
            _serialize_call(node, positions) for node in _calls_of(layer, model)
        ]
        layers.append(record)

    def place(tensor: KerasTensor) -> list:
        node = tensor.node
        return [node.layer.name, positions[node], tensor.index]  # type: ignore[union-attr]

    return {
        "name": model.name,
        "trainable": model.trainable,
        "layers": layers,
        "input_layers": map_structure(place, model._graph.inputs),
        "output_layers": map_structure(place, model._graph.outputs),
    }


def _calls_of(layer: Layer, model: Any) -> list:
    used = set(map(id, model._graph.nodes))
    return [node for node in layer._inbound_nodes if id(node) in used]


def _positions(model: Any) -> dict:
    """The number of each call among those of its layer in this model."""
    positions = {x.node: 0 for x in flatten(model._graph.inputs)}
    for layer in model._graph.layers:
        positions.update({node: i for i, node in enumerate(_calls_of(layer, model))})
    return positions


def _serialize_call(node: Any, positions: dict) -> dict:
    def plain(x: Any) -> Any:
        if isinstance(x, KerasTensor):
            record = x.__keras_tensor__()
            record["config"]["keras_history"][1] = positions[x.node]
            return record
        return serialize_keras_object(x)

    # An index such as [:, -1] is a list in Keras' files.
    args = [list(a) if isinstance(a, tuple) and not any_symbolic(a) else a for a in node.args]
    args = [map_structure(plain, arg) for arg in args]
    return {"args": args, "kwargs": {k: map_structure(plain, v) for k, v in node.kwargs.items()}}


def functional_from_config(cls: type, config: dict) -> Any:
    """The model that `functional_config` described."""
    results: dict[tuple, Any] = {}
    waiting: list[tuple[str, Layer, list]] = []
    for record in config["layers"]:
        layer = deserialize_keras_object(record)
        # The name in the file counts: a layer of one's own may have a configuration without it.
        name = record.get("name") or layer.name
        if not record["inbound_nodes"] and layer._inbound_nodes:  # an input layer
            results[name, 0, 0] = layer.output
        waiting.append((name, layer, list(record["inbound_nodes"])))
    made: dict[str, int] = defaultdict(int)
    while any(calls for _, _, calls in waiting):
        progress = False
        for name, layer, calls in waiting:
            while calls and _ready(calls[0], results):
                args, kwargs = _call_arguments(calls.pop(0), results)
                for index, y in enumerate(flatten(layer(*args, **kwargs))):
                    results[name, made[name], index] = y
                made[name] += 1
                progress = True
        if not progress:
            raise ValueError(f"the configuration of model {config.get('name')!r} has a cycle.")
    inputs = _tensors_at(config["input_layers"], results)
    outputs = _tensors_at(config["output_layers"], results)
    model = cls(inputs, outputs, name=config.get("name"))
    if not config.get("trainable", True):
        model.trainable = False
    return model


def _ready(call: dict, results: dict) -> bool:
    return all(key in results for key in _references(call))


def _references(item: Any) -> list[tuple]:
    """The (layer, call, output) of every tensor that a call takes."""
    if isinstance(item, dict):
        if item.get("class_name") == "__keras_tensor__":
            return [tuple(item["config"]["keras_history"])]
        return [key for value in item.values() for key in _references(value)]
    if isinstance(item, (list, tuple)):
        return [key for value in item for key in _references(value)]
    return []


def _call_arguments(call: dict, results: dict) -> tuple[list, dict]:
    def restore(item: Any) -> Any:
        if isinstance(item, dict):
            if item.get("class_name") == "__keras_tensor__":
                return results[tuple(item["config"]["keras_history"])]
            if "class_name" in item:
                return deserialize_keras_object(item)
            return {key: restore(value) for key, value in item.items()}
        if isinstance(item, list):
            return [restore(value) for value in item]
        return item

    kwargs = restore(call["kwargs"])
    if kwargs.get("training") is False:  # Keras writes its default; the model decides at each call
        del kwargs["training"]
    return restore(call["args"]), kwargs


def _tensors_at(places: Any, results: dict) -> Any:
    """The tensors that a (nested) list of [layer, call, output] names."""
    if isinstance(places, dict):
        return {key: _tensors_at(value, results) for key, value in places.items()}
    if len(places) == 3 and isinstance(places[0], str) and isinstance(places[1], int):
        return results[tuple(places)]
    return [_tensors_at(place, results) for place in places]
