"""Layers that prepare data against Keras 3: images, numbers, words."""

import numpy as np
import pytest

from minitorch_ciml import Tensor, grad, keras
from tests.keras_peer import drop_ids, keras_peer, to_numpy, torch

IMAGES = np.random.default_rng(0).uniform(0, 255, (3, 7, 9, 2)).astype("float32")
BYTES = IMAGES.astype("uint8")


def both(name, x, **kwargs):
    ours, theirs = (getattr(k.layers, name)(name="layer", **kwargs) for k in (keras, keras_peer))
    return ours(x).numpy(), to_numpy(theirs(x)), ours, theirs


# --- sizes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
@pytest.mark.parametrize("size", [(14, 18), (4, 5), (7, 20), (1, 1)])
@pytest.mark.parametrize(
    "options",
    [{}, {"crop_to_aspect_ratio": True}, {"pad_to_aspect_ratio": True, "fill_value": 9.0}],
)
def test_resizing_equals_keras(interpolation, size, options):
    kwargs = dict(height=size[0], width=size[1], interpolation=interpolation, **options)
    y, y_peer, ours, theirs = both("Resizing", IMAGES, **kwargs)
    np.testing.assert_allclose(y, y_peer, rtol=1e-4, atol=1e-4)
    assert ours.compute_output_shape((None, 7, 9, 2)) == (None, *size, 2)
    assert ours(IMAGES[0]).shape == (*size, 2)
    assert drop_ids(ours.get_config()).keys() >= drop_ids(theirs.get_config()).keys() - {"dtype"}


@pytest.mark.parametrize("size", [(14, 18), (3, 4), (2, 12)])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos3", "lanczos5"])
@pytest.mark.parametrize("antialias", [False, True])
def test_resizing_by_weights(size, interpolation, antialias):
    layer = keras.layers.Resizing(*size, interpolation=interpolation, antialias=antialias)
    how = {"interpolation": interpolation, "antialias": antialias}
    expected = keras.ops.image.resize(IMAGES, size, **how).numpy()
    np.testing.assert_allclose(layer(IMAGES), expected, rtol=1e-4, atol=1e-3)
    if interpolation == "bilinear":  # PyTorch has another bicubic one, and not the others
        peer = keras_peer.layers.Resizing(*size, **how)
        np.testing.assert_allclose(layer(IMAGES), to_numpy(peer(IMAGES)), rtol=1e-4, atol=1e-3)
        assert peer.get_config().items() >= {"antialias": layer.get_config()["antialias"]}.items()


def test_gradients_flow_through_resizing_within_a_model():
    seed = np.random.default_rng(1).normal(size=(3, 5, 4, 2)).astype("float32")
    x = Tensor(IMAGES, requires_grad=True)
    y = keras.layers.Resizing(5, 4)(x)
    tensor = torch.tensor(IMAGES, requires_grad=True)
    peer = keras_peer.layers.Resizing(5, 4)(tensor)
    np.testing.assert_allclose(y.numpy(), peer.detach().numpy(), rtol=1e-5)
    (peer * torch.tensor(seed)).sum().backward()
    np.testing.assert_allclose(grad((y * seed).sum(), x), tensor.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["Resizing", "CenterCrop"])
