"""`info`: every fact is there, and tells the truth where that can be checked."""

import ctypes
import os
import platform

import numba
import numpy as np
import pytest

from minitorch_ciml import info


def test_all_facts_are_there():
    facts = info.collect_info()
    assert all(isinstance(fact, str) and fact for fact in facts.values())
    expected = {"minitorch_ciml", "Python", "numpy", "CPU", "Cores", "Threads", "BLAS", "MPI"}
    assert expected | {"CUDA", "Computes on"} <= set(facts)
    assert facts["Python"].startswith(platform.python_version())
    assert facts["numpy"] == np.__version__
    assert facts["Threads"].startswith(str(numba.get_num_threads()))


def test_a_package_that_is_absent(monkeypatch):
    monkeypatch.setattr(info, "_PACKAGES", ("no-such-package-here",))
    assert info.collect_info()["no-such-package-here"] == "not installed"


def test_thread_limits_are_named(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert "OMP_NUM_THREADS=3" in info._threads()


@pytest.mark.skipif(os.name == "nt", reason="needs a shell script as the launcher")
@pytest.mark.parametrize(
    "script, said",
    [
        ("echo 'mpirun (Open MPI) 5.0.6'\necho more", "(mpirun (Open MPI) 5.0.6)"),
        ("exit 3", "exit status 3"),
    ],
)
def test_mpirun_is_asked_for_its_version(monkeypatch, tmp_path, script, said):
    launcher = tmp_path / "mpirun"
    launcher.write_text(f"#!/bin/sh\n{script}\n")
    launcher.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert said in info._mpi() and str(launcher) in info._mpi()


def test_no_mpirun(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "no mpirun" in info._mpi()


def test_no_cuda_driver(monkeypatch):
    monkeypatch.setattr(info, "_CUDA_DRIVERS", ("no-such-library",))
    assert info._cuda().startswith("no driver")


class Driver:
    """What info calls of the CUDA driver, for a machine with these devices."""

    def __init__(self, *names, error=0):
        self.names, self.error = names, error

    def cuInit(self, flags):
        return self.error

    def cuDeviceGetCount(self, count):
        count._obj.value = len(self.names)
        return 0

    def cuDeviceGet(self, device, ordinal):
        device._obj.value = ordinal
        return 0

    def cuDeviceGetName(self, text, size, device):
        text.value = self.names[device.value].encode()
        return 0


@pytest.mark.parametrize(
    "driver, said",
    [
        (Driver("NVIDIA H200", "NVIDIA L4"), "NVIDIA H200, NVIDIA L4;"),
        (Driver(), "a driver, no device;"),
        (Driver(error=100), "the driver reports error 100;"),
    ],
)
def test_cuda_devices(monkeypatch, driver, said):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: driver)
    assert info._cuda().startswith(said)


def test_print_info(capsys, monkeypatch):
    monkeypatch.setattr(info, "collect_info", lambda: {"BLAS": "made of [brackets]"})
    info.print_info()
    assert capsys.readouterr().out.split() == ["BLAS", "made", "of", "[brackets]"]
