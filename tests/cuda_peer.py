"""Runs kernels for the GPU in the simulator, beside NumPy's."""

import os

os.environ["MINITORCH_CIML_SIMULATE_CUDA"] = "1"  # before the package looks

import numpy as np

from minitorch_ciml.kernels.cuda.launch import KERNELS
from minitorch_ciml.kernels.cuda.memory import CudaArray, to_device

CAPABILITIES = [(7, 5), (8, 0), (9, 0), (10, 0)]
TOLERANCE = {"float32": 2e-5, "float64": 1e-12}  # of sums whose terms come in another order


def on_gpu(kernel, *arrays, **how):
    """The kernel's results as NumPy arrays, in the structure in which it returns them."""
    moved = {name: _moved(value) for name, value in how.items()}
    return _fetched(kernel(*map(_moved, arrays), **moved))


def _moved(value):
    if isinstance(value, np.ndarray):
        return to_device(value)
    if isinstance(value, tuple) and any(isinstance(v, np.ndarray) for v in value):
        return tuple(map(_moved, value))
    return value


def _fetched(value):
    if isinstance(value, CudaArray):
        return value.numpy()
    return tuple(map(_fetched, value)) if isinstance(value, tuple) else value


def assert_close(found, expected):
    """Equal shapes and dtypes, and values up to rounding, in all arrays of a structure."""
    if isinstance(expected, tuple):
        assert len(found) == len(expected)
        for one, other in zip(found, expected):
            assert_close(one, other)
    elif expected is None:
        assert found is None
    else:
        assert found.shape == expected.shape and found.dtype == expected.dtype
        rtol = TOLERANCE.get(expected.dtype.name, 0)
        scale = np.abs(expected[np.isfinite(expected)]).max(initial=0)
        np.testing.assert_allclose(found, expected, rtol, rtol * scale)


def assert_equal(found, expected):
    """The same bits."""
    if isinstance(expected, tuple):
        assert len(found) == len(expected)
        for one, other in zip(found, expected):
            assert_equal(one, other)
    elif expected is None:
        assert found is None
    else:
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)


def kernels_of(*modules):
    """The kernels of these modules, with each of their signatures, for parametrize."""
    return [
        (kernel, signature)
        for kernel in KERNELS
        if kernel.name.partition(".")[0] in modules
        for signature in kernel.signatures
    ]


def assert_compiles(kernel, signature):
    """For every generation of GPUs: all in registers, no float64 that nobody asked for."""
    for capability in CAPABILITIES:
        binary = kernel.compile(signature, capability)
        assert binary.spilled == 0 and binary.stack == 0
        assert not binary.doubles or any("f8" in code for code in signature)
        assert binary.registers * kernel.threads * kernel.blocks <= 65536
