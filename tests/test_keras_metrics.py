"""Metrics: Keras' numbers over several updates, weights, states that add, configurations."""

import os

import numpy as np
import pytest

from minitorch_ciml import Tensor, ops
from minitorch_ciml.keras import losses, metrics
from minitorch_ciml.keras.serialization import deserialize_keras_object, serialize_keras_object
from minitorch_ciml.keras.symbolic import clear_session

os.environ.setdefault("KERAS_BACKEND", "torch")
pytest.importorskip("torch", reason="the peer PyTorch is not installed")
keras = pytest.importorskip("keras", reason="the peer Keras is not installed")

N, C, UPDATES = 16, 6, 3


def rng(name):
    return np.random.default_rng(sum(map(ord, name)))


def reals(r):
    return r.normal(size=(N, C)).astype("float32"), r.normal(size=(N, C)).astype("float32")


def binary(r):
    return r.integers(0, 2, (N, C)).astype("float32"), r.random((N, C)).astype("float32")


def one_column(r):
    return r.integers(0, 2, (N, 1)).astype("float32"), r.random((N, 1)).astype("float32")


def flat(r):
    return r.integers(0, 2, N), r.random((N, 1)).astype("float32")


def soft(r):
    return r.random((N, C)).astype("float32"), r.random((N, C)).astype("float32")


def positive(r):
    return tuple(r.uniform(0.1, 2, (2, N, C)).astype("float32"))


def probabilities(r):
    p = r.uniform(0.05, 1, (2, N, C))
    return tuple((p / p.sum(-1, keepdims=True)).astype("float32"))


def one_hot(r):
    return np.eye(C, dtype="float32")[r.integers(0, C, N)], probabilities(r)[1]


def indices(r):
    return r.integers(0, C, N), probabilities(r)[1]


def column_indices(r):
    return r.integers(0, C, (N, 1)), probabilities(r)[1]


def steps(r):
    scores = r.random((N, 3, C)).astype("float32")
    return r.integers(0, C, (N, 3)), scores


def equal_or_not(r):
    return r.integers(0, 3, (N, 1)).astype("float32"), r.integers(0, 3, (N, 1)).astype("float32")


def classes(r):
    return r.integers(0, C, N), r.integers(0, C, N)


def logits(r):
    return r.integers(0, 2, (N, C)).astype("float32"), 3 * r.normal(size=(N, C)).astype("float32")


def values(r):
    return (r.normal(size=(N, C)).astype("float32"),)


