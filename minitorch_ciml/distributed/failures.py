"""Failures that would otherwise be hangs: a rank that ends alone leaves the others waiting.

- An uncaught exception, or `sys.exit` with a failure, on any rank ends the whole job, with that
  rank's traceback.
- A watchdog says when a rank has waited for the others for a minute. With
  `MINITORCH_CIML_TIMEOUT=seconds` it ends the job after that time, and shows where every thread of
  the rank stands.
"""

from __future__ import annotations

import atexit
import faulthandler
import math
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Any

TIMEOUT = "MINITORCH_CIML_TIMEOUT"

# An error that all ranks have is shown once: the others leave rank 0 this time to end the job.
_HEAD_START = 0.3  # seconds

# The launcher passes on what ranks write; it needs time for that before it ends them.
_FORWARDING = 0.3  # seconds

_PATIENCE = 60  # seconds until a rank says that it waits


def end_job_on_failure(rank: int, abort: Callable[[int], Any]) -> None:
    """From now on, a failure of this process ends all ranks.

    Args:
        rank: this process' number, for the messages.
        abort: ends the job with the exit code that it is given.
    """

    def report(
        kind: type[BaseException], error: BaseException, place: TracebackType | None
    ) -> None:
        if rank:
            time.sleep(_HEAD_START)
        lines = "".join(traceback.format_exception(kind, error, place)).splitlines()
        sys.stdout.flush()
        _say_last("".join(f"[rank {rank}] {line}\n" for line in lines))
        abort(1)

    codes: list[int] = []
    leave = sys.exit

    def exit_(status: Any = None, /) -> None:
        codes.append(status if isinstance(status, int) else int(status is not None))
        leave(status)

    def at_exit() -> None:
        # Runs before MPI's own end, which would wait for ranks that wait for this one.
        if codes and codes[-1]:
            sys.stdout.flush()
            _say_last(f"[rank {rank}] sys.exit: status {codes[-1]}, ending the job\n")
            abort(codes[-1])

    sys.excepthook = report
    sys.exit = exit_  # type: ignore[assignment]
    atexit.register(at_exit)


def _say_last(text: str) -> None:
    """Writes before the job ends, so that it is seen."""
    sys.stderr.write(text)
    sys.stderr.flush()
    time.sleep(_FORWARDING)


class Watchdog:
    """Looks after the calls that need the other ranks.

    Args:
        rank: this process' number, for the messages.
        abort: ends the job.

    Raises:
        ValueError: the variable MINITORCH_CIML_TIMEOUT is not a number of seconds.
    """

    def __init__(self, rank: int, abort: Callable[[int], Any]):
        self._rank, self._abort, self._limit = rank, abort, _limit()
        self._call: tuple[str, float] | None = None
        self._warned_of: tuple[str, float] | None = None
        threading.Thread(target=self._watch, daemon=True, name="watchdog").start()

    def begin(self, name: str) -> None:
        """A call begins that needs the other ranks."""
        self._call = name, time.monotonic()

    def end(self) -> None:
        """The call has ended."""
        self._call = None

    def _watch(self) -> None:
        while True:
            time.sleep(min(1.0, self._limit / 4))
            call = self._call
            if call is None:
                continue
            waited = time.monotonic() - call[1]
            if waited > self._limit:
                self._say(f"waits for the other ranks in {call[0]} for more than "
                          f"{self._limit:g} s ({TIMEOUT}); ending the job")  # fmt: skip
                faulthandler.dump_traceback(all_threads=True)
                _say_last("")
                self._abort(86)
            elif waited > _PATIENCE and self._warned_of is not call:
                self._warned_of = call
                self._say(
                    f"has waited for the other ranks in {call[0]} for {_PATIENCE} s. Is one of "
                    "them still busy? fit, evaluate and predict must be called on all ranks, not "
                    f"under `if rank == 0`. ({TIMEOUT}=seconds ends a job that hangs.)"
                )

    def _say(self, message: str) -> None:
        sys.stderr.write(f"[rank {self._rank}] {message}\n")
        sys.stderr.flush()


def _limit() -> float:
    """The seconds after which a call that waits ends the job."""
    text = os.environ.get(TIMEOUT)
    if not text:
        return math.inf
    try:
        limit = float(text)
    except ValueError:
        limit = 0.0
    if not limit > 0:
        raise ValueError(f"{TIMEOUT}: got {text!r}, expected a number of seconds.")
    return limit
