"""Measures workloads: all frameworks in turn, round by round, so that noise hits them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from benchmarks import scalar_mlp
from benchmarks.framework import LEFT_OUT, OURS, missing
from benchmarks.machine import environment
from benchmarks.summary import best_mode, ratio, share_of_peak, summarise
from benchmarks.worker import Worker, WorkerError
from benchmarks.workloads import PEAK, Workload

# Threads that have just worked may spin for a while: OpenMP's, XLA's, and OpenBLAS' for up to
# 2^26 cycles, 26 ms or less. The next worker gets the cores when they sleep.
SETTLE = 0.03


@dataclass(frozen=True)
class Settings:
    """How long and how often to measure.

    Attributes:
        rounds: how many times every contestant is measured.
        seconds: how long each of these takes at least.
        compiled: whether `torch.compile` is among PyTorch's modes; it takes a minute per model,
            and a C++ compiler.
        threads: of every worker.
    """

    rounds: int = 15
    seconds: float = 0.5
    compiled: bool = True
    threads: int = 1

    @classmethod
    def quick(cls, threads: int) -> Settings:
        """Some ten minutes for everything; the numbers are rough."""
        return cls(rounds=5, seconds=0.05, compiled=False, threads=threads)


@dataclass
class Contestant:
    """A framework in one of its modes, with what was measured."""

    worker: Worker
    mode: str
    units: int
    first: float
    samples: list[float]

    def measure(self) -> float:
        """The seconds for `units` of work."""
        time.sleep(SETTLE)
        return self.worker.ask("run", mode=self.mode, units=self.units)


@contextmanager
def crew(names: list[str], settings: Settings) -> Iterator[dict[str, Worker]]:
    """A worker for each framework that is installed; they end with the block."""
    variables = environment(settings.threads)
    workers = {name: Worker(name, variables) for name in names if not missing(name)}
    try:
        yield workers
    finally:
        for worker in workers.values():
            worker.close()


def run_group(
    workloads: list[Workload], settings: Settings, say: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Measures workloads of one group with one process per framework; returns a result for each."""
    peers = dict.fromkeys(peer for workload in workloads for peer in workload.peers)
    with crew([OURS, *peers], settings) as workers:
        results = []
        for workload in workloads:
            say(workload.name)
            results.append(run_workload(workload, workers, settings))
            for name, worker in workers.items():
                if not worker.alive:  # the next workload gets a new one
                    worker.close()
                    workers[name] = Worker(name, environment(settings.threads))
        return results


def run_workload(
    workload: Workload, workers: dict[str, Worker], settings: Settings
) -> dict[str, Any]:
    """Builds the workload in every framework, warms up, and measures in turn."""
    frameworks: dict[str, dict[str, Any]] = {}
    contestants: list[tuple[dict[str, Any], Contestant]] = []
    for name in (OURS, *workload.peers):
        if name not in workers:
            frameworks[name] = {"skipped": f"{missing(name)} is not installed"}
            continue
        modes, ready = _prepare(workload, workers[name], settings)
        frameworks[name] = {"modes": modes}
        contestants += [(modes[c.mode], c) for c in ready]
    for number in range(settings.rounds):
        start = number % max(1, len(contestants))
        for entry, contestant in contestants[start:] + contestants[:start]:
            try:
                seconds = contestant.measure() / contestant.units / workload.steps
                contestant.samples.append(seconds)
            except WorkerError as error:
                entry["unavailable"] = str(error)
    for entry, contestant in contestants:
        if "unavailable" in entry:
            continue
        entry["seconds"] = summarise(contestant.samples)
        entry["samples"] = contestant.samples
        entry["first"] = contestant.first
    for worker in workers.values():
        if worker.alive:
            worker.ask("drop")
    return _result(workload, frameworks)


def _prepare(
    workload: Workload, worker: Worker, settings: Settings
) -> tuple[dict[str, Any], list[Contestant]]:
    """The entries of all modes, and the contestants among them that could be built."""
    try:
        modes = worker.ask("modes", workload=workload.name)
    except WorkerError as error:
        return {"default": {"unavailable": str(error)}}, []
    entries: dict[str, Any] = {mode: {} for mode in modes}
    ready = []
    for mode in modes:
        if mode.startswith("compile") and not settings.compiled:
            entries[mode]["unavailable"] = LEFT_OUT
            continue
        try:
            first = worker.ask("build", workload=workload.name, mode=mode)
            contestant = Contestant(worker, mode, 1, first, [])
            _calibrate(contestant, settings.seconds)
            ready.append(contestant)
        except WorkerError as error:
            entries[mode]["unavailable"] = str(error)
    return entries, ready


