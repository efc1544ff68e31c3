"""What it buys that steps are run as programs: `fit` with and without, in turn.

python -m benchmarks.programs
"""

from __future__ import annotations

import sys
from statistics import median
from time import perf_counter
from typing import Any

from rich.console import Console
from rich.table import Column, Table

from benchmarks.keras_models import build_model
from benchmarks.workloads import BY_NAME, LEARNING_RATE, make_data
from minitorch_ciml import keras

NAMES = (
    "XOR 2-8-1, batch 4, fit", "one-head attention, batch 4, fit", "CNN, batch 32, fit",
    "CNN, batch 128, fit", "MLP, batch 128, fit", "residual CNN, batch 64, fit",
    "transformer block, batch 32, fit", "LSTM, batch 128, fit",
)  # fmt: skip
ROUNDS, SECONDS = 15, 0.3  # of each round


def main(names: list[str]) -> None:
    titles = ("code, us", "program, us", "code / program", "quickest of each")
    table = Table(Column("model", no_wrap=True), *titles)
    for name in names or NAMES:
        workload = BY_NAME[name]
        x, y = make_data(workload, workload.steps)
        models = [build_model(keras, workload.model, LEARNING_RATE) for _ in range(2)]
        models[0].jit_compile = False

        def epochs(model: Any, count: int) -> float:
            begin = perf_counter()
            model.fit(x, y, batch_size=workload.batch, epochs=count, verbose=0)  # noqa: B023
            return (perf_counter() - begin) / (count * workload.steps) * 1e6  # noqa: B023

        for model in models:
            epochs(model, 4)
        count = max(1, round(SECONDS * 1e6 / (epochs(models[0], 1) * workload.steps)))
        times = [[epochs(model, count) for model in models] for _ in range(ROUNDS)]
        code, program = zip(*times)
        table.add_row(
            name, f"{median(code):.0f}", f"{median(program):.0f}",
            f"{median(a / b for a, b in times):.2f}", f"{min(code):.0f} / {min(program):.0f}",
        )  # fmt: skip
    Console().print(table)


if __name__ == "__main__":
    main(sys.argv[1:])
