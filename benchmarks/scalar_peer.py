"""The peer of the scalar engine: the smallest one there is, with a closure per operation."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from benchmarks import scalar_mlp
from benchmarks.framework import Framework, Run
from benchmarks.workloads import Workload


class Value:
    """A number, its gradient, and a closure that passes the gradient on to its parents."""

    __slots__ = ("data", "grad", "parents", "pass_on")

    def __init__(self, data: float, parents: tuple = ()):
        self.data = data
        self.grad = 0.0
        self.parents = parents
        self.pass_on: Callable[[], None] | None = None

    def __add__(self, other: Any) -> Value:
        other = other if isinstance(other, Value) else Value(other)
        result = Value(self.data + other.data, (self, other))

        def pass_on() -> None:
            self.grad += result.grad
            other.grad += result.grad

        result.pass_on = pass_on
        return result

    def __mul__(self, other: Any) -> Value:
        other = other if isinstance(other, Value) else Value(other)
        result = Value(self.data * other.data, (self, other))

        def pass_on() -> None:
            self.grad += other.data * result.grad
            other.grad += self.data * result.grad

        result.pass_on = pass_on
        return result

    def __sub__(self, other: Any) -> Value:
        return self + (-other)

    def __pow__(self, exponent: float) -> Value:
        result = Value(self.data**exponent, (self,))

        def pass_on() -> None:
            self.grad += exponent * self.data ** (exponent - 1) * result.grad

        result.pass_on = pass_on
        return result

    def tanh(self) -> Value:
        result = Value(math.tanh(self.data), (self,))

        def pass_on() -> None:
            self.grad += (1 - result.data**2) * result.grad

        result.pass_on = pass_on
        return result

    def backward(self) -> None:
        """Adds d self / d v to `v.grad` of everything that self was made from."""
        order: list[Value] = []
        seen: set[Value] = set()
        stack = [(self, False)]
        while stack:  # depth first: what a value was made from comes before it
            value, ready = stack.pop()
            if ready:
                order.append(value)
            elif value not in seen:
                seen.add(value)
                stack.append((value, True))
                stack.extend((parent, False) for parent in value.parents)
        self.grad = 1.0
        for value in reversed(order):
            if value.pass_on is not None:
                value.pass_on()


class Closures(Framework):
    def scalar(self, workload: Workload, mode: str) -> Run:
        return scalar_mlp.build(workload, Value, Value.tanh)


def create() -> Framework:
    return Closures()