def _calibrate(contestant: Contestant, seconds: float) -> None:
    """Finds how many units take that long; this is the warm-up too."""
    taken = contestant.measure()
    while taken < seconds:
        growth = min(100.0, 1.2 * seconds / max(taken, 1e-9))
        contestant.units = max(contestant.units + 1, int(contestant.units * growth))
        taken = contestant.measure()


def _result(workload: Workload, frameworks: dict[str, Any]) -> dict[str, Any]:
    """The result of a workload: everybody's times, and the ratios to ours."""
    result: dict[str, Any] = {
        "name": workload.name, "group": workload.group, "task": workload.task,
        "model": workload.model, "flop": workload.flop, "bytes": workload.bytes,
        "frameworks": frameworks,
    }  # fmt: skip
    if workload.task == "scalar":
        result["nodes"] = scalar_mlp.nodes()
    for entry in frameworks.values():
        entry["best"] = best_mode(entry.get("modes", {}))
    ours = _samples(frameworks[OURS])
    ratios = {
        name: ratio(_samples(frameworks[name]), ours)
        for name in workload.peers
        if ours and _samples(frameworks[name])
    }
    result["ratios"] = ratios
    result["best_peer"] = min(ratios, key=lambda n: ratios[n]["median"]) if ratios else None
    return result


def _samples(framework: dict[str, Any]) -> list[float]:
    best = framework["best"]
    return framework["modes"][best]["samples"] if best else []


# --- the machine's peak, and whether all compute the same -----------------------------------------


def measure_peak(settings: Settings) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """The most "flops" and "bytes" per second that any framework reached, and the results."""
    results = run_group(PEAK, settings, lambda name: None)
    product, copy = (_least_seconds(result) for result in results)
    return {"flops": PEAK[0].flop / product, "bytes": PEAK[1].bytes / copy}, results


def _least_seconds(result: dict[str, Any]) -> float:
    modes = [m for f in result["frameworks"].values() for m in f.get("modes", {}).values()]
    return min(m["seconds"]["least"] for m in modes if "seconds" in m)


def higher(first: dict[str, float], second: dict[str, float]) -> dict[str, float]:
    """The higher of two measurements of the peak: a disturbance only lowers it."""
    return {key: max(first[key], second[key]) for key in first}


def add_shares(results: list[dict[str, Any]], peak: dict[str, float]) -> None:
    """Adds "share": the part of the measured peak that each framework's best mode reaches."""
    for result in results:
        if not result["flop"] and not result["bytes"]:
            continue
        for entry in result["frameworks"].values():
            if entry["best"]:
                seconds = entry["modes"][entry["best"]]["seconds"]["median"]
                entry["share"] = share_of_peak(result["flop"], result["bytes"], seconds, peak)


def compare_losses(
    workloads: list[Workload], peers: list[str], settings: Settings, steps: int = 5
) -> list[dict[str, Any]]:
    """The losses of the first steps from the same weights: whether all do the same thing."""
    found = []
    with crew([OURS, *(peer for peer in peers if peer != "closures")], settings) as workers:
        for workload in workloads:
            losses: dict[str, Any] = {}
            for name, worker in workers.items():
                try:
                    losses[name] = worker.ask("losses", workload=workload.name, steps=steps)
                except WorkerError as error:
                    losses[name] = str(error)
            found.append({"name": workload.name, "losses": losses, "error": _error(losses)})
    return found


def _error(losses: dict[str, Any]) -> float | None:
    """The largest relative difference to ours, over all frameworks and steps."""
    ours = losses[OURS]
    others = [found for name, found in losses.items() if name != OURS]
    if isinstance(ours, str):
        return None
    differences = [
        abs(a - b) / abs(b) for found in others if not isinstance(found, str)
        for a, b in zip(found, ours)
    ]  # fmt: skip
    return max(differences, default=None)
