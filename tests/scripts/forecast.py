"""Weather: several series, windows from a data set of one's own, several steps ahead, feedback."""

import math

import keras
import numpy as np
from keras import layers, ops
from side_by_side import alike

rng = np.random.default_rng(0)
t = np.arange(400)
day, year = np.sin(2 * np.pi * t / 24), np.cos(2 * np.pi * t / 200)
temperature = 10 + 5 * day + 8 * year + rng.normal(size=400)
pressure = 1000 + np.cumsum(rng.normal(size=400))
table = np.stack([temperature, pressure, day, year], axis=1).astype("float32")
train, valid, test = table[:280], table[280:340], table[340:]
normal = layers.Normalization(axis=-1)
normal.adapt(train)
mean, deviation = train.mean(axis=0), train.std(axis=0)
train, valid, test = ((part - mean) / deviation for part in (train, valid, test))


class Windows(keras.utils.PyDataset):
    """Batches of `width` steps to learn from and `ahead` temperatures to say."""

    def __init__(self, table, width, ahead, batch_size=16, **kwargs):
        super().__init__(**kwargs)
        self.table, self.width, self.ahead, self.batch_size = table, width, ahead, batch_size
        self.starts = np.arange(len(table) - width - ahead + 1)
        self.epochs = 0

    def __len__(self):
        return math.ceil(len(self.starts) / self.batch_size)

    def __getitem__(self, index):
        starts = self.starts[index * self.batch_size : (index + 1) * self.batch_size]
        x = np.stack([self.table[s : s + self.width] for s in starts])
        ends = starts + self.width
        y = np.stack([self.table[e : e + self.ahead, :1] for e in ends])
        return x, y

    def on_epoch_end(self):
        self.epochs += 1


class Baseline(keras.Model):
    """Says that it stays as it is."""

    def __init__(self, ahead):
        super().__init__()
        self.ahead = ahead

    def call(self, inputs):
        return ops.repeat(inputs[:, -1:, :1], self.ahead, axis=1)


class FeedBack(keras.Model):
    """Says one step, takes that for the truth, and says the next."""

    def __init__(self, units, steps, features):
        super().__init__()
        self.steps = steps
        self.cell = layers.LSTMCell(units)
        self.rnn = layers.RNN(self.cell, return_state=True)
        self.dense = layers.Dense(features)

    def call(self, inputs, training=None):
        x, *state = self.rnn(inputs)
        said = [self.dense(x)]
        for _ in range(1, self.steps):
            x, state = self.cell(said[-1], states=state, training=training)
            said.append(self.dense(x))
        return ops.stack(said, axis=1)[:, :, :1]


def encoder_decoder(width, ahead, features):
    inputs = keras.Input((width, features))
    _, h, c = layers.LSTM(8, return_state=True, name="encoder")(inputs)
    x = layers.RepeatVector(ahead)(h)
    x = layers.LSTM(8, return_sequences=True, name="decoder")(x, initial_state=[h, c])
    return keras.Model(inputs, layers.TimeDistributed(layers.Dense(1))(x))


def convolutional(width, ahead, features):
    stack = [keras.Input((width, features)), layers.Lambda(lambda x: x[:, -6:, :])]
    stack += [
        layers.Conv1D(12, 6, activation="relu"),
        layers.Dense(ahead),
        layers.Reshape((ahead, 1)),
    ]
    return keras.Sequential(stack)


width, ahead = 12, 4
sources = [Windows(part, width, ahead) for part in (train, valid, test)]
x, y = sources[0][0]
print(
    x.shape, y.shape, len(sources[0]), float(ops.convert_to_numpy(normal(table[:280])).std()) > 0.9
)
models = {
    "feedback": FeedBack(8, ahead, 4),
    "encoder_decoder": encoder_decoder(width, ahead, 4),
    "convolutional": convolutional(width, ahead, 4),
}
results, errors = {}, {}
baseline = Baseline(ahead)
baseline.compile(loss="mse", metrics=["mae"])
errors["baseline"] = baseline.evaluate(sources[2], verbose=0)
for name, model in models.items():
    model(x)
    alike(model)
    model.compile(keras.optimizers.Adam(0.01), keras.losses.Huber(delta=0.5), metrics=["mae"])
    stop = keras.callbacks.EarlyStopping(monitor="val_loss", patience=2, mode="min")
    history = model.fit(
        sources[0], validation_data=sources[1], epochs=2, shuffle=False, verbose=0, callbacks=[stop]
    )
    results[name] = history.history
    errors[name] = model.evaluate(sources[2], verbose=0)
    print(name, model.predict(sources[2], verbose=0).shape, model.count_params())
results["errors"] = errors
results["normal"] = [ops.convert_to_numpy(w) for w in (normal.mean, normal.variance)]
