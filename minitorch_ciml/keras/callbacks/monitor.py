"""Callbacks that watch one metric: `EarlyStopping` and `ReduceLROnPlateau`."""

from __future__ import annotations

import re
import warnings
from typing import Any

import numpy as np

from minitorch_ciml.keras.callbacks.base import Callback, Logs
from minitorch_ciml.keras.callbacks.progress import announce

# What "auto" takes for better, where the model's metric of that name does not say.
_HIGHER = re.compile(r"acc|auc|precision|recall|sensitivity|specificity|iou|score|r2|similarity")
_LOWER = re.compile(r"loss|error|entropy|hinge|poisson|divergence|\b(mse|mae|mape|msle|rmse)\b")


class MonitorCallback(Callback):
    """The base of callbacks that ask whether a metric has become better.

    Args:
        monitor: the metric's name in the logs.
        mode: "min" (lower is better), "max", or "auto": by the metric.
        min_delta: changes smaller than that are no improvement.

    Raises:
        ValueError: another mode; later, if "auto" cannot tell.
    """

    def __init__(self, monitor: str = "val_loss", mode: str = "auto", min_delta: float = 0.0):
        super().__init__()
        if mode not in ("auto", "min", "max"):
            raise ValueError(
                f"{type(self).__name__}: got mode={mode!r}, expected 'min', 'max' or 'auto'."
            )
        self.monitor = monitor
        self.mode = mode
        self.min_delta = abs(min_delta)
        self.best: float | None = None
        self._higher: bool | None = None if mode == "auto" else mode == "max"

    def improved(self, value: float, reference: float | None) -> bool:
        """Whether `value` is better than `reference` by more than `min_delta`."""
        if self._higher is None:
            self._higher = self._find_direction()
        if reference is None:
            return True
        if self._higher:
            return value - self.min_delta > reference
        return value + self.min_delta < reference

    def get_monitor_value(self, logs: Logs) -> float | None:
        """The metric's value, or None with a warning."""
        value = (logs or {}).get(self.monitor)
        if value is None:
            warnings.warn(
                f"{type(self).__name__}: there is no {self.monitor!r} in the logs, so nothing is "
                f"done; there is: {', '.join(logs or ()) or 'nothing'}.",
                stacklevel=4,
            )
            return None
        return float(value)

    def _find_direction(self) -> bool:
        name = self.monitor.removeprefix("val_")
        for metric in getattr(self.model, "metrics", ()):
            for m in getattr(metric, "metrics", [metric]):
                direction = getattr(m, "_direction", None)
                # With several outputs, that of the output stands before the metric's name.
                if f"_{name}".endswith(f"_{getattr(m, 'name', '')}") and direction:
                    return direction == "up"
        # The loss itself comes first: an "accuracy_loss" is a loss.
        if _LOWER.search(name.replace("_", " ")):
            return False
        if _HIGHER.search(name):
            return True
        raise ValueError(
            f"{type(self).__name__}: whether a higher {self.monitor!r} is better is not known; "
            "pass mode='max' or mode='min'."
        )


