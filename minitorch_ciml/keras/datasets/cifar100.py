"""`keras.datasets.cifar100`."""

from minitorch_ciml.datasets import cifar as _cifar

__all__ = ["load_data"]


def load_data(label_mode: str = "fine") -> tuple:
    """Loads CIFAR-100; see `datasets.cifar.load100`."""
    return _cifar.load100(label_mode=label_mode)
