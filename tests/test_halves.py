"""Floats of 16 bits on the CPU: what looks at their bits or their precision, and Keras' parts."""

import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("ml_dtypes")

from minitorch_ciml import Parameter, Tensor, keras, ops
from minitorch_ciml.autograd import grad
from minitorch_ciml.kernels import halves

RNG = np.random.default_rng(0)
DTYPES = ["float16", "bfloat16"]
PRECISION = {"float16": 2.0**-10, "bfloat16": 2.0**-7}  # from 1 to the next number


def in_torch(array):
    """The same numbers as a tensor of PyTorch."""
    torch = pytest.importorskip("torch")
    return torch.tensor(np.float32(array)).to(getattr(torch, array.dtype.name))


def assert_near(y, expected, steps=4, precision=None):
    """Of the same dtype, and at most some steps of it apart, where the largest number is."""
    y, torch = np.asarray(y), pytest.importorskip("torch")
    if isinstance(expected, torch.Tensor):
        assert y.dtype.name == str(expected.dtype).removeprefix("torch.")
        expected = expected.detach().double().numpy()
    expected = np.asarray(expected, "float64")
    precision = precision or PRECISION.get(y.dtype.name, 2.0**-23)
    room = steps * precision * np.abs(expected).max(initial=0)
    np.testing.assert_allclose(y.astype("float64"), expected, rtol=0, atol=room)


# --- dtypes and bits ------------------------------------------------------------------------------


def test_both_kinds_together_are_float32():
    pair = [ops.cast([1.5], dtype) for dtype in DTYPES]
    assert ops.add(*pair).dtype == ops.concatenate(pair).dtype == "float32"
    assert ops.add(ops.add(*pair), pair[0]).dtype == "float32"
    assert halves.promoted(*(x.dtype for x in pair), np.dtype("float64")) == "float64"


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_bits_are_those_of_16_bits(dtype):
    x = ops.cast([1.0, -2.5, 0.0], dtype)
    bits = ops.view(x, "int16")
    np.testing.assert_array_equal(bits.numpy(), x.numpy().view("int16"))
    assert ops.view(bits, dtype).tolist() == [1, -2.5, 0]


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_next_number(dtype):
    start, end = [ops.cast(x, dtype) for x in ([0.0, 1, 1, -1, 5, -3], [1.0, 2, 0, 0, 5, -4])]
    y = ops.nextafter(start, end)
    assert y.dtype.name == dtype
    expected = np.nextafter(start.numpy(), end.numpy())
    np.testing.assert_array_equal(y.numpy().view("int16"), expected.view("int16"))


@pytest.mark.parametrize("dtype", DTYPES)
def test_integer_powers_of_two_keep_the_dtype(dtype):
    y = ops.ldexp(ops.cast([1.5, 3.0], dtype), np.array([2, -1]))
    assert y.dtype.name == dtype and y.tolist() == [6.0, 1.5]


WIDE = [3e38, -3e38, 70000.0, 300.0, -4.0, 0.5]


@pytest.mark.parametrize("to", ["int8", "uint8", "int16", "int32", "float16", "bfloat16"])
@pytest.mark.parametrize("dtype", [*DTYPES, "float32"])
def test_what_a_dtype_cannot_hold_becomes_its_largest_number(dtype, to):
    with np.errstate(over="ignore"):
        x = ops.cast(np.float32(WIDE), dtype)
    y = ops.saturate_cast(x, to).numpy()
    assert y.dtype.name == to
    expected = x.numpy().astype("float64")
    for limits in (halves.finfo(x.dtype), halves.finfo(y.dtype) if "f" in to else np.iinfo(to)):
        expected = np.clip(expected, float(limits.min), float(limits.max))
    if "f" not in to:
        expected = np.trunc(expected)
    # A limit that the dtype of x does not have is rounded towards 0, by less than a step of it.
    precision = max(PRECISION.get(each, 2.0**-23) for each in (dtype, to))
    np.testing.assert_allclose(y.astype("float64"), expected, rtol=precision)
    assert np.isfinite(y.astype("float64")).all()


