"""Whole models in `.h5` files: written here and by Keras, read by either, and those of Keras 2."""

import json

import h5py
import numpy as np
import pytest
from keras_peer import keras_peer

from minitorch_ciml import keras

X = np.random.default_rng(0).random((8, 4), dtype="float32")
Y = X[:, :1] - X[:, 1:2]


def stack(k):
    layers = k.layers
    inner = [k.Input((4,)), layers.Dense(4, name="x"), layers.BatchNormalization(name="norm")]
    model = k.Sequential(
        [
            k.Input((4,)),
            k.Sequential(inner, name="inner"),
            layers.Dense(3, activation="relu", kernel_regularizer="l2"),
            layers.Dropout(0.0),
            layers.Reshape((3, 1)),
            layers.LSTM(2),
            layers.Dense(1),
        ]
    )
    model.compile(k.optimizers.Adam(0.01), "mean_squared_error", metrics=["mean_absolute_error"])
    return model, Y


def branches(k):
    layers, inputs = k.layers, k.Input((4,), name="i")
    a = layers.Dense(3, name="a")(inputs)
    b = layers.Bidirectional(layers.GRU(2, name="g"), name="b")(layers.Reshape((3, 1))(a))
    c = layers.Concatenate(name="c")([a, b]) * 2.0
    model = k.Model(inputs, [layers.Dense(1, name=name)(c[:, 1:]) for name in ("one", "two")])
    metrics = [[k.metrics.MeanAbsoluteError(name="q")], []]
    model.compile(
        k.optimizers.SGD(0.1, momentum=0.9),
        [k.losses.MeanSquaredError(), "mean_absolute_error"],
        metrics=metrics,
    )
    return model, [Y, Y]


@pytest.mark.parametrize("make", [stack, branches])
@pytest.mark.parametrize(
    "writer, reader",
    [(keras, keras), (keras, keras_peer), (keras_peer, keras)],
    ids=["ours", "ours in Keras", "Keras' here"],
)
@pytest.mark.filterwarnings("ignore:.*:UserWarning")
def test_a_model_goes_through_a_file(writer, reader, make, tmp_path):
    model, y = make(writer)
    model.fit(X, y, epochs=2, shuffle=False, verbose=0)
    model.save(tmp_path / "model.h5")
    again = reader.models.load_model(tmp_path / "model.h5")
    for one, other in zip(again.predict(X, verbose=0), model.predict(X, verbose=0)):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    assert int(again.optimizer.iterations) == int(model.optimizer.iterations) == 2
    if reader is keras_peer:  # which does not build the optimizer of such a model for its weights
        return
    logs = model.fit(X, y, epochs=2, shuffle=False, verbose=0).history
    for name, values in again.fit(X, y, epochs=2, shuffle=False, verbose=0).history.items():
        np.testing.assert_allclose(values, logs[name], rtol=1e-4)


def test_the_configuration_in_the_file_is_that_of_keras(tmp_path):
    files = {}
    for k, path in ((keras, tmp_path / "ours.h5"), (keras_peer, tmp_path / "theirs.h5")):
        stack(k)[0].save(path)
        with h5py.File(path) as file:
            files[k] = json.loads(file.attrs["model_config"]), list(file["model_weights"])
    ours, theirs = files.values()
    classes = [[layer["class_name"] for layer in f[0]["config"]["layers"]] for f in (ours, theirs)]
    assert classes[0] == classes[1] and ours[0].keys() == theirs[0].keys()
    for one, other in zip(ours[0]["config"]["layers"], theirs[0]["config"]["layers"]):
        assert one.keys() == other.keys()


def write_as_keras_2(path, config, layers, training=None):
    """A file as tf.keras 2 writes it."""
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"] = "2.4.0"
        file.attrs["model_config"] = json.dumps(config).encode()
        if training:
            file.attrs["training_config"] = json.dumps(training).encode()
        group = file.create_group("model_weights")
        group.attrs["layer_names"] = [name.encode() for name in layers]
        for name, arrays in layers.items():
            inner = group.create_group(name)
            names = [f"{name}/{part}:0" for part in ("kernel", "bias")][: len(arrays)]
            inner.attrs["weight_names"] = [n.encode() for n in names]
            for key, array in zip(names, arrays):
                inner[key] = array


def dense(name, units, **more):
    zeros = {"class_name": "Zeros", "config": {}}
    glorot = {"class_name": "GlorotUniform", "config": {"seed": None}}
    config = {
        "name": name, "trainable": True, "dtype": "float32", "units": units, "use_bias": True,
        "activation": "relu", "kernel_initializer": glorot, "bias_initializer": zeros,
        "kernel_regularizer": None, "bias_regularizer": None, "activity_regularizer": None,
        "kernel_constraint": None, "bias_constraint": None,
    }  # fmt: skip
    return {"class_name": "Dense", "config": {**config, **more}}


