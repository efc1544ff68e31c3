"""A convolution, the batch normalisation behind it, and the ReLU behind that, in fewer walks.

While a model is used, the normalisation multiplies every channel by a number and adds another one.
So it is part of the convolution: with f = gamma / sqrt(variance + epsilon), kernel f and
beta + (bias - mean) f take the places of kernel and bias, and nothing is left to normalise. That is
also what happens in training where the normalisation is frozen. Otherwise, the moments of what
the convolution gives are needed first; the ReLU is then done together with the normalisation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from minitorch_ciml import ops
from minitorch_ciml.autograd import Tensor
from minitorch_ciml.config import recording
from minitorch_ciml.keras.activations import linear, relu, relu6
from minitorch_ciml.keras.layers.activation import ReLU
from minitorch_ciml.keras.layers.convolutional import BaseConv
from minitorch_ciml.keras.layers.convolutional_relatives import BaseDepthwise
from minitorch_ciml.keras.layers.core import Activation
from minitorch_ciml.keras.layers.layer import Layer, is_training
from minitorch_ciml.keras.layers.normalization import BatchNormalization
from minitorch_ciml.keras.masks import any_mask
from minitorch_ciml.kernels import steps


class NormalizedConv:
    """activation(normalization(conv(x)) + other).

    Args:
        conv, normalization: the layers; None if there is no convolution.
        pad: the layer that puts zeros around what the convolution gets, or None.
        activation: a layer that is a ReLU, or None.
        add: the layer that adds `other`, or None.
        comes_first: whether the normalised tensor is the first one that `add` gets.
    """

    def __init__(
        self,
        conv: BaseConv | BaseDepthwise | None,
        normalization: BatchNormalization,
        activation: Layer | None = None,
        add: Layer | None = None,
        comes_first: bool = True,
        pad: Any = None,
    ):
        self.conv, self.normalization, self.activation = conv, normalization, activation
        self.pad = pad
        self.add, self.comes_first = add, comes_first
        self._folded: tuple[tuple, tuple[Tensor, Tensor]] | None = None

    def __call__(self, x: Any, *others: Any) -> Any:
        conv, normalization = self.conv, self.normalization
        activation = relu_of(self.activation)
        layers = (normalization, conv, self.activation, self.add, self.pad)
        used = [layer for layer in layers if layer is not None]
        simple = activation is not None and are_simple(used, (x, *others))
        follows_batch = is_training() and normalization.trainable
        if simple and conv is not None and conv.activation is linear and not follows_batch:
            return self._convolved(x, *self._kernel_and_bias(), _FUNCTIONS[activation], *others)
        if conv is None:
            y = x
        elif simple:
            y = self._convolved(x, kernel_of(conv), conv.bias, conv.activation)
        else:
            y = conv(x if self.pad is None else self.pad(x))
        if simple and activation and not others:
            return normalization.normalize(y, is_training(), activation=activation)
        y = normalization(y)
        if self.add is not None:
            y = self.add([y, *others] if self.comes_first else [*others, y])
        return y if self.activation is None else self.activation(y)

    def _convolved(self, x: Any, kernel: Any, bias: Any, activation: Any, *others: Any) -> Any:
        conv: Any = self.conv
        padding = conv.padding if self.pad is None else self.pad.pairs
        return ops.conv_bias_act(
            x, kernel, bias, activation, conv.strides, padding, None, conv.dilation_rate, *others
        )

    def _kernel_and_bias(self) -> tuple[Any, Any]:
        """Those of the convolution that normalises as well: kept until a weight changes."""
        conv, normalization = self.conv, self.normalization
        assert conv is not None
        weights = [
            w
            for w in (
                conv.kernel, conv.bias, normalization.gamma, normalization.beta,
                normalization.moving_mean, normalization.moving_variance,
            )
            if w is not None
        ]  # fmt: skip
        if recording.get() and any(w.requires_grad for w in weights):
            return fold(conv, normalization)
        if type(conv.kernel.value) is not np.ndarray:
            return fold(conv, normalization)  # a recorded CUDA graph must see new weights
        if steps.program.get() is not None:
            raise steps.NotRecordable("a convolution keeps its kernel with the normalization in it")
        key = tuple([(id(w), w.serial) for w in weights])
        if self._folded is None or self._folded[0] != key:
            self._folded = key, fold(conv, normalization)
        return self._folded[1]


def kernel_of(conv: BaseConv | BaseDepthwise) -> Any:
    """The kernel as `ops.conv` takes it: a depthwise one has a group for each channel."""
    if not isinstance(conv, BaseDepthwise):
        return conv.kernel
    *window, channels, multiplier = conv.kernel.shape
    return ops.reshape(conv.kernel, (*window, 1, channels * multiplier))


def fold(conv: BaseConv | BaseDepthwise, normalization: BatchNormalization) -> tuple[Any, Any]:
    """The kernel and the bias of the convolution that normalises as well."""
    factor = ops.rsqrt(normalization.moving_variance + normalization.epsilon)
    if normalization.gamma is not None:
        factor = factor * normalization.gamma
    centre = normalization.moving_mean
    if conv.bias is not None:
        centre = centre - conv.bias
    bias = -centre * factor
    if normalization.beta is not None:
        bias = bias + normalization.beta
    return kernel_of(conv) * factor, bias


_FUNCTIONS: dict[Any, Any] = {"linear": None, "relu": "relu", "relu6": ops.relu6}


def relu_of(layer: Layer | None) -> str | None:
    """Which activation of `ops.batch_normalization` the layer is; None if it is another one."""
    if layer is None:
        return "linear"
    if type(layer) is ReLU and not layer.negative_slope and not layer.threshold:
        return {None: "relu", 6.0: "relu6"}.get(layer.max_value)
    if type(layer) is Activation and layer.activation is relu:
        return "relu"
    return "relu6" if type(layer) is Activation and layer.activation is relu6 else None


def are_simple(layers: Sequence[Layer], inputs: Sequence) -> bool:
    """Whether the layers do nothing beside their formula; a user may change them any time."""
    dtype = layers[0].compute_dtype
    return (
        all(type(t) is Tensor and t.value.dtype == dtype for t in inputs)
        and all(a.compute_dtype == dtype and not a.dtype_policy.mixed for a in layers)
        and all(a.activity_regularizer is None for a in layers)
        and not any_mask(tuple(inputs), {})
    )
