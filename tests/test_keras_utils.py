"""Utils, regularizers, constraints and activations."""

import os
import random

import numpy as np
import pytest

from minitorch_ciml import Tensor, ops
from minitorch_ciml.keras import activations, constraints, regularizers, utils
from minitorch_ciml.keras.serialization import deserialize_keras_object, serialize_keras_object

os.environ.setdefault("KERAS_BACKEND", "torch")
torch = pytest.importorskip("torch", reason="the peer PyTorch is not installed")
keras = pytest.importorskip("keras", reason="the peer Keras is not installed")

RNG = np.random.default_rng(2)
X = RNG.normal(size=(4, 3)).astype("float32")

# --- regularizers and constraints: (class, arguments) -------------------------------------------

REGULARIZERS = [
    ("L1", {"l1": 0.3}),
    ("L2", {"l2": 0.3}),
    ("L1L2", {"l1": 0.1, "l2": 0.2}),
    ("L1L2", {"l2": 0.2}),
    ("L1L2", {}),
    ("OrthogonalRegularizer", {"factor": 0.5}),
    ("OrthogonalRegularizer", {"factor": 0.5, "mode": "columns"}),
]
CONSTRAINTS = [
    ("MaxNorm", {"max_value": 1.5}),
    ("MaxNorm", {"max_value": 1, "axis": [0, 1]}),
    ("NonNeg", {}),
    ("UnitNorm", {}),
    ("UnitNorm", {"axis": 1}),
    ("MinMaxNorm", {"min_value": 0.5, "max_value": 1.0, "rate": 0.3}),
    ("MinMaxNorm", {}),
]


def same_numbers(ours, theirs):
    """Keras keeps some factors in float32."""
    assert ours.keys() == theirs.keys()
    for key in ours:
        if isinstance(ours[key], float):
            assert ours[key] == pytest.approx(theirs[key], rel=1e-6)
        else:
            assert ours[key] == theirs[key]


