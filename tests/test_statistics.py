"""Bad input and corners of what counts, sorts and gathers; values are in `ops_statistics.py`."""

import numpy as np
import pytest

from minitorch_ciml import ops
from minitorch_ciml.autograd import Tensor, grad


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ops.quantile([1.0], 1.5), "quantile: got q = 1.5, expected numbers from 0 to 1"),
        (lambda: ops.percentile([1.0], -1), "percentile: got q = -1, expected .* from 0 to 100"),
        (lambda: ops.quantile([1.0], 0.5, method="mean"), "got method 'mean', expected"),
        (lambda: ops.median(np.ones((2, 0)), axis=1), r"median: shape \(2, 0\) has no elements"),
        (lambda: ops.diff([1.0, 2.0], n=-1), "got n=-1, expected 0 or more"),
        (lambda: ops.corrcoef(np.ones((2, 2, 2))), r"expected \(R, N\) or \(N,\)"),
        (lambda: ops.correlate([1.0], [[1.0]]), "expected two sequences of numbers"),
        (lambda: ops.correlate([1.0], [1.0], "all"), "got mode 'all', expected 'valid'"),
        (lambda: ops.bincount([1, -2]), "got the number -2, expected none below 0"),
        (lambda: ops.bincount([1, 2], weights=[1.0]), "the weights .* must be equal"),
        (lambda: ops.bincount(np.ones((1, 1, 1), int)), r"expected \(N,\) or \(B, N\)"),
        (lambda: ops.bincount([1], sparse=True), "there are no sparse tensors"),
        (lambda: ops.digitize([1.0], [[1.0]]), r"got bins of shape \(1, 1\), expected \(K,\)"),
        (lambda: ops.histogram([1.0], bins=0), "got bins=0, expected a positive int"),
        (lambda: ops.histogram([1.0], range=(2, 1)), "expected an ascending one"),
        (lambda: ops.histogram([np.nan, 1.0]), "expected an ascending one"),
        (lambda: ops.select([True], []), "got 1 conditions and 0 choices"),
        (lambda: ops.segment_max([1.0, 2.0], [0]), "segment_max: .* expected one id per row"),
        (lambda: ops.scatter_update([1.0], [[0]], [1.0], "mean"), "got reduction 'mean'"),
    ],
)
def test_bad_input_gets_a_clear_error(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_segments_must_be_there():
    for ids in ([0, 3], [-1, 0]):
        with pytest.raises(IndexError, match="got id .*, expected 0 to 2"):
            ops.segment_prod([1.0, 2.0], ids, num_segments=3)


def test_segments_without_rows():
    assert ops.segment_max(np.ones((0, 2)), [], 1).tolist() == [[-np.inf, -np.inf]]
    assert ops.segment_min(np.ones((0, 2), "int8"), [], 1).tolist() == [[127, 127]]
    assert ops.segment_prod(np.ones((0, 2)), [], 1).tolist() == [[1, 1]]
    assert ops.segment_prod(np.ones((0, 2)), []).shape == (0, 2)


@pytest.mark.parametrize(
    ("reduction", "ufunc"), [("add", np.add), ("mul", np.multiply), ("max", np.maximum),
                             ("min", np.minimum)],
)  # fmt: skip
def test_scatter_update_joins_all_updates_of_a_place(reduction, ufunc):
    rng = np.random.default_rng(0)
    x, updates = rng.normal(size=(3, 2, 4)), rng.normal(size=(5, 4))
    indices = np.array([[0, 1], [2, 0], [0, 1], [-1, 0], [0, -1]])
    expected = x.copy()
    ufunc.at(expected, tuple(indices.T), updates)
    a, b = Tensor(x, requires_grad=True), Tensor(updates, requires_grad=True)
    y = ops.scatter_update(a, indices, b, reduction)
    np.testing.assert_allclose(y.numpy(), expected, rtol=1e-12)
    da, db = grad(y.sum(), [a, b])
    if reduction in ("max", "min"):  # everything comes from exactly one place
        assert float(da.sum() + db.sum()) == x.size
        np.testing.assert_array_equal(da.numpy() == 1, expected == x)


def test_the_quantile_of_numbers_that_are_not_finite():
    assert np.isnan(ops.median([1.0, np.nan, 2.0]).item())
    assert ops.quantile([-np.inf, 1.0, np.inf], [0.0, 0.5, 1.0]).tolist() == [-np.inf, 1, np.inf]


def test_histogram_of_nothing():
    counts, edges = ops.histogram([], bins=2)
    assert counts.tolist() == [0, 0] and edges.tolist() == [0, 0.5, 1]


def test_view_of_floats_as_bits():
    bits = ops.view(np.array([1.0, -2.0], "float32"), "int16")
    assert bits.tolist() == [0, 16256, 0, -16384]
    assert ops.view(bits, "float32").tolist() == [1, -2]
    with pytest.raises(ValueError, match="view: .*got shapes"):
        ops.view(np.zeros(3, "int16"), "float32")


def test_nextafter_goes_on_to_infinity():
    largest = np.finfo("float32").max
    assert ops.nextafter(np.float32(largest), np.float32(np.inf)).item() == np.inf
    assert ops.nextafter(np.float32(np.inf), np.float32(0)).item() == largest
