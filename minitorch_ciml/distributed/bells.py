"""How the ranks of one machine tell each other that they are somewhere: one rings, others sleep."""

from __future__ import annotations

import os
import select
import weakref
from array import array
from collections.abc import Callable, Sequence
from contextlib import suppress
from time import perf_counter

_NAME = "H"  # what a rank writes: its number, as uint16

# A rank that has a core of its own is awake when the others come; one that shares its core leaves
# it to them soon.
_AWAKE = 5e-5  # seconds
_NAP = 1  # milliseconds


class Bells:
    """One bell per rank: a named pipe, into which the other ranks write who has arrived.

    Who waits at a pipe leaves its core to the others. MPI's barrier would keep it busy, and
    `sched_yield` is only a wish: of two ranks on one core, one was seen to ask in vain for 2.4 ms,
    while the other had 0.4 ms left to do.

    Args:
        paths: the pipes of all ranks.
        rank: this one's number.
        meet: returns when all ranks have called it.
        meanwhile: is called now and then by a rank that waits.
    """

    def __init__(
        self,
        paths: Sequence[str],
        rank: int,
        meet: Callable[[], object],
        meanwhile: Callable[[], object],
    ):
        self._own = os.open(paths[rank], os.O_RDONLY | os.O_NONBLOCK)
        meet()  # a pipe that nobody reads cannot be opened for writing
        self._others = [os.open(p, os.O_WRONLY) for r, p in enumerate(paths) if r != rank]
        meet()
        weakref.finalize(self, _close, [self._own, *self._others])
        self._rank, self._meanwhile = rank, meanwhile
        self._bell = select.poll()
        self._bell.register(self._own, select.POLLIN)
        self._arrivals = [0] * len(paths)  # how often each rank has come

    def arrive(self) -> Arrival:
        """This rank is here, for the next time."""
        self._arrivals[self._rank] += 1
        name = array(_NAME, [self._rank]).tobytes()
        for other in self._others:
            with suppress(BrokenPipeError):  # it has ended, and ends the job or is reported
                os.write(other, name)
        return Arrival(self, self._arrivals[self._rank])

    def have_rung(self, times: int) -> bool:
        """Whether all ranks have arrived so many times."""
        if self._bell.poll(0):
            names = array(_NAME, os.read(self._own, 4096))
            if not names:  # all others have ended: wait for the job's end, or the watchdog's word
                self._bell.unregister(self._own)
            for name in names:
                self._arrivals[name] += 1
        return min(self._arrivals) >= times

    def wait(self, times: int) -> None:
        """Returns when all ranks have arrived so many times."""
        awake = perf_counter() + _AWAKE
        while not self.have_rung(times):
            if perf_counter() < awake:
                os.sched_yield()
            elif not self._bell.poll(_NAP):
                self._meanwhile()


def _close(pipes: Sequence[int]) -> None:
    for pipe in pipes:
        os.close(pipe)


class Arrival:
    """One rank has arrived; `done` when all ranks of the machine have."""

    def __init__(self, bells: Bells, times: int):
        self._bells, self._times = bells, times

    def done(self) -> bool:
        """Whether all ranks are here."""
        return self._bells.have_rung(self._times)

    def wait(self) -> None:
        """Waits until all ranks are here."""
        self._bells.wait(self._times)
