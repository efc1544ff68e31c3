"""An optimizer that needs no schedule, because it averages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from minitorch_ciml import ops
from minitorch_ciml.autograd import Parameter
from minitorch_ciml.keras.optimizers.rules import Rule
from minitorch_ciml.keras.serialization import serializable


@serializable("keras.optimizers")
class ScheduleFreeAdamW(Rule):
    """AdamW on z, the mean x of all z so far, and the weights between them. (Defazio et al., 2024.)

    In step t: z -= learning_rate g / (sqrt(v) + epsilon), x += (z - x) / t, and the weights become
    (1 - beta_1) z + beta_1 x; v is Adam's mean of g^2. No momentum is kept, and x is not kept
    either: it follows from the weights and z.

    Args:
        learning_rate: the size of the steps of z.
        beta_1: how near to the mean the weights are; above 0.
        beta_2: how slowly v forgets.
        epsilon: added to the root.
        warmup_steps: the learning rate grows to its value in so many steps.
    """

    arguments = ("beta_1", "beta_2", "epsilon", "warmup_steps")

    def __init__(
        self,
        learning_rate: Any = 0.0025,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        warmup_steps: int = 0,
        **common: Any,
    ):
        super().__init__(learning_rate, **common)
        if not 0 < beta_1 <= 1:
            raise ValueError(
                f"ScheduleFreeAdamW: beta_1 must be above 0 and at most 1, got {beta_1}."
            )
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.warmup_steps = warmup_steps

    def build(self, variables: Sequence[Parameter]) -> None:
        if self.built:
            return
        super().build(variables)
        self._state = list(zip(*self.add_optimizer_variables(variables, ["momentum", "velocity"])))
        for (z, _), variable in zip(self._state, variables):
            z.assign(variable)

    def update_step(self, gradient: Any, variable: Parameter, learning_rate: Any) -> None:
        z, v = self._state[self._get_variable_index(variable)]
        step = int(self.iterations) + 1
        if self.warmup_steps:
            learning_rate = learning_rate * min(step / self.warmup_steps, 1.0)
        mean = (variable - (1 - self.beta_1) * z) / self.beta_1
        v.assign_add((gradient * gradient - v) * (1 - self.beta_2))
        root = ops.sqrt(v / (1 - self.beta_2**step)) + self.epsilon
        z.assign_sub(gradient * learning_rate / root)
        mean = mean + (z - mean) / step
        variable.assign((1 - self.beta_1) * z + self.beta_1 * mean)
