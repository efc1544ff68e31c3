"""Layers on words. Keras' own need TensorFlow, so values are worked by hand."""

import json
import zipfile

import numpy as np
import pytest

from minitorch_ciml import keras
from minitorch_ciml.keras.fingerprints import farmhash, siphash

layers = keras.layers
TEXTS = ["foo bar", "bar baz", "baz bada boom"]


def rows(layer, *texts):
    return layer(list(texts)).numpy().tolist()


# --- TextVectorization ----------------------------------------------------------------------------


def test_an_adapted_layer_numbers_words_by_frequency():
    layer = layers.TextVectorization(max_tokens=5000, output_sequence_length=4)
    layer.adapt(TEXTS)
    # baz and bar occur twice, the others once; among equals the last in the alphabet is first
    assert layer.get_vocabulary() == ["", "[UNK]", "baz", "bar", "foo", "boom", "bada"]
    assert layer.get_vocabulary(include_special_tokens=False)[0] == "baz"
    assert layer.vocabulary_size() == 7
    assert rows(layer, ["foo qux bar"], ["qux baz"]) == [[4, 1, 3, 0], [1, 2, 0, 0]]
    assert layer(["a"] * 3).dtype == np.int64
    assert rows(layer, "bar bar bar bar foo") == [[3, 3, 3, 3]]  # cut
    small = layers.TextVectorization(max_tokens=4)
    small.adapt(TEXTS)
    assert small.get_vocabulary() == ["", "[UNK]", "baz", "bar"]


@pytest.mark.parametrize(
    "data",
    [TEXTS, np.array(TEXTS), np.array(TEXTS)[:, None], np.array([t.encode() for t in TEXTS]),
     lambda: (TEXTS[i : i + 2] for i in (0, 2)), lambda: ((np.array([t]), 0) for t in TEXTS)],
)  # fmt: skip
def test_all_kinds_of_data(data):
    layer = layers.TextVectorization()
    layer.adapt(data() if callable(data) else data)
    assert layer.get_vocabulary()[2:] == ["baz", "bar", "foo", "boom", "bada"]


def test_adapt_looks_at_so_many_batches():
    layer = layers.TextVectorization()
    layer.adapt((["a b"] for _ in iter(int, 1)), steps=3)  # without an end
    assert layer.get_vocabulary() == ["", "[UNK]", "b", "a"]


@pytest.mark.parametrize(
    ("standardize", "tokens"),
    [
        ("lower_and_strip_punctuation", ["dont", "stop", "É", "snake_case".replace("_", "")]),
        ("lower", ["don't", "stop!", "É", "snake_case"]),
        ("strip_punctuation", ["Dont", "STOP", "É", "snakecase"]),
        (None, ["Don't", "STOP!", "É", "snake_case"]),
        (np.char.upper, ["DON'T", "STOP!", "É", "SNAKE_CASE"]),
    ],
)
def test_standardizing_knows_ascii_only(standardize, tokens):
    layer = layers.TextVectorization(standardize=standardize, vocabulary=tokens)
    assert rows(layer, "Don't  STOP!\tÉ\nsnake_case ") == [[2, 3, 4, 5]]


def test_splitting():
    characters = layers.TextVectorization(split="character", vocabulary=["a", "é", " "])
    assert rows(characters, "É é", "aéx") == [[1, 4, 3], [2, 3, 1]]
    own = layers.TextVectorization(
        split=lambda texts: [t.split(";") for t in texts], standardize=None, vocabulary=["a b", "c"]
    )
    assert rows(own, "c;a b", "x") == [[3, 2], [1, 0]]
    spaces = layers.TextVectorization(vocabulary=["a", "b"])
    assert rows(spaces, "a\x0bb\fa\r\nb", "a\xa0b") == [[2, 3, 2, 3], [1, 0, 0, 0]]
    tokens = layers.TextVectorization(split=None, vocabulary=["a b", "c"])
    assert rows(tokens, ["A b!", "c"], ["d", ""]) == [[2, 3], [1, 0]]
    assert layers.TextVectorization(vocabulary=["a"])("a b a").numpy().tolist() == [2, 1, 2]


def test_ngrams():
    layer = layers.TextVectorization(ngrams=2, output_mode="count")
    layer.adapt(["a b a b", "c"])
    assert layer.get_vocabulary() == ["[UNK]", "b", "a b", "a", "c", "b a"]
    assert rows(layer, "a b a") == [[0, 1, 1, 2, 0, 1]]
    pairs = layers.TextVectorization(ngrams=(3, 1), vocabulary=["a b c", "a"])
    assert rows(pairs, "a b c d", "a b") == [[2, 1, 3, 1, 1, 1], [3, 1, 0, 0, 0, 0]]


