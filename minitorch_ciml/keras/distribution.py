"""Training on several ranks (`keras.distribution`): each takes its part of every batch.

    mpirun -n 4 python train.py

    from minitorch_ciml import keras
    keras.distribution.set_distribution(keras.distribution.DataParallel())
    ...                                  # the script as it was for one process

The result is that of one process, to rounding: `batch_size` is the whole batch, all ranks go
through the same permutation of the data, and gradients, losses and metrics are those of the whole
batch, however uneven the parts are. Every callback sees the same logs on every rank, so that all
ranks decide alike. Rank 0 alone prints and writes files.

`fit` talks to the other ranks through a *crew*: `_Alone`, `_Sharing` (this module's way), or
`_Averaging` (Horovod's way: each rank has its own data, and only gradients are averaged).
"""

from __future__ import annotations

import os
import sys
import zlib
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import numpy as np

from minitorch_ciml import config, distributed
from minitorch_ciml.keras.callbacks import (
    EarlyStopping,
    LearningRateScheduler,
    ReduceLROnPlateau,
    TerminateOnNaN,
)
from minitorch_ciml.keras.models.data import ArrayBatches, Batches, Shard, Shards, shard
from minitorch_ciml.keras.tree import flatten
from minitorch_ciml.ops import random

__all__ = [
    "DataParallel", "distribution", "initialize", "list_devices", "set_distribution",
]  # fmt: skip

VARIABLE = "MINITORCH_CIML_DISTRIBUTE"

# Callbacks that change how training goes on: all ranks must have them.
_STEERING = (EarlyStopping, LearningRateScheduler, ReduceLROnPlateau, TerminateOnNaN)

_SAMPLED_ROWS = 64


class DataParallel:
    """Every rank has the whole model and takes its part of every batch.

    Args:
        device_mesh, devices: accepted as Keras has them; the ranks of the launcher are used.
        auto_shard_dataset: True: every rank's generator gives the same, whole batches, of which the
            rank takes its part. False: every rank's generator gives that rank's own part. Arrays
            are always shared.
        deterministic: the weights become the same bit for bit with 1, 2, 4 and 8 ranks. Every rank
            computes with one thread, and the batch is always cut into 8 parts, of which each rank
            does its share in turn: slower, and not for models with BatchNormalization.

    Raises:
        ValueError: deterministic, with another number of ranks.

    Attributes:
        communicator: of all ranks; with `rank` and `size`.
    """

    def __init__(
        self,
        device_mesh: Any = None,
        devices: Any = None,
        auto_shard_dataset: bool = True,
        deterministic: bool = False,
    ):
        self.communicator = distributed.init()
        self.auto_shard_dataset = auto_shard_dataset
        self.deterministic = deterministic
        if deterministic:
            if distributed.PARTS % self.size or not auto_shard_dataset:
                raise ValueError(
                    f"DataParallel: deterministic needs 1, 2, 4 or 8 ranks and whole batches on "
                    f"all of them; got {self.size} ranks, auto_shard_dataset={auto_shard_dataset}."
                )
            distributed.limit_threads(1, force=True)

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
    """One name per rank, such as "cpu:0"."""
    kind = device_type or "cpu"
    return [f"{kind}:{rank}" for rank in range(distributed.init().size)] if kind == "cpu" else []


# --- what fit asks of the other ranks -----------------------------------------------------------


class _Alone:
    """The answers where there is no other rank."""

    shares = False

    def verbose(self, verbose: Any) -> Any:
        """How much this rank shows."""
        return verbose

    def agree(self, value: Any) -> Any:
        """Rank 0's value."""
        return value

    def share(self, source: Batches, training: bool = False) -> Batches:
        """The batches as this rank gets them."""
        return source

    def steps(self, source: Batches, steps: int | None) -> int | None:
        """The steps of an epoch, if they must be limited."""
        return steps

    def begin(self, model: Any, source: Batches, validation: Batches | None, **facts: Any) -> None:
        """Makes sure that all ranks do the same, and start from the same weights."""

    def listens(self, callbacks: Any, hook: str) -> bool:
        """Whether a callback on any rank looks at single batches, so that all ranks must agree
        after every batch."""
        return True

    def logs(self, model: Any, logs: dict) -> dict:
        """The logs of all ranks' batches."""
        return logs

    def stops(self, wanted: bool) -> bool:
        """Whether training stops."""
        return wanted

    def settle(self, model: Any) -> None:
        """Makes weights equal that every rank has changed by itself."""

    def whole(self, outputs: list[np.ndarray], counts: list[int]) -> list[np.ndarray]:
        """The outputs for all rows, from those of this rank and its number of rows per batch."""
        return outputs


