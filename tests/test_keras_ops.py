"""`keras.ops` beside Keras 3's: names, arguments, control flow, and functions in models."""

import inspect

import numpy as np
import pytest
from keras_peer import keras_peer

from minitorch_ciml import keras, ops
from minitorch_ciml.autograd import Tensor, check_grads, grad

# There are no complex tensors.
MISSING = {"polar", "view_as_complex", "view_as_real"}
MODULES = ("ops", "ops.numpy", "ops.nn", "ops.linalg", "ops.image")
RNG = np.random.default_rng(0)


def public(package, path):
    for part in path.split("."):
        package = getattr(package, part)
    return {n: f for n in dir(package) if n[0] != "_" and callable(f := getattr(package, n))}


@pytest.mark.parametrize("path", MODULES)
def test_every_function_of_keras_is_here(path):
    assert set(public(keras_peer, path)) - set(public(keras, path)) <= MISSING


@pytest.mark.parametrize("path", MODULES)
def test_arguments_have_keras_names_and_defaults(path):
    ours, theirs = public(keras, path), public(keras_peer, path)
    different = []
    for name in ours.keys() & theirs.keys():
        mine, wanted = [inspect.signature(fs[name]).parameters for fs in (ours, theirs)]
        wanted = {n: p for n, p in wanted.items() if n != "kwargs"}
        same = list(mine)[: len(wanted)] == list(wanted) and all(
            mine[n].default == p.default for n, p in wanted.items()
        )
        if not same:
            different.append(name)
    # `multi_hot` must be told the number of classes; Keras fails later without it.
    assert set(different) <= {"multi_hot"}


def test_elementwise_functions_take_their_arguments_by_name():
    assert keras.ops.add(x1=1.0, x2=2.0).item() == 3
    assert keras.ops.power(3.0, x2=2.0).item() == 9
    assert keras.ops.clip([1.0, 5.0], x_max=2, x_min=0).tolist() == [1, 2]
    assert keras.ops.bitwise_and(x=3, y=6).item() == 2
    with pytest.raises(TypeError, match="missing a required argument: 'x2'"):
        keras.ops.add(x1=1.0)


# --- functions in models ------------------------------------------------------------------------

X = RNG.uniform(size=(3, 4, 6)).astype("float32")


@pytest.mark.parametrize(
    "function",
    [
        lambda k, x: k.ops.clip(x, 0.2, x_max=0.6),
        lambda k, x: k.ops.median(x, axis=1),
        lambda k, x: k.ops.quantile(x, 0.3, axis=-1, keepdims=True),
        lambda k, x: k.ops.nanmean(x, axis=(1, 2)),
        lambda k, x: k.ops.diff(x, n=2),
        lambda k, x: k.ops.logsumexp(x, axis=1),
        lambda k, x: k.ops.maximum(x1=x, x2=0.5),
        lambda k, x: k.ops.numpy.flip(x, axis=1),
        lambda k, x: k.ops.nn.log_softmax(x),
        lambda k, x: k.ops.linalg.norm(x, axis=2),
        lambda k, x: k.ops.cdist(x, x),
        lambda k, x: k.ops.inv(k.ops.matmul(x, k.ops.transpose(x, (0, 2, 1))) + np.eye(4)),
        lambda k, x: k.ops.solve(x[:, :, :4] + 3 * np.eye(4, dtype="float32"), x),
        lambda k, x: k.ops.svd(x, compute_uv=False),
        lambda k, x: k.ops.rfft(x)[1],
        lambda k, x: k.ops.image.resize(x, (3, 3)),
        lambda k, x: k.ops.image.pad_images(x, 1, 1, 1, 1),
        lambda k, x: k.ops.top_k(x, 2)[0],
        lambda k, x: k.ops.segment_sum(x[0], np.array([0, 1, 1, 0]), num_segments=2),
    ],
)
def test_functions_build_the_models_that_keras_builds(function, tmp_path):
    """And files take them from here to Keras, where Keras can save them."""
    models = []
    for k in (keras, keras_peer):
        x = k.Input(shape=X.shape[1:])
        models.append(k.Model(x, function(k, x)))
    ours, theirs = [model.predict(X[:1], verbose=0) for model in models]
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    assert models[0].output.shape == models[1].output.shape
    models[0].save(tmp_path / "ours.keras")
    again = keras.models.load_model(tmp_path / "ours.keras")
    np.testing.assert_array_equal(again.predict(X[:1], verbose=0), ours)


