"""Compiles kernels before they are needed: `python -m minitorch_ciml.kernels.cuda.ahead [9.0]`.

A kernel is compiled when it is first used, which takes from a tenth of a second to some seconds,
and kept on disk for all later processes. A training script needs some fifty of them, one after the
other. This compiles all, on all cores; it needs no GPU if told for which compute capability, so
that it can be done where a job is prepared. Parts of names after it choose some kernels.
"""

from __future__ import annotations

import os
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache
from multiprocessing import get_context
from time import perf_counter

from minitorch_ciml.kernels.cuda import report
from minitorch_ciml.kernels.cuda.compiler import OLDEST, Capability
from minitorch_ciml.kernels.cuda.launch import Kernel

Job = tuple[str, tuple[str, ...], Capability]


def compile_all(
    capability: Capability,
    parts: tuple[str, ...] = ("",),
    processes: int | None = None,
    until: float = float("inf"),
) -> tuple[int, int]:
    """Compiles all kernels whose name contains one of `parts`.

    Args:
        capability: of the GPU that will run them.
        parts: of names.
        processes: that share the work; if left out, as many as there are cores.
        until: what `perf_counter` says when no more are begun.

    Returns:
        How many are compiled, and how many there are: one for each of a kernel's types.
    """
    jobs = [
        (kernel.name, signature, capability)
        for kernel in sorted(report.all_kernels(), key=_priority)
        for signature in kernel.signatures
        if kernel.is_for(capability) and any(part in kernel.name for part in parts)
    ]
    jobs.sort(key=lambda job: any("f8" in code for code in job[1]))  # float64 is seldom trained
    processes = processes or len(os.sched_getaffinity(0))
    done = 0
    # Not forked: numba's threads, and a GPU's context, do not outlive that.
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        for compiled in as_completed([pool.submit(_compile, job) for job in jobs]):
            compiled.result()
            done += 1
            if perf_counter() > until:
                pool.shutdown(cancel_futures=True)
                break
    return done, len(jobs)


def _priority(kernel: Kernel) -> bool:
    """What takes longest comes first, so that it is not what all wait for at the end."""
    return report.bound_of(kernel.name) != "FLOPs"


@cache
def _kernels() -> dict[str, Kernel]:
    return {kernel.name: kernel for kernel in report.all_kernels()}


def _compile(job: Job) -> None:
    name, signature, capability = job
    _kernels()[name].compile(signature, capability)


def main(arguments: list[str]) -> None:
    """The command; see the head of this file."""
    if arguments and arguments[0][:1].isdigit():
        major, _, minor = arguments.pop(0).partition(".")
        if not (major.isdigit() and minor.isdigit()) or (int(major), int(minor)) < OLDEST:
            raise SystemExit(
                f"a compute capability is a number such as 9.0, and {OLDEST[0]}.{OLDEST[1]} or "
                f"more; got {major}.{minor}."
            )
        capability = int(major), int(minor)
    else:
        from minitorch_ciml.kernels.cuda.runtime import runtime

        try:
            capability = runtime().capability
        except RuntimeError as error:
            raise SystemExit(f"{error} Or name a compute capability, such as 9.0.") from None
    began = perf_counter()
    done, _ = compile_all(capability, tuple(arguments) or ("",))
    where = f"compute capability {capability[0]}.{capability[1]}"
    print(f"{done} kernels for {where} are compiled, after {perf_counter() - began:.0f} s.")


if __name__ == "__main__":
    main(sys.argv[1:])
