"""`TextVectorization`: texts as the numbers of their words, or as counts of these."""

from __future__ import annotations

import string
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from minitorch_ciml.autograd import Tensor
from minitorch_ciml.keras.layers.images import one_of
from minitorch_ciml.keras.layers.keys import KeyLayer, batches_of, encode_rows, keys_of, padded
from minitorch_ciml.keras.layers.lookup import MODES, StringLookup, known_mode
from minitorch_ciml.keras.serialization import get, serializable

# As in TensorFlow, which works on bytes: only ASCII has small letters, punctuation and spaces.
_PUNCTUATION = string.punctuation.encode()
_STANDARDS: dict[str, Callable[[bytes], bytes]] = {
    "lower_and_strip_punctuation": lambda text: text.lower().translate(None, _PUNCTUATION),
    "lower": lambda text: text.lower(),
    "strip_punctuation": lambda text: text.translate(None, _PUNCTUATION),
}
_SPLITS: dict[str, Callable[[bytes], list[bytes]]] = {
    "whitespace": lambda text: text.split(),
    "character": lambda text: [c.encode() for c in text.decode("utf-8", "replace")],
}


@serializable("keras.layers")
class TextVectorization(KeyLayer):
    """Texts (N,) or (N, 1) -> the numbers of their words (N, L), or codes (N, depth).

    A text is standardised, split into tokens, and these are joined to n-grams and looked up in the
    vocabulary. In "int" mode 0 fills up shorter texts, 1 is any unknown token, and the vocabulary
    follows.

    Args:
        max_tokens: the most entries that `adapt` makes, special ones included.
        standardize: "lower_and_strip_punctuation", "lower" or "strip_punctuation", which know
            ASCII letters and punctuation; a function of an array of strings; or None.
        split: "whitespace" or "character"; a function of an array of N strings that gives N lists
            of tokens; or None for texts (N, K) that are tokens already.
        ngrams: n for all runs of 1 to n tokens, joined by spaces, or a tuple of lengths.
        output_mode: "int", "multi_hot" (1 where a token occurs), "count", or "tf_idf" (see
            `StringLookup`).
        output_sequence_length: L, for "int"; the longest text's length in the batch if left out.
        pad_to_max_tokens: codes have `max_tokens` places.
        vocabulary: the tokens in order, or a text file with one in each line; `adapt(data)` makes
            one where it is left out.
        idf_weights: for "tf_idf" with `vocabulary`.
        sparse, ragged: not available.
        encoding: "utf-8", of texts that are bytes.
    """

    def __init__(
        self,
        max_tokens: int | None = None,
        standardize: Any = "lower_and_strip_punctuation",
        split: Any = "whitespace",
        ngrams: Any = None,
        output_mode: str = "int",
        output_sequence_length: int | None = None,
        pad_to_max_tokens: bool = False,
        vocabulary: Any = None,
        idf_weights: Any = None,
        sparse: bool = False,
        ragged: bool = False,
        encoding: str = "utf-8",
        **kwargs: Any,
    ):
        kwargs.pop("vocabulary_size", None)  # in files of Keras
        super().__init__(**kwargs)
        name = type(self).__name__
        self.output_mode = one_of(name, "output_mode", known_mode(output_mode), MODES)
        self.standardize = _choice("standardize", standardize, _STANDARDS)
        self.split = _choice("split", split, _SPLITS)
        self.ngrams = _lengths(ngrams)
        if output_sequence_length is not None and self.output_mode != "int":
            raise ValueError(f"{name}: output_sequence_length is for output_mode='int' only.")
        if output_sequence_length is not None and output_sequence_length < 1:
            raise ValueError(
                f"{name}: output_sequence_length must be positive, got {output_sequence_length}."
            )
        self.output_sequence_length = output_sequence_length
        self.ragged = one_of(name, "ragged", ragged, (False,))
        self.sparse = one_of(name, "sparse", sparse, (False,))
        self.encoding = one_of(name, "encoding", encoding, ("utf-8",))
        self.max_tokens, self.pad_to_max_tokens = max_tokens, pad_to_max_tokens
        self._lookup_layer = _TokenLookup(
            max_tokens, mask_token="", vocabulary=vocabulary, idf_weights=idf_weights,
            output_mode=self.output_mode, pad_to_max_tokens=pad_to_max_tokens,
        )  # fmt: skip

    def adapt(self, data: Any, batch_size: int | None = None, steps: int | None = None) -> None:
        """Makes the vocabulary of the tokens in the texts, the most frequent first.

        Args:
            data: an array or a list of texts, or an iterable of batches of them; of batches (x, y)
                it is x that counts.
            batch_size: accepted as in Keras, without effect.
            steps: how many batches to look at; all if left out.
        """
        batches = batches_of(data, steps)
        self._lookup_layer.learn(tokens for batch in batches for tokens in self.tokens(batch))

    def set_vocabulary(self, vocabulary: Any, idf_weights: Any = None) -> None:
        """Sets the tokens, in order; see `StringLookup.set_vocabulary`."""
        self._lookup_layer.set_vocabulary(vocabulary, idf_weights)

    def get_vocabulary(self, include_special_tokens: bool = True) -> list[str]:
        """The tokens by their numbers."""
        return self._lookup_layer.get_vocabulary(include_special_tokens)

    def vocabulary_size(self) -> int:
        """The number of entries, special ones included."""
        return self._lookup_layer.vocabulary_size()

    def save_own_variables(self, store: dict) -> None:
        """Stores the weights of "tf_idf"."""
        self._lookup_layer.save_own_variables(store)

    def load_own_variables(self, store: dict) -> None:
        """Takes the weights that belong to the vocabulary of `load_assets`."""
        self._lookup_layer.load_own_variables(store)

    def load_assets(self, dir_path: Any) -> None:
        """Sets the vocabulary that is in the file `vocabulary.txt` there, one word a line."""
        self._lookup_layer.load_assets(dir_path)

    def call(self, inputs: Any) -> Any:
        lookup = self._lookup_layer
        if not lookup.vocabulary:
            raise ValueError(f"layer {self.name!r}: call adapt(data) or pass vocabulary= first.")
        texts = keys_of(inputs)
        rows = [lookup.numbers(tokens) for tokens in self.tokens(texts)]
        if self.output_mode == "int":
            longest = max(map(len, rows), default=0)
            result = padded(rows, self.output_sequence_length or longest, 0)
        else:
            mode = "multi_hot" if self.output_mode == "multi_hot" else "count"
            result = lookup.weighted(encode_rows(rows, mode, lookup.depth, self.compute_dtype))
        return Tensor.constant(result if texts.ndim else result[0])

    def tokens(self, texts: np.ndarray) -> Iterator[list[bytes]]:
        """The tokens of every text, as bytes."""
        if callable(self.standardize):
            texts = np.asarray(self.standardize(_decoded(texts)), dtype=object)
        standard = _STANDARDS.get(self.standardize, bytes)
        for pieces in self._split(texts, standard):
            yield pieces if self.ngrams is None else _joined(pieces, self.ngrams)

    def _split(self, texts: np.ndarray, standard: Callable) -> Iterator[list[bytes]]:
        if self.split is None:
            rows = texts if texts.ndim > 1 else texts.reshape(-1, 1)
            return ([standard(_bytes(token)) for token in row] for row in rows.tolist())
        if texts.ndim > 1 and texts.size != len(texts):
            raise ValueError(
                f"layer {self.name!r} (TextVectorization) takes texts (N,) or (N, 1), got shape "
                f"{texts.shape}; with split=None it takes tokens (N, K)."
            )
        whole = (standard(_bytes(text)) for text in texts.ravel().tolist())
        if callable(self.split):
            decoded = np.array([text.decode("utf-8") for text in whole], dtype=object)
            return ([_bytes(token) for token in row] for row in self.split(decoded))
        return map(_SPLITS[self.split], whole)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        if self.output_mode == "int":
            return (input_shape[0], self.output_sequence_length)
        return (input_shape[0], self._lookup_layer.depth)

    def get_config(self) -> dict:
        lookup = self._lookup_layer.get_config()
        learned = {key: lookup[key] for key in ("vocabulary", "idf_weights")}
        return {**super().get_config(), **learned}

    @classmethod
    def from_config(cls, config: dict) -> Any:
        lengths = config.get("ngrams")
        config = {**config, "ngrams": tuple(lengths) if isinstance(lengths, list) else lengths}
        return super().from_config(config)


