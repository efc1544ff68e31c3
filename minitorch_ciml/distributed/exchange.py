"""What is exchanged in a training step: gradients, and sums that gradients flow through."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minitorch_ciml import config
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


# Into so many parts a batch is cut where the result must not depend on the number of ranks.
PARTS = 8


def average_in_fixed_order(buffer: FlatBuffer) -> bool:
    """As `average_gradients`, over `PARTS` parts of the batch, always summed in the same order.

    Each rank does PARTS / size parts in turn. The order is a balanced binary tree over the parts:
    its lower levels are on one rank, the upper ones are swaps between pairs of ranks (recursive
    doubling). a + b is b + a, bit for bit, so both of a pair get the same sum.

    Returns:
        Whether the average is there: False until this rank's last part is done.
    """
    rows = config.part.get()
    buffer.waiting.append(buffer.message.copy())
    if rows is not None and rows.to_come:
        return False
    sums, buffer.waiting = buffer.waiting, []
    while len(sums) > 1:
        sums = [a + b for a, b in zip(sums[::2], sums[1::2])]
    communicator = init()
    total, distance = sums[0], 1
    while distance < communicator.size:
        total = total + communicator.swap(total, communicator.rank ^ distance)
        distance *= 2
    buffer.message[...] = total / PARTS
    return True


def exchange_for_part() -> Callable[[FlatBuffer], bool | None] | None:
    """How gradients are combined in what is being done: None where the batch is not shared."""
    rows = config.part.get()
    if rows is None:
        return None
    return average_gradients if rows.to_come is None else average_in_fixed_order


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