# --- functions that ask for the precision, or need more of it -------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_matrices(dtype):
    x = RNG.normal(size=(5, 3)).astype("float32")
    half = ops.cast(x, dtype)
    assert ops.matrix_rank(half).item() == 3
    assert ops.matrix_rank(ops.cast(np.ones((4, 4)), dtype)).item() == 1
    b = ops.cast(RNG.normal(size=(5, 2)), dtype)
    for f, arguments in ((ops.pinv, (half,)), (ops.lstsq, (half, b))):
        y = f(*arguments)
        assert y.dtype.name == dtype
        assert_near(y, f(*[ops.cast(a, "float32") for a in arguments]).numpy())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("how", ["mask", "bias", "twice"])
def test_attention_with_a_mask(dtype, how):
    """Also its second derivative, which is that of the formula."""
    arrays = [RNG.normal(size=(2, 4, 2, 3)).astype(dtype) for _ in range(3)]
    mask = np.tri(4, dtype=bool)
    results = []
    for wanted in (dtype, "float32"):
        q, k, v = [Tensor(a, dtype=wanted, requires_grad=True) for a in arrays]
        bias = ops.cast(np.ones((4, 4)), wanted) if how == "bias" else None
        y = ops.dot_product_attention(q, k, v, bias, mask)
        found = grad(ops.sum(y * y), [q, k, v], create_graph=how == "twice")
        if how == "twice":
            found = grad(ops.sum(found[0] * found[0]), [q, k, v])
        results.append([y, *found])
    for y, expected in zip(*results):
        assert y.dtype.name == dtype
        assert_near(y, expected.numpy(), steps=12)


@pytest.mark.parametrize("dtype", DTYPES)
def test_softmax_of_what_a_mask_keeps(dtype):
    x = RNG.normal(size=(2, 4)).astype(dtype)
    mask = np.array([[1, 0, 1, 1], [1, 1, 0, 0]], bool)
    y = keras.layers.Softmax(dtype=dtype)(x, mask=mask)
    weights = np.where(mask, np.exp(x.astype("float64")), 0)
    assert y.dtype.name == dtype
    assert_near(y, weights / weights.sum(axis=1, keepdims=True))


@pytest.mark.parametrize("dtype", DTYPES)
def test_ctc_is_computed_in_float32(dtype):
    scores = RNG.normal(size=(2, 6, 4)).astype(dtype)
    arguments = np.array([[1, 2], [3, 3]]), np.array([2, 2]), np.array([6, 5])
    y = ops.ctc_loss(arguments[0], scores, *arguments[1:])
    expected = ops.ctc_loss(arguments[0], scores.astype("float32"), *arguments[1:])
    assert y.dtype == "float32"
    np.testing.assert_array_equal(y.numpy(), expected.numpy())


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_gradient_of_correlations(dtype):
    """Its terms nearly cancel."""
    array = RNG.normal(size=(2, 3)).astype(dtype)
    results = []
    for wanted in (dtype, "float32"):
        x = Tensor(array, dtype=wanted, requires_grad=True)
        y = ops.corrcoef(x)
        results.append([y, grad(y, x, np.float32([[1.0, 0.5], [-0.4, -1.0]]).astype(wanted))])
    for y, expected in zip(*results):
        assert y.dtype.name == dtype
        assert_near(y, expected.numpy(), steps=2)


# --- random numbers -------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_random_numbers(dtype):
    draw = keras.random
    x = draw.uniform((4000,), dtype=dtype, seed=1)
    assert x.dtype.name == dtype
    values = x.numpy().astype("float64")
    assert 0 <= values.min() and values.max() < 1
    assert abs(values.mean() - 0.5) < 0.03
    assert len(np.unique(values)) > (200 if dtype == "bfloat16" else 1000)
    for name in ("normal", "truncated_normal"):
        x = getattr(draw, name)((4000,), 1.0, 2.0, dtype=dtype, seed=1).numpy()
        y = getattr(draw, name)((4000,), 1.0, 2.0, seed=1).numpy()
        assert x.dtype.name == dtype
        np.testing.assert_array_equal(x, y.astype(dtype))
    for drawn in (draw.gamma((3,), 2.0, dtype=dtype), draw.beta((3,), 2.0, 1.0, dtype=dtype),
                  draw.binomial((3,), 5.0, 0.5, dtype=dtype)):  # fmt: skip
        assert drawn.dtype.name == dtype


def test_no_float_type():
    with pytest.raises(ValueError, match="uniform: dtype is int32, expected a float type"):
        keras.random.uniform((3,), dtype="int32")


# --- Keras' parts ---------------------------------------------------------------------------------


