"""The base of layers on words and other keys, and what they share: texts as arrays, and codes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np

from minitorch_ciml.autograd import Tensor
from minitorch_ciml.autograd.tensor import FLOATS
from minitorch_ciml.keras.layers.layer import Layer, is_text
from minitorch_ciml.keras.symbolic import KerasTensor, any_symbolic

ENCODINGS = ("one_hot", "multi_hot", "count")


class KeyLayer(Layer):
    """A base: keys (strings or integers) in, integers or codes out, with NumPy on the host.

    Such a layer is called on arrays or lists of keys as they are: on the data before the model, in
    a data set's `map`, or as the first layer of a model whose `Input` has dtype="string".
    """

    takes_text = True
    output_mode: str

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.autocast = False
        self.built = True

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:
        if any_symbolic(inputs):
            return self._call_symbolically((inputs,), kwargs)
        return self.call(inputs, **kwargs)

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> KerasTensor:
        shape = self.compute_output_shape(args[0].shape)
        return KerasTensor(shape, "int64" if self.output_mode == "int" else self.compute_dtype)


def keys_of(inputs: Any) -> np.ndarray:
    """Keys as an array: of Python strings, or of numbers.

    Strings are objects, since an array of strings proper has room for the longest in every place.
    """
    if isinstance(inputs, Tensor):
        inputs = inputs.value if inputs.device == "cpu" else inputs.numpy()
    if not isinstance(inputs, np.ndarray):
        array = np.asarray(inputs, dtype=object)
        numbers = bool(array.size) and not isinstance(array.flat[0], (str, bytes))
        inputs = np.asarray(inputs) if numbers else array
    if not is_text(inputs):
        return np.asarray(inputs)
    return inputs.astype(object)


def batches_of(data: Any, steps: int | None = None) -> Iterator[np.ndarray]:
    """The data that `adapt` is given: an array is one batch, a data set many.

    Of batches (x, y) it is x that counts.

    Args:
        data: an array, a list of keys or numbers or of arrays, a `PyDataset`, or an iterable.
        steps: how many batches to look at; all if left out.
    """
    if hasattr(data, "__array__"):
        data = [data]
    elif isinstance(data, (list, tuple)):
        data = data if data and hasattr(data[0], "__array__") else [data]
    elif not hasattr(data, "__iter__"):  # a PyDataset
        data = (data[i] for i in range(len(data)))
    for batch in islice(data, steps):
        yield keys_of(batch[0] if isinstance(batch, tuple) else batch)


# --- codes --------------------------------------------------------------------------------------


def encode(index: np.ndarray, mode: str, depth: int, dtype: Any, weights: Any = None) -> Tensor:
    """Indices below `depth` as codes.

    Args:
        index: integers; for "one_hot" (...) or (..., 1), otherwise (..., K).
        mode: "one_hot": (..., depth); "multi_hot": (..., depth), 1 where an index occurs; "count":
            how often it does, or the sum of its weights. Indices outside count nowhere.
        weights: in the shape of `index`.
    """
    if mode == "one_hot":
        if index.ndim > 1 and index.shape[-1] == 1:
            index = index[..., 0]
        index = index[..., None]
    rows = index.reshape(-1, index.shape[-1])
    weights = None if weights is None else np.asarray(weights).reshape(rows.shape)
    codes = _summed(rows, depth, weights)
    if mode != "count":
        codes = codes > 0
    return Tensor.constant(codes.reshape(*index.shape[:-1], depth).astype(dtype))


def encode_rows(rows: list[list[int]], mode: str, depth: int, dtype: Any) -> np.ndarray:
    """As `encode` for "multi_hot" and "count", of rows of different lengths: (N, depth)."""
    longest = max(map(len, rows), default=0)
    codes = _summed(padded(rows, longest, -1), depth)
    return (codes > 0 if mode == "multi_hot" else codes).astype(dtype)


def padded(rows: list[list[int]], length: int, value: int) -> np.ndarray:
    """Rows of different lengths, cut or filled up at their ends: int64 (N, length)."""
    array = np.full((len(rows), length), value, dtype="int64")
    for target, row in zip(array, rows):
        kept = row[:length]
        target[: len(kept)] = kept
    return array


def _summed(rows: np.ndarray, depth: int, weights: Any = None) -> np.ndarray:
    """How often each index is in each row (or the sum of its weights), without a one-hot array."""
    inside = (rows >= 0) & (rows < depth)
    places = (rows + np.arange(len(rows))[:, None] * depth)[inside]
    chosen = None if weights is None else weights[inside]
    return np.bincount(places, chosen, minlength=len(rows) * depth).reshape(len(rows), depth)


def encoded_shape(input_shape: tuple, mode: str, depth: int) -> tuple:
    """The shape of what `encode` gives."""
    if mode == "one_hot" and (len(input_shape) == 1 or input_shape[-1] != 1):
        return (*input_shape, depth)
    return (*input_shape[:-1], depth)


def strings(array: np.ndarray) -> Iterable[str]:
    """The keys of an array as strings, in order; bytes are UTF-8, floats are cut to integers."""
    if array.dtype.kind in FLOATS:
        array = array.astype("int64")
    for key in array.ravel().tolist():
        yield key.decode("utf-8") if isinstance(key, bytes) else str(key)
