"""Speed over the number of ranks: `python -m benchmarks.scaling [--ranks 1,2,4] [--batch 128]`.

Two models: a small one, whose step is mostly waiting for messages, and a convolutional one, whose
step is mostly arithmetic. *Strong* scaling keeps the whole batch, *weak* scaling the part of each
rank. The efficiency is speed / (ranks * speed of one rank); it can only be near 1 while there is a
core for every rank, so the ranks have one thread each.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

STEPS = 30
REPEATS = 3
MODELS = ("small", "convolutional")


def main(arguments: list[str] | None = None) -> None:
    """Runs the ranks and prints a table; as a rank, measures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__)
    parser.add_argument("--ranks", default="1,2", help="the numbers of ranks, with commas")
    parser.add_argument("--batch", type=int, default=128, help="the batch of one rank")
    parser.add_argument("--output", type=Path, help="a JSON file to write")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.measure:
        measure(options.measure, options.batch)
        return
    rows = []
    print(
        f"{'model':14} {'scaling':7} {'ranks':>5} {'batch':>6} {'samples/s':>11} {'efficiency':>10}"
    )
    for model in MODELS:
        for scaling in ("strong", "weak"):
            base = None
            for n in map(int, options.ranks.split(",")):
                batch = options.batch * (n if scaling == "weak" else 1)
                speed = _run(n, model, batch)
                base = base or speed / n
                row = {"model": model, "scaling": scaling, "ranks": n, "batch": batch,
                       "samples_per_second": speed, "efficiency": speed / (n * base)}  # fmt: skip
                rows.append(row)
                print(
                    f"{model:14} {scaling:7} {n:5} {batch:6} {speed:11.0f} {speed / n / base:10.2f}"
                )
    if options.output:
        report = {"cores": os.cpu_count(), "steps": STEPS, "results": rows}
        options.output.write_text(json.dumps(report, indent=1))


def _run(n: int, model: str, batch: int) -> float:
    """The samples per second of n ranks."""
    command = ["mpirun", "-n", str(n), sys.executable, "-m", "benchmarks.scaling",
               "--measure", model, "--batch", str(batch)]  # fmt: skip
    one_thread = {"NUMBA_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    path = str(Path(sys.executable).parent) + os.pathsep + os.environ["PATH"]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=600, check=True,
        env={**os.environ, **one_thread, "PATH": path},
    )  # fmt: skip
    return float(done.stdout.split()[-1])


def measure(name: str, batch: int) -> None:
    """Trains on this rank's part; rank 0 prints the samples per second of all ranks."""
    from minitorch_ciml import distributed, keras

    keras.distribution.set_distribution(keras.distribution.DataParallel())
    model, shape = _model(keras, name)
    model.compile("adam", "sparse_categorical_crossentropy")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(batch * STEPS, *shape)).astype("float32")
    y = rng.integers(0, 10, len(x))
    model.fit(x[: 2 * batch], y[: 2 * batch], batch_size=batch, verbose=0)  # compiles kernels
    seconds = []
    for _ in range(REPEATS):
        distributed.init().barrier()
        start = perf_counter()
        model.fit(x, y, batch_size=batch, verbose=0)
        seconds.append(perf_counter() - start)
    if distributed.init().rank == 0:
        print(len(x) / min(seconds))


def _model(keras: Any, name: str) -> tuple[Any, tuple]:
    layers = keras.layers
    if name == "small":
        hidden = [layers.Dense(64, activation="relu"), layers.Dense(64, activation="relu")]
        shape: tuple = (32,)
    else:
        shape = (28, 28, 1)
        hidden = [
            layers.Conv2D(16, 3, activation="relu"), layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(), layers.Flatten(), layers.Dense(128, activation="relu"),
        ]  # fmt: skip
    output = layers.Dense(10, activation="softmax")
    return keras.Sequential([keras.Input(shape), *hidden, output]), shape


if __name__ == "__main__":
    main()
