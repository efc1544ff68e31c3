"""The command line: `python -m minitorch_ciml train | evaluate | info`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np


def main(arguments: list[str] | None = None) -> int:
    """Runs a command; returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        return options.run(options)
    except (ValueError, OSError, TypeError) as error:
        print(f"minitorch-ciml: error: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="minitorch-ciml",
        description="Train, score and inspect models with minitorch_ciml.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, run: Any, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(
            name,
            help=text,
            description=text,
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        )
        sub.set_defaults(run=run)
        return sub

    train = command("train", _train, "Train a model on images of digits, and draw what it learned.")
    _data_options(train)
    train.add_argument("--model", default="cnn", choices=sorted(MODELS), help="which model")
    train.add_argument("--epochs", type=_positive, default=5, help="passes over the data")
    train.add_argument("--batch-size", type=_positive, default=128, help="samples per step")
    train.add_argument("--learning-rate", type=float, default=1e-3, help="Adam's step size")
    train.add_argument("--seed", type=int, default=0, help="fixes every random number")
    train.add_argument("--device", default="cpu", help="where to compute")
    train.add_argument(
        "--output", type=Path, default=Path("output"), help="folder for the model and the pictures"
    )

    evaluate = command("evaluate", _evaluate, "Score a saved model.")
    evaluate.add_argument("model", type=Path, help="a .keras file")
    _data_options(evaluate)
    evaluate.add_argument("--batch-size", type=_positive, default=1000, help="samples per step")
    evaluate.add_argument("--device", default="cpu", help="where to compute")

    command("info", _info, "Print versions and what this machine offers.")
    return parser


def _data_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dataset", default="mnist", choices=("mnist", "synthetic"),
        help="MNIST, or digits that the package draws itself",
    )  # fmt: skip
    parser.add_argument("--data", type=Path, default=None, help="file or folder with mnist.npz")
    parser.add_argument(
        "--limit", type=_positive, default=None, help="use only so many samples, for a quick look"
    )


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a positive integer, got {text}")
    return value


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


def _train(options: argparse.Namespace) -> int:
    from minitorch_ciml import keras, set_device

    set_device(options.device)
    keras.utils.set_random_seed(options.seed)
    (x_train, y_train), (x_test, y_test) = _load_data(options, substitute=True)
    model = MODELS[options.model](keras)
    model.compile(
        optimizer=keras.optimizers.Adam(learning_rate=options.learning_rate),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    model.summary()
    history = model.fit(
        x_train, y_train, batch_size=options.batch_size, epochs=options.epochs,
        validation_data=(x_test, y_test), validation_batch_size=1000,
    )  # fmt: skip
    probabilities = model.predict(x_test, batch_size=1000, verbose=0)
    _report(y_test, probabilities)
    _write_results(options.output, model, history, x_test, y_test, probabilities)
    return 0


def _load_data(options: argparse.Namespace, substitute: bool) -> tuple:
    """Images (n, 28, 28, 1) in 0 to 1 and labels, for training and for testing."""
    from minitorch_ciml import datasets

    try:
        parts = datasets.load(options.dataset, options.data)
    except OSError as error:
        # Only where nothing was asked for in particular: a wrong --data is an error.
        if not substitute or options.data is not None or not isinstance(error, ConnectionError):
            raise
        print(f"{error}\nGoing on with digits that the package draws itself.")
        parts = datasets.synthetic_digits()
    return tuple(
        (x[: options.limit, ..., None].astype("float32") / 255, y[: options.limit].astype("int64"))
        for x, y in parts
    )


def _report(y_true: np.ndarray, probabilities: np.ndarray) -> None:
    """Prints the test accuracy and the confusion matrix."""
    from rich.console import Console
    from rich.table import Table

    from minitorch_ciml import viz

    y_pred = probabilities.argmax(axis=1)
    counts = viz.confusion_counts(y_true, y_pred, 10)
    table = Table(title="Confusion matrix: rows are true digits, columns predictions")
    for heading in ("", *map(str, range(10))):
        table.add_column(heading, justify="right")
    for digit, row in enumerate(counts):
        cells = [f"[bold]{n}[/bold]" if i == digit else str(n or "·") for i, n in enumerate(row)]
        table.add_row(f"[bold]{digit}[/bold]", *cells)
    console = Console()
    console.print(table)
    correct = int((y_pred == y_true).sum())
    accuracy = correct / len(y_true)
    console.print(f"Test accuracy: {accuracy:.2%} ({correct} of {len(y_true)})", highlight=False)


def _write_results(
    folder: Path, model: Any, history: Any, x: np.ndarray, y: np.ndarray, probabilities: np.ndarray
) -> None:
    """Writes the model and the pictures; prints where."""
    from minitorch_ciml import keras, viz

    folder.mkdir(parents=True, exist_ok=True)
    model.save(folder / "model.keras")
    viz.history(history, path=folder / "history.png")
    y_pred = probabilities.argmax(axis=1)
    if (y_pred != y).any():
        viz.mistakes(x, y, y_pred, probabilities, path=folder / "mistakes.png")
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    if convolutions:
        viz.filters(convolutions[0].get_weights()[0], path=folder / "filters.png")
        spatial = [layer for layer in model.layers if len(layer.output.shape) == 4]
        inner = keras.Model(model.inputs, [layer.output for layer in spatial])
        maps = [m[0] for m in inner.predict(x[:1], verbose=0)]
        names = [layer.name for layer in spatial]
        viz.feature_maps(x[0], maps, names, path=folder / "feature_maps.png")
    written = ", ".join(sorted(path.name for path in folder.iterdir() if path.is_file()))
    print(f"In {folder}: {written}")


# --- evaluate and info ----------------------------------------------------------------------------


def _evaluate(options: argparse.Namespace) -> int:
    from minitorch_ciml import keras, set_device

    set_device(options.device)
    model = keras.models.load_model(options.model)
    _, (x_test, y_test) = _load_data(options, substitute=False)
    probabilities = model.predict(x_test, batch_size=options.batch_size, verbose=0)
    _report(y_test, probabilities)
    return 0


def _info(options: argparse.Namespace) -> int:
    from minitorch_ciml.info import print_info

    print_info()
    return 0


if __name__ == "__main__":
    sys.exit(main())
