"""Tables: Normalization, one-hot codes, a wide and a deep part, operations on symbolic tensors."""

import keras
import numpy as np
from keras import layers, ops
from side_by_side import alike

rng = np.random.default_rng(0)
age = rng.normal(50, 10, (60, 1)).astype("float32")
chol = rng.normal(200, 30, (60, 2)).astype("float32")
sex = rng.integers(0, 2, (60, 1))
y = (age[:, 0] + 0.1 * chol[:, 0] > 70).astype("float32")
norm = layers.Normalization(axis=-1)
norm.adapt(chol)
norm1 = layers.Normalization()
norm1.adapt(age)
a, c, s = (
    keras.Input((1,), name="age"),
    keras.Input((2,), name="chol"),
    keras.Input((1,), name="sex", dtype="int64"),
)
onehot = layers.CategoryEncoding(num_tokens=2, output_mode="one_hot")(s)
allf = layers.concatenate([norm1(a), norm(c), onehot, norm1(a) ** 2])
deep = layers.Dense(8, "relu")(allf)
deep = layers.Dense(8, activation=keras.activations.selu)(deep)
wide = ops.sum(allf, axis=-1, keepdims=True)
out = layers.Dense(1, activation="sigmoid")(
    layers.concatenate([deep, wide, ops.maximum(wide, 0.0), a[:, :1] / 100])
)
model = keras.Model([a, c, s], out)
alike(model, weights="trainable_weights")
model.compile(
    "adam",
    "binary_crossentropy",
    metrics=["accuracy", keras.metrics.AUC(name="auc")],
)
data = {"age": age, "chol": chol, "sex": sex}
h = model.fit(data, y, epochs=3, batch_size=20, shuffle=False, verbose=0)
p = model.predict({k: v[:1] for k, v in data.items()}, verbose=0)
print(f"This has a {100 * p[0][0]:.1f} percent probability")
results = dict(h=h.history, p=p, w=model.get_weights()[-2:])
