"""Initializers: Keras' distributions and configurations; seeds."""

import json
import os

import numpy as np
import pytest

from minitorch_ciml import Tensor
from minitorch_ciml.keras import initializers, utils
from minitorch_ciml.keras.serialization import deserialize_keras_object, serialize_keras_object
from minitorch_ciml.ops.random import SeedGenerator

os.environ.setdefault("KERAS_BACKEND", "torch")
pytest.importorskip("torch", reason="the peer PyTorch is not installed")
keras = pytest.importorskip("keras", reason="the peer Keras is not installed")

# (class, other arguments than the defaults)
CASES = {
    "Zeros": {},
    "Ones": {},
    "Constant": {"value": 3.0},
    "Identity": {"gain": 2.0},
    "RandomNormal": {"mean": 1.0, "stddev": 2.0, "seed": 1},
    "RandomUniform": {"minval": -1.0, "maxval": 3.0, "seed": 1},
    "TruncatedNormal": {"mean": 1.0, "stddev": 2.0, "seed": 1},
    "VarianceScaling": {"scale": 2.0, "mode": "fan_out", "distribution": "uniform", "seed": 1},
    "GlorotNormal": {"seed": 1},
    "GlorotUniform": {"seed": 1, "input_axes": [0], "output_axes": [1, 2]},
    "HeNormal": {"seed": 1},
    "HeUniform": {"seed": 1},
    "LecunNormal": {"seed": 1},
    "LecunUniform": {"seed": 1},
    "Orthogonal": {"gain": 2.0, "seed": 1},
}
RANDOM = [name for name in CASES if name not in ("Zeros", "Ones", "Constant", "Identity")]


def exported():
    return {
        item.__name__
        for name in dir(initializers)
        if isinstance(item := getattr(initializers, name), type)
        and issubclass(item, initializers.Initializer)
        and not name.startswith("_")
    }


def test_every_initializer_is_in_the_contract():
    elsewhere = {"Initializer", "RandomInitializer", "STFT"}  # STFT: see test_keras_sound
    assert exported() - elsewhere == set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_configurations_are_keras(name):
    default = serialize_keras_object(getattr(initializers, name)())
    assert default == keras.saving.serialize_keras_object(getattr(keras.initializers, name)())

    init = getattr(initializers, name)(**CASES[name])
    config = json.loads(json.dumps(serialize_keras_object(init)))
    again = deserialize_keras_object(config)
    assert type(again) is type(init)
    assert serialize_keras_object(again) == config
    theirs = keras.saving.deserialize_keras_object(config)
    assert type(theirs).__name__ == name
    shape = (4, 4) if name in ("Identity", "Orthogonal") else (4, 3, 2)
    np.testing.assert_array_equal(again(shape).numpy(), init(shape).numpy())
    assert serialize_keras_object(init.clone()) == config
    if name not in RANDOM:
        np.testing.assert_allclose(init(shape).numpy(), np.asarray(theirs(shape)))


@pytest.mark.parametrize("shape", [(2, 3), ()])
@pytest.mark.parametrize("dtype", [None, "float64", "float16"])
def test_results_are_tensors_of_the_shape_and_dtype(shape, dtype):
    for name in CASES:
        if name in ("Identity", "Orthogonal") and not shape:
            continue
        x = getattr(initializers, name)()(shape, dtype=dtype)
        assert isinstance(x, Tensor)
        assert x.shape == shape
        assert x.dtype == (dtype or "float32"), name


@pytest.mark.parametrize(
    "name, kwargs, shape",
    [
        ("RandomNormal", {"mean": 1.0, "stddev": 2.0}, (200, 300)),
        ("RandomUniform", {"minval": -1.0, "maxval": 3.0}, (200, 300)),
        ("TruncatedNormal", {"mean": 1.0, "stddev": 2.0}, (200, 300)),
        ("VarianceScaling", {}, (200, 300)),
        ("VarianceScaling", {"distribution": "untruncated_normal", "scale": 3.0}, (200, 300)),
        ("VarianceScaling", {"mode": "fan_out", "distribution": "uniform"}, (3, 3, 50, 100)),
        ("GlorotNormal", {}, (3, 3, 50, 100)),
        ("GlorotUniform", {}, (200, 300)),
        ("GlorotUniform", {"input_axes": [0], "output_axes": [1, 2]}, (50, 30, 40)),
        ("HeNormal", {}, (5, 100, 120)),
        ("HeUniform", {}, (60000,)),
        ("LecunNormal", {}, (200, 300)),
        ("LecunUniform", {}, (200, 300)),
        ("Orthogonal", {}, (200, 300)),
    ],
)
def test_moments_and_extremes_are_keras(name, kwargs, shape):
    ours = getattr(initializers, name)(seed=3, **kwargs)(shape, "float64").numpy()
    theirs = np.asarray(getattr(keras.initializers, name)(seed=4, **kwargs)(shape))
    std, n = theirs.std(), theirs.size
    assert abs(ours.mean() - theirs.mean()) < 6 * std * (2 / n) ** 0.5
    np.testing.assert_allclose(ours.std(), std, rtol=6 * n**-0.5)
    centred = abs(ours - ours.mean()) / std, abs(theirs - theirs.mean()) / std
    np.testing.assert_allclose((centred[0] ** 4).mean(), (centred[1] ** 4).mean(), rtol=0.1)
    bounded = name in ("RandomUniform", "TruncatedNormal", "GlorotUniform", "HeNormal")
    if bounded:  # the support ends at the same place
        np.testing.assert_allclose(abs(ours).max(), abs(theirs).max(), rtol=0.01)


