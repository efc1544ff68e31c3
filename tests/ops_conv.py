"""Rows of the table: convolution in one to three dimensions."""

from op_table import REAL, Row, jax, jnp, shaped, torch

from minitorch_ciml.ops.conv import (
    conv,
    conv_bias_act,
    conv_transpose,
    depthwise_conv,
    separable_conv,
)


def _torch_conv(x, w, b=None, strides=1, padding="valid", dilation_rate=1, activation=None):
    """torch's convolution with Keras' layout; 'same' is asymmetric, so zeros are added here."""
    rank = x.ndim - 2
    per = lambda v: v if isinstance(v, tuple) else (v,) * rank  # noqa: E731
    steps, gaps = per(strides), per(dilation_rate)
    pads = []
    for size, window, step, gap in zip(x.shape[1:-1], w.shape, steps, gaps):
        total = 0
        if padding == "same":
            total = max((-(-size // step) - 1) * step + (window - 1) * gap + 1 - size, 0)
        before = total // 2
        if padding == "causal":
            before = total = (window - 1) * gap
        pads = [before, total - before, *pads]
    x = torch.nn.functional.pad(x.movedim(-1, 1), pads)
    groups = x.shape[1] // w.shape[-2]
    function = getattr(torch.nn.functional, f"conv{rank}d")
    kernel = w.movedim(-1, 0).movedim(-1, 1)
    y = function(x, kernel, b, stride=steps, dilation=gaps, groups=groups).movedim(1, -1)
    return torch.relu(y) if activation == "relu" else y


def _channels_first(x, w, **params):
    params.pop("data_format")
    return _torch_conv(x.movedim(1, -1), w, **params).movedim(-1, 1)


def _torch_depthwise(x, w, **params):
    return _torch_conv(x, w.reshape(*w.shape[:-2], 1, -1), **params)


def _torch_separable(x, depthwise, pointwise, **params):
    return _torch_conv(_torch_depthwise(x, depthwise, **params), pointwise)


def _jax_transpose(x, w, strides, padding, dilation_rate=1):
    rank = x.ndim - 2
    axes = "XYZ"[:rank]
    reach = [(n - 1) * dilation_rate + 1 for n in w.shape[:-2]]
    if padding == "valid":
        pads = [(k - 1, k - 1 + max(strides - k, 0)) for k in reach]
    else:
        totals = [k + strides - 2 for k in reach]
        pads = [(min(-(-t // 2), k - 1), t - min(-(-t // 2), k - 1)) for t, k in zip(totals, reach)]
    return jax.lax.conv_general_dilated(
        x,
        jnp.flip(w, tuple(range(rank))),
        (1,) * rank,
        pads,
        lhs_dilation=(strides,) * rank,
        rhs_dilation=(dilation_rate,) * rank,
        dimension_numbers=(f"N{axes}C", f"{axes}OI", f"N{axes}C"),
    )


def _conv(*shapes, **params):
    return Row(conv, shaped(REAL, *shapes), params, torch=_torch_conv)


def _fused(*shapes, **params):
    peer = lambda x, w, b=None, **how: _torch_conv(x, w, b, **how)  # noqa: E731
    return Row(conv_bias_act, shaped(REAL, *shapes), params, torch=peer)


def _residual(*shapes, **params):
    def peer(x, w, b, r, activation=None, **how):
        y = _torch_conv(x, w, b, **how) + r
        return torch.relu(y) if activation == "relu" else y

    def call(x, w, b, r, **how):
        return conv_bias_act(x, w, b, residual=r, **how)

    return Row(conv_bias_act, shaped(REAL, *shapes), params, torch=peer, call=call)


def _transpose(*shapes, **params):
    return Row(conv_transpose, shaped(REAL, *shapes), params, jax=_jax_transpose)


ROWS = [
    _conv((2, 7, 3), (3, 3, 2)),
    _conv((2, 7, 3), (2, 3, 2), padding="causal", dilation_rate=2),
    _conv((2, 5, 4, 3), (3, 2, 3, 2)),
    _conv((2, 5, 4, 3), (3, 2, 3, 2), padding="same"),
    _conv((2, 6, 5, 3), (2, 3, 3, 2), padding="same", strides=2),
    _conv((2, 6, 7, 3), (3, 2, 3, 2), strides=(1, 3)),
    _conv((1, 7, 7, 2), (3, 3, 2, 2), dilation_rate=2),
    _conv((2, 4, 4, 4), (2, 2, 2, 6)),  # two groups
    _conv((1, 5, 3, 17), (3, 3, 17, 33), padding="same"),
    _conv((0, 4, 4, 3), (2, 2, 3, 2)),
    _conv((1, 3, 4, 3, 2), (2, 2, 2, 2, 3), padding="same"),
    _conv((1, 5, 4, 3, 2), (3, 2, 2, 2, 3), strides=2),
    Row(
        conv,
        shaped(REAL, (2, 3, 5, 4), (3, 2, 3, 2)),
        {"padding": "same", "strides": 2, "data_format": "channels_first"},
        torch=_channels_first,
    ),
    _fused((2, 7, 3), (3, 3, 2), (2,), activation="relu"),
    _fused((2, 5, 4, 3), (3, 3, 3, 5), (5,), activation="relu", padding="same"),
    _fused((2, 5, 4, 3), (2, 2, 3, 2), (2,), activation="linear", strides=2),
    _fused((2, 5, 4, 4), (2, 2, 2, 2), (2,), activation="relu", padding="same"),
    _fused((1, 3, 4, 3, 2), (2, 2, 2, 2, 3), (3,), activation="relu", padding="same"),
    _fused((2, 5, 4, 3), (2, 2, 3, 2), activation="relu"),
    _residual((2, 5, 4, 3), (1, 1, 3, 5), (5,), (2, 5, 4, 5), activation="relu"),
    _residual((2, 5, 4, 3), (3, 2, 3, 2), (2,), (2, 5, 4, 2), padding="same"),
    _residual((2, 7, 3), (3, 3, 2), (2,), (2, 3, 2), activation="relu", strides=2),
    Row(
        depthwise_conv,
        shaped(REAL, (2, 5, 4, 3), (3, 2, 3, 2)),
        {"padding": "same", "strides": 2},
        torch=_torch_depthwise,
    ),
    Row(depthwise_conv, shaped(REAL, (2, 6, 3), (3, 3, 1)), torch=_torch_depthwise),
    Row(
        separable_conv,
        shaped(REAL, (2, 5, 4, 3), (3, 2, 3, 2), (1, 1, 6, 4)),
        {"padding": "same"},
        torch=_torch_separable,
    ),
    _transpose((2, 4, 3), (3, 2, 3), strides=1, padding="valid"),
    _transpose((2, 3, 4, 2), (3, 3, 3, 2), strides=2, padding="same"),
    _transpose((2, 3, 4, 2), (2, 4, 3, 2), strides=2, padding="same"),
    _transpose((2, 3, 4, 2), (2, 2, 3, 2), strides=3, padding="valid"),
    _transpose((1, 3, 2, 2), (2, 2, 3, 2), strides=1, padding="same", dilation_rate=2),
]
