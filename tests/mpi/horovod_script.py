"""A student's script for Horovod, of which the two import lines were changed."""

import sys

import numpy as np

from minitorch_ciml import keras
from minitorch_ciml.compat import horovod as hvd

hvd.init()
rng = np.random.default_rng(0)
X = rng.normal(size=(205, 6)).astype("float32")
y = (X.sum(1) > 0).astype("int64")

# Every rank takes its piece; the pieces overlap by one, as such scripts have it, and the last one
# is longer.
n = len(X) // hvd.size()
b, e = hvd.rank() * n, (hvd.rank() + 1) * n
if hvd.rank() == hvd.size() - 1:
    e = len(X)
X_local, y_local = X[b : e + 1], y[b : e + 1]

model = keras.models.Sequential()
model.add(keras.layers.Dense(8, input_shape=(6,), activation="relu"))
model.add(keras.layers.Dense(2, activation="softmax"))
opt = keras.optimizers.Adam(0.01 * hvd.size())
opt = hvd.DistributedOptimizer(opt)
model.compile(
    loss="sparse_categorical_crossentropy", optimizer=opt, metrics=["accuracy"],
    experimental_run_tf_function=False,
)  # fmt: skip
callbacks = [
    hvd.callbacks.BroadcastGlobalVariablesCallback(0),
    hvd.callbacks.MetricAverageCallback(),
    hvd.callbacks.LearningRateWarmupCallback(0.01 * hvd.size(), warmup_epochs=2),
    keras.callbacks.EarlyStopping(monitor="loss", patience=2),
]
if hvd.rank() == 0:
    callbacks.append(keras.callbacks.ModelCheckpoint(sys.argv[1] + "/best.keras"))
history = model.fit(
    X_local, y_local, batch_size=17, epochs=6, callbacks=callbacks,
    verbose=1 if hvd.rank() == 0 else 0,
)  # fmt: skip
hvd.broadcast(0, 0)
weights = hvd.allgather(np.concatenate([w.ravel() for w in model.get_weights()])[None])
assert np.all(weights == weights[0]), "the ranks' weights differ"
assert hvd.allreduce(float(hvd.rank()), op=hvd.Max) == hvd.size() - 1
assert hvd.allreduce(np.ones(3), op=hvd.Sum).tolist() == [hvd.size()] * 3
assert hvd.allgather_object(hvd.rank()) == list(range(hvd.size()))
if hvd.rank() == 0:
    score = model.evaluate(X, y, verbose=0)
    model.save(sys.argv[1] + "/model.keras")
    print(f"accuracy {score[1]:.3f} epochs {len(history.epoch)} ranks {hvd.size()}")
