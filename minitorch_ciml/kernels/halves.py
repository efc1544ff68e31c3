"""Floats of 16 bits: float16, and bfloat16, which has float32's range and 8 bits of precision.

They are for memory and for tensor cores. What no kernel has in 16 bits is computed in float32 and
rounded: on the CPU everything, which gains nothing there, but means the same as on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np

# Whether any are in use: until then, no kernel is looked up with them in mind.
in_use = False

MANY = 1 << 12  # elements that are worth a kernel

# Ops that are told their result's dtype, or that have to see the bits as they are.
_TOLD = {"cast", "to", "identity", "view"}


def is_half(dtype: Any) -> bool:
    """Whether it is a float of 16 bits."""
    return dtype.itemsize == 2 and dtype.kind in "fV"


def know_bfloat16() -> None:
    """Makes NumPy know bfloat16.

    Raises:
        ImportError: `ml_dtypes`, which brings it, is not installed.
    """
    try:
        import ml_dtypes  # noqa: F401  (its import is what counts)
    except ImportError:
        raise ImportError(
            "bfloat16 needs the package ml_dtypes, which is not installed; "
            "pip install 'minitorch_ciml[mixed]'."
        ) from None


def dtype_of(name: Any) -> np.dtype:
    """NumPy's dtype of that name, or what else tells one; also of "bfloat16"."""
    if name == "bfloat16":
        know_bfloat16()
    return np.dtype(name)


def finfo(dtype: np.dtype) -> Any:
    """NumPy's `finfo` of a float dtype, also of bfloat16: `min`, `max`, `eps`, `nmant`, ..."""
    if dtype.kind == "f":
        return np.finfo(dtype)
    import ml_dtypes  # it made the dtype

    return ml_dtypes.finfo(dtype)


def promoted(*dtypes: np.dtype) -> np.dtype:
    """The dtype that holds the numbers of all: NumPy's, float32 for float16 with bfloat16."""
    if len({d for d in dtypes if is_half(d)}) > 1:
        dtypes = (*(d for d in dtypes if not is_half(d)), np.dtype("float32"))
    return np.result_type(*dtypes)


def wide(array: Any) -> Any:
    """An array of 16-bit floats as float32; anything else as it is."""
    return _cast(array, np.dtype("float32")) if _of_halves(array) else array


def computing_in_float32(name: str, kernel: Callable, device: str) -> Callable:
    """The op's kernel, also for arrays of 16-bit floats."""
    if name in _TOLD:
        return _without_warnings(kernel)

    @_without_warnings
    @wraps(kernel)
    def compute(*arrays: Any, **params: Any) -> Any:
        half = next((a.dtype for a in arrays if _of_halves(a)), None)
        if half is None:
            return kernel(*arrays, **params)
        if device == "cuda":
            try:
                return kernel(*arrays, **params)
            except (TypeError, KeyError) as error:
                if not _says_missing(error):
                    raise
        return _rounded(kernel(*map(wide, arrays), **params), half)

    return compute


class Update:
    """A kernel that changes arrays, for 16-bit floats: float32 copies are changed, then rounded.

    Args:
        kernel: it gets arrays, lists of them, and numbers; as `Rule` in `cpu/optimizer.py`, it may
            have a method `together`.
    """

    def __init__(self, kernel: Any):
        self._kernel = kernel

    def __call__(self, *arguments: Any) -> None:
        self._run(self._kernel, *arguments)

    def together(self, p: Any, slices: Any, gradients: Any, *rest: Any) -> None:
        """`Rule.together`; the gradients are only read."""
        self._run(self._kernel.together, p, slices, [wide(g) for g in gradients], *rest)

    def _run(self, kernel: Callable, *arguments: Any) -> None:
        copies: list[tuple] = []

        def copied(x: Any) -> Any:
            if isinstance(x, (list, tuple)):
                return [copied(each) for each in x]
            if not _of_halves(x):
                return x
            copies.append((x, wide(x)))
            return copies[-1][1]

        kernel(*map(copied, arguments))
        with np.errstate(over="ignore", invalid="ignore"):
            for array, copy in copies:
                array[...] = copy


def _says_missing(error: Exception) -> bool:
    """Whether a GPU's kernel exists for wider floats only: in a signature, or in a table."""
    if isinstance(error, KeyError):
        return str(error.args[0]).rstrip("*") in ("f2", "bf2", "float16", "bfloat16")
    return "does not exist for" in str(error) or "not on the GPU for" in str(error)


def _without_warnings(kernel: Callable) -> Callable:
    """What is too large for float16 becomes infinite: a `LossScaleOptimizer` expects that."""

    @wraps(kernel)
    def compute(*arrays: Any, **params: Any) -> Any:
        with np.errstate(over="ignore", invalid="ignore"):
            return kernel(*arrays, **params)

    return compute


def _of_halves(array: Any) -> bool:
    return hasattr(array, "dtype") and is_half(array.dtype)


def _rounded(result: Any, half: np.dtype) -> Any:
    """Floats of a result as 16 bits; what an op saves beside it for backward stays as it is."""
    if isinstance(result, tuple):
        return (_rounded(result[0], half), *result[1:])
    if getattr(result, "dtype", None) == np.float32:
        return _cast(result, half)
    return result


def _cast(array: Any, dtype: np.dtype) -> Any:
    if isinstance(array, np.ndarray) and array.size >= MANY:
        from minitorch_ciml.kernels.cpu.conversion import cast  # which needs numba

        return cast(array, dtype=dtype)
    return array.astype(dtype)
