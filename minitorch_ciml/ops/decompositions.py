"""Decompositions of matrices, and what is computed with them.

Matrices are the last two axes; axes in front of them are a batch.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minitorch_ciml import kernels
from minitorch_ciml.autograd.arithmetic import where
from minitorch_ciml.autograd.engine import Op
from minitorch_ciml.autograd.tensor import Tensor, as_tensor
from minitorch_ciml.kernels.halves import finfo
from minitorch_ciml.ops.creation import floats
from minitorch_ciml.ops.indexing import _getitem, kernel_for, take_along_axis
from minitorch_ciml.ops.joining import concatenate
from minitorch_ciml.ops.linalg import (
    _inv,
    _matmul,
    _solve,
    _tril,
    as_square,
    matmul,
    transposed,
    tril,
    triu,
)
from minitorch_ciml.ops.reduce import max as _max
from minitorch_ciml.ops.reduce import sum as _sum
from minitorch_ciml.ops.shape import _expand_dims, flip

__all__ = [
    "cholesky", "cholesky_inverse", "eig", "eigh", "lstsq", "lu_factor", "matrix_rank", "pinv",
    "qr", "svd",
]  # fmt: skip

# --- the ops ------------------------------------------------------------------------------------


def _cholesky_rule(g, y, x):
    # I. Murray, "Differentiation of the Cholesky decomposition", 2016.
    half = np.tril(np.ones(y.shape[-2:], y.dtype)) - np.eye(y.shape[-1], dtype=y.dtype) / 2
    yt = transposed(y)
    middle = _solve(yt, _matmul(yt, g) * half)
    s = _solve(yt, transposed(middle))
    return (s + transposed(s)) / 2


_cholesky = Op(
    "cholesky", _cholesky_rule, dtypes="float", doc="The lower triangular y with y @ y.T = x."
)


def _eigenvectors_rule(g, y, x):
    # M. Giles, "An extended collection of matrix derivative results", 2008, section 3.1.
    w = _eigenvalues(x, y)
    one = np.eye(y.shape[-1], dtype=y.dtype)
    gaps = _expand_dims(w, axis=-2) - _expand_dims(w, axis=-1) + one
    yt = transposed(y)
    s = _matmul(_matmul(y, _matmul(yt, g) * (1 - one) / gaps), yt)
    return (s + transposed(s)) / 2


_eigenvectors = Op(
    "eigenvectors",
    _eigenvectors_rule,
    dtypes="float",
    doc="The eigenvectors of symmetric x, as columns; the derivative needs distinct eigenvalues.",
)
_eigenvalues: Op = Op(
    "eigenvalues",
    lambda g, y, x, v: _matmul(v * _expand_dims(g, axis=-2), transposed(v)),
    None,  # where v are eigenvectors, the eigenvalues do not change with them to first order
    dtypes="float",
    doc="The eigenvalues of symmetric x that belong to its eigenvectors v.",
)


def _orthonormal_rule(g, y, x):
    # S. Walter and L. Lehmann, "Algorithmic differentiation of linear algebra functions", 2010.
    r = _matmul(transposed(y), x)
    m = _tril(_matmul(transposed(g), y), k=-1)
    s = g - _matmul(y, m + transposed(m) + _diagonal_part(_matmul(transposed(g), y)))
    return transposed(_solve(r, transposed(s)))


def _diagonal_part(x):
    return x * np.eye(x.shape[-1], dtype=x.dtype)


_orthonormal = Op(
    "orthonormal", _orthonormal_rule, dtypes="float", doc="The Q of x = Q R, for tall x."
)


def _singular_vectors_rule(g, y, x):
    # J. Townsend, "Differentiating the singular value decomposition", 2016.
    m = x.shape[-2]
    (u, v), (gu, gv) = _halves(y, m), _halves(g, m)
    ut, vt = transposed(u), transposed(v)
    s = _singular_values(x, y)
    one = np.eye(s.shape[-1], dtype=y.dtype)
    row, column = _expand_dims(s, axis=-2), _expand_dims(s, axis=-1)
    gaps = (row - column) * (row + column) + one
    a, b = [_matmul(transposed(w), gw) * (1 - one) / gaps for w, gw in ((u, gu), (v, gv))]
    inner = (a + transposed(a)) * row + column * (b + transposed(b))
    dx = _matmul(_matmul(u, inner), vt)
    # What of the gradients lies outside the spaces that u and v span.
    dx = dx + _matmul((gu - _matmul(u, _matmul(ut, gu))) / row, vt)
    return dx + _matmul(u, transposed((gv - _matmul(v, _matmul(vt, gv))) / row))


def _halves(y, m):
    """U and V, of the two in one matrix."""
    rows = slice(None, m), slice(m, None)
    return [_getitem(y, index=(..., part, slice(None))) for part in rows]


def _singular_vectors_ref(x):
    """By the eigenvectors (u, v) of [[0, R], [R^T, 0]], whose eigenvalues are s and -s."""
    if x.shape[-2] < x.shape[-1]:
        v, u = _halves(_singular_vectors_ref(transposed(x)), x.shape[-1])
        return concatenate([u, v], -2)
    q = _orthonormal(x)
    r = _matmul(transposed(q), x)
    nothing = r * 0
    both = concatenate(
        [concatenate([nothing, r], -1), concatenate([transposed(r), nothing], -1)], -2
    )
    n = x.shape[-1]
    largest = flip(_getitem(_eigenvectors(both), index=(..., slice(n, None))), -1) * np.sqrt(2)
    u, v = _halves(largest, n)
    return concatenate([_matmul(q, u), v], -2)


_singular_vectors = Op(
    "singular_vectors",
    _singular_vectors_rule,
    ref=_singular_vectors_ref,
    dtypes="float",
    doc="U, and below it V, of x = U diag(s) V^T; the derivative needs distinct s that are not 0.",
)


def _singular_values_ref(x, uv):
    u, v = _halves(uv, x.shape[-2])
    return _sum(u * _matmul(x, v), axis=-2)


_singular_values: Op = Op(
    "singular_values",
    lambda g, y, x, uv: _matmul(
        _halves(uv, x.shape[-2])[0] * _expand_dims(g, axis=-2),
        transposed(_halves(uv, x.shape[-2])[1]),
    ),
    None,  # as for eigenvalues
    ref=_singular_values_ref,
    dtypes="float",
    doc="The singular values of x that belong to its singular vectors U and V.",
)


def _pseudo_inverse_rule(g, y, x, rcond):
    # G. Golub and V. Pereyra, "The differentiation of pseudo-inverses", 1973.
    gt, yt = transposed(g), transposed(y)
    left = _matmul(gt - _matmul(x, _matmul(y, gt)), _matmul(y, yt))
    right = _matmul(_matmul(yt, y), gt - _matmul(_matmul(gt, y), x))
    return left + right - _matmul(_matmul(yt, g), yt)


def _pseudo_inverse_ref(x, rcond):
    uv = _singular_vectors(x)
    s = _singular_values(x, uv)
    u, v = _halves(uv, x.shape[-2])
    small = s <= _max(s, axis=-1, keepdims=True) * rcond
    inverse = where(small, 0.0, 1 / where(small, 1.0, s))
    return _matmul(v * _expand_dims(inverse, axis=-2), transposed(u))


_pseudo_inverse = Op(
    "pseudo_inverse",
    _pseudo_inverse_rule,
    ref=_pseudo_inverse_ref,
    dtypes="float",
    doc="The pseudo-inverse of x; its derivative needs a rank that stays.",
)


def _lu_rule(g, y, x):
    # From x = L U: dL U + L dU = dx, where L^-1 dL is below and dU U^-1 on and above the diagonal.
    one = np.eye(y.shape[-1], dtype=y.dtype)
    lower, upper = _tril(y, k=-1) + one, triu(y)
    gl, gu = _matmul(transposed(lower), _tril(g, k=-1)), _matmul(triu(g), transposed(upper))
    middle = _tril(gl, k=-1) + triu(gu)
    return _solve(transposed(lower), transposed(_solve(upper, transposed(middle))))


_lu = Op(
    "lu",
    _lu_rule,
    dtypes="float",
    doc="L (below the diagonal) and U of x = L U, for an x that needs no rows exchanged.",
)

# --- the functions ------------------------------------------------------------------------------


def cholesky(x: Any, upper: bool = False) -> Tensor:
    """The lower triangular L with L @ L.T = x, for symmetric positive definite matrices.

    Args:
        x: (..., M, M); only its lower triangle is used.
        upper: give L.T.

    Raises:
        ValueError: a matrix is not square, or not positive definite.
    """
    y = _cholesky(as_square(x, "cholesky"))
    return transposed(y) if upper else y


def eigh(x: Any) -> tuple[Tensor, Tensor]:
    """The eigenvalues of symmetric matrices, ascending, and the eigenvectors as columns.

    The gradient of the eigenvectors needs distinct eigenvalues.
    """
    x = as_square(x, "eigh")
    v = _eigenvectors(x)
    return _eigenvalues(x, v), v


def qr(x: Any, mode: str = "reduced") -> tuple[Tensor, Tensor]:
    """x = Q R, with orthonormal columns in Q and an upper triangular R.

    Args:
        x: (..., M, N); its first K = min(M, N) columns must be independent for the gradient.
        mode: 'reduced': Q is (..., M, K) and R (..., K, N); 'complete': Q is (..., M, M) and R
            (..., M, N). No gradient flows through the columns that this adds.
    """
    x = _matrix(x, "qr")
    if mode not in ("reduced", "complete"):
        raise ValueError(f"qr: got mode {mode!r}, expected 'reduced' or 'complete'.")
    m, n = x.shape[-2:]
    q = _orthonormal(x if m >= n else _getitem(x, index=(..., slice(m))))
    if mode == "complete":
        q = _completed(q)
    return q, triu(_matmul(transposed(q), x))


def svd(x: Any, full_matrices: bool = True, compute_uv: bool = True) -> Any:
    """x = U diag(s) V^T, with orthonormal columns in U and V, and s descending.

    Gradients need distinct singular values, and vectors in U and V that belong to ones that are not
    0. None flow through the columns that `full_matrices` adds. On a GPU x must have full rank.

    Args:
        x: (..., M, N).
        full_matrices: U is (..., M, M) and V^T (..., N, N); otherwise, with K = min(M, N), they
            are (..., M, K) and (..., K, N).
        compute_uv: give U and V^T, not only s (..., K).

    Returns:
        U, s, V^T, or s alone.
    """
    x = _matrix(x, "svd")
    uv = _singular_vectors(x)
    s = _singular_values(x, uv)
    if not compute_uv:
        return s
    u, v = [_completed(w) if full_matrices else w for w in _halves(uv, x.shape[-2])]
    return u, s, transposed(v)


def _completed(u: Tensor) -> Tensor:
    """`u` (..., M, K), with M - K more orthonormal columns."""
    m, k = u.shape[-2:]
    if m == k:
        return u
    # The projection onto what u leaves out has the eigenvalue 0 K times, then 1.
    constant = u.detach()
    rest = _eigenvectors(np.eye(m, dtype=u.dtype) - matmul(constant, transposed(constant)))
    return concatenate([u, _getitem(rest, index=(..., slice(k, None)))], -1)


def pinv(x: Any, rcond: float | None = None) -> Tensor:
    """The pseudo-inverse of matrices (E. H. Moore, R. Penrose): V diag(1/s) U^T of their SVD.

    Args:
        x: (..., M, N).
        rcond: singular values up to `rcond` times the largest count as 0; max(M, N) times the
            distance from 1 to the next float if left out.

    Returns:
        (..., N, M). The gradient needs a rank that does not change nearby; on a GPU, full rank.
    """
    x = _matrix(x, "pinv")
    if rcond is None:
        rcond = _resolution(x)
    return _pseudo_inverse(x, rcond=float(rcond))


def lstsq(a: Any, b: Any, rcond: float | None = None) -> Tensor:
    """The x for which |a @ x - b| is smallest; of several the shortest: pinv(a) @ b.

    Args:
        a: (M, N).
        b: (M,) or (M, K).
        rcond: see `pinv`.

    Returns:
        (N,) or (N, K).
    """
    a, b = as_tensor(a), as_tensor(b)
    if a.ndim != 2 or b.ndim not in (1, 2) or a.shape[0] != b.shape[0]:
        raise ValueError(
            f"lstsq: got shapes {a.shape} and {b.shape}, expected (M, N), and (M,) or (M, K)."
        )
    return matmul(pinv(a, rcond), b)


def matrix_rank(x: Any, tol: float | None = None) -> Tensor:
    """y = how many singular values are larger than `tol`.

    Args:
        x: (..., M, N).
        tol: the largest singular value, times max(M, N) and the distance from 1 to the next float,
            if left out.
    """
    s = svd(x, compute_uv=False).detach()
    limit = _max(s, axis=-1, keepdims=True, initial=0) * _resolution(as_tensor(x))
    return _sum(s > (limit if tol is None else tol), axis=-1)


def _resolution(x: Tensor) -> float:
    return max(x.shape[-2:]) * float(finfo(floats(x).dtype).eps)


def lu_factor(x: Any) -> tuple[Tensor, Tensor]:
    """L and U of x = P L U, with the largest pivot of each column.

    Args:
        x: (..., M, M).

    Returns:
        L below the diagonal (the ones on it left out) and U, in one matrix; and integers (..., M):
        row i was exchanged with row p_i, i = 0, 1, ...
    """
    x = as_square(x, "lu_factor")
    x = floats(x)
    pivots = Tensor.constant(kernel_for(x.value, "pivots")(x.value))
    order = np.broadcast_to(np.arange(x.shape[-1]), pivots.shape).copy()
    for i, p in enumerate(np.moveaxis(kernels.to_host(pivots.value), -1, 0)):  # few numbers
        there = p[..., None].astype(np.int64)
        own = order[..., i : i + 1].copy()
        order[..., i : i + 1] = np.take_along_axis(order, there, -1)
        np.put_along_axis(order, there, own, -1)
    return _lu(take_along_axis(x, order[..., None], -2)), pivots


def eig(x: Any) -> tuple[Tensor, Tensor]:
    """The eigenvalues of square matrices, in no order, and the eigenvectors as columns.

    No gradient flows. For symmetric matrices use `eigh`.

    Raises:
        ValueError: an eigenvalue is not real: there are no complex tensors.
        NotImplementedError: x is on a GPU.
    """
    x = as_square(x, "eig")
    if x.device != "cpu":
        raise NotImplementedError("eig: there is no kernel for GPUs; use x.to('cpu') or eigh.")
    w, v = np.linalg.eig(floats(x).numpy())
    if w.dtype.kind == "c":
        raise ValueError(
            "eig: there are eigenvalues that are not real, and no complex tensors to hold them; "
            "use numpy.linalg.eig."
        )
    return Tensor(w), Tensor(v)


def cholesky_inverse(x: Any, upper: bool = False) -> Tensor:
    """The inverse of L @ L.T, from L = `x`; or, with `upper`, of U.T @ U, from U = `x`."""
    x = as_square(x, "cholesky_inverse")
    inverse = _inv(triu(x) if upper else tril(x))
    if upper:
        return _matmul(inverse, transposed(inverse))
    return _matmul(transposed(inverse), inverse)


def _matrix(x: Any, caller: str) -> Tensor:
    x = as_tensor(x)
    if x.ndim < 2:
        raise ValueError(f"{caller}: got shape {x.shape}, expected matrices (..., M, N).")
    return x
