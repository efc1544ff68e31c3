"""Every differentiable function, with the names and meanings of NumPy and `keras.ops`."""

from minitorch_ciml.ops import math as _math
from minitorch_ciml.ops.math import *  # noqa: F403

__all__ = [*_math.__all__]
