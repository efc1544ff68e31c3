"""Callbacks that keep what happened: `History` in memory, `CSVLogger` in a file."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable
from typing import Any, TextIO

from minitorch_ciml import distributed
from minitorch_ciml.keras.callbacks.base import Callback, Logs


class History(Callback):
    """What `fit` returns: every log of every epoch.

    Attributes:
        history: {name: [value in the first epoch, ...]}.
        epoch: the numbers of the epochs, from 0.
    """

    def __init__(self) -> None:
        super().__init__()
        self.history: dict[str, list] = {}
        self.epoch: list[int] = []

    def on_train_begin(self, logs: Logs = None) -> None:
        """Forgets the epochs' numbers; `history` goes on, as in Keras."""
        self.epoch = []

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Appends the logs."""
        self.epoch.append(epoch)
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(value)


class CSVLogger(Callback):
    """Writes one row per epoch: its number, then the logs, sorted by name.

    The columns are those of the first epoch; what is missing later is written as "NA".

    Args:
        filename: the file to write.
        separator: what stands between columns.
        append: continue a file that is there, without a second header.
    """

    def __init__(self, filename: str | os.PathLike, separator: str = ",", append: bool = False):
        super().__init__()
        self.filename = os.fspath(filename)
        self.separator = separator
        self.append = append
        self._file: TextIO | None = None
        self._writer: Any = None

    def on_train_begin(self, logs: Logs = None) -> None:
        """Opens the file; on rank 0."""
        self._close()
        if not distributed.leads():
            return
        self._file = open(self.filename, "a" if self.append else "w", newline="")
        self._writer = None

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Writes a row, so that it is in the file even if the next epoch fails."""
        if not distributed.leads():
            return
        logs = logs or {}
        assert self._file is not None, "CSVLogger writes between on_train_begin and on_train_end"
        if self._writer is None:
            self._writer = csv.DictWriter(
                self._file,
                ["epoch", *self._columns(logs)],
                restval="NA",
                extrasaction="ignore",
                delimiter=self.separator,
            )
            if self._file.tell() == 0:
                self._writer.writeheader()
        self._writer.writerow({"epoch": epoch, **{k: _cell(v) for k, v in logs.items()}})
        self._file.flush()

    def on_train_end(self, logs: Logs = None) -> None:
        """Closes the file."""
        self._close()

    @staticmethod
    def _columns(logs: Any) -> list[str]:
        """Sorted, with room for validation (which need not run every epoch)."""
        names = sorted(logs)
        if any(name.startswith("val_") for name in names):
            return names
        return names + [f"val_{name}" for name in names]

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def _cell(value: Any) -> Any:
    is_list = isinstance(value, Iterable) and getattr(value, "ndim", None) != 0
    if is_list and not isinstance(value, str):
        return f'"[{", ".join(map(str, value))}]"'
    return value