def test_codes():
    kwargs = dict(vocabulary=["foo", "bar", "baz"])
    texts = ["foo bar", "baz foo foo qux"]
    make = layers.TextVectorization
    assert rows(make(output_mode="multi_hot", **kwargs), *texts) == [[0, 1, 1, 0], [1, 1, 0, 1]]
    assert rows(make(output_mode="count", **kwargs), *texts) == [[0, 1, 1, 0], [1, 2, 0, 1]]
    wide = make(6, output_mode="count", pad_to_max_tokens=True, **kwargs)
    assert wide(texts).shape == (2, 6) and wide.compute_output_shape((None, 1)) == (None, 6)
    weighted = make(output_mode="tf_idf", idf_weights=[0.3, 0.5, 0.1], **kwargs)
    np.testing.assert_allclose(
        weighted(texts).numpy(), [[0, 0.3, 0.5, 0], [0.3, 0.6, 0, 0.1]], rtol=1e-6
    )


def test_tf_idf_is_learned():
    layer = layers.TextVectorization(output_mode="tf_idf", max_tokens=8, pad_to_max_tokens=True)
    layer.adapt(["a b a", "a c", "a"])
    assert layer.get_vocabulary() == ["[UNK]", "a", "c", "b"]
    # ln(1 + 3 / (1 + n)): "a" is in 3 texts, the others in 1; unknown words have the mean
    a, other = np.log(1 + 3 / 4), np.log(1 + 3 / 2)
    mean = (a + 2 * other) / 3
    expected = [2 * mean, 2 * a, 0, other, 0, 0, 0, 0]
    np.testing.assert_allclose(layer(["a x b y a"]).numpy()[0], expected, rtol=1e-6)
    again = layers.TextVectorization.from_config(layer.get_config())
    np.testing.assert_array_equal(again(["a x b"]).numpy(), layer(["a x b"]).numpy())


@pytest.mark.parametrize(
    "kwargs",
    [{}, {"ngrams": (1, 2)}, {"output_mode": "tf_idf", "max_tokens": 100},
     {"output_mode": "multi_hot"}, {"split": "character", "output_sequence_length": 9}],
)  # fmt: skip
@pytest.mark.parametrize("shape", [(1,), ()])
def test_texts_go_through_models_and_files(tmp_path, kwargs, shape):
    layer = layers.TextVectorization(**kwargs)
    layer.adapt(TEXTS)
    model = keras.Sequential([keras.Input(shape, dtype="string"), layer])
    expected = model(np.array(TEXTS)).numpy()
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again(np.array(TEXTS)).numpy(), expected)
    assert again.layers[0].get_vocabulary() == layer.get_vocabulary()


def test_a_model_that_reads_texts_is_trained(tmp_path):
    texts, labels = (
        ["good film", "bad film!", "So good", "too bad"] * 10,
        np.array([1, 0, 1, 0] * 10),
    )
    vectorize = layers.TextVectorization(output_sequence_length=3)
    vectorize.adapt(texts)
    inputs = keras.Input((1,), dtype="string")
    x = layers.Embedding(vectorize.vocabulary_size(), 8, mask_zero=True)(vectorize(inputs))
    outputs = layers.Dense(1, activation="sigmoid")(layers.GlobalAveragePooling1D()(x))
    model = keras.Model(inputs, outputs)
    model.compile(keras.optimizers.Adam(0.05), "binary_crossentropy", metrics=["accuracy"])
    history = model.fit(texts, labels, epochs=15, verbose=0, validation_data=(texts, labels))
    assert history.history["val_accuracy"][-1] == 1
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    outer = keras.Sequential([again])
    expected = model.predict(["Good!", "bad?"], verbose=0)
    np.testing.assert_array_equal(outer.predict(["Good!", "bad?"], verbose=0), expected)
    assert expected[0] > 0.5 > expected[1]


def shout(texts):
    return np.char.upper(texts)


