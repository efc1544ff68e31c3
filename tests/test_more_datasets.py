"""Data sets besides MNIST: found like it, in Keras' layouts, without executing their pickles."""

import gzip
import importlib
import io
import json
import os
import pickle
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest

from minitorch_ciml.datasets import cifar, fashion_mnist, imdb
from minitorch_ciml.datasets.files import cache_dir
from minitorch_ciml.datasets.source import VARIABLE
from minitorch_ciml.keras import datasets

RNG = np.random.default_rng(0)
PHOTOS = RNG.integers(0, 256, (12, 32, 32, 3), np.uint8)
LABELS = RNG.integers(0, 10, 12).tolist()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home without a network."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("KERAS_HOME", raising=False)
    monkeypatch.delenv(VARIABLE, raising=False)

    def no_download(*_):
        raise ConnectionError("there is no network here")

    monkeypatch.setattr("minitorch_ciml.datasets.download.download", no_download)
    return tmp_path


# --- Fashion-MNIST ------------------------------------------------------------------------------


def idx(array):
    header = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    return gzip.compress(header + array.tobytes())


def write_fashion(folder: Path) -> dict:
    folder = folder / "fashion-mnist"
    folder.mkdir(parents=True)
    arrays = {
        "train-images-idx3": RNG.integers(0, 256, (5, 28, 28), np.uint8),
        "train-labels-idx1": np.arange(5, dtype=np.uint8),
        "t10k-images-idx3": RNG.integers(0, 256, (3, 28, 28), np.uint8),
        "t10k-labels-idx1": np.array([9, 8, 7], np.uint8),
    }
    for name, array in arrays.items():
        (folder / f"{name}-ubyte.gz").write_bytes(idx(array))
    return arrays


@pytest.mark.parametrize("place", ["variable", "own", "keras", "path"])
def test_fashion_mnist_is_found_like_mnist(home, monkeypatch, place):
    folder = {"own": cache_dir(), "keras": home / ".keras" / "datasets"}.get(place, home / "data")
    arrays = write_fashion(folder)
    if place == "variable":
        monkeypatch.setenv(VARIABLE, str(folder))
    load = datasets.fashion_mnist.load_data
    loaded = fashion_mnist.load(folder) if place == "path" else load()
    for ours, theirs in zip((*loaded[0], *loaded[1]), arrays.values()):
        np.testing.assert_array_equal(ours, theirs)


def test_fashion_mnist_that_is_missing_or_damaged(home):
    with pytest.raises(ConnectionError, match=f"Fashion-MNIST is not on this machine.*{VARIABLE}"):
        datasets.fashion_mnist.load_data()
    write_fashion(home)
    file = home / "fashion-mnist" / "t10k-images-idx3-ubyte.gz"
    whole = file.read_bytes()
    for damaged in (whole[:40], gzip.compress(gzip.decompress(whole)[:-1]), b"no gzip"):
        file.write_bytes(damaged)
        with pytest.raises(ValueError, match="not a whole Fashion-MNIST file"):
            fashion_mnist.load(home)


# --- CIFAR --------------------------------------------------------------------------------------


def batch(rows: slice, **labels) -> bytes:
    data = PHOTOS[rows].transpose(0, 3, 1, 2).reshape(-1, 3072)
    record = {b"data": data, b"batch_label": b"a batch"}
    return pickle.dumps(record | {key.encode(): value[rows] for key, value in labels.items()}, 2)


def cifar10_files() -> dict[str, bytes]:
    files = {f"data_batch_{i + 1}": batch(slice(2 * i, 2 * i + 2), labels=LABELS) for i in range(5)}
    return files | {"test_batch": batch(slice(10, 12), labels=LABELS), "readme.html": b"x"}


