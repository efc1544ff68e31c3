"""Images: what Keras computes in float32 only, random bending, and bad input."""

import numpy as np
import pytest
from keras_peer import keras_peer

from minitorch_ciml import keras
from minitorch_ciml.ops import image

RNG = np.random.default_rng(0)
PEER = keras_peer.ops.image


def same(name, *args, atol=1e-5, **params):
    ours = getattr(image, name)(*args, **params).numpy()
    theirs = keras_peer.ops.convert_to_numpy(getattr(PEER, name)(*args, **params))
    assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
    np.testing.assert_allclose(ours.astype(float), theirs.astype(float), rtol=1e-5, atol=atol)


def images(dtype="float32"):
    return (RNG.uniform(size=(2, 12, 13, 3)) * (255 if dtype == "uint8" else 1)).astype(dtype)


@pytest.mark.parametrize("filter_size", [4, 11])
def test_structural_similarity(filter_size):
    x = images()
    y = (x + RNG.normal(size=x.shape) * 0.1).astype("float32")
    same("ssim", x, y, max_val=1.0, filter_size=filter_size, data_format="channels_last")
    same("ssim", x[0], x[0], filter_size=filter_size, data_format="channels_last")
    assert image.ssim(x[0], y[0]).shape == ()


@pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
def test_perspective(interpolation):
    start = np.array([[0.1, 0], [11, 1.1], [0.53, 10], [12, 11]], "float32")
    end = np.array([[1, 0.07], [12, 0.2], [0, 11], [10.3, 9.51]], "float32")
    x = images()
    same("perspective_transform", x[0], start, end, interpolation, 3)
    same("perspective_transform", x, np.stack([start, end]), np.stack([end, start]), interpolation)


@pytest.mark.parametrize("fill_mode", ["constant", "nearest", "wrap", "reflect"])
def test_affine(fill_mode):
    transform = np.array([[1, 0.1, -1.5, 0, 1, 0.5, 0, 0], [0.7, 0, 2, 0.2, 1, 0, 0, 0]], "float32")
    same("affine_transform", images(), transform, fill_mode=fill_mode, fill_value=1)
    same("affine_transform", images("uint8"), transform, fill_mode=fill_mode, fill_value=9)


def test_integers_are_rounded_as_in_keras():
    same("resize", images("uint8"), (5, 9), atol=1)  # PyTorch computes with integers
    same("rgb_to_grayscale", images("uint8"))


def test_elastic_bending_is_random_and_repeatable():
    x = images()
    once, again, other = [image.elastic_transform(x, seed=seed).numpy() for seed in (1, 1, 2)]
    np.testing.assert_array_equal(once, again)
    assert np.abs(once - other).max() > 0.01 and once.shape == x.shape
    still = image.elastic_transform(x, alpha=0.0, seed=1).numpy()
    np.testing.assert_allclose(still, x, atol=1e-6)


X = np.zeros((4, 5, 3), "float32")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: image.resize(X[0], (2, 2)), r"resize: got images of shape \(5, 3\), expected"),
        (lambda: image.resize(X, 2), r"resize: got size 2, expected \(height, width\)"),
        (lambda: image.resize(X, (2, 2), "area"), "resize: got interpolation 'area', expected"),
        (lambda: image.resize(X, (2, 2), fill_mode="wrap"), "resize: got fill_mode 'wrap'"),
        (
            lambda: image.resize(X, (2, 2), crop_to_aspect_ratio=True, pad_to_aspect_ratio=True),
            "expected one of them at most",
        ),
        (lambda: image.rgb_to_hsv(X[..., :2]), "rgb_to_hsv: got 2 channels, expected 3"),
        (lambda: image.hsv_to_rgb(X.astype("uint8")), "got uint8, expected floats from 0 to 1"),
        (lambda: image.pad_images(X, 1, 1, 1), "for the width got 1 before, None after"),
        (lambda: image.crop_images(X, 3, 1, 1, 1), "the height 4 cannot change by 3 before and 1"),
        (lambda: image.extract_patches(X, 5), "a window of 5 does not fit in 4 pixels"),
        (lambda: image.extract_patches(X, (1, 2, 3)), "extract_patches_3d: got shape"),
        (lambda: image.extract_patches(X, 2, padding="full"), "got padding 'full', expected"),
        (lambda: image.extract_patches(X, 0), "got size=0, expected 2 positive ints, or one"),
        (lambda: image.gaussian_blur(X, sigma=(0, 1)), "expected two positive numbers"),
        (lambda: image.ssim(X, X), "windows of 11 do not fit in images"),
        (lambda: image.ssim(X, X[:2]), "expected two of one shape"),
        (lambda: image.affine_transform(X, np.zeros(6)), r"got a transform of shape \(6,\)"),
        (lambda: image.affine_transform(X, np.zeros(8), "cubic"), "got interpolation 'cubic'"),
        (lambda: image.map_coordinates(X, np.zeros((2, 1)), 1), "expected one row of coordinates"),
        (lambda: image.map_coordinates(X, np.zeros((3, 1)), 2), "got order 2, expected 0 or 1"),
        (lambda: image.map_coordinates(X, np.zeros((3, 1)), 1, "edge"), "got fill_mode 'edge'"),
        (
            lambda: image.perspective_transform(X, np.zeros((3, 2)), np.zeros((3, 2))),
            r"expected \(4, 2\) or \(N, 4, 2\) both times",
        ),
        (
            lambda: image.scale_and_translate(X, (4, 5, 3), [1.0], [0.0, 0.0], (0,), "linear"),
            "got 1 scales, 2 translations and 1 axes",
        ),
        (
            lambda: image.scale_and_translate(X, (4, 9, 3), [1.0], [0.0], (0,), "linear"),
            r"along other axes than \(0,\) the images have",
        ),
        (
            lambda: image.scale_and_translate(X, (4, 5, 3), [1.0], [0.0], (0,), "area"),
            "got method 'area'",
        ),
    ],
)
def test_bad_input_gets_a_clear_error(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_patches_of_volumes_go_through_a_file(tmp_path):
    """Keras has one class for patches of images and of volumes."""
    inputs = keras.Input((4, 6, 4, 1))
    model = keras.Model(inputs, keras.ops.image.extract_patches_3d(inputs, size=2))
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    x = np.random.default_rng(0).random((2, 4, 6, 4, 1), np.float32)
    assert model(x).shape == (2, 2, 3, 2, 8)
    np.testing.assert_array_equal(again(x).numpy(), model(x).numpy())
