"""What `compile` makes of losses and metrics: one loss and named metrics, also for many outputs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from minitorch_ciml import config
from minitorch_ciml.autograd import Tensor
from minitorch_ciml.keras import losses as losses_module
from minitorch_ciml.keras import metrics as metrics_module
from minitorch_ciml.keras.tree import flatten

# The outputs' names in their flat order; None where neither a dictionary nor a graph names them.
Names = list[str | None]


def output_names(outputs: Any, layers: Names | None = None) -> Names:
    """The names of (nested) outputs: their keys in dictionaries, otherwise those of their layers.

    Args:
        outputs: the structure.
        layers: the names of the layers that give the outputs, in flat order, if known.
    """
    known = iter(layers or [None] * len(flatten(outputs)))

    def walk(item: Any, path: tuple) -> Iterator[str | None]:
        if isinstance(item, dict):
            for key in sorted(item):
                yield from walk(item[key], (*path, key))
        elif isinstance(item, (list, tuple)):
            for i, inner in enumerate(item):
                yield from walk(inner, (*path, i))
        else:
            layer = next(known)
            if path and not isinstance(path[-1], int):
                yield "/".join(map(str, path))
            else:  # within a list the layer's name stands for the number
                yield layer and "/".join(map(str, (*path[:-1], layer)))

    return list(walk(outputs, ()))


class CompiledLoss:
    """The loss of a model: a weighted sum over its outputs.

    Args:
        loss: one loss for all outputs, or a list or dictionary with one per output.
        loss_weights: factors, in the same form.
    """

    def __init__(self, loss: Any, loss_weights: Any):
        self.user_loss, self.user_weights = loss, loss_weights
        self.losses: list | None = None
        self.trackers: list = []

    def build(self, n_outputs: int, names: Names) -> None:
        """Settles which loss belongs to which output, once the outputs are known."""
        per_output = _per_output(self.user_loss, n_outputs, names, "loss")
        if not isinstance(self.user_loss, (list, tuple, dict)) and n_outputs > 1:
            per_output = [self.user_loss] * n_outputs
        self.losses = [losses_module.resolve(item) for item in per_output]
        weights = _per_output(self.user_weights, n_outputs, names, "loss_weights")
        if any(not isinstance(w, (int, float, np.number, type(None))) for w in weights):
            raise ValueError(
                f"compile: loss_weights must be numbers, got {self.user_weights!r}; metrics come "
                "after them: say metrics=[...]."
            )
        self.weights = [1.0 if w is None else float(w) for w in weights]
        used = [(name, given) for name, given in zip(names, per_output) if given is not None]
        if len(used) > 1:
            self.trackers = [
                metrics_module.Mean(name=f"{name or _name_of(given)}_loss") for name, given in used
            ]

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any, names: Names) -> Tensor:
        if y_pred is None:
            raise TypeError("the model's call returned None, not a tensor: end it with return.")
        outputs = flatten(y_pred)
        if self.losses is None:
            self.build(len(outputs), names)
        if len(self.trackers) > 1 and y_true is not None and not _is_nested(y_true):
            raise ValueError(
                f"y: {len(self.trackers)} outputs have a loss, got one array; give a list with one "
                f"for each output, or a dictionary by their names: {names}."
            )
        targets = _targets(y_true, len(outputs), names, "y")
        sample_weights = _targets(sample_weight, len(outputs), names, "sample_weight")
        if len(outputs) == 1 and self.weights[0] == 1.0:
            return _loss_value(self.losses[0], targets[0], outputs[0], sample_weights[0])  # type: ignore[index]
        total: Any = 0.0
        trackers = iter(self.trackers)
        for i, loss in enumerate(self.losses or ()):
            if loss is not None:
                value = _loss_value(loss, targets[i], outputs[i], sample_weights[i])
                if self.trackers:
                    rows = config.part.get()
                    samples = len(outputs[i]) if rows is None else rows.even
                    next(trackers).update_state(value.value, sample_weight=samples)
                total = total + value * self.weights[i]
        return total


def _name_of(loss: Any) -> str:
    if isinstance(loss, str):
        return loss
    return getattr(loss, "name", None) or getattr(loss, "__name__", "output").strip("<>")


def _loss_value(loss: Any, y_true: Any, y_pred: Tensor, sample_weight: Any) -> Tensor:
    if y_true is None:
        raise ValueError("the loss needs targets, for training and for validation: pass (x, y).")
    return loss(y_true, y_pred, sample_weight)


class CompiledMetrics:
    """The metrics of a model, named as Keras names them in logs.

    Args:
        metrics: a list for a single output; otherwise a list of lists or a dictionary of lists.
        weighted_metrics: likewise; these take the sample weights into account.
    """

    name = "compile_metrics"

    def __init__(self, metrics: Any, weighted_metrics: Any):
        self.user_metrics, self.user_weighted = metrics, weighted_metrics
        for name in flatten((metrics, weighted_metrics)):
            if isinstance(name, str) and name not in metrics_module.BY_SHAPE:
                metrics_module.get(name)  # an unknown one is an error now, not in the first step
        self.built = False
        self.entries: list[tuple[int, Any, bool]] = []  # (output, metric, weighted?)
        self._log_names: list[str] = []

    def build(self, y_true: list, y_pred: list, names: Names) -> None:
        """Makes the metrics, once the shapes tell what 'accuracy' means."""
        taken: dict[str, int] = {}
        for given, weighted in ((self.user_metrics, False), (self.user_weighted, True)):
            for i, items in enumerate(_metric_lists(given, len(y_pred), names)):
                prefix = f"{names[i]}_" if len(y_pred) > 1 and names[i] else ""
                for item in items:
                    if y_true[i] is None:
                        continue
                    metric = metrics_module.resolve(item, np.shape(y_true[i]), y_pred[i].shape)
                    self.entries.append((i, metric, weighted))
                    self._log_names.append(_unique(prefix, metric.name, weighted, taken))
        self.built = True

    @property
    def metrics(self) -> list:
        """The metrics, those of the sample weights last; their names are without the outputs'."""
        return [metric for _, metric, _ in self.entries]

    @property
    def variables(self) -> list:
        """The variables of the metrics, once a batch has told which they are."""
        return [variable for metric in self.metrics for variable in metric.variables]

    @property
    def wanted(self) -> bool:
        return bool(self.user_metrics or self.user_weighted)

    def update_state(
        self, y_true: Any, y_pred: Any, sample_weight: Any = None, names: Names | None = None
    ) -> None:
        """Adds a batch to every metric."""
        outputs = flatten(y_pred)
        names = names or [None] * len(outputs)
        targets = _targets(y_true, len(outputs), names, "y")
        if not self.built:
            self.build(targets, outputs, names)
        weights = _targets(sample_weight, len(outputs), names, "sample_weight")
        for i, metric, weighted in self.entries:
            metric.update_state(targets[i], outputs[i], weights[i] if weighted else None)

    def result(self) -> dict[str, Any]:
        """The results, by name."""
        return {name: entry[1].result() for name, entry in zip(self._log_names, self.entries)}

    def reset_state(self) -> None:
        """Starts every metric again."""
        for metric in self.metrics:
            metric.reset_state()

    def __repr__(self) -> str:
        return f"<CompileMetrics name={self.name}>"


