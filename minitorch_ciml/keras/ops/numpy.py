"""`keras.ops.numpy`: the functions that NumPy has, too."""

from minitorch_ciml.keras.ops.calling import all_as_keras
from minitorch_ciml.keras.ops.table import NUMPY

__all__ = list(NUMPY)

globals().update(all_as_keras(__all__))
