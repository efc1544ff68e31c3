"""Speed over the number of ranks: `python -m benchmarks.scaling [--ranks 1,2] [--output FILE]`.

Measures, on the course's network: *strong* scaling, which keeps the whole batch, and *weak*
scaling, which keeps the part of each rank; the exchange of gradients alone; and PyTorch's
DistributedDataParallel with gloo beside both. The efficiency is speed / (ranks * speed of one
rank); it can only be near 1 while there is a core for every rank, so the ranks have one thread
each.

With --hosts, also between pretend hosts whose links are limited (see tests/mpi/hosts.py): steps in
which gradients are exchanged after backward or meanwhile, beside steps that exchange nothing; and
the exchange alone: the cost model (`cost.py`) is fitted to some of these runs, checked on the
others, and predicts the speed of up to 4,096 ranks.

--only does a part of this; parts may be added to the same file one after the other.

On a cluster, --launcher is the command that starts ranks, such as "srun --mpi=pmix", and --ranks
may be as many as the job has.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import machine
from benchmarks.scaling import cost, picture, work

SIZES = (1 << 10, 1 << 16, 306_280, 1_200_000, 4 << 20, 25_000_000, 102_000_000)  # bytes
FITTED = tuple((q, (1 << 12, 1 << 20, 1 << 22, 1 << 24)) for q in (2, 4))
HELD_OUT = ((2, (306_280, 3 << 20, 10 << 20)), (3, (1 << 20, 1 << 22)), (4, (3 << 20, 10 << 20)))
PREDICTED = (1, 2, 4, 16, 64, 256, 1024, 4096)
PARTS = ["steps", "exchange", "ways", "network"]
STEPS = 40  # of an epoch
# Where the ways to exchange are compared: (hosts, ranks per host).
PLACES = ((1, 2), (2, 1), (2, 2))
PER_MACHINE = 8  # ranks
# An assumption, not measured here: the links of a common cluster.
CLUSTER = cost.Network(alpha=3e-6, bandwidth=12.5e9)
LARGE = 102_000_000  # bytes: 25.5 million parameters, as ResNet-50 has
LARGE_SECONDS = 0.3  # of its step, an assumption

ROOT = Path(__file__).parent.parent.parent
# By default MPICH takes other ways for other sizes and numbers, for three machines twice as long.
RING = {"MPIR_CVAR_ALLREDUCE_INTRA_ALGORITHM": "ring"}
ONE_THREAD = {"NUMBA_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


def main(arguments: list[str] | None = None) -> None:
    """Runs the ranks, prints tables, and writes a JSON file and a picture."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__)
    parser.add_argument("--ranks", default="1,2", help="the numbers of ranks, with commas")
    parser.add_argument("--batch", type=int, default=128, help="the whole batch; weak: of one rank")
    parser.add_argument("--launcher", default="mpirun", help="with its options, but without -n")
    parser.add_argument("--no-peer", action="store_true", help="leave PyTorch out")
    parser.add_argument("--hosts", action="store_true", help="also between pretend hosts")
    parser.add_argument("--rate", default="1gbit", help="of the pretend hosts' links")
    parser.add_argument("--rounds", type=int, default=5, help="of steps between pretend hosts")
    parser.add_argument("--only", choices=PARTS, action="append", help="a part; may be repeated")
    parser.add_argument("--output", type=Path, help="a JSON file to write, or to add to")
    options = parser.parse_args(arguments)
    ranks = [int(n) for n in options.ranks.split(",")]
    parts = options.only or (PARTS if options.hosts else PARTS[:2])
    report: dict[str, Any] = {}
    if options.output and options.output.exists():
        report = json.loads(options.output.read_text())
    report |= {"machine": machine.describe(1), "batch": options.batch}
    if "steps" in parts:
        report["steps"] = _steps(options, ranks)
    if "exchange" in parts:
        # With a core for each rank; MPI's waiting would be measured otherwise.
        fitting = [n for n in ranks if n <= len(machine.cores())]
        report["exchange"] = _exchange(options, max(fitting))
    if "ways" in parts:
        report["ways"] = _ways(options)
    if "network" in parts:
        report["network"] = _network(options)
    if "steps" in report and "network" in report:
        report["prediction"] = _prediction(report)
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(report, indent=1) + "\n")
        if "steps" in report and "exchange" in report:
            picture.draw(report, options.output.with_suffix(".svg"))


