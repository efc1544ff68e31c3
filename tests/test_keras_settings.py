"""Settings and helpers: `keras.config`, `keras.backend`, and the rest of `keras.utils`."""

import hashlib
import io
import tarfile
import zipfile
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from keras_peer import keras_peer

from minitorch_ciml import keras


@pytest.fixture
def as_before():
    yield
    keras.config.set_image_data_format("channels_last")
    keras_peer.config.set_image_data_format("channels_last")


def test_the_order_of_axes_can_be_set(as_before):
    shapes = []
    for k in (keras, keras_peer):
        k.config.set_image_data_format("channels_first")
        assert k.config.image_data_format() == k.backend.image_data_format() == "channels_first"
        x = inputs = k.Input((3, 8, 6))
        for layer in (
            k.layers.Conv2D(4, 3),
            k.layers.MaxPooling2D(),
            k.layers.ZeroPadding2D(),
            k.layers.UpSampling2D(),
            k.layers.GlobalAveragePooling2D(),
        ):
            x = layer(x)
            shapes.append((k.__name__, tuple(x.shape), layer.get_config()["data_format"]))
        assert k.layers.Conv2D(4, 3, data_format="channels_last").data_format == "channels_last"
        k.Model(inputs, x)
    assert [s[1:] for s in shapes[:5]] == [s[1:] for s in shapes[5:]]
    with pytest.raises(ValueError, match="'channels_last' or 'channels_first', got 'NHWC'"):
        keras.config.set_image_data_format("NHWC")


def test_epsilon():
    with pytest.warns(UserWarning, match="losses and metrics go on with 1e-7"):
        keras.config.set_epsilon(1e-5)
    assert keras.config.epsilon() == keras.backend.epsilon() == 1e-5
    keras.config.set_epsilon(1e-7)
    assert keras.backend.epsilon() == keras_peer.backend.epsilon()
    with pytest.raises(ValueError, match="expected a positive number, got 0"):
        keras.config.set_epsilon(0)


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8", "uint8", "bool", "bfloat16"])
def test_kinds_of_dtypes(dtype):
    pytest.importorskip("ml_dtypes")
    for name in ("is_float_dtype", "is_int_dtype", "standardize_dtype"):
        ours, theirs = getattr(keras.backend, name), getattr(keras_peer.backend, name)
        assert ours(dtype) == theirs(dtype)


def test_progress_of_a_loop_of_your_own(capsys):
    bar = keras.utils.Progbar(4, stateful_metrics=["rate"])
    for i in range(4):
        bar.update(i + 1, [("loss", float(i)), ("rate", 0.5 * i)])
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("4/4 - ") and line.endswith("loss: 1.5000 - rate: 1.5000")
    silent = keras.utils.Progbar(None, verbose=0)
    silent.add(2, [("loss", 1.0)])
    assert not capsys.readouterr().out


def test_bars_can_be_switched_off(monkeypatch):
    from minitorch_ciml.keras.callbacks import progress

    monkeypatch.setattr("sys.stdout", io.StringIO())
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert progress._output_kind() == "terminal"
    keras.config.disable_interactive_logging()
    assert progress._output_kind() == "plain" and not keras.utils.is_interactive_logging_enabled()
    keras.config.enable_interactive_logging()
    assert progress._output_kind() == "terminal"


def archive(kind, path):
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("a/b.txt", "hello")
    else:
        with tarfile.open(path, "w:gz") as file:
            entry = tarfile.TarInfo("a/b.txt")
            entry.size = 5
            file.addfile(entry, io.BytesIO(b"hello"))


@pytest.mark.parametrize("fname", [None, "data.zip", "data"])
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_get_file_unpacks_to_where_keras_does(tmp_path, kind, fname):
    path = tmp_path / "origin.bin"
    archive(kind, path)
    places = []
    for k in (keras, keras_peer):
        cache = tmp_path / k.__name__
        cache.mkdir()
        found = k.utils.get_file(fname, path.as_uri(), extract=True, cache_dir=cache)
        places.append(str(found).removeprefix(str(cache)))
        with open(f"{found}/a/b.txt") as file:
            assert file.read() == "hello"
    assert places[0] == places[1]


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("kind", ["outside", "link"])
def test_get_file_unpacks_nothing_outside_its_folder(tmp_path, monkeypatch, kind, old):
    if old:  # Python before 3.10.12 and 3.11.4
        monkeypatch.delattr(tarfile, "data_filter", raising=False)
    with tarfile.open(tmp_path / "origin.tar", "w") as file:
        entry = tarfile.TarInfo("../escaped" if kind == "outside" else "link")
        if kind == "link":
            entry.type, entry.linkname = tarfile.SYMTYPE, str(tmp_path)
        file.addfile(entry, io.BytesIO())
    with pytest.raises(tarfile.TarError, match="outside|link"):
        keras.utils.get_file(
            "data.tar", (tmp_path / "origin.tar").as_uri(), extract=True, cache_dir=tmp_path / "c"
        )
    assert [path.name for path in (tmp_path / "c" / "datasets").iterdir()] == ["data.tar"]


