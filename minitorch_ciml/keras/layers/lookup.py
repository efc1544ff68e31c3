"""Layers that number words and other keys by a vocabulary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from minitorch_ciml.autograd import Tensor
from minitorch_ciml.keras.fingerprints import hashed
from minitorch_ciml.keras.layers.images import one_of
from minitorch_ciml.keras.layers.keys import (
    ENCODINGS,
    KeyLayer,
    batches_of,
    encode,
    encoded_shape,
    keys_of,
)
from minitorch_ciml.keras.serialization import serializable


class _Lookup(KeyLayer):
    """Keys -> their numbers in the vocabulary, or codes of these.

    In "int" mode: 0 is `mask_token`, if there is one; then come the numbers of unknown keys, then
    the vocabulary. Codes have no place for the mask.

    Args:
        max_tokens: the most entries that `adapt` makes, special ones included.
        num_oov_indices: how many numbers unknown keys share; with 0 they are an error.
        mask_token: the key that means "nothing here".
        oov_token: what an unknown key's number becomes with `invert`.
        vocabulary: the keys in order, or a text file with one in each line; `adapt(data)` makes one
            where it is left out.
        idf_weights: for "tf_idf" with `vocabulary`: a weight for each of its keys.
        invert: numbers -> keys.
        output_mode: "int", "one_hot", "multi_hot" or "count" (see `CategoryEncoding`), or "tf_idf":
            the counts times the keys' weights. `adapt` gives a key the weight
            ln(1 + N / (1 + n)), where n of N samples have it, and unknown ones the mean weight.
        pad_to_max_tokens: codes have `max_tokens` places.
        sparse: not available.
        salt: one or two integers: unknown keys are shared out by SipHash with this key.
    """

    kind: np.dtype | type

    def __init__(
        self,
        max_tokens: int | None = None,
        num_oov_indices: int = 1,
        mask_token: Any = None,
        oov_token: Any = None,
        vocabulary: Any = None,
        idf_weights: Any = None,
        invert: bool = False,
        output_mode: str = "int",
        pad_to_max_tokens: bool = False,
        sparse: bool = False,
        salt: Any = None,
        **kwargs: Any,
    ):
        kwargs.pop("vocabulary_size", None)  # in files of Keras, which has to know it beforehand
        super().__init__(**kwargs)
        name = type(self).__name__
        if max_tokens is not None and max_tokens <= 1:
            raise ValueError(f"{name}: max_tokens must be greater than 1, got {max_tokens}.")
        if num_oov_indices < 0:
            raise ValueError(f"{name}: num_oov_indices must be 0 or more, got {num_oov_indices}.")
        if pad_to_max_tokens and max_tokens is None:
            raise ValueError(f"{name}: pad_to_max_tokens=True needs max_tokens.")
        if invert and output_mode != "int":
            raise ValueError(f"{name}: invert=True needs output_mode='int', got {output_mode!r}.")
        self.max_tokens = max_tokens
        self.num_oov_indices = num_oov_indices
        self.mask_token = mask_token
        self.oov_token = oov_token
        self.invert = invert
        self.output_mode = one_of(name, "output_mode", known_mode(output_mode), MODES)
        self.pad_to_max_tokens = pad_to_max_tokens
        self.sparse = one_of(name, "sparse", sparse, (False,))
        self.salt = salted(name, salt)
        if idf_weights is not None and self.output_mode != "tf_idf":
            raise ValueError(f"{name}: idf_weights are for output_mode='tf_idf' only.")
        self.vocabulary: list = []
        self.idf_weights: list[float] | None = None
        self._stored_weights: Any = None
        self._fixed = vocabulary is not None
        if vocabulary is not None:
            self.set_vocabulary(vocabulary, idf_weights)

    # --- the vocabulary ---------------------------------------------------------------------------

    @property
    def _specials(self) -> list:
        """What stands before the vocabulary: the mask and the unknown keys."""
        masked = self.mask_token is not None and self.output_mode == "int"
        return [self.mask_token] * masked + [self.oov_token] * self.num_oov_indices

    def set_vocabulary(self, vocabulary: Any, idf_weights: Any = None) -> None:
        """Sets the keys, in order; special tokens at its beginning are recognised.

        Args:
            vocabulary: a list or array, or the name of a text file with a key in each line.
            idf_weights: for "tf_idf": a weight for each.
        """
        if isinstance(vocabulary, (str, Path)):
            vocabulary = Path(vocabulary).read_text(encoding="utf-8").splitlines()
        keys = [self._key(key) for key in np.asarray(vocabulary, dtype=object).tolist()]
        specials = self._specials
        found = bool(specials) and keys[: len(specials)] == specials
        known = keys[len(specials) :] if found else keys
        self._check(known)
        self.vocabulary = known
        self.idf_weights = self._weights(len(keys), idf_weights, 0 if found else len(specials))
        self._index()

    def _check(self, keys: list) -> None:
        name = type(self).__name__
        twice = [key for key, count in Counter(keys).items() if count > 1]
        if twice:
            raise ValueError(f"{name}: {twice[0]!r} is in the vocabulary twice.")
        reserved = [self.mask_token, self.oov_token if self.invert else None]
        misplaced = [key for key in reserved if key is not None and key in keys]
        if misplaced:
            raise ValueError(
                f"{name}: {misplaced[0]!r} stands for something else; leave it out of the "
                f"vocabulary, or begin that with {self._specials}."
            )
        size = len(keys) + len(self._specials)
        if self.max_tokens is not None and size > self.max_tokens:
            raise ValueError(
                f"{name}: a vocabulary of {size} entries (special ones included) is longer than "
                f"max_tokens={self.max_tokens}."
            )

    def _weights(self, size: int, weights: Any, unknown: int) -> list[float] | None:
        """The weights of all entries: `unknown` more before the given ones have their mean."""
        if self.output_mode != "tf_idf":
            return None
        if weights is None or np.shape(weights) != (size,):
            got = "none" if weights is None else f"an array of shape {np.shape(weights)}"
            raise ValueError(
                f"{type(self).__name__}: output_mode='tf_idf' needs idf_weights, one for each of "
                f"the {size} keys of the vocabulary, got {got}."
            )
        given = np.asarray(weights, dtype="float64")
        return [*[float(given.mean())] * unknown, *given.tolist()]

    def _index(self) -> None:
        """Makes the table that `numbers` looks into."""
        first = len(self._specials)
        self._number = {key: i for i, key in enumerate(self.vocabulary, start=first)}
        if self.mask_token is not None:
            self._number[self.mask_token] = 0 if self.output_mode == "int" else -1

    def adapt(self, data: Any, steps: int | None = None) -> None:
        """Makes the vocabulary of the keys in the data, the most frequent first.

        Among those that are equally frequent, the last in the order of sorting come first.

        Args:
            data: an array or a list of keys, or an iterable of batches of them; a sample is a row.
            steps: how many batches to look at; all if left out.
        """
        self.learn(
            list(map(self._key, row.ravel().tolist()))
            for batch in batches_of(data, steps)
            for row in (batch if batch.ndim > 1 else batch.reshape(-1, 1))
        )

    def learn(self, samples: Iterable[list]) -> None:
        """As `adapt`, from the keys of each sample."""
        if self._fixed:
            raise ValueError(
                f"layer {self.name!r} was given its vocabulary and cannot adapt it; make a new "
                "layer without vocabulary=."
            )
        counts: Counter = Counter()
        having: Counter = Counter()
        total = 0
        for total, sample in enumerate(samples, 1):  # noqa: B007  (used afterwards)
            counts.update(sample)
            if self.output_mode == "tf_idf":
                having.update(set(sample))
        for special in (self.mask_token, self.oov_token):
            counts.pop(special, None)
        keys = sorted(counts, key=lambda key: (counts[key], key), reverse=True)
        room = None if self.max_tokens is None else self.max_tokens - len(self._specials)
        keys = keys[:room]
        if not keys:
            raise ValueError(f"layer {self.name!r}: there is no key in the data to adapt to.")
        self.set_vocabulary(keys, np.log(1 + total / (1 + np.array([having[k] for k in keys]))))

    def get_vocabulary(self, include_special_tokens: bool = True) -> list:
        """The keys by their numbers."""
        return [*self._specials, *self.vocabulary] if include_special_tokens else [*self.vocabulary]

    def vocabulary_size(self) -> int:
        """The number of entries, special ones included."""
        return len(self._specials) + len(self.vocabulary)

    @property
    def depth(self) -> int:
        """The length of a code."""
        return (self.pad_to_max_tokens and self.max_tokens) or self.vocabulary_size()

    # --- in files of Keras, which has vocabularies beside the configuration -----------------------

    def save_own_variables(self, store: dict) -> None:
        """Stores the weights of "tf_idf"."""
        if self.idf_weights is not None:
            store["idf_weights"] = np.array(self.idf_weights, self.compute_dtype)

    def load_own_variables(self, store: dict) -> None:
        """Takes the weights that belong to the vocabulary of `load_assets`."""
        self._stored_weights = store.get("idf_weights")

    def load_assets(self, dir_path: Any) -> None:
        """Sets the vocabulary that is in the file `vocabulary.txt` there, one key a line."""
        file = Path(dir_path) / "vocabulary.txt"
        if file.is_file():
            keys = file.read_text("utf-8").splitlines()
            self.set_vocabulary(list(map(self._key, keys)), self._stored_weights)

    # --- looking up -------------------------------------------------------------------------------

    def call(self, inputs: Any) -> Any:
        if not self.vocabulary:
            raise ValueError(f"layer {self.name!r}: call adapt(data) or pass vocabulary= first.")
        array = keys_of(inputs)
        if self.invert:
            return self._keys_at(array)
        found = self.numbers(map(self._key, array.ravel().tolist()))
        index = np.array(found, dtype="int64").reshape(array.shape)
        if self.output_mode == "int":
            return Tensor.constant(index)
        mode = "count" if self.output_mode == "tf_idf" else self.output_mode
        codes = encode(index, mode, self.depth, self.compute_dtype)
        return Tensor.constant(self.weighted(codes.value))

    def numbers(self, keys: Iterable) -> list[int]:
        """The number of every key; -1 for masked ones where these have none."""
        get = self._number.get
        if self.num_oov_indices == 1:
            unknown = len(self._specials) - 1
            return [get(key, unknown) for key in keys]
        return [self._share(key) if (n := get(key)) is None else n for key in keys]

    def weighted(self, counts: np.ndarray) -> np.ndarray:
        """Counts (..., depth) times the keys' weights, if they have any."""
        if self.idf_weights is None:
            return counts
        weights = np.zeros(self.depth, counts.dtype)
        weights[: len(self.idf_weights)] = self.idf_weights
        return counts * weights

    def _keys_at(self, index: np.ndarray) -> np.ndarray:
        keys = self.get_vocabulary()
        found = [keys[i] if 0 <= i < len(keys) else self.oov_token for i in index.flat]
        return np.array(found, dtype=self.kind).reshape(index.shape)

    def _share(self, key: Any) -> int:
        """The number of an unknown key."""
        if not self.num_oov_indices:
            raise ValueError(
                f"layer {self.name!r}: {key!r} is not in the vocabulary, and num_oov_indices=0."
            )
        first = len(self._specials) - self.num_oov_indices
        return first + self._bin(key)

    def _bin(self, key: Any) -> int:
        """Which of the numbers for unknown keys this one has."""
        return hashed(str(key), self.num_oov_indices, self.salt)

    @staticmethod
    def _key(key: Any) -> Any:
        """A key as the vocabulary holds it."""
        raise NotImplementedError

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        if self.output_mode == "int":
            return tuple(input_shape)
        return encoded_shape(tuple(input_shape), self.output_mode, self.depth)

    def get_config(self) -> dict:
        # Of both, special entries included: without them, weights would be averaged once more.
        weighted = self.idf_weights is not None
        vocabulary = self.get_vocabulary(weighted) or None
        return {**super().get_config(), "vocabulary": vocabulary}


