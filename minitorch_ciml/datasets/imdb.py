"""Film reviews as sequences of word numbers, good or bad (Maas et al., 2011; Keras' numbering).

The file holds lists in pickles; they are read without executing anything in them.
"""

import io
import json
import os
import pickle
import zipfile
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from minitorch_ciml.datasets.safe_pickle import loads
from minitorch_ciml.datasets.source import KERAS_ORIGIN, Source

# Keras publishes both digests in keras/src/datasets/imdb.py.
REVIEWS = Source(
    "IMDB", "imdb.npz", KERAS_ORIGIN + "imdb.npz",
    "69664113be75683a8fe16e3ed0ab59fda8886cb3cd7ada244f7d9544e4676b9f",
)  # fmt: skip
WORDS = Source(
    "IMDB word index", "imdb_word_index.json", KERAS_ORIGIN + "imdb_word_index.json",
    "bfafd718b763782e994055a2d397834f",
)  # fmt: skip


def load(
    path: str | os.PathLike[str] | None = None,
    num_words: int | None = None,
    skip_top: int = 0,
    maxlen: int | None = None,
    seed: int = 113,
    start_char: int | None = 1,
    oov_char: int | None = 2,
    index_from: int = 3,
) -> tuple:
    """Loads 25,000 reviews to train with and 25,000 to test with.

    Args:
        path: imdb.npz, or a folder that holds it; searched for as `mnist.load` does if left out.
        num_words: words with this number or above become `oov_char`; the largest number in the
            data if left out, as in Keras.
        skip_top: words below this number become `oov_char`.
        maxlen: reviews of this length or longer are left out.
        seed: of the order.
        start_char: put at the beginning of every review; None for nothing.
        oov_char: in the place of the words left out; None leaves them out without a trace.
        index_from: the most frequent word has this number plus 1.

    Returns:
        `(x_train, y_train), (x_test, y_test)`: arrays of lists of integers, and labels 0 and 1.

    Raises:
        FileNotFoundError, ConnectionError, ValueError: as `mnist.load`.
    """
    place = REVIEWS.find(path)
    arrays = _read(place)
    rng = np.random.RandomState(seed)  # the order of Keras
    splits = []
    for part in ("train", "test"):
        reviews, labels = arrays[f"x_{part}"], arrays[f"y_{part}"]
        order = np.arange(len(reviews))
        rng.shuffle(order)
        begin = [] if start_char is None else [start_char]
        numbered = [begin + [word + (index_from or 0) for word in reviews[i]] for i in order]
        kept = [i for i, review in enumerate(numbered) if not maxlen or len(review) < maxlen]
        if not kept:
            raise ValueError(f"imdb: no review is shorter than maxlen={maxlen}; take a larger one.")
        splits.append(([numbered[i] for i in kept], labels[order][kept]))
    top = num_words or max(max(review) for reviews, _ in splits for review in reviews)
    limits = skip_top, top
    train, test = ((_array([_limited(r, limits, oov_char) for r in x]), y) for x, y in splits)
    return train, test


def word_index(path: str | os.PathLike[str] | None = None) -> dict[str, int]:
    """The number of every word, 1 for the most frequent; `load` adds `index_from` to them."""
    place = WORDS.find(path)
    try:
        return json.loads(place.read_text(encoding="utf-8"))
    except ValueError as error:
        raise WORDS.wrong(place, f"it cannot be read ({error})") from error


def _limited(review: list[int], limits: tuple[int, int], oov_char: int | None) -> list[int]:
    low, high = limits
    if oov_char is None:
        return [word for word in review if low <= word < high]
    return [word if low <= word < high else oov_char for word in review]


def _array(lists: Sequence[list]) -> np.ndarray:
    """An array of lists, also where all have one length."""
    array = np.empty(len(lists), dtype=object)
    array[:] = lists
    return array


def _read(place: Any) -> dict[str, np.ndarray]:
    try:
        with zipfile.ZipFile(place) as archive:
            names = [f"{kind}_{part}" for part in ("train", "test") for kind in "xy"]
            return {name: _array_in(archive.read(f"{name}.npy")) for name in names}
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile, zlib.error,
            pickle.PickleError) as error:  # fmt: skip
        raise REVIEWS.wrong(place, f"it cannot be read ({error})") from error


def _array_in(data: bytes) -> np.ndarray:
    """An .npy file, also one with an array of lists, which NumPy would unpickle."""
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    read_header = {
        (1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0,
    }[version]  # fmt: skip
    _, _, dtype = read_header(file)
    if dtype.hasobject:
        return np.asarray(loads(file.read()), dtype=object)
    return np.load(io.BytesIO(data), allow_pickle=False)
