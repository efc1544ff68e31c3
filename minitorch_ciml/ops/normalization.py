"""Normalisation: along the batch, along a layer, by the root of the mean square.

Batch normalisation during training is `normalize_batch`, one fused op that knows the moments to be
those of its input. `batch_normalization` takes moments as inputs, for inference, and where they
come from somewhere else (from all ranks, say): gradients flow to them too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minitorch_ciml.autograd.arithmetic import add, maximum, multiply, relu, sqrt
from minitorch_ciml.autograd.engine import Op
from minitorch_ciml.autograd.tensor import FLOATS, Tensor, as_tensor
from minitorch_ciml.ops.axes import check_axes
from minitorch_ciml.ops.indexing import _getitem
from minitorch_ciml.ops.nn import relu6
from minitorch_ciml.ops.norms import norm
from minitorch_ciml.ops.reduce import mean as _mean
from minitorch_ciml.ops.reduce import var as _var
from minitorch_ciml.ops.shape import reshape, transpose

__all__ = [
    "batch_normalization", "layer_normalization", "normalize", "normalize_batch",
    "rms_normalization",
]  # fmt: skip

EPSILON = 1e-7  # Keras' default where a function does not say another

# --- the ops ------------------------------------------------------------------------------------


_ACTIVATIONS: dict[str, Callable] = {"linear": lambda z: z, "relu": relu, "relu6": relu6}


def _batch_normalization_ref(x, mean, variance, scale, offset, axis, epsilon, activation):
    shape = [-1 if a == axis else 1 for a in range(x.ndim)]
    factor = reshape(scale / sqrt(variance + epsilon), shape)
    z = (x - reshape(mean, shape)) * factor + reshape(offset, shape)
    return _ACTIVATIONS[activation](z)


def _normalize_batch_ref(x, scale, offset, moments, axis, epsilon, activation):
    others = tuple(a for a in range(x.ndim) if a != axis)
    own = _mean(x, others), _var(x, others)
    return _batch_normalization_ref(x, *own, scale, offset, axis, epsilon, activation)


def _layer_normalization_ref(x, gamma, beta, epsilon):
    centred = x - _mean(x, -1, keepdims=True)
    return centred / sqrt(_var(x, -1, keepdims=True) + epsilon) * gamma + beta


_batch_moments = Op(
    "batch_moments", dtypes="float", doc="The mean and the variance of every channel: (2, C)."
)
_batch_normalization = Op(
    "batch_normalization",
    ref=_batch_normalization_ref,
    dtypes="float",
    doc="y = activation(scale (x - mean) / sqrt(variance + epsilon) + offset), per channel.",
)
_normalize_batch = Op(
    "normalize_batch",
    ref=_normalize_batch_ref,
    dtypes="float",
    doc="As batch_normalization, with `moments` that are those of x.",
)
_layer_normalization = Op(
    "layer_normalization",
    ref=_layer_normalization_ref,
    saves=True,
    dtypes="float",
    doc="y = gamma (x - mean) / sqrt(variance + epsilon) + beta, along the last axis.",
)

# --- the public functions -----------------------------------------------------------------------


def batch_normalization(
    x: Any,
    mean: Any,
    variance: Any,
    axis: int,
    offset: Any = None,
    scale: Any = None,
    epsilon: float = 1e-3,
    activation: str = "linear",
) -> Tensor:
    """y = activation(scale (x - mean) / sqrt(variance + epsilon) + offset), for every channel.

    Args:
        x: floats with C channels along `axis`.
        mean: floats (C,).
        variance: floats (C,).
        axis: the axis of the channels.
        offset: floats (C,); 0 if left out.
        scale: floats (C,); 1 if left out.
        epsilon: keeps the root from 0.
        activation: "linear", "relu" or "relu6", done in the same pass.

    Raises:
        ValueError: the axis does not exist, or a shape is not (C,); another activation.
    """
    _check_activation("batch_normalization", activation)
    x, axis = _with_channels("batch_normalization", x, axis)
    per_channel = _per_channel("batch_normalization", x, axis, mean, variance, scale, offset)
    how = dict(axis=axis, epsilon=float(epsilon), activation=activation)
    return _batch_normalization(x, *per_channel, **how)


def normalize_batch(
    x: Any,
    scale: Any = None,
    offset: Any = None,
    axis: int = -1,
    epsilon: float = 1e-3,
    activation: str = "linear",
) -> tuple[Tensor, Tensor, Tensor]:
    """Batch normalisation with the moments of the batch itself (Ioffe and Szegedy 2015).

    Args:
        x: floats with C channels along `axis`.
        scale: floats (C,); 1 if left out.
        offset: floats (C,); 0 if left out.
        axis: the axis of the channels.
        epsilon: keeps the root from 0.
        activation: "linear", "relu" or "relu6", done in the same pass.

    Returns:
        The result, and as constants the mean (C,) and the variance (C,) of the batch, for the
        moving averages. The variance is not corrected for the sample size.

    Raises:
        ValueError: the axis does not exist, or a shape is not (C,); another activation.
    """
    _check_activation("normalize_batch", activation)
    x, axis = _with_channels("normalize_batch", x, axis)
    _, _, scale, offset = _per_channel("normalize_batch", x, axis, None, None, scale, offset)
    moments = _batch_moments(x, axis=axis)
    how = dict(axis=axis, epsilon=float(epsilon), activation=activation)
    y = _normalize_batch(x, scale, offset, moments, **how)
    mean, variance = [Tensor.constant(_getitem(moments, index=i).value) for i in (0, 1)]
    return y, mean, variance


def layer_normalization(
    x: Any,
    gamma: Any = None,
    beta: Any = None,
    axis: int | Sequence[int] = -1,
    epsilon: float | None = None,
) -> Tensor:
    """y = gamma (x - mean) / sqrt(variance + epsilon) + beta, along `axis` (Ba et al. 2016).

    Args:
        x: floats.
        gamma: floats in the shape of the normalised axes; 1 if left out.
        beta: floats in the shape of the normalised axes; 0 if left out.
        axis: one axis or several.
        epsilon: keeps the root from 0; 1e-7 if left out.

    Raises:
        ValueError: an axis does not exist, or gamma or beta has another number of elements.
    """
    x = as_tensor(x)
    axes = check_axes(axis, x.ndim, "layer_normalization")
    sizes = tuple(x.shape[a] for a in axes)
    size = math.prod(sizes)
    weights = []
    for name, given, default in (("gamma", gamma, 1.0), ("beta", beta, 0.0)):
        if given is None:
            given = np.full(size, default, _float_dtype(x))
        elif math.prod(np.shape(given)) != size:
            raise ValueError(
                f"layer_normalization: {name} has shape {np.shape(given)}, expected {sizes}."
            )
        weights.append(given if np.shape(given) == (size,) else reshape(given, (size,)))
    epsilon = EPSILON if epsilon is None else float(epsilon)
    if axes == (x.ndim - 1,):
        return _layer_normalization(x, *weights, epsilon=epsilon)
    # Several axes are one, once they stand last.
    order = [a for a in range(x.ndim) if a not in axes] + list(axes)
    moved = transpose(x, order)
    y = _layer_normalization(
        reshape(moved, (*moved.shape[: -len(axes)], size)), *weights, epsilon=epsilon
    )
    return transpose(reshape(y, moved.shape), [order.index(a) for a in range(x.ndim)])


def rms_normalization(
    x: Any, scale: Any = None, axis: int | Sequence[int] = -1, epsilon: float | None = None
) -> Tensor:
    """y = scale x / sqrt(mean(x^2) + epsilon), along `axis` (Zhang and Sennrich 2019).

    Args:
        x: floats.
        scale: floats in the shape of the normalised axes; 1 if left out.
        axis: one axis or several.
        epsilon: keeps the root from 0; 1e-7 if left out.

    Raises:
        ValueError: an axis does not exist, or the scale has another shape.
    """
    x = as_tensor(x)
    axes = check_axes(axis, x.ndim, "rms_normalization")
    epsilon = EPSILON if epsilon is None else epsilon
    y = x / sqrt(add(_mean(multiply(x, x), axes, keepdims=True), epsilon))
    if scale is None:
        return y
    sizes = tuple(x.shape[a] for a in sorted(axes))
    if np.shape(scale) != sizes:
        raise ValueError(f"rms_normalization: scale has shape {np.shape(scale)}, expected {sizes}.")
    return multiply(y, reshape(scale, [n if a in axes else 1 for a, n in enumerate(x.shape)]))


def normalize(
    x: Any, axis: int | Sequence[int] = -1, order: int = 2, epsilon: float | None = None
) -> Tensor:
    """y = x / max(norm(x), epsilon), with the norm of this order along `axis`.

    Args:
        x: floats.
        axis: one axis or several.
        order: of the norm: 2 for the Euclidean one.
        epsilon: 1e-7 if left out.
    """
    x = as_tensor(x)
    axes = check_axes(axis, x.ndim, "normalize")
    length = norm(x, ord=order, axis=axes[0] if len(axes) == 1 else axes, keepdims=True)
    return x / maximum(length, EPSILON if epsilon is None else epsilon)


# --- checks -------------------------------------------------------------------------------------


def _check_activation(name: str, activation: str) -> None:
    if activation not in _ACTIVATIONS:
        expected = ", ".join(map(repr, _ACTIVATIONS))
        raise ValueError(f"{name}: got activation={activation!r}, expected one of {expected}.")


def _with_channels(name: str, x: Any, axis: int) -> tuple[Tensor, int]:
    x = as_tensor(x)
    return x, check_axes(axis, x.ndim, name)[0]


def _float_dtype(x: Tensor) -> np.dtype:
    return x.dtype if x.dtype.kind in FLOATS else np.dtype("float32")


def _per_channel(name: str, x: Tensor, axis: int, *given: Any) -> list:
    """Mean, variance, scale and offset, with what they are if left out."""
    channels, filled = x.shape[axis], []
    for label, value, default in zip(("mean", "variance", "scale", "offset"), given, (0, 1, 1, 0)):
        if value is None:
            value = np.full(channels, default, _float_dtype(x))
        elif np.shape(value) != (channels,):
            raise ValueError(
                f"{name}: {label} has shape {np.shape(value)}, expected ({channels},): one number "
                f"for each channel along axis {axis} of shape {x.shape}."
            )
        filled.append(value)
    return filled
