"""Losses: Keras' numbers and gradients, its reductions and weights, its configurations."""

import os

import numpy as np
import pytest

from minitorch_ciml import Tensor, ops
from minitorch_ciml.keras import losses
from minitorch_ciml.keras.losses.base import reduce_weighted_values
from minitorch_ciml.keras.serialization import deserialize_keras_object, serialize_keras_object

os.environ.setdefault("KERAS_BACKEND", "torch")
torch = pytest.importorskip("torch", reason="the peer PyTorch is not installed")
keras = pytest.importorskip("keras", reason="the peer Keras is not installed")

RNG = np.random.default_rng(5)
N, C = 6, 4


def reals(*shape):
    return RNG.normal(size=shape).astype("float32")


def positive(*shape):
    return RNG.uniform(0.1, 2, shape).astype("float32")


def probabilities(*shape):
    p = RNG.uniform(0.05, 1, shape)
    return (p / p.sum(-1, keepdims=True)).astype("float32")


def bits(*shape):
    return RNG.integers(0, 2, shape).astype("float32")


def one_hot(n=N, c=C):
    return np.eye(c, dtype="float32")[RNG.integers(0, c, n)]


def shares(*shape):
    return RNG.uniform(0.05, 0.95, shape).astype("float32")


def unit(*shape):
    x = reals(*shape)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


# (class, arguments, targets, predictions)
CASES = [
    ("MeanSquaredError", {}, reals(N, C), reals(N, C)),
    ("MeanAbsoluteError", {}, reals(N, C), reals(N, C)),
    ("MeanAbsolutePercentageError", {}, reals(N, C), reals(N, C)),
    ("MeanSquaredLogarithmicError", {}, positive(N, C), positive(N, C)),
    ("CosineSimilarity", {}, reals(N, C), reals(N, C)),
    ("CosineSimilarity", {"axis": 1}, reals(N, 3, C), reals(N, 3, C)),
    ("Huber", {}, reals(N, C), 2 * reals(N, C)),
    ("Huber", {"delta": 0.3}, reals(N, C), reals(N, C)),
    ("LogCosh", {}, reals(N, C), 30 * reals(N, C)),
    ("Poisson", {}, positive(N, C), positive(N, C)),
    ("Hinge", {}, bits(N, C), reals(N, C)),
    ("Hinge", {}, 2 * bits(N, C) - 1, reals(N, C)),
    ("SquaredHinge", {}, bits(N, C), reals(N, C)),
    ("CategoricalHinge", {}, one_hot(), reals(N, C)),
    ("KLDivergence", {}, probabilities(N, C), probabilities(N, C)),
    ("BinaryCrossentropy", {}, bits(N, C), shares(N, C)),
    ("BinaryCrossentropy", {"from_logits": True, "label_smoothing": 0.2}, bits(N, C), reals(N, C)),
    ("BinaryCrossentropy", {"axis": 1}, bits(N, 3, C), shares(N, 3, C)),
    ("BinaryFocalCrossentropy", {}, bits(N, C), shares(N, C)),
    (
        "BinaryFocalCrossentropy",
        {"apply_class_balancing": True, "alpha": 0.3, "gamma": 1.5, "label_smoothing": 0.1},
        bits(N, C),
        shares(N, C),
    ),
    ("BinaryFocalCrossentropy", {"from_logits": True}, bits(N, C), reals(N, C)),
    ("CategoricalCrossentropy", {}, one_hot(), probabilities(N, C)),
    ("CategoricalCrossentropy", {}, one_hot(), shares(N, C)),  # normalised first
    ("CategoricalCrossentropy", {"from_logits": True}, one_hot(), reals(N, C)),
    ("CategoricalCrossentropy", {"label_smoothing": 0.3}, one_hot(), probabilities(N, C)),
    ("CategoricalFocalCrossentropy", {}, one_hot(), shares(N, C)),
    (
        "CategoricalFocalCrossentropy",
        {"from_logits": True, "alpha": 0.5, "gamma": 1.0, "label_smoothing": 0.1},
        one_hot(),
        reals(N, C),
    ),
    ("SparseCategoricalCrossentropy", {}, RNG.integers(0, C, N), probabilities(N, C)),
    ("SparseCategoricalCrossentropy", {}, RNG.integers(0, C, (N, 1)), probabilities(N, C)),
    ("SparseCategoricalCrossentropy", {}, RNG.integers(0, C, (N, 5)), probabilities(N, 5, C)),
    ("SparseCategoricalCrossentropy", {"from_logits": True}, bits(N), reals(N, C)),
    (
        "SparseCategoricalCrossentropy",
        {"from_logits": True, "ignore_class": 2},
        np.array([2, 0, 1, 2, 3, 1]),
        reals(N, C),
    ),
    ("CategoricalGeneralizedCrossEntropy", {"q": 0.7}, RNG.integers(0, C, N), probabilities(N, C)),
    ("Dice", {}, bits(N, C), shares(N, C)),
    ("Dice", {"axis": (1,)}, bits(N, C), shares(N, C)),
    ("Tversky", {"alpha": 0.3, "beta": 0.6}, bits(N, C), shares(N, C)),
    ("Circle", {}, np.array([0, 1, 0, 2, 1, 1]), unit(6, 3)),
    (
        "Circle",
        {"gamma": 5.0, "margin": 0.2, "remove_diagonal": False},
        np.array([[0], [1], [0], [2], [1]]),
        unit(5, 3),
    ),
    ("CTC", {}, np.sort(RNG.integers(0, C, (N, 3)))[:, ::-1].copy(), reals(N, 7, C)),
]
IDS = [f"{i}-{case[0]}" for i, case in enumerate(CASES)]


