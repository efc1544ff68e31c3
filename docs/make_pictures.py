"""Makes the pictures in docs/_static: `python docs/make_pictures.py`, some minutes.

They are kept in the repository because the README shows them where nothing can be run.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from matplotlib.ticker import LogLocator, NullFormatter

from minitorch_ciml import Scalar, datasets, keras, viz
from minitorch_ciml.ops import tanh
from minitorch_ciml.viz import style

FOLDER = Path(__file__).parent / "_static"
TUTORIALS = Path(__file__).parent.parent / "tutorials"
RESULTS = Path(__file__).parent.parent / "benchmarks" / "results"
# The pictures of tutorials that the first page shows.
SHOWN = {
    "05_autoencoder": "atlas", "06_residual_connections": "gradient_flow",
    "09_recurrent_networks": "beliefs",
}  # fmt: skip


def neuron() -> None:
    """One neuron, and the chain rule walking back through it, as in the first tutorial."""
    x1 = Scalar(0.5, requires_grad=False, name="x1")
    x2 = Scalar(-1.0, requires_grad=False, name="x2")
    w1, w2, b = Scalar(0.3, name="w1"), Scalar(-0.7, name="w2"), Scalar(0.1, name="b")
    y = tanh(w1 * x1 + w2 * x2 + b)
    y.name = "y"
    loss = (y - 1) ** 2
    loss.name = "loss"
    loss.graph().film(FOLDER / "neuron.gif")


def network() -> None:
    """What the first layers of the course's network see in one digit, and their filters."""
    keras.utils.set_random_seed(0)
    (x, y), (x_test, _) = datasets.load("mnist")
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(16, 3, activation="relu", name="convolution_1"),
            layers.Conv2D(16, 3, activation="relu", name="convolution_2"),
            layers.MaxPooling2D(2, name="pooling"),
            layers.Flatten(),
            layers.Dense(32, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(x[..., None].astype("float32") / 255, y, batch_size=128, epochs=2)
    first = model.layers[:3]
    image = x_test[:1, ..., None].astype("float32") / 255
    maps = keras.Model(model.inputs, [layer.output for layer in first]).predict(image, verbose=0)
    names = [layer.name.replace("_", " ") for layer in first]
    viz.feature_maps(image[0], maps, names, path=FOLDER / "feature_maps.png")
    viz.filters(model.layers[0].get_weights()[0], path=FOLDER / "filters.png")


def tutorials() -> None:
    """Runs the tutorials of `SHOWN` and keeps one picture of each."""
    for script, picture in SHOWN.items():
        with TemporaryDirectory() as folder:
            surroundings = {**os.environ, "TUTORIAL_PICTURES": folder, "MPLBACKEND": "agg"}
            subprocess.run(
                [sys.executable, TUTORIALS / f"{script}.py"], env=surroundings, check=True
            )
            shutil.copy(Path(folder) / f"{script[:2]}_{picture}.png", FOLDER / f"{picture}.png")


# The kernels of a roofline: what they are called there, and how they are drawn.
ROOFLINE = {
    "matmul": ("matrix product", style.INK, "s"),
    "conv": ("convolution", style.BLUE, "o"),
    "conv_input_grad": ("its input's gradient", style.GREEN, "^"),
    "conv_kernel_grad": ("its kernel's gradient", style.ORANGE, "v"),
}


def roofline() -> None:
    """Every measured kernel's speed over its arithmetic per byte, under the machine's two limits.

    From the newest file in `benchmarks/results` in which kernels were measured (group j).
    """
    files = sorted(RESULTS.glob("20*.json"), reverse=True)
    reports = (json.loads(file.read_text()) for file in files)
    report = next(r for r in reports if any(row["group"] == "j" for row in r["results"]))
    peak, cpu = report["peak"], report["machine"]["cpu"]
    rows = [
        row for row in report["results"] if row["group"] == "j" and row["flop"] and row["bytes"]
    ]
    figure = style.new_figure(7, 4.5)
    axes = figure.add_subplot()
    density = np.geomspace(1, 1000, 100)
    limit = np.minimum(peak["flops"], density * peak["bytes"]) / 1e9
    axes.loglog(density, limit, color=style.INK, linewidth=1.5)
    for kernel, (label, colour, marker) in ROOFLINE.items():
        points = [
            (row["flop"] / row["bytes"], row["flop"] / ours["seconds"]["median"] / 1e9)
            for row in rows
            if row["model"] == kernel
            for ours in [row["frameworks"]["minitorch_ciml"]["modes"]["default"]]
        ]
        densities, speeds = zip(*points)
        axes.scatter(densities, speeds, s=22, color=colour, marker=marker, alpha=0.7, label=label)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter(NullFormatter())
    style.plain_axes(axes, "arithmetic per byte (FLOP / byte)", "speed (GFLOP/s)")
    style.heading(axes, f"{cpu}, {report['settings']['threads']} threads")
    axes.legend(frameon=False, fontsize=style.SMALL)
    style.finished(figure, FOLDER / "roofline.png")


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    roofline()
    neuron()
    network()
    tutorials()
