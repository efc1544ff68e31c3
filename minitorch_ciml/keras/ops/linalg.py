"""`keras.ops.linalg`: decompositions, and what solves equations."""

from minitorch_ciml.keras.ops.calling import all_as_keras
from minitorch_ciml.keras.ops.table import LINALG

__all__ = list(LINALG)

globals().update(all_as_keras(__all__))
