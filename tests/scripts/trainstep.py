"""A `train_step` and a `test_step` of one's own: with the compiled loss, and with none."""

import keras
import numpy as np
from keras import layers
from side_by_side import alike, gradients_of


def update(model, loss):
    weights = model.trainable_weights
    model.optimizer.apply(gradients_of(loss, weights), weights)


class Own(keras.Model):
    def train_step(self, data):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        y_pred = self(x, training=True)
        loss = self.compute_loss(x=x, y=y, y_pred=y_pred, sample_weight=sample_weight)
        update(self, loss)
        for metric in self.metrics:
            if metric.name == "loss":
                metric.update_state(loss)
            else:
                metric.update_state(y, y_pred, sample_weight=sample_weight)
        return {metric.name: metric.result() for metric in self.metrics}


class Reconstructs(keras.Model):
    """Trained on x alone, which comes as it is and not in a tuple."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.mean = keras.metrics.Mean(name="loss")
        self.error = keras.metrics.MeanAbsoluteError(name="mae")

    @property
    def metrics(self):
        return [self.mean, self.error]

    def train_step(self, x):
        y = self(x, training=True)
        loss = keras.ops.mean((y - x) ** 2)
        update(self, loss)
        return self.score(x, y, loss)

    def test_step(self, x):
        y = self(x, training=False)
        return self.score(x, y, keras.ops.mean((y - x) ** 2))

    def score(self, x, y, loss):
        self.mean.update_state(loss)
        self.error.update_state(x, y)
        return {metric.name: metric.result() for metric in self.metrics}


rng = np.random.default_rng(0)
x, y, weight = (rng.random((40, n)).astype("float32") for n in (6, 1, 1))
inputs = keras.Input((6,))
own = Own(inputs, layers.Dense(1)(layers.Dense(4, "relu")(inputs)))
alike(own)
own.compile("adam", "mse", metrics=["mae"])
how = {"epochs": 3, "batch_size": 8, "shuffle": False, "verbose": 0}
weighted = own.fit(x, y, sample_weight=weight, **how).history
validated = own.fit(x, y, validation_data=(x, y), **how).history
copy = Reconstructs(inputs, layers.Dense(6)(layers.Dense(3)(inputs)))
alike(copy)
copy.compile("adam")
alone = copy.fit(x, validation_data=(x,), **how).history
print(sorted(weighted), sorted(validated), sorted(alone), len(copy.evaluate(x, verbose=0)))
results = {"weighted": weighted, "validated": validated, "alone": alone}
