"""A learning-rate finder, a one-cycle schedule in a callback, warm-up and restarts of one's own."""

import json
import math

import keras
import numpy as np
from keras import layers
from side_by_side import alike


class LRFinder(keras.callbacks.Callback):
    """Raises the rate exponentially from batch to batch; stops where the loss explodes."""

    def __init__(self, start=1e-4, end=10.0, steps=60, beta=0.9):
        super().__init__()
        self.start, self.factor, self.beta = start, (end / start) ** (1 / steps), beta
        self.rates, self.losses = [], []

    def on_train_begin(self, logs=None):
        self.weights = self.model.get_weights()
        self.average, self.best = 0.0, math.inf
        self.model.optimizer.learning_rate = self.start

    def on_train_batch_end(self, batch, logs=None):
        rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        self.average = self.beta * self.average + (1 - self.beta) * logs["loss"]
        smooth = self.average / (1 - self.beta ** (len(self.rates) + 1))
        self.rates.append(rate)
        self.losses.append(smooth)
        self.best = min(self.best, smooth)
        if smooth > 4 * self.best or math.isnan(smooth):
            self.model.stop_training = True
            return
        self.model.optimizer.learning_rate = rate * self.factor

    def on_train_end(self, logs=None):
        self.model.set_weights(self.weights)


class OneCycle(keras.callbacks.Callback):
    def __init__(self, peak, steps):
        super().__init__()
        self.peak, self.steps, self.step, self.used = peak, steps, 0, []

    def on_train_batch_begin(self, batch, logs=None):
        share = self.step / self.steps
        rise = min(share, 1 - share) * 2
        self.model.optimizer.learning_rate.assign(self.peak * (0.1 + 0.9 * rise))
        self.step += 1

    def on_epoch_end(self, epoch, logs=None):
        logs["lr"] = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        self.used.append(logs["lr"])


@keras.saving.register_keras_serializable(package="course")
class WarmUpCosine(keras.optimizers.schedules.LearningRateSchedule):
    def __init__(self, peak, warmup, total):
        self.peak, self.warmup, self.total = peak, warmup, total

    def __call__(self, step):
        step = keras.ops.cast(step, "float32")
        up = self.peak * step / self.warmup
        share = (step - self.warmup) / (self.total - self.warmup)
        down = 0.5 * self.peak * (1 + keras.ops.cos(math.pi * keras.ops.clip(share, 0.0, 1.0)))
        return keras.ops.where(step < self.warmup, up, down)

    def get_config(self):
        return {"peak": self.peak, "warmup": self.warmup, "total": self.total}


def network():
    model = keras.Sequential(
        [keras.Input((6,)), layers.Dense(16, "relu"), layers.Dense(16, "relu"), layers.Dense(1)]
    )
    alike(model)
    return model


rng = np.random.default_rng(0)
x = rng.normal(size=(96, 6)).astype("float32")
y = (np.sin(x[:, :1]) + x[:, 1:2] * x[:, 2:3]).astype("float32")
how = {"batch_size": 8, "shuffle": False, "verbose": 0}

model = network()
model.compile(keras.optimizers.SGD(), "mse")
finder = LRFinder()
before = model.get_weights()
model.fit(x, y, epochs=6, callbacks=[finder], **how)
print("batches", len(finder.rates), np.array_equal(model.get_weights()[0], before[0]))
steepest = finder.rates[int(np.argmin(np.gradient(finder.losses[:30])))]

model = network()
model.compile(keras.optimizers.SGD(momentum=0.9), "mse", metrics=["mae"])
cycle = OneCycle(0.05, 36)
cycled = model.fit(x, y, epochs=3, callbacks=[cycle], **how).history
print(sorted(cycled), cycle.step)

model = network()
schedule = WarmUpCosine(0.02, 6, 30)
model.compile(keras.optimizers.AdamW(schedule, weight_decay=1e-3), "mse")
warm = model.fit(x, y, epochs=3, **how).history
rates = [float(keras.ops.convert_to_numpy(schedule(step))) for step in range(0, 36, 4)]
model.save("warm.keras")
again = keras.models.load_model("warm.keras")
print(type(again.optimizer.learning_rate).__name__ != "float", int(again.optimizer.iterations))
print(json.dumps(again.optimizer.get_config()["learning_rate"], sort_keys=True))
resumed = again.fit(x, y, epochs=1, **how).history

# Fixed schedules, as lists of their rates.
kinds = [
    keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.5, staircase=True),
    keras.optimizers.schedules.CosineDecayRestarts(0.1, 5, t_mul=2.0, m_mul=0.8, alpha=0.01),
    keras.optimizers.schedules.CosineDecay(0.0, 10, warmup_target=0.1, warmup_steps=3),
    keras.optimizers.schedules.PiecewiseConstantDecay([3, 8], [0.1, 0.01, 0.001]),
    keras.optimizers.schedules.InverseTimeDecay(0.1, 5, 0.5),
]
lists = [[float(keras.ops.convert_to_numpy(kind(step))) for step in range(12)] for kind in kinds]
results = {
    "rates": finder.rates, "losses": finder.losses[:40], "steepest": steepest, "cycled": cycled,
    "used": cycle.used, "warm": warm, "schedule": rates, "resumed": resumed, "lists": lists,
}  # fmt: skip
