"""What `fit` goes through: the batches to train on and to validate on, epoch by epoch."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np

from minitorch_ciml.keras.models.data import ArrayBatches, Batches, batches


def training_data(
    data: tuple,
    batch_size: int | None,
    steps: int | None,
    seed: int | None,
    validation_data: Any,
    validation_split: float,
    validation_steps: int | None,
    validation_batch_size: int | None,
) -> tuple[Batches, Batches | None]:
    """The batches to train on and those to validate on, from the arguments of `fit`."""
    x, y, weight = data
    source = batches(x, y, weight, batch_size, steps, seed)
    if validation_split and validation_data is None:
        if not isinstance(source, ArrayBatches):
            raise ValueError("validation_split needs arrays; pass validation_data instead.")
        (x, y, weight), validation_data = source.split(validation_split)
        source = batches(x, y, weight, batch_size, None, seed)
    if validation_data is None:
        return source, None
    held_out = validation_data if isinstance(validation_data, (tuple, list)) else (validation_data,)
    x, y, weight = (*held_out, None, None)[:3]
    size = validation_batch_size or batch_size
    return source, batches(x, y, weight, size, validation_steps)


def is_due(epoch: int, frequency: Any) -> bool:
    """Whether to validate after this epoch (from 0): every so many, or those of a list (from 1)."""
    if isinstance(frequency, (int, np.integer)):
        if frequency < 1:
            raise ValueError(f"fit: validation_freq must be at least 1, got {frequency}.")
        return (epoch + 1) % frequency == 0
    return epoch + 1 in frequency


class Stream:
    """The epochs of a source; with a number of steps, each goes on where the last one ended.

    Data that end within such an epoch end it, with a warning; the next one starts them again.
    """

    def __init__(self, source: Batches, steps: int | None):
        self.source, self.steps = source, steps
        self.exhausted = False
        self._running: Iterator | None = None
        self._seen = 0

    def epoch(self, number: int, first: int = 0) -> Iterator:
        """The batches of an epoch, from batch `first` on."""
        if self.steps is None:
            yield from islice(self.source.epoch(number), first, None)
            return
        if self._running is None or self._seen == self.source.steps:
            self._running, self._seen = islice(self.source.epoch(number), first, None), first
        for done in range(first, self.steps):
            batch = next(self._running, None)
            if batch is None:
                warnings.warn(
                    f"the data ended after {done} of {self.steps} steps of this epoch; give fewer "
                    "steps_per_epoch, or a source that goes on.",
                    stacklevel=2,
                )
                self._running = None
                self.exhausted = getattr(self.source, "endless", False)
                return
            self._seen += 1
            yield batch


def only_batch(x: Any, y: Any = None, sample_weight: Any = None) -> tuple:
    """Arrays as the one batch that they are."""
    source = batches(x, y, sample_weight)
    if not isinstance(source, ArrayBatches):
        raise ValueError("expected arrays for a single batch; use fit for generators.")
    return source.batch(slice(None))
