"""Where the time of a distributed step goes: `profile` is filled while it is switched on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Any


class Profile:
    """Sums of one step, in seconds.

    Attributes:
        on: whether times are taken. That costs a barrier per exchange, which tells waiting for
            other ranks from exchanging with them.
        wait, exchanged: the times since `clear`.
    """

    def __init__(self) -> None:
        self.on = False
        self.clear()

    def clear(self) -> None:
        """Begins again from zero."""
        self.wait = self.exchanged = 0.0

    @contextmanager
    def exchange(self, communicator: Any) -> Iterator[None]:
        """Inside the block, gradients are exchanged."""
        if not self.on:
            yield
            return
        start = perf_counter()
        communicator.world.Barrier()
        together = perf_counter()
        yield
        self.wait += together - start
        self.exchanged += perf_counter() - together


profile = Profile()
