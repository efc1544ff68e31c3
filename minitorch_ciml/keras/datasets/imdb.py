"""`keras.datasets.imdb`."""

from minitorch_ciml.datasets import imdb as _imdb

__all__ = ["get_word_index", "load_data"]


def load_data(
    path: str = "imdb.npz",
    num_words: int | None = None,
    skip_top: int = 0,
    maxlen: int | None = None,
    seed: int = 113,
    start_char: int | None = 1,
    oov_char: int | None = 2,
    index_from: int = 3,
) -> tuple:
    """Loads the film reviews; see `datasets.imdb.load`.

    Args:
        path: the file's name in the cache folders, or an absolute path.
        num_words, skip_top, maxlen, seed, start_char, oov_char, index_from: see there.
    """
    place = _imdb.REVIEWS._replace(name=path).find()
    return _imdb.load(place, num_words, skip_top, maxlen, seed, start_char, oov_char, index_from)


def get_word_index(path: str = "imdb_word_index.json") -> dict[str, int]:
    """The number of every word; see `datasets.imdb.word_index`."""
    return _imdb.word_index(_imdb.WORDS._replace(name=path).find())
