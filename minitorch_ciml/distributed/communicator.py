"""Communicators: what ranks tell each other. `init()` gives the one of this process.

Without a launcher it is a `Communicator`: one rank, for which every exchange is already done. Under
`mpirun -n N` it is an `MPICommunicator` (mpi4py). Code that uses them needs no case distinction.

Every call that exchanges something is *collective*: all ranks must make it, in the same order.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from minitorch_ciml import kernels
from minitorch_ciml.distributed import launch
from minitorch_ciml.distributed.failures import Watchdog, end_job_on_failure
from minitorch_ciml.distributed.logs import keep_apart
from minitorch_ciml.distributed.node import Node
from minitorch_ciml.kernels import halves, steps

OPERATIONS = ("sum", "mean", "min", "max")

# One call over a large array is slow, and so is one per parameter: 25 million float32 numbers took
# 32 ms in one call, 15 ms per tensor, 9 ms in pieces of this size (shared memory, 2 ranks).
_PIECE = 4 << 20  # bytes


class Communicator:
    """A single process, and the base of the others.

    Attributes:
        rank, size: this process' number and how many there are.
        local_rank, local_size: the same among the ranks on this machine.
        cross_rank, cross_size: the number of this machine, and of machines with this local rank.
        threads: how many threads this rank computes with; None if nothing was changed.
    """

    rank = local_rank = cross_rank = 0
    size = local_size = cross_size = 1
    threads: int | None = None

    def allreduce(self, array: np.ndarray, op: str = "sum") -> np.ndarray:
        """Replaces `array` by its elementwise sum, mean, minimum or maximum over the ranks.

        Args:
            array: writable, of one shape and dtype on all ranks.
            op: "sum", "mean" (floats only), "min" or "max".

        Returns:
            The array.

        Raises:
            ValueError: another `op`, or the mean of integers.
        """
        if op not in OPERATIONS:
            raise ValueError(f"allreduce: got op={op!r}, expected one of {', '.join(OPERATIONS)}.")
        if op == "mean" and array.dtype.kind not in "fcV":
            raise ValueError(f"allreduce: the mean of {array.dtype} is not of that type; cast it.")
        return array

    def broadcast(self, array: np.ndarray, root: int = 0) -> np.ndarray:
        """Replaces `array` by that of rank `root`; returns it."""
        self._check_root(root)
        return array

    def allgather(self, array: np.ndarray) -> list[np.ndarray]:
        """The arrays of all ranks, in their order.

        They may differ in their first axis, but not in the others or in dtype.
        """
        return [np.array(array)]

    def swap(self, array: np.ndarray, partner: int) -> np.ndarray:
        """The array of rank `partner`, which swaps with this one: of the same shape and dtype."""
        self._check_root(partner)
        return np.array(array)

    def broadcast_object(self, value: Any, root: int = 0) -> Any:
        """The `value` of rank `root`: anything that pickle can handle."""
        self._check_root(root)
        return value

    def allgather_object(self, value: Any) -> list:
        """The values of all ranks, in their order."""
        return [value]

    def broadcast_variables(self, variables: Iterable[Any], root: int = 0) -> None:
        """Gives the variables of all ranks the values of rank `root`."""
        for variable in variables:
            value = self.broadcast(np.array(kernels.to_host(variable.value)), root)
            if self.rank != root:
                variable.assign(value)

    def barrier(self) -> None:
        """Waits until all ranks have come here."""

    def abort(self, code: int = 1) -> None:
        """Ends all ranks."""
        sys.exit(code)

    def total(self, number: float) -> float:
        """The sum of a number over the ranks."""
        return float(self.allreduce(np.array([number], np.float64))[0])

    def any(self, flag: bool) -> bool:
        """Whether any rank says True."""
        return bool(self.allreduce(np.array([flag], np.float64), "max")[0])

    def all(self, flag: bool) -> bool:
        """Whether all ranks say True."""
        return not self.any(not flag)

    def _check_root(self, root: int) -> None:
        if not 0 <= root < self.size:
            raise ValueError(f"root is {root}, but the ranks are 0 to {self.size - 1}.")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} rank {self.rank} of {self.size}>"


class MPICommunicator(Communicator):
    """The ranks that an MPI launcher started.

    Attributes:
        library: the name and version of MPI.
        world: mpi4py's communicator of all ranks; a copy of its own, so that a script may use MPI.
        node: the ranks of this machine; this rank alone where the machines have different numbers.
        across: mpi4py's communicator of the ranks with this `local_rank`, one on every machine.

    Raises:
        ImportError: mpi4py, or an MPI library for it, is missing.
        RuntimeError: the launcher promised more ranks than MPI sees.
    """

    def __init__(self) -> None:
        MPI = _import_mpi()
        world = MPI.COMM_WORLD
        self.library = _library_name(MPI)
        _refuse_singletons(world.size, self.library)
        self.world = world = world.Dup()
        self._in_place = MPI.IN_PLACE
        self._operations = {"sum": MPI.SUM, "mean": MPI.SUM, "min": MPI.MIN, "max": MPI.MAX}
        self.rank, self.size = world.rank, world.size
        local = world.Split_type(MPI.COMM_TYPE_SHARED)
        self.local_rank, self.local_size = local.rank, local.size
        self.across = world.Split(local.rank, world.rank)
        self.cross_rank, self.cross_size = self.across.rank, self.across.size
        self._watchdog = Watchdog(self.rank, self.abort)
        even = len(set(world.allgather(local.size))) == 1
        self.node = Node(local if even else MPI.COMM_SELF)

    def allreduce(self, array: np.ndarray, op: str = "sum") -> np.ndarray:
        super().allreduce(array, op)
        exchanged = _exchangeable(array)
        flat = exchanged.reshape(-1)
        piece = max(1, _PIECE // flat.itemsize)
        for start in range(0, flat.size, piece):
            buffers = (self._in_place, flat[start : start + piece])
            self._run("allreduce", self.world.Allreduce, *buffers, self._operations[op])
        if op == "mean":
            flat /= self.size
        if exchanged is not array:
            array[...] = exchanged
        return array

    def broadcast(self, array: np.ndarray, root: int = 0) -> np.ndarray:
        super().broadcast(array, root)
        exchanged = _exchangeable(array)
        self._run("broadcast", self.world.Bcast, exchanged.reshape(-1).view(np.uint8), root)
        if exchanged is not array:
            array[...] = exchanged
        return array

    def allgather(self, array: np.ndarray) -> list[np.ndarray]:
        sent = np.ascontiguousarray(array)
        described = self.allgather_object((sent.shape, sent.dtype.name))
        if len({(shape[1:], dtype) for shape, dtype in described}) > 1:
            raise ValueError(
                f"allgather: the ranks have {described}; the arrays may differ in their first axis "
                "only."
            )
        received = [np.empty(shape, halves.dtype_of(dtype)) for shape, dtype in described]
        for root, target in enumerate(received):
            if root == self.rank:
                target[...] = sent
            self.broadcast(target, root)
        return received

    def swap(self, array: np.ndarray, partner: int) -> np.ndarray:
        super().swap(array, partner)
        sent = np.ascontiguousarray(array)
        received = np.empty_like(sent)
        # As bytes: also types that MPI does not know can be swapped.
        buffers = [a.reshape(-1).view(np.uint8) for a in (sent, received)]
        self._run("swap", self.world.Sendrecv, buffers[0], partner, 0, buffers[1], partner, 0)
        return received

    def broadcast_object(self, value: Any, root: int = 0) -> Any:
        super().broadcast_object(value, root)
        return self._run("broadcast_object", self.world.bcast, value, root)

    def allgather_object(self, value: Any) -> list:
        return self._run("allgather_object", self.world.allgather, value)

    def barrier(self) -> None:
        self._run("barrier", self.world.Barrier)

    def meet_at_the_end(self) -> None:
        """Waits for all ranks to come to the end of their scripts."""
        self._run("the end of the script", self.world.Barrier)

    def abort(self, code: int = 1) -> None:
        self.world.Abort(code)

    @contextmanager
    def waiting(self, name: str) -> Iterator[None]:
        """Inside the block, this rank needs the others: the watchdog looks after it."""
        if steps.program.get() is not None:  # another rank may not be recording this step
            raise steps.NotRecordable("the ranks wait for each other within the step")
        self._watchdog.begin(name)
        try:
            yield
        finally:
            self._watchdog.end()

    def _run(self, name: str, call: Callable, *arguments: Any) -> Any:
        with self.waiting(name):
            return call(*arguments)


def _exchangeable(array: np.ndarray) -> np.ndarray:
    """The array itself, or a copy that MPI can add: contiguous, of a type that it knows."""
    if halves.is_half(array.dtype):
        return array.astype(np.float32)
    if array.dtype == np.bool_:
        return array.astype(np.uint8)
    return array if array.flags.c_contiguous else np.ascontiguousarray(array)


def _import_mpi() -> Any:
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        promised = launch.promise()
        raise ImportError(
            f"the launcher ({promised.launcher}) started several ranks, but MPI cannot be used: "
            f"{error}. Install mpi4py for the cluster's MPI module (pip install mpi4py); on a "
            "laptop, mpi4py and mpich."
        ) from error
    return MPI


def _library_name(MPI: Any) -> str:
    """Such as "Open MPI 5.0.11"."""
    name, version = MPI.get_vendor()
    return f"{name} {'.'.join(map(str, version))}"


def _refuse_singletons(size: int, library: str) -> None:
    promised = launch.promise()
    if promised.launcher != "PMIx" and size < promised.size:
        raise RuntimeError(
            f"the launcher ({promised.launcher}) started {promised.size} ranks, but mpi4py's "
            f"library ({library}) sees {size}: every process would train alone. They must be of "
            "the same MPI: use the mpirun of that library, or pip install --force-reinstall "
            "--no-cache-dir --no-binary mpi4py mpi4py with the cluster's module loaded; with srun, "
            "try --mpi=pmix (Open MPI) or --mpi=pmi2 (MPICH)."
        )


# --- the communicator of this process -----------------------------------------------------------

_current: Communicator | None = None


def init() -> Communicator:
    """Joins the other ranks, if a launcher started any; may be called again at no cost.

    Sets how many threads this rank computes with, makes a failure on any rank end the whole job,
    and says in one line on rank 0 what there is.
    """
    global _current
    if _current is None:
        if launch.promise().size > 1:
            _current = MPICommunicator()
            _settle(_current)
        else:
            _current = Communicator()
    return _current


_sharing = False


def share_work(yes: bool) -> None:
    """Says whether the ranks do one piece of work together: then rank 0 alone prints and writes."""
    global _sharing
    _sharing = yes


def shares_work() -> bool:
    """What `share_work` was told last."""
    return _sharing


def leads() -> bool:
    """Whether this process prints and writes files: alone, or as rank 0."""
    return not _sharing or init().rank == 0


def is_initialized() -> bool:
    """Whether `init` has been called."""
    return _current is not None


def _settle(communicator: MPICommunicator) -> None:
    keep_apart(communicator.rank)
    end_job_on_failure(communicator.rank, communicator.abort, communicator.meet_at_the_end)
    launch.take_gpu(communicator.local_rank)
    threads = launch.threads_per_rank(communicator.local_size)
    communicator.threads = launch.limit_threads(threads)
    hosts = communicator.total(communicator.local_rank == 0)
    if communicator.rank == 0:
        print(_description(communicator, int(hosts)), file=sys.stderr, flush=True)


def _description(communicator: MPICommunicator, hosts: int) -> str:
    def count(n: int | None, what: str) -> str:
        return f"{n} {what}{'' if n == 1 else 's'}"

    line = (
        f"minitorch_ciml: {count(communicator.size, 'rank')} on {count(hosts, 'host')}, "
        f"{count(communicator.threads, 'thread')} each ({communicator.library})"
    )
    cores = os.cpu_count() or 1
    if launch.usable_cores() == 1 and communicator.local_size < cores:
        line += (
            f"; each rank is bound to 1 of {cores} cores, to use more start with --bind-to none "
            "or --map-by slot:PE=<cores per rank>"
        )
    return line
