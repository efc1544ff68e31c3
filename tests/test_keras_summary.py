"""`model.summary()` prints what Keras prints, to the character."""

import numpy as np
import pytest
from keras_peer import keras_peer

from minitorch_ciml import keras


def stack(k):
    layers = k.layers
    model = k.Sequential(
        [
            k.Input((28, 28, 1)),
            layers.Conv2D(4, 3, name="convolution"),
            layers.BatchNormalization(name="norm"),
            layers.Flatten(name="flat"),
            layers.Dense(10, name="a_name_too_long_for_the_column_that_it_is_in"),
        ],
        name="stack",
    )
    model.get_layer("convolution").trainable = False
    return model


def trained(k):
    model = k.Sequential([k.Input((4,)), k.layers.Dense(30, name="d")], name="trained")
    model.compile("adam", "mse")
    model.fit(np.zeros((2, 4)), np.zeros((2, 30)), verbose=0)
    return model


def unbuilt(k):
    return k.Sequential([k.layers.Dense(3, name="a"), k.layers.Dense(2, name="b")], name="unbuilt")


def nested(k):
    inner = k.Sequential([k.Input((4,)), k.layers.Dense(4, name="x")], name="inner")
    inputs = k.Input((4,), name="in")
    x = k.layers.Add(name="add")([inner(inputs), inputs])
    return k.Model(inputs, k.layers.Dense(2, name="out")(x), name="nested")


def shared(k):
    inputs, layer = k.Input((4,), name="in"), k.layers.Dense(4, name="shared")
    return k.Model(inputs, layer(layer(inputs)), name="twice")


def several(k):
    a, b = k.Input((4,), name="a"), k.Input((5,), name="b")
    x = k.layers.Concatenate(name="both")([a, b])
    outputs = [k.layers.Dense(1, name="one")(x), k.layers.Dense(2, name="two")(x)]
    return k.Model([a, b], outputs, name="several")


def functions(k):
    inputs = k.Input((6, 4), name="in")
    x, y = k.ops.split(inputs * 2.0 / 3.0 - 1.0, 2, axis=-1)
    return k.Model(inputs, k.ops.where(x > y, k.ops.layer_normalization(x), -y), name="functions")


def states(k):
    inputs = k.Input((6, 4), name="in")
    return k.Model(inputs, k.layers.LSTM(3, return_state=True, name="l")(inputs), name="states")


def subclassed(k):
    class Net(k.Model):
        def __init__(self):
            super().__init__(name="net")
            self.first, self.second = k.layers.Dense(3, name="f"), k.layers.Dense(2, name="s")

        def call(self, x):
            return self.second(self.first(x))

    model = Net()
    model(np.zeros((2, 3), "float32"))
    return model


CASES = [
    (stack, {}),
    (stack, {"show_trainable": True}),
    (stack, {"line_length": 60}),
    (stack, {"layer_range": ["norm", "flat"]}),
    (stack, {"positions": [0.3, 0.7, 1.0]}),
    (trained, {}),
    (unbuilt, {}),
    (nested, {}),
    (nested, {"expand_nested": True, "show_trainable": True}),
    (shared, {}),
    (several, {}),
    (functions, {}),
    (states, {}),
    (subclassed, {}),
]


@pytest.mark.parametrize("make, how", CASES, ids=lambda x: getattr(x, "__name__", str(x)))
def test_summary_is_that_of_keras(make, how, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    texts = []
    for k in (keras, keras_peer):
        lines = []
        k.utils.clear_session()  # names are counted anew
        make(k).summary(print_fn=lambda text, lines=lines: lines.append(text), **how)
        texts.append("\n".join(lines).rstrip())
    assert texts[0] == texts[1]


def test_what_a_summary_cannot_show():
    model = stack(keras)
    with pytest.raises(ValueError, match="layer_range must name .* there are: convolution, norm"):
        model.summary(layer_range=["norm", "none"])
    with pytest.raises(ValueError, match="10 columns are too few"):
        model.summary(line_length=10)
