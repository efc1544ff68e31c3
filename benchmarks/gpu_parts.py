"""The parts of `benchmarks.gpu`. Each is `part(row, note, tiny, deadline)` and tells what it finds.

A row is a dictionary: `what`, `seconds` (of ours), `peers` (their seconds), and what follows from
them. Heavy packages are imported by the parts, in their own processes.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np

from benchmarks.gpu_peers import Peers
from benchmarks.machine import ROOT

Report = Callable[..., None]


@dataclass(frozen=True)
class Part:
    """A part: the function, and how much of the whole time it may take, in relation to others."""

    run: Callable[[Report, Callable[[str], None], bool, float], None]
    share: float


# --- measuring ----------------------------------------------------------------------------------


def contest(contestants: dict[str, Callable], wait: Callable, tiny: bool) -> dict[str, float]:
    """The seconds of each, in turns: the least of several rounds, so that noise hits all alike.

    Many calls are timed together and waited for once, as in training: what is measured is the
    GPU's time, or the host's where that takes longer.
    """
    rounds, least = (1, 0.0) if tiny else (5, 0.03)
    counts = {}
    for name, run in contestants.items():
        for _ in range(1 if tiny else 3):
            run()
        wait()
        count = 1
        while (elapsed := _timed(run, wait, count)) < least and count < 4096:
            count = min(4096, max(2 * count, int(count * least / max(elapsed, 1e-6))))
        counts[name] = count
    best = dict.fromkeys(contestants, float("inf"))
    for _ in range(rounds):
        for name, run in contestants.items():
            best[name] = min(best[name], _timed(run, wait, counts[name]) / counts[name])
    return best


def _timed(run: Callable, wait: Callable, count: int) -> float:
    began = perf_counter()
    for _ in range(count):
        run()
    wait()
    return perf_counter() - began


def tell(row: Report, what: str, times: dict[str, float], **facts: Any) -> None:
    """A row for ours and its peers; `flop` and `bytes` become rates."""
    ours = times.pop("ours")
    flop, moved, copy = facts.pop("flop", 0), facts.pop("bytes", 0), facts.pop("copy", 0)
    if flop:
        facts["TFLOP/s"] = flop / ours / 1e12
    if moved:
        facts["GB/s"] = moved / ours / 1e9
    if copy:
        facts["of_copy"] = moved / ours / copy
    row(what=what, seconds=ours, peers=times, **facts)


def on_gpu(*arrays: np.ndarray) -> list[Any]:
    """The arrays as tensors of ours on the GPU."""
    from minitorch_ciml import Tensor
    from minitorch_ciml.kernels.cuda.memory import to_device

    return [Tensor.constant(to_device(a)) for a in arrays]


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape, np.float32)


# --- what is there, and is it right ---------------------------------------------------------------


def environment(row: Report, note: Callable[[str], None], tiny: bool, deadline: float) -> None:
    """Versions, the GPU, and what a copy on it reaches."""
    from importlib.metadata import PackageNotFoundError, version

    from minitorch_ciml import __version__
    from minitorch_ciml.kernels.cuda.memory import memory_info
    from minitorch_ciml.kernels.cuda.runtime import runtime

    gpu = runtime()
    row(what="GPU", value=gpu.name)
    row(what="compute capability", value=".".join(map(str, gpu.capability)))
    row(what="multiprocessors", value=gpu.multiprocessors)
    row(what="memory, bytes free and in all", value=list(memory_info()[-2:]))
    row(what="minitorch_ciml", value=__version__)
    for package in (
        "numpy", "numba", "numba-cuda", "cuda-bindings", "cuda-core", "torch",
        "cupy", "jax",
    ):  # fmt: skip
        try:
            row(what=package, value=version(package))
        except PackageNotFoundError:
            row(what=package, value="not installed")
    row(what="copy on the GPU", **{"GB/s": copy_bandwidth(tiny) / 1e9})


def copy_bandwidth(tiny: bool) -> float:
    """Bytes per second that a large copy on the GPU reads and writes."""
    from minitorch_ciml.kernels.cuda.memory import empty, synchronize, zeros

    n = 1 << (8 if tiny else 28)
    source, target = zeros((n,), "uint8"), empty((n,), "uint8")
    times = contest({"ours": lambda: target.assign(source)}, synchronize, tiny)
    return 2 * n / times["ours"]


def meaning(row: Report, note: Callable[[str], None], tiny: bool, deadline: float) -> None:
    """The table of all ops, on the GPU against the CPU; and the other tests of the GPU."""
    left = deadline - perf_counter()
    chosen = ["-k", "add or matmul"] if tiny else []
    for what, tests in (
        ("ops on the GPU are those of the CPU", ["tests/test_ops.py", "-k", "cuda"]),
        ("training on the GPU is that of the CPU", ["tests/test_cuda_fit.py"]),
        ("optimizers", ["tests/test_cuda_optimizer.py"]),
    ):
        if tiny and tests[0] != "tests/test_ops.py":
            continue
        if chosen:
            tests = ["tests/test_ops.py", "-k", "cuda and (add-add or logaddexp)"]
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-x" if tiny else "-q", "--no-header", *tests],
            capture_output=True, text=True, cwd=ROOT, timeout=max(60.0, 0.8 * left),
        )  # fmt: skip
        lines = done.stdout.strip().splitlines()
        row(what=what, value=lines[-1] if lines else f"exit status {done.returncode}")
        for line in lines:
            if line.startswith("FAILED"):
                note(line[:150])


def repeats(row: Report, note: Callable[[str], None], tiny: bool, deadline: float) -> None:
    """Two trainings from one seed, eager and recorded: the weights must be equal bit for bit."""
    results = [_trained(tiny, jit) for jit in (False, "auto", "auto")]
    for what, pair in (("eager and recorded", (0, 1)), ("recorded twice", (1, 2))):
        same = all(map(np.array_equal, *[results[i] for i in pair]))
        row(what=f"weights, {what}", value="equal bit for bit" if same else "DIFFERENT")


def _trained(tiny: bool, jit: Any) -> list[np.ndarray]:
    from minitorch_ciml import device, keras

    keras.utils.set_random_seed(0)
    size, n = (4, 40) if tiny else (28, 1280)
    layers = [keras.layers.Flatten(), keras.layers.Dense(10, activation="softmax")]
    if not tiny:
        layers.insert(0, keras.layers.Conv2D(16, 3, activation="relu"))
    with device("cuda"):
        model = keras.Sequential([keras.Input((size, size, 1)), *layers])
        model.compile("adam", "sparse_categorical_crossentropy", jit_compile=jit)
        y = np.random.default_rng(0).integers(0, 10, n)
        model.fit(numbers(n, size, size, 1), y, batch_size=n // 5, epochs=2, verbose=0)
        return model.get_weights()


# --- speed ----------------------------------------------------------------------------------------


# How ours multiplies: the name of the precision, and what `set_float32_matmul_precision` calls it.
PRECISIONS = {"float32": "highest", "3xTF32": "high", "TF32": "medium", "bfloat16": "highest"}


def matmul(row: Report, note: Callable[[str], None], tiny: bool, deadline: float) -> None:
    """Squares, and the shapes of the models, in each precision; the peers call cuBLAS or XLA."""
    from minitorch_ciml import ops, set_float32_matmul_precision
    from minitorch_ciml.config import no_grad
    from minitorch_ciml.kernels import prepare_for

    prepare_for(np.dtype("float16"))
    peers = Peers(note, tiny)
    shapes = [(n, n, n) for n in (512, 1024, 2048, 4096, 8192)]
    shapes += [(128, 2304, 128), (128, 784, 512), (4096, 128, 512), (1, 4096, 4096), (64, 64, 8192)]
    for m, k, n in [(10, 8, 6)] if tiny else shapes:
        arrays = numbers(m, k), numbers(k, n)
        for precision, name in PRECISIONS.items():
            if perf_counter() > deadline:
                note("out of time")
                return
            dtype = "bfloat16" if precision == "bfloat16" else "float32"
            a, b = (x.astype(dtype) for x in on_gpu(*arrays))
            set_float32_matmul_precision(name)
            try:
                with no_grad():
                    contestants = {"ours": partial(ops.matmul, a, b)}
                    contestants |= peers.products(precision, *arrays)
                    times = contest(contestants, peers.wait, tiny)
            finally:
                set_float32_matmul_precision("highest")
            tell(row, f"matmul {m}x{k} by {k}x{n}, {precision}", times, flop=2.0 * m * k * n)


def conv(row: Report, note: Callable[[str], None], tiny: bool, deadline: float) -> None:
    """Convolutions forward and both gradients in float32; the peers call cuDNN, channels last."""
    from minitorch_ciml import kernels

    peers = Peers(note, tiny)
    grid = [(128, 28, 1, 16, 3), (128, 26, 16, 16, 3)]  # the course's CNN
    grid += [(32, s, c, c, k) for s, c in ((56, 64), (28, 128), (14, 256)) for k in (1, 3)]
    grid += [(32, 28, 64, 64, 5), (256, 32, 3, 32, 3)]
    find = {n: kernels.find("cuda", n) for n in ("conv", "conv_input_grad", "conv_kernel_grad")}
    for batch, size, channels, filters, k in [(1, 5, 2, 3, 3)] if tiny else grid:
        if perf_counter() > deadline:
            note("out of time")
            return
        p = k // 2
        how = {"strides": (1, 1), "padding": ((p, p), (p, p)), "dilation": (1, 1), "groups": 1}
        arrays = [numbers(batch, size, size, channels), numbers(k, k, channels, filters),
                  numbers(batch, size, size, filters)]  # fmt: skip
        x, w, g = (tensor.value for tensor in on_gpu(*arrays))
        ours: dict[str, Callable] = {
            "conv": partial(find["conv"], x, w, **how),
            "conv_input_grad": partial(find["conv_input_grad"], g, w, input_shape=x.shape, **how),
            "conv_kernel_grad": partial(
                find["conv_kernel_grad"], x, g, kernel_shape=w.shape, **how
            ),
        }
        theirs = peers.convolutions(*arrays, p)
        flop = 2.0 * batch * size**2 * k**2 * channels * filters
        for name, run in ours.items():
            times = contest({"ours": run} | theirs[name], peers.wait, tiny)
            title = f"{name} {batch}x{size}x{size}x{channels} to {filters}, {k}x{k}"
            tell(row, title, times, flop=flop)


def bandwidth(row: Report, note: Callable[[str], None], tiny: bool, deadline: float) -> None:
    """What moves memory and hardly computes, as a share of what a copy reaches."""
    from minitorch_ciml import kernels, ops
    from minitorch_ciml.config import no_grad

    peers = Peers(note, tiny)
    torch = peers.torch
    copy = copy_bandwidth(tiny)
    rows, columns = (6, 40) if tiny else (65536, 1024)
    arrays = numbers(rows, columns), numbers(rows, columns), np.ones(columns, np.float32)
    a, b, w = on_gpu(*arrays)
    theirs = peers.passes(*arrays)
    n = rows * columns * 4
    table: list[tuple[str, int, Callable]] = [
        ("a + b", 3 * n, lambda: a + b),
        ("exp", 2 * n, lambda: ops.exp(a)),
        ("relu", 2 * n, lambda: ops.relu(a)),
        ("a + row", 2 * n, lambda: a + w),
        ("sum of all", n, lambda: ops.sum(a)),
        ("sum over rows", n, lambda: ops.sum(a, axis=0)),
        ("sum over columns", n, lambda: ops.sum(a, axis=1)),
        ("softmax", 2 * n, lambda: ops.softmax(a)),
        ("layer normalisation", 2 * n, lambda: ops.layer_normalization(a, w, w)),
        ("transpose", 2 * n, lambda: ops.transpose(a)),
    ]  # fmt: skip
    with no_grad():
        for what, moved, run in table:
            contestants = {"ours": run} | theirs.get(what, {})
            times = contest(contestants, peers.wait, tiny)
            tell(row, f"{what}, {rows}x{columns}", times, bytes=moved, copy=copy)
    size = 256 if tiny else 25_000_000
    p, g, m, v = (kernels.full((size,), 0.1, "float32", "cuda") for _ in range(4))
    adam = kernels.find("cuda", "adam")
    constants = adam.numbers(np.dtype("float32"), 1.0, 1e-3, 1, 0.9, 0.999, 1e-7)  # type: ignore
    given = kernels.place(np.array(constants, np.float32), "cuda")
    contestants = {"ours": lambda: adam(p, g, m, v, None, given)}  # type: ignore[misc]
    if torch is not None:
        parameter = torch.nn.Parameter(torch.zeros(size, device="cuda"))
        parameter.grad = torch.full((size,), 0.1, device="cuda")
        optimizer = torch.optim.Adam([parameter], fused=True)
        contestants["PyTorch, fused"] = optimizer.step
    times = contest(contestants, peers.wait, tiny)
    tell(row, f"adam, {size:,} parameters", times, bytes=7 * 4 * size, copy=copy)


def launches(row: Report, note: Callable[[str], None], tiny: bool, deadline: float) -> None:
    """What starting a kernel costs: alone, through an op, through the engine, and in a graph."""
    from minitorch_ciml import kernels
    from minitorch_ciml.config import no_grad
    from minitorch_ciml.kernels.cuda.graph import Graph, write

    peers = Peers(note, tiny)
    arrays = numbers(256), numbers(256)
    a, b = on_gpu(*arrays)
    add, x, y = kernels.find("cuda", "add"), a.value, b.value
    target = y.rows(0, 1)

    def chain() -> Any:
        z = x
        for _ in range(2 if tiny else 100):
            z = add(z, y)  # type: ignore[misc]
        return z

    with no_grad():
        contestants: dict[str, Callable] = {"ours": lambda: a + b}
        contestants |= peers.passes(*arrays, arrays[0]).get("a + b", {})
        tell(row, "a + b, 256 numbers", contest(contestants, peers.wait, tiny))
    for what, run in (
        ("a kernel alone, that writes a number", lambda: write(target, (1.0,))),
        ("100 additions, eager", chain),
        ("100 additions, a graph", Graph(chain).replay),
    ):
        tell(row, what, contest({"ours": run}, peers.wait, tiny))


def compiling(row: Report, note: Callable[[str], None], tiny: bool, deadline: float) -> None:
    """The first training step in a new process: nothing compiled before, then all of it."""
    script = (
        "import time, numpy as np\n"
        "from minitorch_ciml import device, keras\n"
        "with device('cuda'):\n"
        "    m = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4, activation='relu'),"
        " keras.layers.Dense(2)])\n"
        "    m.compile('adam', 'mse')\n"
        "    t = time.perf_counter()\n"
        "    m.train_on_batch(np.ones((4, 8), 'float32'), np.ones((4, 2), 'float32'))\n"
        "    print('took', time.perf_counter() - t)\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        for what in ("nothing compiled before", "all compiled before"):
            done = subprocess.run(
                [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT,
                env=os.environ | {"XDG_CACHE_HOME": folder}, timeout=600,
            )  # fmt: skip
            took = re.search(r"took ([\d.]+)", done.stdout)
            if took is None:
                raise RuntimeError(done.stderr[-1000:])
            tell(row, f"first step, {what}", {"ours": float(took[1])})


def models(row: Report, note: Callable[[str], None], tiny: bool, deadline: float) -> None:
    """Training steps of the CPU benchmark's models against PyTorch and JAX.

    Ours is recorded, in float32; beside it eager, with TF32, and in mixed_bfloat16.
    """
    from benchmarks.workloads import MODELS, make_data
    from benchmarks.workloads import Workload as Load
    from minitorch_ciml import device

    peers = Peers(note, tiny)
    rows = [("cnn", 128), ("mlp", 128), ("lstm", 128), ("transformer", 32), ("cifar", 256),
            ("residual", 64), ("autoencoder", 64), ("cnn", 32)]  # fmt: skip
    for name, batch in [("xor", 4)] if tiny else rows:
        if perf_counter() > deadline - 5:
            note(f"out of time before {name}")
            return
        x, y = make_data(Load("", "", "step", name, batch))
        with device("cuda"):
            contestants = _our_steps(name, x, y)
            if peers.torch is not None:
                compiled = perf_counter() < deadline - 60
                contestants |= _torch_steps(peers.torch, name, x, y, note, compiled)
            try:
                contestants |= peers.jax_step(name, batch, x, y)
                times = contest(contestants, peers.wait, tiny)
            except Exception as error:  # one model that fails does not lose the others
                note(f"{name}: {type(error).__name__}: {error}"[:300])
                continue
        tell(row, f"{name}, batch {batch}", times, flop=batch * MODELS[name].training)


def _our_steps(name: str, x: np.ndarray, y: np.ndarray) -> dict[str, Callable]:
    """Steps of a model: recorded, eager, and in less precise numbers."""
    from benchmarks.keras_models import build_model
    from benchmarks.workloads import LEARNING_RATE
    from minitorch_ciml import keras, set_float32_matmul_precision

    steps = {}
    for what, jit, policy, precision in (
        ("ours", "auto", "float32", "highest"),
        ("ours, eager", False, "float32", "highest"),
        ("ours, TF32", "auto", "float32", "medium"),
        ("ours, mixed_bfloat16", "auto", "mixed_bfloat16", "highest"),
    ):
        keras.config.set_dtype_policy(policy)
        set_float32_matmul_precision(precision)
        try:
            model = build_model(keras, name, LEARNING_RATE)
            model.compile(model.optimizer, model._compile_arguments["loss"], jit_compile=jit)
            step = _our_step(model, x, y)
            for _ in range(4):  # what is recorded keeps the precision it was recorded with
                step()
            steps[what] = step
        finally:
            keras.config.set_dtype_policy("float32")
            set_float32_matmul_precision("highest")
    return steps


def _our_step(model: Any, x: np.ndarray, y: np.ndarray) -> Callable[[], None]:
    """A step of `fit`, the batch sent from the host's memory; nothing is fetched."""
    stepper = model._on_gpu()
    batch = (x, y, None)

    def step() -> None:
        model._clear_losses()
        stepper.train(batch)

    return step


