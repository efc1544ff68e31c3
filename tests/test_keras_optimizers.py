"""Optimizers: against Keras; kernels against references; flat buffers, files, schedules."""

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minitorch_ciml import kernels
from minitorch_ciml.autograd import GraphError, Parameter, Tensor, grad
from minitorch_ciml.autograd.flat import FlatBuffer
from minitorch_ciml.keras import optimizers as O
from minitorch_ciml.keras.optimizers import schedules as S

RULES = [
    ("SGD", {}),
    ("SGD", {"momentum": 0.9}),
    ("SGD", {"momentum": 0.9, "nesterov": True}),
    ("Adam", {}),
    ("Adam", {"amsgrad": True, "beta_1": 0.8, "beta_2": 0.95, "epsilon": 1e-3}),
    ("AdamW", {}),
    ("RMSprop", {}),
    ("RMSprop", {"momentum": 0.5, "centered": True, "rho": 0.8}),
    ("RMSprop", {"centered": True}),
    ("Adagrad", {"initial_accumulator_value": 0.2}),
    ("Adadelta", {"rho": 0.9}),
    ("Adamax", {}),
    ("Nadam", {}),
    ("Lion", {}),
    ("Ftrl", {}),
    (
        "Ftrl",
        {
            "l1_regularization_strength": 0.01,
            "l2_regularization_strength": 0.02,
            "l2_shrinkage_regularization_strength": 0.01,
            "beta": 0.1,
            "learning_rate_power": -0.3,
        },
    ),
    ("Lamb", {}),
    ("Lamb", {"beta_1": 0.8, "beta_2": 0.9, "epsilon": 1e-3}),
    ("Adafactor", {}),
    ("Adafactor", {"clip_threshold": 0.4, "epsilon_2": 0.5, "beta_2_decay": -0.5}),
    ("Muon", {}),
    ("Muon", {"nesterov": False, "rms_rate": None, "exclude_layers": ["w2"], "adam_lr_ratio": 0.5}),
    ("Muon", {"weight_decay": 0.1, "adam_weight_decay": None, "ns_steps": 3}),
]
COMMON = [
    {"weight_decay": 0.01},
    {"clipnorm": 0.5},
    {"clipvalue": 0.3},
    {"global_clipnorm": 0.7},
    {"use_ema": True},
    {"use_ema": True, "ema_overwrite_frequency": 3, "ema_momentum": 0.7},
    {"gradient_accumulation_steps": 3},
    {
        "gradient_accumulation_steps": 2,
        "use_ema": True,
        "ema_overwrite_frequency": 2,
        "weight_decay": 0.1,
        "clipnorm": 0.5,
    },
    {"loss_scale_factor": 4.0},
]
CASES = [(name, own, {}) for name, own in RULES] + [
    (name, own, common)
    for name, own in (RULES[1], RULES[4], RULES[7], RULES[12])
    for common in COMMON
]
SHAPES = [(3, 4), (4,), (4, 2), (2,)]


@pytest.fixture(scope="module")
def peer():
    os.environ.setdefault("KERAS_BACKEND", "torch")
    return pytest.importorskip("keras")


def values(shapes=SHAPES, dtype="float32", seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=s).astype(dtype) for s in shapes]


def parameters(shapes=SHAPES, dtype="float32"):
    return [Parameter(v, name=f"w{i}") for i, v in enumerate(values(shapes, dtype))]


def train_both(peer, name, arguments, steps=10, missing=(), rate=0.05):
    """The same steps with Keras and here: (Keras' optimizer, weights, ours, weights)."""
    torch = pytest.importorskip("torch")
    theirs = getattr(peer.optimizers, name)(learning_rate=rate, **arguments)
    ours = getattr(O, name)(learning_rate=rate, **arguments)
    their_weights = [peer.Variable(v, name=f"w{i}") for i, v in enumerate(values())]
    weights = parameters()
    for step in range(steps):
        gradients = [
            None if (step, i) in missing else g for i, g in enumerate(values(seed=step + 1))
        ]
        theirs.apply([None if g is None else torch.tensor(g) for g in gradients], their_weights)
        ours.apply([None if g is None else Tensor(g) for g in gradients], weights)
    return theirs, their_weights, ours, weights


