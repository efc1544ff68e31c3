"""Failures that would otherwise be hangs: a rank that ends alone leaves the others waiting.

- An uncaught exception, or `sys.exit` with a failure, on any rank ends the whole job, with that
  rank's traceback.
- A watchdog (`MINITORCH_CIML_TIMEOUT=seconds`) ends it when a rank waits too long for the others,
  and shows where every thread of it stands.
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

TIMEOUT = "MINITORCH_CIML_TIMEOUT"

# An error that all ranks have is shown once: the others leave rank 0 this time to end the job.
_HEAD_START = 0.3  # seconds


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
        sys.stderr.write("".join(f"[rank {rank}] {line}\n" for line in lines))
        sys.stderr.flush()
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
            sys.stderr.write(f"[rank {rank}] sys.exit: status {codes[-1]}, ending the job\n")
            sys.stderr.flush()
            abort(codes[-1])

    sys.excepthook = report
    sys.exit = exit_  # type: ignore[assignment]
    atexit.register(at_exit)


class Watchdog:
    """Ends the job when a call that needs the other ranks lasts too long.

    Args:
        rank: this process' number, for the message.
        abort: ends the job.
        limit: in seconds.
    """

    def __init__(self, rank: int, abort: Callable[[int], Any], limit: float):
        self._rank, self._abort, self._limit = rank, abort, limit
        self._call: tuple[str, float] | None = None
        threading.Thread(target=self._watch, daemon=True, name="watchdog").start()

    @classmethod
    def wanted(cls, rank: int, abort: Callable[[int], Any]) -> Watchdog | None:
        """A watchdog, if the variable MINITORCH_CIML_TIMEOUT asks for one."""
        text = os.environ.get(TIMEOUT)
        if not text:
            return None
        try:
            limit = float(text)
        except ValueError:
            limit = 0.0
        if limit <= 0:
            raise ValueError(f"{TIMEOUT}: got {text!r}, expected a number of seconds.")
        return cls(rank, abort, limit)

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
            if call is None or time.monotonic() - call[1] < self._limit:
                continue
            sys.stderr.write(
                f"[rank {self._rank}] waits for the other ranks in {call[0]} for more than "
                f"{self._limit:g} s ({TIMEOUT}); ending the job\n"
            )
            faulthandler.dump_traceback(all_threads=True)
            sys.stderr.flush()
            self._abort(86)
