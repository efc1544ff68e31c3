"""What changes from one training step to the next, although the step is the same.

A training step is recorded once and replayed: on a GPU as a graph (`cuda/graph.py`), on the CPU as
a program (`program.py`). Its Python code does not run again, so a learning rate, a step's number or
a random stream would stay what it was. What must not is said with the functions here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np


class HostWork(NamedTuple):
    """What a recorded step does on the host.

    Attributes:
        first: for the first replay, which ends the step that was recorded.
        again: for every later one.
    """

    first: Callable[[], Any] | None
    again: Callable[[], Any]


# The host's work of the step that is being recorded, in order; None at other times.
recorded: ContextVar[list[HostWork] | None] = ContextVar("recorded", default=None)

# The program that is being recorded on the CPU; None at other times.
program: ContextVar[Any] = ContextVar("program", default=None)


class NotRecordable(RuntimeError):
    """The step looks at numbers, or draws some: the next one may do something else."""


def each_time(work: Callable[[], Any]) -> None:
    """Does `work` now, and again whenever the step is replayed."""
    if program.get() is not None:
        program.get().call(work)
        return
    work()
    host_work = recorded.get()
    if host_work is not None:
        host_work.append(HostWork(None, work))


def numbers(compute: Callable[[], Sequence[float]], dtype: Any, device: str) -> Any:
    """The few numbers that `compute` gives: as they are, or on a GPU in an array there.

    When the step is replayed, they are computed again, and the array holds the new ones.
    """
    if device == "program":
        return import_module("minitorch_ciml.kernels.program").each_time(lambda: tuple(compute()))
    values = compute()
    if device != "cuda":
        return tuple(values)
    graph = import_module("minitorch_ciml.kernels.cuda.graph")
    array = graph.numbers_array(len(values), np.dtype(dtype))
    host_work = recorded.get()
    if host_work is None:
        graph.write(array, values)
    else:  # what is recorded is not done
        host_work.append(
            HostWork(lambda: graph.write(array, values), lambda: graph.write(array, compute()))
        )
    return array


def check(look: Callable[[np.ndarray], None], array: Any) -> None:
    """`look(array)`, which raises where it does not like the numbers, now and in every replay.

    An array on a GPU is not looked at: the host would have to wait for it.
    """
    if isinstance(array, np.ndarray):
        look(array)
    elif program.get() is not None:
        program.get().call(look, array)


def aside(function: Callable, *inputs: Any) -> None:
    """Calls `function(*inputs)`, which computes nothing that the step needs.

    Not in a step that is being recorded on the CPU, but in every replay of it.
    """
    if program.get() is None:
        function(*inputs)
    else:
        program.get().note(function, *inputs)