def assert_all_close(ours, theirs, tolerance=1e-6):
    for a, b in zip(ours, theirs):
        np.testing.assert_allclose(
            a.numpy(), b.numpy(), rtol=tolerance, atol=0.3 * tolerance, err_msg=a.name
        )


# --- against Keras --------------------------------------------------------------------------------


@pytest.mark.parametrize("name, own, common", CASES)
def test_ten_steps_give_what_keras_gives(peer, name, own, common):
    theirs, their_weights, ours, weights = train_both(peer, name, own | common)
    # Keras takes the powers of beta in float32.
    assert_all_close(weights, their_weights, 2e-5 if name == "Muon" else 1e-6)
    # The state too, in the order of Keras' files; powers cost a few more roundings.
    assert len(ours.variables) == len(theirs.variables)
    for a, b in zip(ours.variables, theirs.variables):
        ending = b.path.split("/")[-1]
        assert a.name == ending or ending.startswith("variable")
        assert a.dtype.name == b.dtype
    tolerance = {"Ftrl": 1e-5, "Muon": 2e-5}.get(name, 1e-6)
    assert_all_close(ours.variables, theirs.variables, tolerance)
    config, expected = ours.get_config(), theirs.get_config()
    del config["name"], expected["name"]
    assert config == expected
    ours.finalize_variable_values(weights)
    theirs.finalize_variable_values(their_weights)
    assert_all_close(weights, their_weights, tolerance)


@pytest.mark.parametrize("name", ["SGD", "Adam"])
def test_a_parameter_without_a_gradient_stays_as_it_is(peer, name):
    missing = {(1, 1), (2, 1), (2, 3)}
    with pytest.warns(UserWarning, match="no gradient for w1|Gradients do not exist"):
        _, their_weights, _, weights = train_both(peer, name, {"weight_decay": 0.1}, 4, missing)
    assert_all_close(weights, their_weights)


def test_some_parameters_can_be_spared_from_weight_decay(peer):
    ours, theirs = O.AdamW(0.05), peer.optimizers.AdamW(0.05)
    weights, their_weights = parameters(), [peer.Variable(v, name=f"w{i}")
                                            for i, v in enumerate(values())]  # fmt: skip
    ours.exclude_from_weight_decay(var_list=[weights[0]], var_names=["w3"])
    theirs.exclude_from_weight_decay(var_list=[their_weights[0]], var_names=["w3"])
    torch = pytest.importorskip("torch")
    for step in range(3):
        gradients = values(seed=step + 1)
        ours.apply(gradients, weights)
        theirs.apply([torch.tensor(g) for g in gradients], their_weights)
    assert_all_close(weights, their_weights)


@pytest.mark.parametrize("name, own", [RULES[1], RULES[4], RULES[7], RULES[12]])
def test_state_goes_both_ways_between_keras_and_here(peer, name, own):
    theirs, _, ours, _ = train_both(peer, name, own, 3)
    store: dict = {}
    theirs.save_own_variables(store)
    fresh = getattr(O, name)(**own)
    fresh.build(parameters())
    fresh.load_own_variables(store)
    assert_all_close(fresh.variables, ours.variables)
    assert int(fresh.iterations) == 3
    mine: dict = {}
    ours.save_own_variables(mine)
    assert list(mine) == list(store)
    theirs.load_own_variables(mine)
    assert_all_close(ours.variables, theirs.variables)


