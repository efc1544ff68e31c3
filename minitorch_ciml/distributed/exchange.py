"""What is exchanged in a training step: gradients, and sums that gradients flow through."""

from __future__ import annotations

from typing import Any

import numpy as np

from minitorch_ciml.autograd.engine import Op
from minitorch_ciml.autograd.flat import FlatBuffer
from minitorch_ciml.distributed.communicator import init


def average_gradients(buffer: FlatBuffer) -> None:
    """Replaces the gradients in `buffer` by their mean over the ranks.

    `buffer.present` becomes the share of ranks that had a gradient: 0 for a parameter that no rank
    used. It travels with the gradients, in the same call.
    """
    init().allreduce(buffer.message, "mean")


def add_gradients(buffer: FlatBuffer) -> None:
    """As `average_gradients`, but the sum."""
    init().allreduce(buffer.message, "sum")


class _OverRanks(Op):
    """An op whose kernel asks the other ranks."""

    def kernel(self, array_type: type, suffix: str = "") -> Any:
        return lambda x: init().allreduce(np.array(x), "sum")


# With y = sum over q of x_q on every rank, and L = sum over q of L_q(y), the derivative by x_r is
# the sum over q of dL_q / dy: again a sum over the ranks.
all_sum: Op = _OverRanks(
    "all_sum",
    lambda g, y, x: all_sum(g),
    dtypes="float",
    doc="The sum of x over the ranks, on every rank; gradients flow back to all of them.",
)
