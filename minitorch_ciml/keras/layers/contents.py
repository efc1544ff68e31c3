"""What is in a layer: the layers, weights and metrics that its attributes hold.

They are found by walking the attributes, so that a list of layers, or one that is put in later, is
noticed too. A training step asks for them often: what was found serves until something changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from operator import is_
from typing import TYPE_CHECKING, Any

import numpy as np

from minitorch_ciml.autograd import Parameter
from minitorch_ciml.keras import changes
from minitorch_ciml.keras.serialization import Configurable


class HoldsWeights(Configurable):
    """The base of `Layer`: its weights, and those of the layers inside it."""

    name: str
    built: bool
    _trainable: bool
    _roles: dict[Parameter, bool]  # the weights made here, and whether for training
    _found: Inventory | None = None  # by the last walk

    if not TYPE_CHECKING:  # where a misspelt attribute shall be told

        def __setattr__(self, name: str, value: Any) -> None:
            before = self.__dict__.get(name)
            if value is not before and not name.startswith("_") and name not in _OF_TRAINING:
                changes.note()  # a setting, such as a rate: what was recorded of a step is outdated
            elif _counts(value) or _counts(before):
                changes.note()
            super().__setattr__(name, value)

        def __delattr__(self, name: str) -> None:
            changes.note()
            super().__delattr__(name)

    def _parts(self) -> tuple[list[Any], list[Parameter]]:
        """The layers and the weights that the attributes hold, each once, in order."""
        layers: dict[HoldsWeights, None] = {}
        weights = dict.fromkeys(self._roles)
        for value in self.__dict__.values():
            if not _MAY_HOLD[type(value)]:  # as most: numbers, names, functions
                continue
            for item in _held_by(value):
                if isinstance(item, Parameter):
                    weights.setdefault(item)
                elif item is not self:
                    layers.setdefault(item)
        return list(layers), list(weights)

    def _walk(self) -> Iterator[tuple[Any, list[Parameter]]]:
        """This layer and those inside it, each once, and the weights that each holds itself."""
        seen: set[HoldsWeights] = set()
        stack = [self]
        while stack:
            layer = stack.pop()
            if layer not in seen:
                seen.add(layer)
                inner, own = layer._parts()
                yield layer, layer._in_files_order(own)
                stack += reversed(inner)

    def _own_weights(self) -> list[Parameter]:
        """The weights in this layer's attributes, each once, trainable ones first."""
        return self._in_files_order(self._parts()[1])

    def _in_files_order(self, weights: list[Parameter]) -> list[Parameter]:
        """Trainable weights first: as they were made, even where the layer is frozen now."""
        return sorted(weights, key=lambda w: not self._roles.get(w, w.trainable))

    def _inventory(self) -> Inventory:
        """The layers and weights in here: found by a walk, unless nothing has changed since one."""
        found = self._found
        if found is None or not found.is_current():
            found = self.__dict__["_found"] = Inventory(self)
        return found

    @property
    def weights(self) -> list[Parameter]:
        """All weights: of each layer first the trainable ones, then the others."""
        return list(self._inventory().weights)

    @property
    def trainable_weights(self) -> list[Parameter]:
        """The weights that training changes."""
        return self._inventory().trainable

    @property
    def non_trainable_weights(self) -> list[Parameter]:
        """The weights that training does not change."""
        return [w for w in self._inventory().weights if not w.trainable]

    variables = weights
    trainable_variables = trainable_weights
    non_trainable_variables = non_trainable_weights

    @property
    def trainable(self) -> bool:
        """Whether the weights of this layer, and of those inside it, are trained."""
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        for layer, weights in self._walk():
            layer._trainable = bool(value)
            for weight in weights:
                weight.trainable = bool(value) and layer._roles.get(weight, True)

    def get_weights(self) -> list[np.ndarray]:
        """Copies of the weights, as NumPy arrays."""
        return [w.numpy().copy() for w in self.weights]

    def set_weights(self, weights: list) -> None:
        """Sets the weights from a list of arrays, in the order of `get_weights`."""
        own = self.weights
        if len(own) != len(weights):
            raise ValueError(
                f"set_weights: {self.name!r} has {len(own)} weights, got {len(weights)} arrays"
                + ("" if self.built else "; it is not built yet, call it on data first")
                + "."
            )
        for weight, array in zip(own, weights):
            weight.assign(array)

    def zero_grad(self) -> None:
        """Forgets the gradients of all weights, which `backward` adds to."""
        for weight in self._inventory().weights:
            weight.zero_grad()

    def count_params(self) -> int:
        """The number of numbers in the weights."""
        if not self.built:
            raise ValueError(
                f"count_params: {self.name!r} has no weights yet; call it on data or build() first."
            )
        return sum(w.size for w in self.weights)

    def save_own_variables(self, store: Any) -> None:
        """Writes the weights made in this layer into `store`, a mapping, as "0", "1", ..."""
        for i, weight in enumerate(self._own_weights()):
            store[str(i)] = weight.numpy()

    def load_own_variables(self, store: Any) -> None:
        """Takes the weights made in this layer from `store`.

        Raises:
            ValueError: the store has others, or of other shapes.
        """
        weights = {str(i): weight for i, weight in enumerate(self._own_weights())}
        found = {key: np.shape(store[key]) for key in store.keys()}
        if {key: w.shape for key, w in weights.items()} != found:
            shapes = [w.shape for w in weights.values()]
            raise ValueError(
                f"layer {self.name!r} has weights of shapes {shapes}, the file has "
                f"{list(found.values())}; load into the same architecture, or pass "
                "skip_mismatch=True."
            )
        for key, weight in weights.items():
            weight.assign(np.asarray(store[key]))

    @property
    def metrics(self) -> list:
        """The metrics that this layer, and those inside it, hold as attributes."""
        from minitorch_ciml.keras.metrics import Metric  # which are made of layers' parts

        return self._inventory().held(Metric, ())

    @property
    def metrics_variables(self) -> list[Parameter]:
        """The variables of `metrics`."""
        return [variable for metric in self.metrics for variable in metric.variables]


