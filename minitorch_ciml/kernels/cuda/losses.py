"""Cross-entropies: the loss of every row, and in the same pass its derivative for the output.

Bound by memory: each row is read once, and its derivative written once; backward multiplies it by
the gradient of the loss. A label that is none of the classes cannot raise an error here without
waiting for the GPU: it makes the loss NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numba import cuda

from minitorch_ciml.kernels.cuda.elements import read, write
from minitorch_ciml.kernels.cuda.elementwise import TRAINED, Elementwise, cast
from minitorch_ciml.kernels.cuda.groups import Group, Rowwise, first_of, peak_of
from minitorch_ciml.kernels.cuda.intrinsics import like
from minitorch_ciml.kernels.cuda.memory import CudaArray, constant, empty
from minitorch_ciml.kernels.cuda.reduce import sum as _sum
from minitorch_ciml.kernels.cuda.softmax import log_softmax
from minitorch_ciml.kernels.cuda.table import TABLE
from minitorch_ciml.kernels.reference.nn import EPSILON

Needs = tuple[bool, ...]
Gradients = tuple[CudaArray | None, ...]

_MOST = 1 - EPSILON

# --- one of several classes -----------------------------------------------------------------------


@cuda.jit(device=True)
def _given(target, base, row, i, inner, x):
    """The probability of class i that the target says."""
    return read(target, base + i * inner)


@cuda.jit(device=True)
def _whether_label(target, base, row, i, inner, x):
    """1 for the class that the label names."""
    return like(x, target[row] == i)


def _from_logits(probability: Callable, labels: bool) -> Callable:
    """p = softmax(x); slope = (sum of t) p - t."""

    def build(group: Group) -> Callable:
        place, total, peak = group.place, group.total, peak_of(group)

        def crossentropy(loss, slope, target, x, rows, n, inner):
            row, thread, threads = place()
            if row < rows:
                base = first_of(row, n, inner)
                top = peak(x, base, n, inner, thread, threads)
                e, whole, inside = like(top, 0), like(top, 0), like(top, 0)
                for i in range(thread, n, threads):
                    z = read(x, base + i * inner) - top
                    t = probability(target, base, row, i, inner, z)
                    e += math.exp(z)
                    whole += t
                    if t != 0:
                        inside += t * z
                e, whole = total(e), total(whole)
                y = whole * math.log(e) - total(inside)
                if labels and whole == 0:
                    whole = y = like(top, math.nan)
                for i in range(thread, n, threads):
                    z = read(x, base + i * inner) - top
                    t = probability(target, base, row, i, inner, z)
                    write(slope, base + i * inner, whole * (math.exp(z) / e) - t)
                if thread == 0:
                    write(loss, row, y)

        return crossentropy

    return build


def _from_probabilities(probability: Callable, labels: bool) -> Callable:
    """p = x / sum(x), between EPSILON and 1 - EPSILON; where it is not, it has no slope."""

    def build(group: Group) -> Callable:
        place, total = group.place, group.total

        def crossentropy(loss, slope, target, x, rows, n, inner):
            row, thread, threads = place()
            if row < rows:
                base = first_of(row, n, inner)
                s = like(read(x, base), 0)
                for i in range(thread, n, threads):
                    s += read(x, base + i * inner)
                s = total(s)
                least, most = like(s, EPSILON), like(s, _MOST)
                y, whole, counted = like(s, 0), like(s, 0), like(s, 0)
                for i in range(thread, n, threads):
                    p = read(x, base + i * inner) / s
                    t = probability(target, base, row, i, inner, p)
                    limited = least if p < least else most if p > most else p
                    y -= t * math.log(limited)
                    whole += t
                    if limited == p:
                        counted += t
                y, whole, counted = total(y), total(whole), total(counted)
                if labels and whole == 0:
                    counted = y = like(s, math.nan)
                for i in range(thread, n, threads):
                    p = read(x, base + i * inner) / s
                    t = probability(target, base, row, i, inner, p)
                    own = t / p if least <= p <= most else like(s, 0)
                    write(slope, base + i * inner, (counted - own) / s)
                if thread == 0:
                    write(loss, row, y)

        return crossentropy

    return build


_CATEGORICAL = {
    True: Rowwise("losses.logits", "T* T* T* T*", _from_logits(_given, False)),
    False: Rowwise("losses.probabilities", "T* T* T* T*", _from_probabilities(_given, False)),
}
_SPARSE = {
    True: Rowwise(
        "losses.sparse_logits", "T* T* I* T*", _from_logits(_whether_label, True),
        I=("i4", "i8"),
    ),
    False: Rowwise(
        "losses.sparse_probabilities", "T* T* I* T*", _from_probabilities(_whether_label, True),
        I=("i4", "i8"),
    ),
}  # fmt: skip


def categorical_crossentropy(
    target: CudaArray, output: CudaArray, *, from_logits: bool, axis: int
) -> tuple[CudaArray, CudaArray]:
    """The loss -sum(t log p) along `axis`, and its derivative for the output."""
    return _loss(_CATEGORICAL[from_logits], target, output, axis)


def sparse_categorical_crossentropy(
    target: CudaArray, output: CudaArray, *, from_logits: bool, axis: int
) -> tuple[CudaArray, CudaArray]:
    """The loss -log p[target] along `axis`, and its derivative for the output."""
    if target.dtype not in (np.int32, np.int64):
        target = cast(target, "int64")
    return _loss(_SPARSE[from_logits], target, output, axis)


def _loss(
    run: Rowwise, target: CudaArray, output: CudaArray, axis: int
) -> tuple[CudaArray, CudaArray]:
    axis %= output.ndim
    loss = empty((*output.shape[:axis], *output.shape[axis + 1 :]), output.dtype)
    slope = empty(output.shape, output.dtype)
    run(output, axis, loss, slope, target, output)
    return loss, slope


def categorical_crossentropy_grad(
    g: CudaArray, y: CudaArray, target: CudaArray, output: CudaArray, *,
    needs: Needs, saved: CudaArray, from_logits: bool, axis: int,
) -> Gradients:  # fmt: skip
    dt = None
    if needs[0]:
        if from_logits:
            log_p = log_softmax(output, axis=axis)
        else:
            sums = _sum(output, (axis % output.ndim,), True)
            least, most = constant(EPSILON, output.dtype), constant(_MOST, output.dtype)
            log_p = TABLE["log"](TABLE["clip"](TABLE["divide"](output, sums), least, most))
        dt = TABLE["negative"](_times(g, log_p, axis))
    return dt, _times(g, saved, axis) if needs[1] else None


def sparse_categorical_crossentropy_grad(
    g: CudaArray, y: CudaArray, target: CudaArray, output: CudaArray, *,
    needs: Needs, saved: CudaArray, from_logits: bool, axis: int,
) -> Gradients:  # fmt: skip
    return None, _times(g, saved, axis)


def _times(g: CudaArray, slope: CudaArray, axis: int) -> CudaArray:
    axis %= slope.ndim
    along = g.reshape([1 if a == axis else n for a, n in enumerate(slope.shape)])
    return TABLE["multiply"](along, slope)


# --- yes or no ------------------------------------------------------------------------------------


def _binary(t, x):
    p = _limited(x)
    return -(t * math.log(p) + (like(p, 1) - t) * math.log(like(p, 1) - p))


def _binary_logits(t, x):
    # p = sigmoid(x), written so that nothing overflows or is lost.
    positive = -x if x < 0 else like(x, 0)
    return (like(x, 1) - t) * x + (positive + math.log1p(math.exp(-abs(x))))


def _binary_slope(g, t, x):
    p = _limited(x)
    return g * (p - t) / (p * (like(p, 1) - p)) if p == x else like(x, 0)


def _binary_logits_slope(g, t, x):
    small = math.exp(-abs(x))
    p = (like(x, 1) if x >= 0 else small) / (like(x, 1) + small)
    return g * (p - t)


def _binary_target_slope(g, x):
    p = _limited(x)
    return g * (math.log(like(p, 1) - p) - math.log(p))


@cuda.jit(device=True)
def _limited(x):
    least, most = like(x, EPSILON), like(x, _MOST)
    return least if x < least else most if x > most else x


_VALUE = {
    True: Elementwise("losses.binary_logits", (_binary_logits, "T T", "T", TRAINED)),
    False: Elementwise("losses.binary", (_binary, "T T", "T", TRAINED)),
}
_SLOPE = {
    True: Elementwise("losses.binary_logits_slope", (_binary_logits_slope, "T T T", "T", TRAINED)),
    False: Elementwise("losses.binary_slope", (_binary_slope, "T T T", "T", TRAINED)),
}
_TARGET_SLOPE = {
    True: Elementwise("losses.binary_logits_target", (lambda g, x: -g * x, "T T", "T", TRAINED)),
    False: Elementwise("losses.binary_target", (_binary_target_slope, "T T", "T", TRAINED)),
}


def binary_crossentropy(target: CudaArray, output: CudaArray, *, from_logits: bool) -> CudaArray:
    """-t log p - (1 - t) log(1 - p) for every element."""
    return _VALUE[from_logits](target, output)


def binary_crossentropy_grad(
    g: CudaArray, y: CudaArray, target: CudaArray, output: CudaArray, *,
    needs: Needs, from_logits: bool,
) -> Gradients:  # fmt: skip
    return (
        _TARGET_SLOPE[from_logits](g, output) if needs[0] else None,
        _SLOPE[from_logits](g, target, output),
    )