def test_functions_in_files_must_be_known(tmp_path):
    layer = layers.TextVectorization(standardize=shout, vocabulary=["A"])
    model = keras.Sequential([keras.Input((1,), dtype="string"), layer])
    model.save(tmp_path / "model.keras")
    with pytest.raises(ValueError, match="custom_objects"):
        keras.models.load_model(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras", custom_objects={"shout": shout})
    assert again(np.array(["a b"])).numpy().tolist() == [[2, 1]]


@pytest.mark.parametrize("mode", ["int", "tf_idf"])
def test_files_of_keras_have_the_vocabulary_beside_the_configuration(tmp_path, mode):
    layer = layers.TextVectorization(output_mode=mode)
    layer.adapt(TEXTS)
    model = keras.Sequential([keras.Input((1,), dtype="string"), layer])
    model.save(tmp_path / "ours.keras")
    # As Keras writes it, which needs TensorFlow for it: see `save_assets` in its index_lookup.py
    with zipfile.ZipFile(tmp_path / "ours.keras") as ours:
        config = json.loads(ours.read("config.json"))
        inner = next(x for x in config["config"]["layers"] if x["class_name"] != "InputLayer")
        inner["config"] |= {"vocabulary": None, "idf_weights": None, "vocabulary_size": 7}
        with zipfile.ZipFile(tmp_path / "theirs.keras", "w") as theirs:
            theirs.writestr("config.json", json.dumps(config))
            theirs.writestr("metadata.json", ours.read("metadata.json"))
            theirs.writestr("model.weights.h5", ours.read("model.weights.h5"))
            lines = "\n".join(layer.get_vocabulary())
            theirs.writestr("assets/layers/text_vectorization/vocabulary.txt", lines)
    again = keras.models.load_model(tmp_path / "theirs.keras")
    assert again.layers[0].get_vocabulary() == layer.get_vocabulary()
    np.testing.assert_allclose(again(np.array(TEXTS)).numpy(), model(np.array(TEXTS)).numpy())


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: layers.TextVectorization(split="lines"), "split='lines'"),
        (lambda: layers.TextVectorization(standardize="upper"), "standardize='upper'"),
        (lambda: layers.TextVectorization(ngrams=0), "ngrams must be a positive integer"),
        (lambda: layers.TextVectorization(output_mode="hot"), "output_mode='hot'"),
        (lambda: layers.TextVectorization(ragged=True), "ragged=True"),
        (lambda: layers.TextVectorization(output_mode="count", output_sequence_length=3), "only"),
        (lambda: layers.TextVectorization()(["a"]), "call adapt"),
        (lambda: layers.TextVectorization(vocabulary=["a"])([["a", "b"]]), r"shape \(1, 2\)"),
        (lambda: layers.TextVectorization(vocabulary=["a"]).adapt(["a"]), "was given its vocab"),
        (lambda: layers.TextVectorization().adapt([""]), "no key in the data"),
        (lambda: layers.TextVectorization(vocabulary=["a"], output_mode="tf_idf"), "needs idf"),
        (lambda: layers.StringLookup(vocabulary=["a"], idf_weights=[1]), "for output_mode="),
        (lambda: layers.StringLookup(vocabulary=["a", ""], mask_token=""), "'' stands for some"),
        (lambda: layers.Dense(2)(np.array([["a"]])), "takes numbers, got texts"),
        (lambda: layers.Hashing(0), "num_bins must be a positive integer"),
        (lambda: layers.Hashing(2, salt="x"), "salt must be an integer"),
        (lambda: layers.HashedCrossing(2)([["a"]]), "at least two arrays"),
        (lambda: layers.HashedCrossing(2)([["a"], ["b", "c"]]), "arrays of one shape"),
        (lambda: layers.HashedCrossing(2)([[0.5], [1]]), "strings or integers, got float64"),
    ],
)  # fmt: skip
def test_errors(call, error):
    with pytest.raises(ValueError, match=error):
        call()


# --- lookups --------------------------------------------------------------------------------------


def test_lookups_with_weights_and_in_models():
    layer = layers.StringLookup(output_mode="tf_idf")
    layer.adapt(np.array([["a", "b"], ["a", "a"], ["c", "a"]]))
    a, other = np.log(1 + 3 / 4), np.log(1 + 3 / 2)
    np.testing.assert_allclose(layer([["a", "a", "b"]]).numpy(), [[0, 2 * a, 0, other]], rtol=1e-6)
    inputs = keras.Input((2,), dtype="string")
    model = keras.Model(inputs, layers.StringLookup(vocabulary=["a", "b"])(inputs))
    assert model.predict(np.array([["b", "a"], ["x", "b"]]), verbose=0).tolist() == [[2, 1], [0, 2]]
    many = layers.StringLookup(vocabulary=["a"], num_oov_indices=3)
    expected = [farmhash(word.encode()) % 3 for word in ("b", "c", "d", "e")]
    assert many(["b", "c", "d", "e", "a"]).tolist() == [*expected, 3]
    numbers = layers.IntegerLookup(vocabulary=[1], num_oov_indices=3, oov_method="farmhash", salt=7)
    assert numbers([12, 1]).tolist() == [siphash(b"12", (7, 7)) % 3, 3]


