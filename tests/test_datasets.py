"""Data sets: search order, damaged files, downloads from a server on this machine, drawn digits."""

import hashlib
import http.server
import io
import os
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minitorch_ciml import datasets
from minitorch_ciml.datasets import mnist, source, synthetic
from minitorch_ciml.datasets.download import download
from minitorch_ciml.datasets.files import atomic_write, cache_dir
from minitorch_ciml.keras.datasets import mnist as keras_mnist


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home, whose caches hold nothing, and a download address that nobody answers."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("KERAS_HOME", raising=False)
    monkeypatch.delenv(source.VARIABLE, raising=False)
    monkeypatch.setattr(mnist, "ORIGIN", "http://127.0.0.1:9/mnist.npz")
    return tmp_path


def small(seed: int = 0, **replaced: np.ndarray) -> dict[str, Any]:
    """Arrays in MNIST's layout: 20 training and 5 test images of noise."""
    rng = np.random.default_rng(seed)
    arrays = {}
    for split, n in (("train", 20), ("test", 5)):
        arrays[f"x_{split}"] = rng.integers(0, 256, (n, 28, 28), np.uint8)
        arrays[f"y_{split}"] = rng.integers(0, 10, n, np.uint8)
    return arrays | replaced


def write(path: Path, seed: int = 0, **replaced: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **small(seed, **replaced))
    return path


def packed() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **small())
    return buffer.getvalue()


def seed_of(loaded: tuple[mnist.Split, mnist.Split]) -> int:
    """Which of `write`'s seeds a loaded data set came from."""
    return next(s for s in range(9) if np.array_equal(loaded[0][0], small(s)["x_train"]))


# Where MNIST is looked for


def test_load_takes_a_file_or_its_folder(tmp_path: Path) -> None:
    file = write(tmp_path / "some" / "mnist.npz")
    for path in (file, str(file), file.parent):
        (x_train, y_train), (x_test, y_test) = mnist.load(path)
        expected = small()
        np.testing.assert_array_equal(x_train, expected["x_train"])
        np.testing.assert_array_equal(y_train, expected["y_train"])
        np.testing.assert_array_equal(x_test, expected["x_test"])
        np.testing.assert_array_equal(y_test, expected["y_test"])


def test_search_order(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(home / ".keras" / "datasets" / "mnist.npz", seed=4)
    assert seed_of(mnist.load()) == 4
    monkeypatch.setenv("KERAS_HOME", str(home / "keras"))
    write(home / "keras" / "datasets" / "mnist.npz", seed=3)
    assert seed_of(mnist.load()) == 3
    write(cache_dir() / "mnist.npz", seed=2)
    assert seed_of(mnist.load()) == 2
    monkeypatch.setenv(source.VARIABLE, str(write(home / "data" / "mnist.npz", seed=1)))
    assert seed_of(mnist.load()) == 1
    monkeypatch.setenv(source.VARIABLE, str(home / "data"))
    assert seed_of(mnist.load()) == 1
    assert seed_of(mnist.load(write(home / "explicit.npz", seed=0))) == 0


def test_keras_name_is_relative_to_the_caches(home: Path) -> None:
    write(cache_dir() / "mine.npz", seed=1)
    assert seed_of(keras_mnist.load_data("mine.npz")) == 1
    assert seed_of(keras_mnist.load_data(str(write(home / "other.npz", seed=2)))) == 2


def test_what_was_named_but_is_missing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError, match=r"path='.*nowhere': there is no file .*nowhere"):
        mnist.load(home / "nowhere")
    # A wrong variable is an error even where a cache could answer: the user said otherwise.
    write(cache_dir() / "mnist.npz")
    monkeypatch.setenv(source.VARIABLE, str(home))
    expected = f"{source.VARIABLE}=.*there is no file .*mnist.npz"
    with pytest.raises(FileNotFoundError, match=expected):
        mnist.load()


def test_without_network_the_error_says_what_to_do() -> None:
    for load in (mnist.load, keras_mnist.load_data):
        with pytest.raises(ConnectionError) as caught:
            load()
        said = str(caught.value)
        assert "\n" not in said
        for part in (mnist.ORIGIN, str(cache_dir()), source.VARIABLE, "synthetic_digits"):
            assert part in said


