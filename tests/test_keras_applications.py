"""Ready-made networks beside Keras': layers, weights, outputs, arguments and files."""

import hashlib
import json
import re

import numpy as np
import pytest

from minitorch_ciml import keras
from minitorch_ciml.keras import applications
from minitorch_ciml.keras.applications import building, imagenet_utils

# Of each family one network, with arguments that make it small, whose outputs are compared.
COMPARED = {
    "ResNet50": {}, "ResNet50V2": {}, "VGG16": {}, "MobileNet": {"alpha": 0.25},
    "MobileNetV2": {"alpha": 0.35}, "DenseNet121": {}, "EfficientNetB0": {}, "EfficientNetV2B0": {},
    "ConvNeXtTiny": {}, "MobileNetV3Small": {"alpha": 0.75},
    "InceptionV3": {"input_shape": (75, 75, 3)}, "Xception": {"input_shape": (71, 71, 3)},
    "NASNetMobile": {},
}  # fmt: skip
# Others, whose layers and weights are, with the layers on top that classify.
COUNTED = {
    "ResNet101": {}, "VGG19": {"include_top": False}, "NASNetLarge": {},
    "NASNetMobile": {"include_top": False, "input_shape": (96, 64, 3)},
    "MobileNet": {"alpha": 0.5, "input_shape": (128, 128, 3)},
    "MobileNetV2": {"alpha": 1.4, "classes": 7, "weights": None},
    "MobileNetV3Large": {"minimalistic": True, "input_shape": (224, 224, 3)},
}  # fmt: skip


@pytest.fixture
def both(monkeypatch):
    """Makes Keras' network and ours, as with trained weights, whose files must be the same."""
    peer = pytest.importorskip("keras", reason="the peer Keras is not installed")
    files = []

    def peer_fetch(name, origin, cache_subdir, file_hash=None):
        assert cache_subdir == "models"
        return fetch(name, origin, file_hash)

    def fetch(*file):
        files.append(file)
        return "nowhere"

    monkeypatch.setattr("keras.src.utils.file_utils.get_file", peer_fetch)
    monkeypatch.setattr(building, "fetch", fetch)
    monkeypatch.setattr(peer.Model, "load_weights", lambda model, path: None)
    monkeypatch.setattr(keras.Model, "load_weights", lambda model, path: None)

    def make(name, **arguments):
        with monkeypatch.context() as patch:
            if name.startswith("NASNet"):  # which Keras refuses where PyTorch is its backend
                patch.setattr("keras.src.applications.nasnet.backend.backend", lambda: "jax")
            pair = [getattr(k.applications, name)(**arguments) for k in (peer, keras)]
        assert not files if "weights" in arguments else len(files) == 2 and files[0] == files[1]
        return pair

    return make


def layers_of(model):
    """Without operations on tensors, which are no layers in Keras."""
    return [layer for layer in model.layers if type(layer).__name__ != "Function"]


def structure(model):
    """The model's name, and its layers' classes, names and shapes of weights."""

    def given_name(layer):
        """None where it is the class's with a number."""
        made_up = rf"{type(layer).__name__}\d*|inputlayer\d*"
        return None if re.fullmatch(made_up, layer.name.replace("_", ""), re.I) else layer.name

    return model.name, [
        (type(layer).__name__, given_name(layer), [tuple(w.shape) for w in layer.weights])
        for layer in layers_of(model)
    ]


def assert_equal_settings(model, peer):
    settings = {"epsilon", "momentum", "padding", "strides", "activation", "use_bias", "rate"}
    for ours, theirs in zip(layers_of(model), peer.layers):
        a, b = (
            {k: json.dumps(v) for k, v in layer.get_config().items() if k in settings}
            for layer in (ours, theirs)
        )
        assert a == b, ours.name


def share_weights(peer, model):
    """Gives both weights that are not trivial: no scale is 1, and no offset is 0."""
    rng = np.random.default_rng(0)
    values = [w + rng.normal(size=w.shape) / 10 if w.ndim == 1 else w for w in peer.get_weights()]
    values = [np.abs(v) if "variance" in w.path else v for v, w in zip(values, peer.weights)]
    peer.set_weights(values)
    model.set_weights(values)


