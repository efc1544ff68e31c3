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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
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


@contextmanager
def attempting(what: str, note: Callable[[str], None]) -> Iterator[None]:
    """What fails inside the block is noted, and does not lose what comes after it."""
    try:
        yield
    except Exception as error:
        note(f"{what}: {type(error).__name__}: {error}"[:300])


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
        "cupy", "cupy-cuda13x", "cupy-cuda12x", "jax",
    ):  # fmt: skip
        try:
            row(what=package, value=version(package))
        except PackageNotFoundError:
            row(what=package, value="not installed")
    for library in ("nvvm", "nvJitLink"):
        row(what=library, value=_library(library))
    row(what="copy on the GPU", **{"GB/s": copy_bandwidth(tiny) / 1e9})


def _library(name: str) -> str:
    """Where the compiler's library is found, or why it is not."""
    from cuda.pathfinder import load_nvidia_dynamic_lib

    try:
        return str(load_nvidia_dynamic_lib(name).abs_path)
    except Exception as error:  # whatever is wrong with it: that is what we want to know
        return f"{type(error).__name__}: {error}"[:150]


def prepare(row: Report, note: Callable[[str], None], tiny: bool, deadline: float) -> None:
    """Compiles all kernels on all cores, so that the other parts need not wait for it."""
    from minitorch_ciml.kernels.cuda.ahead import compile_all
    from minitorch_ciml.kernels.cuda.runtime import runtime

    began = perf_counter()
    capability = runtime().capability
    parts = ("tanh",) if tiny else ("",)
    done, count = compile_all(capability, parts, until=deadline)
    row(what=f"{done} of {count} kernels compiled", seconds=perf_counter() - began)
    if done < count:
        note("out of time: the others are compiled when they are needed")


def copy_bandwidth(tiny: bool) -> float:
    """Bytes per second that a large copy on the GPU reads and writes."""
    from minitorch_ciml.kernels.cuda.memory import empty, synchronize, zeros

    n = 1 << (8 if tiny else 28)
    source, target = zeros((n,), "uint8"), empty((n,), "uint8")
    times = contest({"ours": lambda: target.assign(source)}, synchronize, tiny)
    return 2 * n / times["ours"]


def meaning(row: Report, note: Callable[[str], None], tiny: bool, deadline: float) -> None:
    """The tests of kernels, the table of all ops and training, on the GPU against the CPU."""
    sets: list[tuple[str, list[str]]] = [
        ("products, convolutions, attention are NumPy's",
         [f"tests/test_cuda_{name}.py" for name in ("matmul", "conv", "attention")]),
        ("training on the GPU is that of the CPU",
         [f"tests/test_cuda_{name}.py" for name in ("fit", "optimizer", "loss_scale")]),
        ("ops on the GPU are those of the CPU", ["tests/test_ops.py", "-k", "cuda"]),
        ("the other kernels are NumPy's",
         [f"tests/test_cuda_{name}.py" for name in ("kernels", "pool", "recurrent", "linalg")]),
    ]  # fmt: skip
    if tiny:
        sets = [("two ops", ["tests/test_ops.py", "-k", "cuda and (add-add or logaddexp)"])]
    options = ["-q", "--no-header"]
    if find_spec("xdist") and not tiny:
        options += ["-n", str(min(8, len(os.sched_getaffinity(0))))]
    # What tests take from JAX is a reference, and the GPU's memory is for ours.
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    for what, tests in sets:
        left = deadline - perf_counter()
        if left < 5:
            note(f"out of time before: {what}")
            return
        try:
            done = subprocess.run(
                [sys.executable, "-m", "pytest", *options, *tests], capture_output=True, text=True,
                cwd=ROOT, env=environment, timeout=None if tiny else left,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            note(f"out of time: {what}; {(error.stdout or b'').decode()[-500:]}")
            return
        lines = done.stdout.strip().splitlines()
        row(what=what, value=lines[-1] if lines else f"exit status {done.returncode}")
        for line in [line for line in lines if line.startswith(("FAILED", "ERROR"))][:40]:
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
            title = f"matmul {m}x{k} by {k}x{n}, {precision}"
            dtype = "bfloat16" if precision == "bfloat16" else "float32"
            set_float32_matmul_precision(name)
            with attempting(title, note), no_grad():
                a, b = (x.astype(dtype) for x in on_gpu(*arrays))
                contestants: dict[str, Callable] = {"ours": partial(ops.matmul, a, b)}
                contestants |= peers.products(precision, *arrays)
                times = contest(contestants, peers.wait, tiny)
                tell(row, title, times, flop=2.0 * m * k * n)
            set_float32_matmul_precision("highest")


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
            title = f"{name} {batch}x{size}x{size}x{channels} to {filters}, {k}x{k}"
            with attempting(title, note):
                times = contest({"ours": run} | theirs[name], peers.wait, tiny)
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
            with attempting(what, note):
                times = contest({"ours": run} | theirs.get(what, {}), peers.wait, tiny)
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
    rows = [("cnn", 128), ("cifar", 256), ("mlp", 128), ("residual", 64), ("transformer", 32),
            ("lstm", 128), ("autoencoder", 64), ("cnn", 32)]  # fmt: skip
    _contest_models([("xor", 4)] if tiny else rows, row, note, tiny, deadline, False)


def compiled(row: Report, note: Callable[[str], None], tiny: bool, deadline: float) -> None:
    """Some of these models, also against PyTorch's compiler, which takes long itself."""
    rows = [("cnn", 128), ("cifar", 256), ("transformer", 32)]
    _contest_models([("xor", 4)] if tiny else rows, row, note, tiny, deadline, True)


def _contest_models(
    rows: list[tuple[str, int]], row: Report, note: Callable[[str], None], tiny: bool,
    deadline: float, is_compiled: bool,
) -> None:  # fmt: skip
    from benchmarks.workloads import MODELS, make_data
    from benchmarks.workloads import Workload as Load
    from minitorch_ciml import device

    peers = Peers(note, tiny)
    for name, batch in rows:
        if perf_counter() > deadline - 5:
            note(f"out of time before {name}")
            return
        with attempting(name, note), device("cuda"):
            x, y = make_data(Load("", "", "step", name, batch))
            contestants = _our_steps(name, x, y)
            if peers.torch is not None:
                contestants |= _torch_steps(peers.torch, name, x, y, note, is_compiled)
            with attempting(f"JAX, {name}", note):
                contestants |= peers.jax_step(name, batch, x, y)
            times = contest(contestants, peers.wait, tiny)
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


# What matters most comes first.
PARTS = {
    "environment": Part(environment, 0.3),
    "prepare": Part(prepare, 2.0),
    "repeats": Part(repeats, 0.5),
    "models": Part(models, 3.0),
    "matmul": Part(matmul, 2.0),
    "conv": Part(conv, 1.5),
    "meaning": Part(meaning, 4.0),
    "bandwidth": Part(bandwidth, 1.0),
    "launches": Part(launches, 0.5),
    "compiled": Part(compiled, 2.0),
    "compiling": Part(compiling, 1.0),
}