def _steps(options: argparse.Namespace, ranks: list[int]) -> list[dict[str, Any]]:
    rows = []
    print(f"{'scaling':8}{'ranks':>6}{'batch':>7}{'ms/step':>9}{'images/s':>10}{'efficiency':>11}"
          f"{'exchange':>10}{'wait':>7}{'DDP ms':>8}")  # fmt: skip
    for scaling in ("strong", "weak"):
        base = None
        for n in ranks:
            batch = options.batch * (n if scaling == "weak" else 1)
            row = {"scaling": scaling, "ranks": n, "batch": batch}
            row |= _ranks(options, n, "step", batch, STEPS)
            if not options.no_peer:
                row["peer"] = _peer(n, "step", batch, STEPS)["seconds"]
            speed = batch / row["seconds"]
            base = base or speed / n
            row["efficiency"] = speed / n / base
            rows.append(row)
            print(f"{scaling:8}{n:6}{batch:7}{1e3 * row['seconds']:9.2f}{speed:10.0f}"
                  f"{row['efficiency']:11.2f}{1e3 * row.get('exchange', 0):10.2f}"
                  f"{1e3 * row.get('wait', 0):7.2f}{1e3 * row.get('peer', 0):8.2f}")  # fmt: skip
    return rows


def _exchange(options: argparse.Namespace, n: int) -> list[dict[str, Any]]:
    sizes = ",".join(map(str, SIZES))
    rows = _ranks(options, n, "exchange", sizes)
    peers = [None] * len(rows) if options.no_peer else _peer(n, "exchange", sizes)
    print(f"\nthe exchange alone, {n} ranks\n{'bytes':>12}{'us':>10}{'gloo us':>10}{'ratio':>7}")
    for row, peer in zip(rows, peers):
        row["ranks"] = n
        text = f"{row['bytes']:12}{1e6 * row['seconds']:10.0f}"
        if peer is not None:
            row["peer"] = peer["seconds"]
            text += f"{1e6 * peer['seconds']:10.0f}{peer['seconds'] / row['seconds']:7.1f}"
        print(text)
    return rows