def test_get_file_checks_and_keeps(tmp_path):
    origin = tmp_path / "numbers.txt"
    origin.write_text("1 2 3")
    digest = hashlib.sha256(b"1 2 3").hexdigest()
    how = {"origin": origin.as_uri(), "cache_dir": tmp_path / "cache"}
    found = keras.utils.get_file(**how, file_hash=digest)
    assert found == str(tmp_path / "cache" / "datasets" / "numbers.txt")
    origin.write_text("4 5 6")
    assert keras.utils.get_file(**how) == found and Path(found).read_text() == "1 2 3"  # as it is
    other = hashlib.md5(b"4 5 6", usedforsecurity=False).hexdigest()
    keras.utils.get_file(**how, md5_hash=other)
    assert Path(found).read_text() == "4 5 6"
    origin.write_text("7")
    keras.utils.get_file(**how, force_download=True)
    assert Path(found).read_text() == "7"
    with pytest.raises(ValueError, match="is not the expected"):
        keras.utils.get_file("new.txt", **how, file_hash=digest)
    with pytest.raises(ValueError, match="is no tar or zip archive"):
        keras.utils.get_file("text.txt", **how, extract=True)
    with pytest.raises(ValueError, match="without folders, got 'a/b'"):
        keras.utils.get_file("a/b", **how)
    with pytest.raises(ValueError, match="MD5 or SHA-256 in hexadecimal digits, got 'abc'"):
        keras.utils.get_file(**how, file_hash="abc")


def test_source_inputs_and_registered_names():
    a, b = keras.Input((2,), name="a"), keras.Input((2,), name="b")
    x = keras.layers.Dense(2)(keras.layers.Add()([a, b]) + a)
    assert {t.name for t in keras.utils.get_source_inputs(x)} == {"a", "b"}

    @keras.saving.register_keras_serializable("mine", "Twice")
    class Double(keras.layers.Layer):
        def call(self, inputs):
            return 2 * inputs

    name = keras.saving.get_registered_name(Double)
    assert name == "mine>Twice" and keras.utils.get_registered_object(name) is Double
    assert keras.utils.get_registered_object("mine>Thrice") is None
    assert keras.utils.get_registered_name(np.ndarray) == "ndarray"
    del keras.utils.get_custom_objects()[name]


def test_nested_structures():
    nested = {"b": [1, (2, 3)], "a": 4}
    for k in (keras, keras_peer):
        tree = k.tree
        assert tree.flatten(nested) == [4, 1, 2, 3] and tree.is_nested([1])
        assert not tree.is_nested(1)
        assert tree.pack_sequence_as(nested, "wxyz") == {"a": "w", "b": ["x", ("y", "z")]}
        tree.assert_same_structure(nested, {"a": 0, "b": [0, (0, 0)]})
        for other in ({"a": 0, "b": [0, [0, 0]]}, {"a": 0}, [1, 2], 3):
            with pytest.raises((ValueError, TypeError)):
                tree.assert_same_structure(nested, other)
        with pytest.raises(ValueError):
            tree.pack_sequence_as(nested, [1, 2])


def test_old_and_small_names():
    assert keras.optimizers.legacy.Adam is keras.optimizers.Adam
    schedules = keras.optimizers.schedules
    schedule = schedules.ExponentialDecay(0.1, 10, 0.9)
    again = schedules.deserialize(schedules.serialize(schedule))
    assert again.get_config() == schedule.get_config()
    keras.config.disable_traceback_filtering()
    assert not keras.config.is_traceback_filtering_enabled()


def test_dtypes_of_results_are_those_of_keras():
    kinds = ["bool", "int8", "uint8", "int32", "float16", "bfloat16", "float32", "int"]
    kinds += [int, float, bool, None]
    for a, b in product(kinds, kinds):
        expected = keras_peer.backend.result_type(a, b)
        assert keras.backend.result_type(a, b) == expected, (a, b)
    assert keras.backend.result_type("int32", "float64", float) == "float64"
    for kind in (*kinds, np.float32, np.dtype("int8"), "string"):
        expected = keras_peer.backend.standardize_dtype(kind)
        assert keras.backend.standardize_dtype(kind) == expected, kind
    assert keras.backend.is_float_dtype("bfloat16") and not keras.backend.is_int_dtype("bfloat16")
    assert keras.random.SeedGenerator(3).state.tolist() == [3, 0]


def test_limits_end_training_early():
    x = np.ones((40, 2), "float32")
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    how = {"epochs": 5, "batch_size": 10, "verbose": 0}
    keras.config.set_max_epochs(2)
    keras.config.set_max_steps_per_epoch(3)
    try:
        assert (keras.config.max_epochs(), keras.config.max_steps_per_epoch()) == (2, 3)
        with pytest.warns(UserWarning, match="keras.config limits"):
            history = model.fit(x, x[:, :1], validation_split=0.5, **how)
        assert len(history.epoch) == 2 and int(model.optimizer.iterations) == 4
        with pytest.warns(UserWarning, match="limits steps_per_epoch to 3"):
            assert len(model.predict(x, batch_size=10, verbose=0)) == 30
    finally:
        keras.config.set_max_epochs(None)
        keras.config.set_max_steps_per_epoch(None)


def test_what_there_is_only_one_of():
    with pytest.raises(ValueError, match="there is one engine"):
        keras.config.set_backend("jax")
    with pytest.raises(NotImplementedError, match="register your functions"):
        keras.config.enable_unsafe_deserialization()
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    with pytest.raises(NotImplementedError, match=r"load_model\('name.keras'\).export"):
        model.export("somewhere")
    with pytest.raises(NotImplementedError, match="quantise it in Keras"):
        model.quantize("int4")
