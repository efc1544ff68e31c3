"""What changes from one training step to the next, although the step is the same.

On a GPU a training step is recorded once and replayed (`cuda/graph.py`): its Python code does not
run again, so a learning rate, a step's number or a random stream would stay what it was. What
must not is said with the two functions here.
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


def each_time(work: Callable[[], Any]) -> None:
    """Does `work` now, and again whenever the step is replayed."""
    work()
    host_work = recorded.get()
    if host_work is not None:
        host_work.append(HostWork(None, work))


def numbers(compute: Callable[[], Sequence[float]], dtype: Any, device: str) -> Any:
    """The few numbers that `compute` gives: as they are, or on a GPU in an array there.

    When the step is replayed, they are computed again, and the array holds the new ones.
    """
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