@pytest.mark.parametrize("size", [(4, 5), (10, 12)])
def test_masks_and_labels_go_with_their_images(name, size):
    masks = np.random.default_rng(2).integers(0, 4, (3, 7, 9, 1)).astype("float32")
    data = {"images": IMAGES, "segmentation_masks": masks, "labels": np.arange(3)}
    ours, theirs = (getattr(k.layers, name)(*size)(dict(data)) for k in (keras, keras_peer))
    np.testing.assert_allclose(ours["images"], to_numpy(theirs["images"]), rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(ours["labels"], np.arange(3))
    found = np.asarray(ours["segmentation_masks"])
    assert found.shape == (3, *size, 1) and set(found.ravel()) <= {0, 1, 2, 3}
    if name == "Resizing" or size == (4, 5):  # Keras mixes the classes where it enlarges a middle
        np.testing.assert_array_equal(found, to_numpy(theirs["segmentation_masks"]))
    with pytest.raises(ValueError, match="takes images or a dictionary with 'images'"):
        getattr(keras.layers, name)(*size)({"labels": IMAGES})


def test_resizing_keeps_bytes():
    y, y_peer, *_ = both("Resizing", BYTES, height=5, width=4)
    assert y.dtype == y_peer.dtype == np.uint8
    assert abs(y.astype(int) - y_peer).max() <= 1  # a half may go either way


@pytest.mark.parametrize("size", [(4, 5), (3, 9), (7, 9), (10, 5), (12, 14)])
def test_center_crop_equals_keras(size):
    y, y_peer, *_ = both("CenterCrop", IMAGES, height=size[0], width=size[1])
    np.testing.assert_allclose(y, y_peer, rtol=1e-4, atol=1e-4)


def test_channels_first():
    x = np.moveaxis(IMAGES, -1, 1)
    layer = keras.layers.Resizing(4, 5, data_format="channels_first")
    np.testing.assert_allclose(
        layer(x).numpy(), np.moveaxis(keras.layers.Resizing(4, 5)(IMAGES).numpy(), -1, 1)
    )
    assert layer.compute_output_shape((None, 2, 7, 9)) == (None, 2, 4, 5)


# --- augmentation: with equal limits there is no chance left -------------------------------------

MOVES = [
    ("RandomRotation", dict(factor=(0.07, 0.07))),
    ("RandomRotation", dict(factor=(-0.25, -0.25))),
    ("RandomZoom", dict(height_factor=(0.3, 0.3))),
    ("RandomZoom", dict(height_factor=(-0.4, -0.4), width_factor=(0.2, 0.2))),
    ("RandomTranslation", dict(height_factor=(0.3, 0.3), width_factor=(-0.2, -0.2))),
    ("RandomTranslation", dict(height_factor=(-0.9, -0.9), width_factor=(0.9, 0.9))),
]


@pytest.mark.parametrize("fill_mode", ["reflect", "wrap", "constant", "nearest"])
@pytest.mark.parametrize(("name", "kwargs"), MOVES)
def test_moved_images_equal_keras(name, kwargs, fill_mode):
    y, y_peer, ours, theirs = both(name, IMAGES, fill_mode=fill_mode, fill_value=7.0, **kwargs)
    np.testing.assert_allclose(y, y_peer, rtol=1e-3, atol=2e-2)
    assert drop_ids(ours.get_config()).keys() >= drop_ids(theirs.get_config()).keys() - {"dtype"}
    np.testing.assert_array_equal(ours(IMAGES, training=False).numpy(), IMAGES)


def test_moved_to_the_nearest_pixel():
    kwargs = dict(height_factor=(0.3, 0.3), width_factor=(-0.2, -0.2), interpolation="nearest")
    y, y_peer, *_ = both("RandomTranslation", IMAGES, **kwargs)
    np.testing.assert_allclose(y, y_peer)


@pytest.mark.parametrize(
    ("mode", "axes"), [("horizontal", 2), ("vertical", 1), ("horizontal_and_vertical", (1, 2))]
)
def test_half_of_the_images_are_flipped(mode, axes):
    x = np.random.default_rng(1).uniform(size=(400, 3, 4, 1)).astype("float32")
    y = keras.layers.RandomFlip(mode, seed=1)(x).numpy()
    flipped = np.flip(x, axes)
    changed = (y != x).any(axis=(1, 2, 3))
    np.testing.assert_array_equal(y, np.where(changed[:, None, None, None], flipped, x))
    assert 150 < changed.sum() < 250


def test_every_image_moves_by_its_own_and_a_seed_repeats_it():
    x = np.tile(IMAGES[:1], (4, 1, 1, 1))
    make = lambda: keras.layers.RandomRotation(0.2, seed=3)  # noqa: E731
    first, again = make()(x).numpy(), make()(x).numpy()
    np.testing.assert_array_equal(first, again)
    assert all(not np.allclose(first[0], first[i]) for i in (1, 2, 3))
    layer = make()
    assert not np.allclose(layer(x).numpy(), layer(x).numpy())


def test_augmentation_acts_in_training_only():
    model = keras.Sequential(
        [keras.Input((7, 9, 2)), keras.layers.RandomFlip("horizontal"),
         keras.layers.RandomRotation(0.1), keras.layers.RandomZoom(0.2), keras.layers.Flatten(),
         keras.layers.Dense(1)]
    )  # fmt: skip
    np.testing.assert_array_equal(*(model.predict(IMAGES, verbose=0) for _ in range(2)))
    model.compile("sgd", "mse")
    assert [layer.generator.draws for layer in model.layers[:3]] == [0, 0, 0]
    model.fit(IMAGES / 255, np.zeros(3), verbose=0)
    assert [layer.generator.draws for layer in model.layers[:3]] == [1, 1, 1]


# --- numbers ------------------------------------------------------------------------------------

TABLE = np.random.default_rng(2).normal(5, 3, (20, 4, 3)).astype("float32")


@pytest.mark.parametrize("axis", [-1, 1, (1, 2), None])
@pytest.mark.parametrize("invert", [False, True])
def test_normalization_equals_keras(axis, invert):
    outputs = []
    for k in (keras, keras_peer):
        layer = k.layers.Normalization(axis=axis, invert=invert)
        layer.adapt(TABLE)
        outputs += [np.asarray(to_numpy(layer(TABLE[:5]))), np.asarray(to_numpy(layer.mean))]
    np.testing.assert_allclose(outputs[0], outputs[2], rtol=2e-5, atol=2e-5)
    np.testing.assert_allclose(outputs[1], outputs[3], rtol=1e-5)


def test_normalization_of_batches_and_of_given_statistics():
    whole, parts = keras.layers.Normalization(), keras.layers.Normalization()
    whole.adapt(TABLE)
    parts.adapt(TABLE[i : i + 6] for i in range(0, 20, 6))
    np.testing.assert_allclose(whole(TABLE).numpy(), parts(TABLE).numpy(), atol=1e-5)
    np.testing.assert_allclose(whole(TABLE).numpy().mean(axis=(0, 1)), 0, atol=1e-5)
    y, y_peer, ours, theirs = both("Normalization", TABLE, mean=[1, 2, 3], variance=[4, 5, 6])
    np.testing.assert_allclose(y, y_peer, rtol=1e-5)
    with pytest.raises(ValueError, match="give both"):
        keras.layers.Normalization(mean=1.0)


@pytest.mark.parametrize("mode", ["one_hot", "multi_hot", "count"])
@pytest.mark.parametrize("shape", [(6,), (6, 1), (4, 3)])
def test_category_encoding_equals_keras(mode, shape):
    x = np.random.default_rng(3).integers(0, 5, shape)
    y, y_peer, ours, theirs = both("CategoryEncoding", x, num_tokens=5, output_mode=mode)
    np.testing.assert_array_equal(y, y_peer)
    if len(shape) == 2:
        assert ours.compute_output_shape((None, *shape[1:])) == (None, *y.shape[1:])
    assert drop_ids(ours.get_config()).keys() == drop_ids(theirs.get_config()).keys()


def test_counts_have_weights():
    x, w = np.array([[0, 1, 1], [2, 2, 2]]), np.array([[0.5, 1, 2], [1, 1, 0.25]])
    layers = [k.layers.CategoryEncoding(4, "count") for k in (keras, keras_peer)]
    ours, theirs = (np.asarray(to_numpy(layer(x, count_weights=w))) for layer in layers)
    np.testing.assert_allclose(ours, theirs)
    with pytest.raises(ValueError, match="between 0 and num_tokens - 1 = 3, got 0 to 4"):
        layers[0](np.array([0, 4]))


@pytest.mark.parametrize("mode", ["int", "one_hot", "multi_hot", "count"])
def test_discretization_equals_keras(mode):
    x = np.array([[-1.5, 1.0, 3.4], [0.5, 0.0, 1.3]], "float32")
    kwargs = dict(bin_boundaries=[0.0, 1.0, 2.0], output_mode=mode)
    y, y_peer, ours, theirs = both("Discretization", x, **kwargs)
    np.testing.assert_array_equal(y, y_peer)
    assert drop_ids(ours.get_config()).keys() >= drop_ids(theirs.get_config()).keys()


def test_bins_with_equal_numbers():
    x = np.random.default_rng(4).normal(size=(5000,)).astype("float32")
    layer = keras.layers.Discretization(num_bins=4)  # Keras' `adapt` needs TensorFlow
    layer.adapt(x)
    np.testing.assert_allclose(layer.bin_boundaries, np.quantile(x, [0.25, 0.5, 0.75]))
    counts = np.bincount(layer(x).numpy())
    assert (abs(counts - 1250) <= 1).all()
    again = keras.layers.Discretization.from_config(layer.get_config())
    np.testing.assert_array_equal(again(x).numpy(), layer(x).numpy())


# --- words: Keras' layers need TensorFlow, so these are the examples of its documentation ---------

WORDS, SAMPLES = ["a", "b", "c", "d"], [["a", "c", "d"], ["d", "z", "b"]]


def test_string_lookup():
    layer = keras.layers.StringLookup(vocabulary=WORDS)
    np.testing.assert_array_equal(layer(SAMPLES).numpy(), [[1, 3, 4], [4, 0, 2]])
    assert layer.get_vocabulary() == ["[UNK]", *WORDS] and layer.vocabulary_size() == 5
    back = keras.layers.StringLookup(vocabulary=layer.get_vocabulary(), invert=True)
    assert back(layer(SAMPLES)).tolist() == [["a", "c", "d"], ["d", "[UNK]", "b"]]
    one_hot = keras.layers.StringLookup(vocabulary=WORDS, output_mode="one_hot")
    np.testing.assert_array_equal(one_hot(["a", "z"]).numpy(), [[0, 1, 0, 0, 0], [1, 0, 0, 0, 0]])
    data = [["a", "c", "d", "d"], ["d", "z", "b", "z"]]
    many = keras.layers.StringLookup(vocabulary=WORDS, output_mode="multi_hot")
    np.testing.assert_array_equal(many(data).numpy(), [[0, 1, 0, 1, 1], [1, 0, 1, 0, 1]])
    count = keras.layers.StringLookup(vocabulary=WORDS, output_mode="count")
    np.testing.assert_array_equal(count(data).numpy(), [[0, 1, 0, 1, 2], [2, 0, 1, 0, 1]])


def test_adapted_lookups(tmp_path):
    layer = keras.layers.StringLookup(mask_token="", max_tokens=4)
    layer.adapt(np.array([["b", "a", "b", ""], ["c", "c", "b", "d"]]))
    assert layer.get_vocabulary() == ["", "[UNK]", "b", "c"]  # "a" and "d" have no room
    np.testing.assert_array_equal(layer(["", "b", "d"]).numpy(), [0, 2, 1])
    again = keras.layers.StringLookup.from_config(layer.get_config())
    assert again.get_vocabulary() == layer.get_vocabulary()
    numbers = keras.layers.IntegerLookup()
    numbers.adapt([[12, 1138, 42], [42, 1000, 36]])
    assert numbers.get_vocabulary() == [-1, 42, 1138, 1000, 36, 12]
    np.testing.assert_array_equal(numbers([[42, 7], [12, 36]]).numpy(), [[1, 0], [5, 4]])
    spread = keras.layers.IntegerLookup(vocabulary=[12, 36, 1138, 42], num_oov_indices=2)
    np.testing.assert_array_equal(
        spread([[12, 1138, 42], [37, 1000, 36]]).numpy(), [[2, 4, 5], [1, 0, 3]]
    )
    (tmp_path / "words.txt").write_text("x\ny\n", encoding="utf-8")
    assert keras.layers.StringLookup(vocabulary=tmp_path / "words.txt")(["y"]).tolist() == [2]


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda k: k.layers.StringLookup()(["a"]), "call adapt"),
        (lambda k: k.layers.StringLookup(vocabulary=["a", "a"]), "'a' is in the vocabulary twice"),
        (lambda k: k.layers.StringLookup(vocabulary=["a"], num_oov_indices=0)(["b"]), "'b' is not"),
        (lambda k: k.layers.StringLookup(max_tokens=2, vocabulary=["a", "b"]), "longer than max"),
        (lambda k: k.layers.Resizing(3, 3, interpolation="cubic"), "interpolation='cubic'"),
        (lambda k: k.layers.Resizing(0, 3), "height must be a positive integer"),
        (lambda k: k.layers.RandomFlip("diagonal"), "mode='diagonal'"),
        (lambda k: k.layers.RandomRotation(2.0), "factor must be a number or two between"),
        (lambda k: k.layers.RandomZoom(0.1)(np.zeros((3, 4))), "takes images"),
        (lambda k: k.layers.CategoryEncoding(), "num_tokens must be a positive integer, got None"),
        (lambda k: k.layers.Discretization(), "give bin_boundaries or num_bins"),
    ],
)
def test_errors(call, error):
    with pytest.raises(ValueError, match=error):
        call(keras)


