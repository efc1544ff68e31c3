"""Layers that change images against Keras 3: what they do with given random numbers, and which."""

import numpy as np
import pytest

from minitorch_ciml import config, keras, kernels
from tests.keras_peer import drop_ids, keras_peer, to_numpy

RNG = np.random.default_rng(0)
IMAGES = np.random.default_rng(0).uniform(0, 255, (5, 12, 10, 3)).astype("float32")
layers = keras.layers


def both(name, x, **kwargs):
    ours, theirs = (getattr(k.layers, name)(name="layer", **kwargs) for k in (keras, keras_peer))
    return ours(x).numpy(), to_numpy(theirs(x)), ours, theirs


# --- with equal limits there is no chance left ----------------------------------------------------

SETTLED = [
    ("RandomBrightness", dict(factor=(0.3, 0.3))),
    ("RandomBrightness", dict(factor=(-0.4, -0.4))),
    ("RandomContrast", dict(factor=(0.0, 0.0))),
    ("RandomSaturation", dict(factor=(0.2, 0.2))),
    ("RandomSaturation", dict(factor=(0.8, 0.8))),
    ("RandomColorDegeneration", dict(factor=(0.6, 0.6))),
    ("RandomSharpness", dict(factor=(0.1, 0.1))),
    ("RandomSharpness", dict(factor=(0.9, 0.9))),
    ("RandomPosterization", dict(factor=(3, 3))),
    ("RandomInvert", dict(factor=(1.0, 1.0))),
    ("RandomGaussianBlur", dict(factor=(1.0, 1.0), kernel_size=5, sigma=(0.8, 0.8))),
    ("RandomGrayscale", dict(factor=1.0)),
    ("RandomGrayscale", dict(factor=0.0)),
    ("RandomHue", dict(factor=(0.0, 0.0))),
    ("AutoContrast", {}),
    ("Equalization", {}),
    ("Equalization", dict(bins=64)),
    ("ContrastLimitedAdaptiveHistogramEqualization", dict(clip_limit=0, tile_grid_size=(3, 2))),
    ("ContrastLimitedAdaptiveHistogramEqualization", dict(clip_limit=0, tile_grid_size=(4, 5))),
    ("RandomShear", dict(x_factor=(0.0, 0.0), y_factor=(0.0, 0.0))),
    ("RandomPerspective", dict(factor=(1.0, 1.0), scale=0.0)),
    ("RandomCrop", dict(height=12, width=5)),
    ("RandomCrop", dict(height=20, width=15)),
]  # fmt: skip


@pytest.mark.filterwarnings("ignore:Tensor.T is deprecated")  # Keras
@pytest.mark.parametrize(("name", "kwargs"), SETTLED)
def test_equals_keras(name, kwargs):
    y, y_peer, ours, theirs = both(name, IMAGES, **kwargs)
    assert y.shape == y_peer.shape and y.dtype == np.float32
    np.testing.assert_allclose(y, y_peer, rtol=1e-5, atol=2e-3)
    single, single_peer, *_ = both(name, IMAGES[0], **kwargs)
    np.testing.assert_allclose(single, single_peer, rtol=1e-5, atol=2e-3)
    if name == "RandomCrop":  # Keras leaves images as they are, whatever output shape it announces
        assert ours(IMAGES, training=False).shape == y.shape
        return
    out = ours(IMAGES, training=False).numpy()
    np.testing.assert_allclose(out, to_numpy(theirs(IMAGES, training=False)), rtol=1e-5, atol=2e-3)
    assert drop_ids(ours.get_config()).keys() >= drop_ids(theirs.get_config()).keys() - {"dtype"}


def test_clipped_histograms_equal_keras():
    # The limit is 4 * 768 / 256 = 12: on PyTorch, Keras cuts it to an integer.
    x = RNG.normal(90, 9, (2, 64, 48, 2)).clip(0, 255).astype("float32")
    name = "ContrastLimitedAdaptiveHistogramEqualization"
    y, y_peer, *_ = both(name, x, tile_grid_size=(2, 2))
    np.testing.assert_allclose(y, y_peer, rtol=1e-5, atol=2e-3)
    unlimited = getattr(layers, name)(clip_limit=0, tile_grid_size=(2, 2))(x).numpy()
    assert x.std() < y.std() < unlimited.std()  # more contrast, but not as much as without a limit


