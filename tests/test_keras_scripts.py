"""Whole scripts as students write them, and what they are told when something is wrong."""

import copy
import json
import pickle

import numpy as np
import pytest

from minitorch_ciml import grad, keras
from minitorch_ciml.keras import layers, ops

RNG = np.random.default_rng(0)


def images(n=8, size=8, channels=3):
    return RNG.random((n, size, size, channels), dtype="float32")


def residual_model():
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, padding="same")(inputs)
    x = layers.BatchNormalization()(x)
    x = layers.Activation("relu")(x)
    y = layers.Conv2D(4, 3, padding="same")(x)
    x = layers.add([x, y * 2.0 - x])
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(5, activation="softmax")(x))


# --- scripts ------------------------------------------------------------------------------------


def test_two_inputs_and_two_outputs_by_name():
    a, b = keras.Input((4,), name="a"), keras.Input((3,), name="b")
    x = layers.concatenate([layers.Dense(8, activation="relu")(a), layers.Dense(8)(b)])
    number = layers.Dense(1, name="number")(x)
    kind = layers.Dense(2, activation="softmax", name="kind")(x)
    model = keras.Model([a, b], [number, kind])
    model.compile(
        "adam",
        loss={"number": "mse", "kind": "sparse_categorical_crossentropy"},
        loss_weights={"number": 1.0, "kind": 0.5},
        metrics={"kind": ["accuracy"]},
    )
    data = {"a": RNG.normal(size=(32, 4)), "b": RNG.normal(size=(32, 3))}
    targets = {"number": data["a"].sum(1), "kind": RNG.integers(0, 2, 32)}
    history = model.fit(data, targets, epochs=2, verbose=0, validation_split=0.25).history
    assert {"loss", "number_loss", "kind_accuracy", "val_kind_loss"} <= set(history)
    assert [y.shape for y in model.predict(data, verbose=0)] == [(32, 1), (32, 2)]


def test_autoencoder():
    model = keras.Sequential([
        keras.Input((8, 8, 1)),
        layers.Conv2D(4, 3, padding="same", activation="relu"),
        layers.MaxPooling2D(),
        layers.Conv2DTranspose(4, 3, strides=2, padding="same", activation="relu"),
        layers.MaxPooling2D(),
        layers.UpSampling2D(),
        layers.Conv2D(1, 3, padding="same", activation="sigmoid"),
    ])  # fmt: skip
    model.compile("adam", "binary_crossentropy")
    x = images(16, channels=1)
    losses = model.fit(x, x, epochs=3, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    assert model.predict(x, verbose=0).shape == x.shape


def test_transfer_a_saved_model_with_a_new_head(tmp_path):
    base = keras.Sequential([
        keras.Input((6,)),
        layers.Dense(8, activation="relu", name="body"),
        layers.Dense(2, activation="softmax", name="head"),
    ])  # fmt: skip
    base.compile("adam", "categorical_crossentropy")
    base.save(tmp_path / "base.keras")
    model = keras.models.load_model(tmp_path / "base.keras")
    assert model.pop().name == "head"
    for layer in model.layers:
        layer.trainable = False
    model.add(layers.Dense(3, activation="softmax", name="new_head"))
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["acc"])
    body, head = (model.get_layer(name).get_weights()[0] for name in ("body", "new_head"))
    model.fit(RNG.random((20, 6)), RNG.integers(0, 3, 20), verbose=0)
    np.testing.assert_array_equal(model.get_layer("body").get_weights()[0], body)
    assert (model.get_layer("new_head").get_weights()[0] != head).any()


def test_features_from_the_middle_of_a_model():
    model = residual_model()
    features = keras.Model(model.input, [layer.output for layer in model.layers])
    x = images(2)
    values = features.predict(x, verbose=0)
    np.testing.assert_allclose(values[-1], model.predict(x, verbose=0), rtol=1e-6)
    assert values[1].shape == (2, 8, 8, 4)


