"""Everything about the GPU with one command: is it right, and how fast is it?

    python -m benchmarks.gpu                      # under 9 minutes on one GPU
    python -m benchmarks.gpu --only matmul models

Every part runs in a process of its own, so that a crash loses that part alone. Peers (PyTorch with
cuBLAS and cuDNN) run in the same process as ours, in turns; what is not installed is left out. The
results go to one file under `benchmarks/results/`, and a table of them comes last.

Without a GPU, `--tiny` runs the same code at tiny sizes in the simulator, to see that it works; its
times mean nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.gpu_parts import PARTS
from benchmarks.machine import ROOT

RESULTS = ROOT / "benchmarks" / "results"
BUDGET = 520.0  # seconds for all parts together

Row = dict[str, Any]


def main(arguments: list[str] | None = None) -> int:
    """Runs the parts, one process each, and writes what they found."""
    options = _parse(arguments)
    if options.part:
        return _run_part(options.part, options.tiny, options.seconds)
    wanted = options.only or list(PARTS)
    began = perf_counter()
    report: dict[str, Any] = {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": platform.node(),
        "tiny": options.tiny,
        "parts": {},
    }
    for i, name in enumerate(wanted):
        left = options.seconds - (perf_counter() - began)
        share = max(10.0, left * PARTS[name].share / sum(PARTS[n].share for n in wanted[i:]))
        print(f"{name} ({share:.0f} s at most) ...", flush=True)
        report["parts"][name] = _in_own_process(name, options.tiny, share)
        _write(options.output, report)  # after every part: what is there is not lost
    print(f"\nThe whole took {perf_counter() - began:.0f} s; written to {options.output}.\n")
    print_table(report)
    return int(any(part.get("error") for part in report["parts"].values()))


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=list(PARTS), help="these parts alone")
    parser.add_argument("--tiny", action="store_true", help="tiny sizes, in the simulator")
    parser.add_argument("--seconds", type=float, default=BUDGET, help="for all parts together")
    parser.add_argument("--output", type=Path, help="the file of the results")
    parser.add_argument("--part", choices=list(PARTS), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.output is None:
        stamp = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H%M")
        options.output = RESULTS / f"{stamp}_gpu.json"
    return options


def _in_own_process(name: str, tiny: bool, seconds: float) -> dict[str, Any]:
    """What the part found: {"rows": [...], "notes": [...]}; or {"error": ...} with what it had."""
    command = [sys.executable, "-m", "benchmarks.gpu", "--part", name, "--seconds", str(seconds)]
    environment = os.environ | {
        "MINITORCH_CIML_SIMULATE_CUDA": "1" if tiny else "0",
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
    }
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as log:
        began = perf_counter()
        process = subprocess.Popen(
            command + ["--tiny"] * tiny, stdout=out, stderr=log, env=environment, cwd=ROOT
        )
        try:
            status = process.wait(seconds * (1 if not tiny else 20) + 30)
            error = None if status == 0 else f"exit status {status}"
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            error = f"not done after {seconds:.0f} s"
        found: dict[str, Any] = {"rows": [], "notes": [], "seconds": perf_counter() - began}
        out.seek(0)
        for line in out:  # one row or note a line: what was printed before a crash counts
            kind, _, rest = line.partition(" ")
            if kind in ("row", "note"):
                found[f"{kind}s"].append(json.loads(rest))
        if error is not None:
            log.seek(0)
            found["error"] = f"{error}: {log.read().strip()[-2000:]}"
            print(f"  failed: {error}", flush=True)
    return found


def _run_part(name: str, tiny: bool, seconds: float) -> int:
    def row(**facts: Any) -> None:
        print("row", json.dumps(facts), flush=True)

    def note(text: str) -> None:
        print("note", json.dumps(text), flush=True)

    PARTS[name].run(row, note, tiny, float("inf") if tiny else perf_counter() + seconds)
    return 0


def _write(path: Path, report: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".tmp")
    draft.write_text(json.dumps(report, indent=1))
    os.replace(draft, path)


# --- the table ----------------------------------------------------------------------------------


def print_table(report: dict[str, Any], show: Callable[[str], None] = print) -> None:
    """A line per row: what, our time, the peers' times over ours, and the share of a limit."""
    for name, part in report["parts"].items():
        show(f"== {name}" + (" (did not end well)" if part.get("error") else ""))
        for text in part["notes"]:
            show(f"   {text}")
        for row in part["rows"]:
            show("   " + _line(row))


def _line(row: Row) -> str:
    cells = [f"{row['what']:<46}"]
    if "seconds" in row:
        cells.append(_time(row["seconds"]))
    for peer, seconds in row.get("peers", {}).items():
        cells.append(f"{peer} {_time(seconds)} ({seconds / row['seconds']:.2f}x)")
    for unit in ("TFLOP/s", "GB/s"):
        if unit in row:
            cells.append(f"{row[unit]:.4g} {unit}")
    if "of_copy" in row:
        cells.append(f"{row['of_copy']:.0%} of a copy")
    if "value" in row:
        cells.append(str(row["value"]))
    return "  ".join(cells)


def _time(seconds: float) -> str:
    for factor, unit in ((1, "s "), (1e3, "ms"), (1e6, "us")):
        if seconds * factor >= 1:
            return f"{seconds * factor:7.2f} {unit}"
    return f"{seconds * 1e9:7.0f} ns"


if __name__ == "__main__":
    sys.exit(main())
