"""Masks on the (simulated) GPU: the CPU's results, and nothing is copied to the host for them."""

import numpy as np
import pytest

pytest.importorskip("numba_cuda")

import minitorch_ciml as mt
from minitorch_ciml import keras, ops
from minitorch_ciml.kernels.cuda import runtime

L = keras.layers
WORDS = np.array([[3, 1, 4], [0, 2, 0], [1, 2, 3], [5, 0, 0]])
RIGHT = np.array([[1, 0, 2], [0, 2, 0], [1, 1, 0], [2, 0, 1]])


@pytest.fixture
def copies(monkeypatch):
    """A list that every copy from the GPU to the host is written to."""
    seen = []
    copy = type(runtime.runtime()).copy_to_host

    def spy(self, target, source):
        seen.append(source.shape)
        copy(self, target, source)

    monkeypatch.setattr(type(runtime.runtime()), "copy_to_host", spy)
    return seen


def test_the_fixture_sees_a_copy(copies):
    mt.Tensor([1.0, 2.0]).to("cuda").numpy()
    assert copies == [(2,)]


# --- layers ---------------------------------------------------------------------------------------

RNG = np.random.default_rng(0)
X = RNG.normal(size=(2, 3, 4)).astype("float32")
GRID = RNG.normal(size=(2, 2, 3, 4)).astype("float32")
MASK = np.array([[True, True, False], [False, True, True]])
TWO = np.array([[True, False], [True, True]])


def call(make, *inputs, **how):
    """A function that calls a new layer on a device; arrays and masks are moved there."""

    def run(device, copies):
        with mt.device(device):
            keras.utils.set_random_seed(0)
            layer = make()
            moved = [mt.Tensor(x) if isinstance(x, np.ndarray) else list(map(mt.Tensor, x))
                     for x in inputs]  # fmt: skip
            told = {k: on(v) for k, v in how.items()}
            layer(*moved, **told)  # makes the weights, some of them on the host
            copies.clear()
            return layer(*moved, **told)

    def on(value):
        if isinstance(value, list):
            return list(map(on, value))
        return mt.Tensor(value) if isinstance(value, np.ndarray) else value

    return run


def every(axes=None):
    return lambda: L.MultiHeadAttention(2, 3, attention_axes=axes)


