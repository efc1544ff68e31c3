"""Steps on the CPU that are recorded and run as programs: the same results, and nothing unseen."""

import copy
import gc
import pickle
import threading
import weakref

import numpy as np
import pytest

from minitorch_ciml import Tensor, keras, ops
from minitorch_ciml.kernels import steps
from minitorch_ciml.kernels.program import Program, Slot
from minitorch_ciml.kernels.steps import NotRecordable

layers = keras.layers
RNG = np.random.default_rng(0)


def runs(model, step="_differentiated"):
    return model._programs[step].runs


def code_alone(model):
    """Lets a model do all its steps by its Python code."""
    model._run_step = lambda step, *data: step(*data)


def images(n=40):
    return RNG.standard_normal((n, 8, 8, 3)).astype("f4"), RNG.integers(0, 4, n)


def words(n=40):
    return RNG.integers(0, 9, (n, 6)), RNG.integers(0, 2, (n, 1))


def numbers(n=40):
    return RNG.standard_normal((n, 5)).astype("f4"), RNG.standard_normal((n, 1)).astype("f4")


def convolutional():
    return keras.Sequential([
        layers.Input((8, 8, 3)), layers.Rescaling(0.5),
        layers.Conv2D(6, 3, activation="relu", padding="same", kernel_regularizer="l2"),
        layers.BatchNormalization(), layers.MaxPooling2D(), layers.Conv2D(8, 3),
        layers.ReLU(), layers.GlobalAveragePooling2D(), layers.Dropout(0.3),
        layers.Dense(4, activation="softmax"),
    ])  # fmt: skip


def residual():
    x = keras.Input((8, 8, 3))
    y = layers.Conv2D(4, 3, padding="same", activation="relu")(x)
    z = layers.Conv2D(4, 1, padding="same")(y)
    z = layers.Activation("relu")(layers.Add()([y, z]))
    z = layers.Concatenate()([z, layers.SpatialDropout2D(0.2)(y)])
    return keras.Model(x, layers.Dense(4, activation="softmax")(layers.Flatten()(z)))


def masked_lstm():
    return keras.Sequential([
        layers.Input((6,)), layers.Embedding(9, 5, mask_zero=True),
        layers.LSTM(7, return_sequences=True), layers.GRU(4), layers.Dense(1, activation="sigmoid"),
    ])  # fmt: skip


def attention():
    x = keras.Input((6,), dtype="int32")
    y = layers.Embedding(9, 8)(x)
    z = layers.MultiHeadAttention(2, 4, dropout=0.1)(y, y)
    y = layers.LayerNormalization()(layers.Add()([y, z]))
    y = layers.GlobalAveragePooling1D()(layers.Dense(8, activation="gelu")(y))
    return keras.Model(x, layers.Dense(1, activation="sigmoid")(y))


def dense():
    return keras.Sequential([
        layers.Input((5,)), layers.Dense(6, activation="tanh", kernel_regularizer="l1"),
        layers.Dense(1),
    ])  # fmt: skip


