"""BLAS threads beside ours: in fresh processes, because it is decided once."""

import subprocess
import sys

import numpy as np
import pytest

from minitorch_ciml.kernels import openblas

PROGRAM = """
import os
import numpy as np
a = np.random.default_rng(0).random((300, 300))
expected = a @ a
from minitorch_ciml.kernels import openblas
import minitorch_ciml.kernels.cpu.threads
assert (a @ a == expected).all() or np.allclose(a @ a, expected, rtol=1e-12)
print(*(library.openblas_thread_timeout() for library in openblas._loaded()))
"""

pytestmark = pytest.mark.skipif(
    not any(hasattr(x, "openblas_thread_timeout") for x in openblas._loaded()),
    reason="NumPy's BLAS is no OpenBLAS with threads of its own",
)


def patience(monkeypatch, variable):
    monkeypatch.delenv("OPENBLAS_THREAD_TIMEOUT", raising=False)
    if variable:
        monkeypatch.setenv("OPENBLAS_THREAD_TIMEOUT", variable)
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    return set(run.stdout.split())


def test_idle_threads_sleep_soon_and_products_stay_right(monkeypatch):
    assert patience(monkeypatch, None) == {openblas.PATIENCE}


def test_the_users_variable_counts(monkeypatch):
    assert patience(monkeypatch, "20") == {"20"}


@pytest.mark.skipif(not openblas.knows_its_threads(), reason="there are several, or none")
def test_a_product_on_one_thread_leaves_the_number_of_threads_as_it_was():
    count, set_count = openblas._counts()
    before = count()
    try:
        set_count(2)
        a, b = np.random.default_rng(0).random((2, 100, 100))
        assert np.allclose(openblas.product_on_one_thread(a, b), np.einsum("ij,jk", a, b), 1e-12)
        with pytest.raises(ValueError):
            openblas.product_on_one_thread(a, b[1:])
        assert count() == 2
    finally:
        set_count(before)
