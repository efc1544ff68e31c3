"""Callbacks that save: `ModelCheckpoint` and `BackupAndRestore`."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from minitorch_ciml import distributed
from minitorch_ciml.keras.callbacks.base import Callback, Logs
from minitorch_ciml.keras.callbacks.monitor import MonitorCallback
from minitorch_ciml.keras.callbacks.progress import announce


class _Every:
    """Says when `frequency` batches have passed; "epoch" for never within an epoch."""

    def __init__(self, owner: str, frequency: str | int):
        is_count = isinstance(frequency, int) and frequency > 0
        if frequency != "epoch" and not is_count:
            raise ValueError(
                f"{owner}: got save_freq={frequency!r}, expected 'epoch' or a number of batches."
            )
        self.epoch = frequency == "epoch"
        self._frequency = frequency
        self._passed = 0
        self._last = -1

    def passed(self, batch: int) -> bool:
        """Counts the batches since the last call, over the ends of epochs."""
        last = self._last if batch > self._last else -1
        self._passed += batch - last
        self._last = batch
        if self._passed < self._frequency:  # type: ignore[operator]
            return False
        self._passed = 0
        return True


class ModelCheckpoint(MonitorCallback):
    """Saves the model, or its weights, every epoch or every so many batches.

    Args:
        filepath: may hold names of logs, "epoch" and "batch" (from 1), with formats, such as
            "model-{epoch:02d}-{val_loss:.2f}.keras". Ends in ".keras", for weights only in
            ".weights.h5".
        monitor: the metric that `save_best_only` compares.
        verbose: 1 says what it does.
        save_best_only: save only when the metric has become better.
        save_weights_only: save with `save_weights`.
        mode: "min", "max" or "auto".
        save_freq: "epoch", or a number of batches.
        initial_value_threshold: save only what is better than this.

    Raises:
        ValueError: another ending, or another `save_freq`; later, a name that is not in the logs.
    """

    def __init__(
        self,
        filepath: str | os.PathLike,
        monitor: str = "val_loss",
        verbose: int = 0,
        save_best_only: bool = False,
        save_weights_only: bool = False,
        mode: str = "auto",
        save_freq: str | int = "epoch",
        initial_value_threshold: float | None = None,
    ):
        super().__init__(monitor, mode)
        self.filepath = os.fspath(filepath)
        self.verbose = verbose
        self.save_best_only = save_best_only
        self.save_weights_only = save_weights_only
        self.save_freq = save_freq
        self.best = initial_value_threshold
        self._every = _Every("ModelCheckpoint", save_freq)
        self._epoch = 0
        ending = ".weights.h5" if save_weights_only else ".keras"
        if not self.filepath.endswith(ending):
            raise ValueError(
                f"ModelCheckpoint: the filepath must end in {ending} with "
                f"save_weights_only={save_weights_only}, got {self.filepath!r}."
            )

    def listens_to(self, hook: str) -> bool:
        """Batches matter only if they are counted."""
        if hook == "on_train_batch_end" and self._every.epoch:
            return False
        return super().listens_to(hook)

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Notes the epoch, for the name of the file."""
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Saves, if it is time."""
        if not self._every.epoch and self._every.passed(batch):
            self._save(self._epoch, logs, batch=batch + 1)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Saves, unless batches are counted."""
        if self._every.epoch:
            self._save(epoch, logs)

    def _save(self, epoch: int, logs: Logs, **batch: int) -> None:
        # As in Keras, a model whose metric is missing is saved, with a warning: better than lost.
        value = self.current(logs) if self.save_best_only else None
        if value is not None:
            before = "" if self.best is None else f" from {self.best:.5f}"
            if not self.improved(value, self.best):
                if self.verbose:
                    announce(f"Epoch {epoch + 1}: {self.monitor} did not improve{before}")
                return
            self.best = value
            if self.verbose:
                announce(f"Epoch {epoch + 1}: {self.monitor} improved{before} to {value:.5f}")
        names = {"epoch": epoch + 1, **batch, **(logs or {})}
        try:
            path = self.filepath.format(**names)
        except KeyError as error:
            raise ValueError(
                f"ModelCheckpoint: there is no {error} for {self.filepath!r}; there is: "
                f"{', '.join(names)}."
            ) from None
        if not distributed.leads():
            return
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        if self.save_weights_only:
            self.model.save_weights(path, overwrite=True)
        else:
            self.model.save(path, overwrite=True)
        if self.verbose:
            announce(f"Epoch {epoch + 1}: saved {path}")


class BackupAndRestore(Callback):
    """Lets fit go on where an interrupted run of the same script ended.

    The state is the weights, with the optimizer's, and the number of the epoch. An epoch that was
    interrupted is begun again.

    Args:
        backup_dir: a folder of its own; deleted when fit is done.
        save_freq: "epoch", or a number of batches.
        double_checkpoint: accepted as Keras has it; files are replaced whole here, so the last one
            is always good.
        delete_checkpoint: whether to delete the folder in the end.

    Raises:
        ValueError: no folder, another `save_freq`; in fit, a model that is not built.
    """

    def __init__(
        self,
        backup_dir: str | os.PathLike,
        save_freq: str | int = "epoch",
        double_checkpoint: bool = False,
        delete_checkpoint: bool = True,
    ):
        super().__init__()
        if not backup_dir:
            raise ValueError("BackupAndRestore: backup_dir is empty; give a folder.")
        self.backup_dir = os.fspath(backup_dir)
        self.save_freq = save_freq
        self.double_checkpoint = double_checkpoint
        self.delete_checkpoint = delete_checkpoint
        self._every = _Every("BackupAndRestore", save_freq)
        self._epoch = 0
        self._weights = Path(self.backup_dir, "latest.weights.h5")
        self._metadata = Path(self.backup_dir, "training_metadata.json")

    def listens_to(self, hook: str) -> bool:
        """Batches matter only if they are counted."""
        if hook == "on_train_batch_end" and self._every.epoch:
            return False
        return super().listens_to(hook)

    def on_train_begin(self, logs: Logs = None) -> None:
        """Restores what there is; fit takes the epoch from `model._initial_epoch`."""
        if not self.model.built:
            raise ValueError(
                "BackupAndRestore: the model must be built before fit; give it an Input, or call "
                "it on a batch first."
            )
        if not (self._weights.exists() and self._metadata.exists()):
            return
        optimizer = getattr(self.model, "optimizer", None)
        if optimizer is not None:
            optimizer.build(self.model.trainable_variables)
        self.model.load_weights(str(self._weights))
        self._epoch = json.loads(self._metadata.read_text())["epoch"]
        self.model._initial_epoch = self._epoch

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Notes the epoch in which an interrupted fit begins again."""
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Saves, if it is time."""
        if not self._every.epoch and self._every.passed(batch):
            self._save()

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Saves, unless batches are counted."""
        self._epoch = epoch + 1
        if self._every.epoch:
            self._save()

    def on_train_end(self, logs: Logs = None) -> None:
        """Deletes the backup."""
        if self.delete_checkpoint and distributed.leads():
            shutil.rmtree(self.backup_dir, ignore_errors=True)

    def _save(self) -> None:
        if not distributed.leads():
            return
        os.makedirs(self.backup_dir, exist_ok=True)
        self.model.save_weights(str(self._weights), overwrite=True)
        # The number comes last: if the job ends in between, an epoch is only trained again.
        draft = self._metadata.with_suffix(".tmp")
        draft.write_text(json.dumps({"epoch": self._epoch}))
        os.replace(draft, self._metadata)
