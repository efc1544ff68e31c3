"""`LossScaleOptimizer`: what makes training in float16 possible."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from minitorch_ciml import distributed, ops
from minitorch_ciml.autograd import Parameter
from minitorch_ciml.config import no_grad
from minitorch_ciml.distributed import exchange_for_part
from minitorch_ciml.keras.optimizers.base import Optimizer
from minitorch_ciml.keras.serialization import get, serializable, serialize_keras_object


@serializable("keras.optimizers")
class LossScaleOptimizer(Optimizer):
    """Scales the loss up, so that small gradients are no zeros in float16, and gradients down.

    The scale is doubled after `dynamic_growth_steps` steps that went well. Where a gradient is
    infinite or no number, the step is left out and the scale halved. (Micikevicius et al., 2018.)
    Whether it is, the host has to know: on a GPU it waits in every step.

    Args:
        inner_optimizer: does the steps.
        initial_scale: of the loss.
        dynamic_growth_steps: after so many good steps the scale doubles.
        name: for messages and files.
    """

    def __init__(
        self,
        inner_optimizer: Any,
        initial_scale: float = 2.0**15,
        dynamic_growth_steps: int = 2000,
        name: str | None = None,
        **unknown: Any,
    ):
        super().__init__(learning_rate=0.0, name=name, **unknown)
        self.inner_optimizer = get("keras.optimizers", inner_optimizer, "optimizer")
        self.initial_scale = float(initial_scale)
        self.dynamic_growth_steps = dynamic_growth_steps
        self.step_counter = self._scalar(0, "step_counter", "int32")
        self.dynamic_scale = self._scalar(self.initial_scale, "dynamic_scale", "float32")

    def build(self, variables: Sequence[Parameter]) -> None:
        """Builds the inner optimizer."""
        self.inner_optimizer.build(variables)
        self._trainable_variables = self.inner_optimizer._trainable_variables
        self.built = True

    def apply(
        self, grads: Sequence, trainable_variables: Sequence[Parameter] | None = None
    ) -> None:
        """A step with the scaled gradients, unless one is infinite or no number."""
        if not self.built and trainable_variables is not None:
            self.build(trainable_variables)
        finite = self._are_finite(grads)
        if exchange_for_part(self) is not None:  # all ranks do the same
            finite = distributed.init().all(finite)
        if not finite:
            self.step_counter.value[()] = 0
            self.dynamic_scale.value[()] /= 2
            return
        with no_grad():
            scale = float(self.dynamic_scale)
            grads = [None if g is None else g / scale for g in grads]
        self.inner_optimizer.apply(grads, trainable_variables)
        self._count_step()
        self.step_counter.value[()] += 1
        if self.step_counter.value == self.dynamic_growth_steps:
            self.step_counter.value[()] = 0
            # An infinite scale would never come back.
            self.dynamic_scale.value[()] = min(float(self.dynamic_scale) * 2, np.finfo("f4").max)

    @no_grad()
    def _are_finite(self, grads: Sequence) -> bool:
        flags = [ops.all(ops.isfinite(g)) for g in grads if g is not None]
        return bool(ops.all(ops.stack(flags)).item()) if flags else True

    def scale_loss(self, loss: Any) -> Any:
        """The loss times the scale: what to differentiate."""
        return loss * float(self.dynamic_scale)

    @property
    def can_be_recorded(self) -> bool:
        """It decides on the host whether there is a step."""
        return False

    @property
    def variables(self) -> list[Parameter]:
        """Its own numbers, then the inner optimizer's variables, as Keras has them in files."""
        own = [self._iterations, self._learning_rate, self.step_counter, self.dynamic_scale]
        return [*own, *self.inner_optimizer.variables]

    @property
    def learning_rate(self) -> Any:
        """The inner optimizer's."""
        return self.inner_optimizer.learning_rate

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        self.inner_optimizer.learning_rate = value

    lr = learning_rate

    def finalize_variable_values(self, var_list: Any = None) -> None:
        """The inner optimizer's."""
        self.inner_optimizer.finalize_variable_values(var_list)

    def share_accumulated(self) -> None:
        """The inner optimizer's."""
        self.inner_optimizer.share_accumulated()

    def get_config(self) -> dict:
        return {
            "name": self.name,
            "inner_optimizer": serialize_keras_object(self.inner_optimizer),
            "initial_scale": self.initial_scale,
            "dynamic_growth_steps": self.dynamic_growth_steps,
        }
