"""JAX, written by hand: one compiled function per training step, Adam included."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.framework import Framework, Run, repeated
from benchmarks.jax_models import APPLY, loss_of
from benchmarks.keras_peer import PREDICT_BATCH, split_batches
from benchmarks.workloads import LEARNING_RATE, Workload, cycle, initial_weights, make_data


class Jax(Framework):
    def step(self, workload: Workload, mode: str) -> Run:
        train, state = _training_step(workload), _initial_state(workload)
        batch = cycle([(jnp.asarray(x), jnp.asarray(y)) for x, y in split_batches(workload, 4)])

        def run(units: int) -> None:
            nonlocal state
            for _ in range(units):
                state, loss = train(state, *batch())
            loss.block_until_ready()

        return run

    def fit(self, workload: Workload, mode: str) -> Run:
        """A new order every epoch; the loss is read once per epoch."""
        train, state = _training_step(workload), _initial_state(workload)
        x, y = (jnp.asarray(part) for part in make_data(workload, workload.steps))
        random = np.random.default_rng(0)

        @partial(jax.jit, donate_argnums=0)
        def train_rows(state: Any, total: Any, rows: Any, x: Any, y: Any) -> Any:
            state, loss = train(state, x[rows], y[rows])
            return state, total + loss

        def run(units: int) -> None:
            nonlocal state
            for _ in range(units):
                total: Any = 0.0
                for rows in np.split(random.permutation(len(x)), workload.steps):
                    state, total = train_rows(state, total, rows, x, y)
                float(total)

        return run

    def call(self, workload: Workload, mode: str) -> Run:
        weights, apply = _initial_state(workload)[0], jax.jit(APPLY[workload.model][1])
        x = make_data(workload)[0]

        def predict() -> None:
            parts = [x[i : i + PREDICT_BATCH] for i in range(0, len(x), PREDICT_BATCH)]
            jax.block_until_ready([apply(weights, part) for part in parts])

        return repeated(predict)

    predict = call

    def losses(self, workload: Workload, steps: int) -> list[float]:
        train, state = _training_step(workload, 1e-3), _initial_state(workload)
        x, y = make_data(workload)
        losses = []
        for _ in range(steps):
            state, loss = train(state, x, y)
            losses.append(float(loss))
        return losses


def _initial_state(workload: Workload) -> Any:
    """The weights, Adam's two moments, and the number of steps."""
    weights = [jnp.array(w) for w in initial_weights(APPLY[workload.model][0])]
    zeros = [jnp.zeros_like(w) for w in weights]
    return weights, zeros, [z.copy() for z in zeros], jnp.zeros(())


def _training_step(workload: Workload, learning_rate: float = LEARNING_RATE) -> Callable:
    _, apply = APPLY[workload.model]

    @partial(jax.jit, donate_argnums=0)
    def train(state: Any, x: Any, y: Any) -> Any:
        weights, first, second, t = state
        loss, gradients = jax.value_and_grad(lambda w: loss_of(workload.model, apply(w, x), y))(
            weights
        )
        t = t + 1
        rate = learning_rate * jnp.sqrt(1 - 0.999**t) / (1 - 0.9**t)
        first = [0.9 * m + 0.1 * g for m, g in zip(first, gradients)]
        second = [0.999 * v + 0.001 * g * g for v, g in zip(second, gradients)]
        weights = [w - rate * m / (jnp.sqrt(v) + 1e-7) for w, m, v in zip(weights, first, second)]
        return (weights, first, second, t), loss

    return train


def create() -> Framework:
    return Jax()
