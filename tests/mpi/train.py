"""Trains the models of some cases on all ranks; each rank writes weights and history to a file.

mpirun -n 2 python train.py DTYPE FILE [deterministic] [overlap] [float16] [CASE...]
"""

import os
import sys
import tempfile
import warnings

import numpy as np

from minitorch_ciml import keras

layers = keras.layers
N, BATCH = 83, 20  # the last batch has 3 samples: fewer than ranks when there are 4


def data(dtype):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(N, 6)).astype(dtype)
    return x, rng.integers(0, 3, N), rng.uniform(0.2, 2, N).astype(dtype)


def mlp(*hidden):
    return keras.Sequential(
        [keras.Input((6,)), *(hidden or [layers.Dense(8, activation="tanh")]),
         layers.Dense(3, activation="softmax")]
    )  # fmt: skip


def fit(model, optimizer="adam", loss="sparse_categorical_crossentropy", dtype="float32",
        compiled=None, **how):  # fmt: skip
    x, y, _ = data(dtype)
    y = how.pop("y", y)
    model.compile(optimizer, loss, **(compiled or {"metrics": ["accuracy"]}))
    how = {"epochs": 5, "batch_size": BATCH, "verbose": 0, **how}
    return model, model.fit(x, y, **how).history


def adam(dtype):
    model, history = fit(mlp(), dtype=dtype)
    # All but the first batches of a size, also after the ranks have chosen how to exchange.
    assert model._programs["_differentiated"].runs >= 10, model.why_not_recorded
    return model, history


def sgd(dtype):
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True, clipnorm=0.5)
    return fit(mlp(), optimizer, dtype=dtype)


def rmsprop(dtype):
    optimizer = keras.optimizers.RMSprop(
        0.01, global_clipnorm=0.3, use_ema=True, weight_decay=0.01, gradient_accumulation_steps=2
    )
    return fit(mlp(), optimizer, dtype=dtype)


def every_optimizer(dtype):
    """All others with their defaults; one model and one entry of the history for each."""
    names = "Adadelta Adafactor Adagrad Adamax AdamW Ftrl Lamb Lion Nadam".split()
    fitted = {}
    for name in names:
        optimizer = getattr(keras.optimizers, name)(0.01)
        model, history = fit(mlp(), optimizer, dtype=dtype)
        fitted[name] = history["loss"]
        fitted |= {f"{name} {i}": w for i, w in enumerate(model.get_weights())}
    return model, fitted


def dropout(dtype):
    return fit(
        mlp(layers.Dropout(0.2), layers.Dense(8, activation="relu"), layers.GaussianNoise(0.1),
            layers.Dropout(0.4, noise_shape=(None, 8))), dtype=dtype,
    )  # fmt: skip


def sample_weight(dtype):
    return fit(
        mlp(), dtype=dtype, compiled={"weighted_metrics": ["accuracy"], "metrics": ["accuracy"]},
        sample_weight=data(dtype)[2],
    )  # fmt: skip


def class_weight(dtype):
    return fit(mlp(), dtype=dtype, class_weight={0: 1.0, 1: 0.3, 2: 2.0})


def mean_with_sample_weight(dtype):
    loss = keras.losses.SparseCategoricalCrossentropy(reduction="mean_with_sample_weight")
    return fit(mlp(), "sgd", loss, dtype, sample_weight=data(dtype)[2])


def sum_loss(dtype):
    loss = keras.losses.SparseCategoricalCrossentropy(reduction="sum")
    return fit(mlp(), keras.optimizers.SGD(0.01), loss, dtype=dtype)


def masked(dtype):
    y = data(dtype)[1].copy()
    y[::3] = -1
    loss = keras.losses.SparseCategoricalCrossentropy(ignore_class=-1)
    return fit(mlp(), loss=loss, dtype=dtype, y=y, compiled={"metrics": []})


def regularized(dtype):
    dense = layers.Dense(8, "tanh", kernel_regularizer="l2", activity_regularizer="l1")
    return fit(mlp(dense), dtype=dtype)


