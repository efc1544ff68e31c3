"""Helpers around a script: seeds, labels, sequences, custom objects."""

from __future__ import annotations

import random as python_random
from collections.abc import Sequence as SequenceOf
from typing import Any

import numpy as np

from minitorch_ciml import config
from minitorch_ciml.autograd import Tensor
from minitorch_ciml.autograd.tensor import FLOATS, as_array, as_tensor
from minitorch_ciml.keras import bounding_boxes, ops
from minitorch_ciml.keras.backend import is_keras_tensor, standardize_dtype
from minitorch_ciml.keras.callbacks.progress import (
    Progbar,
    disable_interactive_logging,
    enable_interactive_logging,
    is_interactive_logging_enabled,
)
from minitorch_ciml.keras.data.dataset import Dataset
from minitorch_ciml.keras.data.folders import (
    audio_dataset_from_directory,
    image_dataset_from_directory,
    text_dataset_from_directory,
)
from minitorch_ciml.keras.data.timeseries import timeseries_dataset_from_array
from minitorch_ciml.keras.downloads import get_file
from minitorch_ciml.keras.feature_space import FeatureSpace
from minitorch_ciml.keras.images import array_to_img, img_to_array, load_img, save_img
from minitorch_ciml.keras.models.data import (
    PyDataset,
    pack_x_y_sample_weight,
    unpack_x_y_sample_weight,
)
from minitorch_ciml.keras.serialization import (
    custom_object_scope,
    deserialize_keras_object,
    get_custom_objects,
    get_registered_name,
    get_registered_object,
    register_keras_serializable,
    serialize_keras_object,
)
from minitorch_ciml.keras.symbolic import KerasTensor, clear_session
from minitorch_ciml.keras.tree import flatten
from minitorch_ciml.ops.random import set_seed

CustomObjectScope = custom_object_scope
Sequence = PyDataset  # its name in Keras 2


def set_random_seed(seed: int) -> None:
    """Seeds Python's `random`, `numpy.random` and this package: initializers, dropout, shuffling.

    Args:
        seed: 0 to 2^32 - 1.
    """
    if not isinstance(seed, (int, np.integer)) or not 0 <= seed < 1 << 32:
        raise ValueError(f"set_random_seed: got {seed!r}, expected an integer from 0 to 2**32 - 1.")
    python_random.seed(int(seed))
    np.random.seed(seed)  # noqa: NPY002  (users' scripts draw from it)
    set_seed(int(seed))


def to_categorical(x: Any, num_classes: int | None = None) -> Any:
    """One-hot codes of integer labels.

    Args:
        x: labels from 0, of any shape (...) or (..., 1).
        num_classes: C; the largest label plus 1 if left out.

    Returns:
        floatx() (..., C): 1 at the label's place, otherwise 0; a tensor for a tensor.

    Raises:
        ValueError: a label is negative or not below `num_classes`.
    """
    labels = as_array(x).astype(np.int64)
    if labels.ndim > 1 and labels.shape[-1] == 1:
        labels = labels[..., 0]
    if num_classes is None:
        if not labels.size:
            raise ValueError("to_categorical: got no labels; pass num_classes.")
        num_classes = int(labels.max()) + 1
    if labels.size and not 0 <= labels.min() <= labels.max() < num_classes:
        raise ValueError(
            f"to_categorical: got labels from {labels.min()} to {labels.max()}, expected 0 to "
            f"{num_classes - 1} for {num_classes} classes."
        )
    codes = np.zeros((labels.size, num_classes), dtype=config.floatx())
    codes[np.arange(labels.size), labels.ravel()] = 1
    codes = codes.reshape(*labels.shape, num_classes)
    return as_tensor(codes) if isinstance(x, Tensor) else codes


def normalize(x: Any, axis: int = -1, order: int = 2) -> Any:
    """x over its `order`-norm along `axis`; zero vectors stay zero.

    A tensor, also a symbolic one, gives a tensor, through which gradients flow.
    """
    if isinstance(x, (Tensor, KerasTensor)):
        return ops.normalize(x, axis=axis, order=order)
    x = as_array(x)
    if x.dtype.kind not in FLOATS:
        x = x.astype(config.floatx())
    norm = np.atleast_1d(np.linalg.norm(x, order, axis, keepdims=True))
    return x / np.where(norm == 0, 1, norm)


def pad_sequences(
    sequences: SequenceOf[SequenceOf],
    maxlen: int | None = None,
    dtype: Any = "int32",
    padding: str = "pre",
    truncating: str = "pre",
    value: Any = 0.0,
) -> np.ndarray:
    """Sequences of different lengths as one array (N, maxlen, ...).

    Args:
        sequences: N lists or arrays.
        maxlen: the longest one's length if left out.
        dtype: of the result.
        padding: fill up with `value` before ("pre") or after ("post") the elements.
        truncating: cut at the beginning ("pre") or the end ("post") of those that are longer.
        value: what to fill up with.
    """
    for argument, given in (("padding", padding), ("truncating", truncating)):
        if given not in ("pre", "post"):
            raise ValueError(f"pad_sequences: got {argument}={given!r}, expected 'pre' or 'post'.")
    arrays = [np.asarray(s) for s in sequences]
    if any(a.ndim == 0 for a in arrays):
        raise ValueError("pad_sequences: expected a list of sequences, got a list of numbers.")
    length = max(map(len, arrays), default=0) if maxlen is None else maxlen
    inner = next((a.shape[1:] for a in arrays if len(a)), ())
    padded = np.full((len(arrays), length, *inner), value, dtype=dtype)
    for row, a in zip(padded, arrays):
        kept = a[:length] if truncating == "post" else a[max(len(a) - length, 0) :]
        if not len(kept):
            continue
        if kept.shape[1:] != inner:
            raise ValueError(
                f"pad_sequences: got elements of shapes {kept.shape[1:]} and {inner}; they must be "
                "equal."
            )
        if padding == "post":
            row[: len(kept)] = kept
        else:
            row[-len(kept) :] = kept
    return padded


