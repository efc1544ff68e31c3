"""`Dataset`: samples that are read when they are needed, batch by batch."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from minitorch_ciml import config
from minitorch_ciml.autograd import Tensor
from minitorch_ciml.keras.layers.layer import is_text
from minitorch_ciml.keras.models.data import RowBatches, Shard, part_of, unpack
from minitorch_ciml.keras.models.reading import ahead, threads
from minitorch_ciml.keras.tree import flatten, map_structure, pack_as
from minitorch_ciml.kernels import host
from minitorch_ciml.ops.random import draw_seed

if TYPE_CHECKING:
    from concurrent.futures import Executor

# Reads the rows with these numbers: begins at once, in other threads, and gives what ends it.
Reader = Callable[[np.ndarray, "Executor"], Callable[[], Any]]


class Dataset:
    """Batches of samples that are read when they are needed; what `..._dataset_from_...` give.

    `fit`, `evaluate`, `predict` and `adapt` take it. To iterate over it gives `(x, y)`, or x alone:
    tensors, and arrays of strings (with a `.numpy()`, too) for texts. The next batch is read while
    one is used. Where ranks train together, each reads its own part of every batch only.

    A data set that is shuffled has a new order in each iteration and epoch, the same on all ranks;
    `predict` and `evaluate` go through it in the order of `file_paths`.

    Args:
        read: see `Reader`; the samples of a batch lie along the first axis.
        size: the number of samples.
        batch_size: of the batches; None for single samples.
        shuffle: a new order every time.
        seed: fixes the orders.

    Attributes:
        class_names: what the labels 0, 1, ... mean; None where it is not known.
        file_paths: where the samples come from, in the order of the samples; None likewise.
    """

    class_names: list[str] | None = None
    file_paths: list[str] | None = None

    def __init__(
        self,
        read: Reader,
        size: int,
        batch_size: int | None = 32,
        shuffle: bool = False,
        seed: int | None = None,
    ):
        self._read = self._stored = read  # as `map` leaves it, and as it was stored
        self._size = size
        self._batch_size = batch_size
        self._shuffled, self._seed = shuffle, seed
        self._own_seed = draw_seed() if seed is None else seed
        self._bounds: tuple[int, int | None] = (0, None)  # in batches
        self._ahead = 1
        self._iterations = 0

    # --- reading --------------------------------------------------------------------------------

    def __iter__(self) -> Iterator:
        source = _Reading(self, self._own_seed if self._shuffled else None)
        number, self._iterations = self._iterations, self._iterations + 1
        for _, batch in source.read(number):
            batch = batch if self._batch_size else map_structure(lambda a: a[0], batch)
            yield map_structure(lambda a: a if is_text(a) else Tensor(a), batch)

    def __len__(self) -> int:
        """The number of batches."""
        first, last = self._bounds
        batches = -(-self._size // (self._batch_size or 1))
        return max(min(batches, batches if last is None else last) - first, 0)

    def cardinality(self) -> int:
        """The number of batches, as `len` gives it."""
        return len(self)

    def as_numpy_iterator(self) -> Iterator:
        """The batches as NumPy arrays."""
        return (map_structure(_array, batch) for batch in self)

    def as_batches(self, seed: int | None) -> RowBatches:
        """The source of batches for `fit`, which proposes a seed for their order."""
        if self._batch_size is None:
            raise ValueError(
                "this data set gives single samples; say .batch(32), or pass batch_size=32 where "
                "it is made."
            )
        wanted = seed if self._seed is None else self._seed
        return _Reading(self, wanted if self._shuffled and seed is not None else None)

    # --- other data sets made of this one -------------------------------------------------------

    def map(self, function: Callable, num_parallel_calls: Any = None) -> Dataset:
        """`function(x, y)` of every batch (or `function(x)`, without labels), in its place.

        It must treat every sample for itself, because ranks that share a batch call it on their
        parts. It runs when the batch is used, in the thread that uses it. In a data set of single
        samples it gets these.

        Args:
            function: gets tensors, and arrays of strings for texts; gives x, (x, y) or
                (x, y, sample_weight).
            num_parallel_calls: accepted as in tf.data, without effect.
        """
        read, single = self._read, self._batch_size is None

        def call(batch: Any) -> Any:
            result = function(*batch) if isinstance(batch, tuple) else function(batch)
            return map_structure(_array, result)

        def mapped(rows: np.ndarray, pool: Executor) -> Callable[[], Any]:
            end = read(rows, pool)

            def finish() -> Any:
                batch = end()
                if not single:
                    return call(map_structure(_on_host, batch))
                samples = [map_structure(lambda a, i=i: _on_host(a[i]), batch)
                           for i in range(len(rows))]  # fmt: skip
                return _stacked(list(map(call, samples)))

            return finish

        return self._with(_read=mapped)

    def cache(self) -> Dataset:
        """Keeps in memory what was read (and mapped) once."""
        return self._with(_read=_Cache(self._read, self._size))

    def shuffle(
        self, buffer_size: int | None = None, seed: int | None = None,
        reshuffle_each_iteration: bool = True,
    ) -> Dataset:  # fmt: skip
        """All samples in a new order every time.

        Args:
            buffer_size: accepted as in tf.data, without effect: the order is that of all samples.
            seed: fixes the orders.
            reshuffle_each_iteration: False for the same order every time.
        """
        fresh = draw_seed() if seed is None else seed
        if not reshuffle_each_iteration:
            return self.rows(np.random.default_rng(fresh).permutation(self._size))
        return self._with(_shuffled=True, _seed=seed, _own_seed=fresh)

    def batch(self, batch_size: int) -> Dataset:
        """The samples in batches of another size."""
        return self._with(_batch_size=batch_size)

    def unbatch(self) -> Dataset:
        """The samples one by one."""
        return self._with(_batch_size=None)

    def prefetch(self, buffer_size: int) -> Dataset:
        """Reads so many batches ahead, at least one; tf.data's AUTOTUNE (-1) is one."""
        return self._with(_ahead=max(buffer_size, 1))

    def take(self, count: int) -> Dataset:
        """The first `count` batches; of a data set that is shuffled, other ones every time.

        To hold samples back for validation, use `keras.utils.split_dataset`.
        """
        first, _ = self._bounds
        return self._with(_bounds=(first, first + min(count, len(self))))

    def skip(self, count: int) -> Dataset:
        """All batches but the first `count`."""
        first, last = self._bounds
        return self._with(_bounds=(first + min(count, len(self)), last))

    def rows(self, numbers: np.ndarray) -> Dataset:
        """The samples with these numbers, in their order."""
        read, stored = self._read, self._stored
        return self._with(
            _read=lambda rows, pool: read(numbers[rows], pool),
            _stored=lambda rows, pool: stored(numbers[rows], pool),
            _size=len(numbers),
            file_paths=self.file_paths and [self.file_paths[i] for i in numbers],
        )

    @property
    def size(self) -> int:
        """The number of samples."""
        return self._size

    def _with(self, **changes: Any) -> Dataset:
        other = copy.copy(self)
        other.__dict__.update(changes, _iterations=0)
        return other


