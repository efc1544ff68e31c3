"""BatchNormalization(renorm=True): Keras' outputs, gradients, averages, files; masks; errors."""

import numpy as np
import pytest
from keras_peer import keras_peer, output_and_gradients, seeded, to_numpy

from minitorch_ciml import Tensor, grad, keras, ops

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(1, 2, (3, 6, 4, 4, 3)).astype("float32")  # three batches
STEPS = RNG.normal(-1, 2, (3, 6, 4, 3)).astype("float32")
MASK = RNG.random((6, 4)) < 0.7

CASES = {
    "plain": (IMAGES, {}, None),
    "clipped": (IMAGES, dict(renorm_clipping={"rmin": 0.8, "rmax": 1.2, "dmax": 0.5}), None),
    "half clipped": (IMAGES, dict(renorm_clipping={"rmax": 1.1}, renorm_momentum=0.5), None),
    "no scale": (IMAGES, dict(scale=False), None),
    "no shift": (IMAGES, dict(center=False, momentum=0.5), None),
    "another axis": (IMAGES, dict(axis=1), None),
    "masked": (STEPS, {}, MASK),
}


@pytest.mark.parametrize("batches, arguments, mask", CASES.values(), ids=CASES)
def test_training_is_that_of_keras(batches, arguments, mask):
    ours, theirs = (k.layers.BatchNormalization(renorm=True, **arguments)
                    for k in (keras, keras_peer))  # fmt: skip
    masks = {} if mask is None else {"mask": mask}
    for layer in (ours, theirs):
        layer.build(batches[0].shape)
        for weight in layer.weights:
            if weight.name in ("gamma", "beta"):
                rng = np.random.default_rng(1)
                weight.assign(rng.normal(size=tuple(weight.shape)).astype("float32"))
    assert [w.name for w in ours.weights] == [w.name for w in theirs.weights]
    for batch in batches[:2]:
        expected = to_numpy(theirs(batch, training=True, **masks))
        np.testing.assert_allclose(ours(batch, training=True, **masks).numpy(), expected,
                                   rtol=1e-4, atol=1e-5)  # fmt: skip
    for a, b in zip(ours.get_weights(), theirs.get_weights()):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(ours(batches[2]).numpy(), to_numpy(theirs(batches[2])),
                               rtol=1e-4, atol=1e-5)  # fmt: skip
    if mask is None:
        y, (gx,), gw = output_and_gradients(theirs, [batches[2]], [], seeded, training=True)
        x = Tensor(batches[2], requires_grad=True)
        total = ops.sum(ours(x, training=True) * seeded(y.shape))
        found = grad(total, [x, *ours.trainable_weights])
        for a, b in zip(found, [gx, *gw], strict=True):
            np.testing.assert_allclose(a.numpy(), b, rtol=1e-3, atol=1e-4)


def model(k):
    inputs = k.Input((4, 4, 3))
    x = k.layers.Conv2D(5, 3, use_bias=False)(inputs)
    x = k.layers.BatchNormalization(renorm=True, momentum=0.8)(x)
    x = k.layers.ReLU()(x)
    return k.Model(inputs, k.layers.Dense(1)(k.layers.Flatten()(x)))


def test_fit_and_files(tmp_path):
    x, y = IMAGES.reshape(18, 4, 4, 3), RNG.random((18, 1)).astype("float32")
    histories, models = [], []
    for k in (keras, keras_peer):
        made = model(k)
        rng = np.random.default_rng(2)
        for weight in made.weights:
            if weight.name == "kernel":
                weight.assign(0.3 * rng.normal(size=tuple(weight.shape)).astype("float32"))
        made.compile(k.optimizers.SGD(0.01), "mse")
        fitted = made.fit(x, y, batch_size=6, epochs=2, shuffle=False, verbose=0,
                          validation_data=(x, y))  # fmt: skip
        histories.append(fitted.history)
        models.append(made)
        made.save(tmp_path / f"{k.__name__}.keras")
    for name, values in histories[0].items():
        assert values == pytest.approx(histories[1][name], rel=1e-3)
    for made in models:
        expected = made.predict(x, verbose=0)
        name = "keras.keras" if made is models[1] else "minitorch_ciml.keras.keras"
        for k in (keras, keras_peer):
            again = k.saving.load_model(tmp_path / name)
            np.testing.assert_allclose(again.predict(x, verbose=0), expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("clipping", [{"r": 1}, {"rmin": 2, "rmax": 1}, {"dmax": -1}])
def test_limits_are_checked(clipping):
    with pytest.raises(ValueError, match="renorm_clipping"):
        keras.layers.BatchNormalization(renorm=True, renorm_clipping=clipping)
