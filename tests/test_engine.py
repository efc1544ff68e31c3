"""What the engine promises, for tensors and scalars."""

import copy
import gc
import math
import pickle
import weakref

import numpy as np
import pytest

from minitorch_ciml import ops
from minitorch_ciml.autograd import (
    GraphError,
    Op,
    Parameter,
    Scalar,
    Tensor,
    Variable,
    arithmetic,
    check_grads,
    grad,
)
from minitorch_ciml.autograd.arithmetic import cos, erf, exp, log, power, relu, sigmoid, sin, tanh
from minitorch_ciml.config import enable_grad, no_grad


def leaf(data, name=None):
    return Tensor(data, dtype="float64", requires_grad=True, name=name)


# --- where backward starts --------------------------------------------------------------------


def test_backward_starts_from_one_or_from_what_is_given():
    x = leaf([1.0, 2.0])
    (x * x).backward([1.0, 10.0])
    assert x.grad.tolist() == [2.0, 40.0]
    y = leaf([[3.0]])
    (y * y).backward()  # one element counts as a scalar
    assert y.grad.tolist() == [[6.0]]


def test_a_seed_of_another_dtype_is_cast():
    x = Tensor([1.0, 2.0], requires_grad=True)
    (x * x).backward(np.ones(2))
    assert x.grad.dtype == "float32"
    y = Tensor([1.0], requires_grad=True)
    y.backward(np.ones(1))
    assert y.grad.dtype == "float32"


@pytest.mark.parametrize(
    "program, error, message",
    [
        (lambda x: (x * x).backward(), ValueError, r"Tensor of shape \(2,\) is not a scalar"),
        (lambda x: (x * x).backward([1.0]), ValueError, r"gradient has shape \(1,\), the output"),
        (lambda x: x.detach().sum().backward(), GraphError, "not computed from anything"),
        (lambda x: grad(x.sum(), leaf([1.0], "w")), GraphError, "do not depend on Tensor 'w'"),
        (lambda x: grad(x.sum(), Tensor([1.0])), GraphError, "does not require a gradient"),
        (lambda x: Tensor([1.0]).register_hook(print), GraphError, "would never run"),
        (lambda x: x + Tensor([1.0, 2.0, 3.0]), ValueError, r"add: .*got shapes \(2,\), \(3,\)"),
        (lambda x: Tensor([1, 2], requires_grad=True), TypeError, "a float dtype, got int64"),
        (lambda x: x + Scalar(1.0), TypeError, "convert it with float"),
        (lambda x: Scalar(1.0) + "one", TypeError, "numbers only, not with str"),
    ],
)
def test_errors_say_what_to_do(program, error, message):
    with pytest.raises(error, match=message) as caught:
        program(leaf([1.0, 2.0]))
    assert "\n" not in str(caught.value)


def test_an_unused_input_may_be_allowed():
    x, w = leaf([1.0]), leaf([2.0])
    assert grad(x * x, [x, w], allow_unused=True)[1] is None


def test_a_value_that_changed_since_it_was_used_is_named():
    w = Parameter([1.0, 2.0], name="dense/kernel")
    loss = (w * w).sum()
    w.assign([3.0, 4.0])
    with pytest.raises(GraphError, match="'dense/kernel'.*'multiply'.*before assigning"):
        loss.backward()
    (w * w).sum().backward()
    assert w.grad.tolist() == [6.0, 8.0]


# --- what backward leaves ---------------------------------------------------------------------


def test_gradients_accumulate_until_they_are_forgotten():
    x = leaf([1.0, 2.0])
    for _ in range(2):
        (x * x).sum().backward()
    assert x.grad.tolist() == [4.0, 8.0]
    x.zero_grad()
    assert x.grad is None


def test_grad_stores_nothing():
    x, y = leaf([1.0]), leaf([2.0])
    gx, gy = grad(x * y, [x, y])
    assert (gx.item(), gy.item()) == (2.0, 1.0) and x.grad is None and y.grad is None


