"""`Callback`: code that runs at fixed points of fit, evaluate and predict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Logs = Mapping[str, Any] | None

# The old hooks without "train" in their names: the new ones call them.
_OLD_NAMES = {"on_train_batch_begin": "on_batch_begin", "on_train_batch_end": "on_batch_end"}


class Callback:
    """The hooks, all empty: override those that you need.

    `logs` maps names of metrics to floats; in the batch hooks they are means over the epoch so far.

    Attributes:
        model: the model that is running.
        params: "epochs", "steps" (None if unknown) and "verbose".
        kept: the names of attributes, numbers or lists of arrays, that `BackupAndRestore` saves.
    """

    kept: tuple[str, ...] = ()

    def __init__(self) -> None:
        self.params: dict[str, Any] = {}
        self.model: Any = None

    def set_params(self, params: dict[str, Any]) -> None:
        """Receives the parameters of the run, before it begins."""
        self.params = params

    def set_model(self, model: Any) -> None:
        """Receives the model, before the run begins."""
        self.model = model

    def listens_to(self, hook: str) -> bool:
        """Whether the hook of this name does anything here; one that does not is never called."""
        names = [hook, _OLD_NAMES[hook]] if hook in _OLD_NAMES else [hook]
        return any(
            getattr(getattr(self, name), "__func__", None) is not getattr(Callback, name)
            for name in names
        )

    def reads_logs(self) -> bool:
        """Whether `on_train_batch_end` looks at its logs this time: on a GPU they must be fetched.

        Where no callback does, they are tensors there, and may change with the next step.
        """
        return True

    def on_train_begin(self, logs: Logs = None) -> None:
        """Runs when fit begins."""

    def on_train_end(self, logs: Logs = None) -> None:
        """Runs when fit ends; `logs` are those of the last epoch."""

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Runs when an epoch of fit begins; `epoch` counts from 0."""

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Runs when an epoch of fit ends, after validation, whose metrics begin with "val_"."""

    def on_train_batch_begin(self, batch: int, logs: Logs = None) -> None:
        """Runs before a training step; `batch` counts from 0 in every epoch."""
        self.on_batch_begin(batch, logs)

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Runs after a training step."""
        self.on_batch_end(batch, logs)

    def on_batch_begin(self, batch: int, logs: Logs = None) -> None:
        """The old name of `on_train_batch_begin`."""

    def on_batch_end(self, batch: int, logs: Logs = None) -> None:
        """The old name of `on_train_batch_end`."""

    def on_test_begin(self, logs: Logs = None) -> None:
        """Runs when evaluate, or the validation in fit, begins."""

    def on_test_end(self, logs: Logs = None) -> None:
        """Runs when evaluate, or the validation in fit, ends."""

    def on_test_batch_begin(self, batch: int, logs: Logs = None) -> None:
        """Runs before a batch is evaluated."""

    def on_test_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Runs after a batch was evaluated."""

    def on_predict_begin(self, logs: Logs = None) -> None:
        """Runs when predict begins."""

    def on_predict_end(self, logs: Logs = None) -> None:
        """Runs when predict ends."""

    def on_predict_batch_begin(self, batch: int, logs: Logs = None) -> None:
        """Runs before a batch is predicted."""

    def on_predict_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Runs after a batch was predicted; `logs` may hold "outputs"."""


HOOKS = tuple(name for name in vars(Callback) if name.startswith("on_"))
