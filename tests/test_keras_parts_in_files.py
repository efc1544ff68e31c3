"""Where parts of models and layers of one's own stand in files, as in Keras; what is missing."""

import h5py
import numpy as np
import pytest
from keras_peer import keras_peer, to_numpy
from side_by_side import alike

from minitorch_ciml import keras

X = np.random.default_rng(0).normal(size=(3, 2)).astype("float32")


def parts(k):
    """Attributes before and after `layers` in the alphabet, private ones, lists in dictionaries."""
    dense = k.layers.Dense
    return {
        "zeta": dense(2),
        "_hidden": dense(2),
        "Big": dense(2),
        "known": {"q": dense(2), "r": [dense(2), dense(2)]},
        "nested": [[dense(2)], (dense(2), k.layers.BatchNormalization())],
        "numbers": [1, [2, 3]],
    }


def chain(k, base):
    @k.saving.register_keras_serializable("parts_in_files")
    class Chain(base):
        def __init__(self, inner=None, **kwargs):
            super().__init__(**kwargs)
            for name, part in parts(k).items():
                setattr(self, name, part)
            self.again = self.zeta
            if inner is not None:
                self.middle = inner

        def build(self, shape):
            self.scale = self.add_weight((2,), "ones", name="scale")
            super().build(shape)

        def call(self, x):
            for layer in (
                self.zeta, self._hidden, self.Big, self.known["q"], *self.known["r"],
                *self.nested[0], *self.nested[1], *([self.middle] if self.inner else []),
            ):  # fmt: skip
                x = layer(x)
            return x * self.scale

        @property
        def inner(self):
            return getattr(self, "middle", None)

    return Chain


def model_of(k):
    layer = chain(k, k.layers.Layer)()
    model = chain(k, k.Model)(inner=layer)
    model(X)
    return model


def places(path):
    found = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, x: found.update({name: getattr(x, "shape", None)}))
    return {name: shape for name, shape in found.items() if shape is not None}


def test_parts_stand_where_keras_puts_them(tmp_path):
    models = {"mine": model_of(keras), "theirs": model_of(keras_peer)}
    for name, model in models.items():
        alike(model)
        model.save_weights(tmp_path / f"{name}.weights.h5")
    assert places(tmp_path / "mine.weights.h5") == places(tmp_path / "theirs.weights.h5")
    for k, file in ((keras, "theirs"), (keras_peer, "mine")):
        other = model_of(k)
        other.load_weights(tmp_path / f"{file}.weights.h5")
        for read, written in zip(other.get_weights(), models[file].get_weights()):
            np.testing.assert_array_equal(read, written)


def test_a_model_of_ones_own_without_get_config_loads_in_both(tmp_path):
    def own(k):
        @k.saving.register_keras_serializable("parts_in_files")
        class Own(k.Model):
            def __init__(self, units=4, **kwargs):
                super().__init__(**kwargs)
                self.units, self.out = units, k.layers.Dense(units)

            def call(self, x):
                return self.out(x)

        return Own

    kinds = {k: own(k) for k in (keras, keras_peer)}
    for k, kind in kinds.items():
        model = kind()
        expected = to_numpy(model(X)) if k is keras_peer else model(X).numpy()
        model.save(tmp_path / "own.keras")
        np.testing.assert_allclose(
            keras.models.load_model(tmp_path / "own.keras")(X), expected, rtol=1e-5, atol=1e-6
        )
        theirs = keras_peer.models.load_model(tmp_path / "own.keras")
        np.testing.assert_allclose(to_numpy(theirs(X)), expected, rtol=1e-5, atol=1e-6)


class Wide(keras.Model):
    def __init__(self, more=False):
        super().__init__()
        self.first, self.second = keras.layers.Dense(2), keras.layers.Embedding(3, 2)
        self.third = keras.layers.Dense(2) if more else None

    def call(self, x):
        y = self.first(x) + self.second(keras.ops.zeros(x.shape[0], "int32"))
        return self.third(y) if self.third else y


def test_weights_that_a_file_lacks_are_no_silent_matter(tmp_path):
    model, more = Wide(), Wide(more=True)
    model(X), more(X)
    model.save_weights(tmp_path / "w.weights.h5")
    with pytest.raises(ValueError, match=r"layers/dense_1: layer 'dense.*the file has \[\]"):
        more.load_weights(tmp_path / "w.weights.h5")
    kept = more.third.get_weights()[0]
    with pytest.warns(UserWarning, match=r"does not fit dense.*, which keep their weights"):
        more.load_weights(tmp_path / "w.weights.h5", skip_mismatch=True)
    np.testing.assert_array_equal(more.third.get_weights()[0], kept)
    np.testing.assert_array_equal(more.second.get_weights()[0], model.second.get_weights()[0])


