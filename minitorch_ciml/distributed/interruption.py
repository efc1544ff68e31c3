"""SIGUSR1: how a cluster says that a job's time is over. All ranks stop after the same step.

A signal may come to one rank, or to each at another moment. So a rank that gets it only notes it;
the note travels with the next exchange of gradients, and after that all ranks know.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable

# How the process ends when it has saved: EX_TEMPFAIL, "try again later".
STATUS = 75

_requested = _agreed = False


def requested() -> bool:
    """Whether this process has got the signal."""
    return _requested


def agree(wanted: bool) -> None:
    """Notes that all ranks know of the signal that some rank has got."""
    global _agreed
    _agreed = _agreed or wanted


def agreed(alone: bool) -> bool:
    """Whether to stop now: all ranks give the same answer.

    Args:
        alone: there are no other ranks to agree with.
    """
    return _requested if alone else _agreed


def catch() -> Callable[[], None]:
    """From now on, SIGUSR1 is noted and does not end the process; returns what undoes it."""
    global _requested, _agreed
    _requested = _agreed = False
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGUSR1"):
        return lambda: None

    def note(number: int, frame: object) -> None:
        global _requested
        _requested = True

    before = signal.signal(signal.SIGUSR1, note)

    def undo() -> None:
        signal.signal(signal.SIGUSR1, before)

    return undo
