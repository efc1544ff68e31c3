"""Random numbers, with the names of `keras.random`, and dropout.

All of them come from Philox, a counter-based generator: the numbers are a function of a seed and
of their place, so there is no hidden state. The same integer `seed` gives the same numbers at every
call. A `SeedGenerator` counts the draws made with it, and each draw is another stream; without a
seed a global one is used, which `set_seed` starts anew.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from itertools import count
from typing import Any

import numpy as np

from minitorch_ciml import config, kernels
from minitorch_ciml.autograd.engine import Op
from minitorch_ciml.autograd.tensor import FLOATS, Tensor, as_array, as_tensor
from minitorch_ciml.kernels import halves, steps
from minitorch_ciml.kernels.reference.random import Stream
from minitorch_ciml.ops.indexing import take
from minitorch_ciml.ops.nn import softmax

__all__ = [
    "SeedGenerator", "beta", "binomial", "categorical", "draw_seed", "dropout", "gamma", "normal",
    "randint", "set_seed", "shuffle", "truncated_normal", "uniform",
]  # fmt: skip

# --- seeds --------------------------------------------------------------------------------------


class SeedGenerator:
    """A seed and the number of draws made with it.

    Args:
        seed: any integer; drawn from the operating system's entropy if left out.
        name: for messages.
    """

    def __init__(self, seed: int | None = None, name: str | None = None):
        self.seed = int.from_bytes(os.urandom(4), "little") if seed is None else int(seed)
        self.name = name
        self.draws = 0

    @property
    def state(self) -> np.ndarray:
        """The seed and the draws, as Keras' files have them: two uint32."""
        return np.array([self.seed & 0xFFFFFFFF, self.draws], dtype="uint32")

    def next(self) -> Stream:
        """The stream of the next draw: the key, and the upper half of the counter."""
        if steps.program.get() is not None:  # what is drawn now would be drawn only once
            raise steps.NotRecordable("the step draws random numbers that no kernel is told of")
        self.draws += 1  # the first draw is 1, since 0 is the stream of the plain integer seed
        return (*_words(self.seed), *_words(self.draws))

    def save_own_variables(self, store: dict) -> None:
        """Stores the state."""
        store["0"] = self.state

    def load_own_variables(self, store: dict) -> None:
        """Goes on where `save_own_variables` was called."""
        self.seed, self.draws = map(int, store["0"])

    def get_config(self) -> dict:
        """The arguments that make such a generator again: one that has drawn nothing yet."""
        return {"seed": self.seed}

    @classmethod
    def from_config(cls, config: dict) -> SeedGenerator:
        return cls(**config)


def _words(number: int) -> tuple[int, int]:
    """The two lower 32-bit words of an integer, also of a negative one."""
    return number & 0xFFFFFFFF, (number >> 32) & 0xFFFFFFFF


_global = SeedGenerator()


def set_seed(seed: int) -> None:
    """Starts anew the draws that are made without a seed of their own."""
    global _global
    _global = SeedGenerator(seed)


def get_state() -> tuple[int, int]:
    """The global generator's seed and number of draws."""
    return _global.seed, _global.draws


def set_state(state: tuple[int, int]) -> None:
    """Goes on where `get_state` was called."""
    _global.seed, _global.draws = state


def draw_seed() -> int:
    """An integer seed from the global generator, another one at every call."""
    low, high = _random_words(2, _stream(None)).tolist()
    return low | high >> 1 << 32


def _stream(seed: int | SeedGenerator | None) -> Stream:
    if seed is None:
        return _global.next()
    if isinstance(seed, SeedGenerator):
        return seed.next()
    if isinstance(seed, (int, np.integer)):
        return (*_words(int(seed)), 0, 0)
    raise TypeError(
        f"seed is a {type(seed).__name__}, expected an integer, a SeedGenerator or None."
    )


def _random_words(n: int, stream: Stream, attempt: int = 0) -> np.ndarray:
    # Drawn on the host, so that the numbers are the same on every device.
    kernel = kernels.find("cpu", "random_words")
    assert kernel is not None
    return kernel(1, n, stream=stream, first_row=attempt)[0]


