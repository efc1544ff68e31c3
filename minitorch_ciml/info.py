"""What this machine offers: versions, CPU, threads, BLAS, MPI and CUDA (`minitorch-ciml info`)."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

import numpy as np

_PACKAGES = ("numpy", "numba", "llvmlite", "matplotlib", "rich", "h5py", "mpi4py", "numba-cuda")


def collect_info() -> dict[str, str]:
    """The facts, as text by name."""
    from minitorch_ciml._version import __version__

    facts = {
        "minitorch_ciml": __version__,
        "Python": f"{platform.python_version()} ({platform.python_implementation()})",
        "System": f"{platform.system()} {platform.release()} {platform.machine()}",
    }
    facts |= {name: _version(name) for name in _PACKAGES}
    return facts | {
        "CPU": _cpu(),
        "Cores": f"{_usable_cores()} usable of {os.cpu_count()}",
        "Threads": _threads(),
        "BLAS": _blas(),
        "MPI": _mpi(),
        "CUDA": _cuda(),
    }


def print_info() -> None:
    """Prints the facts as a table."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for name, fact in collect_info().items():
        table.add_row(f"[bold]{name}[/bold]", escape(fact))
    Console().print(table, highlight=False)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cpu() -> str:
    """The CPU's name and the vector instructions that the kernels are compiled for."""
    from llvmlite import binding

    features = binding.get_host_cpu_features()
    found = [
        name for name in ("avx512f", "avx2", "fma", "avx", "sse2", "neon") if features.get(name)
    ]
    return f"{binding.get_host_cpu_name()} ({', '.join(found) or 'no vector instructions known'})"


def _threads() -> str:
    import numba

    return f"numba {numba.get_num_threads()} (OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS')})"


def _blas() -> str:
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]  # type: ignore[index,call-overload]
    return f"{blas.get('name')} {blas.get('version')}"


def _mpi() -> str:
    if find_spec("mpi4py") is None:
        return "not found: pip install 'minitorch_ciml[mpi]'"
    return f"mpi4py {_version('mpi4py')}"


def _cuda() -> str:
    if find_spec("numba_cuda") is None:
        return "not found; the CUDA backend is not finished yet"
    return f"numba-cuda {_version('numba-cuda')}; the CUDA backend is not finished yet"
