"""Checkpoints, a job that is killed and started again, the best weights, logs that go on."""

import csv
import json
import os

import keras
import numpy as np
from keras import layers
from keras.callbacks import BackupAndRestore, Callback, CSVLogger, EarlyStopping, ModelCheckpoint
from side_by_side import alike

rng = np.random.default_rng(0)
x = rng.normal(size=(64, 5)).astype("float32")
y = (x @ rng.normal(size=(5, 3))).argmax(axis=1)


class Killed(Exception):
    pass


class Kill(Callback):
    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.epoch:
            raise Killed


class JsonLog(Callback):
    def on_epoch_end(self, epoch, logs=None):
        with open("log.jsonl", "a") as file:
            file.write(
                json.dumps({"epoch": epoch, **{k: float(v) for k, v in logs.items()}}) + "\n"
            )


def make():
    model = keras.Sequential(
        [
            keras.Input((5,)),
            layers.Dense(12, activation="gelu", kernel_regularizer="l2"),
            layers.BatchNormalization(),
            layers.Dense(3, activation="softmax"),
        ]
    )
    alike(model)
    model.compile(
        keras.optimizers.Adam(0.02, amsgrad=True),
        "sparse_categorical_crossentropy",
        metrics=["accuracy", keras.metrics.SparseTopKCategoricalAccuracy(2, name="top2")],
    )
    return model


how = {"epochs": 6, "batch_size": 16, "shuffle": False, "verbose": 0, "validation_split": 0.25}


def job(kill=None):
    """What the batch script starts again and again, until it has ended."""
    model = make()
    callbacks = [
        BackupAndRestore("backup"),
        CSVLogger("log.csv", append=os.path.exists("log.csv")),
        JsonLog(),
        ModelCheckpoint("best.keras", monitor="val_loss", save_best_only=True, mode="min"),
        ModelCheckpoint("every/{epoch:03d}.weights.h5", save_weights_only=True, save_freq="epoch"),
    ]
    callbacks += [Kill(kill)] if kill is not None else []
    try:
        return model, model.fit(x, y, callbacks=callbacks, **how)
    except Killed:
        print("killed before epoch", kill)
        return job()


straight = make().fit(x, y, **how)
model, history = job(kill=3)
print(history.epoch, sorted(os.listdir("every")), os.path.exists("backup"))
with open("log.csv") as file:
    rows = list(csv.DictReader(file))
print([row["epoch"] for row in rows], list(rows[0]))
with open("log.jsonl") as file:
    lines = [json.loads(line) for line in file]
print([line["epoch"] for line in lines])

best = keras.models.load_model("best.keras")
scores = best.evaluate(x[48:], y[48:], verbose=0, return_dict=True)
print(min(line["val_loss"] for line in lines) - scores["loss"] < 1e-5, sorted(scores))

other = make()
other.load_weights("every/002.weights.h5")
early = other.evaluate(x, y, verbose=0)

# Going on from a file, with another learning rate, until it gets no better.
best.optimizer.learning_rate = 0.005
more = best.fit(
    x, y, initial_epoch=6, epochs=30, batch_size=16, shuffle=False, verbose=0,
    validation_split=0.25, callbacks=[EarlyStopping("val_loss", patience=2, min_delta=0.02,
                                                    restore_best_weights=True)],
)  # fmt: skip
print(more.epoch[0], len(more.epoch) < 24)
results = {
    "straight": straight.history, "second": history.history, "scores": scores, "early": early,
    "more": more.history, "rows": [[float(v) for v in row.values()] for row in rows],
}  # fmt: skip
