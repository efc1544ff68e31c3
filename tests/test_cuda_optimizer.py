"""Optimizers on the (simulated) GPU: each rule against its reference, and Keras' facade over it."""

from itertools import product

import numpy as np
import pytest

pytest.importorskip("numba_cuda")

from minitorch_ciml import config, keras
from minitorch_ciml.autograd import Parameter, Tensor
from minitorch_ciml.kernels.cuda import optimizer as rules
from minitorch_ciml.kernels.cuda.launch import Kernel
from minitorch_ciml.kernels.cuda.memory import to_device
from minitorch_ciml.kernels.reference import optimizer as reference

RNG = np.random.default_rng(0)

# Each rule: which slots may be missing, and its constants after `keep` and `lr`.
RULES = {
    "sgd": ("?", (0.9, False)),
    "adam": ("11?", (3, 0.9, 0.999, 1e-7)),
    "adamax": ("11", (3, 0.9, 0.999, 1e-7)),
    "nadam": ("11", (3, 0.9, 0.999, 1e-7, 0.4)),
    "rmsprop": ("1??", (0.9, 0.8, 1e-7)),
    "adagrad": ("1", (1e-7,)),
    "adadelta": ("11", (0.95, 1e-7)),
    "lion": ("1", (0.9, 0.99)),
    "ftrl": ("11", (-0.5, 0.01, 0.02, 0.03, 0.1)),
}
CASES = [
    (name, "".join(variant), constants)
    for name, (slots, constants) in RULES.items()
    for variant in product(*[("0", "1") if s == "?" else s for s in slots])
] + [("sgd", "1", (0.9, True))]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name, variant, constants", CASES)
def test_rule_is_its_reference(name, variant, constants, dtype):
    n = 700
    p, g = RNG.normal(size=(2, n)).astype(dtype)
    # Ones where a square is due: the mean of squares is at least that of the mean.
    slots = [(1 + RNG.random(n)).astype(dtype) if v == "1" else None for v in variant]
    if name == "rmsprop" and variant[2] == "1":
        slots[2] *= 0.1
    arrays = [to_device(a) if a is not None else None for a in (p, g, *slots)]
    numbers = getattr(rules, name).numbers(np.dtype(dtype), 0.99, 0.05, *constants)
    getattr(rules, name)(*arrays, to_device(np.array(numbers, dtype)))
    getattr(reference, name)(p, g, *slots, 0.99, 0.05, *constants)
    # ftrl subtracts two numbers that may be almost the same; compiled code rounds less often.
    tolerance = (1e-5 if name == "ftrl" else 3e-6) if dtype == "float32" else 1e-13
    for ours, theirs in zip(arrays, (p, g, *slots)):
        if theirs is not None:
            np.testing.assert_allclose(ours.numpy(), theirs, tolerance, tolerance)


@pytest.mark.parametrize("n", [1, 255, 257, 70_000])
@pytest.mark.parametrize("limit", [0.5, 1e6])
def test_clip_norm(n, limit):
    g = RNG.normal(size=n).astype("float32")
    ours = to_device(g)
    rules.clip_norm(ours, limit)
    reference.clip_norm(g, limit)
    np.testing.assert_allclose(ours.numpy(), g, 1e-6)


def test_clip_global_norm_leaves_nan_to_be_seen():
    first, second = (RNG.normal(size=n).astype("float32") for n in (300, 5))
    ours = [to_device(first), to_device(second)]
    rules.clip_global_norm(ours, 1.0)
    reference.clip_global_norm([first, second], 1.0)
    for a, b in zip(ours, (first, second)):
        np.testing.assert_allclose(a.numpy(), b, 1e-6)
    ours[1][...] = np.array([1, np.nan, 1, 1, 1], "float32")
    rules.clip_global_norm(ours, 1.0)
    assert np.isnan(ours[0].numpy()).all()


def test_clip_value_and_moving_average():
    g = np.array([-3, 0.1, np.nan, 5], "float32")
    ours, average = to_device(g), to_device(np.ones(4, "float32"))
    rules.clip_value(ours, 0.5)
    np.testing.assert_array_equal(ours.numpy(), np.float32([-0.5, 0.1, np.nan, 0.5]))
    rules.moving_average(average, ours, 0.75)
    np.testing.assert_array_equal(average.numpy()[[0, 3]], np.float32([0.625, 0.875]))