class _Averaging(_Alone):
    """Horovod's way: own data on every rank; only gradients and the decision to stop are shared."""

    def __init__(self, communicator: distributed.Communicator):
        self._communicator = communicator
        self._limited: tuple[Batches | None, int] = (None, 0)

    def steps(self, source: Batches, steps: int | None) -> int | None:
        wanted = self._communicator.allgather_object(steps or source.steps)
        if len(set(wanted)) == 1:
            return steps
        if None in wanted:
            raise ValueError(
                f"the ranks have {wanted} steps per epoch: one does not know its number, and would "
                "leave the others waiting; pass the same steps_per_epoch on all ranks."
            )
        if self._communicator.rank == 0:
            print(
                f"minitorch_ciml: the ranks have {wanted} steps per epoch; all take {min(wanted)}.",
                file=sys.stderr, flush=True,
            )  # fmt: skip
        fewest = min(wanted)
        if steps is not None:
            return fewest
        self._limited = source, fewest
        return None

    def share(self, source: Batches, training: bool = False) -> Batches:
        limited, steps = self._limited
        return _FirstBatches(source, steps) if source is limited else source

    def listens(self, callbacks: Any, hook: str) -> bool:
        return self._communicator.any(callbacks.listens_to(hook))

    def stops(self, wanted: bool) -> bool:
        return self._communicator.any(wanted)


class _Sharing(_Averaging):
    """Every rank takes its part of every batch."""

    shares = True

    def __init__(self, team: DataParallel):
        super().__init__(team.communicator)
        self._team = team

    def verbose(self, verbose: Any) -> Any:
        return verbose if self._communicator.rank == 0 else 0

    def agree(self, value: Any) -> Any:
        return self._communicator.broadcast_object(value)

    def share(self, source: Batches, training: bool = False) -> Batches:
        if self._team.deterministic and training:
            return _PartsInTurn(source, self._communicator)
        if self._team.auto_shard_dataset or isinstance(source, ArrayBatches):
            return _SharedBatches(source, self._communicator)
        return _OwnBatches(source, self._communicator)

    def steps(self, source: Batches, steps: int | None) -> int | None:
        return steps

    def begin(self, model: Any, source: Batches, validation: Batches | None, **facts: Any) -> None:
        if self._team.deterministic and any(
            hasattr(layer, "synchronized") for layer in model._inventory().layers
        ):
            raise ValueError(
                "DataParallel(deterministic=True) cannot train BatchNormalization; use "
                "LayerNormalization, or deterministic=False."
            )
        callbacks = facts.pop("callbacks")
        facts["callbacks"] = [type(c).__name__ for c in callbacks if isinstance(c, _STEERING)]
        facts["the shapes of the weights"] = [(w.shape, w.dtype.name) for w in model.weights]
        facts["the data"] = _description(source)
        facts["the validation data"] = _description(validation)
        optimizer = model.optimizer
        facts["the optimizer"] = type(optimizer).__name__
        self._compare(facts)
        if model.built:
            optimizer.build(model.trainable_weights)
        generators = _generators(model)
        broadcast_variables([*model.weights, *optimizer.variables], self._communicator)
        states = self.agree([(g.seed, g.draws) for g in generators])
        for generator, (seed, draws) in zip(generators, states):
            generator.seed, generator.draws = seed, draws
        model._initial_epoch = self.agree(model._initial_epoch)

    def _compare(self, facts: dict[str, Any]) -> None:
        """Raises on every rank if the ranks do not agree on the facts."""
        answers = self._communicator.allgather_object(facts)
        for name, first in answers[0].items():
            for rank, other in enumerate(answers):
                if other[name] != first:
                    raise ValueError(
                        f"the ranks do not do the same: {name}: {_short(first)} on rank 0, "
                        f"{_short(other[name])} on rank {rank}. Every rank must run the same "
                        "script on the same data (set a seed where the script splits or shuffles)."
                    )

    def logs(self, model: Any, logs: dict) -> dict:
        # The metrics' states are sums, so those of all ranks are the sums over the ranks; what an
        # overridden train_step has put into the logs besides is averaged.
        variables = [
            v for m in model.metrics for part in getattr(m, "metrics", [m]) for v in part.variables
        ]
        own = [v.value for v in variables]
        numbers = {k: v for k, v in logs.items() if isinstance(v, float)}
        sizes = [value.size for value in own]
        message = np.concatenate([*map(np.ravel, own), list(numbers.values())], dtype=np.float64)
        self._communicator.allreduce(message)
        *states, means = np.split(message, np.cumsum(sizes))
        for v, state in zip(variables, states):
            v.value = state.reshape(v.shape).astype(v.dtype)
        try:
            results = model.get_metrics_result()
        finally:
            for v, value in zip(variables, own):
                v.value = value
        averages = dict(zip(numbers, (means / self._communicator.size).tolist()))
        return {k: results.get(k, averages.get(k, v)) for k, v in logs.items()}

    def settle(self, model: Any) -> None:
        # Batch statistics of each rank, unless they are synchronised: then they are equal already.
        for layer in model._inventory().layers:
            if getattr(layer, "synchronized", False):
                continue
            for weight, trainable in layer._roles.items():
                if not trainable and weight.dtype.kind == "f":
                    mean = self._communicator.allreduce(weight.value.astype(np.float64), "mean")
                    weight.assign(mean.astype(weight.dtype))

    def whole(self, outputs: list[np.ndarray], counts: list[int]) -> list[np.ndarray]:
        table = np.array(self._communicator.allgather_object(counts))  # (ranks, batches)
        return [_interleaved(self._communicator.allgather(own), table) for own in outputs]


