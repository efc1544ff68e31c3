"""Layers and models of your own, in the styles that Keras documents: the same script in both."""

import numpy as np
import pytest
from keras_peer import keras_peer, torch
from side_by_side import alike

from minitorch_ciml import Tensor, config, keras

X = np.random.default_rng(0).normal(size=(16, 4)).astype("float32")
Y = X[:, :1] * 2


def linear(k):
    class Linear(k.layers.Layer):
        def __init__(self, units=3, **kwargs):
            super().__init__(**kwargs)
            self.units = units

        def build(self, input_shape):
            self.w = self.add_weight(
                shape=(input_shape[-1], self.units), initializer="glorot_uniform", trainable=True
            )
            self.b = self.add_weight(shape=(self.units,), initializer="zeros", name="b")

        def call(self, inputs):
            return k.ops.matmul(inputs, self.w) + self.b

    return k.Sequential([k.Input((4,)), Linear(5), k.layers.ReLU(), Linear(1)])


def weights_of_every_kind(k):
    class Kinds(k.layers.Layer):
        def build(self, shape):
            self.a = self.add_weight((shape[-1],))
            self.b = self.add_weight(name="b", shape=[2], initializer=k.initializers.Constant(2.0))
            self.c = self.add_weight(shape=(), initializer="ones", trainable=False, dtype="float32")
            self.d = self.add_weight(shape=(3,), regularizer="l2", constraint="non_neg")
            self.e = self.add_weight(initializer="zeros")

        def call(self, x):
            return x * self.c + self.e + self.a

    return k.Sequential([k.Input((4,)), Kinds(), k.layers.Dense(1)])


def state_that_call_changes(k):
    class Sum(k.layers.Layer):
        def __init__(self, size):
            super().__init__()
            self.total = self.add_weight(initializer="zeros", shape=(size,), trainable=False)

        def call(self, inputs):
            self.total.assign_add(k.ops.sum(inputs, axis=0))
            return self.total + inputs * 0

    return k.Sequential([k.Input((4,)), Sum(4), k.layers.Dense(1)])


def lists_and_dictionaries_of_layers(k):
    class Block(k.layers.Layer):
        def __init__(self):
            super().__init__()
            self.stack = [k.layers.Dense(4) for _ in range(2)]
            self.heads = {"x": k.layers.Dense(3), "y": k.layers.Dense(3)}

        def call(self, x):
            for layer in self.stack:
                x = layer(x)
            return self.heads["x"](x) + self.heads["y"](x)

    return k.Sequential([k.Input((4,)), Block(), k.layers.Dense(1)])


def added_losses(k):
    class Penalty(k.layers.Layer):
        def call(self, inputs):
            self.add_loss(0.1 * k.ops.mean(k.ops.square(inputs)))
            return inputs

    return k.Sequential([k.Input((4,)), k.layers.Dense(3), Penalty(), k.layers.Dense(1)])


def net(k):
    class Net(k.Model):
        def __init__(self):
            super().__init__()
            self.first, self.drop = k.layers.Dense(6, activation="relu"), k.layers.Dropout(0.0)
            self.norm, self.last = k.layers.BatchNormalization(), k.layers.Dense(1)

        def call(self, inputs, training=False, mask=None):
            x = self.first(inputs)
            if training:
                x = self.drop(x, training=training)
            return self.last(self.norm(x, training=training))

    return Net()


def a_net_within_a_model(k):
    inputs = k.Input((4,))
    return k.Model(inputs, k.layers.Dense(1)(net(k)(inputs)))


def a_loss_of_its_own(k):
    class Own(k.Model):
        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            return k.ops.mean(k.ops.abs(y - y_pred)) + sum(self.losses)

    inputs = k.Input((4,))
    return Own(inputs, k.layers.Dense(1, kernel_regularizer="l2")(inputs))


def metrics_of_a_layer(k):
    class Watch(k.layers.Layer):
        def __init__(self):
            super().__init__()
            self.seen = k.metrics.Mean(name="seen")

        def call(self, x):
            self.seen.update_state(k.ops.mean(x))
            return x

    return k.Sequential([k.Input((4,)), k.layers.Dense(2), Watch(), k.layers.Dense(1)])


def shared_layers(k):
    inputs, layer = k.Input((4,)), k.layers.Dense(4, activation="tanh")
    x = layer(layer(inputs))
    return k.Model(inputs, k.layers.Dense(1)(k.layers.Concatenate()([x, layer(x)])))


