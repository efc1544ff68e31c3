"""The table of ops: one row says all that the tests in `test_ops.py` need to know about a function.

A row names the public function, how to draw its inputs, its parameters and a peer:

    Row(ops.logaddexp, broadcast(REAL, REAL), torch="logaddexp")
    Row(ops.sqrt, broadcast(Real(0.1, 3)), torch="sqrt", order=3)
    Row(ops.sum, shaped(REAL, (2, 3)), {"axis": 1, "keepdims": True}, numpy=np.sum, jax="sum")
    Row(ops.stack, shaped(REAL, (2, 3), (2, 3)), call=lambda *xs: ops.stack(xs),
        torch=lambda *xs: torch.stack(xs))

- Inputs: `broadcast(*domains)` (one array each, shapes that broadcast, with sizes 0 and 1),
  `anyshape(domain)` (one array), `shaped(domain, *shapes)` (these shapes), `fixed(*arrays)`
  (these arrays, or other objects). A domain is `Real(low, high, avoid=kinks)`, `Integer(low, high)`
  or `Boolean()`.
- Peer: one of `torch=`, `jax=`, `numpy=`: a function of that package's arrays and the parameters,
  or its name there ("nn.functional.softplus"; for jax within `jax.numpy`). In lambdas use `torch`,
  `jnp` and `jax` from this file: they are imported when first used, and skip the test if absent.
  Prefer torch where both will do: jax compiles anew for every shape.
- `call=` says how to call the function, if not as `op(*tensors, **params)`.
- `grad=False`: it has no gradient. `order`: up to which derivatives are checked by differences
  (0: none, for example at ties). `peer_grad=False`: do not compare with the peer's gradient.
  `integers=False`: it does not take integers. `rtol32`: the tolerance in float32.

Rows live in `ops_<family>.py` beside this file, each with a list `ROWS` and, where needed, a
dictionary `EXCEPTIONS` from the name of a public function without a row to the reason.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra.numpy import mutually_broadcastable_shapes

FAMILIES = (
    "math", "reduce", "shape", "linalg", "nn", "conv", "pool", "recurrent", "statistics", "image",
    "signals",
)  # fmt: skip


@dataclass(frozen=True, repr=False)
class Row:
    """What the tests need to know about one function, with one set of parameters."""

    op: Callable
    inputs: st.SearchStrategy
    params: dict[str, Any] = field(default_factory=dict)
    torch: Callable | str | None = None
    jax: Callable | str | None = None
    numpy: Callable | None = None
    call: Callable | None = None
    grad: bool = True
    order: int = 2
    peer_grad: bool = True
    integers: bool = True
    rtol32: float = 1e-5

    def __repr__(self) -> str:
        return "-".join([self.op.__name__, *(f"{k}={v}" for k, v in self.params.items())])

    def __call__(self, *tensors: Any) -> Any:
        return (self.call or self.op)(*tensors, **self.params)


class Peer:
    """A package that is imported when it is first used, and skips the test where it is absent."""

    def __init__(self, name: str):
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        os.environ.setdefault("KERAS_BACKEND", "torch")
        module = pytest.importorskip(self._name)
        if self._name.startswith("jax"):
            import_module("jax").config.update("jax_enable_x64", True)
        return getattr(module, attribute)


torch, jax, jnp = Peer("torch"), Peer("jax"), Peer("jax.numpy")
keras = Peer("keras")  # on PyTorch: a function of its tensors, so rows call it `torch=`


def lookup(peer: Peer, function: Callable | str) -> Callable:
    """The peer's function, also by its dotted name."""
    if not isinstance(function, str):
        return function
    found: Any = peer
    for part in function.split("."):
        found = getattr(found, part)
    return found


# --- what the inputs are drawn from -------------------------------------------------------------