CASES = {
    "convolutional": (convolutional, images, "sparse_categorical_crossentropy"),
    "residual": (residual, images, "sparse_categorical_crossentropy"),
    "masked LSTM": (masked_lstm, words, "binary_crossentropy"),
    "attention": (attention, words, "binary_crossentropy"),
    "dense": (dense, numbers, "mse"),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_a_program_gives_what_the_code_gives(case, dtype):
    """Bit for bit: weights, histories, scores, predictions; with a ragged last batch."""
    make, data, loss = CASES[case]
    x, y = data()
    found = []
    for by_code in (False, True):
        keras.utils.set_random_seed(1)
        keras.config.set_dtype_policy(dtype)
        try:
            model = make()
        finally:
            keras.config.set_dtype_policy("float32")
        model.compile("adam", loss, metrics=["mae"] if loss == "mse" else ["accuracy"])
        if by_code:
            code_alone(model)
        history = model.fit(x, y, batch_size=16, epochs=5, verbose=0, validation_split=0.1)
        found.append([
            history.history, model.evaluate(x, y, batch_size=8, verbose=0),
            [*model.get_weights(), model.predict(x, batch_size=8, verbose=0)],
        ])  # fmt: skip
        if not by_code:
            assert model.why_not_recorded is None
            # Of 15 steps, those of the full batch's 10 and of the smaller one's 5, less three each.
            assert runs(model) == 15 - 6 and runs(model, "_predicted") == 5 - 3
    assert found[0][:2] == found[1][:2]
    for a, b in zip(found[0][2], found[1][2]):
        assert a.dtype == b.dtype and np.array_equal(a, b)


@pytest.mark.parametrize("how", ["class_weight", "sample_weight"])
def test_weights_of_samples_and_classes(how):
    x, y = images()
    given = {0: 0.5, 1: 2.0, 2: 1.0, 3: 3.0} if how == "class_weight" else RNG.random(40)
    weights = []
    for by_code in (False, True):
        keras.utils.set_random_seed(2)
        model = residual()
        model.compile("sgd", "sparse_categorical_crossentropy", weighted_metrics=["accuracy"])
        if by_code:
            code_alone(model)
        model.fit(x, y, batch_size=8, epochs=3, verbose=0, **{how: given})
        weights.append(model.get_weights())
    assert all(map(np.array_equal, *weights))


def test_several_inputs_and_outputs_by_name():
    """Outputs with a loss each are scored one by one, on the host: such a step stays code."""
    a, b = keras.Input((3,), name="a"), keras.Input((2,), name="b")
    y = layers.Dense(1, name="y")(layers.Concatenate()([a, b]))
    data = {"a": RNG.random((12, 3)), "b": RNG.random((12, 2))}
    one = keras.Model({"a": a, "b": b}, y)
    one.compile("sgd", "mse")
    one.fit(data, RNG.random((12, 1)), batch_size=4, epochs=3, verbose=0)
    assert one.why_not_recorded is None and runs(one) == 6
    two = keras.Model({"a": a, "b": b}, {"y": y, "z": layers.Dense(1, name="z")(y)})
    two.compile("sgd", {"y": "mse", "z": "mae"})
    both = {"y": RNG.random((12, 1)), "z": RNG.random((12, 1))}
    history = two.fit(data, both, batch_size=4, epochs=3, verbose=0).history
    assert "numbers" in two.why_not_recorded and len(history["z_loss"]) == 3
    assert set(two.predict(data, batch_size=2, verbose=0)) == {"y", "z"}
    assert runs(two, "_predicted") == 3


# --- what must be noticed -----------------------------------------------------------------------


class Own(layers.Layer):
    """A layer of a user who has said that its steps are alike."""

    def __init__(self, function):
        super().__init__()
        self._function = function

    def call(self, x):
        return self._function(x)


def trained_with(function, by_code=False, **how):
    """A model with the user's function in it, after nine steps of three shapes."""
    keras.utils.set_random_seed(3)
    model = keras.Sequential([layers.Dense(4), Own(function), layers.Dense(1)])
    model.compile("sgd", "mse", jit_compile=True)
    if by_code:
        code_alone(model)
    rng = np.random.default_rng(5)
    x, y = rng.standard_normal((40, 5)).astype("f4"), rng.standard_normal((40, 1)).astype("f4")
    model.fit(x, y, batch_size=10, epochs=3, shuffle=False, verbose=0, **how)
    return model


def one_that_looks(x):
    return x * 2 if float(ops.sum(x)) > 0 else x


def one_that_reads_with_numpy(x):
    return x * float(np.abs(np.asarray(x)).max())


def one_that_compares(x):
    return ops.relu(x) if (x.value == 0).any() else x


def one_that_draws(x):
    return x + keras.random.normal(x.shape, stddev=0.1)


@pytest.mark.parametrize(
    "function", [one_that_looks, one_that_reads_with_numpy, one_that_compares, one_that_draws]
)
def test_a_step_that_may_do_something_else_is_not_recorded(function):
    model, by_code = trained_with(function), trained_with(function, by_code=True)
    assert model.why_not_recorded is not None and runs(model) == 0
    assert all(map(np.array_equal, model.get_weights(), by_code.get_weights()))


def one_that_counts(kind):
    count = iter(range(1, 1000))
    return lambda x: x * kind(1 / next(count))


@pytest.mark.parametrize("kind", [float, lambda k: np.full(4, k, "f4")])
def test_a_step_that_differs_from_the_one_before_is_not_run_as_it(kind):
    """A number of Python's, or an array, that changes from step to step."""
    model = trained_with(one_that_counts(kind))
    by_code = trained_with(one_that_counts(kind), by_code=True)
    assert runs(model) == 0
    assert all(map(np.array_equal, model.get_weights(), by_code.get_weights()))


def test_constants_are_taken_for_constants():
    table = np.linspace(-1, 1, 4, dtype="f4")
    model = trained_with(lambda x: x * (table.copy() + ops.arange(4, dtype="float32")))
    assert model.why_not_recorded is None and runs(model) == 8  # the first step builds it


def test_a_changed_setting_is_noticed():
    """A rate that is changed between two steps counts from then on."""
    model = keras.Sequential([layers.Input((5,)), layers.Dropout(0.5, seed=1), layers.Dense(1)])
    model.compile("sgd", "mse")
    x, y = np.ones((6, 5), "f4"), np.zeros((6, 1), "f4")
    for _ in range(6):
        model.train_on_batch(x, y)
    assert runs(model) == 3
    weights = model.get_weights()
    model.layers[0].rate = 0.0
    loss = model.train_on_batch(x, y)
    assert loss == pytest.approx(np.square(x @ weights[0] + weights[1]).mean(), rel=1e-5)
    assert runs(model) == 3
    for _ in range(3):
        model.train_on_batch(x, y)
    assert runs(model) == 4


def test_a_changed_loss_or_regularizer_is_noticed():
    x, y = numbers()
    losses = []
    for by_code in (False, True):
        keras.utils.set_random_seed(1)
        regularizer, loss = keras.regularizers.L2(0.0), keras.losses.Huber()
        model = keras.Sequential(
            [layers.Input((5,)), layers.Dense(1, kernel_regularizer=regularizer)]
        )
        model.compile("sgd", loss)
        if by_code:
            code_alone(model)
        found = [model.train_on_batch(x, y) for _ in range(5)]
        regularizer.l2 = 0.5
        found += [model.train_on_batch(x, y) for _ in range(5)]
        loss.reduction = "sum"
        losses.append(found + [model.train_on_batch(x, y) for _ in range(5)])
        assert by_code or runs(model) == 3 * 2
    assert losses[0] == losses[1]


def test_frozen_layers_and_new_weights_are_noticed():
    x, y = numbers()
    model = dense()
    model.compile("sgd", "mse")
    model.fit(x, y, batch_size=10, epochs=2, verbose=0)
    assert runs(model) == 5
    model.layers[0].trainable = False
    kept, moved = (layer.kernel.numpy().copy() for layer in model.layers)
    model.fit(x, y, batch_size=10, epochs=2, verbose=0)
    assert np.array_equal(model.layers[0].kernel.numpy(), kept)
    assert not np.array_equal(model.layers[1].kernel.numpy(), moved)
    model.layers[1].bias.trainable = False  # a weight alone, of which no layer knows
    bias = model.layers[1].bias.numpy().copy()
    model.fit(x, y, batch_size=10, epochs=2, verbose=0)
    assert np.array_equal(model.layers[1].bias.numpy(), bias)
    before = runs(model)
    model.set_weights([np.zeros_like(w) for w in model.get_weights()])
    assert model.test_on_batch(x, y) == pytest.approx(np.square(y).mean(), rel=1e-5)
    model.train_on_batch(x[:10], y[:10])
    assert runs(model) == before + 1  # the same arrays with other numbers: the program still holds


def test_the_learning_rate_is_the_optimizers():
    """Optimizer and schedules are no part of a program."""
    x, y = numbers()
    model = dense()
    model.compile(keras.optimizers.SGD(0.1), "mse")
    model.fit(x, y, batch_size=10, epochs=2, verbose=0)
    model.optimizer.learning_rate = 0.0
    weights = model.get_weights()
    model.fit(x, y, batch_size=10, epochs=1, verbose=0)
    assert runs(model) > 6 and all(map(np.array_equal, weights, model.get_weights()))


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"run_eagerly": True}, "run_eagerly=True"),
        ({"jit_compile": False}, "jit_compile=False"),
        ({"loss": lambda t, p: ops.mean((t - p) ** 2)}, "is not of this package"),
    ],
)
def test_why_not(arguments, reason):
    x, y = numbers()
    model = dense()
    model.compile("sgd", **({"loss": "mse"} | arguments))
    model.fit(x, y, batch_size=10, epochs=1, verbose=0)
    assert reason in model.why_not_recorded and runs(model) == 0


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_copy_of_a_model_records_its_own_steps(duplicate):
    x, y = numbers()
    model = dense()
    model.compile("sgd", "mse")
    model.fit(x, y, batch_size=10, epochs=2, verbose=0)
    other, before = duplicate(model), model.get_weights()
    assert runs(model) == 5 and runs(other) == 0
    other.fit(x, y, batch_size=10, epochs=2, verbose=0)
    assert runs(model) == 5 == runs(other)
    assert all(map(np.array_equal, model.get_weights(), before))
    assert not np.array_equal(other.get_weights()[0], before[0])


