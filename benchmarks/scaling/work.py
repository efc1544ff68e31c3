"""What is timed on the ranks; rank 0 prints it as JSON. Started by `__main__`.

    mpirun -n N python -m benchmarks.scaling.work exchange BYTES,BYTES,...
    mpirun -n N python -m benchmarks.scaling.work step BATCH [STEPS]
    mpirun -n N python -m benchmarks.scaling.work ways BATCH [STEPS] [ROUNDS]

`step` and `ways` train the course's network on random images; BATCH is the whole batch. `ways`
does it in turn *apart*, where every rank trains its share of the batch without the others, which is
the speed if exchanging cost nothing; *blocking* and *overlapped*; and as the ranks *choose*.
"""

from __future__ import annotations

import json
import sys
from time import perf_counter
from typing import Any

import numpy as np

REPEATS = 3
SECONDS = 0.5  # of repetitions of an exchange
# The ways to train, with the option `overlap` of those that share.
WAYS = {"apart": None, "blocking": False, "overlapped": True, "chosen": None}


def main() -> None:
    task, *arguments = sys.argv[1:]
    tasks = {"exchange": exchange, "step": step, "ways": ways}
    result = tasks[task](*arguments)
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


def step(batch: str, steps: str = "40") -> dict[str, float]:
    """Seconds per step of fit: the best of some epochs; and where the time goes, if shared."""
    training = Training(int(batch), int(steps))
    training.share()
    training.epoch()  # compiles, and tries the ways to exchange
    result = {"seconds": min(training.epoch() for _ in range(REPEATS))}
    result["parameters"] = float(training.model.count_params())
    return result | training.profile()


def ways(batch: str, steps: str = "40", rounds: str = "5") -> dict[str, Any]:
    """Seconds per step of fit in each way, one per round; the rounds alternate between them."""
    training = Training(int(batch), int(steps))
    seconds: dict[str, list[float]] = {name: [] for name in WAYS}
    for number in range(1 + int(rounds)):
        for name, overlap in WAYS.items():
            training.share(overlap) if name != "apart" else training.share_nothing()
            if name == "chosen" or number == 0:
                training.epoch()  # compiles, and tries the ways to exchange
            if number:
                seconds[name].append(training.epoch())
    return {"seconds": seconds} | training.profile()


class Training:
    """The course's network, and random images to train it on.

    Args:
        batch: the whole batch.
        steps: of an epoch.
    """

    def __init__(self, batch: int, steps: int):
        from minitorch_ciml import distributed, keras

        self._keras, self._ranks = keras, distributed.init()
        self._batch, self._steps = batch, steps
        keras.utils.set_random_seed(0)
        self.model = network(keras)
        self.model.compile("adam", "sparse_categorical_crossentropy")
        rng = np.random.default_rng(0)
        self._x = rng.random((batch * steps, 28, 28, 1), np.float32)
        self._y = rng.integers(0, 10, len(self._x))
        self.share_nothing()

    def share(self, overlap: bool | None = None) -> None:
        """From now on, the ranks share every batch."""
        distribution = self._keras.distribution
        distribution.set_distribution(distribution.DataParallel(overlap=overlap))
        self._own, self._size = slice(None), self._batch

    def share_nothing(self) -> None:
        """From now on, every rank trains on images of its own, as many as its share would be."""
        self._keras.distribution.set_distribution(None)
        self._size = self._batch // self._ranks.size
        first = self._ranks.rank * self._size * self._steps
        self._own = slice(first, first + self._size * self._steps)

    def epoch(self, *callbacks: Any) -> float:
        """Seconds per step of one epoch, of the slowest rank."""
        x, y = self._x[self._own], self._y[self._own]
        self._ranks.barrier()
        start = perf_counter()
        self.model.fit(x, y, batch_size=self._size, verbose=0, callbacks=[*callbacks])
        self._ranks.barrier()
        return (perf_counter() - start) / self._steps

    def profile(self) -> dict[str, float]:
        """Where the time of a shared step goes; nothing for one rank."""
        if self._ranks.size == 1:
            return {}
        profiler = self._keras.callbacks.DistributedProfiler(first=2, steps=self._steps)
        self._keras.callbacks.profiler.announce = lambda text: None
        self.epoch(profiler)
        means = np.mean(profiler.seconds, axis=0)
        return dict(zip(("compute", "exchange", "wait"), means.tolist()))


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
