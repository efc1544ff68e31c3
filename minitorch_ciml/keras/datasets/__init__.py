"""Data sets under Keras' names."""

from . import mnist

__all__ = ["mnist"]