@pytest.mark.filterwarnings("ignore:Tensor.T is deprecated")
@pytest.mark.parametrize(
    ("name", "kwargs"),
    [(n, k) for n, k in SETTLED if n not in ("RandomShear", "RandomPerspective", "RandomCrop",
                                             "RandomGrayscale")],
)  # fmt: skip
def test_values_from_0_to_1(name, kwargs):
    y, y_peer, *_ = both(name, IMAGES / 255, value_range=(0, 1), **kwargs)
    np.testing.assert_allclose(y, y_peer, rtol=1e-5, atol=1e-5)


def test_bytes_and_channels_first():
    for name, kwargs in SETTLED:
        x = IMAGES.astype("uint8")
        layer = getattr(layers, name)(**kwargs)
        first = getattr(layers, name)(data_format="channels_first", **kwargs)
        moved = np.moveaxis(first(np.moveaxis(x, -1, 1)).numpy(), 1, -1)
        np.testing.assert_allclose(moved, layer(x).numpy(), rtol=1e-5, atol=1e-3, err_msg=name)


# --- with the random numbers of ours --------------------------------------------------------------


def with_same_numbers(name, as_keras, x=IMAGES, **kwargs):
    """Our layer's result, and Keras' for the same random numbers; both twice."""
    ours, theirs = (getattr(k.layers, name)(**kwargs) for k in (keras, keras_peer))
    drawn = ours.draw(*x.shape)
    peer = theirs.transform_images(keras_peer.ops.convert_to_tensor(x), as_keras(drawn))
    return ours.change(x, drawn), to_numpy(peer), drawn, ours


def tensor(x):
    return keras_peer.ops.convert_to_tensor(np.asarray(x, "float32"))


def test_contrast_and_hue_equal_keras():
    y, peer, drawn, _ = with_same_numbers(
        "RandomContrast", lambda d: {"contrast_factor": tensor(d)}, factor=0.7
    )
    np.testing.assert_allclose(y, peer, rtol=1e-5, atol=1e-3)
    assert drawn.min() >= 1 and drawn.max() <= 1.7
    y, peer, drawn, _ = with_same_numbers(
        "RandomHue", lambda d: {"factor": tensor(d.ravel())}, factor=0.9
    )
    np.testing.assert_allclose(y, peer, rtol=1e-4, atol=5e-3)
    assert (drawn < 0).any() and (drawn > 0).any() and abs(drawn).max() <= 0.45


def test_solarization_equals_keras():
    y, peer, (additions, thresholds), _ = with_same_numbers(
        "Solarization", lambda d: dict(zip(("additions", "thresholds"), map(tensor, d))),
        addition_factor=0.3, threshold_factor=(0.2, 0.9),
    )  # fmt: skip
    np.testing.assert_allclose(y, peer, rtol=1e-5, atol=1e-4)
    assert 0 <= additions.min() <= additions.max() <= 0.3 * 255
    assert 0.2 <= thresholds.min() <= thresholds.max() <= 0.9 * 255


@pytest.mark.parametrize("fill_mode", ["reflect", "wrap", "constant", "nearest"])
def test_shear_equals_keras(fill_mode):
    def as_keras(matrices):
        return {"shear_factor": tensor(matrices[:, [1, 3]])}

    ours, theirs = (
        k.layers.RandomShear((0.1, 0.4), (0.0, 0.3), fill_mode=fill_mode, fill_value=3.0)
        for k in (keras, keras_peer)
    )
    drawn = ours.draw(*IMAGES.shape)
    peer = theirs._transform_images(tensor(IMAGES), as_keras(drawn), "bilinear")
    np.testing.assert_allclose(ours.change(IMAGES, drawn), to_numpy(peer), rtol=1e-4, atol=5e-3)
    assert (np.sign(drawn[:, 1]) == np.sign(drawn[:, 3])).all()