# (class, arguments, data): every class at least once; the first of each has required arguments only
CASES = [
    ("Mean", {}, values),
    ("Sum", {}, values),
    ("MeanMetricWrapper", {"fn": "mean_squared_error"}, reals),
    ("Accuracy", {}, equal_or_not),
    ("BinaryAccuracy", {}, binary),
    ("BinaryAccuracy", {"threshold": 0.3}, one_column),
    ("BinaryAccuracy", {}, flat),
    ("CategoricalAccuracy", {}, one_hot),
    ("SparseCategoricalAccuracy", {}, indices),
    ("SparseCategoricalAccuracy", {}, column_indices),
    ("SparseCategoricalAccuracy", {}, steps),
    ("TopKCategoricalAccuracy", {}, one_hot),
    ("TopKCategoricalAccuracy", {"k": 2}, one_hot),
    ("SparseTopKCategoricalAccuracy", {}, indices),
    ("SparseTopKCategoricalAccuracy", {"k": 2}, column_indices),
    ("SparseTopKCategoricalAccuracy", {"k": 2}, steps),
    ("MeanSquaredError", {}, reals),
    ("MeanAbsoluteError", {}, reals),
    ("MeanAbsolutePercentageError", {}, positive),
    ("MeanSquaredLogarithmicError", {}, positive),
    ("RootMeanSquaredError", {}, reals),
    ("LogCoshError", {}, reals),
    ("Hinge", {}, logits),
    ("SquaredHinge", {}, logits),
    ("CategoricalHinge", {}, one_hot),
    ("KLDivergence", {}, probabilities),
    ("Poisson", {}, positive),
    ("BinaryCrossentropy", {}, binary),
    ("BinaryCrossentropy", {"from_logits": True, "label_smoothing": 0.2}, logits),
    ("CategoricalCrossentropy", {}, one_hot),
    ("CategoricalCrossentropy", {"from_logits": True, "label_smoothing": 0.2}, one_hot),
    ("SparseCategoricalCrossentropy", {}, indices),
    ("SparseCategoricalCrossentropy", {"ignore_class": 2}, indices),
    ("CosineSimilarity", {}, reals),
    ("CosineSimilarity", {"axis": 0}, reals),
    ("PearsonCorrelation", {}, reals),
    ("PearsonCorrelation", {"axis": 0}, reals),
    ("ConcordanceCorrelation", {}, reals),
    ("R2Score", {}, reals),
    ("R2Score", {}, flat),
    ("R2Score", {"class_aggregation": None}, reals),
    ("R2Score", {"class_aggregation": "variance_weighted_average", "num_regressors": 2}, reals),
    ("TruePositives", {}, binary),
    ("TruePositives", {"thresholds": [0.7, 0.2]}, binary),
    ("FalsePositives", {}, one_column),
    ("TrueNegatives", {}, flat),
    ("FalseNegatives", {}, binary),
    ("Precision", {}, binary),
    ("Precision", {"top_k": 2}, binary),
    ("Precision", {"top_k": 2, "class_id": 1, "thresholds": [0.4, 0.6]}, binary),
    ("Recall", {}, one_column),
    ("Recall", {"class_id": 2}, binary),
    ("Recall", {"thresholds": 0.3}, flat),
    ("SensitivityAtSpecificity", {"specificity": 0.5}, binary),
    ("SensitivityAtSpecificity", {"specificity": 0.4, "num_thresholds": 1}, binary),
    ("SpecificityAtSensitivity", {"sensitivity": 0.5}, binary),
    ("PrecisionAtRecall", {"recall": 0.5}, binary),
    ("RecallAtPrecision", {"precision": 0.5}, binary),
    ("RecallAtPrecision", {"precision": 0.4, "class_id": 1}, binary),
    ("AUC", {}, binary),
    ("AUC", {}, flat),
    ("AUC", {}, soft),
    ("AUC", {"num_thresholds": 5, "summation_method": "minoring"}, binary),
    ("AUC", {"summation_method": "majoring"}, binary),
    ("AUC", {"curve": "PR"}, binary),
    ("AUC", {"curve": "PR", "summation_method": "minoring"}, binary),
    ("AUC", {"curve": "PR", "summation_method": "majoring"}, binary),
    ("AUC", {"curve": "PRGAIN"}, binary),
    ("AUC", {"thresholds": [0.7, 0.2]}, soft),
    ("AUC", {"from_logits": True}, logits),
    ("AUC", {}, logits),
    ("AUC", {"multi_label": True}, binary),
    ("AUC", {"multi_label": True, "num_labels": C, "label_weights": [1.0, 2, 0, 1, 3, 1]}, binary),
    ("AUC", {"multi_label": True, "curve": "PR"}, binary),
    ("AUC", {"label_weights": [1.0, 2, 0, 1, 3, 1]}, binary),
    ("F1Score", {}, binary),
    ("F1Score", {"average": "micro"}, binary),
    ("F1Score", {"average": "macro", "threshold": 0.4}, binary),
    ("FBetaScore", {}, one_hot),
    ("FBetaScore", {"average": "weighted", "beta": 2.0, "threshold": 0.6}, binary),
    ("IoU", {"num_classes": C, "target_class_ids": [0, 2]}, classes),
    ("BinaryIoU", {}, binary),
    ("BinaryIoU", {"target_class_ids": [1], "threshold": 0.3}, binary),
    ("MeanIoU", {"num_classes": C}, classes),
    ("MeanIoU", {"num_classes": C, "ignore_class": 1}, classes),
    ("MeanIoU", {"num_classes": C, "sparse_y_pred": False}, indices),
    ("OneHotIoU", {"num_classes": C, "target_class_ids": [0, 2]}, one_hot),
    ("OneHotMeanIoU", {"num_classes": C}, one_hot),
]
IDS = [f"{i}-{case[0]}" for i, case in enumerate(CASES)]


