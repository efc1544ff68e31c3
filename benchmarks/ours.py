"""minitorch_ciml: its Keras, loops written by hand with its engine, its kernels, its scalars."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks import ours_kernels, scalar_mlp
from benchmarks.framework import Framework, Run, repeated
from benchmarks.keras_peer import KerasLike
from benchmarks.workloads import LEARNING_RATE, Workload, initial_weights, make_data
from minitorch_ciml import Parameter, Scalar, grad, keras, ops


class Ours(KerasLike):
    def loop(self, workload: Workload, mode: str) -> Run:
        """A training loop in the user's own hands: ops, `grad`, and an optimizer."""
        shapes, loss_of = _BY_HAND[workload.model]
        weights = [Parameter(w) for w in initial_weights(shapes)]
        optimizer = keras.optimizers.Adam(learning_rate=LEARNING_RATE)
        optimizer.build(weights)
        x, y = make_data(workload)
        return repeated(lambda: optimizer.apply(grad(loss_of(x, y, *weights), weights), weights))

    def kernel(self, workload: Workload, mode: str) -> Run:
        return ours_kernels.build(workload)

    def scalar(self, workload: Workload, mode: str) -> Run:
        return scalar_mlp.build(workload, Scalar, ops.tanh)


def _xor_loss(x: Any, y: Any, w1: Any, b1: Any, w2: Any, b2: Any) -> Any:
    hidden = ops.tanh(x @ w1 + b1)
    return ops.mean(ops.binary_crossentropy(y, hidden @ w2 + b2, from_logits=True))


def _attention_loss(x: Any, y: Any, wq: Any, wk: Any, wv: Any, w: Any, b: Any) -> Any:
    scores = (x @ wq) @ ops.transpose(x @ wk, (0, 2, 1)) * 0.25
    attended = ops.mean(ops.softmax(scores) @ (x @ wv), axis=1)
    return ops.mean((attended @ w + b - y) ** 2)


_BY_HAND: dict[str, tuple[tuple, Callable]] = {
    "xor": (((2, 8), (8,), (8, 1), (1,)), _xor_loss),
    "attention": (((16, 16), (16, 16), (16, 16), (16, 1), (1,)), _attention_loss),
}


def create() -> Framework:
    return Ours(keras)
