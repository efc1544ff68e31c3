"""Layers of one's own that say themselves what is saved: variables, and files beside them."""

import warnings

import numpy as np
import pytest
from keras_peer import keras_peer

from minitorch_ciml import keras


def classes(k):
    @k.saving.register_keras_serializable(package="tests")
    class Table(k.layers.Layer):
        """Has a number that is no weight, and a list of words in a file."""

        def __init__(self, words=None, **kwargs):
            super().__init__(**kwargs)
            self.words, self.factor = words or [], 1.0

        def build(self, shape):
            self.kernel = self.add_weight((shape[-1], 2), name="kernel")

        def call(self, x):
            return k.ops.matmul(x, self.kernel) * self.factor

        def save_own_variables(self, store):
            super().save_own_variables(store)
            store["factor"] = np.float32(self.factor)

        def load_own_variables(self, store):
            self.factor = float(np.asarray(store["factor"]))
            self.kernel.assign(np.asarray(store["0"]))

        def save_assets(self, dir_path):
            with open(f"{dir_path}/words.txt", "w") as file:
                file.write("\n".join(self.words))

        def load_assets(self, dir_path):
            with open(f"{dir_path}/words.txt") as file:
                self.words = file.read().split("\n")

        def get_config(self):
            return super().get_config()

    return Table


@pytest.mark.parametrize("writer", [keras, keras_peer], ids=lambda k: k.__name__)
def test_files_load_both_ways(writer, tmp_path):
    tables = {k: classes(k) for k in (keras, keras_peer)}
    table = tables[writer](["one", "two"])
    model = writer.Sequential([writer.Input((3,)), table])
    table.factor = 2.5
    model.save(tmp_path / "model.keras")
    x = np.ones((2, 3), "float32")
    for k, kind in tables.items():
        read = k.models.load_model(tmp_path / "model.keras", custom_objects={"Table": kind})
        assert read.layers[-1].words == ["one", "two"] and read.layers[-1].factor == 2.5
        np.testing.assert_allclose(
            read.predict(x, verbose=0), model.predict(x, verbose=0), rtol=1e-6
        )


@pytest.mark.parametrize("writer", [keras, keras_peer], ids=lambda k: k.__name__)
@pytest.mark.parametrize("name", ["model.keras", "model.h5"])
def test_a_model_without_weights_is_saved_too(writer, name, tmp_path):
    layers = writer.layers
    model = writer.Sequential([layers.Dense(2), layers.Bidirectional(layers.LSTM(2))])
    model.compile("adam", "mse", metrics=["mae"])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.save(tmp_path / name)
    assert writer is keras_peer or "has no weights yet" in str(caught[0].message)
    for k in (keras, keras_peer):
        if k is keras_peer and name == "model.h5":
            continue  # which Keras compiles for "mse" only if it is one of its own names
        read = k.models.load_model(tmp_path / name)
        assert not read.built
        read.fit(np.ones((4, 5, 3)), np.ones((4, 4)), verbose=0)
        assert [tuple(w.shape) for w in read.weights][0] == (3, 2)


def test_self_may_have_another_name():
    class Own(keras.Model):
        def __init__(this, units=3, **kwargs):
            super().__init__(**kwargs)
            this.units = units

    assert set(Own(4).get_config()) == {"name", "trainable", "dtype", "units"}


def test_layers_know_their_metrics():
    class Watched(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.mean = keras.metrics.Mean()
            self.inner = keras.layers.Dense(2)

        def call(self, x):
            return self.inner(x)

    layer = Watched()
    assert layer.metrics == [layer.mean] and layer.metrics_variables == layer.mean.variables
    assert layer.input_dtype == "float32" and keras.layers.LSTM(3).state_size == [3, 3]


def test_a_weight_need_not_be_cast():
    pytest.importorskip("ml_dtypes")
    seen = {}

    class Own(keras.layers.Layer):
        def build(self, shape):
            self.a = self.add_weight((2,), name="a")
            self.b = self.add_weight((2,), name="b", autocast=False, aggregation="mean")

        def call(self, x):
            seen.update(a=str(self.a.dtype), b=str(self.b.dtype))
            return x

    Own(dtype="mixed_bfloat16")(np.ones((1, 2), "float32"))
    assert seen == {"a": "bfloat16", "b": "float32"}
    with pytest.raises(ValueError, match="overwrite_with_gradient"):
        keras.layers.Layer().add_weight((2,), overwrite_with_gradient=True)


def test_an_optimizer_of_ones_own_has_variables_as_in_keras():
    def make(k):
        class Own(k.optimizers.Optimizer):
            def build(self, var_list):
                super().build(var_list)
                self.m, self.v = self.add_optimizer_variables(var_list, ["m", "v"])
                self.total = self.add_variable(shape=(), initializer="ones", name="total")

            def update_step(self, gradient, variable, learning_rate):
                i = self._get_variable_index(variable)
                self.assign(self.m[i], 0.9 * self.m[i] + gradient)
                self.assign_add(self.v[i], k.ops.square(gradient))
                self.assign_add(self.total, 1.0)
                self.assign_sub(variable, learning_rate * self.m[i] / (1 + self.total))

        return Own

    x = np.random.default_rng(0).normal(size=(12, 3)).astype("float32")
    results = []
    for k in (keras, keras_peer):
        model = k.Sequential([k.Input((3,)), k.layers.Dense(2), k.layers.Dense(1)])
        model.set_weights([np.full(w.shape, 0.3) for w in model.get_weights()])
        model.compile(make(k)(0.1), "mse")
        losses = model.fit(x, x[:, :1], epochs=3, shuffle=False, verbose=0).history["loss"]
        variables = [np.asarray(k.ops.convert_to_numpy(v)) for v in model.optimizer.variables]
        results.append([losses, *variables])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_a_data_set_without_a_length_or_without_an_end():
    class Endless(keras.utils.PyDataset):
        num_batches = None

        def __getitem__(self, index):
            return np.full((2, 1), index, "float32"), np.zeros((2, 1), "float32")

    class Three(Endless):
        num_batches = 3

    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    assert len(model.fit(Endless(), steps_per_epoch=4, epochs=2, verbose=0).epoch) == 2
    assert model.predict(Three(), verbose=0).shape == (6, 1)
    assert [int(x[0, 0]) for x, _ in Three()] == [0, 1, 2]


def test_what_asks_for_several_inputs_gets_as_many():
    layer = keras.layers.Dense(2)
    layer.input_spec = [keras.InputSpec(ndim=2), keras.InputSpec(ndim=2)]
    with pytest.raises(ValueError, match="takes 2 inputs, got 1"):
        layer(np.ones((1, 2)))
    spec = keras.InputSpec(shape=(None, 3, 1), allow_last_axis_squeeze=True, name="x")
    spec.check((5, 3), layer)
    spec.check((5, 3, 1), layer)
    with pytest.raises(ValueError, match="expects an input with size 3 on axis 1, got 4"):
        spec.check((5, 4), layer)
