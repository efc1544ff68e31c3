"""Makes the pictures in docs/_static: `python docs/make_pictures.py`, some minutes.

They are kept in the repository because the README shows them where nothing can be run.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from minitorch_ciml import Scalar, datasets, keras, viz
from minitorch_ciml.ops import tanh

FOLDER = Path(__file__).parent / "_static"
TUTORIALS = Path(__file__).parent.parent / "tutorials"
# The pictures of tutorials that the first page shows.
SHOWN = {
    "05_autoencoder": "atlas", "06_residual_connections": "gradient_flow",
    "09_recurrent_networks": "beliefs",
}  # fmt: skip


def neuron() -> None:
    """One neuron with its values and gradients, as the first tutorial records it."""
    x1 = Scalar(0.5, requires_grad=False, name="x1")
    x2 = Scalar(-1.0, requires_grad=False, name="x2")
    w1, w2, b = Scalar(0.3, name="w1"), Scalar(-0.7, name="w2"), Scalar(0.1, name="b")
    y = tanh(w1 * x1 + w2 * x2 + b)
    y.name = "y"
    loss = (y - 1) ** 2
    loss.name = "loss"
    loss.graph().backward().draw(FOLDER / "neuron.png")


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


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    neuron()
    network()
    tutorials()
