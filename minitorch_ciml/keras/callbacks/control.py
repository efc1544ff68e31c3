"""Callbacks that steer: `LearningRateScheduler`, `TerminateOnNaN`; and `LambdaCallback`."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

from minitorch_ciml.autograd import Tensor
from minitorch_ciml.keras.callbacks.base import HOOKS, Callback, Logs
from minitorch_ciml.keras.callbacks.progress import announce


class LearningRateScheduler(Callback):
    """Sets the learning rate at the begin of every epoch, and adds it to the epoch's logs.

    Args:
        schedule: `schedule(epoch, rate)` or `schedule(epoch)` that returns the new rate; epochs
            count from 0.
        verbose: 1 says what it sets.

    Raises:
        TypeError: the schedule returns no number.
    """

    def __init__(self, schedule: Callable, verbose: int = 0):
        super().__init__()
        if not callable(schedule):
            raise TypeError(
                f"LearningRateScheduler: got {schedule!r}, expected a function of the epoch, such "
                "as lambda epoch, rate: 0.9 * rate."
            )
        self.schedule = schedule
        self.verbose = verbose
        self._takes_rate = _accepts(schedule, 2)

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Asks the schedule."""
        optimizer = self.model.optimizer
        rate = (float(optimizer.learning_rate),) if self._takes_rate else ()
        new = self.schedule(epoch, *rate)
        try:
            new = float(new)
        except (TypeError, ValueError):
            raise TypeError(
                f"LearningRateScheduler: the schedule returned {new!r}; expected a number."
            ) from None
        optimizer.learning_rate = new
        if self.verbose:
            announce(f"Epoch {epoch + 1}: learning rate set to {new:g}")

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Adds "learning_rate" to the logs, and so to the history."""
        if isinstance(logs, dict):
            logs["learning_rate"] = float(self.model.optimizer.learning_rate)


def _accepts(function: Callable, count: int) -> bool:
    """Whether `function` can be called with so many arguments."""
    try:
        inspect.signature(function).bind(*range(count))
    except TypeError:
        return False
    except ValueError:  # a function without a signature, such as some that are written in C
        return True
    return True


_BATCHES = 20  # a GPU that is asked after every batch would wait for the host after every batch


class TerminateOnNaN(Callback):
    """Stops fit when the loss is infinite or no number.

    Args:
        raise_error: raise RuntimeError instead.
    """

    def __init__(self, raise_error: bool = False):
        super().__init__()
        self.raise_error = raise_error
        self._batches = 0

    def reads_logs(self) -> bool:
        """Now and then: the loss is a mean over the epoch, so what is no number stays in it."""
        self._batches += 1
        return self._batches % _BATCHES == 0

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Looks at the loss of the whole epoch."""
        if not self.model.stop_training:
            self.on_train_batch_end(self._batches, logs)

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Looks at the loss."""
        loss = (logs or {}).get("loss")
        if loss is None or isinstance(loss, Tensor) or math.isfinite(loss):
            return
        if self.raise_error:
            raise RuntimeError(f"the loss is {float(loss)} after batch {batch}; training ends.")
        announce(f"Batch {batch}: the loss is {float(loss)}, training ends")
        self.model.stop_training = True


class LambdaCallback(Callback):
    """A callback made of functions: `LambdaCallback(on_epoch_end=lambda epoch, logs: ...)`.

    Args:
        on_epoch_begin, on_epoch_end, on_train_batch_begin, on_train_batch_end: functions of
            (number, logs).
        on_train_begin, on_train_end: functions of (logs).
        hooks: the other hooks, by name.

    Raises:
        TypeError: there is no hook of that name.
    """

    def __init__(
        self,
        on_epoch_begin: Callable | None = None,
        on_epoch_end: Callable | None = None,
        on_train_begin: Callable | None = None,
        on_train_end: Callable | None = None,
        on_train_batch_begin: Callable | None = None,
        on_train_batch_end: Callable | None = None,
        **hooks: Any,
    ):
        super().__init__()
        given = {
            "on_epoch_begin": on_epoch_begin,
            "on_epoch_end": on_epoch_end,
            "on_train_begin": on_train_begin,
            "on_train_end": on_train_end,
            "on_train_batch_begin": on_train_batch_begin,
            "on_train_batch_end": on_train_batch_end,
            **hooks,
        }
        for name, function in given.items():
            if name not in HOOKS:
                raise TypeError(
                    f"LambdaCallback: there is no hook {name!r}; there are: {', '.join(HOOKS)}."
                )
            if function is not None:
                setattr(self, name, function)
