"""What the table of ops cannot say about linear algebra: errors and corner cases."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minitorch_ciml import ops
from minitorch_ciml.autograd import Tensor, grad
from minitorch_ciml.autograd.check import check_grads
from minitorch_ciml.kernels.reference import linalg as kernels

A, CUBE = np.arange(6.0).reshape(2, 3), np.arange(24.0).reshape(2, 3, 4)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: ops.matmul(A, A), r"matmul: the last size of the first .*\(2, 3\), \(2, 3\)"),
        (lambda: Tensor(A) @ 2.0, r"matmul: got shapes \(2, 3\) and \(\), .*use multiply"),
        (lambda: ops.matmul(CUBE, np.ones((3, 4, 2))), "matmul: the shapes do not broadcast"),
        (lambda: ops.tensordot(A, A.T), "tensordot: axis 0 of shape .* and axis 0"),
        (lambda: ops.tensordot(A, A, 3), "tensordot: got axes=3 for 2 and 2 dimensions"),
        (lambda: ops.tensordot(A, A, ([0], [0, 1])), "tensordot: got axes .* two lists of one"),
        (lambda: ops.cross([1.0, 2.0], [1.0, 2.0]), "cross: got vectors of 2 and 2 elements"),
        (lambda: ops.einsum("ij,jk", A), "einsum: 'ij,jk' describes 2 operands, but got 1"),
        (lambda: ops.einsum("ijk->i", A), "einsum: 'ijk' in 'ijk->i' does not describe 2 dimen"),
        (lambda: ops.einsum("i->i", A), "einsum: 'i' in 'i->i' does not describe 2 dimensions"),
        (lambda: ops.einsum("ij->k", A), "einsum: 'ij->k' is not valid"),
        (lambda: ops.einsum("ij->ii", A), "einsum: 'ij->ii' is not valid"),
        (lambda: ops.einsum("i1->i", A), "einsum: 'i1->i' is not valid"),
        (lambda: ops.einsum("ii", A), "einsum: label 'i' has sizes 2 and 3 in one operand"),
        (lambda: ops.einsum("ij,jk", A, A), r"einsum: .*got shapes \(2, 3\), \(2, 3\)"),
        (lambda: ops.norm(A, "max"), "norm: got ord='max' for 2 axes"),
        (lambda: ops.cdist([[1.0]], [[1.0, 2.0]]), r"cdist: got shapes \(1, 1\) and \(1, 2\)"),
        (lambda: ops.svd([1.0]), r"svd: got shape \(1,\), expected matrices"),
        (lambda: ops.pinv([1.0]), r"pinv: got shape \(1,\), expected matrices"),
        (lambda: ops.lstsq(A, [1.0]), r"lstsq: got shapes \(2, 3\) and \(1,\), expected \(M, N\)"),
        (lambda: ops.lu_factor(A), r"lu_factor: got shape \(2, 3\), expected square matrices"),
        (lambda: ops.eig([[0.0, 1.0], [-1.0, 0.0]]), "eig: there are eigenvalues .* not real"),
        (lambda: ops.norm(A, "fro", axis=1), "norm: got ord='fro' for 1 axes"),
        (lambda: ops.norm(CUBE, 1), r"norm: got shape \(2, 3, 4\) and ord=1; pass one axis or two"),
        (lambda: ops.norm(A, axis=2), "norm: got axis 2 for 2 dimensions"),
        (lambda: ops.inv(A), r"inv: got shape \(2, 3\), expected square matrices"),
        (lambda: ops.inv(np.zeros((2, 2))), r"inv: Singular matrix; got shapes \(2, 2\)"),
        (lambda: ops.det([1.0]), r"det: got shape \(1,\), expected square matrices"),
        (lambda: ops.solve(A, [1.0]), r"solve: got shape \(2, 3\), expected square matrices"),
        (lambda: ops.solve(np.eye(2), [1.0, 2.0, 3.0]), r"solve: .*got shapes \(2, 2\), \(3, 1\)"),
        (lambda: ops.eigh(A), r"eigh: got shape \(2, 3\), expected square matrices"),
        (lambda: ops.qr(A, "full"), "qr: got mode 'full', expected 'reduced' or 'complete'"),
        (lambda: ops.qr([1.0]), r"qr: got shape \(1,\), expected matrices"),
        (lambda: ops.cholesky(-np.eye(2)), "cholesky: Matrix is not positive definite"),
    ],
)
def test_errors_say_what_was_given(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)


def test_the_norm_of_zero_has_a_gradient():
    x = Tensor(np.zeros((2, 3)), requires_grad=True)
    assert grad(ops.norm(x), x).tolist() == np.zeros((2, 3)).tolist()
    rows = np.array([[0.0, 0.0], [3.0, 4.0]])
    x = Tensor(rows, requires_grad=True)
    np.testing.assert_allclose(grad(ops.norm(x, axis=1).sum(), x).numpy(), rows / 5)


@pytest.mark.parametrize("second", [(4, 2), (5, 4, 2)])
def test_products_of_views_without_rows_or_columns_in_memory(second):
    """Strides that BLAS cannot take: every other column, and one number in all places."""
    a, b = np.random.default_rng(0).normal(size=(5, 3, 8))[..., ::2], np.ones(second)
    np.testing.assert_allclose(kernels.matmul(a, b), np.matmul(a.copy(), b))
    one = np.broadcast_to(2.0, second)
    np.testing.assert_allclose(kernels.matmul(a, one), np.matmul(a.copy(), one.copy()))


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_einsum_of_two_operands(data):
    """The way over matrix products against NumPy's own loop, for random labels."""
    sizes = dict(zip("abcde", (2, 3, 1, 4, 2)))
    labels = st.lists(st.sampled_from("abcde"), unique=True, max_size=4).map("".join)
    left, right = data.draw(labels), data.draw(labels)
    every = sorted(set(left + right))
    output = "".join(data.draw(st.permutations(every)))[: data.draw(st.integers(0, len(every)))]
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=[sizes[c] for c in part]) for part in (left, right))
    subscripts = f"{left},{right}->{output}"
    y = ops.einsum(subscripts, a, b)
    np.testing.assert_allclose(y.numpy(), np.einsum(subscripts, a, b), rtol=1e-12, atol=1e-12)
    check_grads(lambda a, b: ops.einsum(subscripts, a, b), a, b, order=1)


