"""Masks between layers against Keras 3: who makes them, who passes them on, who heeds them."""

import warnings

import numpy as np
import pytest

from minitorch_ciml import Tensor, keras, ops
from tests.keras_peer import keras_peer, to_numpy

WORDS = np.array([[3, 1, 4, 0, 0], [0, 0, 2, 5, 1], [1, 2, 3, 4, 5], [6, 0, 2, 0, 0]])
MASK = WORDS != 0
STEPS = np.random.default_rng(0).normal(size=(4, 5, 3)).astype("float32")
STEPS[1, :2] = 0
STEPS[3, 3:] = 0


def same_weights(ours, theirs):
    rng = np.random.default_rng(1)
    weights = [rng.uniform(-0.6, 0.6, w.shape).astype("float32") for w in theirs.get_weights()]
    weights = [np.abs(w) + 0.1 if v.name == "moving_variance" else w
               for w, v in zip(weights, theirs.weights)]  # fmt: skip
    ours.set_weights(weights)
    theirs.set_weights(weights)


def sequential(*layers):
    """A model of words: `layers` after an embedding that masks 0."""

    def make(k):
        first = k.layers.Embedding(7, 6, mask_zero=True)
        return k.Sequential([k.Input((5,), dtype="int32"), first, *(f(k) for f in layers)])

    return make


def functional(k):
    """Masks through a branch, attention, a wrapped layer and a merge."""
    words = k.Input((5,), dtype="int32", name="words")
    x = k.layers.Embedding(7, 6, mask_zero=True)(words)
    y = k.layers.Dropout(0.5)(k.layers.LayerNormalization()(x))
    y = k.layers.MultiHeadAttention(2, 3)(y, y)
    x = k.layers.Add()([x, y])
    both = k.layers.Bidirectional(k.layers.GRU(4, return_sequences=True), merge_mode="sum")(x)
    joined = k.layers.Concatenate()([both, k.layers.Dense(2, activation="tanh")(x)])
    return k.Model(words, k.layers.TimeDistributed(k.layers.Dense(3))(joined))


def attention(k):
    words = k.Input((5,), dtype="int32")
    x = k.layers.Embedding(7, 6, mask_zero=True)(words)
    y = k.layers.Attention()([x, x])
    return k.Model(words, k.layers.GlobalAveragePooling1D()(k.layers.AdditiveAttention()([y, x])))


def nested(k):
    inner = k.Sequential(
        [k.Input((5,), dtype="int32"), k.layers.Embedding(7, 6, mask_zero=True), k.layers.ReLU()]
    )
    words = k.Input((5,), dtype="int32")
    return k.Model(words, k.layers.LSTM(3)(inner(words)))


def lstm(k, **kw):
    return k.layers.LSTM(4, **kw)


SEQUENCES = [lambda k: lstm(k, return_sequences=True)]
MODELS = {
    "lstm": sequential(lstm),
    "gru": sequential(lambda k: k.layers.GRU(4)),
    "rnn": sequential(lambda k: k.layers.SimpleRNN(4, return_sequences=True)),
    "two": sequential(*SEQUENCES, lambda k: k.layers.LSTM(3, go_backwards=True)),
    "bidirectional": sequential(lambda k: k.layers.Bidirectional(k.layers.LSTM(3))),
    "dense": sequential(lambda k: k.layers.Dense(3, activation="relu"), lstm),
    "activation": sequential(lambda k: k.layers.Activation("tanh"), lstm),
    "prelu": sequential(lambda k: k.layers.PReLU(), lstm),
    "average": sequential(lambda k: k.layers.GlobalAveragePooling1D()),
    "average-kept": sequential(lambda k: k.layers.GlobalAveragePooling1D(keepdims=True)),
    "distributed": sequential(
        lambda k: k.layers.TimeDistributed(k.layers.Dense(2)), *SEQUENCES
    ),
    "batch-norm": sequential(lambda k: k.layers.BatchNormalization(), lstm),
    "functional": functional,
    "attention": attention,
    "nested": nested,
}  # fmt: skip