def test_an_error_while_a_step_is_recorded_is_no_reason_against_the_next():
    x, y = images()
    model = residual()
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.train_on_batch(x, y)
    with pytest.raises(ValueError, match="sparse_categorical_crossentropy"):
        model.train_on_batch(x, y + 9)
    for _ in range(3):
        model.train_on_batch(x, y)
    assert model.why_not_recorded is None and runs(model) == 1


def test_terms_of_the_loss_that_layers_add_can_be_read():
    x, y = numbers()
    model = keras.Sequential([layers.Dense(3, activity_regularizer="l2"), layers.Dense(1)])
    model.compile("sgd", "mse")
    model.fit(x, y, batch_size=10, epochs=2, verbose=0)
    assert "adds a term" in model.why_not_recorded and float(model.losses[0]) > 0


def test_a_model_of_convolutions_with_folded_normalization_predicts_the_same():
    """A kernel that is kept for inference must not come from a recording."""
    keras.utils.set_random_seed(4)
    model = keras.Sequential([
        layers.Input((8, 8, 3)), layers.Conv2D(4, 3, use_bias=False),
        layers.BatchNormalization(), layers.ReLU(), layers.Flatten(), layers.Dense(4),
    ])  # fmt: skip
    x, _ = images()
    expected = model.predict(x[:8], verbose=0)
    for _ in range(5):
        assert np.array_equal(model.predict(x, batch_size=8, verbose=0)[:8], expected)
    assert np.array_equal(model(x[:8]).numpy(), expected)


