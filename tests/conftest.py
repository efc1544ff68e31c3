"""Every test starts from the same random numbers, alone or after others, in any order."""

import gc
import os
import random
import sys

import numpy as np
import pytest

# The device "cuda" is simulated; on a machine with a GPU, 0 tests the GPU itself.
os.environ.setdefault("MINITORCH_CIML_SIMULATE_CUDA", "1")

from minitorch_ciml.ops.random import set_seed

# "9.0" and the like: the simulated GPU has that capability, and runs compiled code (`ptx_machine`);
# without the simulator, so does a GPU that is reached as a real one.
if os.environ.get("MINITORCH_CIML_PTX"):
    if os.environ["MINITORCH_CIML_SIMULATE_CUDA"] == "0":
        from ptx_machine import driver as machine
    else:
        from ptx_machine import launches as machine

    machine.install(os.environ["MINITORCH_CIML_PTX"])


@pytest.fixture(autouse=True)
def same_numbers(request):
    """Seeds all generators, and starts the test module's own one (`RNG`) anew."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002  (Keras draws from it)
    set_seed(0)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)
    if hasattr(request.module, "RNG"):
        request.module.RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True, scope="module")
def older_objects_are_no_garbage():
    """Python's collector looks at what this module's tests have made, and at nothing older.

    Looking through torch, Keras, JAX and all kernels that were compiled takes a third of a second;
    Keras does so each time its names are counted anew.
    """
    gc.collect()
    gc.freeze()