def _unique(prefix: str, name: str, weighted: bool, taken: dict[str, int]) -> str:
    """The name of a metric in the logs: as Keras tells those of the same name apart."""
    full = prefix + name
    if full in taken and weighted:
        full = f"{prefix}weighted_{name}"
    count = taken[full] = taken.get(full, -1) + 1
    return f"{full}_{count}" if count else full


def _per_output(given: Any, n: int, names: Names, what: str) -> list:
    """`given` as a list with one entry per output: by name, in order, or nested as the outputs."""
    if isinstance(given, dict) and not any(_is_nested(item) for item in given.values()):
        unknown = [key for key in given if key not in names]
        if unknown:
            raise ValueError(f"{what}: there is no output {unknown[0]!r}; outputs: {names}.")
        return [given.get(name) for name in names]
    if _is_nested(given):
        leaves = flatten(given)
        if len(leaves) != n:
            outputs = "1 output" if n == 1 else f"{n} outputs"
            raise ValueError(f"{what}: the model has {outputs}, got {len(leaves)} entries.")
        return leaves
    return [given] * n if n == 1 or given is None else [given] + [None] * (n - 1)


def _is_nested(given: Any) -> bool:
    return isinstance(given, (list, tuple, dict))


def _targets(given: Any, n: int, names: Names, what: str) -> list:
    """The targets (or weights) of each output."""
    if n == 1 and not _is_nested(given):
        return [given]
    if given is None or not _is_nested(given):
        return [given] * n
    return _per_output(given, n, names, what)


def _metric_lists(given: Any, n: int, names: Names) -> list[list]:
    if given is None:
        return [[] for _ in range(n)]
    if isinstance(given, dict):
        unknown = [key for key in given if key not in names]
        if unknown:
            raise ValueError(f"metrics: there is no output {unknown[0]!r}; outputs: {names}.")
        return [_as_list(given.get(name)) for name in names]
    given = _as_list(given)
    if n == 1:
        nested = len(given) == 1 and isinstance(given[0], (list, tuple))
        return [list(given[0])] if nested else [list(given)]
    if len(given) == n:
        return [_as_list(item) for item in given]
    raise ValueError(
        f"metrics: the model has {n} outputs, so give a dictionary by output name ({names}) or a "
        f"list with one list per output; got {len(given)} entries."
    )


def _as_list(item: Any) -> list:
    if item is None:
        return []
    return list(item) if isinstance(item, (list, tuple)) else [item]
