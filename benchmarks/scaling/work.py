"""What is timed on the ranks; rank 0 prints it as JSON. Started by `__main__`.

    mpirun -n N python -m benchmarks.scaling.work exchange BYTES,BYTES,...
    mpirun -n N python -m benchmarks.scaling.work step BATCH [STEPS] [apart | overlap | blocking]

`step` trains the course's network on random images; with `apart`, every rank trains its share of
the batch without the others: the speed if exchanging cost nothing.
"""

from __future__ import annotations

import json
import sys
from time import perf_counter
from typing import Any

import numpy as np

REPEATS = 3
SECONDS = 0.5  # of repetitions of an exchange


def main() -> None:
    task, *arguments = sys.argv[1:]
    result = {"exchange": exchange, "step": step}[task](*arguments)
    from minitorch_ciml import distributed

    if distributed.init().rank == 0:
        print(json.dumps(result))


def exchange(sizes: str) -> list[dict[str, float]]:
    """The median time of an exchange of float32 gradients of so many bytes, alone."""
    from minitorch_ciml import distributed
    from minitorch_ciml.autograd import Parameter
    from minitorch_ciml.autograd.flat import FlatBuffer

    ranks = distributed.init()
    rows = []
    for size in map(int, sizes.split(",")):
        # As in a model: several parameters.
        shapes = [size // 4 // 4] * 4
        buffer = FlatBuffer([Parameter(np.zeros(n, np.float32)) for n in shapes])
        gradients = [np.ones(n, np.float32) for n in shapes]
        combine = distributed.GradientExchange(overlap=False)
        times: list[float] = []
        combine([buffer], [gradients])
        while len(times) < 5 or (sum(times) < SECONDS and len(times) < 200):
            ranks.barrier()
            start = perf_counter()
            combine([buffer], [gradients])
            times.append(float(ranks.allreduce(np.array([perf_counter() - start]), "max")[0]))
        rows.append({"bytes": size, "seconds": float(np.median(times))})
    return rows


def step(batch: str, steps: str = "60", how: str = "") -> dict[str, float]:
    """Seconds per step of fit: the best of some epochs; and where the time goes, if shared."""
    from minitorch_ciml import distributed, keras

    ranks = distributed.init()
    overlap = {"overlap": True, "blocking": False}.get(how)
    own = int(batch)
    if how == "apart":
        own //= ranks.size
    else:
        team = keras.distribution.DataParallel(overlap=overlap)
        keras.distribution.set_distribution(team)
    keras.utils.set_random_seed(0)
    model = network(keras)
    model.compile("adam", "sparse_categorical_crossentropy")
    rng = np.random.default_rng(0)
    x = rng.random((own * int(steps), 28, 28, 1), np.float32)
    y = rng.integers(0, 10, len(x))
    model.fit(x, y, batch_size=own, verbose=0)  # compiles, and tries the ways to exchange
    seconds = []
    for _ in range(REPEATS):
        ranks.barrier()
        start = perf_counter()
        model.fit(x, y, batch_size=own, verbose=0)
        ranks.barrier()
        seconds.append((perf_counter() - start) / int(steps))
    result = {"seconds": min(seconds), "parameters": float(model.count_params())}
    if how != "apart" and ranks.size > 1:
        profiler = keras.callbacks.DistributedProfiler(first=2, steps=int(steps))
        keras.callbacks.profiler.announce = lambda text: None
        model.fit(x, y, batch_size=own, verbose=0, callbacks=[profiler])
        means = np.mean(profiler.seconds, axis=0)
        result |= dict(zip(("compute", "exchange", "wait"), means.tolist()))
    return result


def network(keras: Any) -> Any:
    """The course's network."""
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(16, 3, activation="relu"),
            layers.Conv2D(16, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(32, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )


if __name__ == "__main__":
    main()
