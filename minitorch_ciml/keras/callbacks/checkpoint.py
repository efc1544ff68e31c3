"""Callbacks that save: `ModelCheckpoint` and `BackupAndRestore`."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from minitorch_ciml import distributed
from minitorch_ciml.distributed import interruption
from minitorch_ciml.keras.callbacks.base import Callback, Logs
from minitorch_ciml.keras.callbacks.monitor import MonitorCallback
from minitorch_ciml.keras.callbacks.progress import announce
from minitorch_ciml.keras.files import replacing


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

    kept = ("best",)

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
        endings = (".weights.h5",) if save_weights_only else (".keras", ".h5")
        if not self.filepath.endswith(endings):
            raise ValueError(
                f"ModelCheckpoint: the filepath must end in {' or '.join(endings)} with "
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
        value = self.get_monitor_value(logs) if self.save_best_only else None
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
    """Lets fit go on where an interrupted run of the same script ended, with the same result.

    The state is the weights with the optimizer's, the epoch and the step, the order of the data,
    the random numbers, the metrics of the epoch so far, and what other callbacks remember (their
    `kept`). It does not depend on the number of ranks.

    SIGUSR1, by which a cluster tells that a job's time is nearly over, makes all ranks stop after
    the same step; then the state is saved and the process ends with status 75.

    Args:
        backup_dir: a folder of its own, which all machines see; deleted when fit is done.
        save_freq: "epoch", or a number of batches.
        double_checkpoint: accepted as Keras has it; the last state here is always whole.
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
        _Every("BackupAndRestore", save_freq)  # checks it
        self.backup_dir = os.fspath(backup_dir)
        self.save_freq = save_freq
        self.double_checkpoint = double_checkpoint
        self.delete_checkpoint = delete_checkpoint
        self._folder = Path(self.backup_dir)
        self._metadata = self._folder / "training_metadata.json"
        self._batches = 0  # since the last save
        self._undo: Callable[[], None] = lambda: None

    def on_train_begin(self, logs: Logs = None) -> None:
        """Restores what there is; fit does the rest with `model._resumed`."""
        if not self.model.built:
            raise ValueError(
                "BackupAndRestore: the model must be built before fit; give it an Input, or call "
                "it on a batch first."
            )
        self._undo = interruption.catch()
        self._batches = 0
        if not self._metadata.exists():
            return
        facts = json.loads(self._metadata.read_text())
        optimizer = getattr(self.model, "optimizer", None)
        if optimizer is not None:
            optimizer.build(self.model.trainable_variables)
        self.model.load_weights(str(self._folder / facts["weights"]))
        arrays = {}
        if facts["arrays"]:
            with np.load(self._folder / facts["arrays"], allow_pickle=False) as file:
                arrays = dict(file)
        self.model._resumed = facts, arrays

    def on_train_batch_begin(self, batch: int, logs: Logs = None) -> None:
        """Saves, if it is time after the batches before; the position is that of this batch."""
        if self._due():
            self._save()
        self._batches += 1
        if interruption.agreed(alone=self.model._position.alone):
            self._save()
            self._leave()

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Saves, unless it is not yet time."""
        if self.save_freq == "epoch" or self._due():
            self._save()

    def on_train_end(self, logs: Logs = None) -> None:
        """Deletes the backup."""
        self._undo()
        if self.delete_checkpoint and distributed.leads():
            shutil.rmtree(self.backup_dir, ignore_errors=True)

    def _due(self) -> bool:
        return self.save_freq != "epoch" and self._batches >= self.save_freq  # type: ignore[operator]

    def _save(self) -> None:
        self._batches = 0
        self.model.optimizer.share_accumulated()
        facts, arrays = self.model._position.state()
        if not distributed.leads():
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        name = f"epoch-{facts['epoch']}-step-{facts['step']}"
        facts["weights"], facts["arrays"] = f"{name}.weights.h5", f"{name}.npz" if arrays else None
        self.model.save_weights(str(self._folder / facts["weights"]), overwrite=True)
        if arrays:
            with replacing(self._folder / facts["arrays"]) as draft, open(draft, "wb") as file:
                np.savez(file, allow_pickle=False, **arrays)
        # This file comes last and says which the others are: until then, the last state counts.
        with replacing(self._metadata) as draft:
            draft.write_text(json.dumps(facts))
        for other in [*self._folder.glob("*.weights.h5"), *self._folder.glob("epoch-*.npz")]:
            if other.name not in (facts["weights"], facts["arrays"]):
                other.unlink()

    def _leave(self) -> None:
        position = self.model._position
        announce(
            f"minitorch_ciml: SIGUSR1: saved before step {position.step} of epoch "
            f"{position.epoch}, both from 0, in {self.backup_dir}; ending with status "
            f"{interruption.STATUS}."
        )
        self._undo()
        distributed.init().barrier()  # rank 0 writes
        sys.exit(interruption.STATUS)
