"""Where batches come from: generators with and without an end, data sets, dictionaries, weights."""

import keras
import numpy as np
from keras import layers
from side_by_side import alike

rng = np.random.default_rng(0)
x = rng.normal(size=(50, 4)).astype("float32")
y = (x @ np.array([[1.0], [-1.0], [0.5], [0.0]])).astype("float32")
w = rng.random(50).astype("float32")


def make():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(6, "relu"), layers.Dense(1)])
    alike(model)
    model.compile("adam", "mse", metrics=["mae"], weighted_metrics=["mse"])
    return model


def endless(weighted=False):
    i = 0
    while True:
        rows = np.arange(i, i + 8) % 50
        yield (x[rows], y[rows], w[rows]) if weighted else (x[rows], y[rows])
        i += 8


def once():
    for i in range(0, 50, 8):
        yield x[i : i + 8], y[i : i + 8]


class Shuffled(keras.utils.PyDataset):
    """Puts the rows in another order, and gives a weight for each."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.order = rng.permutation(50)

    def __len__(self):
        return 5

    def __getitem__(self, index):
        rows = self.order[index * 10 : (index + 1) * 10]
        return x[rows], y[rows], w[rows]


shuffled = Shuffled()


class Seen(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.batches = []

    def on_epoch_begin(self, epoch, logs=None):
        self.batches.append(0)

    def on_train_batch_end(self, batch, logs=None):
        self.batches[-1] += 1


results = {}


def trained(name, *data, **how):
    model, seen = make(), Seen()
    model.fit(*data, verbose=0, callbacks=[seen], **how)
    results[name] = model.history.history
    print(name, seen.batches, sorted(model.history.history), model.history.params.get("steps"))
    return model


trained("arrays", x, y, batch_size=7, epochs=2, shuffle=False)
trained("some steps", x, y, batch_size=7, epochs=3, steps_per_epoch=5, shuffle=False)
trained("endless", endless(), steps_per_epoch=4, epochs=3)
trained("weighted", endless(True), steps_per_epoch=4, epochs=2)
trained("validated", endless(), steps_per_epoch=4, epochs=2, validation_data=(x, y))
trained("once", once(), epochs=1)
model = trained("data set", shuffled, epochs=2, shuffle=False)
trained("held out", x, y, epochs=2, batch_size=16, validation_split=0.3, sample_weight=w,
        shuffle=False)  # fmt: skip
trained("validated with weights", x[:30], y[:30], epochs=2, shuffle=False,
        validation_data=(x[30:], y[30:], w[30:]), validation_batch_size=7)  # fmt: skip
trained("now and then", x, y, epochs=4, shuffle=False, validation_data=(x, y), validation_freq=2)
results["evaluate"] = [
    model.evaluate(x, y, verbose=0),
    model.evaluate(endless(), steps=4, verbose=0),
    model.evaluate(shuffled, verbose=0),
    model.evaluate(x, y, sample_weight=w, batch_size=9, verbose=0),
    list(model.evaluate(x, y, verbose=0, return_dict=True).values()),
]
results["predict"] = [
    model.predict(x, batch_size=13, verbose=0)[:3],
    model.predict(endless(), steps=2, verbose=0)[:3],
    model.predict(shuffled, verbose=0)[:3],
    model.predict_on_batch(x[:3]),
]
results["batches"] = [
    model.train_on_batch(x[:8], y[:8]),
    model.test_on_batch(x[:8], y[:8], sample_weight=w[:8]),
    list(model.train_on_batch(x[:8], y[:8], return_dict=True).values()),
]
print(model.metrics_names)

# Inputs and targets by name, some of them not used.
a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
total = layers.Dense(1, name="total")(layers.add([a, b]))
part = layers.Dense(1, name="part")(a)
named = keras.Model({"a": a, "b": b}, {"total": total, "part": part})
alike(named)
named.compile("sgd", {"total": "mse", "part": "mae"}, metrics={"part": ["mse"]},
              loss_weights={"total": 2.0, "part": 0.5})  # fmt: skip
data, targets = {"a": x, "b": x[::-1]}, {"total": y, "part": 2 * y}
results["named"] = named.fit(
    data, targets, epochs=2, batch_size=25, shuffle=False, verbose=0
).history
predicted = named.predict(data, verbose=0)
print(sorted(results["named"]), list(predicted), predicted["part"].shape)
results["by name"] = predicted["total"][:3]