def make(module, name, kwargs):
    kwargs = dict(kwargs)
    if "fn" in kwargs:
        kwargs["fn"] = getattr(module, kwargs["fn"])
    return getattr(module, name)(**kwargs)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name, kwargs, data", CASES, ids=IDS)
def test_results_are_keras_over_several_updates(name, kwargs, data, weighted):
    r = rng(name)
    ours, theirs = make(metrics, name, kwargs), make(keras.metrics, name, kwargs)
    for _ in range(UPDATES):
        batch = data(r)
        weight = r.uniform(0, 2, N).astype("float32") if weighted else None
        if weighted and kwargs.get("axis") == 0:
            weight = weight[:C]
        if weighted and "IoU" in name:  # Keras counts these in integers, one per label
            weight = np.floor(np.repeat(weight, batch[1].size // N if name == "BinaryIoU" else 1))
            weight = weight.astype(int)
        ours.update_state(*batch, sample_weight=weight)
        theirs.update_state(*batch, sample_weight=weight)
        np.testing.assert_allclose(
            ours.result().numpy(), np.asarray(theirs.result()), rtol=2e-4, atol=2e-6
        )


@pytest.mark.parametrize("name, kwargs, data", CASES, ids=IDS)
def test_states_add(name, kwargs, data):
    r = rng(name)
    batches = [data(r) for _ in range(4)]
    whole, left, right = (make(metrics, name, kwargs) for _ in range(3))
    for batch in batches:
        whole.update_state(*batch)
    for part, mine in ((left, batches[:1]), (right, batches[1:])):
        for batch in mine:
            part.update_state(*map(Tensor, batch))
    assert all(a.dtype == np.float64 for a in whole.state)
    left.merge_state([right])
    np.testing.assert_allclose(left.result().numpy(), whole.result().numpy(), rtol=1e-6)
    for mine, all_of_it in zip(left.state, whole.state):
        np.testing.assert_allclose(mine, all_of_it, rtol=1e-6)
    left.reset_state()
    assert not any(a.any() for a in left.state)
    fresh = make(metrics, name, kwargs)
    for metric in (left, fresh):
        metric.update_state(*batches[0])
    np.testing.assert_array_equal(left.result().numpy(), fresh.result().numpy())


@pytest.mark.parametrize("name, kwargs, data", CASES, ids=IDS)
def test_configurations_are_keras(name, kwargs, data):
    clear_session()
    keras.utils.clear_session()
    first = next(case for case in CASES if case[0] == name)
    default = serialize_keras_object(make(metrics, name, first[1]))
    theirs = keras.saving.serialize_keras_object(make(keras.metrics, name, first[1]))
    theirs["config"].pop("fn", None) if name == "MeanMetricWrapper" else None
    ours = {**default, "config": {k: v for k, v in default["config"].items() if k != "fn"}}
    assert ours == theirs

    metric = make(metrics, name, {**kwargs, "name": "x"})
    config = serialize_keras_object(metric)
    again = deserialize_keras_object(config)
    assert type(again) is type(metric)
    assert serialize_keras_object(again) == config
    loaded = keras.saving.deserialize_keras_object(config)
    batch = data(rng(name))
    for m in (metric, again, loaded):
        m.update_state(*batch)
    np.testing.assert_array_equal(again.result().numpy(), metric.result().numpy())
    np.testing.assert_allclose(
        np.asarray(loaded.result()), metric.result().numpy(), rtol=2e-4, atol=2e-6
    )


def test_every_metric_is_in_the_contract():
    exported = {
        name
        for name in metrics.__all__
        if isinstance(getattr(metrics, name), type)
        and issubclass(getattr(metrics, name), metrics.Metric)
    }
    assert exported - {"Metric"} == {case[0] for case in CASES}


@pytest.mark.parametrize(
    "name",
    ["accuracy", "binary_accuracy", "categorical_accuracy", "sparse_categorical_accuracy",
     "top_k_categorical_accuracy", "sparse_top_k_categorical_accuracy", "pearson_correlation",
     "concordance_correlation"],
)  # fmt: skip
def test_functions_give_a_value_per_sample(name):
    data = equal_or_not if name == "accuracy" else indices if name.startswith("sparse") else one_hot
    batch = data(rng(name))
    if name != "accuracy" and not hasattr(keras.metrics, name):
        pytest.skip("this Keras does not export it")
    if name == "accuracy":
        ours = metrics.accuracy(*batch)
        np.testing.assert_array_equal(ours.numpy(), (batch[0] == batch[1]).astype("float32"))
        return
    ours, theirs = getattr(metrics, name)(*batch), getattr(keras.metrics, name)(*batch)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours.numpy(), np.asarray(theirs), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "weight",
    [[1.0, 2.0], [[1.0], [2.0]], [[1.0, 2.0], [3.0, 4.0]]],
    ids=["samples", "column", "elements"],
)
@pytest.mark.parametrize("name", ["Mean", "Sum"])
def test_means_and_sums_of_values_weigh_as_keras(name, weight):
    values = np.array([[1.0, 2], [3, 4]], dtype="float32")
    ours, theirs = getattr(metrics, name)(), getattr(keras.metrics, name)()
    for m in (ours, theirs):
        m.update_state(values, sample_weight=np.array(weight))
    for mine, their in zip(ours.state, theirs.variables):
        np.testing.assert_allclose(mine, np.asarray(their))


def test_the_mean_of_numbers_with_sizes():
    mean = metrics.Mean()
    assert mean.result().item() == 0.0
    mean.update_state(1.0, sample_weight=3)
    assert mean(5.0, sample_weight=1).item() == 2.0
    assert float(mean.result()) == 2.0


def test_a_number_as_weight_counts_once_per_sample():
    mean = metrics.Mean()
    mean.update_state(np.zeros(3), sample_weight=2.0)
    mean.update_state(np.ones(1), sample_weight=2.0)
    assert mean.result().item() == 0.25


def test_sums_do_not_lose_digits():
    total = metrics.Sum()
    for _ in range(3):
        total.update_state(np.array([2.0**24, 1.0], dtype="float32"))
    assert total.state[0] == 3 * (2**24 + 1)


def test_updates_record_no_graph_and_do_not_change_predictions():
    y_pred = Tensor(np.array([[0.2], [0.9]], "float32"), requires_grad=True)
    for name in ("mse", "accuracy", "auc"):
        metric = metrics.get(name)
        metric.update_state(np.array([[0.0], [1.0]]), y_pred)
        assert not metric.result().requires_grad
    np.testing.assert_array_equal(y_pred.numpy(), np.array([[0.2], [0.9]], "float32"))


def test_users_write_metrics():
    class Positives(metrics.Metric):
        def __init__(self, name="positives", **kwargs):
            super().__init__(name=name, **kwargs)
            self.hits = self.add_weight(name="hits", initializer="zeros")
            self.rows = self.add_variable((2,), "ones", name="rows")
            self.mean = metrics.Mean()

        def update_state(self, y_true, y_pred, sample_weight=None):
            self.hits.assign_add(ops.sum(ops.cast(y_pred > 0.5, "float32")))
            self.rows.assign(self.rows + 1)
            self.mean.update_state(y_pred)

        def result(self):
            return self.hits / self.rows[0]

    metric = Positives()
    assert metric.name == "positives"
    assert [v.shape for v in metric.variables] == [(), (2,), (), ()]
    assert metric(np.zeros(3), np.array([0.2, 0.7, 0.9])).item() == 1.0
    metric.reset_state()
    assert [v.numpy().max() for v in metric.variables] == [0, 0, 0, 0]
    assert type(metrics.resolve(metric, (3,), (3,))) is Positives


@pytest.mark.parametrize(
    "y_true, y_pred, kind",
    [
        ((8, 1), (8, 1), "Binary"),
        ((8,), (8, 1), "Binary"),
        ((8,), (8, 3), "SparseCategorical"),
        ((8, 1), (8, 3), "SparseCategorical"),
        ((8, 5), (8, 5, 3), "SparseCategorical"),
        ((8, 3), (8, 3), "Categorical"),
    ],
)
def test_accuracy_and_crossentropy_are_decided_by_shapes(y_true, y_pred, kind):
    for name, suffix in (
        ("accuracy", "Accuracy"),
        ("acc", "Accuracy"),
        ("crossentropy", "Crossentropy"),
        ("ce", "Crossentropy"),
    ):
        metric = metrics.resolve(name, y_true, y_pred)
        assert type(metric).__name__ == kind + suffix
        assert metric.name == name
    if kind != "Binary":  # what Keras itself decides
        model = keras.Sequential([keras.layers.Reshape(y_pred[1:])])
        model.compile(loss="mse", metrics=["accuracy"])
        model._compile_metrics.build(np.zeros(y_true), np.zeros(y_pred))
        assert type(model._compile_metrics.metrics[0]).__name__ == kind + "Accuracy"


def test_names_in_logs():
    assert metrics.resolve("MSE", (4, 1), (4, 1)).name == "MSE"
    assert metrics.resolve("AUC", (4, 1), (4, 1)).name == "AUC"
    by_function = metrics.resolve(losses.mean_squared_error, (4, 1), (4, 1))
    assert by_function.name == "mean_squared_error"
    assert by_function([[1.0]], [[3.0]]).item() == 4.0
    wrapped = metrics.resolve(lambda y_true, y_pred: y_pred - y_true, (4, 1), (4, 1))
    assert wrapped([[1.0]], [[3.0]]).item() == 2.0


@pytest.mark.parametrize("name", ["binary_accuracy", "mean_squared_error", "huber"])
def test_functions_in_configurations_of_keras(name):
    function = getattr(metrics, name)
    config = keras.saving.serialize_keras_object(getattr(keras.metrics, name))
    assert config["class_name"] == "function"
    assert deserialize_keras_object(config) is function
    wrapper = metrics.MeanMetricWrapper(function, name="x")
    assert metrics.deserialize(metrics.serialize(wrapper))._fn is function


def test_precision_counts_unnamed_metrics_as_keras():
    clear_session()
    assert [metrics.Precision().name for _ in range(2)] == ["precision", "precision_1"]


def test_get():
    assert metrics.get(None) is None
    assert isinstance(metrics.get("mse"), metrics.MeanSquaredError)
    assert isinstance(metrics.get(metrics.AUC), metrics.AUC)
    assert metrics.get(metrics.serialize(metrics.TopKCategoricalAccuracy(3)))._fn_kwargs["k"] == 3
    assert isinstance(metrics.deserialize("f1_score"), metrics.F1Score)


def test_thresholds_on_predictions_themselves():
    y_pred = np.array([0.0, 0.5, 1.0], "float32")
    positives = metrics.TruePositives(thresholds=[0.0, 0.5, 1.0])
    positives.update_state(np.ones(3), y_pred)
    np.testing.assert_array_equal(positives.result().numpy(), [2, 1, 0])


def test_a_nan_score_is_not_among_the_best():
    scores = np.array([[np.nan, 1.0, 2.0]], "float32")
    assert metrics.sparse_top_k_categorical_accuracy([0], scores, 2).item() == 0.0


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: metrics.get("acuracy"), ValueError, "did you mean 'accuracy'"),
        (lambda: metrics.get(3), TypeError, "metric: got 3"),
        (lambda: metrics.Metric().update_state(), NotImplementedError, "no update_state"),
        (lambda: metrics.Metric().result(), NotImplementedError, "no result"),
        (
            lambda: metrics.BinaryAccuracy().update_state(np.zeros((4, 2)), np.zeros((4, 3))),
            ValueError,
            r"y_true has shape \(4, 2\) and y_pred \(4, 3\)",
        ),
        (
            lambda: metrics.SparseCategoricalAccuracy()(np.eye(3), np.eye(3)),
            ValueError,
            "for one-hot use categorical_accuracy",
        ),
        (
            lambda: metrics.SparseTopKCategoricalAccuracy()(np.array([0, 5]), np.eye(2)),
            ValueError,
            "got labels from 0 to 5, expected 0 to 1",
        ),
        (
            lambda: metrics.Mean()(np.zeros((4, 2)), np.zeros(3)),
            ValueError,
            r"sample_weight: got shape \(3,\)",
        ),
        (
            lambda: metrics.Precision()(np.zeros((4, 2)), np.zeros((4, 2)), np.zeros(3)),
            ValueError,
            "one weight per sample",
        ),
        (lambda: metrics.BinaryAccuracy(threshold=2), ValueError, "threshold=2"),
        (lambda: metrics.Precision(thresholds=[0.5, 2]), ValueError, "numbers from 0 to 1"),
        (lambda: metrics.Precision(top_k=3)(np.eye(2), np.eye(2)), ValueError, "top_k: got 3"),
        (lambda: metrics.Recall(class_id=2)(np.eye(2), np.eye(2)), ValueError, "class_id=2"),
        (lambda: metrics.AUC(num_thresholds=1), ValueError, "num_thresholds=1"),
        (lambda: metrics.AUC(curve="X"), ValueError, "curve='X'"),
        (lambda: metrics.AUC(summation_method="X"), ValueError, "summation_method='X'"),
        (
            lambda: metrics.AUC(multi_label=True)(np.zeros(3), np.zeros(3)),
            ValueError,
            r"expected \(N, L\)",
        ),
        (lambda: metrics.RecallAtPrecision(2.0), ValueError, "precision=2.0"),
        (lambda: metrics.RecallAtPrecision(0.5, 0), ValueError, "num_thresholds=0"),
        (lambda: metrics.F1Score("mean"), ValueError, "average='mean'"),
        (lambda: metrics.F1Score(threshold=2.0), ValueError, "threshold=2.0"),
        (lambda: metrics.FBetaScore(beta=0), ValueError, "beta=0"),
        (lambda: metrics.F1Score()(np.zeros(3), np.zeros(3)), ValueError, "samples, classes"),
        (lambda: metrics.R2Score("mean"), ValueError, "class_aggregation='mean'"),
        (lambda: metrics.R2Score(num_regressors=-1), ValueError, "num_regressors=-1"),
        (
            lambda: metrics.R2Score()(np.zeros((3, 1, 1)), np.zeros((3, 1, 1))),
            ValueError,
            "samples, outputs",
        ),
        (lambda: metrics.IoU(2, [2]), ValueError, "classes below num_classes=2"),
        (lambda: metrics.MeanIoU(2)([0, 2], [0, 1]), ValueError, "got labels from 0 to 2"),
        (lambda: metrics.MeanIoU(2)([0, 1], [0]), ValueError, "2 labels and 1 predictions"),
    ],
)
def test_errors_say_what_to_do(call, error, message):
    with pytest.raises(error, match=message):
        call()
