"""Recurrent layers against Keras 3: outputs, gradients, states, masks, configurations, files."""

import numpy as np
import pytest

from minitorch_ciml import Tensor, grad, keras
from minitorch_ciml.keras.serialization import deserialize_keras_object, serialize_keras_object
from tests.keras_peer import drop_ids, keras_peer, output_and_gradients, seeded, to_numpy, torch

SHAPE = (3, 5, 4)
MASK = np.array([[1, 1, 0, 1, 0], [0, 0, 1, 1, 1], [1, 1, 1, 1, 1]], bool)

CASES: list[tuple[str, dict]] = [
    ("LSTM", dict(units=6)),
    ("LSTM", dict(units=6, return_sequences=True, go_backwards=True)),
    ("LSTM", dict(units=6, use_bias=False, unit_forget_bias=False)),
    ("LSTM", dict(units=6, activation="relu", recurrent_activation="hard_sigmoid")),
    ("LSTM", dict(units=6, kernel_regularizer="l2", bias_initializer="ones", seed=3)),
    ("GRU", dict(units=6)),
    ("GRU", dict(units=6, return_sequences=True, zero_output_for_mask=True)),
    ("GRU", dict(units=6, reset_after=False, return_sequences=True)),
    ("GRU", dict(units=6, use_bias=False, go_backwards=True)),
    ("GRU", dict(units=6, activation="relu")),
    ("SimpleRNN", dict(units=6)),
    ("SimpleRNN", dict(units=6, return_sequences=True)),
    ("SimpleRNN", dict(units=6, activation="relu", use_bias=False)),
]
IDS = [f"{name}-{'-'.join(map(str, kw.values()))}" for name, kw in CASES]


def bidirectional(k, **kwargs):
    inner = kwargs.pop("inner", {})
    layer = k.layers.LSTM(6, name="inner", **inner)
    return k.layers.Bidirectional(layer, name="layer", **kwargs)


def stacked(k):
    cells = [k.layers.LSTMCell(6, name="a"), k.layers.GRUCell(3, name="b")]
    return k.layers.RNN(cells, return_sequences=True, name="layer")


def two_ways(k):
    ahead = k.layers.GRU(6, name="ahead")
    back = k.layers.LSTM(5, go_backwards=True, name="back")
    return k.layers.Bidirectional(ahead, backward_layer=back, name="layer")


MAKERS = {
    **{i: lambda k, n=n, kw=kw: getattr(k.layers, n)(**kw, name="layer")
       for i, (n, kw) in zip(IDS, CASES)},
    "bidirectional": bidirectional,
    "bidirectional-sum": lambda k: bidirectional(
        k, merge_mode="sum", inner=dict(return_sequences=True)
    ),
    "bidirectional-mul": lambda k: bidirectional(k, merge_mode="mul"),
    "bidirectional-ave": lambda k: bidirectional(k, merge_mode="ave"),
    "bidirectional-two": two_ways,
    "time_distributed": lambda k: k.layers.TimeDistributed(
        k.layers.Dense(3, name="inner"), name="layer"
    ),
    "cell": lambda k: k.layers.RNN(k.layers.SimpleRNNCell(6, name="cell"), name="layer"),
    "stacked": stacked,
}  # fmt: skip
MASKABLE = [name for name in MAKERS if name != "time_distributed"]


def pair(maker, *inputs):
    """The layer here and Keras', with the same weights."""
    ours, theirs = maker(keras), maker(keras_peer)
    ours(*inputs)
    theirs(*inputs)
    rng = np.random.default_rng(3)
    weights = [rng.uniform(-0.7, 0.7, w.shape).astype("float32") for w in theirs.get_weights()]
    ours.set_weights(weights)
    theirs.set_weights(weights)
    return ours, theirs


