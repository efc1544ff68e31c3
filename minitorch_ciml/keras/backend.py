"""The few functions of `keras.backend` that scripts use."""

from __future__ import annotations

from minitorch_ciml.config import floatx, set_floatx
from minitorch_ciml.keras.symbolic import clear_session

__all__ = ["backend", "clear_session", "epsilon", "floatx", "image_data_format", "set_floatx"]


def backend() -> str:
    """The name of the engine: "minitorch_ciml"."""
    return "minitorch_ciml"


def epsilon() -> float:
    """The small number that keeps denominators and logarithms away from 0: 1e-7."""
    return 1e-7


def image_data_format() -> str:
    """The order of axes where none is given: "channels_last"."""
    return "channels_last"
