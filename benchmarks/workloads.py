"""The table of workloads: what is measured. A new one is a row here and a builder per framework.

The arithmetic is counted as is usual: a multiplication and an addition are two operations, and
activations, pooling and losses are not counted. A training step is the forward pass, the gradients
of the weights and those of the inputs; the first layer's inputs need none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from math import prod
from typing import Any

import numpy as np

LEARNING_RATE = 1e-5  # small: random labels must not be learned by heart while the clock runs
CLASSES = 10


@dataclass(frozen=True)
class Model:
    """What a model takes and computes.

    Attributes:
        input: the shape of a sample.
        target: "class" (a number below 10), "input" (the input itself), "number" or "xor".
        forward: the operations of each layer's forward pass for one sample, the first layer first.
    """

    input: tuple[int, ...]
    target: str
    forward: tuple[float, ...]

    @property
    def training(self) -> float:
        """The operations of a training step, per sample."""
        return 3 * sum(self.forward) - self.forward[0]


@dataclass(frozen=True)
class Workload:
    """A row of the table.

    Attributes:
        name: unique; what tables and files call it.
        group: the letter by which `--only` selects it.
        task: what is timed; each framework has a method of this name that builds it.
        model: a key of `MODELS`, or the kernel's or program's name.
        batch: samples per step.
        steps: how many steps one unit of work has (an epoch of `fit`).
        flop, bytes: the arithmetic and the least memory traffic of a step, 0 if not counted.
        sizes: the numbers that describe a kernel.
        peers: the frameworks to compare with.
        quick: whether a quick run has it too.
    """

    name: str
    group: str
    task: str
    model: str
    batch: int = 1
    steps: int = 1
    flop: float = 0.0
    bytes: float = 0.0
    sizes: dict[str, int] = field(default_factory=dict)
    peers: tuple[str, ...] = ("torch", "jax", "keras-torch", "keras-jax")
    quick: bool = True


def conv(size: int, kernel: int, channels: int, filters: int) -> float:
    """The operations of a convolution with `size` x `size` results."""
    return 2.0 * size**2 * kernel**2 * channels * filters


def dense(inputs: int, outputs: int, rows: int = 1) -> float:
    """The operations of a matrix product."""
    return 2.0 * rows * inputs * outputs


# The groups of ResNet50: filters, blocks, stride, and the size of the results for 96 x 96 images.
RESNET_GROUPS = ((64, 3, 1, 24), (128, 4, 2, 12), (256, 6, 2, 6), (512, 3, 2, 3))
# The blocks of MobileNetV2: expansion, filters, how many, stride, and the same size.
MOBILENET_BLOCKS = (
    (1, 16, 1, 1, 48), (6, 24, 2, 2, 24), (6, 32, 3, 2, 12), (6, 64, 4, 2, 6), (6, 96, 3, 1, 6),
    (6, 160, 3, 2, 3), (6, 320, 1, 1, 3),
)  # fmt: skip


def _resnet50() -> Iterator[float]:
    yield conv(48, 7, 3, 64)
    channels = 64
    for width, count, _, size in RESNET_GROUPS:
        yield conv(size, 1, channels, 4 * width)
        for _ in range(count):
            yield from (conv(size, 1, channels, width), conv(size, 3, width, width))
            yield conv(size, 1, width, 4 * width)
            channels = 4 * width
    yield dense(channels, CLASSES)


def _mobilenet_v2() -> Iterator[float]:
    yield conv(48, 3, 3, 32)
    channels, before = 32, 48
    for expansion, width, count, _, size in MOBILENET_BLOCKS:
        for _ in range(count):
            inner = channels * expansion
            if expansion > 1:
                yield conv(before, 1, channels, inner)
            yield from (conv(size, 3, 1, inner), conv(size, 1, inner, width))
            channels, before = width, size
    yield from (conv(3, 1, channels, 1280), dense(1280, CLASSES))


_BLOCK = (conv(14, 1, 64, 16), conv(14, 3, 16, 16), conv(14, 1, 16, 64))
_ATTENTION = (dense(128, 384, 128), dense(128, 128, 128), dense(128, 128, 128))

MODELS = {
    "cnn": Model((28, 28, 1), "class", (
        conv(26, 3, 1, 16), conv(24, 3, 16, 16), dense(2304, 128), dense(128, CLASSES))),
    "cifar": Model((32, 32, 3), "class", (
        conv(30, 3, 3, 32), conv(13, 3, 32, 64), conv(4, 3, 64, 64),
        dense(1024, 64), dense(64, CLASSES))),
    "mlp": Model((784,), "class", (dense(784, 512), dense(512, 512), dense(512, CLASSES))),
    "residual": Model((14, 14, 64), "class", (*_BLOCK * 3, dense(64, CLASSES))),
    "autoencoder": Model((28, 28, 1), "input", (
        conv(28, 3, 1, 64), conv(14, 3, 64, 128), conv(7, 3, 128, 16),
        conv(7, 3, 16, 128), conv(14, 3, 128, 64), conv(28, 3, 64, 1))),
    "transformer": Model((128, 128), "class", (
        *_ATTENTION, dense(128, 128, 128), dense(128, 512, 128), dense(512, 128, 128),
        dense(128, CLASSES))),
    "lstm": Model((28, 28), "class", (
        dense(28, 512, 28), dense(128, 512, 28), dense(128, CLASSES))),
    "resnet50": Model((96, 96, 3), "class", tuple(_resnet50())),
    "mobilenet_v2": Model((96, 96, 3), "class", tuple(_mobilenet_v2())),
    "transfer": Model((96, 96, 3), "class", tuple(_mobilenet_v2())),
    "xor": Model((2,), "xor", (dense(2, 8), dense(8, 1))),
    "attention": Model((8, 16), "number", (
        dense(16, 48, 8), dense(16, 8, 8), dense(8, 16, 8), dense(16, 1))),
}  # fmt: skip


def _training(
    group: str, title: str, model: str, batch: int, steps: int, quick_fit: bool = False
) -> list[Workload]:
    """A training step alone, and the same through `fit` with data in memory."""
    flop = batch * MODELS[model].training
    return [
        Workload(f"{title}, step", group, "step", model, batch, flop=flop),
        Workload(f"{title}, fit", group, "fit", model, batch, steps, flop, quick=quick_fit),
    ]


def _toy(title: str, model: str, batch: int) -> list[Workload]:
    flop = batch * MODELS[model].training
    return [
        Workload(f"{title}, fit", "h", "fit", model, batch, 1, flop),
        Workload(f"{title}, own loop", "h", "loop", model, batch, 1, flop, peers=("torch",)),
    ]


def _inference() -> list[Workload]:
    flop = sum(MODELS["cnn"].forward)
    many = 10_000
    return [
        Workload("CNN, 1 image, model(x)", "i", "call", "cnn", 1, flop=flop),
        Workload("CNN, 1 image, predict", "i", "predict", "cnn", 1, flop=flop),
        Workload(f"CNN, {many:,} images, predict", "i", "predict", "cnn", many, flop=many * flop),
    ]


def _network(title: str, model: str, batch: int) -> list[Workload]:
    """A ready-made network: trained, and used."""
    step, use = batch * MODELS[model].training, batch * sum(MODELS[model].forward)
    peers = ("torch", "keras-torch", "keras-jax")
    return [
        Workload(f"{title}, step", "m", "step", model, batch, flop=step, peers=peers),
        Workload(f"{title}, predict", "m", "predict", model, batch, flop=use, peers=peers),
    ]


def _transfer() -> Workload:
    """MobileNetV2 as it is, under a dense layer that is trained."""
    flop = 16 * sum(MODELS["transfer"].forward)
    title, peers = "MobileNetV2, only the top trained, step", ("keras-torch", "keras-jax")
    return Workload(title, "m", "step", "transfer", 16, flop=flop, peers=peers)


# --- kernels ------------------------------------------------------------------------------------


def _kernel(
    group: str, title: str, name: str, flop: float, numbers: float, quick: bool = True, **sizes: int
) -> Workload:
    return Workload(
        title, group, "kernel", name, flop=flop, bytes=4 * numbers, sizes=sizes, peers=("torch",),
        quick=quick,
    )  # fmt: skip


def _conv_kernels(
    batch: int,
    size: int,
    kernel: int,
    channels: int,
    filters: int,
    same: int = 1,
    quick: bool = True,
    first: bool = False,
) -> list[Workload]:
    """A convolution and its two gradients; stride 1, with padding "same" or "valid".

    The input gradient of a model's first layer is never needed.
    """
    out = size if same else size - kernel + 1
    flop = batch * conv(out, kernel, channels, filters)
    numbers = batch * (size**2 * channels + out**2 * filters) + kernel**2 * channels * filters
    title = f"{kernel}x{kernel}, {size}x{size}x{channels} to {filters}, batch {batch}"
    sizes = dict(
        batch=batch, size=size, kernel=kernel, channels=channels, filters=filters, same=same
    )
    return [
        _kernel("j", f"{name}, {title}", name, flop, numbers, quick, **sizes)
        for name in ("conv", "conv_input_grad", "conv_kernel_grad")
        if not (first and name == "conv_input_grad")
    ]


def _kernels() -> list[Workload]:
    rows = []
    for m, k, n in ((128, 2304, 128), (128, 784, 512), (512, 512, 512), (1024, 1024, 1024)):
        numbers = m * k + k * n + m * n
        title = f"matmul, {m}x{k} by {k}x{n}"
        rows.append(_kernel("j", title, "matmul", dense(k, n, m), numbers, m=m, k=k, n=n))
    for size, channels in ((28, 16), (28, 32), (28, 64), (14, 128), (14, 256)):
        for kernel in (1, 3, 5):
            rows += _conv_kernels(32, size, kernel, channels, channels)
    for batch in (32, 128):  # the workloads' own: the CNN's, then the CIFAR CNN's
        rows += _conv_kernels(batch, 28, 3, 1, 16, same=0, quick=batch == 128, first=True)
        rows += _conv_kernels(batch, 26, 3, 16, 16, same=0, quick=batch == 128)
    for size, channels, filters in ((32, 3, 32), (15, 32, 64), (6, 64, 64)):
        rows += _conv_kernels(256, size, 3, channels, filters, same=0, first=channels == 3)
    for shape, columns in ((128, 10), (16384, 128), (1024, 1024)):
        for name, arrays in (
            ("softmax", 2), ("softmax_grad", 3), ("layer_norm", 2), ("layer_norm_grad", 3),
        ):  # fmt: skip
            title = f"{name}, {shape}x{columns}"
            numbers = arrays * shape * columns
            sizes = dict(rows=shape, columns=columns)
            rows.append(_kernel("j", title, name, 0.0, numbers, columns == 128, **sizes))
    parameters = 670_000  # reads p, g, m, v and writes p, m, v
    title = f"adam, {parameters:,} parameters"
    rows.append(_kernel("j", title, "adam", 0.0, 7 * parameters, size=parameters))
    return rows


PEAK = [  # what the shares of the peak are shares of; measured in every run
    _kernel("peak", "sgemm, 2048x2048", "matmul", dense(2048, 2048, 2048), 3 * 2048**2,
            m=2048, k=2048, n=2048),
    _kernel("peak", "copy, 256 MB", "copy", 0.0, 2 * 2**26, size=2**26),
]  # fmt: skip


def _scalar() -> list[Workload]:
    def row(title: str, part: str) -> Workload:
        return Workload(f"scalar MLP, {title}", "l", "scalar", part, peers=("closures",))

    return [row("forward", "forward"), row("backward", "backward")]


WORKLOADS = [
    *PEAK,
    *_training("a", "CNN, batch 32", "cnn", 32, 40, quick_fit=True),
    *_training("a", "CNN, batch 128", "cnn", 128, 20),
    *_training("b", "CIFAR CNN, batch 256", "cifar", 256, 4),
    *_training("c", "MLP, batch 128", "mlp", 128, 20, quick_fit=True),
    *_training("d", "residual CNN, batch 64", "residual", 64, 10, quick_fit=True),
    *_training("e", "autoencoder, batch 64", "autoencoder", 64, 4),
    *_training("f", "transformer block, batch 32", "transformer", 32, 10),
    *_training("g", "LSTM, batch 128", "lstm", 128, 10),
    *_toy("XOR 2-8-1, batch 4", "xor", 4),
    *_toy("one-head attention, batch 4", "attention", 4),
    *_inference(),
    *_kernels(),
    *_scalar(),
    *_network("ResNet50, 8 images of 96x96", "resnet50", 8),
    *_network("MobileNetV2, 16 images of 96x96", "mobilenet_v2", 16),
    _transfer(),
]
BY_NAME = {workload.name: workload for workload in WORKLOADS}


# --- data and weights, the same for every framework ---------------------------------------------


def make_data(workload: Workload, batches: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Inputs (N, ...) float32 and targets: int64 (N,) for classes, otherwise float32."""
    model, n = MODELS[workload.model], workload.batch * batches
    random = np.random.default_rng(0)
    if model.target == "xor":
        x = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
        y = np.array([[0], [1], [1], [0]], np.float32)
        return np.tile(x, (batches, 1)), np.tile(y, (batches, 1))
    x = random.random((n, *model.input), np.float32)
    if model.target == "class":
        return x, random.integers(0, CLASSES, n)
    return x, x if model.target == "input" else random.random((n, 1), np.float32)


@cache
def initial_weights(shapes: tuple[tuple[int, ...], ...]) -> list[np.ndarray]:
    """Weights in Keras' layout, from a fixed seed: uniform (Glorot and Bengio, 2010); biases 0."""
    random = np.random.default_rng(1)

    def weight(shape: tuple[int, ...]) -> np.ndarray:
        if len(shape) == 1:
            return np.zeros(shape, np.float32)
        fans = prod(shape[:-2]) * (shape[-2] + shape[-1])
        limit = (6 / fans) ** 0.5
        return random.uniform(-limit, limit, shape).astype(np.float32)

    return [weight(shape) for shape in shapes]


def cycle(items: list[Any]) -> Any:
    """A function that gives the items in turn: a step must not always see the same batch."""
    count = 0

    def following() -> Any:
        nonlocal count
        count += 1
        return items[count % len(items)]

    return following
