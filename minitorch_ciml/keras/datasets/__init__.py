"""Data sets under Keras' names."""

from minitorch_ciml.keras.datasets import cifar10, cifar100, fashion_mnist, imdb, mnist

__all__ = ["cifar10", "cifar100", "fashion_mnist", "imdb", "mnist"]
