"""Functions in saved models: files of each read by the other."""

import numpy as np
import pytest
from keras_peer import keras_peer

from minitorch_ciml import keras

X = np.random.default_rng(0).random((2, 4, 5, 3)).astype("float32")
THREE = np.array([0.5, 2.0, -1.0], "float32")
MATRIX = np.arange(6, dtype="float32").reshape(3, 2)
SHEAR = np.array([[1, 0.1, 0, 0, 1, 0.2, 0, 0]] * 2, "float32")

FUNCTIONS = {
    "layer_normalization": lambda k, x: k.ops.layer_normalization(x, THREE, beta=THREE),
    "layer_normalization without weights": lambda k, x: k.ops.layer_normalization(x, epsilon=0.1),
    "rms_normalization": lambda k, x: k.ops.rms_normalization(x, THREE),
    "batch_normalization": lambda k, x: k.ops.batch_normalization(x, THREE, THREE**2, -1),
    "batch_normalization with all": lambda k, x: k.ops.batch_normalization(
        x, THREE, THREE**2, axis=-1, offset=THREE, scale=2 * THREE, epsilon=0.1
    ),
    "einsum": lambda k, x: k.ops.einsum("nhwc,nhwd->ncd", x, x),
    "einsum with a matrix": lambda k, x: k.ops.einsum("nhwc,cd->nhwd", x, MATRIX),
    "affine_transform": lambda k, x: k.ops.image.affine_transform(x, SHEAR),
    "map_coordinates": lambda k, x: k.ops.image.map_coordinates(
        x, np.ones((4, 2, 2), "float32"), order=1
    ),
    "tensordot": lambda k, x: k.ops.tensordot(x, MATRIX, axes=1),
    "concatenate": lambda k, x: k.ops.concatenate([x, 2 * x], axis=-1),
    "where": lambda k, x: k.ops.where(x > 0.5, x, 0.0),
    "normalize": lambda k, x: k.ops.normalize(x, axis=-1),
    "constants": lambda k, x: x * THREE - x + 2.0,
}


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_files_load_both_ways(function, tmp_path):
    predictions = []
    for k in (keras, keras_peer):
        inputs = k.Input(batch_shape=X.shape)
        model = k.Model(inputs, function(k, inputs))
        model.save(tmp_path / "model.keras")
        for reader in (k, keras, keras_peer):
            read = reader.models.load_model(tmp_path / "model.keras")
            predictions.append(read.predict(X, verbose=0))
    for prediction in predictions:
        np.testing.assert_allclose(prediction, predictions[-1], rtol=1e-4, atol=1e-5)
