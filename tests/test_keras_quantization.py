"""Matrices of 8-bit integers: the numbers, files and summaries are those of Keras."""

import json
import warnings
import zipfile

import numpy as np
import pytest
from keras_peer import drop_ids, keras_peer, to_numpy

from minitorch_ciml import Tensor, config, keras, kernels

RNG = np.random.default_rng(0)
X = RNG.normal(size=(8, 1500)).astype("float32")
WORDS = RNG.integers(0, 20, (16, 5))
TARGETS = RNG.normal(size=(16, 3)).astype("float32")
BOTH = (keras, keras_peer)


@pytest.fixture(autouse=True)
def quiet():
    """Keras warns of layers without such a form, and of NumPy 2."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def words(k):
    layers = k.layers
    inputs = k.Input((5,), dtype="int32")
    x = layers.Embedding(20, 8)(inputs)
    x = layers.EinsumDense("abc,cd->abd", (None, 6), bias_axes="d", activation="relu")(x)
    x = layers.EinsumDense("abc,cde->abde", (None, 2, 4), bias_axes="de")(x)
    x = layers.Reshape((5, 6))(layers.EinsumDense("abcd,cde->abe", (None, 6))(x))
    x = layers.EinsumDense("abc,bcd->abd", (5, 7), activation="tanh")(x)
    x = layers.Dense(13)(layers.Flatten()(x))
    x = layers.BatchNormalization()(x)
    return k.Model(inputs, layers.Dense(3, use_bias=False)(x))


def attention(k):
    inputs = k.Input((5, 6))
    x = k.layers.MultiHeadAttention(2, 3)(inputs, inputs)
    return k.Model(inputs, k.layers.GroupQueryAttention(3, 4, 2)(x, x))


def pair(make):
    models = [make(k) for k in BOTH]
    models[0].set_weights(models[1].get_weights())
    return models


def same(ours, theirs, atol=1e-6):
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a.astype("float64"), b.astype("float64"), rtol=1e-5, atol=atol)


def test_a_model_computes_trains_and_is_saved_as_in_keras(tmp_path):
    ours, theirs = models = pair(words)
    before = ours.predict(WORDS, verbose=0)
    for model in models:
        model.quantize("int8")
        model.compile("sgd", "mse")
    same([ours.predict(WORDS, verbose=0)], [theirs.predict(WORDS, verbose=0)])
    assert 1e-4 < np.abs(ours.predict(WORDS, verbose=0) - before).max() < 0.1
    for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    histories = [
        m.fit(WORDS, TARGETS, batch_size=4, shuffle=False, epochs=2, verbose=0).history["loss"]
        for m in models
    ]
    np.testing.assert_allclose(*histories, rtol=1e-5)
    same(ours.get_weights(), theirs.get_weights())
    records = []
    for model in models:
        path = tmp_path / f"{len(records)}.keras"
        model.save(path)
        for k in BOTH:
            read = k.models.load_model(path)
            assert read.layers[-1].quantization_mode == "int8"
            same([read.predict(WORDS, verbose=0)], [model.predict(WORDS, verbose=0)])
        with zipfile.ZipFile(path) as archive:
            record = json.loads(archive.read("config.json"))["config"]["layers"][-1]["config"]
            records.append({key: drop_ids(record[key]) for key in ("dtype", "quantization_config")})
    assert records[0] == records[1]


def test_attention_is_made_of_such_layers(tmp_path):
    x = X[:, :30].reshape(8, 5, 6)
    ours, theirs = pair(attention)
    for model in (ours, theirs):
        model.quantize("int8")
    expected = theirs.predict(x, verbose=0)
    same([ours.predict(x, verbose=0)], [expected])
    theirs.save(tmp_path / "model.keras")  # which Keras itself cannot load
    read = keras.models.load_model(tmp_path / "model.keras")
    same([read.predict(x, verbose=0)], [expected])


def dense(k, **kwargs):
    layer = k.layers.Dense(7, **kwargs)
    layer.build((None, 1500))
    layer.set_weights([np.random.default_rng(1).normal(size=(1500, 7)), np.arange(7.0)])
    return layer


def own_quantizers(k):
    q = k.quantizers
    weights = q.AbsMaxQuantizer(axis=0, value_range=(-64, 64))
    return q.Int8QuantizationConfig(weights, q.AbsMaxQuantizer(value_range=(-100, 100)))


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize(
    "how",
    [
        lambda k: None,
        own_quantizers,
        lambda k: k.quantizers.Int8QuantizationConfig(activation_quantizer=None),
    ],
)
def test_quantizers(how, dtype):
    results = []
    for k in BOTH:
        layer = dense(k, dtype=dtype)
        layer.quantize("int8", config=how(k))
        results.append([to_numpy(k.ops.cast(layer(X), "float32")) if k is keras_peer
                        else keras.ops.cast(layer(X), "float32").numpy()])  # fmt: skip
    wide = how(keras) is not None and how(keras).activation_quantizer is None
    same(*results, atol=(1 if dtype != "float32" else 1e-3) if wide else 1e-6)


def test_sums_of_many_products_are_exact():
    for k in BOTH:
        layer = k.layers.Dense(1, use_bias=False)
        layer.build((None, 1500))
        layer.set_weights([np.ones((1500, 1))])
        layer.quantize("int8")
        y = np.asarray(k.ops.convert_to_numpy(layer(np.ones((1, 1500), "float32"))))
        assert y == pytest.approx(1500, abs=2e-3)
        exact = 1500 * 127**2 / (np.float32(127 / np.float32(1 + 1e-7)) ** 2)
        assert y == pytest.approx(exact, rel=1e-7)


LORA = {
    "Dense": ((4,), (6, 5), "kernel"),
    "Embedding": ((9, 4), (6,), "embeddings"),
    "EinsumDense": (("abc,cde->abde", (None, 2, 4)), (6, 3, 5), "kernel"),
}


@pytest.mark.parametrize("name", LORA)
def test_integers_are_tuned_by_two_narrow_matrices(name):
    arguments, shape, adapted = LORA[name]
    x = np.arange(6) if name == "Embedding" else X.ravel()[: np.prod(shape)].reshape(shape)
    results, start = [], None
    for k in BOTH:
        layer = getattr(k.layers, name)(*arguments)
        layer.build((None, *shape[1:]))
        start = start or [np.random.default_rng(2).normal(size=w.shape) for w in layer.weights]
        layer.set_weights(start)
        layer.quantize("int8")
        layer.enable_lora(3)
        a, b = (getattr(layer, f"lora_{adapted}_{c}") for c in "ab")
        a.assign(np.full(a.shape, 0.1)), b.assign(np.full(b.shape, 0.2))
        store = {}
        layer.save_own_variables(store)
        stored = [np.asarray(k.ops.convert_to_numpy(store[key])) for key in sorted(store)]
        results.append([np.asarray(k.ops.convert_to_numpy(layer(x))), *stored])
    same(*results)
    assert results[0][1].dtype == np.int8


def test_gradients_are_those_of_the_integers_over_their_scale():
    layer = dense(keras)
    layer.quantize("int8")
    x = Tensor(X, requires_grad=True)
    (layer(x) * np.arange(7, dtype="float32")).sum().backward()
    matrix = layer.kernel.numpy() / layer.kernel_scale.numpy()
    np.testing.assert_allclose(x.grad.numpy()[0], matrix @ np.arange(7), rtol=1e-4, atol=1e-5)
    assert [w.name for w in layer.trainable_weights] == ["bias"]


@pytest.mark.parametrize("filters", ["sec", ["sec", "none"], lambda layer: layer.name == "second"])
def test_which_layers(filters):
    layers = keras.layers
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(3, name="first"), layers.Dense(2, name="second")]
    )
    model.quantize("int8", filters=filters)
    assert [layer.quantization_mode for layer in model.layers] == [None, "int8"]


def test_after_training_and_without_a_model(tmp_path):
    layers = keras.layers
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    model.compile("adam", "mse")
    model.fit(X[:, :4], X[:, 4:7], verbose=0)
    model.quantize("int8")
    model.fit(X[:, :4], X[:, 4:7], verbose=0)
    with pytest.warns(UserWarning, match="quantize: lstm_cell keep their weights as they are"):
        keras.Sequential([keras.Input((3, 4)), layers.LSTM(2)]).quantize("int8")
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    same([clone.predict(X[:, :4], verbose=0)], [model.predict(X[:, :4], verbose=0)])
    layer = layers.Dense(3, dtype="int8_from_float32")
    layer.build((None, 2))
    assert [w.dtype.name for w in layer.weights] == ["float32", "int8", "float32"]
    assert repr(layer.dtype_policy) == '<QuantizedDTypePolicy "int8_from_float32">'
    again = keras.dtype_policies.deserialize(keras.dtype_policies.serialize(layer.dtype_policy))
    assert again == layer.dtype_policy


def test_on_a_gpu():
    layer = dense(keras)
    layer.quantize("int8")
    expected = layer(X[:2]).numpy()
    table = keras.layers.Embedding(9, 4)
    table.build()
    table.quantize("int8")
    rows = table(np.arange(9)).numpy()
    with config.device("cuda"):
        for weight in (*layer.weights, *table.weights):
            weight.value = kernels.place(weight.value, "cuda")
        y, z = layer(X[:2]), table(np.arange(9))
        assert y.device == z.device == "cuda"
        np.testing.assert_allclose(y.numpy(), expected, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(z.numpy(), rows, rtol=1e-6)


def built():
    layer = keras.layers.Dense(3)
    layer.build((None, 4))
    return layer


def twice():
    layer = built()
    layer.quantize("int8")
    layer.quantize("int8")


class Own(keras.layers.Dense):
    """May compute something else."""


def own():
    layer = Own(3)
    layer.build((None, 4))
    layer.quantize("int8")


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        *[(lambda mode=mode: built().quantize(mode), NotImplementedError,
           f"mode '{mode}' is not available, only 'int8' is; save the model")
          for mode in ("int4", "float8", "gptq", "awq")],
        (lambda: keras.Sequential().quantize("int4"), NotImplementedError, "mode 'int4' is not"),
        (lambda: built().quantize("int9"), ValueError, "got mode 'int9', expected 'int8'"),
        (lambda: built().quantize(), ValueError, "give a mode, as in"),
        (lambda: built().quantize("int8", config=3), ValueError, "config must be an Int8Quant"),
        (twice, ValueError, "is quantised already"),
        (lambda: keras.layers.Dense(3).quantize("int8"), ValueError, "is not built: call it on"),
        (lambda: keras.layers.ReLU().quantize("int8"), NotImplementedError, "has no 8-bit form"),
        (own, NotImplementedError, "Own has no 8-bit form of its own; type_check=False"),
        (lambda: keras.layers.Dense(3, dtype="int8"), ValueError, "write 'int8_from_float32'"),
        (lambda: keras.layers.Dense(3, dtype="int8_from_mixed_float16"), ValueError, "float16"),
        (lambda: keras.layers.Dense(3, dtype="float8_from_float32"), NotImplementedError, "float8"),
        (lambda: keras.quantizers.AbsMaxQuantizer(value_range=(-200, 200)), ValueError, "int8 hol"),
    ],
)  # fmt: skip
def test_mistakes(call, error, message):
    with pytest.raises(error, match=message) as raised:
        call()
    assert "\n" not in str(raised.value)