def peer():
    return pytest.importorskip("keras_peer").keras_peer


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "name, arguments",
    [("MultiHeadAttention", (2, 4)), ("GroupQueryAttention", (4, 4, 2))],
)
def test_dropout_in_attention(dtype, name, arguments):
    layer = getattr(keras.layers, name)(*arguments, dropout=0.2, dtype=f"mixed_{dtype}")
    x = Tensor(RNG.normal(size=(2, 5, 8)).astype("float32"), requires_grad=True)
    y = layer(x, x, training=True, use_causal_mask=True)
    assert y.dtype.name == dtype
    assert grad(ops.sum(y), x).dtype == "float32"


@pytest.mark.parametrize("policy", ["mixed_{}", "{}"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "name, arguments",
    [("RandomBrightness", (0.2,)), ("RandomContrast", (0.2,)), ("RandomHue", (0.2,)),
     ("RandomSharpness", (0.5,)), ("RandomColorDegeneration", (0.5,)), ("RandomGaussianBlur", ()),
     ("RandomErasing", ()), ("RandomGrayscale", ()), ("RandomElasticTransform", ()),
     ("RandomRotation", (0.2,)), ("Solarization", ()), ("RandAugment", ()), ("MixUp", ())],
)  # fmt: skip
def test_changed_images_have_the_layers_dtype(policy, dtype, name, arguments):
    """And are computed in float32: in bfloat16 a pixel's place would be wrong from 256 on."""
    images = RNG.uniform(0, 255, (2, 6, 300, 3)).astype(dtype).astype("float32")
    labels = np.eye(2, dtype="float32")
    results = []
    for wanted in (policy.format(dtype), "float32"):
        layer = getattr(keras.layers, name)(*arguments, seed=1, dtype=wanted)
        keras.utils.set_random_seed(1)
        results.append(layer({"images": images, "labels": labels}, training=True))
    y, expected = results
    assert y["images"].dtype.name == y["labels"].dtype.name == dtype
    for key in y:
        assert_near(y[key], expected[key].numpy(), steps=1)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16", "bfloat16"])
@pytest.mark.parametrize("mode", ["multi_hot", "one_hot", "count"])
def test_codes_have_the_dtype_of_variables(policy, mode):
    x = np.array([1, 2, 2])
    layers = [k.layers.CategoryEncoding(4, mode, dtype=policy) for k in (keras, peer())]
    ours, theirs = [layer(x) for layer in layers]
    assert_near(ours, theirs)


LOSSES = ["MeanSquaredError", "MeanSquaredLogarithmicError", "KLDivergence", "Huber", "Poisson"]


@pytest.mark.parametrize("policy", ["mixed_{}", "{}", None])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", LOSSES)
def test_losses_have_the_dtype_that_they_are_told(policy, dtype, name):
    t, p = [RNG.uniform(0.1, 2, (6, 4)).astype(dtype) for _ in range(2)]
    policy = policy and policy.format(dtype)
    ours, theirs = [getattr(k.losses, name)(dtype=policy) for k in (keras, peer())]
    assert ours.dtype == theirs.dtype
    precision = None if policy else 2.0**-18  # some terms cancel
    assert_near(ours(t, p), theirs(in_torch(t), in_torch(p)), precision=precision)


def test_a_loss_that_returns_another_dtype_is_cast():
    class Wide(keras.losses.Loss):
        def call(self, y_true, y_pred):
            return ops.cast(y_true - y_pred, "float32")

    assert Wide(dtype="bfloat16")(np.ones(3), np.zeros(3)).dtype.name == "bfloat16"
    t = np.ones((2, 3), "float16")
    assert keras.losses.mean_squared_logarithmic_error(t, t).dtype == "float32"  # as Keras'


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "bfloat16", "float16", None])
@pytest.mark.parametrize("name", ["MeanSquaredError", "Precision", "AUC", "R2Score", "F1Score"])
def test_metrics_have_the_dtype_that_they_are_told(policy, name):
    t = RNG.integers(0, 2, (6, 4)).astype("bfloat16")
    p = RNG.uniform(0, 1, (6, 4)).astype("bfloat16")
    ours, theirs = [getattr(k.metrics, name)(dtype=policy) for k in (keras, peer())]
    assert ours.dtype == theirs.dtype
    # Whatever dtype the result has: what it is made of had 16 bits.
    assert_near(ours(t, p), theirs(in_torch(t), in_torch(p)), 16, PRECISION["bfloat16"])


