"""Results as a table, as one JSON file, and as a picture of the ratios."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from benchmarks.framework import LEFT_OUT, OURS

GROUPS = {
    "peak": "The machine's peak",
    "a": "(a) CNN", "b": "(b) CIFAR CNN", "c": "(c) MLP", "d": "(d) residual CNN",
    "e": "(e) convolutional autoencoder", "f": "(f) transformer block", "g": "(g) LSTM",
    "h": "(h) toy models", "i": "(i) inference", "j": "(j) kernels", "k": "(k) start-up",
    "l": "(l) scalar engine", "m": "(m) ready-made networks",
}  # fmt: skip


def seconds_text(seconds: float) -> str:
    """A time with three digits and its unit."""
    for factor, unit in ((1, "s"), (1e3, "ms"), (1e6, "us")):
        if seconds * factor >= 1:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def write_json(report: dict[str, Any], folder: Path) -> Path:
    """Writes the report; the file's name tells the date, the processor and the threads."""
    machine = report["machine"]
    cpu = re.sub(r"[^a-z0-9]+", "-", machine["cpu"].lower()).strip("-")
    date = machine["date"][:16].replace(":", "")
    path = folder / f"{date}_{cpu}_{machine['threads']}-threads.json"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=1) + "\n")
    return path


# --- tables -------------------------------------------------------------------------------------


def print_report(report: dict[str, Any]) -> None:
    """Prints all tables."""
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console = Console(width=170)
    machine, peak = report["machine"], report["peak"]
    console.print(
        f"{machine['cpu']} ({', '.join(machine['features'])}), {machine['threads']} threads; "
        f"peak: {peak['flops'] / 1e9:.0f} GFLOP/s, {peak['bytes'] / 1e9:.1f} GB/s; "
        f"load {machine['load']} before, {report['load_after']} after",
        highlight=False,
    )
    for group, title in GROUPS.items():
        rows = [result for result in report["results"] if result["group"] == group]
        if rows:
            console.print(results_table(title, rows))
    if report["startup"]:
        console.print(startup_table(report["startup"]))
    for line in unavailable(report["results"]):
        console.print(line, highlight=False, markup=False)
    for check in report["agreement"]:
        error = check["error"]
        text = "not compared" if error is None else f"the losses differ by {error:.1e} at most"
        console.print(f"{check['name']}: from the same weights, {text}", highlight=False)


def results_table(title: str, results: list[dict[str, Any]]) -> Any:
    """A line per workload: the medians (and spreads), the ratio to the best peer, the peak."""
    from rich.table import Table

    names = list(dict.fromkeys(name for result in results for name in result["frameworks"]))
    table = Table(title=title, title_justify="left")
    table.add_column("workload")
    for name in names:
        table.add_column(name, justify="right")
    table.add_column("best peer / ours", justify="right")
    table.add_column("of peak", justify="right")
    for result in results:
        cells = [_time_cell(result["frameworks"].get(name)) for name in names]
        share = result["frameworks"][OURS].get("share")
        peak = "" if share is None else f"{share:.0%}"
        table.add_row(result["name"] + _rate(result), *cells, _ratio_cell(result), peak)
    return table


def unavailable(results: list[dict[str, Any]]) -> list[str]:
    """A line for everything that could not be measured, with the reason."""
    return [
        f"{result['name']}: {name} ({mode}) is not available: {entry['unavailable']}"
        for result in results
        for name, found in result["frameworks"].items()
        for mode, entry in found.get("modes", {}).items()
        if "unavailable" in entry and entry["unavailable"] != LEFT_OUT
    ]


def _time_cell(framework: dict[str, Any] | None) -> str:
    if framework is None:
        return ""
    if framework["best"] is None:
        return "skipped" if "skipped" in framework else "not available"
    mode = framework["best"]
    found = framework["modes"][mode]["seconds"]
    spread = (found["q3"] - found["q1"]) / found["median"]
    name = "" if mode == "default" else f" {mode}"
    return f"{seconds_text(found['median'])} [dim]{spread:.0%}{name}[/dim]"


