"""`get_config` is plain data, equal to Keras', and makes the same thing again."""

import json

import numpy as np
import pytest
from keras_peer import drop_ids, keras_peer

from minitorch_ciml import keras


def things(k):
    """One of every kind of thing that has a configuration."""
    layers, cell = k.layers, k.layers.LSTMCell
    penalty, norm = k.regularizers.L1L2(0.1, 0.2), k.constraints.MaxNorm(2)
    schedule = k.optimizers.schedules.ExponentialDecay(0.1, 10, 0.9)
    return [
        layers.Dense(3, "relu", kernel_regularizer=penalty, kernel_constraint=norm),
        layers.Dense(3, kernel_initializer=k.initializers.HeNormal(seed=3), dtype="mixed_bfloat16"),
        layers.Dense(3, activity_regularizer="l2", trainable=False),
        layers.Conv2D(3, 3, padding="same", activity_regularizer="l2"),
        layers.DepthwiseConv2D(3), layers.SeparableConv2D(3, 3), layers.Conv2DTranspose(3, 2),
        layers.BatchNormalization(), layers.LayerNormalization(), layers.RMSNormalization(),
        layers.LayerNormalization(axis=[1, 2]), layers.UnitNormalization(axis=1),
        layers.LSTM(4, dropout=0.5), layers.GRU(4), layers.SimpleRNN(4), cell(4),
        layers.RNN(cell(4, name="c")), layers.RNN([cell(4, name="c"), cell(4, name="d")]),
        layers.Bidirectional(layers.LSTM(4, name="c"), merge_mode="sum"),
        layers.TimeDistributed(layers.Conv1D(4, 2, name="c")),
        layers.MultiHeadAttention(2, 3), layers.EinsumDense("abc,cd->abd", (None, 4)),
        layers.Embedding(9, 4), layers.PReLU(), layers.Activation("tanh"),
        layers.Reshape((3, 4)), layers.Concatenate(1), layers.InputLayer((3,), name="x"),
        k.losses.BinaryCrossentropy(from_logits=True), k.losses.Tversky(alpha=0.3),
        k.metrics.AUC(curve="PR"), k.metrics.SparseTopKCategoricalAccuracy(k=3),
        k.metrics.MeanMetricWrapper(k.losses.mean_squared_error, name="m"),
        k.initializers.TruncatedNormal(seed=1), k.constraints.UnitNorm(axis=1), schedule,
        k.optimizers.Adam(schedule, clipnorm=1.0), k.optimizers.SGD(0.1, momentum=0.9),
    ]  # fmt: skip


THINGS = things(keras), things(keras_peer)
IDS = [type(thing).__name__ for thing in THINGS[0]]


@pytest.mark.parametrize("ours, theirs", list(zip(*THINGS)), ids=IDS)
def test_config_is_that_of_keras(ours, theirs):
    config, expected = drop_ids(ours.get_config()), drop_ids(theirs.get_config())
    if "name" in config:  # the numbers in names depend on what was made before
        assert expected.pop("name").rstrip("_0123456789") == config.pop("name").rstrip(
            "_0123456789"
        )
    json.dumps(config)
    more = {key: expected.pop(key) for key in expected.keys() - config.keys()}
    assert not any(more.values()), f"what Keras has more is not switched off: {more}"
    assert config == expected
    again = type(ours).from_config(ours.get_config())
    assert again.get_config() == ours.get_config()


class Scale(keras.layers.Layer):
    """A layer in the style of Keras' guides, with and without plain arguments."""

    def __init__(self, inner, factors, activation=None, **kwargs):
        super().__init__(**kwargs)
        self.inner, self.factors = inner, factors
        self.activation = keras.activations.get(activation)

    def call(self, inputs):
        return self.activation(self.inner(inputs) * self.factors)


def test_arguments_of_your_own_layers_are_described():
    layer = Scale(keras.layers.Dense(2, name="d"), np.array([1.0, 2.0], "float32"), "relu")
    config = layer.get_config()
    assert config["activation"] == "relu" and config["inner"]["class_name"] == "Dense"
    json.dumps(config)
    again = Scale.from_config(config)
    np.testing.assert_array_equal(again.factors, layer.factors)
    assert again.inner.units == 2 and again.activation is layer.activation


def test_an_activity_regularizer_that_came_by_keyword_is_in_the_config():
    layer = keras.layers.Embedding(5, 2, activity_regularizer="l2")
    expected = keras_peer.layers.Embedding(5, 2, activity_regularizer="l2").get_config()
    assert layer.get_config()["activity_regularizer"] == expected["activity_regularizer"]
    again = keras.layers.Embedding.from_config(layer.get_config())
    assert again.activity_regularizer.l2 == pytest.approx(0.01)


def test_a_function_that_is_not_registered_is_described_by_its_name():
    def shifted(x):
        return x + 1

    layer = keras.layers.Dense(3, activation=shifted)
    peer = keras_peer.layers.Dense(3, activation=shifted)
    assert layer.get_config()["activation"] == peer.get_config()["activation"]
    with pytest.raises(ValueError, match="shifted"):
        keras.layers.Dense.from_config(layer.get_config())
    with keras.saving.custom_object_scope({"shifted": shifted}):
        assert keras.layers.Dense.from_config(layer.get_config()).activation is shifted


@pytest.mark.parametrize(
    "module, name",
    [("constraints", "max_norm"), ("initializers", "he_normal"), ("regularizers", "l2"),
     ("metrics", "accuracy"), ("activations", "relu")],
)  # fmt: skip
def test_names_are_configurations_as_well(module, name):
    ours, theirs = (getattr(k, module).deserialize(name) for k in (keras, keras_peer))
    assert getattr(ours, "__name__", type(ours).__name__) == getattr(
        theirs, "__name__", type(theirs).__name__
    )


def test_names_of_your_own_things_are_found():
    class Twice(keras.constraints.Constraint):
        def __call__(self, w):
            return 2 * w

    made = keras.constraints.deserialize("Twice", custom_objects={"Twice": Twice})
    assert isinstance(made, Twice)
    with pytest.raises(ValueError, match="unknown constraint 'Twice'"):
        keras.constraints.deserialize("Twice")