# Keras says that weights are of images of other sizes than these.
@pytest.mark.filterwarnings("ignore:.input_shape. is undefined:UserWarning")
@pytest.mark.parametrize("name", COMPARED)
def test_outputs_equal_keras(name, both):
    arguments = {"include_top": False, "pooling": "avg", "input_shape": (64, 64, 3)}
    peer, model = both(name, **(arguments | COMPARED[name]))
    assert structure(model) == structure(peer)
    share_weights(peer, model)
    x = np.random.default_rng(1).random((1, *peer.input_shape[1:]), np.float32)
    expected, found = peer.predict(x, verbose=0), model.predict(x, verbose=0)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("name", COUNTED)
def test_layers_and_weights_equal_keras(name, both):
    peer, model = both(name, **COUNTED[name])
    assert structure(model) == structure(peer)
    assert model.input_shape == peer.input_shape and model.output_shape == peer.output_shape
    assert_equal_settings(model, peer)


@pytest.mark.parametrize("mode", ["caffe", "tf", "torch"])
@pytest.mark.parametrize("shape", [(5, 4, 3), (2, 5, 4, 3)])
def test_pixels_are_prepared_as_in_keras(mode, shape):
    peer = pytest.importorskip("keras.src.applications.imagenet_utils", reason="no Keras here")
    x = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    before = x.copy()
    expected = peer.preprocess_input(x.astype("float32"), mode=mode)
    found = imagenet_utils.preprocess_input(x, mode=mode)
    assert found.dtype == np.float32 and np.array_equal(x, before)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    inputs = keras.Input(shape[-3:])
    model = keras.Model(inputs, imagenet_utils.preprocess_input(inputs, mode=mode))
    batch = x.reshape(-1, *shape[-3:]).astype("float32")
    np.testing.assert_allclose(model(batch).numpy().reshape(shape), expected, rtol=1e-5, atol=1e-5)


def test_channels_first_pixels():
    x = np.random.default_rng(0).random((2, 3, 4, 5))
    first = imagenet_utils.preprocess_input(x, "channels_first")
    last = imagenet_utils.preprocess_input(np.moveaxis(x, 1, -1), "channels_last")
    assert np.array_equal(np.moveaxis(first, 1, -1), last)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weights": "elsewhere.h5"}, "got weights='elsewhere.h5', expected None"),
        ({"pooling": "mean"}, "got pooling='mean', expected 'avg', 'max' or None"),
        ({"classes": 10}, "got classes=10, expected 1000 with weights='imagenet'"),
        ({"weights": None, "input_shape": (16, 16, 3)}, "images of at least 32 x 32 pixels"),
        ({"weights": None, "input_shape": (64, 64)}, r"got input_shape=\(64, 64\), expected three"),
        ({"input_shape": (64, 64, 3)}, r"expected \(224, 224, 3\) with weights='imagenet'"),
        ({"classifier_activation": "relu"}, "expected None or 'softmax' with trained weights"),
        ({"weights": None, "input_shape": (None, None, 3)}, "expected fixed sizes"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, message):
    with pytest.raises(ValueError, match=f"^resnet50: .*{message}"):
        applications.ResNet50(**arguments)


def test_widths_that_were_not_trained_are_refused():
    with pytest.raises(ValueError, match="MobileNetV2: got alpha=0.3, expected one of 0.35, 0.5"):
        applications.MobileNetV2(alpha=0.3)
    with pytest.raises(ValueError, match="MobileNet: got depth_multiplier=2, expected 1"):
        applications.MobileNet(depth_multiplier=2)


def test_other_numbers_of_channels_are_noticed():
    with pytest.warns(UserWarning, match="an image has 1 or 3 channels, .* has 5"):
        model = applications.MobileNetV2(
            weights=None, include_top=False, input_shape=(32, 32, 5), alpha=0.35
        )
    assert model.input_shape == (None, 32, 32, 5)


