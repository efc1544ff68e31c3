"""The scale of the loss in float16, on the GPU: the host does not learn whether a step counted.

`LossScaleOptimizer` scales the loss up and the gradients down again. Where one of them is infinite
or no number, there is no update and the scale is halved; after many good steps it is doubled.
(Micikevicius et al., 2018.) Its state is four numbers in the GPU's memory: the flag, the number of
updates, the number of good steps since the scale changed, and the scale. A step is

    unscale(gradients, scale, finite)       # for each buffer
    guard(rule, numbers, ...)               # before the rule's kernel: is there an update?
    settle(finite, updates, good, scale)    # once, at the end

and does the same every time, so it can be recorded.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numba import cuda

from minitorch_ciml.kernels.cuda.elementwise import FLOATS, blocks_for
from minitorch_ciml.kernels.cuda.intrinsics import like
from minitorch_ciml.kernels.cuda.launch import kernel
from minitorch_ciml.kernels.cuda.memory import CudaArray
from minitorch_ciml.kernels.cuda.optimizer import Rule

_LARGEST = np.finfo("float32").max  # an infinite scale would never come back


@kernel("T* f4* i4* i4", threads=256, T=FLOATS)
def _unscale(g, scale, finite, n):
    i = cuda.grid(1)
    if i < n:
        x = g[i]
        if x - x != 0:  # infinite or no number; whoever sees it writes the same
            finite[0] = 0
        g[i] = x / like(x, scale[0])


def unscale(g: CudaArray, scale: CudaArray, finite: CudaArray) -> None:
    """g /= scale; finite becomes 0 where an element of g was infinite or no number."""
    if g.size:
        _unscale(*blocks_for(g.size), g, scale, finite, g.size)


@kernel("T* i4*", threads=32, T=FLOATS)
def _guard(c, finite):
    if cuda.threadIdx.x == 0:
        c[0] = like(c[0], finite[0])


def guard(
    rule: Rule, numbers: CudaArray, given: Callable, finite: CudaArray, updates: CudaArray
) -> None:
    """Lets the rule's kernel do nothing unless `finite`, and count as many updates as there were.

    Args:
        numbers: what the host takes for the numbers of this step.
        given: `given(f)` is an array of what f makes of the arguments of `rule.numbers`.
    """
    _guard(1, 32, numbers, finite)
    if rule.on_count:
        on_count, needed = rule.on_count
        on_count(1, 32, numbers, given(needed), updates)


@kernel("i4* i4* i4* f4* i4 f4", threads=32)
def _settle(finite, updates, good, scale, growth, largest):
    if cuda.threadIdx.x == 0:
        if finite[0] != 0:
            updates[0] += 1
            good[0] += 1
            if good[0] == growth:
                good[0] = 0
                scale[0] = min(scale[0] * like(largest, 2), largest)
        else:
            good[0] = 0
            scale[0] = scale[0] / like(largest, 2)
        finite[0] = 1


def settle(
    finite: CudaArray, updates: CudaArray, good: CudaArray, scale: CudaArray, growth: int
) -> None:
    """Counts the step, if it was one, and changes the scale; then `finite` is 1 again."""
    _settle(1, 32, finite, updates, good, scale, growth, _LARGEST)