# --- files --------------------------------------------------------------------------------------


def test_models_with_preprocessing_go_both_ways(tmp_path):
    def make(k):
        first = k.layers.Normalization(name="scale")
        first.adapt(IMAGES)
        return k.Sequential(
            [k.Input((7, 9, 2)), first, k.layers.RandomFlip(), k.layers.RandomRotation(0.1),
             k.layers.RandomZoom(0.1, 0.2), k.layers.RandomTranslation(0.1, 0.1),
             k.layers.Resizing(4, 4), k.layers.CenterCrop(3, 3), k.layers.Flatten(),
             k.layers.Dense(2)]
        )  # fmt: skip

    ours, theirs = make(keras), make(keras_peer)
    ours.set_weights(theirs.get_weights())
    expected = theirs.predict(IMAGES, verbose=0)
    np.testing.assert_allclose(ours.predict(IMAGES, verbose=0), expected, rtol=1e-4, atol=1e-4)
    ours.save(tmp_path / "ours.keras")
    theirs.save(tmp_path / "theirs.keras")
    for load in (keras_peer.models.load_model, keras.models.load_model):
        for name in ("ours.keras", "theirs.keras"):
            again = load(tmp_path / name).predict(IMAGES, verbose=0)
            np.testing.assert_allclose(again, expected, rtol=1e-4, atol=1e-4)
