"""Functions that move elements without changing them."""

from typing import Any, Literal

import numpy as np

from minitorch_ciml import kernels

Shape = tuple[int, ...]

reshape, transpose, swapaxes = np.reshape, np.transpose, np.swapaxes
squeeze, expand_dims, roll = np.squeeze, np.expand_dims, np.roll


def reshape_grad(g: np.ndarray, y: np.ndarray, x: np.ndarray, *, needs: tuple, shape: Any) -> tuple:
    return (g.reshape(x.shape),)


def transpose_grad(
    g: np.ndarray, y: np.ndarray, x: np.ndarray, *, needs: tuple, axes: Shape | None
) -> tuple:
    return (g.transpose(None if axes is None else [axes.index(i) for i in range(g.ndim)]),)


def to(x: np.ndarray, device: str) -> Any:
    return kernels.place(x, device)


def broadcast_to(x: np.ndarray, shape: Shape) -> np.ndarray:
    return np.broadcast_to(x, shape)


def sum_to(x: np.ndarray, shape: Shape) -> np.ndarray:
    """The adjoint of `broadcast_to`: sums over the axes that broadcasting would repeat."""
    added = x.ndim - len(shape)
    stretched = [added + i for i, n in enumerate(shape) if n == 1 and x.shape[added + i] != 1]
    return x.sum(axis=(*range(added), *stretched)).reshape(shape)


def concatenate(*xs: np.ndarray, axis: int) -> np.ndarray:
    return np.concatenate(xs, axis)


def stack(*xs: np.ndarray, axis: int) -> np.ndarray:
    return np.stack(xs, axis)


def view(x: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """The same bits as another dtype."""
    return np.ascontiguousarray(x).reshape(x.shape).view(dtype)


# --- indexing -----------------------------------------------------------------------------------


def getitem(x: np.ndarray, index: Any) -> np.ndarray:
    # For one integer array on the first axis `take` does less than x[index].
    if type(index) is np.ndarray and index.dtype.kind == "i":
        return x.take(index, 0)
    return x[index]


def put(x: np.ndarray, index: Any, shape: Shape) -> np.ndarray:
    """The adjoint of `getitem`: zeros of `shape`, with x added at `index`."""
    y = np.zeros(shape, x.dtype)
    np.add.at(y, index, x)
    return y


def replace(x: np.ndarray, new: np.ndarray, index: Any) -> np.ndarray:
    y = x.copy()
    y[index] = new
    return y


def nonzero(x: np.ndarray) -> tuple[np.ndarray, ...]:
    return x.nonzero()


def unravel_index(places: np.ndarray, shape: Shape) -> tuple[np.ndarray, ...]:
    return np.unravel_index(places, shape)


# --- order --------------------------------------------------------------------------------------


def argsort(x: np.ndarray, axis: int) -> np.ndarray:
    return np.argsort(x, axis, kind="stable")


def sort(x: np.ndarray, axis: int) -> np.ndarray:
    return np.sort(x, axis)


def top_indices(x: np.ndarray, k: int) -> np.ndarray:
    """Where the k largest elements along the last axis are, largest first."""
    backwards = np.argsort(x[..., ::-1], axis=-1, kind="stable")
    return x.shape[-1] - 1 - backwards[..., ::-1][..., :k]


def searchsorted(x: np.ndarray, values: np.ndarray, side: Literal["left", "right"]) -> np.ndarray:
    return np.searchsorted(x, values, side)
