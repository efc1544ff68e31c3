"""Fashion-MNIST (Xiao, Rasul and Vollgraf, 2017): pictures of clothes in the layout of MNIST."""

import gzip
import os
import zlib
from pathlib import Path

import numpy as np

from minitorch_ciml.datasets.mnist import Split
from minitorch_ciml.datasets.source import KERAS_ORIGIN, Source

# The digests are those of the authors' page.
_DIGESTS = {
    "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
}
SOURCES = {
    name: Source("Fashion-MNIST", f"fashion-mnist/{name}", KERAS_ORIGIN + name, digest)
    for name, digest in _DIGESTS.items()
}


def load(path: str | os.PathLike[str] | None = None) -> tuple[Split, Split]:
    """Loads Fashion-MNIST: 60,000 training and 10,000 test images of ten kinds of clothes.

    Args:
        path: the folder that holds `fashion-mnist` with its four files; searched for as
            `mnist.load` does if left out.

    Returns:
        `(x_train, y_train), (x_test, y_test)`: images (n, 28, 28) and labels (n,), uint8. The
        labels are 0 t-shirt, 1 trousers, 2 pullover, 3 dress, 4 coat, 5 sandal, 6 shirt,
        7 sneaker, 8 bag, 9 ankle boot.

    Raises:
        FileNotFoundError, ConnectionError, ValueError: as `mnist.load`.
    """
    train, test = (_split(part, path) for part in ("train", "t10k"))
    return train, test


def _split(part: str, path: str | os.PathLike[str] | None) -> Split:
    images, labels = (
        _read(SOURCES[f"{part}-{kind}-ubyte.gz"], path) for kind in ("images-idx3", "labels-idx1")
    )
    if images.ndim != 3 or labels.shape != images.shape[:1]:
        source = SOURCES[f"{part}-images-idx3-ubyte.gz"]
        raise source.wrong(source.name, f"images {images.shape} and labels {labels.shape}")
    return images, labels


def _read(source: Source, path: str | os.PathLike[str] | None) -> np.ndarray:
    """An IDX file: two zeros, the type (8: bytes), the number of axes, their sizes, the bytes."""
    file: Path = source.find(path)
    try:
        data = gzip.decompress(file.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise source.wrong(file, f"it cannot be read ({error})") from error
    axes = data[3] if data[:3] == b"\x00\x00\x08" else 0
    shape = tuple(np.frombuffer(data, ">u4", axes, 4)) if len(data) >= 4 + 4 * axes else ()
    if not axes or len(data) != 4 + 4 * axes + np.prod(shape, dtype=int):
        raise source.wrong(file, f"it is no IDX file of bytes, or was cut short ({len(data)})")
    return np.frombuffer(data, np.uint8, offset=4 + 4 * axes).reshape(shape)