@pytest.mark.parametrize(
    "function",
    [
        lambda k, x: k.ops.clip(x, 0.2, 0.6),
        lambda k, x: k.ops.logsumexp(x, axis=1),
        lambda k, x: k.ops.linalg.norm(x, axis=2),
        lambda k, x: k.ops.median(x, axis=1),
        lambda k, x: k.ops.svd(x, compute_uv=False),
        lambda k, x: k.ops.image.resize(x, (3, 3)),
        lambda k, x: k.ops.image.extract_patches(k.ops.reshape(x, (-1, 4, 6, 1)), 2),
        lambda k, x: k.ops.quantile(x, 0.3, axis=1),
        lambda k, x: k.ops.matmul(x, np.ones((6, 2), "float32")),
        lambda k, x: k.ops.take(x, [2, 0], axis=1),
        lambda k, x: k.ops.slice(x, (0, 1, 2), (1, 2, 3)),
    ],
)
def test_models_with_functions_go_to_keras_and_come_back(function, tmp_path):
    for here, there in ((keras, keras_peer), (keras_peer, keras)):
        x = here.Input(shape=X.shape[1:])
        model = here.Model(x, function(here, x))
        model.save(tmp_path / "model.keras")
        again = there.saving.load_model(tmp_path / "model.keras")
        expected = model.predict(X[:1], verbose=0)
        np.testing.assert_allclose(again.predict(X[:1], verbose=0), expected, rtol=1e-5, atol=1e-6)


def test_what_is_known_of_symbolic_tensors():
    x = keras.Input(shape=(4, 6))
    assert keras.ops.shape(x) == (None, 4, 6)
    assert keras.ops.ndim(x) == 3 and keras.ops.dtype(x) == "float32"
    assert not keras.ops.is_tensor(x) and keras.ops.is_tensor(Tensor(1.0))


def test_sizes_that_depend_on_the_numbers_are_unknown():
    x, n = keras.Input(shape=(4,)), keras.Input(shape=(4,), dtype="int32")
    f = keras.ops
    assert f.unique(x).shape == (None,)
    assert f.unique(x, size=3).shape == (3,)
    assert [y.shape for y in f.nonzero(x)] == [(None,), (None,)]
    assert f.bincount(n, minlength=2).shape == (None, None)
    assert f.segment_sum(x, n[:, 0]).shape == (None, 4)
    assert f.segment_sum(x, n[:, 0], num_segments=7).shape == (7, 4)
    assert f.where(x > 0, x, 1.0).shape == (None, 4)
    model = keras.Model(x, f.unique(x))
    assert model(np.array([[3.0, 1.0, 3.0, 2.0]])).tolist() == [1, 2, 3]


def test_scores_of_attention_are_capped():
    q, k, v = [RNG.normal(size=(2, 3, 2, 4)) for _ in range(3)]
    scores = np.tanh(np.einsum("nthk,nshk->nhts", q, k) / 2 / 0.7) * 0.7
    shares = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    expected = np.einsum("nhts,nshv->nthv", shares, v)
    y = keras.ops.dot_product_attention(q, k, v, attn_logits_soft_cap=0.7)
    np.testing.assert_allclose(y.numpy(), expected, rtol=1e-10)


# --- control flow -------------------------------------------------------------------------------


def same(call):
    """Of `call(keras.ops)` here and there."""
    ours, theirs = [[np.asarray(x) for x in flat(call(k.ops))] for k in (keras, keras_peer)]
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


def flat(structure):
    if isinstance(structure, dict):
        structure = [structure[key] for key in sorted(structure)]
    if isinstance(structure, (list, tuple)):
        return [x for item in structure for x in flat(item)]
    return [keras_peer.ops.convert_to_numpy(structure) if hasattr(structure, "cpu") else structure]


ROWS = np.arange(12.0, dtype="float32").reshape(4, 3)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script")
@pytest.mark.parametrize(
    "call",
    [
        lambda o: o.cond(o.array(True), lambda: o.array(1.0), lambda: o.array(2.0)),
        lambda o: o.switch(1, [lambda x: x, lambda x: x + 1], o.array(1.0)),
        lambda o: o.switch(9, [lambda x: x, lambda x: x + 1], o.array(1.0)),
        lambda o: o.while_loop(lambda i: i < 10, lambda i: i + 3, o.array(0)),
        lambda o: o.while_loop(
            lambda i, x: i < 3, lambda i, x: (i + 1, x * 2), (o.array(0), o.array(1.5))
        ),
        lambda o: o.while_loop(
            lambda i: i < 10, lambda i: i + 1, [o.array(0)], maximum_iterations=4
        ),
        lambda o: o.fori_loop(1, 5, lambda i, x: x * i, o.array(1.0)),
        lambda o: o.map(lambda x: x * 2 + o.sum(x), o.array(ROWS)),
        lambda o: o.vectorized_map(lambda xs: xs[0] - xs[1], [o.array(ROWS), o.array(ROWS**2)]),
        lambda o: o.scan(lambda c, x: (c + x, c * x), o.array(ROWS[0]), o.array(ROWS)),
        lambda o: o.scan(
            lambda c, x: (c + x["a"], c * x["a"]), o.array(0.0), {"a": o.array(ROWS[:, 0])},
            reverse=True,
        ),
        lambda o: o.scan(lambda c, _: (c * 2, c), o.array(1.0), length=5),
        *(
            lambda o, n=n, reverse=reverse: o.associative_scan(
                lambda a, b: a + b, o.array(np.arange(n)), reverse=reverse
            )
            for n in (1, 2, 3, 4, 5, 8, 9)
            for reverse in (False, True)
        ),
        lambda o: o.associative_scan(
            lambda a, b: [o.matmul(a[0], b[0])],
            [o.array(np.random.default_rng(0).normal(size=(5, 2, 2)))],
        ),
        lambda o: o.associative_scan(lambda a, b: o.maximum(a, b), o.array(ROWS % 5), axis=1),
        lambda o: o.vectorize(lambda a, b: a + b)(o.array(ROWS), o.array(2.0)),
        lambda o: o.vectorize(o.matmul, signature="(m,n),(n)->(m)")(
            o.array(ROWS.reshape(2, 2, 3)), o.array(ROWS[0])
        ),
        lambda o: o.jvp(lambda a, b: o.sin(a) * b, (o.array(0.3), o.array(2.0)),
                        (o.array(1.0), o.array(0.5))),
    ],
)  # fmt: skip
def test_control_flow_gives_what_it_gives_in_keras(call):
    same(call)


