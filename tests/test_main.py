"""The command line, in this process, on a small file in MNIST's layout."""

import re
import zipfile

import numpy as np
import pytest

from minitorch_ciml import __main__ as command_line
from minitorch_ciml import datasets, keras
from minitorch_ciml.__main__ import main

PNG = b"\x89PNG\r\n"
PICTURES = {"history.png", "confusion.png", "mistakes.png", "filters.png", "feature_maps.png"}


def digits(n, rng):
    """Images that a few steps suffice for: digit d is a bright bar at row 2 d + 4."""
    labels = (np.arange(n) % 10).astype("uint8")
    images = rng.integers(0, 60, (n, 28, 28), dtype="uint8")
    for image, label in zip(images, labels):
        image[2 * label + 4 : 2 * label + 7, 4:24] = 250
    return images, labels


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """A small mnist.npz."""
    rng = np.random.default_rng(0)
    (x_train, y_train), (x_test, y_test) = digits(600, rng), digits(120, rng)
    file = tmp_path_factory.mktemp("data") / "mnist.npz"
    np.savez(file, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
    return file


@pytest.fixture(autouse=True)
def nothing_but_the_file(monkeypatch, tmp_path):
    """No data of this user, and no download."""
    monkeypatch.delenv("MINITORCH_CIML_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setattr(datasets.mnist, "ORIGIN", "http://127.0.0.1:9/mnist.npz")  # nobody listens


# Said once, by whichever test compiles first.
COMPILING = "Compiling kernels for this machine, once ...\n"


def run(capsys, *arguments):
    """The exit status, and what was printed and complained; not that kernels are compiled."""
    try:
        status = main([str(argument) for argument in arguments])
    except SystemExit as end:
        status = end.code
    printed = capsys.readouterr()
    return status, printed.out, printed.err.replace(COMPILING, "")


def run_wrong(capsys, *arguments):
    """The complaint of a command that must fail with status 2 and one line."""
    status, _, complaint = run(capsys, *arguments)
    assert status == 2
    assert complaint.startswith("minitorch-ciml") and ": error: " in complaint
    assert complaint.count("\n") == 1, complaint
    return complaint


# --- train and evaluate ---------------------------------------------------------------------------


def test_train_then_evaluate(capsys, data, tmp_path):
    folder = tmp_path / "deep" / "results"
    status, out, err = run(
        capsys, "train", "--data", data, "--epochs", 2, "--batch-size", 20, "--learning-rate",
        0.005, "--output", folder,
    )  # fmt: skip
    assert status == 0 and not err
    assert {path.name for path in folder.iterdir()} == PICTURES | {"model.keras"}
    for name in PICTURES:
        assert (folder / name).read_bytes().startswith(PNG)
        assert name in out
    assert "(Conv2D)" in out and "76,570" in out
    assert "Training on 600 images, testing on 120." in out
    epochs = [line for line in out.splitlines() if line.startswith("Epoch")]
    assert len(epochs) == 2 and all("30/30" in line for line in epochs)
    assert all(name in epochs[1] for name in ("loss: ", "accuracy: ", "val_loss: ", "val_accuracy"))
    assert "Confusion matrix" in out
    last = float(re.search(r"val_accuracy: ([\d.]+)", epochs[1])[1])
    assert last > 0.5  # guessing gives 0.1
    accuracy = next(line for line in out.splitlines() if line.startswith("Test accuracy"))
    assert accuracy == f"Test accuracy: {round(last * 120) / 120:.2%} ({round(last * 120)} of 120)"

    # The saved model scores the same, whatever the size of the batches.
    status, out, err = run(
        capsys, "evaluate", folder / "model.keras", "--data", data.parent, "--batch-size", 7
    )
    assert status == 0 and not err
    assert accuracy in out and "Confusion matrix" in out


def test_seed_fixes_the_model(capsys, data, tmp_path):
    def weights(name, seed):
        status, *_ = run(
            capsys, "train", "--data", data, "--epochs", 1, "--model", "linear", "--seed", seed,
            "--output", tmp_path / name,
        )  # fmt: skip
        assert status == 0
        return keras.models.load_model(tmp_path / name / "model.keras").get_weights()[0]

    first = weights("first", 3)
    assert np.array_equal(first, weights("again", 3))
    assert not np.array_equal(first, weights("other", 4))


@pytest.mark.parametrize("model", ["linear", "mlp"])
def test_models_without_convolution_draw_no_filters(capsys, data, tmp_path, model):
    status, out, _ = run(
        capsys, "train", "--data", data, "--limit", 50, "--epochs", 1, "--model", model,
        "--output", tmp_path / "out",
    )  # fmt: skip
    assert status == 0 and "Training on 50 images, testing on 50." in out
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {"model.keras", "history.png", "confusion.png", "mistakes.png"}


def test_only_what_was_written_is_named(capsys, data, tmp_path):
    (tmp_path / "mine.txt").write_text("not to be touched")
    _, out, _ = run(
        capsys, "train", "--data", data, "--limit", 20, "--epochs", 1, "--model", "linear",
        "--output", tmp_path,
    )  # fmt: skip
    assert "mine.txt" not in out and (tmp_path / "mine.txt").exists()


def test_without_mnist_and_network_digits_are_drawn(capsys, monkeypatch, data, tmp_path):
    small = datasets.mnist.read(data)
    monkeypatch.setattr(datasets, "synthetic_digits", lambda: small)
    status, out, err = run(
        capsys, "train", "--limit", 20, "--epochs", 1, "--model", "linear",
        "--output", tmp_path / "out",
    )  # fmt: skip
    assert status == 0 and not err
    first, second, *_ = out.splitlines()
    assert "MNIST is not on this machine" in first and "synthetic digits" in first
    assert second.startswith("Model")  # one line, not more


# --- errors: one line, exit status 2 --------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments, complaint",
    [
        ([], "required: COMMAND"),
        (["fly"], "invalid choice: 'fly'"),
        (["train", "--dataset", "cifar"], "invalid choice: 'cifar'"),
        (["train", "--model", "vgg"], "invalid choice: 'vgg'"),
        (["train", "--epochs", "0"], "--epochs: expected a whole number from 1 up, got '0'"),
        (["train", "--epochs", "many"], "--epochs: expected a whole number from 1 up, got 'many'"),
        (["train", "--batch-size", "-3"], "--batch-size: expected a whole number from 1 up"),
        (["train", "--limit", "1.5"], "--limit: expected a whole number from 1 up, got '1.5'"),
        (["train", "--learning-rate", "0"], "--learning-rate: expected a positive number, got '0'"),
        (["train", "--learning-rate", "nan"], "--learning-rate: expected a positive number"),
        (["train", "--seed", "-1"], "--seed: expected a whole number from 0 to 2**32 - 1"),
        (["train", "--device", "abacus"], "device 'abacus' is not known"),
        (["train", "--dataset", "synthetic", "--data", "."], "is drawn, not read"),
        (["evaluate"], "required: MODEL"),
        (["evaluate", "none.keras"], "there is no file 'none.keras'"),
    ],
    ids=lambda x: " ".join(x) if isinstance(x, list) else "",
)
def test_wrong_arguments(capsys, monkeypatch, tmp_path, arguments, complaint):
    monkeypatch.chdir(tmp_path)
    assert complaint in run_wrong(capsys, *arguments)


def test_wrong_data_is_an_error_and_no_reason_to_draw_digits(capsys, data, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    whole = data.read_bytes()
    (tmp_path / "short.npz").write_bytes(whole[: len(whole) // 2])
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    for given, complaint in [
        ("nowhere", "there is no file nowhere"),
        ("empty", "there is no file empty"),
        ("short.npz", "cut short"),
        ("other.npz", "it holds ['x']"),
    ]:
        assert complaint in run_wrong(capsys, "train", "--data", given)
    monkeypatch.setenv("MINITORCH_CIML_DATA", "nowhere")
    assert "MINITORCH_CIML_DATA='nowhere'" in run_wrong(capsys, "train")


def test_output_that_cannot_be_written_is_found_before_the_training(capsys, data, tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        assert "cannot be written to" in run_wrong(
            capsys, "train", "--data", data, "--output", folder
        )


def test_divergence_is_said(capsys, data, tmp_path):
    complaint = run_wrong(
        capsys, "train", "--data", data, "--epochs", 3, "--learning-rate", 1e38, "--output",
        tmp_path, "--batch-size", 20,
    )  # fmt: skip
    assert "diverged" in complaint and "smaller --learning-rate" in complaint


@pytest.fixture(scope="session")
def model_file(tmp_path_factory):
    model = keras.Sequential(
        [keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(10, "softmax")]
    )
    file = tmp_path_factory.mktemp("model") / "model.keras"
    model.save(file)
    return file


def test_damaged_models(capsys, data, model_file, tmp_path):
    whole = model_file.read_bytes()
    for i, part in enumerate((b"", b"not a model", whole[: len(whole) // 2], whole[:-40])):
        file = tmp_path / f"{i}.keras"
        file.write_bytes(part)
        assert str(file) in run_wrong(capsys, "evaluate", file, "--data", data)
    with zipfile.ZipFile(model_file) as source, zipfile.ZipFile(tmp_path / "w.keras", "w") as to:
        for name in ("metadata.json", "config.json"):
            to.writestr(name, source.read(name))
        to.writestr("model.weights.h5", source.read("model.weights.h5")[:1000])
    assert "w.keras" in run_wrong(capsys, "evaluate", tmp_path / "w.keras", "--data", data)
    assert "there is no file" in run_wrong(capsys, "evaluate", tmp_path, "--data", data)


def test_a_model_of_something_else(capsys, data, tmp_path):
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]).save(tmp_path / "m.keras")
    complaint = run_wrong(capsys, "evaluate", tmp_path / "m.keras", "--data", data)
    assert "takes (None, 4) and gives (None, 2); expected a model of the digits" in complaint


def test_evaluate_does_not_draw_digits_instead(capsys, model_file):
    complaint = run_wrong(capsys, "evaluate", model_file)
    assert "MNIST is not on this machine" in complaint and "--dataset synthetic" in complaint


def test_ctrl_c(capsys, monkeypatch):
    def interrupted(options):
        raise KeyboardInterrupt

    monkeypatch.setattr(command_line, "_info", interrupted)
    assert run(capsys, "info") == (130, "", "\nInterrupted.\n")


# --- help and info --------------------------------------------------------------------------------


def test_help_explains_every_option(capsys):
    status, out, _ = run(capsys, "train", "--help")
    assert status == 0
    for option in (
        "--dataset", "--data", "--limit", "--model", "--epochs", "--batch-size", "--learning-rate",
        "--seed", "--device", "--output",
    ):  # fmt: skip
        assert option in out
    assert "None" not in out


def test_info(capsys):
    status, out, err = run(capsys, "info")
    assert status == 0 and not err
    for name in ("minitorch_ciml", "Python", "numpy", "CPU", "Threads", "BLAS", "MPI", "CUDA"):
        assert f"\n{name} " in f"\n{out}"
