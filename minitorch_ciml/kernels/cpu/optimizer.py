"""Optimizers' updates with numba: the rules of `reference/optimizer.py`, each in one pass.

The pass reads and writes every array once, which is all that counts: for 0.67 million parameters
Adam takes 140 us on one core and 70 us on two. Constants are brought to the arrays' dtype first,
as one float64 among them would make the whole loop compute in float64.
"""

from types import FunctionType

import numpy as np
from numba import prange

from minitorch_ciml.kernels.cpu.jit import entry

_RISE = 0.96  # Nadam: how fast the momentum approaches beta_1 (Dozat, 2016)

# From here on two threads are faster than one; below, waking the others costs more.
_PARALLEL_SIZE = 1 << 16


def _compiled(rule):
    """`rule` compiled twice, for one thread and for all, and a choice by size."""
    # numba finds its cached code by the function's name, so the twin needs one of its own.
    twin = FunctionType(rule.__code__, rule.__globals__, rule.__name__ + "_parallel")
    twin.__qualname__ = twin.__name__
    one = entry(rule)
    many = entry(twin, parallel=True)

    def run(p, *arguments):
        (one if p.size < _PARALLEL_SIZE else many)(p, *arguments)

    return run


@_compiled
def sgd(p, g, m, keep, lr, momentum, nesterov):
    real = p.dtype.type
    keep, lr, momentum = real(keep), real(lr), real(momentum)
    for i in prange(p.size):
        change = -lr * g[i]
        if m is not None:
            m[i] = momentum * m[i] + change
            change = momentum * m[i] + change if nesterov else m[i]
        p[i] = keep * p[i] + change


@_compiled
def adam(p, g, m, v, v_hat, keep, lr, step, beta_1, beta_2, epsilon):
    real = p.dtype.type
    t, one = real(step), real(1)
    alpha = real(lr) * np.sqrt(one - real(beta_2) ** t) / (one - real(beta_1) ** t)
    keep, rest_1, rest_2, epsilon = real(keep), real(1 - beta_1), real(1 - beta_2), real(epsilon)
    for i in prange(p.size):
        m[i] += (g[i] - m[i]) * rest_1
        v[i] += (g[i] * g[i] - v[i]) * rest_2
        square = v[i]
        if v_hat is not None:
            v_hat[i] = max(v_hat[i], square)
            square = v_hat[i]
        p[i] = keep * p[i] - m[i] * alpha / (np.sqrt(square) + epsilon)


@_compiled
def adamax(p, g, m, u, keep, lr, step, beta_1, beta_2, epsilon):
    real = p.dtype.type
    alpha = real(lr) / (real(1) - real(beta_1) ** real(step))
    keep, rest_1, beta_2, epsilon = real(keep), real(1 - beta_1), real(beta_2), real(epsilon)
    for i in prange(p.size):
        m[i] += (g[i] - m[i]) * rest_1
        u[i] = max(beta_2 * u[i], abs(g[i]))
        p[i] = keep * p[i] - alpha * m[i] / (u[i] + epsilon)


@_compiled
def nadam(p, g, m, v, keep, lr, step, beta_1, beta_2, epsilon, u_product):
    real = p.dtype.type
    t, b1, one, half, rise = real(step), real(beta_1), real(1), real(0.5), real(_RISE)
    u = b1 * (one - half * rise**t)
    u_next = b1 * (one - half * rise ** (t + one))
    of_m = u_next / (one - real(u_product) * u_next)
    of_g = (one - u) / (one - real(u_product))
    correction = one - real(beta_2) ** t
    keep, lr, epsilon = real(keep), real(lr), real(epsilon)
    rest_1, rest_2 = real(1 - beta_1), real(1 - beta_2)
    for i in prange(p.size):
        m[i] += (g[i] - m[i]) * rest_1
        v[i] += (g[i] * g[i] - v[i]) * rest_2
        m_hat = m[i] * of_m + g[i] * of_g
        p[i] = keep * p[i] - lr * m_hat / (np.sqrt(v[i] / correction) + epsilon)


@_compiled
def rmsprop(p, g, v, m, a, keep, lr, rho, momentum, epsilon):
    real = p.dtype.type
    keep, lr, momentum, epsilon = real(keep), real(lr), real(momentum), real(epsilon)
    rest, rho = real(1 - rho), real(rho)
    for i in prange(p.size):
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


@_compiled
def adagrad(p, g, a, keep, lr, epsilon):
    real = p.dtype.type
    keep, lr, epsilon = real(keep), real(lr), real(epsilon)
    for i in prange(p.size):
        a[i] += g[i] * g[i]
        p[i] = keep * p[i] - lr * g[i] / np.sqrt(a[i] + epsilon)


@_compiled
def adadelta(p, g, a, d, keep, lr, rho, epsilon):
    real = p.dtype.type
    keep, lr, epsilon = real(keep), real(lr), real(epsilon)
    rest, rho = real(1 - rho), real(rho)
    for i in prange(p.size):
        a[i] = rho * a[i] + rest * g[i] * g[i]
        change = np.sqrt(d[i] + epsilon) * g[i] / np.sqrt(a[i] + epsilon)
        d[i] = rho * d[i] + rest * change * change
        p[i] = keep * p[i] - lr * change


@_compiled
def lion(p, g, m, keep, lr, beta_1, beta_2):
    real = p.dtype.type
    keep, lr, zero = real(keep), real(lr), real(0)
    rest_1, beta_1 = real(1 - beta_1), real(beta_1)
    rest_2, beta_2 = real(1 - beta_2), real(beta_2)
    for i in prange(p.size):
        direction = beta_1 * m[i] + rest_1 * g[i]
        sign = real(direction > zero) - real(direction < zero)
        p[i] = keep * p[i] - lr * sign
        m[i] = beta_2 * m[i] + rest_2 * g[i]


@_compiled
def ftrl(p, g, a, z, keep, lr, power, l1, l2, shrinkage, beta):
    real = p.dtype.type
    constant = real(2 * (l2 + beta / (2 * lr)))
    keep, lr, power = real(keep), real(lr), real(-power)
    l1, twice_shrinkage = real(l1), real(2 * shrinkage)
    for i in prange(p.size):
        kept = keep * p[i]
        grown = a[i] + g[i] * g[i]
        sigma = (grown**power - a[i] ** power) / lr
        z[i] += g[i] + twice_shrinkage * kept - sigma * kept
        p[i] = (min(max(z[i], -l1), l1) - z[i]) / (grown**power / lr + constant)
        a[i] = grown
