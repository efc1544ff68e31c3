"""`LossScaleOptimizer`: what makes training in float16 possible."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minitorch_ciml import distributed, kernels, ops
from minitorch_ciml.autograd import Parameter, Tensor
from minitorch_ciml.config import no_grad
from minitorch_ciml.distributed import exchange_for_part
from minitorch_ciml.keras.optimizers.base import Optimizer
from minitorch_ciml.keras.optimizers.schedules import LearningRateSchedule
from minitorch_ciml.keras.serialization import get, serializable, serialize_keras_object
from minitorch_ciml.kernels import steps


@serializable("keras.optimizers")
class LossScaleOptimizer(Optimizer):
    """Scales the loss up, so that small gradients are no zeros in float16, and gradients down.

    The scale is doubled after `dynamic_growth_steps` steps that went well. Where a gradient is
    infinite or no number, the step is left out and the scale halved. (Micikevicius et al., 2018.)

    On a GPU this is decided there, and the host does not wait for it. It does wait in every step
    where it has to know the number of updates: for a schedule of the learning rate, with Nadam,
    moving averages, constraints, accumulated gradients or an optimizer without a kernel, and where
    several ranks share a batch.

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
        self.inner_optimizer.loss_scale_factor = None  # gradients are scaled here
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
        if self._decides_on_gpu() and exchange_for_part(self) is None:
            self._keep_numbers_on("cuda")
            self._apply_on_gpu(grads, trainable_variables)
        else:
            self._keep_numbers_on("cpu")
            self._apply_on_host(grads, trainable_variables)

    # --- the host decides ------------------------------------------------------------------------

    def _apply_on_host(self, grads: Sequence, variables: Sequence[Parameter] | None) -> None:
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
        self.inner_optimizer.apply(grads, variables)
        self.step_counter.value[()] += 1
        if self.step_counter.value == self.dynamic_growth_steps:
            self.step_counter.value[()] = 0
            # An infinite scale would never come back.
            largest = float(np.finfo("f4").max)
            self.dynamic_scale.value[()] = min(float(self.dynamic_scale) * 2, largest)

    @no_grad()
    def _are_finite(self, grads: Sequence) -> bool:
        flags = [ops.all(ops.isfinite(g)) for g in grads if g is not None]
        return bool(ops.all(ops.stack(flags)).item()) if flags else True

    # --- the GPU decides: kernels/cuda/loss_scale.py ---------------------------------------------

    def _decides_on_gpu(self) -> bool:
        """Whether nothing of the inner optimizer's steps needs the host to know their number."""
        inner = self.inner_optimizer
        return (
            inner.can_be_recorded and not inner.use_ema and not inner._constrained
            and not isinstance(inner._learning_rate, LearningRateSchedule)
            and all(buffer.device == "cuda" for buffer in inner._buffers)
            and all(rule.on_count is not False for rule in inner._kernels)
        )  # fmt: skip

    def _keep_numbers_on(self, device: str) -> None:
        """Moves the state between host and GPU, where it is not there yet."""
        numbers = (self.inner_optimizer._iterations, self.step_counter, self.dynamic_scale)
        for variable in numbers:
            variable.value = kernels.place(variable.value, device)
        if device == "cuda" and self._finite is None:
            self._finite = kernels.full((), 1, "int32", "cuda")

    def _apply_on_gpu(self, grads: Sequence, variables: Sequence[Parameter] | None) -> None:
        inner, finite, scale = self.inner_optimizer, self._finite, self.dynamic_scale.value
        grads, skipped = inner._in_order(grads, variables or self._trainable_variables)
        views: list = [None] * len(grads)
        for buffer, members in zip(inner._buffers, inner._members):
            buffer.gather([grads[i] for i in members])
            _kernel("unscale")(buffer.gradient, scale, finite)
            for i, view in zip(members, buffer.gradient_views):
                views[i] = None if grads[i] is None else view
        inner._guard = self._tell
        try:
            inner._apply_now(views, skipped)
        finally:
            inner._guard = None
        for buffer in inner._buffers:
            buffer.touch()
        count, good = inner._iterations.value, self.step_counter.value
        _kernel("settle")(finite, count, good, scale, self.dynamic_growth_steps)

    def _tell(self, rule: Any, numbers: Any, dtype: np.dtype, constants: Callable) -> None:
        """Lets the inner optimizer's kernel know whether there is an update."""

        def given(needed: Callable) -> Any:
            return steps.numbers(lambda: needed(dtype.type, *constants()), "float64", "cuda")

        updates = self.inner_optimizer._iterations.value
        _kernel("guard")(rule, numbers, given, self._finite, updates)

    _finite: Any = None  # 1 until a gradient is infinite or no number

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in super().__getstate__().items() if k != "_finite"}

    @property
    def can_be_recorded(self) -> bool:
        """Whether the GPU decides whether there is a step."""
        return self.built and self._decides_on_gpu()

    # --- the rest --------------------------------------------------------------------------------

    def scale_loss(self, loss: Any) -> Any:
        """The loss times the scale: what to differentiate."""
        scale = self.dynamic_scale
        if steps.program.get() is not None:
            raise steps.NotRecordable("the loss scale is a number of the host's")
        return loss * (float(scale) if scale.device == "cpu" else Tensor.constant(scale.value))

    @property
    def iterations(self) -> Tensor:
        """The inner optimizer's: how many updates there were."""
        return self.inner_optimizer.iterations

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


def _kernel(name: str) -> Callable:
    kernel = kernels.find("cuda", name)
    assert kernel is not None, name
    return kernel