class _Reading(RowBatches):
    """The batches of a `Dataset` in the order that `seed` gives."""

    def __init__(self, dataset: Dataset, seed: int | None):
        super().__init__(dataset.size, dataset._batch_size or 1, seed)
        self.steps = len(dataset)
        self._dataset = dataset

    def epoch(self, number: int) -> Iterator[tuple]:
        for _, batch in self.read(number):
            yield unpack(batch)

    def parts(self, number: int, rank: int, ranks: int) -> Iterator[Shard]:
        for part, batch in self.read(number, rank, ranks):
            yield Shard(unpack(batch), part)

    def batch(self, rows: Any) -> tuple:
        return self._at(rows, self._dataset._read)

    def stored(self, rows: Any) -> tuple:
        return self._at(rows, self._dataset._stored)

    def _at(self, rows: Any, read: Reader) -> tuple:
        with threads(host.default_threads()) as pool:
            return unpack(read(np.arange(self.size)[rows], pool)())

    def read(self, number: int, rank: int = 0, ranks: int = 1) -> Iterator[tuple]:
        """The parts of a rank in epoch `number`, and what they are parts of."""
        with threads(host.default_threads()) as pool:
            begun = (self._begun(rows, part, ranks, pool)
                     for rows, part in self._plan(number, rank, ranks))  # fmt: skip
            yield from ahead(begun, self._dataset._ahead)

    def _begun(
        self, rows: np.ndarray, part: config.Part, ranks: int, pool: Executor
    ) -> Callable[[], tuple]:
        end = self._dataset._read(rows, pool)

        def finish() -> tuple:
            with config.working_on(part if ranks > 1 else None):  # for random numbers in `map`
                return part, end()

        return finish

    def _plan(self, number: int, rank: int, ranks: int) -> Iterator[tuple]:
        order = self._order(number)
        order = np.arange(self.size) if order is None else order
        start = self._dataset._bounds[0] * self.batch_size
        for first in range(start, start + (self.steps or 0) * self.batch_size, self.batch_size):
            part = part_of(min(self.batch_size, self.size - first), rank, ranks)
            first += part.first
            yield order[first : first + part.own], part


class _Cache:
    """A reader that remembers what another one has read."""

    def __init__(self, read: Reader, size: int):
        self._read, self._size = read, size
        self._known = np.zeros(size, bool)
        self._kept: Any = None  # arrays of all samples, in the structure of a batch

    def __call__(self, rows: np.ndarray, pool: Executor) -> Callable[[], Any]:
        missing = rows[~self._known[rows]]
        end = self._read(missing, pool) if missing.size or self._kept is None else None

        def finish() -> Any:
            if end is not None:
                self._keep(missing, end())
            return map_structure(lambda kept: kept[rows], self._kept)

        return finish

    def _keep(self, rows: np.ndarray, batch: Any) -> None:
        if self._kept is None:
            self._kept = map_structure(
                lambda a: np.empty((self._size, *a.shape[1:]), a.dtype), batch
            )
        for kept, new in zip(flatten(self._kept), flatten(batch)):
            if kept.shape[1:] != new.shape[1:]:
                raise ValueError(
                    f"Dataset.cache: samples have shapes {kept.shape[1:]} and {new.shape[1:]}; "
                    "give them one, as with output_sequence_length=, or call cache before map."
                )
            kept[rows] = new
        self._known[rows] = True


def _stacked(samples: list) -> Any:
    """Samples as a batch."""
    leaves = [np.stack(parts) for parts in zip(*map(flatten, samples))]
    return pack_as(samples[0], leaves)


class Texts(np.ndarray):
    """An array of strings that has `.numpy()`, as tensors have."""

    def numpy(self) -> np.ndarray:
        """The plain array."""
        return np.asarray(self)


def _on_host(a: Any) -> Any:
    """Numbers as tensors, on the host also where the device is a GPU; texts as they are."""
    return a if is_text(a) or isinstance(a, str) else Tensor.constant(a)


def _array(x: Any) -> Any:
    return x.numpy() if hasattr(x, "numpy") else np.asarray(x)