def test_a_network_goes_on_from_a_tensor():
    """Pixels are prepared within the model; its input is what the tensor was computed from."""
    inputs = keras.Input((40, 40, 3))
    prepared = applications.mobilenet_v2.preprocess_input(inputs)
    model = applications.MobileNetV2(
        weights=None, include_top=False, input_tensor=prepared, pooling="max", alpha=0.35
    )
    assert model.inputs[0] is inputs and model.output_shape == (None, 1280)
    base = applications.MobileNetV2(
        weights=None, include_top=False, input_shape=(40, 40, 3), pooling="max", alpha=0.35
    )
    base.set_weights(model.get_weights())
    x = np.random.default_rng(0).integers(0, 256, (2, 40, 40, 3)).astype("float32")
    np.testing.assert_allclose(
        model.predict(x, verbose=0), base.predict(x / 127.5 - 1, verbose=0), rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("name", ["MobileNetV2", "ResNet50V2"])
def test_channels_may_come_first(name):
    arguments = {"weights": None, "include_top": False, "pooling": "avg"}
    last = getattr(applications, name)(**arguments, input_shape=(40, 40, 3))
    keras.config.set_image_data_format("channels_first")
    try:
        first = getattr(applications, name)(**arguments, input_shape=(3, 40, 40))
    finally:
        keras.config.set_image_data_format("channels_last")
    first.set_weights(last.get_weights())
    x = np.random.default_rng(0).random((2, 40, 40, 3), np.float32)
    np.testing.assert_allclose(
        first.predict(np.moveaxis(x, -1, 1), verbose=0), last.predict(x, verbose=0),
        rtol=1e-4, atol=1e-7,
    )  # fmt: skip


def test_transfer_learning_trains_the_new_layers_only():
    base = applications.MobileNetV2(
        weights=None, include_top=False, input_shape=(32, 32, 3), pooling="avg", alpha=0.35
    )
    base.trainable = False
    model = keras.Sequential([base, keras.layers.Dense(2, activation="softmax")])
    model.compile("adam", "sparse_categorical_crossentropy")
    before = base.get_weights()
    rng = np.random.default_rng(0)
    x, y = rng.random((8, 32, 32, 3), np.float32), rng.integers(0, 2, 8)
    model.fit(x, y, batch_size=4, verbose=0)
    assert len(model.trainable_weights) == 2
    assert all(np.array_equal(a, b) for a, b in zip(before, base.get_weights()))


def test_predictions_get_their_names(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr(imagenet_utils, "_names", imagenet_utils._names.__wrapped__)
    (tmp_path / "models").mkdir()
    names = json.dumps({str(i): [f"n{i:08}", f"thing_{i}"] for i in range(1000)})
    (tmp_path / "models" / "imagenet_class_index.json").write_text(names)
    digest = hashlib.md5(names.encode(), usedforsecurity=False).hexdigest()
    monkeypatch.setattr(imagenet_utils, "_NAMES", (*imagenet_utils._NAMES[:2], digest))
    predictions = np.zeros((2, 1000), np.float32)
    predictions[0, [7, 5]] = 0.75, 0.25
    predictions[1, 999] = 1
    first, second = imagenet_utils.decode_predictions(predictions, top=2)
    assert first == [("n00000007", "thing_7", 0.75), ("n00000005", "thing_5", 0.25)]
    assert second[0] == ("n00000999", "thing_999", 1.0)
    with pytest.raises(ValueError, match=r"got an array of shape \(1000,\), expected \(samples"):
        imagenet_utils.decode_predictions(predictions[0])


def test_published_weights_are_found_and_read(tmp_path, monkeypatch):
    """In the format in which Keras publishes them: layers' names and their weights in HDF5."""
    h5py = pytest.importorskip("h5py")
    legacy = pytest.importorskip("keras.src.legacy.saving.legacy_h5_format", reason="no Keras")
    arguments = {"include_top": False, "input_shape": (96, 96, 3), "alpha": 0.35}
    keras_module = pytest.importorskip("keras", reason="the peer Keras is not installed")
    peer, model = (
        k.applications.MobileNetV2(weights=None, **arguments) for k in (keras_module, keras)
    )
    share_weights(peer, model)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr("urllib.request.urlopen", refuse)
    (tmp_path / "models").mkdir()
    name = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_96_no_top.h5"
    with h5py.File(tmp_path / "models" / name, "w") as file:
        legacy.save_weights_to_hdf5_group(file, peer)
    for weights in ("imagenet", str(tmp_path / "models" / name)):
        found = applications.MobileNetV2(weights=weights, **arguments)
        for a, b in zip(found.get_weights(), peer.get_weights()):
            assert np.array_equal(a, b)


def test_weights_that_cannot_be_had_say_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr("urllib.request.urlopen", refuse)
    with pytest.raises(ConnectionError) as error:
        applications.ResNet50(include_top=False)
    name = "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5"
    origin = f"https://storage.googleapis.com/tensorflow/keras-applications/resnet/{name}"
    for part in (f"fetch {origin}", f"put it at {tmp_path / 'models' / name}", "no network here"):
        assert part in str(error.value)


def refuse(*args, **kwargs):
    raise ConnectionError("no network here")