# --- hashes ---------------------------------------------------------------------------------------


def test_fingerprints_are_the_published_functions():
    # Measured with pyfarmhash 0.4.0; the last is the example of the SipHash paper, appendix A.
    for text, value in {
        "q6fj7+f@$v)*\"Y!C?B.o7LE(54@c5tBr{EZyI_\\.#GQKU8A-@}": 6022635192142301246,
        "L,:ivWk8_-uQE`_\"InSD\"49Ih1KV;Bv,PfLwd^d>(|%*155d;BJl`@OKK.E>m{^1j": 6270649025260550113,
    }.items():  # fmt: skip
        assert farmhash(text.encode()) == value
    key = tuple(int.from_bytes(bytes(range(i, i + 8)), "little") for i in (0, 8))
    assert siphash(bytes(range(15)), key) == 0xA129CA6149BE45E5


@pytest.mark.parametrize(
    ("kwargs", "words", "bins"),
    [
        ({}, "ABCDE", [1, 0, 1, 1, 2]),
        ({"salt": [133, 137]}, "ABCDE", [1, 2, 1, 0, 2]),
        ({"salt": 133}, "ABCDE", [0, 0, 2, 1, 0]),
        ({"mask_value": ""}, ["A", "B", "", "C", "D"], [1, 1, 0, 2, 2]),
    ],
)
def test_hashing_gives_the_documented_bins(kwargs, words, bins):
    layer = layers.Hashing(num_bins=3, **kwargs)
    assert layer([[word] for word in words]).numpy().tolist() == [[b] for b in bins]
    again = layers.Hashing.from_config(layer.get_config())
    assert again(list(words)).numpy().tolist() == bins


def test_hashing_of_numbers():
    # The bins that Keras' documents and tests give
    assert layers.Hashing(num_bins=3)(np.arange(5)).tolist() == [1, 0, 1, 0, 2]
    code = layers.Hashing(num_bins=3, output_mode="multi_hot")
    assert code([[0, 1], [4, 4]]).numpy().tolist() == [[1, 1, 0], [0, 0, 1]]
    inputs = keras.Input((1,), dtype="string")
    assert keras.Model(inputs, layers.Hashing(3)(inputs)).predict(
        np.array([["A"], ["E"]]), verbose=0
    ).tolist() == [[1], [2]]


def test_crossing_gives_the_documented_bins():
    columns = [np.array(["A", "B", "A", "B", "A"]), np.array([101, 101, 101, 102, 102])]
    assert layers.HashedCrossing(5)(columns).tolist() == [1, 4, 1, 1, 3]
    code = layers.HashedCrossing(5, output_mode="one_hot")(columns).numpy()
    np.testing.assert_array_equal(code, np.eye(5)[[1, 4, 1, 1, 3]])


# --- FeatureSpace ---------------------------------------------------------------------------------

NUMBERS = np.arange(10)
TABLE = {
    "float_1": NUMBERS / 10, "float_2": NUMBERS / 10, "float_3": NUMBERS / 10,
    "string_1": [str(i) for i in NUMBERS], "string_2": [str(i) for i in NUMBERS],
    "int_1": NUMBERS, "int_2": NUMBERS, "int_3": NUMBERS,
}  # fmt: skip
KINDS = {
    "float_1": "float", "float_2": "float_normalized", "float_3": "float_discretized",
    "string_1": "string_categorical", "string_2": "string_hashed", "int_1": "integer_categorical",
    "int_2": "integer_hashed", "int_3": "integer_categorical",
}  # fmt: skip


def make_space(**kwargs):
    crosses = [("float_3", "string_1"), ("string_2", "int_2")]
    return keras.utils.FeatureSpace(KINDS, **{"crosses": crosses, **kwargs})


