"""`keras.datasets.reuters`."""

from minitorch_ciml.datasets import reuters as _reuters

__all__ = ["get_label_names", "get_word_index", "load_data"]


def load_data(
    path: str = "reuters.npz",
    num_words: int | None = None,
    skip_top: int = 0,
    maxlen: int | None = None,
    test_split: float = 0.2,
    seed: int = 113,
    start_char: int | None = 1,
    oov_char: int | None = 2,
    index_from: int = 3,
) -> tuple:
    """Loads the news; see `datasets.reuters.load`.

    Args:
        path: the file's name in the cache folders, or an absolute path.
        num_words, skip_top, maxlen, test_split, seed, start_char, oov_char, index_from: see there.
    """
    place = _reuters.NEWS._replace(name=path).find()
    return _reuters.load(
        place, num_words, skip_top, maxlen, test_split, seed, start_char, oov_char, index_from
    )


def get_word_index(path: str = "reuters_word_index.json") -> dict[str, int]:
    """The number of every word; see `datasets.reuters.word_index`."""
    return _reuters.word_index(_reuters.WORDS._replace(name=path).find())


def get_label_names() -> tuple[str, ...]:
    """The names of the topics 0 to 45."""
    return _reuters.TOPICS
