"""Data sets that are read when they are needed: folders of files, and windows over a series."""

import importlib
import io
import threading
import time
import wave
from pathlib import Path

import numpy as np
import pytest

from minitorch_ciml import config, keras

RNG = np.random.default_rng(0)
CLASSES = ["apple", "pear", "quince"]


@pytest.fixture
def images(tmp_path):
    """21 images of three classes, of different sizes and kinds."""
    rng = np.random.default_rng(0)
    for i in range(21):
        folder = tmp_path / "fruit" / CLASSES[i % 3] / ("more" if i > 15 else "")
        folder.mkdir(parents=True, exist_ok=True)
        size = (5 + i % 4, 9 - i % 3, (3, 4, 1)[i % 3])
        name = f"{i:02}.{('png', 'bmp', 'gif')[i % 3 if i % 3 != 1 else 0]}"
        keras.utils.save_img(folder / name, rng.integers(0, 256, size), scale=False)
    (tmp_path / "fruit" / "apple" / "notes.md").write_text("no image")
    (tmp_path / "fruit" / ".hidden").mkdir()
    return tmp_path / "fruit"


@pytest.fixture
def texts(tmp_path):
    for label, words in (("bad", "dull boring poor"), ("good", "fine great lovely")):
        (tmp_path / "reviews" / label).mkdir(parents=True)
        for i in range(20):
            review = f"A {words.split()[i % 3]} film, No. {i}!\n"
            (tmp_path / "reviews" / label / f"{i}.txt").write_text(review, encoding="utf-8")
    return tmp_path / "reviews"


def of_images(folder, **kwargs):
    kwargs = {"image_size": (6, 7), "batch_size": 4, "shuffle": False, "verbose": False, **kwargs}
    return keras.utils.image_dataset_from_directory(folder, **kwargs)


def all_of(dataset):
    """All samples of a data set, as arrays."""
    batches = list(dataset)
    if not isinstance(batches[0], tuple):
        return np.concatenate([np.asarray(b) for b in batches])
    return tuple(np.concatenate([np.asarray(part) for part in parts]) for parts in zip(*batches))


# --- against Keras: the files, their order, their pixels ------------------------------------------


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("subset", [None, "training", "validation"])
def test_files_and_labels_are_those_of_keras(images, shuffle, subset):
    importlib.import_module("tests.keras_peer")  # skips without Keras
    utils = importlib.import_module("keras.src.utils.dataset_utils")
    paths, labels, names = utils.index_directory(
        str(images), "inferred", (".png", ".bmp", ".gif"), shuffle=shuffle, seed=5, verbose=False
    )
    split = None if subset is None else 0.3
    paths, labels = utils.get_training_or_validation_split(paths, labels, split, subset)
    ours = of_images(images, shuffle=shuffle, seed=5, validation_split=split, subset=subset)
    assert ours.file_paths == paths
    assert ours.class_names == names == CLASSES
    ordered = ours._with(_shuffled=False)
    np.testing.assert_array_equal(all_of(ordered)[1], labels)


