"""The command line: `python -m minitorch_ciml train | evaluate | info`."""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any, NoReturn

import numpy as np

CLASSES = 10  # the digits


def main(arguments: list[str] | None = None) -> int:
    """Runs a command.

    Args:
        arguments: what follows the program's name; without it, what this process was started with.

    Returns:
        The exit status: 0, 2 after an error that is the user's to correct, 130 after Ctrl-C.
    """
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except (ValueError, OSError, MemoryError) as error:
        print(f"minitorch-ciml {options.command}: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        return 130
    return 0


class _Parser(argparse.ArgumentParser):
    """Says in one line what is wrong, where argparse would print the whole usage first."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}; see {self.prog} --help\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="minitorch-ciml",
        description="Train, score and inspect models with minitorch_ciml.",
        epilog="minitorch-ciml COMMAND --help explains the options of a command.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, run: Any, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(run=run)
        return sub

    train = command("train", _train, "Train a model on images of digits, and draw what it learned.")
    _data_options(train)
    train.add_argument(
        "--model", default="cnn", choices=sorted(MODELS),
        help="cnn: two convolutions, pooling, two dense layers; mlp: three dense layers; "
        "linear: softmax regression (default: %(default)s)",
    )  # fmt: skip
    train.add_argument(
        "--epochs", type=_count, default=5, metavar="N",
        help="how often to go over the training images (default: %(default)s)",
    )  # fmt: skip
    train.add_argument(
        "--batch-size", type=_count, default=128, metavar="N",
        help="images per step (default: %(default)s)",
    )  # fmt: skip
    train.add_argument(
        "--learning-rate", type=_rate, default=1e-3, metavar="RATE",
        help="the step size of the optimizer, Adam (default: %(default)s)",
    )  # fmt: skip
    train.add_argument(
        "--seed", type=_seed, default=0, metavar="N",
        help="fixes every random number: the same seed gives the same model (default: %(default)s)",
    )  # fmt: skip
    _device_option(train)
    train.add_argument(
        "--output", type=Path, default=Path("output"), metavar="FOLDER",
        help="where to write the model and the pictures (default: %(default)s)",
    )  # fmt: skip

    evaluate = command("evaluate", _evaluate, "Score a saved model on the test images.")
    evaluate.add_argument("model", type=Path, metavar="MODEL", help="a .keras file")
    _data_options(evaluate)
    evaluate.add_argument(
        "--batch-size", type=_count, default=1000, metavar="N",
        help="images per step; it changes the time it takes, not the result (default: %(default)s)",
    )  # fmt: skip
    _device_option(evaluate)

    command("info", _info, "Print versions and what this machine offers.")
    return parser


def _data_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dataset", default="mnist", choices=("mnist", "synthetic"),
        help="MNIST's handwritten digits, or digits that the package draws (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--data", type=Path, metavar="PATH",
        help="mnist.npz or its folder (default: $MINITORCH_CIML_DATA, else this user's cache, else "
        "a download)",
    )  # fmt: skip
    parser.add_argument(
        "--limit", type=_count, metavar="N",
        help="use only the first N training and the first N test images, for a quick look",
    )  # fmt: skip


def _device_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--device", default="cpu", help="cpu, or cuda for an NVIDIA GPU (default: %(default)s)"
    )


def _count(text: str) -> int:
    return _number(int, text, lambda n: n >= 1, "a whole number from 1 up")


def _seed(text: str) -> int:
    return _number(int, text, lambda n: 0 <= n < 2**32, "a whole number from 0 to 2**32 - 1")


def _rate(text: str) -> float:
    return _number(float, text, lambda x: 0 < x < math.inf, "a positive number")


def _number(kind: Any, text: str, valid: Any, expected: str) -> Any:
    try:
        number = kind(text)
    except ValueError:
        number = None
    if number is None or not valid(number):
        raise argparse.ArgumentTypeError(f"expected {expected}, got {text!r}")
    return number


# --- models ---------------------------------------------------------------------------------------


def _cnn(keras: Any) -> Any:
    """The course's network: two convolutions, pooling, two dense layers."""
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(16, (3, 3), activation="relu"),
            layers.Conv2D(16, (3, 3), activation="relu"),
            layers.MaxPooling2D((2, 2)),
            layers.Flatten(),
            layers.Dense(32, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ],
        name="cnn",
    )


def _mlp(keras: Any) -> Any:
    """A network of dense layers alone."""
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Flatten(),
            layers.Dense(512, activation="relu"),
            layers.Dense(512, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ],
        name="mlp",
    )


def _linear(keras: Any) -> Any:
    """Softmax regression: what any network should beat."""
    layers = keras.layers
    return keras.Sequential(
        [keras.Input((28, 28, 1)), layers.Flatten(), layers.Dense(10, activation="softmax")],
        name="linear",
    )


MODELS = {"cnn": _cnn, "linear": _linear, "mlp": _mlp}


# --- train ----------------------------------------------------------------------------------------


