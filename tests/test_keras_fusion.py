"""Layers whose calls are fused give what they give one by one."""

from __future__ import annotations

import numpy as np
import pytest

from minitorch_ciml import grad, keras
from minitorch_ciml.keras import layers
from minitorch_ciml.keras.models.fusion import Call


def residual_block(conv=None, activation=None, swapped=False):
    x = keras.Input((6, 5, 8))
    y = (conv or layers.Conv2D(8, 3, padding="same"))(x)
    y = layers.Add()([y, x] if swapped else [x, y])
    return x, y, (activation or layers.ReLU())(y)


def fused_calls(model):
    return [call for call in model._graph.calls if isinstance(call, Call)]


def data():
    return np.random.default_rng(0).normal(size=(3, 6, 5, 8)).astype("float32")


def one_by_one(model, x):
    """What the layers of the block compute when each is called for itself."""
    conv, add, activation = (
        next(layer for layer in model.layers if isinstance(layer, kind))
        for kind in (layers.Conv2D, layers.Add, (layers.ReLU, layers.Activation))
    )
    return activation(add([x, conv(x)]))


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("size", [1, 3])
def test_the_end_of_a_residual_block_is_one_op(size, swapped):
    conv = layers.Conv2D(8, size, padding="same", bias_initializer="ones")
    x, _, y = residual_block(conv, layers.Activation("relu"), swapped)
    model = keras.Model(x, y)
    assert len(fused_calls(model)) == 1
    images = keras.ops.convert_to_tensor(data())
    images.requires_grad = True
    result, expected = model(images), one_by_one(model, images)
    assert result.record.op.name == "conv_bias_add_act"
    np.testing.assert_allclose(result.numpy(), expected.numpy(), rtol=1e-5, atol=1e-5)
    wanted = [images, *model.trainable_weights]
    for got, right in zip(
        grad((result * result).sum(), wanted), grad((expected * expected).sum(), wanted)
    ):
        np.testing.assert_allclose(got.numpy(), right.numpy(), rtol=1e-4, atol=1e-4)


def pooled(conv=None, pool=None):
    x = keras.Input((6, 5, 8))
    conv = conv or layers.Conv2D(16, 3, activation="relu", bias_initializer="ones")
    return x, (pool or layers.MaxPooling2D())(conv(x))


