"""The optimizers. Their formulas are in `kernels/reference/optimizer.py`; here are their constants.

All of them also take the arguments of `Optimizer`, as keywords (`**common`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from minitorch_ciml.autograd import Parameter
from minitorch_ciml.keras.optimizers.base import Optimizer
from minitorch_ciml.keras.serialization import serializable

_EPSILON = 1e-7


class Rule(Optimizer):
    """An optimizer whose own arguments are named in `arguments`, in the kernel's order."""

    arguments: tuple[str, ...] = ()

    def hyperparameters(self, step: int) -> tuple:
        return tuple([getattr(self, name) for name in self.arguments])

    def get_config(self) -> dict:
        return super().get_config() | {name: getattr(self, name) for name in self.arguments}


class _AdamLike(Rule):
    """Rules with two decay rates and a step number."""

    arguments: tuple[str, ...] = ("beta_1", "beta_2", "epsilon")

    def __init__(
        self, learning_rate: Any, beta_1: float, beta_2: float, epsilon: float | None, **common: Any
    ):
        super().__init__(learning_rate, **common)
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = _EPSILON if epsilon is None else epsilon  # None is Keras 2's default

    def hyperparameters(self, step: int) -> tuple:
        return step, self.beta_1, self.beta_2, self.epsilon


@serializable("keras.optimizers")
class SGD(Rule):
    """Gradient descent: w -= learning_rate * g; with momentum m = momentum * m - learning_rate * g.

    Args:
        learning_rate: the size of the steps.
        momentum: from 0 to 1: how much of the last step is kept.
        nesterov: take the gradient's part ahead of the momentum's (Nesterov, 1983).
    """

    kernel = "sgd"
    slots = ("momentum",)
    arguments = ("momentum", "nesterov")

    def __init__(
        self,
        learning_rate: Any = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        **common: Any,
    ):
        super().__init__(learning_rate, **common)
        if not 0 <= momentum <= 1:
            raise ValueError(f"SGD: momentum must be from 0 to 1, got {momentum}.")
        self.momentum = float(momentum)
        self.nesterov = nesterov

    def slot_groups(self) -> list[tuple[str, ...]]:
        return [("momentum",)] if self.momentum else []


@serializable("keras.optimizers")
class Adam(_AdamLike):
    """Steps of the mean gradient over the root of its mean square. (Kingma and Ba, 2014.)

    Args:
        learning_rate: about the size of each parameter's steps.
        beta_1: how slowly the mean of g forgets; `beta_2` the same for g^2.
        epsilon: added to the root.
        amsgrad: take the largest mean square so far. (Reddi et al., 2018.)
    """

    kernel = "adam"
    slots = ("momentum", "velocity", "velocity_hat")
    arguments = ("beta_1", "beta_2", "epsilon", "amsgrad")

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float | None = _EPSILON,
        amsgrad: bool = False,
        **common: Any,
    ):
        super().__init__(learning_rate, beta_1, beta_2, epsilon, **common)
        self.amsgrad = amsgrad

    def slot_groups(self) -> list[tuple[str, ...]]:
        hats = [("velocity_hat",)] if self.amsgrad else []
        return [("momentum", "velocity"), *hats]


@serializable("keras.optimizers", "adamw")
class AdamW(Adam):
    """Adam whose weight decay does not pass through the means. (Loshchilov and Hutter, 2017.)"""

    def __init__(
        self,
        learning_rate: Any = 0.001,
        weight_decay: float = 0.004,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float | None = _EPSILON,
        amsgrad: bool = False,
        **common: Any,
    ):
        if weight_decay is None:
            raise ValueError("AdamW: weight_decay must be a number, got None; or use Adam.")
        common["weight_decay"] = weight_decay
        super().__init__(learning_rate, beta_1, beta_2, epsilon, amsgrad, **common)


@serializable("keras.optimizers")
class Adamax(_AdamLike):
    """Adam with the largest gradient, slowly forgotten, as the scale. (Kingma and Ba, 2014.)"""

    kernel = "adamax"
    slots = ("momentum", "norm")

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float | None = _EPSILON,
        **common: Any,
    ):
        super().__init__(learning_rate, beta_1, beta_2, epsilon, **common)


@serializable("keras.optimizers")
class Nadam(_AdamLike):
    """Adam with Nesterov momentum. (Dozat, 2016.)"""

    kernel = "nadam"
    slots = ("momentum", "velocity")

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float | None = _EPSILON,
        **common: Any,
    ):
        super().__init__(learning_rate, beta_1, beta_2, epsilon, **common)

    def build(self, variables: Sequence[Parameter]) -> None:
        """Also makes the variable for the product of all momenta."""
        if not self.built:
            super().build(variables)
            self._u_product = self._scalar(1.0, "variable", variables[0].dtype)

    def hyperparameters(self, step: int) -> tuple:
        # The product of all momenta u so far is part of the state, since u changes with the step.
        value = self._u_product.value
        value *= value.dtype.type(self.beta_1 * (1 - 0.5 * 0.96**step))
        return *super().hyperparameters(step), float(value)

    def extra_variables(self) -> list[Parameter]:
        return [self._u_product] if self.built else []