def test_einsum_broadcasts_the_axes_of_an_ellipsis():
    x, y = np.ones((3, 1, 2)), np.arange(8.0).reshape(1, 4, 2)
    check_grads(lambda a, b: ops.einsum("...i,...i->...", a, b), x, y)
    check_grads(lambda a, b: ops.einsum("...i,...i->i", a, b), x, y)


def test_equal_eigenvalues_have_gradients():
    x = Tensor(np.eye(3), requires_grad=True)
    w, _ = ops.eigh(x)
    np.testing.assert_allclose(grad(w.sum(), x).numpy(), np.eye(3), atol=1e-15)


def test_operators():
    x = Tensor(A)
    assert (x @ A.T).tolist() == (A @ A.T).tolist()
    assert (A.T @ x).tolist() == (A.T @ A).tolist()
    assert isinstance(A.T @ x, Tensor)


def test_slogdet_of_negative_determinants():
    sign, log = ops.slogdet(np.diag([-2.0, 3.0]))
    assert sign.item() == -1
    assert log.item() == pytest.approx(np.log(6))


def test_eig_gives_what_numpy_gives():
    x = np.array([[1.0, 2.0], [3.0, 4.0]])
    for ours, numpys in zip(ops.eig(x), np.linalg.eig(x)):
        np.testing.assert_allclose(ours.numpy(), numpys)
    assert ops.eig(np.array([[2, 0], [1, 3]]))[0].dtype == "float32"


def test_the_pseudo_inverse_and_the_shortest_solution_of_low_rank():
    x = np.outer([1.0, 2.0, 3.0], [1.0, -1.0])
    np.testing.assert_allclose(ops.pinv(x).numpy(), np.linalg.pinv(x), atol=1e-15)
    b = np.array([1.0, 0.0, 2.0])
    expected = np.linalg.lstsq(x, b, rcond=None)[0]
    np.testing.assert_allclose(ops.lstsq(x, b).numpy(), expected, atol=1e-15)
    # Along directions that keep the rank, the gradient is right.
    check_grads(lambda t: ops.pinv(x * t), 1.5)


def test_full_matrices_of_a_singular_value_decomposition():
    for shape in ((5, 2), (2, 5), (3, 3)):
        x = np.random.default_rng(0).normal(size=shape)
        u, s, vt = [y.numpy() for y in ops.svd(x)]
        np.testing.assert_allclose(u.T @ u, np.eye(shape[0]), atol=1e-14)
        np.testing.assert_allclose(vt @ vt.T, np.eye(shape[1]), atol=1e-14)
        k = min(shape)
        np.testing.assert_allclose((u[:, :k] * s) @ vt[:k], x, atol=1e-14)