def _torch_steps(
    torch: Any, name: str, x: np.ndarray, y: np.ndarray, note: Callable, compiled: bool
) -> dict[str, Callable]:
    """PyTorch's step: the batch sent from pinned memory, fused Adam, float32 without TF32."""
    from benchmarks.torch_models import LOSSES, build_model, is_image
    from benchmarks.workloads import LEARNING_RATE, MODELS

    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    loss_of = LOSSES[MODELS[name].target]
    xs, ys = torch.tensor(x), torch.tensor(y)
    if is_image(name):
        xs = xs.permute(0, 3, 1, 2).contiguous()
        ys = ys.permute(0, 3, 1, 2).contiguous() if ys.ndim == 4 else ys
    xs, ys = xs.pin_memory(), ys.pin_memory()
    steps: dict[str, Callable] = {}
    for what in ("PyTorch", "PyTorch, compiled")[: 2 if compiled else 1]:
        try:
            model = build_model(name).cuda()
            optimizer = torch.optim.Adam(model.parameters(), LEARNING_RATE, fused=True)
            forward = torch.compile(model, mode="reduce-overhead") if "," in what else model

            def step(forward: Any = forward, optimizer: Any = optimizer) -> None:
                a, b = xs.to("cuda", non_blocking=True), ys.to("cuda", non_blocking=True)
                loss = loss_of(forward(a), b)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()

            step()
            steps[what] = step
        except Exception as error:
            note(f"{what}, {name}: {type(error).__name__}: {error}"[:300])
    return steps


PARTS = {
    "environment": Part(environment, 0.5),
    "repeats": Part(repeats, 0.7),
    "launches": Part(launches, 0.6),
    "matmul": Part(matmul, 1.5),
    "bandwidth": Part(bandwidth, 1.2),
    "models": Part(models, 4.0),
    "conv": Part(conv, 2.0),
    "compiling": Part(compiling, 1.0),
    "meaning": Part(meaning, 4.0),
}
