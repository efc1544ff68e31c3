"""Optimizers' updates with numba: the rules of `reference/optimizer.py`, each in one pass.

One call updates all parameters of a buffer on all threads, with gradients that lie anywhere; every
array is read and written once. Constants are brought to the arrays' dtype first, as one float64
among them would make the whole loop compute in float64.
"""

from __future__ import annotations

import ctypes
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numba import carray
from numba.core import types
from numba.extending import intrinsic

from minitorch_ciml.kernels.cpu.jit import entry, kernel, named
from minitorch_ciml.kernels.cpu.threads import ALL, task

_RISE = 0.96  # Nadam: how fast the momentum approaches beta_1 (Dozat, 2016)

# From so many elements on several threads are faster than one; below, waking them costs more.
_PARALLEL_SIZE = 1 << 16
# Elements that a thread takes at a time, from the beginning of a cache line on: a pass over vectors
# that lie across two lines takes up to twice as long.
_PIECE, _LINE = 1 << 13, 64


@intrinsic
def _pointer(typingctx, address, p):
    """An address as a pointer to elements of p's dtype."""
    kind = types.CPointer(p.dtype)

    def codegen(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(kind))

    return kind(types.intp, p), codegen


def _update_piece(i, places, keeps, p, lead, rest):
    first, last = max(i * _PIECE - lead, 0), min((i + 1) * _PIECE - lead, p.size)
    for k in range(keeps.size):
        address, start, stop = places[k]
        if address != 0 and start < last and first < stop:
            # So that g[i] is the gradient of p[i].
            g = carray(_pointer(address - start * p.itemsize, p), p.size)
            rule(max(first, start), min(last, stop), keeps[k], p, g, *rest)  # noqa: F821


def _update(most, places, keeps, p, *rest):
    lead = p.ctypes.data % _LINE // p.itemsize  # what is before p in its first line
    pieces = (lead + p.size + _PIECE - 1) // _PIECE
    piece(pieces, most, (places, keeps, p, lead, rest))  # noqa: F821


class Rule:
    """A compiled update: `rule(p, g, <slots>, keep, lr, <constants>)` changes p and the slots.

    Args:
        rule: what it does for the elements from `first` to `last`.
    """

    def __init__(self, rule: Callable):
        self.__name__, self.__module__, self.__doc__ = rule.__name__, __name__, rule.__doc__
        self._slots = list(inspect.signature(rule).parameters).index("lr") - 5
        piece = task(named(_update_piece, f"{rule.__name__}_piece", rule=kernel(rule)))
        self._run = entry(named(_update, rule.__name__, piece=piece))

    def __call__(self, p: np.ndarray, g: np.ndarray, *arguments: Any) -> None:
        slots, keep, numbers = (
            arguments[: self._slots], arguments[self._slots], arguments[self._slots + 1 :]
        )  # fmt: skip
        self.together(p, [slice(0, p.size)], [g], slots, [keep], numbers)

    def together(
        self, p: np.ndarray, slices: Sequence[slice], gradients: Sequence[np.ndarray | None],
        slots: Sequence[np.ndarray | None], keeps: Sequence[float], numbers: Sequence,
    ) -> None:  # fmt: skip
        """The same for many parameters, slices of p, whose gradients lie in arrays of their own.

        Args:
            gradients: contiguous and of p's dtype, as many as slices; what has none (None) stays
                as it is.
            keeps: the factor of each parameter.
            numbers: the learning rate and the rule's constants.
        """
        places = [(_address(g), s.start, s.stop) for g, s in zip(gradients, slices)]
        most = ALL if p.size >= _PARALLEL_SIZE else 1
        self._run(most, np.array(places), np.array(keeps), p, *slots, *numbers)


def _address(array: np.ndarray | None) -> int:
    """Where an array's memory begins. (NumPy's own way takes four times as long.)"""
    if array is None or not array.size:
        return 0
    return ctypes.addressof(ctypes.c_char.from_buffer(array))  # type: ignore[arg-type]


@Rule
def sgd(first, last, keep, p, g, m, lr, momentum, nesterov):
    real = p.dtype.type
    keep, lr, momentum = real(keep), real(lr), real(momentum)
    for i in range(np.uint64(first), np.uint64(last)):
        change = -lr * g[i]
        if m is not None:
            m[i] = momentum * m[i] + change
            change = momentum * m[i] + change if nesterov else m[i]
        p[i] = keep * p[i] + change


@Rule
def adam(first, last, keep, p, g, m, v, v_hat, lr, step, beta_1, beta_2, epsilon):
    real = p.dtype.type
    t, one = real(step), real(1)
    alpha = real(lr) * np.sqrt(one - real(beta_2) ** t) / (one - real(beta_1) ** t)
    keep, rest_1, rest_2, epsilon = real(keep), real(1 - beta_1), real(1 - beta_2), real(epsilon)
    for i in range(np.uint64(first), np.uint64(last)):
        m[i] += (g[i] - m[i]) * rest_1
        v[i] += (g[i] * g[i] - v[i]) * rest_2
        square = v[i]
        if v_hat is not None:
            v_hat[i] = max(v_hat[i], square)
            square = v_hat[i]
        p[i] = keep * p[i] - m[i] * alpha / (np.sqrt(square) + epsilon)