def several_inputs_and_outputs(k):
    class Pair(k.layers.Layer):
        def __init__(self):
            super().__init__()
            self.a, self.b = k.layers.Dense(2), k.layers.Dense(2)

        def call(self, inputs):
            x, y = inputs
            return self.a(x) + self.b(y), self.a(y)

    inputs = k.Input((4,))
    p, q = Pair()([inputs, k.layers.Dense(4)(inputs)])
    return k.Model(inputs, k.layers.Dense(1)(p * q))


def shapes_by_name(k):
    class Bilinear(k.layers.Layer):
        def build(self, query_shape, value_shape):
            self.w = self.add_weight(shape=(query_shape[-1], value_shape[-1]), name="w")

        def call(self, query, value):
            return k.ops.matmul(query, self.w) * value

    inputs = k.Input((4,))
    x = Bilinear()(inputs, value=k.layers.Dense(3)(inputs))
    return k.Model(inputs, k.layers.Dense(1)(x))


def a_list_of_shapes(k):
    class Bilinear(k.layers.Layer):
        def build(self, input_shape):
            self.w = self.add_weight(shape=(input_shape[0][-1], input_shape[1][-1]))

        def call(self, inputs):
            return k.ops.matmul(inputs[0], self.w) * inputs[1]

    inputs = k.Input((4,))
    return k.Model(inputs, k.layers.Dense(1)(Bilinear()([inputs, k.layers.Dense(3)(inputs)])))


def built_by_hand(k):
    class Net(k.Model):
        def __init__(self):
            super().__init__()
            self.stack = k.Sequential([k.layers.Dense(4), k.layers.ReLU()])
            self.last = k.layers.Dense(1)

        def build(self, input_shape):
            self.stack.build(input_shape)
            self.last.build(self.stack.compute_output_shape(input_shape))
            self.built = True

        def call(self, x):
            return self.last(self.stack(x))

    return Net()


def variational(k):
    class Encoder(k.layers.Layer):
        def __init__(self, name="encoder", **kwargs):
            super().__init__(name=name, **kwargs)
            self.body = k.layers.Dense(8, activation="relu")
            self.mean, self.log_variance = k.layers.Dense(2), k.layers.Dense(2)

        def call(self, x):
            x = self.body(x)
            mean, log_variance = self.mean(x), self.log_variance(x)
            return mean, log_variance, mean + k.ops.exp(0.5 * log_variance) * 0.1

    class Autoencoder(k.Model):
        def __init__(self):
            super().__init__()
            self.encoder = Encoder()
            self.decoder = k.Sequential([k.layers.Dense(8, activation="relu"), k.layers.Dense(1)])

        def call(self, x):
            mean, log_variance, z = self.encoder(x)
            terms = log_variance - k.ops.square(mean) - k.ops.exp(log_variance) + 1
            self.add_loss(-0.05 * k.ops.mean(terms))
            return self.decoder(z)

    return Autoencoder()


def partly_frozen(k):
    layers = [k.layers.Dense(5), k.layers.BatchNormalization(), k.layers.Dense(5)]
    base = k.Sequential([k.Input((4,)), *layers])
    base.trainable = False
    base.layers[-1].trainable = True
    inputs = k.Input((4,))
    return k.Model(inputs, k.layers.Dense(1)(base(inputs, training=False)))


def cells(k):
    class Cell(k.layers.Layer):
        def __init__(self, units, **kwargs):
            super().__init__(**kwargs)
            self.units = self.state_size = units

        def build(self, shape):
            self.kernel = self.add_weight(shape=(shape[-1], self.units), initializer="uniform")
            self.recurrent = self.add_weight(shape=(self.units, self.units), initializer="uniform")

        def call(self, inputs, states):
            h = k.ops.matmul(inputs, self.kernel) + k.ops.matmul(states[0], self.recurrent)
            return h, [h]

    inputs = k.Input((4,))
    x = k.layers.RNN([Cell(3), Cell(2)])(k.layers.Reshape((2, 2))(inputs))
    return k.Model(inputs, k.layers.Dense(1)(x))


def a_new_head(k):
    model = k.Sequential([k.Input((4,)), k.layers.Dense(3), k.layers.Dense(9)])
    model.pop()
    model.add(k.layers.Dense(1))
    return model


def features_of_another(k):
    model = k.Sequential([k.Input((4,)), k.layers.Dense(3, name="f"), k.layers.Dense(5)])
    features = k.Model(inputs=model.inputs, outputs=model.get_layer("f").output)
    inputs = k.Input((4,))
    return k.Model(inputs, k.layers.Dense(1)(features(inputs)))


