"""CIFAR-10 and CIFAR-100 (Krizhevsky, 2009): small colour photographs of ten or a hundred things.

Their files are pickles; they are read without executing anything in them.
"""

import os
import pickle
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from minitorch_ciml.datasets.mnist import Split
from minitorch_ciml.datasets.safe_pickle import loads
from minitorch_ciml.datasets.source import Source

_ORIGIN = "https://www.cs.toronto.edu/~kriz/"
# Keras publishes both digests, in keras/src/datasets.
CIFAR10 = Source(
    "CIFAR-10", "cifar-10-python.tar.gz", _ORIGIN + "cifar-10-python.tar.gz",
    "6d958be074577803d12ecdefd02955f39262c83c16fe9354329d7fe0b5c001ce",
    ("cifar-10-batches-py-target/cifar-10-batches-py", "cifar-10-batches-py"),
)  # fmt: skip
CIFAR100 = Source(
    "CIFAR-100", "cifar-100-python.tar.gz", _ORIGIN + "cifar-100-python.tar.gz",
    "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
    ("cifar-100-python-target/cifar-100-python", "cifar-100-python"),
)  # fmt: skip


def load10(path: str | os.PathLike[str] | None = None) -> tuple[Split, Split]:
    """Loads CIFAR-10: 50,000 training and 10,000 test photographs of ten things.

    Args:
        path: cifar-10-python.tar.gz, or a folder that holds it or `cifar-10-batches-py`; searched
            for as `mnist.load` does if left out.

    Returns:
        `(x_train, y_train), (x_test, y_test)`: images (n, 32, 32, 3) uint8 and labels (n, 1) uint8:
        0 airplane, 1 automobile, 2 bird, 3 cat, 4 deer, 5 dog, 6 frog, 7 horse, 8 ship, 9 truck.

    Raises:
        FileNotFoundError, ConnectionError, ValueError: as `mnist.load`.
    """
    names = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
    *train, test = _read(CIFAR10, path, names, b"labels")
    return (np.concatenate([x for x, _ in train]), np.concatenate([y for _, y in train])), test


def load100(
    path: str | os.PathLike[str] | None = None, label_mode: str = "fine"
) -> tuple[Split, Split]:
    """Loads CIFAR-100: as `load10`, with a hundred classes ("fine") or twenty groups ("coarse")."""
    if label_mode not in ("fine", "coarse"):
        raise ValueError(
            f"cifar100: got label_mode={label_mode!r}, expected 'fine' (100 classes) or 'coarse' "
            "(20 groups)."
        )
    train, test = _read(CIFAR100, path, ["train", "test"], f"{label_mode}_labels".encode())
    return train, test


def _read(
    source: Source, path: str | os.PathLike[str] | None, names: list[str], labels: bytes
) -> list[Split]:
    """Images and labels of the files with these names."""
    place = source.find(path)
    try:
        found = {name: loads(data) for name, data in _members(place, names)}
        missing = [name for name in names if name not in found]
        if missing:
            raise source.wrong(place, f"it lacks {missing[0]}")
        return [_split(found[name], labels) for name in names]
    except (OSError, EOFError, KeyError, tarfile.TarError, zlib.error, pickle.PickleError) as error:
        raise source.wrong(place, f"it cannot be read ({error})") from error


def _members(place: Path, names: list[str]) -> Iterator[tuple[str, bytes]]:
    """The files with these names in a folder, or in an archive of one."""
    if place.is_dir():
        yield from ((name, (place / name).read_bytes()) for name in names)
        return
    with tarfile.open(place) as archive:
        for member in archive:
            name = Path(member.name).name
            if name in names and member.isfile():
                yield name, archive.extractfile(member).read()  # type: ignore[union-attr]


def _split(record: dict, labels: bytes) -> Split:
    images = np.asarray(record[b"data"], np.uint8).reshape(-1, 3, 32, 32)
    return images.transpose(0, 2, 3, 1), np.asarray(record[labels], np.uint8)[:, None]
