"""Kernels for NVIDIA GPUs, written in Python and compiled by numba.

A kernel and the function that launches it share a file. Read `launch.py` first: what a kernel is
and how it is compiled; then `memory.py`, where arrays on the GPU live; then `elementwise.py`.

Everything here also runs without a GPU, slowly, in a simulator (`simulator.py`, switched on by
`MINITORCH_CIML_SIMULATE_CUDA=1`), and compiles without one (`compiler.py`): so meaning and code are
tested on any machine.
"""

from __future__ import annotations

import os

# Whether kernels run in Python instead of on a GPU; fixed when the process starts.
SIMULATED = os.environ.get("MINITORCH_CIML_SIMULATE_CUDA", "0") == "1"


def require_package() -> None:
    """Raises an error that says what to install if numba's CUDA compiler is not there."""
    try:
        import numba_cuda  # noqa: F401  (its import is what counts)
    except ImportError:
        raise ImportError(
            "the device 'cuda' needs numba's CUDA compiler, which is not installed; "
            "pip install 'minitorch_ciml[cuda]'."
        ) from None
