"""Freeze, feature extraction, fine tuning, weights by name or topology."""

import keras
import numpy as np
from keras import layers
from side_by_side import alike

rng = np.random.default_rng(0)
x, y = rng.normal(size=(40, 12, 12, 3)).astype("float32"), rng.integers(0, 5, 40)


def make_base():
    return keras.Sequential(
        [
            keras.Input((12, 12, 3)),
            layers.Conv2D(4, 3, activation="relu", name="c1"),
            layers.BatchNormalization(name="bn"),
            layers.Conv2D(8, 3, activation="relu", name="c2"),
            layers.GlobalAveragePooling2D(name="pool"),
        ],
        name="base",
    )


base = make_base()
alike(base)
base.save_weights("base.weights.h5")
other = make_base()
other.load_weights("base.weights.h5")
print(all(np.array_equal(a, b) for a, b in zip(base.get_weights(), other.get_weights())))
base.trainable = False
inputs = keras.Input((12, 12, 3))
z = layers.Rescaling(0.5, offset=-0.1)(inputs)
z = base(z, training=False)
z = layers.Dropout(0.0)(z)
outputs = layers.Dense(5)(z)
model = keras.Model(inputs, outputs)
alike(model)
model.compile(
    keras.optimizers.Adam(1e-2),
    keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    metrics=[keras.metrics.SparseCategoricalAccuracy()],
)
before = [w.copy() for w in base.get_weights()]
h1 = model.fit(x, y, epochs=2, batch_size=10, shuffle=False, verbose=0)
print(
    "frozen",
    all(np.array_equal(a, b) for a, b in zip(before, base.get_weights())),
    len(model.trainable_weights),
)
base.trainable = True
for layer in base.layers[:2]:
    layer.trainable = False
model.compile(
    keras.optimizers.Adam(1e-3),
    keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    metrics=[keras.metrics.SparseCategoricalAccuracy()],
)
h2 = model.fit(x, y, epochs=2, batch_size=10, shuffle=False, verbose=0)
print("fine", len(model.trainable_weights), len(model.non_trainable_weights))
extractor = keras.Model(inputs=base.inputs, outputs=base.get_layer("c2").output)
features = extractor(x[:2])
print(tuple(features.shape))
model.save("whole.keras")
again = keras.saving.load_model("whole.keras")
print([layer.name for layer in again.layers], again.get_layer("base").get_layer("c1").trainable)
h3 = again.fit(x, y, epochs=1, batch_size=10, shuffle=False, verbose=0)
results = dict(
    h1=h1.history, h2=h2.history, h3=h3.history, features=keras.ops.convert_to_numpy(features)
)
