"""The GPU's kernels that are bound by memory, in the simulator, beside NumPy's.

`test_ops.py` has every op with small arrays; here are the sizes on both sides of a warp, a block
and a tile, what several blocks do together, odd numbers, and odd types.
"""

from functools import partial
from itertools import permutations

import numpy as np
import pytest

pytest.importorskip("numba_cuda")

import ml_dtypes
from cuda_peer import assert_close, assert_equal, on_gpu

from minitorch_ciml.kernels.cuda import (
    functions,
    indexing,
    losses,
    normalization,
    reduce,
    scan,
    search,
    shape,
    softmax,
    sort,
)
from minitorch_ciml.kernels.cuda.elementwise import cast
from minitorch_ciml.kernels.cuda.memory import to_device
from minitorch_ciml.kernels.reference import elementwise as reference_functions
from minitorch_ciml.kernels.reference import nn as reference_nn
from minitorch_ciml.kernels.reference import normalization as reference_normalization
from minitorch_ciml.kernels.reference import reduce as reference_reduce
from minitorch_ciml.kernels.reference import shape as reference_shape

RNG = np.random.default_rng(0)
HALVES = ["float16", ml_dtypes.bfloat16]


def normal(*sizes, dtype="float32"):
    return RNG.normal(size=sizes).astype(dtype)


# --- elementwise ----------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [0, 1, 3, 4, 31, 33, 255, 257, 1027])
def test_elementwise_sizes(n):
    a, b = normal(2, n)
    assert_equal(on_gpu(functions.TABLE["subtract"], a, b), a - b)
    assert_equal(on_gpu(functions.TABLE["negative"], a), -a)


@pytest.mark.parametrize(
    "shapes",
    [
        ((5, 12), (12,)),  # rows in fours
        ((5, 12), (5, 1)),
        ((5, 13), (13,)),  # not in fours
        ((7, 1), (1, 9)),
        ((2, 3, 4, 8), (3, 1, 8)),
        ((1, 3, 1, 5), (4, 1, 2, 1)),
        ((2, 1, 2, 1, 2, 1), (1, 3, 1, 3, 1, 3)),  # more axes than the kernel has
        ((0, 3), (1, 3)),
    ],
)
def test_elementwise_broadcasts(shapes):
    a, b = (normal(*s) for s in shapes)
    assert_equal(on_gpu(functions.TABLE["multiply"], a, b), a * b)
    c = a > 0
    assert_equal(on_gpu(functions.where, c, a, b), np.where(c, a, b))


def test_elementwise_on_rows_that_are_not_aligned():
    x = to_device(normal(9, 7))
    part = x[1:8]
    assert not part.is_aligned
    assert_close(functions.TABLE["exp"](part).numpy(), np.exp(part.numpy()))
    sums = functions.TABLE["add"](part, to_device(normal(7)))
    assert sums.shape == (7, 7)


ODD = np.array([0.0, -0.0, 1.0, -1.0, 0.5, -2.5, 3.5, 1e30, np.inf, -np.inf, np.nan])
ODD_UNARY = [
    "absolute", "ceil", "erfinv", "floor", "isfinite", "isinf", "isnan", "isneginf", "isposinf",
    "logical_not", "negative", "reciprocal", "relu", "sigmoid", "sign", "signbit", "sqrt", "square",
    "trunc",
]  # fmt: skip
ODD_BINARY = [
    "floor_divide", "fmod", "heaviside", "hypot", "less", "logaddexp", "logaddexp2", "logical_xor",
    "maximum", "minimum", "mod", "not_equal",
]  # fmt: skip


@pytest.mark.parametrize("name", ODD_UNARY)
def test_odd_numbers(name):
    same(name, ODD.astype("float32"))


@pytest.mark.parametrize("name", ODD_BINARY)
def test_pairs_of_odd_numbers(name):
    a, b = np.meshgrid(ODD, ODD)
    same(name, a.astype("float32"), b.astype("float32"))


def test_powers():
    """Without roots of -infinity and -0.0: NumPy's differ between arrays and numbers."""
    a, b = np.meshgrid(ODD, ODD)
    usual = b != 0.5
    same("power", a[usual].astype("float32"), b[usual].astype("float32"))


