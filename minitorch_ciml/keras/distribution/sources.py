"""Where a rank's batches come from: its parts of the whole batches that a source gives."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from minitorch_ciml import config, distributed
from minitorch_ciml.keras.models.data import Batches, Shard, Shards, shard
from minitorch_ciml.keras.tree import flatten


class FirstBatches(Batches):
    """The first batches of every epoch of a source."""

    def __init__(self, source: Batches, steps: int):
        self._source, self.steps = source, steps

    def epoch(self, number: int) -> Iterator[tuple]:
        return islice(self._source.epoch(number), self.steps)

    def end_epoch(self) -> None:
        self._source.end_epoch()


class SharedBatches(Batches):
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


class PartsInTurn(SharedBatches):
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


class OwnBatches(SharedBatches):
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
