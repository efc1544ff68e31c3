"""Fails on one rank in the way that the first argument names; the others would wait for ever."""

import sys
import time

import numpy as np

from minitorch_ciml import distributed, keras

how = sys.argv[1]
keras.distribution.set_distribution(keras.distribution.DataParallel())
rank = keras.distribution.distribution().rank
model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
model.compile("sgd", "mse")
x, y = np.zeros((40, 4)), np.zeros((40, 3))


class Failing(keras.callbacks.Callback):
    def on_train_batch_begin(self, batch, logs=None):
        if rank == 1 and batch == 2:
            if how == "exception":
                raise KeyError("lost on rank 1")
            if how == "exit":
                sys.exit(3)
            if how == "stuck":
                time.sleep(60)
            if how == "leave":
                self.model.stop_training = True


model.fit(x, y, batch_size=8, epochs=3, verbose=0, callbacks=[Failing()])
if how == "leave":
    stopped = distributed.init().allgather_object(model.stop_training)
    print(f"rank {rank}: {len(model.history.epoch)} epochs, stopped {stopped}", flush=True)
