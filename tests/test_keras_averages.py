"""`SwapEMAWeights` against Keras 3."""

import numpy as np
import pytest

from minitorch_ciml import keras
from tests.keras_peer import keras_peer


@pytest.mark.parametrize("swap_on_epoch", [False, True])
def test_averaged_weights_are_swapped_in_as_in_keras(swap_on_epoch):
    x = np.random.default_rng(0).normal(size=(24, 3)).astype("float32")
    y = (x @ [[1.0], [-2.0], [0.5]]).astype("float32")
    found = []
    for k in (keras, keras_peer):
        model = k.Sequential([k.Input((3,)), k.layers.Dense(1)])
        model.set_weights([np.ones((3, 1)), np.zeros(1)])
        model.compile(k.optimizers.SGD(0.05, use_ema=True, ema_momentum=0.8), "mse")
        kept = []
        keep = k.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs, m=model, out=kept: out.append(m.get_weights()[0])
        )
        history = model.fit(
            x, y, batch_size=8, epochs=3, shuffle=False, verbose=0, validation_data=(x, y),
            callbacks=[k.callbacks.SwapEMAWeights(swap_on_epoch), keep],
        )  # fmt: skip
        found.append([history.history["val_loss"], *kept, *model.get_weights()])
    for ours, theirs in zip(*found):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="the optimizer keeps no averages"):
        model.fit(
            x, y, validation_data=(x, y), callbacks=[keras.callbacks.SwapEMAWeights()], verbose=0
        )