def draw(shape=SHAPE, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


@pytest.mark.parametrize("name", MAKERS)
def test_output_and_gradients_equal_keras(name):
    x = draw()
    ours, theirs = pair(MAKERS[name], x)
    y_peer, dx_peer, dw_peer = output_and_gradients(theirs, [x], theirs.weights, seeded)
    inputs = Tensor(x, requires_grad=True)
    y = ours(inputs)
    np.testing.assert_allclose(y.numpy(), y_peer, rtol=1e-5, atol=1e-6)
    found = grad((y * seeded(y.shape)).sum(), [inputs, *ours.trainable_weights])
    for g, peer in zip(found, [*dx_peer, *dw_peer], strict=True):
        np.testing.assert_allclose(g.numpy(), peer, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", MASKABLE)
def test_masked_steps_equal_keras(name):
    x = draw()
    ours, theirs = pair(MAKERS[name], x)
    tensor = torch.tensor(x, requires_grad=True)
    y_peer = theirs(tensor, mask=torch.tensor(MASK))
    (y_peer * torch.tensor(seeded(tuple(y_peer.shape)))).sum().backward()
    inputs = Tensor(x, requires_grad=True)
    y = ours(inputs, mask=MASK)
    np.testing.assert_allclose(y.numpy(), to_numpy(y_peer), rtol=1e-5, atol=1e-6)
    g = grad((y * seeded(y.shape)).sum(), inputs)
    np.testing.assert_allclose(g.numpy(), tensor.grad.numpy(), rtol=1e-5, atol=1e-5)


def used(config):
    """A configuration without what is None: Keras leaves some of it out."""
    if isinstance(config, dict):
        return {k: used(v) for k, v in config.items() if v is not None}
    return [used(x) for x in config] if isinstance(config, list) else config


@pytest.mark.parametrize("name", MAKERS)
def test_configuration_equals_keras(name):
    ours, theirs = pair(MAKERS[name], draw())
    config = drop_ids(serialize_keras_object(ours))
    peer = drop_ids(keras_peer.saving.serialize_keras_object(theirs))
    assert used(config) == used(peer)
    assert config["config"].keys() == peer["config"].keys()
    again = deserialize_keras_object(config)
    assert drop_ids(serialize_keras_object(again)) == config
    keras_peer.saving.deserialize_keras_object(config)


@pytest.mark.parametrize("name", MAKERS)
def test_symbolic_shapes_equal_keras(name):
    x, x_peer = keras.Input((None, 4)), keras_peer.Input((None, 4))
    y = MAKERS[name](keras)(x)
    assert y.shape == tuple(MAKERS[name](keras_peer)(x_peer).shape)
    result = keras.Model(x, y).predict(draw(), verbose=0)
    assert result.ndim == len(y.shape)


@pytest.mark.parametrize("sequences", [False, True])
@pytest.mark.parametrize("name", ["LSTM", "GRU", "SimpleRNN"])
def test_initial_and_last_states_equal_keras(name, sequences):
    x, h, c = draw(), draw((3, 6), 1), draw((3, 6), 2)
    state = [h, c] if name == "LSTM" else [h]
    how = dict(units=6, return_state=True, return_sequences=sequences, name="layer")
    ours, theirs = pair(lambda k: getattr(k.layers, name)(**how), x)
    results, peers = ours(x, initial_state=state), theirs(x, initial_state=state)
    assert isinstance(results, tuple)
    for a, b in zip(results, peers, strict=True):
        np.testing.assert_allclose(a.numpy(), to_numpy(b), rtol=1e-5, atol=1e-6)


def test_bidirectional_states_and_both_outputs():
    x = draw()
    inner = dict(return_state=True, return_sequences=True)
    ours, theirs = pair(lambda k: bidirectional(k, merge_mode=None, inner=inner), x)
    for a, b in zip(ours(x), theirs(x), strict=True):
        np.testing.assert_allclose(a.numpy(), to_numpy(b), rtol=1e-5, atol=1e-6)
    state = [draw((3, 6), i) for i in range(4)]
    for a, b in zip(ours(x, initial_state=state), theirs(x, initial_state=state), strict=True):
        np.testing.assert_allclose(a.numpy(), to_numpy(b), rtol=1e-5, atol=1e-6)


def test_encoder_states_begin_the_decoder():
    def model(k):
        source, target = k.Input((5, 4)), k.Input((6, 2))
        _, h, c = k.layers.LSTM(7, return_state=True, name="encoder")(source)
        y = k.layers.LSTM(7, return_sequences=True, name="decoder")(target, initial_state=[h, c])
        return k.Model([source, target], k.layers.Dense(3, name="dense")(y))

    ours, theirs = model(keras), model(keras_peer)
    theirs.set_weights(ours.get_weights())
    x = [draw(), draw((3, 6, 2), 1)]
    y, y_peer = ours.predict(x, verbose=0), theirs.predict(x, verbose=0)
    np.testing.assert_allclose(y, y_peer, rtol=1e-5, atol=1e-6)


def test_stateful_layer_goes_on_where_it_ended():
    x = draw((3, 8, 4))
    whole = keras.layers.LSTM(6, return_sequences=True)
    layer = keras.layers.LSTM(6, stateful=True, return_sequences=True)
    expected = whole(x).numpy()
    layer(x[:, :3])
    layer.set_weights(whole.get_weights())
    layer.reset_state()
    parts = [layer(x[:, :3]).numpy(), layer(x[:, 3:]).numpy()]
    np.testing.assert_allclose(np.concatenate(parts, 1), expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="reset_state"):
        layer(x[:2])


def test_fused_steps_and_the_cell_agree():
    x = Tensor(draw().astype("float64"))
    for name, cell in (("LSTM", "LSTMCell"), ("GRU", "GRUCell"), ("SimpleRNN", "SimpleRNNCell")):
        layer = getattr(keras.layers, name)(6, return_sequences=True, dtype="float64")
        slow = keras.layers.RNN(
            getattr(keras.layers, cell)(6, dtype="float64"), return_sequences=True, dtype="float64"
        )
        expected = layer(x)
        slow(x)
        slow.set_weights(layer.get_weights())
        np.testing.assert_allclose(slow(x).numpy(), expected.numpy(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["LSTM", "GRU", "SimpleRNN"])
def test_dropout_is_the_same_in_every_step_and_only_in_training(name):
    layer = getattr(keras.layers, name)(6, dropout=0.5, return_sequences=True, seed=1)
    x = np.ones((4, 5, 64), "float32")
    plain = layer(x).numpy()
    np.testing.assert_array_equal(layer(x).numpy(), plain)
    inputs = Tensor(x, requires_grad=True)
    y = layer(inputs, training=True)
    g = grad(y.sum(), inputs).numpy() == 0
    assert 0.3 < g.mean() < 0.7
    assert (g == g[:, :1]).all()
    assert not (layer(inputs, training=True).numpy() == y.numpy()).all()


def test_recurrent_dropout_changes_training_only():
    layer = keras.layers.LSTM(6, recurrent_dropout=0.5, seed=1)
    x = draw()
    np.testing.assert_array_equal(layer(x).numpy(), layer(x).numpy())
    assert not np.allclose(layer(x, training=True).numpy(), layer(x).numpy())
    assert not np.allclose(layer(x, training=True).numpy(), layer(x, training=True).numpy())


def test_forget_bias_and_orthogonal_kernel():
    layer = keras.layers.LSTM(6)
    layer(draw())
    np.testing.assert_array_equal(layer.cell.bias.numpy(), np.repeat([0, 1, 0, 0], 6))
    u = layer.cell.recurrent_kernel.numpy()
    np.testing.assert_allclose(u @ u.T, np.eye(6), atol=1e-5)


@pytest.mark.parametrize("name", ["LSTM", "GRU", "SimpleRNN"])
def test_sizes_that_fill_no_block_of_the_kernels(name):
    x = draw((53, 9, 7))
    ours, theirs = pair(lambda k: getattr(k.layers, name)(37, name="layer"), x)
    y_peer, dx_peer, dw_peer = output_and_gradients(theirs, [x], theirs.weights, seeded)
    inputs = Tensor(x, requires_grad=True)
    y = ours(inputs)
    np.testing.assert_allclose(y.numpy(), y_peer, rtol=1e-4, atol=1e-5)
    found = grad((y * seeded(y.shape)).sum(), [inputs, *ours.trainable_weights])
    for g, peer in zip(found, [*dx_peer, *dw_peer], strict=True):
        scale = np.abs(peer).max()
        np.testing.assert_allclose(g.numpy() / scale, peer / scale, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rows, inner, columns", [(5, 7, 3), (245, 401, 67), (3, 0, 2), (0, 3, 2)])
def test_matrix_product(rows, inner, columns, dtype):
    multiply = pytest.importorskip("minitorch_ciml.kernels.cpu.products").multiply
    a, b = draw((rows, inner)).astype(dtype), draw((inner, columns), 1).astype(dtype)
    expected = a.astype("float64") @ b
    for left in (a, a.T.copy().T):
        for right in (b, b.T.copy().T):
            y = multiply(left, right)
            assert y.dtype == dtype
            tolerance = 1e-4 if dtype == "float32" else 1e-11
            np.testing.assert_allclose(y, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("function, peer", [("exp", "exp"), ("tanh", "tanh"), ("sigmoid", None)])
def test_exponentials_are_precise_in_float32(function, peer):
    numba = pytest.importorskip("numba")
    fast = getattr(pytest.importorskip("minitorch_ciml.kernels.cpu.exponential"), function)

    @numba.njit(error_model="numpy")
    def apply(x, y):
        for i in range(x.size):
            y[i] = fast(x[i])

    exact = getattr(np, peer) if peer else lambda x: 1 / (1 + np.exp(-x))
    x = np.concatenate([np.linspace(-1e-3, 1e-3, 999), np.linspace(-86, 86, 99_999)])
    y = np.empty(x.size, "float32")
    apply(x.astype("float32"), y)
    np.testing.assert_allclose(y, exact(x.astype("float32").astype("float64")), rtol=4e-7)
    special = np.array([np.nan, np.inf, -np.inf], "float32")
    y = np.empty(3, "float32")
    apply(special, y)
    with np.errstate(over="ignore"):
        np.testing.assert_allclose(y, exact(special), atol=1e-30)


@pytest.mark.parametrize("steps", [1, 300])
def test_short_and_long_sequences(steps):
    x = draw((2, steps, 3))
    ours, theirs = pair(lambda k: k.layers.LSTM(5, name="layer"), x)
    np.testing.assert_allclose(ours(x).numpy(), to_numpy(theirs(x)), rtol=1e-4, atol=1e-5)


def model_of(k):
    x = k.Input((5, 4))
    y = k.layers.LSTM(6, return_sequences=True, dropout=0.1)(x)
    y = k.layers.Bidirectional(k.layers.GRU(5, return_sequences=True))(y)
    y = k.layers.TimeDistributed(k.layers.Dense(3))(y)
    y = k.layers.RNN([k.layers.LSTMCell(4), k.layers.GRUCell(3)])(y)
    return k.Model(x, y)


def test_files_load_both_ways(tmp_path):
    x = draw()
    ours = model_of(keras)
    ours.save(tmp_path / "ours.keras")
    there = keras_peer.models.load_model(tmp_path / "ours.keras")
    expected = ours.predict(x, verbose=0)
    np.testing.assert_allclose(there.predict(x, verbose=0), expected, rtol=1e-5, atol=1e-6)
    theirs = model_of(keras_peer)
    theirs.save(tmp_path / "theirs.keras")
    here = keras.models.load_model(tmp_path / "theirs.keras")
    expected = theirs.predict(x, verbose=0)
    np.testing.assert_allclose(here.predict(x, verbose=0), expected, rtol=1e-5, atol=1e-6)


def test_dropout_of_a_file_from_keras_acts_in_training(tmp_path):
    x = keras_peer.Input((5, 4))
    y = keras_peer.layers.LSTM(6, dropout=0.5, return_sequences=True)(x)
    keras_peer.Model(x, y).save(tmp_path / "theirs.keras")
    model, x = keras.models.load_model(tmp_path / "theirs.keras"), draw()
    assert not np.allclose(model(x, training=True).numpy(), model(x, training=True).numpy())
    np.testing.assert_array_equal(model(x).numpy(), model(x).numpy())


def test_learns_to_add():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(256, 6, 1)).astype("float32")
    y = x.sum(1)
    model = keras.Sequential([keras.layers.LSTM(16), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    history = model.fit(x, y, epochs=30, batch_size=32, verbose=0).history["loss"]
    assert history[-1] < 0.2 * history[0]


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: keras.layers.LSTM(0), "units"),
        (lambda: keras.layers.LSTM(3, dropout=2), "dropout"),
        (lambda: keras.layers.RNN(keras.layers.Dense(3)), "state_size"),
        (lambda: keras.layers.Bidirectional(keras.layers.Dense(3)), "recurrent layer"),
        (lambda: keras.layers.Bidirectional(keras.layers.LSTM(3), "max"), "merge_mode"),
        (
            lambda: keras.layers.Bidirectional(
                keras.layers.LSTM(3), backward_layer=keras.layers.LSTM(3)
            ),
            "go_backwards",
        ),
        (
            lambda: keras.layers.Bidirectional(
                keras.layers.LSTM(3),
                backward_layer=keras.layers.LSTM(3, go_backwards=True, return_sequences=True),
            ),
            "return_sequences",
        ),
        (lambda: keras.layers.TimeDistributed(3), "expected a layer"),
        (lambda: keras.layers.LSTM(3)(draw((2, 3))), "3 dimensions"),
        (lambda: keras.layers.LSTM(3)(draw((2, 0, 3))), "no steps"),
        (lambda: keras.layers.LSTM(3)(draw(), initial_state=[draw((3, 3))]), "2 states"),
    ],
)
def test_errors_say_what_is_wrong(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_unknown_argument_is_named():
    with pytest.raises(TypeError, match="unit_count"):
        keras.layers.LSTM(3, unit_count=3)
