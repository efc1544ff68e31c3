"""`keras.tree`: nested structures are gone through, and put together, as in Keras."""

from collections import OrderedDict, namedtuple

import pytest
from keras_peer import keras_peer

from minitorch_ciml import keras

Point = namedtuple("Point", "x y")
STRUCTURES = [
    1,
    None,
    [1, (2, [3]), {"b": 4, "a": 5}],
    {"b": [1, Point(2, 3)], "a": (4, None)},
    OrderedDict([("z", 1), ("y", [2, 3])]),
    [],
    {},
]
OURS, THEIRS = keras.tree, keras_peer.tree


@pytest.mark.parametrize("structure", STRUCTURES, ids=str)
def test_walks_equal_keras(structure):
    assert OURS.flatten(structure) == THEIRS.flatten(structure)
    assert OURS.flatten_with_path(structure) == THEIRS.flatten_with_path(structure)
    assert OURS.is_nested(structure) == THEIRS.is_nested(structure)
    for none_is_leaf in (True, False):
        results = [
            t.map_structure(lambda x: (x,), structure, none_is_leaf=none_is_leaf)
            for t in (OURS, THEIRS)
        ]
        assert results[0] == results[1] and str(results[0]) == str(results[1])
    pairs = [t.map_structure(lambda a, b: (a, b), structure, structure) for t in (OURS, THEIRS)]
    assert pairs[0] == pairs[1]
    leaves = list(range(len(OURS.flatten(structure))))
    packed = [t.pack_sequence_as(structure, leaves) for t in (OURS, THEIRS)]
    assert packed[0] == packed[1]
    assert OURS.lists_to_tuples(structure) == THEIRS.lists_to_tuples(structure)


@pytest.mark.parametrize("top_down", [True, False])
def test_traversals_equal_keras(top_down):
    results = []
    for t in (OURS, THEIRS):
        seen = []

        def replace(part, seen=seen, t=t):
            seen.append(str(part))
            if part == 4:
                return t.MAP_TO_NONE
            return "list" if isinstance(part, list) and len(part) == 1 else None

        results.append((t.traverse(replace, [(1, 2), [3], {"a": 4}], top_down=top_down), seen))
    assert results[0] == results[1]


def test_shapes_and_parts_equal_keras():
    shapes = {"b": (1, None), "a": [(2, 3), (4,)]}
    shallow, deep = [None, {"k": None}], [[1, 2], {"k": (3, 4)}]
    for t in (OURS, THEIRS):
        assert t.map_shape_structure(lambda s: ("S", s), shapes) == {
            "a": [("S", (2, 3)), ("S", (4,))], "b": ("S", (1, None)),
        }  # fmt: skip
        assert t.map_structure_up_to(shallow, str, deep) == ["[1, 2]", {"k": "(3, 4)"}]
        t.assert_same_structure({"a": 1, "b": [2]}, {"b": [3], "a": 4})
        t.assert_same_paths([1, (2,)], (1, [2]))
        for a, b in (([1, 2], (1, 2)), ([1], [1, 2]), ({"a": 1}, {"b": 1}), (1, [1])):
            with pytest.raises(ValueError):
                t.assert_same_structure(a, b)
        with pytest.raises(ValueError):
            t.assert_same_paths([1, 2], (1,))
        with pytest.raises(ValueError):
            t.map_structure(lambda a, b: a, [1, 2], (1, 2))
        with pytest.raises(ValueError):
            t.map_structure_up_to([None, None], str, [1])
