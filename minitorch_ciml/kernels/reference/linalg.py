"""Matrix products and decompositions: BLAS and LAPACK, through NumPy."""

from collections.abc import Callable
from functools import lru_cache
from math import prod
from typing import NamedTuple

import numpy as np

triu, tril = np.triu, np.tril
solve, inv, det, cholesky = np.linalg.solve, np.linalg.inv, np.linalg.det, np.linalg.cholesky


def matmul(
    a: np.ndarray, b: np.ndarray, *, transpose_a: bool = False, transpose_b: bool = False
) -> np.ndarray:
    """(..., M, K) times (..., K, N), each with its last two axes swapped if so told."""
    if transpose_a:
        a = a.swapaxes(-1, -2)
    if transpose_b:
        b = b.swapaxes(-1, -2)
    if a.shape[-1] != b.shape[-2]:
        raise ValueError("the last size of the first must be the last but one of the second")
    if a.ndim > 2 and b.ndim == 2 and a.size and a.flags.c_contiguous:
        # One large product instead of many small ones.
        y = np.matmul(a.reshape(-1, a.shape[-1]), for_blas(b))
        return y.reshape(*a.shape[:-1], b.shape[-1])
    return np.matmul(for_blas(a), for_blas(b))


def matmul_grad(
    g: np.ndarray, y: np.ndarray, a: np.ndarray, b: np.ndarray, *, needs: tuple,
    transpose_a: bool = False, transpose_b: bool = False, product: Callable = matmul,
) -> tuple:  # fmt: skip
    """The op's two rules (see `ops/linalg.py`), with that product."""
    da = db = None
    if needs[0] and transpose_a:
        da = product(b, g, transpose_a=transpose_b, transpose_b=True)
    elif needs[0]:
        da = product(g, b, transpose_b=not transpose_b)
    if needs[1]:
        if b.ndim == 2 and a.ndim > 2 and not transpose_a:
            rows = prod(a.shape[:-1])
            a, g = a.reshape(rows, a.shape[-1]), g.reshape(rows, g.shape[-1])
        if transpose_b:
            db = product(g, a, transpose_a=True, transpose_b=transpose_a)
        else:
            db = product(a, g, transpose_a=not transpose_a)
    return da, db


def for_blas(x: np.ndarray) -> np.ndarray:
    """BLAS wants rows or columns without gaps; NumPy would use a plain loop for others."""
    return x if x.itemsize in x.strides[-2:] else np.ascontiguousarray(x)


def einsum(*xs: np.ndarray, inputs: tuple[str, ...], output: str) -> np.ndarray:
    """One or two operands, each with its axes' labels, none twice in an operand."""
    if len(xs) == 2:
        a, b = xs
        plan = as_matmul(*inputs, output)
        if plan is not None and all(a.shape[i] == b.shape[j] for i, j in plan.shared):
            left, rows = _blocks(a, *plan.left)
            right, columns = _blocks(b, *plan.right)
            y = matmul(left, right).reshape(*left.shape[:-2], *rows, *columns)
            return y.transpose(plan.order)
    return np.einsum(f"{','.join(inputs)}->{output}", *xs)


class _Plan(NamedTuple):
    """How a sum of products becomes one (batched) matrix product."""

    shared: list[tuple[int, int]]  # the axes of both operands that have one label
    left: tuple  # for `_blocks`: its axes as (*batch, rows, summed)
    right: tuple  # (*batch, summed, columns)
    order: list[int]  # the result's axes among (*batch, *rows, *columns)


@lru_cache(maxsize=256)
def as_matmul(la: str, lb: str, output: str) -> _Plan | None:
    """The plan for these labels; None where a matrix product has no advantage."""
    batch = [c for c in la if c in lb and c in output]
    inner = [c for c in la if c in lb and c not in output]
    rows = [c for c in la if c not in lb and c in output]
    columns = [c for c in lb if c not in la and c in output]
    if not inner or not (rows or columns):
        return None
    result = [*batch, *rows, *columns]
    return _Plan(
        [(la.index(c), lb.index(c)) for c in (*batch, *inner)],
        _layout(la, batch, rows, inner, last=False),
        _layout(lb, batch, inner, columns, last=True),
        [result.index(c) for c in output],
    )


def _layout(labels: str, batch: list, first: list, second: list, last: bool) -> tuple:
    kept = [*batch, *first, *second]
    alone = tuple([i for i, c in enumerate(labels) if c not in kept])
    left = [c for c in labels if c in kept]
    return alone, [left.index(c) for c in kept], len(batch), len(batch) + len(first), last


def _blocks(
    x: np.ndarray, alone: tuple[int, ...], order: list[int], n: int, m: int, last: bool
) -> tuple[np.ndarray, tuple[int, ...]]:
    """x, summed over `alone` and in `order`, as matrices; and the sizes that result has of them."""
    if alone:
        x = x.sum(alone, dtype=x.dtype)
    x = x.transpose(order)
    sizes = x.shape
    matrices = x.reshape(*sizes[:n], prod(sizes[n:m]), prod(sizes[m:]))
    return matrices, sizes[m:] if last else sizes[n:m]


def vector_norm(x: np.ndarray, axis: tuple[int, ...]) -> np.ndarray:
    return np.sqrt(np.square(x).sum(axis, keepdims=True))


def eigenvectors(x: np.ndarray) -> np.ndarray:
    return np.linalg.eigh(x)[1]


def eigenvalues(x: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Those of the eigenvectors v."""
    return (v * (x @ v)).sum(-2)


def orthonormal(x: np.ndarray) -> np.ndarray:
    """The Q of x = Q R."""
    return np.linalg.qr(x)[0]


def det_sign(x: np.ndarray) -> np.ndarray:
    return np.linalg.slogdet(x)[0]


def log_abs_det(x: np.ndarray) -> np.ndarray:
    return np.linalg.slogdet(x)[1]


def singular_vectors(x: np.ndarray) -> np.ndarray:
    """U, and below it V, of x = U diag(s) V^T."""
    u, _, vt = np.linalg.svd(x, full_matrices=False)
    return np.concatenate([u, vt.swapaxes(-1, -2)], -2)


def singular_values(x: np.ndarray, uv: np.ndarray) -> np.ndarray:
    m = x.shape[-2]
    return (uv[..., :m, :] * (x @ uv[..., m:, :])).sum(-2)


def pseudo_inverse(x: np.ndarray, rcond: float) -> np.ndarray:
    return np.linalg.pinv(x, rcond)


def lu(x: np.ndarray) -> np.ndarray:
    """L (below the diagonal, whose ones are left out) and U of P x = L U."""
    return _eliminated(x)[0]


def pivots(x: np.ndarray) -> np.ndarray:
    """The row that row i was exchanged with, in step i."""
    return _eliminated(x)[1]


def _eliminated(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    n = x.shape[-1]
    a = x.reshape(-1, n, n).copy()
    places = np.zeros((len(a), n), np.int32)
    each = np.arange(len(a))
    for k in range(n):
        places[:, k] = p = k + np.abs(a[:, k:, k]).argmax(1)
        a[each, k], a[each, p] = a[each, p], a[each, k]
        pivot = a[:, k, k, None]
        a[:, k + 1 :, k] /= np.where(pivot == 0, 1, pivot)
        a[:, k + 1 :, k + 1 :] -= a[:, k + 1 :, k, None] * a[:, k, None, k + 1 :]
    return a.reshape(x.shape), places.reshape(x.shape[:-1])