KERNELS = [np.full((4, 3), 0.5, "float32"), np.full((3, 2), 0.25, "float32")]
BIASES = [np.ones(3, "float32"), np.zeros(2, "float32")]
EXPECTED = np.maximum(X @ KERNELS[0] + BIASES[0], 0) @ KERNELS[1]
WEIGHTS = {"a": [KERNELS[0], BIASES[0]], "b": [KERNELS[1], BIASES[1]]}


def test_a_sequential_model_of_keras_2(tmp_path):
    first = dense("a", 3, batch_input_shape=[None, 4])
    config = {
        "class_name": "Sequential",
        "config": {"name": "s", "layers": [first, dense("b", 2)]},
    }
    rates = {"name": "Adam", "lr": 0.5, "decay": 0.0, "beta_1": 0.8, "beta_2": 0.9}
    training = {
        "optimizer_config": {"class_name": "Adam", "config": rates},
        "loss": "mse", "metrics": [["accuracy"]], "weighted_metrics": None, "loss_weights": None,
    }  # fmt: skip
    write_as_keras_2(tmp_path / "old.h5", config, WEIGHTS, training)
    model = keras.models.load_model(tmp_path / "old.h5")
    np.testing.assert_allclose(model.predict(X, verbose=0), EXPECTED, rtol=1e-5)
    assert float(model.optimizer.learning_rate) == 0.5 and model.optimizer.beta_1 == 0.8
    names = model.evaluate(X, EXPECTED, verbose=0, return_dict=True)
    assert names.keys() == {"accuracy", "loss"} and names["loss"] < 1e-9


def test_a_functional_model_of_keras_2(tmp_path):
    inputs = {
        "class_name": "InputLayer",
        "config": {"batch_input_shape": [None, 4], "dtype": "float32", "name": "in"},
    }
    add = {"class_name": "Add", "config": {"name": "sum", "trainable": True, "dtype": "float32"}}
    layers = [
        {**inputs, "name": "in", "inbound_nodes": []},
        {**dense("a", 3), "name": "a", "inbound_nodes": [[["in", 0, 0, {}]]]},
        {**dense("b", 2), "name": "b", "inbound_nodes": [[["a", 0, 0, {}]]]},
        {**add, "name": "sum", "inbound_nodes": [[["b", 0, 0, {}], ["b", 0, 0, {}]]]},
    ]
    config = {"name": "f", "layers": layers}
    config |= {"input_layers": [["in", 0, 0]], "output_layers": [["sum", 0, 0]]}
    write_as_keras_2(tmp_path / "old.h5", {"class_name": "Functional", "config": config}, WEIGHTS)
    model = keras.models.load_model(tmp_path / "old.h5")
    np.testing.assert_allclose(model.predict(X, verbose=0), 2 * EXPECTED, rtol=1e-5)
    assert model.optimizer is None


def test_weights_by_order_and_by_name(tmp_path):
    path = tmp_path / "old.h5"
    write_as_keras_2(path, {}, WEIGHTS)
    names = [("p", 3), ("q", 2)], [("b", 2)], [("q", 2), ("r", 2), ("t", 1)]
    first, second, third = (
        keras.Sequential([keras.Input((3 if len(n) == 1 else 4,))]
                         + [keras.layers.Dense(u, name=name) for name, u in n])
        for n in names
    )  # fmt: skip
    first.load_weights(path)
    np.testing.assert_array_equal(first.get_weights()[0], KERNELS[0])
    second.load_weights(path, by_name=True)
    np.testing.assert_array_equal(second.get_weights()[0], KERNELS[1])
    with pytest.raises(ValueError, match=r"weights for 2 layers \(a, b\), .* has 3"):
        third.load_weights(path)
    with pytest.raises(ValueError, match=r"shapes \[\(4, 2\), .* has \[\(4, 3\)"):
        keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="a")]).load_weights(
            path, by_name=True
        )


def test_many_names_and_files_without_a_model(tmp_path):
    layers = [keras.layers.Dense(1, name=f"{'a_long_name_' * 60}{i}") for i in range(100)]
    model = keras.Sequential([keras.Input((1,)), *layers])
    model.save(tmp_path / "long.h5")  # its names take more than the 64 KB of an attribute
    again = keras.models.load_model(tmp_path / "long.h5")
    np.testing.assert_array_equal(again.get_weights()[198], model.get_weights()[198])
    with h5py.File(tmp_path / "empty.h5", "w"):
        pass
    with pytest.raises(ValueError, match="holds no model, only weights"):
        keras.models.load_model(tmp_path / "empty.h5")
    with pytest.raises(ValueError, match="must end in .keras"):
        model.save(tmp_path / "model.pb")
