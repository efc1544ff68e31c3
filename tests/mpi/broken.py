"""Fails on one rank in the way that the first argument names; the others would wait for ever."""

import os
import signal
import sys
import time
from pathlib import Path

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
        if how == "endless":  # until somebody else ends it
            time.sleep(0.02)
            Path(sys.argv[2]).touch()
        if rank == 1 and batch == 2:
            if how == "exception":
                raise KeyError("lost on rank 1")
            if how == "exit":
                sys.exit(3)
            if how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if how == "quiet":
                sys.exit(0)
            if how == "stuck":
                time.sleep(60)
            if how == "leave":
                self.model.stop_training = True


epochs = 10_000 if how == "endless" else 3
if how == "data":
    x = x + (rank == 1)  # the ranks do not have the same
if how == "alone" and rank:
    sys.exit(0)  # rank 0 alone calls fit
model.fit(x, y, batch_size=8, epochs=epochs, verbose=0, callbacks=[Failing()])
if how == "leave":
    stopped = distributed.init().allgather_object(model.stop_training)
    print(f"rank {rank}: {len(model.history.epoch)} epochs, stopped {stopped}", flush=True)
print("the end", flush=True)
