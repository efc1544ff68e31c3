"""Training on several ranks (`keras.distribution`): each takes its part of every batch.

    mpirun -n 4 python train.py

    from minitorch_ciml import keras
    keras.distribution.set_distribution(keras.distribution.DataParallel())
    ...                                  # the script as it was for one process

The result is that of one process, to rounding: `batch_size` is the whole batch, all ranks go
through the same permutation of the data, and gradients, losses and metrics are those of the whole
batch, however uneven the parts are. Every callback sees the same logs on every rank, so that all
ranks decide alike. Rank 0 alone prints and writes files.

`fit` talks to the other ranks through a *crew*: `Alone`, `Sharing` (this module's way), or
`Averaging` (Horovod's way: each rank has its own data, and only gradients are averaged).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from minitorch_ciml import config, distributed
from minitorch_ciml.keras.distribution.crew import (
    Alone,
    Averaging,
    Sharing,
)
from minitorch_ciml.keras.distribution.sources import parts_in_turn
from minitorch_ciml.keras.models.data import RowLoader, shard
from minitorch_ciml.keras.models.position import generators
from minitorch_ciml.ops import random

__all__ = [
    "DataParallel", "RowLoader", "distribution", "initialize", "list_devices", "set_distribution",
]  # fmt: skip

VARIABLE = "MINITORCH_CIML_DISTRIBUTE"

_DEVICES = {"cpu": "cpu", "gpu": "cuda", "cuda": "cuda"}  # names of Keras, and ours


class DataParallel:
    """Every rank has the whole model and takes its part of every batch.

    Args:
        device_mesh: an object with `devices`, as Keras has it: the same as `devices`.
        devices: one name per rank, such as `list_devices("gpu")` gives them: "cpu:0" or "gpu:0".
            With GPUs, each rank computes on one of its machine's. None: on the device that is set.
        auto_shard_dataset: True: every rank's generator gives the same, whole batches, of which the
            rank takes its part. False: every rank's generator gives that rank's own part. Arrays
            are always shared.
        deterministic: the weights become the same bit for bit with 1, 2, 4 and 8 ranks. Every rank
            computes with one thread, and the batch is always cut into 8 parts, of which each rank
            does its share in turn: slower, and not for models with BatchNormalization.
        overlap, compression: see `distributed.GradientExchange`.

    Raises:
        ValueError: deterministic, with another number of ranks, or with compression; devices that
            are not as many as the ranks, or of no known kind, or of several.

    Attributes:
        communicator: of all ranks; with `rank` and `size`.
    """

    def __init__(
        self,
        device_mesh: Any = None,
        devices: Any = None,
        auto_shard_dataset: bool = True,
        deterministic: bool = False,
        overlap: bool | None = None,
        compression: str | None = None,
    ):
        self.communicator = distributed.init()
        self.auto_shard_dataset = auto_shard_dataset
        self.deterministic = deterministic
        self.exchange = {"overlap": overlap, "compression": compression}
        if device_mesh is not None and devices is None:
            devices = np.ravel(device_mesh.devices).tolist()
        if devices is not None:
            self._use(list(devices))
        if deterministic:
            if distributed.PARTS % self.size or not auto_shard_dataset or compression:
                raise ValueError(
                    "DataParallel: deterministic needs 1, 2, 4 or 8 ranks, whole batches on all of "
                    f"them and no compression; got {self.size} ranks, auto_shard_dataset="
                    f"{auto_shard_dataset}, compression={compression!r}."
                )
            distributed.limit_threads(1, force=True)

    def _use(self, devices: list) -> None:
        if len(devices) != self.size:
            raise ValueError(
                f"DataParallel: got {len(devices)} devices for {self.size} ranks; every rank has "
                "one: start as many ranks as there are devices (mpirun -n), or leave devices out."
            )
        kinds = {str(name).partition(":")[0] for name in devices}
        if len(kinds) > 1 or not kinds <= set(_DEVICES):
            raise ValueError(
                f"DataParallel: got devices {devices}, expected names such as 'cpu:0' or 'gpu:0', "
                "all of one kind."
            )
        config.set_device(_DEVICES[kinds.pop()])

    @property
    def rank(self) -> int:
        """The number of this process."""
        return self.communicator.rank

    @property
    def size(self) -> int:
        """The number of processes."""
        return self.communicator.size

    @property
    def num_process(self) -> int:
        """The number of processes, by Keras' name."""
        return self.size

    def __repr__(self) -> str:
        return f"<DataParallel rank {self.rank} of {self.size}>"


