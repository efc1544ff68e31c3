"""Optimizers' updates on the GPU: the rules of `reference/optimizer.py`, each in one pass.

The numbers of a step (learning rate, decay, corrections for the step's number) lie in an array on
the GPU, where a replayed step finds the new ones (`steps.py`). What they are is computed on the
host, in the parameters' float type as the reference does, by `Rule.numbers`; each thread reads a
few of them. The kernels are bound by the arrays that they read and write.

The first number says whether there is an update at all. It is 1, but where only the GPU knows
(`loss_scale.py`), which then writes it there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numba import cuda, float32, float64

from minitorch_ciml.kernels.cuda.elementwise import FLOATS, blocks_for
from minitorch_ciml.kernels.cuda.intrinsics import i32, like
from minitorch_ciml.kernels.cuda.launch import Kernel, ceil_div, kernel
from minitorch_ciml.kernels.cuda.memory import CudaArray, empty
from minitorch_ciml.kernels.cuda.sums import BLOCK, added_up

_RISE = 0.96  # Nadam: how fast the momentum approaches beta_1 (Dozat, 2016)


class Rule:
    """An optimizer's update: `rule(p, g, <slots>, numbers)` changes p and the slots in place.

    Args:
        numbers: `numbers(real, keep, lr, <constants>)`: what the kernels need of a step beside
            `go`; `real` makes them the parameters' float type.
        on_count: where they depend on the number of updates: the kernel that computes those that do
            on the GPU, `on_count(numbers, given, updates so far)`, and a function of the arguments
            of `numbers` for `given`; False where that cannot be.
        variants: the kernel by which of the slots are there, in order, as a string of 0 and 1.
    """

    def __init__(self, numbers: Callable, on_count: Any = None, **variants: Callable):
        self._numbers = numbers
        self.on_count = on_count
        self._variants = {key.lstrip("_"): function for key, function in variants.items()}

    def numbers(self, dtype: np.dtype, keep: float, *constants: Any) -> tuple:
        """The numbers of one step, from the arguments of the reference's rule after the slots."""
        return dtype.type(1), *self._numbers(dtype.type, keep, *constants)

    def __call__(self, p: CudaArray, g: CudaArray, *arguments: Any) -> None:
        *slots, numbers = arguments
        given = [s for s in slots if s is not None]
        run = self._variants["".join("0" if s is None else "1" for s in slots)]
        if p.size:
            run(*blocks_for(p.size), p, g, *given, numbers, p.size)


def _kernel(slots: int) -> Callable:
    return kernel("T* T* " + "T* " * slots + "T* i4", threads=256, T=FLOATS)


# --- sgd ------------------------------------------------------------------------------------------


@_kernel(0)
def _sgd(p, g, c, n):
    go, keep, lr = c[0], c[1], c[2]
    i = cuda.grid(1)
    if i < n and go != 0:
        p[i] = keep * p[i] - lr * g[i]


@_kernel(1)
def _sgd_momentum(p, g, m, c, n):
    go, keep, lr, momentum, ahead, of_g = c[0], c[1], c[2], c[3], c[4], c[5]
    i = cuda.grid(1)
    if i < n and go != 0:
        change = -lr * g[i]
        m_new = momentum * m[i] + change
        m[i] = m_new
        p[i] = keep * p[i] + (ahead * m_new + of_g * change)


def _sgd_numbers(real, keep, lr, momentum, nesterov):
    # With nesterov the step is momentum m - lr g, otherwise m.
    ahead, of_g = (momentum, 1) if nesterov else (1, 0)
    return real(keep), real(lr), real(momentum), real(ahead), real(of_g)


sgd = Rule(_sgd_numbers, _0=_sgd, _1=_sgd_momentum)


# --- adam and its relatives -----------------------------------------------------------------------