def test_perspective_equals_keras():
    ours, theirs = (
        k.layers.RandomPerspective((0.5, 0.5), 0.4, fill_value=9.0) for k in (keras, keras_peer)
    )
    start = np.tile(np.array([[0, 0], [9, 0], [0, 11], [9, 11]], "float32"), (5, 1, 1))
    end = start + start * RNG.uniform(-0.2, 0.2, (5, 4, 2)).astype("float32")
    from minitorch_ciml.keras.layers.resampling import homographies

    chosen = np.array([True, False, True, True, False])
    y = ours.change(IMAGES, (chosen[:, None, None, None], homographies(start, end)))
    numbers = {"start_points": tensor(start), "end_points": tensor(end),
               "apply_perspective": keras_peer.ops.convert_to_tensor(chosen)}  # fmt: skip
    peer = theirs._transform_images(tensor(IMAGES), numbers, "bilinear")
    np.testing.assert_allclose(y, to_numpy(peer), rtol=1e-4, atol=2e-2)
    chosen, matrices = ours.draw(2000, 12, 10, 3)
    assert 0.4 < chosen.mean() < 0.6
    assert not np.allclose(matrices[0], matrices[1])


def test_elastic_transform_bends_smoothly():
    layer = layers.RandomElasticTransform(1.0, (1.0, 1.0), seed=1)
    chosen, field = layer.draw(4, 40, 40, 1)
    # noise of standard deviation 2 under a Gaussian of 2, times 4
    assert field.shape == (4, 40, 40, 2)
    neighbours = np.corrcoef(field[:, 8:-8, 8:-9, 0].ravel(), field[:, 8:-8, 9:-8, 0].ravel())[0, 1]
    assert neighbours > 0.9
    expected = 4 * 2 / (2 * np.sqrt(np.pi) * 2)  # white noise under a Gaussian in two dimensions
    assert 0.6 < field[:, 8:-8, 8:-8].std() / expected < 1.4
    x, y = IMAGES, layers.RandomElasticTransform(1.0, 0.0)(IMAGES).numpy()
    np.testing.assert_allclose(y, x, rtol=1e-5)


def test_erasing_equals_keras():
    def as_keras(drawn):
        covered, filling = drawn
        return {"batch_masks": keras_peer.ops.convert_to_tensor(np.repeat(covered, 3, axis=-1)),
                "apply_erasing": keras_peer.ops.convert_to_tensor(np.ones(5, bool)),
                "fill_value": tensor(np.broadcast_to(filling, IMAGES.shape))}  # fmt: skip

    y, peer, (covered, _), _ = with_same_numbers(
        "RandomErasing", as_keras, factor=(1.0, 1.0), fill_value=[1.0, 2.0, 3.0]
    )
    np.testing.assert_allclose(y, peer)
    assert (y[covered[..., 0]] == [1, 2, 3]).all() and covered.any(axis=(1, 2, 3)).all()
    noisy = layers.RandomErasing((1.0, 1.0), (0.2, 0.5), seed=2)
    covered, filling = noisy.draw(400, 20, 30, 3)
    sides = np.sqrt(covered.mean(axis=(1, 2, 3)))  # about the square root of both squares
    assert 0.35 < sides.min() and sides.max() < 0.75
    assert filling.shape == (400, 20, 30, 3) and 250 < filling.std() < 260
    y = noisy(IMAGES).numpy()
    assert 0 <= y.min() and y.max() <= 255
    assert 0.4 < layers.RandomErasing((0.5, 0.5)).draw(600, 9, 9, 1)[0].any(axis=(1, 2, 3)).mean()


# --- images and labels ----------------------------------------------------------------------------

LABELS = np.eye(5, dtype="float32")


