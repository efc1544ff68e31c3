"""The cost model: how long an exchange and a step take on q machines.

An exchange of n bytes between q machines goes around a ring: first each adds up one q-th of the
numbers, then all hand out what they have added up (Patarasuk and Yuan, 2009):

    T(q, n) = 2 (q - 1) alpha + 2 (q - 1) / q * n / B

with the latency alpha in seconds (once for each piece of 4 MB) and the bandwidth B of a machine's
link in bytes per second. What the ranks of a machine do in shared memory is much faster, and left
out. For many machines, MPI has ways with 2 log2(q) latencies (Rabenseifner, 2004); the prediction
takes the smaller. A step takes as long as the slowest of p ranks computes, and
what backward does not hide of the exchange:

    t = compute * (1 + noise * sqrt(2 ln p)) + max(0, T - hidden)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, log, log2, sqrt

import numpy as np

from minitorch_ciml.distributed.gradients import PIECE


@dataclass(frozen=True)
class Network:
    """The links between machines: latency in seconds, bandwidth in bytes per second."""

    alpha: float
    bandwidth: float

    def exchange(self, machines: int, size: float) -> float:
        """Seconds for `size` bytes, around a ring."""
        latencies, volume = terms(machines, size)
        return latencies * self.alpha + volume / self.bandwidth

    def best_exchange(self, machines: int, size: float) -> float:
        """The same, in the better of the two ways."""
        if machines == 1:
            return 0.0
        folded = 0 if log2(machines).is_integer() else 2
        volume = size * (2 * (machines - 1) / machines + folded)
        tree = ceil(size / PIECE) * 2 * ceil(log2(machines)) * self.alpha + volume / self.bandwidth
        return min(tree, self.exchange(machines, size))


def terms(machines: int, size: float) -> tuple[float, float]:
    """How often T has alpha, and how many bytes a link carries."""
    pieces = ceil(size / PIECE)
    return pieces * 2 * (machines - 1), size * 2 * (machines - 1) / machines


def fit(runs: Sequence[tuple[int, float, float]]) -> Network:
    """The network that fits (machines, bytes, seconds) best, by relative squares."""
    rows = np.array([terms(q, n) for q, n, _ in runs])
    seconds = np.array([t for _, _, t in runs])
    scale = np.abs(rows).max(axis=0)
    (alpha, inverse), *_ = np.linalg.lstsq(
        rows / scale / seconds[:, None], np.ones(len(runs)), rcond=None
    )
    return Network(max(0.0, alpha / scale[0]), scale[1] / inverse)


def errors(network: Network, runs: Sequence[tuple[int, float, float]]) -> list[float]:
    """Prediction / measurement - 1 of each run."""
    return [network.exchange(q, n) / t - 1 for q, n, t in runs]


def step(
    network: Network, ranks: int, per_machine: int, size: float, compute: float, hidden: float,
    noise: float = 0.02,
) -> float:  # fmt: skip
    """Seconds of a step.

    Args:
        network: the links.
        ranks, per_machine: all, and those of a machine.
        size: bytes of all gradients.
        compute: seconds that a rank computes.
        hidden: seconds of the exchange that backward hides, at most.
        noise: the spread of the compute times, relative.
    """
    slowest = compute * (1 + noise * sqrt(2 * log(max(ranks, 1))))
    machines = -(-ranks // per_machine)
    return slowest + max(0.0, network.best_exchange(machines, size) - hidden)
