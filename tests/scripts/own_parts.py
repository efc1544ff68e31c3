"""A loss, a metric, a callback and layers of one's own; what callbacks are told, and when."""

import keras
import numpy as np
from keras import layers, ops
from side_by_side import alike


class Focal(keras.losses.Loss):
    def __init__(self, gamma=2.0, name="focal", **kwargs):
        super().__init__(name=name, **kwargs)
        self.gamma = gamma

    def call(self, y_true, y_pred):
        p = ops.clip(y_pred, 1e-7, 1 - 1e-7)
        right = ops.where(ops.equal(y_true, 1), p, 1 - p)
        return -ops.mean((1 - right) ** self.gamma * ops.log(right), axis=-1)

    def get_config(self):
        return {**super().get_config(), "gamma": self.gamma}


class F1(keras.metrics.Metric):
    def __init__(self, name="f1", **kwargs):
        super().__init__(name=name, **kwargs)
        self.hits = self.add_weight(name="hits", initializer="zeros")
        self.marked = self.add_weight(name="marked", initializer="zeros")

    def update_state(self, y_true, y_pred, sample_weight=None):
        said = ops.cast(ops.greater(y_pred, 0.5), self.dtype)
        true = ops.cast(y_true, self.dtype)
        self.hits.assign_add(ops.sum(said * true))
        self.marked.assign(self.marked + ops.sum(said) + ops.sum(true))

    def result(self):
        return 2 * self.hits / (self.marked + 1e-7)


class Diary(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.lines = []

    def on_train_begin(self, logs=None):
        self.lines.append(("train begins", sorted(logs or {})))

    def on_epoch_end(self, epoch, logs=None):
        self.lines.append(("epoch ends", epoch, sorted(logs or {})))

    def on_train_batch_end(self, batch, logs=None):
        self.lines.append(("batch ends", batch, sorted(logs or {})))

    def on_test_end(self, logs=None):
        self.lines.append(("test ends", sorted(logs or {})))

    def on_predict_batch_end(self, batch, logs=None):
        self.lines.append(("predicted", batch, sorted(logs or {})))


class StopsAtRise(keras.callbacks.Callback):
    def on_train_begin(self, logs=None):
        self.best = np.inf

    def on_epoch_end(self, epoch, logs=None):
        if logs["loss"] >= self.best:
            self.model.stop_training = True
            self.model.set_weights(self.kept)
            print("stopped after epoch", epoch)
        self.best, self.kept = logs["loss"], self.model.get_weights()


class Watched(layers.Layer):
    """The identity: charges for large values and reports their mean."""

    def __init__(self, rate):
        super().__init__()
        self.rate = rate
        self.mean = keras.metrics.Mean(name="mean_activation")

    def call(self, x):
        self.add_loss(self.rate * ops.mean(x**2))
        self.mean.update_state(ops.mean(x))
        return x


class BothSides(layers.Layer):
    def __init__(self, initializer="he_normal", **kwargs):
        super().__init__(**kwargs)
        self.initializer = keras.initializers.get(initializer)

    def build(self, shape):
        self.kernel = self.add_weight((2 * shape[-1], 4), self.initializer, name="kernel")

    def call(self, x):
        return ops.matmul(ops.concatenate([ops.relu(x), ops.relu(-x)], axis=-1), self.kernel)


rng = np.random.default_rng(0)
x = rng.normal(size=(48, 6)).astype("float32")
y = (x[:, :1] > 0).astype("float32")
model = keras.Sequential(
    [keras.Input((6,)), layers.Dense(5), BothSides(), Watched(0.01), layers.Dense(1, "sigmoid")]
)
alike(model)
metrics = [F1(), keras.metrics.AUC(), "binary_accuracy", keras.metrics.Precision()]
model.compile(keras.optimizers.Adam(0.3), Focal(), metrics=metrics)
diary = Diary()
history = model.fit(
    x, y, epochs=8, batch_size=16, verbose=0, shuffle=False, validation_split=0.25,
    callbacks=[StopsAtRise(), diary],
).history  # fmt: skip
model.predict(x[:20], batch_size=16, verbose=0, callbacks=[diary])
scores = model.evaluate(x, y, verbose=0)
print(diary.lines[:6], diary.lines[-2:])
print(model.metrics_names, [metric.name for metric in model.metrics], Focal(3.0).get_config())
results = {"history": history, "scores": scores}
