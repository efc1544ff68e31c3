"""BackupAndRestore: a fit that was interrupted anywhere ends as one that was not."""

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest

from minitorch_ciml import keras
from minitorch_ciml.distributed import interruption

rng = np.random.default_rng(0)
X = rng.normal(size=(50, 4)).astype("float32")
Y = X.sum(1, keepdims=True)


class Lost(Exception):
    """The job has ended here."""


class EndsAt(keras.callbacks.Callback):
    def __init__(self, step, how):
        super().__init__()
        self.left, self.how = step, how

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if self.left == 0:
            self.how()


def lose():
    raise Lost


def train(folder=None, save_freq="epoch", ends=None, epochs=6, how=lose, **fit):
    keras.utils.set_random_seed(7 if folder is None or not Path(folder).exists() else 99)
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(8, "tanh"), keras.layers.Dropout(0.3),
         keras.layers.Dense(1)]
    )  # fmt: skip
    optimizer = keras.optimizers.Adam(0.05, gradient_accumulation_steps=3)
    model.compile(optimizer, "mse", metrics=["mae"])
    callbacks = [
        keras.callbacks.ReduceLROnPlateau(monitor="loss", patience=1, min_delta=0.5),
        keras.callbacks.EarlyStopping(monitor="mae", patience=4, restore_best_weights=True),
    ]
    if folder is not None:
        callbacks.insert(0, keras.callbacks.BackupAndRestore(folder, save_freq))
    if ends:
        callbacks.append(EndsAt(ends, how))
    history = model.fit(
        X, Y, batch_size=8, epochs=epochs, verbose=0, callbacks=callbacks, **fit
    )  # fmt: skip
    return model.get_weights(), history.history


@pytest.mark.parametrize("save_freq", ["epoch", 1, 5])
@pytest.mark.parametrize("ends", [[9, 2, 8], [7, 14], [28]])
def test_interrupted_fits_end_as_one_that_was_not(tmp_path, save_freq, ends):
    weights, history = train()
    for step in ends:
        with pytest.raises(Lost):
            train(tmp_path / "backup", save_freq, step)
    resumed, rest = train(tmp_path / "backup", save_freq)
    for a, b in zip(weights, resumed):
        np.testing.assert_array_equal(a, b)
    assert rest
    for name, values in rest.items():
        np.testing.assert_allclose(values, history[name][-len(values) :], rtol=1e-12)
    assert not (tmp_path / "backup").exists()


def test_a_save_that_is_cut_off_leaves_the_one_before(tmp_path, monkeypatch):
    weights, _ = train()
    with monkeypatch.context() as patch:
        count = 0
        replace = os.replace

        def cut_off(source, target):
            nonlocal count
            count += 1
            if count == 8:
                raise Lost
            replace(source, target)

        patch.setattr(os, "replace", cut_off)
        with pytest.raises(Lost):
            train(tmp_path / "backup", 2)
    for a, b in zip(weights, train(tmp_path / "backup", 2)[0]):
        np.testing.assert_array_equal(a, b)


def test_a_signal_saves_and_ends(tmp_path, capsys):
    before = signal.SIG_DFL
    signal.signal(signal.SIGUSR1, before)
    weights, _ = train()
    with pytest.raises(SystemExit) as ended:
        train(tmp_path / "b", ends=10, how=lambda: os.kill(os.getpid(), signal.SIGUSR1))
    assert ended.value.code == interruption.STATUS == 75
    assert "SIGUSR1: saved before step 3 of epoch 1" in capsys.readouterr().out
    facts = json.loads((tmp_path / "b" / "training_metadata.json").read_text())
    assert (facts["epoch"], facts["step"]) == (1, 3)
    for a, b in zip(weights, train(tmp_path / "b")[0]):
        np.testing.assert_array_equal(a, b)
    assert signal.getsignal(signal.SIGUSR1) == before


def test_backups_hold_no_code_and_need_a_built_model(tmp_path):
    with pytest.raises(Lost):
        train(tmp_path / "b", 1, 9)
    for file in (tmp_path / "b").glob("*.npz"):
        assert all(a.dtype != object for a in np.load(file, allow_pickle=False).values())
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="must be built before fit"):
        model.fit(X, Y, verbose=0, callbacks=[keras.callbacks.BackupAndRestore(tmp_path)])