def test_an_error_in_a_program_says_what_the_code_says():
    x, y = images()
    messages = []
    for by_code in (False, True):
        model = residual()
        model.compile("sgd", "sparse_categorical_crossentropy")
        if by_code:
            code_alone(model)
        for _ in range(5):
            model.train_on_batch(x, y)
        with pytest.raises(ValueError, match="sparse_categorical_crossentropy") as error:
            model.train_on_batch(x, y + 9)
        messages.append(str(error.value))
        assert np.isfinite(model.train_on_batch(x, y))
    assert messages[0] == messages[1]
    embedding = keras.Sequential([
        layers.Input((3,)), layers.Embedding(9, 4), layers.Flatten(), layers.Dense(1),
    ])  # fmt: skip
    for _ in range(4):
        embedding.predict(np.zeros((2, 3), int), verbose=0)
    assert runs(embedding, "_predicted") == 1
    with pytest.raises(ValueError, match="between 0 and input_dim - 1 = 8, got 0 to 9"):
        embedding.predict(np.array([[0, 1, 9], [1, 1, 1]]), verbose=0)


def test_another_thread_can_use_the_model_while_a_step_is_recorded():
    x = RNG.standard_normal((10, 5)).astype("f4")
    seen = []

    def call(y):
        def predict():
            seen.append(np.array_equal(second(Tensor(x)).numpy(), expected))

        thread = threading.Thread(target=predict)
        thread.start()
        thread.join()
        return y

    second = layers.Dense(1)
    second.build((10, 5))
    expected = second(Tensor(x)).numpy()
    model = keras.Sequential([layers.Input((5,)), Own(call), second])
    model.compile(keras.optimizers.SGD(0.0), "mse", jit_compile=True)
    model.fit(x, np.zeros((10, 1)), batch_size=10, epochs=5, verbose=0)
    assert runs(model) == 2 and len(seen) >= 3 and all(seen)