@dataclass(frozen=True)
class Real:
    """Floats from `low` to `high`, at least 0.05 away from the places in `avoid`."""

    low: float = -2.0
    high: float = 2.0
    avoid: tuple[float, ...] = ()

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        x = rng.uniform(self.low, self.high, shape)
        for kink in self.avoid:
            near = np.abs(x - kink) < 0.05
            x = np.where(near, kink + np.where(x < kink, -0.05, 0.05), x)
        return np.asarray(x)

    def whole(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """Integers of this domain; it must have some."""
        low, high = math.ceil(self.low), math.floor(self.high)
        return np.asarray(
            rng.choice([n for n in range(low, high + 1) if n not in self.avoid], shape)
        )


@dataclass(frozen=True)
class Ties(Real):
    """Floats that are small whole numbers, so that many are equal."""

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        return np.asarray(rng.integers(int(self.low), int(self.high) + 1, shape).astype(float))


@dataclass(frozen=True)
class Steps(Real):
    """Multiples of 0.1 plus `offset`: numbers with different offsets are never nearly equal."""

    offset: float = 0.0

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        return np.asarray(super().draw(rng, shape).round(1) + self.offset)


@dataclass(frozen=True)
class Integer:
    """Integers from `low` to `high`, both included."""

    low: int = -5
    high: int = 5
    dtype: str = "int64"

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        return np.asarray(rng.integers(self.low, self.high + 1, shape, dtype=self.dtype))


@dataclass(frozen=True)
class Boolean:
    """True or False."""

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        return np.asarray(rng.integers(0, 2, shape).astype(bool))


REAL = Real()
NONZERO = Real(avoid=(0.0,))
POSITIVE = Real(0.1, 3.0)
TIES = Ties(0, 3)

# Sizes on both sides of a warp and of a block of threads.
LARGE = [(31,), (33,), (1023,), (5, 205)]
SHAPES = [(), (1,), (3,), (0,), (2, 3), (2, 0), (1, 4, 1), (2, 1, 3), *LARGE]


@dataclass(frozen=True)
class Inputs:
    """Drawn arguments: the arrays, and the domains that they came from."""

    arrays: tuple
    domains: tuple
    rng: np.random.Generator

    def __repr__(self) -> str:
        return f"Inputs({', '.join(map(repr, self.arrays))})"


def _drawn(domains: tuple, shapes: tuple, seed: int) -> Inputs:
    rng = np.random.default_rng(seed)
    arrays = tuple(domain.draw(rng, shape) for domain, shape in zip(domains, shapes))
    return Inputs(arrays, domains, rng)


_seeds = st.integers(0, 2**32 - 1)
_few_seeds = st.integers(0, 2)  # where only the numbers differ, not the shapes


def anyshape(domain: Any, min_ndim: int = 0, min_size: int = 0) -> st.SearchStrategy:
    """One array: of no, one or several axes, some of them of size 0 or 1, some large."""
    shapes = [s for s in SHAPES if len(s) >= min_ndim and all(n >= min_size for n in s)]
    return st.builds(lambda s, seed: _drawn((domain,), (s,), seed), st.sampled_from(shapes), _seeds)


def broadcast(*domains: Any) -> st.SearchStrategy:
    """One array per domain, in shapes that broadcast with each other."""
    if len(domains) == 1:
        return anyshape(domains[0])
    shapes = mutually_broadcastable_shapes(
        num_shapes=len(domains), min_side=0, max_side=4, max_dims=3
    ).map(lambda drawn: drawn.input_shapes)
    large = st.sampled_from([((33,), (1,)), ((1, 31), (33, 1))])
    padded = large.map(lambda pair: (*pair, *[()] * (len(domains) - 2)))
    shapes = st.one_of(shapes, shapes, shapes, padded)
    return st.builds(lambda s, seed: _drawn(domains, s, seed), shapes, _seeds)


def shaped(domain: Any, *shapes: tuple[int, ...]) -> st.SearchStrategy:
    """Arrays of these shapes; `domain` may also be a tuple with one domain per shape."""
    domains = domain if isinstance(domain, tuple) else (domain,) * len(shapes)
    return st.builds(lambda seed: _drawn(domains, shapes, seed), _few_seeds)


def fixed(*arrays: Any) -> st.SearchStrategy:
    """These arrays; anything else is passed to the op and the peer as it is."""
    return st.builds(lambda: Inputs(arrays, (None,) * len(arrays), np.random.default_rng(0)))


# --- the table ----------------------------------------------------------------------------------


def table() -> tuple[list[Row], dict[str, str]]:
    """All rows, and the public functions that need none, with the reason."""
    rows: list[Row] = []
    exceptions: dict[str, str] = {}
    for family in FAMILIES:
        if find_spec(f"ops_{family}") is None:
            continue
        module = import_module(f"ops_{family}")
        rows += module.ROWS
        exceptions |= getattr(module, "EXCEPTIONS", {})
    return rows, exceptions