class _FirstBatches(Batches):
    """The first batches of every epoch of a source."""

    def __init__(self, source: Batches, steps: int):
        self._source, self.steps = source, steps

    def epoch(self, number: int) -> Iterator[tuple]:
        return islice(self._source.epoch(number), self.steps)

    def end_epoch(self) -> None:
        self._source.end_epoch()


class _SharedBatches(Batches):
    """A rank's parts of the whole batches that a source gives."""

    def __init__(self, source: Batches, communicator: distributed.Communicator):
        self._source, self._communicator = source, communicator
        self.endless = getattr(source, "endless", False)

    @property
    def steps(self) -> int | None:  # type: ignore[override]
        return self._source.steps

    def epoch(self, number: int) -> Iterator[Shard]:
        return self._source.parts(number, self._communicator.rank, self._communicator.size)

    def end_epoch(self) -> None:
        self._source.end_epoch()


class _PartsInTurn(_SharedBatches):
    """This rank's share of the fixed number of parts into which every batch is cut."""

    def epoch(self, number: int) -> Iterator[Shards]:  # type: ignore[override]
        for batch in self._source.epoch(number):
            yield parts_in_turn(batch, self._communicator)


def parts_in_turn(batch: tuple, communicator: distributed.Communicator) -> Shards:
    """This rank's share of the `PARTS` parts of a whole batch."""
    each = distributed.PARTS // communicator.size
    first = communicator.rank * each
    shards = [shard(batch, first + i, distributed.PARTS) for i in range(each)]
    return Shards(
        Shard(piece, piece.part._replace(to_come=each - 1 - i)) for i, piece in enumerate(shards)
    )


class _OwnBatches(_SharedBatches):
    """Batches that are this rank's part already; an epoch ends when any rank's data end."""

    def epoch(self, number: int) -> Iterator[Shard]:
        own = self._source.epoch(number)
        rank = self._communicator.rank
        while True:
            batch = next(own, None)
            count = None if batch is None else len(flatten(batch[0])[0])
            counts = self._communicator.allgather_object(count)
            if batch is None or None in counts:
                return
            rows = config.Part(sum(counts[:rank]), counts[rank], sum(counts), len(counts))
            yield Shard(batch, rows)


def crew(optimizer: Any = None) -> _Alone:
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
        return _Sharing(_active)
    if getattr(optimizer, "exchange", None) is not None and distributed.init().size > 1:
        return _Averaging(distributed.init())
    if optimizer is not None and not distributed.is_initialized():
        _warn_of_lonely_ranks()
    return _ALONE


_ALONE = _Alone()
_warned = False


def _warn_of_lonely_ranks() -> None:
    global _warned
    promised = distributed.promise()
    if promised.size > 1 and not _warned and distributed.promised_rank() == 0:
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
    generators = _generators(model)
    draws, state = [g.draws for g in generators], random.get_state()

    def rewind() -> None:
        random.set_state(state)
        for generator, number in zip(generators, draws):
            generator.draws = number

    return rewind


def _generators(model: Any) -> list[random.SeedGenerator]:
    found = (getattr(layer, "seed_generator", None) for layer in model._inventory().layers)
    return [g for g in found if isinstance(g, random.SeedGenerator)]


def broadcast_variables(
    variables: list, communicator: distributed.Communicator, root: int = 0
) -> None:
    """Gives the variables of all ranks the values of rank `root`."""
    for variable in variables:
        value = communicator.broadcast(np.array(variable.value), root)
        if communicator.rank != root:
            variable.assign(value)


def _description(source: Batches | None) -> Any:
    """What two ranks' data must have in common; of arrays also the contents of some rows."""
    if source is None:
        return None
    if isinstance(source, _SharedBatches):
        source = source._source
    if not isinstance(source, ArrayBatches):
        return type(source).__name__, source.steps
    rows = np.unique(np.linspace(0, source.size - 1, _SAMPLED_ROWS).astype(int))
    checksum = 0
    for array in flatten([part for part in source.data if part is not None]):
        checksum = zlib.crc32(np.ascontiguousarray(array[rows]).tobytes(), checksum)
    return f"{source.size} samples in batches of {source.batch_size}, checksum {checksum:08x}"


def _short(fact: Any) -> str:
    text = str(fact)
    return text if len(text) < 200 else text[:200] + "..."


def _interleaved(pieces: list[np.ndarray], counts: np.ndarray) -> np.ndarray:
    """Rows of all ranks in the order of the data.

    Args:
        pieces: per rank, the rows that it has computed.
        counts: (ranks, batches): how many rows of each batch a rank has.
    """
    ends = counts.cumsum(axis=1)
    return np.concatenate([
        piece[end - count : end]
        for batch in range(counts.shape[1])
        for piece, end, count in zip(pieces, ends[:, batch], counts[:, batch])
    ])  # fmt: skip


if os.environ.get(VARIABLE) == "1" and distributed.promise().size > 1:
    set_distribution(DataParallel())
