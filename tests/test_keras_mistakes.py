"""Mistakes that newcomers make: each gets one line that says what was given and what to do."""

import warnings

import numpy as np
import pytest

from minitorch_ciml import Tensor, grad, keras, set_floatx

layers = keras.layers
RNG = np.random.default_rng(0)
X, Y = RNG.random((8, 6, 6), "float32"), RNG.integers(0, 10, 8)


def model(units=10, loss="sparse_categorical_crossentropy", **options):
    network = keras.Sequential(
        [keras.Input((6, 6)), layers.Flatten(), layers.Dense(units, activation="softmax")]
    )
    network.compile(options.pop("optimizer", "sgd"), loss, **options)
    return network


def fit(x, y, units=10, loss="sparse_categorical_crossentropy", **options):
    model(units, loss).fit(x, y, verbose=0, **options)


def uncompiled():
    return keras.Sequential([layers.Flatten(), layers.Dense(2)])


def two_outputs():
    inputs = keras.Input((6, 6))
    network = keras.Model(inputs, [layers.Dense(6)(inputs), layers.Dense(6)(inputs)])
    network.compile("sgd", "mse")
    return network


class ReturnsNothing(keras.Model):
    def call(self, x):
        x * 2


def returns_nothing():
    network = ReturnsNothing()
    network.compile("sgd", "mse")
    network.fit(X, X, verbose=0)


class OwnStep(keras.Model):
    def train_step(self, data):
        return self.results


def own_step(results):
    inputs = keras.Input((6, 6))
    network = OwnStep(inputs, layers.Flatten()(inputs))
    network.results = results
    network.compile("sgd", "mse")
    network.fit(X, verbose=0)


def lambda_in_a_file():
    network = keras.Sequential([keras.Input((3,)), layers.Lambda(lambda x: 2 * x)])
    keras.models.model_from_json(network.to_json())


def assigns_to_a_tensor():
    x = Tensor(np.ones(3))
    x[0] = 2.0


