"""Runs the scripts in `tests/mpi` under mpirun, of every MPI that there is to test."""

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parent / "mpi"
ROOT = SCRIPTS.parent.parent

# More interpreters to test, each with another MPI beside it: MPI_PYTHONS=/a/bin/python:/b/bin/...
PYTHONS = [sys.executable, *filter(None, os.environ.get("MPI_PYTHONS", "").split(":"))]


def short(python):
    """A name for the ids of tests: the folder of the virtual environment."""
    return Path(python).parent.parent.name


# Open MPI refuses to run as root, and more ranks than cores, unless it is told to.
ENVIRONMENT = {
    "PYTHONPATH": str(ROOT), "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
}  # fmt: skip
_OPEN_MPI = ["--oversubscribe", "--bind-to", "none", "--mca", "mpi_yield_when_idle", "1"]


class Launcher:
    """An interpreter and the mpirun that belongs to it; skips the test if there is none."""

    def __init__(self, python):
        # The wheels put mpirun beside the interpreter; otherwise it is on the PATH.
        path = shutil.which("mpirun", path=str(Path(python).parent)) or shutil.which("mpirun")
        if path is None:
            pytest.skip("there is no mpirun: pip install 'minitorch_ciml[mpi-wheel]'")
        if python == sys.executable and find_spec("mpi4py") is None:
            pytest.skip("mpi4py is not installed: pip install 'minitorch_ciml[mpi-wheel]'")
        version = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=30
        ).stdout
        self.python, self.path, self.is_first = python, path, python == PYTHONS[0]
        self.is_open_mpi = "open" in version.lower()  # it says "Open MPI" or "OpenRTE"
        self.is_old = ") 4." in version  # Open MPI 4 has other options
        self.command = [path, *(_OPEN_MPI if self.is_open_mpi else [])]

    def __call__(self, n, script, *arguments, timeout=200, **variables):
        """Runs a script on n ranks; the completed process."""
        return subprocess.run(
            [*self.command, "-n", str(n), self.python, str(SCRIPTS / script),
             *map(str, arguments)],
            capture_output=True, text=True, timeout=timeout,
            env={**os.environ, **ENVIRONMENT, **variables},
        )  # fmt: skip

    def on_hosts(self, n, script, *arguments, hosts=2, slots=2, also="", timeout=120, **variables):
        """Runs a script on n ranks on pretend hosts, and the shell command `also` beside it."""
        settings = {"PYTHONPATH": str(ROOT), **variables}
        ranks = ["env", *(f"{k}={v}" for k, v in settings.items()), self.python,
                 str(SCRIPTS / script), *map(str, arguments)]  # fmt: skip
        if self.is_open_mpi:
            agent, interface = (
                ("--mca plm_rsh_agent", "--mca oob_tcp_if_include") if self.is_old
                else ("--prtemca plm_ssh_agent", "--prtemca prte_if_include")
            )  # fmt: skip
            network = (
                f'--host "$PRETEND_HOSTS" {agent} "$PRETEND_RSH" '
                f"{interface} 10.77.0.0/24 --mca btl_tcp_if_include 10.77.0.0/24"
            )
        else:
            network = (
                '-f "$PRETEND_HOSTFILE" -launcher ssh -launcher-exec "$PRETEND_RSH" -iface eth0'
            )
        command = f"{' '.join(self.command)} {network} -n {n} {' '.join(map(repr, ranks))}"
        if also:
            command = f"({also}) & {command}"
        return subprocess.run(
            [sys.executable, str(SCRIPTS / "hosts.py"), str(hosts), str(slots), "sh", "-c",
             command],
            capture_output=True, text=True, timeout=timeout,
            env={**os.environ, **{k: v for k, v in ENVIRONMENT.items() if k != "PYTHONPATH"}},
        )  # fmt: skip


def differences(expected, found):
    """The largest relative difference of each array in two files of `train.py`."""
    import numpy as np

    expected, found = np.load(expected), np.load(found)
    assert set(found) == set(expected)
    errors = {}
    for name in expected:
        assert found[name].shape == expected[name].shape, name
        scale = np.abs(expected[name]).max(initial=1e-30)
        errors[name] = np.abs(found[name] - expected[name]).max(initial=0) / scale
    return errors
