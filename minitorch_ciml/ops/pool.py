"""Pooling, in one, two or three dimensions: the maximum or the mean of every window; up-sampling.

The ops work on channels-last arrays (N, *S, C) -> (N, *O, C).

Average pooling is linear, so it and its gradient are each other's derivatives. Max pooling picks
elements: where it found them (`places`) is saved with the result. Once the places are known it is
linear too: `gather` reads the elements there, `scatter` adds to them, and these two are each
other's derivatives. (The places are constant almost everywhere, so no gradient flows to them.)
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from minitorch_ciml.autograd.engine import Op
from minitorch_ciml.autograd.tensor import Tensor
from minitorch_ciml.ops.conv import (
    Ints,
    _conv_bias_act,
    channels_first,
    channels_last,
    check_bias,
    conv_geometry,
    frozen,
    is_channels_first,
    per_dimension,
    result_shape,
    window_pads,
)
from minitorch_ciml.ops.nn import FUSED_ACTIVATIONS, shape_of
from minitorch_ciml.ops.shape import repeat

__all__ = ["average_pool", "conv_max_pool", "max_pool", "upsample"]

# --- the ops ------------------------------------------------------------------------------------

_avg_pool: Op = Op(
    "avg_pool",
    lambda g, y, x, **how: _avg_pool_grad(g, input_shape=x.shape, **how),
    dtypes="float",
    doc="y = the mean over every window, of the elements that lie inside x.",
)
_avg_pool_grad: Op = Op(
    "avg_pool_grad",
    lambda g, y, h, input_shape, **how: _avg_pool(g, **how),
    dtypes="float",
    doc="The gradient of avg_pool(x) for x, where h is the gradient of its result.",
)

_max_pool_places = Op("max_pool_places", doc="Where in each window of x the maximum is.")
_max_pool_gather: Op = Op(
    "max_pool_gather",
    lambda g, y, x, places, **how: _max_pool_scatter(g, places, input_shape=x.shape, **how),
    None,
    doc="y = x at the given place of each window.",
)
_max_pool_scatter: Op = Op(
    "max_pool_scatter",
    lambda g, y, h, places, input_shape, **how: _max_pool_gather(g, places, **how),
    None,
    doc="y = zeros of `input_shape`, plus h at the given place of each window.",
)
_max_pool = Op(
    "max_pool",
    ref=lambda x, **how: _max_pool_gather(x, _max_pool_places(x, **how), **how),
    saves=True,
    dtypes="float",
    doc="y = the maximum over every window; the gradient goes to the first one.",
)
_conv_max_pool = Op(
    "conv_max_pool",
    ref=lambda x, w, b, activation, pool_size, pool_strides, pool_padding, **how: _max_pool(
        _conv_bias_act(x, w, b, activation=activation, **how),
        pool_size=pool_size, strides=pool_strides, padding=pool_padding,
    ),
    saves=True,
    dtypes="float",
    doc="y = max_pool(activation(conv(x, w) + b)), with activation 'linear' or 'relu'.",
)  # fmt: skip


def _upsample_ref(x, size):
    for axis, times in enumerate(size, 1):
        x = repeat(x, times, axis)
    return x


_upsample = Op("upsample", ref=_upsample_ref, doc="y = x, every place repeated in each dimension.")

# --- the public functions -----------------------------------------------------------------------


def max_pool(
    inputs: Any,
    pool_size: int | Ints,
    strides: int | Ints | None = None,
    padding: str = "valid",
    data_format: str | None = None,
) -> Tensor:
    """The maximum over every window; elements of the padding never win.

    Args:
        inputs: floats (N, *S, C), with one to three spatial dimensions S.
        pool_size: the size of the window; an int or one per dimension.
        strides: the step between two windows; `pool_size` if left out.
        padding: "valid" (none) or "same" (so that O = ceil(S / strides); an odd one goes after).
        data_format: "channels_last" (the default) or "channels_first": (N, C, *S).

    Returns:
        Floats (N, *O, C).

    Raises:
        ValueError: the rank does not fit, or the window is larger than the input.
    """
    return _pool("max_pool", _max_pool, inputs, pool_size, strides, padding, data_format)


def conv_max_pool(
    inputs: Any,
    kernel: Any,
    bias: Any,
    activation: str | Callable | None = None,
    strides: int | Ints = 1,
    padding: str = "valid",
    dilation_rate: int | Ints = 1,
    pool_size: int | Ints = 2,
    pool_strides: int | Ints | None = None,
    pool_padding: str = "valid",
) -> Tensor:
    """y = max_pool(activation(conv(inputs, kernel) + bias)), in one pass over memory if possible.

    What is pooled is not kept, only where its maxima are.

    Args:
        inputs: floats (N, *S, C), as for `conv`, like the arguments that are not listed here.
        bias: floats (F,).
        activation: None, "linear" or "relu".
        pool_size: as for `max_pool`, and so are `pool_strides` and `pool_padding`.

    Returns:
        Floats (N, *O, F).

    Raises:
        ValueError: as for `conv_bias_act` and `max_pool`, or the activation is another one.
    """
    if activation not in FUSED_ACTIVATIONS:
        raise ValueError(
            f"conv_max_pool: the activation is {activation!r}, expected None, 'linear' or 'relu'."
        )
    how = conv_geometry(inputs, kernel, strides, padding, dilation_rate)
    check_bias(bias, kernel)
    shape = result_shape(shape_of(inputs), shape_of(kernel), how)
    pool = _geometry("max_pool", shape, frozen(pool_size), frozen(pool_strides), pool_padding)
    return _conv_max_pool(
        inputs, kernel, bias, activation=FUSED_ACTIVATIONS[activation],
        **{f"pool_{name.removeprefix('pool_')}": value for name, value in pool.items()}, **how,
    )  # fmt: skip


def average_pool(
    inputs: Any,
    pool_size: int | Ints,
    strides: int | Ints | None = None,
    padding: str = "valid",
    data_format: str | None = None,
) -> Tensor:
    """The mean over every window; elements of the padding are not counted.

    Arguments, result and errors are those of `max_pool`.
    """
    return _pool("average_pool", _avg_pool, inputs, pool_size, strides, padding, data_format)


def upsample(inputs: Any, size: int | Ints, data_format: str | None = None) -> Tensor:
    """y[n, i, c] = x[n, i // size, c]: every place is repeated, in each spatial dimension.

    Args:
        inputs: a tensor (N, *S, C), with one to three spatial dimensions S.
        size: how often; an int or one per dimension.
        data_format: "channels_last" (the default) or "channels_first": (N, C, *S).

    Returns:
        A tensor (N, *(S * size), C).

    Raises:
        ValueError: the rank does not fit, or the size is less than 1.
    """
    if is_channels_first(data_format):
        return channels_first(upsample(channels_last(inputs), size))
    _check_rank("upsample", shape_of(inputs))
    rank = len(shape_of(inputs)) - 2
    return _upsample(inputs, size=per_dimension("upsample", "size", size, rank))


def _pool(
    name: str, op: Op, x: Any, pool_size: Any, strides: Any, padding: str, data_format: str | None
) -> Tensor:
    first = is_channels_first(data_format)
    if first:
        x = channels_last(x)
    y = op(x, **_geometry(name, shape_of(x), frozen(pool_size), frozen(strides), padding))
    return channels_first(y) if first else y


@lru_cache(maxsize=1024)
def _geometry(
    name: str, inputs: Ints, pool_size: int | Ints, strides: int | Ints | None, padding: str
) -> dict:
    """The normalised parameters of the ops, after all checks."""
    _check_rank(name, inputs)
    rank = len(inputs) - 2
    window = per_dimension(name, "pool_size", pool_size, rank)
    steps = window if strides is None else per_dimension(name, "strides", strides, rank)
    if padding == "causal":
        raise ValueError(f"{name}: padding is 'causal', expected 'valid' or 'same'.")
    pads = window_pads(name, inputs[1:-1], window, steps, padding, (1,) * rank)
    return {"pool_size": window, "strides": steps, "padding": pads}


def _check_rank(name: str, inputs: Ints) -> None:
    if not 3 <= len(inputs) <= 5:
        raise ValueError(
            f"{name}: the inputs have shape {inputs}, expected (batch, *spatial, channels) with "
            "one to three spatial dimensions."
        )
