"""Prices of houses: California (Pace and Barry, 1997) and Boston (Harrison and Rubinfeld, 1978).

The data of Boston have a column about the share of black people, put so that segregation seems to
raise prices; take California's, except to show what is wrong with the other.
"""

import os
import zipfile

import numpy as np

from minitorch_ciml.datasets.mnist import Split
from minitorch_ciml.datasets.source import KERAS_ORIGIN, Source

# Keras publishes both digests in keras/src/datasets.
CALIFORNIA = Source(
    "California housing", "california_housing.npz", KERAS_ORIGIN + "california_housing.npz",
    "1a2e3a52e0398de6463aebe6f4a8da34fb21fbb6b934cf88c3425e766f2a1a6f",
)  # fmt: skip
BOSTON = Source(
    "Boston housing", "boston_housing.npz", KERAS_ORIGIN + "boston_housing.npz",
    "f553886a1f8d56431e820c5b82552d9d95cfcb96d1e678153f8839538947dff5",
)  # fmt: skip


def load_california(
    path: str | os.PathLike[str] | None = None,
    version: str = "large",
    test_split: float = 0.2,
    seed: int = 113,
) -> tuple[Split, Split]:
    """Loads 20,640 districts of California in 1990, or the first 600 of them ("small").

    Args:
        path: california_housing.npz, or a folder that holds it; searched for as `mnist.load` does
            if left out.
        version: "large" or "small".
        test_split: the share that is to test with.
        seed: of the order.

    Returns:
        `(x_train, y_train), (x_test, y_test)`: eight numbers of each district (n, 8): its people's
        income, the age of its houses, rooms and bedrooms of a household, people, people of a
        household, latitude, longitude; and the median price of its houses in dollars (n,).

    Raises:
        FileNotFoundError, ConnectionError, ValueError: as `mnist.load`.
    """
    if version not in ("large", "small"):
        raise ValueError(f"california_housing: got version={version!r}, expected 'large', 'small'.")
    return _load(CALIFORNIA, path, 600 if version == "small" else None, test_split, seed)


def load_boston(
    path: str | os.PathLike[str] | None = None, test_split: float = 0.2, seed: int = 113
) -> tuple[Split, Split]:
    """Loads 506 districts of Boston in 1970; see the module about them.

    Args:
        path: boston_housing.npz, or a folder that holds it; searched for as `mnist.load` does if
            left out.
        test_split: the share that is to test with.
        seed: of the order.

    Returns:
        `(x_train, y_train), (x_test, y_test)`: thirteen numbers of each district (n, 13), and the
        median price of its houses in thousands of dollars (n,).

    Raises:
        FileNotFoundError, ConnectionError, ValueError: as `mnist.load`.
    """
    return _load(BOSTON, path, None, test_split, seed)


def _load(
    source: Source, path: str | os.PathLike[str] | None, first: int | None, test_split: float,
    seed: int,
) -> tuple[Split, Split]:  # fmt: skip
    if not 0 <= test_split < 1:
        raise ValueError(f"test_split must be from 0 to below 1, got {test_split}.")
    place = source.find(path)
    try:
        with np.load(place, allow_pickle=False) as arrays:
            x, y = arrays["x"][:first], arrays["y"][:first]
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise source.wrong(place, f"it cannot be read ({error})") from error
    order = np.arange(len(x))
    np.random.RandomState(seed).shuffle(order)  # the order of Keras
    at = int(len(x) * (1 - test_split))
    train, test = order[:at], order[at:]
    return (x[train], y[train]), (x[test], y[test])
