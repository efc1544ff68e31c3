"""What bounds each kernel at a named size: memory or arithmetic, and the time that predicts.

`bound` calls an op as a program would, on a GPU that is not there: nothing is computed, but every
launch is written down, with its blocks and its arrays. A launch has to read or write each of its
arrays once at least, so their bytes over the memory's bandwidth is one bound; the op's
multiplications and additions over the peak of the cores that it uses is the other, and more if
there are fewer blocks than multiprocessors. The larger of the two is the *predicted* time: that of
a kernel that hides everything else. It is no measurement, and a real kernel is slower.

    python -m minitorch_ciml.kernels.cuda.report --bounds [part of a name]
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from itertools import count
from typing import Any, NamedTuple

import numpy as np

from minitorch_ciml import config, kernels
from minitorch_ciml.kernels.cuda import launch, memory, runtime
from minitorch_ciml.kernels.cuda.compiler import Capability
from minitorch_ciml.kernels.cuda.memory import CudaArray

TERA = 1e12


class Gpu(NamedTuple):
    """What a GPU can do at most.

    Attributes:
        memory: bytes per second.
        peaks: operations per second (a multiply-add is two), without sparsity, by kind of core.
    """

    memory: float
    peaks: dict[str, float]


# Source: NVIDIA's data sheets of the H100 (SXM) and the H200 (SXM); those give the tensor cores'
# rates with sparsity, which is twice as much. 3xTF32 does three products for one.
_PEAKS = {
    "float64": 34 * TERA, "float32": 67 * TERA, "TF32": 494.5 * TERA, "3xTF32": 494.5 / 3 * TERA,
    "16 bits": 989.5 * TERA,
}  # fmt: skip
GPUS = {"H100": Gpu(3.35 * TERA, _PEAKS), "H200": Gpu(4.8 * TERA, _PEAKS)}
MULTIPROCESSORS = 132  # of both


class Absent:
    """The runtime of a GPU that is not there: memory has addresses, and nothing is done."""

    index, simulated, capturing = 0, False, False
    name = "planned H100"
    capability: Capability = (9, 0)
    multiprocessors = MULTIPROCESSORS

    def __init__(self) -> None:
        self._addresses = count(1 << 40, 1 << 36)

    def allocate(self, nbytes: int) -> int:
        return next(self._addresses)

    def _nothing(self, *arguments: Any) -> None:
        pass

    free = copy = copy_to_device = copy_ahead = clear = synchronize = mark = follow = _nothing


@contextmanager
def planning() -> Iterator[list[launch.Launch]]:
    """Inside the block, the GPU is absent, and launches go to the list.

    Constants that are made in it are of that GPU, so a process that plans should do nothing else.
    """
    kept, runtime._runtime = runtime._runtime, Absent()
    launch.planned = launches = []
    try:
        with memory.using(memory.Pool()), config.device("cuda"):
            yield launches
    finally:
        runtime._runtime, launch.planned = kept, None


@dataclass(frozen=True)
class Problem:
    """An op at a size.

    Attributes:
        name: what it is.
        run: calls the kernels, with arrays from `array`.
        flop: operations in all.
        cores: the kind of core that does them, as in `Gpu.peaks`.
        in_place: arrays (numbers of arguments) that are read and written.
    """

    name: str
    run: Callable[[], Any]
    flop: float
    cores: str = "float32"
    in_place: tuple[int, ...] = ()


class Bound(NamedTuple):
    """What a problem comes to.

    Attributes:
        kernels: those that were launched, and how often each.
        bytes: of all arrays of all launches.
        flop: operations.
        seconds: predicted, by GPU.
        by: "memory" or the kind of core, on the H100.
    """

    kernels: dict[str, int]
    bytes: int
    flop: float
    seconds: dict[str, float]
    by: str


def bound(problem: Problem) -> Bound:
    """Plans the problem's launches, and predicts what bounds them."""
    with planning() as launches:
        problem.run()
    moved = sum(_bytes(one, problem.in_place) for one in launches)
    busy = max((min(1.0, math.prod(one.grid) / MULTIPROCESSORS) for one in launches), default=1.0)
    seconds = {}
    for name, gpu in GPUS.items():
        arithmetic = problem.flop / gpu.peaks[problem.cores] / busy
        seconds[name] = max(moved / gpu.memory, arithmetic)
    h100 = GPUS["H100"]
    by = "memory" if seconds["H100"] == moved / h100.memory else problem.cores
    names: dict[str, int] = {}
    for one in launches:
        names[one.kernel.name] = names.get(one.kernel.name, 0) + 1
    return Bound(names, moved, problem.flop, seconds, by)


def _bytes(one: launch.Launch, in_place: tuple[int, ...]) -> int:
    """Of each array once, however often it is an argument; twice, if it is read and written."""
    arrays = {(a.pointer, a.nbytes) for a in one.arguments if isinstance(a, CudaArray)}
    twice = [one.arguments[i] for i in in_place]
    return sum(nbytes for _, nbytes in arrays) + sum(a.nbytes for a in twice)