@pytest.mark.parametrize("decimals", [0, 1, -1])
def test_round(decimals):
    same("round", np.array([0.5, 1.5, -2.5, 12.25, -15.0, 1e30]), decimals=decimals)
    same("round", np.array([15, 25, -14]), decimals=decimals)


def same(name, *arrays, **how):
    """Values, dtypes and signs of zeros are NumPy's."""
    with np.errstate(all="ignore"):
        expected = np.asarray(getattr(reference_functions, name)(*arrays, **how))
        found = on_gpu(getattr(functions, name), *arrays, **how)
        assert found.dtype == expected.dtype
        np.testing.assert_allclose(found, expected, 2e-6)
        if expected.dtype.kind == "f":
            real = ~np.isnan(expected)
            np.testing.assert_array_equal(np.signbit(found[real]), np.signbit(expected[real]))


WHOLE = np.array([0, 1, -1, 2, -3, 7, 40, 100])


@pytest.mark.parametrize(
    "name",
    ["add", "bitwise_and", "bitwise_xor", "floor_divide", "fmod", "gcd", "lcm", "left_shift",
     "maximum", "mod", "multiply", "right_shift", "subtract"],
)  # fmt: skip
@pytest.mark.parametrize("dtype", ["int32", "int64", "uint8"])
def test_integers(name, dtype):
    a, b = np.meshgrid(np.abs(WHOLE) if dtype == "uint8" else WHOLE, WHOLE)
    b = np.abs(b) if dtype == "uint8" or "shift" in name else b
    same(name, a.astype(dtype), b.astype(dtype))


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_halves_are_computed_in_float32(dtype):
    a, b = normal(2, 37).astype(dtype)
    expected = (a.astype("float32") * b.astype("float32")).astype(dtype)
    found = on_gpu(functions.TABLE["multiply"], a, b)
    assert found.dtype == dtype
    assert_equal(found.view("uint16"), expected.view("uint16"))
    assert_equal(on_gpu(cast, a, dtype="float32"), a.astype("float32"))
    halves = on_gpu(cast, a.astype("float32") + np.float32(1e-3), dtype=dtype)
    assert_equal(halves, (a.astype("float32") + np.float32(1e-3)).astype(dtype))


@pytest.mark.parametrize("source", ["bool", "uint8", "int8", "int16", "int32", "float32"])
@pytest.mark.parametrize("target", ["bool", "int8", "int64", "uint32", "float64"])
def test_casts(source, target):
    x = np.array([0, 1, 5, 100]).astype(source)
    assert_equal(on_gpu(cast, x, dtype=target), x.astype(target))


@pytest.mark.parametrize("source", ["float32", "float64", *HALVES], ids=str)
def test_casts_to_bytes_wrap(source):
    x = np.array([-1.5, -300, 255.9, 256, 1000]).astype(source)
    expected = x.astype("int32").astype("uint8")
    assert_equal(on_gpu(cast, x, dtype="uint8"), expected)


# --- reductions -----------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 31, 33, 255, 257, 1023, 1025, 5000])
def test_sums_of_rows(n):
    x = normal(3 if n < 300 else 1, n, dtype="float64")
    for name in ("sum", "mean", "var", "logsumexp"):
        agrees(name, x, (1,))
    x = x.astype("float32")
    for name in ("sum", "min", "max"):
        agrees(name, x, (0, 1))


@pytest.mark.parametrize("shape", [(33, 1), (33, 3), (257, 5), (9, 31), (300, 33), (1030, 2)])
def test_sums_of_columns(shape):
    x = normal(*shape, dtype="float64")
    for name in ("sum", "var", "prod"):
        agrees(name, x, (0,))


@pytest.mark.parametrize("axis", [(), (0,), (1,), (2,), (3,), (0, 2), (1, 3), (0, 2, 3), (0, 1, 3)])
@pytest.mark.parametrize("keepdims", [False, True])
def test_axes(axis, keepdims):
    x = normal(3, 4, 2, 5, dtype="float64")
    for name in ("mean", "var", "max", "logsumexp", "any"):
        agrees(name, x, axis, keepdims)


def agrees(name, x, axis, keepdims=False):
    how = {"axis": axis, "keepdims": keepdims}
    if name in ("max", "min"):
        how["initial"] = None
    expected = np.asarray(getattr(reference_reduce, name)(x, **how))
    assert_close(on_gpu(getattr(reduce, name), x, **how), expected)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int8", "int32", "int64"])
