"""What this machine offers: versions, CPU, threads, BLAS, MPI and CUDA (`minitorch-ciml info`)."""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from minitorch_ciml import distributed
from minitorch_ciml.config import DEVICES
from minitorch_ciml.kernels import host

_PACKAGES = ("numpy", "numba", "llvmlite", "matplotlib", "rich", "h5py", "mpi4py", "numba-cuda")
_VECTORS = ("avx512f", "avx2", "fma", "avx", "sse2", "sve", "neon")  # instructions
_CUDA_DRIVERS = ("libcuda.so.1", "nvcuda.dll")


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
        "Cores": f"{host.usable_cores()} usable of {os.cpu_count()}",
        "Threads": _threads(),
        "BLAS": _blas(),
        "MPI": _mpi(),
        "CUDA": _cuda(),
        "Computes on": ", ".join(DEVICES),
    }


def print_info() -> None:
    """Prints the facts as a table; under mpirun also a line per rank, all of them on rank 0."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    facts, ranks = collect_info(), _ranks()
    if distributed.promised_rank():
        return
    for name, fact in (facts | ranks).items():
        table.add_row(f"[bold]{name}[/bold]", escape(fact))
    Console().print(table, highlight=False)


def _ranks() -> dict[str, str]:
    """Where each rank runs and on which cores, if a launcher has started several."""
    if distributed.promise().size == 1:
        return {}
    communicator = distributed.init()
    own = f"{platform.node()}, {_core_list()}, {communicator.threads} threads, {_device()}"
    return {f"Rank {i}": fact for i, fact in enumerate(communicator.allgather_object(own))}


def _device() -> str:
    """Where this rank computes: a GPU of its own if its machine has any."""
    gpus = distributed.visible_gpus()
    return f"GPU {os.environ.get('CUDA_VISIBLE_DEVICES', '0')}" if gpus else "CPU"


def _core_list() -> str:
    if not hasattr(os, "sched_getaffinity"):
        return f"{os.cpu_count()} cores"
    return "cores " + ",".join(map(str, sorted(os.sched_getaffinity(0))))


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _cpu() -> str:
    """The CPU's name and the vector instructions that the kernels are compiled for."""
    from llvmlite import binding

    features = binding.get_host_cpu_features()
    found = ", ".join(name for name in _VECTORS if features.get(name))
    return f"{_cpu_model()}, {binding.get_host_cpu_name()} ({found or 'no vector instructions'})"


def _cpu_model() -> str:
    """The name on the box."""
    listing = Path("/proc/cpuinfo")
    if listing.exists():
        for line in listing.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _threads() -> str:
    """numba's threads; they follow the cores that this process may use."""
    import numba

    limits = [
        f"{name}={os.environ[name]}"
        for name in ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
        if name in os.environ
    ]
    return f"{numba.get_num_threads()} for kernels" + (f" ({', '.join(limits)})" if limits else "")


def _blas() -> str:
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]  # type: ignore[index,call-overload]
    return f"{blas.get('name')} {blas.get('version')}"


def _mpi() -> str:
    """mpi4py and the launcher that is found first, as `mpirun` would be on the command line."""
    package = _version("mpi4py")
    launcher = shutil.which("mpirun") or shutil.which("mpiexec")
    if launcher is None:
        found = "no mpirun on the PATH"
    else:
        found = f"{launcher} ({_first_line_of(launcher, '--version')})"
    return f"{found}; mpi4py {package}"


def _first_line_of(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"does not start: {type(error).__name__}"
    lines = (done.stdout or done.stderr).splitlines()
    # MPICH's launcher begins with the heading of a list; its second entry is the version.
    named = [line for line in lines if line.strip().startswith("Version:")]
    first = " ".join((named or lines or [f"exit status {done.returncode}"])[0].split())
    return f"HYDRA {first}" if named else first


def _cuda() -> str:
    """The devices that the CUDA driver lists; asked directly, so that no package is needed."""
    package = f"numba-cuda {_version('numba-cuda')}"
    for name in _CUDA_DRIVERS:
        try:
            driver = ctypes.CDLL(name)
        except OSError:
            continue
        return f"{_cuda_devices(driver)}; {package}"
    return f"no driver; {package}"


def _cuda_devices(driver: ctypes.CDLL) -> str:
    number = ctypes.c_int()
    failed = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(number))
    if failed:
        return f"the driver reports error {failed}"
    names = []
    device, text = ctypes.c_int(), ctypes.create_string_buffer(256)
    for ordinal in range(number.value):
        driver.cuDeviceGet(ctypes.byref(device), ordinal)
        driver.cuDeviceGetName(text, len(text), device)
        names.append(text.value.decode(errors="replace"))
    return ", ".join(names) or "a driver, no device"
