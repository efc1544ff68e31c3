"""Indexing: values as NumPy's, gradients by what they mean, for everything NumPy can index with."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays, basic_indices, integer_array_indices

from minitorch_ciml import kernels, ops
from minitorch_ciml.autograd import Tensor, grad
from minitorch_ciml.autograd.check import check_grads
from minitorch_ciml.kernels.cpu import indexing as cpu
from minitorch_ciml.kernels.reference import shape as reference

SHAPES = array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
few = settings(max_examples=60, deadline=None)


def numbers(shape) -> np.ndarray:
    """1, 2, 3, ...: no two alike, so that a wrong place shows."""
    return np.arange(1.0, np.prod(shape) + 1).reshape(shape)


def scattered(shape, index, g) -> np.ndarray:
    """The gradient of x[index] by its definition."""
    expected = np.zeros(shape)
    np.add.at(expected, index, g)
    return expected


def check(shape, index, ours=None):
    """x[index] has NumPy's value, and its gradient is the scatter."""
    x = Tensor(numbers(shape), requires_grad=True)
    y = x[index if ours is None else ours]
    np.testing.assert_array_equal(y.numpy(), numbers(shape)[index])
    g = np.cos(numbers(y.shape))
    np.testing.assert_allclose(
        grad(y, x, g).numpy(), scattered(shape, index, g), rtol=1e-12, atol=1e-15
    )


@st.composite
def masked(draw):
    """A shape, and an index with a boolean mask of some of its axes."""
    shape = draw(array_shapes(max_dims=4, max_side=3))
    first = draw(st.integers(0, len(shape) - 1))
    last = draw(st.integers(first + 1, len(shape)))
    mask = draw(arrays(bool, shape[first:last]))
    return shape, (*[slice(None)] * first, mask)


@st.composite
def mixed(draw):
    """Integers, slices, None, `...`, and integer arrays that broadcast, in any order."""
    shape = draw(array_shapes(min_dims=1, max_dims=4, max_side=4))
    common, column = draw(st.sampled_from([((3,), (1,)), ((2, 3), (2, 1)), ((), ())]))
    parts = []
    for size in shape[: draw(st.integers(1, len(shape)))]:
        kind = draw(st.sampled_from(["int", "slice", "array", "column", "new"]))
        number = st.integers(-size, size - 1)
        if kind == "int":
            parts.append(draw(number))
        elif kind == "slice":
            parts.append(draw(st.slices(size)))
        elif kind == "array":
            parts.append(draw(arrays(np.int64, common, elements=number)))
        elif kind == "column":
            parts.append(draw(arrays(np.int32, column, elements=number)))
        else:
            parts += [None, draw(st.slices(size))]
    if draw(st.booleans()):
        parts.append(...)
    return shape, tuple(parts)


@few
@given(st.data())
def test_basic_indices(data):
    shape = data.draw(SHAPES)
    check(shape, data.draw(basic_indices(shape, allow_newaxis=True)))


@few
@given(st.data())
def test_integer_arrays(data):
    shape = data.draw(array_shapes(min_dims=1, max_dims=3, max_side=4))
    check(shape, data.draw(integer_array_indices(shape)))


@few
@given(masked())
def test_masks(drawn):
    check(*drawn)


@few
@given(mixed())
def test_mixtures(drawn):
    check(*drawn)


@settings(max_examples=15, deadline=None)
@given(mixed())
def test_second_derivatives(drawn):
    shape, index = drawn
    check_grads(lambda x: x[index], np.sin(numbers(shape)), order=2)


@pytest.mark.parametrize(
    "index, ours",
    [
        (np.array([2, 0]), [2, 0]),
        (np.array([2, 0]), Tensor([2, 0])),
        (np.array([2, 0]), Tensor([2, 0], dtype="int32")),
        (np.array([2, 0]), range(2, -1, -2)),
        (np.array([2, 0]), [Tensor(2), 0]),
        (np.array([2, 0]), np.array([2, 0], dtype="uint8")),
        (np.array([], dtype=int), []),
        (2, Tensor(2)),
        (2, np.int64(2)),
        ((slice(None), [1, 1]), (slice(None), Tensor([1, 1]))),
        (([2, 0], [1, 1]), (Tensor([2, 0]), [1, 1])),
        ((([2, 0],)), ((2, 0),)),
        ((0, slice(None, None, -1)), (Tensor(0), slice(None, None, -1))),
        (([True, False, True], 1), ([True, False, True], 1)),
        (True, True),
        (False, np.bool_(False)),
        (np.eye(3, 4) > 0, Tensor(np.eye(3, 4) > 0)),
        ((slice(1), [1], slice(None), [0, 2]), (slice(1), [1], slice(None), [0, 2])),
    ],
)
def test_every_way_to_write_an_index(index, ours):
    shape = (3, 4, 2, 3) if isinstance(index, tuple) and len(index) == 4 else (3, 4)
    check(shape, index, ours)


