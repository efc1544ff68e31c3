"""Film reviews as sequences of word numbers, good or bad (Maas et al., 2011; Keras' numbering)."""

import os

import numpy as np

from minitorch_ciml.datasets.source import KERAS_ORIGIN, Source
from minitorch_ciml.datasets.word_lists import Numbering, largest, read_arrays, read_word_index

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
    names = [f"{kind}_{part}" for part in ("train", "test") for kind in "xy"]
    arrays = read_arrays(REVIEWS, REVIEWS.find(path), names)
    rng = np.random.RandomState(seed)  # the order of Keras
    how = Numbering(num_words, skip_top, maxlen, start_char, oov_char, index_from)
    splits = []
    for part in ("train", "test"):
        reviews, labels = arrays[f"x_{part}"], arrays[f"y_{part}"]
        order = np.arange(len(reviews))
        rng.shuffle(order)
        splits.append(how.chosen(reviews, labels, order))
    top = max(largest(reviews) for reviews, _ in splits)
    train, test = ((how.limited(reviews, top), labels) for reviews, labels in splits)
    return train, test


def word_index(path: str | os.PathLike[str] | None = None) -> dict[str, int]:
    """The number of every word, 1 for the most frequent; `load` adds `index_from` to them."""
    return read_word_index(WORDS, path)
