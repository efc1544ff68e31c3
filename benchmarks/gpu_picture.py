"""The newest measurements on a GPU as a picture and a page: what `docs` shows of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.gpu import print_table
from benchmarks.machine import ROOT

RESULTS = ROOT / "benchmarks" / "results"
_SHOWN = ("matmul", "conv", "bandwidth", "models")


def newest(folder: Path = RESULTS) -> dict[str, Any] | None:
    """The last results of `python -m benchmarks.gpu` on a GPU; None if no GPU has measured."""
    for path in sorted(folder.glob("*_gpu.json"), reverse=True):
        report = json.loads(path.read_text())
        if not report["tiny"]:  # those are the simulator's
            return report
    return None


def draw(report: dict[str, Any], path: Path) -> None:
    """A panel for each part: the peers' time over ours; ours is faster right of the line."""
    from matplotlib.figure import Figure

    parts = {name: _ratios(report["parts"].get(name)) for name in _SHOWN}
    parts = {name: rows for name, rows in parts.items() if rows}
    heights = [max(3, len(rows)) for rows in parts.values()]
    figure = Figure(figsize=(9, 1 + 0.3 * sum(heights)), layout="constrained")
    panels = figure.subplots(
        len(parts) or 1, 1, squeeze=False, gridspec_kw={"height_ratios": heights or [1]}
    )
    peers = sorted({peer for rows in parts.values() for found in rows.values() for peer in found})
    colors = {peer: f"C{i}" for i, peer in enumerate(peers)}
    for axes, (name, rows) in zip(panels[:, 0], parts.items()):
        for i, found in enumerate(rows.values()):
            for peer, ratio in found.items():
                axes.plot(ratio, i, "o", color=colors[peer])
        axes.set_xscale("log")
        axes.axvline(1, color="0.5")
        axes.set_yticks(range(len(rows)), list(rows), fontsize=7)
        axes.invert_yaxis()
        axes.set_title(name)
    for peer in peers:
        panels[0, 0].plot([], [], "o", color=colors[peer], label=peer)
    if peers:
        panels[0, 0].legend(fontsize=7)
    panels[-1, 0].set_xlabel("the other's time over ours")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def _ratios(part: dict[str, Any] | None) -> dict[str, dict[str, float]]:
    rows = [] if part is None else part["rows"]
    return {
        row["what"]: {peer: seconds / row["seconds"] for peer, seconds in row["peers"].items()}
        for row in rows
        if row.get("peers")
    }


def page(folder: Path, picture: Path) -> list[str]:
    """The page in reStructuredText, line by line; draws the picture if there is something to show.

    Args:
        folder: where the results are.
        picture: where the picture goes.
    """
    title = ["Measured on a GPU", "=================", ""]
    report = newest(folder)
    if report is None:
        return [
            *title,
            "No GPU has measured this version. What the guide to the GPU says about speed is",
            "predicted; ``python -m minitorch_ciml.kernels.cuda.report --bounds`` says from what.",
            "``python -m benchmarks.gpu`` measures it, in nine minutes on one GPU.", "",
        ]  # fmt: skip
    draw(report, picture)
    table: list[str] = []
    print_table(report, table.append)
    gpu = [row["value"] for part in report["parts"].values() for row in part["rows"]
           if row["what"] == "GPU"]  # fmt: skip
    return [
        *title,
        f"By ``python -m benchmarks.gpu``, on {report['date'][:10]}: {', '.join(gpu)}.", "",
        f".. image:: ../_static/{picture.name}", "", "::", "",
        *(f"   {line}" for line in table), "",
    ]  # fmt: skip
