"""Helpers for data under the names of Keras 2 (`keras.preprocessing`)."""

from minitorch_ciml.keras.preprocessing import image, sequence

__all__ = ["image", "sequence"]
