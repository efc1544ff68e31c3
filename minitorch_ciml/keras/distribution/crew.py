"""What `fit`, `evaluate` and `predict` ask of the other ranks: the *crew* that they work in.

`Alone`, `Sharing` (every rank takes its part of every batch), or `Averaging` (Horovod's way: each
rank has its own data, and only gradients are averaged).
"""

from __future__ import annotations

import sys
import zlib
from typing import Any

import numpy as np

from minitorch_ciml import distributed
from minitorch_ciml.autograd import Tensor
from minitorch_ciml.autograd.tensor import FLOATS
from minitorch_ciml.keras.callbacks import (
    DistributedProfiler,
    EarlyStopping,
    LearningRateScheduler,
    ReduceLROnPlateau,
    TerminateOnNaN,
)
from minitorch_ciml.keras.distribution.sources import (
    FirstBatches,
    OwnBatches,
    PartsInTurn,
    SharedBatches,
)
from minitorch_ciml.keras.models.data import Batches, RowBatches
from minitorch_ciml.keras.models.position import generators, metric_variables
from minitorch_ciml.keras.tree import flatten

# Callbacks that change how training goes on, or that need all ranks: all ranks must have them.
_STEERING = (
    DistributedProfiler, EarlyStopping, LearningRateScheduler, ReduceLROnPlateau, TerminateOnNaN,
)  # fmt: skip

_SAMPLED_ROWS = 64


class Alone:
    """The answers where there is no other rank."""

    shares = False  # the work; and the files
    company = False  # other ranks, whose gradients are combined with this one's

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

    def leads(self) -> bool:
        """Whether this rank has what the others add to; with own data, every one."""
        return True

    def metric_states(self, model: Any) -> list[np.ndarray]:
        """What the metrics have added up so far, over all ranks."""
        return [v.numpy() for v in metric_variables(model)]

    def settle(self, model: Any) -> None:
        """Makes weights equal that every rank has changed by itself."""

    def whole(self, outputs: list[np.ndarray], counts: list[int]) -> list[np.ndarray]:
        """The outputs for all rows, from those of this rank and its number of rows per batch."""
        return outputs


class Averaging(Alone):
    """Horovod's way: own data on every rank; only gradients and the decision to stop are shared."""

    company = True

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
        return FirstBatches(source, steps) if source is limited else source

    def listens(self, callbacks: Any, hook: str) -> bool:
        return self._communicator.any(callbacks.listens_to(hook))

    def stops(self, wanted: bool) -> bool:
        return self._communicator.any(wanted)


class Sharing(Averaging):
    """Every rank takes its part of every batch."""

    shares = True

    def __init__(self, team: Any):
        super().__init__(team.communicator)
        self._team = team

    def verbose(self, verbose: Any) -> Any:
        return verbose if self._communicator.rank == 0 else 0

    def agree(self, value: Any) -> Any:
        return self._communicator.broadcast_object(value)

    def share(self, source: Batches, training: bool = False) -> Batches:
        if self._team.deterministic and training:
            return PartsInTurn(source, self._communicator)
        if self._team.auto_shard_dataset or isinstance(source, RowBatches):
            return SharedBatches(source, self._communicator)
        return OwnBatches(source, self._communicator)

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
        found = generators(model)
        self._communicator.broadcast_variables([*model.weights, *optimizer.variables])
        states = self.agree([(g.seed, g.draws) for g in found])
        for generator, (seed, draws) in zip(found, states):
            generator.seed, generator.draws = seed, draws

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

    def leads(self) -> bool:
        return self._communicator.rank == 0

    def metric_states(self, model: Any) -> list[np.ndarray]:
        return self._summed(metric_variables(model), [])[0]

    def _summed(self, variables: list, numbers: list[float]) -> tuple[list[np.ndarray], list]:
        """The sums of variables and the means of numbers over the ranks."""
        own = [v.numpy() for v in variables]
        message = np.concatenate([*map(np.ravel, own), numbers], dtype=np.float64)
        self._communicator.allreduce(message)
        *sums, totals = np.split(message, np.cumsum([value.size for value in own]))
        states = [total.reshape(v.shape) for v, total in zip(variables, sums)]
        return states, (totals / self._communicator.size).tolist()

    def logs(self, model: Any, logs: dict) -> dict:
        # The metrics' states are sums, so those of all ranks are the sums over the ranks; what an
        # overridden train_step has put into the logs besides is averaged.
        variables = metric_variables(model)
        own = [v.value for v in variables]
        logs = {k: _number(v) for k, v in logs.items()}
        numbers = {k: v for k, v in logs.items() if isinstance(v, float)}
        states, means = self._summed(variables, list(numbers.values()))
        for v, state in zip(variables, states):
            v.value = state.astype(v.dtype)
        try:
            results = {k: _number(v) for k, v in model.get_metrics_result().items()}
        finally:
            for v, value in zip(variables, own):
                v.value = value
        averages = dict(zip(numbers, means))
        return {k: results.get(k, averages.get(k, v)) for k, v in logs.items()}

    def settle(self, model: Any) -> None:
        # Batch statistics of each rank, unless they are synchronised: then they are equal already.
        for layer in model._inventory().layers:
            if getattr(layer, "synchronized", False):
                continue
            for weight, trainable in layer._roles.items():
                if not trainable and weight.dtype.kind in FLOATS:
                    mean = self._communicator.allreduce(weight.numpy().astype(np.float64), "mean")
                    weight.assign(mean.astype(weight.dtype))

    def whole(self, outputs: list[np.ndarray], counts: list[int]) -> list[np.ndarray]:
        table = np.array(self._communicator.allgather_object(counts))  # (ranks, batches)
        return [interleaved(self._communicator.allgather(own), table) for own in outputs]


def _number(log: Any) -> Any:
    """A log that may be a tensor on a GPU as a float, if it is a single number."""
    return log.item() if isinstance(log, Tensor) and log.ndim == 0 else log


def _description(source: Batches | None) -> Any:
    """What two ranks' data must have in common; of arrays also the contents of some rows."""
    if source is None:
        return None
    if isinstance(source, SharedBatches):
        source = source._source
    if not isinstance(source, RowBatches):
        return type(source).__name__, source.steps
    rows = np.unique(np.linspace(0, source.size - 1, _SAMPLED_ROWS).astype(int))
    checksum = 0
    for array in flatten([part for part in source.stored(rows) if part is not None]):
        content = repr(array.tolist()).encode() if array.dtype.hasobject else array.tobytes()
        checksum = zlib.crc32(content, checksum)
    return (
        f"{source.size} samples in batches of {source.batch_size}, checksum {checksum:08x}, "
        f"order {source.seed}"
    )


def _short(fact: Any) -> str:
    text = str(fact)
    return text if len(text) < 200 else text[:200] + "..."


def interleaved(pieces: list[np.ndarray], counts: np.ndarray) -> np.ndarray:
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
