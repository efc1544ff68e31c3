"""Data sets as tuples of NumPy arrays, in Keras' layout: `(x_train, y_train), (x_test, y_test)`."""

import os

from minitorch_ciml.datasets import cifar, fashion_mnist, housing, imdb, mnist, reuters
from minitorch_ciml.datasets.mnist import Split
from minitorch_ciml.datasets.synthetic import synthetic_digits

__all__ = [
    "cifar", "digits", "fashion_mnist", "housing", "imdb", "load", "mnist", "reuters",
    "synthetic_digits",
]  # fmt: skip


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


def digits(n_train: int = 60_000, n_test: int = 10_000) -> tuple[Split, Split]:
    """The first digits of MNIST or, where it cannot be had, digits that the package draws.

    For tutorials and trials. It prints a line when the digits are drawn, since a score on them is
    not a score on MNIST; what must be MNIST takes `load("mnist")`.

    Args:
        n_train: number of training images, at least 1 (MNIST has 60,000).
        n_test: number of test images, at least 1 (MNIST has 10,000).

    Returns:
        `(x_train, y_train), (x_test, y_test)`: images (n, 28, 28) uint8, 0 paper to 255 ink,
        and labels (n,) uint8, 0 to 9.

    Raises:
        FileNotFoundError, ValueError: if the copy of MNIST that was named is missing or damaged.
        ValueError: if a number of images is below 1.
    """
    if min(n_train, n_test) < 1:
        raise ValueError(
            f"digits(n_train={n_train}, n_test={n_test}): expected at least one image of each kind"
        )
    try:
        (x_train, y_train), (x_test, y_test) = mnist.load()
    except ConnectionError:
        print("MNIST is not on this machine and could not be downloaded: drawing digits instead.")
        return synthetic_digits(n_train, n_test)
    return (x_train[:n_train], y_train[:n_train]), (x_test[:n_test], y_test[:n_test])


def __dir__() -> list[str]:
    return __all__