def split_dataset(
    dataset: Any,
    left_size: float | int | None = None,
    right_size: float | int | None = None,
    shuffle: bool = False,
    seed: int | None = None,
    preferred_backend: str | None = None,
) -> tuple[Any, Any]:
    """Splits arrays, or a data set, into a left and a right part of the samples.

    Args:
        dataset: an array; a list or tuple of arrays of the same length; or a data set such as
            `image_dataset_from_directory` gives.
        left_size, right_size: a share (float) or a number (int) of samples; at least one of them.
        shuffle: in random order.
        seed: for `shuffle`.
        preferred_backend: accepted as in Keras, without effect.
    """
    whole = isinstance(dataset, Dataset)
    arrays = dataset if isinstance(dataset, (list, tuple)) else [] if whole else [dataset]
    arrays = [as_array(a) for a in arrays]
    n = dataset.size if whole else len(arrays[0])
    if any(len(a) != n for a in arrays):
        raise ValueError(f"split_dataset: got lengths {[len(a) for a in arrays]}, expected one.")
    left, right = (_samples(size, n) for size in (left_size, right_size))
    if left is None and right is None:
        raise ValueError("split_dataset: give left_size or right_size.")
    left = n - right if left is None else left  # type: ignore[operator]
    right = n - left if right is None else right
    if left < 0 or right < 0 or left + right > n:
        raise ValueError(f"split_dataset: got parts of {left} and {right}, but {n} samples.")
    order = np.random.default_rng(seed).permutation(n) if shuffle else np.arange(n)
    halves = order[:left], order[left : left + right]
    if whole:
        return dataset.rows(halves[0]), dataset.rows(halves[1])
    parts = [[a[rows] for a in arrays] for rows in halves]
    if not isinstance(dataset, (list, tuple)):
        return parts[0][0], parts[1][0]
    return type(dataset)(parts[0]), type(dataset)(parts[1])


def _samples(size: float | int | None, n: int) -> int | None:
    return round(size * n) if isinstance(size, float) else size


def plot_model(
    model: Any,
    to_file: Any = "model.png",
    show_shapes: bool = False,
    show_dtype: bool = False,
    show_layer_names: bool = False,
    rankdir: str = "TB",
    expand_nested: bool = False,
    dpi: int = 200,
    show_layer_activations: bool = False,
    show_trainable: bool = False,
    splines: str = "ortho",
) -> Any:
    """Draws a model's layers and their connections with matplotlib; Graphviz is not needed.

    Args:
        model: a Sequential or functional model whose input's shape is known.
        to_file: where to save it (the ending tells the format: png, svg, pdf); nowhere if None.
        show_shapes, show_dtype: also the outputs' shapes, dtypes.
        show_layer_names: also the layers' names.
        rankdir: "TB" from top to bottom, "LR" from left to right.
        expand_nested: draw the layers of models that are layers of this one, in their place.
        dpi: dots per inch of a file of pixels.
        show_layer_activations: also the layers' activations.
        show_trainable: also whether they are trained.
        splines: accepted as in Keras: lines are drawn in one way.

    Returns:
        The `matplotlib.figure.Figure`.

    Raises:
        ValueError: the model has no graph of layers, or `rankdir` is another.
    """
    if rankdir not in ("TB", "LR"):
        raise ValueError(f"plot_model: got rankdir={rankdir!r}, expected 'TB' or 'LR'.")
    from minitorch_ciml.viz.model import Details, draw_model  # pictures are on request
    from minitorch_ciml.viz.style import finished

    details = Details(
        show_layer_names, show_shapes, show_dtype, show_layer_activations, show_trainable
    )
    return finished(draw_model(model, details, rankdir == "TB", expand_nested), to_file, dpi)


def get_source_inputs(tensor: Any) -> list:
    """The symbolic inputs of the model from which `tensor` comes."""
    found, seen, stack = {}, set(), list(flatten(tensor))
    while stack:
        node = stack.pop().node
        if node in seen:
            continue
        seen.add(node)
        if not node.inputs:
            found.update({id(y): y for y in flatten(node.outputs)})
        stack += reversed(node.inputs)
    return list(found.values())


__all__ = [
    "CustomObjectScope", "FeatureSpace", "Progbar", "PyDataset", "Sequence", "array_to_img",
    "audio_dataset_from_directory", "bounding_boxes", "clear_session", "custom_object_scope",
    "deserialize_keras_object", "disable_interactive_logging", "enable_interactive_logging",
    "get_custom_objects", "get_file", "get_registered_name", "get_registered_object",
    "get_source_inputs", "image_dataset_from_directory", "img_to_array",
    "is_interactive_logging_enabled", "is_keras_tensor", "load_img", "normalize",
    "pack_x_y_sample_weight", "pad_sequences", "plot_model", "register_keras_serializable",
    "save_img", "serialize_keras_object", "set_random_seed", "split_dataset", "standardize_dtype",
    "text_dataset_from_directory", "timeseries_dataset_from_array", "to_categorical",
    "unpack_x_y_sample_weight",
]  # fmt: skip


def __dir__() -> list[str]:
    return __all__
