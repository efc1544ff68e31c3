"""Sums of products by labels, and linear algebra on the GPU: a block of threads for each matrix.

The decompositions are the textbook's, column by column in the GPU's memory, with a barrier between
steps: right for many small matrices, bound by those barriers for a few large ones.

- LU with the largest pivot of each column, for `solve`, `inv` and determinants.
- Cholesky. QR by Householder's reflections, with LAPACK's signs.
- Eigenvectors by Jacobi's rotations, n / 2 at a time, in the order of a round robin.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import cuda, float32, float64, int32

from minitorch_ciml.kernels.cuda import functions, reduce, shape
from minitorch_ciml.kernels.cuda.intrinsics import i32
from minitorch_ciml.kernels.cuda.launch import Kernel, ceil_div, kernel
from minitorch_ciml.kernels.cuda.matmul import matmul
from minitorch_ciml.kernels.cuda.memory import CudaArray, empty, to_device, zeros
from minitorch_ciml.kernels.reference.linalg import as_matmul

_THREADS = 128
_SWEEPS = 30  # of Jacobi's method at most; it needs 6 to 10


# --- sums of products -----------------------------------------------------------------------------


def einsum(*xs: CudaArray, inputs: tuple[str, ...], output: str) -> CudaArray:
    """One or two operands, each with its axes' labels, none twice in an operand."""
    if len(xs) == 2:
        a, b = xs
        planned = as_matmul(*inputs, output)
        if planned is not None and all(a.shape[i] == b.shape[j] for i, j in planned.shared):
            left, rows, transpose_a = _matrices(a, *planned.left)
            right, columns, transpose_b = _matrices(b, *planned.right)
            y = matmul(left, right, transpose_a=transpose_a, transpose_b=transpose_b)
            y = y.reshape((*left.shape[:-2], *rows, *columns))
            return shape.transpose(y, axes=tuple(planned.order))
    every = "".join(inputs)
    parts = []
    for x, own in zip(xs, inputs):  # labels of one operand alone are summed first
        alone = tuple([i for i, c in enumerate(own) if c not in output and every.count(c) == 1])
        parts.append((_summed(x, alone), "".join(c for i, c in enumerate(own) if i not in alone)))
    labels = output + "".join(dict.fromkeys(c for _, own in parts for c in own if c not in output))
    y, *others = [_aligned(x, own, labels) for x, own in parts]
    for other in others:
        y = functions.multiply(y, other)
    return _summed(y, tuple(range(len(output), len(labels))))


def _summed(x: CudaArray, axes: tuple[int, ...]) -> CudaArray:
    if not axes:
        return x
    return reduce.sum(x, axis=axes, keepdims=False).astype(x.dtype, copy=False)


def _matrices(
    x: CudaArray, alone: tuple[int, ...], order: list[int], n: int, m: int, last: bool
) -> tuple[CudaArray, tuple[int, ...], bool]:
    """As the reference's `_blocks`; and whether the matrices lie transposed."""
    x = _summed(x, alone)
    sizes = [x.shape[i] for i in order]
    kept = tuple(sizes[m:] if last else sizes[n:m])
    first, second = math.prod(sizes[n:m]), math.prod(sizes[m:])
    swapped = order[:n] + order[m:] + order[n:m]
    if swapped == list(range(len(order))) and order != swapped:
        return x.reshape((*sizes[:n], second, first)), kept, True
    x = shape.transpose(x, axes=tuple(order))
    return x.reshape((*sizes[:n], first, second)), kept, False


def _aligned(x: CudaArray, own: str, labels: str) -> CudaArray:
    """x with an axis for each of `labels`, of size 1 where it has none."""
    if not own:  # a number
        return x
    order = sorted(range(len(own)), key=lambda i: labels.index(own[i]))
    x = shape.transpose(x, axes=tuple(order))
    sizes = iter(x.shape)
    return x.reshape([next(sizes) if c in own else 1 for c in labels])


# --- what the kernels share -----------------------------------------------------------------------

_TYPES: dict[str, Any] = {"f4": float32, "f8": float64}


def _per_type(make: Callable[[Any, str], Kernel]) -> dict[str, Kernel]:
    return {code: make(dtype, code) for code, dtype in _TYPES.items()}


def _code(x: CudaArray) -> str:
    return x.pointer_type[:-1]


def _count(x: CudaArray) -> int:
    """How many matrices there are."""
    return math.prod(x.shape[:-2])


