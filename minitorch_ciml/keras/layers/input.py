"""`Input`: where a model's data come in."""

from __future__ import annotations

from typing import Any

from minitorch_ciml.keras.layers.layer import Layer
from minitorch_ciml.keras.serialization import serializable
from minitorch_ciml.keras.symbolic import KerasTensor, Node


@serializable("keras.layers")
class InputLayer(Layer):
    """The layer behind `Input`: it returns what it is given.

    Args:
        shape: of one sample, without the batch; None for an unknown size.
        batch_size: of the batch, if it is fixed.
        dtype: of the data, `floatx()` if left out; "string" for texts.
        batch_shape: the shape with the batch, in place of `shape`.
    """

    takes_text = True

    def __init__(
        self,
        shape: Any = None,
        batch_size: int | None = None,
        dtype: Any = None,
        sparse: bool | None = None,
        ragged: bool | None = None,
        batch_shape: Any = None,
        input_tensor: Any = None,
        optional: bool = False,
        name: str | None = None,
        **kwargs: Any,
    ):
        self._of_text = dtype == "string"
        super().__init__(name=name, dtype=None if self._of_text else dtype, **kwargs)
        if input_tensor is not None:
            raise ValueError("Input: a model is not built on a tensor; give the shape instead.")
        if optional:
            raise ValueError("Input: an input cannot be optional; pass an array of zeros for it.")
        if sparse or ragged:
            raise ValueError("Input: sparse and ragged inputs are not supported; pass arrays.")
        if batch_shape is None:
            if shape is None and self._first_input_shape is None:
                raise ValueError("Input: give the shape of one sample, such as shape=(28, 28, 1).")
            inner = (shape,) if isinstance(shape, int) else shape
            batch_shape = self._first_input_shape if inner is None else (batch_size, *inner)
        self.batch_shape = tuple(batch_shape)
        if not all(n is None or (hasattr(n, "__index__") and n >= 0) for n in self.batch_shape):
            raise ValueError(
                f"Input: got shape {self.batch_shape[1:]}, expected whole numbers, or None for an "
                "unknown size."
            )
        self.built = True
        tensor = KerasTensor(self.batch_shape, self.dtype, name=self.name)
        Node(self, (), {}, tensor)

    @property
    def dtype(self) -> str:
        return "string" if self._of_text else super().dtype

    def call(self, inputs: Any) -> Any:
        return inputs

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict:
        return {
            "batch_shape": self.batch_shape,
            "dtype": self.dtype,
            "sparse": False,
            "ragged": False,
            "name": self.name,
            "optional": False,
        }

    @classmethod
    def from_config(cls, config: dict) -> InputLayer:
        known = {key: config[key] for key in ("batch_shape", "dtype", "name") if key in config}
        return cls(**known)


def Input(
    shape: Any = None,
    batch_size: int | None = None,
    dtype: Any = None,
    sparse: bool | None = None,
    ragged: bool | None = None,
    batch_shape: Any = None,
    name: str | None = None,
    tensor: Any = None,
    optional: bool = False,
) -> KerasTensor:
    """A symbolic tensor that stands for a model's data.

    Args:
        shape: of one sample, without the batch, such as (28, 28, 1); None for an unknown size.
        batch_size: if it is fixed.
        dtype: `floatx()` if left out; "string" for texts.
        batch_shape: the shape with the batch, in place of `shape`.
        name: by which a dictionary of data finds it.
        sparse, ragged, tensor, optional: as in Keras; there is only what they are by default.
    """
    layer = InputLayer(
        shape, batch_size, dtype, sparse, ragged, batch_shape, tensor, optional, name
    )
    return layer.output
