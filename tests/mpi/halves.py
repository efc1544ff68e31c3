"""What communicators, transfers and `fit` do with 16-bit floats, on any number of ranks."""

import sys
from pathlib import Path

import numpy as np

from minitorch_ciml import distributed, keras
from minitorch_ciml.distributed import transfers
from minitorch_ciml.kernels.halves import dtype_of

comm = distributed.init()
rank, size = comm.rank, comm.size
mean = (size - 1) / 2

for name in ("float16", "bfloat16"):
    half = dtype_of(name)
    assert comm.allreduce(np.full(3, rank, half), "mean").tolist() == [mean] * 3
    assert comm.allreduce(np.full(3, rank, half), "max").tolist() == [size - 1] * 3
    assert comm.broadcast(np.full(3, rank, half), 1).tolist() == [1] * 3
    pieces = comm.allgather(np.full((rank + 1, 2), rank, half))
    assert [(p.shape, p.dtype) for p in pieces] == [((r + 1, 2), half) for r in range(size)]
    assert all(np.all(p == r) for r, p in enumerate(pieces))
    # Gradients on the network: they stay in their own 16 bits, which may be larger than float16's.
    large = 1e6 if name == "bfloat16" else 100
    values = np.full(5, large * (rank + 1), half)
    transfers.begin(comm.world, values, unscale=float(size), meanwhile=False).wait()
    expected = large * size * (size + 1) / 2
    np.testing.assert_allclose(values.astype("float64"), expected, rtol=2.0**-7)

    keras.distribution.set_distribution(keras.distribution.DataParallel())
    keras.utils.set_random_seed(0)
    x = np.random.default_rng(0).normal(size=(32, 6)).astype("float32")
    layers = [keras.layers.Dense(8, "relu", dtype=name), keras.layers.Dense(1, dtype=name)]
    model = keras.Sequential([keras.Input((6,)), *layers])
    model.compile(keras.optimizers.SGD(0.01), "mse")
    loss = model.fit(x, x[:, :1], batch_size=8, epochs=3, verbose=0, shuffle=False).history["loss"]
    y = model.predict(x, verbose=0)
    assert y.dtype == half and y.shape == (32, 1)
    if rank == 0:
        with Path(sys.argv[1]).open("a") as file:
            print(name, *loss, *y[:4, 0].astype("float32"), file=file)

print(f"rank {rank}: all right")
