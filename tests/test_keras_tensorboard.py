"""`TensorBoard`, read back by the program's own reader. Skipped where it is not installed."""

import sys

import numpy as np
import pytest

from minitorch_ciml import keras


def trained(callback, **how):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, name="d")])
    model.compile(keras.optimizers.SGD(0.1), "mse", metrics=["mae"])
    x, y = np.ones((8, 3), "float32"), np.ones((8, 1), "float32")
    return model, model.fit(x, y, batch_size=2, callbacks=[callback], verbose=0, **how).history


def read(folder):
    accumulators = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="no tensorboard"
    )
    accumulator = accumulators.EventAccumulator(str(folder), {"tensors": 0})
    accumulator.Reload()
    tags = accumulator.Tags()["tensors"]
    make = pytest.importorskip("tensorboard.util.tensor_util").make_ndarray
    return {tag: [(e.step, make(e.tensor_proto)) for e in accumulator.Tensors(tag)] for tag in tags}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_scalars_and_histograms(tmp_path):
    pytest.importorskip("tensorboard", reason="the package tensorboard is not installed")
    board = keras.callbacks.TensorBoard(tmp_path, histogram_freq=2, update_freq=3)
    data = np.zeros((4, 3)), np.zeros((4, 1))
    model, history = trained(board, epochs=3, validation_data=data)
    train, validation = read(tmp_path / "train"), read(tmp_path / "validation")
    epochs, steps = {"epoch_loss", "epoch_mae", "epoch_learning_rate"}, {"batch_loss", "batch_mae"}
    weights = {f"{w.path}/histogram" for w in model.weights}
    assert set(train) == epochs | steps | weights
    assert [step for step, _ in train["epoch_loss"]] == [0, 1, 2]
    np.testing.assert_allclose([x for _, x in train["epoch_loss"]], history["loss"], rtol=1e-6)
    np.testing.assert_allclose([x for _, x in train["epoch_learning_rate"]], 0.1, rtol=1e-6)
    values = [x for _, x in validation["epoch_mae"]]
    np.testing.assert_allclose(values, history["val_mae"], rtol=1e-6, atol=1e-9)
    assert [step for step, _ in train["batch_loss"]] == [0, 3, 6, 9]  # 4 steps in each epoch
    assert [step for step, _ in validation["evaluation_loss_vs_iterations"]] == [4, 8, 12]
    (tag,) = [tag for tag in train if tag.endswith("d/kernel/histogram")]
    assert [step for step, _ in train[tag]] == [0, 2]
    assert train[tag][1][1][:, 2].sum() == 3  # left edge, right edge, count: three weights


def test_what_is_not_there_is_refused(monkeypatch):
    with pytest.raises(ValueError, match="write_images, profile_batch and embeddings_freq"):
        keras.callbacks.TensorBoard(write_images=True)
    with pytest.raises(ValueError, match="update_freq must be 'epoch', .* got 'often'"):
        keras.callbacks.TensorBoard(update_freq="often")
    monkeypatch.setitem(sys.modules, "tensorboard.compat.proto.event_pb2", None)
    with pytest.raises(ImportError, match="pip install tensorboard"):
        keras.callbacks.TensorBoard()