def test_a_count_is_not_rounded():
    metric = keras.metrics.TruePositives(dtype="float16")
    metric.update_state(np.ones(5001), np.ones(5001))
    assert metric.result().item() == 5001


def test_the_orthogonal_penalty_is_float32():
    x = RNG.normal(size=(3, 4)).astype("bfloat16")
    ours, theirs = [k.regularizers.OrthogonalRegularizer() for k in (keras, peer())]
    assert_near(ours(x), theirs(in_torch(x)), 4, PRECISION["bfloat16"])


OPTIMIZERS = ["SGD", "Adam", "AdamW", "Adamax", "Nadam", "RMSprop", "Adagrad", "Adadelta", "Lion",
              "Ftrl", "Lamb", "Adafactor"]  # fmt: skip
OPTIONS = [{}, {"clipnorm": 1.0}, {"global_clipnorm": 2.0}, {"clipvalue": 0.1},
           {"use_ema": True, "ema_overwrite_frequency": 2}, {"weight_decay": 0.01},
           {"gradient_accumulation_steps": 2}]  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_weights_of_16_bits_are_optimized(dtype, name):
    """As float32 weights are, and rounded after each step."""
    start = RNG.normal(size=(4, 3)).astype(dtype)
    gradients = [RNG.normal(size=(4, 3)).astype(dtype) for _ in range(4)]
    for options in OPTIONS:
        results = []
        for wanted in (dtype, "float32"):
            w = Parameter(start.astype(wanted))
            optimizer = getattr(keras.optimizers, name)(0.1, **options)
            for g in gradients:
                optimizer.apply([Tensor(g.astype(wanted))], [w])
            results.append(w.numpy())
        assert results[0].dtype.name == dtype
        assert (results[0] != start).any()
        assert_near(*results, steps=8)


# --- models ---------------------------------------------------------------------------------------


def small_model(k, policy, optimizer="sgd"):
    layers = [
        k.layers.Dense(6, "tanh", dtype=policy), k.layers.BatchNormalization(dtype=policy),
        k.layers.Dense(1, dtype=policy),
    ]  # fmt: skip
    model = k.Sequential([k.Input((4,)), *layers])
    model.compile(optimizer, k.losses.MeanSquaredError())
    return model


X, Y = RNG.normal(size=(32, 4)).astype("float32"), RNG.normal(size=(32, 1)).astype("float32")


@pytest.mark.parametrize("policy", DTYPES)
def test_training_in_16_bits_alone_is_keras(policy):
    models = [small_model(k, policy) for k in (keras, peer())]
    models[1].set_weights([np.float32(w) for w in models[0].get_weights()])
    losses = [m.fit(X, Y, batch_size=8, epochs=2, shuffle=False, verbose=0) for m in models]
    assert {w.dtype.name for w in models[0].weights} == {policy}
    ours, theirs = [history.history["loss"] for history in losses]
    np.testing.assert_allclose(ours, theirs, rtol=8 * PRECISION[policy])


@pytest.mark.parametrize("policy", DTYPES)
def test_adam_trains_what_it_does_not_train_in_keras(policy):
    """There its constants are rounded: beta_2 is 1 in bfloat16."""
    losses = []
    for wanted in (policy, "float32"):
        keras.utils.set_random_seed(3)
        model = small_model(keras, wanted, keras.optimizers.Adam(0.01))
        history = model.fit(X, Y, batch_size=8, epochs=4, shuffle=False, verbose=0)
        losses.append(history.history["loss"])
    np.testing.assert_allclose(*losses, rtol=16 * PRECISION[policy])
    assert losses[0][-1] < 0.9 * losses[0][0]


@pytest.mark.parametrize("ending", ["keras", "h5", "weights.h5"])
@pytest.mark.parametrize("policy", DTYPES)
def test_files_hold_16_bits(policy, ending, tmp_path):
    model = small_model(keras, policy, "adam")
    model.fit(X, Y, verbose=0)
    path = tmp_path / f"model.{ending}"
    if ending == "weights.h5":
        model.save_weights(path)
        again = small_model(keras, policy, "adam")
        again.fit(X, Y, verbose=0)  # so that the optimizer has its variables
        again.load_weights(path)
    else:
        model.save(path)
        again = keras.models.load_model(path)
        for a, b in zip(model.optimizer.variables, again.optimizer.variables, strict=True):
            np.testing.assert_array_equal(a.numpy(), b.numpy())
    for a, b in zip(model.weights, again.weights, strict=True):
        assert b.dtype.name == policy
        np.testing.assert_array_equal(a.numpy(), b.numpy())
    again.fit(X, Y, verbose=0)


