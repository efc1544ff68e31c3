"""Where cached files live, and how one is written so that nobody ever reads half of it."""

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


def cache_dir() -> Path:
    """This user's cache folder: `$XDG_CACHE_HOME/minitorch_ciml`, else in `~/.cache`."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "minitorch_ciml"


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Opens a temporary file beside `path` that takes its name only once it is complete.

    Missing parent folders are made. If the body raises, `path` keeps its old contents (or stays
    absent) and the temporary file is removed.

    Args:
        path: the final name.

    Yields:
        A binary file to write to.

    Raises:
        OSError: if the folder cannot be written.
    """
    final = Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    # Not the process id: ranks on two nodes share a file system and may have the same id.
    temporary = final.with_name(f".{final.name}.{uuid.uuid4().hex}.tmp")
    try:
        with open(temporary, "xb") as file:
            yield file
        os.replace(temporary, final)
    finally:
        temporary.unlink(missing_ok=True)
