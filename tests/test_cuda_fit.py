"""`fit` on the (simulated) GPU: the CPU's results, recorded steps, late logs, files, errors."""

import numpy as np
import pytest

pytest.importorskip("numba_cuda")

import minitorch_ciml as mt
from minitorch_ciml import keras, ops
from minitorch_ciml.kernels.cuda import runtime

RNG = np.random.default_rng(0)
L = keras.layers

# Batches of 6: three steps alike, of which the third is recorded, and a shorter one.
X = np.random.default_rng(1).normal(size=(20, 6)).astype("float32")
CLASSES = np.random.default_rng(2).integers(0, 3, 20)


def mlp():
    return keras.Sequential([
        keras.Input((6,)), L.Dense(5, activation="relu"), L.Dropout(0.3),
        L.Dense(3, activation="softmax"),
    ])  # fmt: skip


def autoencoder():
    x = keras.Input((6,))
    h = L.Dense(3, activation="tanh", kernel_regularizer="l2", activity_regularizer="l1")(x)
    return keras.Model(x, L.Dense(6, kernel_constraint="max_norm")(h))


def lstm():
    layers = [keras.Input((3,)), L.Embedding(7, 2), L.LSTM(2), L.Dense(1, activation="sigmoid")]
    return keras.Sequential(layers)


def attention():
    x = keras.Input((2, 4))
    h = L.LayerNormalization()(L.MultiHeadAttention(1, 2)(x, x) + x)
    return keras.Model(x, L.Dense(3, activation="softmax")(L.GlobalAveragePooling1D()(h)))


def cnn():
    return keras.Sequential([
        keras.Input((5, 5, 1)), L.Rescaling(1 / 255), L.Conv2D(2, 3, use_bias=False),
        L.BatchNormalization(), L.ReLU(), L.MaxPooling2D(2), L.Flatten(),
        L.Dense(3, activation="softmax"),
    ])  # fmt: skip


SPARSE = {"loss": "sparse_categorical_crossentropy", "metrics": ["accuracy"]}
MODELS = {
    "mlp": (mlp, X, CLASSES, SPARSE, lambda o: o.Adam(0.01)),
    "autoencoder": (
        autoencoder, X.astype("float64"), X, {"loss": "mse", "metrics": ["mae"]},
        lambda o: o.AdamW(0.01, use_ema=True, global_clipnorm=1.0),
    ),
    "lstm": (
        lstm, np.random.default_rng(3).integers(0, 7, (20, 3)), (CLASSES > 0).astype("float32"),
        {"loss": "binary_crossentropy", "metrics": ["accuracy"]},
        lambda o: o.RMSprop(o.schedules.ExponentialDecay(0.01, 2, 0.5)),
    ),
    "attention": (
        attention, np.random.default_rng(4).normal(size=(20, 2, 4)), CLASSES, SPARSE,
        lambda o: o.SGD(0.1, momentum=0.9),
    ),
    "cnn": (
        cnn, np.random.default_rng(5).integers(0, 255, (20, 5, 5, 1)).astype("uint8"), CLASSES,
        SPARSE, lambda o: o.Adam(0.01),
    ),
}  # fmt: skip


def trained(name: str, device: str, jit_compile="auto", epochs=2, **fit):
    make, x, y, compiled, optimizer = MODELS[name]
    keras.utils.set_random_seed(1)
    with mt.device(device):
        model = make()
        model.compile(optimizer(keras.optimizers), jit_compile=jit_compile, **compiled)
    fit = {"batch_size": 6, "verbose": 0} | fit  # four steps an epoch, the last one of two samples
    history = model.fit(x, y, epochs=epochs, **fit)
    return model, history.history


def assert_same(model, other, tolerance=2e-5):
    for ours, theirs in zip(model.get_weights(), other.get_weights()):
        np.testing.assert_allclose(ours, theirs, tolerance, tolerance)


@pytest.mark.parametrize("name", MODELS)
def test_training_on_the_gpu_is_that_of_the_cpu(name):
    on_cpu, cpu_history = trained(name, "cpu", epochs=1)
    on_gpu, gpu_history = trained(name, "cuda", epochs=1)
    assert {w.device for w in on_gpu.weights} == {"cuda"}
    assert on_gpu.why_not_recorded is None and on_gpu._stepper.replayed == 1
    assert_same(on_gpu, on_cpu)
    assert gpu_history.keys() == cpu_history.keys()
    for key, values in gpu_history.items():
        np.testing.assert_allclose(values, cpu_history[key], 1e-4)
    x, y = MODELS[name][1:3]
    np.testing.assert_allclose(
        on_gpu.predict(x[:2], verbose=0), on_cpu.predict(x[:2], verbose=0), 1e-4, 1e-6
    )