@pytest.mark.parametrize("name, own", RULES)
def test_configurations_go_both_ways(peer, name, own):
    ours = getattr(O, name)(learning_rate=0.25, clipnorm=1.0, **own)
    record = O.serialize(ours)
    theirs = peer.optimizers.deserialize(record)
    if theirs == "Lamb":  # Keras 3.15 does not find this one of its own optimizers
        theirs = peer.optimizers.Lamb.from_config(record["config"])
    assert theirs.get_config() == ours.get_config()
    back = O.deserialize(peer.saving.serialize_keras_object(theirs))
    assert type(back) is type(ours)
    assert back.get_config() == ours.get_config()


# --- schedules ------------------------------------------------------------------------------------

SCHEDULES = [
    ("ExponentialDecay", (0.1, 7, 0.5), {}),
    ("ExponentialDecay", (0.1, 7, 0.5), {"staircase": True}),
    ("InverseTimeDecay", (0.1, 7, 0.5), {}),
    ("InverseTimeDecay", (0.1, 7, 0.5), {"staircase": True}),
    ("PiecewiseConstantDecay", ([5, 9], [0.3, 0.2, 0.1]), {}),
    ("PolynomialDecay", (0.1, 12), {"power": 2.0}),
    ("PolynomialDecay", (0.1, 7), {"cycle": True, "end_learning_rate": 0.01}),
    ("CosineDecay", (0.1, 20), {"alpha": 0.1}),
    ("CosineDecay", (0.0, 15), {"warmup_target": 0.2, "warmup_steps": 6}),
    ("CosineDecayRestarts", (0.1, 6), {"m_mul": 0.7, "alpha": 0.05}),
    ("CosineDecayRestarts", (0.1, 6), {"t_mul": 1.0}),
    ("CosineDecayRestarts", (0.1, 5), {"t_mul": 1.5}),
]


@pytest.mark.parametrize("name, arguments, options", SCHEDULES)
def test_schedules_are_keras_schedules(peer, name, arguments, options):
    ours = getattr(S, name)(*arguments, **options)
    theirs = getattr(peer.optimizers.schedules, name)(*arguments, **options)
    steps = np.arange(40)
    expected = [float(theirs(int(step))) for step in steps]
    np.testing.assert_allclose([float(ours(int(s))) for s in steps], expected, rtol=2e-6, atol=1e-8)
    np.testing.assert_allclose(ours(steps).numpy(), expected, rtol=2e-6, atol=1e-8)
    assert ours.get_config() == theirs.get_config()
    assert O.deserialize(O.serialize(ours)).get_config() == ours.get_config()


def test_a_restart_begins_at_the_top_also_where_float32_would_miss_it():
    schedule = S.CosineDecayRestarts(0.1, 4, t_mul=1.5)  # rounds of 4, 6, 9, ... steps
    assert [float(schedule(step)) for step in (0, 4, 10, 19)] == [np.float32(0.1)] * 4


def test_an_optimizer_follows_its_schedule_and_is_saved_with_it(peer):
    def make(module):
        return module.optimizers.SGD(module.optimizers.schedules.ExponentialDecay(0.5, 1, 0.5))

    class Ours:
        optimizers = O

    optimizer, theirs = make(Ours), make(peer)
    weight = Parameter([0.0, 0.0], name="w")
    changes = []
    for _ in range(3):
        before = weight.value.copy()
        optimizer.apply([Tensor([1.0, 2.0])], [weight])
        changes.append(before[0] - weight.value[0])
    assert changes == [0.5, 0.25, 0.125]
    assert float(optimizer.learning_rate) == 0.0625
    assert [v.name for v in optimizer.variables] == ["iteration"]
    config, expected = optimizer.get_config(), theirs.get_config()
    del config["name"], expected["name"]
    assert config == expected
    assert float(O.deserialize(O.serialize(optimizer)).learning_rate) == 0.5


def test_a_function_as_learning_rate():
    rates = iter([1.0, 0.5])
    weight = Parameter([0.0])
    optimizer = O.SGD(lambda: next(rates))
    for _ in range(2):
        optimizer.apply([Tensor([1.0])], [weight])
    assert weight.value[0] == -1.5