def pair(make):
    ours, theirs = make(keras), make(keras_peer)
    same_weights(ours, theirs)
    return ours, theirs


@pytest.mark.parametrize("name", MODELS)
def test_a_masked_model_equals_keras(name):
    ours, theirs = pair(MODELS[name])
    y, y_peer = ours.predict(WORDS, verbose=0), theirs.predict(WORDS, verbose=0)
    if name == "functional":  # what attention gives at steps that look nowhere counts nowhere
        y, y_peer = y[MASK], y_peer[MASK]
    np.testing.assert_allclose(y, y_peer, atol=2e-6)


@pytest.mark.parametrize("name", ["two", "rnn", "functional", "batch-norm", "average"])
@pytest.mark.parametrize("weighted", [False, True])
def test_training_on_masked_steps_equals_keras(name, weighted):
    ours, theirs = pair(MODELS[name])
    target = np.random.default_rng(3).normal(size=ours(WORDS).shape).astype("float32")
    # Keras on PyTorch wants weights in the shape of the losses.
    weight = np.repeat([[1.0], [0.5], [2.0], [1.0]], 5, axis=1) if weighted else None
    if weighted and target.ndim == 2:
        weight = weight[:, 0]
    histories = []
    for k, model in ((keras, ours), (keras_peer, theirs)):
        for layer in model.layers:
            if isinstance(layer, k.layers.Dropout):
                layer.rate = 0
        model.compile(k.optimizers.SGD(0.1), "mse", metrics=["mae"], weighted_metrics=["mse"])
        fit = {"batch_size": 4, "epochs": 3, "shuffle": False, "verbose": 0}
        histories.append(model.fit(WORDS, target, sample_weight=weight, **fit).history)
    for key, values in histories[1].items():
        np.testing.assert_allclose(histories[0][key], values, rtol=2e-5, err_msg=key)
    for a, b in zip(ours.get_weights(), theirs.get_weights()):
        np.testing.assert_allclose(a, b, atol=2e-5)


def test_accuracy_and_crossentropy_count_no_masked_steps():
    def make(k):
        return sequential(*SEQUENCES, lambda k: k.layers.Dense(3, activation="softmax"))(k)

    ours, theirs = pair(make)
    labels = np.random.default_rng(4).integers(0, 3, WORDS.shape)
    scores = []
    for model in (ours, theirs):
        model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
        scores.append(model.evaluate(WORDS, labels, verbose=0))
    np.testing.assert_allclose(scores[0], scores[1], rtol=1e-5)
    right = ours.predict(WORDS, verbose=0).argmax(-1) == labels
    assert scores[0][1] == pytest.approx(right[MASK].mean())  # of 13 words, not of 20 steps


def test_masking_zeroes_and_rules_out_steps():
    for value in (0.0, 1.5):
        ours, theirs = keras.layers.Masking(value), keras_peer.layers.Masking(value)
        y, y_peer = ours(STEPS), theirs(STEPS)
        np.testing.assert_array_equal(y.numpy(), to_numpy(y_peer))
        np.testing.assert_array_equal(y._keras_mask.numpy(), to_numpy(y_peer._keras_mask))
    assert keras.layers.Masking.from_config(ours.get_config()).mask_value == 1.5


def test_merged_masks_equal_keras():
    def masks(k):
        found = []
        for axis in (-1, 1):
            a = k.layers.Embedding(7, 2, mask_zero=True, embeddings_initializer="ones")(WORDS)
            b = k.layers.Embedding(7, 2, mask_zero=True, embeddings_initializer="ones")(WORDS[::-1])
            plain = k.layers.Embedding(7, 2, embeddings_initializer="ones")(WORDS)
            found += [k.layers.Concatenate(axis)([a, b]), k.layers.Concatenate(axis)([a, plain])]
        found += [k.layers.Maximum()([a, b]), k.layers.Maximum()([a, plain])]
        found += [k.layers.Dot(axes=2)([a, b])]
        return [getattr(y, "_keras_mask", None) for y in found]

    for ours, theirs in zip(masks(keras), masks(keras_peer), strict=True):
        if theirs is None:
            assert ours is None
        else:
            np.testing.assert_array_equal(ours.numpy(), to_numpy(theirs))