def test_sums_of_integers(dtype):
    x = RNG.integers(0, 2 if dtype == "bool" else 100, (5, 70)).astype(dtype)
    for axis in ((0,), (1,), (0, 1)):
        how = {"axis": axis, "keepdims": False}
        assert_equal(on_gpu(reduce.sum, x, **how), np.asarray(x.sum(axis)))
    if dtype != "int8":
        how = {"axis": (1,), "keepdims": False, "initial": None}
        assert_equal(on_gpu(reduce.max, x, **how), x.max(1))


def test_a_long_sum_is_exact_to_float32_and_repeats():
    """Over several blocks; not worse than NumPy's sum in pairs, and the same bits each time."""
    x = (RNG.random(40_000) + 0.5).astype("float32")
    sums = [on_gpu(reduce.sum, x, axis=(0,), keepdims=False) for _ in range(2)]
    assert_equal(*sums)
    exact = x.astype("float64").sum()
    assert abs(sums[0] - exact) <= max(abs(x.sum() - exact), np.spacing(np.float32(exact)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_norm_of_a_long_vector(dtype):
    """Several blocks share it."""
    x = normal(20_000, dtype=dtype)
    norm = np.sqrt((x.astype("float64") ** 2).sum()).astype(dtype)
    assert_close(on_gpu(reduce.vector_norm, x, axis=(0,)), norm.reshape(1))


def test_nan_is_the_largest_and_the_smallest():
    x = normal(4, 300)
    x[1, 7] = x[1, 200] = x[3, 299] = np.nan
    for name in ("max", "min"):
        agrees(name, x, (1,))
    for name in ("argmax", "argmin"):
        found = on_gpu(getattr(search, name), x, axis=1, keepdims=False)
        assert_equal(found, getattr(np, name)(x, 1))


@pytest.mark.parametrize("shape", [(1, 1), (3, 31), (2, 257), (70, 3)])
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_the_first_of_equal_places(shape, axis):
    places_agree(RNG.integers(0, 3, shape).astype("float32"), axis)


def test_the_first_of_equal_places_of_several_blocks():
    places_agree(RNG.integers(0, 3, 20_000).astype("float32"), None)


def places_agree(x, axis):
    for name in ("argmax", "argmin"):
        found = on_gpu(getattr(search, name), x, axis=axis, keepdims=False)
        assert_equal(found, np.asarray(getattr(np, name)(x, axis)))


@pytest.mark.parametrize("n", [1, 31, 33, 256, 257, 600])
def test_running_sums(n):
    x = normal(2, n, 2, dtype="float64")
    assert_close(on_gpu(scan.cumsum, x, axis=1), np.cumsum(x, 1))
    a = 0.9 + 0.1 * normal(n, dtype="float64")
    assert_close(on_gpu(scan.cumprod, a, axis=0), np.cumprod(a))
    expected = reference_reduce.recurrence(a, x[0, :, 0], 0)
    assert_close(on_gpu(scan.recurrence, a, x[0, :, 0], axis=0), expected)
    whole = RNG.integers(0, 9, n).astype("int32")
    assert_equal(on_gpu(scan.cumsum, whole, axis=0), np.cumsum(whole))


@pytest.mark.parametrize("side", ["left", "right"])
def test_searchsorted(side):
    x = np.array([1.0, 2, 2, 5, np.nan])
    values = np.array([[0.0, 1, 2], [3, 9, np.nan]])
    found = on_gpu(partial(search.searchsorted, side=side), x, values)
    assert_equal(found, np.searchsorted(x, values, side))


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_sums_of_halves(dtype):
    x = normal(4, 300).astype(dtype)
    found = on_gpu(reduce.sum, x, axis=(1,), keepdims=False)
    assert found.dtype == dtype
    expected = x.astype("float64").sum(1)
    np.testing.assert_allclose(found.astype("float64"), expected, rtol=1e-2)


# --- copies and transposes ------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [(1, 5), (31, 33), (32, 32), (65, 3), (0, 4)])
@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32", "int64"])
def test_transposes(sizes, dtype):
    x = normal(*sizes).astype(dtype)
    assert_equal(on_gpu(shape.transpose, x, axes=None), np.ascontiguousarray(x.T))


@pytest.mark.parametrize("axes", list(permutations(range(4))), ids=str)
def test_permutations(axes):
    x = np.arange(3 * 4 * 2 * 6, dtype="float32").reshape(3, 4, 2, 6)
    assert_equal(on_gpu(shape.transpose, x, axes=axes), np.ascontiguousarray(x.transpose(axes)))


def test_many_axes():
    x = np.arange(2**6).reshape((2,) * 6)
    axes = (4, 0, 5, 2, 1, 3)
    assert_equal(on_gpu(shape.transpose, x, axes=axes), np.ascontiguousarray(x.transpose(axes)))


def test_broadcasts_and_joins():
    x = normal(3, 1, 5)
    found = on_gpu(shape.broadcast_to, x, shape=(2, 3, 4, 5))
    assert_equal(found, np.broadcast_to(x, (2, 3, 4, 5)).copy())
    parts = [normal(2, n, 3) for n in (4, 0, 1)]
    assert_equal(on_gpu(shape.concatenate, *parts, axis=1), np.concatenate(parts, 1))
    assert_equal(on_gpu(shape.stack, *parts[:1] * 3, axis=-1), np.stack(parts[:1] * 3, -1))
    for shift, axis in ((2, None), (-1, 1), ((1, 7), (0, 2))):
        assert_equal(on_gpu(shape.roll, parts[0], shift=shift, axis=axis),
                     np.roll(parts[0], shift, axis))  # fmt: skip


# --- order ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 31, 33, 1024, 2100])
def test_sorting_is_stable(n):
    x = RNG.integers(0, 20, n).astype("float32")
    x[n // 2 :: 7] = np.nan
    assert_equal(on_gpu(sort.argsort, x, axis=0), np.argsort(x, kind="stable"))
    k = n // 2
    expected = reference_shape.top_indices(x, k)
    assert_equal(on_gpu(sort.top_indices, x, k=k), np.ascontiguousarray(expected))


@pytest.mark.parametrize("dtype", ["float64", *HALVES, "int32", "int64", "uint8", "bool"], ids=str)
def test_sorted_chunks_are_merged(dtype):
    x = RNG.integers(0, 20, 1030).astype(dtype)
    assert_equal(on_gpu(sort.argsort, x, axis=0), np.argsort(x, kind="stable"))


def test_sorting_along_axes():
    x = RNG.integers(0, 5, (3, 18, 2))
    for axis in (0, 1, -1):
        assert_equal(on_gpu(sort.argsort, x, axis=axis), np.argsort(x, axis, kind="stable"))


# --- indexing -------------------------------------------------------------------------------------

I = np.array  # noqa: E741
X = np.arange(5 * 6 * 7, dtype="float32").reshape(5, 6, 7)
INDICES = [
    2, -1, (1, -2), slice(1, 4), slice(None, None, -2), (..., 3), (slice(None), 2), None,
    (None, slice(4, 1, -1), ..., None), (slice(2, 2),), (Ellipsis,),
    I([0, 2, -1, 0]), (slice(None), I([[1, 5], [0, -6]])), (I([0, 1]), I([2, 2]), I([6, 0])),
    (I([0, 1, 1]), slice(None), I([2, 2, 0])), (slice(1, 4), I([5, 0]), slice(None, None, 3)),
    (2, slice(None), I([1, 1])), (slice(None), I([3, 0])[:, None], I([1, 2, 6])),
    (I([], dtype=int),), X[..., 0] > 40, (slice(None), I([True, False] * 3)),
    (I([1, 2]), None, I([0, 5])),
]  # fmt: skip


def places_on(device, index):
    """The index with its arrays on that device."""
    if device == "cpu":
        return index
    return tuple(map(partial(places_on, device), index)) if isinstance(index, tuple) else (
        to_device(index) if isinstance(index, np.ndarray) else index
    )  # fmt: skip


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("index", INDICES, ids=lambda index: str(index).replace("\n", "")[:40])
def test_indices(index, device):
    """Reading, adding and replacing, with index arrays from either side."""
    on_device = places_on(device, index)
    x = to_device(X)
    read = X[index]
    assert_equal(indexing.getitem(x, index=on_device).numpy(), np.ascontiguousarray(read))
    new = normal(*read.shape).round(2)
    expected = np.zeros_like(X)
    np.add.at(expected, index, new)
    added = [indexing.put(to_device(new), index=on_device, shape=X.shape) for _ in range(2)]
    assert_close(added[0].numpy(), expected)
    assert_equal(*[y.numpy() for y in added])
    replaced = X.copy()
    replaced[index] = new
    assert_equal(indexing.replace(x, to_device(new), index=on_device).numpy(), replaced)
    assert_equal(x.numpy(), X)


def test_many_additions_to_one_place():
    """In their order, as NumPy adds them, over more elements than a block has threads."""
    places = RNG.integers(0, 3, 600)
    rows = normal(600, 3)
    expected = np.zeros((4, 3), "float32")
    np.add.at(expected, places, rows)
    for index in (places, to_device(places)):
        assert_equal(indexing.put(to_device(rows), index=index, shape=(4, 3)).numpy(), expected)


def test_places_out_of_range():
    x = to_device(X)
    with pytest.raises(IndexError, match="out of bounds for axis 0 with size 5"):
        indexing.getitem(x, index=I([0, 5]))
    on_gpu_ = to_device(I([7, -9, 1]))  # not checked there: read nearby, not written
    assert_equal(indexing.getitem(x, index=on_gpu_).numpy(), X[[4, 0, 1]])
    added = indexing.put(to_device(np.ones((3, 6, 7), "float32")), index=on_gpu_, shape=X.shape)
    assert added.numpy().sum() == 42
    replaced = indexing.replace(x, to_device(np.float32(-1)), index=on_gpu_).numpy()
    assert (replaced == -1).sum() == 42


@pytest.mark.parametrize("dtype", ["bool", "float32", "int64"])
def test_triangles(dtype):
    x = RNG.integers(-(2**62), 2**62, (2, 5, 7)).astype(dtype)
    for k in (-2, 0, 3):
        assert_equal(on_gpu(indexing.triu, x, k=k), np.triu(x, k))
        assert_equal(on_gpu(indexing.tril, x, k=k), np.tril(x, k))


def test_nonzero():
    x = RNG.integers(0, 2, (7, 90))
    assert_equal(on_gpu(indexing.nonzero, x), x.nonzero())
    assert_equal(on_gpu(indexing.nonzero, np.zeros(5)), (np.zeros(0, int),))


# --- along rows -----------------------------------------------------------------------------------

ROWS = [(3, 1), (40, 8), (5, 9), (9, 33), (2, 1024), (2, 1025), (4, 3, 5), (2, 300, 2)]


@pytest.mark.parametrize("sizes", ROWS, ids=str)
@pytest.mark.parametrize("name", ["softmax", "log_softmax", "sparsemax"])
def test_softmax(name, sizes):
    axis = 1
    x, g = normal(*sizes, dtype="float64"), normal(*sizes, dtype="float64")
    y = getattr(reference_nn, name)(x, axis=axis)
    assert_close(on_gpu(getattr(softmax, name), x, axis=axis), y)
    if name != "sparsemax":
        how = {"needs": (True,), "axis": axis}
        expected = getattr(reference_nn, f"{name}_grad")(g, y, x, **how)
        assert_close(on_gpu(getattr(softmax, f"{name}_grad"), g, y, x, **how), expected)


def test_softmax_of_large_numbers_and_halves():
    x = np.array([[1e4, 1e4 + 1, -1e4], [-1e38, 0, 1]], "float32")
    assert_close(on_gpu(softmax.softmax, x, axis=1), reference_nn.softmax(x, axis=1))
    half = normal(3, 40).astype(ml_dtypes.bfloat16)
    found = on_gpu(softmax.softmax, half, axis=1).astype("float32")
    expected = reference_nn.softmax(half.astype("float32"), axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-2)


@pytest.mark.parametrize("sizes", [(40, 8), (5, 10), (2, 1025), (4, 3, 5)], ids=str)
@pytest.mark.parametrize("from_logits", [True, False])
def test_crossentropies(sizes, from_logits):
    x = normal(*sizes, dtype="float64")
    if not from_logits:
        x = np.abs(x)
        x[0, 0] = 0  # clipped
    how = {"from_logits": from_logits, "axis": 1}
    t = RNG.random(sizes)
    expected = reference_nn.categorical_crossentropy(t, x, **how)
    assert_close(on_gpu(losses.categorical_crossentropy, t, x, **how), expected)
    labels = RNG.integers(0, sizes[1], (sizes[0], *sizes[2:]))
    expected = reference_nn.sparse_categorical_crossentropy(labels, x, **how)
    for dtype in ("int64", "int32", "uint8", "int16"):
        if sizes[1] < 256 or dtype != "uint8":
            found = on_gpu(losses.sparse_categorical_crossentropy, labels.astype(dtype), x, **how)
            assert_close(found, expected)


def test_a_label_that_is_no_class_gives_nan():
    labels = np.array([0, 3, -1])
    for from_logits in (True, False):
        loss, slope = on_gpu(
            losses.sparse_categorical_crossentropy,
            labels, np.ones((3, 3), "float32"), from_logits=from_logits, axis=1,
        )  # fmt: skip
        assert np.isnan(loss).tolist() == [False, True, True]
        assert np.isnan(slope).all(1).tolist() == [False, True, True]


@pytest.mark.parametrize("sizes", [(1, 3), (40, 8), (2, 3, 33), (2, 1025)], ids=str)
def test_layer_normalization(sizes):
    x, g = normal(*sizes, dtype="float64") + 5, normal(*sizes, dtype="float64")
    gamma, beta = normal(2, sizes[-1], dtype="float64")
    y, saved = reference_normalization.layer_normalization(x, gamma, beta, epsilon=1e-3)
    arrays = tuple(map(to_device, (x, gamma, beta)))
    ours, own_saved = normalization.layer_normalization(*arrays, epsilon=1e-3)
    assert_close(ours.numpy(), y)
    how = {"needs": (True,) * 3, "epsilon": 1e-3}
    expected = reference_normalization.layer_normalization_grad(
        g, y, x, gamma, beta, saved=saved, **how
    )
    found = normalization.layer_normalization_grad(
        to_device(g), ours, *arrays, saved=own_saved, **how
    )
    for one, other in zip(found, expected):
        np.testing.assert_allclose(one.numpy(), other, 1e-9, 1e-9)


@pytest.mark.parametrize("sizes, axis", [((700, 3), 1), ((2, 3, 4, 33), 3), ((4, 3, 50), 1)])
def test_batch_normalization(sizes, axis):
    x, g = normal(*sizes, dtype="float64") + 3, normal(*sizes, dtype="float64")
    scale, offset = normal(2, sizes[axis], dtype="float64")
    moments = reference_normalization.batch_moments(x, axis=axis)
    assert_close(on_gpu(normalization.batch_moments, x, axis=axis), moments)
    how = {"axis": axis, "epsilon": 1e-3}
    agree("normalize_batch", x, scale, offset, moments, how=how)
    agree(
        "normalize_batch_grad", g, x, x, scale, offset, moments, how={**how, "needs": (True,) * 4}
    )
    vectors = (*moments, scale, offset)
    agree("batch_normalization", x, *vectors, how=how)
    agree("batch_normalization_grad", g, x, x, *vectors, how={**how, "needs": (True,) * 5})
    for activation in ("relu", "relu6"):
        more = {**how, "activation": activation}
        agree("batch_normalization", x, *moments, 9 * scale, offset, how=more)
        y = reference_normalization.batch_normalization(x, *moments, 9 * scale, offset, **more)
        more["needs"] = (True,) * 4
        agree("normalize_batch_grad", g, y, x, 9 * scale, offset, moments, how=more)


@pytest.mark.parametrize("sizes, axis", [((600, 5), 1), ((9, 3, 70), 1)])
def test_variances_lose_no_digits(sizes, axis):
    """Far from 0, and with a first part that differs from the rest."""
    x = normal(*sizes) + 1000
    x[: sizes[0] // 8] -= 500
    exact = reference_normalization.batch_moments(x.astype("float64"), axis=axis)
    found = on_gpu(normalization.batch_moments, x, axis=axis)
    np.testing.assert_allclose(found, exact, 3e-6)
    part = x[sizes[0] // 8 + 1 :]  # little variance, far from 0
    exact = reference_normalization.batch_moments(part.astype("float64"), axis=axis)
    np.testing.assert_allclose(on_gpu(normalization.batch_moments, part, axis=axis), exact, 3e-6)


def agree(name, *arrays, how):
    expected = getattr(reference_normalization, name)(*arrays, **how)
    assert_close(on_gpu(getattr(normalization, name), *arrays, **how), expected)
