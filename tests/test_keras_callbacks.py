"""Callbacks: against Keras' with the same logs and a fake model; the list; what is shown."""

import csv
import io
import json
import os
import sys
import warnings

import pytest

from minitorch_ciml.keras import callbacks as C


class FakeOptimizer:
    def __init__(self, rate=0.5):
        self.learning_rate = rate
        self.built_with = None

    def build(self, variables):
        self.built_with = variables


class FakeModel:
    """What callbacks need of a model; its weights are the number of the epoch."""

    def __init__(self, rate=0.5):
        self.stop_training = False
        self.optimizer = FakeOptimizer(rate)
        self.weights = [0]
        self.saved = []
        self.metrics = []
        self.built = True
        self.trainable_variables = []

    def get_weights(self):
        return list(self.weights)

    def set_weights(self, weights):
        self.weights = list(weights)

    def save(self, path, overwrite=True):
        self.saved.append(str(path))

    def save_weights(self, filepath, overwrite=True):
        self.saved.append(str(filepath))
        with open(filepath, "w") as file:
            json.dump(self.weights, file)

    def load_weights(self, path):
        with open(path) as file:
            self.weights = json.load(file)


def run(callback, epochs_logs, model=None, batches=()):
    """Drives a callback like fit does; returns the model, the logs seen, and the last epoch."""
    model = model or FakeModel()
    callback.set_model(model)
    callback.set_params({"epochs": len(epochs_logs), "steps": len(batches), "verbose": 0})
    seen = []
    callback.on_train_begin()
    for epoch, logs in enumerate(epochs_logs):
        logs = dict(logs)
        callback.on_epoch_begin(epoch)
        for batch in range(len(batches)):
            callback.on_train_batch_begin(batch)
            callback.on_train_batch_end(batch, dict(batches[batch]))
        model.weights = [epoch]
        callback.on_epoch_end(epoch, logs)
        seen.append((logs, float(model.optimizer.learning_rate)))
        if model.stop_training:
            break
    callback.on_train_end(seen[-1][0])
    return model, seen, epoch


VALUES = [1.0, 0.8, 0.81, 0.8, 0.7, 0.699, 0.71, 0.72, 0.73, 0.5, 0.6, 0.6, 0.6]
VAL_LOGS = [{"loss": v + 1, "val_loss": v, "val_acc": v} for v in VALUES]


@pytest.fixture(scope="module")
def peer():
    os.environ.setdefault("KERAS_BACKEND", "torch")
    return pytest.importorskip("keras").callbacks


# --- against Keras --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"patience": 2},
        {"patience": 2, "min_delta": 0.05, "restore_best_weights": True},
        {"patience": 3, "baseline": 0.75, "restore_best_weights": True},
        {"patience": 2, "start_from_epoch": 4, "restore_best_weights": True},
        {"patience": 1, "monitor": "val_acc", "mode": "max", "restore_best_weights": True},
        {"patience": 100, "restore_best_weights": True},
    ],
)
def test_early_stopping_stops_and_restores_as_keras_does(peer, arguments):
    ours, theirs = C.EarlyStopping(**arguments), peer.EarlyStopping(**arguments)
    model, _, last = run(ours, VAL_LOGS)
    peer_model, _, peer_last = run(theirs, VAL_LOGS)
    assert last == peer_last
    assert model.weights == peer_model.weights
    for name in ("stopped_epoch", "wait", "best", "best_epoch"):
        assert getattr(ours, name) == getattr(theirs, name), name


@pytest.mark.parametrize(
    "arguments",
    [
        {"patience": 1},
        {"patience": 2, "factor": 0.5, "cooldown": 2},
        {"patience": 1, "factor": 0.3, "min_lr": 0.1},
        {"patience": 1, "min_delta": 0.2},
        {"patience": 0, "monitor": "val_acc", "mode": "max"},
    ],
)
def test_reduce_lr_on_plateau_sets_the_same_rates_as_keras(peer, arguments):
    _, seen, _ = run(C.ReduceLROnPlateau(**arguments), VAL_LOGS)
    _, expected, _ = run(peer.ReduceLROnPlateau(**arguments), VAL_LOGS)
    assert seen == expected
    assert len({rate for _, rate in seen}) > 1


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"save_best_only": True},
        {"save_best_only": True, "monitor": "val_acc", "mode": "max"},
        {"save_best_only": True, "initial_value_threshold": 0.75},
        {"save_freq": 5},
        {"save_weights_only": True},
    ],
)
def test_model_checkpoint_saves_when_and_where_keras_does(peer, arguments, tmp_path):
    ending = "weights.h5" if arguments.get("save_weights_only") else "keras"
    name = "{batch}" if "save_freq" in arguments else "{val_loss:.2f}"
    path = str(tmp_path / "deep" / ("m-{epoch:02d}-" + name + "." + ending))
    batches = [{"loss": 1.0}] * 3
    model, _, _ = run(C.ModelCheckpoint(path, **arguments), VAL_LOGS, batches=batches)
    peer_model, _, _ = run(
        # Keras asks for the direction also where it needs none.
        peer.ModelCheckpoint(path, **arguments), VAL_LOGS, batches=batches,
    )  # fmt: skip
    assert model.saved == peer_model.saved
    assert model.saved