def write_archive(path: Path, folder: str, files: dict[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


@pytest.mark.parametrize("unpacked", [False, True])
def test_cifar10(home, unpacked):
    name = "cifar-10-batches-py"
    if unpacked:
        folder = home / ".keras" / "datasets" / f"{name}-target" / name
        folder.mkdir(parents=True)
        for file, data in cifar10_files().items():
            (folder / file).write_bytes(data)
    else:
        write_archive(cache_dir() / "cifar-10-python.tar.gz", name, cifar10_files())
    (x_train, y_train), (x_test, y_test) = datasets.cifar10.load_data()
    np.testing.assert_array_equal(x_train, PHOTOS[:10])
    np.testing.assert_array_equal(x_test, PHOTOS[10:])
    np.testing.assert_array_equal(y_train[:, 0], LABELS[:10])
    assert y_test.shape == (2, 1) and y_test.dtype == np.uint8


def test_cifar100(home):
    coarse = [label // 5 for label in LABELS]
    both = {"fine_labels": LABELS, "coarse_labels": coarse}
    files = {"train": batch(slice(0, 8), **both), "test": batch(slice(8, 12), **both)}
    write_archive(cache_dir() / "cifar-100-python.tar.gz", "cifar-100-python", files)
    for mode, labels in (("fine", LABELS), ("coarse", coarse)):
        (x, y), (_, y_test) = datasets.cifar100.load_data(mode)
        np.testing.assert_array_equal(x, PHOTOS[:8])
        np.testing.assert_array_equal(np.concatenate([y, y_test])[:, 0], labels)
    with pytest.raises(ValueError, match="label_mode='medium'"):
        datasets.cifar100.load_data("medium")


class Harmful:
    def __reduce__(self):
        return os.system, ("echo executed > executed",)


def test_pickles_are_not_executed(home, monkeypatch):
    monkeypatch.chdir(home)
    files = cifar10_files() | {"data_batch_3": pickle.dumps(Harmful())}
    write_archive(home / "cifar-10-python.tar.gz", "cifar-10-batches-py", files)
    with pytest.raises(ValueError, match="system, which is not allowed"):
        cifar.load10(home)
    assert not (home / "executed").exists()
    del files["data_batch_3"]
    write_archive(home / "cifar-10-python.tar.gz", "cifar-10-batches-py", files)
    with pytest.raises(ValueError, match="it lacks data_batch_3"):
        cifar.load10(home)
    (home / "cifar-10-python.tar.gz").write_bytes(b"cut short")
    with pytest.raises(ValueError, match="not a whole CIFAR-10 file"):
        cifar.load10(home)


# --- IMDB ---------------------------------------------------------------------------------------

REVIEWS = [[1, 5, 2], [7, 1], [3, 3, 3, 9, 1]]


def write_imdb(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    x = np.empty(3, dtype=object)
    x[:] = REVIEWS
    y = np.array([0, 1, 1])
    np.savez(folder / "imdb.npz", x_train=x, y_train=y, x_test=x[:2], y_test=y[:2])
    return folder / "imdb.npz"


def test_imdb(home):
    write_imdb(home / ".keras" / "datasets")
    (x, y), (x_test, _) = datasets.imdb.load_data(num_words=10)
    order = np.arange(3)
    np.random.RandomState(113).shuffle(order)
    expected = [[1] + [w + 3 if w + 3 < 10 else 2 for w in REVIEWS[i]] for i in order]
    assert x.tolist() == expected and x.dtype == object
    assert y.tolist() == [[0, 1, 1][i] for i in order]
    assert len(x_test) == 2
    (x, _), _ = datasets.imdb.load_data(start_char=None, oov_char=None, index_from=0, skip_top=3)
    assert sorted(x.tolist()) == [[3, 3, 3], [5], [7]]  # 9 is the largest number, as in Keras
    (x, _), _ = datasets.imdb.load_data(maxlen=4)
    assert [len(review) for review in x] == [3]
    with pytest.raises(ValueError, match="no text is shorter than maxlen=2"):
        datasets.imdb.load_data(maxlen=2)


def test_imdb_words_and_damage(home):
    cache_dir().mkdir(parents=True)
    (cache_dir() / "imdb_word_index.json").write_text(json.dumps({"the": 1, "fawn": 34701}))
    assert datasets.imdb.get_word_index() == {"the": 1, "fawn": 34701}
    file = write_imdb(home)
    x = np.empty(1, dtype=object)
    x[0] = Harmful()
    np.savez(file, x_train=x, y_train=x, x_test=x, y_test=x)
    with pytest.raises(ValueError, match="not a whole IMDB file.*not allowed"):
        imdb.load(file)
    with pytest.raises(FileNotFoundError, match="expected imdb.npz"):
        imdb.load(home / "nowhere")


# --- Reuters and housing --------------------------------------------------------------------------


def peer_of(home, monkeypatch, name):
    """Keras' loader, which takes any file that is in its cache."""
    pytest.importorskip("tests.keras_peer")
    module = importlib.import_module(f"keras.src.datasets.{name}")
    folder = home / ".keras" / "datasets"
    monkeypatch.setattr(module, "get_file", lambda fname, **_: str(folder / fname))
    return module


def assert_equal_splits(ours, theirs):
    for split, peer in zip(ours, theirs):
        for a, b in zip(split, peer):
            assert a.dtype == b.dtype
            assert a.tolist() == b.tolist()


@pytest.mark.parametrize(
    "kwargs",
    [{}, {"num_words": 8, "test_split": 0.5}, {"skip_top": 5, "oov_char": None},
     {"maxlen": 5, "start_char": None, "index_from": 0, "seed": 3}],
)  # fmt: skip
def test_reuters_is_that_of_keras(home, monkeypatch, kwargs):
    folder = home / ".keras" / "datasets"
    folder.mkdir(parents=True)
    x = np.empty(9, dtype=object)
    x[:] = [RNG.integers(1, 9, n).tolist() for n in (2, 3, 4, 5, 6, 2, 3, 4, 1)]
    np.savez(folder / "reuters.npz", x=x, y=RNG.integers(0, 46, 9))
    (folder / "reuters_word_index.json").write_text(json.dumps({"the": 1}))
    peer = peer_of(home, monkeypatch, "reuters")
    ours = datasets.reuters.load_data(**kwargs)
    assert_equal_splits(ours, peer.load_data(**kwargs))
    assert datasets.reuters.get_word_index() == {"the": 1}
    assert datasets.reuters.get_label_names() == peer.get_label_names()
    x[0] = Harmful()
    np.savez(folder / "reuters.npz", x=x, y=np.arange(9))
    with pytest.raises(ValueError, match="not a whole Reuters file.*not allowed"):
        datasets.reuters.load_data()


@pytest.mark.parametrize("name", ["california_housing", "boston_housing"])
def test_housing_is_that_of_keras(home, monkeypatch, name):
    folder = home / ".keras" / "datasets"
    folder.mkdir(parents=True)
    np.savez(folder / f"{name}.npz", x=RNG.normal(size=(700, 8)), y=RNG.normal(size=700))
    load, peer = getattr(datasets, name).load_data, peer_of(home, monkeypatch, name).load_data
    for kwargs in ({}, {"test_split": 0.35, "seed": 1}):
        assert_equal_splits(load(**kwargs), peer(**kwargs))
    if name == "california_housing":
        assert_equal_splits(load(version="small"), peer(version="small"))
        with pytest.raises(ValueError, match="version='tiny'"):
            load(version="tiny")
    with pytest.raises(ValueError, match="test_split must be from 0"):
        load(test_split=1)
    (folder / f"{name}.npz").write_bytes(b"cut short")
    with pytest.raises(ValueError, match="is not a whole .* housing file"):
        load()
    (folder / f"{name}.npz").unlink()
    with pytest.raises(ConnectionError, match="housing is not on this machine"):
        load()
