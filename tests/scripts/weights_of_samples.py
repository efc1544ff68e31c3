"""class_weight, sample_weight, weighted metrics, generators, PyDataset."""

import math

import keras
import numpy as np
from keras import layers
from side_by_side import alike

rng = np.random.default_rng(0)
x = rng.normal(size=(50, 4)).astype("float32")
y = (rng.random(50) < 0.2).astype("int32")


def make(out=2, loss="sparse_categorical_crossentropy"):
    m = keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(6, "relu"),
            layers.Dense(out, "softmax" if out > 1 else "sigmoid"),
        ]
    )
    alike(m)
    m.compile("adam", loss, metrics=["accuracy"], weighted_metrics=["accuracy"])
    return m


counts = np.bincount(y)
class_weight = {i: len(y) / (2 * c) for i, c in enumerate(counts)}
results = {}
results["class"] = (
    make()
    .fit(x, y, class_weight=class_weight, epochs=2, batch_size=16, shuffle=False, verbose=0)
    .history
)
results["class1"] = (
    make(1, "binary_crossentropy")
    .fit(x, y, class_weight=class_weight, epochs=2, batch_size=16, shuffle=False, verbose=0)
    .history
)
sw = rng.random(50)
results["sample"] = (
    make()
    .fit(
        x,
        y,
        sample_weight=sw,
        epochs=2,
        batch_size=16,
        shuffle=False,
        verbose=0,
        validation_data=(x, y, sw),
    )
    .history
)


class Sequence(keras.utils.PyDataset):
    def __init__(self, x, y, batch_size, **kwargs):
        super().__init__(**kwargs)
        self.x, self.y, self.batch_size = x, y, batch_size
        self.ends = 0

    def __len__(self):
        return math.ceil(len(self.x) / self.batch_size)

    def __getitem__(self, idx):
        low = idx * self.batch_size
        high = min(low + self.batch_size, len(self.x))
        return self.x[low:high], self.y[low:high]

    def on_epoch_end(self):
        self.ends += 1


ds = Sequence(x, y, 16)
results["py"] = make().fit(ds, epochs=2, shuffle=False, verbose=0, validation_data=ds).history


def gen():
    while True:
        for i in range(0, 48, 16):
            yield x[i : i + 16], y[i : i + 16]


results["gen"] = (
    make().fit(gen(), steps_per_epoch=3, epochs=2, verbose=0, validation_data=(x, y)).history
)
m = make()
results["onbatch"] = [
    m.train_on_batch(x[:16], y[:16]),
    m.train_on_batch(x[16:32], y[16:32], sample_weight=sw[16:32]),
    m.train_on_batch(x[:16], y[:16], class_weight=class_weight),
    m.test_on_batch(x, y),
]
results["d"] = m.train_on_batch(x[:16], y[:16], return_dict=True)
results["p"] = m.predict_on_batch(x[:3])
print(sorted(results["d"]), len(results["p"]))
print(m.evaluate(ds, verbose=0, return_dict=True).keys(), m.predict(ds, verbose=0).shape)
