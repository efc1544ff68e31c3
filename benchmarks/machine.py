"""The machine: its description for the files, and the same threads for every worker."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PACKAGES = ("numpy", "numba", "llvmlite", "torch", "jax", "jaxlib", "keras")
VECTOR_FEATURES = ("sse4_2", "avx2", "fma", "avx512f", "avx512_bf16", "amx_tile", "asimd", "sve")
_THREADS = "BENCHMARK_THREADS"


def cores() -> list[int]:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def threads() -> int:
    """The threads that the runner has given to this worker."""
    return int(os.environ.get(_THREADS, len(cores())))


def environment(count: int) -> dict[str, str]:
    """The variables with which every worker has so many threads.

    OPENBLAS_CORETYPE, where a system sets it, would pin NumPy's BLAS to the kernels of an older
    processor; the workers do without.
    """
    variables = dict(os.environ)
    variables.pop("OPENBLAS_CORETYPE", None)
    names = ("OMP", "MKL", "OPENBLAS", "NUMBA", "VECLIB_MAXIMUM")
    variables |= {f"{name}_NUM_THREADS": str(count) for name in names}
    xla = f"--xla_cpu_multi_thread_eigen={'true' if count > 1 else 'false'}"
    return variables | {
        _THREADS: str(count),
        "NPROC": str(count),  # XLA's thread pool
        "XLA_FLAGS": f"{variables.get('XLA_FLAGS', '')} {xla}".strip(),
        "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), variables.get("PYTHONPATH")))),
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }


def stay_on_cores() -> None:
    """Keeps this process on as many cores as it has threads, whatever its libraries think."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores()[: threads()])


def describe(count: int) -> dict[str, Any]:
    """What the numbers of a run depend on."""
    name, flags = _cpu()
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "cpu": name,
        "features": [f for f in VECTOR_FEATURES if f in flags],
        "cores": len(cores()),
        "threads": count,
        "memory_gb": _memory_gb(),
        "load": load(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
        "commit": _commit(),
    }


def load() -> float | None:
    """The processes that wanted to run in the last minute: a quiet machine has less than 1."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def _cpu() -> tuple[str, set[str]]:
    facts: dict[str, str] = {}
    info = Path("/proc/cpuinfo")
    for line in info.read_text().splitlines() if info.exists() else ():
        key, _, value = line.partition(":")
        facts.setdefault(key.strip(), value.strip())
    name = facts.get("model name") or platform.processor() or platform.machine()
    family = facts.get("cpu family")
    flags = facts.get("flags") or facts.get("Features") or ""
    return f"{name} (family {family})" if family else name, set(flags.split())


def _memory_gb() -> float | None:
    if "SC_PHYS_PAGES" not in getattr(os, "sysconf_names", {}):
        return None
    return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit that was measured, with a + where files differ from it."""
    command = ["git", "describe", "--always", "--dirty=+"]
    try:
        return subprocess.check_output(
            command, cwd=ROOT, text=True, stderr=subprocess.DEVNULL
        ).strip()
    except (OSError, subprocess.CalledProcessError):
        return None
