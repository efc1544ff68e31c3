"""Where `fit`, `evaluate` and `predict` get their batches from: arrays, generators, data sets.

Whatever the source, an epoch is an iterable of `(x, y, sample_weight)` with NumPy arrays, alone or
nested; y and sample_weight may be None.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import count
from os import PathLike
from typing import Any

import numpy as np

from minitorch_ciml import config
from minitorch_ciml.autograd import Tensor
from minitorch_ciml.autograd.tensor import FLOATS
from minitorch_ciml.keras.models.reading import ahead, threads
from minitorch_ciml.keras.tree import flatten, map_structure
from minitorch_ciml.kernels.halves import is_half


class Batches:
    """A source of batches.

    Attributes:
        steps: the batches of an epoch, or None where it is not known beforehand.
    """

    steps: int | None = None

    def epoch(self, number: int) -> Iterator[tuple]:
        """The batches of epoch `number`."""
        raise NotImplementedError

    def parts(self, number: int, rank: int, ranks: int) -> Iterator[Shard]:
        """The part of rank `rank` of every batch of epoch `number`."""
        for batch in self.epoch(number):
            yield shard(batch, rank, ranks)

    def end_epoch(self) -> None:
        """Called after every epoch."""


class Shard(tuple):
    """A batch `(x, y, sample_weight)` that is a part of a larger one.

    Attributes:
        part: which rows of the larger one.
    """

    part: config.Part

    def __new__(cls, batch: tuple, part: config.Part) -> Shard:
        new = super().__new__(cls, batch)
        new.part = part
        return new


class Shards(tuple):
    """Several parts of one batch, each a `Shard`, that this process trains on in turn."""


def part_of(total: int, rank: int, ranks: int) -> config.Part:
    """The rows of rank `rank` when `total` rows are shared: contiguous, as even as they can be."""
    first = total * rank // ranks
    return config.Part(first, total * (rank + 1) // ranks - first, total, ranks)


def shard(batch: tuple, rank: int, ranks: int) -> Shard:
    """The part of rank `rank` of a whole batch."""
    part = part_of(len(flatten(batch[0])[0]), rank, ranks)
    rows = slice(part.first, part.first + part.own)
    return Shard(tuple([_cut(piece, rows, None) for piece in batch]), part)


class RowBatches(Batches):
    """Batches of rows that can be picked by their numbers.

    The order of an epoch comes from (seed, epoch), so that it is the same on all ranks.

    Args:
        size: the number of rows.
        seed: None for rows in their order, otherwise what the order of every epoch comes from.
    """

    def __init__(self, size: int, batch_size: int, seed: int | None):
        if not isinstance(batch_size, (int, np.integer)) or batch_size < 1:
            raise ValueError(f"batch_size must be a positive integer, got {batch_size!r}.")
        self.size = size
        self.batch_size = int(batch_size)
        self.seed = seed
        self._orders: _Orders | None = None
        self.steps = -(-self.size // self.batch_size)

    def epoch(self, number: int) -> Iterator[tuple]:
        order = self._order(number)
        for start in range(0, self.size, self.batch_size):
            rows: Any = slice(start, min(start + self.batch_size, self.size))
            yield self.batch(rows if order is None else order[rows])

    def parts(self, number: int, rank: int, ranks: int) -> Iterator[Shard]:
        order = self._order(number)
        for start in range(0, self.size, self.batch_size):
            part = part_of(min(self.batch_size, self.size - start), rank, ranks)
            rows: Any = slice(start + part.first, start + part.first + part.own)
            yield Shard(self.batch(rows if order is None else order[rows]), part)

    def _order(self, number: int) -> np.ndarray | None:
        """The rows' order in epoch `number`, the same on all ranks; None: as they are.

        Within a batch it does not matter, so a single one has its rows as they are.
        """
        if self.seed is None or self.size <= self.batch_size:
            return None
        if self._orders is None or self._orders.seed != self.seed:  # another run's, to resume
            self._orders = _Orders(self.seed)
        return self._orders.of(self.size, number)

    def batch(self, rows: Any) -> tuple:
        """The samples at `rows`, a slice or indices."""
        raise NotImplementedError

    def stored(self, rows: Any) -> tuple:
        """The samples at `rows` before anything random is done to them."""
        return self.batch(rows)


class ArrayBatches(RowBatches):
    """Batches cut from arrays, which may be memory-mapped (`np.load(..., mmap_mode="r")`).

    Floats are cast to `floatx()` and bytes of images too, batch by batch, so that a data set of
    uint8 or float64 is never copied as a whole.

    Args:
        x, y, sample_weight: arrays, alone or nested, with the samples along the first axis.
        batch_size, seed: see `RowBatches`.
    """

    def __init__(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        batch_size: int = 32,
        seed: int | None = None,
    ):
        self.data = _arrays(x, texts=True), _arrays(y), _arrays(sample_weight)
        super().__init__(_common_length(self.data), batch_size, seed)

    def batch(self, rows: Any) -> tuple:
        x, y, weight = self.data
        return (_cut(x, rows, input_dtype), _cut(y, rows, _target_dtype),
                _cut(weight, rows, _target_dtype))  # fmt: skip

    def split(self, fraction: float) -> tuple[Any, Any]:
        """The data before and after the last `fraction`: for training and validation."""
        at = int(self.size * (1 - fraction))
        if not 0 < fraction < 1 or at == 0 or at == self.size:
            raise ValueError(
                f"validation_split={fraction!r} leaves {at} of {self.size} samples to train on and "
                f"{self.size - at} to validate; give a fraction between 0 and 1 that leaves some."
            )
        first, last = (
            tuple(_cut(part, rows, None) for part in self.data)
            for rows in (slice(0, at), slice(at, None))
        )
        return first, last


class RowLoader:
    """Data that a function reads by row numbers: every rank reads only its own rows.

        with h5py.File("data.h5") as file:
            data = RowLoader(lambda rows: (file["x"][rows], file["y"][rows]), len(file["x"]))
            model.fit(data, batch_size=1024)

    Args:
        read: `read(rows)` with increasing row numbers, an array (k,), gives those rows as x, (x, y)
            or (x, y, sample_weight); also of no rows at all.
        size: the number of rows.
    """

    def __init__(self, read: Callable[[np.ndarray], Any], size: int):
        if not callable(read):
            raise TypeError(f"RowLoader: got {read!r}, expected a function of row numbers.")
        if size < 1:
            raise ValueError(f"RowLoader: got a size of {size}, expected the number of rows.")
        self.read, self.size = read, int(size)


class LoadedBatches(RowBatches):
    """Batches from a `RowLoader`."""

    def __init__(self, loader: RowLoader, batch_size: int = 32, seed: int | None = None):
        super().__init__(loader.size, batch_size, seed)
        self._read = loader.read

    def batch(self, rows: Any) -> tuple:
        numbers = np.arange(self.size)[rows] if isinstance(rows, slice) else np.asarray(rows)
        order = np.argsort(numbers)
        batch = unpack(self._read(numbers[order]))
        counts = {len(a) for part in batch if part is not None for a in flatten(part)}
        if counts != {len(numbers)}:
            raise ValueError(
                f"RowLoader: the function gave {sorted(counts)} rows for {len(numbers)} numbers."
            )
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        return tuple([_cut(part, back, None) for part in batch])


class IterableBatches(Batches):
    """Batches from a generator, an iterator, or an iterable such as a torch DataLoader."""

    def __init__(self, source: Any, steps: int | None = None):
        self.source = source
        self.steps = steps
        if steps is None and hasattr(source, "__len__"):
            self.steps = len(source)
        self.endless = iter(source) is source  # a generator cannot be started again
        self._iterator = iter(source) if self.endless else None

    def epoch(self, number: int) -> Iterator[tuple]:
        for batch in self._iterator if self._iterator is not None else iter(self.source):
            yield unpack(batch)


class PyDataset:
    """A data set that gives its batches by number (`keras.utils.PyDataset`).

    A subclass gives `__len__`, the number of batches, and `__getitem__(index)`, a batch `(x, y)` or
    `(x, y, sample_weight)`; `on_epoch_begin` is called before every epoch, `on_epoch_end` after it.

    Args:
        workers: with more than one, so many threads make batches while others are used; then
            `__getitem__` must not mind being called in several threads at once.
        use_multiprocessing: accepted as Keras has it, without effect: there are threads only.
        max_queue_size: how many batches are made ahead, at most.
    """

    def __init__(
        self, workers: int = 1, use_multiprocessing: bool = False, max_queue_size: int = 10
    ):
        self.workers = workers
        self.use_multiprocessing = use_multiprocessing
        self.max_queue_size = max_queue_size

    def __len__(self) -> int:
        raise NotImplementedError(f"{type(self).__name__} must define __len__.")

    def __getitem__(self, index: int) -> tuple:
        raise NotImplementedError(f"{type(self).__name__} must define __getitem__(self, index).")

    @property
    def num_batches(self) -> int | None:
        """The number of batches; a subclass may give None for no end, and leave out `__len__`."""
        return len(self)

    def __iter__(self) -> Iterator[tuple]:
        n = self.num_batches
        return map(self.__getitem__, count() if n is None else range(n))

    def on_epoch_begin(self) -> None:
        """Called before every epoch."""

    def on_epoch_end(self) -> None:
        """Called after every epoch."""


class DatasetBatches(Batches):
    """Batches from a `PyDataset`."""

    def __init__(self, source: Any, seed: int | None = None):
        self.source = source
        self.seed = seed
        self.steps = source.num_batches

    def epoch(self, number: int) -> Iterator[tuple]:
        self.source.on_epoch_begin()
        self.steps = self.source.num_batches
        order: Iterable[int] = count()
        if self.steps is not None:
            order = range(self.steps)
            if self.seed is not None:
                order = _Orders(self.seed).of(self.steps, number).tolist()
        return map(unpack, self._made(order))

    def _made(self, order: Iterable[int]) -> Iterator[Any]:
        """The batches with these numbers; `workers` threads make them ahead."""
        source = self.source
        workers = getattr(source, "workers", 1)  # a subclass may leave out super().__init__()
        if workers <= 1:
            yield from (source[index] for index in order)
            return
        with threads(workers) as pool:
            begun = (pool.submit(source.__getitem__, index).result for index in order)
            yield from ahead(begun, source.max_queue_size)

    def end_epoch(self) -> None:
        self.source.on_epoch_end()


def batches(
    x: Any,
    y: Any = None,
    sample_weight: Any = None,
    batch_size: int | None = None,
    steps: int | None = None,
    seed: int | None = None,
) -> Batches:
    """The source of batches for what a user passed as data."""
    if isinstance(x, Batches):
        return x
    if isinstance(x, (str, bytes, PathLike)):
        raise TypeError(
            f"the data are the text {x!r}; read the file into an array first, such as with "
            "np.loadtxt, np.load or pandas.read_csv."
        )
    if hasattr(x, "as_batches"):
        _no_targets(y, sample_weight, x)
        return x.as_batches(seed)
    if isinstance(x, RowLoader):
        _no_targets(y, sample_weight, x)
        return LoadedBatches(x, 32 if batch_size is None else batch_size, seed)
    if isinstance(x, PyDataset):
        _no_targets(y, sample_weight, x)
        return DatasetBatches(x, seed)
    if _is_iterable(x):
        _no_targets(y, sample_weight, x)
        return IterableBatches(x, steps)
    return ArrayBatches(x, y, sample_weight, 32 if batch_size is None else batch_size, seed)


def unpack(batch: Any) -> tuple:
    """A batch as `(x, y, sample_weight)`, None for what it lacks."""
    if not isinstance(batch, (tuple, list)) or (isinstance(batch, list) and len(batch) > 3):
        batch = (batch,)
    if len(batch) > 3:
        raise ValueError(
            f"a batch must be x, (x, y) or (x, y, sample_weight), got {len(batch)} parts."
        )
    x, y, weight = (*batch, None, None)[:3]
    targets = _whole(y, _target_dtype), _whole(weight, _target_dtype)
    return (_whole(x, input_dtype, texts=True), *targets)


def class_weights(y: Any, class_weight: dict[int, float]) -> np.ndarray:
    """One weight per sample, by its class: y holds class numbers or one-hot rows.

    Classes that `class_weight` does not name count 1, as in Keras.
    """
    if not isinstance(class_weight, dict):
        raise TypeError(
            f"class_weight must be a dictionary of class numbers and weights, such as "
            f"{{0: 1.0, 1: 5.0}}; got {class_weight!r}."
        )
    labels = np.asarray(y)
    if labels.ndim > 1 and labels.shape[-1] > 1:
        labels = labels.argmax(axis=-1)
    if labels.ndim > 1:
        labels = labels.reshape(len(labels), int(np.prod(labels.shape[1:])))[:, 0]
    labels = labels.astype(int)
    table = np.ones(max(int(labels.max(initial=0)), *map(int, class_weight)) + 1)
    for label, weight in class_weight.items():
        table[int(label)] = weight
    return table[labels].astype(config.floatx())


# --- helpers ------------------------------------------------------------------------------------


class _Orders:
    """Orders of rows, each of which follows from (seed, epoch).

    To seed a generator takes as long as a small model's forward pass. So it is done once, and epoch
    e begins e times 2^64 draws after the first.
    """

    def __init__(self, seed: int):
        self.seed = seed
        self._bits = np.random.PCG64(seed)
        self._start = self._bits.state

    def of(self, size: int, epoch: int) -> np.ndarray:
        """The numbers below `size` in the order of that epoch."""
        self._bits.state = self._start
        self._bits.advance(epoch << 64)
        return np.random.Generator(self._bits).permutation(size)


def _is_iterable(x: Any) -> bool:
    arrays = (np.ndarray, Tensor, list, tuple, dict, str, bytes)
    return hasattr(x, "__iter__") and not isinstance(x, arrays) and not hasattr(x, "__array__")


def _no_targets(y: Any, sample_weight: Any, x: Any) -> None:
    if y is not None or sample_weight is not None:
        raise ValueError(
            f"y and sample_weight come from the {type(x).__name__} itself: it gives (x, y) or "
            "(x, y, sample_weight); do not pass them beside it."
        )


def _arrays(part: Any, texts: bool = False) -> Any:
    """Lists of numbers (or texts) as arrays; a list of arrays stays a list."""
    if part is None:
        return None
    if isinstance(part, (list, tuple)) and part and not _holds_arrays(part):
        try:
            whole = np.asarray(part, dtype=object if isinstance(part[0], str) else None)
        except ValueError:
            raise ValueError(
                "the samples in the list differ in length, so they do not form an array; make them "
                "alike, for example with keras.utils.pad_sequences."
            ) from None
        return _array(whole, texts)
    return map_structure(lambda x: _array(x, texts), part)


def _holds_arrays(part: Any) -> bool:
    return isinstance(part[0], (np.ndarray, Tensor, dict)) or hasattr(part[0], "__array__")


def _array(x: Any, texts: bool = False) -> np.ndarray:
    array = x if isinstance(x, np.ndarray) else np.asarray(x)
    if texts and _holds_texts(array):
        return np.asarray(array, dtype=object)
    if array.dtype.kind not in "biuf" and not is_half(array.dtype):
        raise ValueError(
            f"the data hold {array.dtype}, expected numbers; convert them (for example labels with "
            "keras.utils.to_categorical or np.unique(..., return_inverse=True))."
        )
    if array.ndim == 0:
        raise ValueError("the data must have a first axis, for the samples; got a single number.")
    return array


def _holds_texts(array: np.ndarray) -> bool:
    """Whether these are strings, for a model that begins with a layer for them."""
    texts = array.dtype.kind in "US" or (array.dtype == object and isinstance(array.flat[0], str))
    if texts and config.get_device() == "cuda":
        raise ValueError(
            "texts cannot be sent to a GPU; turn them into numbers before the model, such as with "
            "dataset.map(lambda x, y: (vectorize(x), y))."
        )
    return texts


def _common_length(data: tuple) -> int:
    sizes = [len(a) for part in data if part is not None for a in flatten(part)]
    x, y, _ = data
    if not sizes or x is None:
        raise ValueError("there are no data: pass x (and y), a generator or a PyDataset.")
    if sizes[0] == 0:
        raise ValueError("the data are empty: there is no sample to use.")
    if len(set(sizes)) > 1:
        rows = isinstance(x, (list, tuple)) and isinstance(y, np.ndarray) and len(x) == len(y) > 1
        hint = (
            f"; x is a list of {len(x)} arrays, which are as many inputs: for as many samples pass "
            "np.array(x)"
        )
        raise ValueError(
            f"all arrays must have the same number of samples, got {shortened(sizes)} (x, then y, "
            f"then sample_weight){hint if rows else ''}."
        )
    return sizes[0]


def shortened(items: list) -> str:
    """A list for a message: of a long one, how it begins and ends."""
    if len(items) <= 6:
        return str(items)
    return f"[{', '.join(map(str, items[:3]))}, ..., {items[-1]}]"


def input_dtype(dtype: np.dtype, device: str | None = None) -> np.dtype | str:
    """Floats and bytes become `floatx()`; other integers stay: they may be indices.

    Bytes for a GPU become floats there: on the way they take a quarter of the room.
    """
    if dtype == np.uint8:
        return dtype if (device or config.get_device()) == "cuda" else config.floatx()
    return config.floatx() if dtype.kind in FLOATS else dtype


def _target_dtype(dtype: np.dtype) -> np.dtype | str:
    return config.floatx() if dtype.kind in FLOATS else dtype


def _cut(part: Any, rows: Any, dtype_for: Callable | None) -> Any:
    if part is None:
        return None
    if isinstance(part, np.ndarray):
        return _cut_array(part, rows, dtype_for)
    return map_structure(lambda array: _cut_array(array, rows, dtype_for), part)


def _cut_array(array: np.ndarray, rows: Any, dtype_for: Callable | None) -> np.ndarray:
    picked = array[rows] if isinstance(rows, slice) else array.take(rows, 0)
    picked = np.asarray(picked)  # a part of a memory-mapped array is one, too
    return picked if dtype_for is None else picked.astype(dtype_for(array.dtype), copy=False)


def _whole(part: Any, dtype_for: Callable, texts: bool = False) -> Any:
    if part is None:
        return None

    def convert(x: Any) -> np.ndarray:
        array = _array(x, texts)
        return array.astype(dtype_for(array.dtype), copy=False)

    return map_structure(convert, part)


def pack_x_y_sample_weight(x: Any, y: Any = None, sample_weight: Any = None) -> Any:
    """(x, y, sample_weight) without what is None at the end; x alone is no tuple."""
    if y is None:
        return x if not isinstance(x, (tuple, list)) else (x,)
    return (x, y) if sample_weight is None else (x, y, sample_weight)


def unpack_x_y_sample_weight(data: Any) -> tuple[Any, Any, Any]:
    """What `fit` passes to `train_step` as (x, y, sample_weight), None for what is missing."""
    if not isinstance(data, (tuple, list)):
        return data, None, None
    if not 1 <= len(data) <= 3:
        raise ValueError(
            f"unpack_x_y_sample_weight: got {len(data)} items, expected (x,), (x, y) or "
            "(x, y, sample_weight)."
        )
    x, y, sample_weight = (*data, None, None)[:3]
    return x, y, sample_weight