def test_a_schedule_of_the_user_sees_the_step():
    class Noam(S.LearningRateSchedule):
        def __call__(self, step):
            return 1.0 / (step + 1)

    weight = Parameter([0.0])
    optimizer = O.SGD(Noam())
    for _ in range(2):
        optimizer.apply([Tensor([1.0])], [weight])
    assert weight.value[0] == -1.5
    with pytest.raises(NotImplementedError, match="define __call__"):
        S.LearningRateSchedule()(1)


# --- learning rate, old names ---------------------------------------------------------------------


def test_the_learning_rate_can_be_set():
    optimizer = O.Adam()
    assert float(optimizer.learning_rate) == np.float32(0.001)
    for value in (0.5, np.float32(0.25), 1, Tensor(0.125)):
        optimizer.learning_rate = value
        assert float(optimizer.learning_rate) == float(value)
    optimizer.learning_rate.assign(0.75)
    assert float(optimizer.lr) == 0.75
    optimizer.lr = 2.0
    assert float(optimizer.learning_rate) == 2.0
    optimizer.learning_rate = S.ExponentialDecay(0.1, 1, 0.5)
    assert float(optimizer.learning_rate) == np.float32(0.1)
    with pytest.raises(TypeError, match="is a schedule and cannot be set to 0.5"):
        optimizer.learning_rate = 0.5


def test_arguments_of_keras_2():
    optimizer = O.Adam(lr=0.5, beta_1=0.8, epsilon=None, decay=0.0, amsgrad=False)
    assert float(optimizer.learning_rate) == 0.5
    assert optimizer.epsilon == 1e-7
    optimizer = O.SGD(lr=1.0, decay=1.0, momentum=0.0, nesterov=True)
    weight = Parameter([0.0])
    rates = []
    for _ in range(3):
        before = float(weight.value[0])
        optimizer.apply([Tensor([1.0])], [weight])
        rates.append(before - float(weight.value[0]))
    np.testing.assert_allclose(rates, [1, 1 / 2, 1 / 3], rtol=1e-6)


def test_names():
    pairs = {"adam": O.Adam, "SGD": O.SGD, "rmsprop": O.RMSprop, "AdamW": O.AdamW, "adamw": O.AdamW,
             "nadam": O.Nadam, "adagrad": O.Adagrad, "adadelta": O.Adadelta, "ftrl": O.Ftrl,
             "adamax": O.Adamax, "lion": O.Lion}  # fmt: skip
    for name, cls in pairs.items():
        assert type(O.get(name)) is cls
    made = O.Adam()
    assert O.get(made) is made
    with pytest.raises(ValueError, match="did you mean.*'adam'"):
        O.get("adan")


# --- apply ----------------------------------------------------------------------------------------


def test_apply_gradients_and_iterations():
    weights = parameters()
    optimizer = O.SGD(1.0)
    before = [w.value.copy() for w in weights]
    gradients = values(seed=1)
    steps = optimizer.apply_gradients(zip(gradients, weights))
    assert int(steps) == int(optimizer.iterations) == 1
    for w, b, g in zip(weights, before, gradients):
        np.testing.assert_allclose(w.value, b - g, rtol=1e-6)
    accumulating = O.SGD(1.0, gradient_accumulation_steps=2)
    for _ in range(5):
        accumulating.apply(gradients, weights)
    assert int(accumulating.iterations) == 2


def test_fewer_parameters_and_another_order_in_a_later_call():
    weights = parameters()
    optimizer = O.Adam(0.1)
    optimizer.build(weights)
    before = [w.value.copy() for w in weights]
    optimizer.apply([values()[2], values()[0]], [weights[2], weights[0]])
    changed = [not np.array_equal(w.value, b) for w, b in zip(weights, before)]
    assert changed == [True, False, True, False]
    reference = parameters()
    O.Adam(0.1).apply([values()[0], values()[2]], [reference[0], reference[2]])
    np.testing.assert_array_equal(weights[0].value, reference[0].value)
    np.testing.assert_array_equal(weights[2].value, reference[2].value)


