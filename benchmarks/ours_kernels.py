"""This package's CPU kernels, one by one."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from benchmarks.framework import NotAvailable, Run, repeated
from benchmarks.machine import threads
from benchmarks.workloads import Workload
from minitorch_ciml import kernels


def build(workload: Workload) -> Run:
    """The kernel of that name, on random arrays of the workload's sizes."""
    name, sizes = workload.model, workload.sizes
    make = _conv if name.startswith("conv") else _BUILDERS[name]
    return repeated(make(name, **sizes))


def _find(name: str) -> Any:
    kernel = kernels.find("cpu", name)
    if kernel is None:
        raise NotAvailable(f"has no kernel {name!r}")
    return kernel


def _random(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def _matmul(name: str, m: int, k: int, n: int) -> Callable:
    matmul, a, b = _find(name), _random(m, k), _random(k, n)
    return lambda: matmul(a, b)


def _copy(name: str, size: int) -> Callable:
    """Every thread copies its share; NumPy copies without the interpreter's lock."""
    pieces = np.array_split(np.ones(size, np.float32), threads())
    targets = [np.zeros_like(piece) for piece in pieces]
    pool = ThreadPoolExecutor(threads())
    return lambda: list(pool.map(np.copyto, targets, pieces))


def _conv(
    name: str, batch: int, size: int, kernel: int, channels: int, filters: int, same: int
) -> Callable:
    out, pad = (size, kernel // 2) if same else (size - kernel + 1, 0)
    how: dict[str, Any] = dict(strides=(1, 1), padding=((pad, pad),) * 2, dilation=(1, 1), groups=1)
    x, g = _random(batch, size, size, channels), _random(batch, out, out, filters)
    w = _random(kernel, kernel, channels, filters)
    run = _find(name)
    if name == "conv":
        return lambda: run(x, w, **how)
    if name == "conv_input_grad":
        return lambda: run(g, w, input_shape=x.shape, **how)
    return lambda: run(x, g, kernel_shape=w.shape, **how)


def _softmax(name: str, rows: int, columns: int) -> Callable:
    run, x = _find(name), _random(rows, columns)
    if name == "softmax":
        return lambda: run(x, axis=-1)
    y, g = _find("softmax")(x, axis=-1), _random(rows, columns)
    return lambda: run(g, y, x, needs=(True,), axis=-1)


def _layer_norm(name: str, rows: int, columns: int) -> Callable:
    forward, x = _find("layer_normalization"), _random(rows, columns)
    gamma, beta = _random(columns), _random(columns)
    if name == "layer_norm":
        return lambda: forward(x, gamma, beta, epsilon=1e-5)
    run, g = _find("layer_normalization_grad"), _random(rows, columns)
    y, saved = forward(x, gamma, beta, epsilon=1e-5)
    needs = (True, True, True)
    return lambda: run(g, y, x, gamma, beta, needs=needs, saved=saved, epsilon=1e-5)


def _adam(name: str, size: int) -> Callable:
    adam = _find(name)
    p, g, m = (_random(size) for _ in range(3))
    v = np.ones(size, np.float32)
    return lambda: adam(p, g, m, v, None, 1.0, 1e-3, 10, 0.9, 0.999, 1e-7)


_BUILDERS: dict[str, Callable] = {
    "matmul": _matmul, "copy": _copy, "softmax": _softmax, "softmax_grad": _softmax,
    "layer_norm": _layer_norm, "layer_norm_grad": _layer_norm, "adam": _adam,
}  # fmt: skip
