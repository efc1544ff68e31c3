"""The loss' scale on the (simulated) GPU: the same steps are left out as where the host decides."""

import copy

import numpy as np
import pytest

pytest.importorskip("numba_cuda")

from minitorch_ciml import config, keras
from minitorch_ciml.autograd import Parameter, Tensor
from minitorch_ciml.kernels.cuda import runtime
from minitorch_ciml.kernels.cuda.graph import Graph

L = keras.layers
OVERFLOWS = np.float32(
    [[1, 2, 3], [np.inf, 1, 1], [1, -2, 3], [np.nan, 1, 1], [1, 1, 1], [2, 1, 2]]
)


def scaled_steps(make, device, graph=False):
    """The parameter and the optimizer's variables after each of six steps, two of them left out."""
    states = []
    with config.device(device):
        p = Parameter(np.ones(3, "float32"), name="p0")
        optimizer = keras.optimizers.LossScaleOptimizer(
            make(keras.optimizers), initial_scale=8.0, dynamic_growth_steps=2
        )
        optimizer.build([p])
        g = Tensor(np.zeros(3, "float32"))
        recorded = None
        for step, values in enumerate(OVERFLOWS):
            # The gradients of a scaled loss, where the recorded step finds them.
            g.value[...] = values * float(optimizer.dynamic_scale)
            if graph and step == 1:
                recorded = Graph(lambda: optimizer.apply([g], [p]))
            if recorded is None:
                optimizer.apply([g], [p])
            else:
                recorded.replay()
            states.append([p.numpy().copy(), *(v.numpy().copy() for v in optimizer.variables)])
    return optimizer, states


SCALED = {
    "sgd": lambda o: o.SGD(0.1, momentum=0.9, weight_decay=0.01),
    "adam": lambda o: o.Adam(0.1, clipnorm=1.0),
    "amsgrad": lambda o: o.AdamW(0.1, amsgrad=True),
    "adamax": lambda o: o.Adamax(0.1),
    "rmsprop": lambda o: o.RMSprop(0.1, centered=True, momentum=0.5),
    "adagrad": lambda o: o.Adagrad(0.1),
    "adadelta": lambda o: o.Adadelta(0.1),
    "lion": lambda o: o.Lion(0.1),
    "ftrl": lambda o: o.Ftrl(0.1),
}


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize("name", SCALED)
def test_the_gpu_leaves_out_what_the_host_would(name, graph):
    _, expected = scaled_steps(SCALED[name], "cpu")
    optimizer, found = scaled_steps(SCALED[name], "cuda", graph)
    assert optimizer.can_be_recorded
    assert optimizer.dynamic_scale.device == optimizer.iterations.device == "cuda"
    assert int(optimizer.iterations) == 4 and float(optimizer.dynamic_scale) == 4.0
    for ours, theirs in zip(found, expected):
        for a, b in zip(ours, theirs):
            np.testing.assert_allclose(a, b, 2e-6, 1e-7)


@pytest.mark.parametrize(
    "make",
    [
        lambda o: o.Nadam(0.1),
        lambda o: o.SGD(o.schedules.ExponentialDecay(0.1, 2, 0.5)),
        lambda o: o.Adam(0.1, use_ema=True),
        lambda o: o.SGD(0.1, gradient_accumulation_steps=2),
        lambda o: o.Lamb(0.1),
    ],
)
def test_where_the_host_must_know_the_number_of_updates_it_waits(make):
    _, expected = scaled_steps(make, "cpu")
    optimizer, found = scaled_steps(make, "cuda")
    assert not optimizer.can_be_recorded and optimizer.dynamic_scale.device == "cpu"
    for ours, theirs in zip(found, expected):
        for a, b in zip(ours, theirs):
            np.testing.assert_allclose(a, b, 2e-5, 1e-6)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_scale_does_not_become_infinite(device):
    with config.device(device):
        p = Parameter(np.ones(3, "float32"))
        optimizer = keras.optimizers.LossScaleOptimizer(
            keras.optimizers.SGD(0.1), initial_scale=2.0**127, dynamic_growth_steps=1
        )
        optimizer.apply([Tensor(np.ones(3, "float32"))], [p])
        assert float(optimizer.dynamic_scale) == np.finfo("f4").max


def test_a_loss_scale_is_saved_loaded_and_copied():
    optimizer, states = scaled_steps(SCALED["adam"], "cuda")
    with config.device("cuda"):
        p = Parameter(np.ones(3, "float32"), name="p0")
        again = keras.optimizers.LossScaleOptimizer(
            keras.optimizers.Adam(0.1, clipnorm=1.0), dynamic_growth_steps=2
        )
        again.build([p])
        store: dict = {}
        optimizer.save_own_variables(store)
        again.load_own_variables(store)
        for a, b in zip(again.variables, states[-1][1:]):
            np.testing.assert_array_equal(a.numpy(), b)
        twin = copy.deepcopy(again)
        assert int(twin.iterations) == 4
        again.apply([Tensor(np.ones(3, "float32"))], [p])
        assert int(again.iterations) == 5 and int(twin.iterations) == 4


def test_fit_records_steps_in_float16_and_fetches_nothing(monkeypatch):
    pytest.importorskip("ml_dtypes")
    x = np.random.default_rng(0).normal(size=(24, 4)).astype("float32")
    x[7] = 3e4  # overflows as long as the scale is what it is at the beginning
    y = (x[:, 0] > 0).astype("float32")
    fetched = []
    copy_to_host = type(runtime.runtime()).copy_to_host

    def spy(self, target, source):
        fetched.append(source.shape)
        copy_to_host(self, target, source)

    results = []
    for device, jit in (("cuda", "auto"), ("cuda", False), ("cpu", "auto")):
        keras.utils.set_random_seed(0)
        keras.config.set_dtype_policy("mixed_float16")
        try:
            with config.device(device):
                layers = [L.Dense(3, activation="tanh"), L.Dense(1, dtype="float32")]
                model = keras.Sequential([keras.Input((4,)), *layers])
                model.compile(keras.optimizers.Adam(0.01), "mse", jit_compile=jit)
                with monkeypatch.context() as patch:
                    patch.setattr(type(runtime.runtime()), "copy_to_host", spy)
                    fetched.clear()
                    model.fit(x, y, batch_size=6, epochs=3, shuffle=False, verbose=0)
                assert len(fetched) == (3 if device == "cuda" else 0)  # the loss, once an epoch
        finally:
            keras.config.set_dtype_policy("float32")
        results.append(model)
    recorded, eager, on_cpu = results
    assert recorded.why_not_recorded is None and recorded._stepper.replayed == 10
    assert eager.why_not_recorded == "jit_compile=False"
    steps = [int(m.optimizer.iterations) for m in results]
    scales = [float(m.optimizer.dynamic_scale) for m in results]
    assert steps[0] == steps[1] == steps[2] < 12 and scales[0] == scales[1] == scales[2] < 2**15
    for a, b, c in zip(*(m.get_weights() for m in results)):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_allclose(a, c, atol=4e-3)
