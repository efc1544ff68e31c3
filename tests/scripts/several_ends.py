"""Several inputs and several outputs, by name: texts of any length beside a table."""

import keras
import numpy as np
from keras import layers
from side_by_side import alike

note = keras.Input((None,), name="note")
table = keras.Input((5,), name="table")
read = layers.GRU(6)(layers.Embedding(40, 8, mask_zero=True)(note))
both = layers.Dense(8, activation="relu")(layers.concatenate([read, table]))
urgent = layers.Dense(1, name="urgent")(both)
kind = layers.Dense(3, name="kind")(both)
model = keras.Model([note, table], {"urgent": urgent, "kind": kind})
alike(model)
model.compile(
    keras.optimizers.RMSprop(0.005),
    loss={
        "urgent": keras.losses.BinaryCrossentropy(from_logits=True),
        "kind": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    },
    loss_weights={"urgent": 1.0, "kind": 0.3},
    metrics={"urgent": [keras.metrics.BinaryAccuracy(threshold=0.0)], "kind": ["accuracy"]},
)
rng = np.random.default_rng(0)
words = rng.integers(1, 40, (48, 9))
words[::3, 5:] = 0
x = {"note": words, "table": rng.random((48, 5)).astype("float32")}
y = {"urgent": (x["table"].sum(1) > 2.5).astype("float32"), "kind": words[:, 0] % 3}
history = model.fit(
    x, y, epochs=2, batch_size=16, shuffle=False, verbose=0, validation_data=(x, y)
).history
predicted = model.predict(x, verbose=0)
scores = model.evaluate(x, y, verbose=0, return_dict=True)
print(sorted(history), {k: v.shape for k, v in sorted(predicted.items())}, sorted(scores))
results = {"history": history, "predicted": predicted, "scores": scores}
