"""A multi-layer perceptron of single numbers: what a scalar engine is measured with."""

from __future__ import annotations

import random
from collections.abc import Callable
from time import perf_counter
from typing import Any

from benchmarks.framework import Run
from benchmarks.workloads import Workload

SIZES = (4, 16, 16, 1)


def nodes() -> int:
    """The operations that one forward pass records: products, sums, tanh, and the loss."""
    layers = sum(outputs * (2 * inputs + 1) for inputs, outputs in zip(SIZES, SIZES[1:]))
    return layers + 2


def make_weights(number: type) -> list:
    """Per layer and neuron: the bias, then a weight per input."""
    draw = random.Random(0).uniform
    return [
        [[number(draw(-0.5, 0.5)) for _ in range(inputs + 1)] for _ in range(outputs)]
        for inputs, outputs in zip(SIZES, SIZES[1:])
    ]


def loss(weights: list, inputs: list, tanh: Callable) -> Any:
    """(MLP(inputs) - 1) ** 2."""
    x = inputs
    for layer in weights:
        outputs = []
        for bias, *row in layer:
            total = bias
            for w, value in zip(row, x):
                total = total + w * value
            outputs.append(tanh(total))
        x = outputs
    return (x[0] - 1.0) ** 2


def build(workload: Workload, number: type, tanh: Callable) -> Run:
    """Times `workload.model`: "forward" or "backward"; the other part is not counted."""
    weights = make_weights(number)
    inputs = [number(0.1 * i) for i in range(SIZES[0])]
    forward = workload.model == "forward"

    def run(units: int) -> float:
        seconds = 0.0
        for _ in range(units):
            start = perf_counter()
            result = loss(weights, inputs, tanh)
            middle = perf_counter()
            if not forward:
                result.backward()
            seconds += middle - start if forward else perf_counter() - middle
        return seconds

    return run