@_kernel(2)
def _adam(p, g, m, v, c, n):
    go, keep, alpha, rest_1, rest_2, epsilon = c[0], c[1], c[2], c[3], c[4], c[5]
    i = cuda.grid(1)
    if i < n and go != 0:
        gradient = g[i]
        mean = m[i] + (gradient - m[i]) * rest_1
        square = v[i] + (gradient * gradient - v[i]) * rest_2
        m[i] = mean
        v[i] = square
        p[i] = keep * p[i] - mean * alpha / (math.sqrt(square) + epsilon)


@_kernel(3)
def _adam_amsgrad(p, g, m, v, v_hat, c, n):
    go, keep, alpha, rest_1, rest_2, epsilon = c[0], c[1], c[2], c[3], c[4], c[5]
    i = cuda.grid(1)
    if i < n and go != 0:
        gradient = g[i]
        mean = m[i] + (gradient - m[i]) * rest_1
        square = v[i] + (gradient * gradient - v[i]) * rest_2
        largest = max(v_hat[i], square)
        m[i] = mean
        v[i] = square
        v_hat[i] = largest
        p[i] = keep * p[i] - mean * alpha / (math.sqrt(largest) + epsilon)


def _adam_numbers(real, keep, lr, step, beta_1, beta_2, epsilon):
    t = real(step)
    alpha = real(lr) * np.sqrt(1 - real(beta_2) ** t) / (1 - real(beta_1) ** t)
    return real(keep), alpha, real(1 - beta_1), real(1 - beta_2), real(epsilon)


def _count_kernel(function: Callable) -> Kernel:
    """Of one thread. Powers are computed in float64, and rounded to what the host's are."""
    return kernel("T* f8* i4*", threads=32, T=FLOATS)(function)


@_count_kernel
def _adam_on_count(c, given, updates):
    if cuda.threadIdx.x == 0:
        t = float64(updates[0] + 1)
        one = like(c[0], 1)
        bias_1 = one - like(one, math.pow(given[1], t))
        bias_2 = one - like(one, math.pow(given[2], t))
        c[2] = like(one, given[0]) * math.sqrt(bias_2) / bias_1


def _rate_and_betas(real, keep, lr, step, beta_1, beta_2, epsilon):
    return real(lr), real(beta_1), real(beta_2)


adam = Rule(_adam_numbers, (_adam_on_count, _rate_and_betas), _110=_adam, _111=_adam_amsgrad)


@_kernel(2)
def _adamax(p, g, m, u, c, n):
    go, keep, alpha, rest_1, beta_2, epsilon = c[0], c[1], c[2], c[3], c[4], c[5]
    i = cuda.grid(1)
    if i < n and go != 0:
        mean = m[i] + (g[i] - m[i]) * rest_1
        largest = max(beta_2 * u[i], abs(g[i]))
        m[i] = mean
        u[i] = largest
        p[i] = keep * p[i] - alpha * mean / (largest + epsilon)


def _adamax_numbers(real, keep, lr, step, beta_1, beta_2, epsilon):
    alpha = real(lr) / (1 - real(beta_1) ** real(step))
    return real(keep), alpha, real(1 - beta_1), real(beta_2), real(epsilon)


@_count_kernel
def _adamax_on_count(c, given, updates):
    if cuda.threadIdx.x == 0:
        one = like(c[0], 1)
        bias = one - like(one, math.pow(given[1], float64(updates[0] + 1)))
        c[2] = like(one, given[0]) / bias


adamax = Rule(_adamax_numbers, (_adamax_on_count, _rate_and_betas), _11=_adamax)


@_kernel(2)
def _nadam(p, g, m, v, c, n):
    go, keep, lr, rest_1, rest_2, epsilon, of_m, of_g, correction = (
        c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7], c[8]
    )  # fmt: skip
    i = cuda.grid(1)
    if i < n and go != 0:
        gradient = g[i]
        mean = m[i] + (gradient - m[i]) * rest_1
        square = v[i] + (gradient * gradient - v[i]) * rest_2
        m[i] = mean
        v[i] = square
        change = lr * (mean * of_m + gradient * of_g)
        p[i] = keep * p[i] - change / (math.sqrt(square / correction) + epsilon)


