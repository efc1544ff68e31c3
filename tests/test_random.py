"""Random numbers: the bits are Philox', the distributions are right, a seed fixes everything."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minitorch_ciml import Tensor, config, kernels
from minitorch_ciml.autograd.check import check_grads
from minitorch_ciml.kernels.reference import random as reference
from minitorch_ciml.ops import random

N = 20_000


def ks_distance(sample, cdf) -> float:
    """Kolmogorov and Smirnov's distance, scaled so that 1.95 is exceeded in 0.1% of the cases."""
    x = np.sort(np.asarray(sample, "float64").ravel())
    steps = np.arange(len(x) + 1) / len(x)
    p = cdf(x)
    return max(np.max(steps[1:] - p), np.max(p - steps[:-1])) * math.sqrt(len(x))


def normal_cdf(x):
    return np.array([0.5 * (1 + math.erf(v / math.sqrt(2))) for v in x])


# --- bits -----------------------------------------------------------------------------------------

# From the authors' known-answer tests: counter, key, four words.
KNOWN = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000",
     "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff",
     "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0",
     "d16cfe09 94fdcceb 5001e420 24126ea1"),
]  # fmt: skip


def words(text: str) -> list[int]:
    return [int(word, 16) for word in text.split()]


@pytest.mark.parametrize("counter, key, expected", KNOWN)
def test_reference_gives_the_known_answers(counter, key, expected):
    found = reference.philox(np.array(words(counter), np.uint64), tuple(words(key)))
    assert found.tolist() == words(expected)


def test_fast_kernel_gives_a_known_answer():
    fast = kernels.find("cpu", "random_words")
    assert fast(1, 4, stream=(0, 0, 0, 0))[0].tolist() == words(KNOWN[0][2])


word = st.integers(0, 2**32 - 1)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 5), st.integers(0, 70), st.tuples(word, word, word, word), word)
def test_fast_kernel_gives_the_references_bits(rows, columns, stream, first_row):
    fast = kernels.find("cpu", "random_words")
    assert fast is not reference.random_words
    ours = fast(rows, columns, stream=stream, first_row=first_row)
    slow = reference.random_words(rows, columns, stream=stream, first_row=first_row)
    assert ours.dtype == slow.dtype == np.uint32
    np.testing.assert_array_equal(ours, slow)


# --- seeds ----------------------------------------------------------------------------------------

DRAWS = {
    "uniform": lambda seed: random.uniform((3, 4), -1, 2, seed=seed),
    "normal": lambda seed: random.normal((3, 4), 1, 2, seed=seed),
    "truncated_normal": lambda seed: random.truncated_normal((3, 4), seed=seed),
    "randint": lambda seed: random.randint((3, 4), 0, 1000, seed=seed),
    "binomial": lambda seed: random.binomial((3, 4), 1000, 0.5, seed=seed),
    "gamma": lambda seed: random.gamma((3, 4), 2.0, seed=seed),
    "beta": lambda seed: random.beta((3, 4), 2.0, 3.0, seed=seed),
    "categorical": lambda seed: random.categorical(np.zeros((3, 1000)), 4, seed=seed),
    "shuffle": lambda seed: random.shuffle(np.arange(50), seed=seed),
    "dropout": lambda seed: random.dropout(np.ones((10, 20), "float32"), 0.5, seed=seed),
}


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_a_seed_fixes_the_numbers(draw):
    same = [draw(7).numpy(), draw(7).numpy(), draw(np.int64(7)).numpy()]
    np.testing.assert_array_equal(same[0], same[1])
    np.testing.assert_array_equal(same[0], same[2])
    assert not np.array_equal(same[0], draw(8).numpy())
    assert not np.array_equal(same[0], draw(-7).numpy())


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_a_gpu_has_the_same_numbers(draw):
    pytest.importorskip("numba_cuda")
    with config.device("cuda"):
        drawn = draw(7)
    assert drawn.device == "cuda"
    np.testing.assert_array_equal(drawn.numpy(), draw(7).numpy())


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_a_generator_draws_other_numbers_every_time(draw):
    one, two = random.SeedGenerator(7), random.SeedGenerator(7)
    first, second = draw(one).numpy(), draw(one).numpy()
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(first, draw(two).numpy())
    np.testing.assert_array_equal(second, draw(two).numpy())


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_set_seed_fixes_what_has_no_seed(draw):
    random.set_seed(3)
    first, second = draw(None).numpy(), draw(None).numpy()
    random.set_seed(3)
    np.testing.assert_array_equal(first, draw(None).numpy())
    np.testing.assert_array_equal(second, draw(None).numpy())
    assert not np.array_equal(first, second)


