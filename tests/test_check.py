"""`check_grads` finds wrong derivatives; vjp, jvp, hvp, jacobian and hessian agree with JAX."""

import numpy as np
import pytest

from minitorch_ciml import ops
from minitorch_ciml.autograd import Op, Scalar, Tensor, grad
from minitorch_ciml.autograd.arithmetic import cos, exp, sin
from minitorch_ciml.autograd.calculus import hessian, hvp, jacobian, jvp, vjp
from minitorch_ciml.autograd.check import GradientError, check_grads
from minitorch_ciml.config import no_grad

X = np.array([[0.3, -0.7, 1.1], [0.9, 0.2, -0.4]])
V = np.array([[1.0, -2.0, 0.5], [0.1, 0.7, -1.0]])

# --- check_grads ----------------------------------------------------------------------------------


@pytest.mark.parametrize("point", [X, Scalar(0.3), [0.3], np.linspace(-1, 1, 100)])
def test_right_rules_pass(point):
    check_grads(lambda x: exp(x) * sin(x * x), point, order=3)


def test_several_inputs_and_results():
    def f(x, n, y):
        return [x * n + y, ops.sum(x * y)]

    check_grads(f, X, np.arange(3), Tensor(V))
    with no_grad():  # it records for itself
        check_grads(f, X, np.arange(3), Tensor(V))


@pytest.mark.parametrize("point", [X, Scalar(0.3), np.linspace(-1, 1, 100)])
def test_a_rule_that_is_wrong_by_a_thousandth_is_found(point):
    wrong = Op("sin", lambda g, y, x: g * cos(x) * 1.001)
    with pytest.raises(GradientError, match="order 1 by input 0"):
        check_grads(wrong, point, order=1)


@pytest.mark.parametrize("point", [X, Scalar(0.3), np.linspace(-1, 1, 100)])
def test_a_second_derivative_that_is_wrong_by_a_thousandth_is_found(point):
    wrong_cos = Op("cos", lambda g, y, x: g * sin(x) * -1.001)
    wrong = Op("sin", lambda g, y, x: g * wrong_cos(x))
    check_grads(wrong, point, order=1)
    with pytest.raises(GradientError, match="order 2 by input 0"):
        check_grads(wrong, point, order=2)


def test_a_rule_that_loses_the_arriving_gradients_own_derivative_is_found():
    wrong = Op("sin", lambda g, y, x: g.detach() * cos(x))
    check_grads(wrong, X, order=1)
    with pytest.raises(GradientError, match="order 2"):
        check_grads(wrong, X, order=2)


def test_the_message_names_the_input_the_place_and_both_numbers():
    def f(x, y):  # the last element's derivative by y is lost
        kept = np.array([1.0, 1.0, 0.0])
        return x * (y * kept + y.detach() * (1 - kept))

    text = r"order 1 by input 1, at \[2\], is 0, but differences give -?\d+\.\d+"
    with pytest.raises(GradientError, match=text):
        check_grads(f, np.ones(3), np.ones(3))


def test_not_a_number_is_found():
    root = Op("sqrt", lambda g, y, x: g * float("nan"))
    with pytest.raises(GradientError, match="is nan"):
        check_grads(root, Tensor([1.0]))


def test_integers_cannot_be_checked():
    with pytest.raises(TypeError, match="none of the inputs is a float"):
        check_grads(lambda x: x, [1, 2])
    with pytest.raises(TypeError, match="f gave int64"):
        check_grads(ops.argmax, [1.0, 2.0])


# --- calculus -------------------------------------------------------------------------------------


def f(np_, x):
    return np_.sin(x) @ x.T * np_.exp(x).sum()


def f_ours(x):
    return f(ops, x)


def s_ours(x):
    return ops.sum(f_ours(x) ** 2)


@pytest.fixture(scope="module")
def jax():
    jax = pytest.importorskip("jax")
    jax.config.update("jax_enable_x64", True)
    return jax


def close(ours, theirs):
    np.testing.assert_allclose(ours.numpy(), np.asarray(theirs), rtol=1e-10)


def test_products_and_matrices_are_those_of_jax(jax):
    import jax.numpy as jnp

    f_jax = lambda x: f(jnp, x)  # noqa: E731
    s_jax = lambda x: (f_jax(x) ** 2).sum()  # noqa: E731
    u = np.array([[1.0, 2.0], [3.0, 4.0]])
    x = Tensor(X)
    close(f_ours(x), f_jax(X))
    close(vjp(f_ours, x, u), jax.vjp(f_jax, X)[1](u)[0])
    close(vjp(s_ours, x), jax.grad(s_jax)(X))
    close(jvp(f_ours, x, V), jax.jvp(f_jax, (X,), (V,))[1])
    close(hvp(s_ours, x, V), jax.jvp(jax.grad(s_jax), (X,), (V,))[1])
    close(jacobian(f_ours, x), jax.jacobian(f_jax)(X))
    close(hessian(s_ours, x), jax.hessian(s_jax)(X))
    assert not x.requires_grad and x.grad is None


def test_several_inputs_and_no_dependence():
    a, b = Tensor([1.0, 2.0]), Tensor([3.0, 4.0])
    g = vjp(lambda a, b: ops.sum(a * a), [a, b])
    assert [x.tolist() for x in g] == [[2.0, 4.0], [0.0, 0.0]]
    assert jvp(lambda a, b: a * b, [a, b], [b, a]).tolist() == [10.0, 20.0]
    assert jvp(lambda a: a * 3, a, b).tolist() == [9.0, 12.0]  # linear
    assert jvp(lambda a: b * 1, a, b).tolist() == [0.0, 0.0]  # constant
    assert vjp(lambda a: ops.sum(b), a).tolist() == [0.0, 0.0]
    assert hessian(lambda a: ops.sum(a), a).tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_they_nest_and_work_for_scalars():
    x = Scalar(2.0)
    third = vjp(lambda x: vjp(lambda x: vjp(lambda x: x**4, x, None, True), x, None, True), x)
    assert float(third) == 48.0
    assert float(hvp(lambda x: x**3, x, 2.0)) == 24.0
    assert float(jvp(lambda x: x * x, x, 3.0)) == 12.0
    check_grads(lambda x: jvp(f_ours, x, V, create_graph=True), X, order=1)
    check_grads(lambda x: hvp(s_ours, x, V, create_graph=True), X, order=1)


def test_jacobians_and_hessians_can_be_differentiated_further():
    check_grads(lambda x: jacobian(f_ours, x, create_graph=True), X, order=2)
    check_grads(lambda x: hessian(s_ours, x, create_graph=True), X, order=1)
    x = Tensor(X, requires_grad=True)
    assert not jacobian(f_ours, x).requires_grad
    penalty = ops.sum(jacobian(f_ours, x, create_graph=True) ** 2)
    assert grad(penalty, x).shape == X.shape
    assert jacobian(lambda x: x[:0], x).shape == (0, 3, *X.shape)