def _unit(n: int, stream: Stream, dtype: np.dtype, attempt: int = 0) -> np.ndarray:
    """n numbers in [0, 1) with as many random bits as the dtype holds (8, 11, 24 or 53).

    16-bit floats are computed with as float32, and rounded in the end.
    """
    if dtype == np.float64:
        high, low = _random_words(2 * n, stream, attempt).reshape(2, n)
        return ((high >> 5) * 67108864.0 + (low >> 6)) / 9007199254740992.0
    bits = halves.finfo(dtype).nmant + 1
    words = _random_words(n, stream, attempt) >> np.uint32(32 - bits)
    return words.astype(np.float32) * np.float32(2.0**-bits)


def _numpy_generator(stream: Stream) -> np.random.Generator:
    """NumPy's generator for the rarer distributions, keyed by the stream."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(stream)))


def _float(name: str, dtype: Any) -> np.dtype:
    dtype = halves.dtype_of(dtype or config.floatx())
    if dtype.kind not in FLOATS:
        raise ValueError(f"{name}: dtype is {dtype}, expected a float type.")
    return dtype


# --- distributions ------------------------------------------------------------------------------

Seed = int | SeedGenerator | None


def uniform(
    shape: Sequence[int],
    minval: float = 0.0,
    maxval: float = 1.0,
    dtype: Any = None,
    seed: Seed = None,
) -> Tensor:
    """Floats of the given shape, all in [minval, maxval) equally likely."""
    dtype = _float("uniform", dtype)
    x = _unit(math.prod(shape), _stream(seed), dtype)
    return Tensor((x * (maxval - minval) + minval).astype(dtype).reshape(shape))


def normal(
    shape: Sequence[int],
    mean: float = 0.0,
    stddev: float = 1.0,
    dtype: Any = None,
    seed: Seed = None,
) -> Tensor:
    """Floats of the given shape with the normal distribution."""
    dtype = _float("normal", dtype)
    x = _standard_normal(math.prod(shape), _stream(seed), dtype)
    return Tensor((x * stddev + mean).astype(dtype).reshape(shape))


def _standard_normal(n: int, stream: Stream, dtype: np.dtype, attempt: int = 0) -> np.ndarray:
    """Two normal numbers from two uniform ones (Box and Muller 1958)."""
    half = (n + 1) // 2
    u, v = _unit(2 * half, stream, np.result_type(dtype, np.float32), attempt).reshape(2, half)
    radius, angle = np.sqrt(-2 * np.log1p(-u)), v * v.dtype.type(2 * math.pi)
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:n]


def truncated_normal(
    shape: Sequence[int],
    mean: float = 0.0,
    stddev: float = 1.0,
    dtype: Any = None,
    seed: Seed = None,
) -> Tensor:
    """As `normal`, but numbers more than two standard deviations from the mean are drawn again."""
    dtype, stream = _float("truncated_normal", dtype), _stream(seed)
    x = _standard_normal(math.prod(shape), stream, dtype)
    for attempt in count(1):
        far = np.flatnonzero(np.abs(x) > 2)
        if not far.size:
            break
        x[far] = _standard_normal(far.size, stream, dtype, attempt)
    return Tensor((x * stddev + mean).astype(dtype).reshape(shape))


def randint(
    shape: Sequence[int], minval: int, maxval: int, dtype: Any = "int32", seed: Seed = None
) -> Tensor:
    """Integers of the given shape, all in [minval, maxval) equally likely."""
    if np.dtype(dtype).kind not in "iu":
        raise ValueError(f"randint: dtype is {dtype}, expected an integer type.")
    if maxval <= minval:
        raise ValueError(f"randint: maxval {maxval} must be greater than minval {minval}.")
    x = np.floor(_unit(math.prod(shape), _stream(seed), np.dtype("float64")) * (maxval - minval))
    return Tensor((x.astype(np.int64) + minval).astype(dtype).reshape(shape))


def _on_host(parameter: Any) -> np.ndarray:
    """A distribution's parameter, where these distributions are drawn: fetched from a GPU."""
    return parameter.numpy() if isinstance(parameter, Tensor) else as_array(parameter)


def binomial(
    shape: Sequence[int], counts: Any, probabilities: Any, dtype: Any = None, seed: Seed = None
) -> Tensor:
    """The number of successes in `counts` trials, each with the given probability, as floats."""
    n, p = _on_host(counts), _on_host(probabilities).astype(np.float64)
    drawn = _numpy_generator(_stream(seed)).binomial(n.astype(np.int64), p, tuple(shape))
    return Tensor(np.asarray(drawn).astype(_float("binomial", dtype)))


