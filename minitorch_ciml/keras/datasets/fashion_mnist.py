"""`keras.datasets.fashion_mnist`."""

from minitorch_ciml.datasets import fashion_mnist as _fashion_mnist

__all__ = ["load_data"]


def load_data() -> tuple:
    """Loads Fashion-MNIST; see `datasets.fashion_mnist.load`."""
    return _fashion_mnist.load()
