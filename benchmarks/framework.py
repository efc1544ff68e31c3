"""What the worker of each framework answers; one subclass per framework."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NamedTuple

from benchmarks.workloads import Workload

# Does so many units of work. Returns the seconds if not all of what it did is to be counted.
Run = Callable[[int], float | None]


class NotAvailable(Exception):
    """The framework has no such workload."""


class Framework:
    """Builds workloads. A task (`Workload.task`) is a method `task(workload, mode) -> Run`."""

    def modes(self, workload: Workload) -> list[str]:
        """The ways in which the framework can do this; all are measured, the best is reported."""
        return ["default"]

    def build(self, workload: Workload, mode: str) -> Run:
        """Prepares the workload; the result does it.

        Raises:
            NotAvailable: there is no such thing in this framework.
        """
        task = getattr(self, workload.task, None)
        if task is None:
            raise NotAvailable(f"has no task {workload.task!r}")
        return task(workload, mode)

    def losses(self, workload: Workload, steps: int) -> list[float]:
        """The losses of the first steps from `initial_weights`, with Adam(0.001)."""
        raise NotAvailable("does not compare losses")


class Known(NamedTuple):
    """Where a framework is found, and what it needs.

    Attributes:
        module: the module of `benchmarks` whose `create()` gives the `Framework`.
        packages: what must be installed.
        statement: what a user's script imports.
        environment: the variables it is started with.
    """

    module: str
    packages: tuple[str, ...]
    statement: str = ""
    environment: dict[str, str] = {}  # never changed


OURS = "minitorch_ciml"
LEFT_OUT = "left out of a quick run"
FRAMEWORKS = {
    OURS: Known("ours", (OURS,), "from minitorch_ciml import keras"),
    "torch": Known("torch_peer", ("torch",), "import torch"),
    "jax": Known("jax_peer", ("jax",), "import jax.numpy", {"JAX_PLATFORMS": "cpu"}),
    "keras-torch": Known("keras_peer", ("keras", "torch"), "import keras",
                         {"KERAS_BACKEND": "torch"}),
    "keras-jax": Known("keras_peer", ("keras", "jax"), "import keras",
                       {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}),
    "closures": Known("scalar_peer", ()),
}  # fmt: skip


def missing(name: str) -> str:
    """The package that the framework lacks here, or ''."""
    return next((p for p in FRAMEWORKS[name].packages if find_spec(p) is None), "")


def create(name: str) -> Any:
    """The framework of that name."""
    return import_module(f"benchmarks.{FRAMEWORKS[name].module}").create()


def repeated(once: Callable[[], Any]) -> Run:
    """A unit of work is one call of `once`."""

    def run(units: int) -> None:
        for _ in range(units):
            once()

    return run