def test_learning_rate_scheduler_with_both_kinds_of_schedules(peer):
    for schedule in (lambda epoch, rate: rate * 0.9, lambda epoch: 1.0 / (epoch + 1)):
        _, seen, _ = run(C.LearningRateScheduler(schedule), VAL_LOGS)
        _, expected, _ = run(peer.LearningRateScheduler(schedule), VAL_LOGS)
        assert seen == expected
        assert seen[0][0]["learning_rate"] == seen[0][1]


@pytest.mark.parametrize("separator", [",", ";"])
def test_csv_logger_writes_the_same_file_as_keras(peer, tmp_path, separator):
    logs = [{"loss": 0.1 + i, "acc": 0.5} for i in range(3)]
    late = [dict(entry, val_loss=2.0) for entry in logs]
    text = []
    for module in (C, peer):
        path = tmp_path / f"{module.__name__}.csv"
        run(module.CSVLogger(path, separator=separator), VAL_LOGS)
        run(module.CSVLogger(path, separator=separator, append=True), VAL_LOGS)
        run(module.CSVLogger(tmp_path / "late.csv"), [logs[0], *late])
        text.append(path.read_text() + (tmp_path / "late.csv").read_text())
    assert text[0] == text[1]
    rows = list(csv.reader(io.StringIO(text[0]), delimiter=separator))
    assert rows[0] == ["epoch", "loss", "val_acc", "val_loss"]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_terminate_on_nan(peer, bad, capsys):
    batches = [{"loss": 1.0}, {"loss": bad}]
    for module in (C, peer):
        model, _, last = run(module.TerminateOnNaN(), VAL_LOGS, batches=batches)
        assert model.stop_training
        assert last == 0
    with pytest.raises(RuntimeError, match="after batch 1"):
        run(C.TerminateOnNaN(raise_error=True), VAL_LOGS, batches=batches)
    model, _, _ = run(C.TerminateOnNaN(), VAL_LOGS, batches=[{"loss": 1.0}])
    assert not model.stop_training


def test_history_is_keras_history(peer):
    ours, theirs = C.History(), peer.History()
    for _ in range(2):  # a second fit continues
        run(ours, VAL_LOGS)
        run(theirs, VAL_LOGS)
    assert ours.history == theirs.history
    assert ours.epoch == theirs.epoch


def test_every_hook_of_keras_is_here(peer):
    hooks = [name for name in dir(peer.Callback) if name.startswith("on_")]
    assert len(hooks) == 16
    for name in hooks:
        assert callable(getattr(C.Callback(), name))


# --- what is ours ---------------------------------------------------------------------------------


class Recorder(C.Callback):
    """Notes every call; overrides the new names and the old."""

    def __init__(self, calls):
        super().__init__()
        self.calls = calls

    def on_train_begin(self, logs=None):
        self.calls.append(("train_begin", logs))

    def on_epoch_end(self, epoch, logs=None):
        logs["added"] = 1.0
        self.calls.append(("epoch_end", epoch))

    def on_batch_end(self, batch, logs=None):
        self.calls.append(("batch_end", batch, logs))


def test_the_list_calls_in_order_and_history_sees_what_callbacks_add():
    calls: list = []
    model = FakeModel()
    listed = C.CallbackList(
        [Recorder(calls), [Recorder(calls)]],
        add_history=True, model=model, epochs=1, steps=1, verbose=0,
    )  # fmt: skip
    listed.on_train_begin()
    listed.on_epoch_begin(0)
    listed.on_train_batch_begin(0)
    listed.on_train_batch_end(0, {"loss": 1.0})
    listed.on_epoch_end(0, {"loss": 2.0})
    assert calls == [
        ("train_begin", {}), ("train_begin", {}),
        ("batch_end", 0, {"loss": 1.0}), ("batch_end", 0, {"loss": 1.0}),
        ("epoch_end", 0), ("epoch_end", 0),
    ]  # fmt: skip
    assert listed.history is model.history
    assert listed.history.history == {"loss": [2.0], "added": [1.0]}
    assert listed.history.params == {"epochs": 1, "steps": 1, "verbose": 0}
    assert listed.callbacks[0].model is model