def test_grad_of_several_outputs_adds_them():
    x = leaf([2.0])
    assert grad([x * x, x * 3], x).item() == 7.0
    assert grad([x * x, x * 3], x, [[10.0], [1.0]]).item() == 43.0


def test_grad_by_a_result_in_the_middle():
    x = leaf([2.0])
    middle = x * x
    assert grad(middle * 5, middle).item() == 5.0


def test_a_second_backward_needs_the_graph_to_be_kept():
    x = leaf([3.0])
    y = x * x
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad.item() == 12.0
    with pytest.raises(GraphError, match="freed by an earlier backward; pass retain_graph=True"):
        y.backward()


def test_a_graph_that_shares_a_freed_part_is_refused():
    x = leaf([3.0])
    shared = x * x
    shared.sum().backward()
    with pytest.raises(GraphError, match="was freed"):
        (shared * 2).sum().backward()


def test_a_gradient_belongs_to_whom_it_arrived_at():
    """Adding to one variable's gradient later does not change another's that was equal to it."""
    x, y = leaf([1.0]), leaf([1.0])
    (x + y).backward()
    x.backward()
    assert (x.grad.item(), y.grad.item()) == (2.0, 1.0)


# --- derivatives of derivatives -----------------------------------------------------------------


@pytest.mark.parametrize("kind", [leaf, Scalar])
def test_third_derivatives(kind):
    x = kind(0.7)
    first = grad(sin(x) * exp(x), x, create_graph=True)
    second = grad(first, x, create_graph=True)
    third = grad(second, x)
    s, c, e = math.sin(0.7), math.cos(0.7), math.exp(0.7)
    assert math.isclose(float(first), (s + c) * e)
    assert math.isclose(float(second), 2 * c * e)
    assert math.isclose(float(third), 2 * (c - s) * e)


def test_backward_can_create_the_graph_too():
    x = leaf(2.0)
    (x**3).backward(create_graph=True)
    (first,) = [x.grad]
    x.zero_grad()
    first.backward()
    assert x.grad.item() == 12.0


def test_a_gradient_penalty():
    """The gradient of a function of a gradient, as in improved Wasserstein training."""
    x, w = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    g = grad((x * x * w).sum(), x, create_graph=True)  # 2 x w
    (g * g).sum().backward()  # 4 x^2 w^2
    assert w.grad.tolist() == [24.0, 128.0]


# --- hooks --------------------------------------------------------------------------------------


def test_hooks_see_the_complete_gradient_may_replace_it_and_can_be_removed():
    x = leaf([2.0])
    middle = x * 3
    seen = []
    middle.register_hook(lambda g: seen.append(g.item()))
    remove = middle.register_hook(lambda g: g * 10)
    (middle + middle * middle).backward(retain_graph=True)
    assert seen == [13.0] and x.grad.item() == 390.0
    remove()
    x.zero_grad()
    (middle + middle * middle).backward()
    assert seen == [13.0, 13.0] and x.grad.item() == 39.0


def test_a_hook_of_a_leaf_runs_before_it_is_stored():
    x = leaf([2.0])
    x.register_hook(lambda g: np.array([7.0]))
    (x * x).backward()
    assert x.grad.tolist() == [7.0]
    a = Scalar(2.0)
    a.register_hook(lambda g: g * 2)
    a.register_hook(lambda g: float(g) + 1)
    (a * a).backward()
    assert a.grad.item() == 9.0


# --- recording and not ------------------------------------------------------------------------


def test_detach_no_grad_and_enable_grad():
    x = leaf([2.0])
    assert (x * x.detach()).requires_grad
    (x * x.detach()).backward()
    assert x.grad.item() == 2.0

    @no_grad()
    def unrecorded():
        inside = x * x
        with enable_grad():
            return inside, x * x

    outside, enabled = unrecorded()
    assert not outside.requires_grad and outside.is_leaf
    assert enabled.requires_grad and not enabled.is_leaf


def test_constants_record_nothing():
    assert (Tensor([1.0]) * 2).record is None
    assert ops.argmax(leaf([1.0, 2.0])).record is None


