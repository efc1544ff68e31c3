"""A training step as one graph: recorded once, then started as a whole.

A small model's step is a hundred short kernels, and starting each of them from Python takes longer
than running it. The driver can write down what goes to the stream and start all of it at once.

The memory of a recorded step is its own: each replay writes to the same addresses. What goes in (a
batch, and the numbers of `steps.py`) is copied to where the recorded step reads it.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numba import cuda

from minitorch_ciml.kernels import steps
from minitorch_ciml.kernels.cuda.launch import kernel
from minitorch_ciml.kernels.cuda.memory import CudaArray, Pool, empty, outside_graphs, using
from minitorch_ciml.kernels.cuda.runtime import runtime

_AT_ONCE = 8


@kernel("T* T T T T T T T T i4", threads=32, T=("f4", "f8", "u4"))
def _write(y, a, b, c, d, e, f, g, h, n):
    i = cuda.threadIdx.x
    if i == 0:
        y[0] = a
        if n > 1:
            y[1] = b
        if n > 2:
            y[2] = c
        if n > 3:
            y[3] = d
        if n > 4:
            y[4] = e
        if n > 5:
            y[5] = f
        if n > 6:
            y[6] = g
        if n > 7:
            y[7] = h


def numbers_array(n: int, dtype: np.dtype) -> CudaArray:
    """Room for `write`.

    Not in a recorded step's own memory: there, what comes earlier in the step would write over it,
    since each replay's numbers are written before all of it.
    """
    with outside_graphs():
        return empty((n,), dtype)


def write(array: CudaArray, values: Sequence[float]) -> None:
    """Puts a few numbers into an array, as a kernel's arguments: in the order of the stream."""
    convert = array.dtype.type
    for start in range(0, len(values), _AT_ONCE):
        some = [convert(value) for value in values[start : start + _AT_ONCE]]
        missing = [convert(0)] * (_AT_ONCE - len(some))
        part = array.rows(start, start + len(some))
        _write(1, 32, part, *some, *missing, len(some))


class Graph:
    """What a function puts into the stream, to be replayed.

    Args:
        function: it must only launch kernels and copy on the GPU. What it does on the host happens
            once, but for what it does through `steps`.

    Attributes:
        result: what the function returned. Its arrays hold the results of the last replay.
        pool: the memory that the function took.

    Raises:
        NotCapturable: the function waited for the GPU, or copied from or to the host.
    """

    def __init__(self, function: Callable[[], Any]):
        self.pool = Pool()
        self._host_work: list[steps.HostWork] = []
        self._device = runtime()
        token = steps.recorded.set(self._host_work)
        self._device.begin_capture()
        try:
            with using(self.pool):
                self.result = function()
        except BaseException:
            self._device.abort_capture()
            self.pool.close()
            raise
        finally:
            steps.recorded.reset(token)
        self._graph = self._device.end_capture()
        self._replayed = False
        # Bound to no attribute of this object, and not at the interpreter's end.
        weakref.finalize(self, _end, self._device, self._graph, self.pool).atexit = False

    def replay(self) -> Any:
        """Does it all again, with the numbers of this step; returns `result`."""
        for work in self._host_work:
            do = work.again if self._replayed else work.first
            if do is not None:
                do()
        self._replayed = True
        self._device.start(self._graph)
        return self.result


def _end(device: Any, graph: Any, pool: Pool) -> None:
    device.discard(graph)
    pool.close()