def _nadam_numbers(real, keep, lr, step, beta_1, beta_2, epsilon, u_product):
    t, b1, rise, product = real(step), real(beta_1), real(_RISE), real(u_product)
    u = b1 * (1 - real(0.5) * rise**t)
    u_next = b1 * (1 - real(0.5) * rise ** (t + 1))
    of_m, of_g = u_next / (1 - product * u_next), (1 - u) / (1 - product)
    return (
        real(keep), real(lr), real(1 - beta_1), real(1 - beta_2), real(epsilon), of_m, of_g,
        1 - real(beta_2) ** t,
    )  # fmt: skip


nadam = Rule(_nadam_numbers, False, _11=_nadam)  # a product over the updates


# --- rmsprop, adagrad, adadelta -------------------------------------------------------------------


@_kernel(1)
def _rmsprop(p, g, v, c, n):
    go, keep, lr, rho, rest, epsilon = c[0], c[1], c[2], c[3], c[4], c[5]
    i = cuda.grid(1)
    if i < n and go != 0:
        gradient = g[i]
        square = rho * v[i] + rest * gradient * gradient
        v[i] = square
        p[i] = keep * p[i] - lr * gradient / math.sqrt(square + epsilon)


@_kernel(2)
def _rmsprop_momentum(p, g, v, m, c, n):
    go, keep, lr, rho, rest, epsilon, momentum = c[0], c[1], c[2], c[3], c[4], c[5], c[6]
    i = cuda.grid(1)
    if i < n and go != 0:
        gradient = g[i]
        square = rho * v[i] + rest * gradient * gradient
        change = momentum * m[i] + lr * gradient / math.sqrt(square + epsilon)
        v[i] = square
        m[i] = change
        p[i] = keep * p[i] - change


@_kernel(2)
def _rmsprop_centered(p, g, v, a, c, n):
    go, keep, lr, rho, rest, epsilon = c[0], c[1], c[2], c[3], c[4], c[5]
    i = cuda.grid(1)
    if i < n and go != 0:
        gradient = g[i]
        square = rho * v[i] + rest * gradient * gradient
        mean = rho * a[i] + rest * gradient
        v[i] = square
        a[i] = mean
        p[i] = keep * p[i] - lr * gradient / math.sqrt(square - mean * mean + epsilon)


@_kernel(3)
def _rmsprop_centered_momentum(p, g, v, m, a, c, n):
    go, keep, lr, rho, rest, epsilon, momentum = c[0], c[1], c[2], c[3], c[4], c[5], c[6]
    i = cuda.grid(1)
    if i < n and go != 0:
        gradient = g[i]
        square = rho * v[i] + rest * gradient * gradient
        mean = rho * a[i] + rest * gradient
        change = momentum * m[i] + lr * gradient / math.sqrt(square - mean * mean + epsilon)
        v[i] = square
        a[i] = mean
        m[i] = change
        p[i] = keep * p[i] - change


def _rmsprop_numbers(real, keep, lr, rho, momentum, epsilon):
    return real(keep), real(lr), real(rho), real(1 - rho), real(epsilon), real(momentum)


rmsprop = Rule(
    _rmsprop_numbers, _100=_rmsprop, _110=_rmsprop_momentum, _101=_rmsprop_centered,
    _111=_rmsprop_centered_momentum,
)  # fmt: skip


@_kernel(1)
def _adagrad(p, g, a, c, n):
    go, keep, lr, epsilon = c[0], c[1], c[2], c[3]
    i = cuda.grid(1)
    if i < n and go != 0:
        total = a[i] + g[i] * g[i]
        a[i] = total
        p[i] = keep * p[i] - lr * g[i] / math.sqrt(total + epsilon)


def _plain_numbers(real, *numbers):
    return tuple(map(real, numbers))


adagrad = Rule(_plain_numbers, _1=_adagrad)


