"""Files that are written whole or not at all, and arrays in HDF5 files."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from minitorch_ciml.kernels import halves


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file beside `path` that takes its place when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes private files; the result has the permissions of any new file.
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_array(group: Any, name: str, array: np.ndarray) -> None:
    """Writes an array into a group of an HDF5 file.

    HDF5 has no bfloat16: its bytes are written, and Keras reads from an attribute what they mean.
    """
    written = group.create_dataset(name, data=array)
    if array.dtype.name == "bfloat16":
        written.attrs["dtype"] = "bfloat16"


def read_array(dataset: Any) -> Any:
    """What is in a dataset of an HDF5 file."""
    array = dataset[()]
    return np.asarray(array).view(halves.dtype_of("bfloat16")) if array.dtype == "V2" else array


def read_arrays(group: Any) -> dict[str, Any]:
    """What is in each dataset of a group."""
    return {name: read_array(group[name]) for name in group}