def test_an_index_may_be_a_comparison():
    x = Tensor([1.0, -2.0, 3.0], requires_grad=True)
    x[x > 0].sum().backward()
    assert x.grad.tolist() == [1, 0, 1]


@pytest.mark.parametrize("index", [5, -4, [0, 3], (0, 4), (slice(None), [9])])
def test_out_of_range_names_index_axis_and_size(index):
    with pytest.raises(IndexError) as error:
        Tensor(numbers((3, 4)))[index]
    message = str(error.value)
    assert message.startswith("getitem: index ") and "\n" not in message
    assert "axis" in message and "with size" in message


def test_too_many_indices():
    with pytest.raises(IndexError, match="too many indices"):
        Tensor([1.0])[0, 0]


def test_float_indices_are_refused():
    with pytest.raises(IndexError, match=r"got dtype float32.*astype"):
        Tensor([1.0])[Tensor([0.0])]
    with pytest.raises(TypeError, match=r"take: the indices must be integers, got dtype float32"):
        ops.take([1.0], [0.0], axis=0)


# --- the fast versions of the adjoint -------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(mixed())
def test_put_kernels_agree_to_the_last_bit(drawn):
    shape, index = drawn
    x = np.sin(numbers(np.zeros(shape)[index].shape)).astype("float32")
    np.testing.assert_array_equal(
        cpu.put(x, index, shape), reference.put(x, index, shape), strict=True
    )


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int64"])
@pytest.mark.parametrize("axis", [0, 1])
def test_many_rows_are_added_in_order(axis, dtype):
    """Enough numbers for the compiled loop; the sums must be the same to the last bit."""
    rng = np.random.default_rng(0)
    index = (slice(None),) * axis + (rng.integers(-50, 50, (20, 100)),)
    shape = (3, 50, 40) if axis else (50, 40)
    x = (10 * rng.normal(size=np.zeros(shape)[index].shape)).astype(dtype)
    assert x.size >= cpu.MANY
    slow = reference.put(x, index, shape)
    np.testing.assert_array_equal(cpu.put(x, index, shape), slow, strict=True)


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_narrow_indices_into_long_axes(dtype):
    index = np.array([100, 3, 100], dtype)
    check((300, 2), index)
    check((2, 300), (slice(None), index))
    check((300, 300), (index, index))


def test_the_fast_version_is_the_one_that_runs():
    assert kernels.find("cpu", "put") is cpu.put


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_largest_few_are_those_of_the_reference(dtype):
    rng = np.random.default_rng(0)
    for x in (rng.normal(size=(40, 3, 999)), rng.integers(0, 50, (64, 1000)), np.zeros((2, 2**15))):
        x = x.astype(dtype)
        x[..., 5::97] = np.nan if x.any() else 0
        for k in (1, 5, 32):
            expected = reference.top_indices(x, k)
            np.testing.assert_array_equal(cpu.top_indices(x, k), expected)
            np.testing.assert_array_equal(ops.top_k(x, k)[1].numpy(), expected)


def test_put_checks_the_range():
    """The compiled loop would write anywhere."""
    with pytest.raises(IndexError, match="indices from 0 to 9 are out of bounds for axis 0"):
        ops.segment_sum(np.ones((2, 3)), [0, 9], num_segments=4)
    with pytest.raises(IndexError, match="out of bounds for axis 1 with size 2"):
        ops.scatter([[0, -3]], [1.0], (2, 2))


# --- functions made of these ----------------------------------------------------------------------


