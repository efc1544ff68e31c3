"""Ranks on several machines, which are namespaces of this one: results, and what may happen."""

import os
import re
import subprocess
import sys
import time

import pytest
from mpi_runs import PYTHONS, ROOT, SCRIPTS, Launcher, differences, short


@pytest.fixture(scope="module", autouse=True)
def hosts():
    """Skips where this system allows no namespaces."""
    command = [sys.executable, str(SCRIPTS / "hosts.py"), "2", "1", "sh", "-c",
               "$PRETEND_RSH node1 hostname"]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"pretend hosts do not work here: {error}")
    if done.stdout != "node1\n":
        reason = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-1]
        pytest.skip(f"this system allows no namespaces: {reason}")


CASES = ["adam", "dropout", "rmsprop"]


@pytest.fixture(scope="module")
def one_rank(tmp_path_factory):
    """Where one process has written its results."""
    path = tmp_path_factory.mktemp("one") / "one"
    subprocess.run(
        [sys.executable, str(SCRIPTS / "train.py"), "float64", str(path), *CASES], check=True,
        timeout=120, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    return path


def assert_all_ranks_have(one_rank, path, case, n, how):
    """Every rank's results of a case in `path` are those of one rank."""
    for rank in range(n):
        errors = differences(f"{one_rank}.{case}.0.npz", f"{path}.{case}.{rank}.npz")
        if "float16" in how:  # half-precision gradients: close, and not the same
            weights = [e for name, e in errors.items() if name.startswith("weight")]
            assert 1e-9 < max(weights) < 0.1, errors
        else:
            assert max(errors.values()) < 1e-12, (case, rank, errors)


@pytest.mark.parametrize(
    ("python", "how"),
    [(PYTHONS[0], how) for how in (["overlap"], ["float16", "overlap"])]
    + [(python, []) for python in PYTHONS],
    ids=lambda value: short(value) if isinstance(value, str) else "-".join(value) or "auto",
)
def test_four_ranks_on_two_hosts_give_what_one_gives(one_rank, tmp_path, python, how):
    mpirun = Launcher(python)
    # rmsprop accumulates gradients: then they are not sent while backward runs.
    cases = [case for case in CASES if case != "rmsprop" or "overlap" not in how]
    done = mpirun.on_hosts(4, "train.py", "float64", tmp_path / "n", *how, *cases)
    assert done.returncode == 0, done.stderr
    assert "4 ranks on 2 hosts" in done.stderr
    for case in cases:
        assert_all_ranks_have(one_rank, tmp_path / "n", case, 4, how)


@pytest.mark.parametrize("how", [["overlap"], ["float16", "overlap"]], ids="-".join)
def test_three_hosts_give_what_one_rank_gives(one_rank, tmp_path, how):
    """Two hosts swap their sums; more leave it to MPI."""
    mpirun = Launcher(PYTHONS[0])
    arguments = ("train.py", "float64", tmp_path / "n", *how, "adam")
    done = mpirun.on_hosts(3, *arguments, hosts=3, slots=1)
    assert done.returncode == 0, done.stderr
    assert "3 ranks on 3 hosts" in done.stderr
    assert_all_ranks_have(one_rank, tmp_path / "n", "adam", 3, how)


@pytest.mark.parametrize("python", PYTHONS, ids=short)
@pytest.mark.parametrize(
    ("event", "message"),
    [("kill", None), ("down", r"waits for the other ranks in (gradient exchange|allreduce)")],
)
def test_a_host_that_is_lost_ends_the_job(tmp_path, python, event, message):
    mpirun = Launcher(python)
    started = tmp_path / "started"
    also = f"until [ -e {started} ]; do sleep 0.1; done; sleep 0.5; $PRETEND_CONTROL {event} node1"
    begin = time.monotonic()
    done = mpirun.on_hosts(
        4, "broken.py", "endless", started, also=also, timeout=60, MINITORCH_CIML_TIMEOUT="3"
    )
    assert started.exists(), done.stderr
    assert "the end" not in done.stdout
    assert time.monotonic() - begin < 40
    if message:
        assert re.search(message, done.stderr), done.stderr
