"""Every kernel for the GPU compiles for real GPUs, and its code is what it should be."""

import pytest

pytest.importorskip("numba_cuda")

from minitorch_ciml.kernels.cuda import report
from minitorch_ciml.kernels.cuda.launch import KERNELS, kernel

ALL = list(report.all_kernels())
HOPPER = (9, 0)
# NVIDIA's own functions reduce a large angle with float64 and a table in memory, which is a branch
# that is hardly ever taken.
ANGLES = ("sin", "cos", "tan")


@pytest.mark.parametrize("capability", report.GENERATIONS, ids=str)
@pytest.mark.parametrize("one", ALL, ids=[one.name for one in ALL])
def test_kernel_compiles(one, capability):
    """Nothing spilled or on the stack, no float64 unasked, as many blocks at a time as promised.

    For Hopper with all types; elsewhere, where there are many, with the first, mostly float32: that
    halves the time it takes.
    """
    if capability < one.needs:
        pytest.skip(f"needs compute capability {one.needs}")
    many = capability != HOPPER and len(one.signatures) > 2
    for signature in one.signatures[:1] if many else one.signatures:
        found = report.faults(one, signature, capability)
        if one.name.partition(".")[0] in ANGLES:
            found = [fault for fault in found if "memory" not in fault and "float64" not in fault]
        assert not found, f"{' '.join(signature)}: {'; '.join(found)}"


def test_kernels_have_different_names():
    """They are what tells the functions of one factory apart in the cache."""
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
    from numba import cuda, float32

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