def _train(options: argparse.Namespace) -> None:
    from minitorch_ciml import keras

    _use(options.device)
    keras.utils.set_random_seed(options.seed)
    _check_writable(options.output)  # now, and not after the training
    (x_train, y_train), (x_test, y_test) = _load_data(options, substitute=True)
    model = MODELS[options.model](keras)
    model.compile(
        optimizer=keras.optimizers.Adam(learning_rate=options.learning_rate),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    model.summary()
    print(f"Training on {len(x_train):,} images, testing on {len(x_test):,}.")
    start = perf_counter()
    with np.errstate(over="ignore", invalid="ignore"):  # divergence is reported once, below
        history = model.fit(
            x_train, y_train, batch_size=options.batch_size, epochs=options.epochs,
            validation_data=(x_test, y_test), validation_batch_size=1000,
            callbacks=[keras.callbacks.TerminateOnNaN()],
        )  # fmt: skip
    if not all(map(math.isfinite, history.history["loss"])):
        raise ValueError("the training diverged: take a smaller --learning-rate")
    print(f"Training took {perf_counter() - start:.1f} s.")
    probabilities = model.predict(x_test, batch_size=1000, verbose=0)
    _report(y_test, probabilities)
    _write_results(options.output, model, history, x_test, y_test, probabilities)


def _use(device: str) -> None:
    from minitorch_ciml import set_device

    try:
        set_device(device)
    except (ImportError, RuntimeError) as error:
        raise ValueError(f"--device {device}: {error}") from error


def _check_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise OSError(
            f"--output {folder}: it cannot be written to ({error.strerror}); name another folder"
        ) from error


def _load_data(options: argparse.Namespace, substitute: bool) -> tuple:
    """Images (n, 28, 28, 1) in 0 to 1 and labels, for training and for testing."""
    from minitorch_ciml import datasets

    try:
        parts = datasets.load(options.dataset, options.data)
    except ConnectionError as error:
        reason = error.__cause__ or error
        if not substitute:
            raise ConnectionError(
                f"MNIST is not on this machine and could not be downloaded ({reason}); name the "
                "file with --data, or score with --dataset synthetic"
            ) from error
        print(
            f"MNIST is not on this machine and could not be downloaded ({reason}): going on with "
            "synthetic digits, which the package draws (a minute's work, once).", flush=True
        )  # fmt: skip
        parts = datasets.synthetic_digits()
    return tuple(
        (x[: options.limit, ..., None].astype("float32") / 255, y[: options.limit].astype("int64"))
        for x, y in parts
    )


def _report(y_true: np.ndarray, probabilities: np.ndarray) -> None:
    """Prints the test accuracy and the confusion matrix."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from minitorch_ciml import viz

    y_pred = probabilities.argmax(axis=1)
    counts = viz.confusion_counts(y_true, y_pred, CLASSES)
    table = Table(box=SIMPLE_HEAD, padding=(0, 0, 0, 1))
    for heading in ("", *map(str, range(CLASSES))):
        table.add_column(heading, justify="right")
    for digit, row in enumerate(counts):
        cells = [f"[bold]{n}[/bold]" if i == digit else str(n or "·") for i, n in enumerate(row)]
        table.add_row(f"[bold]{digit}[/bold]", *cells)
    console = Console()
    console.print("[bold]Confusion matrix[/bold]: rows are true digits, columns predictions")
    console.print(table)
    correct = int((y_pred == y_true).sum())
    accuracy = correct / len(y_true)
    console.print(
        f"[bold]Test accuracy: {accuracy:.2%}[/bold] ({correct:,} of {len(y_true):,})",
        highlight=False,
    )


def _write_results(
    folder: Path, model: Any, history: Any, x: np.ndarray, y: np.ndarray, probabilities: np.ndarray
) -> None:
    """Writes the model and the pictures; prints where."""
    from minitorch_ciml import keras, viz

    y_pred = probabilities.argmax(axis=1)
    model.save(folder / "model.keras")
    viz.history(history, path=folder / "history.png")
    viz.confusion_matrix(y, y_pred, class_names="0123456789", path=folder / "confusion.png")
    viz.mistakes(x, y, y_pred, probabilities, path=folder / "mistakes.png")
    written = ["model.keras", "history.png", "confusion.png", "mistakes.png"]
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    if convolutions:
        viz.filters(convolutions[0].get_weights()[0], path=folder / "filters.png")
        spatial = [layer for layer in model.layers if len(layer.output.shape) == 4]
        inner = keras.Model(model.inputs, [layer.output for layer in spatial])
        maps = inner.predict(x[:1], verbose=0)
        names = [layer.name for layer in spatial]
        viz.feature_maps(x[0], maps, names, path=folder / "feature_maps.png")
        written += ["filters.png", "feature_maps.png"]
    print(f"Written to {folder}: {', '.join(written)}")


# --- evaluate and info ----------------------------------------------------------------------------


def _evaluate(options: argparse.Namespace) -> None:
    from minitorch_ciml import keras

    _use(options.device)
    model = keras.models.load_model(options.model)
    takes, gives = model.input_shape, model.output_shape
    if takes != (None, 28, 28, 1) or gives != (None, CLASSES):
        raise ValueError(
            f"{options.model} takes {takes} and gives {gives}; expected a model of the digits, "
            f"which takes (None, 28, 28, 1) and gives (None, {CLASSES})"
        )
    _, (x_test, y_test) = _load_data(options, substitute=False)
    _report(y_test, model.predict(x_test, batch_size=options.batch_size, verbose=0))


def _info(options: argparse.Namespace) -> None:
    from minitorch_ciml.info import print_info

    print_info()


if __name__ == "__main__":
    sys.exit(main())
