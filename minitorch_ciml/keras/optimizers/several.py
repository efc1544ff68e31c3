"""Several optimizers for the parts of one model, as in fine-tuning."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from typing import Any

from minitorch_ciml.autograd import Parameter
from minitorch_ciml.keras.optimizers.base import Optimizer
from minitorch_ciml.keras.serialization import deserialize_keras_object, serializable


@serializable("keras.optimizers")
class OptimizerMap(MutableMapping):
    """Which optimizer is for which parameter, by the parameter's path.

        optimizers = OptimizerMap(Adam(1e-3), {"base/.*": Adam(1e-5)})

    Args:
        default_optimizer: of paths that no key matches.
        optimizer_map: optimizers by a path, or by a pattern of the whole path.
    """

    def __init__(self, default_optimizer: Optimizer, optimizer_map: dict | None = None):
        self.default_optimizer = _plain("default_optimizer", default_optimizer)
        self._optimizers: dict[str, Optimizer] = {}
        self.update(optimizer_map or {})

    def __getitem__(self, key: str) -> Optimizer:
        if key in self._optimizers:
            return self._optimizers[key]
        matching = [pattern for pattern in self._optimizers if re.fullmatch(pattern, key)]
        if len(matching) > 1:
            raise ValueError(f"OptimizerMap: {key!r} matches {' and '.join(map(repr, matching))}.")
        return self._optimizers[matching[0]] if matching else self.default_optimizer

    def __setitem__(self, key: str, optimizer: Optimizer) -> None:
        if key in self._optimizers:
            raise ValueError(f"OptimizerMap: there is an optimizer for {key!r} already.")
        self._optimizers[key] = _plain(repr(key), optimizer)

    def __delitem__(self, key: str) -> None:
        del self._optimizers[key]

    def __len__(self) -> int:
        return len(self._optimizers)

    def __iter__(self) -> Iterator[str]:
        return iter(self._optimizers)

    def __call__(self, variable: Parameter) -> Optimizer:
        """The optimizer for a parameter."""
        return self[str(getattr(variable, "path", variable.name))]

    def get_config(self) -> dict:
        """The arguments that make an equal map."""
        return {"default_optimizer": self.default_optimizer, "optimizer_map": self._optimizers}

    @classmethod
    def from_config(cls, config: dict, custom_objects: dict | None = None) -> OptimizerMap:
        """The map that `get_config` described."""
        return cls(**{k: deserialize_keras_object(v, custom_objects) for k, v in config.items()})


def _plain(what: str, optimizer: Any) -> Optimizer:
    """An optimizer that does not wrap others."""
    wraps = isinstance(optimizer, MultiOptimizer) or hasattr(optimizer, "inner_optimizer")
    if not isinstance(optimizer, Optimizer) or wraps:
        raise ValueError(
            f"{what}: expected an optimizer such as Adam(), got {type(optimizer).__name__}."
        )
    return optimizer


@serializable("keras.optimizers")
class MultiOptimizer(Optimizer):
    """Trains each parameter with the optimizer that `optimizer_map` gives for it.

        optimizer = MultiOptimizer(OptimizerMap(Adam(1e-3), {"base/.*": Adam(1e-5)}))

    It has no learning rate of its own: those of `optimizers` count, and their weight decay,
    clipping and so on.

    Args:
        optimizer_map: an `OptimizerMap`, or a function of a parameter.
        loss_scale_factor: for all of them; see `Optimizer`.
        name: for messages and files.

    Attributes:
        optimizers: the optimizers in use.
    """

    def __init__(
        self,
        optimizer_map: OptimizerMap | Callable[[Parameter], Optimizer],
        loss_scale_factor: float | None = None,
        name: str | None = None,
    ):
        super().__init__(0.0, loss_scale_factor=loss_scale_factor, name=name)
        self.optimizer_map = optimizer_map
        self.optimizers: list[Optimizer] = []
        if isinstance(optimizer_map, OptimizerMap):
            known = [*optimizer_map.values(), optimizer_map.default_optimizer]
            self.optimizers = list(dict.fromkeys(known))

    def build(self, variables: Sequence[Parameter]) -> None:
        """Gives every optimizer its parameters; once."""
        if self.built:
            return
        self._trainable_variables = list(variables)
        self._positions = {id(v): i for i, v in enumerate(self._trainable_variables)}
        chosen = [_plain("optimizer_map", self.optimizer_map(v)) for v in variables]
        self.optimizers = list(dict.fromkeys([*self.optimizers, *chosen]))
        self._choice = [self.optimizers.index(optimizer) for optimizer in chosen]
        for k, optimizer in enumerate(self.optimizers):
            optimizer.loss_scale_factor = self.loss_scale_factor
            own = [v for v, choice in zip(variables, self._choice) if choice == k]
            if own:
                optimizer.build(own)
        self.built = True

    @property
    def variables(self) -> list[Parameter]:
        """The number of steps, and the variables of all optimizers."""
        inner = [v for optimizer in self.optimizers for v in optimizer.variables]
        return [*super().variables, *inner]

    @property
    def learning_rate(self) -> Any:
        raise AttributeError(
            "a MultiOptimizer has no learning rate; those of its `optimizers` have one each."
        )

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        raise AttributeError(
            "a MultiOptimizer has no learning rate to set; set those of its `optimizers`."
        )

    @property
    def can_be_recorded(self) -> bool:
        """False: the steps of several optimizers are not recorded on a GPU."""
        return False

    def apply(
        self, grads: Sequence, trainable_variables: Sequence[Parameter] | None = None
    ) -> None:
        """Updates each parameter by its own optimizer."""
        if not len(grads):
            return
        if trainable_variables is not None and not self.built:
            self.build(trainable_variables)
        if not self.built:
            raise ValueError(
                f"optimizer {self.name!r} does not know its parameters yet; pass "
                "trainable_variables, or call build(variables) first."
            )
        variables = trainable_variables or self._trainable_variables
        choices = [self._choice[self._positions[id(v)]] for v in variables]
        for k, optimizer in enumerate(self.optimizers):
            own = [(g, v) for g, v, choice in zip(grads, variables, choices) if choice == k]
            if own:
                optimizer.exchange = self.exchange
                optimizer.apply([g for g, _ in own], [v for _, v in own])
        self._count_step()

    def finalize_variable_values(self, var_list: Sequence[Parameter] | None = None) -> None:
        """Ends training: moving averages take the place of parameters, where there are any."""
        for optimizer in self.optimizers:
            if optimizer.built:
                optimizer.finalize_variable_values(optimizer._trainable_variables)

    def get_config(self) -> dict:
        return {
            "optimizer_map": self.optimizer_map,
            "loss_scale_factor": self.loss_scale_factor,
            "name": self.name,
        }
