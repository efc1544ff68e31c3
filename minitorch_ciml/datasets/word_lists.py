"""Texts as lists of word numbers: what the files of IMDB and Reuters have in common.

The files hold lists in pickles; they are read without executing anything in them.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from minitorch_ciml.datasets.safe_pickle import loads
from minitorch_ciml.datasets.source import Source


class Numbering(NamedTuple):
    """How words are numbered, and which of them stay.

    Attributes:
        num_words: words with this number or above become `oov_char`; the largest number in the
            data if None, as in Keras.
        skip_top: words below this number become `oov_char`.
        maxlen: texts of this length or longer are left out.
        start_char: put at the beginning of every text; None for nothing.
        oov_char: in the place of the words left out; None leaves them out without a trace.
        index_from: the most frequent word has this number plus 1.
    """

    num_words: int | None = None
    skip_top: int = 0
    maxlen: int | None = None
    start_char: int | None = 1
    oov_char: int | None = 2
    index_from: int = 3

    def chosen(self, texts: Any, labels: np.ndarray, order: np.ndarray) -> tuple:
        """The texts in an order, numbered, and their labels; without those that are too long."""
        begin = [] if self.start_char is None else [self.start_char]
        numbered = [begin + [word + (self.index_from or 0) for word in texts[i]] for i in order]
        kept = [i for i, text in enumerate(numbered) if not self.maxlen or len(text) < self.maxlen]
        if not kept:
            raise ValueError(f"no text is shorter than maxlen={self.maxlen}; take a larger one.")
        return [numbered[i] for i in kept], labels[order][kept]

    def limited(self, texts: list[list[int]], largest: int) -> np.ndarray:
        """The texts with `oov_char` for the words that do not stay, as an array of lists.

        Args:
            texts: numbered.
            largest: the largest number in the data.
        """
        low, high = self.skip_top, self.num_words or largest
        array = np.empty(len(texts), dtype=object)
        if self.oov_char is None:
            array[:] = [[word for word in text if low <= word < high] for text in texts]
        else:
            array[:] = [
                [word if low <= word < high else self.oov_char for word in text] for text in texts
            ]
        return array


def largest(texts: Sequence[list[int]]) -> int:
    """The largest number in texts."""
    return max(max(text) for text in texts)


def read_word_index(source: Source, path: str | os.PathLike[str] | None) -> dict[str, int]:
    """The number of every word, from a JSON file."""
    place = source.find(path)
    try:
        return json.loads(place.read_text(encoding="utf-8"))
    except ValueError as error:
        raise source.wrong(place, f"it cannot be read ({error})") from error


def read_arrays(source: Source, place: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Arrays in an .npz file, by name; also arrays of lists."""
    try:
        with zipfile.ZipFile(place) as archive:
            return {name: _array_in(archive.read(f"{name}.npy")) for name in names}
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile, zlib.error,
            pickle.PickleError) as error:  # fmt: skip
        raise source.wrong(place, f"it cannot be read ({error})") from error


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
