"""`keras.datasets.boston_housing`."""

from minitorch_ciml.datasets import housing as _housing

__all__ = ["load_data"]


def load_data(path: str = "boston_housing.npz", test_split: float = 0.2, seed: int = 113) -> tuple:
    """Loads districts of Boston; see `datasets.housing.load_boston`, also for what is wrong.

    Args:
        path: the file's name in the cache folders, or an absolute path.
        test_split, seed: see there.
    """
    return _housing.load_boston(_housing.BOSTON._replace(name=path).find(), test_split, seed)
