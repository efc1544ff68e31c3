"""`Position`: where fit stands, so that another process can go on from there (BackupAndRestore)."""

from __future__ import annotations

from typing import Any

import numpy as np

from minitorch_ciml.keras.models.data import Batches
from minitorch_ciml.ops import random


class Position:
    """Where fit stands, beside the weights and the optimizer.

    Args:
        model: in fit.
        crew: who trains it.
        source: the data, not shared yet.
        callbacks: those of fit; the attributes in their `kept` belong to the state.
        epoch: the first one.

    Attributes:
        epoch, step: the step that comes next, or is being done.
        alone: whether no other ranks take part.
    """

    def __init__(self, model: Any, crew: Any, source: Batches, callbacks: list, epoch: int):
        self._model, self._crew, self._source, self._callbacks = model, crew, source, callbacks
        self.epoch, self.step = epoch, 0
        self.alone = not crew.company
        self._metrics: list | None = None

    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Numbers that JSON can hold, and arrays by name. All ranks must call it together."""
        model = self._model
        facts: dict[str, Any] = {
            "epoch": self.epoch,
            "step": self.step,
            "order": getattr(self._source, "seed", None),
            "random": random.get_state(),
            "generators": [(g.seed, g.draws) for g in generators(model)],
            "stop": model.stop_training,
        }
        if self.step:
            states = self._crew.metric_states(model)
            facts["metrics"] = [np.asarray(s, np.float64).ravel().tolist() for s in states]
        arrays: dict[str, np.ndarray] = {}
        facts["callbacks"] = kept = []
        for number, callback in enumerate(self._callbacks):
            numbers = {}
            for name in callback.kept:
                value = getattr(callback, name)
                if isinstance(value, list):
                    arrays |= {f"{number}.{name}.{i}": a for i, a in enumerate(value)}
                else:
                    numbers[name] = value
            kept.append(numbers)
        return facts, arrays

    def restore(self, state: tuple[dict[str, Any], dict[str, np.ndarray]] | None) -> None:
        """Goes on where `state()` was called; None: at the beginning."""
        if state is None:
            return
        facts, arrays = state
        self.epoch, self.step = facts["epoch"], facts["step"]
        if facts["order"] is not None and hasattr(self._source, "seed"):
            self._source.seed = facts["order"]
        random.set_state(tuple(facts["random"]))
        for generator, (seed, draws) in zip(generators(self._model), facts["generators"]):
            generator.seed, generator.draws = seed, draws
        self._model.stop_training = facts["stop"]
        self._metrics = facts.get("metrics")
        for number, (callback, numbers) in enumerate(zip(self._callbacks, facts["callbacks"])):
            for name in callback.kept:
                if name in numbers:
                    setattr(callback, name, numbers[name])
                    continue
                lists = (a for n, a in arrays.items() if n.startswith(f"{number}.{name}."))
                setattr(callback, name, list(lists))

    def add_metrics(self) -> bool:
        """After the first step, which makes the metrics: adds what they were; whether it did."""
        states, self._metrics = self._metrics, None
        if states is None:
            return False
        if self._crew.leads():
            for variable, state in zip(metric_variables(self._model), states):
                added = np.array(state).reshape(variable.shape) + variable.numpy()
                variable.value[...] = np.asarray(added, variable.dtype)
        return True


def generators(model: Any) -> list[random.SeedGenerator]:
    """What the layers draw their random numbers from."""
    names = ("seed_generator", "generator")  # Keras' files have them under these two
    found = [getattr(layer, name, None) for layer in model._inventory().layers for name in names]
    return [g for g in found if isinstance(g, random.SeedGenerator)]


def metric_variables(model: Any) -> list:
    """The variables of the metrics, in which they add up."""
    return [v for m in model.metrics for part in getattr(m, "metrics", [m]) for v in part.variables]
