"""Embedding: a table of vectors, looked up by integers."""

from __future__ import annotations

from typing import Any

from minitorch_ciml import ops
from minitorch_ciml.autograd.tensor import as_tensor
from minitorch_ciml.keras.layers.kernel_layer import positive
from minitorch_ciml.keras.layers.layer import Layer
from minitorch_ciml.keras.serialization import get, serializable


@serializable("keras.layers")
class Embedding(Layer):
    """y[..., :] = table[x]; x (...) integers below `input_dim` -> y (..., output_dim).

    Args:
        input_dim: the number of rows of the table: the largest integer plus 1.
        output_dim: the length of a vector.
        embeddings_initializer, embeddings_regularizer, embeddings_constraint: of the table.
        mask_zero: whether 0 means "nothing here": such steps are masked for the layers after.
    """

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        embeddings_initializer: Any = "uniform",
        embeddings_regularizer: Any = None,
        embeddings_constraint: Any = None,
        mask_zero: bool = False,
        **kwargs: Any,
    ):
        if kwargs.get("input_length") is not None and "input_shape" not in kwargs:
            length = kwargs.pop("input_length")  # Keras 2
            kwargs["input_shape"] = (length,) if isinstance(length, int) else tuple(length)
        super().__init__(**kwargs)
        self.input_dim = positive("Embedding", "input_dim", input_dim)
        self.output_dim = positive("Embedding", "output_dim", output_dim)
        self.embeddings_initializer = get("keras.initializers", embeddings_initializer,
                                          "initializer")  # fmt: skip
        self.embeddings_regularizer = get("keras.regularizers", embeddings_regularizer,
                                          "regularizer")  # fmt: skip
        self.embeddings_constraint = get("keras.constraints", embeddings_constraint, "constraint")
        self.mask_zero = self.supports_masking = mask_zero
        self.autocast = False

    def build(self, input_shape: tuple) -> None:
        self.embeddings = self.add_weight(
            (self.input_dim, self.output_dim), self.embeddings_initializer,
            regularizer=self.embeddings_regularizer, constraint=self.embeddings_constraint,
            name="embeddings",
        )  # fmt: skip

    def call(self, inputs: Any) -> Any:
        x = as_tensor(inputs)
        if x.device == "cuda":  # to look at the integers would be to wait for the GPU
            return ops.take(
                self.embeddings, x if x.dtype.kind in "iu" else x.astype("int32"), axis=0
            )
        index = x.value
        if index.dtype.kind not in "iu":
            index = index.astype("int32")
        if index.size and (index.min() < 0 or index.max() >= self.input_dim):
            raise ValueError(
                f"layer {self.name!r}: the integers must be between 0 and input_dim - 1 = "
                f"{self.input_dim - 1}, got {index.min()} to {index.max()}."
            )
        return ops.take(self.embeddings, index, axis=0)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        return ops.not_equal(inputs, 0) if self.mask_zero else None

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return (*input_shape, self.output_dim)
