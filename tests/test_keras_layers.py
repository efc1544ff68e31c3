"""Every layer against Keras 3: outputs, gradients, configuration, shapes."""

import numpy as np
import pytest
from keras_peer import (
    drop_ids,
    keras_peer,
    output_and_gradients,
    seeded,
    torch,
)

from minitorch_ciml import Tensor, grad, keras
from minitorch_ciml.keras.serialization import deserialize_keras_object, serialize_keras_object

IMAGE, SERIES, VOLUME = (2, 9, 8, 3), (2, 11, 3), (2, 6, 5, 7, 2)

# (layer, arguments, shapes of the inputs)
CASES = [
    ("Dense", dict(units=4), [(3, 5)]),
    ("Dense", dict(units=4, activation="relu", use_bias=False), [(3, 2, 5)]),
    ("Dense", dict(units=4, activation="softmax", kernel_regularizer="l2"), [(3, 5)]),
    ("Dense", dict(units=2, activation="gelu"), [(3, 5)]),
    ("Activation", dict(activation="tanh"), [(3, 5)]),
    ("Identity", {}, [IMAGE]),
    ("Rescaling", dict(scale=0.5, offset=-1.0), [IMAGE]),
    ("Flatten", {}, [IMAGE]),
    ("Flatten", dict(data_format="channels_first"), [IMAGE]),
    ("Reshape", dict(target_shape=(-1, 3)), [IMAGE]),
    ("Permute", dict(dims=(2, 3, 1)), [IMAGE]),
    ("RepeatVector", dict(n=3), [(2, 4)]),
    ("Conv1D", dict(filters=4, kernel_size=3, padding="causal", dilation_rate=2), [SERIES]),
    ("Conv1D", dict(filters=4, kernel_size=3, strides=2, padding="same"), [SERIES]),
    ("Conv2D", dict(filters=5, kernel_size=(3, 2), activation="relu"), [IMAGE]),
    ("Conv2D", dict(filters=6, kernel_size=3, groups=3, padding="same", strides=2), [IMAGE]),
    ("Conv2D", dict(filters=4, kernel_size=1, activation="sigmoid"), [IMAGE]),
    ("Conv3D", dict(filters=3, kernel_size=2, padding="same"), [VOLUME]),
    ("MaxPooling1D", dict(pool_size=3, padding="same"), [SERIES]),
    ("MaxPooling2D", {}, [IMAGE]),
    ("MaxPooling2D", dict(pool_size=(3, 2), strides=2, padding="same"), [IMAGE]),
    ("MaxPooling3D", {}, [VOLUME]),
    ("AveragePooling1D", dict(pool_size=2), [SERIES]),
    ("AveragePooling2D", dict(pool_size=2, padding="same"), [IMAGE]),
    ("AveragePooling3D", dict(pool_size=2), [VOLUME]),
    ("GlobalMaxPooling1D", {}, [SERIES]),
    ("GlobalMaxPooling2D", dict(keepdims=True), [IMAGE]),
    ("GlobalAveragePooling1D", {}, [SERIES]),
    ("GlobalAveragePooling2D", {}, [IMAGE]),
    ("ZeroPadding1D", dict(padding=(1, 2)), [SERIES]),
    ("ZeroPadding2D", dict(padding=((1, 2), (0, 3))), [IMAGE]),
    ("Cropping2D", dict(cropping=((1, 2), (0, 3))), [IMAGE]),
    ("Cropping2D", {}, [IMAGE]),
    ("UpSampling1D", dict(size=3), [SERIES]),
    ("UpSampling2D", dict(size=(2, 3)), [IMAGE]),
    ("UpSampling2D", dict(size=2, interpolation="bilinear"), [IMAGE]),
    ("ReLU", {}, [(4, 5)]),
    ("ReLU", dict(max_value=0.5, negative_slope=0.1, threshold=0.1), [(4, 5)]),
    ("LeakyReLU", dict(negative_slope=0.2), [(4, 5)]),
    ("ELU", {}, [(4, 5)]),
    ("PReLU", dict(alpha_initializer="ones", shared_axes=[1, 2]), [IMAGE]),
    ("Softmax", {}, [(4, 5)]),
    ("BatchNormalization", {}, [IMAGE]),
    ("BatchNormalization", dict(axis=1, center=False), [(6, 4)]),
    ("LayerNormalization", {}, [(3, 4, 5)]),
    ("LayerNormalization", dict(axis=[1, 2], scale=False), [(3, 4, 5)]),
    ("GroupNormalization", dict(groups=2), [(3, 5, 4, 6)]),
    ("GroupNormalization", dict(groups=-1, axis=1, center=False), [(3, 4, 7)]),
    ("GroupNormalization", dict(groups=1, scale=False), [(5, 4)]),
    ("RMSNormalization", {}, [(3, 4, 5)]),
    ("RMSNormalization", dict(axis=-1, epsilon=0.1), [(3, 4, 5)]),
    ("UnitNormalization", {}, [(3, 4, 5)]),
    ("UnitNormalization", dict(axis=[1, 2]), [(3, 4, 5)]),
    ("Add", {}, [(3, 4), (3, 4), (3, 4)]),
    ("Subtract", {}, [(3, 4), (3, 4)]),
    ("Multiply", {}, [(3, 4), (3, 1)]),
    ("Average", {}, [(3, 4), (3, 4)]),
    ("Maximum", {}, [(3, 4), (3, 4)]),
    ("Minimum", {}, [(3, 4), (3, 4)]),
    ("Concatenate", dict(axis=1), [(3, 4), (3, 2)]),
    ("Dot", dict(axes=1), [(3, 4), (3, 4)]),
    ("Dot", dict(axes=(2, 1), normalize=True), [(3, 5, 4), (3, 4, 2)]),
    ("Conv2DTranspose", dict(filters=4, kernel_size=3, strides=2, padding="same"), [IMAGE]),
    ("DepthwiseConv2D", dict(kernel_size=3, depth_multiplier=2, padding="same"), [IMAGE]),
    ("SeparableConv2D", dict(filters=4, kernel_size=3), [IMAGE]),
    ("ActivityRegularization", dict(l2=0.1), [(3, 4)]),
    ("ConvLSTM1D", dict(filters=3, kernel_size=2, dilation_rate=2, use_bias=False), [(2, 3, 7, 2)]),
    ("ConvLSTM2D", dict(filters=3, kernel_size=2, go_backwards=True), [(2, 3, 5, 4, 2)]),
    (
        "ConvLSTM2D",
        dict(filters=3, kernel_size=(3, 2), strides=2, padding="same", return_sequences=True),
        [(2, 3, 5, 4, 2)],
    ),
    ("ConvLSTM3D", dict(filters=2, kernel_size=2, unit_forget_bias=False), [(2, 3, 4, 4, 3, 2)]),
    ("UpSampling3D", dict(size=(1, 2, 3)), [(2, 3, 2, 2, 2)]),
    ("AdaptiveAveragePooling2D", dict(output_size=3), [(2, 7, 5, 2)]),
    ("AdaptiveAveragePooling3D", dict(output_size=2), [(2, 4, 5, 3, 2)]),
    ("AdaptiveMaxPooling2D", dict(output_size=(2, 3)), [(2, 7, 5, 2)]),
]
IDS = [f"{name}-{'-'.join(map(str, kw.values()))}" for name, kw, _ in CASES]


