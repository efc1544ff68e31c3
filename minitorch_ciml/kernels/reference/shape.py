"""Functions that move elements without changing them."""

import numpy as np


def broadcast_to(x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return np.broadcast_to(x, shape)


def sum_to(x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The adjoint of `broadcast_to`: sums over the axes that broadcasting would repeat."""
    added = x.ndim - len(shape)
    stretched = [added + i for i, n in enumerate(shape) if n == 1 and x.shape[added + i] != 1]
    return x.sum(axis=(*range(added), *stretched)).reshape(shape)
