"""`DistributedProfiler`: where the time of steps on several ranks goes."""

from __future__ import annotations

from time import perf_counter

import numpy as np

from minitorch_ciml import distributed
from minitorch_ciml.distributed import profile
from minitorch_ciml.keras.callbacks.base import Callback, Logs
from minitorch_ciml.keras.callbacks.progress import announce

PARTS = ("compute", "exchange", "wait")


class DistributedProfiler(Callback):
    """Measures how long steps compute, exchange gradients, and wait for the slowest rank.

    All ranks must have it. In the measured steps the ranks wait for each other before they exchange
    gradients, so that waiting can be told from exchanging; that makes them a little slower. Where
    gradients are sent while backward runs, "exchange" is what was not hidden by it.

    Args:
        first: so many steps are not measured: kernels are compiled in the first ones.
        steps: how many are measured.

    Attributes:
        seconds: (ranks, 3): the means of a step on each rank: compute, exchange, wait; None until
            the end of fit.
    """

    def __init__(self, first: int = 20, steps: int = 100):
        super().__init__()
        if first < 0 or steps < 1:
            raise ValueError(
                f"DistributedProfiler: got first={first}, steps={steps}; expected 0 or more, and 1 "
                "or more."
            )
        self.first, self.steps = first, steps
        self.seconds: np.ndarray | None = None

    def on_train_begin(self, logs: Logs = None) -> None:
        """Starts anew."""
        self._rows: list[tuple[float, ...]] = []
        self._count = 0
        self._began: float | None = None
        self.seconds = None

    def on_train_batch_begin(self, batch: int, logs: Logs = None) -> None:
        """Ends the measurement of the step before, and begins another."""
        now = perf_counter()
        if self._began is not None and self._count > self.first:
            computed = now - self._began - profile.exchanged - profile.wait
            self._rows.append((computed, profile.exchanged, profile.wait))
        profile.clear()
        profile.on = self.first <= self._count < self.first + self.steps
        self._began = now if profile.on else None
        self._count += 1

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Drops the last step of an epoch: validation came after it."""
        self._began = None

    def on_train_end(self, logs: Logs = None) -> None:
        """Brings the ranks' means together; rank 0 prints them."""
        profile.on = False
        own = np.mean(self._rows, axis=0) if self._rows else np.full(3, np.nan)
        self.seconds = np.array(distributed.init().allgather_object(own.tolist()))
        announce(self._table(self.seconds))

    def _table(self, seconds: np.ndarray) -> str:
        lines = [f"A step, in ms (mean of {len(self._rows)}):"]
        lines.append("rank " + "".join(f"{part:>10}" for part in PARTS))
        lines += [
            f"{rank:4} " + "".join(f"{1e3 * s:10.3f}" for s in row)
            for rank, row in enumerate(seconds)
        ]
        return "\n".join(lines)