def test_take_wraps_negative_indices_and_refuses_large_ones():
    x = Tensor(numbers((3, 2)), requires_grad=True)
    y = ops.take(x, [-1, -1, 0], axis=0)
    np.testing.assert_array_equal(y.numpy(), numbers((3, 2))[[-1, -1, 0]])
    y.sum().backward()
    assert x.grad.tolist() == [[1, 1], [0, 0], [2, 2]]
    with pytest.raises(IndexError, match="index 3 is out of bounds for axis 0 with size 3"):
        ops.take(x, [0, 3], axis=0)
    with pytest.raises(ValueError, match="take: got axis 2 for 2 dimensions, expected -2 to 1"):
        ops.take(x, [0], axis=2)


def test_take_along_axis_needs_equal_ndim():
    with pytest.raises(ValueError, match="x has 2 dimensions, the indices 1"):
        ops.take_along_axis(numbers((2, 3)), [0], axis=1)


def test_scatter_update_replaces_and_the_last_one_stays():
    x = Tensor(numbers((3, 2)), requires_grad=True)
    new = Tensor([5.0, 6.0, 7.0], requires_grad=True)
    y = ops.scatter_update(x, [[0, 1], [2, 0], [0, 1]], new)
    assert y.tolist() == [[1, 7], [3, 4], [6, 6]]
    gx, gnew = grad(y, [x, new], numbers((3, 2)))
    assert gx.tolist() == [[1, 0], [3, 4], [0, 6]]
    assert gnew.tolist() == [0, 5, 2]


def test_scatter_update_of_rows():
    torch = pytest.importorskip("torch")
    rows, x, new = np.array([2, 0]), numbers((3, 2)), -numbers((2, 2))
    expected = torch.tensor(x).index_put((torch.tensor(rows),), torch.tensor(new))
    y = ops.scatter_update(x, rows[:, None], new)
    np.testing.assert_array_equal(y.numpy(), expected.numpy())
    check_grads(lambda a, b: ops.scatter_update(a, rows[:, None], b), x, new)


def test_scatter_update_can_add():
    y = ops.scatter_update(numbers((3,)), [[1], [1]], [10.0, 20.0], reduction="add")
    assert y.tolist() == [1, 32, 3]
    with pytest.raises(ValueError, match="got reduction 'mean', expected None, 'add', 'mul'"):
        ops.scatter_update(numbers((3,)), [[1]], [1.0], reduction="mean")


def test_scatter_needs_rows_of_indices():
    with pytest.raises(ValueError, match=r"scatter: got indices of shape \(2, 3\)"):
        ops.scatter([[0, 0, 0], [1, 1, 1]], [1.0, 2.0], (2, 2))


def test_slice_update():
    x, new = numbers((3, 4)), -numbers((2, 2))
    y = ops.slice_update(x, (1, 2), new)
    expected = x.copy()
    expected[1:3, 2:4] = new
    np.testing.assert_array_equal(y.numpy(), expected)
    check_grads(lambda a, b: ops.slice_update(a, (1, 2), b), x, new)


@pytest.mark.parametrize("start, shape", [((0, 0), (4, 1)), ((-1, 0), (1, 1)), ((2, 2), (1, 3))])
def test_slice_outside(start, shape):
    with pytest.raises(IndexError, match=r"slice: the block of size .* is not inside the shape"):
        ops.slice(numbers((3, 4)), start, shape)


def test_slice_needs_one_start_per_axis():
    with pytest.raises(ValueError, match="expected one start and one size for each axis"):
        ops.slice(numbers((3, 4)), [0], [1])


def test_segment_sum_counts_its_segments_and_checks_the_ids():
    assert ops.segment_sum([[1.0], [2.0], [3.0]], [2, 0, 2]).tolist() == [[2], [0], [4]]
    assert ops.segment_sum(np.ones((0, 2)), []).shape == (0, 2)
    with pytest.raises(ValueError, match="expected one id per row"):
        ops.segment_sum([1.0, 2.0], [0])


def test_where_with_one_argument():
    rows, columns = ops.where([[True, False], [False, True]])
    assert (rows.tolist(), columns.tolist()) == ([0, 1], [0, 1])
    with pytest.raises(ValueError, match="got one of x1 and x2, expected both or none"):
        ops.where([True], 1.0)


def test_searchsorted_side():
    with pytest.raises(ValueError, match="got side 'middle', expected 'left' or 'right'"):
        ops.searchsorted([1.0], [0.0], side="middle")