@pytest.mark.parametrize("name", ["MixUp", "CutMix"])
def test_mixing_equals_keras(name):
    def as_keras(drawn):
        if name == "MixUp":
            partners, weights = drawn
            return {"permutation_order": partners, "mix_weight": tensor(weights)}
        partners, inside, kept = drawn
        masks = keras_peer.ops.convert_to_tensor(np.repeat(inside, 3, axis=-1))
        return {"permutation_order": partners, "batch_masks": masks, "mix_weight": tensor(kept)}

    y, peer, drawn, ours = with_same_numbers(name, as_keras)
    np.testing.assert_allclose(y, peer, rtol=1e-5, atol=1e-4)
    theirs = getattr(keras_peer.layers, name)()
    labels = to_numpy(theirs.transform_labels(tensor(LABELS), as_keras(drawn)))
    np.testing.assert_allclose(ours.change_labels(LABELS, drawn), labels, rtol=1e-5, atol=1e-6)
    mixed = ours({"images": IMAGES, "labels": LABELS})
    np.testing.assert_allclose(mixed["labels"].numpy().sum(axis=1), 1, rtol=1e-5)
    assert not np.allclose(mixed["images"].numpy(), IMAGES)
    kept = ours({"images": IMAGES, "labels": LABELS}, training=False)
    np.testing.assert_array_equal(kept["labels"].numpy(), LABELS)


def test_cut_mix_mixes_labels_by_area():
    layer = layers.CutMix(seed=3)
    partners, inside, kept = layer.draw(500, 100, 100, 1)
    np.testing.assert_allclose(1 - inside.mean(axis=(1, 2, 3)), kept, atol=0.03)
    assert sorted(partners) == list(range(500))
    assert 0.4 < kept.mean() < 0.6  # beta(a, a) has the mean 1/2


def test_masks_move_with_their_images():
    x = np.repeat(np.arange(120, dtype="float32").reshape(1, 12, 10, 1), 4, axis=0)
    for layer in (
        layers.RandomFlip(seed=1), layers.RandomCrop(5, 6, seed=1),
        layers.RandomTranslation(0.3, 0.3, interpolation="nearest", seed=1),
        layers.RandomPerspective(interpolation="nearest", seed=1),
    ):  # fmt: skip
        both = layer({"images": x, "segmentation_masks": x})
        masks = both["segmentation_masks"].numpy()
        np.testing.assert_array_equal(masks, both["images"].numpy())
        assert masks.shape != x.shape or not np.array_equal(masks, x)
    colour = layers.RandomBrightness((0.5, 0.5))
    np.testing.assert_array_equal(
        colour({"images": x, "segmentation_masks": x})["segmentation_masks"].numpy(), x
    )


# --- several layers -------------------------------------------------------------------------------


def test_color_jitter_is_its_layers_in_a_row():
    kwargs = dict(value_range=(0, 255), brightness_factor=(0.2, 0.2), contrast_factor=(0.0, 0.0),
                  saturation_factor=(0.3, 0.3), hue_factor=(0.0, 0.0))  # fmt: skip
    y, y_peer, ours, theirs = both("RandomColorJitter", IMAGES, **kwargs)
    np.testing.assert_allclose(y, y_peer, rtol=1e-4, atol=1e-2)
    assert drop_ids(ours.get_config()).keys() >= drop_ids(theirs.get_config()).keys() - {"dtype"}
    np.testing.assert_array_equal(layers.RandomColorJitter()(IMAGES).numpy(), IMAGES)


def test_rand_augment_applies_as_many_as_it_should():
    layer = layers.RandAugment(num_ops=3, factor=0.4, seed=1)
    drawn = [layer.draw(*IMAGES.shape) for _ in range(60)]
    assert {len(d) for d in drawn} == {3}
    names = {type(one).__name__ for d in drawn for one, _ in d}
    assert len(names) == 11 and {"RandomShear", "Equalization", "Solarization"} <= names
    expected = IMAGES
    for one, own in drawn[0]:
        expected = one.change(expected, own)
    np.testing.assert_array_equal(layer.change(IMAGES, drawn[0]), expected)
    np.testing.assert_array_equal(layers.RandAugment(num_ops=0)(IMAGES).numpy(), IMAGES)


