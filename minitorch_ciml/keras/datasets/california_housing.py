"""`keras.datasets.california_housing`."""

from minitorch_ciml.datasets import housing as _housing

__all__ = ["load_data"]


def load_data(
    version: str = "large",
    path: str = "california_housing.npz",
    test_split: float = 0.2,
    seed: int = 113,
) -> tuple:
    """Loads districts of California; see `datasets.housing.load_california`.

    Args:
        path: the file's name in the cache folders, or an absolute path.
        version, test_split, seed: see there.
    """
    place = _housing.CALIFORNIA._replace(name=path).find()
    return _housing.load_california(place, version, test_split, seed)