@pytest.mark.parametrize("sequential", [False, True])
@pytest.mark.parametrize(
    ("conv", "pool"),
    [
        ({"filters": 16, "activation": "relu"}, {}),
        ({"filters": 17, "padding": "same"}, {}),
        ({"filters": 32, "padding": "same", "activation": "relu"}, {"pool_size": 3, "strides": 1}),
    ],
)
def test_a_convolution_and_its_pooling_are_one_op(conv, pool, sequential):
    x, y = pooled(layers.Conv2D(kernel_size=3, **conv), layers.MaxPooling2D(**pool))
    model = keras.Model(x, y)
    if sequential:
        model = keras.Sequential([x, *model.layers[1:]])
    images = keras.ops.convert_to_tensor(data())
    images.requires_grad = True
    result, expected = model(images), model.layers[-1](model.layers[-2](images))
    assert result.record.op.name == "conv_max_pool"
    np.testing.assert_allclose(result.numpy(), expected.numpy(), rtol=1e-5, atol=1e-5)
    wanted = [images, *model.trainable_weights]
    for got, right in zip(
        grad((result * result).sum(), wanted), grad((expected * expected).sum(), wanted)
    ):
        np.testing.assert_allclose(got.numpy(), right.numpy(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("conv", "pool"),
    [
        (layers.Conv2D(8, 1, activation="tanh"), None),
        (layers.Conv2D(8, 1, use_bias=False), None),
        (layers.Conv2D(8, 1, activity_regularizer="l2"), None),
        (layers.Conv2D(8, 1, data_format="channels_first"), None),
        (None, layers.MaxPooling2D(data_format="channels_first")),
        (None, layers.AveragePooling2D()),
        (None, layers.MaxPooling2D(dtype="float64")),
    ],
)
def test_other_convolutions_and_poolings_run_one_by_one(conv, pool):
    x, y = pooled(conv, pool)
    model = keras.Model(x, y)
    images = keras.ops.convert_to_tensor(data())
    result = model(images)
    assert result.record.op.name != "conv_max_pool"
    assert len(model.losses) == (model.layers[1].activity_regularizer is not None)
    np.testing.assert_array_equal(result.numpy(), model.layers[2](model.layers[1](images)).numpy())


def test_what_is_pooled_is_kept_where_it_is_asked_for():
    x = keras.Input((6, 5, 8))
    convolved = layers.Conv2D(16, 3)(x)
    assert not fused_calls(keras.Model(x, [convolved, layers.MaxPooling2D()(convolved)]))
    y = layers.MaxPooling2D()(layers.Conv2D(16, 3)(x))
    model = keras.Model(x, y)
    assert fused_calls(model)
    assert not fused_calls(keras.Model(x, model.layers[1].output))


def test_run_eagerly_calls_every_layer_for_itself():
    x, _, y = residual_block()
    model = keras.Model(x, y)
    called = []
    model.layers[1].call = lambda images, call=model.layers[1].call: (
        called.append(1) or call(images)
    )
    for eagerly in (False, True):
        model.compile("sgd", "mse", run_eagerly=eagerly)
        assert model.run_eagerly is eagerly
        model.predict(data(), verbose=0)
        assert bool(called) is eagerly


def test_a_result_that_is_needed_elsewhere_is_computed():
    x, added, y = residual_block()
    assert not fused_calls(keras.Model(x, [added, y]))
    assert not fused_calls(keras.Model(x, layers.Add()([added, y])))
    assert fused_calls(keras.Model(x, y))


@pytest.mark.parametrize(
    ("conv", "activation"),
    [
        (layers.Conv2D(8, 1, use_bias=False), None),
        (None, layers.Activation("tanh")),
        (None, layers.ReLU(max_value=1.0)),
        (layers.Conv2D(8, 1, activation="relu"), None),
        (layers.Conv2D(8, 1, activity_regularizer="l2"), None),
    ],
    ids=["no bias", "tanh", "bounded", "activated", "regularized"],
)
def test_other_layers_run_one_by_one(conv, activation):
    x, _, y = residual_block(conv, activation)
    model = keras.Model(x, y)
    result = model(data())
    regularized = conv is not None and conv.activity_regularizer is not None
    assert len(model.losses) == regularized
    expected = one_by_one(model, keras.ops.convert_to_tensor(data()))
    np.testing.assert_allclose(result.numpy(), expected.numpy(), rtol=1e-5, atol=1e-5)


def test_a_layer_of_the_users_own_is_called():
    class Mine(layers.Conv2D):
        def call(self, inputs):
            return super().call(inputs) * 0

    x, _, y = residual_block(Mine(8, 1))
    np.testing.assert_array_equal(keras.Model(x, y)(data()).numpy(), np.maximum(data(), 0))


F = keras.ops
WAYS_TO_SCORE = {
    "plain": lambda q, k: F.matmul(q, F.transpose(k, (0, 2, 1))),
    "operators": lambda q, k: 0.3 * (q @ F.swapaxes(k, -1, 1)),
    "multiplied": lambda q, k: F.matmul(q, F.transpose(k, axes=[0, 2, 1])) * 0.3,
    "divided": lambda q, k: F.divide(F.matmul(q, F.swapaxes(k, 2, 1)), 4),
}


def attention_model(score, softmax=F.softmax, shape=(6, 5)):
    x = keras.Input(shape)
    q, k, v = (layers.Dense(n, bias_initializer="ones")(x) for n in (4, 4, 3))
    return keras.Model(x, F.matmul(softmax(score(q, k)), v))


def steps(*shape, dtype="float32"):
    x = F.convert_to_tensor(np.random.default_rng(0).normal(size=shape).astype(dtype))
    x.requires_grad = True
    return x


@pytest.mark.parametrize("way", WAYS_TO_SCORE)
def test_attention_written_with_functions_is_one_op(way, tmp_path):
    model = attention_model(WAYS_TO_SCORE[way])
    assert len(fused_calls(model)) == 1
    x = steps(2, 6, 5)
    result, expected = model(x), model._graph(x, one_by_one=True)
    assert result.record.op.name == "one_head_attention"
    np.testing.assert_allclose(result.numpy(), expected.numpy(), rtol=1e-5, atol=1e-6)
    wanted = [x, *model.trainable_weights]
    for got, right in zip(
        grad((result * result).sum(), wanted), grad((expected * expected).sum(), wanted)
    ):
        np.testing.assert_allclose(got.numpy(), right.numpy(), rtol=1e-4, atol=1e-4)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert len(fused_calls(loaded)) == 1
    np.testing.assert_allclose(loaded(x).numpy(), expected.numpy(), rtol=1e-5, atol=1e-6)


def test_attention_of_many_heads_written_by_hand_is_one_op():
    q, k, v = keras.Input((3, 7, 4)), keras.Input((3, 9, 4)), keras.Input((3, 9, 2))
    scores = F.matmul(q, F.transpose(k, (0, 1, 3, 2))) / 2
    model = keras.Model([q, k, v], F.matmul(F.softmax(scores, axis=3), v))
    assert len(fused_calls(model)) == 1
    data = [steps(2, 3, 7, 4), steps(2, 3, 9, 4), steps(2, 3, 9, 2)]
    expected = model._graph(data, one_by_one=True)
    np.testing.assert_allclose(model(data).numpy(), expected.numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("score", "softmax"),
    [
        (WAYS_TO_SCORE["plain"], lambda s: F.softmax(s, axis=1)),
        (WAYS_TO_SCORE["plain"], lambda s: F.softmax(s) + s),
        (WAYS_TO_SCORE["plain"], F.relu),
        (lambda q, k: F.matmul(q, F.transpose(k, (0, 2, 1))) + 1, F.softmax),
        (lambda q, k: 4 / F.matmul(q, F.transpose(k, (0, 2, 1))), F.softmax),
        (lambda q, k: F.matmul(q, F.transpose(k, (0, 1, 2))), F.softmax),
    ],
)
def test_what_is_no_attention_is_computed_one_by_one(score, softmax):
    model = attention_model(score, softmax, shape=(4, 5))
    assert not fused_calls(model)
    assert model(steps(2, 4, 5)).shape == (2, 4, 3)


def test_attention_of_many_steps_or_of_16_bits_is_computed_one_by_one():
    model = attention_model(WAYS_TO_SCORE["divided"], shape=(None, 5))
    x = steps(1, 300, 5)
    result, expected = model(x), model._graph(x, one_by_one=True)
    assert result.record.op.name == "matmul"
    np.testing.assert_array_equal(result.numpy(), expected.numpy())
    (call,) = fused_calls(model)
    half = steps(1, 4, 4, dtype="float16")
    assert call.layer(half, half, half).record.op.name == "matmul"


RELUS = {
    "relu": lambda: layers.ReLU(),
    "relu6": lambda: layers.ReLU(6.0),
    "activation": lambda: layers.Activation("relu6"),
    "none": None,
    "leaky": lambda: layers.LeakyReLU(),
}


def normalized(depthwise, relu, added, padded):
    """Twice a convolution, its normalisation and what may follow; the scale is far from 1."""
    x = y = keras.Input((6, 5, 8))
    for _ in range(2):
        before = y
        if padded:
            y = layers.ZeroPadding2D(((0, 2), (1, 1)))(y)
        how = {"kernel_size": 3, "padding": "valid" if padded else "same"}
        conv = layers.DepthwiseConv2D(**how) if depthwise else layers.Conv2D(8, **how)
        y = layers.BatchNormalization(momentum=0.5, gamma_initializer="random_normal")(conv(y))
        if added:
            y = layers.Add()([before, y])
        y = RELUS[relu]()(y) if RELUS[relu] else y
    return keras.Model(x, y)


def histories(model, eager):
    """What three kinds of use give: training, use, and training with frozen statistics."""
    x, targets = data(), np.ones((3, 6, 5, 8), "float32")
    model.compile("sgd", "mse", run_eagerly=eager)
    losses = [model.train_on_batch(x, targets) for _ in range(3)]
    outputs = [model.predict(x, verbose=0)]
    model.layers[2].trainable = False
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.trainable = False
    model.compile("sgd", "mse", run_eagerly=eager)
    losses += [model.train_on_batch(x, targets) for _ in range(2)]
    outputs += [model.predict(x, verbose=0), *(w.numpy() for w in model.weights)]
    return losses, outputs


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("added", [False, True])
@pytest.mark.parametrize("relu", RELUS)
@pytest.mark.parametrize("depthwise", [False, True])
def test_a_convolution_and_its_normalisation_are_one_call(depthwise, relu, added, padded):
    keras.utils.set_random_seed(1)
    model = normalized(depthwise, relu, added, padded)
    ends = relu not in ("none", "leaky")
    assert len(fused_calls(model)) == 2
    expected = len(model.layers) - 1
    removed = 1 + padded + ends + (added and ends)  # of each of the two
    assert len(model._graph.calls) == expected - 2 * removed
    weights = model.get_weights()
    losses, outputs = histories(model, False)
    again = keras.models.clone_model(model)
    again.set_weights(weights)
    for layer in again.layers:
        layer.trainable = True
    slow_losses, slow_outputs = histories(again, True)
    np.testing.assert_allclose(losses, slow_losses, rtol=1e-5)
    for fast, slow in zip(outputs, slow_outputs, strict=True):
        np.testing.assert_allclose(fast, slow, rtol=1e-4, atol=1e-5)


def test_normalisation_before_the_convolution_takes_its_relu():
    x = keras.Input((6, 5, 8))
    y = layers.ReLU()(layers.BatchNormalization()(x))
    model = keras.Model(x, layers.Conv2D(4, 3)(y))
    assert [len(fused_calls(model)), len(model._graph.calls)] == [1, 2]
    model.layers[1].set_weights([np.full(8, 2.0), np.ones(8), np.zeros(8), np.ones(8)])
    images = keras.ops.convert_to_tensor(data())
    for training in (False, True):
        expected = model.layers[3](model.layers[2](model.layers[1](images, training=training)))
        np.testing.assert_allclose(
            model(images, training=training).numpy(), expected.numpy(), rtol=1e-4, atol=1e-5
        )


def test_a_normalisation_that_is_told_how_stays_alone():
    x = keras.Input((6, 5, 8))
    y = layers.BatchNormalization()(layers.Conv2D(8, 3)(x), training=True)
    assert not fused_calls(keras.Model(x, layers.ReLU()(y)))
    y = layers.BatchNormalization(axis=1)(layers.Conv2D(8, 3)(x))
    assert not fused_calls(keras.Model(x, layers.ReLU()(y)))


def test_the_kernel_that_normalises_is_made_anew_when_a_weight_changes():
    x = keras.Input((6, 5, 8))
    conv, normalization = layers.Conv2D(4, 3), layers.BatchNormalization()
    model = keras.Model(x, normalization(conv(x)))
    images = data()
    first, made = model.predict(images, verbose=0), model._graph.calls[0].layer._folded
    model.predict(images, verbose=0)
    assert model._graph.calls[0].layer._folded is made
    for weight, change in (
        (conv.kernel, 2.0), (conv.bias, 1.0), (normalization.gamma, 3.0),
        (normalization.beta, 1.0), (normalization.moving_mean, 0.5),
        (normalization.moving_variance, 2.0),
    ):  # fmt: skip
        weight.assign(weight.numpy() + change)
        second = model.predict(images, verbose=0)
        np.testing.assert_allclose(
            second, normalization(conv(images)).numpy(), rtol=1e-4, atol=1e-4
        )
        assert np.abs(second - first).max() > 1e-3
        first = second
