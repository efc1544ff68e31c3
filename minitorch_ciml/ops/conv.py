"""Convolution, in one, two or three dimensions.

Convolution is closed under differentiation: the gradient for its input and the gradient for its
kernel are ops of their own, and the derivatives of these three ops are each other. So derivatives
of any order are convolutions, and `conv_transpose` is nothing new: it is `conv_input_grad`.

The ops work on channels-last arrays: inputs (N, *S, C), kernel (*K, C / groups, F), result
(N, *O, F). As everywhere in deep learning the kernel is not flipped (a cross-correlation).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from minitorch_ciml.autograd.arithmetic import add, relu
from minitorch_ciml.autograd.engine import Op
from minitorch_ciml.autograd.tensor import Tensor
from minitorch_ciml.ops.nn import FUSED_ACTIVATIONS, activate, shape_of
from minitorch_ciml.ops.shape import reshape, transpose

__all__ = ["conv", "conv_bias_act", "conv_transpose", "depthwise_conv", "separable_conv"]

Ints = tuple[int, ...]
Pads = tuple[tuple[int, int], ...]

# --- the ops ------------------------------------------------------------------------------------

_conv: Op = Op(
    "conv",
    lambda g, y, x, w, **how: _conv_input_grad(g, w, input_shape=x.shape, **how),
    lambda g, y, x, w, **how: _conv_kernel_grad(x, g, kernel_shape=w.shape, **how),
    gradient_kernel=True,
    dtypes="float",
    doc="y[n, o, f] = sum over k, c of x[n, strides o + dilation k - before, c] w[k, c, f].",
)
_conv_input_grad: Op = Op(
    "conv_input_grad",
    lambda g, y, h, w, input_shape, **how: _conv(g, w, **how),
    lambda g, y, h, w, input_shape, **how: _conv_kernel_grad(g, h, kernel_shape=w.shape, **how),
    dtypes="float",
    doc="The gradient of conv(x, w) for x, where h is the gradient of its result.",
)
_conv_kernel_grad: Op = Op(
    "conv_kernel_grad",
    lambda g, y, x, h, kernel_shape, **how: _conv_input_grad(h, g, input_shape=x.shape, **how),
    lambda g, y, x, h, kernel_shape, **how: _conv(x, g, **how),
    dtypes="float",
    doc="The gradient of conv(x, w) for w, where h is the gradient of its result.",
)


def _conv_bias_act_ref(x, w, b, activation: str, **how):
    z = add(_conv(x, w, **how), b)
    return relu(z) if activation == "relu" else z


_conv_bias_act = Op(
    "conv_bias_act",
    ref=_conv_bias_act_ref,
    dtypes="float",
    doc="y = activation(conv(x, w) + b), with activation 'linear' or 'relu'.",
)


_conv_bias_add_act = Op(
    "conv_bias_add_act",
    ref=lambda x, w, b, r, activation, **how: activate(
        add(_conv_bias_act(x, w, b, activation="linear", **how), r), activation
    ),
    dtypes="float",
    doc="y = activation(conv(x, w) + b + r), with activation 'linear' or 'relu'.",
)

# --- the public functions -----------------------------------------------------------------------


def conv(
    inputs: Any,
    kernel: Any,
    strides: int | Ints = 1,
    padding: str = "valid",
    data_format: str | None = None,
    dilation_rate: int | Ints = 1,
) -> Tensor:
    """y[n, o, f] = sum over k and c of x[n, strides o + dilation k - before, c] w[k, c, f].

    Args:
        inputs: floats (N, *S, C), with one to three spatial dimensions S.
        kernel: floats (*K, C / groups, F). The number of groups follows from the channels.
        strides: the step between two places of the window; an int or one per dimension.
        padding: "valid" (none), "same" (zeros, so that O = ceil(S / strides); an odd one goes
            after), or, with one spatial dimension, "causal" (zeros before only).
        data_format: "channels_last" (the default) or "channels_first": (N, C, *S).
        dilation_rate: the step between two elements of the window; an int or one per dimension.

    Returns:
        Floats (N, *O, F).

    Raises:
        ValueError: the ranks or channels do not fit, or the window is larger than the input.
    """
    if is_channels_first(data_format):
        x = channels_last(inputs)
        return channels_first(conv(x, kernel, strides, padding, None, dilation_rate))
    return _conv(inputs, kernel, **conv_geometry(inputs, kernel, strides, padding, dilation_rate))


def conv_bias_act(
    inputs: Any,
    kernel: Any,
    bias: Any = None,
    activation: str | Callable | None = None,
    strides: int | Ints = 1,
    padding: str | Pads = "valid",
    data_format: str | None = None,
    dilation_rate: int | Ints = 1,
    residual: Any = None,
) -> Tensor:
    """y = activation(conv(inputs, kernel) + bias + residual), in one pass over memory if possible.

    Args:
        inputs: as for `conv`, like the arguments that are not listed here.
        kernel: as for `conv`.
        bias: floats (F,), or None.
        activation: None, "linear", "relu", or any function of a tensor. Linear and ReLU are
            computed with the convolution, others after it.
        strides: as for `conv`.
        padding: as for `conv`, or the zeros (before, after) in each dimension.
        data_format: as for `conv`.
        dilation_rate: as for `conv`.
        residual: floats of the result's shape, or None: what a residual block goes past it.
    """
    if residual is not None and (bias is None or is_channels_first(data_format)):
        y = conv_bias_act(inputs, kernel, bias, None, strides, padding, data_format, dilation_rate)
        return activate(add(y, residual), activation)
    if is_channels_first(data_format):
        x = channels_last(inputs)
        y = conv_bias_act(x, kernel, bias, None, strides, padding, None, dilation_rate)
        # After the transpose, because an activation may depend on the place of the channels.
        return activate(channels_first(y), activation)
    how = conv_geometry(inputs, kernel, strides, padding, dilation_rate)
    if bias is None:
        return activate(_conv(inputs, kernel, **how), activation)
    check_bias(bias, kernel)
    fused = FUSED_ACTIVATIONS.get(activation)
    if residual is None:
        y = _conv_bias_act(inputs, kernel, bias, activation=fused or "linear", **how)
    else:
        given = shape_of(residual)
        if given != (expected := result_shape(shape_of(inputs), shape_of(kernel), how)):
            raise ValueError(
                f"conv_bias_act: the residual has shape {given}, expected the result's {expected}."
            )
        y = _conv_bias_add_act(inputs, kernel, bias, residual, activation=fused or "linear", **how)
    return y if fused else activate(y, activation)


def depthwise_conv(
    inputs: Any,
    kernel: Any,
    strides: int | Ints = 1,
    padding: str = "valid",
    data_format: str | None = None,
    dilation_rate: int | Ints = 1,
) -> Tensor:
    """Convolves every channel for itself: kernel (*K, C, M) gives M results per channel.

    The result has C * M channels; those of input channel c are c * M to c * M + M - 1. The other
    arguments, and the errors, are those of `conv`.
    """
    *window, channels, multiplier = shape_of(kernel)
    axis = 1 if is_channels_first(data_format) else -1
    given = shape_of(inputs)
    if len(given) != len(window) + 2 or given[axis] != channels:
        raise ValueError(
            f"depthwise_conv: the kernel of shape {shape_of(kernel)} takes {channels} channels and "
            f"{len(window)} spatial dimensions, the inputs have shape {given}."
        )
    grouped = reshape(kernel, (*window, 1, channels * multiplier))
    return conv(inputs, grouped, strides, padding, data_format, dilation_rate)


def separable_conv(
    inputs: Any,
    depthwise_kernel: Any,
    pointwise_kernel: Any,
    strides: int | Ints = 1,
    padding: str = "valid",
    data_format: str | None = None,
    dilation_rate: int | Ints = 1,
) -> Tensor:
    """`depthwise_conv`, then a convolution with a window of one element that mixes the channels.

    Args:
        inputs: as for `conv`, like the arguments that are not listed here.
        depthwise_kernel: floats (*K, C, M).
        pointwise_kernel: floats (1, ..., 1, C * M, F).
        strides: as for `conv`.
        padding: as for `conv`.
        data_format: as for `conv`.
        dilation_rate: as for `conv`.
    """
    x = depthwise_conv(inputs, depthwise_kernel, strides, padding, data_format, dilation_rate)
    return conv(x, pointwise_kernel, data_format=data_format)


def conv_transpose(
    inputs: Any,
    kernel: Any,
    strides: int | Ints = 1,
    padding: str = "valid",
    output_padding: int | Ints | None = None,
    data_format: str | None = None,
    dilation_rate: int | Ints = 1,
) -> Tensor:
    """The gradient of a convolution with respect to its input, used as a layer that upsamples.

    With K the (dilated) size of the window, the result has in each spatial dimension the size

    - "valid": S * strides + max(K - strides, 0), or (S - 1) * strides + K + output_padding;
    - "same": S * strides, or (S - 1) * strides + K - 2 (K // 2) + output_padding.

    Args:
        inputs: floats (N, *S, F).
        kernel: floats (*K, C, F): the channels of the *result* come first.
        strides: the step between two places of the window.
        padding: "valid" or "same".
        output_padding: extra size of the result; less than the strides. An int, one per dimension,
            or None.
        data_format: "channels_last" (the default) or "channels_first".
        dilation_rate: the step between two elements of the window.

    Returns:
        Floats (N, *O, C).
    """
    if is_channels_first(data_format):
        x = channels_last(inputs)
        y = conv_transpose(x, kernel, strides, padding, output_padding, None, dilation_rate)
        return channels_first(y)
    sizes, how = _transposed_geometry(
        shape_of(inputs), shape_of(kernel), frozen(strides), padding, frozen(output_padding),
        frozen(dilation_rate),
    )  # fmt: skip
    return _conv_input_grad(inputs, kernel, input_shape=sizes, **how)


# --- windows and sizes --------------------------------------------------------------------------


def conv_geometry(
    inputs: Any, kernel: Any, strides: Any, padding: str | Pads, dilation: Any
) -> dict:
    return _conv_geometry(
        shape_of(inputs), shape_of(kernel), frozen(strides), padding, frozen(dilation)
    )


@lru_cache(maxsize=1024)
def _conv_geometry(
    inputs: Ints, kernel: Ints, strides: int | Ints, padding: str | Pads, dilation: int | Ints
) -> dict:
    """The normalised parameters of `_conv`, after all checks. Cached: a script uses few of them."""
    rank = _spatial_rank("conv", inputs, kernel)
    steps = per_dimension("conv", "strides", strides, rank)
    gaps = per_dimension("conv", "dilation_rate", dilation, rank)
    channels, taken, filters = inputs[-1], kernel[-2], kernel[-1]
    if taken == 0 or channels % taken:
        raise ValueError(
            f"conv: the inputs have {channels} channels (shape {inputs}) but the kernel takes "
            f"{taken} (shape {kernel}); they must be equal, or a multiple for grouped convolution."
        )
    groups = channels // taken
    if groups == 0 or filters % groups:
        raise ValueError(
            f"conv: {channels} input channels and {taken} in the kernel make {groups} groups, "
            f"which do not divide the {filters} filters (kernel shape {kernel})."
        )
    pads = window_pads("conv", inputs[1:-1], kernel[:-2], steps, padding, gaps)
    return {"strides": steps, "padding": pads, "dilation": gaps, "groups": groups}


@lru_cache(maxsize=1024)
def _transposed_geometry(
    inputs: Ints,
    kernel: Ints,
    strides: int | Ints,
    padding: str,
    output_padding: int | Ints | None,
    dilation: int | Ints,
) -> tuple[Ints, dict]:
    """The shape of `conv_transpose`'s result, and the parameters of the convolution it inverts."""
    rank = _spatial_rank("conv_transpose", inputs, kernel)
    steps = per_dimension("conv_transpose", "strides", strides, rank)
    gaps = per_dimension("conv_transpose", "dilation_rate", dilation, rank)
    extra: tuple = (None,) * rank
    if output_padding is not None:
        extra = per_dimension("conv_transpose", "output_padding", output_padding, rank, least=0)
        if any(e >= s for e, s in zip(extra, steps)):
            raise ValueError(
                f"conv_transpose: output_padding {extra} must be less than the strides {steps}."
            )
    if inputs[-1] != kernel[-1]:
        raise ValueError(
            f"conv_transpose: the inputs have {inputs[-1]} channels (shape {inputs}) but the "
            f"kernel takes {kernel[-1]}, its last size (shape {kernel})."
        )
    if padding not in ("valid", "same"):
        raise ValueError(f"conv_transpose: padding is {padding!r}, expected 'valid' or 'same'.")
    sizes, pads = [], []
    for size, window, step, gap, more in zip(inputs[1:-1], kernel, steps, gaps, extra):
        reach = gap * (window - 1) + 1
        spread = (size - 1) * step
        if padding == "valid":
            out = spread + (max(reach, step) if more is None else reach + more)
            before = 0
        elif more is None:
            out = size * step
            before = max(reach - step, 0) // 2
        else:
            out = spread + reach % 2 + more
            before = max(reach // 2 - (more + 1) // 2, 0)
        sizes.append(out)
        pads.append((before, max(spread + reach - out - before, 0)))
    how = {"strides": steps, "padding": tuple(pads), "dilation": gaps, "groups": 1}
    return (inputs[0], *sizes, kernel[-2]), how


def check_bias(bias: Any, kernel: Any) -> None:
    filters, given = shape_of(kernel)[-1], shape_of(bias)
    if given != (filters,):
        raise ValueError(
            f"conv_bias_act: the bias has shape {given}, expected ({filters},): one per filter."
        )


def result_shape(inputs: Ints, kernel: Ints, how: dict) -> Ints:
    """The shape of `_conv`'s result."""
    dimensions = zip(inputs[1:-1], kernel, how["strides"], how["padding"], how["dilation"])
    sizes = [
        (n + sum(pads) - gap * (k - 1) - 1) // step + 1 for n, k, step, pads, gap in dimensions
    ]
    return (inputs[0], *sizes, kernel[-1])


def _spatial_rank(name: str, inputs: Ints, kernel: Ints) -> int:
    if not 3 <= len(inputs) <= 5:
        raise ValueError(
            f"{name}: the inputs have shape {inputs}, expected (batch, *spatial, channels) with "
            "one to three spatial dimensions."
        )
    if len(kernel) != len(inputs):
        raise ValueError(
            f"{name}: the kernel has shape {kernel}, expected {len(inputs)} dimensions like the "
            f"inputs of shape {inputs}: (*window, channels, channels)."
        )
    return len(inputs) - 2


def window_pads(
    name: str, spatial: Ints, window: Ints, strides: Ints, padding: str | Pads, dilation: Ints
) -> Pads:
    """The zeros (before, after) in each dimension that `padding` stands for.

    Raises:
        ValueError: the padding is unknown, or the window does not fit into the padded input.
    """
    if isinstance(padding, tuple):
        inner = tuple(size + sum(pads) for size, pads in zip(spatial, padding, strict=True))
        window_pads(name, inner, window, strides, "valid", dilation)
        return padding
    if padding not in ("valid", "same") and not (padding == "causal" and len(spatial) == 1):
        raise ValueError(
            f"{name}: padding is {padding!r}, expected 'valid' or 'same' ('causal' in 1-D only)."
        )
    pads = []
    for size, places, step, gap in zip(spatial, window, strides, dilation):
        reach = gap * (places - 1) + 1
        total = 0
        if padding == "same":
            total = max((math.ceil(size / step) - 1) * step + reach - size, 0)
        elif padding == "causal":
            total = reach - 1
        before = total if padding == "causal" else total // 2
        pads.append((before, total - before))
        if size + total < reach:
            raise ValueError(
                f"{name}: the window {window} with dilation {dilation} is larger than the input, "
                f"whose spatial shape is {spatial}; use a smaller window or padding='same'."
            )
    return tuple(pads)


def per_dimension(name: str, argument: str, value: Any, rank: int, least: int = 1) -> Ints:
    """`value` as one int per spatial dimension."""
    try:
        given = [value] * rank if np.ndim(value) == 0 else value
        values = () if isinstance(value, str) else tuple(int(v) for v in given)
    except (TypeError, ValueError):
        values = ()
    if len(values) != rank or min(values, default=least) < least:
        raise ValueError(
            f"{name}: {argument} is {value!r}, expected an integer of at least {least}, or "
            f"{rank} of them (one per spatial dimension)."
        )
    return values


def frozen(value: Any) -> Any:
    """Lists as tuples, so that the value can be looked up in a cache."""
    return tuple(value) if isinstance(value, list) else value


# --- data formats -------------------------------------------------------------------------------


def is_channels_first(data_format: str | None) -> bool:
    """Whether the channels come second; checks the name."""
    if data_format in (None, "channels_last"):
        return False
    if data_format == "channels_first":
        return True
    raise ValueError(
        f"data_format is {data_format!r}, expected 'channels_last' or 'channels_first'."
    )


def channels_last(x: Any) -> Tensor:
    """(N, C, *S) as (N, *S, C)."""
    rank = np.ndim(x)
    return transpose(x, (0, *range(2, rank), 1))


def channels_first(x: Tensor) -> Tensor:
    """(N, *S, C) as (N, C, *S)."""
    return transpose(x, (0, x.ndim - 1, *range(1, x.ndim - 1)))
