"""Rows of the table: pooling in one to three dimensions."""

from op_table import REAL, TIES, Row, shaped, torch
from ops_conv import _torch_conv

from minitorch_ciml.ops.pool import average_pool, conv_max_pool, max_pool, upsample


def _torch_pool(kind, x, pool_size, strides=None, padding="valid", data_format=None):
    rank = x.ndim - 2
    window = pool_size if isinstance(pool_size, tuple) else (pool_size,) * rank
    steps = window if strides is None else (strides,) * rank
    pads = []
    if data_format is None:
        x = x.movedim(-1, 1)
    for size, places, step in zip(x.shape[2:], window, steps):
        total = max((-(-size // step) - 1) * step + places - size, 0) if padding == "same" else 0
        pads = [total // 2, total - total // 2, *pads]
    function = torch.nn.functional
    if kind == "max":
        padded = function.pad(x, pads, value=-torch.inf)
        y = getattr(function, f"max_pool{rank}d")(padded, window, steps)
    else:
        mean = getattr(function, f"avg_pool{rank}d")
        inside = mean(function.pad(torch.ones_like(x), pads), window, steps)
        y = mean(function.pad(x, pads), window, steps) / inside
    return y.movedim(1, -1) if data_format is None else y


def _torch_max(x, **params):
    return _torch_pool("max", x, **params)


def _torch_average(x, **params):
    return _torch_pool("average", x, **params)


def _torch_upsample(x, size, data_format=None):
    sizes = size if isinstance(size, tuple) else (size,) * (x.ndim - 2)
    for axis, times in enumerate(sizes, 1 if data_format is None else 2):
        x = torch.repeat_interleave(x, times, axis)
    return x


def _torch_conv_max(
    x, w, b, activation=None, pool_size=2, pool_strides=None, pool_padding="valid", **how
):
    y = _torch_conv(x, w, b, activation=activation or "linear", **how)
    return _torch_pool("max", y, pool_size, pool_strides, pool_padding)


_CONVOLUTIONS = [
    (((2, 6, 5, 3), (3, 3, 3, 4), (4,)), {"activation": "relu"}),
    (((2, 7, 8, 3), (3, 3, 3, 2), (2,)), {"padding": "same", "pool_size": (2, 3)}),
    (
        ((2, 7, 6, 3), (2, 3, 3, 2), (2,)),
        {"activation": "relu", "strides": 2, "padding": "same", "pool_strides": 1,
         "pool_padding": "same"},
    ),
    (((2, 9, 3), (3, 3, 2), (2,)), {"activation": "linear", "dilation_rate": 2}),
    (((1, 4, 5, 4, 2), (2, 2, 2, 2, 3), (3,)), {"activation": "relu"}),
    (((0, 6, 6, 3), (3, 3, 3, 4), (4,)), {"activation": "relu"}),
]  # fmt: skip

_CASES = [
    ((2, 7, 3), {"pool_size": 2}),
    ((2, 7, 3), {"pool_size": 3, "strides": 1, "padding": "same"}),
    ((2, 6, 4, 3), {"pool_size": 2}),
    ((2, 5, 7, 17), {"pool_size": (3, 2), "strides": 2, "padding": "same"}),
    ((2, 5, 6, 2), {"pool_size": 3, "strides": 2}),
    ((0, 4, 4, 2), {"pool_size": 2}),
    ((2, 3, 5, 4), {"pool_size": 2, "padding": "same", "data_format": "channels_first"}),
    ((1, 4, 4, 4, 2), {"pool_size": 2}),
    ((1, 3, 4, 5, 2), {"pool_size": 2, "strides": 1, "padding": "same"}),
]

ROWS = [
    *(Row(max_pool, shaped(REAL, shape), how, torch=_torch_max) for shape, how in _CASES),
    # Of several equal elements the first one gets the gradient, as in torch.
    Row(max_pool, shaped(TIES, (2, 6, 6, 3)), {"pool_size": 2}, torch=_torch_max, order=0),
    *(
        Row(conv_max_pool, shaped(REAL, *shapes), how, torch=_torch_conv_max)
        for shapes, how in _CONVOLUTIONS
    ),
    *(Row(average_pool, shaped(REAL, shape), how, torch=_torch_average) for shape, how in _CASES),
    *(
        Row(upsample, shaped(REAL, shape), how, torch=_torch_upsample)
        for shape, how in (
            ((2, 3, 17), {"size": 2}),
            ((2, 3, 2, 3), {"size": (3, 2)}),
            ((0, 2, 2, 3), {"size": 2}),
            ((2, 3, 3, 2), {"size": (1, 3), "data_format": "channels_first"}),
            ((1, 2, 1, 3, 16), {"size": (2, 3, 2)}),
        )
    ),
]