MODES = ("int", *ENCODINGS, "tf_idf")


def known_mode(mode: str) -> str:
    """The present name of an output mode that had another one."""
    return {"binary": "multi_hot", "tf-idf": "tf_idf"}.get(mode, mode)


def salted(layer: str, salt: Any) -> list[int] | None:
    """A salt as two integers."""
    pair = [salt, salt] if isinstance(salt, int) else salt
    if pair is not None and (len(pair) != 2 or not all(isinstance(x, int) for x in pair)):
        raise ValueError(f"{layer}: salt must be an integer or two of them, got {salt!r}.")
    return None if pair is None else list(pair)


@serializable("keras.layers")
class StringLookup(_Lookup):
    __doc__ = (_Lookup.__doc__ or "").replace("Keys", "Words", 1)
    kind = object

    def __init__(
        self, max_tokens: int | None = None, num_oov_indices: int = 1, mask_token: Any = None,
        oov_token: str = "[UNK]", vocabulary: Any = None, idf_weights: Any = None,
        invert: bool = False, output_mode: str = "int", pad_to_max_tokens: bool = False,
        sparse: bool = False, encoding: str = "utf-8", **kwargs: Any,
    ):  # fmt: skip
        kwargs.pop("oov_method", None)  # words are always shared out by their hash
        super().__init__(
            max_tokens, num_oov_indices, mask_token, oov_token, vocabulary, idf_weights, invert,
            output_mode, pad_to_max_tokens, sparse, **kwargs,
        )  # fmt: skip
        self.encoding = one_of("StringLookup", "encoding", encoding, ("utf-8",))

    @staticmethod
    def _key(key: Any) -> str:
        return key.decode("utf-8") if isinstance(key, bytes) else str(key)


