"""The base of layers with a kernel, a bias and an activation: Dense and the convolutions."""

from __future__ import annotations

from typing import Any

from minitorch_ciml.keras import activations
from minitorch_ciml.keras.layers.layer import Layer
from minitorch_ciml.keras.serialization import get


class KernelLayer(Layer):
    """activation(linear map of the input by `kernel` + `bias`).

    Args:
        activation: a name, a function, or None for the identity.
        use_bias: whether to add a bias.
        kernel_initializer, bias_initializer: names or initializers.
        kernel_regularizer, bias_regularizer, activity_regularizer: penalties in the loss.
        kernel_constraint, bias_constraint: applied after every update.
    """

    def __init__(
        self,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        **kwargs: Any,
    ):
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self.activation = activations.get(activation)
        self.use_bias = bool(use_bias)
        self.kernel_initializer = get("keras.initializers", kernel_initializer, "initializer")
        self.bias_initializer = get("keras.initializers", bias_initializer, "initializer")
        self.kernel_regularizer = get("keras.regularizers", kernel_regularizer, "regularizer")
        self.bias_regularizer = get("keras.regularizers", bias_regularizer, "regularizer")
        self.kernel_constraint = get("keras.constraints", kernel_constraint, "constraint")
        self.bias_constraint = get("keras.constraints", bias_constraint, "constraint")

    def add_kernel(self, shape: tuple) -> Any:
        """A new kernel, with this layer's initializer, regularizer and constraint."""
        return self.add_weight(
            shape,
            self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
            name="kernel",
        )

    def add_bias(self, size: int) -> Any:
        """A new bias, or None if the layer uses none."""
        if not self.use_bias:
            return None
        return self.add_weight(
            (size,),
            self.bias_initializer,
            regularizer=self.bias_regularizer,
            constraint=self.bias_constraint,
            name="bias",
        )


def positive(name: str, argument: str, value: Any) -> int:
    """`value` as a positive integer, or an error that names the layer's argument."""
    if not hasattr(value, "__index__") or value < 1:
        raise ValueError(f"{name}: {argument} must be a positive integer, got {value!r}.")
    return int(value)


def padding_mode(name: str, padding: Any, *more: str) -> str:
    """`padding` in small letters: "valid", "same" or one of `more`; otherwise an error."""
    mode, known = str(padding).lower(), ("valid", "same", *more)
    if mode not in known:
        raise ValueError(
            f"{name}: padding must be {' or '.join(map(repr, known))}, got {padding!r}."
        )
    return mode
