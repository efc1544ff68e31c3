"""Attention layers and EinsumDense against Keras 3: outputs, gradients, masks, files."""

import numpy as np
import pytest

from minitorch_ciml import Tensor, grad, keras, ops
from minitorch_ciml.keras.serialization import deserialize_keras_object, serialize_keras_object
from minitorch_ciml.kernels.cpu import attention as cpu_attention
from minitorch_ciml.kernels.reference import attention as reference_attention
from tests.keras_peer import drop_ids, keras_peer, seeded, to_numpy, torch

QUERY, VALUE = (2, 5, 6), (2, 7, 4)
RNG = np.random.default_rng(2)
STEPS = RNG.random((2, 5)) < 0.7
SOURCES = RNG.random((2, 7)) < 0.7
PAIRS = RNG.random((2, 5, 7)) < 0.6
SOURCES[:, 0] = PAIRS[:, :, 0] = STEPS[:, 0] = True

# (layer, arguments, shapes of the inputs, what the call takes)
MHA = [
    (dict(num_heads=2, key_dim=3), [QUERY, QUERY], {}),
    (dict(num_heads=2, key_dim=3, value_dim=5, output_shape=8), [QUERY, VALUE], {}),
    (dict(num_heads=3, key_dim=2, use_bias=False), [QUERY, VALUE, (2, 7, 3)], {}),
    (dict(num_heads=2, key_dim=3), [QUERY, QUERY], dict(use_causal_mask=True)),
    (dict(num_heads=2, key_dim=3), [QUERY, VALUE], dict(attention_mask=PAIRS)),
    (dict(num_heads=2, key_dim=3), [QUERY, VALUE], dict(value_mask=SOURCES)),
    (
        dict(num_heads=2, key_dim=3),
        [QUERY, VALUE],
        dict(attention_mask=PAIRS, key_mask=SOURCES, use_causal_mask=True),
    ),
    (dict(num_heads=2, key_dim=3, attention_axes=(1, 2)), [(2, 3, 4, 5), (2, 3, 4, 5)], {}),
    (dict(num_heads=2, key_dim=3, attention_axes=2, seed=4), [(2, 3, 4, 5), (2, 3, 6, 5)], {}),
    (
        dict(num_heads=2, key_dim=3, output_shape=(2, 3), kernel_regularizer="l2"),
        [QUERY, QUERY],
        {},
    ),
    (dict(num_heads=2, key_dim=3, use_gate=True), [QUERY, VALUE], {}),
    (dict(num_heads=2, key_dim=3, sliding_window=2), [QUERY, QUERY], dict(use_causal_mask=True)),
    (dict(num_heads=2, key_dim=3, sliding_window=3), [QUERY, VALUE], dict(value_mask=SOURCES)),
]
GROUPED = [
    (dict(head_dim=3, num_query_heads=4, num_key_value_heads=2), [QUERY, QUERY], {}),
    (dict(head_dim=3, num_query_heads=4, num_key_value_heads=1, use_bias=False, seed=3),
     [QUERY, (2, 7, 6), (2, 7, 6)], dict(attention_mask=PAIRS)),
    (dict(head_dim=2, num_query_heads=2, num_key_value_heads=2, use_gate=True), [QUERY, QUERY],
     dict(use_causal_mask=True, value_mask=STEPS)),
    (dict(head_dim=2, num_query_heads=4, num_key_value_heads=2, sliding_window=2), [QUERY, QUERY],
     {}),
]  # fmt: skip
PLAIN = [
    ("Attention", {}, [QUERY, (2, 7, 6)], {}),
    ("Attention", dict(use_scale=True), [QUERY, (2, 7, 4), (2, 7, 6)], {}),
    ("Attention", dict(score_mode="concat", use_scale=True, seed=1), [QUERY, (2, 7, 6)], {}),
    ("Attention", {}, [QUERY, (2, 7, 6)], dict(mask=[STEPS, SOURCES], use_causal_mask=True)),
    ("Attention", {}, [QUERY, QUERY], dict(mask=[None, ~STEPS & STEPS])),
    ("AdditiveAttention", {}, [QUERY, (2, 7, 6)], {}),
    ("AdditiveAttention", dict(use_scale=False), [QUERY, (2, 7, 6)], dict(mask=[STEPS, SOURCES])),
]
DENSE = [
    ("abc,cd->abd", (None, 7), "d", (2, 5, 3)),
    ("ab,bc->ac", 4, None, (2, 5)),
    ("abc,cde->abde", (None, 2, 3), "de", (2, 5, 3)),
    ("abcd,cde->abe", (None, 4), "e", (2, 3, 4, 5)),
    ("abc,bd->adc", (7, 3), "dc", (2, 5, 3)),
    ("abc,cd->abd", (5, 7), "b", (2, 5, 3)),
    ("...x,xy->...y", 4, "y", (2, 5, 3)),
    ("ab...,bc->ac...", (4,), "c", (2, 5, 3)),
]