def _ways(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Steps on one host and between two, in every way; with this batch, and this batch per rank."""
    rows = []
    print(f"\n{'hosts':>5}{'ranks':>6}{'batch':>6}{'per rank':>9}{'apart ms':>9}"
          + "".join(f"{way:>17}" for way in work.WAYS if way != "apart"))  # fmt: skip
    for hosts, slots in PLACES:
        n = hosts * slots
        for batch in (options.batch, options.batch * n):
            how = ("ways", batch, STEPS, options.rounds)
            row = _ranks(options, n, *how) if hosts == 1 else _on_hosts(
                options, hosts, slots, n, *how)  # fmt: skip
            row = {"hosts": hosts, "ranks": n, "batch": batch, "batch_per_rank": batch / n} | row
            row["median"] = {way: median(seconds) for way, seconds in row["seconds"].items()}
            apart, *others = row["median"].values()
            texts = (f"{1e3 * seconds:.2f} ({apart / seconds:.2f})" for seconds in others)
            print(f"{hosts:5}{n:6}{batch:6}{batch / n:9.0f}{1e3 * apart:9.2f}"
                  + "".join(f"{text:>17}" for text in texts))  # fmt: skip
            rows.append(row)
    return rows


def _network(options: argparse.Namespace) -> dict[str, Any]:
    """The exchange between pretend hosts, one rank on each; the fit, and how good it is."""

    def runs(plan: tuple) -> list[tuple[int, float, float]]:
        return [
            (hosts, row["bytes"], row["seconds"])
            for hosts, sizes in plan
            for row in _on_hosts(
                options, hosts, 1, hosts, "exchange", ",".join(map(str, sizes))
            )
        ]  # fmt: skip

    fitted, held_out = runs(FITTED), runs(HELD_OUT)
    network = cost.fit(fitted)
    print(
        f"\nthe network: alpha {1e6 * network.alpha:.0f} us, B {network.bandwidth / 1e6:.0f} MB/s"
    )
    print(f"{'machines':>8}{'bytes':>10}{'ms':>9}{'model':>9}{'error':>8}")
    for kind, measured in (("fitted", fitted), ("not fitted", held_out)):
        for (q, n, t), error in zip(measured, cost.errors(network, measured)):
            model = 1e3 * network.exchange(q, n)
            print(f"{q:8}{n:10}{1e3 * t:9.2f}{model:9.2f}{error:8.1%}  {kind}")
    return {
        "rate": options.rate, "alpha": network.alpha, "bandwidth": network.bandwidth,
        "fitted": fitted, "held_out": held_out,
        "largest_error": max(map(abs, cost.errors(network, held_out))),
    }  # fmt: skip


def _prediction(report: dict[str, Any]) -> list[dict[str, Any]]:
    """The efficiency of weak scaling with more ranks than there are here.

    From "nothing is hidden" (blocking) to "backward hides what it can" (it takes half of the step).
    """
    one = next(row for row in report["steps"] if row["ranks"] == 1)
    size = 4 * one["parameters"]
    measured = cost.Network(report["network"]["alpha"], report["network"]["bandwidth"])
    cases = (
        ("CNN, this network", measured, size, one["seconds"]),
        ("CNN, cluster", CLUSTER, size, one["seconds"]),
        ("102 MB, cluster", CLUSTER, LARGE, LARGE_SECONDS),
    )
    rows = []
    print(f"\nefficiency of weak scaling, predicted: blocking to overlapped, {PER_MACHINE} ranks "
          f"per machine\n{'ranks':>6}" + "".join(f"{case[0]:>20}" for case in cases))  # fmt: skip
    for p in PREDICTED:
        row: dict[str, Any] = {"ranks": p}
        for name, network, n, seconds in cases:
            row[name] = [
                seconds / cost.step(network, p, PER_MACHINE, n, seconds, hidden)
                for hidden in (0.0, seconds / 2)
            ]
        rows.append(row)
        texts = (f"{row[case[0]][0]:.2f} to {row[case[0]][1]:.2f}" for case in cases)
        print(f"{p:6}" + "".join(f"{text:>20}" for text in texts))
    return rows


# --- starting ranks -------------------------------------------------------------------------------


def _run(command: list[str], environment: dict[str, str] | None = None) -> Any:
    path = str(Path(sys.executable).parent) + os.pathsep + os.environ["PATH"]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=900, cwd=ROOT,
        env={**os.environ, **ONE_THREAD, "PATH": path, **(environment or {})},
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{shlex.join(command)} failed:\n{done.stderr}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def _ranks(options: argparse.Namespace, n: int, *work: Any) -> Any:
    program = [sys.executable, "-m", "benchmarks.scaling.work", *map(str, work)]
    return _run([*shlex.split(options.launcher), "-n", str(n), *program] if n > 1 else program)


def _peer(n: int, *work: Any) -> Any:
    program = [sys.executable, "-m", "benchmarks.scaling.peer", str(n)]
    return _run([*program, *map(str, work)])


def _on_hosts(
    options: argparse.Namespace, hosts: int, slots: int, n: int, *work: Any, rate: bool = True
) -> Any:
    """On pretend hosts, with MPICH's mpirun."""
    variables = [f"{k}={v}" for k, v in (ONE_THREAD | RING).items()]
    program = ["env", f"PYTHONPATH={ROOT}", *variables, sys.executable, "-m",
               "benchmarks.scaling.work", *map(str, work)]  # fmt: skip
    inner = (
        f'{options.launcher} -f "$PRETEND_HOSTFILE" -launcher ssh -launcher-exec "$PRETEND_RSH" '
        f"-iface eth0 -n {n} {shlex.join(program)}"
    )
    tool = str(ROOT / "tests" / "mpi" / "hosts.py")
    command = [sys.executable, tool, str(hosts), str(slots), "sh", "-c", inner]
    return _run(command, {"RATE": options.rate} if rate else {})


if __name__ == "__main__":
    main()
