"""`keras.datasets.mnist`."""

from minitorch_ciml.datasets import mnist as _mnist

__all__ = ["load_data"]


def load_data(path: str = "mnist.npz") -> tuple[_mnist.Split, _mnist.Split]:
    """Loads MNIST; downloads it where this machine has no copy, and never makes do with other data.

    Args:
        path: the file's name in the cache folders (see `datasets.mnist.load`), or an absolute path.

    Returns:
        `(x_train, y_train), (x_test, y_test)`: images (n, 28, 28) uint8, 0 paper to 255 ink,
        and labels (n,) uint8, 0 to 9; 60,000 training and 10,000 test images.

    Raises:
        FileNotFoundError: if the environment variable MINITORCH_CIML_DATA names nothing.
        ConnectionError: if there is no copy on this machine and none can be downloaded.
        ValueError: if the file is damaged or holds something else.
    """
    return _mnist.read(_mnist.fetch(path))
