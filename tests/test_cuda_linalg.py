"""Linear algebra on the GPU, in the simulator, against NumPy's."""

import numpy as np
import pytest

pytest.importorskip("numba_cuda")

from cuda_peer import assert_close, on_gpu

from minitorch_ciml.kernels.cuda import linalg as gpu
from minitorch_ciml.kernels.reference import linalg as reference

RNG = np.random.default_rng(0)
# One, even and odd; batches.
SHAPES = [(1, 1), (2, 2), (0, 3, 3), (2, 5, 5), (2, 1, 4, 4)]
DTYPES = ["float32", "float64"]
TOLERANCE = {"float32": 2e-4, "float64": 1e-11}


def normal(*shape):
    return RNG.normal(size=shape)


def positive(shape):
    x = normal(*shape)
    return x @ x.swapaxes(-1, -2) + np.eye(shape[-1])


def assert_near(found, expected):
    assert found.shape == expected.shape and found.dtype == expected.dtype
    tolerance = TOLERANCE[found.dtype.name]
    np.testing.assert_allclose(found, expected, tolerance, tolerance * abs(expected).max(initial=0))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_factorisations(shape, dtype):
    x = (normal(*shape) + 3 * np.eye(shape[-1])).astype(dtype)
    for name in ("inv", "det", "det_sign", "log_abs_det", "orthonormal"):
        assert_near(on_gpu(getattr(gpu, name), x), getattr(reference, name)(x).astype(dtype))
    tall = np.concatenate([x, 2 * x[..., :1, :]], axis=-2)
    assert_near(on_gpu(gpu.orthonormal, tall), reference.orthonormal(tall))
    x = positive(shape).astype(dtype)
    assert_near(on_gpu(gpu.cholesky, x), reference.cholesky(x))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_eigenvectors(shape, dtype):
    """In ascending order, up to their signs; the upper triangle is not read."""
    x = positive(shape).astype(dtype)
    v = on_gpu(gpu.eigenvectors, np.tril(x))
    w = np.linalg.eigvalsh(x)
    assert_near(v.swapaxes(-1, -2) @ v, np.broadcast_to(np.eye(shape[-1], dtype=dtype), shape))
    assert_near(x @ v, (v * w[..., None, :]).astype(dtype))
    assert_near(on_gpu(gpu.eigenvalues, x, v), w)


def test_more_rows_than_a_warp():
    x = positive((33, 33))
    v = on_gpu(gpu.eigenvectors, x)
    assert_near(x @ v, v * np.linalg.eigvalsh(x))
    assert_near(on_gpu(gpu.inv, x), reference.inv(x))
    assert_near(on_gpu(gpu.cholesky, x), reference.cholesky(x))
    assert_near(on_gpu(gpu.orthonormal, x), reference.orthonormal(x))


def test_eigenvectors_of_a_diagonal_matrix():
    x = np.diag([3.0, 1.0, 1.0, 2.0])
    assert_near(on_gpu(gpu.eigenvectors, x), np.eye(4)[:, [1, 2, 3, 0]])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "a, b",
    [((3, 3), (3, 2)), ((2, 3, 3), (3, 1)), ((3, 3), (2, 3, 1)), ((2, 1, 3, 3), (4, 3, 130))],
    ids=str,
)
def test_solve(a, b, dtype):
    a, b = normal(*a).astype(dtype), normal(*b).astype(dtype)
    assert_near(on_gpu(gpu.solve, a, b), reference.solve(a, b))


def test_pivots_are_needed():
    x = np.array([[0.0, 2.0, 1.0], [1.0, 0.0, 0.0], [3.0, 0.0, 1.0]])
    for name in ("inv", "det", "det_sign", "log_abs_det"):
        assert_near(on_gpu(getattr(gpu, name), x), getattr(reference, name)(x))


def test_singular_matrices():
    """Determinants are 0; what cannot be computed is an error."""
    x = np.array([[1.0, 2.0], [2.0, 4.0]])
    assert on_gpu(gpu.det, x) == 0 and on_gpu(gpu.det_sign, x) == 0
    assert on_gpu(gpu.log_abs_det, x) == -np.inf
    with pytest.raises(ValueError, match="Singular matrix"):
        on_gpu(gpu.inv, x)
    with pytest.raises(ValueError, match="not positive definite"):
        on_gpu(gpu.cholesky, x - 1)


@pytest.mark.parametrize(
    "labels, shapes",
    [
        ("ij,jk->ik", [(2, 3), (3, 4)]),
        ("bij,bkj->bik", [(2, 3, 4), (2, 5, 4)]),  # the second one transposed, as it lies
        ("bji,bjk->bik", [(2, 4, 3), (2, 4, 5)]),
        ("bqhd,bkhd->bhqk", [(2, 3, 2, 4), (2, 5, 2, 4)]),
        ("ij,jk->ki", [(2, 3), (3, 4)]),
        ("ijx,jk->ik", [(2, 3, 2), (3, 4)]),
        ("ij,kl->jl", [(2, 3), (4, 2)]),
        ("ij,ij->", [(2, 3), (2, 3)]),
        ("ij,ij->ij", [(2, 3), (1, 3)]),
        ("ij,jk->ik", [(2, 1), (3, 4)]),
        ("ijk->ki", [(2, 3, 4)]),
        ("ij->", [(0, 3)]),
        ("i,j->ji", [(2,), (3,)]),
        (",i->i", [(), (3,)]),
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", ["float64", "int32"])
def test_einsum(labels, shapes, dtype):
    inputs, _, output = labels.partition("->")
    how = {"inputs": tuple(inputs.split(",")), "output": output}
    xs = [np.asarray(9 * normal(*s)).astype(dtype) for s in shapes]
    assert_close(on_gpu(gpu.einsum, *xs, **how), np.asarray(reference.einsum(*xs, **how)))
