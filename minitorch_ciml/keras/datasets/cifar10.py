"""`keras.datasets.cifar10`."""

from minitorch_ciml.datasets import cifar as _cifar

__all__ = ["load_data"]


def load_data() -> tuple:
    """Loads CIFAR-10; see `datasets.cifar.load10`."""
    return _cifar.load10()