@_kernel(2)
def _adadelta(p, g, a, d, c, n):
    go, keep, lr, rho, rest, epsilon = c[0], c[1], c[2], c[3], c[4], c[5]
    i = cuda.grid(1)
    if i < n and go != 0:
        gradient, steps = g[i], d[i]
        square = rho * a[i] + rest * gradient * gradient
        change = math.sqrt(steps + epsilon) * gradient / math.sqrt(square + epsilon)
        a[i] = square
        d[i] = rho * steps + rest * change * change
        p[i] = keep * p[i] - lr * change


def _adadelta_numbers(real, keep, lr, rho, epsilon):
    return real(keep), real(lr), real(rho), real(1 - rho), real(epsilon)


adadelta = Rule(_adadelta_numbers, _11=_adadelta)


# --- lion and ftrl --------------------------------------------------------------------------------


@_kernel(1)
def _lion(p, g, m, c, n):
    go, keep, lr, beta_1, rest_1, beta_2, rest_2 = c[0], c[1], c[2], c[3], c[4], c[5], c[6]
    i = cuda.grid(1)
    if i < n and go != 0:
        x = beta_1 * m[i] + rest_1 * g[i]
        p[i] = keep * p[i] - lr * (like(x, x > 0) - like(x, x < 0))
        m[i] = beta_2 * m[i] + rest_2 * g[i]


def _lion_numbers(real, keep, lr, beta_1, beta_2):
    return tuple(map(real, (keep, lr, beta_1, 1 - beta_1, beta_2, 1 - beta_2)))


lion = Rule(_lion_numbers, _1=_lion)


@_kernel(2)
def _ftrl(p, g, a, z, c, n):
    go, keep, lr, power, l1, twice_shrinkage, constant = c[0], c[1], c[2], c[3], c[4], c[5], c[6]
    i = cuda.grid(1)
    if i < n and go != 0:
        kept = keep * p[i]
        grown = a[i] + g[i] * g[i]
        root = math.pow(grown, power)
        sigma = (root - math.pow(a[i], power)) / lr
        linear = z[i] + g[i] + twice_shrinkage * kept - sigma * kept
        z[i] = linear
        p[i] = (min(max(linear, -l1), l1) - linear) / (root / lr + constant)
        a[i] = grown


def _ftrl_numbers(real, keep, lr, power, l1, l2, shrinkage, beta):
    constant = 2 * (l2 + beta / (2 * lr))
    return tuple(map(real, (keep, lr, -power, l1, 2 * shrinkage, constant)))


ftrl = Rule(_ftrl_numbers, _11=_ftrl)


# --- what happens to gradients before the rule, and to parameters after it ------------------------


@kernel("T* T T i4", threads=256, T=FLOATS)
def _limit(g, low, high, n):
    i = cuda.grid(1)
    if i < n:
        x = g[i]
        g[i] = low if x < low else (high if x > high else x)  # NaN stays


def clip_value(g: CudaArray, limit: float) -> None:
    """Limits every element of g to [-limit, limit]."""
    if g.size:
        high = g.dtype.type(limit)
        _limit(*blocks_for(g.size), g, -high, high, g.size)


@kernel("T* T* T T i4", threads=256, T=FLOATS)
def _moving_average(average, p, momentum, rest, n):
    i = cuda.grid(1)
    if i < n:
        average[i] = average[i] * momentum + rest * p[i]


def moving_average(average: CudaArray, p: CudaArray, momentum: float) -> None:
    """average = momentum average + (1 - momentum) p."""
    if p.size:
        real = p.dtype.type
        _moving_average(*blocks_for(p.size), average, p, real(momentum), real(1 - momentum), p.size)


# --- clipping by a norm: the host never sees it ---------------------------------------------------

_PARTS = 256  # at most so many blocks sum squares; every block of the scaling adds their sums up


