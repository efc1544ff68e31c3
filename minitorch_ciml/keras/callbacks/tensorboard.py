"""`TensorBoard`: logs and histograms of weights for the program of that name."""

from __future__ import annotations

import os
from pathlib import Path
from time import time
from typing import Any

import numpy as np

from minitorch_ciml import distributed
from minitorch_ciml.keras.callbacks.base import Callback, Logs


class TensorBoard(Callback):
    """Writes event files that `tensorboard --logdir logs` shows.

    They have the folders (`train`, `validation`) and tags (`epoch_loss`, `batch_loss`,
    `epoch_learning_rate`, `dense/kernel/histogram`, ...) of Keras. Needs the package tensorboard.

    Args:
        log_dir: the folder; give each run one of its own.
        histogram_freq: write histograms of the weights every so many epochs; 0: never.
        write_graph: as in Keras, without effect: the graph is not written.
        write_steps_per_second: also how many steps an epoch (and a step) made in a second.
        update_freq: "epoch"; or "batch" (1), or N, to write logs every N steps too.
        write_images, profile_batch, embeddings_freq: must be off.

    Raises:
        ImportError: tensorboard is not installed.
        ValueError: something is asked for that is not there.
    """

    kept = ("_step",)

    def __init__(
        self,
        log_dir: str | os.PathLike = "logs",
        histogram_freq: int = 0,
        write_graph: bool = True,
        write_images: bool = False,
        write_steps_per_second: bool = False,
        update_freq: Any = "epoch",
        profile_batch: Any = 0,
        embeddings_freq: int = 0,
        embeddings_metadata: Any = None,
    ):
        super().__init__()
        if write_images or profile_batch or embeddings_freq:
            raise ValueError(
                "TensorBoard: write_images, profile_batch and embeddings_freq are not there; leave "
                "them out."
            )
        is_number = isinstance(update_freq, (int, np.integer)) and update_freq > 0
        if not is_number and update_freq not in ("epoch", "batch"):
            raise ValueError(
                f"TensorBoard: update_freq must be 'epoch', 'batch' or a number, got "
                f"{update_freq!r}."
            )
        _import_tensorboard()  # what is missing is told before the training
        self.log_dir = Path(log_dir)
        self.histogram_freq = histogram_freq
        self.write_steps_per_second = write_steps_per_second
        self.update_freq = 1 if update_freq == "batch" else update_freq
        self._writers: dict[str, Any] = {}
        self._step = 0  # of all epochs
        self._step_start = self._epoch_start = 0.0
        self._first_step = 0  # of this epoch
        self._in_fit = False

    def listens_to(self, hook: str) -> bool:
        """Batches matter only where something is written about them."""
        if "batch" in hook and self.update_freq == "epoch" and not self.write_steps_per_second:
            return False
        return super().listens_to(hook)

    def reads_logs(self) -> bool:
        """Only at the steps that are written."""
        return self._writes_step()

    def on_train_begin(self, logs: Logs = None) -> None:
        """Counts the steps of this run from 0."""
        self._step, self._in_fit = 0, True

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Starts the epoch's clock."""
        self._epoch_start, self._first_step = time(), self._step

    def on_train_batch_begin(self, batch: int, logs: Logs = None) -> None:
        """Starts the step's clock."""
        self._step_start = time()

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Writes `batch_...`, if it is this step's turn."""
        if self.write_steps_per_second:
            rate = 1 / (time() - self._step_start)
            self._write("train", self._step, {"batch_steps_per_second": rate})
        if self._writes_step():
            self._write("train", self._step, {f"batch_{k}": v for k, v in (logs or {}).items()})
        self._step += 1

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Writes `epoch_...`, and the histograms if it is this epoch's turn."""
        logs = dict(logs or {})
        validation = {k: logs.pop(k) for k in list(logs) if k.startswith("val_")}
        if getattr(self.model, "optimizer", None) is not None:
            logs["learning_rate"] = float(self.model.optimizer.learning_rate)
        if self.write_steps_per_second:
            seconds = time() - self._epoch_start
            logs["steps_per_second"] = (self._step - self._first_step) / seconds
        self._write("train", epoch, {f"epoch_{k}": v for k, v in logs.items()})
        validation = {f"epoch_{k.removeprefix('val_')}": v for k, v in validation.items()}
        self._write("validation", epoch, validation)
        if self.histogram_freq and epoch % self.histogram_freq == 0:
            weights = {f"{w.path}/histogram": w for x in self.model.layers for w in x.weights}
            self._write("train", epoch, weights)

    def on_test_end(self, logs: Logs = None) -> None:
        """Writes `evaluation_..._vs_iterations`."""
        if getattr(self.model, "optimizer", None) is not None:
            named = {f"evaluation_{k}_vs_iterations": v for k, v in (logs or {}).items()}
            self._write("validation", int(self.model.optimizer.iterations), named)
        if not self._in_fit:
            self._close()

    def on_train_end(self, logs: Logs = None) -> None:
        """Closes the files."""
        self._in_fit = False
        self._close()

    def _writes_step(self) -> bool:
        return self.update_freq != "epoch" and self._step % self.update_freq == 0

    def _write(self, folder: str, step: int, values: dict[str, Any]) -> None:
        """Numbers become scalars, arrays histograms; on rank 0."""
        if not values or not distributed.leads():
            return
        event_file, event, scalar, histogram = _import_tensorboard()
        if folder not in self._writers:
            self._writers[folder] = event_file(str(self.log_dir / folder))
        for tag, value in values.items():
            array = np.asarray(value)
            summary = histogram(tag, array) if array.ndim else scalar(tag, array)
            self._writers[folder].add_event(event(step=step, wall_time=time(), summary=summary))
        self._writers[folder].flush()

    def _close(self) -> None:
        for writer in self._writers.values():
            writer.close()
        self._writers = {}


def _import_tensorboard() -> tuple:
    """What writes a file, and what makes an event, a scalar and a histogram in it."""
    try:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.plugins.histogram.summary import histogram_pb
        from tensorboard.plugins.scalar.summary import scalar_pb
        from tensorboard.summary.writer.event_file_writer import EventFileWriter
    except ImportError as error:
        raise ImportError(
            f"TensorBoard needs the package tensorboard ({error}): pip install tensorboard"
        ) from None
    return EventFileWriter, Event, scalar_pb, histogram_pb
