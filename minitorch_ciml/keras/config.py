"""Settings (`keras.config`)."""

from minitorch_ciml.config import floatx, set_floatx
from minitorch_ciml.keras.backend import backend, epsilon, image_data_format
from minitorch_ciml.keras.dtype_policies import dtype_policy, set_dtype_policy

__all__ = [
    "backend", "dtype_policy", "epsilon", "floatx", "image_data_format", "set_dtype_policy",
    "set_floatx",
]  # fmt: skip
