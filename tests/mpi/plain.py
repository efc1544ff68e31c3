"""A script that knows nothing of ranks: MINITORCH_CIML_DISTRIBUTE=1 shares its work."""

import numpy as np

from minitorch_ciml import keras

rng = np.random.default_rng(0)
x = rng.normal(size=(50, 4)).astype("float32")
model = keras.Sequential([keras.layers.Dense(8, "relu"), keras.layers.Dense(1)])
model.compile("adam", "mse")
model.fit(x, x.sum(1), batch_size=16, epochs=2)
model.summary()
whole = model.predict(x)
loss = model.evaluate(x, x.sum(1))
alone = float(np.mean((whole[:, 0] - x.sum(1)) ** 2))
assert abs(loss - alone) < 1e-5, (loss, alone)
print(f"weights {sum(float(np.abs(w).sum()) for w in model.get_weights()):.12f}", flush=True)
