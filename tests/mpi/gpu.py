"""A small training on the device of the ranks; prints losses and the sum of the weights.

mpirun -n 2 python gpu.py DEVICE [overlap]
"""

import sys

import numpy as np

from minitorch_ciml import distributed, keras

devices = [f"{sys.argv[1]}:{i}" for i in range(distributed.init().size)]
overlap = True if "overlap" in sys.argv else None
keras.distribution.set_distribution(
    keras.distribution.DataParallel(devices=devices, overlap=overlap)
)
keras.utils.set_random_seed(0)
model = keras.Sequential(
    [keras.Input((6,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(3, "softmax")]
)
model.compile("adam", "sparse_categorical_crossentropy")
rng = np.random.default_rng(0)
x, y = rng.normal(size=(23, 6)).astype("float32"), rng.integers(0, 3, 23)
history = model.fit(x, y, batch_size=12, epochs=2, verbose=0)
first, second = history.history["loss"]
total = sum(float(np.abs(w).sum()) for w in model.get_weights())
device = model.layers[0].kernel.device
text = f"on {device}: loss {first:.9f} loss {second:.9f} weights {total:.9f}\n"
sys.stdout.write(text)