@pytest.mark.parametrize("reduction", ["none", "sum_over_batch_size"])
@pytest.mark.parametrize("name, kwargs, y_true, y_pred", CASES, ids=IDS)
def test_values_and_gradients_are_keras(name, kwargs, y_true, y_pred, reduction):
    theirs_in = torch.tensor(y_pred, requires_grad=True)
    theirs = getattr(keras.losses, name)(reduction=reduction, **kwargs)(y_true, theirs_in)
    theirs.sum().backward()

    x = Tensor(y_pred, requires_grad=True)
    ours = getattr(losses, name)(reduction=reduction, **kwargs)(y_true, x)
    ours.sum().backward()
    assert ours.dtype == np.float32
    assert ours.shape == tuple(theirs.shape)
    np.testing.assert_allclose(ours.numpy(), theirs.detach().numpy(), rtol=2e-5, atol=2e-6)
    np.testing.assert_allclose(x.grad.numpy(), theirs_in.grad.numpy(), rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("name", sorted(losses.FUNCTIONS))
def test_functions_are_what_the_classes_reduce(name):
    class_name = {
        "kl_divergence": "KLDivergence",
        "ctc": "CTC",
        "categorical_generalized_cross_entropy": "CategoricalGeneralizedCrossEntropy",
    }.get(name, name.title().replace("_", ""))
    case = next(c for c in CASES if c[0] == class_name)
    cls, kwargs, y_true, y_pred = case
    values = getattr(losses, name)(y_true, y_pred, **kwargs)
    loss = getattr(losses, cls)(reduction=None, **kwargs)
    np.testing.assert_array_equal(values.numpy(), loss(y_true, y_pred).numpy())


VALUES = RNG.normal(size=(4, 3)).astype("float32")
WEIGHTS = {
    "none": None,
    "number": 2.0,
    "samples": np.array([1.0, 2, 0, 4]),
    "column": np.array([[1.0], [2], [3], [4]]),
}


@pytest.mark.parametrize(
    "reduction", ["sum", "sum_over_batch_size", "mean", "mean_with_sample_weight", "none", None]
)
@pytest.mark.parametrize("weight", list(WEIGHTS.values()), ids=list(WEIGHTS))
@pytest.mark.parametrize("steps", [False, True])
def test_reductions_weigh_as_keras(reduction, weight, steps):
    values = VALUES if steps else VALUES[:, 0]
    ours = reduce_weighted_values(values, weight, reduction=reduction)
    their_weight = weight
    if steps and np.ndim(weight) == 1:
        their_weight = weight[:, None]  # Keras would raise; here axes are matched from the left
    theirs = keras.src.losses.loss.reduce_weighted_values(values, their_weight, reduction=reduction)
    np.testing.assert_allclose(ours.numpy(), np.asarray(theirs).reshape(ours.shape), rtol=1e-5)


@pytest.mark.parametrize("reduction", ["sum", "sum_over_batch_size", "mean_with_sample_weight"])
@pytest.mark.parametrize("weight", [None, np.array([1.0, 2, 3, 4])])
def test_masks_leave_values_out_of_the_mean(reduction, weight):
    mask = np.array([True, False, True, True])
    ours = reduce_weighted_values(VALUES[:, 0], weight, mask, reduction)
    theirs = keras.src.losses.loss.reduce_weighted_values(
        VALUES[:, 0], weight, torch.tensor(mask), reduction
    )
    np.testing.assert_allclose(ours.numpy(), np.asarray(theirs), rtol=1e-5)


def test_a_mask_of_steps_joins_weights_of_samples():
    mask = VALUES > 0
    weight = np.array([1.0, 2, 3, 4])
    ours = losses.MeanAbsoluteError()(np.zeros((4, 3, 1)), VALUES[..., None], weight, mask)
    expected = (abs(VALUES) * mask * weight[:, None]).sum() / mask.sum()
    np.testing.assert_allclose(ours.item(), expected, rtol=1e-6)


@pytest.mark.parametrize(
    "weight, expected",
    [(None, 2 / 3), ([1.0, 2.0, 3.0, 4.0], 5 / 3)],
    ids=["plain", "weighted"],
)
def test_ignored_classes_do_not_count(weight, expected):
    labels = np.array([0, 1, 2, 0])
    y_pred = np.full((4, 3), 1 / 3, dtype="float32")
    weight = None if weight is None else np.array(weight)
    ours = losses.SparseCategoricalCrossentropy(ignore_class=0)(labels, y_pred, weight)
    theirs = keras.losses.SparseCategoricalCrossentropy(ignore_class=0)(labels, y_pred, weight)
    np.testing.assert_allclose(ours.item(), float(theirs), rtol=1e-6)


@pytest.mark.parametrize("shapes", [((4,), (4, 1)), ((4, 1), (4,)), ((4, 2, 1), (4, 2))])
def test_a_last_axis_of_one_makes_no_difference(shapes):
    t, p = reals(*shapes[0]), reals(*shapes[1])
    ours = losses.MeanSquaredError(reduction="none")(t, p)
    theirs = keras.losses.MeanSquaredError(reduction="none")(t, p)
    np.testing.assert_allclose(ours.numpy(), np.asarray(theirs), rtol=1e-6)


def test_a_loss_is_computed_in_its_own_dtype():
    wide, y_pred = np.ones((3, 2)), np.ones((3, 2), dtype="float32")
    for dtype in ("int64", "float64", "uint8", "bool"):
        assert losses.MeanSquaredError()(np.ones((3, 2), dtype), y_pred).dtype == np.float32
    for weight in (None, np.arange(3.0), np.arange(3)):
        for reduction in ("sum_over_batch_size", None):
            given = [kind.MeanSquaredError(reduction=reduction)(wide, wide, sample_weight=weight)
                     for kind in (losses, keras.losses)]  # fmt: skip
            assert given[0].dtype == np.float32 and given[1].dtype == torch.float32
    assert losses.MeanSquaredError(dtype="float64")(y_pred, y_pred).dtype == np.float64
    assert losses.MeanSquaredError()([[1, 2]], [[1, 4]]).item() == 2.0


def test_gradients_also_reach_the_targets():
    t = Tensor(reals(3, 2), requires_grad=True)
    losses.MeanSquaredError(reduction="sum")(t, np.zeros((3, 2), "float32")).backward()
    np.testing.assert_allclose(t.grad.numpy(), t.numpy(), rtol=1e-6)


def test_users_write_losses():
    class SumOfSquares(losses.Loss):
        def call(self, y_true, y_pred):
            return ops.sum(ops.square(y_true - y_pred), axis=-1)

    t, p = reals(N, C), reals(N, C)
    loss = SumOfSquares(reduction="sum")
    assert loss.name == "sum_of_squares"
    np.testing.assert_allclose(loss(t, p).item(), ((t - p) ** 2).sum(), rtol=1e-5)

    def absolute(y_true, y_pred):
        return ops.mean(ops.absolute(y_true - y_pred), axis=-1)

    resolved = losses.resolve(absolute)
    assert resolved.name == "absolute"
    weight = np.arange(N, dtype="float32")
    expected = (abs(t - p).mean(-1) * weight).mean()
    np.testing.assert_allclose(resolved(t, p, weight).item(), expected, rtol=1e-5)


def test_a_loss_of_several_predictions_gets_them_as_tensors():
    class Both(losses.Loss):
        def call(self, y_true, y_pred):
            return ops.square(y_pred["a"] - y_true["a"]) + ops.square(y_pred["b"] - y_true["b"])

    data = {"a": np.ones(3, "float32"), "b": np.zeros(3, "float32")}
    assert Both()({"a": np.zeros(3), "b": np.zeros(3)}, data).item() == 1.0


def test_an_empty_batch_has_loss_zero():
    for reduction in ("sum", "sum_over_batch_size", "mean_with_sample_weight"):
        loss = losses.MeanSquaredError(reduction)
        assert loss(np.zeros((0, 2)), np.zeros((0, 2), "float32")).item() == 0.0
        assert loss(np.zeros((0, 2)), np.zeros((0, 2), "float32"), np.zeros(0)).item() == 0.0


@pytest.mark.parametrize(
    "name",
    ["mse", "MSE", "mae", "mape", "msle", "bce", "kld", "mean_squared_error", "huber", "log_cosh",
     "cosine_similarity", "sparse_categorical_crossentropy", "categorical_crossentropy"],
)  # fmt: skip
def test_names_mean_what_they_mean_in_keras(name):
    assert losses.get(name).__name__ == keras.losses.get(name).__name__
    resolved = losses.resolve(name)
    assert isinstance(resolved, losses.Loss) and type(resolved).fn is losses.get(name)


def test_get_takes_objects_classes_and_configurations():
    assert losses.get(None) is None and losses.resolve(None) is None
    loss = losses.Huber(2.0)
    assert losses.get(loss) is loss
    assert isinstance(losses.get("MeanSquaredError"), losses.MeanSquaredError)
    assert losses.get(losses.serialize(loss)).delta == 2.0
    assert losses.deserialize("mse") is losses.mean_squared_error
    assert losses.get(losses.serialize(losses.mean_squared_error)) is losses.mean_squared_error


CLASSES = sorted(
    {case[0]: case[1] for case in CASES}.items(), key=lambda item: item[0]
)  # the last arguments of each class


@pytest.mark.parametrize("name, kwargs", CLASSES, ids=[name for name, _ in CLASSES])
def test_configurations_are_keras(name, kwargs):
    default = serialize_keras_object(getattr(losses, name)())
    assert default == keras.saving.serialize_keras_object(getattr(keras.losses, name)())

    loss = getattr(losses, name)(reduction="sum", name="x", **kwargs)
    config = serialize_keras_object(loss)
    again = deserialize_keras_object(config)
    assert type(again) is type(loss)
    assert serialize_keras_object(again) == config
    theirs = keras.saving.deserialize_keras_object(config)
    y_true, y_pred = next(c[2:] for c in CASES[::-1] if c[0] == name)
    np.testing.assert_allclose(again(y_true, y_pred).item(), float(theirs(y_true, y_pred)), 1e-4)


def test_every_loss_is_in_the_contract():
    exported = {
        name
        for name in losses.__all__
        if isinstance(getattr(losses, name), type)
        and issubclass(getattr(losses, name), losses.Loss)
    }
    assert exported - {"Loss"} == {name for name, _ in CLASSES}


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: losses.get("mze"), ValueError, "unknown loss 'mze'; did you mean 'mse'"),
        (lambda: losses.get(3), TypeError, "loss: got 3"),
        (lambda: losses.MeanSquaredError("avg"), ValueError, "reduction: got 'avg'"),
        (lambda: losses.Loss()([1.0], [1.0]), NotImplementedError, "Loss has no call"),
        (
            lambda: losses.mean_squared_error(np.zeros((4, 2)), np.zeros((4, 3))),
            ValueError,
            r"mean_squared_error: y_true has shape \(4, 2\) and y_pred \(4, 3\)",
        ),
        (
            lambda: losses.mean_squared_error(np.zeros((4, 1)), np.zeros((4, 3))),
            ValueError,
            "must be equal",
        ),
        (
            lambda: losses.categorical_crossentropy(np.zeros(4), np.ones((4, 3))),
            ValueError,
            "to_categorical",
        ),
        (
            lambda: losses.sparse_categorical_crossentropy(np.array([0, 3]), np.ones((2, 3))),
            ValueError,
            "3",
        ),
        (
            lambda: losses.sparse_categorical_crossentropy(np.zeros(3), np.ones((2, 3))),
            ValueError,
            "target has shape",
        ),
        (
            lambda: losses.MeanSquaredError()(np.zeros((4, 2)), np.zeros((4, 2)), np.ones(3)),
            ValueError,
            r"sample_weight: got shape \(3,\) for losses of shape \(4,\)",
        ),
        (lambda: losses.CategoricalGeneralizedCrossEntropy(q=0), ValueError, "got q=0"),
    ],
)
def test_errors_say_what_to_do(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "sum", "mean_with_sample_weight"])
def test_weights_of_predictions_without_an_axis_for_outputs(reduction):
    """Of (N,) and (N,) the loss is one number; with weights (N,) it is one for each."""
    rng = np.random.default_rng(0)
    y_true, y_pred, weight = rng.random((3, 8)).astype("float32")
    ours, theirs = (
        module.MeanSquaredError(reduction=reduction)(y_true, y_pred, sample_weight=weight)
        for module in (losses, keras.losses)
    )
    assert float(ours) == pytest.approx(float(theirs), rel=1e-5)
