"""Helpers for data under the names of Keras 2 (`keras.preprocessing`)."""

from minitorch_ciml.keras.data.folders import (
    image_dataset_from_directory,
    text_dataset_from_directory,
)
from minitorch_ciml.keras.data.timeseries import timeseries_dataset_from_array
from minitorch_ciml.keras.preprocessing import image, sequence

__all__ = [
    "image", "image_dataset_from_directory", "sequence", "text_dataset_from_directory",
    "timeseries_dataset_from_array",
]  # fmt: skip


def __dir__() -> list[str]:
    return __all__
