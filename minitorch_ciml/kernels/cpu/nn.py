"""Activations, losses and layers' products on the CPU.

Matrix products are BLAS', exponentials are NumPy's (both are vectorised); the loops around them
are numba.
"""

from __future__ import annotations

import numpy as np

from minitorch_ciml.kernels.cpu import pool

Array = np.ndarray
Needs = tuple[bool, ...]
Gradients = tuple[Array | None, ...]

# --- max pooling under the names of its ops (see `ops/pool.py`) -----------------------------------

max_pool_scatter = pool.max_pool_grad


def max_pool_places(x: Array, **how) -> Array:
    """Which element of each window is the maximum."""
    return pool.max_pool(x, **how)[1]


def max_pool_grad(g: Array, y: Array, x: Array, *, needs: Needs, saved: Array, **how) -> Gradients:
    return (pool.max_pool_grad(g, saved, input_shape=x.shape, **how),)