def check_contract(module, name, kwargs):
    ours = serialize_keras_object(getattr(module, name)())
    short = module.__name__.rpartition(".")[2]
    theirs = keras.saving.serialize_keras_object(getattr(getattr(keras, short), name)())
    same_numbers(ours.pop("config"), theirs.pop("config"))
    assert ours == theirs

    item = getattr(module, name)(**kwargs)
    config = module.serialize(item)
    again = module.deserialize(config)
    assert type(again) is type(item)
    assert serialize_keras_object(again) == config
    loaded = keras.saving.deserialize_keras_object(config)
    expected = np.asarray(loaded(torch.tensor(X)))
    for mine in (item, again):
        np.testing.assert_allclose(mine(X).numpy(), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name, kwargs", REGULARIZERS)
def test_regularizers_are_keras(name, kwargs):
    check_contract(regularizers, name, kwargs)
    theirs_in = torch.tensor(X, requires_grad=True)
    theirs = getattr(keras.regularizers, name)(**kwargs)(theirs_in)
    x = Tensor(X, requires_grad=True)
    ours = getattr(regularizers, name)(**kwargs)(x)
    assert ours.shape == () and ours.dtype == np.float32
    if kwargs:
        theirs.backward()
        ours.backward()
        np.testing.assert_allclose(x.grad.numpy(), theirs_in.grad.numpy(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name, kwargs", CONSTRAINTS)
def test_constraints_are_keras(name, kwargs):
    check_contract(constraints, name, kwargs)
    w = Tensor(X, requires_grad=True)
    assert not getattr(constraints, name)(**kwargs)(w).requires_grad
    np.testing.assert_array_equal(w.numpy(), X)


def test_every_regularizer_and_constraint_is_in_the_contract():
    for module, base, cases in (
        (regularizers, regularizers.Regularizer, REGULARIZERS),
        (constraints, constraints.Constraint, CONSTRAINTS),
    ):
        found = {
            item.__name__
            for item in vars(module).values()
            if isinstance(item, type) and issubclass(item, base) and item is not base
        }
        assert found == {name for name, _ in cases}


def test_names_of_regularizers_and_constraints():
    assert regularizers.get("l2").l2 == 0.01 and regularizers.get("l1").l1 == 0.01
    assert isinstance(regularizers.get("l1_l2"), regularizers.L1L2)
    assert isinstance(regularizers.get("l1l2"), regularizers.L1L2)
    assert regularizers.l2(0.3).l2 == 0.3 and regularizers.l1_l2(0.1, 0.2).l2 == 0.2
    assert regularizers.get(None) is None and constraints.get(None) is None
    for name in ("max_norm", "non_neg", "unit_norm", "min_max_norm", "MaxNorm"):
        expected = type(keras.constraints.get(name)).__name__
        assert type(constraints.get(name)).__name__ == expected
    assert constraints.max_norm(3).max_value == 3


def test_zero_vectors_stay_zero():
    for constraint in (constraints.MaxNorm(), constraints.UnitNorm(), constraints.MinMaxNorm(0.5)):
        np.testing.assert_array_equal(constraint(np.zeros((2, 2), "float32")).numpy(), 0)
    x = Tensor(np.zeros((2, 2), "float32"), requires_grad=True)
    regularizers.OrthogonalRegularizer()(x).backward()
    assert np.isfinite(x.grad.numpy()).all()


# --- activations --------------------------------------------------------------------------------

NAMES = [fn.__name__ for fn in activations.FUNCTIONS]
ARGUMENTS = {
    "threshold": [{"threshold": 0.3, "default_value": -1.0}],
    "relu": [{}, {"negative_slope": 0.2}, {"max_value": 1.0}, {"threshold": 0.5},
             {"negative_slope": 0.1, "max_value": 0.8, "threshold": 0.3}],
    "gelu": [{}, {"approximate": True}],
    "elu": [{}, {"alpha": 0.5}],
    "softmax": [{}, {"axis": 0}],
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_activations_are_keras(name):
    if name == "sparsemax":  # Keras' is wrong on PyTorch: its results do not sum to 1
        np.testing.assert_allclose(activations.sparsemax(X).numpy().sum(-1), 1, rtol=1e-6)
        return
    x = np.linspace(-4, 4, 24).reshape(4, 6).astype("float32")
    for kwargs in ARGUMENTS.get(name, [{}]):
        ours = np.asarray(getattr(activations, name)(x, **kwargs))
        theirs = np.asarray(getattr(keras.activations, name)(torch.tensor(x), **kwargs))
        np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=1e-6)


def test_every_activation_of_keras_is_there():
    theirs = {name for name in dir(keras.activations) if not name.startswith("_")}
    assert theirs <= set(activations.__all__)


@pytest.mark.parametrize("name", NAMES)
def test_activations_are_written_as_their_names(name):
    function = activations.get(name)
    assert activations.serialize(function) == serialize_keras_object(function) == name
    assert activations.deserialize(name) is function
    if name != "threshold":  # needs arguments
        assert keras.activations.serialize(keras.activations.get(name)) == name


def test_activations_get():
    assert activations.get(None) is activations.linear
    assert activations.get("swish") is activations.silu
    assert activations.get("hard_swish") is activations.hard_silu
    assert activations.get(np.tanh) is np.tanh


def test_relu_is_fused_however_it_is_given():
    x, w = Tensor(X, requires_grad=True), Tensor(RNG.normal(size=(3, 2)).astype("float32"))
    b = np.zeros(2, "float32")
    for relu in ("relu", activations.relu, activations.get("relu"), ops.relu):
        assert ops.dense(x, w, b, relu).record.op.name == "dense"
    assert ops.dense(x, w, b, activations.linear).record.op.name == "dense"


# --- utils --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "labels, n",
    [([0, 2, 1], None), ([[0], [2]], None), ([[0, 1], [2, 1]], 4), ([0.0, 1.5], None), (2, None),
     ([], 3), ([[1]], 2), (np.array([1, 0], "uint8"), None)],
)  # fmt: skip
def test_to_categorical_is_keras(labels, n):
    ours, theirs = utils.to_categorical(labels, n), keras.utils.to_categorical(labels, n)
    assert ours.dtype == np.float32
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("axis, order", [(-1, 2), (0, 1), (1, 3)])
def test_normalize_is_keras(axis, order):
    np.testing.assert_allclose(
        utils.normalize(X, axis, order),
        keras.utils.normalize(torch.tensor(X), axis, order),  # Keras' NumPy path fails for axis 0
        rtol=1e-5,
    )
    np.testing.assert_array_equal(utils.normalize(np.zeros((2, 2), int)), 0)


@pytest.mark.parametrize("padding", ["pre", "post"])
@pytest.mark.parametrize("truncating", ["pre", "post"])
@pytest.mark.parametrize("maxlen", [None, 1, 3])
def test_pad_sequences_is_keras(padding, truncating, maxlen):
    for sequences in ([[1], [2, 3], [], [4, 5, 6, 7]], [np.ones((2, 2)), np.zeros((3, 2))]):
        kwargs = {"padding": padding, "truncating": truncating, "maxlen": maxlen, "value": -1}
        ours = utils.pad_sequences(sequences, **kwargs)
        theirs = keras.utils.pad_sequences(sequences, **kwargs)
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)


def test_set_random_seed_fixes_everything():
    def draws():
        utils.set_random_seed(5)
        legacy = np.random.rand()  # noqa: NPY002
        return random.random(), legacy, ops.random.uniform((3,)).tolist()

    assert draws() == draws()


def test_split_dataset():
    x, y = np.arange(10), np.arange(10) * 2
    left, right = utils.split_dataset(x, left_size=0.7)
    np.testing.assert_array_equal(np.concatenate([left, right]), x)
    assert len(left) == 7
    (lx, ly), (rx, ry) = utils.split_dataset((x, y), right_size=4, shuffle=True, seed=1)
    assert len(rx) == 4
    assert sorted([*lx, *rx]) == list(range(10)) and list(lx) != sorted(lx)
    np.testing.assert_array_equal(np.concatenate([ly, ry]), 2 * np.concatenate([lx, rx]))
    left, right = utils.split_dataset(x, 3, 2)
    assert (len(left), len(right)) == (3, 2)


def test_custom_objects():
    class Mine:
        def get_config(self):
            return {}

    before = dict(utils.get_custom_objects())  # other tests may have registered classes
    with utils.custom_object_scope({"Mine": Mine}):
        assert utils.get_custom_objects() == {**before, "Mine": Mine}
        config = {"module": None, "class_name": "Mine", "config": {}, "registered_name": "Mine"}
        assert isinstance(deserialize_keras_object(config), Mine)
    assert utils.get_custom_objects() == before


def test_small_helpers():
    assert utils.standardize_dtype(None) == "float32"
    assert utils.standardize_dtype(np.int8) == "int8"
    assert not utils.is_keras_tensor(X)
    assert utils.pack_x_y_sample_weight(1) == keras.utils.pack_x_y_sample_weight(1) == 1
    assert utils.pack_x_y_sample_weight(1, 2) == (1, 2)
    assert utils.pack_x_y_sample_weight(1, 2, 3) == (1, 2, 3)
    for data in ((1,), (1, 2), (1, 2, 3)):
        ours = utils.unpack_x_y_sample_weight(data)
        assert ours == keras.utils.unpack_x_y_sample_weight(data)
    assert utils.unpack_x_y_sample_weight(1) == (1, None, None)


@pytest.mark.parametrize(
    "call, error, message",
    [
        (
            lambda: utils.to_categorical([0, 3], 3),
            ValueError,
            "labels from 0 to 3, expected 0 to 2",
        ),
        (lambda: utils.to_categorical([-1, 2]), ValueError, "labels from -1 to 2"),
        (lambda: utils.to_categorical([]), ValueError, "pass num_classes"),
        (lambda: utils.set_random_seed("a"), ValueError, "got 'a', expected an integer"),
        (lambda: utils.set_random_seed(-1), ValueError, "got -1"),
        (lambda: utils.pad_sequences([[1]], padding="left"), ValueError, "padding='left'"),
        (lambda: utils.pad_sequences([[1], [[1]]]), ValueError, "elements of shapes"),
        (lambda: utils.split_dataset(X), ValueError, "give left_size or right_size"),
        (lambda: utils.split_dataset(X, 9), ValueError, "but 4 samples"),
        (lambda: utils.split_dataset([X, X[:1]], 1), ValueError, r"got lengths \[4, 1\]"),
        (lambda: utils.unpack_x_y_sample_weight((1, 2, 3, 4)), ValueError, "got 4 items"),
        (lambda: regularizers.get("l3"), ValueError, "unknown regularizer 'l3'"),
        (lambda: regularizers.L2(-1.0), ValueError, "l2: got -1.0"),
        (lambda: regularizers.L1("a"), ValueError, "l1: got 'a'"),
        (lambda: regularizers.L1(float("nan")), ValueError, "finite"),
        (lambda: regularizers.OrthogonalRegularizer(mode="x"), ValueError, "mode='x'"),
        (lambda: regularizers.OrthogonalRegularizer()(X[0]), ValueError, "expected a matrix"),
        (lambda: regularizers.Regularizer()(X), NotImplementedError, "has no __call__"),
        (lambda: constraints.get("norm"), ValueError, "unknown constraint 'norm'"),
        (lambda: constraints.Constraint()(X), NotImplementedError, "has no __call__"),
        (lambda: activations.get("rellu"), ValueError, "did you mean 'relu'"),
        (lambda: activations.get(3), TypeError, "activation: got 3"),
    ],
)
def test_errors_say_what_to_do(call, error, message):
    with pytest.raises(error, match=message):
        call()