# --- the problems ---------------------------------------------------------------------------------


def array(*shape: int, dtype: str = "float32") -> CudaArray:
    """An array whose elements nobody will read."""
    return memory.empty(shape, np.dtype(dtype))


def _call(name: str, *shapes: Any, **how: Any) -> Callable[[], Any]:
    """Calls a kernel with arrays of these shapes; a shape with a dtype is a pair."""

    def run() -> Any:
        kernel = kernels.find("cuda", name)
        assert kernel is not None, name
        return kernel(*map(_array, shapes), **how)

    return run


def _array(shape: Any) -> Any:
    if isinstance(shape, tuple) and shape and isinstance(shape[0], tuple):
        return array(*shape[0], dtype=shape[1])
    return array(*shape) if isinstance(shape, tuple) else shape


def _product(side: int, precision: str, dtype: str = "float32") -> Callable[[], Any]:
    def run() -> Any:
        config.set_float32_matmul_precision(precision)
        try:
            factors = ((side, side), dtype), ((side, side), dtype)
            return _call("matmul", *factors)()
        finally:
            config.set_float32_matmul_precision("highest")

    return run


def _adam(n: int) -> Callable[[], Any]:
    return _call("adam", (n,), (n,), (n,), (n,), None, (6,))


_N = 1 << 24
_CUBE = 2.0 * 4096**3
_HALVES = ((4096, 4096), "float16")
_CONV: dict[str, Any] = {
    "strides": (1, 1), "padding": ((1, 1), (1, 1)), "dilation": (1, 1), "groups": 1,
}  # fmt: skip
_IMAGES, _FILTERS, _RESULT = (128, 28, 28, 32), (3, 3, 32, 64), (128, 28, 28, 64)
_CONV_FLOP = 2.0 * 128 * 28 * 28 * 64 * 9 * 32
_LAYER = ((128, 784), (784, 128), (128,))
_HEADS, _EVERYWHERE = (8, 1024, 8, 64), ((1, 1), "bool")
_SQUARE = (4096, 4096)
_TO_HALF = np.dtype("float16")
_POOL: dict[str, Any] = {"pool_size": (2, 2), "strides": (2, 2), "padding": ((0, 0), (0, 0))}
_POOLED, _WHERE = (128, 14, 14, 64), ((128, 14, 14, 64), "uint8")
_ROWS, _FEATURES = (16384, 1024), (1024,)
_STATISTICS = (_FILTERS[-1:],) * 4
_HALF_HEADS = (_HEADS, "float16")
_SCORES = 2.0 * 8 * 8 * 1024 * 1024 * 64  # of one product of an attention
_GATES = (28, 128, 28), (128, 128), (128, 128), (28, 512), (128, 512), (512,)
_TOKENS = ((128, 512), "int64")


def _attention_grad(heads: Any) -> Callable[[], Any]:
    def run() -> Any:
        gradient = kernels.find("cuda", "attention_grad")
        g, y, q, k, v = (_array(heads) for _ in range(5))
        log_sums, needs = array(8, 8, 1024), (True, True, True, False)
        return gradient(g, y, q, k, v, _array(_EVERYWHERE), needs=needs, saved=log_sums, scale=0.1)

    return run


def _layer_normalization_grad() -> Any:
    gradient = kernels.find("cuda", "layer_normalization_grad")
    arrays = (_array(shape) for shape in (_ROWS, _ROWS, _ROWS, _FEATURES, _FEATURES))
    saved = array(_ROWS[0]), array(_ROWS[0])
    return gradient(*arrays, needs=(True,) * 3, saved=saved, epsilon=1e-3)


def _embedding() -> Any:
    table, tokens = array(32768, 256), _array(_TOKENS)
    return kernels.find("cuda", "getitem")(table, index=(tokens,))


def _embedding_grad() -> Any:
    g, tokens = array(128, 512, 256), _array(_TOKENS)
    return kernels.find("cuda", "put")(g, index=(tokens,), shape=(32768, 256))