class EarlyStopping(MonitorCallback):
    """Stops fit when a metric has not become better for `patience` epochs.

    Args:
        monitor: the metric's name in the logs.
        min_delta: smaller changes are no improvement.
        patience: how many epochs without improvement are allowed.
        verbose: 1 says when it stops.
        mode: "min", "max" or "auto".
        baseline: values that are no better than this do not count as improvement.
        restore_best_weights: give the model the weights of its best epoch in the end.
        start_from_epoch: the first epoch that is looked at.
    """

    kept = ("wait", "stopped_epoch", "best", "best_epoch", "best_weights")

    def __init__(
        self,
        monitor: str = "val_loss",
        min_delta: float = 0.0,
        patience: int = 0,
        verbose: int = 0,
        mode: str = "auto",
        baseline: float | None = None,
        restore_best_weights: bool = False,
        start_from_epoch: int = 0,
    ):
        super().__init__(monitor, mode, min_delta)
        self.patience = patience
        self.verbose = verbose
        self.baseline = baseline
        self.restore_best_weights = restore_best_weights
        self.start_from_epoch = start_from_epoch
        self._reset()

    def _reset(self) -> None:
        self.wait = 0
        self.stopped_epoch = 0
        self.best = None
        self.best_epoch = 0
        self.best_weights: Any = None

    def on_train_begin(self, logs: Logs = None) -> None:
        """Starts anew, so that one object can serve several fits."""
        self._reset()

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Looks at the metric."""
        value = self.get_monitor_value(logs)
        if value is None or epoch < self.start_from_epoch:
            return
        self.wait += 1
        if self.improved(value, self.best):
            self.best = value
            self.best_epoch = epoch
            if self.restore_best_weights:
                self.best_weights = self.model.get_weights()
            if self.baseline is None or self.improved(value, self.baseline):
                self.wait = 0
        elif self.wait >= self.patience and epoch > 0:
            self.stopped_epoch = epoch
            self.model.stop_training = True

    def on_train_end(self, logs: Logs = None) -> None:
        """Restores the best weights, if asked to."""
        if self.verbose and self.stopped_epoch:
            announce(f"Epoch {self.stopped_epoch + 1}: early stopping")
        if self.restore_best_weights and self.best_weights is not None:
            if self.verbose:
                announce(f"Restoring the weights of the best epoch: {self.best_epoch + 1}")
            self.model.set_weights(self.best_weights)


class ReduceLROnPlateau(MonitorCallback):
    """Lowers the learning rate when a metric has not become better for `patience` epochs.

    Args:
        monitor: the metric's name in the logs.
        factor: new rate = rate * factor; below 1.
        patience: how many epochs without improvement are allowed.
        verbose: 1 says when it lowers the rate.
        mode: "min", "max" or "auto".
        min_delta: smaller changes are no improvement.
        cooldown: how many epochs after lowering are not counted.
        min_lr: the lowest rate.
        epsilon: Keras 2's name of `min_delta`.

    Raises:
        ValueError: a factor of 1 or more.
    """

    kept = ("wait", "cooldown_counter", "best")

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: int = 10,
        verbose: int = 0,
        mode: str = "auto",
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
        epsilon: float | None = None,
    ):
        super().__init__(monitor, mode, min_delta if epsilon is None else epsilon)
        if factor >= 1:
            raise ValueError(f"ReduceLROnPlateau: factor must be below 1, got {factor}.")
        self.factor = factor
        self.patience = patience
        self.verbose = verbose
        self.cooldown = cooldown
        self.min_lr = min_lr
        self.wait = 0
        self.cooldown_counter = 0

    def on_train_begin(self, logs: Logs = None) -> None:
        """Starts anew, so that one object can serve several fits."""
        self.best = None
        self.wait = self.cooldown_counter = 0

    def in_cooldown(self) -> bool:
        """Whether epochs are not counted at this time."""
        return self.cooldown_counter > 0

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Looks at the metric, and adds the learning rate to the logs."""
        if isinstance(logs, dict):
            logs["learning_rate"] = float(self.model.optimizer.learning_rate)
        value = self.get_monitor_value(logs)
        if value is None:
            return
        if self.in_cooldown():
            self.cooldown_counter -= 1
            self.wait = 0
        if self.improved(value, self.best):
            self.best = value
            self.wait = 0
        elif not self.in_cooldown():
            self.wait += 1
            if self.wait >= self.patience:
                self._reduce(epoch)

    def _reduce(self, epoch: int) -> None:
        optimizer = self.model.optimizer
        rate = float(optimizer.learning_rate)
        if rate <= np.float32(self.min_lr):  # the rate is a float32 too
            return
        optimizer.learning_rate = rate = max(rate * self.factor, self.min_lr)
        self.cooldown_counter = self.cooldown
        self.wait = 0
        if self.verbose:
            announce(f"Epoch {epoch + 1}: learning rate reduced to {rate:g}")