def test_gradients_flow_through_control_flow():
    f = keras.ops

    def loop(x):
        return f.while_loop(lambda i, y: i < 3, lambda i, y: (i + 1, y * x), (0, f.sin(x)))[1]

    check_grads(loop, np.array([0.3, 1.2]))
    check_grads(lambda x: f.scan(lambda c, y: (c * y, c + y), x[0], x), np.array([0.3, 1.2, 0.7]))
    check_grads(lambda x: f.associative_scan(lambda a, b: a * b, x), np.array([0.3, 1.2, 0.7]))
    check_grads(lambda x: f.map(lambda y: y * f.sum(x), x), np.array([0.3, 1.2, 0.7]))


def test_choices_in_a_model_are_made_when_it_runs():
    x = keras.Input(shape=(2,))
    large = keras.ops.sum(x) > 1
    both = keras.ops.cond(large, lambda: x * 2, lambda: x - 1)
    which = keras.ops.switch(
        keras.ops.cast(x[0, 0], "int32"), [lambda y: y, lambda y: -y, lambda y: y * 5], x
    )
    model = keras.Model(x, [both, which])
    for row, first, second in (
        ([1.0, 2.0], [2, 4], [-1, -2]),
        ([-3.0, 0.0], [-4, -1], [-3, 0]),
        ([9.0, 1.0], [18, 2], [45, 5]),
    ):
        y, z = model(np.array([row], "float32"))
        assert (y[0].tolist(), z[0].tolist()) == (first, second)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda f: f.cond([True, False], None, None), "cond: the condition has shape"),
        (lambda f: f.switch(0, []), "switch: got no branches"),
        (lambda f: f.scan(lambda c, x: (c, x), 0.0), "scan: got neither xs nor length"),
        (lambda f: f.scan(None, 0.0, np.ones(1), length=2), "scan: got length=2, but xs has 1"),
        (lambda f: f.map(None, [1.0, [1.0, 2.0]]), "map: got shapes .* equally long first axes"),
        (lambda f: f.map(None, np.ones((0, 2))), "map: there is nothing to go through"),
        (lambda f: f.while_loop(lambda i, j: i < 1, lambda i, j: (i,), (0, 0)), "gave 1 values"),
        (lambda f: f.vectorize(None, signature="m->n"), "vectorize: got 'm->n', expected a form"),
        (lambda f: f.jvp(f.sin, (1.0,), ()), "jvp: got 1 primals and 0 tangents"),
    ],
)
def test_bad_control_flow_gets_a_clear_error(call, message):
    with pytest.raises(ValueError, match=message):
        call(keras.ops)


# --- gradients of one's own ---------------------------------------------------------------------


@keras.ops.custom_gradient
def log1pexp(x):
    e = ops.exp(x)

    def gradient(*args, upstream=None):
        if upstream is None:
            (upstream,) = args
        return upstream * (1 - 1 / (1 + e))

    return ops.log(1 + e), gradient


def test_a_gradient_of_ones_own():
    x = Tensor([100.0, 0.5], requires_grad=True)
    with np.errstate(over="ignore"):
        assert grad(log1pexp(x).sum(), x).numpy()[0] == 1  # nan without it
    check_grads(log1pexp, np.array([0.3, -2.0]), order=2)


def test_a_gradient_of_ones_own_with_several_inputs_and_results():
    @keras.ops.custom_gradient
    def both(a, pair):
        def gradient(first, second):
            return first * pair["b"], {"b": first * a + second}

        return (a * pair["b"], pair["b"] * 1), gradient

    check_grads(lambda a, b: list(both(a, {"b": b})), np.array([1.0, 2.0]), np.array([3.0, 4.0]))


def test_a_gradient_of_ones_own_in_a_model():
    x = keras.Input(shape=(2,))
    model = keras.Model(x, log1pexp(x))
    np.testing.assert_allclose(model(np.zeros((1, 2), "float32")).numpy(), np.log(2.0), rtol=1e-6)


def test_a_gradient_for_each_argument():
    wrong = keras.ops.custom_gradient(lambda a, b: (a * b, lambda g: g))
    x = Tensor(1.0, requires_grad=True)
    with pytest.raises(ValueError, match="got 1 gradients for 2 arguments"):
        grad(wrong(x, x), x)
