"""Models (`keras.models`)."""

from minitorch_ciml.keras.models.model import Functional, Model
from minitorch_ciml.keras.models.sequential import Sequential

__all__ = ["Functional", "Model", "Sequential"]
