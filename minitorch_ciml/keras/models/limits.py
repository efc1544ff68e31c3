"""Limits for trying a script out: the most epochs, and the most steps of one (`keras.config`).

The environment variables `KERAS_MAX_EPOCHS` and `KERAS_MAX_STEPS_PER_EPOCH` set them from outside.
"""

from __future__ import annotations

import os
import warnings


def _from_environment(name: str) -> int | None:
    text = os.environ.get(name)
    if not text:
        return None
    if not text.isdigit():
        raise ValueError(f"{name}: got {text!r}, expected a whole number.")
    return int(text)


_limits: dict[str, int | None] = {
    "epochs": _from_environment("KERAS_MAX_EPOCHS"),
    "steps_per_epoch": _from_environment("KERAS_MAX_STEPS_PER_EPOCH"),
}


def max_epochs() -> int | None:
    """The most epochs that `fit` goes through, or None."""
    return _limits["epochs"]


def set_max_epochs(max_epochs: int | None) -> None:
    """Sets the most epochs that `fit` goes through; None for no limit."""
    _limits["epochs"] = max_epochs


def max_steps_per_epoch() -> int | None:
    """The most steps that `fit` makes in an epoch, and `evaluate` and `predict` in all, or None."""
    return _limits["steps_per_epoch"]


def set_max_steps_per_epoch(max_steps_per_epoch: int | None) -> None:
    """Sets the most steps of `fit` in an epoch, and of `evaluate` and `predict` in all."""
    _limits["steps_per_epoch"] = max_steps_per_epoch


def limited(name: str, number: int | None, available: int | None = None) -> int | None:
    """The number of "epochs" or "steps_per_epoch" that the limit leaves.

    Args:
        name: what is limited.
        number: what the user asked for; None: all that there is.
        available: how many there are, or None where that is not known.
    """
    limit = _limits[name]
    wanted = available if number is None else number
    if not limit or (wanted is not None and wanted <= limit):
        return number
    warnings.warn(f"keras.config limits {name} to {limit}.", stacklevel=4)
    return limit