LAYERS = {
    "attention, all masks": call(
        every(), X, X, query_mask=MASK, value_mask=MASK, key_mask=MASK,
        attention_mask=np.tri(3, dtype=bool)[None].repeat(2, 0),
    ),
    "attention, causal": call(every(), X, X, value_mask=MASK, use_causal_mask=True),
    "attention, scores": call(every(), X, X, value_mask=MASK, return_attention_scores=True),
    "attention, dropout": call(
        lambda: L.MultiHeadAttention(1, 2, dropout=0.5), X, X, value_mask=MASK, training=True
    ),
    "attention, two axes": call(
        every((1, 2)), GRID, GRID, attention_mask=np.tri(6, dtype=bool).reshape(1, 2, 3, 2, 3)
    ),
    "plain": call(L.Attention, [X, X], mask=[MASK, MASK]),
    "plain, causal": call(L.AdditiveAttention, [X, X], mask=[MASK, MASK], use_causal_mask=True),
    "lstm": call(lambda: L.LSTM(2, return_sequences=True), X, mask=MASK),
    "gru, backwards": call(lambda: L.GRU(2, go_backwards=True), X, mask=MASK),
    "bidirectional": call(lambda: L.Bidirectional(L.SimpleRNN(2)), X, mask=MASK),
    "softmax": call(L.Softmax, X, mask=MASK[..., None]),
    "batch norm": call(L.BatchNormalization, X, mask=MASK, training=True),
    "average": call(L.GlobalAveragePooling1D, X, mask=MASK),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_heeds_its_mask_where_it_lies(name, copies):
    found = LAYERS[name]("cuda", copies)
    assert not copies
    expected = LAYERS[name]("cpu", copies)
    for y, y_cpu in zip(keras.tree.flatten(found), keras.tree.flatten(expected)):
        assert y.device == "cuda"
        np.testing.assert_allclose(y.numpy(), y_cpu.numpy(), atol=2e-6)


def test_masks_of_merged_tensors_stay_there(copies):
    x, mask = mt.Tensor(X).to("cuda"), mt.Tensor(MASK).to("cuda")
    masks = [L.Add().compute_mask([x, x], [mask, ~mask])]
    with mt.device("cuda"):
        masks += [L.Concatenate().compute_mask([x, x], [mask, None])]
        masks += [L.Concatenate(1).compute_mask([x, x], [mask, mask])]
    assert not copies and {m.device for m in masks} == {"cuda"}
    np.testing.assert_array_equal(masks[0].numpy(), np.ones((2, 3)))
    np.testing.assert_array_equal(masks[1].numpy(), np.ones((2, 3)))
    np.testing.assert_array_equal(masks[2].numpy(), np.concatenate([MASK, MASK], 1))


# --- losses and metrics ---------------------------------------------------------------------------


@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "mean_with_sample_weight", "sum"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kept", [MASK, np.zeros_like(MASK)])
def test_a_masked_loss_is_reduced_there(reduction, weighted, kept, copies):
    loss = keras.losses.MeanSquaredError(reduction=reduction)
    weight = np.array([[0.5], [2.0]], "float32") if weighted else None
    results = []
    for device in ("cuda", "cpu"):
        with mt.device(device):
            t, p, m = mt.Tensor(X), mt.Tensor(X[::-1].copy(), requires_grad=True), mt.Tensor(kept)
            value = loss(t, p, weight if weight is None else mt.Tensor(weight), m)
            results.append((value, mt.grad(value, p)))
        assert not copies
    for on_gpu, on_cpu in zip(*results):
        np.testing.assert_allclose(on_gpu.numpy(), on_cpu.numpy(), 1e-5, 1e-6)


@pytest.mark.parametrize(
    "loss",
    [
        keras.losses.SparseCategoricalCrossentropy(ignore_class=0),
        keras.losses.CategoricalGeneralizedCrossEntropy(),
    ],
)
def test_labels_stay_there(loss, copies):
    p = np.random.default_rng(0).dirichlet(np.ones(4), 6).astype("float32")
    labels = np.array([0, 1, 3, 0, 2, 1])
    with mt.device("cuda"):
        value = loss(mt.Tensor(labels), mt.Tensor(p))
    assert not copies
    np.testing.assert_allclose(value.numpy(), loss(labels, p).numpy(), 1e-6)


# --- training -------------------------------------------------------------------------------------


def tagger():
    """A class for each word: attention and a recurrent layer, both masked."""
    words = keras.Input((3,), dtype="int32")
    x = L.Embedding(6, 4, mask_zero=True)(words)
    x = L.Add()([x, L.MultiHeadAttention(1, 2)(x, x)])
    x = L.GRU(2, return_sequences=True)(x)
    return keras.Model(words, L.Dense(3, activation="softmax")(x))


def test_a_masked_model_trains_in_recorded_steps_as_on_the_cpu(copies):
    results = []
    for device in ("cuda", "cpu"):
        keras.utils.set_random_seed(1)
        with mt.device(device):
            model = tagger()
            model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"],
                          weighted_metrics=["accuracy"])  # fmt: skip
            before = len(copies)
            fetched = []
            at_end = keras.callbacks.LambdaCallback(
                on_epoch_end=lambda e, logs: fetched.append(len(copies) - before)  # noqa: B023
            )
            history = model.fit(
                WORDS, RIGHT, sample_weight=np.array([1.0, 2.0, 0.5, 1.0], "float32"),
                batch_size=4, epochs=4, shuffle=False, verbose=0, callbacks=[at_end],
            ).history  # fmt: skip
        results.append((model, history, fetched))
    (on_gpu, gpu_history, fetched), (on_cpu, cpu_history, _) = results
    assert on_gpu.why_not_recorded is None and on_gpu._stepper.replayed == 2
    assert fetched == [3 * (epoch + 1) for epoch in range(4)]  # the three logs, once an epoch
    for key, values in cpu_history.items():
        np.testing.assert_allclose(gpu_history[key], values, 1e-4, err_msg=key)
    for ours, theirs in zip(on_gpu.get_weights(), on_cpu.get_weights()):
        np.testing.assert_allclose(ours, theirs, 1e-4, 1e-5)


def test_a_padding_mask_from_the_host_is_taken_there():
    """A mask that the user gives as an array goes to the device of the inputs."""
    x = mt.Tensor(X.reshape(2, 3, 1, 4)).to("cuda")
    mask = MASK[:, None, None, :]
    y = ops.dot_product_attention(x, x, x, mask=mask)
    expected = ops.dot_product_attention(x.to("cpu"), x.to("cpu"), x.to("cpu"), mask=mask)
    np.testing.assert_allclose(y.numpy(), expected.numpy(), atol=1e-6)