@serializable("keras.optimizers", "rmsprop")
class RMSprop(Rule):
    """Steps of the gradient over the root of its mean square. (Hinton, 2012.)

    Args:
        learning_rate: about the size of each parameter's steps.
        rho: how slowly the mean forgets.
        momentum: how much of the last step is kept.
        epsilon: added under the root.
        centered: take the variance of g in place of the mean of g^2.
    """

    kernel = "rmsprop"
    slots = ("velocity", "momentum", "average_gradient")
    arguments = ("rho", "momentum", "epsilon")

    def __init__(
        self,
        learning_rate: Any = 0.001,
        rho: float = 0.9,
        momentum: float = 0.0,
        epsilon: float | None = _EPSILON,
        centered: bool = False,
        **common: Any,
    ):
        super().__init__(learning_rate, **common)
        self.rho = rho
        self.momentum = momentum
        self.epsilon = _EPSILON if epsilon is None else epsilon
        self.centered = centered

    def slot_groups(self) -> list[tuple[str, ...]]:
        used = (("momentum", self.momentum), ("average_gradient", self.centered))
        return [("velocity",), *((slot,) for slot, wanted in used if wanted)]

    def get_config(self) -> dict:
        return super().get_config() | {"centered": self.centered}


@serializable("keras.optimizers")
class Adagrad(Rule):
    """Steps of the gradient over the root of the sum of all its squares. (Duchi et al., 2011.)"""

    kernel = "adagrad"
    slots = ("accumulator",)
    arguments = ("epsilon",)

    def __init__(
        self,
        learning_rate: Any = 0.001,
        initial_accumulator_value: float = 0.1,
        epsilon: float | None = _EPSILON,
        **common: Any,
    ):
        super().__init__(learning_rate, **common)
        self.initial_accumulator_value = initial_accumulator_value
        self.epsilon = _EPSILON if epsilon is None else epsilon

    def initial_value(self, slot: str) -> float:
        return self.initial_accumulator_value if slot == "accumulator" else 0.0

    def get_config(self) -> dict:
        own = {"initial_accumulator_value": self.initial_accumulator_value}
        return super().get_config() | own


@serializable("keras.optimizers")
class Adadelta(Rule):
    """Adagrad with means for sums, and steps that have the weights' unit. (Zeiler, 2012.)"""

    kernel = "adadelta"
    slots = ("accumulated_grad", "accumulated_delta_var")
    arguments = ("rho", "epsilon")

    def __init__(
        self,
        learning_rate: Any = 0.001,
        rho: float = 0.95,
        epsilon: float | None = _EPSILON,
        **common: Any,
    ):
        super().__init__(learning_rate, **common)
        self.rho = rho
        self.epsilon = _EPSILON if epsilon is None else epsilon


@serializable("keras.optimizers")
class Lion(Rule):
    """Steps of one size, in the direction of the momentum's sign. (Chen et al., 2023.)"""

    kernel = "lion"
    slots = ("momentum",)
    arguments = ("beta_1", "beta_2")

    def __init__(
        self, learning_rate: Any = 0.001, beta_1: float = 0.9, beta_2: float = 0.99, **common: Any
    ):
        super().__init__(learning_rate, **common)
        if not 0 < beta_1 <= 1:
            raise ValueError(f"Lion: beta_1 must be above 0 and at most 1, got {beta_1}.")
        self.beta_1 = beta_1
        self.beta_2 = beta_2


@serializable("keras.optimizers")
class Ftrl(Rule):
    """Follow the regularized leader, for sparse linear models. (McMahan et al., 2013.)

    Args:
        learning_rate: the size of the steps.
        learning_rate_power: at most 0; how the steps shrink with the sum of squares.
        initial_accumulator_value: where that sum starts.
        l1_regularization_strength: makes weights exactly 0; `l2_...` makes them small.
        l2_shrinkage_regularization_strength: l2 on the gradient's side.
        beta: added to l2, over twice the learning rate.
    """

    kernel = "ftrl"
    slots = ("accumulator", "linear")
    arguments = (
        "learning_rate_power", "l1_regularization_strength", "l2_regularization_strength",
        "l2_shrinkage_regularization_strength", "beta",
    )  # fmt: skip

    def __init__(
        self,
        learning_rate: Any = 0.001,
        learning_rate_power: float = -0.5,
        initial_accumulator_value: float = 0.1,
        l1_regularization_strength: float = 0.0,
        l2_regularization_strength: float = 0.0,
        l2_shrinkage_regularization_strength: float = 0.0,
        beta: float = 0.0,
        **common: Any,
    ):
        super().__init__(learning_rate, **common)
        if learning_rate_power > 0:
            raise ValueError(
                f"Ftrl: learning_rate_power must be at most 0, got {learning_rate_power}."
            )
        self.learning_rate_power = learning_rate_power
        self.initial_accumulator_value = initial_accumulator_value
        self.l1_regularization_strength = l1_regularization_strength
        self.l2_regularization_strength = l2_regularization_strength
        self.l2_shrinkage_regularization_strength = l2_shrinkage_regularization_strength
        self.beta = beta
        for name in (*self.arguments[1:4], "initial_accumulator_value"):
            if getattr(self, name) < 0:
                raise ValueError(f"Ftrl: {name} must be at least 0, got {getattr(self, name)}.")

    def initial_value(self, slot: str) -> float:
        return self.initial_accumulator_value if slot == "accumulator" else 0.0

    def get_config(self) -> dict:
        own = {"initial_accumulator_value": self.initial_accumulator_value}
        return super().get_config() | own
