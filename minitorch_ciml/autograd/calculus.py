"""Products with Jacobians and Hessians, and these matrices themselves.

J is the Jacobian of y = f(x): J[i, j] = d y_i / d x_j. Backward computes v J, a row at a time,
without J (`vjp`). It is linear in v, so differentiating it by v gives J v, a column at a time
(`jvp`): two backward passes do what forward mode would do in one.

`xs` is one variable or a sequence of them; `f` is called as `f(x)` or `f(*xs)`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minitorch_ciml.autograd.engine import Variable, grad
from minitorch_ciml.autograd.tensor import Tensor, as_tensor, stack
from minitorch_ciml.config import enable_grad


def vjp(f: Callable, xs: Any, v: Any = None, create_graph: bool = False) -> Any:
    """v J: the gradient of sum(v * f(xs)) for each of `xs`.

    Args:
        f: a function from variables to one variable y.
        xs: where to differentiate.
        v: in the shape of y; 1 for a scalar y if left out.
        create_graph: record the derivative too, so that it can be differentiated again.

    Returns:
        In the shape of x; for several `xs`, a list.
    """
    with enable_grad():
        leaves, single = _leaves(xs)
        found = _gradients(f(*leaves), leaves, v, create_graph)
    return found[0] if single else found


def jvp(f: Callable, xs: Any, v: Any, create_graph: bool = False) -> Variable:
    """J v: the derivative of f(xs) along `v`.

    Args:
        f: a function from variables to one variable y.
        xs: where to differentiate.
        v: the direction, in the shape of x; for several `xs`, a sequence.
        create_graph: record the derivative too, so that it can be differentiated again.

    Returns:
        In the shape of y.
    """
    with enable_grad():
        leaves, single = _leaves(xs)
        y = f(*leaves)
        u = _leaf(y.ones_like())  # any u will do, because u J is linear in it
        products = _gradients(y, leaves, u, create_graph=True)
        pairs = [(p, d) for p, d in zip(products, [v] if single else v) if p.requires_grad]
        if not pairs:
            return _zeros(y)
        outputs, directions = zip(*pairs)
        return grad(outputs, u, directions, create_graph=create_graph)


def hvp(f: Callable, x: Variable, v: Any, create_graph: bool = False) -> Variable:
    """H v: the Hessian of the scalar function `f` at `x`, times `v` (Pearlmutter, 1994).

    Args:
        f: a function from a variable to a scalar.
        x: where to differentiate.
        v: in the shape of x.
        create_graph: record the derivative too, so that it can be differentiated again.

    Returns:
        In the shape of x.
    """
    # H is symmetric, so H v is v H: backward through the gradient.
    return vjp(lambda x: vjp(f, x, create_graph=True), x, v, create_graph)


def jacobian(f: Callable, x: Variable, create_graph: bool = False) -> Tensor:
    """J[i..., j...] = d y[i...] / d x[j...], row by row.

    Args:
        f: a function from a tensor to a tensor y.
        x: where to differentiate.
        create_graph: record the derivative too, so that it can be differentiated again.

    Returns:
        A tensor of shape y.shape + x.shape.
    """
    with enable_grad():
        (leaf,), _ = _leaves(x)
        y = f(leaf)
        if not y.size:
            return Tensor(np.zeros(y.shape + leaf.shape, y.dtype))
        seeds = np.eye(y.size, dtype=y.dtype).reshape(y.size, *y.shape)
        rows = [
            _gradients(y, [leaf], Tensor(seed), create_graph, retain_graph=True)[0]
            for seed in seeds
        ]
        return stack(*rows, axis=0).reshape(y.shape + leaf.shape)


def hessian(f: Callable, x: Variable, create_graph: bool = False) -> Tensor:
    """H[i..., j...] = d^2 y / d x[i...] d x[j...] of a scalar function `f`.

    Args:
        f: a function from a tensor to a scalar.
        x: where to differentiate.
        create_graph: record the derivative too, so that it can be differentiated again.

    Returns:
        A tensor of shape x.shape + x.shape.
    """
    return jacobian(lambda x: vjp(f, x, create_graph=True), x, create_graph)


def _leaves(xs: Any) -> tuple[list, bool]:
    """The inputs as variables to differentiate by, and whether there is just one."""
    several = isinstance(xs, (list, tuple)) and any(isinstance(x, Variable) for x in xs)
    variables = [x if isinstance(x, Variable) else as_tensor(x) for x in (xs if several else [xs])]
    return [_leaf(x) for x in variables], not several


def _leaf(x: Variable) -> Variable:
    """`x` itself if gradients flow to it (so that derivatives nest), otherwise a copy."""
    if x.requires_grad:
        return x
    leaf = x.detach()
    leaf.requires_grad = True
    return leaf


def _gradients(
    y: Variable, xs: list, v: Any, create_graph: bool, retain_graph: bool | None = None
) -> list:
    """v d y / d x for each x; zeros where y does not depend on it."""
    if not y.requires_grad:
        return [_zeros(x) for x in xs]
    found = grad(y, xs, v, retain_graph, create_graph, allow_unused=True)
    return [_zeros(x) if g is None else g for x, g in zip(xs, found)]


def _zeros(x: Variable) -> Variable:
    return x.ones_like() * 0.0
