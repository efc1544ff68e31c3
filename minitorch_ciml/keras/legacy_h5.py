"""Whole models in one HDF5 file, `model.save("model.h5")`: Keras 2's format, read by Keras 3, too.

The file's attributes `model_config` and `training_config` are JSON; the group `model_weights` has a
group for each layer with its weights, and `optimizer_weights` the optimizer's. Weights are found by
their order, listed in attributes `layer_names` and `weight_names`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import numpy as np

from minitorch_ciml import ops
from minitorch_ciml.keras import optimizers
from minitorch_ciml.keras.files import read_array, write_array
from minitorch_ciml.keras.serialization import (
    custom_object_scope,
    deserialize_keras_object,
    serialize_keras_object,
    snake_case,
)

# HDF5 takes attributes up to 64 KB; longer lists of names are cut into `name0`, `name1`, ...
_MOST_BYTES = 64000
_OF_LAYERS = {"module", "registered_name", "build_config", "compile_config"}  # not in this format
_FUNCTIONS = "keras.src.ops."  # the modules of functions in a model, such as x * 2


def model_bytes(model: Any, keras_version: str, include_optimizer: bool) -> bytes:
    """A model's file.

    Args:
        model: a Sequential or functional model.
        keras_version: what the file says.
        include_optimizer: also what `compile` was given and the optimizer's state.
    """
    import h5py

    buffer = BytesIO()
    with h5py.File(buffer, "w") as file:
        about = {"backend": "minitorch_ciml", "keras_version": keras_version}
        file.attrs.update(about, model_config=json.dumps(_old_form(serialize_keras_object(model))))
        group = file.create_group("model_weights")
        group.attrs.update(about)
        _write_names(group, "layer_names", [layer.name for layer in model.layers])
        for layer in model.layers:
            weights = _in_old_order(layer)
            _write_arrays(group.create_group(layer.name), [(w.path, w.numpy()) for w in weights])
        _write_arrays(group.create_group("top_level_model_weights"), [])
        if include_optimizer and model.compiled:
            file.attrs["training_config"] = json.dumps(_training_config(model))
            store: dict[str, Any] = {}
            model.optimizer.save_own_variables(store)
            if model.optimizer.built:
                _write_arrays(
                    file.create_group("optimizer_weights"),
                    [(f"{model.optimizer.name}/{key}", np.asarray(x)) for key, x in store.items()],
                )
    return buffer.getvalue()


def read_model(file: Any, name: str, custom_objects: dict | None, compile: bool) -> Any:
    """The model in an open HDF5 file, written here, by Keras 3 or by Keras 2.

    Raises:
        ValueError: there is no model in it, or its weights are not those of the model.
    """
    described = file.attrs.get("model_config")
    if described is None:
        raise ValueError(
            f"load_model: {name!r} holds no model, only weights; make the model and call "
            "load_weights."
        )
    with custom_object_scope(custom_objects or {}):
        model = deserialize_keras_object(_new_form(_json(described)))
        read_weights(model, file, name)
        training = file.attrs.get("training_config")
        if compile and training is not None:
            _compile(model, _json(training))
            if "optimizer_weights" in file and model.built:
                _read_optimizer(model, file["optimizer_weights"])
    return model


def read_weights(
    model: Any, file: Any, name: str, skip_mismatch: bool = False, by_name: bool = False
) -> None:
    """Loads the weights in an open HDF5 file.

    Args:
        skip_mismatch: leave layers as they are whose weights in the file have other shapes.
        by_name: load into the layers that have the names in the file, not in their order.
    """
    group = file["model_weights"] if "model_weights" in file else file
    stored = {layer: _read_arrays(group[layer]) for layer in _names(group, "layer_names")}
    stored = {layer: arrays for layer, arrays in stored.items() if arrays}
    layers = [layer for layer in model.layers if layer.weights]
    if by_name:
        pairs = [(layer, stored[layer.name]) for layer in layers if layer.name in stored]
    elif len(layers) != len(stored):
        raise ValueError(
            f"load_weights: {name!r} has weights for {len(stored)} layers ({', '.join(stored)}), "
            f"{model.name!r} has {len(layers)} with weights; pass by_name=True for those in common."
        )
    else:
        pairs = list(zip(layers, stored.values()))
    for layer, arrays in pairs:
        weights = _in_old_order(layer)
        shapes, found = [w.shape for w in weights], [a.shape for a in arrays]
        if shapes == found:
            for weight, array in zip(weights, arrays):
                weight.assign(array)
        elif not skip_mismatch:
            raise ValueError(
                f"layer {layer.name!r} has weights of shapes {shapes}, the file {name!r} has "
                f"{found}; load into the same architecture, or pass skip_mismatch=True."
            )


def _in_old_order(layer: Any) -> list:
    """All trainable weights of a layer or model, then the others: not layer by layer."""
    return [*layer.trainable_weights, *layer.non_trainable_weights]


def _compile(model: Any, training: dict) -> None:
    """What `training_config` says; optimizers of Keras 2 had arguments that are no more."""
    described = training.pop("optimizer_config")
    known = optimizers.get(described["class_name"].lower()).get_config()
    rates = {"lr": "learning_rate"}
    config = {rates.get(k, k): v for k, v in described["config"].items()}
    described = {
        "module": "keras.optimizers",
        "class_name": described["class_name"],
        "config": {key: value for key, value in config.items() if key in known},
    }
    names = ("loss", "loss_weights", "metrics", "weighted_metrics", "run_eagerly", "jit_compile")
    given = {
        key: _loss_or_metric(training[key], "keras.losses" if key == "loss" else "keras.metrics")
        for key in names if key in training
    }  # fmt: skip
    given["metrics"] = _without_outer_list(given.get("metrics"))
    model.compile(optimizer=deserialize_keras_object(described), **given)


def _loss_or_metric(item: Any, module: str) -> Any:
    """The (nested) losses or metrics that these records mean; Keras 2 wrote them without module."""
    if isinstance(item, list):
        return [_loss_or_metric(x, module) for x in item]
    if not isinstance(item, dict):
        return item
    if "class_name" not in item or "config" not in item:
        return {key: _loss_or_metric(value, module) for key, value in item.items()}
    return deserialize_keras_object({"module": module, **item})


def _without_outer_list(metrics: Any) -> Any:
    nested = isinstance(metrics, list) and len(metrics) == 1 and isinstance(metrics[0], list)
    return metrics[0] if nested else metrics


def _training_config(model: Any) -> dict:
    arguments = dict(model.get_compile_config())
    optimizer = arguments.pop("optimizer")
    described = {key: optimizer[key] for key in ("class_name", "config")}
    return {**arguments, "steps_per_execution": 1, "optimizer_config": described}


def _read_optimizer(model: Any, group: Any) -> None:
    """The optimizer's state; that of Keras 2's optimizers, which had other variables, is left."""
    arrays = _read_arrays(group)
    model.optimizer.build(model.trainable_weights)
    if len(arrays) == len(model.optimizer.variables):
        model.optimizer.load_own_variables({str(i): array for i, array in enumerate(arrays)})


# --- the configuration of a model ----------------------------------------------------------------


def _old_form(record: dict) -> dict:
    """The record of a layer without what this format does not have, also for layers in models."""
    config = record["config"]
    if "layers" in config:
        config = {**config, "layers": [_old_form(layer) for layer in config["layers"]]}
    if (record["module"] or "").startswith(
        _FUNCTIONS
    ):  # without it, Keras takes `Multiply` for the layer
        return record
    return {**{k: v for k, v in record.items() if k not in _OF_LAYERS}, "config": config}


def _new_form(record: dict) -> dict:
    """The record of a layer in Keras 3's form."""
    config = dict(record["config"]) if isinstance(record["config"], dict) else record["config"]
    if isinstance(config, list):  # Keras 2.2: the layers of a Sequential
        config = {"layers": config}
    if record["class_name"] == "InputLayer":
        config["batch_shape"] = config.pop("batch_input_shape", config.get("batch_shape"))
    if "layers" in config:
        config["layers"] = [_new_form(layer) for layer in config["layers"]]
        for key in ("input_layers", "output_layers"):
            if key in config:
                config[key] = _single(config[key])
    record = {**record, "config": config}
    is_layer = {"layers", "trainable", "batch_shape"} & config.keys()
    if not is_layer and "module" not in record and hasattr(ops, snake_case(record["class_name"])):
        record["module"] = _FUNCTIONS + "numpy"
    if record["class_name"] == "Model":
        record["class_name"] = "Functional"
    if "inbound_nodes" in record:
        record["inbound_nodes"] = [_call(node) for node in record["inbound_nodes"]]
    return record