def test_draw_seed():
    random.set_seed(3)
    seeds = [random.draw_seed() for _ in range(5)]
    random.set_seed(3)
    assert seeds == [random.draw_seed() for _ in range(5)]
    assert len(set(seeds)) == 5
    assert all(isinstance(seed, int) and 0 <= seed < 2**63 for seed in seeds)


def test_generators_without_a_seed_differ_and_are_saved_with_it():
    one, two = random.SeedGenerator(), random.SeedGenerator()
    assert one.seed != two.seed
    again = random.SeedGenerator.from_config(one.get_config())
    assert again.next() == one.next()


# --- distributions --------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_uniform(dtype):
    x = random.uniform((N,), -1, 3, dtype=dtype, seed=1).numpy()
    assert x.dtype == dtype and x.min() >= -1 and x.max() <= 3
    assert ks_distance(x, lambda v: (v + 1) / 4) < 1.95


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_normal(dtype):
    x = random.normal((N + 1,), 2, 3, dtype=dtype, seed=2).numpy()
    assert x.dtype == dtype and x.shape == (N + 1,)
    assert abs(x.mean() - 2) < 4 * 3 / math.sqrt(N)
    assert abs(x.var() / 9 - 1) < 4 * math.sqrt(2 / N)
    assert ks_distance((x - 2) / 3, normal_cdf) < 1.95


def test_normal_numbers_are_not_correlated():
    x = random.normal((2, N), seed=5).numpy()
    assert abs(np.mean(x[0] * x[1])) < 4 / math.sqrt(N)
    assert abs(np.mean(x[0, 1:] * x[0, :-1])) < 4 / math.sqrt(N)


def test_truncated_normal():
    x = random.truncated_normal((N,), 1, 0.5, seed=3).numpy()
    z = (x.astype("float64") - 1) / 0.5
    assert np.abs(z).max() <= 2 + 1e-6
    low, high = normal_cdf([-2, 2])
    assert ks_distance(z, lambda v: (normal_cdf(v) - low) / (high - low)) < 1.95


def test_randint():
    x = random.randint((N,), -2, 3, seed=4).numpy()
    assert x.dtype == "int32"
    values, counts = np.unique(x, return_counts=True)
    assert values.tolist() == [-2, -1, 0, 1, 2]
    chi2 = np.sum((counts - N / 5) ** 2 / (N / 5))
    assert chi2 < 18.5  # 0.1% for four degrees of freedom


def test_categorical():
    p = np.array([[0.1, 0.0, 0.6, 0.3], [0.25, 0.25, 0.25, 0.25]])
    with np.errstate(divide="ignore"):
        x = random.categorical(np.log(p), N, seed=5).numpy()
    assert x.shape == (2, N) and x.dtype == "int32"
    for drawn, expected in zip(x, p):
        share = np.bincount(drawn, minlength=4) / N
        assert np.all(np.abs(share - expected) <= 4 * np.sqrt(expected * (1 - expected) / N))


def test_rarer_distributions():
    x = random.binomial((N,), 10, 0.3, seed=6).numpy()
    assert abs(x.mean() - 3) < 4 * math.sqrt(2.1 / N) and x.dtype == "float32"
    assert abs(random.gamma((N,), 2.0, seed=6).numpy().mean() - 2) < 4 * math.sqrt(2 / N)
    assert abs(random.beta((N,), 2.0, 2.0, seed=6).numpy().mean() - 0.5) < 4 * math.sqrt(0.05 / N)


