"""Everything about the GPU with one command: is it right, and how fast is it?

    python -m benchmarks.gpu                      # under 9 minutes on one GPU
    python -m benchmarks.gpu --seconds 240        # less of each part
    python -m benchmarks.gpu --only prepare matmul models

What matters most comes first. Every part runs in a process of its own, so that a crash, or a
kernel that never ends, loses that part alone. Peers (PyTorch with cuBLAS and cuDNN) run in the same
process as ours, in turns; what is not installed is left out. The results go to one file under
`benchmarks/results/`, while they come, and a table of them comes last.

Without a GPU, `--tiny` runs the same code at tiny sizes in the simulator, to see that it works; its
times mean nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.gpu_parts import PARTS
from benchmarks.machine import ROOT

RESULTS = ROOT / "benchmarks" / "results"
BUDGET = 520.0  # seconds for all parts together
_GRACE = 30.0  # seconds that a part may take beyond its share, for what it has begun
_LOOK = 5.0  # seconds after which the file of results is written again

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
        found: dict[str, Any] = {"rows": [], "notes": [], "seconds": 0.0}
        report["parts"][name] = found
        for _ in _in_own_process(name, options.tiny, share, found):
            _write(options.output, report)  # all the time: what is there is not lost
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


def _in_own_process(name: str, tiny: bool, seconds: float, found: dict[str, Any]) -> Iterator[None]:
    """Puts what the part tells into `found`, and goes on whenever there is more of it.

    If it fails, `found["error"]` says why.
    """
    command = [sys.executable, "-m", "benchmarks.gpu", "--part", name, "--seconds", str(seconds)]
    environment = os.environ | {
        "MINITORCH_CIML_SIMULATE_CUDA": "1" if tiny else "0",
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
    }
    limit = seconds * (20 if tiny else 1) + _GRACE
    with tempfile.NamedTemporaryFile("w") as out, tempfile.TemporaryFile("w+") as log:
        began = perf_counter()
        process = subprocess.Popen(
            command + ["--tiny"] * tiny, stdout=out, stderr=log, env=environment, cwd=ROOT,
            start_new_session=True,
        )  # fmt: skip
        error = None
        while True:
            try:
                status = process.wait(_LOOK)
                error = None if status == 0 else f"exit status {status}"
                break
            except subprocess.TimeoutExpired:
                found |= _told(Path(out.name)) | {"seconds": perf_counter() - began}
                yield
            if perf_counter() - began > limit:
                os.killpg(process.pid, signal.SIGKILL)  # and what it has started
                process.wait()
                error = f"not done after {limit:.0f} s"
                break
        found |= _told(Path(out.name)) | {"seconds": perf_counter() - began}
        if error is not None:
            log.seek(0)
            found["error"] = f"{error}: {log.read().strip()[-2000:]}"
            print(f"  failed: {error}", flush=True)
        yield


def _told(path: Path) -> dict[str, list]:
    """One row or note a line, so far: what was printed before a crash counts."""
    found: dict[str, list] = {"rows": [], "notes": []}
    for line in path.read_text().splitlines(keepends=True):
        kind, _, rest = line.partition(" ")
        if kind in ("row", "note") and line.endswith("\n"):
            found[f"{kind}s"].append(json.loads(rest))
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
