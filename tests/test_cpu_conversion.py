"""float32 to 16 bits and back, against NumPy and ml_dtypes, for all that may happen to a number."""

import numpy as np
import pytest

ml_dtypes = pytest.importorskip("ml_dtypes")
from minitorch_ciml import kernels  # noqa: E402
from minitorch_ciml.kernels.cpu.conversion import PIECE, cast  # noqa: E402
from minitorch_ciml.kernels.halves import MANY  # noqa: E402

HALVES = [np.dtype("float16"), np.dtype(ml_dtypes.bfloat16)]


def numbers() -> np.ndarray:
    """Any bits, all numbers of 16 bits, what lies halfway between them, and their neighbours."""
    every = [np.arange(1 << 16, dtype="uint16").view(dtype).astype("float32") for dtype in HALVES]
    exact = np.concatenate(every).view("uint32")
    halfway = [exact + np.uint32(n) for n in (0x0FFF, 0x1000, 0x1001, 0x7FFF, 0x8000, 0x8001)]
    anything = np.random.default_rng(0).integers(0, 1 << 32, 200_000, dtype="uint32")
    return np.concatenate([exact, *halfway, anything]).view("float32")


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_all_numbers_are_rounded_as_numpy_rounds(dtype):
    x = numbers()
    with np.errstate(all="ignore"):
        y, expected = cast(x, dtype), x.astype(dtype)
    assert y.dtype == dtype
    nan = np.isnan(x)
    np.testing.assert_array_equal(y[~nan].view("uint16"), expected[~nan].view("uint16"))
    assert np.isnan(y[nan].astype("float32")).all()


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_all_numbers_come_back(dtype):
    x = np.arange(1 << 16, dtype="uint16").view(dtype)
    y = cast(x, np.dtype("float32"))
    assert y.dtype == "float32"
    np.testing.assert_array_equal(y, x.astype("float32"))


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("size", [0, 1, MANY - 1, MANY, PIECE + 1, 3 * PIECE - 5])
def test_any_size_and_layout(dtype, size):
    x = np.random.default_rng(1).normal(size=(2, size)).astype("float32")
    for array in (x, x.T, x[:, ::2], x[1]):
        half = cast(array, dtype)
        assert half.shape == array.shape
        np.testing.assert_array_equal(half, array.astype(dtype))
        np.testing.assert_array_equal(cast(half, np.dtype("float32")), half.astype("float32"))


def test_ops_use_it():
    assert kernels.find("cpu", "cast") is cast
    x = np.ones(MANY, "float64")
    assert cast(x, np.dtype("float16")).dtype == "float16"
    assert cast(x, np.dtype("float64")) is x