def pair(name, kwargs, *inputs):
    ours = getattr(keras.layers, name)(**kwargs, name="layer")
    theirs = getattr(keras_peer.layers, name)(**kwargs, name="layer")
    ours(*inputs)
    theirs(*inputs)
    rng = np.random.default_rng(3)
    weights = [rng.uniform(-1, 1, w.shape).astype("float32") for w in theirs.get_weights()]
    ours.set_weights(weights)
    theirs.set_weights(weights)
    return ours, theirs


def draw(shapes):
    rng = np.random.default_rng(0)
    return [rng.normal(size=shape).astype("float32") for shape in shapes]


def compare(ours, theirs, x, call, as_list=False, **kwargs):
    """Outputs, and the gradients for inputs and weights."""
    tensors = [torch.tensor(a, requires_grad=True) for a in x]
    y_peer = theirs(tensors, **call) if as_list else theirs(*tensors, **call)
    (y_peer * torch.tensor(seeded(tuple(y_peer.shape)))).sum().backward()
    inputs = [Tensor(a, requires_grad=True) for a in x]
    y = ours(inputs, **call, **kwargs) if as_list else ours(*inputs, **call, **kwargs)
    np.testing.assert_allclose(y.numpy(), to_numpy(y_peer), rtol=1e-5, atol=1e-5)
    found = grad((y * seeded(y.shape)).sum(), [*inputs, *ours.trainable_weights])
    peers = [t.grad for t in tensors] + [w.value.grad for w in theirs.trainable_weights]
    for g, peer in zip(found, peers, strict=True):
        np.testing.assert_allclose(g.numpy(), peer.numpy(), rtol=1e-5, atol=2e-5)


def check_config(ours, theirs):
    config = drop_ids(serialize_keras_object(ours))
    assert config == drop_ids(keras_peer.saving.serialize_keras_object(theirs))
    again = deserialize_keras_object(config)
    assert drop_ids(serialize_keras_object(again)) == config
    keras_peer.saving.deserialize_keras_object(config)


@pytest.mark.parametrize("kwargs, shapes, call", MHA)
def test_multi_head_attention_equals_keras(kwargs, shapes, call):
    x = draw(shapes)
    ours, theirs = pair("MultiHeadAttention", kwargs, *x)
    assert [w.path.split("/", 1)[-1] for w in theirs.weights] == [
        w.path.replace("layer/", "") for w in ours.weights
    ]
    compare(ours, theirs, x, call)
    check_config(ours, theirs)


@pytest.mark.parametrize("kwargs, shapes, call", GROUPED)
def test_grouped_attention_equals_keras(kwargs, shapes, call):
    x = draw(shapes)
    ours, theirs = pair("GroupQueryAttention", kwargs, *x)
    assert [w.path for w in theirs.weights] == [w.path for w in ours.weights]
    compare(ours, theirs, x, call)
    check_config(ours, theirs)
    with pytest.raises(ValueError, match=r"num_query_heads \(3\) must be a multiple of"):
        keras.layers.GroupQueryAttention(2, 3, 2)


SCORED = [("MultiHeadAttention", *case) for case in MHA]
SCORED += [("GroupQueryAttention", *case) for case in GROUPED]