# --- shapes of graphs -------------------------------------------------------------------------


def test_diamonds_are_walked_once():
    calls = []
    double = Op("add", lambda g, y, a, b: calls.append(1) or g, lambda g, y, a, b: g)
    x = leaf(1.0)
    y = x
    for _ in range(50):  # 2^50 paths
        y = double(y, y)
    y.backward()
    assert x.grad.item() == 2.0**50 and len(calls) == 50


def test_one_variable_in_two_places_of_a_fused_op():
    square_of_product = Op("no kernel", ref=lambda a, b: (a * b) * (a * b))
    x = leaf(3.0)
    assert square_of_product(x, x).item() == 81.0
    assert grad(square_of_product(x, x), x).item() == 108.0

    def kernel(a, b):
        return (a * b) ** 2

    def kernel_grad(g, y, a, b, *, needs):
        return 2 * g * a * b * b, 2 * g * a * a * b

    fused = Op("fused", ref=lambda a, b: (a * b) * (a * b))
    fused.kernels[np.ndarray] = kernel
    fused.gradient_kernels[np.ndarray] = kernel_grad
    first = grad(fused(x, x), x)
    again = grad(fused(x, x), x, create_graph=True)
    assert first.item() == again.item() == 108.0
    assert grad(again, x).item() == 12 * 9.0


def test_a_chain_of_20_000_ops():
    for x in (leaf(1.0), Scalar(1.0)):
        y = x
        for _ in range(20_000):
            y = y * 1.0001
        y.backward()
        assert math.isclose(float(x.grad), 1.0001**20_000)
        del y


# --- memory -----------------------------------------------------------------------------------


