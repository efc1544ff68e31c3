"""Runs kernels for the GPU in the simulator, beside NumPy's."""

import numpy as np

from minitorch_ciml.kernels.cuda.memory import CudaArray, to_device

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