def test_softmax_heeds_a_mask():
    x = STEPS[..., 0]
    ours = keras.layers.Softmax()(x, mask=MASK).numpy()
    theirs = keras_peer.layers.Softmax()(x, mask=keras_peer.ops.convert_to_tensor(MASK))
    np.testing.assert_allclose(ours, to_numpy(theirs), atol=1e-6)
    with pytest.raises(ValueError, match="does not broadcast"):
        keras.layers.Softmax()(x, mask=MASK[:, :2])


def test_a_layer_that_loses_the_mask_says_so():
    x = keras.layers.Embedding(7, 6, mask_zero=True)(WORDS)
    with pytest.warns(UserWarning, match="'flat' .Flatten. does not support masking"):
        y = keras.layers.Flatten(name="flat")(x)
    assert getattr(y, "_keras_mask", None) is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        keras.layers.MultiHeadAttention(2, 3)(x, x)
        keras.layers.Flatten()(keras.layers.Embedding(7, 6)(WORDS))


class Carries(keras.layers.Layer):
    """As in Keras' guide: it passes masks on because it says so."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True

    def call(self, inputs):
        return inputs * 2


class Halves(keras.layers.Layer):
    """Every second step, with a mask of its own."""

    def call(self, inputs, mask=None):
        self.seen = mask
        return inputs[:, ::2]

    def compute_mask(self, inputs, mask=None):
        return None if mask is None else mask[:, ::2]


def test_layers_of_ones_own_get_masks_and_pass_them_on():
    x = keras.layers.Embedding(7, 6, mask_zero=True)(WORDS)
    halves = Halves()
    y = halves(Carries()(x))
    np.testing.assert_array_equal(halves.seen.numpy(), MASK)
    np.testing.assert_array_equal(y._keras_mask.numpy(), MASK[:, ::2])
    assert halves.supports_masking and not keras.layers.Flatten().supports_masking
    given = keras.layers.Embedding(7, 6, mask_zero=True).compute_mask(Tensor(WORDS))
    np.testing.assert_array_equal(given.numpy(), MASK)


def test_a_subclassed_model_and_lambda():
    class Reader(keras.Model):
        def __init__(self):
            super().__init__()
            self.words = keras.layers.Embedding(7, 6, mask_zero=True)
            self.twice = keras.layers.Lambda(
                lambda x, mask: ops.where(ops.expand_dims(mask, -1), x, 9.0),
                mask=lambda x, mask: mask,
            )
            self.read = keras.layers.LSTM(3)

        def call(self, inputs):
            return self.read(self.twice(self.words(inputs)))

    model = Reader()
    y = model(WORDS).numpy()
    alone = model.read(model.words(WORDS), mask=MASK).numpy()
    np.testing.assert_allclose(y, alone, atol=1e-6)
    assert not np.allclose(y, model.read(ops.stop_gradient(model.words(WORDS))).numpy())


def test_masks_survive_files_both_ways(tmp_path):
    ours, theirs = pair(functional)
    expected = theirs.predict(WORDS, verbose=0)
    ours.save(tmp_path / "ours.keras")
    theirs.save(tmp_path / "theirs.keras")
    for load in (keras_peer.models.load_model, keras.models.load_model):
        for name in ("ours.keras", "theirs.keras"):
            again = load(tmp_path / name).predict(WORDS, verbose=0)
            np.testing.assert_allclose(again[MASK], expected[MASK], atol=2e-6)