def test_shuffle():
    x = Tensor(np.arange(12.0).reshape(3, 4), requires_grad=True)
    y = random.shuffle(x, axis=1, seed=1)
    assert sorted(y.numpy()[0]) == [0, 1, 2, 3] and not np.array_equal(y.numpy(), x.numpy())
    (y * y).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), 2 * x.numpy())


@pytest.mark.parametrize("draw", [random.uniform, random.normal, random.truncated_normal])
def test_shapes_and_dtypes(draw):
    assert draw((), seed=1).shape == ()
    assert draw((2, 0), seed=1).shape == (2, 0)
    assert draw([2, 3], dtype="float16", seed=1).dtype == "float16"
    before = config.floatx()
    config.set_floatx("float64")
    try:
        assert draw((2,), seed=1).dtype == "float64"
    finally:
        config.set_floatx(before)


# --- dropout --------------------------------------------------------------------------------------


def test_dropout_drops_the_share_and_keeps_the_mean():
    x = random.dropout(np.ones((100, 200), "float32"), 0.3, seed=1).numpy()
    dropped = np.mean(x == 0)
    assert abs(dropped - 0.3) < 4 * math.sqrt(0.21 / x.size)
    np.testing.assert_allclose(x[x != 0], 1 / 0.7, rtol=1e-6)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 9),
    st.sampled_from([(), (1,), (7,), (3, 5), (2, 3, 4)]),
    st.integers(0, 100),
    st.integers(0, 2**63),
)
def test_dropout_does_not_depend_on_the_split(cut, shape, first, seed):
    """Batches, ranks: whoever computes a sample drops the same elements of it."""
    x = np.arange(1.0, 1 + 9 * math.prod(shape)).reshape(9, *shape)
    whole = random.dropout(x, 0.4, seed=seed, first_sample=first).numpy()
    parts = [
        random.dropout(x[:cut], 0.4, seed=seed, first_sample=first).numpy(),
        random.dropout(x[cut:], 0.4, seed=seed, first_sample=first + cut).numpy(),
    ]
    np.testing.assert_array_equal(whole, np.concatenate(parts))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_dropout_kernel_is_the_reference(dtype):
    x = np.random.default_rng(0).normal(size=(5, 3, 33)).astype(dtype)
    how = {"rate": 0.25, "stream": (1, 2, 3, 4), "first_sample": 6}
    ours, slow = kernels.find("cpu", "dropout")(x, **how), reference.dropout(x, **how)
    assert ours.dtype == slow.dtype == dtype
    np.testing.assert_array_equal(ours, slow)


def test_dropout_gradient_uses_the_same_mask():
    x = Tensor(np.ones((4, 50), "float32"), requires_grad=True)
    y = random.dropout(x, 0.5, seed=random.SeedGenerator(1))
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), y.numpy())
    check_grads(lambda x: random.dropout(x, 0.5, seed=2) ** 2, np.linspace(1, 2, 12).reshape(3, 4))


def test_dropout_with_noise_shape_drops_together():
    y = random.dropout(np.ones((20, 5, 6), "float32"), 0.5, (None, 1, None), seed=1).numpy()
    assert np.all(y == y[:, :1])
    assert 0 < np.mean(y == 0) < 1


def test_dropout_at_the_ends():
    x = Tensor(np.ones((2, 3), "float32"))
    np.testing.assert_array_equal(random.dropout(x, 0).numpy(), 1)
    np.testing.assert_array_equal(random.dropout(x, 1).numpy(), 0)
    np.testing.assert_array_equal(random.dropout(np.float32(1.0), 1e-9, seed=1).numpy(), 1)


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: random.dropout(np.ones(3), 1.5), ValueError, "from 0 to 1"),
        (lambda: random.uniform((2,), seed="a"), TypeError, "expected an integer"),
        (lambda: random.uniform((2,), dtype="int32"), ValueError, "expected a float type"),
        (lambda: random.randint((2,), 0, 5, dtype="float32"), ValueError, "an integer type"),
        (lambda: random.randint((2,), 5, 5), ValueError, "greater than minval"),
        (lambda: random.categorical(np.zeros(3), 2), ValueError, r"\(batch, classes\)"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()
