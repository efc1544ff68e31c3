"""How a rank waits for others, and `Progress`: MPI moves messages while kernels compute."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from time import sleep
from typing import Any

# A message of 300 KB takes 2.6 ms at 1 Gbit/s. To wake up every 0.1 or 0.3 ms cost more than it
# hid.
_PERIOD = 0.001  # seconds


def wait(request: Any) -> None:
    """Waits for an MPI request, and lets other processes use the core meanwhile.

    MPI's own `Wait` keeps the core busy: of ranks that share cores, those that wait would take half
    of the time of those that they wait for.
    """
    while not request.Test():
        os.sched_yield()


class Progress:
    """Calls `poll` on a thread of its own, for as long as it returns True.

    MPI moves messages only while some function of it is called, and a training step may compute
    for milliseconds in a single kernel. Kernels hold no lock of Python's, so another thread can
    call MPI meanwhile. Where MPI was built without support for threads, `between_ops` does it.

    Args:
        poll: calls MPI; whether something is still on its way.

    Attributes:
        lock: held while `poll` runs; take it to change what `poll` looks at.
    """

    def __init__(self, poll: Callable[[], bool]):
        self.lock = threading.Lock()
        self._poll = poll
        self._work = threading.Event()
        self._thread: threading.Thread | None = None

    def wake(self) -> None:
        """Something has been sent."""
        if self._thread is None and _threads_may_call_mpi():
            self._thread = threading.Thread(target=self._run, name="MPI progress", daemon=True)
            self._thread.start()
        self._work.set()

    def between_ops(self) -> None:
        """Polls here, if no thread does, for what `wake` has announced."""
        if self._thread is None and self._work.is_set() and not self._poll():
            self._work.clear()

    def close(self) -> None:
        """Ends the thread; the next `wake` starts another one."""
        self._thread = None
        self._work.set()

    def _run(self) -> None:
        while self._work.wait() and self._thread is threading.current_thread():
            with self.lock:
                if not self._poll():
                    self._work.clear()
            sleep(_PERIOD)


def _threads_may_call_mpi() -> bool:
    from mpi4py import MPI

    return MPI.Query_thread() >= MPI.THREAD_MULTIPLE
