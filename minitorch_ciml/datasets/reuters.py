"""News in short as sequences of word numbers, on 46 topics (Lewis, 1987; Keras' numbering)."""

import os

import numpy as np

from minitorch_ciml.datasets.source import KERAS_ORIGIN, Source
from minitorch_ciml.datasets.word_lists import Numbering, largest, read_arrays, read_word_index

# Keras publishes both digests in keras/src/datasets/reuters.py.
NEWS = Source(
    "Reuters", "reuters.npz", KERAS_ORIGIN + "reuters.npz",
    "d6586e694ee56d7a4e65172e12b3e987c03096cb01eab99753921ef915959916",
)  # fmt: skip
WORDS = Source(
    "Reuters word index", "reuters_word_index.json", KERAS_ORIGIN + "reuters_word_index.json",
    "4d44cc38712099c9e383dc6e5f11a921",
)  # fmt: skip
TOPICS = tuple(
    "cocoa grain veg-oil earn acq wheat copper housing money-supply coffee sugar trade reserves "
    "ship cotton carcass crude nat-gas cpi money-fx interest gnp meal-feed alum oilseed gold tin "
    "strategic-metal livestock retail ipi iron-steel rubber heat jobs lei bop zinc orange pet-chem "
    "dlr gas silver wpi hog lead".split()
)


def load(
    path: str | os.PathLike[str] | None = None,
    num_words: int | None = None,
    skip_top: int = 0,
    maxlen: int | None = None,
    test_split: float = 0.2,
    seed: int = 113,
    start_char: int | None = 1,
    oov_char: int | None = 2,
    index_from: int = 3,
) -> tuple:
    """Loads 11,228 pieces of news.

    Args:
        path: reuters.npz, or a folder that holds it; searched for as `mnist.load` does if left out.
        test_split: the share that is to test with.
        num_words, skip_top, maxlen, seed, start_char, oov_char, index_from: as in `imdb.load`.

    Returns:
        `(x_train, y_train), (x_test, y_test)`: arrays of lists of integers, and the numbers of
        their `TOPICS`.

    Raises:
        FileNotFoundError, ConnectionError, ValueError: as `mnist.load`.
    """
    arrays = read_arrays(NEWS, NEWS.find(path), "xy")
    order = np.arange(len(arrays["x"]))
    np.random.RandomState(seed).shuffle(order)  # the order of Keras
    how = Numbering(num_words, skip_top, maxlen, start_char, oov_char, index_from)
    texts, labels = how.chosen(arrays["x"], arrays["y"], order)
    x = how.limited(texts, largest(texts))
    at = int(len(x) * (1 - test_split))
    return (x[:at], labels[:at]), (x[at:], labels[at:])


def word_index(path: str | os.PathLike[str] | None = None) -> dict[str, int]:
    """The number of every word, 1 for the most frequent; `load` adds `index_from` to them."""
    return read_word_index(WORDS, path)
