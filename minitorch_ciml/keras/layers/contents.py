"""What is in a layer: the layers, weights and metrics that its attributes hold.

They are found by walking the attributes, so that a list of layers, or one that is put in later, is
noticed too. A training step asks for them often: within `_keeping_inventory` they are found once.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np

from minitorch_ciml.autograd import Parameter
from minitorch_ciml.keras.serialization import Configurable


class HoldsWeights(Configurable):
    """The base of `Layer`: its weights, and those of the layers inside it."""

    name: str
    built: bool
    _trainable: bool
    _roles: dict[Parameter, bool]  # the weights made here, and whether for training
    _kept_inventory: Inventory | None

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
        """The layers and weights in here: found by a walk, unless they are kept."""
        kept = self.__dict__.get("_kept_inventory")
        if kept is None:
            kept = Inventory(self)
            if "_kept_inventory" in self.__dict__ and all(x.built for x in kept.layers):
                self._kept_inventory = kept
        return kept

    @contextmanager
    def _keeping_inventory(self) -> Iterator[None]:
        """Within the block, what is found once all layers are built serves for the rest of it."""
        if "_kept_inventory" in self.__dict__:  # within another such block
            yield
            return
        self._kept_inventory = None
        try:
            yield
        finally:
            self.__dict__.pop("_kept_inventory", None)

    @property
    def weights(self) -> list[Parameter]:
        """All weights: of each layer first the trainable ones, then the others."""
        return list(self._inventory().weights)

    @property
    def trainable_weights(self) -> list[Parameter]:
        """The weights that training changes."""
        return list(self._inventory().trainable)

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


class Inventory:
    """What a layer has at this moment.

    Attributes:
        layers: itself and the layers inside it, each once.
        weights: theirs, each once.
        trainable: those that training changes.
        regularized: those with a regularizer.
    """

    def __init__(self, root: HoldsWeights):
        found = list(root._walk())
        self.layers = [layer for layer, _ in found]
        self.weights = list(dict.fromkeys([w for _, weights in found for w in weights]))
        self.trainable = [w for w in self.weights if w.trainable]
        self.regularized: list[Any] = [
            w for w in self.weights if getattr(w, "regularizer", None) is not None
        ]
        self._held: dict[type, list] = {}

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


def _held_by(value: Any) -> Iterator[Any]:
    """The layers and weights in an attribute, also in lists and dictionaries of them."""
    if isinstance(value, (HoldsWeights, Parameter)):
        yield value
        return
    for item in value.values() if isinstance(value, dict) else value:
        if _MAY_HOLD[type(item)]:
            yield from _held_by(item)
