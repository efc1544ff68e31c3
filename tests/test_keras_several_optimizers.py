"""Several optimizers for one model, and ScheduleFreeAdamW: the numbers are Keras'."""

import os
import subprocess
import sys

import numpy as np
import pytest
from keras_peer import drop_ids, keras_peer

from minitorch_ciml import keras
from minitorch_ciml.keras.serialization import deserialize_keras_object, serialize_keras_object

RNG = np.random.default_rng(0)
X = RNG.normal(size=(32, 4)).astype("float32")
Y = RNG.normal(size=(32, 1)).astype("float32")


def model(k, optimizer):
    layers = [k.Input((4,)), k.layers.Dense(6, "tanh", name="base"), k.layers.Dense(1, name="head")]
    made = k.Sequential(layers, name="net")
    rng = np.random.default_rng(1)
    made.set_weights([rng.normal(size=w.shape) for w in made.get_weights()])
    made.compile(optimizer, "mse")
    return made


def by_path(k):
    o = k.optimizers
    return o.MultiOptimizer(
        o.OptimizerMap(o.SGD(0.1, momentum=0.9), {".*base/.*": o.Adam(0.01, clipnorm=0.5)})
    )


def by_function(k):
    base, head = k.optimizers.RMSprop(0.01), k.optimizers.AdamW(0.02, weight_decay=0.1)
    return k.optimizers.MultiOptimizer(lambda v: base if "base" in v.path else head)


@pytest.mark.parametrize("make", [by_path, by_function])
def test_training_equals_keras(make):
    results = []
    for k in (keras, keras_peer):
        trained = model(k, make(k))
        losses = trained.fit(X, Y, epochs=3, batch_size=8, shuffle=False, verbose=0).history["loss"]
        results.append([losses, *trained.get_weights()])
        names = sorted(type(o).__name__ for o in trained.optimizer.optimizers)
        assert names == ["Adam", "SGD"] if make is by_path else ["AdamW", "RMSprop"]
        assert int(trained.optimizer.iterations) == 12
    for a, b in zip(*results):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_configurations_and_files(tmp_path):
    config = drop_ids(serialize_keras_object(by_path(keras)))
    peer = drop_ids(keras_peer.saving.serialize_keras_object(by_path(keras_peer)))
    kinds = {"default_optimizer": "SGD", ".*base/.*": "Adam"}
    for record in (config, peer):  # Keras adds to both a name that they need not have
        inner = record["config"]["optimizer_map"]["config"]
        found = {"default_optimizer": inner["default_optimizer"], **inner["optimizer_map"]}
        assert {name: item["class_name"] for name, item in found.items()} == kinds
    assert config["config"]["optimizer_map"]["class_name"] == "OptimizerMap"
    deserialize_keras_object(peer)
    again = deserialize_keras_object(config)
    assert drop_ids(serialize_keras_object(again)) == config
    trained = model(keras, by_path(keras))
    how = {"batch_size": 8, "shuffle": False, "verbose": 0}
    trained.fit(X, Y, epochs=2, **how)
    trained.save(tmp_path / "model.keras")
    resumed = keras.models.load_model(tmp_path / "model.keras")
    assert int(resumed.optimizer.iterations) == 8
    for one in (trained, resumed):
        one.fit(X, Y, epochs=1, **how)
    for a, b in zip(trained.get_weights(), resumed.get_weights()):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_what_does_not_fit_is_refused():
    o = keras.optimizers
    with pytest.raises(AttributeError, match="has no learning rate"):
        by_path(keras).learning_rate  # noqa: B018
    with pytest.raises(ValueError, match="expected an optimizer such as Adam"):
        o.OptimizerMap("adam")
    with pytest.raises(ValueError, match=r"'base/k' matches 'base/\.\*' and '\.\*/k'"):
        o.OptimizerMap(o.Adam(), {"base/.*": o.SGD(), ".*/k": o.SGD()})["base/k"]
    with pytest.raises(ValueError, match="there is an optimizer for 'a' already"):
        chosen = o.OptimizerMap(o.Adam(), {"a": o.SGD()})
        chosen["a"] = o.SGD()


# --- ScheduleFreeAdamW --------------------------------------------------------------------------

ARGUMENTS = [{}, {"warmup_steps": 3, "weight_decay": 0.1, "beta_1": 0.8}]
STEPS = """
import numpy as np
def steps(k, **arguments):
    variables = [k.Variable(np.ones((3, 2), "f"), name="a"), k.Variable(np.arange(4.0), name="b")]
    optimizer = k.optimizers.ScheduleFreeAdamW(0.1, **arguments)
    rng = np.random.default_rng(0)
    for _ in range(6):
        gradients = [rng.normal(size=v.shape).astype("f") for v in variables]
        optimizer.apply([k.ops.convert_to_tensor(g) for g in gradients], variables)
    return np.concatenate([np.ravel(k.ops.convert_to_numpy(v)) for v in variables])
"""


@pytest.mark.parametrize("arguments", ARGUMENTS)
def test_schedule_free_steps_equal_keras_on_jax(arguments):
    """On PyTorch Keras 3.15 takes z after its step where the formula has it before."""
    pytest.importorskip("jax")
    code = f"{STEPS}\nimport keras\nprint(steps(keras, **{arguments}).tolist())"
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment
    )
    names: dict = {}
    exec(STEPS, names)
    expected = eval(done.stdout.splitlines()[-1])
    np.testing.assert_allclose(names["steps"](keras, **arguments), expected, rtol=2e-5)


def test_schedule_free_configurations_equal_keras():
    ours, theirs = (
        k.optimizers.ScheduleFreeAdamW(0.01, warmup_steps=5, name="o") for k in (keras, keras_peer)
    )
    assert ours.get_config() == theirs.get_config()
    assert type(ours).from_config(theirs.get_config()).get_config() == ours.get_config()
    for k in (keras, keras_peer):
        trained = model(k, k.optimizers.ScheduleFreeAdamW())
        trained.fit(X, Y, verbose=0)
        assert len(trained.optimizer.variables) == 10