def test_custom_layer_in_a_custom_training_loop():
    class Linear(layers.Layer):
        def __init__(self, units, **kwargs):
            super().__init__(**kwargs)
            self.units = units

        def build(self, input_shape):
            self.w = self.add_weight((input_shape[-1], self.units), "random_normal")
            self.b = self.add_weight((self.units,), "zeros")

        def call(self, inputs):
            return ops.matmul(inputs, self.w) + self.b

    model = keras.Sequential([Linear(8), layers.ReLU(), Linear(1)])
    optimizer = keras.optimizers.Adam(0.02)
    x = RNG.random((32, 3), dtype="float32")
    losses = []
    for _ in range(30):
        loss = ops.mean(ops.square(model(x, training=True) - x[:, :1]))
        model_weights = model.trainable_weights
        optimizer.apply(grad(loss, model_weights), model_weights)
        losses.append(float(loss))
    assert losses[-1] < 0.5 * losses[0]


def test_attention_on_sequences():
    inputs = keras.Input((6,))
    x = layers.Embedding(20, 8)(inputs)
    x = layers.LayerNormalization()(x + layers.MultiHeadAttention(2, 4)(x, x))
    outputs = layers.Dense(1, activation="sigmoid")(layers.GlobalAveragePooling1D()(x))
    model = keras.Model(inputs, outputs)
    model.compile(keras.optimizers.Adam(0.01), "binary_crossentropy", metrics=["accuracy"])
    x = RNG.integers(0, 20, (64, 6))
    losses = model.fit(x, x[:, 0] > 9, epochs=5, verbose=0).history["loss"]
    assert losses[-1] < losses[0]


def test_a_mask_made_of_the_inputs():
    inputs = keras.Input((6,), dtype="int32")
    vectors = layers.Embedding(10, 4, name="table")(inputs)
    model = keras.Model(inputs, layers.LSTM(3, name="lstm")(vectors, mask=inputs != 0))
    x = np.array([[1, 2, 3, 0, 0, 0], [4, 5, 0, 0, 0, 0]])
    short = model.get_layer("lstm")(model.get_layer("table")(x[:1, :3]))
    np.testing.assert_allclose(model.predict(x, verbose=0)[:1], short.numpy(), rtol=1e-5, atol=1e-7)
    twin = keras.models.model_from_json(model.to_json())
    twin.set_weights(model.get_weights())
    np.testing.assert_array_equal(twin.predict(x, verbose=0), model.predict(x, verbose=0))


