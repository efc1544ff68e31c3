"""The few functions of `keras.backend` that scripts use."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from minitorch_ciml import config
from minitorch_ciml.config import floatx, set_floatx
from minitorch_ciml.keras.symbolic import KerasTensor, clear_session
from minitorch_ciml.keras.symbolic import unique_name as get_uid
from minitorch_ciml.kernels import halves

__all__ = [
    "backend", "clear_session", "epsilon", "floatx", "get_uid", "image_data_format",
    "is_float_dtype", "is_int_dtype", "is_keras_tensor", "result_type", "set_epsilon", "set_floatx",
    "set_image_data_format", "standardize_dtype",
]  # fmt: skip

_EPSILON = 1e-7
_DATA_FORMATS = ("channels_last", "channels_first")
_settings = {"epsilon": _EPSILON, "image_data_format": "channels_last"}


def backend() -> str:
    """The name of the engine: "minitorch_ciml"."""
    return "minitorch_ciml"


def epsilon() -> float:
    """The small number that keeps denominators and logarithms away from 0: 1e-7."""
    return _settings["epsilon"]  # type: ignore[return-value]


def set_epsilon(value: float) -> None:
    """Sets what `epsilon()` gives; the losses and metrics of this package keep 1e-7."""
    if not isinstance(value, (int, float)) or not value > 0:
        raise ValueError(f"set_epsilon: expected a positive number, got {value!r}.")
    if value != _EPSILON:
        warnings.warn(
            "set_epsilon: epsilon() gives the new value; losses and metrics go on with 1e-7.",
            stacklevel=2,
        )
    _settings["epsilon"] = float(value)


def image_data_format() -> str:
    """The order of axes of layers that are given none: "channels_last", if not set."""
    return _settings["image_data_format"]  # type: ignore[return-value]


def set_image_data_format(data_format: str) -> None:
    """Sets the order of axes ("channels_last", "channels_first") of layers that are given none."""
    _settings["image_data_format"] = standardize_data_format(data_format)


def standardize_data_format(data_format: str | None) -> str:
    """The order of axes that `data_format` means: None is `image_data_format()`."""
    if data_format is None:
        return image_data_format()
    name = str(data_format).lower()
    if name not in _DATA_FORMATS:
        raise ValueError(
            f"data_format must be 'channels_last' or 'channels_first', got {data_format!r}."
        )
    return name


def standardize_dtype(dtype: Any) -> str:
    """A dtype's name; `floatx()` for None and `float`, "int32" for `int`, as in Keras."""
    if dtype is None or dtype is float:
        return config.floatx()
    if dtype is int or (isinstance(dtype, str) and dtype == "int"):
        return "int32"
    if isinstance(dtype, str) and dtype == "string":
        return dtype
    return halves.dtype_of(dtype).name


def result_type(*dtypes: Any) -> str:
    """The dtype of what is computed from these dtypes (names, tensors' dtypes, `int`, `float`)."""
    if not dtypes:
        return config.floatx()
    # As in Keras, an integer makes no float wider, and Python's numbers make nothing wider.
    python = [dtype for dtype in dtypes if dtype in (bool, int, float)]
    arrays = [halves.dtype_of(standardize_dtype(d)) for d in dtypes if d not in (bool, int, float)]
    floats = [dtype for dtype in arrays if is_float_dtype(dtype)]
    if floats:
        return halves.promoted(*floats).name
    if float in python:
        return config.floatx()
    if int in python and all(dtype.kind == "b" for dtype in arrays):
        return "int32"
    return np.result_type(*arrays).name if arrays else "bool"


def is_float_dtype(dtype: Any) -> bool:
    """Whether the dtype is one of floats."""
    name = standardize_dtype(dtype)
    return name.startswith(("float", "bfloat"))


def is_int_dtype(dtype: Any) -> bool:
    """Whether the dtype is one of integers."""
    return standardize_dtype(dtype).startswith(("int", "uint"))


def is_keras_tensor(x: Any) -> bool:
    """Whether `x` is a symbolic tensor of a model."""
    return isinstance(x, KerasTensor)


def __dir__() -> list[str]:
    return __all__