@pytest.fixture
def uncollected():
    """Memory is returned by counting references alone, or not at all."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def network(x, w):
    h = ops.softmax(ops.relu(x @ w) + ops.sum(w), axis=-1)
    return h, ops.mean((h - 1.0) ** 2)


@pytest.mark.parametrize("create_graph", [False, True])
def test_no_cycles_before_and_after_backward(uncollected, create_graph):
    x, w = leaf(np.ones((4, 3))), leaf(np.ones((3, 2)))
    hidden, loss = network(x, w)
    weak = weakref.ref(hidden)
    del hidden, loss
    assert weak() is None, "dropping the result did not free the graph"

    hidden, loss = network(x, w)
    weak = weakref.ref(hidden)
    g = grad(loss, w, create_graph=create_graph)
    del hidden, loss, g
    assert weak() is None


def live_variables() -> int:
    return sum(isinstance(x, Variable) for x in gc.get_objects())


def test_backward_frees_each_node_and_leaves_nothing_behind(uncollected):
    x, w = leaf(np.ones((4, 3))), leaf(np.ones((3, 2)))
    before = live_variables()
    for _ in range(3):
        hidden, loss = network(x, w)
        loss.backward()
        assert hidden.record.inputs == ()  # freed while `hidden` and `loss` live
        w.zero_grad(), x.zero_grad()
    del hidden, loss
    assert live_variables() == before


# --- new ops ------------------------------------------------------------------------------------


def test_a_users_op_brings_its_kernel():
    cube = Op("cube", lambda g, y, x: g * 3 * x * x, kernel=lambda x: x**3)

    x = leaf([0.5, -1.0])
    np.testing.assert_array_equal(cube(x).numpy(), x.numpy() ** 3)
    check_grads(cube, x, order=3)
    s = Scalar(2.0)
    cube(s).backward()
    assert s.grad.item() == 12.0


def test_an_op_finds_its_kernel_by_name():
    softplus = Op("logaddexp", None, lambda g, y, zero, x: g * sigmoid(x))
    x = leaf([0.5, -1.0])
    softplus(np.zeros(2), x).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), 1 / (1 + np.exp(-x.numpy())))


def test_an_op_of_other_ops_needs_no_kernel():
    def mish(x):
        return x * tanh(log(exp(x) + 1))

    fused = Op("mish of ops", ref=mish)
    x = leaf([0.5, -1.0])
    np.testing.assert_array_equal(fused(x).numpy(), mish(x).numpy())
    assert grad(fused(x).sum(), x).tolist() == grad(mish(x).sum(), x).tolist()


def test_an_op_without_a_kernel_says_for_which_device():
    with pytest.raises(NotImplementedError, match="nothing: there is no kernel for device 'cpu'"):
        Op("nothing")(Tensor([1.0]))
    with pytest.raises(NotImplementedError, match="device 'python'"):
        Op("matmul")(Scalar(1.0), Scalar(2.0))


def test_a_joint_rule_is_told_what_is_needed():
    asked = []

    def joint(g, y, a, b, needs):
        asked.append(needs)
        return [g * b if needs[0] else None, g * a if needs[1] else None]

    product = Op("multiply", joint=joint)
    x = leaf([3.0])
    product(x, np.array([2.0])).backward()
    assert asked == [(True, False)] and x.grad.item() == 2.0


# --- dtypes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "a, b, common, floating",
    [
        ("float32", "float32", "float32", "float32"),
        ("float32", "float64", "float64", "float64"),
        ("float16", "float32", "float32", "float32"),
        ("float32", "int64", "float32", "float32"),
        ("float16", "int64", "float16", "float16"),
        ("float32", "bool", "float32", "float32"),
        ("int8", "int32", "int32", "float32"),
        ("uint8", "int8", "int16", "float32"),
        ("int64", "bool", "int64", "float32"),
        ("float32", 2, "float32", "float32"),
        ("float16", 2.5, "float16", "float16"),
        ("float64", 2.5, "float64", "float64"),
        ("int32", 2, "int32", "float32"),
        ("int32", 2.5, "float32", "float32"),
        ("bool", 2, "int64", "float32"),
        ("bool", 2.5, "float32", "float32"),
        ("int32", True, "int32", "float32"),
    ],
)
def test_promotion(a, b, common, floating):
    x = Tensor(np.ones(2, a))
    y = Tensor(np.ones(2, b)) if isinstance(b, str) else b
    assert (x + y).dtype == (y + x).dtype == ops.maximum(x, y).dtype == common
    assert (x / y).dtype == (y / x).dtype == floating
    assert (x == y).dtype == "bool"


def test_gradients_have_the_dtype_of_what_they_belong_to():
    x, y = Tensor(np.ones(2, "float16"), requires_grad=True), leaf([1.0, 2.0])
    (x * y).sum().backward()
    assert (x.grad.dtype, y.grad.dtype) == ("float16", "float64")


def test_broadcast_gradients_are_summed_back():
    x, y = leaf(np.ones((2, 1))), leaf(np.ones((3, 1, 4)))
    (x * y).sum().backward()
    assert x.grad.shape == (2, 1) and (x.grad.numpy() == 12).all()
    assert y.grad.shape == (3, 1, 4) and (y.grad.numpy() == 2).all()


# --- scalars ----------------------------------------------------------------------------------


def formula(a, b):
    return sigmoid(a * b) + relu(a - b) ** 2 / exp(b) - tanh(log(a)) * cos(-b) + erf(power(a, b))


def test_scalars_and_tensors_give_the_same():
    rng = np.random.default_rng(0)
    for _ in range(20):
        a, b = rng.uniform(0.2, 2.0, 2)
        scalars, tensors = (Scalar(a), Scalar(b)), (leaf(a), leaf(b))
        y, z = formula(*scalars), formula(*tensors)
        y.backward()
        z.backward()
        assert math.isclose(float(y), float(z), rel_tol=1e-14)
        for s, t in zip(scalars, tensors):
            assert math.isclose(float(s.grad), float(t.grad), rel_tol=1e-12)


@pytest.mark.parametrize("name", ["add", "subtract", "multiply", "divide"])
def test_the_gradient_kernels_of_two_floats_are_the_rules(name):
    op = getattr(arithmetic, name)
    for a, b in [(1.5, -0.75), (0.0, 2.0), (-3.0, 0.1)]:
        x, y = Scalar(a), Scalar(b)
        by_kernel = grad(op(x, y) * 0.7, [x, y])
        by_rule = grad(op(x, y) * 0.7, [x, y], create_graph=True)
        assert [float(g) for g in by_kernel] == [float(g) for g in by_rule]


@pytest.mark.parametrize("name", ["negative", "exp", "tanh", "sigmoid", "relu"])
def test_the_gradient_kernels_of_a_float_are_the_rules(name):
    op = getattr(arithmetic, name)
    for value in (-2.5, 0.0, 0.3, 40.0):
        x = Scalar(value)
        by_rule = grad(op(x) * 0.7, x, create_graph=True)
        assert float(grad(op(x) * 0.7, x)) == float(by_rule)


def test_scalars_explain_what_they_cannot_do():
    with pytest.raises(ValueError, match="log: the logarithm needs a positive number, got -1.0"):
        log(Scalar(-1.0))
    with pytest.raises(ZeroDivisionError, match="divide"):
        Scalar(1.0) / 0
    with pytest.raises(ValueError, match="is not a real number"):
        Scalar(-8.0) ** (1 / 3)
    with pytest.raises(OverflowError, match="exp"):
        exp(Scalar(1000.0))


def test_what_is_no_scalar():
    for wrong in ("a", None, np.ones(3)):
        with pytest.raises(TypeError, match="Scalar: expected a number, got .*use Tensor"):
            Scalar(wrong)
    with pytest.raises(TypeError, match="a Scalar cannot be computed with a Tensor; convert it"):
        Scalar(1.0) + Tensor([2.0], requires_grad=True)
    assert (Scalar(1.0) + float(Tensor([2.0]))).value == 3


@pytest.mark.parametrize(
    "compute",
    [
        lambda x, w, b: ops.dense(x, w, b, "relu"),
        lambda x, w, b: ops.conv_bias_act(x, w.reshape((1, 1, 8, 8)), b, "relu"),
        lambda x, w, b: ops.layer_normalization(x, w[0], b),
    ],
    ids=["dense", "conv_bias_act", "layer_normalization"],
)
@pytest.mark.parametrize("images", [1, 40])  # NumPy's addition, and a kernel's
def test_gradients_that_meet_are_added_in_place(compute, images, monkeypatch):
    """What came first is not written to: here it is the gradient of another variable, too."""

    def variable(*shape):
        return Tensor(rng.standard_normal(shape).astype("float32"), requires_grad=True)

    rng = np.random.default_rng(0)
    x, other = variable(images, 4, 4, 8), variable(images, 4, 4, 8)
    w, b = variable(8, 8), variable(8)
    loss = (compute(x, w, b) ** 2).sum() + ((x + other) ** 3).sum()
    inputs = [x, other, w, b]
    expected = grad(loss, inputs, create_graph=True)
    monkeypatch.setattr(Tensor, "plus", None)  # which makes a new array
    for got, right in zip(grad(loss, inputs), expected):
        np.testing.assert_allclose(got.numpy(), right.numpy(), rtol=1e-4, atol=1e-4)


def test_an_output_before_another_that_does_not_lead_to_the_target():
    """Its seed has arrived at an input whose gradient nobody needs."""
    w = Tensor(np.ones((8, 3), "float32"), requires_grad=True)
    x = Tensor(np.ones((2, 8), "float32"), requires_grad=True)
    hidden = x * 2
    y = ops.dense(hidden, w, np.zeros(3, "float32"), "linear")
    found = grad([hidden, y], w, [np.ones((2, 8)), np.ones((2, 3))])
    np.testing.assert_array_equal(found.numpy(), np.full((8, 3), 4))


def test_an_op_is_copied_and_pickled_by_its_name():
    """As a function is: a model that has one as its activation can go to another process."""
    found = [op for name in ops.__all__ if isinstance(op := getattr(ops, name), Op)]
    assert len(found) > 20
    for op in found:
        assert pickle.loads(pickle.dumps(op)) is op and copy.deepcopy(op) is op
