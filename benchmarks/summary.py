"""Statistics of repeated measurements: medians and quartiles, and ratios round by round."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def summarise(samples: Sequence[float]) -> dict[str, float]:
    """The median, the quartiles, the least, and how many there are."""
    low, median, high = np.percentile(samples, (25, 50, 75))
    return {
        "median": float(median), "q1": float(low), "q3": float(high),
        "least": float(min(samples)), "rounds": len(samples),
    }  # fmt: skip


def best_mode(modes: dict[str, Any]) -> str | None:
    """The mode with the least median time, or None if none could be measured."""
    measured = {m: entry["seconds"]["median"] for m, entry in modes.items() if "seconds" in entry}
    return min(measured, key=measured.__getitem__) if measured else None


def ratio(peer: Sequence[float], ours: Sequence[float]) -> dict[str, float]:
    """How many times longer the peer takes, from times of the same rounds.

    Both have met the same disturbances in a round, so their ratio varies less than their times.
    """
    return summarise([p / o for p, o in zip(peer, ours)])


def share_of_peak(flop: float, volume: float, seconds: float, peak: dict[str, float]) -> float:
    """The time that the machine's peak allows, over the time taken (the roofline).

    Args:
        flop: the arithmetic.
        volume: the bytes that must be moved.
        seconds: the time taken.
        peak: "flops" and "bytes" per second, as measured.
    """
    return max(flop / peak["flops"], volume / peak["bytes"]) / seconds