def batch_norm(dtype):
    # A bias before the normalisation has no effect, so Adam would follow its rounding errors.
    model, history = fit(
        mlp(layers.Dense(8, use_bias=False), layers.BatchNormalization(synchronized=True),
            layers.Activation("relu")), keras.optimizers.SGD(0.1), dtype=dtype,
    )  # fmt: skip
    ranks = keras.distribution.distribution().communicator.size
    assert ranks == 1 or "ranks wait for each other" in model.why_not_recorded
    return model, history


def convolution(dtype):
    return fit(
        mlp(layers.Reshape((6, 1)), layers.Conv1D(4, 3, activation="relu"),
            layers.MaxPooling1D(2), layers.LSTM(4, dropout=0.3)), dtype=dtype, epochs=2,
    )  # fmt: skip


def unbuilt(dtype):
    return fit(keras.Sequential([layers.Dense(8, "relu"), layers.Dense(3, "softmax")]), dtype=dtype)


def two_outputs(dtype):
    x, y, _ = data(dtype)
    inputs = keras.Input((6,))
    hidden = layers.Dense(8, activation="relu")(inputs)
    outputs = [layers.Dense(3, "softmax", name="a")(hidden), layers.Dense(1, name="b")(hidden)]
    model = keras.Model(inputs, outputs)
    return fit(
        model, loss=["sparse_categorical_crossentropy", "mse"], dtype=dtype, y=[y, x[:, :1]],
        compiled={"metrics": [["accuracy"], ["mae"]], "loss_weights": [1.0, 0.5]},
    )  # fmt: skip


def early_stopping(dtype):
    stop = keras.callbacks.EarlyStopping(patience=1, restore_best_weights=True, min_delta=0.01)
    lower = keras.callbacks.ReduceLROnPlateau(patience=0, min_delta=0.05)
    return fit(
        mlp(), keras.optimizers.Adam(0.05), dtype=dtype, validation_split=0.3, epochs=30,
        callbacks=[stop, lower],
    )  # fmt: skip


def batch_logs(dtype):
    seen = []
    callback = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: seen.append(logs["loss"]),
    )
    model, history = fit(mlp(), dtype=dtype, callbacks=[callback, keras.callbacks.TerminateOnNaN()])
    return model, {**history, "batches": seen}


def generator(dtype):
    x, y, _ = data(dtype)

    def batches():
        while True:
            for start in range(0, N, BATCH):
                yield x[start : start + BATCH], y[start : start + BATCH]

    model = mlp()
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model, model.fit(batches(), steps_per_epoch=5, epochs=5, verbose=0).history


def loader(dtype):
    x, y, _ = data(dtype)
    asked = []

    def read(rows):
        assert np.all(np.diff(rows) > 0)
        asked.append(len(rows))
        return x[rows], y[rows]

    model = mlp()
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    source = keras.distribution.RowLoader(read, N)
    history = model.fit(source, batch_size=BATCH, epochs=5, verbose=0).history
    ranks = keras.distribution.distribution().size
    assert sum(asked) <= 5 * (N / ranks + 5) + 64, asked  # its own rows, and some for the digest
    return model, history


def memory_mapped(dtype):
    with tempfile.TemporaryDirectory() as folder:
        for name, array in zip("xy", data(dtype)):
            np.save(f"{folder}/{name}.npy", array)
        x, y = (np.load(f"{folder}/{name}.npy", mmap_mode="r") for name in "xy")
        model = mlp()
        model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        fitted = model.fit(x, y, batch_size=BATCH, epochs=5, verbose=0, validation_split=0.2)
        return model, fitted.history


def augmentation(dtype):
    return fit(
        mlp(layers.Reshape((1, 2, 3)), layers.RandomFlip(), layers.RandomTranslation(0.5, 0.5),
            layers.Flatten()), dtype=dtype,
    )  # fmt: skip