@serializable("keras.layers")
class IntegerLookup(_Lookup):
    __doc__ = (_Lookup.__doc__ or "").replace("Keys", "Integers", 1)
    kind = np.int64

    def __init__(
        self, max_tokens: int | None = None, num_oov_indices: int = 1, mask_token: Any = None,
        oov_token: int = -1, vocabulary: Any = None, vocabulary_dtype: str = "int64",
        idf_weights: Any = None, invert: bool = False, output_mode: str = "int",
        sparse: bool = False, pad_to_max_tokens: bool = False, oov_method: str = "floormod",
        salt: Any = None, **kwargs: Any,
    ):  # fmt: skip
        if salt is not None and oov_method != "farmhash":
            raise ValueError("IntegerLookup: salt is for oov_method='farmhash' only.")
        super().__init__(
            max_tokens, num_oov_indices, mask_token, oov_token, vocabulary, idf_weights, invert,
            output_mode, pad_to_max_tokens, sparse, salt, **kwargs,
        )  # fmt: skip
        self.vocabulary_dtype = one_of("IntegerLookup", "vocabulary_dtype", vocabulary_dtype,
                                       ("int64",))  # fmt: skip
        self.oov_method = one_of("IntegerLookup", "oov_method", oov_method,
                                 ("floormod", "farmhash"))  # fmt: skip

    @staticmethod
    def _key(key: Any) -> int:
        return int(key)

    def _bin(self, key: int) -> int:
        if self.oov_method == "floormod":
            return key % self.num_oov_indices
        return super()._bin(key)
