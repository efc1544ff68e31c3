"""The predicted bounds: what launches move and compute, on a GPU that is not there."""

import json
import subprocess
import sys

import pytest

pytest.importorskip("numba_cuda")

N = 1 << 24
PROGRAM = """
import json
from minitorch_ciml.kernels.cuda import bounds
found = {p.name: bounds.bound(p)._asdict() for p in bounds.PROBLEMS}
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found():
    """All of them, planned in a process that does nothing else."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_kernel_that_moves_much_is_bound_by_memory(found):
    add, adam = found["add, 16M"], found["adam, 16M"]
    assert (add["bytes"], add["by"]) == (3 * 4 * N, "memory")
    assert adam["bytes"] == 7 * 4 * N + 6 * 4  # g; p, m and v twice; and its numbers
    assert add["seconds"]["H100"] == pytest.approx(add["bytes"] / 3.35e12)
    assert add["seconds"]["H200"] == pytest.approx(add["bytes"] / 4.8e12)


def test_a_product_is_bound_by_the_cores_that_do_it(found):
    for name, peak in (("float32", 67e12), ("3xTF32", 494.5e12 / 3), ("TF32", 494.5e12)):
        product = found[f"matmul 4096, {name}"]
        assert product["by"] == name
        assert product["seconds"]["H100"] == pytest.approx(2 * 4096**3 / peak)
        assert product["seconds"]["H100"] == product["seconds"]["H200"]


def test_the_table_of_kernels_says_what_the_problems_say(found):
    from minitorch_ciml.kernels.cuda.report import bound_of

    seen = set()
    for name, problem in found.items():
        # Small products wait for memory, and 16-bit gradients of attention for its widened arrays.
        if name in ("matmul 512, float32", "dense 128x784x128", "LSTM 128, 128 samples of 28x28",
                    "gradients of attention, float16"):  # fmt: skip
            continue
        expected = "bytes" if problem["by"] == "memory" else "FLOPs"
        assert expected in {bound_of(kernel) for kernel in problem["kernels"]}, name
        assert expected == "FLOPs" or {bound_of(k) for k in problem["kernels"]} == {"bytes"}, name
        seen.add(expected)
    assert seen == {"bytes", "FLOPs"}


def test_every_launch_counts(found):
    """A long sum is shared out: a second launch combines what the blocks have."""
    assert sum(found["sum 4096, of columns"]["kernels"].values()) == 2
    assert len(found["matmul 512, float32"]["kernels"]) == 2
    plain = 4 * 3 * 512**2
    assert found["matmul 512, float32"]["bytes"] > plain


def test_the_report_prints_them_as_predictions():
    command = [sys.executable, "-m", "minitorch_ciml.kernels.cuda.report", "--bounds", "adam"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Predicted bounds, not measurements" in done.stdout
    assert "optimizer._adam" in done.stdout and "matmul" not in done.stdout
