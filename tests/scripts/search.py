"""A random search in the manner of KerasTuner."""

import itertools

import keras
import numpy as np
from keras import layers
from side_by_side import alike

rng = np.random.default_rng(0)
x = rng.normal(size=(120, 8)).astype("float32")
y = (x[:, :3].sum(1) > 0).astype("int32")


class HyperParameters:
    def __init__(self, values):
        self.values = values

    def Choice(self, name, options):
        return self.values[name]

    def Int(self, name, low, high, step=1):
        return self.values[name]

    def Float(self, name, low, high, sampling="log"):
        return self.values[name]

    def Boolean(self, name):
        return self.values[name]


def build_model(hp):
    model = keras.Sequential()
    model.add(layers.Input((8,)))
    for _i in range(hp.Int("num_layers", 1, 3)):
        model.add(
            layers.Dense(
                units=hp.Int("units", 4, 16, step=4),
                activation=hp.Choice("activation", ["relu", "tanh"]),
            )
        )
    if hp.Boolean("dropout"):
        model.add(layers.Dropout(rate=0.0))
    model.add(layers.Dense(2, activation="softmax"))
    learning_rate = hp.Float("lr", 1e-4, 1e-2)
    model.compile(
        optimizer=keras.optimizers.Adam(learning_rate=learning_rate),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


trials = []
for n, units, act, lr, drop in itertools.product([1, 2], [4, 8], ["relu", "tanh"], [1e-2], [True]):
    keras.backend.clear_session()
    hp = HyperParameters(dict(num_layers=n, units=units, activation=act, lr=lr, dropout=drop))
    model = build_model(hp)
    alike(model)
    h = model.fit(
        x,
        y,
        validation_split=0.25,
        epochs=5,
        batch_size=16,
        shuffle=False,
        verbose=0,
        callbacks=[
            keras.callbacks.EarlyStopping(
                "val_accuracy", patience=1, mode="max", restore_best_weights=True
            )
        ],
    )
    trials.append(
        (
            max(h.history["val_accuracy"]),
            len(h.epoch),
            n,
            units,
            act,
            [layer.name for layer in model.layers],
        )
    )
trials.sort(key=lambda t: (-t[0], str(t)))
for t in trials:
    print(t)
results = dict(best=trials[0][0], all=[t[0] for t in trials], epochs=[t[1] for t in trials])