def test_a_model_without_call_has_weights_to_save(tmp_path):
    class Pair(keras.Model):
        def __init__(self):
            super().__init__()
            self.one = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])

    pair, other = Pair(), Pair()
    pair.save_weights(tmp_path / "pair.weights.h5")
    other.load_weights(tmp_path / "pair.weights.h5")
    np.testing.assert_array_equal(other.get_weights()[0], pair.get_weights()[0])


# --- configurations -----------------------------------------------------------------------------


def scaled(k):
    @k.saving.register_keras_serializable("parts_in_files")
    class Scaled(k.layers.Layer):
        def __init__(self, factor):
            super().__init__()
            self.factor = factor

        def call(self, x):
            return x * self.factor

        def get_config(self):
            return {"factor": self.factor}

    return Scaled


def test_a_layer_whose_configuration_has_no_name(tmp_path):
    models = []
    for k in (keras, keras_peer):
        inputs, kind = k.Input((2,)), scaled(k)
        model = k.Model(inputs, k.layers.Dense(3)(kind(2.0)(kind(0.5)(inputs))))
        alike(model)
        model.save(tmp_path / f"{k.__name__}.keras")
        models.append(model)
    expected = models[0].predict(X, verbose=0)
    for writer in (keras, keras_peer):
        for reader in (keras, keras_peer):
            twin = reader.models.load_model(tmp_path / f"{writer.__name__}.keras")
            np.testing.assert_allclose(twin.predict(X, verbose=0), expected, rtol=1e-5)
    twin = keras.Model.from_config(models[0].get_config())
    assert [layer.__class__.__name__ for layer in twin.layers[1:]] == ["Scaled", "Scaled", "Dense"]


def test_tensors_in_a_functional_model_are_saved(tmp_path):
    for k in (keras, keras_peer):
        inputs = k.Input((2,))
        row = k.ops.convert_to_tensor(np.array([1.0, 2.0], "float32"))
        k.Model(inputs, inputs / k.ops.sqrt(k.ops.cast(4, "float32")) + row).save(
            tmp_path / f"{k.__name__}.keras"
        )
    for writer in (keras, keras_peer):
        twin = keras.models.load_model(tmp_path / f"{writer.__name__}.keras")
        np.testing.assert_allclose(twin.predict(X, verbose=0), X / 2 + [1, 2], rtol=1e-6)
    theirs = keras_peer.models.load_model(tmp_path / "minitorch_ciml.keras.keras")
    np.testing.assert_allclose(to_numpy(theirs(X)), X / 2 + [1, 2], rtol=1e-6)


@keras.saving.register_keras_serializable("parts_in_files")
class Weighed(keras.Sequential):
    """Compiled with objects of its own, which are in its file."""

    def compile(self, optimizer, loss_fn, alpha=1.0):
        super().compile(optimizer, loss_fn)
        self.alpha = alpha

    def get_compile_config(self):
        return {"optimizer": self.optimizer, "loss_fn": self.loss, "alpha": self.alpha}

    def compile_from_config(self, config):
        self.compile(
            keras.saving.deserialize_keras_object(config["optimizer"]),
            keras.saving.deserialize_keras_object(config["loss_fn"]),
            config["alpha"],
        )


def test_objects_that_a_model_is_compiled_with_are_in_its_file(tmp_path):
    model = Weighed([keras.Input((2,)), keras.layers.Dense(1)], name="weighed")
    model.compile(keras.optimizers.SGD(0.5), keras.losses.Huber(2.0), alpha=0.3)
    model.save(tmp_path / "model.keras")
    read = keras.models.load_model(tmp_path / "model.keras")
    assert type(read) is Weighed and read.alpha == 0.3 and read.loss.delta == 2.0
    assert float(read.optimizer.learning_rate) == 0.5
    twin = keras.models.clone_model(model, clone_function=lambda layer: keras.layers.Dense(2))
    assert twin.name == "weighed" and twin.output_shape == (None, 2)


def test_normalized_tensors_are_tensors():
    x = keras.ops.convert_to_tensor(X)
    variable = keras.Variable(X)
    (keras.utils.normalize(variable) * np.array([1, 2])).sum().backward()
    assert np.abs(variable.grad.numpy()).max() > 0
    assert keras.utils.normalize(keras.Input((3,))).shape == (None, 3)
    np.testing.assert_allclose(keras.utils.normalize(x), keras.utils.normalize(X), rtol=1e-6)
    codes = keras.utils.to_categorical(keras.ops.convert_to_tensor([2, 0]), 3)
    np.testing.assert_array_equal(codes.numpy(), [[0, 0, 1], [1, 0, 0]])
