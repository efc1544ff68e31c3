"""Optimizers that look at each parameter as a whole: its norm, its rows and columns.

They have no kernel: `update_step` is written with ops, once for every parameter.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from minitorch_ciml import kernels, ops
from minitorch_ciml.autograd import Parameter
from minitorch_ciml.keras.layers.variable import Variable, name_scope
from minitorch_ciml.keras.optimizers.rules import Rule
from minitorch_ciml.keras.serialization import serializable


@serializable("keras.optimizers")
class Lamb(Rule):
    """Adam's step, as long for each parameter as its weights are large. (You et al., 2020.)

    w -= learning_rate * (|w| / |u|) * u, where u is Adam's step.

    Args:
        learning_rate: the size of the steps.
        beta_1, beta_2: how slowly the means of gradients, and of their squares, follow.
        epsilon: added to the root of the latter.
    """

    arguments = ("beta_1", "beta_2", "epsilon")

    def __init__(
        self, learning_rate: Any = 0.001, beta_1: float = 0.9, beta_2: float = 0.999,
        epsilon: float = 1e-7, **common: Any,
    ):  # fmt: skip
        super().__init__(learning_rate, **common)
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon

    def build(self, variables: Sequence[Parameter]) -> None:
        if self.built:
            return
        super().build(variables)
        self._moments = [
            [self.add_variable_from_reference(v, name) for name in ("momentum", "velocity")]
            for v in variables
        ]

    def update_step(self, gradient: Any, variable: Parameter, learning_rate: Any) -> None:
        m, v = self._moments[self._get_variable_index(variable)]
        step = int(self.iterations) + 1
        m.assign_add((gradient - m) * (1 - self.beta_1))
        v.assign_add((gradient * gradient - v) * (1 - self.beta_2))
        root = ops.sqrt(v / (1 - self.beta_2**step)) + self.epsilon
        update = m / (1 - self.beta_1**step) / root
        weights, change = (float(ops.sqrt(ops.sum(x * x))) for x in (variable, update))
        ratio = weights / change if weights > 0 and change > 0 else 1.0
        variable.assign_sub(update * (ratio * learning_rate))


@serializable("keras.optimizers")
class Adafactor(Rule):
    """Steps over the root of mean squared gradients, kept per row and column.

    (Shazeer and Stern, 2018.) A matrix has as many means as rows and columns, where Adam keeps two
    for every weight; their product is kept, too, as in Keras, so that files agree.

    Args:
        learning_rate: the size of the steps, relative to that of the weights.
        beta_2_decay: negative: how the means follow more slowly with the steps.
        epsilon_1: added to squared gradients.
        epsilon_2: the least size of a parameter's weights.
        clip_threshold: the largest root of mean square of a step, before the learning rate.
        relative_step: a learning rate that is a number is at most 1 / sqrt(the step's number).
    """

    arguments = ("beta_2_decay", "epsilon_1", "epsilon_2", "clip_threshold", "relative_step")

    def __init__(
        self, learning_rate: Any = 0.001, beta_2_decay: float = -0.8, epsilon_1: float = 1e-30,
        epsilon_2: float = 1e-3, clip_threshold: float = 1.0, relative_step: bool = True,
        **common: Any,
    ):  # fmt: skip
        super().__init__(learning_rate, **common)
        self.beta_2_decay = beta_2_decay
        self.epsilon_1 = epsilon_1
        self.epsilon_2 = epsilon_2
        self.clip_threshold = clip_threshold
        self.relative_step = relative_step

    def build(self, variables: Sequence[Parameter]) -> None:
        if self.built:
            return
        super().build(variables)
        self._means = []
        for v in variables:
            matrix = v.ndim > 1
            # Keras' files have two unused integers for every other parameter.
            shapes = [v.shape[:-1], v.shape[:-2] + v.shape[-1:]] if matrix else [(), ()]
            sides = [self._zeros(shape, v, v.dtype if matrix else "int32") for shape in shapes]
            velocity = self.add_variable_from_reference(v, "velocity")
            self._means.append((*sides, velocity) if matrix else (velocity,))

    def _zeros(self, shape: tuple, like: Parameter, dtype: Any) -> Parameter:
        value = kernels.full(shape, 0, np.dtype(dtype), like.device)
        with name_scope(self.name):
            variable = Variable(value, trainable=False, name=like.name)
        self._slot_variables.append(variable)
        return variable

    def update_step(self, gradient: Any, variable: Parameter, learning_rate: Any) -> None:
        *sides, v = self._means[self._get_variable_index(variable)]
        step = int(self.iterations) + 1
        rate = min(learning_rate, step**-0.5)  # also for a schedule, where it is not asked for
        share = step**self.beta_2_decay  # of the new gradient in the means
        squares = gradient * gradient + self.epsilon_1
        if sides:
            rows, columns = sides
            rows.assign(rows * (1 - share) + ops.mean(squares, axis=-1) * share)
            columns.assign(columns * (1 - share) + ops.mean(squares, axis=-2) * share)
            relative = rows / ops.mean(rows, axis=-1, keepdims=True)
            v.assign(ops.expand_dims(relative, -1) * ops.expand_dims(columns, -2))
        else:
            v.assign(v * (1 - share) + squares * share)
        update = gradient / ops.sqrt(v)
        update = update / max(1.0, _rms(update) / self.clip_threshold)
        variable.assign_sub(update * (max(self.epsilon_2, _rms(variable)) * rate))


@serializable("keras.optimizers")
class Muon(Rule):
    """Momentum whose matrices are made orthogonal before they are a step. (Jordan et al., 2024.)

    For a matrix w (m, n): w -= learning_rate * rms_rate * sqrt(max(m, n)) * O, where O is the
    orthogonal matrix nearest to the momentum, found by `ns_steps` steps of Newton and Schulz:
    X <- a X + (b X X^T + c (X X^T)^2) X (Liu et al., 2025). Other parameters, embeddings, and those
    whose path `exclude_layers` match are trained by AdamW.

    Args:
        learning_rate: the size of the steps.
        adam_beta_1, adam_beta_2, epsilon: see `Adam`.
        adam_weight_decay, weight_decay: of the parameters trained by AdamW, and of the others.
        exclude_layers: patterns, such as the name of the last layer.
        exclude_embeddings: whether those with "embedding" in their path are left to AdamW.
        muon_a, muon_b, muon_c: a, b, c.
        adam_lr_ratio: a factor of AdamW's learning rate.
        momentum: how much of the last step is kept; `nesterov` takes the gradient ahead of it.
        ns_steps: how many steps make the matrix orthogonal.
        rms_rate: see the formula; None leaves out this factor and the root.
    """

    arguments = (
        "adam_beta_1", "adam_beta_2", "epsilon", "exclude_layers", "muon_a", "muon_b", "muon_c",
        "adam_lr_ratio", "momentum", "ns_steps", "nesterov", "exclude_embeddings",
        "adam_weight_decay", "rms_rate",
    )  # fmt: skip

    def __init__(
        self, learning_rate: Any = 0.001, adam_beta_1: float = 0.9, adam_beta_2: float = 0.999,
        adam_weight_decay: float | None = 0.004, epsilon: float = 1e-7,
        weight_decay: float | None = 0.004, exclude_layers: Any = None,
        exclude_embeddings: bool = True, muon_a: float = 3.4445, muon_b: float = -4.7750,
        muon_c: float = 2.0315, adam_lr_ratio: float = 1, momentum: float = 0.95, ns_steps: int = 5,
        nesterov: bool = True, rms_rate: float | None = 0.2, **common: Any,
    ):  # fmt: skip
        super().__init__(learning_rate, weight_decay=weight_decay, **common)
        self.adam_beta_1, self.adam_beta_2, self.epsilon = adam_beta_1, adam_beta_2, epsilon
        self.adam_weight_decay, self.adam_lr_ratio = adam_weight_decay, adam_lr_ratio
        self.exclude_layers = list(exclude_layers or ())
        self.exclude_embeddings = exclude_embeddings
        self.muon_a, self.muon_b, self.muon_c = muon_a, muon_b, muon_c
        self.momentum, self.nesterov = momentum, nesterov
        self.ns_steps, self.rms_rate = ns_steps, rms_rate

    def build(self, variables: Sequence[Parameter]) -> None:
        if self.built:
            return
        super().build(variables)
        self._moments = [
            [self.add_variable_from_reference(v, name)
             for name in (("momentum", "velocity") if self._is_for_adam(v) else ("momentum",))]
            for v in variables
        ]  # fmt: skip

    def _is_for_adam(self, variable: Parameter) -> bool:
        path = str(getattr(variable, "path", variable.name))
        if variable.ndim != 2 or (self.exclude_embeddings and "embedding" in path.lower()):
            return True
        return any(re.search(pattern, path) for pattern in self.exclude_layers)

    def _decays(self, variable: Parameter) -> bool:  # AdamW's own parameters: see `_adam_step`
        return super()._decays(variable) and not self._is_for_adam(variable)

    def update_step(self, gradient: Any, variable: Parameter, learning_rate: Any) -> None:
        m, *velocity = self._moments[self._get_variable_index(variable)]
        if velocity:
            self._adam_step(gradient, variable, learning_rate, m, velocity[0])
            return
        m.assign(self.momentum * m + gradient)
        step = self._orthogonal(gradient + self.momentum * m if self.nesterov else m)
        if self.rms_rate is not None:
            learning_rate = learning_rate * self.rms_rate * max(variable.shape) ** 0.5
        variable.assign_sub(step * learning_rate)

    def _adam_step(self, g: Any, variable: Parameter, rate: float, m: Any, v: Any) -> None:
        if self.adam_weight_decay and super()._decays(variable):
            variable.assign_sub(variable * (self.adam_weight_decay * rate))
        step = int(self.iterations) + 1
        m.assign_add((g - m) * (1 - self.adam_beta_1))
        v.assign_add((g * g - v) * (1 - self.adam_beta_2))
        bias = (1 - self.adam_beta_2**step) ** 0.5 / (1 - self.adam_beta_1**step)
        change = m / (ops.sqrt(v) + self.epsilon)
        variable.assign_sub(change * (rate * self.adam_lr_ratio * bias))

    def _orthogonal(self, x: Any) -> Any:
        """About U V^T, where x = U S V^T: Newton-Schulz steps bring the singular values near 1."""
        is_tall = x.shape[0] > x.shape[1]
        x = ops.transpose(x) if is_tall else x
        x = x / (ops.sqrt(ops.sum(x * x)) + 1e-7)
        for _ in range(self.ns_steps):
            squares = x @ ops.transpose(x)
            x = self.muon_a * x + (self.muon_b * squares + self.muon_c * squares @ squares) @ x
        return ops.transpose(x) if is_tall else x


def _rms(x: Any) -> float:
    return float(np.sqrt(float(ops.mean(x * x))))