def test_wants_batch_logs_only_if_somebody_reads_them(tmp_path):
    def wants(*callbacks, **options):
        listed = C.CallbackList(list(callbacks), epochs=1, steps=1, verbose=0, **options)
        return listed.wants_batch_logs

    assert not wants(add_history=True)
    assert not wants(C.EarlyStopping(), C.ModelCheckpoint(tmp_path / "m.keras"), C.Callback())
    assert wants(C.ModelCheckpoint(tmp_path / "m.keras", save_freq=3))
    assert wants(C.TerminateOnNaN())
    assert wants(Recorder([]))
    assert wants(C.LambdaCallback(on_train_batch_end=print))
    listed = C.CallbackList(None, epochs=1, steps=1, verbose=0)
    listed.append(C.TerminateOnNaN())
    assert listed.wants_batch_logs


def test_given_history_and_bar_are_not_doubled():
    history = C.History()
    listed = C.CallbackList([history], add_history=True, model=FakeModel())
    assert listed.history is history
    assert listed.callbacks == [history]


def test_lambda_callback():
    seen = []
    callback = C.LambdaCallback(
        on_epoch_end=lambda epoch, logs: seen.append(epoch),
        on_test_begin=lambda logs: seen.append("test"),
    )
    listed = C.CallbackList(callback)
    listed.on_epoch_end(3)
    listed.on_test_begin()
    assert seen == [3, "test"]


def test_auto_mode_goes_by_the_metric_then_by_its_name():
    class Metric:
        name, _direction = "oddity", "up"

    model = FakeModel()
    model.metrics = [Metric()]
    logs = [{"val_oddity": v} for v in (1.0, 2.0, 1.5)]
    callback = C.EarlyStopping("val_oddity", patience=5)
    run(callback, logs, model)
    assert callback.best == 2.0
    for name, best in (("acc", 2.0), ("out_accuracy", 2.0), ("mae", 1.0), ("accuracy_loss", 1.0)):
        callback = C.EarlyStopping(name, patience=5)
        run(callback, [{name: v} for v in (1.0, 2.0, 1.5)])
        assert callback.best == best, name


# --- errors ---------------------------------------------------------------------------------------


def test_errors(tmp_path):
    with pytest.raises(ValueError, match="mode='maximum', expected 'min', 'max' or 'auto'"):
        C.EarlyStopping(mode="maximum")
    with pytest.raises(ValueError, match="factor must be below 1, got 1.5"):
        C.ReduceLROnPlateau(factor=1.5)
    with pytest.raises(ValueError, match="save_freq='batch'"):
        C.ModelCheckpoint("m.keras", save_freq="batch")
    with pytest.raises(ValueError, match="must end in .keras"):
        C.ModelCheckpoint("m.hdf5")
    with pytest.raises(ValueError, match="must end in .weights.h5"):
        C.ModelCheckpoint("m.h5", save_weights_only=True)
    with pytest.raises(ValueError, match="there is no 'val_mae' for .*epoch, loss"):
        run(C.ModelCheckpoint(tmp_path / "{val_mae:.2f}.keras"), VAL_LOGS)
    with pytest.raises(ValueError, match="higher 'oddity' is better is not known"):
        run(C.EarlyStopping("oddity"), [{"oddity": 1.0}])
    with pytest.raises(TypeError, match="returned None; expected a number"):
        run(C.LearningRateScheduler(lambda epoch: None), VAL_LOGS)
    with pytest.raises(TypeError, match="no hook 'on_epoch'"):
        C.LambdaCallback(on_epoch=print)
    with pytest.raises(TypeError, match=r"write History\(\) with parentheses"):
        C.CallbackList([C.History])
    with pytest.raises(TypeError, match="got 3, expected Callback objects"):
        C.CallbackList([3])
    with pytest.raises(ValueError, match="backup_dir is empty"):
        C.BackupAndRestore("")
    with pytest.raises(ValueError, match="verbose: got 7"):
        C.CallbackList(add_progbar=True, verbose=7)
    model = FakeModel()
    model.built = False
    with pytest.raises(ValueError, match="must be built before fit"):
        run(C.BackupAndRestore(tmp_path), VAL_LOGS, model)


def test_a_missing_metric_warns_and_names_those_there_are():
    callback = C.EarlyStopping("val_acc")
    with pytest.warns(UserWarning, match="no 'val_acc' in the logs.*there is: loss, mae"):
        run(callback, [{"loss": 1.0, "mae": 2.0}])
    with pytest.warns(UserWarning, match="no 'val_loss'"):
        run(C.ReduceLROnPlateau(), [{"loss": 1.0}])


# --- what is shown --------------------------------------------------------------------------------