@pytest.mark.filterwarnings("ignore:__array__ implementation")
@pytest.mark.parametrize("policy", [*DTYPES, "mixed_float16"])
def test_files_go_to_keras_and_come_back(policy, tmp_path, recwarn):
    for here, there in ((keras, peer()), (peer(), keras)):
        model = small_model(here, policy, "adam")
        model.fit(X, Y, verbose=0)
        model.save(tmp_path / "model.keras")
        again = there.saving.load_model(tmp_path / "model.keras")
        assert not [w for w in recwarn if "Skipping" in str(w.message)]
        for a, b in zip(model.weights, again.weights, strict=True):
            assert str(a.dtype) == str(b.dtype)
            np.testing.assert_array_equal(np.float32(a.numpy()), np.float32(b.numpy()))
        again.fit(X, Y, verbose=0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_data_may_be_of_16_bits(dtype):
    """As another model's predictions are."""
    x, y, w = X.astype(dtype), Y.astype(dtype), RNG.uniform(size=32).astype(dtype)
    results = []
    for data in ((x, y, w), [a.astype("float32") for a in (x, y, w)]):
        keras.utils.set_random_seed(4)
        model = small_model(keras, "float32")
        model.fit(data[0], data[1], sample_weight=data[2], shuffle=False, verbose=0)
        results.append([model.evaluate(*data[:2], verbose=0), *model.get_weights()])
        assert model.predict(data[0], verbose=0).dtype == "float32"
    for a, b in zip(*results):
        np.testing.assert_array_equal(a, b)


# --- names ----------------------------------------------------------------------------------------

NAMED = [
    'ops.one_hot([1, 2], 3, dtype="bfloat16")', 'ops.view(np.array([1], "int16"), "bfloat16")',
    'ops.eye(2, dtype="bfloat16")', 'Tensor([1.0]).astype("bfloat16")',
    'keras.Variable([1.0], dtype="bfloat16")', 'ops.saturate_cast(1.0, "bfloat16")',
    'keras.Input((2,), dtype="bfloat16")', 'keras.KerasTensor((2,), "bfloat16")',
    'keras.layers.Layer().add_weight((2,), dtype="bfloat16")',
    'keras.random.uniform((2,), dtype="bfloat16")', 'keras.initializers.Zeros()((2,), "bfloat16")',
    'keras.losses.MeanSquaredError(dtype="bfloat16")([1.0], [2.0])',
    'keras.metrics.MeanSquaredError(dtype="bfloat16")([1.0], [2.0])',
    'keras.utils.img_to_array(np.ones((2, 2, 3)), dtype="bfloat16")',
]  # fmt: skip


def in_a_new_process(code):
    imports = "import numpy as np\nfrom minitorch_ciml import Tensor, keras, ops, set_floatx\n"
    done = subprocess.run([sys.executable, "-c", imports + code], capture_output=True, text=True)
    assert not done.returncode, done.stderr


def test_bfloat16_is_known_by_its_name_everywhere():
    """Also where it is the first that a process hears of it: each has a process of its own."""
    in_a_new_process(
        f"""
import os, sys
assert "ml_dtypes" not in sys.modules
for call in {NAMED}:
    if not os.fork():
        x = eval(call)
        os._exit(np.dtype(x.dtype).name != "bfloat16")
    assert os.waitstatus_to_exitcode(os.wait()[1]) == 0, call
"""
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_default_float_type(dtype):
    in_a_new_process(
        f"""
set_floatx({dtype!r})
assert keras.config.floatx() == {dtype!r}
y = keras.layers.Dense(2)(np.ones((1, 2)))
made = [Tensor([1.0]), ops.ones(2), ops.exp(1), ops.mean(np.arange(4)), ops.one_hot([1], 2), y,
        keras.utils.to_categorical([1, 2]), keras.losses.mean_squared_error([1.0], [2.0])]
assert [x.dtype.name for x in made] == [{dtype!r}] * len(made), [x.dtype.name for x in made]
"""
    )


def test_dtypes_of_results():
    for pair in (("bfloat16", "float16"), ("bfloat16", "float32"), ("bfloat16", int)):
        assert keras.backend.result_type(*pair) == peer().backend.result_type(*pair)
