"""Keras 3 (with the backend that KERAS_BACKEND names), and what this package shares with it."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.framework import Framework, Run, repeated
from benchmarks.keras_models import build_model
from benchmarks.workloads import LEARNING_RATE, Workload, cycle, initial_weights, make_data

PREDICT_BATCH = 256


class KerasLike(Framework):
    """Anything with Keras' interface.

    Args:
        keras: the module.
    """

    def __init__(self, keras: Any):
        self.keras = keras

    def _model(self, workload: Workload, learning_rate: float = LEARNING_RATE) -> Any:
        return build_model(self.keras, workload.model, learning_rate)

    def step(self, workload: Workload, mode: str) -> Run:
        model = self._model(workload)
        batch = cycle(split_batches(workload, 4))
        return repeated(lambda: model.train_on_batch(*batch()))

    def fit(self, workload: Workload, mode: str) -> Run:
        model = self._model(workload)
        x, y = make_data(workload, workload.steps)

        def run(units: int) -> None:
            model.fit(x, y, batch_size=workload.batch, epochs=units, verbose=0)

        return run

    def call(self, workload: Workload, mode: str) -> Run:
        model = self._model(workload)
        x, _ = make_data(workload)
        to_numpy = self.keras.ops.convert_to_numpy  # waits until it is computed
        return repeated(lambda: to_numpy(model(x, training=False)))

    def predict(self, workload: Workload, mode: str) -> Run:
        model = self._model(workload)
        x, _ = make_data(workload)
        return repeated(lambda: model.predict(x, batch_size=PREDICT_BATCH, verbose=0))

    def losses(self, workload: Workload, steps: int) -> list[float]:
        model = self._model(workload, 1e-3)
        model.set_weights(initial_weights(tuple(tuple(w.shape) for w in model.weights)))
        x, y = make_data(workload)
        losses = []
        for _ in range(steps):
            model.reset_metrics()
            losses.append(float(model.train_on_batch(x, y)))
        return losses


def split_batches(workload: Workload, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    x, y = make_data(workload, count)
    return list(zip(np.split(x, count), np.split(y, count)))


def create() -> Framework:
    import keras

    return KerasLike(keras)