def gamma(shape: Sequence[int], alpha: Any, dtype: Any = None, seed: Seed = None) -> Tensor:
    """Floats with the gamma distribution of shape `alpha` and scale 1."""
    drawn = _numpy_generator(_stream(seed)).standard_gamma(_on_host(alpha), tuple(shape))
    return Tensor(np.asarray(drawn).astype(_float("gamma", dtype)))


def beta(
    shape: Sequence[int], alpha: Any, beta: Any, dtype: Any = None, seed: Seed = None
) -> Tensor:
    """Floats in [0, 1] with the beta distribution."""
    a, b = _on_host(alpha), _on_host(beta)
    drawn = _numpy_generator(_stream(seed)).beta(a, b, tuple(shape))
    return Tensor(np.asarray(drawn).astype(_float("beta", dtype)))


def categorical(logits: Any, num_samples: int, dtype: Any = "int32", seed: Seed = None) -> Tensor:
    """Draws classes with the probabilities softmax(logits): (N, C) -> integers (N, num_samples)."""
    logits = Tensor.constant(_on_host(logits))
    if logits.ndim != 2:
        raise ValueError(
            f"categorical: logits have shape {logits.shape}, expected (batch, classes)."
        )
    # A uniform number falls into the interval of a class as often as the interval is long.
    ends = np.cumsum(softmax(logits).value.astype(np.float64), axis=1)
    u = _unit(len(ends) * num_samples, _stream(seed), np.dtype("float64"))
    places = [
        np.searchsorted(row, numbers * row[-1], side="right")
        for row, numbers in zip(ends, u.reshape(len(ends), num_samples))
    ]
    return Tensor(np.array(places, dtype).reshape(len(ends), num_samples))


def shuffle(x: Any, axis: int = 0, seed: Seed = None) -> Tensor:
    """x with its slices along `axis` in random order."""
    x = as_tensor(x)
    order = np.argsort(_unit(x.shape[axis], _stream(seed), np.dtype("float64")), kind="stable")
    return take(x, order, axis=axis)


# --- dropout ------------------------------------------------------------------------------------

# Linear in x with a mask that depends on the parameters alone: its derivative is itself.
_dropout: Op = Op(
    "dropout",
    lambda g, y, x, **how: _dropout(g, **how),
    dtypes="float",
    doc="x with a share `rate` of the elements set to 0, the others divided by 1 - rate.",
)


def dropout(
    inputs: Any,
    rate: float,
    noise_shape: Sequence[int | None] | None = None,
    seed: Seed = None,
    first_sample: int | None = None,
) -> Tensor:
    """Sets a share `rate` of the elements to 0 and divides the others by 1 - rate.

    Whether an element is kept depends on the seed, on its place within the sample, and on the
    number of the sample, not on how the samples are split into batches or among ranks
    (Srivastava et al. 2014; Hinton et al. 2012).

    Args:
        inputs: floats (N, ...).
        rate: the share that is dropped, from 0 to 1.
        noise_shape: a shape that broadcasts to the inputs': elements along its axes of size 1 are
            dropped together. None stands for the inputs' size.
        seed: an integer, a `SeedGenerator`, or None.
        first_sample: the number of the first of these samples in the whole batch; where ranks
            share the batch, it is known if left out.

    Raises:
        ValueError: the rate is not between 0 and 1.
    """
    if not 0 <= rate <= 1:
        raise ValueError(f"dropout: the rate is {rate}, expected a number from 0 to 1.")
    x = as_tensor(inputs)
    if rate == 0:
        return x
    if rate == 1:
        return x * 0.0
    shape = x.shape
    if noise_shape is not None:
        shape = tuple(n if m is None else m for m, n in zip(noise_shape, x.shape))
    if first_sample is None:
        rows = config.part.get()
        whole = rows is None or not shape or shape[0] != x.shape[0]
        first_sample = 0 if whole else rows.scaled(shape[0]).first  # type: ignore[union-attr]
    stream = steps.numbers(lambda: _stream(seed), "uint32", x.device)
    how = {"rate": float(rate), "stream": stream, "first_sample": first_sample}
    if shape != x.shape:
        ones = Tensor.constant(kernels.full(shape, 1, x.dtype, x.device))
        return x * _dropout(ones, **how)
    if x.ndim == 0:
        return _dropout(x.reshape((1,)), **how).reshape(())
    return _dropout(x, **how)


def __dir__() -> list[str]:
    return __all__
