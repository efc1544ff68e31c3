"""Trained weights: files that Keras publishes, where Keras keeps them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from minitorch_ciml.keras.downloads import get_file

ORIGIN = "https://storage.googleapis.com/tensorflow/keras-applications/"

# (name, address, published MD5 or SHA-256, or None): what `fetch` takes.
File = tuple[str, str, str | None]


def published(
    path: str,
    whole: str | None = None,
    without_top: str | None = None,
    ending: str = "_notop",
    origin: str = ORIGIN,
) -> Callable[[bool], File]:
    """The two files of a network, chosen by what is called include_top.

    Args:
        path: below `origin`, without ".h5".
        whole, without_top: their MD5 or SHA-256.
        ending: what the name of the one without the top has more.
    """

    def file(include_top: bool) -> File:
        address = f"{origin}{path}{'' if include_top else ending}.h5"
        return address.rpartition("/")[2], address, whole if include_top else without_top

    return file


def fetch(name: str, origin: str, digest: str | None) -> str:
    """A published file in Keras' folder of models, `$KERAS_HOME/models` or `~/.keras/models`.

    Args:
        name: the file's name there.
        origin: its address, from which it is downloaded if it is not there.
        digest: its published MD5 or SHA-256; None if there is none.

    Raises:
        ConnectionError: it is not there and cannot be downloaded.
        ValueError: the download is damaged.
    """
    try:
        return get_file(name, origin, file_hash=digest, cache_subdir="models")
    except OSError as error:
        folder = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / "models"
        raise ConnectionError(
            f"{name} is not on this machine and could not be downloaded ({error}): fetch {origin} "
            f"where there is a network and put it at {folder / name}, or set KERAS_HOME to the "
            f"folder that has models/{name}"
        ) from error
