"""Mixed precision against Keras 3, and the scale of the loss."""

import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("ml_dtypes")

import minitorch_ciml as mt
from minitorch_ciml import Tensor, keras, ops

RNG = np.random.default_rng(0)
L = keras.layers
POLICIES = ["mixed_bfloat16", "mixed_float16"]
PRECISION = {"mixed_bfloat16": 2.0**-8, "mixed_float16": 2.0**-11}


@pytest.fixture(autouse=True)
def float32_again():
    yield
    keras.config.set_dtype_policy("float32")


def build(k):
    layers = k.layers
    return k.Sequential([
        k.Input((6, 6, 2)), layers.Conv2D(4, 3, activation="relu"), layers.BatchNormalization(),
        layers.MaxPooling2D(2), layers.Flatten(), layers.Dense(5, activation="tanh"),
        layers.LayerNormalization(), layers.Dense(3),
        layers.Activation("softmax", dtype="float32"),
    ])  # fmt: skip


@pytest.mark.parametrize("policy", POLICIES)
def test_a_model_is_keras_model_to_rounding(policy):
    peer = pytest.importorskip("keras_peer").keras_peer
    x = RNG.normal(size=(8, 6, 6, 2)).astype("float32")
    y = RNG.integers(0, 3, 8)
    models = []
    for k in (keras, peer):
        k.config.set_dtype_policy(policy)
        model = build(k)
        model.compile(k.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
        models.append(model)
    peer.config.set_dtype_policy("float32")
    ours, theirs = models
    assert type(ours.optimizer).__name__ == type(theirs.optimizer).__name__
    theirs.set_weights(ours.get_weights())
    assert [str(w.dtype) for w in ours.weights] == ["float32"] * len(ours.weights)
    assert [layer.compute_dtype for layer in ours.layers] == [
        layer.compute_dtype for layer in theirs.layers
    ]
    room = 8 * PRECISION[policy]
    np.testing.assert_allclose(ours.predict(x, verbose=0), theirs.predict(x, verbose=0), room, room)
    before = ours.get_weights()
    losses = [float(model.train_on_batch(x, y)) for model in models]
    assert losses[0] == pytest.approx(losses[1], rel=room)
    for w, ours_now, theirs_now in zip(before, ours.get_weights(), theirs.get_weights()):
        moved = np.abs(theirs_now - w).max()
        np.testing.assert_allclose(ours_now - w, theirs_now - w, atol=room * max(moved, 0.01) * 4)


def test_a_layer_has_its_own_policy():
    dense = L.Dense(3, dtype="mixed_bfloat16")
    y = dense(Tensor(RNG.normal(size=(2, 4)).astype("float32")))
    assert (y.dtype.name, dense.kernel.dtype, dense.dtype) == ("bfloat16", "float32", "float32")
    assert L.Dense(3).compute_dtype == "float32"


def test_gradients_flow_through_bfloat16():
    x = Tensor(np.float32([1.0, 2.0, 3.0]), requires_grad=True)
    y = ops.sum(ops.cast(x, "bfloat16") ** 2)
    assert y.dtype.name == "bfloat16" and y.item() == 14.0
    y.backward()
    np.testing.assert_array_equal(x.grad.numpy(), np.float32([2, 4, 6]))
    assert x.grad.dtype == "float32"


def test_bfloat16_is_known_by_its_name():
    """Also before a policy has asked for it."""
    code = """
import numpy as np
from minitorch_ciml import Tensor
from minitorch_ciml.keras import ops
for x in (ops.cast(np.ones(3), "bfloat16"), ops.ones(3, dtype="bfloat16"), Tensor(1.0, "bfloat16")):
    assert x.dtype.name == ops.sigmoid(x).dtype.name == "bfloat16"
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_is_computed_is_rounded_once():
    """Sums are made in float32: 257 ones are 256 where bfloat16 adds one by one and stops."""
    ones = ops.cast(np.ones(512, "float32"), "bfloat16")
    assert float(ops.sum(ones)) == 512
    assert float(ops.sum(ones * ones)) == 512


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("policy", POLICIES)
def test_training_means_the_same_on_both_devices(policy, device):
    if device == "cuda":
        pytest.importorskip("numba_cuda")
    x, y = RNG.normal(size=(12, 6)).astype("float32"), RNG.integers(0, 3, 12)
    results = []
    for where in ("cpu", device):
        keras.utils.set_random_seed(1)
        keras.config.set_dtype_policy(policy)
        with mt.device(where):
            layers = [keras.Input((6,)), L.Dense(4, activation="relu"), L.Dense(3)]
            model = keras.Sequential([*layers, L.Activation("softmax", dtype="float32")])
            model.compile("adam", "sparse_categorical_crossentropy")
            model.fit(x, y, batch_size=6, epochs=2, verbose=0)
        results.append(model.get_weights())
    for a, b in zip(*results):
        np.testing.assert_allclose(a, b, atol=4e-3)  # Adam's steps are 1e-3


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_scale_follows_the_gradients_as_keras_does(device):
    if device == "cuda":
        pytest.importorskip("numba_cuda")
    with mt.device(device):
        follow_keras(device)


def follow_keras(device):
    peer = pytest.importorskip("keras_peer").keras_peer
    torch = pytest.importorskip("keras_peer").torch
    gradients = ([1, 2, 3], [np.inf, 1, 1], [1, 2, 3], [np.nan, 1, 1], [1, 1, 1], [1, 1, 2])
    inner = keras.optimizers.Adam(0.1), peer.optimizers.Adam(0.1)
    ours, theirs = (
        k.optimizers.LossScaleOptimizer(o, initial_scale=8.0, dynamic_growth_steps=2)
        for k, o in zip((keras, peer), inner)
    )
    p, q = mt.Parameter(np.ones(3, "float32")), peer.Variable(np.ones(3, "float32"))
    ours.build([p])
    assert p.device == device and ours.can_be_recorded is (device == "cuda")
    theirs.build([q])
    for g in np.array(gradients, "float32"):
        scale = float(ours.dynamic_scale)
        assert float(ours.scale_loss(1.0)) == scale == float(theirs.dynamic_scale)
        ours.apply([Tensor(g * scale)], [p])
        theirs.apply([torch.tensor(g * scale)], [q])
        assert int(ours.iterations) == int(theirs.iterations)
        np.testing.assert_allclose(p.numpy(), q.numpy(), 1e-6)
    assert [v.shape for v in ours.variables] == [tuple(v.shape) for v in theirs.variables]
    for v, w in zip(ours.variables, theirs.variables):
        np.testing.assert_allclose(v.numpy(), np.asarray(w), 1e-5, err_msg=v.name)
    assert float(ours.learning_rate) == pytest.approx(0.1)
    config = ours.get_config()
    again = keras.optimizers.LossScaleOptimizer.from_config(config)
    assert again.get_config()["dynamic_growth_steps"] == 2
    assert type(again.inner_optimizer) is keras.optimizers.Adam


def test_the_loss_is_scaled_only_where_float16_needs_it():
    for policy, scaled in (("mixed_float16", True), ("mixed_bfloat16", False)):
        keras.config.set_dtype_policy(policy)
        model = keras.Sequential([keras.Input((2,)), L.Dense(1)])
        model.compile("sgd", "mse")
        assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer) is scaled
        model.compile("sgd", "mse", auto_scale_loss=False)
        assert type(model.optimizer) is keras.optimizers.SGD


def test_errors():
    with pytest.raises(ValueError, match="unknown dtype policy 'mixed_float64'"):
        L.Dense(1, dtype="mixed_float64")
    code = (
        "import sys; sys.modules['ml_dtypes'] = None\n"
        "from minitorch_ciml import keras\nkeras.config.set_dtype_policy('mixed_bfloat16')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "pip install 'minitorch_ciml[mixed]'" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(
    "layer, arguments",
    [("MultiHeadAttention", (2, 4)), ("GroupQueryAttention", (4, 4, 2))],
)
def test_attention_computes_its_heads_in_16_bits(policy, layer, arguments, monkeypatch):
    used = set()

    def watched(query, key, value, **kwargs):
        used.update(x.dtype.name for x in (query, key, value))
        return attention(query, key, value, **kwargs)

    attention = ops.dot_product_attention
    monkeypatch.setattr(ops, "dot_product_attention", watched)
    made = getattr(L, layer)(*arguments, dtype=policy)
    x = np.ones((2, 5, 8), "float32")
    assert made(x, x).dtype.name == policy.removeprefix("mixed_")
    assert used == {policy.removeprefix("mixed_")}


IMAGES, VECTORS, STEPS = (2, 5, 5, 3), (2, 3), (2, 4, 3)
DTYPES = [
    ("Dense", (3,), VECTORS), ("Embedding", (5, 3), None), ("ReversibleEmbedding", (5, 3), None),
    ("EinsumDense", ("abc,cd->abd", (None, 2)), STEPS), ("Conv2D", (3, 3), IMAGES),
    ("DepthwiseConv2D", (3,), IMAGES), ("Conv2DTranspose", (3, 3), IMAGES),
    ("BatchNormalization", (), IMAGES), ("LayerNormalization", (), STEPS),
    ("GroupNormalization", (3,), IMAGES), ("RMSNormalization", (), STEPS),
    ("UnitNormalization", (), STEPS), ("PReLU", (), VECTORS), ("Softmax", (), VECTORS),
    ("Activation", ("gelu",), VECTORS), ("GlobalAveragePooling2D", (), IMAGES),
    ("MaxPooling2D", (2,), IMAGES), ("UpSampling2D", (2,), IMAGES), ("Rescaling", (2.0,), VECTORS),
    ("Resizing", (3, 3), IMAGES), ("Dropout", (0.5,), VECTORS),
]  # fmt: skip


@pytest.mark.parametrize("policy", [*POLICIES, "float16", "float64"])
@pytest.mark.parametrize("name, arguments, shape", DTYPES, ids=[case[0] for case in DTYPES])
def test_dtypes_of_results_and_weights_are_keras(policy, name, arguments, shape):
    x = np.array([[1, 2]]) if shape is None else np.ones(shape, "float32")
    found = []
    for k in (keras, pytest.importorskip("keras_peer").keras_peer):
        layer = getattr(k.layers, name)(*arguments, dtype=policy)
        dtypes = [layer(x).dtype, *(w.dtype for w in layer.weights if "seed" not in w.name)]
        found.append([k.backend.standardize_dtype(dtype) for dtype in dtypes])
    assert found[0] == found[1]
