"""Notes of changes: what was found in a model, or recorded of its steps, may then be outdated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

number = 0  # of the changes so far


def note() -> None:
    """To be called when something changes that a layer holds, or how it or a loss computes."""
    global number
    number += 1


class Noted:
    """Mixed into what computes by its settings: when one of them changes, that is noted."""

    if not TYPE_CHECKING:  # where a misspelt attribute shall be told

        def __setattr__(self, name: str, value: Any) -> None:
            if not name.startswith("_") and self.__dict__.get(name) is not value:
                note()
            super().__setattr__(name, value)
