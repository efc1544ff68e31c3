"""`keras.preprocessing.sequence`: see `keras.utils`."""

from minitorch_ciml.keras.utils import pad_sequences

__all__ = ["pad_sequences"]


def __dir__() -> list[str]:
    return __all__
