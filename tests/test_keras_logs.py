"""What training reports, and in which order and under which names: the same as Keras."""

import numpy as np
import pytest
from keras_peer import keras_peer

from minitorch_ciml import keras

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(24, 4)).astype("float32"), RNG.normal(size=(24, 1)).astype("float32")
LABELS, WEIGHTS = RNG.integers(0, 3, 24), RNG.random(24).astype("float32")
CE = "sparse_categorical_crossentropy"


def stack(k, *head):
    return k.Sequential([k.Input((4,)), k.layers.Dense(5, "tanh"), k.layers.Dense(*head)])


def line(k):
    return stack(k, 1)


def kinds(k):
    return stack(k, 3, "softmax")


def two(arrange):
    def make(k):
        inputs = k.Input((4,))
        x = k.layers.Dense(5, activation="tanh", name="h")(inputs)
        a, b = k.layers.Dense(1, name="a")(x), k.layers.Dense(3, "softmax", name="b")(x)
        return k.Model(inputs, arrange(a, b))

    return make


def subclassed(arrange):
    def make(k):
        class Two(k.Model):
            def __init__(self):
                super().__init__()
                self.hidden = k.layers.Dense(5, name="h")
                self.a = k.layers.Dense(1, name="a")
                self.b = k.layers.Dense(3, activation="softmax", name="b")

            def call(self, x):
                x = self.hidden(x)
                return arrange(self.a(x), self.b(x))

        model = Two()
        model(X[:2])
        return model

    return make


def a_list(a, b):
    return [a, b]


def swapped(a, b):
    return (b, a)


def a_dict(a, b):
    return {"p": a, "q": b}


def named(a, b):
    return {"a": a, "b": b}


# name: (model, arguments of compile, targets, weights)
CASES = {
    "names": (line, lambda k: dict(loss="mse", metrics=["mae", "mse"]), Y, {}),
    "a name twice": (
        line,
        lambda k: dict(loss="mse", metrics=["mae", k.metrics.MeanAbsoluteError(name="mae")]),
        Y,
        {},
    ),
    "weighted metrics": (
        line,
        lambda k: dict(loss="mse", metrics=["mae"], weighted_metrics=["mae", "mse"]),
        Y,
        dict(sample_weight=WEIGHTS),
    ),
    "functions": (
        line,
        lambda k: dict(
            loss=lambda y, p: k.ops.mean(k.ops.abs(y - p)), metrics=[k.losses.mean_squared_error]
        ),
        Y,
        {},
    ),
    "loss_weights": (line, lambda k: dict(loss="mse", loss_weights=2.0, metrics=["mae"]), Y, {}),
    "by the layer's name": (
        lambda k: k.Sequential([k.Input((4,)), k.layers.Dense(1, name="a")]),
        lambda k: dict(loss="mse", metrics={"a": ["mae"]}),
        Y,
        {},
    ),
    "class_weight": (
        kinds,
        lambda k: dict(loss=CE, metrics=["accuracy"], weighted_metrics=["accuracy"]),
        LABELS,
        dict(class_weight={0: 1.0, 1: 3.0, 2: 0.5}),
    ),
    "two outputs": (
        two(a_list),
        lambda k: dict(loss=["mse", CE], metrics=[["mae"], ["accuracy"]], loss_weights=[0.5, 2]),
        [Y, LABELS],
        {},
    ),
    "two outputs by name": (
        two(a_list),
        lambda k: dict(
            loss={"a": "mse", "b": CE},
            metrics={"b": "accuracy", "a": ["mae", "mse"]},
            loss_weights={"a": 0.3, "b": 2.0},
        ),
        {"a": Y, "b": LABELS},
        {},
    ),
    "two outputs in another order": (
        two(swapped),
        lambda k: dict(loss=[CE, "mse"], metrics=[["accuracy"], ["mae"]]),
        (LABELS, Y),
        {},
    ),
    "one of two losses": (
        two(a_list),
        lambda k: dict(loss=["mse", None], metrics=[["mae"], ["accuracy"]]),
        [Y, LABELS],
        {},
    ),
    "weights of each output": (
        two(a_list),
        lambda k: dict(loss=["mse", CE], weighted_metrics=[["mae"], ["accuracy"]]),
        [Y, LABELS],
        dict(sample_weight=[WEIGHTS, 2 * WEIGHTS]),
    ),
    "a dictionary of outputs": (
        two(a_dict),
        lambda k: dict(
            loss={"p": "mse", "q": CE}, metrics={"q": ["accuracy"]}, weighted_metrics={"p": ["mae"]}
        ),
        {"p": Y, "q": LABELS},
        dict(sample_weight={"p": WEIGHTS, "q": np.ones(24)}),
    ),
    "a subclass with a dictionary": (
        subclassed(named),
        lambda k: dict(loss={"a": "mse", "b": CE}, metrics={"b": ["accuracy"]}),
        {"a": Y, "b": LABELS},
        {},
    ),
    "a subclass with a list": (
        subclassed(a_list),
        lambda k: dict(loss=["mse", CE], metrics=[["mae"], ["accuracy"]]),
        [Y, LABELS],
        {},
    ),
}


def reports(k, model, arguments, y, weights):
    """Everything that training says, as lists of (name, value) or of values."""
    model.compile(k.optimizers.SGD(0.05), **arguments(k))
    history = model.fit(
        X, y, epochs=2, batch_size=8, shuffle=False, verbose=0, validation_data=(X, y), **weights
    ).history
    weights = {key: value for key, value in weights.items() if key != "class_weight"}
    return {
        "fit": list(history.items()),
        "evaluate": model.evaluate(X, y, verbose=0, **weights),
        "named": list(model.evaluate(X, y, verbose=0, return_dict=True, **weights).items()),
        "names": model.metrics_names,
        "train_on_batch": model.train_on_batch(X, y, **weights),
        "test_on_batch": list(model.test_on_batch(X, y, return_dict=True, **weights).items()),
    }


def assert_same(ours, theirs):
    if isinstance(theirs, (list, tuple)):
        assert len(ours) == len(theirs), (ours, theirs)
        for one, other in zip(ours, theirs):
            assert_same(one, other)
    elif isinstance(theirs, str):
        assert ours == theirs
    else:
        np.testing.assert_allclose(ours, theirs, rtol=2e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:no gradient:UserWarning", "ignore:Gradients do not exist")
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_reports_are_those_of_keras(case):
    make, *rest = case
    ours, theirs = make(keras), make(keras_peer)
    ours.set_weights(theirs.get_weights())
    result, expected = reports(keras, ours, *rest), reports(keras_peer, theirs, *rest)
    for key in expected:
        assert_same(result[key], expected[key])


def test_weights_of_classes_and_of_samples_exclude_each_other():
    for k in (keras, keras_peer):
        model = kinds(k)
        model.compile("sgd", CE)
        with pytest.raises(ValueError, match="class_weight.* and .*sample_weight"):
            model.fit(X, LABELS, class_weight={0: 2.0}, sample_weight=WEIGHTS, verbose=0)


def test_metrics_of_an_output_are_monitored_the_right_way():
    model = two(a_list)(keras)
    model.compile(
        "sgd", ["mse", CE], metrics=[[], [keras.metrics.SparseTopKCategoricalAccuracy(2)]]
    )
    stop = keras.callbacks.EarlyStopping(monitor="val_b_sparse_top_k_categorical_accuracy")
    data = X, [Y, LABELS]
    model.fit(*data, validation_data=data, callbacks=[stop], verbose=0)
    assert stop._find_direction()  # higher is better
