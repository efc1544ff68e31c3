"""Draws the cost model's prediction with the measurements."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.scaling import cost


def draw(report: dict[str, Any], path: Path) -> None:
    """Two panels: seconds of an exchange over its size, and efficiency over the ranks."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    _exchanges(left, report)
    _efficiencies(right, report)
    figure.savefig(path)
    plt.close(figure)


def _exchanges(axes: Any, report: dict[str, Any]) -> None:
    sizes = [row["bytes"] / 1e6 for row in report["exchange"]]
    ranks = report["exchange"][0]["ranks"]
    axes.loglog(sizes, [row["seconds"] * 1e3 for row in report["exchange"]], "o-",
                label=f"{ranks} ranks of one machine")  # fmt: skip
    if "peer" in report["exchange"][0]:
        axes.loglog(sizes, [row["peer"] * 1e3 for row in report["exchange"]], "x-",
                    label="the same, PyTorch with gloo")  # fmt: skip
    if network := report.get("network"):
        model = cost.Network(network["alpha"], network["bandwidth"])
        runs = network["fitted"] + network["held_out"]
        for q in sorted({run[0] for run in runs}):
            color = f"C{q}"
            ends = [min(n for _, n, _ in runs), max(n for _, n, _ in runs)]
            grid = [ends[0] * (ends[1] / ends[0]) ** (i / 40) for i in range(41)]
            axes.loglog([n / 1e6 for n in grid], [1e3 * model.exchange(q, n) for n in grid],
                        "-", color=color, lw=1, label=f"{q} machines, model")  # fmt: skip
            for kind, marker in (("fitted", "o"), ("held_out", "s")):
                points = [(n / 1e6, 1e3 * t) for m, n, t in network[kind] if m == q]
                axes.loglog(
                    *zip(*points),
                    marker,
                    color=color,
                    ls="",
                    mfc=color if kind == "fitted" else "none",
                ) if points else None
    axes.set(xlabel="gradients in MB", ylabel="ms", title="The exchange alone")
    axes.legend(fontsize=8)


def _efficiencies(axes: Any, report: dict[str, Any]) -> None:
    for scaling, marker in (("strong", "o"), ("weak", "s")):
        rows = [row for row in report["steps"] if row["scaling"] == scaling]
        axes.semilogx([row["ranks"] for row in rows], [row["efficiency"] for row in rows],
                      marker + "-", base=2, label=f"{scaling} scaling, measured")  # fmt: skip
    rows = report.get("prediction", [])
    ranks = [row["ranks"] for row in rows]
    for number, name in enumerate(k for k in (rows[0] if rows else {}) if k != "ranks"):
        low, high = zip(*(row[name] for row in rows))
        axes.fill_between(ranks, low, high, alpha=0.3, color=f"C{number + 2}",
                          label=f"{name}, predicted")  # fmt: skip
    axes.set(xlabel="ranks", ylabel="efficiency", ylim=(0, 1.1), title="Scaling")
    axes.legend(fontsize=8)
