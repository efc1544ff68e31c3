"""Nested structures: lists, tuples and dictionaries with leaves of any kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["assert_same_structure", "flatten", "is_nested", "map_structure", "pack_sequence_as"]

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


def is_nested(structure: Any) -> bool:
    """Whether it is a list, tuple or dictionary."""
    return isinstance(structure, _NESTS)


def pack_sequence_as(structure: Any, flat_sequence: Any) -> Any:
    """The items of a flat list in the shape of `structure`.

    Raises:
        ValueError: there are too few or too many.
    """
    wanted, given = len(flatten(structure)), list(flat_sequence)
    if wanted != len(given):
        raise ValueError(
            f"pack_sequence_as: the structure has {wanted} leaves, got {len(given)} items."
        )
    return pack_as(structure, given)


def assert_same_structure(a: Any, b: Any) -> None:
    """Raises ValueError unless both are nested alike, with the same types and keys."""
    alike = type(a) is type(b) or not (is_nested(a) or is_nested(b))
    if alike and isinstance(a, dict):
        alike = a.keys() == b.keys()
    elif alike and is_nested(a):
        alike = len(a) == len(b)
    if not alike:
        raise ValueError(f"assert_same_structure: {a!r} and {b!r} are not nested alike.")
    if is_nested(a):
        for key in a if isinstance(a, dict) else range(len(a)):
            assert_same_structure(a[key], b[key])


def __dir__() -> list[str]:
    return __all__