def _raise_where(failed: CudaArray, message: str) -> None:
    """Waits for the GPU: an error must not go unseen."""
    if failed.size and failed.numpy().any():
        raise np.linalg.LinAlgError(message)  # a ValueError, as NumPy's


def _sum_of(dtype: Any) -> Callable:
    """Adds up a number of each thread, in a fixed order; every thread gets the sum."""

    @cuda.jit(device=True, forceinline=True)
    def block_sum(value, shared, thread):
        shared[thread] = value
        cuda.syncthreads()
        half = int32(_THREADS // 2)
        while half > 0:
            if thread < half:
                shared[thread] += shared[thread + half]
            cuda.syncthreads()
            half = i32(half >> 1)
        total = shared[0]
        cuda.syncthreads()
        return total

    return block_sum


# --- LU -------------------------------------------------------------------------------------------


def _lu(dtype: Any, code: str) -> Kernel:
    @kernel("T* i4* T* i4", T=(code,), threads=_THREADS, name=f"linalg.lu_{code}")
    def lu(a, pivots, signs, n):
        """In place: L below the diagonal, U above; row k was swapped with pivots[k]."""
        sizes = cuda.shared.array(_THREADS, dtype)
        places = cuda.shared.array(_THREADS, int32)
        thread, number = i32(cuda.threadIdx.x), i32(cuda.blockIdx.x)
        start = i32(number * n * n)
        sign = dtype(1)
        for k in range(n):
            # The largest number of the column; the first of equal ones.
            best, place = dtype(-1), int32(n)
            for r in range(k + thread, n, _THREADS):
                size = abs(a[i32(start + r * n + k)])
                if size > best or size != size:
                    best, place = size, i32(r)
            sizes[thread], places[thread] = best, place
            cuda.syncthreads()
            half = int32(_THREADS // 2)
            while half > 0:
                if thread < half:
                    other, there = sizes[thread + half], places[thread + half]
                    if other > sizes[thread] or (other == sizes[thread] and there < places[thread]):
                        sizes[thread], places[thread] = other, there
                cuda.syncthreads()
                half = i32(half >> 1)
            pivot = places[0]
            if pivot >= n:
                pivot = i32(k)
            if pivot != k:
                sign = -sign
                for c in range(thread, n, _THREADS):
                    upper, lower = i32(start + k * n + c), i32(start + pivot * n + c)
                    kept = a[upper]
                    a[upper] = a[lower]
                    a[lower] = kept
            if thread == 0:
                pivots[i32(number * n + k)] = pivot
            cuda.syncthreads()
            diagonal = a[i32(start + k * n + k)]
            for r in range(k + 1 + thread, n, _THREADS):
                if diagonal != 0:
                    a[i32(start + r * n + k)] /= diagonal
            cuda.syncthreads()
            rest = i32(n - k - 1)
            for i in range(thread, rest * rest, _THREADS):
                r, c = i32(k + 1 + i // rest), i32(k + 1 + i % rest)
                at = i32(start + r * n + c)
                a[at] -= a[i32(start + r * n + k)] * a[i32(start + k * n + c)]
            cuda.syncthreads()
        if thread == 0:
            signs[number] = sign

    return lu


def _substitute(dtype: Any, code: str) -> Kernel:
    @kernel("T* T* i4* i4* i4 i4", T=(code,), threads=_THREADS, name=f"linalg.substitute_{code}")
    def substitute(x, lu, pivots, failed, n, columns):
        """In place: x becomes (L U)^-1 of x with its rows swapped. A thread for each column."""
        number = i32(cuda.blockIdx.y)
        column = i32(cuda.blockIdx.x * _THREADS + cuda.threadIdx.x)
        start, lu_start = i32(number * n * columns + column), i32(number * n * n)
        if column < columns:
            for k in range(n):
                there = i32(start + pivots[i32(number * n + k)] * columns)
                here = i32(start + k * columns)
                value = x[there]
                x[there] = x[here]
                x[here] = value
            for r in range(n):
                total = x[i32(start + r * columns)]
                for k in range(r):
                    total -= lu[i32(lu_start + r * n + k)] * x[i32(start + k * columns)]
                x[i32(start + r * columns)] = total
            for back in range(n):
                r = i32(n - 1 - back)
                total = x[i32(start + r * columns)]
                for k in range(r + 1, n):
                    total -= lu[i32(lu_start + r * n + k)] * x[i32(start + k * columns)]
                diagonal = lu[i32(lu_start + r * n + r)]
                if diagonal == 0:
                    failed[number] = int32(1)
                x[i32(start + r * columns)] = total / diagonal

    return substitute


_LU, _SUBSTITUTE = _per_type(_lu), _per_type(_substitute)


def _factorised(a: CudaArray) -> tuple[CudaArray, CudaArray, CudaArray]:
    """L and U in one matrix, the pivots, and the sign of their permutation."""
    n = a.shape[-1]
    lu = a.copy()
    pivots, signs = empty(a.shape[:-1], np.int32), empty(a.shape[:-2], a.dtype)
    if signs.size:
        _LU[_code(a)](_count(a), _THREADS, lu, pivots, signs, n)
    return lu, pivots, signs


def solve(a: CudaArray, b: CudaArray) -> CudaArray:
    if a.shape[-1] != b.shape[-2]:
        raise ValueError("the last size of the first must be the last but one of the second")
    n, columns = b.shape[-2:]
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    lu, pivots, _ = _factorised(shape.broadcast_to(a, shape=(*batch, n, n)))
    x = shape.broadcast_to(b, shape=(*batch, n, columns)).copy()
    failed = zeros(batch, np.int32)
    if x.size:
        grid = (ceil_div(columns, _THREADS), _count(x))
        _SUBSTITUTE[_code(a)](grid, _THREADS, x, lu, pivots, failed, n, columns)
    _raise_where(failed, "Singular matrix")
    return x


def lu(x: CudaArray) -> CudaArray:
    """L (below the diagonal, whose ones are left out) and U of P x = L U."""
    return _factorised(x)[0]


def pivots(x: CudaArray) -> CudaArray:
    """The row that row i was exchanged with, in step i."""
    return _factorised(x)[1]


def inv(x: CudaArray) -> CudaArray:
    return solve(x, to_device(np.eye(x.shape[-1], dtype=x.dtype)))


def _determinant(dtype: Any, code: str) -> Kernel:
    @kernel(
        "T* T* T* T* i4 i4", T=(code,), threads=_THREADS, name=f"linalg.determinant_{code}"
    )  # fmt: skip
    def determinant(dets, det_signs, logs, lu, n, count):
        """From U's diagonal and, in `det_signs`, the sign of the permutation."""
        number = i32(cuda.blockIdx.x * _THREADS + cuda.threadIdx.x)
        if number < count:
            sign = det_signs[number]
            product, log = sign, dtype(0)
            for k in range(n):
                value = lu[i32((number * n + k) * n + k)]
                product *= value
                log += math.log(abs(value))
                if value < 0:
                    sign = -sign
                elif value == 0:
                    sign = dtype(0)
            dets[number], det_signs[number], logs[number] = product, sign, log

    return determinant


_DETERMINANT = _per_type(_determinant)


def _determinants(x: CudaArray) -> tuple[CudaArray, CudaArray, CudaArray]:
    """The determinant, its sign, and the logarithm of its absolute value."""
    lu, _, signs = _factorised(x)
    dets, logs = empty(signs.shape, x.dtype), empty(signs.shape, x.dtype)
    if signs.size:
        grid = ceil_div(signs.size, _THREADS)
        _DETERMINANT[_code(x)](grid, _THREADS, dets, signs, logs, lu, x.shape[-1], signs.size)
    return dets, signs, logs


def det(x: CudaArray) -> CudaArray:
    return _determinants(x)[0]


def det_sign(x: CudaArray) -> CudaArray:
    return _determinants(x)[1]


def log_abs_det(x: CudaArray) -> CudaArray:
    return _determinants(x)[2]


# --- Cholesky -------------------------------------------------------------------------------------


def _cholesky(dtype: Any, code: str) -> Kernel:
    @kernel("T* T* i4* i4", T=(code,), threads=_THREADS, name=f"linalg.cholesky_{code}")
    def lower(y, x, failed, n):
        """y, lower triangular, with y y^T = x; reads the lower triangle of x."""
        thread, number = i32(cuda.threadIdx.x), i32(cuda.blockIdx.x)
        start = i32(number * n * n)
        for i in range(thread, n * n, _THREADS):
            y[i32(start + i)] = x[i32(start + i)] if i % n <= i // n else dtype(0)
        cuda.syncthreads()
        for k in range(n):
            square = y[i32(start + k * n + k)]
            if not square > 0 and thread == 0:
                failed[number] = int32(1)
            root = math.sqrt(square)
            cuda.syncthreads()
            for r in range(k + thread, n, _THREADS):
                at = i32(start + r * n + k)
                y[at] = root if r == k else y[at] / root
            cuda.syncthreads()
            rest = i32(n - k - 1)
            for i in range(thread, rest * rest, _THREADS):
                r, c = i32(k + 1 + i // rest), i32(k + 1 + i % rest)
                if c <= r:
                    product = y[i32(start + r * n + k)] * y[i32(start + c * n + k)]
                    y[i32(start + r * n + c)] -= product
            cuda.syncthreads()

    return lower


_CHOLESKY = _per_type(_cholesky)


def cholesky(x: CudaArray) -> CudaArray:
    y, failed = empty(x.shape, x.dtype), zeros(x.shape[:-2], np.int32)
    if x.size:
        _CHOLESKY[_code(x)](_count(x), _THREADS, y, x, failed, x.shape[-1])
    _raise_where(failed, "Matrix is not positive definite")
    return y


# --- QR -------------------------------------------------------------------------------------------


def _reflections(dtype: Any, code: str) -> Kernel:
    block_sum = _sum_of(dtype)

    @kernel("T* T* T* i4 i4", T=(code,), threads=_THREADS, name=f"linalg.orthonormal_{code}")
    def orthonormal(q, a, factors, m, n):
        """q (m, n), the Q of a = Q R; in a stay the reflections 1 - f v v^T, with v[k] = 1."""
        shared = cuda.shared.array(_THREADS, dtype)
        thread, number = i32(cuda.threadIdx.x), i32(cuda.blockIdx.x)
        start, factor_start = i32(number * m * n), i32(number * n)
        for k in range(n):
            square = dtype(0)
            for r in range(k + 1 + thread, m, _THREADS):
                value = a[i32(start + r * n + k)]
                square += value * value
            square = block_sum(square, shared, thread)
            head = a[i32(start + k * n + k)]
            factor = dtype(0)
            if square != 0:
                length = math.sqrt(head * head + square)
                reflected = -length if head >= 0 else length
                factor = (reflected - head) / reflected
                for r in range(k + 1 + thread, m, _THREADS):
                    a[i32(start + r * n + k)] /= head - reflected
            if thread == 0:
                factors[i32(factor_start + k)] = factor
            cuda.syncthreads()
            for c in range(k + 1 + thread, n, _THREADS):
                total = a[i32(start + k * n + c)]
                for r in range(k + 1, m):
                    total += a[i32(start + r * n + k)] * a[i32(start + r * n + c)]
                total *= factor
                a[i32(start + k * n + c)] -= total
                for r in range(k + 1, m):
                    a[i32(start + r * n + c)] -= total * a[i32(start + r * n + k)]
            cuda.syncthreads()
        # The reflections, the last one first, of the columns of the unit matrix.
        for c in range(thread, n, _THREADS):
            for r in range(m):
                q[i32(start + r * n + c)] = dtype(1) if r == c else dtype(0)
            for back in range(n):
                k = i32(n - 1 - back)
                total = q[i32(start + k * n + c)]
                for r in range(k + 1, m):
                    total += a[i32(start + r * n + k)] * q[i32(start + r * n + c)]
                total *= factors[i32(factor_start + k)]
                q[i32(start + k * n + c)] -= total
                for r in range(k + 1, m):
                    q[i32(start + r * n + c)] -= total * a[i32(start + r * n + k)]

    return orthonormal


_REFLECTIONS = _per_type(_reflections)


def orthonormal(x: CudaArray) -> CudaArray:
    """The Q of x = Q R, for x with at least as many rows as columns."""
    m, n = x.shape[-2:]
    q, factors = empty(x.shape, x.dtype), empty((*x.shape[:-2], n), x.dtype)
    if x.size:
        _REFLECTIONS[_code(x)](_count(x), _THREADS, q, x.copy(), factors, m, n)
    return q


# --- eigenvectors ---------------------------------------------------------------------------------


def _rotations(dtype: Any, code: str) -> Kernel:
    block_sum = _sum_of(dtype)
    epsilon = float(np.finfo(code).eps)

    @kernel("T* T* T* T* T* i4", T=(code,), threads=_THREADS, name=f"linalg.eigenvectors_{code}")
    def eigenvectors(y, v, a, cosines, sines, n):
        """y: the columns of v in ascending order of a's diagonal, which Jacobi's rotations make."""
        shared = cuda.shared.array(_THREADS, dtype)
        thread, number = i32(cuda.threadIdx.x), i32(cuda.blockIdx.x)
        start = i32(number * n * n)
        rounds = i32(n - 1 + n % 2)  # with an odd n, one rests in each round
        pairs = i32((rounds + 1) // 2)
        turns = i32(number * pairs)
        for i in range(thread, n * n, _THREADS):
            r, c = i32(i // n), i32(i % n)
            v[i32(start + i)] = dtype(1) if r == c else dtype(0)
            if c > r:  # the lower triangle is what counts
                a[i32(start + i)] = a[i32(start + c * n + r)]
        cuda.syncthreads()
        for _ in range(_SWEEPS):
            off, all_ = dtype(0), dtype(0)
            for i in range(thread, n * n, _THREADS):
                square = a[i32(start + i)] * a[i32(start + i)]
                all_ += square
                if i // n != i % n:
                    off += square
            off, all_ = block_sum(off, shared, thread), block_sum(all_, shared, thread)
            if not off > dtype(epsilon * epsilon) * all_:
                break
            for turn in range(rounds):
                for i in range(thread, pairs, _THREADS):
                    p, q = _pair(i32(i), i32(turn), rounds)
                    cosine, sine = dtype(1), dtype(0)
                    if q < n:
                        between = a[i32(start + p * n + q)]
                        if between != 0:
                            gap = a[i32(start + q * n + q)] - a[i32(start + p * n + p)]
                            slope = gap / (between + between)
                            tangent = dtype(1) / (abs(slope) + math.sqrt(slope * slope + dtype(1)))
                            if slope < 0:
                                tangent = -tangent
                            cosine = dtype(1) / math.sqrt(tangent * tangent + dtype(1))
                            sine = tangent * cosine
                    cosines[i32(turns + i)], sines[i32(turns + i)] = cosine, sine
                cuda.syncthreads()
                for i in range(thread, pairs * n, _THREADS):  # rows of a
                    pair, c = i32(i // n), i32(i % n)
                    p, q = _pair(pair, i32(turn), rounds)
                    if q < n:
                        cosine, sine = cosines[i32(turns + pair)], sines[i32(turns + pair)]
                        one, other = a[i32(start + p * n + c)], a[i32(start + q * n + c)]
                        a[i32(start + p * n + c)] = cosine * one - sine * other
                        a[i32(start + q * n + c)] = sine * one + cosine * other
                cuda.syncthreads()
                for i in range(thread, pairs * n, _THREADS):  # columns of a, and of v
                    r, pair = i32(i // pairs), i32(i % pairs)
                    p, q = _pair(pair, i32(turn), rounds)
                    if q < n:
                        cosine, sine = cosines[i32(turns + pair)], sines[i32(turns + pair)]
                        left, right = i32(start + r * n + p), i32(start + r * n + q)
                        one, other = a[left], a[right]
                        a[left] = cosine * one - sine * other
                        a[right] = sine * one + cosine * other
                        one, other = v[left], v[right]
                        v[left] = cosine * one - sine * other
                        v[right] = sine * one + cosine * other
                cuda.syncthreads()
        for c in range(thread, n, _THREADS):
            own, rank = a[i32(start + c * n + c)], int32(0)
            for k in range(n):
                other = a[i32(start + k * n + k)]
                if other < own or (other == own and k < c):
                    rank = i32(rank + 1)
            for r in range(n):
                y[i32(start + r * n + rank)] = v[i32(start + r * n + c)]

    return eigenvectors


@cuda.jit(device=True, forceinline=True)
def _pair(i, turn, rounds):
    """Pair i of a round, the smaller first: `rounds` stays, the others go round in a circle."""
    one = i32((turn + i) % rounds)
    other = i32((turn + rounds - i) % rounds) if i > 0 else rounds
    return min(one, other), max(one, other)


_ROTATIONS = _per_type(_rotations)


def eigenvectors(x: CudaArray) -> CudaArray:
    """Those of symmetric x, of which the lower triangle is read, by ascending eigenvalues."""
    n = x.shape[-1]
    y, v = empty(x.shape, x.dtype), empty(x.shape, x.dtype)
    if x.size:
        turns = [empty((_count(x), ceil_div(n, 2)), x.dtype) for _ in range(2)]
        _ROTATIONS[_code(x)](_count(x), _THREADS, y, v, x.copy(), *turns, n)
    return y


def eigenvalues(x: CudaArray, v: CudaArray) -> CudaArray:
    """Those of the eigenvectors v."""
    return reduce.sum(functions.multiply(v, matmul(x, v)), axis=(-2 % x.ndim,), keepdims=False)
