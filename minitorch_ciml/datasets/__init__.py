"""Data sets as tuples of NumPy arrays, in Keras' layout: `(x_train, y_train), (x_test, y_test)`."""

import os

from minitorch_ciml.datasets import mnist
from minitorch_ciml.datasets.mnist import Split
from minitorch_ciml.datasets.synthetic import synthetic_digits

__all__ = ["load", "mnist", "synthetic_digits"]


def load(name: str, path: str | os.PathLike[str] | None = None) -> tuple[Split, Split]:
    """Loads a data set by its name.

    Args:
        name: "mnist" (see `mnist.load`) or "synthetic" (see `synthetic_digits`).
        path: for "mnist", its file or folder; "synthetic" is drawn and takes none.

    Returns:
        `(x_train, y_train), (x_test, y_test)`: images (n, 28, 28) uint8, 0 paper to 255 ink,
        and labels (n,) uint8, 0 to 9.

    Raises:
        ValueError: if there is no such data set, or it takes no path.
    """
    if name == "mnist":
        return mnist.load(path)
    if name != "synthetic":
        raise ValueError(f"there is no data set {name!r}; expected 'mnist' or 'synthetic'")
    if path is not None:
        raise ValueError(
            f"the data set 'synthetic' is drawn, not read: leave out path={os.fspath(path)!r}"
        )
    return synthetic_digits()
