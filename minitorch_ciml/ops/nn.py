"""Activations, softmax, the dense layer's product, and one-hot codes; definitions are Keras'.

Most activations are written with other ops. Those that are used most, or that would lose precision
that way, are ops with a kernel and a rule of their own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from minitorch_ciml import config
from minitorch_ciml.autograd.arithmetic import (
    absolute,
    add,
    erf,
    exp,
    log,
    negative,
    relu,
    sigmoid,
    sqrt,
    tanh,
    where,
)
from minitorch_ciml.autograd.engine import Op, Variable
from minitorch_ciml.autograd.tensor import Tensor, as_tensor
from minitorch_ciml.kernels.halves import dtype_of
from minitorch_ciml.ops.axes import check_axis
from minitorch_ciml.ops.joining import split
from minitorch_ciml.ops.linalg import matmul
from minitorch_ciml.ops.reduce import max as _max
from minitorch_ciml.ops.reduce import sum as _sum
from minitorch_ciml.ops.shape import reshape, transpose

__all__ = [
    "celu", "clipped_relu", "dense", "elu", "gelu", "glu", "hard_shrink", "hard_sigmoid",
    "hard_silu", "hard_swish",
    "hard_tanh", "leaky_relu", "log_sigmoid", "log_softmax", "mish", "multi_hot", "one_hot",
    "relu", "relu6", "selu", "sigmoid", "silu", "soft_shrink", "softmax", "softplus", "softsign",
    "sparse_plus", "sparse_sigmoid", "sparsemax", "squareplus", "swish", "tanh_shrink",
    "threshold",
]  # fmt: skip


def shape_of(x: Any) -> tuple[int, ...]:
    """As `np.shape`, at a third of its cost for tensors and arrays."""
    try:
        return x.shape
    except AttributeError:
        return np.shape(x)


def _variable(x: Any) -> Any:
    """`x` as something that can be computed with; a scalar stays one."""
    return x if isinstance(x, Variable) else as_tensor(x)


# --- rectifiers ---------------------------------------------------------------------------------

_leaky_relu = Op(
    "leaky_relu",
    lambda g, y, x, negative_slope: where(x > 0, g, g * negative_slope),
    gradient_kernel=True,
    dtypes="float",
    doc="y = x where x > 0, otherwise negative_slope x.",
)
_clipped_relu = Op(
    "clipped_relu",
    lambda g, y, x, max_value: where((x > 0) & (x < max_value), g, 0),
    gradient_kernel=True,
    dtypes="float",
    doc="y = min(max(x, 0), max_value).",
)
_elu = Op(
    "elu",
    lambda g, y, x, alpha: where(x > 0, g, g * (y + alpha)),
    gradient_kernel=True,
    dtypes="float",
    doc="y = x where x > 0, otherwise alpha (e^x - 1).",
)
softplus = Op(
    "softplus",
    lambda g, y, x: g * sigmoid(x),
    gradient_kernel=True,
    dtypes="float",
    doc="y = ln(1 + e^x) > 0.",
)


def relu6(x: Any) -> Tensor:
    """y = min(max(x, 0), 6)."""
    return clipped_relu(x, 6.0)


def clipped_relu(x: Any, max_value: float) -> Tensor:
    """y = min(max(x, 0), max_value)."""
    return _clipped_relu(x, max_value=max_value)


def leaky_relu(x: Any, negative_slope: float = 0.2) -> Tensor:
    """y = x where x > 0, otherwise negative_slope x."""
    return _leaky_relu(x, negative_slope=negative_slope)


def elu(x: Any, alpha: float = 1.0) -> Tensor:
    """y = x where x > 0, otherwise alpha (e^x - 1) (Clevert et al. 2015)."""
    return _elu(x, alpha=alpha)


def selu(x: Any) -> Tensor:
    """y = scale elu(x, alpha), with the two numbers that keep mean 0 and variance 1.

    They are those of Klambauer et al. 2017.
    """
    return _elu(x, alpha=1.6732632423543772) * 1.0507009873554805


def celu(x: Any, alpha: float = 1.0) -> Tensor:
    """y = x where x > 0, otherwise alpha (e^(x / alpha) - 1) (Barron 2017)."""
    return _elu(_variable(x) / alpha, alpha=1.0) * alpha


def squareplus(x: Any, b: float = 4) -> Tensor:
    """y = (x + sqrt(x^2 + b)) / 2."""
    x = _variable(x)
    return (x + sqrt(x * x + b)) / 2


def sparse_plus(x: Any) -> Tensor:
    """y = 0 for x <= -1, x for x >= 1, and (x + 1)^2 / 4 between them."""
    x = _variable(x)
    return where(x <= -1, 0.0, where(x < 1, (x + 1) * (x + 1) / 4, x))


def threshold(x: Any, threshold: float, default_value: float) -> Tensor:
    """y = x where x > threshold, otherwise default_value."""
    x = _variable(x)
    return where(x > threshold, x, default_value)


# --- gates --------------------------------------------------------------------------------------


_silu = Op("silu", ref=lambda x: x * sigmoid(x), dtypes="float", doc="y = x sigmoid(x).")


def silu(x: Any) -> Tensor:
    """y = x sigmoid(x), also called swish."""
    return _silu(x)


swish = silu


def _gelu_ref(x, approximate):
    if approximate:
        return x * (tanh((x * x * 0.044715 + 1) * x * math.sqrt(2 / math.pi)) + 1) * 0.5
    return x * (erf(x * math.sqrt(0.5)) + 1) * 0.5


_gelu = Op("gelu", ref=_gelu_ref, dtypes="float", doc="y = x Phi(x).")


def gelu(x: Any, approximate: bool = True) -> Tensor:
    """y = x Phi(x), with the normal distribution's function Phi (Hendrycks and Gimpel 2016).

    With `approximate`, Phi(x) is (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2.
    """
    return _gelu(x, approximate=bool(approximate))


_mish = Op(
    "mish", ref=lambda x: x * tanh(softplus(x)), dtypes="float", doc="y = x tanh(softplus(x))."
)


def mish(x: Any) -> Tensor:
    """y = x tanh(softplus(x)) (Misra 2019)."""
    return _mish(x)


def glu(x: Any, axis: int = -1) -> Tensor:
    """y = a sigmoid(b), where a and b are the two halves of x along `axis`."""
    x = _variable(x)
    if x.shape[axis] % 2:
        raise ValueError(f"glu: the size along axis {axis} must be even, got shape {x.shape}.")
    a, b = split(x, 2, axis=axis)
    return a * sigmoid(b)


_hard_silu = Op(
    "hard_silu", ref=lambda x: x * hard_sigmoid(x), dtypes="float", doc="y = x hard_sigmoid(x)."
)


def hard_silu(x: Any) -> Tensor:
    """y = x hard_sigmoid(x), also called hard swish."""
    return _hard_silu(x)


hard_swish = hard_silu

# --- functions that stay between two bounds -----------------------------------------------------


_hard_sigmoid = Op(
    "hard_sigmoid", ref=lambda x: relu6(x + 3) / 6, dtypes="float", doc="y = relu6(x + 3) / 6."
)


def hard_sigmoid(x: Any) -> Tensor:
    """y = relu6(x + 3) / 6."""
    return _hard_sigmoid(x)


def hard_tanh(x: Any) -> Tensor:
    """y = x, but at least -1 and at most 1."""
    x = _variable(x)
    return where(x < -1, -1, where(x > 1, 1, x))


def log_sigmoid(x: Any) -> Tensor:
    """y = ln(sigmoid(x)), also where sigmoid(x) is 0 in floating point."""
    return negative(softplus(-_variable(x)))


def softsign(x: Any) -> Tensor:
    """y = x / (1 + |x|)."""
    x = _variable(x)
    return x / (absolute(x) + 1)


def sparse_sigmoid(x: Any) -> Tensor:
    """y = 0 for x <= -1, 1 for x >= 1, and (x + 1) / 2 between them."""
    x = _variable(x)
    return where(x <= -1, 0.0, where(x < 1, (x + 1) / 2, 1.0))


# --- functions that shrink x towards 0 ----------------------------------------------------------


def tanh_shrink(x: Any) -> Tensor:
    """y = x - tanh(x)."""
    x = _variable(x)
    return x - tanh(x)


def hard_shrink(x: Any, threshold: float = 0.5) -> Tensor:
    """y = x where |x| > threshold, otherwise 0."""
    x = _variable(x)
    return where(absolute(x) > threshold, x, 0)


def soft_shrink(x: Any, threshold: float = 0.5) -> Tensor:
    """y = x moved towards 0 by `threshold`, at most to 0."""
    x = _variable(x)
    return relu(x - threshold) - relu(-x - threshold)


# --- softmax ------------------------------------------------------------------------------------


def _softmax_ref(x, axis):
    # The shift changes nothing but the range of the exponentials, so it needs no gradient.
    e = exp(x - _max(x, axis=axis, keepdims=True).detach())
    return e / _sum(e, axis=axis, keepdims=True)


def _log_softmax_ref(x, axis):
    z = x - _max(x, axis=axis, keepdims=True).detach()
    return z - log(_sum(exp(z), axis=axis, keepdims=True))


_softmax = Op("softmax", ref=_softmax_ref, dtypes="float", doc="y = e^x / sum(e^x).")
_log_softmax = Op("log_softmax", ref=_log_softmax_ref, dtypes="float", doc="y = ln(softmax(x)).")


def _sparsemax_rule(g, y, x, axis):
    support = where(y > 0, 1.0, y * 0)
    count = _sum(support, axis=axis, keepdims=True)
    return support * (g - _sum(g * support, axis=axis, keepdims=True) / count)


_sparsemax = Op(
    "sparsemax",
    _sparsemax_rule,
    dtypes="float",
    doc="y = the point of the probability simplex that is nearest to x.",
)


def softmax(x: Any, axis: int | tuple[int, ...] = -1) -> Tensor:
    """y = e^x / sum(e^x) along `axis`: positive, with sum 1.

    Args:
        x: floats of any shape.
        axis: an axis, or several that are treated as one.
    """
    return _along(_softmax, x, axis)


def log_softmax(x: Any, axis: int | tuple[int, ...] = -1) -> Tensor:
    """y = x - ln(sum(e^x)) along `axis`: ln(softmax(x)), also where softmax is 0 in floats."""
    return _along(_log_softmax, x, axis)


def sparsemax(x: Any, axis: int = -1) -> Tensor:
    """The probabilities nearest to x, many of them exactly 0 (Martins and Astudillo 2016).

    They sum to 1, which those of Keras 3.15 do not where several are positive.
    """
    return _along(_sparsemax, x, axis)


def _along(op: Op, x: Any, axis: int | tuple[int, ...]) -> Tensor:
    """`op` along one axis, or along several that are flattened into one and restored."""
    if isinstance(axis, int):
        check_axis(axis, len(shape_of(x)), op.name)
        return op(x, axis=axis)
    x = as_tensor(x)
    axes = [check_axis(a, x.ndim, op.name) for a in axis]
    order = [a for a in range(x.ndim) if a not in axes] + axes
    moved = transpose(x, order)
    kept = moved.shape[: x.ndim - len(axes)]
    flat = reshape(moved, (*kept, math.prod(x.shape[a] for a in axes)))
    back = [order.index(a) for a in range(x.ndim)]
    return transpose(reshape(op(flat, axis=-1), moved.shape), back)


# --- the dense layer ----------------------------------------------------------------------------

# The activations that are computed together with a dense product or a convolution.
FUSED_ACTIVATIONS: dict[Any, str] = {
    None: "linear", "linear": "linear", "relu": "relu", relu: "relu",
}  # fmt: skip


def activate(x: Tensor, activation: str | Callable | None) -> Tensor:
    """activation(x), where the activation is None, "linear", "relu" or a function."""
    name = FUSED_ACTIVATIONS.get(activation)
    if name is not None:
        return relu(x) if name == "relu" else x
    if not callable(activation):
        raise ValueError(
            f"activation {activation!r} is unknown here; pass None, 'linear', 'relu' or a function."
        )
    return activation(x)


_dense = Op(
    "dense",
    ref=lambda x, w, b, activation: activate(add(matmul(x, w), b), activation),
    dtypes="float",
    doc="y = activation(x w + b), with activation 'linear' or 'relu'.",
)


def dense(x: Any, w: Any, b: Any = None, activation: str | Callable | None = None) -> Tensor:
    """y = activation(x w + b), the bias and ReLU in place on the fresh product.

    Args:
        x: floats (..., I).
        w: floats (I, O).
        b: floats (O,), or None.
        activation: None, "linear", "relu", or any function of a tensor.

    Returns:
        Floats (..., O).

    Raises:
        ValueError: the sizes do not fit.
    """
    inputs, weights = shape_of(x), shape_of(w)
    if len(weights) != 2 or not inputs or inputs[-1] != weights[0]:
        raise ValueError(
            f"dense: x has shape {inputs} and w {weights}; expected (..., I) and (I, O)."
        )
    if b is None:
        return activate(matmul(x, w), activation)
    if shape_of(b) != weights[1:]:
        raise ValueError(
            f"dense: b has shape {shape_of(b)}, expected {weights[1:]} as w {weights}."
        )
    fused = FUSED_ACTIVATIONS.get(activation)
    y = _dense(x, w, b, activation=fused or "linear")
    return y if fused else activate(y, activation)


# --- one-hot codes ------------------------------------------------------------------------------

_one_hot = Op("one_hot", doc="y[..., k] = 1 where x == k, otherwise 0.")


def one_hot(
    x: Any, num_classes: int, axis: int = -1, dtype: Any = None, sparse: bool = False
) -> Tensor:
    """y[..., k] = 1 where x == k, otherwise 0, with the classes along a new axis.

    Args:
        x: integers; those outside 0 .. num_classes - 1 give zeros only.
        num_classes: the size of the new axis.
        axis: where the new axis stands in the result.
        dtype: of the result; `floatx()` if left out.
        sparse: must be False: there are no sparse tensors.
    """
    if sparse:
        raise ValueError("one_hot: there are no sparse tensors here; pass sparse=False.")
    return _one_hot(x, num_classes=num_classes, axis=axis, dtype=dtype_of(dtype or config.floatx()))


def multi_hot(
    inputs: Any, num_classes: int, axis: int = -1, dtype: Any = None, sparse: bool = False
) -> Tensor:
    """y[..., k] = 1 where k is among the integers along the last axis of `inputs`, otherwise 0.

    Args:
        inputs: integers (N,) or (N, L): the classes of one sample, or of N.
        num_classes: the number of classes.
        axis: where the classes stand in the result.
        dtype: of the result; `floatx()` if left out.
        sparse: must be False: there are no sparse tensors.
    """
    codes = one_hot(inputs, num_classes, axis, dtype, sparse)
    return _max(codes, axis=1 if np.ndim(inputs) > 1 else 0)
