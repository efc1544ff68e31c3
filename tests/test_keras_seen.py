"""What a notebook shows of models and weights; trying a layer out leaves no trace."""

import numpy as np
import pytest
from keras_peer import keras_peer, to_numpy

from minitorch_ciml import keras

X, Y = np.ones((8, 3), "float32"), np.ones((8, 1), "float32")
BOTH = pytest.mark.parametrize("k", [keras, keras_peer], ids=["minitorch_ciml", "keras"])


def compiled(k, **options):
    k.utils.clear_session()
    zeros = {"kernel_initializer": "zeros"}
    model = k.Sequential([k.Input((3,)), k.layers.Dense(1, name="d", **zeros)], name="net")
    model.compile(k.optimizers.SGD(0.5, momentum=0.5), "mse", metrics=["mae"], **options)
    model.fit(X, Y, batch_size=4, verbose=0)
    return model


def shown(k):
    model = compiled(k)
    variables = model.optimizer.variables
    return [
        repr(model.weights), str(model.get_layer("d").kernel), [v.path for v in variables],
        [v.name for v in variables], repr(model.optimizer.learning_rate),
        repr(model.optimizer.iterations), repr(model.metrics), list(model.get_metrics_result()),
        repr(k.dtype_policies.get("mixed_float16")), k.metrics.Mean(name="m").variables[0].path,
        model.jit_compile, model.run_eagerly,
    ]  # fmt: skip


def test_objects_are_shown_as_in_keras():
    assert shown(keras) == shown(keras_peer)


@BOTH
def test_how_steps_are_made_can_be_changed_after_compile(k):
    model = compiled(k)
    model.run_eagerly = True
    assert model.run_eagerly and not model.jit_compile
    model.fit(X, Y, verbose=0)
    assert model.optimizer.iterations == 3


def test_steps_are_made_after_compile_only():
    with pytest.raises(ValueError, match=r"run_eagerly: call compile\(optimizer=..., loss=...\)"):
        keras.Sequential().run_eagerly = True


@BOTH
def test_callbacks_get_the_outputs_of_predict_as_they_are_returned(k):
    seen = []
    record = k.callbacks.LambdaCallback()
    record.on_predict_batch_end = lambda batch, logs: seen.append(logs["outputs"])
    model = compiled(k)
    model.predict(X, batch_size=6, verbose=0, callbacks=[record])
    a = k.Input((3,))
    k.Model(a, [a * 2, a + 1]).predict(X, verbose=0, callbacks=[record])
    one, rest, several = seen
    assert one.shape == (6, 1) and rest.shape == (2, 1)
    assert [y.shape for y in several] == [(8, 3), (8, 3)]
    record.on_predict_batch_end = lambda batch, logs: seen.append(sorted(logs))
    k.Model(a, {"twice": a * 2, "more": a + 1}).predict(X, verbose=0, callbacks=[record])
    assert seen[-1] == ["more", "twice"]


# --- layers that count --------------------------------------------------------------------------


def counting(k):
    class Counts(k.layers.Layer):
        def __init__(self):
            super().__init__()
            self.calls = self.add_weight((), "zeros", trainable=False)
            self.mean = k.metrics.Mean()

        def build(self, shape):
            self.sum = self.add_weight(shape[1:], "ones", trainable=False)

        def call(self, x):
            self.calls.assign_add(1.0)
            self.sum.assign(self.sum + k.ops.sum(x, axis=0) + 1)
            self.mean.update_state(1.0)
            return x

        @property
        def state(self):
            return [float(to_numpy(v) if k is keras_peer else v.numpy())
                    for v in (self.calls, self.sum[0], self.mean.count)]  # fmt: skip

    return Counts()


@BOTH
def test_building_a_model_changes_no_weights(k):
    layer, inputs = counting(k), k.Input((3,))
    model = k.Model(inputs, k.layers.Dense(1)(layer(inputs)))
    assert layer.state == [0, 1, 0]
    model.predict(X, batch_size=4, verbose=0)
    assert layer.state[:2] == [2, 1 + 2 * (4 + 1)]


def test_a_model_of_ones_own_is_built_without_a_trace(capsys):
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.counts, self.out = counting(keras), keras.layers.Dense(2)

        def call(self, x):
            return self.out(self.counts(x))

    model = Own()
    model.build((None, 3))
    assert model.counts.state == [0, 1, 0]
    model.summary()
    assert "(None, 2)" in capsys.readouterr().out


@BOTH
def test_a_build_of_ones_own_may_end_in_that_of_model(k):
    class Latent(k.Model):
        def __init__(self):
            super().__init__()
            self.dense = k.layers.Dense(4)

        def build(self, shape):
            self.latent = self.add_weight((4,), "zeros", name="latent")
            super().build(shape)

        def call(self, x):
            return self.dense(x) + self.latent

    model = Latent()
    assert tuple(model(X).shape) == (8, 4) and len(model.weights) == 3
    assert model.weights[0].path == f"{model.name}/latent"


def test_a_build_that_fails_can_be_tried_again():
    class Picky(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(4)

        def call(self, x):
            return self.dense(keras.ops.reshape(x, (-1, 3)))

    model = Picky()
    with pytest.raises(ValueError, match="cannot reshape"):
        model.build((None, 4))
    assert not model.built
    model.build((None, 3))
    assert model.built and len(model.weights) == 2
