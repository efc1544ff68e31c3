"""Images cut into blocks and put together again, and pooling to a given size.

All of it is transposing, gathering and adding, so gradients need nothing of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from minitorch_ciml.autograd.tensor import Tensor, as_tensor
from minitorch_ciml.ops.conv import is_channels_first
from minitorch_ciml.ops.creation import floats
from minitorch_ciml.ops.indexing import _getitem, _put, take
from minitorch_ciml.ops.reduce import max as _max
from minitorch_ciml.ops.shape import moveaxis, pad, reshape, transpose

__all__ = [
    "adaptive_average_pool", "adaptive_max_pool", "depth_to_space", "fold", "space_to_depth",
    "unfold",
]  # fmt: skip

# --- channels and places ------------------------------------------------------------------------


def depth_to_space(x: Any, block_size: int, data_format: str = "channels_last") -> Tensor:
    """Channels become places: (N, H, W, C b^2) -> (N, H b, W b, C), block by block.

    Args:
        x: images.
        block_size: b, the height and width of a block.
        data_format: "channels_last" or "channels_first".
    """
    x, first, b = _images("depth_to_space", x, block_size, data_format)
    n, height, width, channels = x.shape
    if channels % (b * b):
        raise ValueError(
            f"depth_to_space: {channels} channels do not divide into blocks of {b} x {b}."
        )
    # As in Keras, the order of the channels depends on the layout.
    sizes, order = ((-1, b, b), (0, 1, 4, 2, 5, 3)) if first else ((b, b, -1), (0, 1, 3, 2, 4, 5))
    y = transpose(reshape(x, (n, height, width, *sizes)), order)
    y = reshape(y, (n, height * b, width * b, channels // (b * b)))
    return moveaxis(y, -1, 1) if first else y


def space_to_depth(x: Any, block_size: int, data_format: str = "channels_last") -> Tensor:
    """Places become channels: (N, H, W, C) -> (N, H / b, W / b, C b^2), block by block.

    Args:
        x: images.
        block_size: b, the height and width of a block.
        data_format: "channels_last" or "channels_first".
    """
    x, first, b = _images("space_to_depth", x, block_size, data_format)
    n, height, width, channels = x.shape
    if height % b or width % b:
        raise ValueError(
            f"space_to_depth: images of {height} x {width} do not divide into blocks of {b} x {b}."
        )
    y = reshape(x, (n, height // b, b, width // b, b, channels))
    y = transpose(y, (0, 1, 3, 5, 2, 4) if first else (0, 1, 3, 2, 4, 5))
    y = reshape(y, (n, height // b, width // b, channels * b * b))
    return moveaxis(y, -1, 1) if first else y


def _images(caller: str, x: Any, block_size: int, data_format: str) -> tuple[Tensor, bool, int]:
    """The images with the channels last, whether they came first, and the block's size."""
    x = as_tensor(x)
    if x.ndim != 4:
        raise ValueError(f"{caller}: got shape {x.shape}, expected images with 4 axes.")
    if not isinstance(block_size, int) or block_size < 1:
        raise ValueError(f"{caller}: got block_size={block_size!r}, expected a positive int.")
    first = is_channels_first(data_format)
    return moveaxis(x, 1, -1) if first else x, first, block_size


# --- sliding blocks, channels first -------------------------------------------------------------


def unfold(
    x: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1
) -> Tensor:
    """Every window of an image as a column: (N, C, H, W) -> (N, C kh kw, windows).

    Args:
        x: images, the channels first.
        kernel_size: (kh, kw), or one int for both, as for the other arguments.
        dilation: the step between two pixels of a window.
        padding: zeros put around the images.
        stride: the step between two windows.
    """
    x = as_tensor(x)
    if x.ndim != 4:
        raise ValueError(f"unfold: got shape {x.shape}, expected (N, C, H, W).")
    (top, left), window = _pair("unfold", padding, 0), _pair("unfold", kernel_size)
    x = pad(x, ((0, 0), (0, 0), (top, top), (left, left)))
    rows, columns = _block_places("unfold", x.shape[2:], window, dilation, stride)
    y = _getitem(x, index=(slice(None), slice(None), rows, columns))
    return reshape(y, (*x.shape[:1], x.shape[1] * window[0] * window[1], -1))


