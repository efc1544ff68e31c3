"""Normalisation: what each kernel means.

Batch normalisation works per channel: x has its channels along `axis`, and mean, variance, scale
and offset have shape (C,). Layer normalisation works along the last axis.
"""

from __future__ import annotations

import numpy as np

Array = np.ndarray
Needs = tuple[bool, ...]
Gradients = tuple[Array | None, ...]

# What follows a batch normalisation: y = min(max(z, low), high).
BOUNDS = {"linear": (-np.inf, np.inf), "relu": (0.0, np.inf), "relu6": (0.0, 6.0)}


def _others(x: Array, axis: int) -> tuple[int, ...]:
    """All axes but one."""
    return tuple(a for a in range(x.ndim) if a != axis)


def _along(v: Array, x: Array, axis: int) -> Array:
    """(C,) in a shape that broadcasts along `axis` of x."""
    return v.reshape([-1 if a == axis else 1 for a in range(x.ndim)])


def _passed(g: Array, y: Array, activation: str) -> Array:
    """The gradient before the activation."""
    if activation == "linear":
        return g
    low, high = BOUNDS[activation]
    return np.where((y > low) & (y < high), g, g.dtype.type(0))


# --- per channel --------------------------------------------------------------------------------


def batch_moments(x: Array, *, axis: int) -> Array:
    """(2, C): the mean and the variance of every channel."""
    others = _others(x, axis)
    return np.stack([x.mean(axis=others), x.var(axis=others)])


def batch_normalization(
    x: Array, mean: Array, variance: Array, scale: Array, offset: Array, *,
    axis: int, epsilon: float, activation: str = "linear",
) -> Array:  # fmt: skip
    """y = activation(scale (x - mean) / sqrt(variance + epsilon) + offset)."""
    factor = scale / np.sqrt(variance + x.dtype.type(epsilon))
    z = (x - _along(mean, x, axis)) * _along(factor, x, axis) + _along(offset, x, axis)
    return z if activation == "linear" else np.clip(z, *map(x.dtype.type, BOUNDS[activation]))


def batch_normalization_grad(
    g: Array, y: Array, x: Array, mean: Array, variance: Array, scale: Array, offset: Array, *,
    needs: Needs, axis: int, epsilon: float, activation: str = "linear",
) -> Gradients:  # fmt: skip
    g = _passed(g, y, activation)
    rstd = 1 / np.sqrt(variance + x.dtype.type(epsilon))
    centred, others = x - _along(mean, x, axis), _others(x, axis)
    d_offset = g.sum(axis=others)
    d_scale = (g * centred).sum(axis=others) * rstd
    d_mean = -d_offset * scale * rstd
    d_variance = -0.5 * d_scale * scale * rstd**2
    return g * _along(scale * rstd, x, axis), d_mean, d_variance, d_scale, d_offset


def normalize_batch(
    x: Array, scale: Array, offset: Array, moments: Array, *,
    axis: int, epsilon: float, activation: str = "linear",
) -> Array:  # fmt: skip
    """`batch_normalization` with the moments of x itself: mean, variance = moments."""
    return batch_normalization(
        x, moments[0], moments[1], scale, offset,
        axis=axis, epsilon=epsilon, activation=activation,
    )  # fmt: skip


def normalize_batch_grad(
    g: Array, y: Array, x: Array, scale: Array, offset: Array, moments: Array, *,
    needs: Needs, axis: int, epsilon: float, activation: str = "linear",
) -> Gradients:  # fmt: skip
    """As the moments depend on x, what g has in common with 1 and with x does not arrive."""
    g = _passed(g, y, activation)
    rstd = 1 / np.sqrt(moments[1] + x.dtype.type(epsilon))
    z = (x - _along(moments[0], x, axis)) * _along(rstd, x, axis)
    others, n = _others(x, axis), max(x.size // x.shape[axis], 1)
    d_offset, d_scale = g.sum(axis=others), (g * z).sum(axis=others)
    rest = g - _along(d_offset / n, x, axis) - z * _along(d_scale / n, x, axis)
    return rest * _along(scale * rstd, x, axis), d_scale, d_offset, None


# --- per row ------------------------------------------------------------------------------------


def layer_normalization(
    x: Array, gamma: Array, beta: Array, *, epsilon: float
) -> tuple[Array, tuple[Array, Array]]:
    """y = gamma z + beta, with z = (x - mean) / sqrt(variance + epsilon); mean and 1 / sqrt too."""
    mean = x.mean(axis=-1, keepdims=True)
    rstd = 1 / np.sqrt(x.var(axis=-1, keepdims=True) + x.dtype.type(epsilon))
    return (x - mean) * rstd * gamma + beta, (mean, rstd)


def layer_normalization_grad(
    g: Array, y: Array, x: Array, gamma: Array, beta: Array, *,
    needs: Needs, saved: tuple[Array, Array], epsilon: float,
) -> Gradients:  # fmt: skip
    mean, rstd = saved
    z, dz, others = (x - mean) * rstd, g * gamma, tuple(range(g.ndim - 1))
    common = dz.mean(axis=-1, keepdims=True) + z * (dz * z).mean(axis=-1, keepdims=True)
    return rstd * (dz - common), (g * z).sum(axis=others), g.sum(axis=others)