@Rule
def adamax(first, last, keep, p, g, m, u, lr, step, beta_1, beta_2, epsilon):
    real = p.dtype.type
    alpha = real(lr) / (real(1) - real(beta_1) ** real(step))
    keep, rest_1, beta_2, epsilon = real(keep), real(1 - beta_1), real(beta_2), real(epsilon)
    for i in range(np.uint64(first), np.uint64(last)):
        m[i] += (g[i] - m[i]) * rest_1
        u[i] = max(beta_2 * u[i], abs(g[i]))
        p[i] = keep * p[i] - alpha * m[i] / (u[i] + epsilon)


@Rule
def nadam(first, last, keep, p, g, m, v, lr, step, beta_1, beta_2, epsilon, u_product):
    real = p.dtype.type
    t, b1, one, half, rise = real(step), real(beta_1), real(1), real(0.5), real(_RISE)
    u = b1 * (one - half * rise**t)
    u_next = b1 * (one - half * rise ** (t + one))
    of_m = u_next / (one - real(u_product) * u_next)
    of_g = (one - u) / (one - real(u_product))
    correction = one - real(beta_2) ** t
    keep, lr, epsilon = real(keep), real(lr), real(epsilon)
    rest_1, rest_2 = real(1 - beta_1), real(1 - beta_2)
    for i in range(np.uint64(first), np.uint64(last)):
        m[i] += (g[i] - m[i]) * rest_1
        v[i] += (g[i] * g[i] - v[i]) * rest_2
        m_hat = m[i] * of_m + g[i] * of_g
        p[i] = keep * p[i] - lr * m_hat / (np.sqrt(v[i] / correction) + epsilon)


@Rule
def rmsprop(first, last, keep, p, g, v, m, a, lr, rho, momentum, epsilon):
    real = p.dtype.type
    keep, lr, momentum, epsilon = real(keep), real(lr), real(momentum), real(epsilon)
    rest, rho = real(1 - rho), real(rho)
    for i in range(np.uint64(first), np.uint64(last)):
        v[i] = rho * v[i] + rest * g[i] * g[i]
        denominator = v[i]
        if a is not None:
            a[i] = rho * a[i] + rest * g[i]
            denominator -= a[i] * a[i]
        change = lr * g[i] / np.sqrt(denominator + epsilon)
        if m is not None:
            m[i] = momentum * m[i] + change
            change = m[i]
        p[i] = keep * p[i] - change


@Rule
def adagrad(first, last, keep, p, g, a, lr, epsilon):
    real = p.dtype.type
    keep, lr, epsilon = real(keep), real(lr), real(epsilon)
    for i in range(np.uint64(first), np.uint64(last)):
        a[i] += g[i] * g[i]
        p[i] = keep * p[i] - lr * g[i] / np.sqrt(a[i] + epsilon)


@Rule
def adadelta(first, last, keep, p, g, a, d, lr, rho, epsilon):
    real = p.dtype.type
    keep, lr, epsilon = real(keep), real(lr), real(epsilon)
    rest, rho = real(1 - rho), real(rho)
    for i in range(np.uint64(first), np.uint64(last)):
        a[i] = rho * a[i] + rest * g[i] * g[i]
        change = np.sqrt(d[i] + epsilon) * g[i] / np.sqrt(a[i] + epsilon)
        d[i] = rho * d[i] + rest * change * change
        p[i] = keep * p[i] - lr * change


@Rule
def lion(first, last, keep, p, g, m, lr, beta_1, beta_2):
    real = p.dtype.type
    keep, lr, zero = real(keep), real(lr), real(0)
    rest_1, beta_1 = real(1 - beta_1), real(beta_1)
    rest_2, beta_2 = real(1 - beta_2), real(beta_2)
    for i in range(np.uint64(first), np.uint64(last)):
        direction = beta_1 * m[i] + rest_1 * g[i]
        sign = real(direction > zero) - real(direction < zero)
        p[i] = keep * p[i] - lr * sign
        m[i] = beta_2 * m[i] + rest_2 * g[i]


@Rule
def ftrl(first, last, keep, p, g, a, z, lr, power, l1, l2, shrinkage, beta):
    real = p.dtype.type
    constant = real(2 * (l2 + beta / (2 * lr)))
    keep, lr, power = real(keep), real(lr), real(-power)
    l1, twice_shrinkage = real(l1), real(2 * shrinkage)
    for i in range(np.uint64(first), np.uint64(last)):
        kept = keep * p[i]
        grown = a[i] + g[i] * g[i]
        sigma = (grown**power - a[i] ** power) / lr
        z[i] += g[i] + twice_shrinkage * kept - sigma * kept
        p[i] = (min(max(z[i], -l1), l1) - z[i]) / (grown**power / lr + constant)
        a[i] = grown
