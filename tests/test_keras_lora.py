"""LoRA in Dense and its like, and in convolutions: Keras' weights, outputs, training, files."""

import numpy as np
import pytest
from keras_peer import keras_peer, to_numpy

from minitorch_ciml import keras

RNG = np.random.default_rng(0)
IMAGES = RNG.random((2, 6, 6, 3)).astype("float32")
IDS = RNG.integers(0, 7, (6, 4))
STEPS = RNG.random((6, 4, 3)).astype("float32")

LAYERS = [
    ("Dense", (5, "relu"), STEPS),
    ("EinsumDense", ("abc,cde->abde", (None, 2, 5)), STEPS),
    ("EinsumDense", ("abc,dc->abd", (None, 5)), STEPS),
    ("Embedding", (7, 5), IDS),
    ("Conv1D", (5, 2), STEPS),
    ("Conv2D", (5, 3, 2, "same"), IMAGES),
]
IDENTITIES = ["dense", "heads", "einsum", "embedding", "conv1d", "conv2d"]


def alike(layer, seed=0):
    rng = np.random.default_rng(seed)
    for weight in layer.weights:
        weight.assign(0.4 * rng.normal(size=tuple(weight.shape)).astype("float32"))


def described(layer):
    return [(w.name, w.path, tuple(w.shape), w.trainable, w.dtype) for w in layer.weights]


