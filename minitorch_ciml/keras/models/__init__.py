"""Models (`keras.models`)."""

from minitorch_ciml.keras.models.configuration import clone_model, model_from_json
from minitorch_ciml.keras.models.model import Model
from minitorch_ciml.keras.models.sequential import Sequential
from minitorch_ciml.keras.saving import load_model, save_model

__all__ = ["Model", "Sequential", "clone_model", "load_model", "model_from_json", "save_model"]


def __dir__() -> list[str]:
    return __all__