@pytest.mark.parametrize("name, kwargs, shapes, call", SCORED)
def test_attention_scores_equal_keras(name, kwargs, shapes, call):
    x = draw(shapes)
    ours, theirs = pair(name, kwargs, *x)
    y, scores = ours(*x, return_attention_scores=True, **call)
    y_peer, scores_peer = theirs(*x, return_attention_scores=True, **call)
    np.testing.assert_allclose(y.numpy(), to_numpy(y_peer), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(scores.numpy(), to_numpy(scores_peer), rtol=1e-5, atol=1e-6)
    # The fused op gives what the scores do.
    np.testing.assert_allclose(ours(*x, **call).numpy(), y.numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name, kwargs, shapes, call", PLAIN)
def test_plain_attention_equals_keras(name, kwargs, shapes, call):
    x = draw(shapes)
    ours, theirs = pair(name, kwargs, x)
    compare(ours, theirs, x, call, as_list=True)
    check_config(ours, theirs)
    results = ours(x, return_attention_scores=True, **call)
    peers = theirs(x, return_attention_scores=True, **call)
    for a, b in zip(results, peers, strict=True):
        np.testing.assert_allclose(a.numpy(), to_numpy(b), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("equation, output_shape, bias_axes, shape", DENSE)
def test_einsum_dense_equals_keras(equation, output_shape, bias_axes, shape):
    kwargs = dict(
        equation=equation, output_shape=output_shape, bias_axes=bias_axes, activation="tanh"
    )
    (x,) = draw([shape])
    ours, theirs = pair("EinsumDense", kwargs, x)
    compare(ours, theirs, [x], {})
    check_config(ours, theirs)
    symbolic = keras.layers.EinsumDense(**kwargs)(keras.Input(shape[1:]))
    assert symbolic.shape == (None, *ours(x).shape[1:])


def test_a_step_that_may_look_nowhere_gives_zero():
    q, k, v = draw([(1, 3, 2, 4), (1, 5, 2, 4), (1, 5, 2, 3)])
    mask = np.ones((3, 5), bool)
    mask[1] = False
    q = Tensor(q, requires_grad=True)
    y = ops.dot_product_attention(q, k, v, mask=mask)
    assert (y.numpy()[:, 1] == 0).all() and (y.numpy()[:, 0] != 0).all()
    g = grad(y.sum(), q).numpy()
    assert np.isfinite(g).all() and (g[:, 1] == 0).all()


def test_large_scores_do_not_overflow():
    q, k, v = draw([(1, 3, 2, 4), (1, 5, 2, 4), (1, 5, 2, 3)])
    y = ops.dot_product_attention(q * 1000, k * 1000, v).numpy()
    assert np.isfinite(y).all()


def test_nan_is_not_hidden():
    q, k, v = draw([(1, 3, 2, 4), (1, 5, 2, 4), (1, 5, 2, 3)])
    q[0, 1] = np.nan
    y = ops.dot_product_attention(q, k, v).numpy()
    assert np.isnan(y[0, 1]).all() and np.isfinite(y[0, 0]).all()


@pytest.mark.parametrize("steps, sources, size", [(1, 1, 1), (130, 67, 33), (37, 200, 16)])
def test_sizes_that_fill_no_vector(steps, sources, size):
    x = draw([(3, steps, 2, size), (3, sources, 2, size), (3, sources, 2, size + 3)])
    inputs = [Tensor(a, requires_grad=True) for a in x]
    tensors = [torch.tensor(a, requires_grad=True) for a in x]
    y = ops.dot_product_attention(*inputs)
    q, k, v = (t.transpose(1, 2) for t in tensors)
    y_peer = torch.nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2)
    np.testing.assert_allclose(y.numpy(), y_peer.detach().numpy(), rtol=1e-4, atol=1e-5)
    seed = seeded(y.shape)
    (y_peer * torch.tensor(seed)).sum().backward()
    for g, t in zip(grad((y * seed).sum(), inputs), tensors):
        np.testing.assert_allclose(g.numpy(), t.grad.numpy(), rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("name", ["MultiHeadAttention", "Attention", "AdditiveAttention"])
def test_dropout_in_training_only(name):
    kwargs = dict(num_heads=2, key_dim=3) if name == "MultiHeadAttention" else {}
    layer = getattr(keras.layers, name)(dropout=0.5, seed=1, **kwargs)
    x = draw([QUERY, QUERY])
    inputs = x if name == "MultiHeadAttention" else [x]
    plain = layer(*inputs).numpy()
    np.testing.assert_array_equal(layer(*inputs).numpy(), plain)
    assert not np.allclose(layer(*inputs, training=True).numpy(), plain)


def block(k):
    """A transformer block, and what is around it."""
    x = k.Input((5, 6))
    y, _ = k.layers.MultiHeadAttention(2, 3, dropout=0.1)(x, x, return_attention_scores=True)
    y = k.layers.LayerNormalization()(k.layers.Add()([x, y]))
    y = k.layers.MultiHeadAttention(2, 3)(query=y, value=x, key=x, use_causal_mask=True)
    y = k.layers.MultiHeadAttention(2, 3, use_gate=True, sliding_window=2)(y, y)
    y = k.layers.GroupQueryAttention(2, 4, 2, use_gate=True)(y, y, use_causal_mask=True)
    y = k.layers.EinsumDense("abc,cd->abd", output_shape=(None, 4), bias_axes="d")(y)
    y = k.layers.Attention(use_scale=True)([y, y])
    return k.Model(x, k.layers.AdditiveAttention()([y, y]))


def test_files_load_both_ways(tmp_path):
    x = draw([QUERY])[0]
    ours = block(keras)
    ours.save(tmp_path / "ours.keras")
    there = keras_peer.models.load_model(tmp_path / "ours.keras")
    expected = ours.predict(x, verbose=0)
    np.testing.assert_allclose(there.predict(x, verbose=0), expected, rtol=1e-4, atol=1e-5)
    theirs = block(keras_peer)
    theirs.save(tmp_path / "theirs.keras")
    here = keras.models.load_model(tmp_path / "theirs.keras")
    expected = theirs.predict(x, verbose=0)
    np.testing.assert_allclose(here.predict(x, verbose=0), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: keras.layers.MultiHeadAttention(0, 3), "num_heads"),
        (lambda: keras.layers.MultiHeadAttention(2, 3, sliding_window=0), "sliding_window"),
        (lambda: keras.layers.Attention(score_mode="max"), "score_mode"),
        (lambda: keras.layers.Attention()(draw([QUERY])[0]), "takes"),
        (lambda: keras.layers.EinsumDense("ab->ac", 3), "equation"),
        (lambda: keras.layers.EinsumDense("ab,bc->ac", 3, bias_axes="z")(np.ones((2, 4))), "bias"),
        (lambda: keras.layers.EinsumDense("ab,bcd->acd", (None, 3))(np.ones((2, 4))), "size of c"),
        (
            lambda: keras.layers.MultiHeadAttention(2, 3)(
                *draw([QUERY, QUERY]), attention_mask=np.ones((3, 3))
            ),
            "does not broadcast",
        ),
        (lambda: ops.dot_product_attention(*draw([QUERY, QUERY, QUERY])), "expected"),
        (
            lambda: ops.dot_product_attention(
                *[*draw([(2, 3, 2, 4)] * 3), None, np.ones((4, 4), bool)]
            ),
            "does not broadcast",
        ),
    ],
)
def test_errors_say_what_is_wrong(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("lead", [(), (3,), (2, 3)])
def test_a_head_of_its_own_gives_what_numpy_gives(lead, dtype):
    rng = np.random.default_rng(0)
    q, k, v, g = (
        rng.normal(size=(*lead, *shape)).astype(dtype)
        for shape in ((70, 5), (90, 5), (90, 3), (70, 3))
    )
    results = []
    for kernels in (cpu_attention, reference_attention):
        y, saved = kernels.one_head_attention(q, k, v, scale=0.6)
        how = {"needs": (True, True, True), "saved": saved, "scale": 0.6}
        results.append([y, *kernels.one_head_attention_grad(g, y, q, k, v, **how)])
    assert saved.shape == (*lead, 70, 90)  # the weights; else the logarithms of their sums
    for got, expected in zip(*results):
        assert got.shape == expected.shape and got.dtype == dtype
        tolerance = 1e-5 if dtype == "float32" else 1e-12
        np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    "layer, arguments", [("MultiHeadAttention", (2, 4)), ("GroupQueryAttention", (4, 4, 2))]
)
def test_activities_of_all_dense_layers_are_regularized(layer, arguments):
    x = RNG.random((2, 5, 8), dtype="float32")

    def total(k):
        made = getattr(k.layers, layer)(*arguments, activity_regularizer="l2")
        made(x, x)
        rng = np.random.default_rng(0)
        for weight in made.weights:
            if weight.name in ("kernel", "bias"):
                weight.assign(rng.random(tuple(weight.shape)).astype("float32"))
        made(x, x)
        return sum(float(to_numpy(loss)) for loss in made.losses)

    assert total(keras) == pytest.approx(total(keras_peer), rel=1e-5)