STYLES = [
    linear, weights_of_every_kind, state_that_call_changes, lists_and_dictionaries_of_layers,
    added_losses, net, a_net_within_a_model, a_loss_of_its_own, metrics_of_a_layer, shared_layers,
    several_inputs_and_outputs, shapes_by_name, a_list_of_shapes, built_by_hand, variational,
    partly_frozen, cells, a_new_head, features_of_another,
]  # fmt: skip


def everything(k, model):
    model.compile(k.optimizers.SGD(0.05), "mse", metrics=["mae"])
    history = model.fit(X, Y, epochs=3, batch_size=8, shuffle=False, verbose=0,
                        validation_data=(X, Y)).history  # fmt: skip
    return (
        list(history), list(history.values()), model.evaluate(X, Y, verbose=0),
        model.predict(X, verbose=0), [type(x).__name__ for x in model.layers],
        [w.shape for w in model.trainable_weights], model.count_params(),
    )  # fmt: skip


@pytest.mark.filterwarnings("ignore:no gradient:UserWarning", "ignore:Gradients do not exist")
@pytest.mark.parametrize("make", STYLES, ids=lambda make: make.__name__)
def test_a_style_trains_as_in_keras(make):
    ours, theirs = make(keras), make(keras_peer)
    for model in (ours, theirs):
        model(X)
    ours.set_weights(theirs.get_weights())
    for mine, other in zip(everything(keras, ours), everything(keras_peer, theirs)):
        if isinstance(other, np.ndarray) or not isinstance(other, list):
            np.testing.assert_allclose(mine, other, rtol=5e-4, atol=1e-5)
        elif other and isinstance(other[0], (list, float)):
            np.testing.assert_allclose(mine, other, rtol=5e-4, atol=1e-5)
        else:
            assert [tuple(x) if isinstance(x, tuple) else x for x in mine] == [
                tuple(x) if isinstance(x, tuple) else x for x in other
            ]


def test_shapes_by_name_go_through_a_file(tmp_path):
    @keras.saving.register_keras_serializable("styles")
    class Bilinear(keras.layers.Layer):
        def build(self, query_shape, value_shape):
            self.w = self.add_weight(shape=(query_shape[-1], value_shape[-1]), name="w")

        def call(self, query, value):
            return keras.ops.matmul(query, self.w) * value

    inputs = keras.Input((4,))
    model = keras.Model(inputs, Bilinear()(inputs, keras.layers.Dense(3)(inputs)))
    model.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(again.predict(X, verbose=0), model.predict(X, verbose=0))


@pytest.mark.parametrize("on_other_inputs", [False, True])
def test_a_clone_with_other_layers(on_other_inputs):
    clones = []
    for k in (keras, keras_peer):

        def other(layer, k=k):
            config = layer.get_config()
            if isinstance(layer, k.layers.Dense):
                config["activation"] = "tanh"
            return type(layer).from_config(config)

        inputs, shared = k.Input((4,), name="i"), k.layers.Dense(3, name="a")
        x = k.layers.Add(name="sum")([shared(inputs), shared(inputs) * 2.0])
        stack = k.Sequential([k.Input((4,)), k.layers.Dense(3, name="c")], name="stack")
        for model in (k.Model(inputs, {"y": k.layers.Dense(2, name="b")(x)}), stack):
            inputs = k.Input((4,), name="j") if on_other_inputs else None
            clones.append(k.models.clone_model(model, inputs, clone_function=other))
    for ours, theirs in zip(clones[:2], clones[2:]):
        ours.set_weights(theirs.get_weights())
        assert [x.name for x in ours.layers] == [x.name for x in theirs.layers]
        result, expected = ours.predict(X, verbose=0), theirs.predict(X, verbose=0)
        if isinstance(expected, dict):
            result, expected = result["y"], expected["y"]
        np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)


def test_operators_of_symbolic_tensors():
    results = []
    for k in (keras, keras_peer):
        x, flag = k.Input((4,), name="x"), k.Input((4,), name="flag", dtype="bool")
        chosen = ~(flag & (x > 0)) | (True ^ flag)
        model = k.Model([x, flag], [chosen, round(x, 1), round(x)])
        outputs = model([X, X > 0.5])
        results.append([k.ops.convert_to_numpy(y) for y in outputs])
    for ours, theirs in zip(*results):
        np.testing.assert_array_equal(ours, theirs)


def test_the_size_of_a_symbolic_tensor():
    for k in (keras, keras_peer):
        x = k.Input((4,))
        assert k.ops.size(x).shape == ()
        assert int(k.Model(x, k.ops.size(x))(X)) == X.size


