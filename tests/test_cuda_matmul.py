"""Matrix products on the GPU, in the simulator, against NumPy's."""

import numpy as np
import pytest

pytest.importorskip("numba_cuda")

from cuda_peer import assert_close, on_gpu
from ml_dtypes import bfloat16

from minitorch_ciml import config
from minitorch_ciml.kernels.cuda import cores
from minitorch_ciml.kernels.cuda import matmul as gpu
from minitorch_ciml.kernels.cuda import matmul_warpgroup as warpgroup
from minitorch_ciml.kernels.cuda.matmul_tiles import TILES
from minitorch_ciml.kernels.cuda.tiles import LARGE, MEDIUM, SMALL
from minitorch_ciml.kernels.reference import nn

RNG = np.random.default_rng(0)
TRANSPOSITIONS = [(a, b) for a in (False, True) for b in (False, True)]
FLAGS = [{"transpose_a": a, "transpose_b": b} for a, b in TRANSPOSITIONS]


def normal(*shape, dtype="float32"):
    return RNG.normal(size=shape).astype(dtype)


def factors(m, n, k, flags, batch_a=(), batch_b=(), dtype="float32"):
    a = (k, m) if flags["transpose_a"] else (m, k)
    b = (n, k) if flags["transpose_b"] else (k, n)
    return normal(*batch_a, *a, dtype=dtype), normal(*batch_b, *b, dtype=dtype)


def expected(a, b, transpose_a=False, transpose_b=False):
    return np.matmul(
        a.swapaxes(-1, -2) if transpose_a else a, b.swapaxes(-1, -2) if transpose_b else b
    )


