"""What each kernel takes of a GPU: `python -m minitorch_ciml.kernels.cuda.report [part of a name]`.

No GPU is needed: the kernels are compiled for several generations of them. With `--bounds`, what
bounds them at named sizes, and the time that predicts (`bounds.py`).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from itertools import groupby
from pathlib import Path

from minitorch_ciml.kernels.cuda import bounds
from minitorch_ciml.kernels.cuda.compiler import OLDEST, Binary, Capability
from minitorch_ciml.kernels.cuda.launch import KERNELS, Kernel

# Turing, Ampere, Hopper and Blackwell in data centres.
HOPPER: Capability = (9, 0)
GENERATIONS: tuple[Capability, ...] = (OLDEST, (8, 0), HOPPER, (10, 0))


@dataclass(frozen=True)
class Multiprocessor:
    """What the blocks that run at the same time share. Source: CUDA C Programming Guide, table 30.

    Attributes:
        threads: threads at most.
        blocks: blocks at most.
        shared: bytes of shared memory.
    """

    threads: int
    blocks: int
    shared: int


_REGISTERS = 65536  # of 32 bits, on all of them
_RESERVED = 1024  # bytes of shared memory that each block takes from 8.0 on
_KIB = 1024
MULTIPROCESSORS = {
    (7, 5): Multiprocessor(threads=1024, blocks=16, shared=64 * _KIB),
    (8, 0): Multiprocessor(threads=2048, blocks=32, shared=164 * _KIB),
    (9, 0): Multiprocessor(threads=2048, blocks=32, shared=228 * _KIB),
    (10, 0): Multiprocessor(threads=2048, blocks=32, shared=228 * _KIB),
}


# Modules whose kernels use each number that they read many times, the more the larger the problem.
# All others touch each number a few times, so memory bounds them. Named sizes: `bounds.py`.
_REUSE = (
    "matmul_tiles", "matmul_cores", "matmul_warpgroup", "conv_tiles", "conv_cores",
    "attention_tiles", "attention_cores",
)  # fmt: skip


def bound_of(name: str) -> str:
    """What is predicted to bound a kernel where there is much to do: "FLOPs" or "bytes"."""
    return "FLOPs" if name.partition(".")[0] in _REUSE else "bytes"


def all_kernels() -> list[Kernel]:
    """Every kernel of the package."""
    for path in sorted(Path(__file__).parent.glob("*.py")):
        if path.stem not in ("__init__", "report", "simulator"):
            import_module(f"minitorch_ciml.kernels.cuda.{path.stem}")
    return KERNELS


def resident(kernel: Kernel, binary: Binary, capability: Capability) -> int:
    """How many blocks of the kernel one multiprocessor holds at the same time."""
    limits = MULTIPROCESSORS[capability]
    warps = -(-kernel.threads // 32)
    registers = -(-binary.registers * 32 // 256) * 256 * warps  # a warp gets them by 256
    shared = binary.shared + kernel.shared + (_RESERVED if capability >= (8, 0) else 0)
    return min(
        limits.blocks,
        limits.threads // (32 * warps),
        _REGISTERS // registers,
        limits.shared // shared if shared else limits.blocks,
    )


def occupancy(kernel: Kernel, binary: Binary, capability: Capability) -> float:
    """The share of a multiprocessor's threads that the kernel can keep busy."""
    threads = 32 * -(-kernel.threads // 32)
    return resident(kernel, binary, capability) * threads / MULTIPROCESSORS[capability].threads


def faults(kernel: Kernel, signature: tuple[str, ...], capability: Capability) -> list[str]:
    """What is wrong with the code of a kernel; nothing, of those that are here."""
    binary = kernel.compile(signature, capability)
    found = []
    if binary.spilled:
        found.append(f"{binary.spilled} bytes do not fit into registers")
    if binary.stack:
        found.append(f"{binary.stack} bytes of each thread are in memory")
    if binary.doubles and not any("f8" in code for code in signature):
        found.append("it computes in float64")
    if binary.serialized:
        found.append("its tensor cores wait after each product")
    blocks = resident(kernel, binary, capability)
    if blocks < kernel.blocks and capability >= (8, 0) or not blocks:
        found.append(f"{blocks} blocks fit, where {kernel.blocks} are promised")
    return found


def faults_of(name: str) -> dict[Capability, list[str]]:
    """What is wrong with a kernel, by generation of those that it is for.

    For Hopper with all its types, elsewhere with the first. A kernel that has nothing of its own
    for newer generations, and promises nothing, is the same program on all of them: it is
    compiled for the oldest one beside Hopper.
    """
    (kernel,) = [kernel for kernel in all_kernels() if kernel.name == name]
    is_plain = kernel.needs == OLDEST and kernel.blocks == 1 and bound_of(name) == "bytes"
    return {
        capability: [
            f"{' '.join(signature)}: {fault}"
            for signature in (kernel.signatures if capability == HOPPER else kernel.signatures[:1])
            for fault in faults(kernel, signature, capability)
        ]
        for capability in ((OLDEST, HOPPER) if is_plain else GENERATIONS)
        if kernel.is_for(capability)
    }


def _rows(pattern: str) -> Iterator[list[str]]:
    for kernel in all_kernels():
        for signature in kernel.signatures if pattern in kernel.name else ():
            made = {c: kernel.compile(signature, c) for c in GENERATIONS if kernel.is_for(c)}
            cells = [
                f"{made[c].registers:3} {occupancy(kernel, made[c], c):4.0%}" if c in made else "-"
                for c in GENERATIONS
            ]
            shared = max(binary.shared for binary in made.values()) + kernel.shared
            numbers = str(kernel.threads), f"{shared:,}"
            yield [kernel.name, _short(signature), bound_of(kernel.name), *numbers, *cells]


def _short(signature: tuple[str, ...]) -> str:
    """Equal types in a row are counted."""
    runs = [(code, len(list(run))) for code, run in groupby(signature)]
    return " ".join(code if n == 1 else f"{n}x{code}" for code, n in runs)


def main(pattern: str = "") -> None:
    """Prints a table of the kernels whose name contains `pattern`."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    names = [f"{major}.{minor}" for major, minor in GENERATIONS]
    table = Table(box=SIMPLE_HEAD, title="Registers of a thread, and occupancy, by capability")
    for name in ("kernel", "arguments", "bound by"):
        table.add_column(name, overflow="fold")
    for name in ("threads", "shared", *names):
        table.add_column(name, justify="right", no_wrap=True)
    for row in _rows(pattern):
        table.add_row(*row)
    Console().print(table)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--bounds"]:
        bounds.main(*sys.argv[2:3])
    else:
        main(*sys.argv[1:2])