def test_aug_mix():
    layer = layers.AugMix(seed=1, all_ops=False)
    chains, weights, kept = layer.draw(*IMAGES.shape)
    assert len(chains) == len(weights) == 3 and 0 < kept < 1
    np.testing.assert_allclose(weights.sum(), 1)
    assert all(len(chain) <= 3 for chain in chains) and len(layer._names) == 7
    empty = [[], [], []], weights, kept
    np.testing.assert_allclose(layer.change(IMAGES, empty), IMAGES, rtol=1e-5)
    y = layer(IMAGES).numpy()
    assert y.dtype == np.float32 and 0 <= y.min() and y.max() <= 255


def test_pipeline(tmp_path):
    pipeline = layers.Pipeline([layers.RandomFlip(seed=1), layers.MixUp(seed=2)])
    mixed = pipeline({"images": IMAGES, "labels": LABELS})
    assert mixed["labels"].shape == (5, 5)
    model = keras.Sequential([keras.Input((12, 10, 3)), layers.Pipeline([layers.Rescaling(2.0)])])
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(again.predict(IMAGES, verbose=0), 2 * IMAGES)


# --- chance ---------------------------------------------------------------------------------------

RANDOM = [
    layers.RandomBrightness, layers.RandomContrast, layers.RandomSaturation, layers.RandomHue,
    layers.RandomColorDegeneration, layers.RandomSharpness, layers.RandomShear,
    layers.RandomInvert, layers.RandomErasing, layers.RandomPerspective,
    layers.RandomElasticTransform, layers.RandomGrayscale, layers.RandomGaussianBlur,
    layers.RandAugment, layers.Solarization,
]  # fmt: skip


@pytest.mark.parametrize("kind", RANDOM)
def test_a_seed_repeats_and_ranks_have_their_part(kind):
    def make():
        factor = {"factor": 0.9}
        if kind in (layers.RandomShear, layers.Solarization):
            factor = dict.fromkeys(
                ("x_factor", "y_factor") if kind is layers.RandomShear
                else ("addition_factor", "threshold_factor"), 0.4,
            )  # fmt: skip
        return kind(seed=7, **factor)

    x = np.tile(IMAGES[:1], (6, 1, 1, 1))
    layer = make()
    first, second = layer(x).numpy(), layer(x).numpy()
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(make()(x).numpy(), first)
    with config.working_on(config.Part(2, 3, 6, 2)):
        np.testing.assert_allclose(make()(x[2:5]).numpy(), first[2:5], rtol=1e-5, atol=1e-3)
    np.testing.assert_array_equal(make()(x, training=False).numpy(), x)


def test_numbers_are_within_their_limits():
    for kind, bounds in (
        (layers.RandomBrightness, (-0.3, 0.3)),
        (layers.RandomSharpness, (0, 0.3)),
    ):
        drawn = kind(0.3, seed=1).draw(3000, 8, 8, 3)
        assert bounds[0] <= drawn.min() < bounds[0] + 0.01
        assert bounds[1] - 0.01 < drawn.max() <= bounds[1]
        assert abs(drawn.mean() - np.mean(bounds)) < 0.01
    shifts = layers.RandomPosterization(5, seed=1).draw(3000, 8, 8, 3)
    assert set(np.unique(8 - shifts)) == {1, 2, 3, 4}  # as in Keras, without the highest
    tops = {layers.RandomCrop(10, 9, seed=i).draw(1, 12, 10, 3)[0] for i in range(40)}
    assert tops == {0, 1, 2}


