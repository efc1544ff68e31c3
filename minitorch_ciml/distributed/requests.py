"""MPI's requests: how a rank waits for one."""

from __future__ import annotations

import os
from typing import Any


def wait(request: Any) -> None:
    """Waits for an MPI request, and lets other processes use the core meanwhile.

    MPI's own `Wait` keeps the core busy: of ranks that share cores, those that wait would take half
    of the time of those that they wait for.
    """
    while not request.Test():
        os.sched_yield()
