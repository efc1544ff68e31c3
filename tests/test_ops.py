"""Every op, row by row of `op_table.py`: against a peer, against differences, kernel to kernel."""

from __future__ import annotations

import gc
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from op_table import Real, Row, jax, jnp, lookup, table, torch

from minitorch_ciml import config, kernels, ops
from minitorch_ciml.autograd import Op, Tensor, grad
from minitorch_ciml.autograd.check import check_grads

ROWS, EXCEPTIONS = table()


def for_rows(wanted=lambda row: True, examples=6):
    """Runs a test for every row that is `wanted`, with drawn inputs."""
    drawing = settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],  # the inputs come from a seed: nothing to shrink
        suppress_health_check=list(HealthCheck),
    )

    def decorate(test):
        rows = [row for row in ROWS if wanted(row)]
        return pytest.mark.parametrize("row", rows, ids=str)(drawing(given(data=st.data())(test)))

    return decorate


def as_list(results) -> list:
    return list(results) if isinstance(results, (list, tuple)) else [results]


def is_float(x) -> bool:
    return isinstance(x, np.ndarray) and x.dtype.kind == "f"


def has_peer(row: Row) -> bool:
    return any((row.torch, row.jax, row.numpy))


def run(row: Row, arrays, dtype="float64"):
    """Our results, and the gradients of their weighted sum for each float input."""
    xs = [
        Tensor(x, dtype=dtype, requires_grad=True) if is_float(x) else as_input(x) for x in arrays
    ]
    ys = as_list(row(*xs))
    floats = [y for y in ys if isinstance(y, Tensor) and y.requires_grad]
    targets = [x for x in xs if isinstance(x, Tensor) and x.requires_grad]
    if not floats or not targets:
        return ys, [np.zeros(x.shape, dtype) for x in targets]
    found = grad(floats, targets, [Tensor(weights(y)) for y in floats], allow_unused=True)
    return ys, [
        np.zeros(x.shape, dtype) if g is None else g.numpy() for x, g in zip(targets, found)
    ]


def as_input(x):
    return Tensor(x) if isinstance(x, np.ndarray) else x


def weights(y) -> np.ndarray:
    """The gradient that arrives at a result: the same numbers for us and the peer."""
    return np.cos(np.arange(np.size(y))).reshape(np.shape(y)).astype(y.dtype)


def peer_values(row: Row, arrays) -> list[np.ndarray]:
    if row.numpy is not None:
        return [np.asarray(y) for y in as_list(row.numpy(*arrays, **row.params))]
    if row.torch is not None:
        convert = lambda x: torch.tensor(x) if isinstance(x, np.ndarray) else x  # noqa: E731
        ys = as_list(lookup(torch, row.torch)(*map(convert, arrays), **row.params))
        return [y.detach().numpy() if hasattr(y, "detach") else np.asarray(y) for y in ys]
    convert = lambda x: jnp.asarray(x) if isinstance(x, np.ndarray) else x  # noqa: E731
    ys = lookup(jnp, row.jax)(*map(convert, arrays), **row.params)
    return [np.asarray(y) for y in as_list(ys)]


def peer_gradients(row: Row, arrays) -> list[np.ndarray]:
    if row.torch is not None:
        return _torch_gradients(row, arrays)
    return _jax_gradients(row, arrays)


def _torch_gradients(row: Row, arrays) -> list[np.ndarray]:
    xs = [
        torch.tensor(x, requires_grad=is_float(x)) if isinstance(x, np.ndarray) else x
        for x in arrays
    ]
    ys = [y for y in as_list(lookup(torch, row.torch)(*xs, **row.params)) if y.requires_grad]
    targets = [x for x, array in zip(xs, arrays) if is_float(array)]
    seeds = [torch.tensor(weights(y.detach().numpy())) for y in ys]
    found = torch.autograd.grad(ys, targets, seeds, allow_unused=True)
    return [np.zeros(x.shape) if g is None else g.numpy() for x, g in zip(targets, found)]