def draw(shapes, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape).astype("float32") for shape in shapes]


def pair(name, kwargs, x):
    """The layer here and Keras', with the same weights."""
    ours = getattr(keras.layers, name)(**kwargs, name="layer")
    theirs = getattr(keras_peer.layers, name)(**kwargs, name="layer")
    given = x if len(x) > 1 else x[0]
    theirs(given)
    ours(given)
    rng = np.random.default_rng(3)
    weights = [rng.uniform(0.1, 1, w.shape).astype(w.dtype) for w in theirs.get_weights()]
    theirs.set_weights(weights)
    ours.set_weights(weights)
    return ours, theirs


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name, kwargs, shapes", CASES, ids=IDS)
def test_output_and_gradients_equal_keras(name, kwargs, shapes, training):
    x = draw(shapes)
    ours, theirs = pair(name, kwargs, x)
    y_peer, dx_peer, dw_peer = output_and_gradients(theirs, x, theirs.weights, seeded, training)

    inputs = [Tensor(a, requires_grad=True) for a in x]
    y = ours(inputs if len(inputs) > 1 else inputs[0], training=training)
    np.testing.assert_allclose(y.numpy(), y_peer, rtol=1e-5, atol=1e-5)
    assert y.dtype == "float32"
    wanted = [*inputs, *ours.trainable_weights]
    gradients = grad((y * seeded(y.shape)).sum(), wanted)
    for g, peer in zip(gradients, [*dx_peer, *dw_peer]):
        np.testing.assert_allclose(g.numpy(), peer, rtol=2e-5, atol=2e-5)
    for w, peer in zip(ours.weights, theirs.get_weights()):  # moving averages
        np.testing.assert_allclose(w.numpy(), peer, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name, kwargs, shapes", CASES, ids=IDS)
def test_configuration_equals_keras(name, kwargs, shapes):
    ours, theirs = pair(name, kwargs, draw(shapes))
    config = drop_ids(serialize_keras_object(ours))
    peer = drop_ids(keras_peer.saving.serialize_keras_object(theirs))
    for key in ("module", "class_name", "registered_name"):
        assert config[key] == peer[key]
    if ours.weights:
        assert config["build_config"] == peer["build_config"]
    arguments, expected = config["config"], peer["config"]
    assert {k: arguments[k] for k in expected if k in arguments} == {
        k: v for k, v in expected.items() if k in arguments
    }
    # What is not there is switched off in Keras.
    assert not {k: v for k, v in expected.items() if k not in arguments and v}
    again = deserialize_keras_object(config)
    assert drop_ids(serialize_keras_object(again)) == config
    keras_peer.saving.deserialize_keras_object(config)


@pytest.mark.parametrize("name, kwargs, shapes", CASES, ids=IDS)
def test_symbolic_shapes_equal_keras(name, kwargs, shapes):
    inputs = [keras.Input(shape[1:]) for shape in shapes]
    peers = [keras_peer.Input(shape[1:]) for shape in shapes]
    y = getattr(keras.layers, name)(**kwargs)(inputs if len(inputs) > 1 else inputs[0])
    y_peer = getattr(keras_peer.layers, name)(**kwargs)(peers if len(peers) > 1 else peers[0])
    assert y.shape == tuple(y_peer.shape)
    x = draw(shapes)
    result = keras.Model(inputs, y).predict(x, verbose=0)
    assert tuple(n if m is not None else None for n, m in zip(result.shape, y.shape)) == y.shape


def test_dropout_acts_in_training_only_and_is_seeded():
    x = np.ones((200, 50), "float32")
    layer = keras.layers.Dropout(0.4, seed=1)
    np.testing.assert_array_equal(layer(x), x)
    y = layer(x, training=True).numpy()
    assert abs((y == 0).mean() - 0.4) < 0.02 and np.allclose(y[y != 0], 1 / 0.6)
    same = keras.layers.Dropout(0.4, seed=1)(x, training=True).numpy()
    np.testing.assert_array_equal(y, same)
    assert (layer(x, training=True).numpy() != y).any()
    channels = keras.layers.SpatialDropout2D(0.5, seed=3)(
        np.ones((8, 5, 5, 6), "float32"), training=True
    )
    assert all(
        len(np.unique(c)) == 1 for c in channels.numpy().transpose(0, 3, 1, 2).reshape(48, 25)
    )


def test_dropout_goes_through_files_both_ways(tmp_path):
    def build(k):
        return k.Sequential([k.Input((6,)), k.layers.Dense(4), k.layers.Dropout(0.5)])

    ours, theirs = build(keras), build(keras_peer)
    ours(np.ones((3, 6)), training=True)
    ours.save(tmp_path / "ours.keras")
    theirs.save(tmp_path / "theirs.keras")
    peer = keras_peer.saving.load_model(tmp_path / "ours.keras")
    np.testing.assert_array_equal(peer.get_weights()[0], ours.get_weights()[0])
    again = keras.models.load_model(tmp_path / "ours.keras")
    keras.models.load_model(tmp_path / "theirs.keras")
    x = np.ones((3, 6), "float32")
    np.testing.assert_array_equal(again(x, training=True), ours(x, training=True))


def test_embedding_equals_keras():
    x = np.array([[1, 3, 3], [0, 1, 6]])
    ours, theirs = pair("Embedding", dict(input_dim=7, output_dim=4), [x])
    y = ours(x)
    np.testing.assert_array_equal(y.numpy(), np.asarray(theirs(x).detach()))
    (g,) = grad((y * seeded(y.shape)).sum(), ours.weights)
    expected = np.zeros((7, 4), "float32")
    np.add.at(expected, x, seeded(y.shape))
    np.testing.assert_allclose(g.numpy(), expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="between 0 and input_dim - 1 = 6, got 1 to 7"):
        ours(x + 1)
    assert keras.layers.Embedding(5, 2, input_length=3)._first_input_shape == (None, 3)


def test_convolutional_states_and_masks_equal_keras():
    x = draw([(3, 4, 6, 5, 2)])[0]
    how = dict(filters=2, kernel_size=3, return_state=True, return_sequences=True)
    ours, theirs = pair("ConvLSTM2D", how, [x])
    mask = np.array([[True, True, False, True]] * 3)
    for keywords in ({}, {"mask": mask}):
        for a, b in zip(ours(x, **keywords), theirs(x, **keywords)):
            np.testing.assert_allclose(a.numpy(), b.detach().numpy(), rtol=1e-5, atol=1e-6)
    outputs, *states = ours(x)
    np.testing.assert_allclose(ours(x, initial_state=states)[0].shape, outputs.shape)
    carried = keras.layers.ConvLSTM2D(2, 3, stateful=True)
    first = carried(x).numpy()
    assert (carried(x).numpy() != first).any()
    carried.reset_state()
    np.testing.assert_array_equal(carried(x), first)


@pytest.mark.parametrize(
    "inner, kwargs, x",
    [
        ("Dense", dict(units=4), draw([(3, 5)])[0]),
        ("Conv2D", dict(filters=3, kernel_size=2), draw([IMAGE])[0]),
        ("Embedding", dict(input_dim=7, output_dim=4), np.array([[1.0, 2.0]], "float32")),
    ],
)
def test_spectral_normalization_equals_keras(inner, kwargs, x, tmp_path):
    ours, theirs = (
        k.layers.SpectralNormalization(
            getattr(k.layers, inner)(**kwargs, name="inner"), power_iterations=2, name="outer"
        )
        for k in (keras, keras_peer)
    )
    ours(x)
    theirs(x)
    ours.set_weights(theirs.get_weights())
    for _ in range(3):
        y = ours(x, training=True).numpy()
        np.testing.assert_allclose(
            y, theirs(x, training=True).detach().numpy(), rtol=1e-4, atol=1e-5
        )
    for a, b in zip(ours.weights, theirs.weights):
        assert a.path == b.path
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-4, atol=1e-5)
    kernel = ours.kernel.numpy()
    largest = np.linalg.svd(kernel.reshape(-1, kernel.shape[-1]), compute_uv=False)[0]
    assert 0.8 < largest < 1.2
    keras.Sequential([keras.Input(x.shape[1:]), ours]).save(tmp_path / "ours.keras")
    again = keras_peer.saving.load_model(tmp_path / "ours.keras")
    np.testing.assert_allclose(again(x).detach().numpy(), ours(x).numpy(), rtol=1e-5, atol=1e-6)


