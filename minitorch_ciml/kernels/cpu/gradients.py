"""Gradients of arithmetic: where an input was repeated, what is large is summed before its use."""

from __future__ import annotations

import numpy as np

from minitorch_ciml.kernels.cpu.broadcasting import divide, multiply, multiply_twice, negative
from minitorch_ciml.kernels.cpu.reduce import sum_to

Array = np.ndarray
Needs = tuple[bool, ...]
Gradients = tuple[Array | None, ...]


def negative_grad(g: Array, y: Array, x: Array, *, needs: Needs) -> Gradients:
    return (negative(g),)


def subtract_grad(g: Array, y: Array, a: Array, b: Array, *, needs: Needs) -> Gradients:
    return g, negative(_fitting(g, b)) if needs[1] else None


def square_grad(g: Array, y: Array, x: Array, *, needs: Needs) -> Gradients:
    return (multiply_twice(g, x),)


def multiply_grad(g: Array, y: Array, a: Array, b: Array, *, needs: Needs) -> Gradients:
    return multiply(g, b) if needs[0] else None, multiply(g, a) if needs[1] else None


def divide_grad(g: Array, y: Array, a: Array, b: Array, *, needs: Needs) -> Gradients:
    db = divide(_fitting(multiply(g, y), b), negative(b)) if needs[1] else None
    return divide(g, b) if needs[0] else None, db


def _fitting(g: Array, x: Array) -> Array:
    """The sum of g over the axes along which x was repeated."""
    return g if g.shape == x.shape else sum_to(g, shape=x.shape)