def _jax_gradients(row: Row, arrays) -> list[np.ndarray]:
    wanted = tuple(i for i, x in enumerate(arrays) if is_float(x))

    def total(*xs):
        ys = as_list(lookup(jnp, row.jax)(*xs, **row.params))
        return sum((y * weights(y)).sum() for y in ys if jnp.issubdtype(y.dtype, jnp.floating))

    convert = lambda x: jnp.asarray(x) if isinstance(x, np.ndarray) else x  # noqa: E731
    return [np.asarray(g) for g in jax.grad(total, wanted)(*map(convert, arrays))]


def assert_close(ours, peers, rtol):
    assert len(ours) == len(peers)
    for a, b in zip(ours, peers):
        a, b = np.asarray(a), np.asarray(b)
        assert a.shape == b.shape
        size = np.abs(b[np.isfinite(b)]).max(initial=1.0) if b.dtype.kind == "f" else 1.0
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * size)


# --- the tests, in the order in which they help to find a mistake -----------------------------


@for_rows(has_peer)
def test_value_and_gradient_are_the_peers(row, data):
    arrays = data.draw(row.inputs).arrays
    ys, gradients = run(row, arrays)
    assert_close(ys, peer_values(row, arrays), 1e-10)
    if row.grad and row.peer_grad and row.numpy is None:
        assert_close(gradients, peer_gradients(row, arrays), 1e-9)
    if not row.grad:
        assert not [y for y in ys if isinstance(y, Tensor) and y.requires_grad]


@for_rows(examples=3)
def test_float32_stays_float32(row, data):
    arrays = data.draw(row.inputs).arrays
    singles = [x.astype("float32") if is_float(x) else x for x in arrays]
    doubles = [x.astype("float64") if is_float(x) else x for x in singles]
    ys, gradients = run(row, singles, "float32")
    if has_peer(row):
        assert_close(ys, peer_values(row, doubles), row.rtol32)
    if any(map(is_float, arrays)):
        assert not [y for y in ys if isinstance(y, Tensor) and y.dtype in ("float16", "float64")]
    assert not [g for g in gradients if g.dtype != "float32"]


@for_rows(lambda row: row.grad and row.order, examples=3)
def test_derivatives_are_right_to_higher_order(row, data):
    arrays = data.draw(row.inputs).arrays
    floats = [i for i, x in enumerate(arrays) if is_float(x)]

    def f(*xs):
        places = dict(zip(floats, xs))
        ys = as_list(row(*[places.get(i, as_input(x)) for i, x in enumerate(arrays)]))
        return [y for y in ys if y.dtype.kind == "f"]

    check_grads(f, *[arrays[i] for i in floats], order=row.order)


@for_rows(lambda row: row.integers, examples=3)
def test_integers_become_floats_only_where_needed(row, data):
    """Integers alone give what the same floats give; among float32 they leave it float32."""
    inputs = data.draw(row.inputs)
    real = [isinstance(domain, Real) for domain in inputs.domains]
    if not any(real):
        return
    whole = [
        domain.whole(inputs.rng, x.shape) if isinstance(domain, Real) else x
        for x, domain in zip(inputs.arrays, inputs.domains)
    ]
    exact = [x.astype("float32") if is_real else x for x, is_real in zip(whole, real)]
    expected = as_list(row(*map(as_input, exact)))
    assert_close(as_list(row(*map(as_input, whole))), expected, 1e-5)
    mixed = as_list(row(as_input(exact[0]), *map(as_input, whole[1:])))
    assert_close(mixed, expected, 1e-5)
    assert not [y for y in mixed if isinstance(y, Tensor) and y.dtype == "float64"]


@for_rows(examples=2)
def test_kernels_agree_with_the_reference(row, data):
    """A fast kernel with the reference; a fused op, or its gradient, with what it means."""
    arrays = data.draw(row.inputs).arrays
    with using(kernels.find) as used:
        ys, gradients = run(row, arrays)
    fused = {op.name for op in OPS if op.ref is not None and op.name in used}
    by_hand = {f"{op.name}_grad" for op in OPS} - {op.name for op in OPS}
    hidden = fused | (by_hand & used)
    if used & set(kernels._CPU_MODULE):
        with using(lambda device, name: find("reference", name)):
            slow_ys, slow_gradients = run(row, arrays)
        assert_close(ys, slow_ys, 1e-10)
        assert_close(gradients, slow_gradients, 1e-10)
    if hidden:
        with using(lambda device, name: None if name in hidden else find(device, name)):
            plain_ys, plain_gradients = run(row, arrays)
        assert_close(ys, plain_ys, 1e-10)
        assert_close(gradients, plain_gradients, 1e-9)


