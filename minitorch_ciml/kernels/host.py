"""The cores that this process may use, and how many threads its kernels take."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from minitorch_ciml.kernels import openblas

_CGROUPS = Path("/sys/fs/cgroup")


def usable_cores() -> int:
    """The cores that this process may use: those it is bound to, within its cgroup's limit."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(bound or 1, _cgroup_limit()))


def _cgroup_limit() -> int:
    """Whole cores of the time that containers and batch systems grant; very many without one."""
    try:
        own = Path("/proc/self/cgroup").read_text().rpartition("0::/")[2].strip()
        for folder in (_CGROUPS / own, _CGROUPS):
            if (folder / "cpu.max").exists():
                quota, period = (folder / "cpu.max").read_text().split()
                return sys.maxsize if quota == "max" else int(quota) // int(period)
        quota = (_CGROUPS / "cpu/cpu.cfs_quota_us").read_text()
        period = (_CGROUPS / "cpu/cpu.cfs_period_us").read_text()
    except (OSError, ValueError):  # not Linux, or no limits
        return sys.maxsize
    return sys.maxsize if int(quota) < 0 else int(quota) // int(period)


def default_threads() -> int:
    """OMP_NUM_THREADS if it is set, otherwise the usable cores."""
    wanted = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    return int(wanted) if wanted.isdigit() and int(wanted) > 0 else usable_cores()


def set_num_threads(count: int) -> None:
    """Lets the CPU kernels, and NumPy's OpenBLAS, use `count` threads.

    Without it they take OMP_NUM_THREADS if that is set, otherwise the cores that this process is
    bound to, within its cgroup's limit; under MPI, this rank's share of them. More threads than
    the process had cores for when numba was imported cannot be had.

    Raises:
        ValueError: `count` is no whole number of at least 1.
    """
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise ValueError(f"set_num_threads: expected a whole number of at least 1, got {count!r}.")
    if "numba" in sys.modules:
        import numba

        numba.set_num_threads(min(count, numba.config.NUMBA_NUM_THREADS))  # type: ignore[attr-defined]
    else:
        os.environ["NUMBA_NUM_THREADS"] = str(count)
    openblas.set_num_threads(count)