def _ratio_cell(result: dict[str, Any]) -> str:
    peer = result["best_peer"]
    if peer is None:
        return ""
    found = result["ratios"][peer]
    colour = "green" if found["median"] >= 1 else "red"
    spread = f"{found['q1']:.2f}-{found['q3']:.2f}"
    return f"[{colour}]{found['median']:.2f}[/{colour}] [dim]{spread} {peer}[/dim]"


def _rate(result: dict[str, Any]) -> str:
    """Nodes per second, where nodes are counted."""
    ours = result["frameworks"][OURS]
    if "nodes" not in result or not ours["best"]:
        return ""
    rate = result["nodes"] / ours["modes"][ours["best"]]["seconds"]["median"]
    return f" ({rate / 1e6:.2f} million nodes/s)"


def startup_table(startup: dict[str, Any]) -> Any:
    """A line per framework: seconds, and megabytes."""
    from rich.table import Table

    columns = {
        "import": "import", "cold": "first step, cold", "warm": "first step, warm",
        "memory_cnn": "memory, CNN", "memory_cifar": "memory, CIFAR CNN",
    }  # fmt: skip
    table = Table(title=GROUPS["k"], title_justify="left")
    for title in ("framework", *columns.values(), "on disk"):
        table.add_column(title, justify="left" if title == "framework" else "right")
    for name, found in startup.items():
        if "skipped" in found:
            table.add_row(name, "skipped")
            continue
        cells = []
        for key in columns:
            median = found[key]["median"]
            megabytes = f"{median / 1e6:.0f} MB"
            cells.append(megabytes if key.startswith("memory") else seconds_text(median))
        table.add_row(name, *cells, f"{sum(found['size'].values()) / 1e6:.0f} MB")
    return table


# --- picture ------------------------------------------------------------------------------------


def draw_ratios(report: dict[str, Any], path: Path) -> list[Path]:
    """Draws the ratios beside the report's file: one picture of models, one of kernels."""
    results = [r for r in report["results"] if r["ratios"] and r["group"] != "peak"]
    kernels = [result for result in results if result["task"] == "kernel"]
    models = [result for result in results if result["task"] != "kernel"]
    pictures = []
    for part, end in ((models, ".svg"), (kernels, "_kernels.svg")):
        if part:
            pictures.append(path.with_name(path.stem + end))
            _draw(part, pictures[-1])
    return pictures


def _draw(results: list[dict[str, Any]], path: Path) -> None:
    """Draws how many times longer each peer takes, on a logarithmic axis."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import FuncFormatter, NullFormatter

    peers = list(dict.fromkeys(peer for result in results for peer in result["ratios"]))
    figure, axes = plt.subplots(figsize=(9, 1.5 + 0.22 * len(results)), layout="constrained")
    for number, peer in enumerate(peers):
        places = [i for i, result in enumerate(results) if peer in result["ratios"]]
        found = [results[i]["ratios"][peer] for i in places]
        medians = [f["median"] for f in found]
        spread = [[f["median"] - f["q1"] for f in found], [f["q3"] - f["median"] for f in found]]
        axes.errorbar(
            medians, places, xerr=spread, fmt="osD^v"[number % 5], markersize=4, capsize=2,
            linewidth=0.8, linestyle="none", label=peer,
        )  # fmt: skip
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_yticks(range(len(results)), [result["name"] for result in results], fontsize=7)
    axes.set_ylim(len(results) - 0.5, -0.5)
    axes.grid(axis="x", which="both", linewidth=0.3)
    axes.set_xlabel("time of the peer / time of minitorch_ciml (right of 1: faster than the peer)")
    figure.legend(loc="outside upper center", ncols=len(peers), fontsize=8)
    figure.savefig(path)
    plt.close(figure)
