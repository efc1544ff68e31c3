"""Models as estimators of scikit-learn: the same predictions as Keras' wrappers."""

import subprocess
import sys

import numpy as np
import pytest

from minitorch_ciml import keras

pytest.importorskip("sklearn", reason="scikit-learn is not installed")

from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 4)).astype("float32")
LABELS = np.array(["blue", "green", "red"])[(X[:, 0] > 0).astype(int) + (X[:, 1] > 0.5)]
NUMBERS = X @ np.array([1.0, -2.0, 0.5, 3.0])
HOW = {"epochs": 4, "batch_size": 10, "verbose": 0, "shuffle": False}


def network(k, outputs, activation=None, rate=0.05):
    layers = [k.Input((4,)), k.layers.Dense(8, "tanh"), k.layers.Dense(outputs, activation)]
    model = k.Sequential(layers)
    rng = np.random.default_rng(1)
    model.set_weights([rng.normal(size=w.shape) for w in model.get_weights()])
    loss = "categorical_crossentropy" if activation else "mse"
    model.compile(k.optimizers.Adam(rate), loss)
    return model


def classifier(k):
    def make(X, y, rate=0.05):
        return network(k, y.shape[1], "softmax", rate)

    return k.wrappers.SKLearnClassifier(make, fit_kwargs=dict(HOW))


def regressor(k):
    def make(X, y):
        return network(k, 1)

    return k.wrappers.SKLearnRegressor(make, fit_kwargs=dict(HOW))


@pytest.mark.parametrize("make, y", [(classifier, LABELS), (regressor, NUMBERS)])
def test_predictions_and_scores_equal_keras(make, y):
    keras_peer = pytest.importorskip("keras_peer").keras_peer
    ours, theirs = (make(k).fit(X, y) for k in (keras, keras_peer))
    for a, b in zip(ours.history_.history["loss"], theirs.history_.history["loss"]):
        np.testing.assert_allclose(a, b, rtol=1e-5)
    found, expected = ours.predict(X), theirs.predict(X)
    assert found.shape == expected.shape
    if make is classifier:
        assert (found == expected).all()
        np.testing.assert_allclose(
            ours.decision_function(X), theirs.decision_function(X), rtol=1e-4, atol=1e-6
        )
    else:
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert ours.score(X, y) == pytest.approx(theirs.score(X, y), rel=1e-5)
    assert ours.epoch_ == 4


def test_a_model_is_cloned_unless_it_goes_on():
    model = network(keras, 1)
    before = model.get_weights()
    keras.wrappers.SKLearnRegressor(model, fit_kwargs=HOW).fit(X, NUMBERS)
    np.testing.assert_array_equal(model.get_weights()[0], before[0])
    estimator = keras.wrappers.SKLearnRegressor(model, warm_start=True, fit_kwargs=HOW)
    trained = estimator.fit(X, NUMBERS).model_
    weights = trained.get_weights()
    assert estimator.fit(X, NUMBERS, epochs=1).model_ is trained
    assert (trained.get_weights()[0] != weights[0]).any()
    with pytest.raises(RuntimeError, match="must be compiled"):
        keras.wrappers.SKLearnRegressor(lambda X, y: keras.Sequential()).fit(X, NUMBERS)


def test_pipelines_searches_and_clones():
    search = GridSearchCV(
        classifier(keras), {"model_kwargs": [{"rate": 1e-6}, {"rate": 0.05}]}, cv=2
    )
    search.fit(X, LABELS)
    assert search.best_params_ == {"model_kwargs": {"rate": 0.05}}
    pipeline = make_pipeline(StandardScaler(), regressor(keras)).fit(X, NUMBERS)
    assert pipeline.predict(X[:5]).shape == (5,)
    copy = clone(regressor(keras))
    assert copy.fit_kwargs == HOW and not hasattr(copy, "model_")
    features = keras.wrappers.SKLearnTransformer(network(keras, 3), fit_kwargs=HOW)
    targets = np.stack([NUMBERS] * 3, axis=1)
    assert features.fit(X, targets).transform(X).shape == (60, 3)
    with pytest.raises(ValueError, match="only one class"):
        classifier(keras).fit(X, LABELS[:1].repeat(60))
    with pytest.raises(ValueError, match="the labels are continuous"):
        classifier(keras).fit(X, NUMBERS)


def test_without_scikit_learn_it_says_what_to_install():
    code = (
        "import sys; sys.modules['sklearn'] = None\n"
        "from minitorch_ciml import keras\n"
        "try: keras.wrappers.SKLearnClassifier\n"
        "except ImportError as error: print(error)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "pip install 'scikit-learn>=1.6'" in result.stdout, result.stderr
