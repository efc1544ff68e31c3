"""EarlyStopping, ReduceLROnPlateau, CSVLogger, LearningRateScheduler, LambdaCallback together."""

import csv

import keras
import numpy as np
from keras import layers
from keras.callbacks import (
    CSVLogger,
    EarlyStopping,
    LambdaCallback,
    LearningRateScheduler,
    ReduceLROnPlateau,
    TerminateOnNaN,
)
from side_by_side import alike

rng = np.random.default_rng(0)
x = rng.normal(size=(40, 3)).astype("float32")
y = rng.normal(size=(40, 1)).astype("float32")
model = keras.Sequential([keras.Input((3,)), layers.Dense(8, "tanh"), layers.Dense(1)])
alike(model)
model.compile("adam", "mse", metrics=["mae"])


def scheduler(epoch, lr):
    return lr if epoch < 2 else lr * 0.9


seen = []
cbs = [
    EarlyStopping(
        monitor="val_loss", patience=3, verbose=0, restore_best_weights=True, min_delta=1e-4
    ),
    ReduceLROnPlateau(monitor="val_loss", factor=0.2, patience=1, min_lr=1e-5, verbose=0),
    CSVLogger("log.csv", separator=";", append=False),
    LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append((epoch, sorted(logs)))),
    TerminateOnNaN(),
]
h = model.fit(
    x, y, epochs=15, batch_size=10, validation_split=0.3, shuffle=False, verbose=0, callbacks=cbs
)
rows = list(csv.reader(open("log.csv"), delimiter=";"))
print(rows[0], len(rows))
print(seen[:2], len(seen))
lr = float(keras.ops.convert_to_numpy(model.optimizer.learning_rate))
h2 = model.fit(
    x,
    y,
    epochs=4,
    batch_size=10,
    shuffle=False,
    verbose=0,
    callbacks=[LearningRateScheduler(scheduler, verbose=0)],
)
results = dict(h=h.history, h2=h2.history, lr=lr, rows=[[float(v) for v in r] for r in rows[1:]])
