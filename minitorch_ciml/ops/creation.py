"""New tensors, on the current device, and what may be asked of a tensor.

Without a dtype, what is made here has the dtype `floatx()`; `arange` of integers gives integers.
"""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import Any

import numpy as np

from minitorch_ciml import config, kernels
from minitorch_ciml.autograd import tensor as _tensor
from minitorch_ciml.autograd.tensor import FLOATS, Tensor, as_array, as_tensor, placed
from minitorch_ciml.kernels import halves
from minitorch_ciml.ops.math import clip

__all__ = [
    "arange", "array", "bartlett", "blackman", "cast", "convert_to_numpy", "convert_to_tensor",
    "copy", "dtype", "empty", "empty_like", "eye", "full", "full_like", "geomspace", "hamming",
    "hanning", "identity", "is_tensor", "kaiser", "linspace", "logspace", "ndim", "ones",
    "ones_like", "saturate_cast", "shape", "size", "stop_gradient", "tri", "zeros", "zeros_like",
]  # fmt: skip

Shape = int | Sequence[int]


def _new(values: np.ndarray, dtype: Any = None) -> Tensor:
    """`values` as a constant tensor on the current device."""
    return Tensor.constant(placed(values.astype(_dtype(dtype), copy=False)))


def _dtype(name: Any) -> np.dtype:
    return halves.dtype_of(config.floatx() if name is None else name)


# --- filled with one number ---------------------------------------------------------------------


def zeros(shape: Shape, dtype: Any = None) -> Tensor:
    """A tensor of zeros."""
    return _new(np.zeros(shape, _dtype(dtype)), dtype)


def ones(shape: Shape, dtype: Any = None) -> Tensor:
    """A tensor of ones."""
    return _new(np.ones(shape, _dtype(dtype)), dtype)


def full(shape: Shape, fill_value: Any, dtype: Any = None) -> Tensor:
    """A tensor of `fill_value`s (a number, or what broadcasts to `shape`)."""
    return _new(np.full(shape, as_array(fill_value), _dtype(dtype)), dtype)


def empty(shape: Shape, dtype: Any = None) -> Tensor:
    """A tensor whose values mean nothing yet: zeros."""
    return zeros(shape, dtype)


def zeros_like(x: Any, dtype: Any = None) -> Tensor:
    """Zeros in the shape of `x`, and in its dtype if no other is given."""
    return full_like(x, 0, dtype)


def ones_like(x: Any, dtype: Any = None) -> Tensor:
    """Ones in the shape of `x`, and in its dtype if no other is given."""
    return full_like(x, 1, dtype)


def full_like(x: Any, fill_value: Any, dtype: Any = None) -> Tensor:
    """`fill_value`s in the shape of `x`, and in its dtype if no other is given."""
    x = as_tensor(x)
    return full(x.shape, fill_value, x.dtype if dtype is None else dtype)


def empty_like(x: Any, dtype: Any = None) -> Tensor:
    """Values that mean nothing yet, in the shape of `x`: zeros."""
    return zeros_like(x, dtype)


# --- ramps and matrices -------------------------------------------------------------------------


def arange(start: Any, stop: Any = None, step: Any = None, dtype: Any = None) -> Tensor:
    """The numbers from `start` up to, but not including, `stop`, `step` apart.

    With one argument that is the end, and the start is 0. Integers give integers.
    """
    start, stop = (0, start) if stop is None else (start, stop)
    values = np.arange(*map(_number, (start, stop, 1 if step is None else step)))
    return _new(values, values.dtype if dtype is None and values.dtype.kind in "iu" else dtype)


def linspace(
    start: Any,
    stop: Any,
    num: int = 50,
    endpoint: bool = True,
    retstep: bool = False,
    dtype: Any = None,
    axis: int = 0,
) -> Any:
    """`num` numbers, equally far apart, from `start` to `stop`.

    Args:
        start: the first; an array gives a line for each of its elements, along `axis`.
        stop: the last, or the one behind it.
        num: how many.
        endpoint: whether `stop` is one of them.
        retstep: also return the distance between them.
        dtype: `floatx()` if left out.
        axis: along which axis of the result they run.
    """
    values, step = np.linspace(
        _number(start), _number(stop), num, endpoint=endpoint, retstep=True, axis=axis
    )
    line = _new(values, dtype)
    return (line, _new(np.asarray(step), dtype)) if retstep else line


def logspace(
    start: Any,
    stop: Any,
    num: int = 50,
    endpoint: bool = True,
    base: float = 10,
    dtype: Any = None,
    axis: int = 0,
) -> Tensor:
    """base^e for `num` exponents e, equally far apart, from `start` to `stop`."""
    exponents = np.linspace(_number(start), _number(stop), num, endpoint=endpoint, axis=axis)
    return _new(np.power(float(base), exponents), dtype)


def geomspace(
    start: Any, stop: Any, num: int = 50, endpoint: bool = True, dtype: Any = None, axis: int = 0
) -> Tensor:
    """`num` numbers, each the same multiple of the one before, from `start` to `stop`."""
    values = np.geomspace(_number(start), _number(stop), num, endpoint=endpoint, axis=axis)
    return _new(values, dtype)


def eye(N: int, M: int | None = None, k: int = 0, dtype: Any = None) -> Tensor:
    """The matrix (N, M) with ones on diagonal `k` and zeros elsewhere; M = N if left out."""
    return _new(np.eye(N, M, k), dtype)


def identity(n: int, dtype: Any = None) -> Tensor:
    """The identity matrix (n, n)."""
    return eye(n, dtype=dtype)