@pytest.mark.parametrize("name, arguments, x", LAYERS, ids=IDENTITIES)
def test_weights_and_outputs_are_keras(name, arguments, x):
    results = []
    for k in (keras, keras_peer):
        layer = getattr(k.layers, name)(*arguments, name="layer")
        before = to_numpy(layer(x))
        layer.enable_lora(2, lora_alpha=3)
        np.testing.assert_allclose(to_numpy(layer(x)), before, rtol=1e-5)  # B is 0
        alike(layer)
        matrix = layer.embeddings if name == "Embedding" else layer.kernel
        stored = {}
        layer.save_own_variables(stored)
        stored = [to_numpy(stored[key]) for key in sorted(stored)]
        config = layer.get_config()
        described_ = described(layer)
        results.append((described_, to_numpy(layer(x)), to_numpy(matrix), stored, config))
    (mine, y, matrix, stored, config), (theirs, y2, matrix2, stored2, config2) = results
    assert mine == theirs
    assert [w[0] for w in mine if w[0].startswith("lora")]
    np.testing.assert_allclose(y, y2, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(matrix, matrix2, rtol=1e-5, atol=1e-5)
    for a, b in zip(stored, stored2, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
    assert (config["lora_rank"], config["lora_alpha"]) == (2, 3)
    assert (config2["lora_rank"], config2["lora_alpha"]) == (2, 3)
    assert [getattr(keras.layers, name)(*arguments, lora_rank=2).lora_rank] == [2]


def model(k, **lora):
    ids, steps = k.Input((4,), dtype="int32"), k.Input((4, 3))
    x = k.layers.Embedding(7, 6, name="embedding", **lora)(ids)
    x = k.layers.Concatenate()([x, steps])
    x = k.layers.EinsumDense("abc,cd->abd", (None, 6), bias_axes="d", name="einsum", **lora)(x)
    x = k.layers.MultiHeadAttention(2, 3, name="attention")(x, x)
    x = k.layers.GlobalAveragePooling1D()(x)
    x = k.layers.Dense(5, "tanh", kernel_regularizer="l2", name="dense", **lora)(x)
    return k.Model([ids, steps], k.layers.Dense(1, name="head")(x))


Y = RNG.random((6, 1)).astype("float32")


# A configuration of attention knows nothing of LoRA inside, so a loaded optimizer has fewer slots.
@pytest.mark.filterwarnings("ignore:.*optimizer:UserWarning")
def test_fine_tuning_is_keras_fine_tuning(tmp_path):
    histories, weights, files = [], [], []
    for k in (keras, keras_peer):
        tuned = model(k)
        alike(tuned)
        for layer in tuned.layers:
            if hasattr(layer, "enable_lora"):
                layer.enable_lora(2)
        attention = tuned.get_layer("attention")
        attention.query_dense.enable_lora(1, lora_alpha=4)
        factors = [w for w in tuned.weights if w.name.startswith("lora")]
        rng = np.random.default_rng(3)
        for w in sorted(factors, key=lambda w: w.path):
            w.assign(0.1 * rng.normal(size=tuple(w.shape)).astype("float32"))
        tuned.compile(k.optimizers.SGD(0.05, momentum=0.9), "mse")
        histories.append(tuned.fit([IDS, STEPS], Y, epochs=4, verbose=0, shuffle=False).history)
        weights.append({w.path: to_numpy(w) for w in tuned.trainable_weights})
        files.append(tmp_path / f"{k.__name__}.keras")
        tuned.save(files[-1])
        expected = tuned.predict([IDS, STEPS], verbose=0)
        for other in (keras, keras_peer):  # files go in both directions
            again = other.saving.load_model(files[-1])
            np.testing.assert_allclose(again.predict([IDS, STEPS], verbose=0), expected, rtol=1e-4)
            assert again.get_layer("dense").lora_rank == 2
    assert histories[0]["loss"] == pytest.approx(histories[1]["loss"], rel=1e-4)
    assert list(weights[0]) == list(weights[1])
    for path, value in weights[0].items():
        np.testing.assert_allclose(value, weights[1][path], rtol=1e-3, atol=1e-4, err_msg=path)


def test_the_rank_may_be_an_argument_and_alpha_is_heeded():
    layer = keras.layers.Dense(4, lora_rank=2, lora_alpha=6)
    layer.build((None, 3))
    assert [w.name for w in layer.trainable_weights] == ["bias", "lora_kernel_a", "lora_kernel_b"]
    alike(layer)
    a, b = layer.lora_kernel_a.numpy(), layer.lora_kernel_b.numpy()
    plain = layer.get_weights()[0]
    np.testing.assert_allclose(layer.kernel.numpy(), plain + 3 * a @ b, rtol=1e-5)
    again = keras.layers.Dense.from_config(layer.get_config())
    assert (again.lora_rank, again.lora_alpha) == (2, 6)
    assert "lora_rank" not in keras.layers.Dense(4).get_config()


def test_loading_goes_on_from_the_sum():
    tuned = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, lora_rank=2)])
    alike(tuned)
    x = STEPS[:, 0]
    before = tuned.predict(x, verbose=0)
    store = {}
    tuned.layers[0].save_own_variables(store)
    tuned.layers[0].load_own_variables(store)
    np.testing.assert_allclose(tuned.predict(x, verbose=0), before, rtol=1e-5, atol=1e-6)
    assert not tuned.layers[0].lora_kernel_b.numpy().any()
    plain = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4)])
    plain.layers[0].load_own_variables(store)
    np.testing.assert_allclose(plain.predict(x, verbose=0), before, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_keeps_factors_in_float32(policy):
    for k in (keras, keras_peer):
        for name, arguments, x in LAYERS:
            layer = getattr(k.layers, name)(*arguments, dtype=policy)
            layer(x)
            layer.enable_lora(2)
            assert policy.endswith(k.backend.standardize_dtype(layer(x).dtype))
            dtypes = {k.backend.standardize_dtype(w.dtype) for w in layer.weights}
            assert dtypes == {"float32"}


@pytest.mark.parametrize(
    "act, words",
    [
        (lambda: keras.layers.Dense(3).enable_lora(2), "is not built"),
        (lambda: keras.layers.Dense(3, kernel_constraint="non_neg", lora_rank=2), "constraint"),
        (lambda: keras.layers.Dense(3, lora_rank=0), "lora_rank must be a positive integer"),
        (lambda: keras.layers.Dense(3).kernel, "has no 'kernel' yet"),
    ],
)
def test_errors(act, words):
    with pytest.raises((ValueError, AttributeError), match=words):
        act()


def test_lora_comes_once():
    layer = keras.layers.Dense(3, lora_rank=1)
    layer.build((None, 2))
    with pytest.raises(ValueError, match="has LoRA already"):
        layer.enable_lora(1)
