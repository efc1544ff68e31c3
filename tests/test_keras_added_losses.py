"""Terms that layers add to the loss: those of the last call, as in Keras, also in loops by hand."""

import numpy as np
import pytest
from keras_peer import keras_peer

from minitorch_ciml import keras

X = np.ones((2, 3), "float32")


def charged(k):
    class Charged(k.layers.Layer):
        def call(self, x, training=None):
            if training is not False:
                self.add_loss(k.ops.mean(x))
            return x

    return Charged()


def functional(k):
    inputs = k.Input((3,))
    model = k.Model(inputs, charged(k)(inputs))
    yield model.losses
    for factor in (1, 2):
        model(factor * X)
        yield model.losses
    model(X, training=False)
    yield model.losses
    model.compile("sgd")
    yield model.fit(X, epochs=2, verbose=0).history["loss"]
    yield model.losses


def a_layer_alone(k):
    layer = charged(k)
    layer(X)
    layer(3 * X)
    yield layer.losses


def subclassed(k):
    class Twice(k.Model):
        def __init__(self):
            super().__init__()
            self.first, self.second = charged(k), charged(k)

        def call(self, x):
            return self.second(self.first(x) * 2)

    model = Twice()
    model(X)
    model(2 * X)
    yield model.losses
    model.first(5 * X)  # a part of it by itself
    yield model.losses


def shared(k):
    class Shared(k.Model):
        def __init__(self):
            super().__init__()
            self.layer = charged(k)

        def call(self, x):
            return self.layer(self.layer(x) * 2)

    model = Shared()
    model(X)
    model(X)
    yield model.losses


def regularized(k):
    how = {"activity_regularizer": "l2", "kernel_regularizer": "l1", "kernel_initializer": "ones"}
    model = k.Sequential([k.Input((3,)), k.layers.Dense(2, **how)])
    model(X)
    model(2 * X)
    yield model.losses


@pytest.mark.filterwarnings("ignore:The model does not have any trainable")
@pytest.mark.parametrize("story", [functional, a_layer_alone, subclassed, shared, regularized])
def test_added_losses_equal_keras(story):
    ours, theirs = (
        [[np.asarray(k.ops.convert_to_numpy(term)) for term in terms] for terms in story(k)]
        for k in (keras, keras_peer)
    )
    assert len(ours) == len(theirs)
    for mine, other in zip(ours, theirs):
        np.testing.assert_allclose(mine, other, rtol=1e-5)


def test_a_loop_by_hand_keeps_no_graphs():
    """The terms of earlier calls would otherwise be summed up, and remembered."""
    model = keras.Sequential([keras.Input((3,)), charged(keras), keras.layers.Dense(1)])
    weights = model.trainable_weights
    for _ in range(3):
        y = model(X, training=True)
        loss = keras.ops.mean(y) + sum(model.losses)
        loss.backward()
        assert len(model.losses) == 1 and len(weights) == 2
