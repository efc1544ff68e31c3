"""Horovod's callbacks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minitorch_ciml import distributed
from minitorch_ciml.keras.callbacks import Callback


class BroadcastGlobalVariablesCallback(Callback):
    """Gives the model and optimizer of all ranks the values of rank `root_rank` when fit begins.

    A model that takes its shapes from the data gets them after the first batch.
    """

    def __init__(self, root_rank: int, device: str = ""):
        super().__init__()
        self.root_rank = root_rank
        self._done = False

    def on_train_begin(self, logs: Any = None) -> None:
        """Broadcasts, if there are weights already."""
        self._done = False
        if self.model.built:
            self.model.optimizer.build(self.model.trainable_weights)
            self._broadcast()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Broadcasts after the first batch, if there were no weights before."""
        if not self._done:
            self._broadcast()

    def _broadcast(self) -> None:
        variables = [*self.model.weights, *self.model.optimizer.variables]
        distributed.init().broadcast_variables(variables, self.root_rank)
        self._done = True


class MetricAverageCallback(Callback):
    """Replaces the logs of an epoch by their means over the ranks; to stand before the callbacks
    that use them, such as EarlyStopping."""

    def __init__(self, device: str = ""):
        super().__init__()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Averages the numbers among the logs."""
        if not isinstance(logs, dict):
            return
        names = sorted(name for name, value in logs.items() if isinstance(value, (int, float)))
        means = np.array([logs[name] for name in names], np.float64)
        logs.update(zip(names, distributed.init().allreduce(means, "mean").tolist()))


class LearningRateScheduleCallback(Callback):
    """Sets learning rate = initial_lr * multiplier(epoch) from one epoch to another.

    Args:
        initial_lr: the rate that is multiplied.
        multiplier: a number, or a function of the epoch.
        start_epoch, end_epoch: the first epoch, and the first one after the last; None: no end.
        staircase: once per epoch; otherwise at every batch, with fractions of epochs.
        momentum_correction: in the step after a change of the rate, the momentum is multiplied by
            new rate / old rate, because what is kept of the last steps was made with the old one
            (Goyal et al. 2017).
        steps_per_epoch: for fractions, where fit does not know it.

    Raises:
        ValueError: fractions of epochs, but an unknown number of steps.
    """

    def __init__(
        self,
        initial_lr: float,
        multiplier: float | Callable[[float], float],
        start_epoch: int = 0,
        end_epoch: int | None = None,
        staircase: bool = True,
        momentum_correction: bool = True,
        steps_per_epoch: int | None = None,
    ):
        super().__init__()
        self.initial_lr = initial_lr
        self.multiplier = multiplier
        self.start_epoch = start_epoch
        self.end_epoch = end_epoch
        self.staircase = staircase and callable(multiplier) or not callable(multiplier)
        self.momentum_correction = momentum_correction
        self.steps_per_epoch = steps_per_epoch
        self._epoch = 0
        self._momentum: float | None = None  # what it was, while it is corrected

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Notes the epoch."""
        self._epoch = epoch

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Sets the rate: of a staircase at the start of the epoch, otherwise at every batch."""
        self._restore_momentum()
        if self.staircase:
            if batch == 0:
                self._set(self._epoch)
        else:
            steps = self.steps_per_epoch or self.params.get("steps")
            if not steps:
                raise ValueError(
                    f"{type(self).__name__}: the steps of an epoch are not known; pass "
                    "steps_per_epoch."
                )
            self._set(self._epoch + batch / steps)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Adds the rate to the logs, and so to the history."""
        self._restore_momentum()
        if isinstance(logs, dict):
            logs["lr"] = float(self.model.optimizer.learning_rate)

    def _set(self, epoch: float) -> None:
        if epoch < self.start_epoch or (self.end_epoch is not None and epoch >= self.end_epoch):
            return
        factor = self.multiplier(epoch) if callable(self.multiplier) else self.multiplier
        optimizer = self.model.optimizer
        old, new = float(optimizer.learning_rate), self.initial_lr * factor
        optimizer.learning_rate = new
        momentum = getattr(optimizer, "momentum", 0.0)
        if self.momentum_correction and momentum and old and new != old:
            self._momentum = momentum
            optimizer.momentum = momentum * new / old

    def _restore_momentum(self) -> None:
        if self._momentum is not None:
            self.model.optimizer.momentum, self._momentum = self._momentum, None


class LearningRateWarmupCallback(LearningRateScheduleCallback):
    """Raises the learning rate from initial_lr / size to initial_lr in the first epochs.

    Large batches need large rates, which fail at the start (Goyal et al. 2017).

    Args:
        initial_lr: the rate after the warm-up: usually that of one process times `size()`.
        warmup_epochs: how long it takes.
        momentum_correction: see `LearningRateScheduleCallback`.
        steps_per_epoch: where fit does not know it.
        verbose: 1 says when the warm-up is over.
    """

    def __init__(
        self,
        initial_lr: float,
        warmup_epochs: float = 5,
        momentum_correction: bool = True,
        steps_per_epoch: int | None = None,
        verbose: int = 0,
    ):
        size = distributed.init().size

        def multiplier(epoch: float) -> float:
            # The last batch of the warm-up reaches the full rate.
            epoch += 1 / (self.steps_per_epoch or self.params.get("steps") or 1)
            return 1 / size * (epoch * (size - 1) / warmup_epochs + 1)

        super().__init__(
            initial_lr, multiplier, 0, None, False, momentum_correction, steps_per_epoch
        )
        self.end_epoch = warmup_epochs  # type: ignore[assignment]
        self.verbose = verbose

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        super().on_epoch_end(epoch, logs)
        over = epoch + 1 >= self.end_epoch > epoch  # type: ignore[operator]
        if over and self.verbose and distributed.init().rank == 0:
            rate = float(self.model.optimizer.learning_rate)
            print(f"Epoch {epoch + 1}: the warm-up is over, learning rate {rate:g}", flush=True)
