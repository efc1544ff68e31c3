"""Failures that would otherwise be hangs: a rank that ends alone leaves the others waiting.

- An uncaught exception, or `sys.exit` with a failure, on any rank ends the whole job, with that
  rank's traceback.
- A watchdog says when a rank has waited for the others for a minute. After half an hour, or
  `MINITORCH_CIML_TIMEOUT=seconds`, it ends the job, and shows where each thread of the rank stands.
- A rank that is at the end of its script waits for the others there, under the watchdog's eyes.
"""

from __future__ import annotations

import atexit
import faulthandler
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Any

from minitorch_ciml.distributed.launcher import end_launcher_later
from minitorch_ciml.distributed.logs import say

TIMEOUT = "MINITORCH_CIML_TIMEOUT"

# An error that all ranks have is shown once: the others leave rank 0 this time to end the job.
_HEAD_START = 0.3  # seconds

# The launcher passes on what ranks write; it needs time for that before it ends them.
_FORWARDING = 0.3  # seconds

_PATIENCE = 60  # seconds until a rank says that it waits
_LIMIT = 1800.0  # seconds until it ends the job, unless TIMEOUT says otherwise


def end_job_on_failure(rank: int, abort: Callable[[int], Any], meet: Callable[[], Any]) -> None:
    """From now on, a failure of this process ends all ranks.

    Args:
        rank: this process' number, for the messages.
        abort: ends the job with the exit code that it is given.
        meet: waits for all ranks at the end of the script.
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
        meet()

    sys.excepthook = report
    sys.exit = exit_  # type: ignore[assignment]
    atexit.register(at_exit)


def _say_last(text: str) -> None:
    """Writes before the job ends, so that it is seen."""
    say(text)
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
        self._calls = 0
        self._warned_of: tuple[str, float] | None = None
        threading.Thread(target=self._watch, daemon=True, name="watchdog").start()

    def begin(self, name: str) -> None:
        """A call begins that needs the other ranks."""
        self._calls += 1
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
                self._say(f"waits for the other ranks in {call[0]} (its call "
                          f"{self._calls}) for more than {self._limit:g} s ({TIMEOUT}); "
                          "ending the job")  # fmt: skip
                faulthandler.dump_traceback(all_threads=True)
                _say_last("")
                end_launcher_later()
                self._abort(86)
            elif waited > _PATIENCE and self._warned_of is not call:
                self._warned_of = call
                self._say(
                    f"has waited for the other ranks in {call[0]} for {_PATIENCE} s. Is one of "
                    "them still busy? fit, evaluate and predict must be called on all ranks, not "
                    f"under `if rank == 0`. ({TIMEOUT}=seconds ends a job that hangs.)"
                )

    def _say(self, message: str) -> None:
        say(f"[rank {self._rank}] {message}\n")


def _limit() -> float:
    """The seconds after which a call that waits ends the job; "inf" for never."""
    text = os.environ.get(TIMEOUT)
    if not text:
        return _LIMIT
    try:
        limit = float(text)
    except ValueError:
        limit = 0.0
    if not limit > 0:
        raise ValueError(f"{TIMEOUT}: got {text!r}, expected a number of seconds, or inf.")
    return limit
