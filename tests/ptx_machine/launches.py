"""Kernels of the package, run by the machine instead of by the simulator."""

from __future__ import annotations

import atexit
import hashlib
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minitorch_ciml.kernels.cuda import compiler, launch
from minitorch_ciml.kernels.cuda.fingerprint import fingerprint
from minitorch_ciml.kernels.cuda.memory import CudaArray
from minitorch_ciml.kernels.cuda.runtime import SimulatedRuntime, runtime
from ptx_machine import variants
from ptx_machine.machine import Machine, machine
from ptx_machine.memory import Global
from ptx_machine.traffic import Traffic, table

# The kernels that have run: their names and signatures.
EXECUTED: set[tuple[str, tuple[str, ...]]] = set()

_VARIANTS, _TRAFFIC = "MINITORCH_CIML_PTX_VARIANTS", "MINITORCH_CIML_PTX_TRAFFIC"
_traffic: dict[str, Traffic] | None = {} if os.environ.get(_TRAFFIC) else None

_NUMBERS = {
    "i4": np.int32, "i8": np.int64, "u4": np.uint32, "u8": np.uint64, "f4": np.float32,
    "f8": np.float64,
}  # fmt: skip


_LOAD = launch.Kernel._load


def install(capability: str) -> None:
    """From now on, kernels run in the machine, compiled for a capability such as "9.0"."""
    major, minor = map(int, capability.split("."))
    SimulatedRuntime.capability = (major, minor)
    launch.Kernel._load = load


@contextmanager
def running(capability: str) -> Iterator[set]:
    """Inside the block, kernels run in the machine; gives those that did, as `EXECUTED`."""
    kept = SimulatedRuntime.capability, launch.Kernel._load
    loaded = {kernel: kernel._loaded for kernel in launch.KERNELS}
    before = set(EXECUTED)
    EXECUTED.clear()
    try:
        for kernel in launch.KERNELS:
            kernel._loaded = {}
        install(capability)
        yield EXECUTED
    finally:
        EXECUTED.update(before)
        SimulatedRuntime.capability, launch.Kernel._load = kept
        for kernel, functions in loaded.items():
            kernel._loaded = functions


@contextmanager
def counting() -> Iterator[dict[str, Traffic]]:
    """Inside the block, accesses to memory are counted; gives the counts by kernel."""
    global _traffic
    before, _traffic = _traffic, {}
    try:
        yield _traffic
    finally:
        _traffic = before


def load(kernel: launch.Kernel, signature: tuple[str, ...]) -> Any:
    """In the place of `Kernel._load`: a function of grid, block, and arguments."""
    if signature not in kernel.signatures:
        return _LOAD(kernel, signature)  # which raises
    if not kernel.is_for(runtime().capability):
        pytest.skip(f"{kernel.name} has instructions that this GPU has not")
    compiled = machine(ptx_of(kernel, signature, runtime().capability))

    def run(grid: tuple, block: tuple, args: tuple) -> None:
        if math.prod(block) > kernel.threads:
            most = f"blocks of {kernel.threads} threads at most"
            raise ValueError(f"kernel {kernel.name} takes {most}, got {block}.")
        runtime().launch(lambda: launched(compiled, kernel, signature, grid, block, args))

    return run


def launched(
    compiled: Machine, kernel: launch.Kernel, signature: tuple[str, ...], grid: tuple,
    block: tuple, args: tuple,
) -> None:  # fmt: skip
    """Runs one launch on the simulated GPU's memory."""
    memory = Global()
    values = [
        _address(memory, arg) if code.endswith("*") else _NUMBERS[code](arg)
        for arg, code in zip(args, signature)
    ]
    is_new = (kernel.name, signature) not in EXECUTED
    before = variants.contents(args) if is_new and os.environ.get(_VARIANTS) else None
    compiled.traffic = None if _traffic is None else _traffic.setdefault(kernel.name, Traffic())
    try:
        compiled.launch(grid, block, values, memory, kernel.shared)
    except Exception as error:
        where = f"kernel {kernel.name} for ({' '.join(signature)}), {grid} x {block}"
        error.args = (f"{error} ({where})",)
        raise
    if is_new:
        _done(kernel, signature)
    if before is not None:
        _run_variants(kernel, grid, block, before)


def _run_variants(kernel: launch.Kernel, grid: tuple, block: tuple, values: list[Any]) -> None:
    """What is like the kernel and has not run yet, with the numbers of its launch."""
    errors = []
    for other in variants.related(kernel):
        for signature in other.signatures:
            if (other.name, signature) in EXECUTED or not other.is_for(runtime().capability):
                continue
            _done(other, signature)
            compiled = machine(ptx_of(other, signature, runtime().capability))
            try:
                variants.check(other, signature, compiled, grid, block, values)
            except Exception as error:
                errors.append(f"{other.name} ({' '.join(signature)}): {error!r}")
    assert not errors, "\n".join(errors)


@atexit.register
def _write_traffic() -> None:
    if _traffic and _TRAFFIC in os.environ:
        Path(os.environ[_TRAFFIC]).write_text(table(_traffic))


def _done(kernel: launch.Kernel, signature: tuple[str, ...]) -> None:
    EXECUTED.add((kernel.name, signature))
    _write_down(kernel.name, signature)


def _write_down(name: str, signature: tuple[str, ...]) -> None:
    """In the file that `executed.py` reads, if there is one; several processes may do so."""
    if path := os.environ.get("MINITORCH_CIML_PTX_LOG"):
        with open(path, "a") as file:
            file.write(f"{name} ({' '.join(signature)})\n")


def _address(memory: Global, array: CudaArray) -> int:
    return memory.add(array._block.pointer, array._offset, array.nbytes)


def ptx_of(
    kernel: launch.Kernel, signature: tuple[str, ...], capability: compiler.Capability
) -> str:
    """What numba makes of a kernel; kept on disk, since that takes seconds."""
    types = tuple(map(launch._numba_type, signature))
    bounds = (kernel.threads, kernel.blocks)
    key = repr((fingerprint(kernel.function), str(types), capability, bounds))
    path = _folder() / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.ptx"
    if path.exists():
        return path.read_text()
    text = compiler.ptx(kernel.function, types, capability, bounds)
    unfinished = path.with_suffix(f".{os.getpid()}")
    unfinished.write_text(text)
    unfinished.replace(path)
    return text


def _folder() -> Path:
    folder = compiler._folder() / "ptx"
    folder.mkdir(exist_ok=True)
    return folder