def _single(places: Any) -> Any:
    """Keras 2 lists also a single input: [["x", 0, 0]] for one that is "x"."""
    return places[0] if len(places) == 1 and isinstance(places[0], list) else places


def _call(node: Any) -> dict:
    """A call of a layer; in Keras 2 a list of [layer, call, output, keywords]."""
    if isinstance(node, dict):
        return node
    tensors = [_tensor(place) for place in node]
    keywords = node[0][3] if len(node[0]) > 3 else {}
    return {
        "args": [tensors[0] if len(tensors) == 1 else tensors],
        "kwargs": {k: _tensor(v) if _is_place(v) else v for k, v in keywords.items()},
    }


def _is_place(value: Any) -> bool:
    return isinstance(value, list) and len(value) >= 3 and isinstance(value[0], str)


def _tensor(place: list) -> dict:
    return {"class_name": "__keras_tensor__", "config": {"keras_history": place[:3]}}


# --- HDF5 ----------------------------------------------------------------------------------------


def _json(text: Any) -> dict:
    return json.loads(text.decode() if isinstance(text, bytes) else text)


def _write_arrays(group: Any, items: list[tuple[str, np.ndarray]]) -> None:
    names: list[str] = []
    for name, array in items:
        while name in names:  # a path may be that of two weights
            name += "_"
        names.append(name)
        write_array(group, name, array)
    _write_names(group, "weight_names", names)


def _read_arrays(group: Any) -> list[np.ndarray]:
    return [read_array(group[name]) for name in _names(group, "weight_names")]


def _write_names(group: Any, attribute: str, names: list[str]) -> None:
    encoded = [name.encode() for name in names]
    chunks = list(_chunks(encoded))
    for i, chunk in enumerate(chunks):
        group.attrs[attribute if len(chunks) == 1 else f"{attribute}{i}"] = chunk


def _chunks(names: list[bytes]) -> Iterator[list[bytes]]:
    """Parts that fit into an attribute, where all names take as much room as the longest."""
    most = max(1, _MOST_BYTES // max(map(len, names), default=1))
    for start in range(0, max(1, len(names)), most):
        yield names[start : start + most]


def _names(group: Any, attribute: str) -> list[str]:
    found = list(group.attrs.get(attribute, ()))
    i = 0
    while f"{attribute}{i}" in group.attrs:
        found += list(group.attrs[f"{attribute}{i}"])
        i += 1
    return [name.decode() if isinstance(name, bytes) else str(name) for name in found]
