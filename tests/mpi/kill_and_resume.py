"""Kills a training at random moments and starts it again, until it ends; many times.

    python tests/mpi/kill_and_resume.py [--runs 50] [--seed 0]

The weights must be those of a training that was not interrupted. Each life has 1, 2 or 3 ranks, and
ends by SIGKILL of one rank or SIGUSR1 to all of them.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

SCRIPT = Path(__file__).with_name("resumed.py")
LIVES = 3  # so often a training is killed at most
LIMIT = 60  # seconds in which a life must end


def start(launcher, python, folder, ranks):
    """The launched job."""
    environment = {**os.environ, "PYTHONPATH": str(SCRIPT.parent.parent.parent)}
    for file in folder.glob("pid.*"):
        file.unlink()
    return subprocess.Popen(
        [*launcher, "-n", str(ranks), python, str(SCRIPT), str(folder)], env=environment,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def pids(folder):
    return [int(text) for f in folder.glob("pid.*") if (text := f.read_text())]


def one_run(launcher, python, dice, reference):
    """One training with its deaths; the largest relative error of its weights, and its lives."""
    folder = Path(tempfile.mkdtemp(prefix="resumed."))
    lives = []
    try:
        for life in range(LIVES + 1):
            ranks = dice.randint(1, 3)
            job = start(launcher, python, folder, ranks)
            deadline = time.monotonic() + LIMIT
            if life < LIVES:
                while len(pids(folder)) < ranks and time.monotonic() < deadline:
                    time.sleep(0.02)
                time.sleep(dice.uniform(0.0, 2.5))
                how = dice.choice([signal.SIGKILL, signal.SIGUSR1])
                for pid in pids(folder) if how == signal.SIGUSR1 else [dice.choice(pids(folder))]:
                    try:
                        os.kill(pid, how)
                    except ProcessLookupError:
                        pass
            _, errors = job.communicate(timeout=max(1, deadline - time.monotonic()))
            lives.append(f"{ranks}:{job.returncode}")
            if (folder / "weights.npz").exists():
                break
        else:
            raise RuntimeError(f"the last life did not end well ({lives}): {errors}")
        found = np.load(folder / "weights.npz")
        error = max(
            np.abs(found[k] - reference[k]).max() / np.abs(reference[k]).max() for k in reference
        )
        return error, lives
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def uninterrupted(launcher, python):
    """The weights of a training that nobody kills."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _, errors = start(launcher, python, folder, 1).communicate(timeout=LIMIT)
        if not (folder / "weights.npz").exists():
            raise RuntimeError(errors)
        return dict(np.load(folder / "weights.npz"))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--launcher", default="mpirun", help="with its options")
    options = parser.parse_args()
    launcher = options.launcher.split()
    reference = uninterrupted(launcher, sys.executable)
    dice = random.Random(options.seed)
    worst, deaths = 0.0, 0
    for run in range(options.runs):
        error, lives = one_run(launcher, sys.executable, dice, reference)
        worst, deaths = max(worst, error), deaths + len(lives) - 1
        print(f"run {run + 1}: ranks:status {' '.join(lives)}, error {error:.1e}", flush=True)
    print(f"{options.runs} runs, {deaths} interruptions survived, largest error {worst:.1e}")
    sys.exit(int(worst > 1e-12))


if __name__ == "__main__":
    main()