def tri(N: int, M: int | None = None, k: int = 0, dtype: Any = None) -> Tensor:
    """The matrix (N, M) with ones on diagonal `k` and below it, and zeros elsewhere."""
    return _new(np.tri(N, M, k), dtype)


# --- windows for spectra ------------------------------------------------------------------------


def bartlett(x: int) -> Tensor:
    """Bartlett's window of `x` points: a triangle."""
    return _new(np.bartlett(_number(x)))


def blackman(x: int) -> Tensor:
    """Blackman's window of `x` points: 0.42 - 0.5 cos(2 pi t) + 0.08 cos(4 pi t)."""
    return _new(np.blackman(_number(x)))


def hamming(x: int) -> Tensor:
    """Hamming's window of `x` points: 0.54 - 0.46 cos(2 pi t)."""
    return _new(np.hamming(_number(x)))


def hanning(x: int) -> Tensor:
    """Hann's window of `x` points: (1 - cos(2 pi t)) / 2."""
    return _new(np.hanning(_number(x)))


def kaiser(x: int, beta: float) -> Tensor:
    """Kaiser's window of `x` points; the larger `beta`, the narrower."""
    return _new(np.kaiser(_number(x), float(_number(beta))))


def _number(x: Any) -> Any:
    """A tensor as its array (or plain number), anything else as it is."""
    if isinstance(x, Tensor):
        return x.value if x.ndim else x.item()
    return x


# --- conversion ---------------------------------------------------------------------------------


def cast(x: Any, dtype: Any) -> Tensor:
    """`x` as `dtype`. Gradients flow from floats to floats."""
    x, dtype = as_tensor(x), halves.dtype_of(dtype)
    if x.dtype == dtype:
        return x
    kernels.prepare_for(dtype)
    # Whatever is an integer has no gradient; behind it nothing needs to be recorded.
    return _tensor.cast(x if dtype.kind in FLOATS else x.detach(), dtype=dtype)


def floats(x: Any) -> Tensor:
    """`x` as a tensor of floats: itself if it is one, otherwise as `floatx()`."""
    x = as_tensor(x)
    return x if x.dtype.kind in FLOATS else cast(x, config.floatx())


def wide(x: Any) -> Tensor:
    """`x` as a tensor, 16-bit floats as float32: where, as in Keras, more digits are needed."""
    x = as_tensor(x)
    return cast(x, "float32") if halves.is_half(x.dtype) else x


def saturate_cast(x: Any, dtype: Any) -> Tensor:
    """`x` as `dtype`, after clipping it to what that dtype can hold."""
    x, dtype = as_tensor(x), halves.dtype_of(dtype)
    if dtype.kind == "b":
        return cast(x, dtype)
    (own_low, own_high), (low, high) = _range(x.dtype), _range(dtype)
    low, high = builtins.max(own_low, low), builtins.min(own_high, high)
    if x.dtype.kind in FLOATS:
        low, high = _towards_zero(low, x.dtype), _towards_zero(high, x.dtype)
    return cast(clip(x, low, high), dtype)


def _towards_zero(limit: float, dtype: np.dtype) -> float:
    """The number of a float dtype nearest to `limit` that is not beyond it."""
    near = dtype.type(limit)
    beyond = abs(float(near)) > abs(limit)
    return float(np.nextafter(near, dtype.type(0)) if beyond else near)


def _range(dtype: np.dtype) -> tuple[float, float]:
    """The least and the greatest number of a dtype; integers are exact."""
    if dtype.kind == "b":
        return False, True
    if dtype.kind in FLOATS:
        info = halves.finfo(dtype)
        return float(info.min), float(info.max)
    limits = np.iinfo(dtype)
    return limits.min, limits.max


def convert_to_tensor(
    x: Any, dtype: Any = None, sparse: bool | None = None, ragged: bool | None = None
) -> Tensor:
    """`x` (numbers, lists of them, an array or a tensor) as a tensor.

    Args:
        x: what to convert; a tensor stays as it is.
        dtype: another dtype.
        sparse, ragged: accepted as in Keras; there are neither sparse nor ragged tensors.
    """
    if dtype is None or isinstance(x, Tensor):
        return as_tensor(x) if dtype is None else cast(x, dtype)
    return Tensor.constant(as_array(x, dtype))


def array(x: Any, dtype: Any = None) -> Tensor:
    """`x` as a tensor; see `convert_to_tensor`."""
    return convert_to_tensor(x, dtype)


def convert_to_numpy(x: Any) -> np.ndarray:
    """`x` as a NumPy array."""
    return as_tensor(x).numpy()


def copy(x: Any) -> Tensor:
    """A tensor with the same values; tensors do not change, so it may be `x` itself."""
    return as_tensor(x)


def stop_gradient(variable: Any) -> Tensor:
    """The same values as a constant: no gradient flows through."""
    return as_tensor(variable).detach()  # type: ignore[return-value]


# --- questions ----------------------------------------------------------------------------------


def is_tensor(x: Any) -> bool:
    """Whether `x` is a tensor."""
    return isinstance(x, Tensor)


def shape(x: Any) -> tuple[int, ...]:
    """The sizes of the axes of `x`."""
    return as_tensor(x).shape


def ndim(x: Any) -> int:
    """The number of axes of `x`."""
    return as_tensor(x).ndim


def size(x: Any) -> int:
    """The number of elements of `x`."""
    return as_tensor(x).size


def dtype(x: Any) -> str:
    """The name of the dtype of `x`: 'float32', 'int64', ..."""
    return as_tensor(x).dtype.name
