"""Image files against Keras 3."""

import numpy as np
import pytest

from minitorch_ciml import keras
from tests.keras_peer import keras_peer

PIXELS = np.random.default_rng(0).integers(0, 256, (9, 12, 3)).astype("uint8")


@pytest.fixture
def picture(tmp_path):
    keras.utils.save_img(tmp_path / "picture.png", PIXELS, scale=False)
    return tmp_path / "picture.png"


@pytest.mark.parametrize("mode", ["rgb", "rgba", "grayscale"])
@pytest.mark.parametrize(
    "options",
    [{}, {"target_size": (5, 6)}, {"target_size": (6, 6), "interpolation": "bilinear"},
     {"target_size": (4, 8), "keep_aspect_ratio": True}],
)  # fmt: skip
def test_files_are_read_as_in_keras(picture, mode, options):
    ours, theirs = (
        k.utils.img_to_array(k.utils.load_img(picture, color_mode=mode, **options))
        for k in (keras, keras_peer)
    )
    assert ours.dtype == theirs.dtype == np.float32
    np.testing.assert_array_equal(ours, theirs)


def test_arrays_become_images_as_in_keras(tmp_path, picture):
    np.testing.assert_array_equal(keras.utils.img_to_array(keras.utils.load_img(picture)), PIXELS)
    for x in (PIXELS / 300, PIXELS[..., :1] * 1.0, np.zeros((3, 4, 1))):
        ours, theirs = (np.asarray(k.utils.array_to_img(x)) for k in (keras, keras_peer))
        np.testing.assert_array_equal(ours, theirs)
    first = keras.preprocessing.image.img_to_array(PIXELS, data_format="channels_first")
    assert first.shape == (3, 9, 12)
    rgba = np.concatenate([PIXELS, PIXELS[..., :1]], axis=-1)
    keras.utils.save_img(tmp_path / "x.jpg", rgba)
    assert keras.utils.load_img(tmp_path / "x.jpg").size == (12, 9)
    padded = keras.preprocessing.sequence.pad_sequences([[1], [2, 3]])
    np.testing.assert_array_equal(padded, [[0, 1], [2, 3]])


@pytest.mark.parametrize("shape", [(8, 6, 3), (2, 5, 9, 1)])
def test_smart_resize_equals_keras(shape):
    x = np.random.default_rng(0).uniform(size=shape).astype("float32")
    ours, theirs = (k.preprocessing.image.smart_resize(x, (4, 7)) for k in (keras, keras_peer))
    assert isinstance(ours, np.ndarray)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_errors(tmp_path, picture):
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(ValueError, match="holds no image"):
        keras.utils.load_img(tmp_path / "text.png")
    with pytest.raises(FileNotFoundError):
        keras.utils.load_img(tmp_path / "nothing.png")
    with pytest.raises(ValueError, match="color_mode='cmyk'"):
        keras.utils.load_img(picture, color_mode="cmyk")
    with pytest.raises(ValueError, match="1, 3 or 4 channels"):
        keras.utils.array_to_img(np.zeros((3, 4, 2)))
