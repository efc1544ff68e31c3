"""What a notebook shows: objects by themselves, types of results, names, summaries, states."""

import keras
import numpy as np
from keras import layers, ops
from side_by_side import alike

rng = np.random.default_rng(0)
x = rng.random((32, 12, 12, 1)).astype("float32")
y = np.arange(32) % 4
model = keras.Sequential(
    [
        keras.Input((12, 12, 1)),
        layers.Conv2D(4, 3, activation="relu"),
        layers.BatchNormalization(),
        layers.MaxPooling2D(),
        layers.Flatten(),
        layers.Dense(4, activation="softmax"),
    ]
)
print(model, model.layers, sep="\n")
print([(w.path, w.name, w.shape, str(w.dtype), w.trainable) for w in model.weights])
print(model.layers[-1].bias, repr(model.layers[1].gamma))
alike(model)
adam = keras.optimizers.Adam(0.01)
model.compile(optimizer=adam, loss="sparse_categorical_crossentropy", metrics=["accuracy"])
print(model.optimizer.name, model.loss, model.metrics, model.metrics_names, model.compiled)
history = model.fit(x, y, epochs=2, batch_size=8, verbose=0, shuffle=False, validation_split=0.25)
print(history.params, history.epoch, list(history.history), type(history.history["loss"][0]))
scores = model.evaluate(x, y, verbose=0, return_dict=True)
print(scores.keys(), [type(s) for s in model.evaluate(x, y, verbose=0)])
print(list(model.get_metrics_result()), [m.name for m in model.metrics])
print(model.optimizer.iterations, float(model.optimizer.learning_rate) == np.float32(0.01))
print([(v.path, v.name, v.shape) for v in model.optimizer.variables][:6])
print(model.run_eagerly, model.jit_compile, model.stop_training, model.built, model.trainable)
predicted = model.predict(x, verbose=0)
print(type(predicted), predicted.dtype, predicted.shape, predicted.argmax(axis=1).dtype)
print([type(v) for v in model.train_on_batch(x[:4], y[:4])], model.test_on_batch(x, y).__class__)
model.summary(show_trainable=True)
for layer in model.layers:
    print(layer.name, layer.count_params(), layer.output.shape, layer.get_config()["trainable"])
print(model.layers[0].get_config()["kernel_initializer"]["class_name"], model.input_shape)
print(model.layers[0].get_config()["activation"], adam.get_config()["beta_1"], model.dtype_policy)

inputs = keras.Input((6,), name="table")
h1, h2 = ops.split(inputs * 2.0 / 3.0 - 0.5, 2, axis=-1)
h = ops.where(h1 > h2, h1, ops.abs(h2)) ** 2
h = layers.Concatenate()([h, ops.mean(inputs, axis=-1, keepdims=True)])
outputs = {"kind": layers.Dense(2, name="kind")(h), "size": layers.Dense(1, name="size")(h)}
net = keras.Model(inputs, outputs, name="net")
net.summary()
print(net.inputs[0].name, net.inputs[0].shape, sorted(net.output), net.output_names)
print([layer.name for layer in net.layers], net.get_layer("kind").kernel.path)
alike(net)
net.compile("sgd", {"kind": "mse", "size": "mae"}, metrics={"size": ["mse"]})
table = rng.random((16, 6)).astype("float32")
wanted = {"kind": table[:, :2], "size": table[:, 2]}
log = []


class Diary(keras.callbacks.Callback):
    def on_predict_batch_end(self, batch, logs=None):
        log.append((batch, sorted(logs)))


both = net.fit(table, wanted, epochs=2, batch_size=8, shuffle=False, verbose=0).history
values = net.predict(table, verbose=0, callbacks=[Diary()])
print(list(both), log, {name: value.shape for name, value in values.items()})

mean, variable = keras.metrics.Mean(name="m"), keras.Variable(np.arange(3.0), name="v")
mean.update_state([1, 2, 3])
print([v.path for v in mean.variables], mean, variable, variable.shape, variable.trainable)
print(f"{float(mean.result()):.2f}", keras.losses.get("mse").__name__, keras.metrics.AUC(name="a"))
print(keras.utils.to_categorical([0, 2]).tolist(), keras.config.floatx(), keras.backend.epsilon())


class Counter(layers.Layer):
    """Counts its calls and what it has seen; building a model is no call."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.calls = self.add_weight((), "zeros", trainable=False, name="calls")
        self.sum = self.add_weight((), "zeros", trainable=False, name="sum")

    def call(self, x):
        self.calls.assign_add(1.0)
        self.sum.assign(self.sum + ops.sum(x) + 1.0)
        return x


counter = Counter()
counted = keras.Sequential([keras.Input((6,)), counter, layers.Dense(1)])
counted.predict(table, batch_size=4, verbose=0)
print(counter.calls, counted.layers, counted.count_params())
results = {
    "history": history.history, "scores": scores, "both": both, "values": values,
    "sum": float(counter.sum.numpy()), "predicted": predicted,
}  # fmt: skip