def folder(dtype):
    """Images of six numbers, changed at random before and within the model."""
    rng = np.random.default_rng(0)
    change = layers.RandomRotation(0.2, seed=3)
    with tempfile.TemporaryDirectory() as place:
        for i in range(N):
            os.makedirs(f"{place}/{i % 3}", exist_ok=True)
            pixels = rng.integers(0, 256, (1, 2, 3))
            keras.utils.save_img(f"{place}/{i % 3}/{i}.png", pixels, scale=False)
        images = keras.utils.image_dataset_from_directory(
            place, image_size=(1, 2), batch_size=BATCH, verbose=False
        )
        validation, training = keras.utils.split_dataset(images, 17)
        assert training.size == 66 and len(training) == 4
        training = training.cache().map(lambda x, y: (change(x) / 255, y))
        training = training.map(lambda x, y: (x.reshape((-1, 6)), y))
        validation = validation.map(lambda x, y: (x.reshape((-1, 6)) / 255, y))
        model = mlp(layers.GaussianNoise(0.1), layers.Dense(8, "tanh"))
        model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        return model, model.fit(training, validation_data=validation, epochs=5, verbose=0).history


def custom_loop(dtype):
    from minitorch_ciml import Tensor, distributed, grad

    x, y, _ = data(dtype)
    model = mlp()
    team = keras.distribution.distribution()
    keras.distribution.set_distribution(None)  # the loop shares the data itself
    optimizer = distributed.DistributedOptimizer(keras.optimizers.Adam(0.01))
    distributed.broadcast_variables(model.weights)
    loss_of = keras.losses.SparseCategoricalCrossentropy()
    for start in range(0, 72, 24):  # 24 rows can be shared evenly by 1, 2, 3, 4 ranks
        each = 24 // team.size
        rows = slice(start + team.rank * each, start + (team.rank + 1) * each)
        loss = loss_of(y[rows], model(Tensor(x[rows]), training=True))
        optimizer.apply(grad(loss, model.trainable_weights), model.trainable_weights)
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    keras.distribution.set_distribution(team)
    return model, {}


def own_step(dtype):
    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(3)
            self.tracker = keras.metrics.Mean(name="mine")

        def call(self, x):
            return self.dense(x)

        def train_step(self, data):
            from minitorch_ciml import grad

            x, y = data
            loss = self.compute_loss(y=y, y_pred=self(x, training=True))
            self.optimizer.apply(grad(loss, self.trainable_weights), self.trainable_weights)
            self.tracker.update_state(loss)
            return {"mine": self.tracker.result(), "other": loss}

    model = Model()
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x, y, _ = data(dtype)
    return model, model.fit(x[:80], y[:80], batch_size=20, epochs=5, verbose=0).history


def on_batch(dtype):
    model = mlp()
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    x, y, _ = data(dtype)
    logs = [model.train_on_batch(x[:17], y[:17]) for _ in range(5)]
    return model, {"logs": np.array(logs)}


CASES = [
    adam, sgd, rmsprop, every_optimizer, dropout, sample_weight, class_weight,
    mean_with_sample_weight, sum_loss, masked, regularized, batch_norm, convolution, unbuilt,
    two_outputs, early_stopping, batch_logs, generator, loader, memory_mapped, augmentation, folder,
    custom_loop, own_step, on_batch,
]  # fmt: skip


def results(case, dtype):
    """Weights, history, evaluation and predictions of a case, by name."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(1)
    model, history = case(dtype)
    x, y, weights = data(dtype)
    found = {f"weight {i}": w for i, w in enumerate(model.get_weights())}
    found |= {f"history {name}": np.array(values) for name, values in history.items()}
    predicted = model.predict(x, batch_size=BATCH, verbose=0)
    predicted = predicted if isinstance(predicted, list) else [predicted]
    found |= {f"prediction {i}": p for i, p in enumerate(predicted)}
    if len(predicted) == 1:
        scores = model.evaluate(x, y, batch_size=BATCH, verbose=0, sample_weight=weights)
        found["evaluation"] = np.array(scores)
    return found


if __name__ == "__main__":
    warnings.simplefilter("error")
    _, dtype, path, *names = sys.argv
    keras.config.set_floatx(dtype)
    how = {
        "deterministic": {"deterministic": True}, "overlap": {"overlap": True},
        "float16": {"compression": "float16"},
    }  # fmt: skip
    options = {k: v for name in names for k, v in how.get(name, {}).items()}
    names = [name for name in names if name not in how]
    keras.distribution.set_distribution(keras.distribution.DataParallel(**options))
    rank = keras.distribution.distribution().rank
    for case in CASES:
        if not names or case.__name__ in names:
            np.savez(f"{path}.{case.__name__}.{rank}.npz", **results(case, dtype))