def fold(
    x: Any, output_size: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1
) -> Tensor:
    """The sum of windows at their places: (N, C kh kw, windows) -> (N, C, H, W).

    It is the adjoint of `unfold`, whose arguments it takes; `output_size` is (H, W).
    """
    x = as_tensor(x)
    (top, left), window = _pair("fold", padding, 0), _pair("fold", kernel_size)
    height, width = _pair("fold", output_size)
    inside = (height + 2 * top, width + 2 * left)
    rows, columns = _block_places("fold", inside, window, dilation, stride)
    per_channel = window[0] * window[1]
    if x.ndim != 3 or x.shape[1] % per_channel or x.shape[2] != rows.shape[-1]:
        raise ValueError(
            f"fold: got shape {x.shape}, expected (N, C * {per_channel}, {rows.shape[-1]}) for an "
            f"output of {height} x {width}."
        )
    n, channels = x.shape[0], x.shape[1] // per_channel
    blocks = reshape(x, (n, channels, *rows.shape))
    index = (slice(None), slice(None), rows, columns)
    y = _put(blocks, index=index, shape=(n, channels, *inside))
    return y[:, :, top : top + height, left : left + width]


def _pair(caller: str, value: Any, least: int = 1) -> tuple[int, int]:
    pair = (value, value) if isinstance(value, int) else tuple(value)
    if len(pair) != 2 or min(pair) < least:
        raise ValueError(f"{caller}: got {value!r}, expected an int or two, at least {least}.")
    return pair


def _block_places(
    caller: str, size: Sequence[int], window: Sequence[int], dilation: Any, stride: Any
) -> tuple[np.ndarray, np.ndarray]:
    """The rows and columns of each pixel of each window, (kh kw, windows)."""
    gaps, steps = _pair(caller, dilation), _pair(caller, stride)
    counts = [(n - (k - 1) * d - 1) // s + 1 for n, k, d, s in zip(size, window, gaps, steps)]
    if min(counts) < 1:
        raise ValueError(f"{caller}: windows of {tuple(window)} do not fit in {tuple(size)}.")
    i, j, y, x = np.indices((*window, *counts)).reshape(4, window[0] * window[1], -1)
    return i * gaps[0] + y * steps[0], j * gaps[1] + x * steps[1]


# --- pooling to a given size --------------------------------------------------------------------


def adaptive_average_pool(inputs: Any, output_size: Any, data_format: str | None = None) -> Tensor:
    """The means of as many parts as wanted: (N, *S, C) -> (N, *output_size, C).

    Part i of O along an axis of size S goes from floor(i S / O) to ceil((i + 1) S / O).

    Args:
        inputs: one to three spatial dimensions S.
        output_size: an int, or one for each dimension.
        data_format: "channels_last" (the default) or "channels_first".
    """

    def averaged(x: Tensor, axis: int, parts: list[range]) -> Tensor:
        weights = np.zeros((x.shape[axis], len(parts)), x.dtype)
        for i, part in enumerate(parts):
            weights[part, i] = 1 / len(part)
        return moveaxis(moveaxis(x, axis, -1) @ weights, -1, axis)

    return _adaptive("adaptive_average_pool", floats(inputs), output_size, data_format, averaged)


def adaptive_max_pool(inputs: Any, output_size: Any, data_format: str | None = None) -> Tensor:
    """The largest elements of as many parts as wanted; as `adaptive_average_pool`."""

    def largest(x: Tensor, axis: int, parts: list[range]) -> Tensor:
        most = max(map(len, parts))  # shorter parts repeat their last element
        places = [[*part, *[part[-1]] * (most - len(part))] for part in parts]
        return _max(take(x, np.array(places), axis), axis + 1)

    return _adaptive("adaptive_max_pool", as_tensor(inputs), output_size, data_format, largest)


def _adaptive(
    caller: str, x: Tensor, output_size: Any, data_format: str | None, pool: Any
) -> Tensor:
    rank = x.ndim - 2
    sizes = (output_size,) * rank if isinstance(output_size, int) else tuple(output_size)
    if rank not in (1, 2, 3) or len(sizes) != rank or min(sizes) < 1:
        raise ValueError(
            f"{caller}: got inputs of shape {x.shape} and output_size={output_size!r}; expected "
            "one to three spatial dimensions, and a positive size for each."
        )
    first = is_channels_first(data_format)
    for axis, size in enumerate(sizes, 2 if first else 1):
        n = x.shape[axis]
        x = pool(x, axis, [range(i * n // size, -(-(i + 1) * n // size)) for i in range(size)])
    return x