def test_load_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert seed_of(datasets.load("mnist", write(tmp_path / "m.npz", seed=1))) == 1
    monkeypatch.setattr(datasets, "synthetic_digits", lambda: "drawn")
    assert datasets.load("synthetic") == "drawn"
    with pytest.raises(ValueError, match="no data set 'cifar'; expected 'mnist' or 'synthetic'"):
        datasets.load("cifar")
    with pytest.raises(ValueError, match="'synthetic' is drawn, not read"):
        datasets.load("synthetic", tmp_path)


def test_digits_are_the_first_of_mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez(tmp_path / "mnist.npz", **small())
    monkeypatch.setenv(source.VARIABLE, str(tmp_path))
    (x, y), (x_test, _) = datasets.digits(7, 3)
    assert np.array_equal(x, small()["x_train"][:7]) and np.array_equal(y, small()["y_train"][:7])
    assert len(x_test) == 3


def test_digits_are_drawn_where_mnist_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    (x, y), (x_test, _) = datasets.digits(7, 3)
    assert x.shape == (7, 28, 28) and y.shape == (7,) and len(x_test) == 3
    assert "MNIST is not on this machine" in capsys.readouterr().out
    with pytest.raises(ValueError, match="at least one image"):
        datasets.digits(0)


# Damaged and hostile files


