"""Every kernel for the GPU compiles for real GPUs, and its code is what it should be."""

import subprocess
import sys

import pytest

pytest.importorskip("numba_cuda")

from numba import cuda

from minitorch_ciml.kernels.cuda import report
from minitorch_ciml.kernels.cuda.fingerprint import fingerprint
from minitorch_ciml.kernels.cuda.intrinsics import load2, load4
from minitorch_ciml.kernels.cuda.launch import KERNELS, kernel

ALL = list(report.all_kernels())
# NVIDIA's own functions reduce a large angle with float64 and a table in memory, which is a branch
# that is hardly ever taken.
ANGLES = ("sin", "cos", "tan")


@pytest.mark.parametrize("name", [one.name for one in ALL])
def test_kernel_compiles(name):
    """Nothing spilled or on the stack, no float64 unasked, as many blocks at a time as promised."""
    found = [fault for faults in report.faults_of(name).values() for fault in faults]
    if name.partition(".")[0] in ANGLES:
        found = [fault for fault in found if "memory" not in fault and "float64" not in fault]
    assert not found, "; ".join(found)


def test_kernels_have_different_names():
    names = [one.name for one in ALL]
    assert len(set(names)) == len(names)


def _faults(function, signature, **how):
    """Of a kernel that is not kept."""
    one = kernel(signature, **how)(function)
    KERNELS.remove(one)
    return report.faults(one, one.signatures[0], (9, 0))


def test_float64_is_found():
    def scale(y):
        y[0] = y[0] * 0.1

    assert _faults(scale, "f4*") == ["it computes in float64"]


def test_memory_of_threads_is_found():
    from numba import float32

    def gather(y, i):
        own = cuda.local.array(64, float32)
        for k in range(64):
            own[k] = y[k] * y[i + k]
        y[0] = own[i]

    (fault,) = _faults(gather, "f4* i4")
    assert "of each thread are in memory" in fault


def test_too_much_shared_memory_is_found():
    def zero(y):
        y[0] = 0

    assert _faults(zero, "i4*", blocks=3, shared=100 * 1024) == [
        "2 blocks fit, where 3 are promised"
    ]


# --- the cache's key ------------------------------------------------------------------------------


def _adds(step):
    def add(y):
        y[0] += step

    return add


def _calls(function):
    def call(y):
        function(y)

    return call


def test_fingerprints():
    """What a kernel is compiled from makes a difference, however deep; where it stands does not."""
    assert fingerprint(_adds(1)) == fingerprint(_adds(1))
    assert fingerprint(_adds(1)) != fingerprint(_adds(2))
    device = cuda.jit(device=True)
    assert fingerprint(_calls(device(_adds(1)))) == fingerprint(_calls(device(_adds(1))))
    assert fingerprint(_calls(device(_adds(1)))) != fingerprint(_calls(device(_adds(2))))
    assert fingerprint(_calls(load2)) != fingerprint(_calls(load4))


def test_kernels_have_different_fingerprints():
    """Each is a program of its own: nothing about its factory is missed."""
    programs = {}
    for one in ALL:
        key = fingerprint(one.function), tuple(one.signatures), one.threads, one.blocks
        assert key not in programs, f"{one.name} and {programs[key]}"
        programs[key] = one.name


def test_numba_cuda_is_loaded_without_row_stack():
    """NumPy 2.5 dropped that name, which numba-cuda 0.30 still looks for."""
    script = (
        "import numpy as np\n"
        "if hasattr(np, 'row_stack'):\n"
        "    del np.row_stack\n"
        "    np.__all__.remove('row_stack')\n"
        "from minitorch_ciml.kernels.cuda import compiler, launch, softmax\n"
        "one = next(k for k in launch.KERNELS if k.name.startswith('softmax'))\n"
        "types = tuple(map(launch._numba_type, one.signatures[0]))\n"
        "print(compiler.ptx(one.function, types, (9, 0), (one.threads, one.blocks)))\n"
        "assert not hasattr(np, 'row_stack')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0 and ".entry" in done.stdout, done.stderr