def test_backward_through_a_value_from_before_the_update_is_refused():
    weight = Parameter([1.0, 2.0], name="w")
    loss = (weight * weight).sum()
    O.SGD(0.1).apply([Tensor([1.0, 1.0])], [weight])
    with pytest.raises(GraphError, match="'w'"):
        loss.backward()


def test_constraints_are_applied_after_the_update():
    class Constrained(Parameter):
        __slots__ = ("constraint",)

    weight = Constrained([1.0, -1.0])
    weight.constraint = lambda w: Tensor(np.maximum(w.value, 0))
    other = Parameter([1.0])
    O.SGD(0.5).apply([Tensor([1.0, 1.0]), Tensor([4.0])], [weight, other])
    assert weight.value.tolist() == [0.5, 0.0]
    assert other.value.tolist() == [-1.0]


@pytest.mark.parametrize("layout", ["contiguous", "transposed", "read-only", "float64"])
def test_large_gradients_are_used_where_they_lie_with_the_same_result(layout):
    shapes = [(300, 40), (40,), (40, 300)]
    large, small = parameters(shapes), [Parameter(v) for v in values(shapes)]
    borrowing, gathering = O.AdamW(0.1), O.AdamW(0.1, clipnorm=1e9)
    for step in range(3):
        gradients = values(shapes, seed=step + 1)
        if layout == "transposed":
            gradients = [np.asfortranarray(g) for g in gradients]
        if layout == "float64":
            gradients = [g.astype("f8") for g in gradients]
        if layout == "read-only":
            gradients[0].flags.writeable = False
        copies = [g.copy() for g in gradients]
        borrowing.apply(gradients, large)
        gathering.apply(copies, small)
        for g, c in zip(gradients, copies):
            np.testing.assert_array_equal(g, c)  # they are read only
    buffer = borrowing._buffers[0]
    assert (layout == "contiguous") == (not buffer.gradient.any())
    for a, b in zip(large, small):
        np.testing.assert_array_equal(a.value, b.value)
    with pytest.raises(ValueError, match=r"gradient of w1 has shape \(1,\)"):
        borrowing.apply([gradients[0], np.ones(1, "f"), gradients[2]])


def test_parameters_of_two_dtypes():
    weights = [Parameter(v, dtype=d) for v, d in zip(values(), ["float32", "float64"] * 2)]
    reference = [Parameter(w.value) for w in weights]
    gradients = [g.astype(w.dtype) for g, w in zip(values(seed=1), weights)]
    mixed = O.Adam(0.1, global_clipnorm=0.5)
    mixed.apply(gradients, weights)
    assert [v.dtype for v in mixed.variables[2::2]] == [w.dtype for w in weights]
    norm = np.sqrt(sum(float((g.astype("f8") ** 2).sum()) for g in gradients))
    for w, r, g in zip(weights, reference, gradients):
        O.Adam(0.1).apply([g * (0.5 / norm)], [r])
        np.testing.assert_allclose(w.value, r.value, rtol=1e-6)
        assert w.dtype == r.dtype


def test_an_optimizer_of_the_user_as_keras_documents_it():
    class Momentum(O.Optimizer):
        def __init__(self, learning_rate=0.01, **options):
            super().__init__(learning_rate, **options)
            self.momentum = 0.9

        def build(self, variables):
            super().build(variables)
            self.momentums = [
                self.add_variable_from_reference(v, name="momentum") for v in variables
            ]

        def update_step(self, gradient, variable, learning_rate):
            m = self.momentums[self._get_variable_index(variable)]
            self.assign(m, m * self.momentum - gradient * learning_rate)
            self.assign_add(variable, m)

    ours, expected = Momentum(0.05, weight_decay=0.1), O.SGD(0.05, 0.9, weight_decay=0.1)
    weights, reference = parameters(), parameters()
    for step in range(4):
        ours.apply(values(seed=step), weights)
        expected.apply(values(seed=step), reference)
    assert [v.name for v in ours.variables] == [v.name for v in expected.variables]
    assert_all_close(weights, reference)
    assert_all_close(ours.variables, expected.variables)
    with pytest.raises(NotImplementedError, match="define update_step"):
        O.Optimizer(0.1).apply([np.ones(1, "f")], [Parameter([1.0])])
    with pytest.raises(ValueError, match="unknown initializer 'twos'"):
        ours.add_variable_from_reference(weights[0], initializer="twos")


