"""How many threads kernels take: what the machine, the variables and the user say."""

import subprocess
import sys

import pytest

import minitorch_ciml
from minitorch_ciml.kernels import host

COUNT = """
import os
os.sched_getaffinity = lambda pid: set(range(8))
from minitorch_ciml.kernels import host
host._cgroup_limit = lambda: 6
{before}
print(host.default_threads())
"""


def threads(before="", **variables):
    done = subprocess.run(
        [sys.executable, "-c", COUNT.format(before=before)],
        env={"PATH": "", "PYTHONPATH": ":".join(filter(None, sys.path)), **variables},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return int(done.stdout)


def test_cores_are_those_bound_to_within_the_cgroup_limit():
    assert threads() == 6
    assert threads("host._cgroup_limit = lambda: 64") == 8
    assert threads("host._cgroup_limit = lambda: 0") == 1


@pytest.mark.parametrize(("text", "count"), [("3", 3), ("4,2", 4), ("", 6), ("0", 6), ("all", 6)])
def test_omp_num_threads(text, count):
    assert threads(OMP_NUM_THREADS=text) == count


def test_limits_of_cgroups(tmp_path, monkeypatch):
    monkeypatch.setattr(host, "_CGROUPS", tmp_path)
    assert host._cgroup_limit() == sys.maxsize
    (tmp_path / "cpu.max").write_text("max 100000")
    assert host._cgroup_limit() == sys.maxsize
    (tmp_path / "cpu.max").write_text("250000 100000")
    assert host._cgroup_limit() == 2


def test_set_num_threads_changes_what_kernels_use():
    import numba

    from minitorch_ciml.kernels.cpu import threads as _  # noqa: F401

    before = numba.get_num_threads()
    try:
        minitorch_ciml.set_num_threads(1)
        assert numba.get_num_threads() == 1
    finally:
        minitorch_ciml.set_num_threads(before)
    assert numba.get_num_threads() == before


@pytest.mark.parametrize("count", [0, -1, 1.5, True, "2"])
def test_a_wrong_number_of_threads_is_refused(count):
    with pytest.raises(ValueError, match="whole number of at least 1"):
        minitorch_ciml.set_num_threads(count)


SLOW = """
import time
from minitorch_ciml.kernels.cpu import jit

def compile_slowly(types, return_type):
    time.sleep(0.3)
    return types

jit.PATIENCE = 0.05
for _ in range(2):
    print(jit._with_a_word(compile_slowly)("done", None))
jit.PATIENCE = 60
"""


def test_a_long_compilation_is_announced_once():
    done = subprocess.run([sys.executable, "-c", SLOW], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["done", "done"]
    assert done.stderr.count("Compiling kernels") == 1