# Of functions such as exp, a few operations are counted for each element.
PROBLEMS = [
    Problem("matmul 4096, float32", _product(4096, "highest"), _CUBE),
    Problem("matmul 4096, 3xTF32", _product(4096, "high"), _CUBE, "3xTF32"),
    Problem("matmul 4096, TF32", _product(4096, "medium"), _CUBE, "TF32"),
    Problem("matmul 4096, float16", _call("matmul", _HALVES, _HALVES), _CUBE, "16 bits"),
    Problem("matmul 512, float32", _product(512, "highest"), 2.0 * 512**3),
    Problem("dense 128x784x128", _call("dense", *_LAYER, activation="relu"), 2.0 * 128 * 784 * 128),
    Problem("conv 3x3, 128x28x28, 32 to 64", _call("conv", _IMAGES, _FILTERS, **_CONV), _CONV_FLOP),
    Problem(
        "its input's gradient",
        _call("conv_input_grad", _RESULT, _FILTERS, input_shape=_IMAGES, **_CONV), _CONV_FLOP,
    ),
    Problem(
        "its kernel's gradient",
        _call("conv_kernel_grad", _IMAGES, _RESULT, kernel_shape=_FILTERS, **_CONV), _CONV_FLOP,
    ),
    Problem("add, 16M", _call("add", (_N,), (_N,)), _N),
    Problem("relu, 16M", _call("relu", (_N,)), _N),
    Problem("exp, 16M", _call("exp", (_N,)), 8.0 * _N),
    Problem("cast to float16, 16M", _call("cast", (_N,), dtype=_TO_HALF), 0),
    Problem("transpose 4096", _call("transpose", _SQUARE, axes=(1, 0)), 0),
    Problem("sum 4096, of columns", _call("sum", _SQUARE, axis=(0,), keepdims=False), 4096.0**2),
    Problem("softmax 16384x1000", _call("softmax", (16384, 1000), axis=-1), 10.0 * 16384 * 1000),
    Problem("argsort 4096", _call("argsort", _SQUARE, axis=1), 0),
    Problem(
        "attention 8x1024x8x64", _call("attention", _HEADS, _HEADS, _HEADS, _EVERYWHERE, scale=0.1),
        4.0 * 8 * 8 * 1024 * 1024 * 64,
    ),
    Problem("attention 8x1024x8x64, float16",
        _call("attention", *(_HALF_HEADS,) * 3, _EVERYWHERE, scale=0.1), 2 * _SCORES, "16 bits",
    ),
    Problem("gradients of attention, float32", _attention_grad(_HEADS), 5 * _SCORES),
    Problem("gradients of attention, float16",
        _attention_grad(_HALF_HEADS), 5 * _SCORES, "16 bits",
    ),
    Problem("max pooling 2x2, 128x28x28x64", _call("max_pool", _RESULT, **_POOL), 0),
    Problem("gradient of max pooling",
        _call("max_pool_scatter", _POOLED, _WHERE, input_shape=_RESULT, **_POOL), 0,
    ),
    Problem("average pooling 2x2", _call("avg_pool", _RESULT, **_POOL), 0),
    Problem("batch moments, 128x28x28x64", _call("batch_moments", _RESULT, axis=3), 0),
    Problem("batch normalization",
        _call("batch_normalization", _RESULT, *_STATISTICS, axis=3, epsilon=1e-3), 0,
    ),
    Problem("layer normalization 16384x1024",
        _call("layer_normalization", _ROWS, _FEATURES, _FEATURES, epsilon=1e-3), 0,
    ),
    Problem("gradients of layer normalization", _layer_normalization_grad, 0),
    Problem("cross-entropy 16384x1024", _call("sparse_categorical_crossentropy",
        ((16384,), "int64"), _ROWS, from_logits=True, axis=-1), 0,
    ),
    Problem("argmax 16384x1024", _call("argmax", _ROWS, axis=1, keepdims=False), 0),
    Problem("cumsum 16384x1024", _call("cumsum", _ROWS, axis=1), 0),
    Problem("embedding 32768x256, of 128x512", _embedding, 0),
    Problem("gradient of the embedding", _embedding_grad, 0),
    Problem("LSTM 128, 128 samples of 28x28", _call("lstm", *_GATES, sequences=False),
        2.0 * 28 * 128 * (28 + 128) * 512,
    ),
    Problem("adam, 16M", _adam(_N), 10.0 * _N, in_place=(0, 2, 3)),
]  # fmt: skip


def rows(pattern: str = "") -> Iterator[tuple[str, Bound]]:
    """Each problem whose name, or whose kernels' names, contain `pattern`."""
    for problem in PROBLEMS:
        found = bound(problem)
        if pattern in problem.name or any(pattern in name for name in found.kernels):
            yield problem.name, found


def main(pattern: str = "") -> None:
    """Prints the table."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    title = "Predicted bounds, not measurements: what each problem moves and computes at least"
    table = Table(box=SIMPLE_HEAD, title=title)
    table.add_column("problem", overflow="fold")
    table.add_column("kernels", overflow="fold")
    for name in ("MB", "GFLOP", "bound by", *GPUS):
        table.add_column(name, justify="right", no_wrap=True)
    reached: set[str] = set()
    for name, found in rows(pattern):
        launched = ", ".join(k if n == 1 else f"{n} x {k}" for k, n in found.kernels.items())
        times = [f"{found.seconds[gpu] * 1e6:,.1f} us" for gpu in GPUS]
        numbers = (f"{found.bytes / 1e6:,.1f}", f"{found.flop / 1e9:,.2f}", found.by)
        table.add_row(name, launched, *numbers, *times)
        reached |= set(found.kernels)
    console = Console()
    console.print(table)
    every = {kernel.name for kernel in import_module(f"{__package__}.report").all_kernels()}
    console.print(
        f"{len(reached)} of {len(every)} kernels are in these problems; most others are "
        "the same for other types, tiles and functions."
    )
