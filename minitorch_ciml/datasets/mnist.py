"""The MNIST handwritten digits (LeCun, Cortes and Burges, 1998), laid out as Keras' mnist.npz."""

import os
import zipfile
import zlib
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from minitorch_ciml.datasets.source import KERAS_ORIGIN, Source

Bytes: TypeAlias = npt.NDArray[np.uint8]
Split: TypeAlias = tuple[Bytes, Bytes]

# Keras publishes both in keras/src/datasets/mnist.py.
ORIGIN = KERAS_ORIGIN + "mnist.npz"
SHA256 = "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1"
ARRAYS = ("x_train", "y_train", "x_test", "y_test")


def load(path: str | os.PathLike[str] | None = None) -> tuple[Split, Split]:
    """Loads MNIST: 60,000 training and 10,000 test images of the digits 0-9.

    Without `path` the first of these is taken: what the environment variable MINITORCH_CIML_DATA
    names (a folder that holds mnist.npz, or the file), this package's cache, Keras' cache
    (`$KERAS_HOME/datasets` or `~/.keras/datasets`), a checked download into this package's cache.

    Args:
        path: a .npz file in Keras' layout, or a folder that holds mnist.npz.

    Returns:
        `(x_train, y_train), (x_test, y_test)`: images (n, 28, 28) uint8, 0 paper to 255 ink,
        and labels (n,) uint8, 0 to 9.

    Raises:
        FileNotFoundError: if `path`, or what the variable names, does not exist.
        ValueError: if the file is damaged or holds something else.
        ConnectionError: if there is no copy on this machine and none can be downloaded.
    """
    return read(fetch(path=path))


def fetch(filename: str = "mnist.npz", path: str | os.PathLike[str] | None = None) -> Path:
    """Finds or downloads MNIST, and returns where it is.

    Args:
        filename: the file's name in the folders searched, or an absolute path.
        path: see `load`.

    Returns:
        The path of an existing file; its contents are not looked at.

    Raises:
        FileNotFoundError: if `path` or MINITORCH_CIML_DATA names nothing.
        ConnectionError: if there is no copy on this machine and none can be downloaded.
        ValueError: if a download is damaged.
    """
    return _source(filename).find(path)


def _source(filename: str = "mnist.npz") -> Source:
    instead = "; or use datasets.synthetic_digits()"
    return Source("MNIST", filename, ORIGIN, SHA256, instead=instead)


def read(file: str | os.PathLike[str]) -> tuple[Split, Split]:
    """Reads and checks a .npz file in the layout of Keras' mnist.npz; never executes code from it.

    Args:
        file: holds x_train, y_train, x_test, y_test; images (n, 28, 28) and labels (n,), all uint8.

    Returns:
        `(x_train, y_train), (x_test, y_test)`.

    Raises:
        ValueError: if the file cannot be read, or the arrays are not these.
    """
    if not zipfile.is_zipfile(file):
        raise _wrong(file, "it is no .npz archive, or was cut short")
    try:
        with np.load(file, allow_pickle=False) as arrays:
            held = list(arrays)
            found = [arrays[name] for name in ARRAYS if name in held]
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise _wrong(file, f"it cannot be read ({error})") from error
    if len(found) < len(ARRAYS):
        raise _wrong(file, f"it holds {held}, not {list(ARRAYS)}")
    x_train, y_train, x_test, y_test = found
    _check(file, x_train, y_train, "train")
    _check(file, x_test, y_test, "test")
    return (x_train, y_train), (x_test, y_test)


def _wrong(file: str | os.PathLike[str], what: str) -> ValueError:
    return _source().wrong(file, what)


def _check(
    file: str | os.PathLike[str],
    images: npt.NDArray[np.generic],
    labels: npt.NDArray[np.generic],
    split: str,
) -> None:
    """Raises unless a split is uint8 images (n, 28, 28) with n labels from 0 to 9, n > 0."""
    if (
        images.dtype != np.uint8
        or images.ndim != 3
        or images.shape[1:] != (28, 28)
        or not len(images)
    ):
        raise _wrong(file, f"x_{split} is {images.dtype} {images.shape}, not uint8 (n, 28, 28)")
    if labels.dtype != np.uint8 or labels.shape != images.shape[:1]:
        wanted = f"uint8 {images.shape[:1]}"
        raise _wrong(file, f"y_{split} is {labels.dtype} {labels.shape}, not {wanted}")
    if int(labels.max()) > 9:
        raise _wrong(file, f"y_{split} reaches {labels.max()}, not 9")