_active: DataParallel | None = None


def set_distribution(value: DataParallel | None) -> None:
    """From now on, `fit`, `evaluate` and `predict` share their work so; None: they do not.

    All ranks continue rank 0's sequence of random numbers, so that they make equal models.

    Raises:
        TypeError: neither a `DataParallel` nor None.
    """
    global _active
    if value is not None and not isinstance(value, DataParallel):
        raise TypeError(f"set_distribution: got {value!r}, expected a DataParallel or None.")
    _active = value
    distributed.share_work(value is not None)
    if value is not None:
        distributed.set_exchange(**value.exchange)
        random.set_state(value.communicator.broadcast_object(random.get_state()))


def distribution() -> DataParallel | None:
    """What `set_distribution` was given."""
    return _active


def initialize(
    job_addresses: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
) -> None:
    """Joins the ranks that the launcher started; the launcher knows what Keras has to be told."""
    distributed.init()


def list_devices(device_type: str | None = None) -> list[str]:
    """One name per rank, such as "cpu:0"; of GPUs, one for every rank that has one."""
    kind = device_type or "cpu"
    if kind not in _DEVICES:
        raise ValueError(f"list_devices: got {device_type!r}, expected 'cpu' or 'gpu'.")
    ranks = distributed.init()
    if _DEVICES[kind] == "cuda":
        found = sum(ranks.allgather_object(distributed.visible_gpus() > 0))
    else:
        found = ranks.size
    return [f"{kind}:{number}" for number in range(found)]


# --- for the training loop ---


def crew(optimizer: Any = None) -> Alone:
    """Those who work on what this process is about to do.

    Args:
        optimizer: in training, the optimizer: Horovod's way is known by it.
    """
    if _active is not None and (_active.size > 1 or _active.deterministic):
        if getattr(optimizer, "exchange", None) is not None:
            raise RuntimeError(
                "use either keras.distribution.set_distribution or hvd.DistributedOptimizer, not "
                "both: the first already averages the gradients."
            )
        return Sharing(_active)
    if getattr(optimizer, "exchange", None) is not None and distributed.init().size > 1:
        return Averaging(distributed.init())
    if optimizer is not None and not _warned and not distributed.is_initialized():
        _warn_of_lonely_ranks()
    return _ALONE


_ALONE = Alone()
_warned = False


def _warn_of_lonely_ranks() -> None:
    global _warned
    promised = distributed.promise()
    if promised.size > 1 and distributed.promised_rank() == 0:
        print(
            f"minitorch_ciml: {promised.launcher} started {promised.size} ranks, but each of them "
            "trains alone; to share the work, say keras.distribution.set_distribution("
            f"keras.distribution.DataParallel()) or set {VARIABLE}=1.",
            file=sys.stderr, flush=True,
        )  # fmt: skip
    _warned = True


def part_of_batch(batch: tuple) -> tuple:
    """This rank's part, or parts, of a single batch that all ranks have."""
    if _active is not None and _active.deterministic:
        return parts_in_turn(batch, _active.communicator)
    if _active is None or _active.size == 1:
        return batch
    return shard(batch, _active.rank, _active.size)


def rewinding(model: Any) -> Callable[[], None]:
    """A function that sets all generators of random numbers back to where they are now."""
    found = generators(model)
    draws, state = [g.draws for g in found], random.get_state()

    def rewind() -> None:
        random.set_state(state)
        for generator, number in zip(found, draws):
            generator.draws = number

    return rewind


if os.environ.get(VARIABLE) == "1" and distributed.promise().size > 1:
    set_distribution(DataParallel())


def __dir__() -> list[str]:
    return __all__
