"""Models (`keras.models`)."""

from minitorch_ciml.keras.models.configuration import clone_model, model_from_json
from minitorch_ciml.keras.models.model import Functional, Model
from minitorch_ciml.keras.models.sequential import Sequential
from minitorch_ciml.keras.saving import load_model, save_model
