"""Compiled kernels on disk: a file for each kernel and each kind of arguments and processor.

Numba's own cache has an index and numbered files beside it. Two processes that compile a kernel for
different arguments at the same time, or for the processors of two nodes with one home, may write
the same number, and then the code of one is loaded as that of the other. It also ends the program
where a quota is used up, or where a machine that went down has left half a file.
"""

from __future__ import annotations

import pickle
import warnings
import zlib
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4

import numba
from numba.core.caching import FunctionCache
from numba.core.serialize import dumps


class CodeFiles:
    """What numba hands to its cache, by key, in files `<name>.<hash>.nbc` of a folder."""

    def __init__(self, folder: str, name: str, stamp: Any) -> None:
        """`stamp` changes with the source; what has another one is not loaded, but replaced."""
        self.folder, self.name, self.stamp = Path(folder), name, stamp

    def path(self, key: Any) -> Path:
        named = sha256(f"{numba.__version__} {key!r}".encode()).hexdigest()[:16]
        return self.folder / f"{self.name}.{named}.nbc"

    def load(self, key: Any) -> Any:
        """What was saved with this key and stamp; None if there is nothing, or nothing whole."""
        try:
            with self.path(key).open("rb") as file:
                header, data = pickle.load(file), file.read()
            return pickle.loads(data) if header == self._header(key, data) else None
        except Exception:  # of half a file, or one that may not be read: like none
            return None

    def save(self, key: Any, value: Any) -> None:
        """Written beside and put in place at once.

        Raises:
            OSError: if that cannot be done; nothing is left then.
        """
        path, data = self.path(key), dumps(value)
        # Not the process id: two nodes that share the folder may have the same.
        beside = path.with_name(f"{path.name}.{uuid4().hex}.tmp")
        try:
            beside.write_bytes(pickle.dumps(self._header(key, data)) + data)
            beside.replace(path)
        except OSError:
            beside.unlink(missing_ok=True)
            raise

    def _header(self, key: Any, data: bytes) -> tuple:
        return self.stamp, repr(key), zlib.crc32(data)


class KernelCache(FunctionCache):
    """Numba's cache of a function, with our files, and no end of the program with their trouble."""

    _warned = False

    def __init__(self, function: Any, stamp: Any) -> None:
        """
        Raises:
            RuntimeError: if no folder can be written.
        """
        super().__init__(function)
        files: Any = CodeFiles(self._cache_path, self._impl.filename_base, stamp)
        self._cache_file = files

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except OSError as error:
            if KernelCache._warned:
                return
            KernelCache._warned = True
            warnings.warn(
                f"compiled kernels cannot be kept in {self._cache_path} ({error.strerror}), so "
                "every process compiles them anew; NUMBA_CACHE_DIR names another folder.",
                RuntimeWarning, stacklevel=2,
            )  # fmt: skip