@pytest.mark.parametrize(
    ("replaced", "said"),
    [
        ({"x_train": np.zeros((20, 28, 28), np.float32)}, r"x_train is float32 \(20, 28, 28\)"),
        ({"x_test": np.zeros((5, 784), np.uint8)}, r"x_test is uint8 \(5, 784\)"),
        ({"y_train": np.zeros(19, np.uint8)}, r"y_train is uint8 \(19,\), not uint8 \(20,\)"),
        ({"y_test": np.full(5, 10, np.uint8)}, "y_test reaches 10, not 9"),
        ({"x_test": np.zeros((0, 28, 28), np.uint8)}, r"x_test is uint8 \(0, 28, 28\)"),
    ],
)
def test_wrong_arrays(tmp_path: Path, replaced: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        mnist.load(write(tmp_path / "m.npz", **replaced))
    assert "\n" not in str(caught.value)


def test_missing_arrays(tmp_path: Path) -> None:
    np.savez(tmp_path / "m.npz", images=np.zeros(3))
    with pytest.raises(ValueError, match=r"it holds \['images'\], not \['x_train'"):
        mnist.load(tmp_path / "m.npz")


def test_truncated_and_altered_files(tmp_path: Path) -> None:
    whole = packed()
    file = tmp_path / "mnist.npz"
    altered = bytearray(whole)
    altered[len(whole) // 2] ^= 0xFF
    for contents in (b"", b"<html>log in</html>", whole[:-100], whole[: len(whole) // 2], altered):
        file.write_bytes(contents)
        with pytest.raises(ValueError, match="not a whole MNIST file"):
            mnist.load(file)


def test_no_code_is_executed(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "executed"),)

    x_train = np.array([Evil()] * 20, object)
    with pytest.raises(ValueError, match="not a whole MNIST file"):
        mnist.load(write(tmp_path / "m.npz", x_train=x_train))
    assert not (tmp_path / "executed").exists()


# Downloads


class Server(http.server.ThreadingHTTPServer):
    """Serves `contents`; each request takes one of `plans`: how many bytes to send (None: all)."""

    contents: bytes
    ranges = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.contents = packed()
        self.plans: list[int | None] = []
        self.asked: list[str | None] = []
        self.url = f"http://127.0.0.1:{self.server_port}/mnist.npz"
        self.sha256 = hashlib.sha256(self.contents).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.server.asked.append(asked)
        if self.path != "/mnist.npz":
            self.send_error(404)
            return
        first = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        if not self.server.ranges:
            first = 0
        elif first >= len(self.server.contents):
            self.send_error(416)
            return
        rest = self.server.contents[first:]
        self.send_response(206 if first else 200)
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        self.wfile.write(rest[: self.server.plans.pop(0) if self.server.plans else None])

    def log_message(self, *_: object) -> None:
        """Keeps the test's output clean."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_download_into_the_cache(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mnist, "ORIGIN", server.url)
    monkeypatch.setattr(mnist, "SHA256", server.sha256)
    assert seed_of(keras_mnist.load_data()) == 0
    assert seed_of(mnist.load()) == 0
    assert server.asked == [None]
    assert names(cache_dir()) == ["mnist.npz"]


def test_broken_connections_are_resumed(server: Server, tmp_path: Path) -> None:
    server.plans = [1000, 500, None]
    file = download(server.url, tmp_path / "new" / "m.npz", server.sha256)
    assert file.read_bytes() == server.contents
    assert server.asked == [None, "bytes=1000-", "bytes=1500-"]


def test_an_attempt_that_brings_nothing_ends_but_keeps_the_part(
    server: Server, tmp_path: Path
) -> None:
    server.plans = [1000, 0]
    with pytest.raises(ConnectionError, match="broke after 1000 of"):
        download(server.url, tmp_path / "m.npz", server.sha256)
    assert names(tmp_path) == ["m.npz.part"]
    assert download(server.url, tmp_path / "m.npz", server.sha256).exists()
    assert server.asked[-1] == "bytes=1000-"
    assert names(tmp_path) == ["m.npz"]


def test_a_server_without_ranges_starts_over(server: Server, tmp_path: Path) -> None:
    server.ranges = False
    server.plans = [1000, None]
    file = download(server.url, tmp_path / "m.npz", server.sha256)
    assert file.read_bytes() == server.contents


@pytest.mark.parametrize("excess", [-10, 0, 10])
def test_a_part_of_another_file_is_thrown_away(server: Server, tmp_path: Path, excess: int) -> None:
    (tmp_path / "m.npz.part").write_bytes(b"?" * (len(server.contents) + excess))
    file = download(server.url, tmp_path / "m.npz", server.sha256)
    assert file.read_bytes() == server.contents


def test_a_complete_part_needs_no_network(server: Server, tmp_path: Path) -> None:
    (tmp_path / "m.npz.part").write_bytes(server.contents)
    file = download(server.url, tmp_path / "m.npz", server.sha256)
    assert file.read_bytes() == server.contents
    assert server.asked == []


def test_wrong_digest(server: Server, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="SHA-256 is not the expected 0000"):
        download(server.url, tmp_path / "m.npz", "0" * 64)
    assert not (tmp_path / "m.npz").exists()
    assert (tmp_path / "m.npz.part").stat().st_size == 0


def test_missing_on_the_server(server: Server, tmp_path: Path) -> None:
    with pytest.raises(ConnectionError, match="404"):
        download(server.url + ".moved", tmp_path / "m.npz", server.sha256)
    assert len(server.asked) == 1


def test_a_silent_server_times_out(tmp_path: Path) -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as silent:
        url = f"http://127.0.0.1:{silent.server_port}/mnist.npz"
        with pytest.raises(ConnectionError, match="timed out"):
            download(url, tmp_path / "m.npz", "0" * 64, timeout=0.1)


def test_several_at_once_download_once(server: Server, tmp_path: Path) -> None:
    server.contents = os.urandom(1 << 20)
    sha256 = hashlib.sha256(server.contents).hexdigest()
    threads = [
        threading.Thread(target=download, args=(server.url, tmp_path / "m.npz", sha256))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "m.npz").read_bytes() == server.contents
    if os.name == "posix":
        assert server.asked == [None]


def test_atomic_write_leaves_all_or_nothing(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "file"
    with atomic_write(path) as file:
        file.write(b"old")
        assert not path.exists()
    with pytest.raises(ZeroDivisionError), atomic_write(path) as file:
        file.write(b"new")
        raise ZeroDivisionError
    assert path.read_bytes() == b"old"
    assert names(path.parent) == ["file"]


# Drawn digits


Drawn = tuple[mnist.Split, mnist.Split]


@pytest.fixture(scope="module")
def drawn() -> Drawn:
    return synthetic.draw(4000, 1000, seed=0)


def test_synthetic_layout_and_framing(drawn: Drawn) -> None:
    (x_train, y_train), (x_test, y_test) = drawn
    assert x_train.shape == (4000, 28, 28) and x_test.shape == (1000, 28, 28)
    assert y_train.shape == (4000,) and y_test.shape == (1000,)
    assert {a.dtype for a in (x_train, y_train, x_test, y_test)} == {np.dtype(np.uint8)}
    assert np.bincount(y_train, minlength=10).min() >= 300
    ink = x_train / 255.0
    assert 0.08 < ink.mean() < 0.2  # MNIST: 0.13
    assert (x_train.reshape(len(ink), -1).max(axis=1) > 150).all()
    mass = ink.sum(axis=(1, 2))
    for axis in (1, 2):
        centre = (ink.sum(axis=3 - axis) * np.arange(28)).sum(axis=1) / mass
        assert abs(centre.mean() - 14) < 0.3 and np.abs(centre - 14).max() < 4
    edge = np.concatenate([x_train[:, 0], x_train[:, -1], x_train[:, :, 0], x_train[:, :, -1]])
    assert (edge > 0).mean() < 0.02


def test_synthetic_is_fixed_by_its_seed(drawn: Drawn) -> None:
    train, test = drawn
    fewer, _ = synthetic.draw(40, 5, seed=0)
    np.testing.assert_array_equal(fewer[0], train[0][:40])
    np.testing.assert_array_equal(fewer[1], train[1][:40])
    assert not np.array_equal(test[0][:40], fewer[0])
    assert not np.array_equal(synthetic.draw(40, 1, seed=2)[0][0], fewer[0])
    # Another matplotlib may change single grey levels; anything else calls for a new VERSION.
    assert synthetic.VERSION == 1
    assert int(train[0].sum()) == pytest.approx(106692027, rel=1e-5)


def test_synthetic_is_kept_and_redrawn_when_damaged(
    drawn: Drawn, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def draw(*arguments: int) -> Drawn:
        calls.append(arguments)
        return drawn

    monkeypatch.setattr(synthetic, "draw", draw)
    for _ in range(2):
        (x_train, _), (_, y_test) = datasets.synthetic_digits(4000, 1000, seed=0)
        np.testing.assert_array_equal(x_train, drawn[0][0])
        np.testing.assert_array_equal(y_test, drawn[1][1])
    assert calls == [(4000, 1000, 0)]
    datasets.synthetic_digits(4000, 1000, seed=1)
    assert calls[1:] == [(4000, 1000, 1)]
    for file in cache_dir().iterdir():
        file.write_bytes(file.read_bytes()[:-50])
    datasets.synthetic_digits(4000, 1000, seed=1)
    assert calls[2:] == [(4000, 1000, 1)]
    assert len(names(cache_dir())) == 2


def test_synthetic_without_a_cache_warns(
    drawn: Drawn, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(synthetic, "draw", lambda *_: drawn)
    (home / "cache").write_text("a file where the folder should be")
    with pytest.warns(UserWarning, match="cannot keep its images"):
        assert datasets.synthetic_digits(3, 3) == drawn


@pytest.mark.parametrize("arguments", [(0, 1, 0), (1, 0, 0), (1, 1, -1)])
def test_synthetic_arguments(arguments: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="at least one image"):
        datasets.synthetic_digits(*arguments)


def test_synthetic_is_a_task_worth_learning(drawn: Drawn) -> None:
    """A linear classifier does far better than chance and far from perfectly."""
    (x_train, y_train), (x_test, y_test) = drawn

    def features(x: np.ndarray) -> np.ndarray:
        halves = x.reshape(len(x), 14, 2, 14, 2).mean(axis=(2, 4)).reshape(len(x), -1) / 255
        return np.concatenate([halves, np.ones((len(x), 1))], axis=1)

    a = features(x_train)
    weights = np.linalg.solve(a.T @ a + np.eye(a.shape[1]), a.T @ np.eye(10)[y_train])
    accuracy = ((features(x_test) @ weights).argmax(axis=1) == y_test).mean()
    assert 0.6 < accuracy < 0.92


REAL = os.environ.get(source.VARIABLE)


@pytest.mark.skipif(not REAL, reason=f"{source.VARIABLE} is not set: no real MNIST to read")
def test_real_mnist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(source.VARIABLE, str(REAL))
    (x_train, y_train), (x_test, y_test) = keras_mnist.load_data()
    assert x_train.shape == (60_000, 28, 28) and x_test.shape == (10_000, 28, 28)
    # The digest of the official train-images-idx3-ubyte: 16 bytes of header, then the pixels.
    idx = struct.pack(">4I", 2051, 60_000, 28, 28) + x_train.tobytes()
    assert hashlib.md5(idx).hexdigest() == "6bbc9ace898e44ae57da46a324031adb"
    assert list(np.bincount(y_train)[:3]) == [5923, 6742, 5958]
    assert list(y_test[:5]) == [7, 2, 1, 0, 4]
