"""The command: `python -m benchmarks [--quick [--compile]] [--only a,...] [--peers torch,...]
[--threads N] [--output FOLDER]`.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from benchmarks import machine, report, startup
from benchmarks.framework import FRAMEWORKS, OURS, missing
from benchmarks.runner import (
    Settings,
    add_shares,
    compare_losses,
    higher,
    measure_peak,
    run_group,
)
from benchmarks.workloads import WORKLOADS, Workload

RESULTS = Path(__file__).parent / "results"
PEERS = [name for name in FRAMEWORKS if name != OURS]
COMPARED = (
    "CNN, batch 32, step", "CNN, batch 128, step", "CIFAR CNN, batch 256, step",
    "MLP, batch 128, step", "residual CNN, batch 64, step", "autoencoder, batch 64, step",
)  # fmt: skip


def main(arguments: list[str] | None = None) -> None:
    """Measures, prints tables, and writes a JSON file and a picture."""
    options = _parser().parse_args(arguments)
    wanted = _groups(options.only)
    peers = _peers(options.peers)
    settings = Settings(threads=options.threads)
    if options.quick:
        settings = replace(Settings.quick(options.threads), compiled=options.compile)
    for name in peers:
        if missing(name):
            print(f"{name} is skipped: {missing(name)} is not installed")
    chosen = [w for w in WORKLOADS if w.group in wanted and (w.quick or not options.quick)]
    chosen = [replace(w, peers=tuple(p for p in w.peers if p in peers)) for w in chosen]
    found = measure(chosen, settings, peers, with_startup="k" in wanted)
    path = report.write_json(found, options.output)
    report.print_report(found)
    for picture in report.draw_ratios(found, path):
        print(picture)
    print(path)


def measure(
    chosen: list[Workload], settings: Settings, peers: list[str], with_startup: bool
) -> dict[str, Any]:
    """The report on these workloads, which are sorted by group."""
    found: dict[str, Any] = {
        "machine": machine.describe(settings.threads), "settings": asdict(settings),
    }  # fmt: skip
    _say("peak")
    found["peak"], results = measure_peak(settings)
    for _, members in groupby(chosen, lambda workload: workload.group):
        results += run_group(list(members), settings, _say)
    found["startup"] = startup.measure(settings, peers, _say) if with_startup else {}
    compared = [workload for workload in chosen if workload.name in COMPARED]
    found["agreement"] = compare_losses(compared, peers, settings) if compared else []
    _say("peak")
    found["peak"] = higher(found["peak"], measure_peak(settings)[0])
    add_shares(results, found["peak"])
    found["results"] = results
    found["load_after"] = machine.load()
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure minitorch_ciml beside PyTorch, JAX and Keras, in turn, in one run.",
    )
    parser.add_argument("--quick", action="store_true", help="some ten minutes; rough numbers")
    parser.add_argument(
        "--compile", action="store_true",
        help="torch.compile in a quick run too: minutes per model; needs a C++ compiler",
    )  # fmt: skip
    letters = "; ".join(title for title in report.GROUPS.values() if title.startswith("("))
    parser.add_argument("--only", default="", metavar="a,b,...", help=f"only these: {letters}")
    parser.add_argument(
        "--peers", default="", metavar="NAME,...",
        help=f"only beside these: {', '.join(PEERS)}",
    )  # fmt: skip
    parser.add_argument(
        "--threads", type=int, default=len(machine.cores()), metavar="N",
        help="threads of every framework (default: the cores that may be used)",
    )  # fmt: skip
    parser.add_argument(
        "--output", type=Path, default=RESULTS, metavar="FOLDER", help=f"default: {RESULTS.name}/"
    )
    return parser


def _groups(text: str) -> list[str]:
    known = [group for group in report.GROUPS if group != "peak"]
    wanted = [part.strip() for part in text.split(",") if part.strip()] or known
    for group in wanted:
        if group not in known:
            raise SystemExit(f"--only: there is no {group!r}; expected some of {','.join(known)}.")
    return wanted


def _peers(text: str) -> list[str]:
    wanted = [part.strip() for part in text.split(",") if part.strip()] or PEERS
    for peer in wanted:
        if peer not in PEERS:
            raise SystemExit(f"--peers: there is no {peer!r}; expected some of {','.join(PEERS)}.")
    return wanted


def _say(text: str) -> None:
    print(f"... {text}", flush=True)


if __name__ == "__main__":
    main()
