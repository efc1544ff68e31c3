"""Softmax and its kin, along any axis. Bound by memory: a row is read once and written once.

They are kernels along rows (`groups.py`). The exponentials are computed twice, since that is
cheaper than to keep them.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from minitorch_ciml.kernels.cuda.elements import read, write
from minitorch_ciml.kernels.cuda.groups import Group, Rowwise, first_of, peak_of
from minitorch_ciml.kernels.cuda.intrinsics import like
from minitorch_ciml.kernels.cuda.memory import CudaArray, empty

Needs = tuple[bool, ...]
Gradients = tuple[CudaArray | None, ...]


def _softmax_kernel(group: Group) -> Callable:
    place, total, peak = group.place, group.total, peak_of(group)

    def softmax(y, x, rows, n, inner):
        row, thread, threads = place()
        if row < rows:
            base = first_of(row, n, inner)
            top = peak(x, base, n, inner, thread, threads)
            e = like(top, 0)
            for i in range(thread, n, threads):
                e += math.exp(read(x, base + i * inner) - top)
            e = total(e)
            for i in range(thread, n, threads):
                write(y, base + i * inner, math.exp(read(x, base + i * inner) - top) / e)

    return softmax


def _softmax_grad_kernel(group: Group) -> Callable:
    place, total = group.place, group.total

    def softmax_grad(dx, g, y, rows, n, inner):
        row, thread, threads = place()
        if row < rows:
            base = first_of(row, n, inner)
            common = like(read(g, base), 0)
            for i in range(thread, n, threads):
                common += read(g, base + i * inner) * read(y, base + i * inner)
            common = total(common)
            for i in range(thread, n, threads):
                at = base + i * inner
                write(dx, at, read(y, at) * (read(g, at) - common))

    return softmax_grad


def _log_softmax_kernel(group: Group) -> Callable:
    place, total, peak = group.place, group.total, peak_of(group)

    def log_softmax(y, x, rows, n, inner):
        row, thread, threads = place()
        if row < rows:
            base = first_of(row, n, inner)
            top = peak(x, base, n, inner, thread, threads)
            e = like(top, 0)
            for i in range(thread, n, threads):
                e += math.exp(read(x, base + i * inner) - top)
            log_e = math.log(total(e))
            for i in range(thread, n, threads):
                write(y, base + i * inner, read(x, base + i * inner) - top - log_e)

    return log_softmax


def _log_softmax_grad_kernel(group: Group) -> Callable:
    place, total = group.place, group.total

    def log_softmax_grad(dx, g, y, rows, n, inner):
        row, thread, threads = place()
        if row < rows:
            base = first_of(row, n, inner)
            common = like(read(g, base), 0)
            for i in range(thread, n, threads):
                common += read(g, base + i * inner)
            common = total(common)
            for i in range(thread, n, threads):
                at = base + i * inner
                write(dx, at, read(g, at) - math.exp(read(y, at)) * common)

    return log_softmax_grad


def _sparsemax_kernel(group: Group) -> Callable:
    """y = max(x - t, 0), with the t for which y has the sum 1.

    t is found without sorting: it is (sum - 1) / count of the elements that are larger than t, so
    starting from all of them, those that are not are left out until none is (Michelot, 1986).
    """
    place, total, peak = group.place, group.total, peak_of(group)

    def sparsemax(y, x, rows, n, inner):
        row, thread, threads = place()
        if row < rows:
            base = first_of(row, n, inner)
            # The largest is taken off, so that sums lose no digits.
            top = peak(x, base, n, inner, thread, threads)
            one, t = like(top, 1), like(top, -1)  # t is at least -1, since one y is 1 at most
            before, count = like(top, -1), like(top, 0)
            while count != before:
                before, count, sum_ = count, like(top, 0), like(top, 0)
                for i in range(thread, n, threads):
                    z = read(x, base + i * inner) - top
                    if z > t:
                        count += one
                        sum_ += z
                count = total(count)
                sum_ = total(sum_)
                if count > 0:
                    t = (sum_ - one) / count
            for i in range(thread, n, threads):
                z = read(x, base + i * inner) - top - t
                write(y, base + i * inner, z if z > 0 or z != z else like(top, 0))

    return sparsemax


_softmax = Rowwise("softmax", "T* T*", _softmax_kernel)
_softmax_grad = Rowwise("softmax_grad", "T* T* T*", _softmax_grad_kernel)
_log_softmax = Rowwise("log_softmax", "T* T*", _log_softmax_kernel)
_log_softmax_grad = Rowwise("log_softmax_grad", "T* T* T*", _log_softmax_grad_kernel)
_sparsemax = Rowwise("sparsemax", "T* T*", _sparsemax_kernel)


def softmax(x: CudaArray, *, axis: int) -> CudaArray:
    return _along(_softmax, axis, x)


def softmax_grad(g: CudaArray, y: CudaArray, x: CudaArray, *, needs: Needs, axis: int) -> Gradients:
    return (_along(_softmax_grad, axis, g, y),)


def log_softmax(x: CudaArray, *, axis: int) -> CudaArray:
    return _along(_log_softmax, axis, x)


def log_softmax_grad(
    g: CudaArray, y: CudaArray, x: CudaArray, *, needs: Needs, axis: int
) -> Gradients:
    return (_along(_log_softmax_grad, axis, g, y),)


def sparsemax(x: CudaArray, *, axis: int) -> CudaArray:
    return _along(_sparsemax, axis, x)


def _along(run: Rowwise, axis: int, *inputs: CudaArray) -> CudaArray:
    y = empty(inputs[0].shape, inputs[0].dtype)
    run(y, axis, y, *inputs)
    return y
