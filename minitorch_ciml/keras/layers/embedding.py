"""Embedding: a table of vectors, looked up by integers."""

from __future__ import annotations

from typing import Any

import numpy as np

from minitorch_ciml import ops
from minitorch_ciml.autograd import Tensor
from minitorch_ciml.autograd.tensor import as_tensor
from minitorch_ciml.keras import quantizers
from minitorch_ciml.keras.layers.kernel_layer import positive
from minitorch_ciml.keras.layers.quantized import Quantized
from minitorch_ciml.keras.serialization import get, serializable
from minitorch_ciml.keras.symbolic import KerasTensor
from minitorch_ciml.kernels import steps


@serializable("keras.layers")
class Embedding(Quantized):
    """y[..., :] = table[x]; x (...) integers below `input_dim` -> y (..., output_dim).

    Args:
        input_dim: the number of rows of the table: the largest integer plus 1.
        output_dim: the length of a vector.
        embeddings_initializer, embeddings_regularizer, embeddings_constraint: of the table.
        mask_zero: whether 0 means "nothing here": such steps are masked for the layers after.
        lora_rank, lora_alpha: for `enable_lora`, as soon as there is a table.
        quantization_config: for `quantize`.
    """

    adapted = "embeddings"
    embeddings = Quantized._whole_matrix
    quantizes = True

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        embeddings_initializer: Any = "uniform",
        embeddings_regularizer: Any = None,
        embeddings_constraint: Any = None,
        mask_zero: bool = False,
        *,
        lora_rank: int | None = None,
        lora_alpha: float | None = None,
        quantization_config: Any = None,
        **kwargs: Any,
    ):
        if kwargs.get("input_length") is not None and "input_shape" not in kwargs:
            length = kwargs.pop("input_length")  # Keras 2
            kwargs["input_shape"] = (length,) if isinstance(length, int) else tuple(length)
        super().__init__(**kwargs)
        self.quantization_config = quantizers.get(quantization_config)
        self.input_dim = positive("Embedding", "input_dim", input_dim)
        self.output_dim = positive("Embedding", "output_dim", output_dim)
        self.embeddings_initializer = get("keras.initializers", embeddings_initializer,
                                          "initializer")  # fmt: skip
        self.embeddings_regularizer = get("keras.regularizers", embeddings_regularizer,
                                          "regularizer")  # fmt: skip
        self.embeddings_constraint = get("keras.constraints", embeddings_constraint, "constraint")
        self.mask_zero = self.supports_masking = mask_zero
        self._set_up_lora(lora_rank, lora_alpha)
        self.autocast = False

    def build(self, input_shape: Any = None) -> None:
        shape = self.input_dim, self.output_dim
        self.embeddings = self._make_matrix(shape, lambda: self.add_weight(
            shape, self.embeddings_initializer, regularizer=self.embeddings_regularizer,
            constraint=self.embeddings_constraint, name="embeddings",
        ))  # fmt: skip
        self._enable_lora_if_asked()

    def call(self, inputs: Any) -> Any:
        index = self._index(as_tensor(inputs))
        rows = ops.take(self._plain_matrix, index, axis=0)
        if self.quantized:
            rows = rows / ops.expand_dims(ops.take(self._scale, index, axis=0), -1)
        if self.lora_enabled:  # without the whole table that `embeddings` would be
            a, b = self._lora_factors
            rows = rows + ops.matmul(ops.take(a, index, axis=0), b) * self._lora_scale
        return ops.cast(rows, self.compute_dtype)

    def _summed_axes(self) -> int:
        return -1  # a scale for every row, of which there are more, as in Keras

    def _float_matrix(self) -> Any:
        if not self.quantized:
            return self._plain_matrix
        return self._plain_matrix / ops.expand_dims(self._scale, -1)

    def _index(self, x: Tensor) -> Tensor:
        """The integers, which are rows of the table."""
        index = x if x.dtype.kind in "iu" else x.astype("int32")
        if index.size:
            steps.check(self._check_range, index.value)
        return index

    def _check_range(self, index: np.ndarray) -> None:
        least, largest = index.min(), index.max()
        if least < 0 or largest >= self.input_dim:
            raise ValueError(
                f"layer {self.name!r}: the integers must be between 0 and input_dim - 1 = "
                f"{self.input_dim - 1}, got {least} to {largest}."
            )

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        return ops.not_equal(inputs, 0) if self.mask_zero else None

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return (*input_shape, self.output_dim)

    def get_config(self) -> dict:
        return {"activity_regularizer": None, **super().get_config()}  # also None, as in Keras


@serializable("keras.layers")
class ReversibleEmbedding(Embedding):
    """An `Embedding` that also goes back: with `reverse=True`, y = x table^T; x (..., output_dim).

    For language models: the numbers (..., input_dim) are the scores of all words (Press and Wolf,
    2016).

    Args:
        input_dim, output_dim, embeddings_initializer, ..., mask_zero: see `Embedding`.
        tie_weights: whether both ways have one table; otherwise the way back has its own.
        reverse_dtype: in which the way back is computed; that of the layer if left out.
        logit_soft_cap: c: the scores y become c tanh(y / c).
    """

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        tie_weights: bool = True,
        embeddings_initializer: Any = "uniform",
        embeddings_regularizer: Any = None,
        embeddings_constraint: Any = None,
        mask_zero: bool = False,
        reverse_dtype: Any = None,
        logit_soft_cap: float | None = None,
        **kwargs: Any,
    ):
        super().__init__(
            input_dim, output_dim, embeddings_initializer, embeddings_regularizer,
            embeddings_constraint, mask_zero, **kwargs,
        )  # fmt: skip
        self.tie_weights = tie_weights
        self.reverse_dtype = reverse_dtype
        self.logit_soft_cap = logit_soft_cap

    def build(self, input_shape: Any = None) -> None:
        super().build(input_shape)
        if not self.tie_weights:
            self.reverse_embeddings = self.add_weight(
                (self.output_dim, self.input_dim), self.embeddings_initializer,
                name="reverse_embeddings",
            )  # fmt: skip

    def call(self, inputs: Any, reverse: bool = False) -> Any:
        if not reverse:
            return super().call(inputs)
        table = ops.transpose(self.embeddings) if self.tie_weights else self.reverse_embeddings
        if self.reverse_dtype is not None:
            inputs = ops.cast(inputs, self.reverse_dtype)
            table = ops.cast(table, self.reverse_dtype)
        scores = ops.matmul(inputs, table)
        cap = self.logit_soft_cap
        return scores if cap is None else cap * ops.tanh(scores / cap)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """That of integers; the way back has none."""
        integers = as_tensor(inputs).dtype.kind in "iu"
        return super().compute_mask(inputs, mask) if integers else None

    def compute_output_spec(self, inputs: Any, reverse: bool = False) -> Any:
        return KerasTensor(self.compute_output_shape(inputs.shape, reverse), self.compute_dtype)

    def compute_output_shape(self, input_shape: tuple, reverse: bool = False) -> tuple:
        front = input_shape[:-1] if reverse else input_shape
        return (*front, self.input_dim if reverse else self.output_dim)
