"""Activations by name: the functions of `ops`, with Keras' defaults."""

from __future__ import annotations

from typing import Any

from minitorch_ciml.autograd import Tensor
from minitorch_ciml.autograd.arithmetic import exp, minimum, tanh, where
from minitorch_ciml.autograd.tensor import as_tensor
from minitorch_ciml.keras import serialization
from minitorch_ciml.ops import nn
from minitorch_ciml.ops.nn import (
    celu,
    elu,
    glu,
    hard_shrink,
    hard_sigmoid,
    hard_silu,
    hard_swish,
    hard_tanh,
    leaky_relu,
    log_sigmoid,
    log_softmax,
    mish,
    relu6,
    selu,
    sigmoid,
    silu,
    soft_shrink,
    softmax,
    softplus,
    softsign,
    sparse_plus,
    sparse_sigmoid,
    sparsemax,
    squareplus,
    swish,
    tanh_shrink,
    threshold,
)


def linear(x: Any) -> Any:
    """y = x."""
    return x


def relu(
    x: Any, negative_slope: float = 0.0, max_value: float | None = None, threshold: float = 0.0
) -> Tensor:
    """y = max(x, 0), or with arguments y = min(x, max_value) where x > threshold, otherwise
    negative_slope (x - threshold)."""
    if threshold:
        x = as_tensor(x)
        y = where(x > threshold, x, negative_slope * (x - threshold))
    else:
        if max_value is not None and not negative_slope:
            return nn.clipped_relu(x, max_value)
        y = nn.leaky_relu(x, negative_slope) if negative_slope else nn.relu(x)
    return y if max_value is None else minimum(y, max_value)


def gelu(x: Any, approximate: bool = False) -> Tensor:
    """y = x P(a standard normal number is below x) (D. Hendrycks and K. Gimpel, 2016)."""
    return nn.gelu(x, approximate)


def exponential(x: Any) -> Tensor:
    """y = e^x."""
    return exp(x)


# The layers fuse these two with their product, whether given by name or as a function.
nn.FUSED_ACTIVATIONS.update({linear: "linear", relu: "relu"})

FUNCTIONS = (
    celu, elu, exponential, gelu, glu, hard_shrink, hard_sigmoid, hard_silu, hard_tanh, leaky_relu,
    linear, log_sigmoid, log_softmax, mish, relu, relu6, selu, sigmoid, silu, soft_shrink, softmax,
    softplus, softsign, sparse_plus, sparse_sigmoid, sparsemax, squareplus, tanh, tanh_shrink,
    threshold,
)  # fmt: skip
_ALIASES = {"silu": ("swish",), "hard_silu": ("hard_swish",)}
for _function in FUNCTIONS:
    _name = _function.__name__
    serialization.serializable("keras.activations", *_ALIASES.get(_name, ()))(_function)


def get(identifier: Any) -> Any:
    """The activation that a name, configuration, function or layer means; `linear` for None.

    Raises:
        ValueError: there is no such activation.
    """
    if identifier is None:
        return linear
    return serialization.get("keras.activations", identifier, "activation")


def serialize(activation: Any) -> Any:
    """The activation's name; a configuration for a layer or a user's function."""
    return serialization.serialize_keras_object(activation)


def deserialize(config: Any, custom_objects: dict | None = None) -> Any:
    """The activation that a name or a configuration describes."""
    return serialization.deserialize("keras.activations", config, "activation", custom_objects)


__all__ = [
    "celu", "deserialize", "elu", "exponential", "gelu", "get", "glu", "hard_shrink",
    "hard_sigmoid", "hard_silu", "hard_swish", "hard_tanh", "leaky_relu", "linear", "log_sigmoid",
    "log_softmax", "mish", "relu", "relu6", "selu", "serialize", "sigmoid", "silu", "soft_shrink",
    "softmax", "softplus", "softsign", "sparse_plus", "sparse_sigmoid", "sparsemax", "squareplus",
    "swish", "tanh", "tanh_shrink", "threshold",
]  # fmt: skip


def __dir__() -> list[str]:
    return __all__