OPTIMIZERS = {
    "sgd": lambda o: o.SGD(0.1, momentum=0.9, nesterov=True),
    "adam": lambda o: o.Adam(0.1, amsgrad=True, clipnorm=0.5),
    "adamw": lambda o: o.AdamW(0.1, use_ema=True, ema_overwrite_frequency=3),
    "nadam": lambda o: o.Nadam(o.schedules.ExponentialDecay(0.1, 2, 0.5), global_clipnorm=0.5),
    "rmsprop": lambda o: o.RMSprop(0.1, momentum=0.5, centered=True, weight_decay=0.1),
    "accumulated": lambda o: o.Adagrad(0.1, gradient_accumulation_steps=2, clipvalue=0.3),
    "ftrl": lambda o: o.Ftrl(0.1, l1_regularization_strength=0.01, loss_scale_factor=8.0),
}


def trained(optimizer, device: str) -> tuple[list, list]:
    """The parameters and the optimizer's variables after five steps."""
    rng = np.random.default_rng(1)
    with config.device(device):
        shapes = [(5, 3), (3,), (70,)]
        parameters = [
            Parameter(rng.normal(size=s).astype("float32"), name=f"p{i}")
            for i, s in enumerate(shapes)
        ]
        optimizer.build(parameters)
        optimizer.exclude_from_weight_decay(var_names=["p1"])
        for _ in range(5):
            gradients = [Tensor(rng.normal(size=s).astype("float32")) for s in shapes]
            optimizer.apply(gradients, parameters)
        assert {p.device for p in parameters} == {device}
        return [p.numpy() for p in parameters], [v.numpy() for v in optimizer.variables]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizer_is_that_of_the_cpu(name):
    make = OPTIMIZERS[name]
    on_cpu = trained(make(keras.optimizers), "cpu")
    on_gpu = trained(make(keras.optimizers), "cuda")
    for ours, theirs in zip(on_gpu[0] + on_gpu[1], on_cpu[0] + on_cpu[1]):
        np.testing.assert_allclose(ours, theirs, 2e-5, 2e-6)


def test_arrays_are_brought_together():
    sizes = [(3, 5), (700,), (), (0,), (2, 2), (1,), (300,), (9,), (4,), (70_000,)]
    arrays = [RNG.normal(size=s).astype("float32") for s in sizes]
    starts = 64 * np.arange(len(sizes)) + np.cumsum([0, *(a.size for a in arrays)])[:-1]
    target = to_device(np.zeros(80_000, "float32"))
    rules.bring_together(target, list(map(to_device, arrays)), starts.tolist())
    expected = np.zeros(80_000, "float32")
    for start, a in zip(starts, arrays):
        expected[start : start + a.size] = a.reshape(-1)
    np.testing.assert_array_equal(target.numpy(), expected)
    rules.bring_together(target, [to_device(np.zeros(0, "float32"))], [0])


def test_many_small_parameters_take_few_launches(monkeypatch):
    launched = []
    call = Kernel.__call__

    def spy(kernel, *arguments):
        launched.append(kernel.name)
        call(kernel, *arguments)

    with config.device("cuda"):
        parameters = [Parameter(np.ones(n, "float32")) for n in range(3, 13)]
        optimizer = keras.optimizers.Adam(0.1)
        optimizer.build(parameters)
        monkeypatch.setattr(Kernel, "__call__", spy)
        optimizer.apply([Tensor(np.full(n, 0.5, "float32")) for n in range(3, 13)], parameters)
    assert [name for name in launched if "optimizer" in name] == [
        "optimizer._bring_together", "optimizer._bring_together", "optimizer._adam",
    ]  # fmt: skip
    for p in parameters:
        np.testing.assert_allclose(p.numpy(), 0.9, 1e-5)


def test_step_and_learning_rate_stay_on_the_host():
    with config.device("cuda"):
        optimizer = keras.optimizers.Adam(0.25)
        optimizer.build([Parameter(np.zeros(3, "float32"))])
        optimizer.learning_rate = 0.5
    assert optimizer.iterations.device == optimizer.learning_rate.device == "cpu"
    assert float(optimizer.learning_rate) == 0.5


def test_parameters_of_two_devices_are_refused():
    with config.device("cuda"):
        there = Parameter(np.zeros(3, "float32"))
    with pytest.raises(ValueError, match="different devices: cpu, cuda"):
        keras.optimizers.SGD().build([Parameter(np.zeros(3, "float32")), there])
