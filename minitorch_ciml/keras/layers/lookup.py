"""Layers that number words and other keys by a vocabulary.

They work on the data before these go into a model: files of words are no tensors.
"""

from __future__ import annotations

from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from minitorch_ciml.autograd import Tensor
from minitorch_ciml.keras.layers.features import ENCODINGS, batches_of, encode
from minitorch_ciml.keras.layers.images import one_of
from minitorch_ciml.keras.layers.layer import Layer
from minitorch_ciml.keras.serialization import serializable


class _Lookup(Layer):
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
        invert: numbers -> keys.
        output_mode: "int", "one_hot", "multi_hot" or "count"; see `CategoryEncoding`.
        pad_to_max_tokens: codes have `max_tokens` places.
        idf_weights, sparse: not available.
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
        **kwargs: Any,
    ):
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
        self.idf_weights = one_of(name, "idf_weights", idf_weights, (None,))
        self.invert = invert
        self.output_mode = one_of(name, "output_mode", output_mode, ("int", *ENCODINGS))
        self.pad_to_max_tokens = pad_to_max_tokens
        self.sparse = one_of(name, "sparse", sparse, (False,))
        self.vocabulary: list = []
        self.built = True
        if vocabulary is not None:
            self.set_vocabulary(vocabulary)

    @property
    def _specials(self) -> list:
        """What stands before the vocabulary: the mask and the unknown keys."""
        masked = self.mask_token is not None and self.output_mode == "int"
        return [self.mask_token] * masked + [self.oov_token] * self.num_oov_indices

    def set_vocabulary(self, vocabulary: Any, idf_weights: Any = None) -> None:
        """Sets the keys, in order; special tokens at its beginning are recognised.

        Args:
            vocabulary: a list or array, or the name of a text file with a key in each line.
            idf_weights: not available.
        """
        if isinstance(vocabulary, (str, Path)):
            vocabulary = Path(vocabulary).read_text(encoding="utf-8").splitlines()
        keys = [self._key(key) for key in np.asarray(vocabulary).tolist()]
        specials = self._specials
        if specials and keys[: len(specials)] == specials:
            keys = keys[len(specials) :]
        twice = [key for key, count in Counter(keys).items() if count > 1]
        if twice:
            raise ValueError(f"{type(self).__name__}: {twice[0]!r} is in the vocabulary twice.")
        if self.max_tokens is not None and len(keys) + len(specials) > self.max_tokens:
            raise ValueError(
                f"{type(self).__name__}: a vocabulary of {len(keys) + len(specials)} entries "
                f"(special ones included) is longer than max_tokens={self.max_tokens}."
            )
        self.vocabulary = keys
        self._number = {key: i for i, key in enumerate(keys, start=len(specials))}

    def adapt(self, data: Any, steps: int | None = None) -> None:
        """Makes the vocabulary of the keys in the data, the most frequent first.

        Args:
            data: an array or a list of keys, or an iterable of batches of them.
            steps: how many batches to look at; all if left out.
        """
        counts: Counter = Counter()
        for batch in islice(batches_of(data), steps):
            counts.update(map(self._key, batch.ravel().tolist()))
        for special in (self.mask_token, self.oov_token):
            counts.pop(special, None)
        keys = sorted(counts, key=lambda key: (counts[key], key), reverse=True)
        room = None if self.max_tokens is None else self.max_tokens - len(self._specials)
        self.set_vocabulary(keys[:room])

    def get_vocabulary(self, include_special_tokens: bool = True) -> list:
        """The keys by their numbers."""
        return [*self._specials, *self.vocabulary] if include_special_tokens else [*self.vocabulary]

    def vocabulary_size(self) -> int:
        """The number of entries, special ones included."""
        return len(self._specials) + len(self.vocabulary)

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:
        if hasattr(inputs, "__keras_tensor__"):
            raise ValueError(
                f"{type(self).__name__} works on the data before the model: call it on the arrays "
                "that fit gets, not on keras.Input."
            )
        if not self.vocabulary:
            raise ValueError(f"layer {self.name!r}: call adapt(data) or pass vocabulary= first.")
        return self.call(np.asarray(inputs))

    def call(self, inputs: Any) -> Any:
        if self.invert:
            keys = self.get_vocabulary()
            found = [keys[i] if 0 <= i < len(keys) else self.oov_token for i in inputs.flat]
            return np.array(found, dtype=self.kind).reshape(inputs.shape)
        flat = [self._find(self._key(key)) for key in inputs.ravel().tolist()]
        index = np.array(flat, dtype="int64").reshape(inputs.shape)
        if self.output_mode == "int":
            return Tensor.constant(index)
        depth = self.max_tokens if self.pad_to_max_tokens else self.vocabulary_size()
        return encode(index, self.output_mode, depth or 0, self.compute_dtype)

    def _find(self, key: Any) -> int:
        if self.mask_token is not None and key == self.mask_token:
            return 0 if self.output_mode == "int" else -1
        number = self._number.get(key)
        if number is not None:
            return number
        if not self.num_oov_indices:
            raise ValueError(
                f"layer {self.name!r}: {key!r} is not in the vocabulary, and num_oov_indices=0."
            )
        first = len(self._specials) - self.num_oov_indices
        return first + self._share(key)

    @staticmethod
    def _key(key: Any) -> Any:
        """A key as the vocabulary holds it."""
        raise NotImplementedError

    def _share(self, key: Any) -> int:
        """Which of the numbers for unknown keys this one has."""
        return 0

    def get_config(self) -> dict:
        return {**super().get_config(), "vocabulary": self.vocabulary or None}


@serializable("keras.layers")
class StringLookup(_Lookup):
    __doc__ = (_Lookup.__doc__ or "").replace("Keys", "Words", 1)
    kind = str

    def __init__(
        self, max_tokens: int | None = None, num_oov_indices: int = 1, mask_token: Any = None,
        oov_token: str = "[UNK]", vocabulary: Any = None, **kwargs: Any,
    ):  # fmt: skip
        if num_oov_indices > 1:
            raise ValueError(
                f"StringLookup: num_oov_indices must be 0 or 1, got {num_oov_indices}; Keras' hash "
                "of several is not available."
            )
        super().__init__(max_tokens, num_oov_indices, mask_token, oov_token, vocabulary, **kwargs)

    @staticmethod
    def _key(key: Any) -> str:
        return key.decode("utf-8") if isinstance(key, bytes) else str(key)


@serializable("keras.layers")
class IntegerLookup(_Lookup):
    __doc__ = (_Lookup.__doc__ or "").replace("Keys", "Integers", 1)
    kind = np.int64

    def __init__(
        self, max_tokens: int | None = None, num_oov_indices: int = 1, mask_token: Any = None,
        oov_token: int = -1, vocabulary: Any = None, **kwargs: Any,
    ):  # fmt: skip
        super().__init__(max_tokens, num_oov_indices, mask_token, oov_token, vocabulary, **kwargs)

    @staticmethod
    def _key(key: Any) -> int:
        return int(key)

    def _share(self, key: int) -> int:
        return key % self.num_oov_indices
