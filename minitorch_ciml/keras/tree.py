"""Nested structures: lists, tuples and dictionaries with leaves of any kind (`keras.tree`)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

__all__ = [
    "MAP_TO_NONE", "assert_same_paths", "assert_same_structure", "flatten", "flatten_with_path",
    "is_nested", "lists_to_tuples", "map_shape_structure", "map_structure", "map_structure_up_to",
    "pack_sequence_as", "traverse",
]  # fmt: skip

_NESTS = (list, tuple, dict)


class MAP_TO_NONE:
    """What a function for `traverse` gives where None is to stand in the result."""


def is_nested(structure: Any) -> bool:
    """Whether it is a list, tuple or dictionary."""
    return isinstance(structure, _NESTS)


def flatten(structure: Any) -> list:
    """The leaves, depth first; a dictionary's in the order of its sorted keys.

    An `OrderedDict` has its own order.
    """
    if not isinstance(structure, _NESTS):
        return [structure]
    return list(_leaves(structure))


def _leaves(structure: Any) -> Iterator:
    if isinstance(structure, (list, tuple)):
        for item in structure:
            yield from _leaves(item)
    elif isinstance(structure, dict):
        for key in _keys(structure):
            yield from _leaves(structure[key])
    else:
        yield structure


def _keys(structure: dict) -> Iterable:
    """The keys in the order in which the values are visited."""
    return structure if isinstance(structure, OrderedDict) else sorted(structure)


def _like(structure: Any, items: dict) -> Any:
    """`items` (by key or index) in a nest of the same type, in the same order."""
    if isinstance(structure, dict):
        kind = OrderedDict if isinstance(structure, OrderedDict) else dict
        return kind((key, items[key]) for key in structure)
    if hasattr(structure, "_fields"):  # a named tuple
        return type(structure)(*items.values())
    return type(structure)(items.values())


def map_structure(
    func: Callable, structure: Any, *structures: Any, none_is_leaf: bool = True
) -> Any:
    """The same structure with `func(leaf)` in place of every leaf.

    Args:
        func: of one leaf of each structure.
        structure, structures: nested alike.
        none_is_leaf: whether None is given to `func`; otherwise it stays as it is.

    Raises:
        ValueError: the structures are not nested alike.
    """
    if not structures and none_is_leaf:
        return _mapped(func, structure)
    for other in structures:
        assert_same_structure(structure, other)
    together = zip(*map(flatten, (structure, *structures)))
    results = [
        None if leaves[0] is None and not none_is_leaf else func(*leaves) for leaves in together
    ]
    return pack_as(structure, results)


def _mapped(function: Callable, structure: Any) -> Any:
    if not isinstance(structure, _NESTS):
        return function(structure)
    if isinstance(structure, dict):
        items = {key: _mapped(function, structure[key]) for key in _keys(structure)}
        return _like(structure, items)
    results = [_mapped(function, item) for item in structure]
    return type(structure)(*results) if hasattr(structure, "_fields") else type(structure)(results)


def map_structure_up_to(shallow_structure: Any, func: Callable, *structures: Any) -> Any:
    """`map_structure` that takes whatever stands at the leaves of `shallow_structure` for a leaf.

    Raises:
        ValueError: a structure lacks some of its items.
    """
    if not is_nested(shallow_structure):
        return func(*structures)
    shallow = _items(shallow_structure)
    for structure in structures:
        if not is_nested(structure) or _items(structure).keys() != shallow.keys():
            raise ValueError(
                f"map_structure_up_to: {structure!r} does not have the items of "
                f"{shallow_structure!r}."
            )
    keys = _keys(shallow) if isinstance(shallow_structure, dict) else shallow
    items = {
        key: map_structure_up_to(shallow[key], func, *[structure[key] for structure in structures])
        for key in keys
    }
    return _like(shallow_structure, items)


def map_shape_structure(func: Callable, structure: Any) -> Any:
    """`map_structure` that takes shapes, such as (None, 3), for leaves."""
    if isinstance(structure, (list, tuple)) and all(
        item is None or isinstance(item, int) for item in structure
    ):
        return func(tuple(structure))
    if isinstance(structure, (list, tuple)):
        return type(structure)(map_shape_structure(func, item) for item in structure)
    if isinstance(structure, dict):
        return {key: map_shape_structure(func, structure[key]) for key in sorted(structure)}
    raise ValueError(f"map_shape_structure: expected shapes, got {structure!r}.")


def traverse(func: Callable, structure: Any, top_down: bool = True) -> Any:
    """The structure, with what `func` gives for its parts and leaves in their place.

    Args:
        func: of a part or leaf; None leaves it as it is, `MAP_TO_NONE` puts None there.
        structure: nested.
        top_down: begin with the whole: parts of what `func` replaces are not visited. Otherwise
            with the leaves.
    """
    if top_down:
        new = func(structure)
        if new is not None:
            return None if new is MAP_TO_NONE else new
    if is_nested(structure):
        items = _items(structure)
        keys = _keys(structure) if isinstance(structure, dict) else items
        structure = _like(structure, {key: traverse(func, items[key], top_down) for key in keys})
    if not top_down:
        new = func(structure)
        if new is not None:
            return None if new is MAP_TO_NONE else new
    return structure


def lists_to_tuples(structure: Any) -> Any:
    """The same structure with tuples in place of lists."""
    return traverse(
        lambda part: tuple(part) if isinstance(part, list) else None, structure, top_down=False
    )


def _items(structure: Any) -> dict:
    """The items of a nest by key or index."""
    return structure if isinstance(structure, dict) else dict(enumerate(structure))


def flatten_with_path(structure: Any) -> list[tuple[tuple, Any]]:
    """The leaves, each with its path: the keys and indices that lead to it."""
    return list(_paths(structure, ()))


def _paths(structure: Any, path: tuple) -> Iterator[tuple[tuple, Any]]:
    if not is_nested(structure):
        yield path, structure
        return
    items = _items(structure)
    for key in _keys(structure) if isinstance(structure, dict) else items:
        yield from _paths(items[key], (*path, key))


def pack_as(structure: Any, leaves: list) -> Any:
    """`leaves` in the shape of `structure`: the inverse of `flatten`."""
    remaining = iter(leaves)
    return map_structure(lambda _: next(remaining), structure)


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


def assert_same_structure(a: Any, b: Any, check_types: Any = None) -> None:
    """Raises ValueError unless both are nested alike, with the same types and keys.

    `check_types` is accepted as in Keras, where it has no effect either.
    """
    alike = type(a) is type(b) or not (is_nested(a) or is_nested(b))
    if isinstance(a, dict) and isinstance(b, dict):
        alike = a.keys() == b.keys()
    elif alike and is_nested(a):
        alike = len(a) == len(b)
    if not alike:
        raise ValueError(f"assert_same_structure: {a!r} and {b!r} are not nested alike.")
    if is_nested(a):
        for key in a if isinstance(a, dict) else range(len(a)):
            assert_same_structure(a[key], b[key])


def assert_same_paths(a: Any, b: Any) -> None:
    """Raises ValueError unless the same paths lead to leaves; a list and a tuple are alike."""
    differing = {path for path, _ in flatten_with_path(a)}
    differing ^= {path for path, _ in flatten_with_path(b)}
    if differing:
        raise ValueError(f"assert_same_paths: only one of both has {sorted(differing, key=repr)}.")


def __dir__() -> list[str]:
    return __all__