def fit(verbose, epochs=2, steps=3, logs=None, given_steps=3):
    listed = C.CallbackList(
        model=FakeModel(), epochs=epochs, steps=given_steps, verbose=verbose, add_progbar=True
    )
    listed.on_train_begin()
    for epoch in range(epochs):
        listed.on_epoch_begin(epoch)
        for step in range(steps):
            listed.on_train_batch_begin(step)
            listed.on_train_batch_end(step, logs or {"loss": 0.5})
        listed.on_test_begin()
        listed.on_test_batch_end(0, {"loss": 9.0})
        listed.on_test_end({"loss": 9.0})
        listed.on_epoch_end(epoch, {"loss": 0.25, "val_loss": 0.00001})
    listed.on_train_end()
    return listed


@pytest.mark.parametrize("verbose", [1, 2, "auto"])
@pytest.mark.parametrize("given_steps", [3, None])
def test_elsewhere_than_on_a_terminal_an_epoch_is_one_plain_line(capsys, verbose, given_steps):
    fit(verbose, given_steps=given_steps)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert lines[1].startswith("Epoch 2/2 - 3/3 - ")
    assert lines[1].endswith("/step - loss: 0.2500 - val_loss: 1.0000e-05")
    assert "\r" not in "".join(lines)


def test_plain_lines_need_no_batch_logs():
    assert not fit(2).wants_batch_logs
    assert fit(2, given_steps=None).wants_batch_logs


def test_verbose_0_is_silent(capsys):
    fit(0)
    assert capsys.readouterr().out == ""


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_on_a_terminal_one_line_is_redrawn(monkeypatch):
    pytest.importorskip("rich")
    out = Terminal()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr("minitorch_ciml.keras.callbacks.progress._REDRAW_SECONDS", 0.0)
    fit(1)
    text = out.getvalue()
    assert text.count("\n") == 2
    assert "\x1b[2K" in text
    assert "2/3" in text
    assert " left" in text
    last = text.splitlines()[-1]
    assert "val_loss: 1.0000e-05" in last.rsplit("\x1b[2K", 1)[1]
    assert "9.0" not in text  # validation shows no line of its own


def test_in_a_notebook_one_line_is_redrawn(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ipykernel", object())
    monkeypatch.setattr("minitorch_ciml.keras.callbacks.progress._REDRAW_SECONDS", 0.0)
    fit(1)
    text = capsys.readouterr().out
    assert text.count("\n") == 2
    assert "\x1b" not in text
    assert "[#######.............]" in text


def test_a_fast_epoch_is_drawn_once(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ipykernel", object())
    fit(1, epochs=1, steps=100, given_steps=100)
    assert capsys.readouterr().out.count("Epoch") == 2  # at its begin, and when it is over


def test_announcements_do_not_mix_with_the_bar(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ipykernel", object())
    callback = C.ModelCheckpoint("m.keras", verbose=1)
    listed = C.CallbackList(callback, model=FakeModel(), epochs=1, steps=1, add_progbar=True)
    listed.on_epoch_begin(0)
    listed.on_epoch_end(0, {"loss": 1.0})
    lines = [line.rsplit("\r", 1)[-1] for line in capsys.readouterr().out.split("\n")]
    assert lines[0] == "Epoch 1: saved m.keras"
    assert lines[1].startswith("Epoch 1/1 - 1/1")


def test_evaluate_and_predict_show_a_line(capsys):
    listed = C.CallbackList(model=FakeModel(), steps=2, verbose=1, add_progbar=True)
    listed.on_test_begin()
    listed.on_test_end({"loss": 1.0})
    listed.on_predict_begin()
    listed.on_predict_end()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("Evaluate - 2/2")
    assert lines[0].endswith("loss: 1.0000")
    assert lines[1].startswith("Predict - 2/2")


def test_verbose_callbacks_say_what_they_do(capsys):
    with warnings.catch_warnings():
        run(C.EarlyStopping(patience=1, verbose=1, restore_best_weights=True), VAL_LOGS)
    run(C.ReduceLROnPlateau(patience=1, verbose=1), VAL_LOGS[:4])
    run(C.LearningRateScheduler(lambda epoch: 0.1, verbose=1), VAL_LOGS[:1])
    run(C.ModelCheckpoint("m.keras", save_best_only=True, verbose=1), VAL_LOGS[:3])
    text = capsys.readouterr().out
    assert "Epoch 3: early stopping\nRestoring the weights of the best epoch: 2" in text
    assert "Epoch 3: learning rate reduced to 0.05" in text
    assert "Epoch 1: learning rate set to 0.1" in text
    assert "Epoch 2: val_loss improved from 1.00000 to 0.80000" in text
    assert "Epoch 3: val_loss did not improve from 0.80000" in text
