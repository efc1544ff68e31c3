"""The paths of weights: the names of the models and layers around them, as in Keras."""

import numpy as np
import pytest
from keras_peer import keras_peer

from minitorch_ciml import keras


def subclassed(k):
    class Block(k.layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.made_in_call = k.layers.Dense(3, name="c")
            self.made_in_build = k.layers.Dense(3, name="b")
            self.factor = self.add_weight(shape=(3,), name="factor")

        def build(self, shape):
            self.w = self.add_weight(shape=(shape[-1], 3), name="w")
            self.made_in_build.build((None, 3))

        def call(self, x):
            return self.made_in_build(self.made_in_call(x)) * self.factor + k.ops.matmul(x, self.w)

    class Net(k.Model):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.blocks = [Block(name="block1"), Block(name="block2")]
            self.head = k.Sequential([k.layers.Dense(1, name="last")], name="head")

        def call(self, x):
            for block in self.blocks:
                x = block(x)
            return self.head(x)

    return Net(name="net")


def called(k):
    model = subclassed(k)
    model(np.ones((2, 3), "float32"))
    return model


def fitted(k):
    model = subclassed(k)
    model.compile("sgd", "mse")
    model.fit(np.ones((2, 3), "float32"), np.ones((2, 1)), verbose=0)
    return model


def within_a_functional_model(k):
    inputs = k.Input((3,))
    return k.Model(inputs, subclassed(k)(inputs), name="outer")


def sequential(k):
    norm = k.layers.BatchNormalization(name="n")
    return k.Sequential([k.Input((4,)), k.layers.Dense(3, name="d"), norm], name="s")


def deferred(k):
    model = k.Sequential([k.layers.Dense(3, name="d"), k.layers.Dense(2, name="e")], name="s")
    model(np.ones((2, 4), "float32"))
    return model


def nested(k):
    inner = k.Sequential([k.layers.Dense(3, name="d")], name="inner")
    own = k.Sequential([k.Input((3,)), k.layers.Dense(3, name="d")], name="own")
    return k.Sequential([k.Input((4,)), inner, own, k.layers.Dense(2, name="e")], name="outer")


def functional(k):
    inputs, layers = k.Input((5, 3)), k.layers
    x = layers.MultiHeadAttention(2, 2, name="attention")(inputs, inputs)
    x = layers.TimeDistributed(layers.Dense(2, name="d"), name="each")(x)
    x = layers.SeparableConv1D(2, 2, name="conv")(x)
    x = layers.Bidirectional(layers.GRU(2, return_sequences=True, name="g"), name="both")(x)
    x = layers.RNN([layers.LSTMCell(2, name="c1"), layers.LSTMCell(2, name="c2")], name="r")(x)
    return k.Model(inputs, x)


def scoped(k):
    inputs = k.Input((3,))
    with k.name_scope("stage1"):
        x = k.layers.Dense(2, name="d")(inputs)
    return k.Model(inputs, x)


MODELS = [
    called,
    fitted,
    within_a_functional_model,
    sequential,
    deferred,
    nested,
    functional,
    scoped,
]


@pytest.mark.parametrize("make", MODELS, ids=lambda make: make.__name__)
def test_paths_are_those_of_keras(make):
    ours, theirs = make(keras), make(keras_peer)
    # `RNN` numbers the stack of cells that it makes.
    expected = [w.path for w in theirs.weights if "stacked" not in w.path]
    assert [w.path for w in ours.weights if "stacked" not in w.path] == expected


def test_layers_know_their_paths():
    model = nested(keras)
    inner = model.get_layer("inner")
    assert (model.path, inner.path, inner.layers[0].path) == (
        "outer",
        "outer/inner",
        "outer/inner/d",
    )
    assert keras.layers.Dense(2).path is None
    with pytest.raises(ValueError, match="without '/', got 'a/b'"):
        with keras.name_scope("a/b"):
            pass
