"""Pickles of arrays and lists, read without executing anything in them."""

import io
import pickle
from typing import Any

import numpy as np

# What files of arrays need. A pickle can name any function to be called; these are the only ones.
_ALLOWED = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): lambda text, encoding: text.encode(encoding),
}
for _module in ("numpy.core.multiarray", "numpy._core.multiarray"):
    _ALLOWED[_module, "_reconstruct"] = np._core.multiarray._reconstruct  # type: ignore[attr-defined]


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is not allowed")
        return _ALLOWED[module, name]


def loads(data: bytes) -> Any:
    """The lists, dictionaries and arrays in a pickle, also one of Python 2 (its text as bytes).

    Raises:
        pickle.UnpicklingError: it holds anything else, or is cut short.
    """
    try:
        return _ArraysOnly(io.BytesIO(data), encoding="bytes").load()
    except (EOFError, ValueError, TypeError, IndexError, AttributeError) as error:
        raise pickle.UnpicklingError(str(error)) from error