def _norm_kernels(name: str, real: Any) -> tuple[Kernel, Kernel]:
    """Kernels for one float type."""

    @kernel(f"{name}* {name}* i4", threads=BLOCK, name=f"optimizer.squares.{name}")
    def squares(sums, g, n):
        shared = cuda.shared.array(BLOCK, real)
        mine = real(0)
        i = cuda.grid(1)
        while i < n:
            mine += g[i] * g[i]
            i += cuda.gridsize(1)
        whole = added_up(shared, mine)
        if cuda.threadIdx.x == 0:
            sums[cuda.blockIdx.x] = whole

    @kernel(f"{name}* {name}* i4 {name} i4", threads=BLOCK, name=f"optimizer.shrink.{name}")
    def shrink(g, sums, parts, limit, n):
        shared = cuda.shared.array(BLOCK, real)
        mine = real(0)
        for i in range(cuda.threadIdx.x, parts, BLOCK):
            mine += sums[i]
        norm = math.sqrt(added_up(shared, mine))
        if not norm <= limit:  # NaN stays to be seen
            factor = limit / norm
            i = cuda.grid(1)
            while i < n:
                g[i] *= factor
                i += cuda.gridsize(1)

    return squares, shrink


_NORM = {np.dtype("f4"): _norm_kernels("f4", float32), np.dtype("f8"): _norm_kernels("f8", float64)}


def clip_global_norm(gradients: Sequence[CudaArray], limit: float) -> None:
    """Scales the arrays, all of one dtype, so that their norm together is at most `limit`."""
    gradients = [g for g in gradients if g.size]
    if not gradients:
        return
    dtype = gradients[0].dtype
    squares, shrink = _NORM[dtype]
    blocks = [min(_PARTS, ceil_div(g.size, BLOCK)) for g in gradients]
    sums = empty((sum(blocks),), dtype)
    start = 0
    for g, count in zip(gradients, blocks):
        squares(count, BLOCK, sums[start : start + count], g, g.size)
        start += count
    for g, count in zip(gradients, blocks):
        shrink(count, BLOCK, g, sums, start, dtype.type(limit), g.size)


def clip_norm(g: CudaArray, limit: float) -> None:
    """Scales g so that its Euclidean norm is at most `limit`."""
    clip_global_norm([g], limit)


# --- gradients, brought together ------------------------------------------------------------------

_TOGETHER = 8  # arrays that a launch takes
_MOST_BLOCKS = 256  # for each of them


@kernel("T* " + "T* " * _TOGETHER + "i4 " * (2 * _TOGETHER), threads=256, T=FLOATS)
def _bring_together(
    y, x0, x1, x2, x3, x4, x5, x6, x7, to0, to1, to2, to3, to4, to5, to6, to7,
    n0, n1, n2, n3, n4, n5, n6, n7,
):  # fmt: skip
    """y[to + i] = x[i] for each array, by the blocks of its row of the grid."""
    which = cuda.blockIdx.y
    x, to, n = x0, to0, n0
    if which == 1:
        x, to, n = x1, to1, n1
    elif which == 2:
        x, to, n = x2, to2, n2
    elif which == 3:
        x, to, n = x3, to3, n3
    elif which == 4:
        x, to, n = x4, to4, n4
    elif which == 5:
        x, to, n = x5, to5, n5
    elif which == 6:
        x, to, n = x6, to6, n6
    elif which == 7:
        x, to, n = x7, to7, n7
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        y[i32(to + i)] = x[i]


def bring_together(target: CudaArray, arrays: Sequence[CudaArray], starts: Sequence[int]) -> None:
    """Puts arrays of one dtype into a flat one, each from its element `start` on.

    One launch takes eight of them: where they are small, a launch is what costs.
    """
    for first in range(0, len(arrays), _TOGETHER):
        some, to = list(arrays[first : first + _TOGETHER]), list(starts[first : first + _TOGETHER])
        sizes, missing = [x.size for x in some], _TOGETHER - len(some)
        if max(sizes):
            blocks = min(_MOST_BLOCKS, ceil_div(max(sizes), 256))
            _bring_together(
                (blocks, len(some)), 256, target,
                *some, *some[:1] * missing, *to, *[0] * missing, *sizes, *[0] * missing,
            )  # fmt: skip
