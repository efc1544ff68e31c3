"""What the launcher says: how many ranks it promised, and how many threads each of them may use.

Nothing here imports MPI: whether a launcher started this process is read from the variables that it
sets, because importing MPI alone costs a second with some libraries.
"""

from __future__ import annotations

import glob
import os
import sys
from typing import NamedTuple

from minitorch_ciml.kernels import openblas

# The number of ranks, by launcher: Open MPI's mpirun, MPICH's and Intel's mpiexec (and Slurm's
# PMI-2), srun. The first that is set counts: Open MPI starts its helpers with srun. SLURM_NTASKS is
# not among them: it is also set in the batch script, which is one process.
_SIZES = {
    "OMPI_COMM_WORLD_SIZE": "Open MPI",
    "PMI_SIZE": "MPICH or a relative",
    "SLURM_STEP_NUM_TASKS": "srun",
}
_GPUS = "CUDA_VISIBLE_DEVICES"
_RANKS = ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK", "SLURM_PROCID")


class Promise(NamedTuple):
    """How many ranks the launcher started, and which launcher it seems to be."""

    size: int
    launcher: str


def promise() -> Promise:
    """What the launcher promised; one rank without a launcher."""
    for variable, launcher in _SIZES.items():
        text = os.environ.get(variable, "")
        if text.isdigit():
            return Promise(int(text), launcher)
    # PMIx alone tells a rank and no size: then only MPI itself can tell.
    return Promise(2, "PMIx") if "PMIX_RANK" in os.environ else Promise(1, "none")


def promised_rank() -> int:
    """This process' number, before MPI is there to ask."""
    texts = (os.environ.get(variable, "") for variable in _RANKS)
    return next((int(text) for text in texts if text.isdigit()), 0)


def usable_cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def threads_per_rank(local_size: int) -> int:
    """The cores of this rank: those that it is bound to, or its share of the unbound ones."""
    cores = usable_cores()
    return max(1, cores // local_size) if cores == os.cpu_count() else cores


def limit_threads(count: int, force: bool = False) -> int:
    """Lets numba and OpenBLAS use `count` threads, unless the user's variables say otherwise.

    Args:
        count: at least 1.
        force: do not look at the variables.

    Returns:
        How many threads numba's kernels use.

    Ranks that share cores and each use all of them were ten times slower: a 512 x 512 product of
    matrices took 51 ms instead of 5.
    """
    if force or "NUMBA_NUM_THREADS" not in os.environ:
        if "numba" in sys.modules:
            import numba

            numba.set_num_threads(min(count, numba.config.NUMBA_NUM_THREADS))  # type: ignore[attr-defined]
        else:
            os.environ["NUMBA_NUM_THREADS"] = str(count)
    if force or not {"OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"} & set(os.environ):
        openblas.set_num_threads(count)
    chosen = "" if force else os.environ.get("NUMBA_NUM_THREADS", "")
    return int(chosen) if chosen.isdigit() else count


def visible_gpus() -> int:
    """The GPUs that this process may use, counted without waking up CUDA."""
    named = os.environ.get(_GPUS)
    if named is not None:
        return len([name for name in named.split(",") if name.strip() not in ("", "-1")])
    return len(glob.glob("/dev/nvidia[0-9]*"))


def take_gpu(local_rank: int) -> None:
    """Leaves this rank one of its machine's GPUs, before CUDA looks: number `local_rank`.

    With more ranks than GPUs they are shared; if the launcher has chosen one already, it stays.
    """
    count = visible_gpus()
    if count > 1:
        names = os.environ.get(_GPUS)
        numbers = names.split(",") if names else [str(i) for i in range(count)]
        os.environ[_GPUS] = numbers[local_rank % count]
