"""Matrix products and decompositions: BLAS and LAPACK, through NumPy."""

import numpy as np

triu, tril = np.triu, np.tril
solve, inv, det, cholesky = np.linalg.solve, np.linalg.inv, np.linalg.det, np.linalg.cholesky


def matmul(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(..., M, K) times (..., K, N); at least two dimensions each."""
    if a.shape[-1] != b.shape[-2]:
        raise ValueError("the last size of the first must be the last but one of the second")
    if a.ndim > 2 and b.ndim == 2 and a.size and a.flags.c_contiguous:
        # One large product instead of many small ones.
        y = np.matmul(a.reshape(-1, a.shape[-1]), _for_blas(b))
        return y.reshape(*a.shape[:-1], b.shape[-1])
    return np.matmul(_for_blas(a), _for_blas(b))


def _for_blas(x: np.ndarray) -> np.ndarray:
    """BLAS wants rows or columns without gaps; NumPy would use a plain loop for others."""
    return x if x.itemsize in x.strides[-2:] else np.ascontiguousarray(x)


def einsum(*xs: np.ndarray, inputs: tuple[str, ...], output: str) -> np.ndarray:
    """One or two operands, each with its axes' labels, none twice in an operand."""
    if len(xs) == 2:
        a, b = (dict(zip(labels, x.shape)) for labels, x in zip(inputs, xs))
        shared = a.keys() & b.keys()
        summed = shared - set(output)
        fit = all(a[c] == b[c] for c in shared)
        if fit and summed and shared != a.keys() | b.keys():
            return _einsum_by_matmul(*xs, *inputs, output)
    return np.einsum(f"{','.join(inputs)}->{output}", *xs)


def _einsum_by_matmul(a: np.ndarray, b: np.ndarray, la: str, lb: str, output: str) -> np.ndarray:
    """Sorts the axes into batch, rows, columns and those that are summed, for BLAS."""
    batch = [c for c in la if c in lb and c in output]
    inner = [c for c in la if c in lb and c not in output]
    rows = [c for c in la if c not in lb and c in output]
    columns = [c for c in lb if c not in la and c in output]
    size = dict(zip(la + lb, a.shape + b.shape))
    left = _blocks(a, la, batch, rows, inner)
    right = _blocks(b, lb, batch, inner, columns)
    y = matmul(left, right).reshape([size[c] for c in (*batch, *rows, *columns)])
    order = [*batch, *rows, *columns]
    return y.transpose([order.index(c) for c in output])


def _blocks(
    x: np.ndarray, labels: str, batch: list[str], first: list[str], second: list[str]
) -> np.ndarray:
    """x as (*batch, product of `first`, product of `second`), summed over its other axes."""
    kept = [*batch, *first, *second]
    alone = tuple([i for i, c in enumerate(labels) if c not in kept])
    if alone:
        x = x.sum(alone)
        labels = "".join(c for c in labels if c in kept)
    x = x.transpose([labels.index(c) for c in kept])
    n, m = len(batch), len(batch) + len(first)
    sizes = [int(np.prod(part)) for part in (x.shape[n:m], x.shape[m:])]
    return x.reshape(*x.shape[:n], *sizes)


def vector_norm(x: np.ndarray, axis: tuple[int, ...]) -> np.ndarray:
    return np.sqrt(np.square(x).sum(axis, keepdims=True))


def det_sign(x: np.ndarray) -> np.ndarray:
    return np.linalg.slogdet(x)[0]


def log_abs_det(x: np.ndarray) -> np.ndarray:
    return np.linalg.slogdet(x)[1]
