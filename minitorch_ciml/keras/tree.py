"""Nested structures: lists, tuples and dictionaries with leaves of any kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

_NESTS = (list, tuple, dict)


def flatten(structure: Any) -> list:
    """The leaves, depth first; a dictionary's in the order of its sorted keys."""
    if not isinstance(structure, _NESTS):
        return [structure]
    return list(_leaves(structure))


def _leaves(structure: Any) -> Iterator:
    if isinstance(structure, (list, tuple)):
        for item in structure:
            yield from _leaves(item)
    elif isinstance(structure, dict):
        for key in sorted(structure):
            yield from _leaves(structure[key])
    else:
        yield structure


def map_structure(function: Callable, structure: Any) -> Any:
    """The same structure with `function(leaf)` in place of every leaf."""
    if not isinstance(structure, _NESTS):
        return function(structure)
    if isinstance(structure, (list, tuple)):
        items = [map_structure(function, item) for item in structure]
        if hasattr(structure, "_fields"):  # a named tuple
            return type(structure)(*items)
        return type(structure)(items)
    return {key: map_structure(function, structure[key]) for key in sorted(structure)}


def pack_as(structure: Any, leaves: list) -> Any:
    """`leaves` in the shape of `structure`: the inverse of `flatten`."""
    remaining = iter(leaves)
    return map_structure(lambda _: next(remaining), structure)