def test_training_reaches_the_minimum():
    target = np.array([1.0, -2.0, 3.0], "float32")
    for optimizer in (O.Adam(0.1), O.SGD(0.02, momentum=0.9), O.Nadam(0.1)):
        weight = Parameter(np.zeros(3, "float32"))
        for _ in range(300):
            error = weight - target
            optimizer.apply([grad((error * error).sum(), weight)], [weight])
        np.testing.assert_allclose(weight.value, target, atol=1e-2, err_msg=optimizer.name)


# --- kernels --------------------------------------------------------------------------------------

KERNELS = {
    "sgd": (1, (0.9, True)),
    "adam": (3, (4, 0.9, 0.999, 1e-7)),
    "adamax": (2, (4, 0.9, 0.999, 1e-7)),
    "nadam": (2, (4, 0.9, 0.999, 1e-7, 0.2)),
    "rmsprop": (3, (0.9, 0.5, 1e-7)),
    "adagrad": (1, (1e-7,)),
    "adadelta": (2, (0.9, 1e-7)),
    "lion": (1, (0.9, 0.99)),
    "ftrl": (2, (-0.5, 0.01, 0.02, 0.01, 0.1)),
}


@pytest.mark.parametrize("size", [37, (1 << 16) + 5])  # one thread, and all
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", KERNELS)
def test_kernels_equal_their_references(name, dtype, size):
    slots, constants = KERNELS[name]
    rng = np.random.default_rng(3)
    arrays = [rng.uniform(0.1, 1, size).astype(dtype) for _ in range(2 + slots)]
    arrays[2:3] = [arrays[2] + 1]  # a mean of squares is larger than the square of a mean
    results = []
    for device in ("cpu", "reference"):
        own = [a.copy() for a in arrays]
        kernels.find(device, name)(*own, 0.99, 0.05, *constants)
        results.append(own)
    for a, b in zip(*results):
        assert a.dtype == dtype
        tolerance = 2e-6 if dtype == "float32" else 1e-13
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)
    assert not np.array_equal(results[0][0], arrays[0])


@pytest.mark.parametrize("size", [1, 20, 1 << 14, (1 << 16) + 5])
def test_a_pass_covers_every_element_wherever_the_first_one_lies(size):
    for lead in (0, 1, 15, 16, 17):
        p, g = np.zeros(size + lead + 1, "float32"), np.ones(size, "float32")
        kernels.find("cpu", "sgd")(p[lead : lead + size], g, None, 1.0, 0.5, 0.0, False)
        assert (p[lead : lead + size] == -0.5).all()
        assert not p[:lead].any() and not p[lead + size :].any()