@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (4, 4), (2, 3, 4)])
def test_orthogonal(shape):
    q = initializers.Orthogonal(gain=2.0, seed=1)(shape, "float64").numpy().reshape(-1, shape[-1])
    small = q.T @ q if q.shape[0] >= q.shape[1] else q @ q.T
    np.testing.assert_allclose(small, 4 * np.eye(len(small)), atol=1e-12)


def test_orthogonal_prefers_no_direction():
    init = initializers.Orthogonal(seed=SeedGenerator(1))
    entries = np.array([init((2, 2)).numpy() for _ in range(400)])
    assert (abs(entries.mean(0)) < 6 * 0.5**0.5 / 20).all()


@pytest.mark.parametrize(
    "shape, fans",
    [((), (1, 1)), ((7,), (7, 7)), ((5, 4), (5, 4)), ((3, 3, 4, 8), (36, 72)), ((0, 4), (0, 4))],
)
def test_fans(shape, fans):
    assert initializers.compute_fans(shape) == fans
    initializers.GlorotUniform()(shape)


@pytest.mark.parametrize("name", RANDOM)
def test_seeds(name):
    cls, shape = getattr(initializers, name), (4, 6)
    seeded = cls(seed=7)
    np.testing.assert_array_equal(seeded(shape).numpy(), seeded(shape).numpy())
    np.testing.assert_array_equal(seeded(shape).numpy(), cls(seed=7)(shape).numpy())
    assert (seeded(shape).numpy() != cls(seed=8)(shape).numpy()).any()

    drawing = cls(seed=SeedGenerator(7))
    first, second = drawing(shape).numpy(), drawing(shape).numpy()
    assert (first != second).any()
    np.testing.assert_array_equal(cls(seed=SeedGenerator(7))(shape).numpy(), first)

    free = cls()
    utils.set_random_seed(3)
    first, second = free(shape).numpy(), free(shape).numpy()
    assert (first != second).any()
    utils.set_random_seed(3)
    np.testing.assert_array_equal(free(shape).numpy(), first)


def test_a_seed_generator_travels_in_a_configuration():
    config = serialize_keras_object(initializers.HeNormal(seed=SeedGenerator(3)))
    seed = config["config"]["seed"]
    assert (seed["module"], seed["class_name"]) == ("keras.random", "SeedGenerator")
    assert keras.saving.deserialize_keras_object(config).seed.get_config()["seed"] == 3
    theirs = keras.initializers.HeNormal(seed=keras.random.SeedGenerator(3))
    again = deserialize_keras_object(keras.saving.serialize_keras_object(theirs))
    assert again.seed.seed == 3


@pytest.mark.parametrize(
    "name",
    ["zeros", "zero", "ones", "one", "normal", "uniform", "random_normal", "he_normal",
     "glorot_uniform", "lecun_normal", "truncated_normal", "variance_scaling", "orthogonal",
     "identity", "IdentityInitializer", "OrthogonalInitializer", "GlorotNormal"],
)  # fmt: skip
def test_names_mean_what_they_mean_in_keras(name):
    assert type(initializers.get(name)).__name__ == type(keras.initializers.get(name)).__name__


def test_get_takes_arrays_functions_and_objects():
    assert initializers.get(None) is None
    np.testing.assert_array_equal(initializers.get(np.arange(3.0))((3,)).numpy(), [0, 1, 2])
    init = initializers.he_normal(seed=1)
    assert initializers.get(init) is init
    assert initializers.get(np.zeros) is np.zeros
    assert isinstance(initializers.get(initializers.Ones), initializers.Ones)
    again = initializers.deserialize(initializers.serialize(init))
    assert isinstance(again, initializers.HeNormal)
    np.testing.assert_array_equal(initializers.Constant([1.0, 2.0])((3, 2)).numpy()[2], [1, 2])


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: initializers.get("glorot"), ValueError, "unknown initializer 'glorot'"),
        (lambda: initializers.get(3), TypeError, "initializer: got 3"),
        (lambda: initializers.Initializer()((2,)), NotImplementedError, "has no __call__"),
        (lambda: initializers.Identity()((2, 3, 4)), ValueError, r"expected a matrix's \(m, n\)"),
        (lambda: initializers.Orthogonal()((4,)), ValueError, "two axes or more"),
        (lambda: initializers.RandomNormal(seed="a"), ValueError, "got seed='a'"),
        (lambda: initializers.VarianceScaling(scale=0), ValueError, "scale=0"),
        (lambda: initializers.VarianceScaling(mode="in"), ValueError, "mode='in'"),
        (lambda: initializers.VarianceScaling(distribution="x"), ValueError, "distribution='x'"),
        (lambda: initializers.HeNormal(input_axes=[0]), ValueError, "give both"),
    ],
)
def test_errors_say_what_to_do(call, error, message):
    with pytest.raises(error, match=message):
        call()
