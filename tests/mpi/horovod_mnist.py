"""A student's Horovod script for MNIST, of which the two import lines were changed."""

import sys

from minitorch_ciml import keras
from minitorch_ciml.compat import horovod as hvd
from minitorch_ciml.keras.datasets import mnist

hvd.init()
keras.utils.set_random_seed(hvd.rank())  # each rank has its own order; weights are broadcast

(X_train, y_train), (X_test, y_test) = mnist.load_data()
X_train = X_train.reshape(-1, 28, 28, 1).astype("float32") / 255
X_test = X_test.reshape(-1, 28, 28, 1).astype("float32") / 255
y_train = keras.utils.to_categorical(y_train, 10)
y_test = keras.utils.to_categorical(y_test, 10)

# Every rank takes its piece; the pieces overlap by one, as such scripts have it.
n = len(X_train) // hvd.size()
b, e = hvd.rank() * n, (hvd.rank() + 1) * n
X_train, y_train = X_train[b : e + 1], y_train[b : e + 1]

model = keras.models.Sequential()
model.add(keras.layers.Conv2D(16, (3, 3), activation="relu", input_shape=(28, 28, 1)))
model.add(keras.layers.Conv2D(16, (3, 3), activation="relu"))
model.add(keras.layers.MaxPooling2D(pool_size=(2, 2)))
model.add(keras.layers.Flatten())
model.add(keras.layers.Dense(32, activation="relu"))
model.add(keras.layers.Dense(10, activation="softmax"))

opt = keras.optimizers.Adam(0.001 * hvd.size())
opt = hvd.DistributedOptimizer(opt)
model.compile(
    loss="categorical_crossentropy", optimizer=opt, metrics=["accuracy"],
    experimental_run_tf_function=False,
)  # fmt: skip
callbacks = [hvd.callbacks.BroadcastGlobalVariablesCallback(0)]
model.fit(
    X_train, y_train, batch_size=64, epochs=3, callbacks=callbacks,
    validation_data=(X_test, y_test), verbose=2 if hvd.rank() == 0 else 0,
)  # fmt: skip
hvd.broadcast(0, 0)
if hvd.rank() == 0:
    loss, accuracy = model.evaluate(X_test, y_test, verbose=0)
    model.save(sys.argv[1] + "/mnist.keras")
    print(f"ranks {hvd.size()}, validation accuracy {accuracy:.4f}")
