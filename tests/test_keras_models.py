"""Models against Keras 3: graphs, training histories, files; and what users may pass to fit."""

import numpy as np
import pytest
from keras_peer import keras_peer

from minitorch_ciml import Tensor, grad, keras
from minitorch_ciml.keras import layers

RNG = np.random.default_rng(0)
X = RNG.normal(size=(50, 6)).astype("float32")
LABELS = RNG.integers(0, 3, size=50)
Y = np.eye(3, dtype="float32")[LABELS]


def small_model(k, **compile_arguments):
    model = k.Sequential(
        [
            k.Input((6,)),
            k.layers.Dense(8, activation="relu"),
            k.layers.Dense(3, activation="softmax"),
        ]
    )
    arguments = {"optimizer": "sgd", "loss": "categorical_crossentropy", "metrics": ["accuracy"]}
    model.compile(**(arguments | compile_arguments))
    return model


def pair(**compile_arguments):
    """The same small model, here and in Keras, with the same weights."""
    ours, theirs = small_model(keras, **compile_arguments), small_model(
        keras_peer, **compile_arguments)  # fmt: skip
    ours.set_weights(theirs.get_weights())
    return ours, theirs


def assert_same_history(ours, theirs, rtol=1e-5):
    assert list(ours.history) == list(theirs.history)
    for name, values in theirs.history.items():
        np.testing.assert_allclose(ours.history[name], values, rtol=rtol, atol=1e-6, err_msg=name)


# --- training: the same numbers as Keras ---------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"batch_size": 7},
        {"validation_split": 0.2},
        {"validation_data": (X[:9], Y[:9])},
        {"class_weight": {0: 1.0, 1: 2.0, 2: 0.5}},
        {"sample_weight": np.linspace(0.5, 2, 50)},
        {"steps_per_epoch": 2, "batch_size": 25},
        {"initial_epoch": 1},
    ],
    ids=str,
)
def test_fit_gives_the_history_of_keras(arguments):
    ours, theirs = pair()
    same = dict(epochs=3, verbose=0, shuffle=False)
    history = ours.fit(X, Y, **same, **arguments)
    peer = theirs.fit(X, Y, **same, **arguments)
    assert_same_history(history, peer)
    for a, b in zip(ours.get_weights(), theirs.get_weights()):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "rmsprop", "adamw"])
