"""Forecasting: windows, LSTM, GRU, Conv1D, stacked, bidirectional, stateful."""

import keras
import numpy as np
from keras import layers
from side_by_side import alike

t = np.arange(200)
series = (np.sin(t / 8) + 0.1 * np.cos(t)).astype("float32")
split = 150
mean, std = series[:split].mean(), series[:split].std()
series = (series - mean) / std


def windows(series, length, horizon=1):
    x = np.stack([series[i : i + length] for i in range(len(series) - length - horizon + 1)])
    y = np.stack(
        [
            series[i + length : i + length + horizon]
            for i in range(len(series) - length - horizon + 1)
        ]
    )
    return x[..., None], y


x, y = windows(series[:split], 12, 2)
xv, yv = windows(series[split:], 12, 2)
models = {
    "lstm": [layers.LSTM(8), layers.Dense(2)],
    "gru": [layers.GRU(8, return_sequences=True), layers.GRU(4), layers.Dense(2)],
    "conv": [
        layers.Conv1D(8, 3, activation="relu", padding="causal"),
        layers.MaxPooling1D(2),
        layers.Conv1D(8, 3, dilation_rate=2, activation="relu"),
        layers.Flatten(),
        layers.Dense(2),
    ],
    "bi": [
        layers.Bidirectional(layers.LSTM(4, return_sequences=True)),
        layers.TimeDistributed(layers.Dense(3, activation="relu")),
        layers.Flatten(),
        layers.Dense(2),
    ],
    "rnn": [layers.SimpleRNN(6, recurrent_dropout=0.0), layers.Dense(2)],
}
results = {}
for name, stack in models.items():
    model = keras.Sequential([keras.Input((12, 1)), *stack], name=name)
    alike(model)
    model.compile(
        optimizer=keras.optimizers.Adam(learning_rate=0.01, clipnorm=1.0),
        loss="huber",
        metrics=["mae", "mape", "r2_score", keras.metrics.RootMeanSquaredError()],
    )
    h = model.fit(x, y, epochs=2, batch_size=32, validation_data=(xv, yv), shuffle=False, verbose=0)
    results[name] = h.history
    print(name, model.count_params(), model.output_shape, sorted(h.history))

stateful = keras.Sequential(
    [keras.Input(batch_shape=(4, 5, 1)), layers.LSTM(3, stateful=True), layers.Dense(1)]
)
alike(stateful)
stateful.compile("sgd", "mse")
a = series[:20].reshape(4, 5, 1)
first = stateful.predict(a, verbose=0)
second = stateful.predict(a, verbose=0)
for layer in stateful.layers:
    if hasattr(layer, "reset_states"):
        layer.reset_states()
    elif hasattr(layer, "reset_state"):
        layer.reset_state()
third = stateful.predict(a, verbose=0)
print("state kept", not np.allclose(first, second), "state reset", np.allclose(first, third))
results["stateful"] = [first, second, third]
