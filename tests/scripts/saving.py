"""Saving mid-training, resuming, JSON, checkpoints, cloning."""

import os

import keras
import numpy as np
from keras import layers
from side_by_side import alike

rng = np.random.default_rng(0)
x = rng.normal(size=(60, 4)).astype("float32")
y = x @ np.array([[1.0], [2], [-1], [0.5]], "float32")


def make():
    m = keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(8, activation="elu"),
            layers.BatchNormalization(),
            layers.Dense(1),
        ],
        name="net",
    )
    alike(m)
    m.compile(keras.optimizers.Adam(0.02), "mse", metrics=["mae"])
    return m


straight = make()
h = straight.fit(x, y, epochs=4, batch_size=20, shuffle=False, verbose=0)
half = make()
half.fit(x, y, epochs=2, batch_size=20, shuffle=False, verbose=0)
half.save("half.keras")
resumed = keras.models.load_model("half.keras")
h2 = resumed.fit(x, y, epochs=4, initial_epoch=2, batch_size=20, shuffle=False, verbose=0)
print(
    np.allclose(straight.get_weights()[0], resumed.get_weights()[0], atol=1e-5),
    h2.epoch,
    int(resumed.optimizer.iterations),
)
os.makedirs("ck", exist_ok=True)
cp = keras.callbacks.ModelCheckpoint(
    "ck/cp-{epoch:02d}-{val_loss:.2f}.weights.h5",
    save_weights_only=True,
    monitor="val_loss",
    verbose=0,
)
best = keras.callbacks.ModelCheckpoint(
    filepath="ck/best.keras", monitor="val_loss", save_best_only=True
)
m = make()
h3 = m.fit(
    x,
    y,
    epochs=3,
    batch_size=20,
    validation_split=0.2,
    shuffle=False,
    verbose=0,
    callbacks=[cp, best],
)
print(sorted(os.listdir("ck")))
m2 = make()
m2.load_weights(sorted(f"ck/{f}" for f in os.listdir("ck") if "cp" in f)[-1])
print(np.allclose(m2.predict(x, verbose=0), m.predict(x, verbose=0), atol=1e-6))
config = m.get_config()
clone = keras.Sequential.from_config(config)
print(clone.name, [layer.name for layer in clone.layers])
js = m.to_json()
again = keras.models.model_from_json(js)
again.set_weights(m.get_weights())
print(np.allclose(again.predict(x, verbose=0), m.predict(x, verbose=0)))
c2 = keras.models.clone_model(m)
print(len(c2.weights), c2.built)
results = dict(h=h.history, h2=h2.history, h3=h3.history)