_OF_TRAINING = {"history", "stop_training"}  # what `fit` sets


class Inventory:
    """What a layer has at this moment.

    Attributes:
        layers: itself and the layers inside it, each once.
        weights: theirs, each once.
    """

    def __init__(self, root: HoldsWeights):
        found = list(root._walk())
        self.layers = [layer for layer, _ in found]
        self.weights = list(dict.fromkeys([w for _, weights in found for w in weights]))
        self._held: dict[type, list] = {}
        self._changes = changes.number
        # What may be changed in place, which no layer notices: with its items if it holds something
        # that is told, or nothing yet. Of all else, such as a vocabulary, the length must do.
        self._containers: list[tuple[Any, list]] = []
        self._lengths: list[tuple[Any, int]] = []
        for layer in self.layers:
            for name, value in vars(layer).items():
                if not _CONTAINERS[type(value)] or name in _BOOKKEEPING:
                    continue
                if _counts(value):
                    self._containers += [(c, list(_items(c))) for c in _containers_in(value)]
                elif not isinstance(value, tuple):
                    self._lengths.append((value, len(value)))

    def is_current(self) -> bool:
        """Whether a walk would find the same now."""
        if self._changes != changes.number:
            return False
        for container, length in self._lengths:
            if len(container) != length:
                return False
        for container, then in self._containers:
            if len(container) != len(then) or not all(map(is_, _items(container), then)):
                return False
        return True

    @property
    def trainable(self) -> list[Parameter]:
        """The weights that training changes."""
        return [w for w in self.weights if w.trainable]

    @property
    def regularized(self) -> list[Any]:
        """The weights with a regularizer."""
        return [w for w in self.weights if getattr(w, "regularizer", None) is not None]

    def held(self, kind: type, ignored: type | tuple[()]) -> list:
        """What of a kind the layers have as attributes, also in lists; not those of `ignored`."""
        if kind not in self._held:
            found: dict[Any, None] = {}
            may_hold = _one_of(kind, list, tuple)
            for i, layer in enumerate(self.layers):
                for value in () if i and isinstance(layer, ignored) else vars(layer).values():
                    if may_hold[type(value)]:
                        items = value if isinstance(value, (list, tuple)) else (value,)
                        found.update(dict.fromkeys([x for x in items if isinstance(x, kind)]))
            self._held[kind] = list(found)
        return self._held[kind]


class _Answers(dict):
    """For each type: whether its values are of one of these kinds."""

    def __init__(self, kinds: tuple[type, ...]):
        self._kinds = kinds

    def __missing__(self, kind: type) -> bool:
        answer = self[kind] = issubclass(kind, self._kinds)
        return answer


@cache
def _one_of(*kinds: type) -> _Answers:
    return _Answers(kinds)


# What is a layer or a weight, or may have some in it.
_MAY_HOLD = _one_of(HoldsWeights, Parameter, list, tuple, dict)
_CONTAINERS = _one_of(list, tuple, dict)
# Layers and weights, and what else of Keras' an inventory tells, such as metrics.
_TOLD = _one_of(Configurable, Parameter)
# Attributes that change in every step, or with a note of it, or that hold nothing that is told.
_BOOKKEEPING = {
    "_added_losses", "_build_shape", "_build_shapes", "_compile_arguments", "_inbound_nodes",
    "_programs", "_roles",
}  # fmt: skip


def _items(container: Any) -> Iterable[Any]:
    return container.values() if isinstance(container, dict) else container


def _containers_in(value: Any) -> Iterator[Any]:
    """The lists and dictionaries that are this value or in it, and hold what is told, or may."""
    if _CONTAINERS[type(value)] and _counts(value):
        if not isinstance(value, tuple):
            yield value
        for item in _items(value):
            yield from _containers_in(item)


def _counts(value: Any) -> bool:
    """Whether an attribute with this value may hold something that is told, now or later."""
    if not _CONTAINERS[type(value)]:
        return _TOLD[type(value)]
    return not value or any(map(_counts, _items(value)))


def _held_by(value: Any) -> Iterator[Any]:
    """The layers and weights in an attribute, also in lists and dictionaries of them."""
    if isinstance(value, (HoldsWeights, Parameter)):
        yield value
        return
    for item in _items(value):
        if _MAY_HOLD[type(item)]:
            yield from _held_by(item)
