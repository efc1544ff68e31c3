"""PyTorch's kernels, one by one, without its autograd."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from benchmarks.framework import Run
from benchmarks.workloads import Workload

aten = torch.ops.aten


def build(workload: Workload, mode: str) -> Run:
    """The kernel of that name, on random tensors of the workload's sizes."""
    name = workload.model
    if name.startswith("conv"):
        once = _conv(name, mode, **workload.sizes)
    else:
        once = _BUILDERS[name](name, **workload.sizes)

    def run(units: int) -> None:
        with torch.inference_mode():
            for _ in range(units):
                once()

    return run


def _matmul(name: str, m: int, k: int, n: int) -> Callable:
    a, b = torch.randn(m, k), torch.randn(k, n)
    return lambda: a @ b


def _copy(name: str, size: int) -> Callable:
    x, y = torch.ones(size), torch.zeros(size)
    return lambda: y.copy_(x)


def _conv(
    name: str, mode: str, batch: int, size: int, kernel: int, channels: int, filters: int, same: int
) -> Callable:
    out, pad = (size, kernel // 2) if same else (size - kernel + 1, 0)
    layout = torch.channels_last if mode == "channels_last" else torch.contiguous_format

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape).contiguous(memory_format=layout)

    x, g = random(batch, channels, size, size), random(batch, filters, out, out)
    w = random(filters, channels, kernel, kernel)
    if name == "conv":
        return lambda: torch.conv2d(x, w, padding=pad)
    wanted = [name == "conv_input_grad", name == "conv_kernel_grad", False]
    how: Any = ([1, 1], [pad, pad], [1, 1], False, [0, 0], 1, wanted)
    return lambda: aten.convolution_backward(g, x, w, None, *how)


def _softmax(name: str, rows: int, columns: int) -> Callable:
    x, g = torch.randn(rows, columns), torch.randn(rows, columns)
    if name == "softmax":
        return lambda: torch.softmax(x, -1)
    y = torch.softmax(x, -1)
    return lambda: aten._softmax_backward_data(g, y, -1, torch.float32)


def _layer_norm(name: str, rows: int, columns: int) -> Callable:
    x, g = torch.randn(rows, columns), torch.randn(rows, columns)
    gamma, beta = torch.randn(columns), torch.randn(columns)
    if name == "layer_norm":
        return lambda: aten.native_layer_norm(x, [columns], gamma, beta, 1e-5)
    _, mean, rstd = aten.native_layer_norm(x, [columns], gamma, beta, 1e-5)
    return lambda: aten.native_layer_norm_backward(
        g, x, [columns], mean, rstd, gamma, beta, [True, True, True]
    )


def _adam(name: str, size: int) -> Callable:
    p = torch.nn.Parameter(torch.randn(size))
    p.grad = torch.randn(size)
    return torch.optim.Adam([p], fused=True).step


_BUILDERS: dict[str, Callable] = {
    "matmul": _matmul, "copy": _copy, "softmax": _softmax, "softmax_grad": _softmax,
    "layer_norm": _layer_norm, "layer_norm_grad": _layer_norm, "adam": _adam,
}  # fmt: skip