def test_a_feature_space_puts_columns_side_by_side(tmp_path):
    space = make_space()
    space.adapt(TABLE)
    whole = space(TABLE).numpy()
    # 1 + 1 + 32, categories 3 * 11, hashed 2 * 32, crosses 2 * 32: as in Keras' own test
    assert whole.shape == (10, 195)
    np.testing.assert_allclose(whole[:, 0], TABLE["float_1"], rtol=1e-6)
    np.testing.assert_allclose(whole[:, 1].mean(), 0, atol=1e-6)
    np.testing.assert_allclose(whole[:, 1].std(), 1, rtol=1e-5)
    np.testing.assert_array_equal(whole[:, 2:].sum(axis=1), 8)  # one place of every other column
    one = space({name: column[3] for name, column in TABLE.items()}).numpy()
    np.testing.assert_array_equal(one, whole[3])
    batches = [{name: column[i : i + 4] for name, column in TABLE.items()} for i in (0, 4, 8)]
    again = make_space()
    again.adapt(batches)
    np.testing.assert_allclose(again(TABLE).numpy(), whole, atol=1e-6)
    space.save(tmp_path / "space.keras")
    loaded = keras.models.load_model(tmp_path / "space.keras")
    np.testing.assert_allclose(loaded(TABLE).numpy(), whole, atol=1e-6)


def test_a_feature_space_in_a_model(tmp_path):
    space = make_space(output_mode="dict", crosses=None)
    space.adapt(TABLE)
    codes = space(TABLE)
    assert {name: code.shape[1] for name, code in codes.items()} == {
        "float_1": 1, "float_2": 1, "float_3": 32, "string_1": 11, "string_2": 32, "int_1": 11,
        "int_2": 32, "int_3": 11,
    }  # fmt: skip
    encoded = space.get_encoded_features()
    outputs = layers.Dense(1)(layers.Concatenate()([encoded[name] for name in sorted(encoded)]))
    model = keras.Model(space.get_inputs(), outputs)
    model.compile(keras.optimizers.Adam(0.1), "mse")
    columns = {name: np.array(column) for name, column in TABLE.items()}
    losses = model.fit(columns, NUMBERS / 10, epochs=60, verbose=0).history["loss"]
    assert losses[-1] < 0.01
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(
        again.predict(columns, verbose=0), model.predict(columns, verbose=0), rtol=1e-5
    )


def test_columns_of_your_own_and_crosses_of_integers():
    make = keras.utils.FeatureSpace
    space = make(
        {"text": make.feature("string", layers.TextVectorization(output_mode="count"), "float"),
         "a": make.integer_categorical(output_mode="int"), "b": make.float_rescaled(2.0, 1.0),
         "c": make.float_discretized(3, bin_boundaries=[0.5])},
        crosses=[make.cross(("a", "c"), 7, output_mode="int")], output_mode="dict",
    )  # fmt: skip
    data = {"text": ["x y", "y"], "a": [5, 6], "b": [1.0, 2.0], "c": [0.1, 0.9]}
    space.adapt(data)
    found = {name: value.numpy().tolist() for name, value in space(data).items()}
    assert found["text"] == [[0, 1, 1], [0, 1, 0]]
    assert found["a"] == [[2], [1]]
    assert found["b"] == [[3], [5]]
    assert found["c"] == [[1, 0], [0, 1]]
    assert found["a_X_c"] == layers.HashedCrossing(7)([[[2], [1]], [[0], [1]]]).numpy().tolist()


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda make: make({}), "features is empty"),
        (lambda make: make({"a": "colour"}), "column 'a' has the kind 'colour'"),
        (lambda make: make({"a": "float"}, crosses=[("a", "b")]), r"crosses name \['b'\]"),
        (lambda make: make({"a": "float"}, output_mode="list"), "output_mode='list'"),
        (lambda make: make({"a": "float"})([1.0]), "expected a dictionary"),
        (lambda make: make({"a": "float"})({"b": [1.0]}), r"lack the columns \['a'\]"),
        (lambda make: make({"a": "float_normalized"})({"a": [1.0]}), "call adapt"),
        (lambda make: make({"a": make.integer_hashed(3, output_mode="int")})({"a": [1]}),
         "say output_mode='dict'"),
        (lambda make: make.feature("float32", layers.Identity(), "hot"), "output_mode='hot'"),
        (lambda make: make({"a": make.feature("int32", layers.Identity(), "one_hot")})({"a": [1]}),
         "is not known"),
    ],
)  # fmt: skip
def test_errors_of_feature_spaces(call, error):
    with pytest.raises(ValueError, match=error):
        call(keras.utils.FeatureSpace)