def test_alpha_dropout_keeps_mean_and_variance():
    x = np.random.default_rng(0).normal(size=(1000, 100)).astype("float32")
    layer = keras.layers.AlphaDropout(0.3, seed=1)
    y = layer(x, training=True).numpy()
    assert abs(y.mean()) < 0.01 and abs(y.std() - 1) < 0.01
    np.testing.assert_array_equal(layer(x), x)
    values, counts = np.unique(y, return_counts=True)
    assert abs(counts.max() / y.size - 0.3) < 0.01 and values[counts.argmax()] < -0.5


@pytest.mark.parametrize("tied", [True, False])
def test_a_reversible_embedding_equals_keras(tied, tmp_path):
    words = np.array([[1, 3, 0], [2, 6, 0]])
    kwargs = dict(input_dim=7, output_dim=4, tie_weights=tied, mask_zero=True, logit_soft_cap=2.0)
    ours, theirs = pair("ReversibleEmbedding", kwargs, [words])
    config = drop_ids(serialize_keras_object(ours))
    assert config == drop_ids(keras_peer.saving.serialize_keras_object(theirs))
    vectors, peers = ours(words), theirs(words)
    np.testing.assert_array_equal(vectors._keras_mask.numpy(), words != 0)
    assert getattr(ours(vectors, reverse=True), "_keras_mask", None) is None
    scores, expected = ours(vectors, reverse=True), theirs(peers, reverse=True)
    np.testing.assert_allclose(scores.numpy(), expected.detach().numpy(), rtol=1e-5, atol=1e-6)
    seed = seeded(scores.shape)
    (expected * torch.tensor(seed)).sum().backward()
    for g, weight in zip(grad((scores * seed).sum(), ours.weights), theirs.weights, strict=True):
        np.testing.assert_allclose(g.numpy(), weight.value.grad.numpy(), rtol=1e-4, atol=1e-6)
    models = []
    for k in (keras, keras_peer):
        inputs = k.Input((3,), dtype="int32")
        table = k.layers.ReversibleEmbedding(7, 4, tie_weights=tied)
        models.append(k.Model(inputs, table(table(inputs), reverse=True)))
    models[0].set_weights(models[1].get_weights())
    predictions = models[1].predict(words, verbose=0)
    for k, model in zip((keras_peer, keras), models):  # each reads the other's file
        path = tmp_path / f"{k.__name__}.keras"
        model.save(path)
        read = k.models.load_model(path).predict(words, verbose=0)
        np.testing.assert_allclose(read, predictions, rtol=1e-5, atol=1e-6)
