"""What communicators and Horovod's functions give on three ranks."""

import sys
import time
from pathlib import Path

import numpy as np

from minitorch_ciml import Tensor, distributed, grad, keras
from minitorch_ciml.compat import horovod as hvd

hvd.init()
comm = distributed.init()
rank, size = hvd.rank(), hvd.size()
assert (size, hvd.local_size(), hvd.cross_size(), hvd.cross_rank()) == (3, 3, 1, 0)
assert hvd.local_rank() == rank

# Longer than a piece, not contiguous, and of types that MPI cannot add.
long = np.full(3_000_000, rank + 1, np.float32)
assert np.all(comm.allreduce(long) == 6)
table = np.full((4, 6), float(rank))
comm.allreduce(table[:, ::2], "max")
assert np.all(table[:, ::2] == 2) and np.all(table[:, 1::2] == rank)
assert comm.allreduce(np.full(3, rank, np.float16), "mean").tolist() == [1.0] * 3
assert comm.allreduce(np.array([rank == 1]), "max").tolist() == [True]
assert comm.allreduce(np.array([rank]), "min").tolist() == [0]
pieces = comm.allgather(np.full((rank, 2), rank))
assert [p.shape for p in pieces] == [(0, 2), (1, 2), (2, 2)] and np.all(pieces[2] == 2)
try:
    comm.allgather(np.zeros(3, "float32" if rank else "float64"))
except ValueError as error:
    assert "may differ in their first axis only" in str(error)
else:
    raise AssertionError("allgather took arrays of several types")
assert comm.total(rank) == 3 and comm.any(rank == 2) and not comm.any(False)

assert hvd.allreduce(rank) == 1.0
assert hvd.allreduce(rank, average=False) == 3
assert isinstance(hvd.allreduce(Tensor([1.0, 2.0])), Tensor)
assert hvd.broadcast(rank + 5, 2) == 7
assert hvd.broadcast(np.full(2, rank), 1).tolist() == [1, 1]
assert hvd.allgather(np.full(rank + 1, rank)).tolist() == [0, 1, 1, 2, 2, 2]
assert hvd.broadcast_object({"a": rank}, 1) == {"a": 1}
hvd.barrier()
layer = keras.layers.Dense(2)
layer.build((None, 3))
hvd.broadcast_variables(layer.weights)
kernels = hvd.allgather(layer.kernel.numpy()[None])
assert np.all(kernels == kernels[0])

# Ranks with another number of steps do not wait for ever, and stop together.
model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
model.compile(hvd.DistributedOptimizer(keras.optimizers.SGD(0.1)), "mse")
x = np.ones((40 + 10 * rank, 3))
stop = keras.callbacks.LambdaCallback(
    on_epoch_end=lambda epoch, logs: setattr(model, "stop_training", rank == 1 and epoch == 1)
)
history = model.fit(
    x, x[:, 0], batch_size=10, epochs=5, verbose=0,
    callbacks=[hvd.callbacks.BroadcastGlobalVariablesCallback(0), stop],
)  # fmt: skip
assert len(history.epoch) == 2 and int(model.optimizer.iterations) == 8

# Rank 0 alone writes; generators may give each rank its own part; local statistics are averaged.
keras.distribution.set_distribution(keras.distribution.DataParallel(auto_shard_dataset=False))
model = keras.Sequential(
    [keras.Input((3,)), keras.layers.BatchNormalization(), keras.layers.Dense(1)]
)
model.compile("sgd", "mse")
rng = np.random.default_rng(rank)


def own_part():
    for _ in range(4 + rank):  # the shortest ends the epoch
        part = rng.normal(size=(2 + rank, 3))
        yield part, part[:, 0]


folder = Path(sys.argv[1], str(rank))
folder.mkdir()
model.fit(
    own_part(), verbose=0,
    callbacks=[
        keras.callbacks.CSVLogger(folder / "log.csv"),
        keras.callbacks.ModelCheckpoint(folder / "model.keras"),
    ],
)  # fmt: skip
model.save(folder / "saved.keras")
assert int(model.optimizer.iterations) == 4
weights = comm.allgather(np.concatenate([w.ravel() for w in model.get_weights()])[None])
assert all(np.array_equal(weights[0], other) for other in weights)
assert len(list(folder.iterdir())) == (3 if rank == 0 else 0)

# Another number of ranks goes on where this one was interrupted: here from a backup of epoch 2.
keras.distribution.set_distribution(keras.distribution.DataParallel())


def resume(epochs):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    backup = keras.callbacks.BackupAndRestore(sys.argv[1] + "/backup", delete_checkpoint=False)
    x = np.arange(30.0).reshape(10, 3) / 30
    history = model.fit(x, x[:, 0], batch_size=4, epochs=epochs, verbose=0, callbacks=[backup])
    return model, history.epoch


assert resume(2)[1] == [0, 1]
comm.barrier()  # rank 0 writes
model, epochs = resume(4)
assert epochs == [2, 3] and int(model.optimizer.iterations) == 12
weights = comm.allgather(np.concatenate([w.ravel() for w in model.get_weights()])[None])
assert all(np.array_equal(weights[0], other) for other in weights)

# Ranks that would not do the same are an error on all of them.


def refused(message, x=None, units=1, callbacks=()):
    x = np.ones((8, 3)) if x is None else x
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(units)])
    model.compile("sgd", "mse")
    try:
        model.fit(x, np.ones((len(x), units)), verbose=0, callbacks=list(callbacks))
    except ValueError as error:
        assert message in str(error), error
    else:
        raise AssertionError(f"{message}: was not refused")


refused("the data: 8 samples in batches of 32, checksum", x=np.full((8, 3), float(rank == 1)))
refused("the data: 8 samples", x=np.ones((8 + rank, 3)))
refused("the shapes of the weights: ", units=1 + rank)
stops = [keras.callbacks.EarlyStopping(monitor="loss")] if rank == 2 else []
refused("callbacks: [] on rank 0, ['EarlyStopping'] on rank 2", callbacks=stops)

# Where the time goes: rank 2 is slow, so that the others wait.
profiler = keras.callbacks.DistributedProfiler(first=2, steps=6)
slow = keras.callbacks.LambdaCallback(
    on_train_batch_begin=lambda batch, logs: time.sleep(0.02 * (rank == 2))
)
model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
model.compile("sgd", "mse")
model.fit(np.ones((30, 3)), np.ones(30), batch_size=3, verbose=0, callbacks=[profiler, slow])
assert profiler.seconds.shape == (3, 3)
compute, exchange, wait = profiler.seconds.T
assert compute[2] > 0.02 > compute[0] and wait[0] > 0.01 > wait[2] and np.all(exchange > 0)


# Gradients that a script changes between backward and apply are not sent too early.
class Clipped(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(1)

    def call(self, x):
        return self.dense(x)

    def train_step(self, data):
        x, y = data
        loss = self.compute_loss(y=y, y_pred=self(x, training=True))
        gradients = [g * 0.5 for g in grad(loss, self.trainable_weights)]
        self.optimizer.apply(gradients, self.trainable_weights)
        return {"mine": loss}


keras.distribution.set_distribution(keras.distribution.DataParallel(overlap=True))
model = Clipped()
model.compile("sgd", "mse")
try:
    model.fit(np.ones((60, 3)), np.ones(60), batch_size=6, verbose=0)
except RuntimeError as error:
    assert "needs gradients that go from backward to optimizer.apply as they are" in str(error)
else:
    raise AssertionError("changed gradients were sent")

print("all right", flush=True)