def test_a_last_axis_of_size_1_may_be_left_out():
    from keras_peer import keras_peer

    x = RNG.random((4, 6, 6), dtype="float32")
    models = []
    for k in (keras, keras_peer):
        model = k.Sequential([k.Input((6, 6, 1), name="images"), k.layers.Conv2D(2, 3)])
        line = k.Sequential([k.Input((1,)), k.layers.Dense(1)])
        pixels = k.Sequential([k.Input((3,)), k.layers.Dense(2)])
        models.append((model, line, pixels))
    for mine, theirs, data in zip(*models, (x, x[:, 0, 0], x[:, :3, :1])):
        mine.set_weights(theirs.get_weights())
        expected = theirs.predict(data, verbose=0)
        np.testing.assert_allclose(mine.predict(data, verbose=0), expected, rtol=1e-5, atol=1e-6)
    line = models[0][1]
    line.compile("sgd", "mse")
    losses = line.fit(x[:, 0, 0], x[:, 0, 0], epochs=5, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    with pytest.raises(
        ValueError, match=r"input 'images' has shape \(None, 6, 6, 1\), got .*4, 36"
    ):
        models[0][0].predict(x.reshape(4, 36), verbose=0)


def test_a_metric_without_a_name_is_called_lambda_as_in_keras(capsys):
    model = keras.Sequential([keras.Input((2,)), layers.Flatten(), layers.Dense(1)])
    model.compile("sgd", "mse", metrics=[lambda y, p: ops.max(ops.abs(y - p))])
    assert "lambda" in model.fit(np.ones((4, 2)), np.ones((4, 1)), verbose=0).history
    model.summary(show_trainable=True)
    flatten, dense = (row for row in capsys.readouterr().out.splitlines() if "flatten" in row
                      or "dense" in row)  # fmt: skip
    assert flatten.split("│")[-2].strip() == "-" and dense.split("│")[-2].strip() == "Y"


def test_validation_in_some_epochs():
    model = keras.Sequential([keras.Input((2,)), layers.Dense(1)])
    model.compile("sgd", "mse")
    data = np.ones((4, 2)), np.ones((4, 1))

    def validations(frequency):
        history = model.fit(*data, epochs=5, verbose=0, validation_data=data,
                            validation_freq=frequency).history  # fmt: skip
        return len(history["val_loss"])

    assert [validations(f) for f in (1, 2, [1, 3, 9])] == [5, 2, 2]
    with pytest.raises(ValueError, match="validation_freq must be at least 1, got 0"):
        validations(0)


def test_numpy_functions_take_predictions():
    model = keras.Sequential([keras.Input((3,)), layers.Dense(4)])
    y = model(RNG.random((5, 3)))
    values = y.numpy()
    for function in (np.mean, np.sum, np.max, np.min, np.std, np.var, np.prod, np.argmax):
        np.testing.assert_allclose(np.asarray(function(y)), function(values), rtol=1e-5)
        np.testing.assert_allclose(
            np.asarray(function(y, axis=1)), function(values, axis=1), rtol=1e-5
        )
    assert np.all(y <= y) and not np.any(y < y)
    np.testing.assert_allclose(grad(np.mean(y), y).numpy(), np.full((5, 4), 1 / 20))
    assert np.sum(y, dtype="float64").dtype == "float64"
    with pytest.raises(TypeError, match="tensors are immutable"):
        np.mean(y, out=np.zeros(()))
    with pytest.raises(TypeError, match=r"pass x.numpy\(\) instead"):
        np.std(y, ddof=1)


# --- copies of a model --------------------------------------------------------------------------


def test_model_from_json_gives_the_architecture():
    model = residual_model()
    twin = keras.models.model_from_json(model.to_json())
    twin.set_weights(model.get_weights())
    x = images()
    np.testing.assert_array_equal(twin.predict(x, verbose=0), model.predict(x, verbose=0))
    with pytest.raises(ValueError, match="expected what to_json"):
        keras.models.model_from_json("no JSON")


def test_a_cloned_model_has_weights_of_its_own():
    model = residual_model()
    twin = keras.models.clone_model(model)
    assert [layer.name for layer in twin.layers] == [layer.name for layer in model.layers]
    assert not {id(w) for w in twin.weights} & {id(w) for w in model.weights}
    assert (twin.get_weights()[0] != model.get_weights()[0]).any()
    twin.set_weights(model.get_weights())
    x = images()
    np.testing.assert_array_equal(twin.predict(x, verbose=0), model.predict(x, verbose=0))


def test_slices_in_a_model_are_saved_as_in_keras(tmp_path):
    inputs = keras.Input((4, 5))
    outputs = ops.concatenate([inputs[:, -1, 1:3], inputs[..., 0], inputs[:, 2]], axis=-1)
    model = keras.Model(inputs, outputs)
    x = RNG.random((2, 4, 5), dtype="float32")
    expected = np.concatenate([x[:, -1, 1:3], x[..., 0], x[:, 2]], axis=-1)
    np.testing.assert_array_equal(model.predict(x, verbose=0), expected)
    model.save(tmp_path / "ours.keras")
    twin = keras.models.load_model(tmp_path / "ours.keras")
    np.testing.assert_array_equal(twin.predict(x, verbose=0), expected)
    from keras_peer import keras_peer, to_numpy

    theirs = keras_peer.models.load_model(tmp_path / "ours.keras")
    np.testing.assert_array_equal(to_numpy(theirs(x)), expected)
    theirs.save(tmp_path / "theirs.keras")
    back = keras.models.load_model(tmp_path / "theirs.keras")
    np.testing.assert_array_equal(back.predict(x, verbose=0), expected)


class Subclass(keras.Model):
    """A model with a call of its own, and a layer that it has not built."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.dense = layers.Dense(units)
        self.norm = layers.BatchNormalization()
        self.calls = 0

    def call(self, inputs, training=False):
        self.calls += 1
        return self.norm(self.dense(inputs), training=training)

    def get_config(self):
        return {**super().get_config(), "units": self.units}


def test_a_subclassed_model_is_saved_and_loaded(tmp_path):
    model = Subclass(3)
    x = RNG.random((4, 2))
    y = model(x)
    assert model.calls == 1
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", {"Subclass": Subclass})
    np.testing.assert_array_equal(loaded(x), y)


def test_a_subclassed_model_can_be_built_from_a_shape():
    model = Subclass(3)
    model.build((None, 2))
    assert model.built and model.count_params() == 2 * 3 + 3 + 4 * 3
    assert not model.losses


@pytest.mark.parametrize("optimizer", ["adam", "nadam", "sgd"])
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_copy_of_a_trained_model_goes_on_training(duplicate, optimizer):
    model = keras.Sequential([keras.Input((3,)), layers.Dense(4), layers.Dense(1)])
    model.compile(optimizer, "mse")
    x = RNG.random((8, 3))
    model.fit(x, x[:, 0], epochs=3, verbose=0)
    other, before = duplicate(model), model.get_weights()
    for one in (model, other):
        one.fit(x, x[:, 0], epochs=2, verbose=0, shuffle=False)
    assert (model.get_weights()[0] != before[0]).any()
    for a, b in zip(model.get_weights(), other.get_weights()):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(model.optimizer.variables, other.optimizer.variables):
        np.testing.assert_array_equal(a, b)


def test_a_copied_optimizer_still_spares_the_same_weights():
    weight, bias = keras.Variable(np.ones(3), name="w"), keras.Variable(np.ones(3), name="b")
    optimizer = keras.optimizers.AdamW(0.1, weight_decay=0.5)
    optimizer.exclude_from_weight_decay([bias])
    optimizer.build([weight, bias])
    (weight, bias), optimizer = copy.deepcopy(([weight, bias], optimizer))
    optimizer.apply([np.zeros(3, "float32")] * 2, [weight, bias])
    np.testing.assert_array_equal(bias, np.ones(3))
    np.testing.assert_allclose(weight, np.full(3, 0.95), rtol=1e-6)


def test_cloning_needs_no_registration():
    class Double(layers.Layer):
        def call(self, inputs):
            return 2 * inputs

    def shifted(x):
        return x + 1

    nested = keras.Sequential([Double(), layers.Dense(2, activation=shifted)])
    lambdas = layers.Lambda(lambda x: x * 3), layers.Lambda(lambda x: -x)
    model = keras.Sequential([keras.Input((3,)), nested, *lambdas])
    twin = keras.models.clone_model(model)
    twin.set_weights(model.get_weights())
    x = RNG.random((4, 3))
    np.testing.assert_array_equal(twin.predict(x, verbose=0), model.predict(x, verbose=0))
    assert twin.optimizer is None  # as the model


def test_what_cannot_be_cloned():
    class Own(keras.Model):
        def call(self, inputs):
            return inputs

    with pytest.raises(ValueError, match=r"make another one with Own\(...\)"):
        keras.models.clone_model(Own())


def test_names_that_scripts_expect():
    assert issubclass(keras.optimizers.Adam, keras.Optimizer)
    assert issubclass(keras.losses.MeanSquaredError, keras.Loss)
    assert issubclass(keras.metrics.AUC, keras.Metric)
    assert issubclass(keras.initializers.GlorotUniform, keras.Initializer)
    assert issubclass(keras.regularizers.L2, keras.Regularizer)
    assert keras.__version__.startswith("3.") and keras.version() == keras.__version__
    assert layers.deserialize(layers.serialize(layers.Dense(4, name="d"))).units == 4
    assert json.loads(residual_model().to_json())["class_name"] == "Functional"


def test_plot_model_draws_every_layer(tmp_path):
    pytest.importorskip("matplotlib")
    model = residual_model()
    figure = keras.utils.plot_model(
        model, tmp_path / "model.png", show_shapes=True, show_dtype=True, show_layer_names=True
    )
    assert (tmp_path / "model.png").read_bytes()[:4] == b"\x89PNG"
    texts = [text.get_text() for text in figure.axes[0].texts]
    for layer in model.layers:
        assert layer.name in texts
    assert {"InputLayer", "Conv2D", "Dense", "multiply"} <= set(texts)
    assert "(None, 8, 8, 4)" in texts and "float32" in texts
    calls = model._graph.nodes
    connections = sum(len({id(x.node) for x in call.inputs}) for call in calls)
    patches = [type(patch).__name__ for patch in figure.axes[0].patches]
    assert patches.count("FancyArrowPatch") == connections
    assert patches.count("FancyBboxPatch") == len(calls) + 1
    with pytest.raises(ValueError, match="give a Sequential its input's shape"):
        keras.utils.plot_model(keras.Sequential([layers.Dense(3)]))


def test_plot_model_runs_down_as_in_keras_or_to_the_right():
    x = keras.Input((4,))
    model = keras.Model(x, layers.Add()([x, layers.Dense(4)(layers.Dense(4)(x))]))
    down = keras.utils.plot_model(model, None)
    right = keras.utils.plot_model(model, None, rankdir="LR")
    assert down.get_figheight() > down.get_figwidth()
    assert right.get_figwidth() > right.get_figheight()
    with pytest.raises(ValueError, match="rankdir='BT', expected 'TB' or 'LR'"):
        keras.utils.plot_model(model, None, rankdir="BT")


def test_plot_model_looks_into_models_and_tells_more(tmp_path):
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(3, "tanh", name="a"), layers.ReLU()])
    x, y = keras.Input((4,)), keras.Input((4,))
    model = keras.Model([x, y], layers.Add()([inner(x), inner(y)]))
    inner.trainable = False

    def texts(**how):
        figure = keras.utils.plot_model(model, tmp_path / "model.png", dpi=50, **how)
        return [text.get_text() for text in figure.axes[0].texts], figure

    closed, _ = texts()
    assert closed.count("Sequential") == 2 and "Dense" not in closed
    opened, figure = texts(expand_nested=True, show_layer_activations=True, show_trainable=True)
    assert opened.count("Dense") == opened.count("activation: tanh") == 2
    assert "Sequential" not in opened and opened.count("InputLayer") == 2
    assert opened.count("not trainable") == 4 and opened.count("trainable") == 3
    arrows = [type(patch).__name__ for patch in figure.axes[0].patches].count("FancyArrowPatch")
    assert arrows == 6


# --- mistakes -----------------------------------------------------------------------------------


def test_a_forgotten_super_init_is_named():
    class Own(layers.Layer):
        def __init__(self, units):
            self.units = units

        def call(self, inputs):
            return inputs

    with pytest.raises(AttributeError, match=r"Own .*must first call super\(\).__init__\(\)"):
        Own(3)(np.ones((2, 3)))
    with pytest.raises(AttributeError, match="'Dense' object has no attribute 'kernell'"):
        _ = layers.Dense(3).kernell


def test_a_layer_in_place_of_its_result():
    with pytest.raises(TypeError, match=r"got Dense; call it on its input first"):
        layers.Dense(3)(layers.Dense(3))
    with pytest.raises(TypeError, match="takes arrays or the results of layers, got str"):
        layers.Dense(3)("x")


def test_the_same_layer_twice_in_a_stack():
    dense = layers.Dense(3)
    with pytest.raises(ValueError, match="is in this model already; make a new one"):
        keras.Sequential([keras.Input((3,)), dense, dense])


def test_two_layers_of_one_name():
    inputs = keras.Input((3,))
    x = layers.Dense(3, name="d")(layers.Dense(3, name="d")(inputs))
    with pytest.raises(ValueError, match="2 layers are named 'd'"):
        keras.Model(inputs, x)


@pytest.mark.parametrize("make", [
    lambda: layers.Conv2D(3, 3, padding="sam"),
    lambda: layers.Conv2DTranspose(3, 3, padding="causal"),
    lambda: layers.MaxPooling2D(padding=None),
])  # fmt: skip
def test_padding_is_checked_at_once(make):
    with pytest.raises(ValueError, match="padding must be 'valid' or 'same', got "):
        make()


def test_a_loss_without_a_return():
    model = keras.Sequential([keras.Input((3,)), layers.Dense(1)])

    def forgetful(y_true, y_pred):
        ops.mean(y_true - y_pred)

    model.compile("sgd", forgetful)
    with pytest.raises(ValueError, match="loss 'forgetful' returned None"):
        model.fit(np.ones((4, 3)), np.ones((4, 1)), verbose=0)


def test_symbolic_tensors_have_no_values():
    with pytest.raises(TypeError, match="no length; its shape is .shape"):
        len(keras.Input((3,)))
    with pytest.raises(ValueError, match="give the shape instead"):
        keras.Input((3,), tensor=np.ones(3))


def test_a_checkpoint_that_could_not_be_written_is_refused_before_training(tmp_path):
    with pytest.raises(ValueError, match="must end in .keras or .h5 with save_weights_only=False"):
        keras.callbacks.ModelCheckpoint(tmp_path / "model.pb")


def test_what_is_missing_is_named_at_once(tmp_path):
    dense = layers.Dense(3, name="late")
    with pytest.raises(AttributeError, match="layer 'late' has no input or output yet"):
        _ = dense.output
    assert not hasattr(dense, "input")
    model = keras.Sequential([dense])
    for save in (model.save_weights, model.load_weights):
        path = tmp_path / "w.weights.h5"
        if save == model.load_weights:
            path.write_bytes(b"")
        with pytest.raises(ValueError, match="_weights: 'sequential.*' has no weights yet"):
            save(path)
    with pytest.raises(ValueError, match="unknown metric 'acuracy'; did you mean 'accuracy'"):
        model.compile("adam", "mse", metrics=["acc", "acuracy"])
    model.compile("adam", "mse", metrics={"late": ["mae", lambda t, p: t - p]})


# --- what a script found ------------------------------------------------------------------------


def test_a_tensor_to_the_left_of_a_symbolic_one():
    inputs = keras.Input((3,))
    row = ops.convert_to_tensor(np.array([1.0, 2.0, 3.0], "float32"))
    model = keras.Model(inputs, [row + inputs, row * inputs, row - inputs, row / inputs])
    results = model.predict(np.full((2, 3), 2.0), verbose=0)
    expected = [[3, 4, 5], [2, 4, 6], [-1, 0, 1], [0.5, 1, 1.5]]
    for result, values in zip(results, expected):
        np.testing.assert_allclose(result, [values, values])
    with pytest.raises(TypeError):
        row + "text"


def test_operations_on_plain_numbers():
    assert ops.expand_dims(3, 0).shape == (1,) and str(ops.expand_dims(3, 0).dtype) == "int64"
    assert ops.stack([1, 2.5]).dtype == keras.config.floatx()
    assert ops.reshape(2.0, (1, 1)).dtype == keras.config.floatx()


def test_a_call_without_training_is_not_told_and_says_so():
    class Untold(keras.Model):
        def __init__(self):
            super().__init__()
            self.normal, self.end = layers.BatchNormalization(name="normal"), layers.Dense(1)

        def call(self, inputs):
            return self.end(self.normal(inputs))

    model = Untold()
    model.compile("sgd", "mse")
    x = RNG.normal(5, 1, (8, 3))
    with pytest.warns(UserWarning, match=r"Untold.call has no argument 'training', so normal"):
        model.fit(x, x[:, :1], verbose=0)
    np.testing.assert_array_equal(model.normal.moving_mean, 0)  # as in Keras
    model(x, training=True)
    assert (model.normal.moving_mean.numpy() > 0).all()


def test_a_softmax_in_float32_stays_so_in_mixed_precision():
    pytest.importorskip("ml_dtypes")
    inputs = keras.Input((4,))
    x = layers.Dense(3, dtype="mixed_bfloat16")(inputs)
    x = layers.GaussianNoise(0.1, dtype="mixed_bfloat16")(x)
    outputs = layers.Activation("softmax", dtype="float32")(x)
    model = keras.Model(inputs, outputs, dtype="mixed_bfloat16")
    for training in (False, True):
        assert model(np.ones((2, 4), "float32"), training=training).dtype == "float32"
