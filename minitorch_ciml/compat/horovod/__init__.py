"""Horovod's names: a script that uses Horovod runs after changing its import line.

    from minitorch_ciml.compat import horovod as hvd      # for horovod.keras, horovod.tensorflow...

As in Horovod, every rank has its own data and its own loss; gradients are averaged, whatever the
sizes of the ranks' batches, and evaluation, prediction and files are each rank's own business.
Unlike Horovod, ranks whose number of steps differs do not wait for each other for ever: all take
the smallest number; and when one rank stops training, all do. `keras.distribution.DataParallel`
shares the data itself, and gives the result of a single process.
"""

from __future__ import annotations

from typing import Any

from minitorch_ciml import distributed
from minitorch_ciml.compat.horovod import callbacks
from minitorch_ciml.distributed.communicator import is_initialized
from minitorch_ciml.distributed.functions import (
    Average,
    Compression,
    DistributedOptimizer,
    Max,
    Min,
    Sum,
    allgather,
    allgather_object,
    allreduce,
    barrier,
    broadcast,
    broadcast_global_variables,
    broadcast_object,
    broadcast_variables,
    cross_rank,
    cross_size,
    local_rank,
    local_size,
    rank,
    size,
)
from minitorch_ciml.keras.saving import load_model as _load_model

__all__ = [
    "Average", "Compression", "DistributedOptimizer", "Max", "Min", "Sum", "allgather",
    "allgather_object", "allreduce", "barrier", "broadcast", "broadcast_global_variables",
    "broadcast_object", "broadcast_variables", "callbacks", "cross_rank", "cross_size",
    "gloo_built", "gloo_enabled", "init", "is_initialized", "load_model", "local_rank",
    "local_size", "mpi_built", "mpi_enabled", "mpi_threads_supported", "nccl_built", "rank",
    "shutdown", "size",
]  # fmt: skip

# --- ranks --------------------------------------------------------------------------------------


def init(*arguments: Any, **named: Any) -> None:
    """Joins the ranks that mpirun started; the arguments of Horovod are accepted."""
    distributed.init()


def shutdown() -> None:
    """MPI ends with the process: there is nothing to do."""


def mpi_built(verbose: bool = False) -> bool:
    """True: MPI is what carries the messages."""
    return True


def mpi_enabled() -> bool:
    """True: MPI is what carries the messages."""
    return True


def mpi_threads_supported() -> bool:
    """True: other threads may use MPI."""
    return True


def gloo_built(verbose: bool = False) -> bool:
    """False: Gloo is not used."""
    return False


def gloo_enabled() -> bool:
    """False: Gloo is not used."""
    return False


def nccl_built(verbose: bool = False) -> bool:
    """False: NCCL is not used."""
    return False


# --- training -----------------------------------------------------------------------------------


def load_model(filepath: Any, *arguments: Any, **named: Any) -> Any:
    """A model from a file, with its optimizer as a `DistributedOptimizer`."""
    named = {k: v for k, v in named.items() if k in ("custom_objects", "compile", "safe_mode")}
    model = _load_model(filepath, **named)
    if model.optimizer is not None:
        DistributedOptimizer(model.optimizer)
    return model


def __dir__() -> list[str]:
    return __all__
