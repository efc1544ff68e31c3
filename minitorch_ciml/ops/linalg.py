"""Linear algebra: products, triangles, and what solves equations.

Matrices are the last two axes; axes in front of them are a batch, and broadcast.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import prod
from string import ascii_letters
from typing import Any

import numpy as np

from minitorch_ciml.autograd.arithmetic import multiply, power
from minitorch_ciml.autograd.engine import Op
from minitorch_ciml.autograd.tensor import Tensor, as_tensor
from minitorch_ciml.autograd.tensor import broadcast_to as _broadcast_to
from minitorch_ciml.ops.axes import check_axis
from minitorch_ciml.ops.indexing import _getitem
from minitorch_ciml.ops.joining import stack
from minitorch_ciml.ops.reduce import sum as _sum
from minitorch_ciml.ops.shape import (
    _expand_dims,
    _reshape,
    _squeeze,
    _swapaxes,
    diagonal,
    moveaxis,
    ravel,
)

__all__ = [
    "cross", "det", "dot", "einsum", "inner", "inv", "kron", "logdet", "matmul", "outer",
    "slogdet", "solve", "solve_triangular", "tensordot", "trace", "tril", "triu",
    "vander", "vdot",
]  # fmt: skip

# --- products -----------------------------------------------------------------------------------


def transposed(x):
    return _swapaxes(x, axis1=-1, axis2=-2)


# The rules transpose by telling the kernel so: it reads a factor as it lies.


def _matmul_left_rule(g, y, a, b, transpose_a=False, transpose_b=False):
    if transpose_a:
        return _matmul(b, g, transpose_a=transpose_b, transpose_b=True)
    return _matmul(g, b, transpose_a=False, transpose_b=not transpose_b)


def _matmul_right_rule(g, y, a, b, transpose_a=False, transpose_b=False):
    if b.ndim == 2 and a.ndim > 2 and not transpose_a:  # sums over the batch inside one product
        rows = prod(a.shape[:-1])
        a = _reshape(a, shape=(rows, a.shape[-1]))
        g = _reshape(g, shape=(rows, g.shape[-1]))
    if transpose_b:
        return _matmul(g, a, transpose_a=True, transpose_b=transpose_a)
    return _matmul(a, g, transpose_a=not transpose_a, transpose_b=False)


_matmul: Op = Op(
    "matmul",
    _matmul_left_rule,
    _matmul_right_rule,
    gradient_kernel=True,
    dtypes="common",
    doc="y[..., i, j] = sum over k of a[..., i, k] b[..., k, j]; or of a[..., k, i], b[..., j, k].",
)


def matmul(x1: Any, x2: Any) -> Tensor:
    """The matrix product x1 @ x2: (..., M, K), (..., K, N) -> (..., M, N).

    A vector on the left counts as a row, on the right as a column, and its axis is dropped from
    the result.

    Raises:
        ValueError: the two sizes K differ, or an input has no dimensions.
    """
    a, b = as_tensor(x1), as_tensor(x2)
    if a.ndim > 1 and b.ndim > 1:
        return _matmul(a, b)
    if a.ndim == 0 or b.ndim == 0:
        raise ValueError(
            f"matmul: got shapes {a.shape} and {b.shape}, expected at least 1 dimension each; use "
            "multiply for numbers."
        )
    row, column = a.ndim == 1, b.ndim == 1
    y = _matmul(
        _reshape(a, shape=(1, -1)) if row else a, _reshape(b, shape=(-1, 1)) if column else b
    )
    return _squeeze(y, axis=(-2,) * row + (-1,) * column)


def dot(x1: Any, x2: Any) -> Tensor:
    """The sum of products over the last axis of `x1` and the last but one (or only one) of `x2`.

    For two vectors their inner product, for matrices the matrix product, with a number the product.
    """
    a, b = as_tensor(x1), as_tensor(x2)
    if a.ndim == 0 or b.ndim == 0:
        return multiply(a, b)
    if b.ndim <= 2:
        return matmul(a, b)
    return tensordot(a, b, axes=([-1], [-2]))


def vdot(x1: Any, x2: Any) -> Tensor:
    """The inner product of the flattened inputs."""
    return matmul(ravel(x1), ravel(x2))


def inner(x1: Any, x2: Any) -> Tensor:
    """The sum of products over the last axes of both."""
    a, b = as_tensor(x1), as_tensor(x2)
    if a.ndim == 0 or b.ndim == 0:
        return multiply(a, b)
    return tensordot(a, b, axes=([-1], [-1]))


def outer(x1: Any, x2: Any) -> Tensor:
    """y[i, j] = x1[i] x2[j], of the flattened inputs."""
    return multiply(_reshape(x1, shape=(-1, 1)), _reshape(x2, shape=(1, -1)))


def kron(x1: Any, x2: Any) -> Tensor:
    """The Kronecker product: blocks of `x2`, one for each element of `x1`, multiplied by it."""
    a, b = as_tensor(x1), as_tensor(x2)
    ndim = max(a.ndim, b.ndim)
    left = (1,) * (ndim - a.ndim) + a.shape
    right = (1,) * (ndim - b.ndim) + b.shape
    blocks = multiply(
        _reshape(a, shape=tuple([n for size in left for n in (size, 1)])),
        _reshape(b, shape=tuple([n for size in right for n in (1, size)])),
    )
    return _reshape(blocks, shape=tuple([n * m for n, m in zip(left, right)]))


def cross(
    x1: Any, x2: Any, axisa: int = -1, axisb: int = -1, axisc: int = -1, axis: int | None = None
) -> Tensor:
    """The vector product of vectors with 3 elements.

    Args:
        x1: a tensor whose axis `axisa` has size 3.
        x2: a tensor whose axis `axisb` has size 3.
        axisa, axisb, axisc: where the vectors are in `x1`, in `x2` and in the result.
        axis: one number for all three.
    """
    if axis is not None:
        axisa = axisb = axisc = axis
    a, b = moveaxis(x1, axisa, -1), moveaxis(x2, axisb, -1)
    if a.shape[-1] != 3 or b.shape[-1] != 3:
        raise ValueError(
            f"cross: got vectors of {a.shape[-1]} and {b.shape[-1]} elements, expected 3 each."
        )
    a0, a1, a2 = [_getitem(a, index=(..., i)) for i in range(3)]
    b0, b1, b2 = [_getitem(b, index=(..., i)) for i in range(3)]
    parts = [a1 * b2 - a2 * b1, a2 * b0 - a0 * b2, a0 * b1 - a1 * b0]
    return stack(parts, axis=axisc)


def tensordot(x1: Any, x2: Any, axes: int | Sequence = 2) -> Tensor:
    """The sum of products over axes of both; the axes that remain of `x1`, then those of `x2`.

    Args:
        axes: n for the last n axes of `x1` and the first n of `x2`, or two lists of axes that
            belong together.
    """
    a, b = as_tensor(x1), as_tensor(x2)
    if isinstance(axes, int):
        if not 0 <= axes <= min(a.ndim, b.ndim):
            raise ValueError(
                f"tensordot: got axes={axes} for {a.ndim} and {b.ndim} dimensions; there are fewer."
            )
        pairs = [(a.ndim - axes + i, i) for i in range(axes)]
    else:
        first, second = [[s] if isinstance(s, int) else list(s) for s in axes]
        if len(first) != len(second):
            raise ValueError(f"tensordot: got axes {axes}, expected two lists of one length.")
        pairs = list(zip(first, second))
    la = list(ascii_letters[: a.ndim])
    lb = list(ascii_letters[a.ndim : a.ndim + b.ndim])
    for i, j in pairs:
        i, j = check_axis(i, a.ndim, "tensordot"), check_axis(j, b.ndim, "tensordot")
        if a.shape[i] != b.shape[j]:
            raise ValueError(
                f"tensordot: axis {i} of shape {a.shape} and axis {j} of shape {b.shape} differ."
            )
        lb[j] = la[i]
    output = [c for c in la if c not in lb] + [c for c in lb if c not in la]
    return _einsum(a, b, inputs=("".join(la), "".join(lb)), output="".join(output))


def _einsum_rule(g, y, *xs, needs, inputs, output):
    return [
        _einsum_gradient(g, xs, inputs, output, i) if need else None for i, need in enumerate(needs)
    ]


def _einsum_gradient(g, xs, inputs, output, i):
    """The same sum with the gradient in the place of operand `i`, and its labels as the result."""
    others, other_labels = xs[:i] + xs[i + 1 :], inputs[:i] + inputs[i + 1 :]
    known = set(output).union(*other_labels)
    labels = inputs[i]
    kept = "".join(c for c in labels if c in known)
    result = _einsum(g, *others, inputs=(output, *other_labels), output=kept)
    # A label of this operand alone was summed over: its elements all get the same gradient.
    sizes = iter(result.shape)
    narrow = tuple([next(sizes) if c in known else 1 for c in labels])
    wide = tuple([max(n, m) for n, m in zip(narrow, xs[i].shape)])
    if narrow != result.shape:
        result = _reshape(result, shape=narrow)
    return result if wide == narrow else _broadcast_to(result, shape=wide)


_einsum = Op(
    "einsum",
    joint=_einsum_rule,
    dtypes="common",
    doc="The sum of products over the labels that are not in `output`.",
)


def einsum(subscripts: str, *operands: Any, **kwargs: Any) -> Tensor:
    """Sums of products by Einstein's convention, such as "bij,bjk->bik".

    Each axis has a letter. Equal letters run together; those that are not in the result are summed
    over. Without "->" the result has the letters that occur once, in alphabetical order. "..."
    stands for further axes, which broadcast. Several operands are multiplied from left to right.

    Args:
        subscripts: letters for the axes of each operand, separated by commas, and of the result.
        *operands: tensors.
        **kwargs: accepted as in NumPy (`optimize`), without effect.

    Raises:
        ValueError: the subscripts do not fit the operands.
    """
    tensors = [as_tensor(x) for x in operands]
    parsed, output = _parse(subscripts, tuple([x.ndim for x in tensors]))
    tensors, inputs = map(list, zip(*[_own_diagonal(*pair) for pair in zip(tensors, parsed)]))
    x, labels = tensors.pop(0), inputs.pop(0)
    if not tensors:
        return _einsum(x, inputs=(labels,), output=output)
    while tensors:
        right, right_labels = tensors.pop(0), inputs.pop(0)
        needed = set(output).union(*inputs)
        both = dict.fromkeys(labels + right_labels)
        result = "".join(c for c in both if c in needed) if tensors else output
        x, labels = _einsum(x, right, inputs=(labels, right_labels), output=result), result
    return x


@lru_cache(maxsize=256)
def _parse(subscripts: str, ndims: tuple[int, ...]) -> tuple[list[str], str]:
    """The labels of each operand and of the result, with letters in the place of '...'."""
    left, arrow, output = subscripts.replace(" ", "").partition("->")
    inputs = left.split(",")
    if len(inputs) != len(ndims):
        raise ValueError(
            f"einsum: {subscripts!r} describes {len(inputs)} operands, but got {len(ndims)}."
        )
    unused = [c for c in ascii_letters if c not in subscripts]
    extra = [ndim - len(labels.replace("...", "")) for ndim, labels in zip(ndims, inputs)]
    for ndim, labels, n in zip(ndims, inputs, extra):
        if n < 0 or (n > 0 and "..." not in labels):
            raise ValueError(
                f"einsum: {labels!r} in {subscripts!r} does not describe {ndim} dimensions."
            )
    letters = "".join(unused[: max(extra)])
    inputs = [
        labels.replace("...", letters[len(letters) - n :]) for labels, n in zip(inputs, extra)
    ]
    every = "".join(inputs)
    if not arrow:
        output = letters + "".join(c for c in sorted(set(every)) if every.count(c) == 1)
        output = "".join(dict.fromkeys(output))
    output = output.replace("...", letters)
    wrong = [c for c in every + output if not (c.isascii() and c.isalpha())]
    if wrong or len(set(output)) < len(output) or not set(output) <= set(every):
        raise ValueError(
            f"einsum: {subscripts!r} is not valid: labels are letters, and each label of the "
            "result occurs in it once and in an operand."
        )
    return inputs, output


def _own_diagonal(x: Tensor, labels: str) -> tuple[Tensor, str]:
    """`x` without repeated labels: where one is repeated, the axes run together."""
    if len(set(labels)) == len(labels):
        return x, labels
    for c in dict.fromkeys(labels):
        while labels.count(c) > 1:
            i, j = labels.index(c), labels.rindex(c)
            if x.shape[i] != x.shape[j]:
                raise ValueError(
                    f"einsum: label {c!r} has sizes {x.shape[i]} and {x.shape[j]} in one operand."
                )
            x = diagonal(x, axis1=i, axis2=j)
            labels = labels[:i] + labels[i + 1 : j] + labels[j + 1 :] + c
    return x, labels


# --- traces and triangles -------------------------------------------------------------------


def trace(x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
    """The sum of the elements x[i, i + offset] of the two axes."""
    return _sum(diagonal(x, offset, axis1, axis2), axis=-1)


_triu: Op = Op("triu", lambda g, y, x, k: _triu(g, k=k), doc="x, with zeros below the diagonal k.")
_tril: Op = Op("tril", lambda g, y, x, k: _tril(g, k=k), doc="x, with zeros above the diagonal k.")


def triu(x: Any, k: int = 0) -> Tensor:
    """The upper triangle of matrices: zeros below the diagonal `k`."""
    return _triu(x, k=k)


def tril(x: Any, k: int = 0) -> Tensor:
    """The lower triangle of matrices: zeros above the diagonal `k`."""
    return _tril(x, k=k)


def vander(x: Any, N: int | None = None, increasing: bool = False) -> Tensor:
    """Vandermonde's matrix: y[i, j] = x[i]^j if `increasing`, otherwise x[i]^(N - 1 - j).

    Args:
        x: numbers (M,).
        N: how many powers; M if left out.
        increasing: the powers grow from left to right.
    """
    x = as_tensor(x)
    if x.ndim != 1:
        raise ValueError(f"vander: got shape {x.shape}, expected (M,).")
    exponents = np.arange(x.size if N is None else N)
    return power(_expand_dims(x, axis=-1), exponents if increasing else exponents[::-1])


# --- equations ----------------------------------------------------------------------------------


def _solve_rule(g, y, a, b, needs):
    # From a y = b: da y + a dy = db, so dy = a^-1 (db - da y).
    gb = _solve(transposed(a), g)
    return [-_matmul(gb, transposed(y)) if needs[0] else None, gb if needs[1] else None]


_solve = Op("solve", joint=_solve_rule, dtypes="float", doc="The y with a @ y = b.")


def _inv_rule(g, y, x):
    # From x y = 1: dx y + x dy = 0, so dy = -y dx y.
    yt = transposed(y)
    return -_matmul(_matmul(yt, g), yt)


_inv = Op("inv", _inv_rule, dtypes="float", doc="The y with x @ y = 1.")


def _times_inverse(factor, x):
    """factor[..., None, None] times the transposed inverse of x."""
    return _expand_dims(factor, axis=(-2, -1)) * transposed(_inv(x))


_det = Op(
    "det",
    lambda g, y, x: _times_inverse(g * y, x),
    dtypes="float",
    doc="The determinant of x; its derivative (Jacobi's formula) needs an invertible x.",
)
_det_sign = Op("det_sign", dtypes="float", doc="The sign of the determinant of x.")
_log_abs_det = Op(
    "log_abs_det",
    lambda g, y, x: _times_inverse(g, x),
    dtypes="float",
    doc="The logarithm of the absolute value of the determinant of x.",
)


def solve(a: Any, b: Any) -> Tensor:
    """The x with a @ x = b.

    Args:
        a: (..., M, M), invertible.
        b: (..., M) if it has one dimension less than `a`, otherwise (..., M, N).

    Raises:
        ValueError: `a` is not square, the sizes differ, or `a` is singular.
    """
    a, b = as_square(a, "solve"), as_tensor(b)
    if b.ndim == a.ndim - 1:
        return _squeeze(_solve(a, _expand_dims(b, axis=-1)), axis=(-1,))
    return _solve(a, b)


def solve_triangular(a: Any, b: Any, lower: bool = False) -> Tensor:
    """The x with a @ x = b, where only the upper (or the lower) triangle of `a` is used."""
    a = as_square(a, "solve_triangular")
    return solve(tril(a) if lower else triu(a), b)


def inv(x: Any) -> Tensor:
    """The inverse of square matrices.

    Raises:
        ValueError: a matrix is not square, or singular.
    """
    return _inv(as_square(x, "inv"))


def det(x: Any) -> Tensor:
    """The determinant of square matrices; its gradient needs them to be invertible."""
    return _det(as_square(x, "det"))


def slogdet(x: Any) -> tuple[Tensor, Tensor]:
    """The sign of the determinant of square matrices, and the logarithm of its absolute value."""
    x = as_square(x, "slogdet")
    return _det_sign(x), _log_abs_det(x)


def logdet(x: Any) -> Tensor:
    """The logarithm of the determinant of square matrices; it must be positive."""
    return _log_abs_det(as_square(x, "logdet"))


def as_square(x: Any, caller: str) -> Tensor:
    x = as_tensor(x)
    if x.ndim < 2 or x.shape[-1] != x.shape[-2]:
        raise ValueError(f"{caller}: got shape {x.shape}, expected square matrices (..., M, M).")
    return x