@pytest.mark.parametrize("name", KERNELS)
def test_there_is_a_fast_kernel_for_every_rule(name):
    assert kernels.find("cpu", name).__module__ == "minitorch_ciml.kernels.cpu.optimizer"
    assert kernels.find("reference", name).__module__.endswith("reference.optimizer")


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_one_call_updates_parameters_whose_gradients_lie_apart(name):
    slots, constants = KERNELS[name]
    rng = np.random.default_rng(4)
    arrays = [rng.uniform(0.1, 1, 40_000).astype("float32") for _ in range(1 + slots)]
    gradients = [rng.uniform(0.1, 1, n).astype("float32") for n in (8200, 5, 0, 3, 20_000)]
    gradients[3] = None  # has none
    parts = [slice(31_000, 39_200), slice(30_000, 30_005), slice(0, 0), slice(8, 11)]
    parts.append(slice(11, 20_011))
    keeps = [0.9, 1.0, 1.0, 0.5, 0.8]
    expected, (p, *own) = [a.copy() for a in arrays], [a.copy() for a in arrays]
    for part, g, keep in zip(parts, gradients, keeps):
        if g is not None:
            kernels.find("reference", name)(*_parts(expected, part, g), keep, 0.05, *constants)
    kernels.find("cpu", name).together(p, parts, gradients, own, keeps, (0.05, *constants))
    for a, b in zip((p, *own), expected):
        np.testing.assert_allclose(a, b, rtol=2e-6, atol=2e-6)
    assert np.array_equal(p[:11], arrays[0][:11]) and np.array_equal(p[39_200:], arrays[0][39_200:])


def _parts(arrays, part, g):
    p, *slots = (a[part] for a in arrays)
    return p, g, *slots


def test_rules_do_not_mix_in_the_cache():
    code = (
        "import numpy as np\n"
        "from minitorch_ciml.kernels.cpu.optimizer import adagrad, adamax\n"
        "for n in (10, 70_000):\n"
        "    p, g, a = np.ones(n, 'f'), np.ones(n, 'f'), np.ones(n, 'f')\n"
        "    adagrad(p, g, a, 1.0, 0.5, 0.0)\n"
        "    assert np.allclose(p, 1 - 0.5 / np.sqrt(2)), n\n"
        "    p, m = np.ones(n, 'f'), np.zeros(n, 'f')\n"
        "    adamax(p, g, m, m.copy(), 1.0, 0.5, 1, 0.9, 0.99, 0.0)\n"
        "    assert np.allclose(p, 0.5), n\n"
    )
    for _ in range(2):  # the second time from the cache
        subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


# --- flat buffers ---------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(st.integers(0, 3), max_size=3), min_size=1, max_size=5))
def test_a_flat_buffer_holds_the_very_memory_of_the_parameters(shapes):
    originals = values([tuple(s) for s in shapes])
    weights = [Parameter(v) for v in originals]
    buffer = FlatBuffer(weights)
    for w, v in zip(weights, originals):
        np.testing.assert_array_equal(w.value, v)
    starts = [part.start for part in buffer.slices]
    assert starts == sorted(starts, reverse=True)
    for part, v in zip(buffer.slices, originals):
        np.testing.assert_array_equal(buffer.data[part], v.ravel())
    assert np.count_nonzero(buffer.data) == sum(np.count_nonzero(v) for v in originals)
    buffer.data[...] = 7
    assert all((w.value == 7).all() for w in weights)
    weights[0].assign(np.full(weights[0].shape, 3.0))
    assert (buffer.data[buffer.slices[0]] == 3).all()
    missing = buffer.gather([None, *originals[1:]])
    assert missing == [0]
    for view, v in zip(buffer.gradient_views, [np.zeros_like(originals[0]), *originals[1:]]):
        np.testing.assert_array_equal(view, v)


def test_gradients_that_lie_in_the_buffer_are_not_copied():
    weights = parameters()
    buffer = FlatBuffer(weights)
    buffer.gradient[:] = np.arange(buffer.size)
    views = [Tensor.constant(v) for v in buffer.gradient_views]
    buffer.gather(views)
    np.testing.assert_array_equal(buffer.gradient, np.arange(buffer.size))


def test_two_optimizers_of_one_model_take_turns_and_none_is_stale():
    weights, reference = parameters(), parameters()
    optimizers = [O.SGD(0.1, momentum=0.9), O.Adam(0.1)]
    expected = [value.copy() for value in values()]
    twins = [O.SGD(0.1, momentum=0.9), O.Adam(0.1)]
    for step in range(6):
        gradients = values(seed=step)
        optimizers[step % 2].apply(gradients, weights)
        # The same with fresh parameters in every step, so that nothing can be stale.
        fresh = [Parameter(v) for v in expected]
        twin = twins[step % 2]
        if not twin.built:
            twin.build(reference)
        for r, f in zip(reference, fresh):
            r.value = f.value
        twin.apply(gradients, reference)
        expected = [r.value.copy() for r in reference]
    for w, e in zip(weights, expected):
        np.testing.assert_array_equal(w.value, e)