def test_arrays_and_tensors_stand_left_of_symbolic_ones_too():
    x, flag = keras.Input((4,)), keras.Input((4,), dtype="bool")
    ones = np.ones(4, "float32")
    left = [
        ones - x,
        ones < x,
        np.eye(4, dtype="float32") @ keras.ops.transpose(x),
        np.float32(2) * x,
    ]
    left += [Tensor(ones) - x, Tensor(ones) < x, Tensor(ones) // x, Tensor(ones > 0) & flag]
    outputs = keras.Model([x, flag], left)([X, X > 0])
    expected = [1 - X, X > 1, X.T, 2 * X, 1 - X, X > 1, 1 // X, X > 0]
    for y, wanted in zip(outputs, expected):
        np.testing.assert_allclose(y.numpy(), wanted, rtol=1e-5)


def test_gradients_are_forgotten():
    trained = []
    for k in (keras, keras_peer):
        model = k.Sequential([k.Input((4,)), k.layers.Dense(1, kernel_initializer="ones")])
        optimizer = k.optimizers.SGD(0.1)
        for _ in range(3):
            model.zero_grad()
            k.losses.MeanSquaredError()(Y, model(X)).backward()
            weights = model.trainable_weights
            gradients = [w.grad if k is keras else w.value.grad for w in weights]
            with config.no_grad() if k is keras else torch.no_grad():
                optimizer.apply(gradients, weights)
        trained.append(model.get_weights())
    for ours, theirs in zip(*trained):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def own_convolution(k, **kwargs):
    class Standardised(k.layers.Conv2D):
        def convolution_op(self, inputs, kernel):
            mean = k.ops.mean(kernel, axis=(0, 1, 2), keepdims=True)
            deviation = k.ops.std(kernel, axis=(0, 1, 2), keepdims=True)
            return super().convolution_op(inputs, (kernel - mean) / (deviation + 1e-5))

    model = k.Sequential(
        [k.Input((6, 6, 3)), Standardised(4, 3, padding="same", activation="relu", **kwargs),
         k.layers.MaxPooling2D(), k.layers.GlobalAveragePooling2D(), k.layers.Dense(1)]
    )  # fmt: skip
    alike(model)
    model.compile("sgd", "mse")
    return model


def test_a_convolution_of_ones_own_is_heeded():
    x = np.random.default_rng(1).normal(size=(16, 6, 6, 3)).astype("float32")
    histories = [
        own_convolution(k).fit(x, Y, shuffle=False, epochs=2, verbose=0).history["loss"]
        for k in (keras, keras_peer)
    ]
    np.testing.assert_allclose(*histories, rtol=1e-4)
    last = own_convolution(keras).layers[0]
    first = type(last)(4, 3, padding="same", activation="relu", data_format="channels_first")
    first.build((None, 3, 6, 6))
    for layer in (last, first):
        layer.set_weights([np.random.default_rng(2).normal(size=(3, 3, 3, 4)), np.arange(4)])
    np.testing.assert_allclose(
        first(np.moveaxis(x, -1, 1)), np.moveaxis(last(x).numpy(), -1, 1), atol=1e-4
    )


def by_path(k):
    dense, norm = k.layers.Dense(2, use_bias=False, name="a"), k.layers.BatchNormalization(name="b")
    model = k.Sequential([k.Input((4,)), dense, norm, k.layers.Dense(1, name="c")], name="model")
    alike(model)
    model.compile(k.optimizers.Adam(name="adam"), "mse", metrics=["mae"])
    return model


def test_a_model_by_the_paths_of_its_variables():
    trees = []
    for k in (keras, keras_peer):
        model = by_path(k)
        model.fit(X, Y, shuffle=False, verbose=0)
        trees.append(model.get_state_tree("numpy_array"))
        assert [v.path for v in model.metrics_variables][2:] == [
            "mean_absolute_error/total", "mean_absolute_error/count",
        ]  # fmt: skip
    flat = [keras.tree.flatten_with_path(tree) for tree in trees]
    assert [path for path, _ in flat[0]] == [path for path, _ in flat[1]]
    for (_, ours), (_, theirs) in zip(*flat):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-5)
    other = by_path(keras)
    other.set_state_tree({"trainable_variables": trees[0]["trainable_variables"]})
    kernel = other.get_state_tree()["trainable_variables"]["model"]["a"]["kernel"]
    np.testing.assert_array_equal(kernel, trees[0]["trainable_variables"]["model"]["a"]["kernel"])
    with pytest.raises(ValueError, match="set_state_tree: got 'weights', expected some of"):
        other.set_state_tree({"weights": {}})
    with pytest.raises(ValueError, match="got value_format='list', expected 'backend_tensor'"):
        other.get_state_tree("list")


def test_a_loop_of_ones_own_is_refused():
    with pytest.raises(NotImplementedError, match="Own: make_train_function is never called here"):

        class Own(keras.Model):
            def make_train_function(self, force=False):
                pass


def test_functions_and_what_is_computed_anew():
    x = keras.Input((4,))
    function = keras.Function(x, keras.ops.exp(x) + 1)
    np.testing.assert_allclose(function(X), np.exp(X) + 1, rtol=1e-6)
    assert keras.remat(abs) is abs
    with keras.RematScope(mode="full"):
        assert keras.layers.Dense(3)(x).shape == (None, 3)
    with pytest.raises(ValueError, match="RematScope: got mode='some', expected one of"):
        keras.RematScope(mode="some")
    spec = keras.layers.InputSpec(shape=(None, 3), dtype="float32")
    theirs = keras_peer.layers.InputSpec(shape=(None, 3), dtype="float32")
    assert spec.get_config() == theirs.get_config()
    assert keras.layers.InputSpec.from_config(spec.get_config()).axes == {1: 3}
    for k in (keras, keras_peer):
        assert [k.layers.GRU(3).state_size, k.layers.LSTM(3).state_size] == [[3], [3, 3]]


def sizes(tensors):
    return [type(tensors).__name__, [tuple(t.shape) for t in keras.tree.flatten(tensors)]]


def test_lists_and_dictionaries_of_inputs_and_outputs():
    results = []
    for k in (keras, keras_peer):
        a, found = k.Input((4,), name="a"), []
        for x, y in ((a, a * 2), ([a], [a * 2]), ((a,), (a + 1,)), ({"a": a}, {"b": [a * 2]})):
            model = k.Model(x, y)
            data = keras.tree.map_structure(lambda _: X, x)
            predicted = model.predict(data, verbose=0)
            found += [type(model.input).__name__, type(model.output).__name__, sizes(predicted)]
            found += [model.input_shape, model.output_shape, isinstance(model(data), (list, tuple))]
        lstm, add = k.layers.LSTM(2, return_state=True), k.layers.Add()
        lstm(k.Input((3, 4))), add([a, a])
        found += [[type(x).__name__ for x in (lstm.output, add.input, add.output)]]
        results.append(found)
    assert results[0] == results[1]


def of_two(k, by_name):
    a, b = k.Input((4,), name="a"), k.Input((4,), name="b")
    y = k.layers.Dense(1)(k.layers.Concatenate()([a, b * 2]))
    model = k.Model({"a": a, "b": b} if by_name else [a, b], y)
    alike(model)
    return model


@pytest.mark.filterwarnings("ignore:The structure of `inputs`")  # Keras
@pytest.mark.parametrize("by_name", [False, True])
def test_data_may_have_more_than_the_inputs(by_name):
    data = {"c": X * 3, "b": -X, "a": X}
    ours, theirs = (of_two(k, by_name).predict(data, verbose=0) for k in (keras, keras_peer))
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="the data have only .'a', 'c'.; missing: .'b'."):
        of_two(keras, by_name).predict({"a": X, "c": X}, verbose=0)


def test_losses_of_nested_outputs():
    histories = []
    for k in (keras, keras_peer):
        x = k.Input((4,))
        dense = [k.layers.Dense(1, name=name)(x) for name in ("p", "q", "r")]
        model = k.Model(x, {"u": dense[:2], "v": dense[2]})
        alike(model)
        model.compile("sgd", {"u": ["mse", "mae"], "v": "mse"})
        history = model.fit(X, {"u": [Y, Y], "v": Y}, shuffle=False, verbose=0).history
        histories.append(history)
        assert k.metrics.Mean(name="a/b").variables[0].path == "a>b/total"
    assert histories[0].keys() == histories[1].keys() == {"loss", "u/p_loss", "u/q_loss", "v_loss"}
    for name, values in histories[0].items():
        np.testing.assert_allclose(values, histories[1][name], rtol=1e-5)


@pytest.mark.parametrize("family", ["losses", "metrics"])
def test_a_configuration_without_a_module_is_of_the_family_that_is_asked(family):
    for k in (keras, keras_peer):
        config = {"class_name": "MeanSquaredError", "config": {"name": "x"}}
        found = getattr(k, family).deserialize(config)
        assert isinstance(found, getattr(k, family).MeanSquaredError) and found.name == "x"
