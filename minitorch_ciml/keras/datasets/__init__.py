"""Data sets under Keras' names."""

from minitorch_ciml.keras.datasets import mnist

__all__ = ["mnist"]