@pytest.mark.parametrize("loss", ["categorical_crossentropy", "mse", "sparse"])
def test_five_steps_equal_keras(optimizer, loss):
    target = Y
    if loss == "sparse":
        loss, target = "sparse_categorical_crossentropy", LABELS
    ours, theirs = pair(optimizer=optimizer, loss=loss)
    for step in range(5):
        rows = slice(10 * step, 10 * step + 10)
        a = ours.train_on_batch(X[rows], target[rows])
        b = theirs.train_on_batch(X[rows], target[rows])
        np.testing.assert_allclose(a, np.array(b, dtype=float), rtol=1e-5)
    for a, b in zip(ours.get_weights(), theirs.get_weights()):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_evaluate_and_predict_equal_keras():
    ours, theirs = pair()
    np.testing.assert_allclose(
        ours.evaluate(X, Y, verbose=0), theirs.evaluate(X, Y, verbose=0), rtol=1e-5
    )
    a, b = ours.evaluate(X, Y, verbose=0, return_dict=True), theirs.evaluate(
        X, Y, verbose=0, return_dict=True)  # fmt: skip
    assert list(a) == list(b)
    np.testing.assert_allclose(
        ours.predict(X, verbose=0), theirs.predict(X, verbose=0), rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(ours.predict_on_batch(X), ours.predict(X, verbose=0), rtol=1e-6)


def two_headed(k):
    a, b = k.Input((4,), name="a"), k.Input((3,), name="b")
    shared = k.layers.Dense(5, activation="tanh", name="shared")
    left = shared(k.layers.Dense(6, name="left")(a))
    right = shared(k.layers.Dense(6, name="right")(b))
    joined = k.layers.Concatenate(name="joined")([left, right])
    total = k.layers.Add(name="total")([left, right])
    first = k.layers.Dense(1, activation="sigmoid", name="first")(joined)
    second = k.layers.Dense(2, name="second")(total * 2.0)
    model = k.Model([a, b], [first, second])
    model.compile(
        optimizer="adam", loss={"first": "binary_crossentropy", "second": "mse"},
        loss_weights={"first": 1.0, "second": 0.3},
        metrics={"first": ["accuracy"], "second": ["mae"]},
    )  # fmt: skip
    return model


def test_several_inputs_and_outputs_train_as_in_keras():
    ours, theirs = two_headed(keras), two_headed(keras_peer)
    ours.set_weights(theirs.get_weights())
    x = [RNG.normal(size=(20, n)).astype("float32") for n in (4, 3)]
    y = [RNG.integers(0, 2, (20, 1)).astype("float32"), RNG.normal(size=(20, 2)).astype("float32")]
    same = dict(epochs=2, batch_size=6, shuffle=False, verbose=0)
    assert_same_history(ours.fit(x, y, **same), theirs.fit(x, y, **same))
    named = ours.fit({"a": x[0], "b": x[1]}, {"first": y[0], "second": y[1]}, **same)
    peer = theirs.fit({"a": x[0], "b": x[1]}, {"first": y[0], "second": y[1]}, **same)
    assert_same_history(named, peer)


# --- graphs --------------------------------------------------------------------------------------


def test_a_model_of_inner_outputs_shows_every_layer():
    model = small_model(keras)
    inner = keras.Model(inputs=model.input, outputs=[layer.output for layer in model.layers])
    hidden, result = inner.predict(X, verbose=0)
    assert hidden.shape == (50, 8) and (hidden >= 0).all()
    np.testing.assert_array_equal(result, model.predict(X, verbose=0))


def test_models_are_layers():
    encoder = keras.Sequential([keras.Input((6,)), layers.Dense(2)])
    decoder = keras.Sequential([keras.Input((2,)), layers.Dense(6)])
    x = keras.Input((6,))
    model = keras.Model(x, decoder(encoder(x)))
    assert model.count_params() == 6 * 2 + 2 + 2 * 6 + 6
    np.testing.assert_allclose(
        model.predict(X, verbose=0),
        decoder.predict(encoder.predict(X, verbose=0), verbose=0),
        rtol=1e-5,
        atol=1e-6,
    )
    assert keras.Model(x, encoder(x)).get_layer(index=1) is encoder


def test_operators_and_functions_build_models():
    x = keras.Input((4,))
    y = keras.ops.exp(-x) * 2 + 1 / (x * x + 1)
    model = keras.Model(x, [y, x[:, :2], keras.ops.sum(x, axis=1, keepdims=True)])
    data = RNG.normal(size=(5, 4)).astype("float32")
    a, b, c = model.predict(data, verbose=0)
    np.testing.assert_allclose(a, np.exp(-data) * 2 + 1 / (data**2 + 1), rtol=1e-6)
    np.testing.assert_array_equal(b, data[:, :2])
    np.testing.assert_allclose(c, data.sum(1, keepdims=True), rtol=1e-6)
    assert model.output_shape == [(None, 4), (None, 2), (None, 1)]


class Wide(keras.layers.Layer):
    """A layer as users write it."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units

    def build(self, input_shape):
        self.w = self.add_weight(shape=(input_shape[-1], self.units), initializer="ones", name="w")

    def call(self, inputs):
        return keras.ops.matmul(inputs, self.w)


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.hidden = Wide(4)
        self.blocks = [layers.Dense(4), layers.Dense(3)]

    def call(self, inputs, training=None):
        x = self.hidden(inputs)
        for block in self.blocks:
            x = block(x)
        return x


def test_subclassed_layers_and_models_train():
    model = Subclassed()
    model.compile(optimizer="adam", loss="mse")
    history = model.fit(X, Y, epochs=3, verbose=0)
    assert history.history["loss"][-1] < history.history["loss"][0]
    assert [w.shape for w in model.weights] == [(6, 4), (4, 4), (4,), (4, 3), (3,)]
    assert layers.Dense(2)(Wide(5)(keras.Input((3,)))).shape == (None, 2)


def test_a_custom_train_step_is_used():
    class Custom(keras.Model):
        def train_step(self, data):
            x, y = data
            loss = self.compute_loss(y=y, y_pred=self(x, training=True))
            self.optimizer.apply(grad(loss, self.trainable_weights), self.trainable_weights)
            return {"custom": loss.item()}

    x = keras.Input((6,))
    model = Custom(x, layers.Dense(3)(x))
    model.compile(optimizer="sgd", loss="mse")
    history = model.fit(X, Y, epochs=20, verbose=0)
    assert list(history.history) == ["custom"]
    assert history.history["custom"][-1] < 0.9 * history.history["custom"][0]


def test_frozen_layers_keep_their_weights():
    model = small_model(keras)
    model.layers[0].trainable = False
    model.compile(optimizer="sgd", loss="mse")
    before = model.get_weights()
    model.fit(X, Y, verbose=0)
    after = model.get_weights()
    assert (before[0] == after[0]).all() and (before[2] != after[2]).any()


def test_sequential_add_pop_and_late_build():
    model = keras.Sequential()
    model.add(layers.Dense(4))
    model.add(layers.Dense(2))
    assert not model.built and model.weights == []
    model(X[:1])
    assert model.count_params() == 6 * 4 + 4 + 4 * 2 + 2
    assert model.pop().units == 2
    assert model.predict(X, verbose=0).shape == (50, 4)
    model.add(layers.Dense(3))
    assert model.output_shape == (None, 3)


def test_old_spellings_work():
    model = keras.models.Sequential()
    model.add(
        layers.Convolution2D(
            4, (3, 3), strides=1, data_format="channels_last", input_shape=(8, 8, 1)
        )
    )
    model.add(layers.Flatten())
    model.add(layers.Dense(1))
    assert model.output_shape == (None, 1)
    flat = keras.Sequential([layers.Dense(2, input_shape=6), layers.Dense(1, input_dim=2)])
    flat.compile("sgd", "mse", metrics=["acc"])
    flat.fit(X.astype("float64"), LABELS[:, None], verbose=0)
    assert flat.get_weights()[0].dtype == "float32"


# --- data ----------------------------------------------------------------------------------------


def test_generators_and_sequences_train_like_arrays():
    def batches():
        while True:
            for i in range(0, 50, 10):
                yield X[i : i + 10], Y[i : i + 10]

    class Pieces(keras.utils.PyDataset):
        def __len__(self):
            return 5

        def __getitem__(self, i):
            return X[10 * i : 10 * i + 10], Y[10 * i : 10 * i + 10]

    reference, _ = pair()
    start = reference.get_weights()
    expected = reference.fit(X, Y, batch_size=10, epochs=2, shuffle=False, verbose=0).history
    for source, arguments in ((batches(), {"steps_per_epoch": 5}), (Pieces(), {"shuffle": False})):
        model = small_model(keras)
        model.set_weights(start)
        history = model.fit(source, epochs=2, verbose=0, **arguments).history
        np.testing.assert_allclose(history["loss"], expected["loss"], rtol=1e-6)


def test_data_that_end_within_an_epoch_end_it_with_a_warning():
    model = small_model(keras)
    with pytest.warns(UserWarning, match="after 2 of 3 steps"):
        history = model.fit(X, Y, batch_size=25, steps_per_epoch=3, epochs=2, verbose=0)
    assert len(history.history["loss"]) == 2
    with pytest.warns(UserWarning, match="after 0 of 3 steps"):
        history = model.fit(iter([(X, Y)] * 3), steps_per_epoch=3, epochs=5, verbose=0)
    assert len(history.history["loss"]) == 1


def test_shuffling_is_seeded():
    def losses(seed):
        keras.utils.set_random_seed(seed)
        return small_model(keras).fit(X, Y, batch_size=5, epochs=2, verbose=0).history["loss"]

    assert losses(1) == losses(1)
    assert losses(1) != losses(2)


def test_uint8_and_float64_arrays_are_not_copied_whole():
    model = keras.Sequential([keras.Input((6,)), layers.Dense(1)])
    model.compile("sgd", "mse")
    model.fit((X * 10).astype("uint8"), LABELS, verbose=0)
    model.fit(X.astype("float64"), LABELS.astype("float64"), verbose=0)
    assert model.predict(X.astype("float64"), verbose=0).dtype == "float32"


# --- errors: one line that says what to do -------------------------------------------------------


def error_of(action, kind=ValueError):
    with pytest.raises(kind) as caught:
        action()
    message = str(caught.value)
    assert "\n" not in message and len(message) < 400, message
    return message


def test_errors_say_what_to_do():
    model = small_model(keras)
    image = keras.Sequential([keras.Input((8, 8, 1)), layers.Conv2D(2, 3)])
    assert "has shape (None, 8, 8, 1), got data of shape (2, 64)" in error_of(
        lambda: image(np.ones((2, 64)))
    )
    assert "expects an input with 4 dimensions, got 3" in error_of(
        lambda: layers.Conv2D(2, 3)(np.ones((2, 8, 8)))
    )
    assert "size 1 on axis -1, got 3" in error_of(lambda: image(np.ones((2, 8, 8, 3))))
    assert "number of samples" in error_of(lambda: model.fit(X, Y[:10], verbose=0))
    assert "empty" in error_of(lambda: model.fit(X[:0], Y[:0], verbose=0))
    assert "compile(" in error_of(lambda: keras.Sequential([layers.Dense(1)]).fit(X, Y))
    assert "did you mean 'adam'" in error_of(lambda: model.compile("adamm", "mse"))
    assert "unknown loss" in error_of(lambda: small_model(keras, loss="msee"))
    assert "no weights yet" in error_of(lambda: layers.Dense(3).count_params())
    assert "arrays" in error_of(lambda: model.set_weights([]))
    assert "unknown argument 'unit'" in error_of(lambda: layers.Dense(3, unit=2), TypeError)
    assert "positive integer" in error_of(lambda: layers.Dense(0))
    assert "no layer 'x'" in error_of(lambda: model.get_layer("x"))
    assert "disconnected" in error_of(
        lambda: keras.Model(keras.Input((2,)), layers.Dense(1)(keras.Input((2,))))
    )
    sparse = small_model(keras, loss="sparse_categorical_crossentropy")
    assert "3" in error_of(lambda: sparse.fit(X, LABELS + 1, verbose=0))
    assert "positive integer, got 0" in error_of(lambda: model.fit(X, Y, batch_size=0, verbose=0))
    assert "no data" in error_of(lambda: model.fit(None, verbose=0))
    assert "whole number, got '3'" in error_of(lambda: model.fit(X, Y, epochs="3", verbose=0))
    assert "validation" in error_of(lambda: model.fit(X, Y, validation_data=X, verbose=0))
    assert "dictionary" in error_of(
        lambda: model.fit(X, Y, class_weight=[1, 2, 3], verbose=0), TypeError
    )


def test_nan_loss_stops_training():
    model = small_model(keras, loss="mse")
    stop = keras.callbacks.TerminateOnNaN()
    history = model.fit(X * np.nan, Y, epochs=5, verbose=0, callbacks=[stop])
    assert len(history.history["loss"]) == 1


# --- files ---------------------------------------------------------------------------------------


# Keras warns when it loads its own untrained model too.
@pytest.mark.filterwarnings("ignore:Skipping variable loading for optimizer")
def test_files_go_both_ways(tmp_path):
    for build in (small_model, two_headed):
        x = X if build is small_model else [X[:, :4], X[:, :3]]
        theirs = build(keras_peer)
        theirs.save(tmp_path / "theirs.keras")
        ours = keras.models.load_model(tmp_path / "theirs.keras")
        expected = theirs.predict(x, verbose=0)
        for a, b in zip(_list(ours.predict(x, verbose=0)), _list(expected)):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
        ours.save(tmp_path / "ours.keras")
        again = keras_peer.saving.load_model(tmp_path / "ours.keras")
        for a, b in zip(_list(again.predict(x, verbose=0)), _list(expected)):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
        ours.save_weights(tmp_path / "ours.weights.h5")
        fresh = build(keras_peer)
        fresh.load_weights(tmp_path / "ours.weights.h5")
        for a, b in zip(fresh.get_weights(), theirs.get_weights()):
            np.testing.assert_array_equal(a, b)
        theirs.save_weights(tmp_path / "theirs.weights.h5")
        other = build(keras)
        other.load_weights(tmp_path / "theirs.weights.h5")
        for a, b in zip(other.get_weights(), theirs.get_weights()):
            np.testing.assert_array_equal(a, b)


def _list(x):
    return x if isinstance(x, list) else [x]


def test_training_goes_on_after_loading(tmp_path):
    straight, _ = pair(optimizer="adam")
    straight.fit(X, Y, shuffle=False, verbose=0)
    straight.save(tmp_path / "half.keras")
    resumed = keras.models.load_model(tmp_path / "half.keras")
    peer = keras_peer.saving.load_model(tmp_path / "half.keras")
    for model in (straight, resumed, peer):
        model.fit(X, Y, shuffle=False, verbose=0)
    for a, b, c in zip(straight.get_weights(), resumed.get_weights(), peer.get_weights()):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_allclose(a, c, rtol=1e-5, atol=1e-6)


def test_files_written_during_training_can_be_loaded(tmp_path):
    model = small_model(keras)
    saves = [
        keras.callbacks.ModelCheckpoint(tmp_path / "m.keras"),
        keras.callbacks.ModelCheckpoint(tmp_path / "m.weights.h5", save_weights_only=True),
    ]
    model.fit(X, Y, epochs=2, verbose=0, callbacks=saves)
    again = keras.models.load_model(tmp_path / "m.keras")
    fresh = small_model(keras)
    fresh.load_weights(tmp_path / "m.weights.h5")
    for a, b, c in zip(model.get_weights(), again.get_weights(), fresh.get_weights()):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a, c)


def test_custom_layers_are_loaded_by_name(tmp_path):
    model = keras.Sequential([keras.Input((6,)), Wide(3)])
    model.save(tmp_path / "custom.keras")
    assert "custom_objects" in error_of(lambda: keras.models.load_model(tmp_path / "custom.keras"))
    again = keras.models.load_model(tmp_path / "custom.keras", custom_objects={"Wide": Wide})
    np.testing.assert_array_equal(again.predict(X, verbose=0), model.predict(X, verbose=0))


def test_damaged_files_are_refused(tmp_path):
    model = small_model(keras)
    path = tmp_path / "m.keras"
    model.save(path)
    path.write_bytes(path.read_bytes()[:300])
    assert "no complete .keras file" in error_of(lambda: keras.models.load_model(path))
    assert "no file" in error_of(lambda: keras.models.load_model(tmp_path / "n"), FileNotFoundError)
    weights = tmp_path / "m.weights.h5"
    model.save_weights(weights)
    weights.write_bytes(weights.read_bytes()[:100])
    assert "HDF5" in error_of(lambda: model.load_weights(weights))
    assert ".keras" in error_of(lambda: model.save(tmp_path / "m.pb"))
    other = keras.Sequential([keras.Input((6,)), layers.Dense(2)])
    model.save_weights(weights)
    assert "same architecture" in error_of(lambda: other.load_weights(weights))


def test_saving_is_atomic(tmp_path, monkeypatch):
    model = small_model(keras)
    path = tmp_path / "m.keras"
    model.save(path)
    good = path.read_bytes()
    monkeypatch.setattr("minitorch_ciml.keras.saving._weights_bytes", lambda model: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        model.save(path)
    assert path.read_bytes() == good
    assert [p.name for p in tmp_path.iterdir()] == ["m.keras"]


# --- summary -------------------------------------------------------------------------------------


def test_summary_has_the_rows_and_totals_of_keras():
    ours, theirs = pair()
    texts = []
    for model in (ours, theirs):
        lines = []
        model.summary(print_fn=lines.append)
        texts.append("\n".join(lines))
    for expected in ("Total params: 83 (332.00 B)", "Trainable params: 83", "(None, 8)", "56"):
        assert all(expected in text for text in texts), expected
    assert "Connected to" not in texts[0]
    lines = []
    two_headed(keras).summary(print_fn=lines.append)
    assert "Connected to" in "\n".join(lines)


def test_losses_of_layers_and_regularizers_are_added():
    def build(k):
        model = k.Sequential(
            [k.Input((6,)), k.layers.Dense(3, kernel_regularizer="l2", activity_regularizer="l1")]
        )
        model.compile(optimizer="sgd", loss="mse")
        return model

    ours, theirs = build(keras), build(keras_peer)
    ours.set_weights(theirs.get_weights())
    same = dict(epochs=2, shuffle=False, verbose=0)
    assert_same_history(ours.fit(X, Y, **same), theirs.fit(X, Y, **same))


def test_a_step_leaves_no_garbage():
    import gc

    model = small_model(keras)
    model.train_on_batch(X, Y)
    gc.collect()
    gc.disable()
    try:

        def count():
            return sum(issubclass(type(o), Tensor) for o in gc.get_objects())

        before = count()
        for _ in range(3):
            model.train_on_batch(X, Y)
        assert count() <= before
    finally:
        gc.enable()


def test_metrics_in_the_place_of_loss_weights_are_refused_clearly():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    with pytest.raises(ValueError, match=r"loss_weights must be numbers.*metrics=\["):
        model.compile("adam", "mse", ["accuracy"])


def test_unnamed_models_are_numbered_as_in_keras():
    def names(k):
        k.utils.clear_session()
        dense = k.layers.Dense
        known = k.Sequential([k.Input((3,)), dense(3), dense(3)])
        growing = k.Sequential([k.Input((3,))])
        growing.add(dense(3))
        growing.add(dense(3))
        unknown = k.Sequential([dense(3), dense(3)])
        unknown(np.ones((2, 3)))
        unknown.pop()
        nested = k.Sequential([known])
        nested.add(dense(3))
        found = []
        for stack in (
            known,
            growing,
            unknown,
            nested,
            k.Sequential.from_config(known.get_config()),
        ):
            inputs = k.Input((3,))
            found.append(k.Model(inputs, stack(inputs)).name)
        return found

    assert names(keras) == names(keras_peer)


@pytest.mark.parametrize("build", [False, True])
def test_loaded_weights_leave_an_optimizer_that_is_not_built_alone(tmp_path, build):
    def rate_and_step(k):
        def compiled(rate):
            model = k.Sequential([k.Input((3,)), k.layers.Dense(2)])
            model.compile(k.optimizers.Adam(rate), "mse")
            return model

        trained, fresh = compiled(0.1), compiled(0.01)
        trained.fit(np.ones((8, 3)), np.ones((8, 2)), verbose=0)
        trained.save_weights(tmp_path / "m.weights.h5", overwrite=True)
        if build:
            fresh.optimizer.build(fresh.trainable_variables)
            fresh.load_weights(tmp_path / "m.weights.h5")
        else:
            with pytest.warns(UserWarning, match="6"):  # variables in the file
                fresh.load_weights(tmp_path / "m.weights.h5")
        return float(fresh.optimizer.learning_rate), int(fresh.optimizer.iterations)

    ours, theirs = rate_and_step(keras), rate_and_step(keras_peer)
    assert ours == pytest.approx(theirs)
    assert ours == pytest.approx((0.1, 1) if build else (0.01, 0))


def own_layers(k):
    class Down(k.layers.Layer):  # strides in a row: 2 and 3 pixels would both become one
        def __init__(self):
            super().__init__()
            self.first = k.layers.Conv2D(4, 3, strides=2, padding="same")
            self.second = k.layers.MaxPooling2D(4, padding="same")

        def call(self, x):
            return self.second(self.first(x))

    class Up(k.layers.Layer):
        def __init__(self):
            super().__init__()
            self.grown = k.layers.UpSampling2D(8)

        def call(self, x):
            return self.grown(x)

    class Valid(k.layers.Layer):  # of two pixels nothing would be left
        def __init__(self):
            super().__init__()
            self.conv = k.layers.Conv2D(2, 5)

        def call(self, x):
            return k.ops.average_pool(self.conv(x), 4)

    return Down(), Up(), Valid()


def test_own_layers_take_images_of_any_size():
    def shapes(k):
        down, up, valid = own_layers(k)
        inputs = k.Input((None, None, 3))
        x = down(inputs)
        y = k.layers.Concatenate()([up(x), inputs])
        model = k.Model(inputs, [y, valid(inputs)])
        found = [t.shape for t in (x, y, *model.outputs)]
        images = np.ones((2, 16, 24, 3), "float32")
        return found, [y.shape for y in model.predict(images, verbose=0)]

    assert shapes(keras) == shapes(keras_peer)


def test_own_layers_may_know_few_steps():
    class Positions(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.table = keras.layers.Embedding(10, 4)

        def call(self, x):
            return self.table(keras.ops.arange(x.shape[1])) + keras.ops.expand_dims(x, -1)

    assert Positions()(keras.Input((None,))).shape == (None, None, 4)


def test_what_is_too_large_for_known_images_is_an_error():
    with pytest.raises(ValueError, match="window"):
        own_layers(keras)[2](keras.Input((3, 3, 3)))