class _TokenLookup(StringLookup):
    """A `StringLookup` whose table has the keys as bytes, as texts are split into."""

    def _index(self) -> None:
        super()._index()
        self._number = {key.encode("utf-8"): n for key, n in self._number.items()}

    def learn(self, samples: Any) -> None:
        decode = bytes.decode
        super().learn([decode(token, "utf-8", "replace") for token in row] for row in samples)


def _choice(name: str, value: Any, known: dict) -> Any:
    """A name, a function, or None."""
    if isinstance(value, dict):  # a function, in a file
        value = get("keras.layers", value, name)
    if callable(value):
        return value
    return one_of("TextVectorization", name, value, (*known, None))


def _lengths(ngrams: Any) -> tuple[int, ...] | None:
    """The lengths of n-grams."""
    if ngrams is None:
        return None
    lengths = tuple(range(1, ngrams + 1)) if isinstance(ngrams, int) else ngrams
    valid = isinstance(lengths, tuple) and lengths
    if not valid or not all(isinstance(n, int) and n > 0 for n in lengths):
        raise ValueError(
            f"TextVectorization: ngrams must be a positive integer or a tuple of them, got "
            f"{ngrams!r}."
        )
    return lengths


def _joined(tokens: list[bytes], lengths: tuple[int, ...]) -> list[bytes]:
    """All runs of tokens of each length, in the order of the lengths."""
    return [
        b" ".join(tokens[i : i + n]) for n in lengths for i in range(len(tokens) - n + 1)
    ]  # fmt: skip


def _bytes(text: Any) -> bytes:
    return text if isinstance(text, bytes) else str(text).encode("utf-8")


def _decoded(texts: np.ndarray) -> np.ndarray:
    """Texts as an array of strings proper, which NumPy's functions of strings take."""
    flat = [t.decode("utf-8") if isinstance(t, bytes) else str(t) for t in texts.ravel().tolist()]
    return np.array(flat, dtype=str).reshape(texts.shape)