def test_no_gradient_kernel_is_forgotten():
    names = {op.name for op in OPS}
    for op in OPS:
        name = f"{op.name}_grad"
        exists = any(kernels.find(device, name) for device in ("cpu", "python"))
        if exists and name not in names:  # otherwise an op of its own, which the rules use
            assert isinstance(op.gradient_kernels, kernels.OpKernels), op.name


def spread(x):
    """The same numbers, with a gap behind each in memory."""
    if not is_float(x) or not x.ndim:
        return x
    wide = np.full((*x.shape[:-1], 2 * x.shape[-1]), np.nan, x.dtype)
    wide[..., ::2] = x
    return wide[..., ::2]


@for_rows(lambda row: row.grad, examples=2)
def test_any_layout_of_memory(row, data):
    """Inputs with gaps, and the gradient of a sum, which is one number for all places."""
    arrays = [x.astype("float32") if is_float(x) else x for x in data.draw(row.inputs).arrays]

    def gradients(inputs, ones):
        xs = [Tensor(x, requires_grad=True) if is_float(x) else as_input(x) for x in inputs]
        ys = [y for y in as_list(row(*xs)) if isinstance(y, Tensor) and y.requires_grad]
        targets = [x for x in xs if isinstance(x, Tensor) and x.requires_grad]
        found = grad(ys, targets, [Tensor(ones(y)) for y in ys], allow_unused=True) if ys else []
        return [y.numpy() for y in ys], [g.numpy() for g in found if g is not None]

    plain = gradients(arrays, lambda y: np.ones(y.shape, y.dtype))
    other = gradients(
        [spread(x) for x in arrays], lambda y: np.broadcast_to(np.ones((), y.dtype), y.shape)
    )
    for expected, got in zip(sum(plain, []), sum(other, []), strict=True):
        scale = np.abs(expected).max(initial=1e-30, where=np.isfinite(expected))
        np.testing.assert_allclose(got, expected, rtol=row.rtol32, atol=row.rtol32 * scale)


@for_rows(examples=1)
def test_cuda_agrees_with_the_cpu(row, data):
    """Values and gradients on the (simulated) GPU, where no op is without a kernel."""
    pytest.importorskip("numba_cuda")
    arrays = data.draw(row.inputs).arrays
    ys, gradients = run(row, arrays)
    with config.device("cuda"):
        cuda_ys, cuda_gradients = run(row, arrays)
    for y in cuda_ys:
        assert not isinstance(y, Tensor) or y.device == "cuda"
    assert_close(cuda_ys, ys, 1e-10)
    assert_close(cuda_gradients, gradients, 1e-9)


find = kernels.find
OPS = [x for x in gc.get_objects() if isinstance(x, Op)]


@contextmanager
def using(lookup):
    """Ops find their kernels with `lookup(device, name)`; gives the set of names they asked for."""
    used: set[str] = set()

    def spy(device, name):
        used.add(name)
        return lookup(device, name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "find", spy)
        try:
            _forget_kernels()
            yield used
        finally:
            _forget_kernels()


def _forget_kernels():
    for op in OPS:
        op.kernels.clear()
        op.gradient_kernels.clear()


def test_every_public_function_has_a_row():
    covered = {id(row.op) for row in ROWS}
    public = {name: getattr(ops, name) for name in ops.__all__}
    public |= {name: getattr(ops.image, name) for name in ops.image.__all__}
    missing = [
        name
        for name, function in public.items()
        if callable(function) and id(function) not in covered and name not in EXCEPTIONS
    ]
    assert not missing, f"add rows to tests/ops_*.py for: {', '.join(sorted(missing))}"


def test_no_exception_is_stale():
    """An exception names a function that exists and has no row."""
    covered = {id(row.op) for row in ROWS}
    for name in EXCEPTIONS:
        module = ops.image if name in ops.image.__all__ else ops
        assert name in module.__all__
        assert id(getattr(module, name)) not in covered
