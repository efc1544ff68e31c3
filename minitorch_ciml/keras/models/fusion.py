"""Calls of layers that one kernel does together, so that memory is walked once instead of thrice.

    Conv -> Add -> ReLU    the end of a residual block: the sum and the ReLU are part of the
                           convolution's last instructions, and what it adds to is read there
    Conv -> BatchNormalization -> ReLU    see `normalized`; also in front of an Add, as above
    Conv -> MaxPooling     what is pooled is never stored, only where its maxima are
    softmax(q k^T) v       written with functions: the weights are never stored

Only what nobody else asks for is left out: the result of a layer that another layer uses too, or
that is an output of the model, is computed as always.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from minitorch_ciml import ops
from minitorch_ciml.autograd import Tensor
from minitorch_ciml.keras.activations import linear, relu
from minitorch_ciml.keras.layers.activation import ReLU
from minitorch_ciml.keras.layers.convolutional import BaseConv, Conv1D, Conv2D, Conv3D
from minitorch_ciml.keras.layers.convolutional_relatives import DepthwiseConv1D, DepthwiseConv2D
from minitorch_ciml.keras.layers.core import Activation
from minitorch_ciml.keras.layers.function import Function
from minitorch_ciml.keras.layers.layer import Layer
from minitorch_ciml.keras.layers.merging import Add
from minitorch_ciml.keras.layers.normalization import BatchNormalization
from minitorch_ciml.keras.layers.pooling import (
    BasePooling,
    MaxPooling1D,
    MaxPooling2D,
    MaxPooling3D,
)
from minitorch_ciml.keras.layers.reshaping import ZeroPadding1D, ZeroPadding2D, ZeroPadding3D
from minitorch_ciml.keras.models.normalized import NormalizedConv, are_simple, relu_of
from minitorch_ciml.keras.symbolic import KerasTensor, Node
from minitorch_ciml.keras.tree import flatten
from minitorch_ciml.ops.attention import one_head_attention

_CONVOLUTIONS = (Conv1D, Conv2D, Conv3D)
_DEPTHWISE = (DepthwiseConv1D, DepthwiseConv2D)
_ACTIVATIONS = (Activation, ReLU)
_PADDINGS = (ZeroPadding1D, ZeroPadding2D, ZeroPadding3D)


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
            are_simple((self.conv, self.add, self.activation), (x, other))
            and self.conv.activation is linear
            and relu_of(self.activation) == "relu"
        )


class _PooledConv:
    """max_pool(activation(conv(x)))."""

    def __init__(self, conv: BaseConv, pool: BasePooling):
        self.conv, self.pool = conv, pool

    def __call__(self, x: Any) -> Any:
        conv, pool = self.conv, self.pool
        if are_simple((conv, pool), (x,)) and conv.activation in (linear, relu):
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
        if not all([type(t) is Tensor and t.device != "cuda" for t in tensors]):
            return False
        q, k, v = (t.value for t in tensors)
        return (
            q.dtype == k.dtype == v.dtype
            and q.dtype.char in "fd"
            and q.shape[:-2] == k.shape[:-2] == v.shape[:-2]
            and q.shape[-2] * k.shape[-2] <= _MOST_WEIGHTS
        )


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
        for matching in (_attention_by_hand, _pooled_conv, _residual_end, _normalized_conv):
            match = matching(node, maker)
            if match is not None:
                calls[node] = Call(match.layer, match.inputs, {}, node.outputs)
                for inner in match.inner:
                    calls.pop(inner, None)
                break
    return list(calls.values())


class Match(NamedTuple):
    """What stands for a call and the `inner` ones before it."""

    layer: Callable
    inputs: tuple
    inner: Sequence[Node]


def _pooled_conv(node: Node, maker: Callable) -> Match | None:
    if type(node.layer) not in (MaxPooling1D, MaxPooling2D, MaxPooling3D):
        return None
    conv = maker(node.inputs[0], _CONVOLUTIONS)
    if conv is None or not _has_bias(conv.layer) or not _is_channels_last(node.layer):
        return None
    return Match(_PooledConv(conv.layer, node.layer), (conv.inputs[0],), [conv])


def _addition(node: Node, maker: Callable) -> Node | None:
    """The sum of two equal shapes that an activation gets."""
    add = maker(node.inputs[0], (Add,)) if type(node.layer) in _ACTIVATIONS else None
    if add is None or len(add.inputs) != 2 or add.inputs[0].shape != add.inputs[1].shape:
        return None
    return add


def _residual_end(node: Node, maker: Callable) -> Match | None:
    add = _addition(node, maker)
    for place, x in enumerate(add.inputs if add else ()):
        conv = maker(x, _CONVOLUTIONS)
        if conv is not None and _has_bias(conv.layer):
            end = _ResidualEnd(conv.layer, add.layer, node.layer, place == 0)  # type: ignore
            return Match(end, (conv.inputs[0], add.inputs[1 - place]), [conv, add])  # type: ignore
    return None


def _normalized_conv(node: Node, maker: Callable) -> Match | None:
    """A convolution, its normalisation, and an activation; or what there is of these."""
    if type(node.layer) is BatchNormalization:
        return _ending_with(node, [], maker)
    if relu_of(node.layer) is None:
        return None
    add = _addition(node, maker)
    for place, x in enumerate(add.inputs if add else ()):
        layers = dict(activation=node.layer, add=add.layer, comes_first=place == 0)  # type: ignore
        normalization = maker(x, (BatchNormalization,))
        inner, other = [normalization, add], add.inputs[1 - place]  # type: ignore
        if match := _ending_with(normalization, inner, maker, other, **layers):
            return match
    normalization = maker(node.inputs[0], (BatchNormalization,))
    return _ending_with(normalization, [normalization], maker, activation=node.layer)


def _ending_with(
    normalization: Node | None, inner: Sequence, maker: Callable, *others: Any, **layers: Any
) -> Match | None:
    """The match with this normalisation; what is added comes with a convolution only."""
    if normalization is None or normalization.kwargs:
        return None
    if normalization.layer.axis not in (-1, len(normalization.outputs.shape) - 1):
        return None
    conv = maker(normalization.inputs[0], (*_CONVOLUTIONS, *_DEPTHWISE))
    if conv is not None and _is_channels_last(conv.layer):
        x, inner, pad = conv.inputs[0], [conv, *inner], maker(conv.inputs[0], _PADDINGS)
        if pad is not None and conv.layer.padding == "valid" and _is_channels_last(pad.layer):
            x, inner, layers = pad.inputs[0], [pad, *inner], {**layers, "pad": pad.layer}
        fused = NormalizedConv(conv.layer, normalization.layer, **layers)
        return Match(fused, (x, *others), inner)
    if others or not layers:
        return None
    return Match(
        NormalizedConv(None, normalization.layer, **layers), (normalization.inputs[0],), inner
    )


def _has_bias(conv: BaseConv) -> bool:
    return conv.use_bias and _is_channels_last(conv)


def _is_channels_last(layer: Any) -> bool:
    return layer.data_format == "channels_last"


def _attention_by_hand(node: Node, maker: Callable) -> Match | None:
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
    nodes = [n for n in (turned, product, scaled, shares, node) if n]
    return Match(_AttentionByHand(nodes, inputs, scale), inputs, nodes[:-1])


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