def test_models_with_augmentation_go_both_ways(tmp_path):
    def make(k):
        names = ("RandomBrightness", "RandomContrast", "RandomHue", "RandomSharpness")
        random = [getattr(k.layers, name)(0.3) for name in names]
        return k.Sequential(
            [k.Input((12, 10, 3)), *random, k.layers.RandomShear((0.0, 0.2)),
             k.layers.RandomErasing(), k.layers.RandAugment(), k.layers.RandomColorJitter(
                 brightness_factor=0.1, hue_factor=0.2), k.layers.AutoContrast(),
             k.layers.Flatten(), k.layers.Dense(2)]
        )  # fmt: skip

    ours, theirs = make(keras), make(keras_peer)
    ours.set_weights(theirs.get_weights())
    expected = theirs.predict(IMAGES, verbose=0)
    np.testing.assert_allclose(ours.predict(IMAGES, verbose=0), expected, rtol=1e-3, atol=1e-2)
    ours.save(tmp_path / "ours.keras")
    theirs.save(tmp_path / "theirs.keras")
    for load in (keras_peer.models.load_model, keras.models.load_model):
        for name in ("ours.keras", "theirs.keras"):
            again = load(tmp_path / name).predict(IMAGES, verbose=0)
            np.testing.assert_allclose(again, expected, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: layers.RandomBrightness(2), "factor must be a number or two between -1 and 1"),
        (lambda: layers.RandomHue((0.1, 1.2)), "between 0 and 1"),
        (lambda: layers.RandomGrayscale(-1), "factor must be between 0 and 1"),
        (lambda: layers.RandomPosterization(9), "between 1 and 8"),
        (lambda: layers.RandomGaussianBlur(kernel_size=4), "odd numbers"),
        (lambda: layers.RandomInvert(value_range=3), "value_range must be two numbers"),
        (lambda: layers.RandomPerspective(scale=2), "scale must be between 0 and 1"),
        (lambda: layers.MixUp(alpha=0), "alpha must be positive"),
        (lambda: layers.RandomCrop(0, 3), "height must be a positive integer"),
        (lambda: layers.RandomFlip()({"labels": IMAGES}), "takes images or a dictionary"),
    ],
)
def test_errors(call, error):
    with pytest.raises(ValueError, match=error):
        call()


def test_on_a_gpu_images_go_to_the_host_and_steps_are_not_recorded():
    x = IMAGES[:2, :4, :4]
    crop = layers.RandomCrop(3, 2, seed=1)
    expected = [layer(x).numpy() for layer in (layers.RandomFlip(seed=1), layers.Resizing(2, 3))]
    with config.device("cuda"):
        found = [layers.RandomFlip(seed=1)(x), layers.Resizing(2, 3)(x), crop(x)]
        assert [y.device for y in found] == ["cuda"] * 3
        model = keras.Sequential(
            [keras.Input((4, 4, 3)), layers.RandomBrightness(0.1), layers.Flatten(),
             layers.Dense(1)]
        )  # fmt: skip
        model.compile("sgd", "mse")
        model.fit(x / 255, np.zeros((2, 1)), epochs=4, verbose=0)
        assert "RandomBrightness is computed on the host" in model.why_not_recorded
        with pytest.raises(ValueError, match="texts cannot be sent to a GPU"):
            model.predict(["a"], verbose=0)
    for ours, theirs in zip(found, expected):
        np.testing.assert_array_equal(ours.numpy(), theirs)


@pytest.mark.parametrize("fill_mode", ["reflect", "wrap", "constant", "nearest"])
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_kernel_reads_what_its_reference_reads(fill_mode, interpolation, dtype):
    rows, columns = (RNG.uniform(-40, 50, (5, 7, 6)).astype(dtype) for _ in range(2))
    rows[0], columns[0] = np.rint(rows[0]), np.rint(columns[0])
    how = dict(interpolation=interpolation, fill_mode=fill_mode, fill_value=5.0)
    ours, reference = (
        kernels.find(device, "sample_images")(IMAGES.astype(dtype), rows, columns, **how)
        for device in ("cpu", "reference")
    )
    assert ours.dtype == dtype and ours.shape == (5, 7, 6, 3)
    np.testing.assert_allclose(ours, reference, rtol=1e-5, atol=1e-3)
