"""Calls of layers that one kernel does together, so that memory is walked once instead of thrice.

    Conv -> Add -> ReLU    the end of a residual block: the sum and the ReLU are part of the
                           convolution's last instructions, and what it adds to is read there
    Conv -> MaxPooling     what is pooled is never stored, only where its maxima are
    softmax(q k^T) v       written with functions: the weights are never stored

Only what nobody else asks for is left out: the result of a layer that another layer uses too, or
that is an output of the model, is computed as always.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from minitorch_ciml import ops
from minitorch_ciml.autograd import Tensor
from minitorch_ciml.keras.activations import linear, relu
from minitorch_ciml.keras.layers.activation import ReLU
from minitorch_ciml.keras.layers.convolutional import BaseConv, Conv1D, Conv2D, Conv3D
from minitorch_ciml.keras.layers.core import Activation
from minitorch_ciml.keras.layers.function import Function
from minitorch_ciml.keras.layers.layer import Layer
from minitorch_ciml.keras.layers.merging import Add
from minitorch_ciml.keras.layers.pooling import (
    BasePooling,
    MaxPooling1D,
    MaxPooling2D,
    MaxPooling3D,
)
from minitorch_ciml.keras.masks import any_mask
from minitorch_ciml.keras.symbolic import KerasTensor, Node
from minitorch_ciml.keras.tree import flatten
from minitorch_ciml.ops.attention import one_head_attention

_CONVOLUTIONS = (Conv1D, Conv2D, Conv3D)


class Call(NamedTuple):
    """Stands for several `Node`s, of which the last makes `outputs`."""

    layer: Callable
    args: tuple
    kwargs: dict
    outputs: KerasTensor


class _ResidualEnd:
    """relu(conv(x) + other)."""

    def __init__(self, conv: BaseConv, add: Add, activation: Layer, conv_comes_first: bool):
        self.conv, self.add, self.activation = conv, add, activation
        self.conv_comes_first = conv_comes_first

    def __call__(self, x: Any, other: Any) -> Any:
        conv = self.conv
        if self._is_simple(x, other):
            return ops.conv_bias_act(
                x, conv.kernel, conv.bias, "relu", conv.strides, conv.padding, None,
                conv.dilation_rate, other,
            )  # fmt: skip
        y = conv(x)
        return self.activation(self.add([y, other] if self.conv_comes_first else [other, y]))

    def _is_simple(self, x: Any, other: Any) -> bool:
        return (
            _are_simple((self.conv, self.add, self.activation), (x, other))
            and self.conv.activation is linear
            and _is_relu(self.activation)
        )


class _PooledConv:
    """max_pool(activation(conv(x)))."""

    def __init__(self, conv: BaseConv, pool: BasePooling):
        self.conv, self.pool = conv, pool

    def __call__(self, x: Any) -> Any:
        conv, pool = self.conv, self.pool
        if _are_simple((conv, pool), (x,)) and conv.activation in (linear, relu):
            return ops.conv_max_pool(
                x, conv.kernel, conv.bias, None if conv.activation is linear else "relu",
                conv.strides, conv.padding, conv.dilation_rate,
                pool.pool_size, pool.strides, pool.padding,
            )  # fmt: skip
        return pool(conv(x))


# Up to so many weights of a sample the kernel, which has them in a cache, is the faster way.
_MOST_WEIGHTS = 1 << 16


class _AttentionByHand:
    """softmax(scale q k^T) v, as the calls of the functions that it is written with."""

    def __init__(self, nodes: list[Node], inputs: tuple[KerasTensor, ...], scale: float):
        self.nodes, self.inputs, self.scale = nodes, inputs, scale

    def __call__(self, q: Any, k: Any, v: Any) -> Any:
        if self._is_simple(q, k, v):
            return one_head_attention(q, k, v, self.scale)
        values = dict(zip(map(id, self.inputs), (q, k, v)))
        for node in self.nodes:
            args = [values.get(id(x), x) for x in node.args]
            values[id(node.outputs)] = node.layer(*args)
        return values[id(self.nodes[-1].outputs)]

    def _is_simple(self, *tensors: Any) -> bool:
        if not all([type(t) is Tensor and type(t.value) is np.ndarray for t in tensors]):
            return False
        q, k, v = (t.value for t in tensors)
        return (
            q.dtype == k.dtype == v.dtype
            and q.dtype.char in "fd"
            and q.shape[:-2] == k.shape[:-2] == v.shape[:-2]
            and q.shape[-2] * k.shape[-2] <= _MOST_WEIGHTS
        )


def _are_simple(layers: tuple[Layer, ...], inputs: tuple) -> bool:
    """Whether the layers do nothing beside their formula; a user may change them any time."""
    dtype = layers[0].compute_dtype
    return (
        all(type(t) is Tensor and t.value.dtype == dtype for t in inputs)
        and all(a.compute_dtype == dtype and not a.dtype_policy.mixed for a in layers)
        and all(a.activity_regularizer is None for a in layers)
        and not any_mask(inputs, {})
    )


def _is_relu(layer: Layer) -> bool:
    if type(layer) is ReLU:
        return layer.max_value is None and not layer.negative_slope and not layer.threshold
    return type(layer) is Activation and layer.activation is relu


def fused(nodes: list[Node], outputs: Any) -> list[Node | Call]:
    """The calls of a model, in order, with one `Call` where one kernel does several."""
    uses = Counter(id(x) for node in nodes for x in node.inputs)
    uses.update(map(id, flatten(outputs)))
    made_by = {id(node.outputs): node for node in nodes if type(node.outputs) is KerasTensor}
    calls: dict[Node, Node | Call] = {node: node for node in nodes}

    def maker(x: KerasTensor, kinds: tuple) -> Node | None:
        """The call that made x, if it is of such a layer and x is needed once."""
        node = made_by.get(id(x))
        is_one = node is not None and type(node.layer) in kinds and uses[id(x)] == 1
        return node if is_one else None

    for node in nodes:
        attention = _attention_by_hand(node, maker)
        if attention is not None:
            calls[node] = Call(attention, attention.inputs, {}, node.outputs)
            for inner in attention.nodes[:-1]:
                del calls[inner]
            continue
        if type(node.layer) in (MaxPooling1D, MaxPooling2D, MaxPooling3D):
            conv = maker(node.inputs[0], _CONVOLUTIONS)
            if conv is not None and _has_bias(conv.layer) and _is_channels_last(node.layer):
                calls[node] = Call(
                    _PooledConv(conv.layer, node.layer), (conv.inputs[0],), {}, node.outputs
                )
                del calls[conv]
            continue
        add = maker(node.inputs[0], (Add,)) if type(node.layer) in (Activation, ReLU) else None
        if add is None or len(add.inputs) != 2 or add.inputs[0].shape != add.inputs[1].shape:
            continue
        for place, x in enumerate(add.inputs):
            conv = maker(x, _CONVOLUTIONS)
            if conv is not None and _has_bias(conv.layer):
                end = _ResidualEnd(conv.layer, add.layer, node.layer, place == 0)
                args = (conv.inputs[0], add.inputs[1 - place])
                calls[node] = Call(end, args, {}, node.outputs)
                del calls[conv], calls[add]
                break
    return list(calls.values())


def _has_bias(conv: BaseConv) -> bool:
    return conv.use_bias and _is_channels_last(conv)


def _is_channels_last(layer: BaseConv | BasePooling) -> bool:
    return layer.data_format == "channels_last"


def _attention_by_hand(node: Node, maker: Callable) -> _AttentionByHand | None:
    """The attention of which this is the last call: softmax(q k^T) v, or of a multiple of q k^T."""

    def call_of(x: Any, *functions: str) -> Any:
        made = maker(x, (Function,)) if isinstance(x, KerasTensor) else None
        return made if made is not None and _is_call_of(made, *functions) else None

    shares = call_of(node.args[0], "softmax") if _is_call_of(node, "matmul") else None
    if shares is None or shares.layer.params.get("axis", -1) not in (-1, shares.outputs.ndim - 1):
        return None
    scores, scale = shares.args[0], 1.0
    scaled = call_of(scores, "multiply", "divide", "true_divide")
    if scaled is not None:
        scores, scale = _factor(scaled)
    product = call_of(scores, "matmul")
    turned = call_of(product.args[1], "transpose", "swapaxes") if product is not None else None
    if turned is None or not _swaps_last_axes(turned):
        return None
    inputs = product.args[0], turned.args[0], node.args[1]
    if not all([isinstance(x, KerasTensor) and x.ndim >= 3 for x in inputs]):
        return None
    return _AttentionByHand(
        [n for n in (turned, product, scaled, shares, node) if n], inputs, scale
    )


def _is_call_of(node: Node, *functions: str) -> bool:
    return type(node.layer) is Function and node.layer.function in functions and not node.kwargs


def _factor(node: Node) -> tuple[Any, float]:
    """The tensor and the number that are multiplied, or divided; (None, 1) if it is otherwise."""
    arguments = [*node.args, *node.layer.params.values()]
    number = next((a for a in arguments if type(a) in (int, float)), 0)
    if len(arguments) != 2 or not number:
        return None, 1.0
    x = next(a for a in arguments if a is not number)
    if node.layer.function == "multiply":
        return x, float(number)
    return (x, 1.0 / number) if x is arguments[0] else (None, 1.0)


def _swaps_last_axes(node: Node) -> bool:
    ndim, params = node.args[0].ndim, node.layer.params
    if node.layer.function == "swapaxes":
        return {params.get("axis1", 0) % ndim, params.get("axis2", 0) % ndim} == {
            ndim - 2,
            ndim - 1,
        }
    return list(params.get("axes") or ()) == [*range(ndim - 2), ndim - 1, ndim - 2]
