"""Ends a launcher that does not end by itself: mpirun waits for a host that it cannot reach."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

# Without what comes after a dot, as in mpiexec.hydra, and Debian's mpirun.openmpi.
_NAMES = {"mpirun", "mpiexec", "prterun", "orterun"}

_GRACE = 5  # seconds


def end_launcher_later() -> None:
    """Kills the launcher above this process, if there is one, unless it ends in five seconds.

    Called just before the job is aborted. The process that waits is no child of this one, and
    makes sure that the launcher is still the same.
    """
    pid = _launcher_above(os.getppid())
    if pid is None:
        return
    born = _birth(pid)
    check = f'[ "$(cut -d" " -f22 /proc/{pid}/stat)" = "{born}" ]'
    subprocess.Popen(
        ["sh", "-c", f"sleep {_GRACE}; {check} && kill -9 {pid}"],
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _launcher_above(pid: int) -> int | None:
    while pid > 1:
        try:
            name = Path(f"/proc/{pid}/comm").read_text().strip()
            if name.partition(".")[0] in _NAMES:
                return pid
            # The name of a program, in parentheses, may hold anything.
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            return None
    return None


def _birth(pid: int) -> str:
    """When a process began, in ticks since the machine did."""
    return Path(f"/proc/{pid}/stat").read_text().split()[21]
