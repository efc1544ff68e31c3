"""`keras.ops.nn`: activations, convolutions, pooling, losses and normalisation."""

from minitorch_ciml.keras.ops.calling import all_as_keras
from minitorch_ciml.keras.ops.table import NN

__all__ = list(NN)

globals().update(all_as_keras(__all__))
