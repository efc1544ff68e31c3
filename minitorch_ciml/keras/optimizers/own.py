"""What an optimizer of your own calls, and gives: `update_step` and its variables, as in Keras."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from minitorch_ciml import config
from minitorch_ciml.autograd import Parameter, Tensor
from minitorch_ciml.autograd.flat import FlatBuffer
from minitorch_ciml.config import floatx
from minitorch_ciml.keras.layers.variable import Variable, name_scope
from minitorch_ciml.keras.serialization import get


class OwnUpdate:
    """Part of `Optimizer`: the update without a kernel, one parameter after the other."""

    name: str
    _buffers: list[FlatBuffer]
    _members: list[list[int]]
    _positions: dict[int, int]
    _slot_variables: list[Parameter]

    def update_step(self, gradient: Tensor, variable: Parameter, learning_rate: Any) -> None:
        """Changes one parameter by its gradient: for optimizers that have no kernel."""
        raise NotImplementedError(
            f"{type(self).__name__}: define update_step(self, gradient, variable, learning_rate)."
        )

    def _update_by_hand(self, rate: float, keep: float, missing: set[int]) -> None:
        for buffer, members in zip(self._buffers, self._members):
            for i, variable, g in zip(members, buffer.parameters, buffer.gradient_views):
                if i in missing:
                    continue
                if keep != 1.0 and self._decays(variable):  # type: ignore[attr-defined]
                    variable.assign_sub((1.0 - keep) * variable)
                self.update_step(Tensor.constant(g), variable, rate)

    def add_variable(
        self,
        shape: tuple[int, ...] = (),
        initializer: Any = "zeros",
        dtype: Any = None,
        aggregation: str = "none",
        layout: Any = None,
        name: str | None = None,
    ) -> Parameter:
        """A variable of the optimizer's own, which is saved with it.

        `aggregation` and `layout` are accepted as in Keras.
        """
        make = get("keras.initializers", initializer, "initializer")
        value = make(tuple(shape), dtype=dtype or floatx())
        with name_scope(self.name):
            variable = Variable(value, trainable=False, name=name)
        self._slot_variables.append(variable)
        return variable

    def add_variable_from_reference(
        self, reference_variable: Parameter, name: str | None = None, initializer: Any = "zeros"
    ) -> Parameter:
        """A variable of the shape and dtype of `reference_variable`, which is saved."""
        like = reference_variable
        path = str(getattr(like, "path", like.name)).replace("/", "_")
        with config.device(like.device):
            return self.add_variable(like.shape, initializer, like.dtype.name,
                                     name=f"{path}_{name or 'var'}")  # fmt: skip

    def add_optimizer_variables(
        self, trainable_variables: Sequence[Parameter], name: Any, initializer: Any = "zeros"
    ) -> Any:
        """A variable like each of `trainable_variables`; with a list of names, a list of lists."""
        if isinstance(name, str):
            return [self.add_variable_from_reference(v, name, initializer)
                    for v in trainable_variables]  # fmt: skip
        initializers = [initializer] * len(name) if isinstance(initializer, str) else initializer
        pairs = list(zip(name, initializers))
        rows = [
            [self.add_variable_from_reference(v, n, i) for n, i in pairs]
            for v in trainable_variables
        ]
        return tuple(map(list, zip(*rows)))

    def _get_variable_index(self, variable: Parameter) -> int:
        return self._positions[id(variable)]

    def assign(self, variable: Parameter, value: Any) -> None:
        """Gives a variable another value."""
        variable.assign(value)

    def assign_add(self, variable: Parameter, value: Any) -> None:
        """Adds to a variable."""
        variable.assign_add(value)

    def assign_sub(self, variable: Parameter, value: Any) -> None:
        """Subtracts from a variable."""
        variable.assign_sub(value)