@pytest.mark.parametrize("color_mode", ["rgb", "rgba", "grayscale"])
@pytest.mark.parametrize(
    "options",
    [{}, {"interpolation": "nearest"}, {"crop_to_aspect_ratio": True},
     {"pad_to_aspect_ratio": True}, {"data_format": "channels_first"}],
)  # fmt: skip
def test_images_are_those_of_keras(images, color_mode, options):
    importlib.import_module("tests.keras_peer")  # skips without Keras
    load = importlib.import_module("keras.src.utils.image_dataset_utils")._load_image_grain
    channels = {"rgb": 3, "rgba": 4, "grayscale": 1}[color_mode]
    settings = {"interpolation": "bilinear", "data_format": "channels_last", **options}
    dataset = of_images(images, color_mode=color_mode, labels=None, **options)
    x = all_of(dataset)
    assert x.dtype == np.float32 and len(dataset) == 6 and dataset.size == len(x) == 21
    for path, image in zip(dataset.file_paths, x):
        peer = load(io.BytesIO(Path(path).read_bytes()), (6, 7), channels, **settings)
        np.testing.assert_allclose(image, peer.numpy(), rtol=1e-5, atol=2e-4)


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize(
    "kwargs",
    [dict(sequence_length=10, sampling_rate=2, sequence_stride=3), dict(sequence_length=4),
     dict(sequence_length=5, start_index=7, end_index=60, batch_size=8)],
)  # fmt: skip
def test_windows(kwargs, shuffle):
    series = np.random.default_rng(0).normal(size=(99, 2)).astype("float32")
    targets = np.arange(99)
    dataset = keras.utils.timeseries_dataset_from_array(
        series, targets, shuffle=shuffle, seed=3, **kwargs
    )
    first, last = kwargs.get("start_index", 0), kwargs.get("end_index", 99)
    length, rate = kwargs["sequence_length"], kwargs.get("sampling_rate", 1)
    span = (length - 1) * rate + 1
    begins = np.arange(0, last - first - span + 1, kwargs.get("sequence_stride", 1))
    if shuffle:
        np.random.RandomState(3).shuffle(begins)
    x, y = all_of(dataset)
    expected = [series[first:last][b : b + span : rate] for b in begins]
    np.testing.assert_array_equal(x, expected)
    np.testing.assert_array_equal(y, targets[first:last][begins])
    assert len(dataset) == -(-len(begins) // kwargs.get("batch_size", 128))
    np.testing.assert_array_equal(all_of(dataset)[1], y)  # the same order again


def test_windows_as_in_the_documents_of_keras():
    dataset = keras.utils.timeseries_dataset_from_array(
        np.arange(99), None, sequence_length=10, sampling_rate=2, sequence_stride=3
    )
    windows = all_of(dataset)
    assert windows[0].tolist() == list(range(0, 20, 2))
    assert windows[-1].tolist() == list(range(78, 98, 2))
    assert keras.preprocessing.timeseries_dataset_from_array is not None


# --- labels, orders, parts ------------------------------------------------------------------------


def test_label_modes(images, capsys):
    dataset = of_images(images, label_mode="categorical", verbose=True)
    assert capsys.readouterr().out == "Found 21 files belonging to 3 classes.\n"
    x, y = all_of(dataset)
    np.testing.assert_array_equal(y, np.eye(3)[np.repeat([0, 1, 2], 7)])
    two = of_images(images, label_mode="binary", class_names=["quince", "apple"])
    assert two.class_names == ["quince", "apple"]
    np.testing.assert_array_equal(all_of(two)[1], np.repeat([[0.0], [1.0]], 7, axis=0))
    given = of_images(images, labels=[i % 2 for i in range(21)])
    assert given.class_names == ["0", "1"] and all_of(given)[1].dtype == np.int32
    assert all_of(given)[1].tolist() == [i % 2 for i in range(21)]
    assert all_of(of_images(images, label_mode=None)).shape == (21, 6, 7, 3)
    training, validation = of_images(
        images, validation_split=0.2, subset="both", seed=1, verbose=True
    )
    assert "Using 17 files for training.\nUsing 4 files for val" in capsys.readouterr().out
    assert (training.size, validation.size) == (17, 4)
    assert not set(training.file_paths) & set(validation.file_paths)


def test_orders(images):
    fixed = [of_images(images, shuffle=True, seed=2) for _ in range(2)]
    first, second = all_of(fixed[0])[1], all_of(fixed[0])[1]
    assert (first != second).any() and sorted(first) == sorted(second)
    np.testing.assert_array_equal(all_of(fixed[1])[1], first)
    np.testing.assert_array_equal(all_of(fixed[1])[1], second)
    plain = of_images(images)
    np.testing.assert_array_equal(all_of(plain)[1], np.repeat([0, 1, 2], 7))
    assert (all_of(plain.shuffle(100, seed=1))[1] != np.repeat([0, 1, 2], 7)).any()
    keras.utils.set_random_seed(4)
    once = all_of(of_images(images, shuffle=True))[1]
    keras.utils.set_random_seed(4)
    np.testing.assert_array_equal(all_of(of_images(images, shuffle=True))[1], once)


def test_parts_of_a_data_set(images):
    dataset = of_images(images)
    x, y = all_of(dataset)
    np.testing.assert_array_equal(all_of(dataset.take(2))[1], y[:8])
    np.testing.assert_array_equal(all_of(dataset.skip(5))[1], y[20:])
    np.testing.assert_array_equal(all_of(dataset.skip(1).take(2).skip(1))[1], y[8:12])
    assert [len(d) for d in (dataset.take(99), dataset.skip(99), dataset.take(0))] == [6, 0, 0]
    np.testing.assert_array_equal(all_of(dataset.batch(5))[0], x)
    assert len(dataset.batch(5)) == 5
    single = list(of_images(images, batch_size=None).take(3))
    np.testing.assert_array_equal(single[2][0].numpy(), x[2])
    assert single[2][1].shape == ()
    assert dataset.cardinality() == 6 and dataset.unbatch().cardinality() == 21
    first = next(dataset.as_numpy_iterator())
    assert all(type(part) is np.ndarray for part in first)
    left, right = keras.utils.split_dataset(dataset, 0.25, shuffle=True, seed=1)
    assert (left.size, right.size) == (5, 16) and left.class_names == CLASSES
    assert sorted(left.file_paths + right.file_paths) == sorted(dataset.file_paths)
    taken = of_images(images, shuffle=True, seed=1).take(1)
    assert len(set(all_of(taken)[1])) > 1  # not the first files


def test_mapped_and_cached(images):
    calls = []

    def half(x, y):
        calls.append(len(y))
        return x / 2, y

    dataset = of_images(images)
    mapped = dataset.map(half, num_parallel_calls=-1).cache().prefetch(buffer_size=-1)
    assert mapped.class_names == CLASSES
    x, _ = all_of(dataset)
    for _ in range(2):
        np.testing.assert_allclose(all_of(mapped)[0], x / 2)
    assert sum(calls) == 21  # the second time it came from memory
    for path in dataset.file_paths:
        open(path, "w").close()
    np.testing.assert_allclose(all_of(mapped.shuffle(9).batch(6))[0].sum(), x.sum() / 2, rtol=1e-5)
    with pytest.raises(ValueError, match="holds no image"):
        all_of(dataset)


def test_a_rank_reads_its_own_files_only(images, monkeypatch):
    module = importlib.import_module("minitorch_ciml.keras.data.folders")
    original, read = module.load_img, []
    monkeypatch.setattr(module, "load_img", lambda p, mode: read.append(p) or original(p, mode))
    dataset = of_images(images, shuffle=True, seed=1)
    whole = [np.asarray(batch[1]) for batch in dataset]
    assert sorted(read) == sorted(dataset.file_paths)
    found = []
    for rank in range(3):
        read.clear()
        parts = list(dataset.as_batches(0).parts(0, rank, 3))
        assert len(read) == sum(part.part.own for part in parts) <= 11
        found.append([part[1] for part in parts])
    for batch, pieces in zip(whole, zip(*found)):
        np.testing.assert_array_equal(np.concatenate(pieces), batch)


def test_on_a_gpu_batches_are_mapped_on_the_host(images):
    devices = []

    def look(x, y):
        devices.append(x.device)
        return keras.layers.RandomFlip(seed=1)(x), y

    dataset = of_images(images).map(look)
    with config.device("cuda"):
        x, y = next(iter(dataset))
        scale = keras.layers.Normalization()
        scale.adapt(dataset.map(lambda x, y: x))
    assert x.device == y.device == "cuda" and set(devices) == {"cpu"}
    mean = all_of(dataset)[0].mean(axis=(0, 1, 2))
    np.testing.assert_allclose(np.ravel(scale.mean.numpy()), mean, rtol=1e-4)


def test_single_samples_are_mapped_one_by_one(images):
    singles = of_images(images).unbatch()
    ranks = []

    def half(x, y):
        ranks.append(x.ndim)
        return x / 2, {"label": y}

    mapped = singles.map(half)
    x, y = next(iter(mapped))
    assert x.shape == (6, 7, 3) and y["label"].shape == () and set(ranks) == {3}
    x, y = next(iter(mapped.batch(4)))
    assert x.shape == (4, 6, 7, 3) and y["label"].numpy().tolist() == [0, 0, 0, 0]


def test_an_order_may_stay(images):
    dataset = of_images(images).shuffle(99, seed=5, reshuffle_each_iteration=False)
    first = all_of(dataset)[1]
    assert (first != np.repeat([0, 1, 2], 7)).any()
    np.testing.assert_array_equal(all_of(dataset)[1], first)


def test_files_are_read_when_they_are_needed(images, monkeypatch):
    read = []
    module = importlib.import_module("minitorch_ciml.keras.data.folders")
    original = module.load_img
    monkeypatch.setattr(module, "load_img", lambda p, mode: read.append(p) or original(p, mode))
    iterator = iter(of_images(images))
    assert not read
    next(iterator)
    assert len(read) <= 8  # this batch and the next
    iterator.close()


def write_wav(path, samples, rate=8000):
    path.parent.mkdir(exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(samples.shape[1])
        file.setsampwidth(samples.dtype.itemsize)
        file.setframerate(rate)
        file.writeframes(samples.tobytes())


def test_sounds(tmp_path):
    sounds = [RNG.integers(-(2**15), 2**15, (n, 2)).astype("<i2") for n in (5, 9, 7)]
    for i, sound in enumerate(sounds):
        write_wav(tmp_path / "sounds" / f"{i}.wav", sound)
    folder = tmp_path / "sounds"
    make = keras.utils.audio_dataset_from_directory
    how = {"labels": None, "shuffle": False, "verbose": False, "batch_size": 2}
    first, second = list(make(folder, **how))
    assert first.shape == (2, 9, 2) and second.shape == (1, 7, 2)  # as long as the longest
    np.testing.assert_array_equal(first.numpy()[0, :5], sounds[0] / 32768)
    assert (first.numpy()[0, 5:] == 0).all() and first.dtype == "float32"
    fixed = all_of(make(folder, output_sequence_length=6, sampling_rate=8000, **how))
    assert fixed.shape == (3, 6, 2)
    np.testing.assert_array_equal(fixed[1], sounds[1][:6] / 32768)
    with pytest.raises(ValueError, match="8000 samples per second; expected 16 bits and 16000"):
        all_of(make(folder, sampling_rate=16000, **how))
    write_wav(folder / "1.wav", sounds[1][:, :1].copy())
    with pytest.raises(ValueError, match=r"have \[1, 2\] channels"):
        all_of(make(folder, **how))
    (folder / "0.wav").write_bytes(b"no sound")
    with pytest.raises(ValueError, match="is no .wav file that can be read"):
        all_of(make(folder, **how))


# --- training -------------------------------------------------------------------------------------


def test_a_model_learns_from_a_folder_of_images(tmp_path):
    rng = np.random.default_rng(0)
    for label, channel in (("red", 0), ("green", 1)):
        (tmp_path / label).mkdir()
        for i in range(20):
            pixels = rng.integers(0, 100, (8, 8, 3))
            pixels[..., channel] += 120
            keras.utils.save_img(tmp_path / label / f"{i}.png", pixels, scale=False)
    training, validation = of_images(
        tmp_path, image_size=(8, 8), shuffle=True, seed=1, validation_split=0.25, subset="both"
    )
    model = keras.Sequential(
        [keras.Input((8, 8, 3)), keras.layers.Rescaling(1 / 255), keras.layers.RandomFlip(),
         keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(2, activation="softmax")]
    )  # fmt: skip
    model.compile(
        keras.optimizers.Adam(0.1), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    history = model.fit(training, validation_data=validation, epochs=8, verbose=0).history
    assert history["val_accuracy"][-1] == 1
    # predictions come in the order of the files
    predicted = model.predict(training, verbose=0).argmax(axis=1)
    named = [training.class_names[i] for i in predicted]
    assert [path.split("/")[-2] for path in training.file_paths] == named
    assert model.evaluate(training, verbose=0)[1] == 1


def test_a_model_learns_from_a_folder_of_texts(texts):
    training, validation = keras.utils.text_dataset_from_directory(
        texts, batch_size=5, validation_split=0.2, subset="both", seed=1, verbose=False
    )
    x, y = next(iter(validation))
    assert x.shape == (5,) and x[0].startswith("A ") and x[0].endswith("!\n")
    assert x.numpy()[0] == x[0] and not hasattr(x.numpy(), "numpy")
    vectorize = keras.layers.TextVectorization(output_mode="multi_hot")
    vectorize.adapt(training.map(lambda x, y: x))
    numbers = [d.map(lambda x, y: (vectorize(x), y)) for d in (training, validation)]
    model = keras.Sequential([keras.layers.Dense(1, activation="sigmoid")])
    model.compile(keras.optimizers.Adam(0.05), "binary_crossentropy", metrics=["accuracy"])
    history = model.fit(numbers[0].cache(), validation_data=numbers[1], epochs=10, verbose=0)
    assert history.history["val_accuracy"][-1] == 1
    # the same from texts to labels
    whole = keras.Sequential([keras.Input((1,), dtype="string"), vectorize, model])
    np.testing.assert_allclose(
        whole.predict(validation, verbose=0), model.predict(numbers[1], verbose=0)
    )
    cut = keras.utils.text_dataset_from_directory(texts, max_length=3, labels=None, verbose=False)
    assert {len(text) for text in all_of(cut)} == {3}


def test_windows_are_trained_on():
    series = np.sin(np.arange(400) / 5).astype("float32")
    dataset = keras.utils.timeseries_dataset_from_array(
        series[:-8], series[8:], sequence_length=8, batch_size=32, shuffle=True
    )
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(0.02), "mse")
    losses = model.fit(dataset, epochs=20, verbose=0).history["loss"]
    assert losses[-1] < 0.1 * losses[0]


class Pieces(keras.utils.PyDataset):
    """Batches that tell which thread has made them."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.makers, self.calls = [], []

    def __len__(self):
        return 20

    def __getitem__(self, index):
        time.sleep(0.002 * (index % 3))
        self.makers.append(threading.get_ident())
        return np.full((2, 1), index / 20, "float32"), np.full((2, 1), index / 10, "float32")

    def on_epoch_begin(self):
        self.calls.append("begin")

    def on_epoch_end(self):
        self.calls.append("end")


def test_workers_are_threads_that_make_batches_ahead():
    weights = []
    for kwargs in ({}, {"workers": 3, "max_queue_size": 4}):
        keras.utils.set_random_seed(1)
        pieces = Pieces(**kwargs)
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
        model.fit(pieces, epochs=2, verbose=0)
        weights.append(model.get_weights()[0])
        assert pieces.calls == ["begin", "end"] * 2 and len(pieces.makers) == 40
        own = threading.get_ident() in pieces.makers
        assert own == (not kwargs)
    assert len(set(pieces.makers)) > 2
    np.testing.assert_array_equal(*weights)  # in the same order

    class Broken(Pieces):
        def __getitem__(self, index):
            raise OSError("the file is gone")

    with pytest.raises(OSError, match="the file is gone"):
        model.predict(Broken(workers=2), verbose=0)


@pytest.mark.parametrize(
    ("kwargs", "error"),
    [
        ({"color_mode": "cmyk"}, "color_mode='cmyk'"),
        ({"interpolation": "cubic"}, "interpolation='cubic'"),
        ({"label_mode": "hot"}, "label_mode='hot'"),
        ({"label_mode": "binary"}, "needs two classes"),
        ({"subset": "training"}, "give both"),
        ({"validation_split": 1.5, "subset": "both"}, "between 0 and 1"),
        ({"validation_split": 0.5, "subset": "both", "shuffle": True}, "needs a seed"),
        ({"validation_split": 0.01, "subset": "both"}, "leaves 21 of 21 files"),
        ({"labels": [1, 2]}, "got 2 labels for 21 files"),
        ({"labels": None, "class_names": ["a"]}, "class_names are for"),
        ({"class_names": ["apple", "banana"]}, "has the folders"),
        ({"image_size": (3, 4, 5)}, "image_size must be"),
        ({"crop_to_aspect_ratio": True, "pad_to_aspect_ratio": True}, "not both"),
    ],
)
def test_errors(images, kwargs, error):
    with pytest.raises(ValueError, match=error):
        of_images(images, **kwargs)


def test_errors_of_folders_and_windows(tmp_path, images):
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        of_images(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="expected one for each class"):
        of_images(images / ".hidden")
    with pytest.raises(ValueError, match="no files with the endings"):
        keras.utils.text_dataset_from_directory(images, labels=None, verbose=False)
    with pytest.raises(ValueError, match="gives single samples"):
        keras.Sequential([keras.layers.Flatten()]).predict(of_images(images, batch_size=None))
    windows = keras.utils.timeseries_dataset_from_array
    with pytest.raises(ValueError, match="3 steps are too few for a window of 4"):
        windows(np.arange(3), None, 4)
    with pytest.raises(ValueError, match="sequence_stride must be at least 1"):
        windows(np.arange(3), None, 2, sequence_stride=0)
    with pytest.raises(ValueError, match="leave nothing of 3 steps"):
        windows(np.arange(3), None, 2, start_index=3)
    ragged = keras.layers.TextVectorization(vocabulary=["a"])
    pieces = windows(np.arange(6), None, 1, batch_size=1)
    lengths = iter([["a"], ["a a"], ["a a a"]] * 9)
    with pytest.raises(ValueError, match="Dataset.cache: samples have shapes"):
        all_of(pieces.map(lambda x: ragged(next(lengths))).cache())
