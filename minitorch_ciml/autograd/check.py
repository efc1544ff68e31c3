"""`check_grads`: is a derivative right? Compares the chain rule with differences, at any order.

The central difference (f(x + eps) - f(x - eps)) / (2 eps) needs no rule, so it cannot share a
mistake with one. With eps = 1e-5 in float64 it is good to about nine digits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minitorch_ciml.autograd.engine import Variable, grad
from minitorch_ciml.autograd.scalar import Scalar
from minitorch_ciml.autograd.tensor import Tensor, as_array, sum_to
from minitorch_ciml.config import enable_grad

SMALL = 32  # inputs with at most so many elements are checked element by element
DIRECTIONS = 3


class GradientError(AssertionError):
    """A derivative differs from the one measured by finite differences."""


def check_grads(
    f: Callable[..., Any],
    *xs: Any,
    order: int = 2,
    eps: float = 1e-5,
    rtol: float = 1e-5,
    seed: int = 0,
) -> None:
    """Checks the derivatives of `f` at `xs` up to `order`, in float64.

    The results of `f` are weighted at random and summed to one number s. Its gradient is compared
    with central differences: for inputs of at most 32 elements by each element, for larger ones
    along three random directions. For the next order, s becomes its own derivative along a random
    direction, computed with `create_graph=True`, and is checked in the same way.

    Args:
        f: a function from variables to a variable (or several) of floats.
        *xs: where to differentiate: scalars, or anything that makes a tensor. Floats are computed
            in float64; integers and booleans are passed on but not differentiated by.
        order: the highest derivative.
        eps: the step of the differences.
        rtol: how much the two may differ, relative to their size.
        seed: of the weights and directions.

    Raises:
        GradientError: the two differ; names the order, the input, the place and both numbers.
        TypeError: `f` gives integers, or no input is a float.
    """
    points = [_point(x) for x in xs]
    wanted = [i for i, x in enumerate(points) if x.dtype.kind == "f"]
    if not wanted:
        raise TypeError("check_grads: none of the inputs is a float; there is nothing to check.")
    kind = Scalar if isinstance(xs[0], Scalar) else Tensor
    with enable_grad():
        s = _weighted_sum(f, seed)
        for k in range(1, order + 1):
            _compare(s, points, wanted, kind, k, eps, rtol, np.random.default_rng(seed + k))
            s = _derivative_along(s, wanted, seed + order + k)


def _point(x: Any) -> np.ndarray:
    if isinstance(x, Scalar):
        return np.asarray(x.value)
    array = as_array(x)
    return array.astype("float64") if array.dtype.kind == "f" else array


def _variables(points: list[np.ndarray], wanted: list[int], kind: Any) -> list[Variable]:
    return [kind(x, requires_grad=i in wanted) for i, x in enumerate(points)]


def _random(rng: np.random.Generator, like: Variable) -> Any:
    """Random numbers in the shape of `like`, none of them close to zero."""
    shape = getattr(like.value, "shape", ())
    weights = rng.uniform(0.5, 1.5, shape) * rng.choice([-1.0, 1.0], shape)
    return Tensor(weights) if isinstance(like, Tensor) else float(weights)


def _total(x: Variable) -> Variable:
    return sum_to(x, shape=()) if isinstance(x, Tensor) else x


def _weighted_sum(f: Callable, seed: int) -> Callable:
    """s = sum of w y + u y^2 over the results y of `f`.

    The square makes the gradient that arrives at `f` depend on the inputs, as it does inside a
    larger program; that part of a rule's own derivative would go unchecked otherwise.
    """

    def s(*xs: Variable) -> Variable:
        rng = np.random.default_rng(seed)
        results = f(*xs)
        total: Any = 0.0
        for y in results if isinstance(results, (list, tuple)) else [results]:
            if isinstance(y, Tensor) and y.dtype.kind != "f":
                raise TypeError(f"check_grads: f gave {y.dtype}; only floats have gradients.")
            w, u = _random(rng, y), _random(rng, y)
            total = total + _total(y * (w + u * y))
        return total

    return s


def _gradients(s: Callable, xs: list[Variable], wanted: list[int], create_graph: bool) -> list:
    """d s / d x for each wanted x; None where s does not depend on it."""
    y = s(*xs)
    if not y.requires_grad:
        return [None] * len(wanted)
    targets = [xs[i] for i in wanted]
    return grad(y, targets, create_graph=create_graph, allow_unused=True)


def _derivative_along(s: Callable, wanted: list[int], seed: int) -> Callable:
    """The derivative of `s` along a random direction: a function like `s`, of the next order."""

    def derivative(*xs: Variable) -> Variable:
        rng = np.random.default_rng(seed)
        total: Any = xs[0].kind.lift(0.0, xs)
        for i, g in zip(wanted, _gradients(s, list(xs), wanted, create_graph=True)):
            direction = _random(rng, xs[i])
            if g is not None:
                total = total + _total(g * direction)
        return total

    return derivative


def _compare(
    s: Callable,
    points: list[np.ndarray],
    wanted: list[int],
    kind: Any,
    order: int,
    eps: float,
    rtol: float,
    rng: np.random.Generator,
) -> None:
    def value(i: int, step: np.ndarray) -> float:
        moved = [x + step if i == j else x for j, x in enumerate(points)]
        return float(s(*_variables(moved, wanted, kind)))

    gradients = _gradients(s, _variables(points, wanted, kind), wanted, create_graph=False)
    for i, g in zip(wanted, gradients):
        x = points[i]
        computed = np.zeros(x.shape) if g is None else np.asarray(g.value)
        # What rounding in s may leave in a difference, besides the relative tolerance.
        size = abs(value(i, np.zeros(x.shape))) + np.abs(computed).max(initial=1.0)
        noise = 1e-13 * size / eps
        for place, direction in _directions(x, rng):
            measured = (value(i, eps * direction) - value(i, -eps * direction)) / (2 * eps)
            expected = float((computed * direction).sum())
            allowed = rtol * max(abs(measured), abs(expected)) + noise
            if not abs(measured - expected) <= allowed:  # also true for nan
                raise GradientError(
                    f"check_grads: the derivative of order {order} by input {i}, {place}, is "
                    f"{expected:.10g}, but differences give {measured:.10g}."
                )


def _directions(x: np.ndarray, rng: np.random.Generator):
    """Where to step, and what to call it: each element of a small x, else random directions."""
    if x.size <= SMALL:
        for index in np.ndindex(x.shape):
            step = np.zeros(x.shape)
            step[index] = 1.0
            yield f"at {list(index)}" if index else "at its value", step
    else:
        for k in range(DIRECTIONS):
            yield f"along random direction {k}", rng.standard_normal(x.shape)
