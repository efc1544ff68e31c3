"""Sums over the ranks: gradients in a fixed order, and sums that gradients flow through."""

from __future__ import annotations

from typing import Any

import numpy as np

from minitorch_ciml import config
from minitorch_ciml.autograd.engine import Op
from minitorch_ciml.autograd.flat import FlatBuffer
from minitorch_ciml.distributed import interruption
from minitorch_ciml.distributed.communicator import init

# Into so many parts a batch is cut where the result must not depend on the number of ranks.
PARTS = 8


def average_in_fixed_order(buffers: list[FlatBuffer], gradients: list[list]) -> bool:
    """As `GradientExchange`, over `PARTS` parts of the batch, always summed in the same order.

    Each rank does PARTS / size parts in turn. The order is a balanced binary tree over the parts:
    its lower levels are on one rank, the upper ones are swaps between pairs of ranks (recursive
    doubling). a + b is b + a, bit for bit, so both of a pair get the same sum.

    Returns:
        Whether the average is there: False until this rank's last part is done.
    """
    for buffer, own in zip(buffers, gradients):
        absent = buffer.gather(own)
        buffer.present[...] = 1
        buffer.present[absent] = 0
        buffer.flag[...] = interruption.requested()
        buffer.waiting.append(buffer.message.copy())
    rows = config.part.get()
    if rows is not None and rows.to_come:
        return False
    for buffer in buffers:
        buffer.message[...] = _sum_in_tree(buffer.waiting) / PARTS
        buffer.waiting = []
    interruption.agree(buffers[0].flag[0] > 0)
    return True


def _sum_in_tree(sums: list[np.ndarray]) -> np.ndarray:
    while len(sums) > 1:
        sums = [a + b for a, b in zip(sums[::2], sums[1::2])]
    communicator = init()
    total, distance = sums[0], 1
    while distance < communicator.size:
        total = total + communicator.swap(total, communicator.rank ^ distance)
        distance *= 2
    return total


def _over_ranks(x: Any) -> np.ndarray:
    return init().allreduce(np.array(x), "sum")


# With y = sum over q of x_q on every rank, and L = sum over q of L_q(y), the derivative by x_r is
# the sum over q of dL_q / dy: again a sum over the ranks.
all_sum: Op = Op(
    "all_sum",
    lambda g, y, x: all_sum(g),
    kernel=_over_ranks,
    dtypes="float",
    doc="The sum of x over the ranks, on every rank; gradients flow back to all of them.",
)