MISTAKES = {
    # names
    "optimizer": (lambda: model(optimizer="adma"), "unknown optimizer 'adma'; did you mean"),
    "loss": (lambda: fit(X, Y, loss="mean_square_error"), "unknown loss .* did you mean"),
    "activation": (lambda: layers.Dense(3, "rleu"), "did you mean 'relu'"),
    "initializer": (lambda: layers.Dense(3, kernel_initializer="glorot"), "'glorot_uniform'"),
    "padding": (lambda: layers.Conv2D(3, 3, padding="smae"), "must be 'valid' or 'same', got"),
    "argument": (lambda: layers.Dense(3, activtion="relu"), "unknown argument 'activtion'; known"),
    "layer's name": (lambda: model().get_layer("dnese"), "has no layer 'dnese'; it has: flatten"),
    "float type": (lambda: set_floatx("float31"), "got 'float31', expected one of float16"),
    "layer's class": (lambda: layers.deserialize("Dens"), "unknown layer 'Dens'; did you mean 'D"),
    "class in a configuration": (
        lambda: layers.deserialize({"class_name": "Dens", "config": {}}),
        r"cannot make 'Dens'.* Did you mean 'Dense'\?",
    ),
    "no class": (lambda: layers.deserialize({"units": 3}), "configuration with a 'class_name'"),
    "no layer": (
        lambda: layers.deserialize({"class_name": "Adam", "config": {}}),
        "describes no layer",
    ),
    "compile's argument": (lambda: model(metric=["acc"]), "'metric'; did you mean 'metrics'"),
    "model's argument": (
        lambda: keras.Model(input=keras.Input((3,))),
        "known: inputs, outputs, name, trainable, dtype.$",
    ),
    "JSON": (lambda: keras.models.model_from_json("{}"), r"expected what to_json\(\) gave, got"),
    "stack": (lambda: keras.Sequential.from_config({"a": 1}), "get_config.. gave, with 'layers'"),
    # layers
    "a path": (lambda: layers.Dense(3, name="a/b"), "name='a/b': a name has no '/', which stands"),
    "no units": (lambda: layers.Dense(), r"expected Dense\(units=...\)"),
    "half a unit": (lambda: layers.Dense(3.5), "units must be a positive integer, got 3.5"),
    "rate": (lambda: layers.Dropout(5), "rate must be between 0 and 1, got 5"),
    "class": (lambda: keras.Sequential([layers.Flatten]), "got the class Flatten; pass an inst"),
    "callback's class": (
        lambda: fit(X, Y, callbacks=[keras.callbacks.EarlyStopping]),
        r"write EarlyStopping\(\) with parentheses",
    ),
    "not called": (lambda: keras.Model(keras.Input((3,)), layers.Dense(3)), "got Dense"),
    "window": (
        lambda: layers.Conv2D(3, 7)(keras.Input((4, 4, 1))),
        "size 7 is larger than the input's 4; use a smaller kernel_size",
    ),
    "rank": (lambda: layers.LSTM(3)(keras.Input((4,))), "expects an input with 3 dimensions"),
    "merge": (lambda: layers.Add()([keras.Input((3,)), keras.Input((4,))]), "3 is not 4"),
    "reshape": (lambda: layers.Reshape((3, 4))(keras.Input((10,))), "cannot be reshaped"),
    "word number": (lambda: layers.Embedding(5, 3)(np.array([[7]])), "between 0 and .*= 4, got 7"),
    "no return": (returns_nothing, "returned None, not a tensor: end it with return"),
    "two unknown sizes": (lambda: layers.Reshape((-1, -1)), "one size at most may be -1"),
    "negative size": (lambda: keras.Input((-3,)), r"got shape \(-3,\), expected whole numbers"),
    "axis": (
        lambda: layers.BatchNormalization(axis=5)(keras.Input((3,))),
        "got axis 5 for 2 dimensions",
    ),
    "kernel size": (lambda: layers.Conv2D(3, "3"), "kernel_size is '3', expected an integer"),
    "optimizer's argument": (
        lambda: keras.optimizers.Adam(learning_rat=1.0),
        "unknown argument 'learning_rat'; known: learning_rate, beta_1",
    ),
    "loss in NumPy": (
        lambda: fit(X, Y, loss=lambda y, p: np.mean(np.asarray(p))),
        "does not depend on the model's weights.*keras.ops",
    ),
    "one layer": (lambda: keras.Sequential(layers.Dense(3)), r"write Sequential\(\[...\]\)"),
    "no number": (lambda: layers.Dropout("half"), "rate must be between 0 and 1, got 'half'"),
    "no input": (lambda: layers.Dense(3)(), r"was called without an input; write layer\(x\)"),
    "a number": (lambda: layers.Flatten()(3), "takes arrays or the results of layers, got int"),
    "no list": (lambda: layers.Concatenate()(X), "a list of 1 or more inputs, got one that is in"),
    "vectors": (lambda: layers.MultiHeadAttention(2, 3)(X[0], X[0]), r"sequences \(N, T, D\), got"),
    "axes": (lambda: layers.LayerNormalization(axis=7)(X), "got axis 7 for 3 dimensions"),
    "weight's name": (lambda: layers.Layer().add_weight("w", (3,)), "comes first; write name="),
    "weight's size": (lambda: layers.Layer().add_weight((None, 3)), "sizes must be known; make"),
    "shape without batch": (lambda: ReturnsNothing().build(6), r"with the batch: \(None, 6\)"),
    "step": (lambda: own_step(3), "train_step returned 3, expected a dictionary of results"),
    "schedule": (
        lambda: keras.callbacks.LearningRateScheduler(0.1),
        "got 0.1, expected a function of the epoch",
    ),
    "picture": (lambda: keras.utils.plot_model(3, None), "plot_model: expected a model, got 3"),
    "a layer's clone": (lambda: keras.models.clone_model(layers.Dense(3)), "expected a model"),
    # data
    "one array": (lambda: two_outputs().fit(X, X), "2 outputs have a loss, got one array"),
    "a file's name": (lambda: fit("data.csv", None), "'data.csv'; read the file into an array fir"),
    "no data": (lambda: fit(None, Y), r"there are no data: pass x \(and y\)"),
    "rows": (lambda: fit(list(X), Y), r"a list of 8 arrays, .* as many samples pass np.array\(x\)"),
    "numbers": (lambda: keras.utils.pad_sequences([1, 2]), "expected a list of sequences"),
    "not compiled": (lambda: uncompiled().fit(X, Y), r"call compile\(optimizer=..., loss=...\)"),
    "lengths": (lambda: fit(X, Y[:5]), r"the same number of samples, got \[8, 5\]"),
    "no targets": (lambda: fit(X, None), r"the loss needs targets"),
    "shape": (lambda: fit(X[:, :4], Y), "size 36 on axis -1, got 24"),
    "one sample": (lambda: model().predict(X[0]), r"pass one sample as a batch: x\[None\]"),
    "ragged": (lambda: fit([[1, 2], [3]], Y[:2]), "differ in length.*pad_sequences"),
    "texts": (lambda: fit(np.array([1, None] * 4, object), Y), "expected numbers"),
    "batch size": (lambda: fit(X, Y, batch_size=0), "must be a positive integer, got 0"),
    "epochs": (lambda: fit(X, Y, epochs="3"), "epochs must be a whole number, got '3'"),
    "split": (lambda: fit(X, Y, validation_split=1.5), "give a fraction between 0 and 1"),
    "weights": (lambda: model().set_weights([X]), "has 2 weights, got 1 arrays"),
    # labels
    "label": (lambda: fit(X, Y + 3, 5), "is not one of the 5 classes, 0 to 4"),
    "one-hot": (lambda: fit(X, np.eye(10)[Y]), "for one-hot targets take categorical_crossent"),
    "integers": (lambda: fit(X, Y, loss="categorical_crossentropy"), "with to_categorical"),
    "two classes": (
        lambda: fit(X, np.eye(2)[Y % 2] * 2 - 1, 2, "binary_crossentropy"),
        "got targets from -1 to 1, expected 0 to 1: encode two classes as 0 and 1",
    ),
    "outputs": (lambda: fit(X, Y, loss=["mse", "mae"]), "the model has 1 output, got 2 entries"),
    "classes": (lambda: keras.utils.to_categorical([12], 10), "got labels from 12 to 12, exp"),
    # tensors of a model that is being built
    "NumPy": (lambda: np.exp(keras.Input((3,))), "np.exp computes with values.*take keras.ops.exp"),
    "NumPy's mean": (lambda: np.mean(keras.Input((3,))), "does not have yet: take keras.ops.mean"),
    "NumPy's own": (lambda: np.apply_along_axis(np.sum, 0, keras.Input((3,))), "or a layer of yo"),
    "an array": (lambda: np.asarray(keras.Input((3,))), "no values yet.* compute with keras.ops"),
    "a float": (lambda: float(keras.Input(())), "has no values yet, so it is no float"),
    "to NumPy": (lambda: keras.ops.convert_to_numpy(keras.Input((3,))), "cannot become a NumPy ar"),
    "sparse": (lambda: keras.KerasTensor((3,), sparse=True), "no sparse or ragged tensors here"),
    # files
    "file": (lambda: keras.models.load_model("nope.keras"), "there is no file 'nope.keras'"),
    "ending": (lambda: model().save("nope"), "must end in .keras"),
    "lambda": (lambda_in_a_file, "a lambda is not in a file, which holds no code: pass custom_obj"),
    # tensors
    "assignment": (assigns_to_a_tensor, "tensors are immutable"),
    "broadcast": (lambda: Tensor(np.ones(3)) + Tensor(np.ones(4)), r"got shapes \(3,\), \(4,\)"),
    "dtypes": (lambda: keras.ops.gcd([1.5], [2.0]), "gcd is not defined for float32, float32; cas"),
    "number": (lambda: grad(3.0, Tensor([1.0], requires_grad=True)), "must be a variable or"),
    "nothing to do": (lambda: Tensor([1.0]).sum().backward(), "set requires_grad=True on its in"),
    "many values": (
        lambda: (Tensor([1.0, 2.0], requires_grad=True) * 2).backward(),
        "is not a scalar; reduce it",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_gets_one_clear_line(name):
    make, message = MISTAKES[name]
    with pytest.raises(
        (ValueError, TypeError, RuntimeError, FileNotFoundError), match=message
    ) as raised:
        make()
    assert "\n" not in str(raised.value)


def test_a_softmax_of_one_unit_is_told():
    with pytest.warns(UserWarning, match="softmax of one unit is always 1; for two classes take"):
        model(1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model(2)


def test_targets_of_images_may_be_anything_in_between():
    x = RNG.random((4, 6, 6), "float32")
    keras.losses.BinaryCrossentropy()(x, x)
    keras.losses.BinaryCrossentropy(from_logits=True)(2 * x, x)  # as of smoothed labels, in Keras
    assert layers.deserialize("Flatten").name.startswith("flatten")


@pytest.mark.parametrize("name", ["parameters", "state_dict", "train", "to", "forward"])
def test_what_layers_have_on_pytorch_only_is_told(name):
    with pytest.raises(AttributeError, match=f"{name!r}, which is of PyTorch's modules; .*[.]$"):
        getattr(model(), name)
