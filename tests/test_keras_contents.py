"""What layers hold: found once, and again when something has changed."""

import copy
import pickle

import numpy as np
import pytest

from minitorch_ciml import keras
from minitorch_ciml.keras.layers import contents

layers = keras.layers


class Holder(layers.Layer):
    """A layer with one dense layer in an attribute, and room for more."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.first = layers.Dense(2)
        self.more = []
        self.by_name = {"inner": []}
        self.settings = ["a word"]  # in which nobody expects a layer

    def call(self, x):
        for layer in [self.first, *self.more, *self.by_name["inner"], *self.settings[1:]]:
            x = layer(x)
        return x


@pytest.fixture
def holder():
    layer = Holder()
    layer(np.ones((1, 2), np.float32))
    assert len(layer.weights) == 2
    return layer


def built():
    dense = layers.Dense(2)
    dense.build((None, 2))
    return dense


CHANGES = {
    "a list grows": (lambda layer, spare: layer.more.append(spare), 4),
    "a list in a dictionary grows": (lambda layer, spare: layer.by_name["inner"].append(spare), 4),
    "a list of something else grows": (lambda layer, spare: layer.settings.append(spare), 4),
    "a dictionary grows": (lambda layer, spare: layer.by_name.update(other=spare), 4),
    "an attribute is added": (lambda layer, spare: setattr(layer, "second", spare), 4),
    "an attribute is replaced": (lambda layer, spare: setattr(layer, "first", None), 0),
    "an attribute is deleted": (lambda layer, spare: delattr(layer, "first"), 0),
    "a weight is added": (lambda layer, spare: layer.add_weight(shape=(3,)), 3),
    "a layer inside gets one": (lambda layer, spare: layer.first.add_weight(shape=(3,)), 3),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_changes_is_found(holder, change):
    apply, expected = CHANGES[change]
    spare = built()  # before the search: a weight that is made lets everybody search again
    assert len(holder.weights) == 2
    apply(holder, spare)
    assert len(holder.weights) == expected


def test_a_list_element_is_replaced(holder):
    spare = built()
    holder.more.append(built())
    before = holder.weights
    holder.more[0] = spare
    after = holder.weights
    assert len(after) == len(before) == 4
    assert after[2] is not before[2]


def test_metrics_put_in_later_are_found(holder):
    first, *others = [keras.metrics.Mean() for _ in range(3)]
    assert holder.metrics == []
    holder.score, holder.more_scores = first, others
    assert holder.metrics == [holder.score, *holder.more_scores]


def test_frozen_weights_are_not_trainable(holder):
    kernel, bias = holder.trainable_weights
    kernel.trainable = False
    assert holder.trainable_weights == [bias]
    holder.first.trainable = True
    assert holder.trainable_weights == [kernel, bias]


def test_a_regularizer_set_later_counts(holder):
    assert holder.losses == []
    holder.weights[0].regularizer = keras.regularizers.L2(1.0)
    assert len(holder.losses) == 1


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))]
)
def test_a_copy_finds_its_own(holder, copied):
    other = copied(holder)
    other.third = built()
    assert len(other.weights) == 4
    assert len(holder.weights) == 2
    assert other._inventory().layers[0] is other


def test_training_steps_do_not_search(monkeypatch):
    model = keras.Sequential([layers.Input((4,)), Holder(), layers.Dropout(0.5), layers.Dense(1)])
    model.compile("adam", "mse", metrics=["mae"])
    x, y = np.ones((8, 4), np.float32), np.ones((8, 1), np.float32)
    model.train_on_batch(x, y)
    found = []
    monkeypatch.setattr(contents.Inventory, "__init__", lambda self, root: found.append(root))
    for _ in range(3):
        model.train_on_batch(x, y)
    model.fit(x, y, batch_size=4, epochs=2, verbose=0)
    assert found == []
