"""Layers that put keys into bins by a hash, without a vocabulary."""

from __future__ import annotations

from typing import Any

import numpy as np

from minitorch_ciml.autograd import Tensor
from minitorch_ciml.keras.fingerprints import crossed, farmhash, hashed
from minitorch_ciml.keras.layers.images import one_of
from minitorch_ciml.keras.layers.kernel_layer import positive
from minitorch_ciml.keras.layers.keys import (
    ENCODINGS,
    KeyLayer,
    encode,
    encoded_shape,
    keys_of,
    strings,
)
from minitorch_ciml.keras.layers.lookup import salted
from minitorch_ciml.keras.serialization import serializable
from minitorch_ciml.keras.tree import flatten


@serializable("keras.layers")
class Hashing(KeyLayer):
    """Strings or integers -> bins 0 to num_bins - 1, by their hash.

    Numbers are hashed as their decimal digits. The bins are those of Keras on every machine.

    Args:
        num_bins: the number of bins, with the mask's.
        mask_value: a key that has bin 0 for itself.
        salt: one or two integers: SipHash with this key in place of FarmHash.
        output_mode: "int", or a code as in `CategoryEncoding`.
        sparse: not available.
    """

    def __init__(
        self, num_bins: int, mask_value: Any = None, salt: Any = None, output_mode: str = "int",
        sparse: bool = False, **kwargs: Any,
    ):  # fmt: skip
        kwargs = _without_integer_dtype(kwargs)
        super().__init__(**kwargs)
        self.num_bins = positive("Hashing", "num_bins", num_bins)
        self.mask_value = mask_value
        self.salt = salted("Hashing", salt)
        self.output_mode = one_of("Hashing", "output_mode", output_mode, ("int", *ENCODINGS))
        self.sparse = one_of("Hashing", "sparse", sparse, (False,))

    def call(self, inputs: Any) -> Any:
        keys = keys_of(inputs)
        masked = self.mask_value is not None and self.num_bins > 1
        bins = self.num_bins - masked
        index = np.array([hashed(k, bins, self.salt) for k in strings(keys)], dtype="int64")
        index = index.reshape(keys.shape)
        if masked:
            index = np.where(keys == self.mask_value, 0, index + 1)
        if self.output_mode == "int":
            return Tensor.constant(index)
        return encode(index, self.output_mode, self.num_bins, self.compute_dtype)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        if self.output_mode == "int":
            return tuple(input_shape)
        return encoded_shape(tuple(input_shape), self.output_mode, self.num_bins)


@serializable("keras.layers")
class HashedCrossing(KeyLayer):
    """Several keys for each sample -> one bin for their combination.

    Args:
        num_bins: the number of bins.
        output_mode: "int" or "one_hot".
        sparse: not available.

    Call arguments:
        inputs: a list of two or more arrays (N,) or (N, 1) of strings or integers.
    """

    def __init__(
        self, num_bins: int, output_mode: str = "int", sparse: bool = False, **kwargs: Any
    ):
        super().__init__(**_without_integer_dtype(kwargs))
        self.num_bins = positive("HashedCrossing", "num_bins", num_bins)
        self.output_mode = one_of("HashedCrossing", "output_mode", output_mode, ("int", "one_hot"))
        self.sparse = one_of("HashedCrossing", "sparse", sparse, (False,))

    def call(self, inputs: Any) -> Any:
        if not isinstance(inputs, (list, tuple)) or len(inputs) < 2:
            raise ValueError("HashedCrossing takes a list of at least two arrays.")
        columns = [keys_of(x) for x in inputs]
        shape = columns[0].shape
        if any(c.shape != shape for c in columns) or len(shape) > 2 or shape[1:] not in ((), (1,)):
            raise ValueError(
                "HashedCrossing takes arrays of one shape, (N,) or (N, 1), got "
                f"{[c.shape for c in columns]}."
            )
        samples = zip(*map(_fingerprints, columns))
        index = np.array([crossed(sample) % self.num_bins for sample in samples], dtype="int64")
        index = index.reshape(shape)
        if self.output_mode == "int":
            return Tensor.constant(index)
        return encode(index, self.output_mode, self.num_bins, self.compute_dtype)

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        return super().compute_output_spec(flatten(args[0])[0])

    def compute_output_shape(self, input_shape: Any) -> tuple:
        first = input_shape[0] if isinstance(input_shape, list) else input_shape
        return (
            encoded_shape(first, "one_hot", self.num_bins) if self.output_mode != "int" else first
        )


def _fingerprints(column: np.ndarray) -> list[int]:
    """Integers stand for themselves, strings for their hashes."""
    if column.dtype.kind in "iub":
        return column.ravel().tolist()
    if column.dtype.kind == "f":
        raise ValueError(f"HashedCrossing takes strings or integers, got {column.dtype}.")
    return [farmhash(key.encode("utf-8")) for key in strings(column)]


def _without_integer_dtype(kwargs: dict) -> dict:
    """Keras' files name the dtype of integer bins, which is not that of a layer's numbers here."""
    dtype = kwargs.get("dtype")
    return {**kwargs, "dtype": None} if dtype in ("int32", "int64") else kwargs
