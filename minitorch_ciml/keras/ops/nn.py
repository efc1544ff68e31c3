"""`keras.ops.nn`: activations, convolutions, pooling, losses and normalisation."""

from typing import TYPE_CHECKING

from minitorch_ciml.keras.ops.calling import all_as_keras
from minitorch_ciml.keras.ops.table import NN

if TYPE_CHECKING:  # editors and type checkers cannot see what is made below
    from minitorch_ciml.ops import *  # noqa: F403

__all__ = list(NN)

globals().update(all_as_keras(__all__))


def __dir__() -> list[str]:
    return __all__