def only(monkeypatch, tile, shares=1):
    """Makes this tile the one that is used, with this number of shares."""

    def plan(m, n, k, count, code):
        share = max(1, -(-k // (shares * tile.slice))) * tile.slice
        return tile, share, max(1, -(-k // share))

    monkeypatch.setattr(gpu, "plan", plan)


@pytest.mark.parametrize("flags", FLAGS, ids=str)
@pytest.mark.parametrize("size", [(1, 1, 1), (3, 5, 2), (33, 31, 17), (32, 64, 16), (36, 28, 40)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_sizes(size, flags, dtype):
    """On both sides of a tile and a slice, with lines of whole fours and without."""
    a, b = factors(*size, flags, dtype=dtype)
    assert_close(on_gpu(gpu.matmul, a, b, **flags), expected(a, b, **flags))


@pytest.mark.parametrize("flags", FLAGS, ids=str)
@pytest.mark.parametrize("tile", [LARGE, MEDIUM, SMALL], ids=lambda tile: tile.name)
def test_tiles(tile, flags, monkeypatch):
    """Each by itself, filled and not."""
    only(monkeypatch, tile)
    for m, n, k in ((tile.rows, tile.columns, 12), (tile.rows + 1, 4, 9)):
        a, b = factors(m, n, k, flags)
        assert_close(on_gpu(gpu.matmul, a, b, **flags), expected(a, b, **flags))


@pytest.mark.parametrize("shape", [(0, 3, 2), (2, 0, 3), (2, 3, 0)], ids=str)
@pytest.mark.parametrize("dtype", ["float32", "int32"])
def test_empty(shape, dtype):
    m, n, k = shape
    a, b = np.ones((m, k), dtype), np.ones((k, n), dtype)
    assert_close(on_gpu(gpu.matmul, a, b), a @ b)
    assert_close(on_gpu(gpu.matmul, a[None], b), a[None] @ b)


BATCHES = [
    ((3,), (3,)),
    ((3,), ()),
    ((), (3,)),
    ((2, 3), (3,)),
    ((2, 1), (1, 3)),
    ((2, 1, 2), (1, 3, 1)),
    ((2, 1, 2, 1), (1, 3, 1, 2)),
    ((1,), (2,)),
    ((0,), (1,)),
]


@pytest.mark.parametrize("batches", BATCHES, ids=str)
@pytest.mark.parametrize("flags", FLAGS, ids=str)
def test_batches(batches, flags):
    a, b = factors(3, 2, 5, flags, *batches)
    assert_close(on_gpu(gpu.matmul, a, b, **flags), expected(a, b, **flags))


def test_many_batches(monkeypatch):
    """More than a launch can have."""
    monkeypatch.setattr(gpu, "_MOST_BATCHES", 2)
    a, b = factors(3, 4, 5, FLAGS[0], (5,), (5,))
    assert_close(on_gpu(gpu.matmul, a, b), a @ b)


@pytest.mark.parametrize("flags", FLAGS, ids=str)
def test_shares(flags, monkeypatch):
    """A sum over k that several blocks have a share of; the last share is shorter."""
    only(monkeypatch, SMALL, 4)
    for batch in ((), (2,)):
        a, b = factors(5, 6, 100, flags, batch, batch)
        first = on_gpu(gpu.matmul, a, b, **flags)
        assert_close(first, expected(a, b, **flags))
        np.testing.assert_array_equal(first, on_gpu(gpu.matmul, a, b, **flags))


@pytest.mark.parametrize("shares", [1, 3])
@pytest.mark.parametrize("activation", ["relu", "linear"])
@pytest.mark.parametrize("shape", [(7, 40, 10), (4, 2, 40, 12), (0, 5, 3)], ids=str)
def test_dense(shape, activation, shares, monkeypatch):
    """With bias and activation, and its gradients; NaN stays."""
    only(monkeypatch, SMALL, shares)
    x, w, bias = normal(*shape[:-1]), normal(*shape[-2:]), normal(shape[-1])
    if x.size and shape[0] == 7:
        x[0, 0] = np.nan
    y = nn.dense(x, w, bias, activation=activation)
    assert_close(on_gpu(gpu.dense, x, w, bias, activation=activation), y)
    x = np.nan_to_num(x)
    y, g = nn.dense(x, w, bias, activation=activation), normal(*y.shape)
    for needs in ((True, True, True), (True, False, False), (False, True, False)):
        how = {"needs": needs, "activation": activation}
        assert_close(
            on_gpu(gpu.dense_grad, g, y, x, w, bias, **how),
            nn.dense_grad(g, y, x, w, bias, **how),
        )


@pytest.mark.parametrize("flags", FLAGS, ids=str)
@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "int64", "bool"])
def test_integers(dtype, flags):
    """Sums wrap as NumPy's do."""
    for batch, size in (((), (17, 15, 33)), ((2,), (3, 20, 1))):
        a, b = factors(*size, flags, batch, batch, dtype="float64")
        a, b = ((x * 3 - 0.5).astype(dtype) for x in (a, b))
        assert_close(on_gpu(gpu.matmul, a, b, **flags), expected(a, b, **flags))


def assert_rounded_once(found, exact, dtype):
    """As if the sum were exact, and then rounded."""
    assert found.dtype == dtype
    bits = {"float16": 11, "bfloat16": 8}[found.dtype.name]
    np.testing.assert_allclose(found.astype("float64"), exact, rtol=2.0**-bits, atol=1e-4)


@pytest.mark.parametrize("flags", FLAGS, ids=str)
@pytest.mark.parametrize("dtype", ["float16", bfloat16])
@pytest.mark.parametrize("capability", [(7, 5), (9, 0)], ids=str)
def test_small_floats(dtype, flags, capability, monkeypatch):
    """Summed up in float32, with tensor cores and without; a line is 16 bytes, or 4, or odd."""
    monkeypatch.setattr(gpu.runtime(), "capability", capability, raising=False)
    for size in ((24, 16, 40), (18, 14, 34), (7, 5, 3)):
        a, b = (x.astype(dtype) for x in factors(*size, flags))
        exact = expected(a.astype("float64"), b.astype("float64"), **flags)
        assert_rounded_once(on_gpu(gpu.matmul, a, b, **flags), exact, dtype)


@pytest.mark.parametrize("flags", FLAGS, ids=str)
@pytest.mark.parametrize("dtype", ["float16", bfloat16])
@pytest.mark.parametrize("tile", [cores.LARGE, cores.SMALL], ids=lambda tile: tile.name)
def test_small_floats_in_tiles(dtype, flags, tile, monkeypatch):
    only(monkeypatch, tile)
    a, b = (x.astype(dtype) for x in factors(tile.rows + 8, 24, 40, flags))
    exact = expected(a.astype("float64"), b.astype("float64"), **flags)
    assert_rounded_once(on_gpu(gpu.matmul, a, b, **flags), exact, dtype)


@pytest.mark.parametrize("dtype", ["float16", bfloat16])
def test_small_floats_in_shares(dtype, monkeypatch):
    """The shares are float32; dense adds the bias to their sum."""
    only(monkeypatch, cores.SMALL, 3)
    x, w, bias = normal(6, 100).astype(dtype), normal(100, 8).astype(dtype), normal(8).astype(dtype)
    for activation in ("relu", "linear"):
        exact = nn.dense(*(z.astype("float64") for z in (x, w, bias)), activation=activation)
        found = on_gpu(gpu.dense, x, w, bias, activation=activation)
        assert_rounded_once(found, exact, dtype)


@pytest.mark.parametrize("flags", FLAGS, ids=str)
@pytest.mark.parametrize("numbers", [cores.F16, cores.BF16], ids=lambda numbers: numbers.name)
def test_shares_of_small_floats(numbers, flags, monkeypatch):
    """On Hopper's tensor cores and on the older ones."""
    dtype = {cores.F16: "float16", cores.BF16: bfloat16}[numbers]
    monkeypatch.setattr(cores, "arithmetic", lambda code, narrowest: numbers)
    for tile, _ in (cores.TILES[numbers][-1], warpgroup.TILES[numbers][-1]):
        only(monkeypatch, tile, 2)
        a, b = (x.astype(dtype) for x in factors(8, 16, 136, flags))
        exact = expected(a.astype("float64"), b.astype("float64"), **flags)
        assert_rounded_once(on_gpu(gpu.matmul, a, b, **flags), exact, dtype)


@pytest.mark.parametrize("flags", FLAGS, ids=str)
@pytest.mark.parametrize("precision", ["high", "medium"])
def test_float32_on_tensor_cores(precision, flags, monkeypatch):
    """3xTF32 is about as precise as float32, TF32 has a relative error about 1e-3."""
    if gpu.runtime().capability < cores.NEEDS:
        pytest.skip("no tensor cores for float32")
    monkeypatch.setattr(config, "get_float32_matmul_precision", lambda: precision)
    for size in ((68, 72, 20), (65, 67, 19)):  # lines of 16 bytes, and not
        a, b = factors(*size, flags)
        exact = expected(a.astype("float64"), b.astype("float64"), **flags)
        error = np.abs(on_gpu(gpu.matmul, a, b, **flags) - exact).max() / np.abs(exact).max()
        low, high = {"high": (0, 1e-6), "medium": (2e-5, 1e-3)}[precision]
        assert low < error < high


HOPPERS = {
    (numbers, tile): dtype
    for numbers, dtype in (
        (cores.TF32, "float32"), (cores.TF32X3, "float32"), (cores.BF16, bfloat16),
        (cores.F16, "float16"),
    )
    for tile, _ in warpgroup.TILES[numbers]
}  # fmt: skip


@pytest.mark.parametrize("flags", FLAGS, ids=str)
@pytest.mark.parametrize("how", HOPPERS, ids=lambda how: f"{how[0].name}-{how[1].name}")
def test_warp_groups(how, flags, monkeypatch):
    """Past the edges of a tile and of all places for slices; lines of 16 bytes, 4, and less."""
    numbers, tile = how
    only(monkeypatch, tile)
    monkeypatch.setattr(cores, "arithmetic", lambda code, narrowest: numbers)
    depth = 128 // numbers.size
    for size in ((tile.rows + 8, 24, 5 * depth + 8), (70, tile.columns + 2, depth + 2), (3, 2, 2)):
        a, b = (x.astype(HOPPERS[how]) for x in factors(*size, flags))
        exact = expected(a.astype("float64"), b.astype("float64"), **flags)
        found = on_gpu(gpu.matmul, a, b, **flags)
        if numbers.size == 2:
            assert_rounded_once(found, exact, HOPPERS[how])
        else:
            error = np.abs(found - exact).max() / np.abs(exact).max()
            assert error < (2e-6 if numbers.is_thrice else 1e-3)


@pytest.mark.parametrize("numbers", warpgroup.TILES, ids=lambda numbers: numbers.name)
def test_warp_groups_in_batches_and_shares(numbers, monkeypatch):
    """With bias and activation; a k of 0, too."""
    tile = warpgroup.TILES[numbers][-1][0]
    monkeypatch.setattr(cores, "arithmetic", lambda code, narrowest: numbers)
    dtype = HOPPERS[numbers, tile]
    for shares, k in ((1, 40), (3, 200), (1, 0)):
        only(monkeypatch, tile, shares)
        x, w, bias = (normal(*s).astype(dtype) for s in ((6, k), (k, 10), (10,)))
        exact = np.maximum(x.astype("float64") @ w.astype("float64") + bias.astype("float64"), 0)
        found = on_gpu(gpu.dense, x, w, bias, activation="relu")
        np.testing.assert_allclose(found.astype("float64"), exact, rtol=2.0**-8, atol=0.02)
        a, b = normal(2, 6, k).astype(dtype), normal(2, k, 10).astype(dtype)
        exact = a.astype("float64") @ b.astype("float64")
        found = on_gpu(gpu.matmul, a, b)
        np.testing.assert_allclose(found.astype("float64"), exact, rtol=2.0**-8, atol=0.02)


def test_warp_groups_are_chosen_on_hopper(monkeypatch):
    """For large products, and nowhere else."""
    plan = gpu.plan.__wrapped__
    for numbers in warpgroup.TILES:
        for capability, is_hopper in (((8, 0), False), ((9, 0), True), ((10, 0), False)):
            monkeypatch.setattr(gpu.runtime(), "capability", capability, raising=False)
            tile = plan(4096, 4096, 4096, 1, numbers)[0]
            assert isinstance(tile, gpu.GroupTile) == is_hopper
            assert not isinstance(plan(64, 64, 64, 1, numbers)[0], gpu.GroupTile)


@pytest.mark.parametrize("size", [(8192, 8192, 8192), (128, 10, 784), (1, 1, 100000), (64, 64, 1)])
def test_plan(size):
    """Shares cover k, each but the last of whole slices; large products get large tiles."""
    for code in TILES:
        tile, share, shares = gpu.plan(*size, 1, code)
        assert share % tile.slice == 0 and (shares - 1) * share < size[2] <= shares * share
    assert gpu.plan(8192, 8192, 8192, 1, "f4")[0] is LARGE
    assert gpu.plan(128, 10, 784, 1, "f4")[2] > 1


def test_unequal_sizes_are_an_error():
    with pytest.raises(ValueError, match="last size of the first"):
        on_gpu(gpu.matmul, normal(2, 3), normal(2, 3))