# --- errors ---------------------------------------------------------------------------------------


def test_errors_of_arguments():
    for wrong, message in [
        (
            {"clipnorm": 1.0, "clipvalue": 1.0},
            "give one of clipnorm, clipvalue and global",
        ),
        ({"gradient_accumulation_steps": 1}, "must be 2 or more"),
        ({"use_ema": True, "ema_momentum": 2.0}, "ema_momentum must be from 0 to 1, got 2.0"),
        ({"use_ema": True, "ema_overwrite_frequency": 0}, "must be 1 or more, got 0"),
        ({"momentum": 2.0}, "momentum must be from 0 to 1, got 2.0"),
    ]:
        with pytest.raises(ValueError, match=message):
            O.SGD(**wrong)
    with pytest.raises(TypeError, match="SGD: unknown argument 'momentun'"):
        O.SGD(momentun=0.9)
    with pytest.raises(TypeError, match="learning_rate is 'fast'; expected a number"):
        O.SGD("fast")
    with pytest.raises(ValueError, match="AdamW: weight_decay must be a number"):
        O.AdamW(weight_decay=None)
    with pytest.raises(ValueError, match="Lion: beta_1 must be above 0"):
        O.Lion(beta_1=0.0)
    with pytest.raises(ValueError, match="learning_rate_power must be at most 0"):
        O.Ftrl(learning_rate_power=0.5)
    with pytest.raises(ValueError, match="l1_regularization_strength must be at least 0"):
        O.Ftrl(l1_regularization_strength=-1.0)
    with pytest.raises(ValueError, match="decay_steps must be positive, got 0"):
        S.ExponentialDecay(0.1, 0, 0.5)
    with pytest.raises(ValueError, match="got 2 values and 2 boundaries"):
        S.PiecewiseConstantDecay([1, 2], [0.1, 0.2])


def test_errors_of_apply():
    optimizer = O.Adam()
    weights = parameters()
    with pytest.raises(ValueError, match="does not know its parameters yet"):
        optimizer.apply(values())
    optimizer.build(weights)
    with pytest.raises(ValueError, match="got 1 gradients for 4 parameters"):
        optimizer.apply(values()[:1])
    with pytest.raises(ValueError, match="got 1 gradients for 2 parameters"):
        optimizer.apply(values()[:1], weights[:2])
    with pytest.raises(ValueError, match="not built with parameter 'new'"):
        optimizer.apply(values()[:1], [Parameter([1.0], name="new")])
    with pytest.raises(ValueError, match="no gradient for any parameter"):
        optimizer.apply([None] * 4)
    with pytest.raises(ValueError, match=r"gradient of w1 has shape \(1,\), the parameter \(4,\)"):
        optimizer.apply([values()[0], np.ones(1, "f"), *values()[2:]])
    assert int(optimizer.iterations) == 0


def test_errors_of_files_and_buffers():
    optimizer = O.Adam()
    with pytest.warns(UserWarning, match="has 2 variables, the file 3; none.*Call build"):
        optimizer.load_own_variables({"0": 1, "1": 0.1, "2": 0})
    with pytest.raises(ValueError, match="got 1 arrays for the 2 variables"):
        optimizer.set_weights([1])
    with pytest.raises(ValueError, match="of one dtype, got float32, float64"):
        FlatBuffer([Parameter([1.0]), Parameter([1.0], dtype="float64")])
    with pytest.raises(ValueError, match="of one dtype, got none"):
        FlatBuffer([])
    weight = Parameter([1.0])
    with pytest.raises(ValueError, match="given twice"):
        FlatBuffer([weight, weight])