# --- programs -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "look",
    [
        len, bool, float, int, list, np.asarray, lambda s: s[0], lambda s: s == 0, lambda s: s < 1,
        lambda s: s.item(), lambda s: s.numpy(), lambda s: np.add(s, 1), lambda s: s.tolist(),
    ],
)  # fmt: skip
def test_nobody_looks_at_a_slot(look):
    slot = Program().input(np.ones(1))
    assert (slot.shape, slot.ndim, slot.size, slot.dtype) == ((1,), 1, 1, np.float64)
    with pytest.raises((NotRecordable, TypeError)):
        look(slot)


def test_a_program_keeps_no_array_longer_than_it_is_needed():
    alive = []

    def first(x):
        y = x + 1
        alive.append(weakref.ref(y))
        return y

    def third(x):
        gc.collect()
        alive.append(alive[-1]() is None)
        return x + 3

    program = Program()
    with program.recording():
        x = program.input(np.zeros(1000))
        y = program.call(third, program.call(np.negative, program.call(first, x)))
    program.finish([y])
    assert isinstance(y, Slot) and len(program) == 3
    (result,) = program([np.ones(1000)])
    assert np.array_equal(result, np.ones(1000)) and alive[-1] is True


def test_work_of_every_step_is_done_in_every_run():
    done = []
    program = Program()
    with program.recording():
        x = program.input(np.zeros(2))
        steps.each_time(lambda: done.append("each time"))
        steps.aside(done.append, x)
        steps.check(lambda array: done.append(array.sum()), x)
    program.finish([x])
    assert done == ["each time", 0]
    assert program([np.ones(2)])[0].tolist() == [1, 1]
    assert done[2] == "each time" and done[3].tolist() == [1, 1] and done[4:] == [2]


def test_two_recordings_are_compared_by_what_they_do():
    def recorded(function, *constants, **params):
        program = Program()
        with program.recording():
            x = program.input(np.zeros(3))
            program.finish([program.call(function, x, *constants, **params)])
        return program

    one = recorded(np.add, np.ones(3))
    assert one.matches(recorded(np.add, np.ones(3)))
    assert not one.matches(recorded(np.add, np.zeros(3)))
    assert not one.matches(recorded(np.add, np.ones(3, "f4")))
    assert not one.matches(recorded(np.subtract, np.ones(3)))
    assert not recorded(np.sum, axis=0).matches(recorded(np.sum, axis=-1))
    assert recorded(np.sum, axis=(0,)).matches(recorded(np.sum, axis=(0,)))