def test_a_recorded_step_is_the_eager_one_bit_for_bit():
    """Also where the learning rate is changed from outside, and a schedule or dropout moves on."""

    class Halve(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.optimizer.learning_rate = 0.005

    runs = [
        trained("mlp", "cuda", jit_compile=jit, callbacks=[Halve()])[0] for jit in ("auto", False)
    ]
    assert [m._stepper.replayed for m in runs] == [4, 0]
    assert runs[1].why_not_recorded == "jit_compile=False"
    assert_same(*runs, tolerance=0)
    assert [int(m.optimizer.iterations) for m in runs] == [8, 8]


class Own(L.Layer):
    def __init__(self, look=False, **kwargs):
        super().__init__(**kwargs)
        self.look, self.calls = look, 0

    def call(self, x):
        self.calls += 1
        return x * float(ops.max(x)) if self.look else x + 0.0


@pytest.mark.parametrize(
    "own, compiled, reason",
    [
        (Own(), {}, "Own is not of this package"),
        (Own(), {"run_eagerly": True}, "run_eagerly=True"),
        (Own(look=True), {"jit_compile": True}, "copying to the host while a step is captured"),
        (Own(), {"every": 2}, "SGD decides on the host"),
    ],
)
def test_what_cannot_be_recorded_runs_eagerly(own, compiled, reason):
    results = []
    for device in ("cpu", "cuda"):
        keras.utils.set_random_seed(1)
        with mt.device(device):
            model = keras.Sequential([keras.Input((6,)), L.Dense(3), own])
            every = compiled.get("every")
            optimizer = keras.optimizers.SGD(gradient_accumulation_steps=every)
            how = {k: v for k, v in compiled.items() if k != "every"}
            model.compile(optimizer, "mse", **how)
            model.fit(X, X[:, :3], batch_size=5, epochs=1, verbose=0)
            results.append(model)
    assert reason in results[1].why_not_recorded and not results[1]._stepper.replayed
    assert_same(*results)
    assert int(results[1].optimizer._iterations) == 4


def test_python_code_of_the_user_runs_once_where_that_is_asked_for():
    own = Own()
    with mt.device("cuda"):
        model = keras.Sequential([keras.Input((6,)), L.Dense(3), own])
        model.compile("sgd", "mse", jit_compile=True)
        own.calls = 0
        model.fit(X, X[:, :3], batch_size=5, epochs=3, verbose=0)
    assert model._stepper.replayed == 10 and own.calls == 3


# --- the host does not wait -----------------------------------------------------------------------


def test_nothing_is_fetched_within_an_epoch(monkeypatch):
    fetched = []
    fetch = type(runtime.runtime()).copy_to_host
    steps = []

    def spy(self, target, source):
        fetched.append(len(steps))
        fetch(self, target, source)

    class Count(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            steps.append(batch)

    monkeypatch.setattr(type(runtime.runtime()), "copy_to_host", spy)
    trained("mlp", "cuda", callbacks=[Count(), keras.callbacks.TerminateOnNaN()])
    assert len(steps) == 8 and set(fetched) == {4, 8}


def test_a_callback_that_reads_batch_logs_gets_floats():
    seen = []
    reader = keras.callbacks.LambdaCallback(on_train_batch_end=lambda i, logs: seen.append(logs))
    _, history = trained("mlp", "cuda", callbacks=[reader])
    assert all(type(v) is float for logs in seen for v in logs.values())
    assert seen[3]["loss"] == history["loss"][0]


def test_nan_ends_the_training():
    x = X.copy()
    x[0, 0] = np.nan
    keras.utils.set_random_seed(0)
    with mt.device("cuda"):
        model = keras.Sequential([keras.Input((6,)), L.Dense(1)])
        model.compile("sgd", "mse")
        history = model.fit(x, x[:, :1], epochs=5, batch_size=10, verbose=0,
                            callbacks=[keras.callbacks.TerminateOnNaN()])  # fmt: skip
    assert len(history.history["loss"]) == 1


# --- the rest of the facade -----------------------------------------------------------------------


def test_single_batches_weights_and_files(tmp_path):
    with mt.device("cuda"):
        model = keras.Sequential([keras.Input((6,)), L.Dense(3, activation="softmax")])
        model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        losses = [model.train_on_batch(X, CLASSES)[0] for _ in range(5)]
    assert model._stepper.replayed == 3 and losses[-1] < losses[0]
    assert isinstance(model.predict_on_batch(X), np.ndarray)
    model.save(tmp_path / "model.keras")
    on_cpu = keras.models.load_model(tmp_path / "model.keras")
    assert on_cpu.weights[0].device == "cpu"
    assert_same(model, on_cpu, 0)
    np.testing.assert_allclose(
        model.evaluate(X, CLASSES, verbose=0), on_cpu.evaluate(X, CLASSES, verbose=0), 1e-5
    )
    with mt.device("cuda"):
        again = keras.models.load_model(tmp_path / "model.keras")
    assert again.weights[0].device == "cuda"
    model.set_weights([w + 1 for w in on_cpu.get_weights()])
    np.testing.assert_array_equal(model.get_weights()[0], on_cpu.get_weights()[0] + 1)


def test_metrics_without_kernels_are_computed_on_the_host():
    results = []
    for device in ("cpu", "cuda"):
        keras.utils.set_random_seed(0)
        with mt.device(device):
            model = keras.Sequential([keras.Input((6,)), L.Dense(1, activation="sigmoid")])
            model.compile("sgd", "binary_crossentropy", metrics=["AUC", "Precision", "mse"])
            model.fit(X, CLASSES > 0, batch_size=10, verbose=0, sample_weight=X[:, 0] ** 2)
            results.append(model.evaluate(X, CLASSES > 0, verbose=0))
    np.testing.assert_allclose(*results, 1e-5)


def test_a_model_stays_where_it_was_built():
    with mt.device("cuda"):
        model = keras.Sequential([keras.Input((6,)), L.Dense(3)])
    model.compile("sgd", "mse")
    model.fit(X, X[:, :3], verbose=0)  # outside: the model's device counts
    assert model.predict(X, verbose=0).shape == (20, 3)
    assert mt.get_device() == "cpu"
