"""What the table of ops cannot say about shapes: errors, and what is a view of what."""

import numpy as np
import pytest

from minitorch_ciml import ops
from minitorch_ciml.autograd import Tensor, grad

X = np.arange(24.0).reshape(2, 3, 4)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: ops.reshape(X, (5, 5)), r"reshape: cannot reshape array of size 24 .*\(2, 3, 4\)"),
        (lambda: Tensor(X).reshape(-1, 7), r"reshape: cannot reshape array of size 24"),
        (lambda: ops.transpose(X, (0, 1)), r"transpose: got axes \(0, 1\) for shape \(2, 3, 4\)"),
        (lambda: ops.transpose(X, (0, 1, 1)), r"expected each of 0 to 2 once"),
        (lambda: ops.transpose(X, (0, 1, 5)), r"transpose: got axes \(0, 1, 5\)"),
        (lambda: ops.swapaxes(X, 0, 3), r"swapaxes: .*axis2.*out of bounds.*\(2, 3, 4\)"),
        (lambda: ops.moveaxis(X, 3, 0), "moveaxis: got axis 3 for 3 dimensions, expected -3 to 2"),
        (lambda: ops.moveaxis(X, (0, 1), 0), "moveaxis: .* expected equally many axes, each once"),
        (lambda: ops.squeeze(X, 0), r"squeeze: cannot select an axis .*got shapes \(2, 3, 4\)"),
        (lambda: ops.expand_dims(X, 5), r"expand_dims: .*out of bounds.*\(2, 3, 4\)"),
        (lambda: ops.broadcast_to(X, (2, 3, 5)), r"broadcast_to: the shapes do not broadcast"),
        (lambda: ops.concatenate([]), "concatenate: got no tensors, expected at least one"),
        (lambda: ops.concatenate([X, X[0]]), r"concatenate: .*got shapes \(2, 3, 4\), \(3, 4\)"),
        (lambda: ops.concatenate([X, X], axis=3), r"concatenate: axis 3 is out of bounds"),
        (lambda: ops.stack([X, X[:1]]), r"stack: .*must have the same shape.*\(1, 3, 4\)"),
        (lambda: ops.split(X, 2, axis=1), r"axis 1 of shape \(2, 3, 4\) does not divide into 2"),
        (lambda: ops.split(X, 0), "split: got 0 parts, expected at least 1"),
        (lambda: ops.array_split(X, 0), "split: got 0 parts, expected at least 1"),
        (lambda: ops.unstack(X, num=3), r"unstack: got num=3, but axis 0 of shape \(2, 3, 4\)"),
        (lambda: ops.pad(X, (1, 2, 3)), r"pad: got pad_width \(1, 2, 3\), expected \(before, aft"),
        (lambda: ops.pad(X, -1), "pad: got pad_width -1, expected no negative widths"),
        (lambda: ops.pad(X, 1, "mirror"), "pad: got mode 'mirror', expected 'constant', 'reflect'"),
        (lambda: ops.pad(X, 1, "edge", 2.0), "constant_values is only for mode 'constant'"),
        (lambda: ops.repeat(X, [1, 2], 1), r"repeat: got repeats of shape \(2,\) for 3 elements"),
        (lambda: ops.repeat(X, -1, 1), "repeat: got -1 repeats, expected none that is negative"),
        (lambda: ops.repeat(X, [1, -1, 0], 1), "repeat: got -1 repeats"),
        (lambda: ops.repeat(X, [1.5]), "repeat: the indices must be integers"),
        (lambda: ops.meshgrid([1.0], indexing="yx"), "got indexing 'yx', expected 'xy' or 'ij'"),
        (lambda: ops.flip(X, 3), "flip: got axis 3 for 3 dimensions"),
        (lambda: ops.roll(X, 1, 3), "roll: axis 3 is out of bounds"),
        (lambda: ops.rot90(X, axes=(1, 1)), r"rot90: got axes \(1, 1\), expected two different"),
        (lambda: ops.sort(X, 3), "sort: got axis 3 for 3 dimensions"),
        (lambda: ops.top_k(X, 5), r"top_k: got k=5 for shape \(2, 3, 4\)"),
        (lambda: ops.diagonal([1.0]), r"diagonal: got shape \(1,\), expected at least 2 dim"),
        (lambda: ops.diagonal(X, 0, 1, -2), "diagonal: got axis 1 twice"),
        (lambda: ops.diag(X), r"diag: got shape \(2, 3, 4\), expected a vector or a matrix"),
    ],
)
def test_errors_say_what_was_given(call, message):
    with pytest.raises((ValueError, TypeError), match=message) as error:
        call()
    assert "\n" not in str(error.value)


def test_joined_dtypes_are_promoted_and_gradients_come_back_in_their_own():
    a, b = Tensor([1.0], requires_grad=True), Tensor([2.0], dtype="float64", requires_grad=True)
    y = ops.concatenate([a, b, [3]])
    assert y.dtype == "float64"
    ga, gb = grad(y.sum(), [a, b])
    assert (ga.dtype, gb.dtype) == ("float32", "float64")


def test_reshape_and_slices_share_memory():
    x = Tensor(X)
    for view in (x.reshape(4, 6), x.T, x[1:], ops.split(x, 3, axis=1)[1], ops.flip(x)):
        assert np.shares_memory(view.numpy(), x.numpy())


def test_top_k_prefers_the_first_of_equals():
    values, indices = ops.top_k([1, 3, 2, 3, 3], 2)
    assert values.tolist() == [3, 3] and indices.tolist() == [1, 3]


def test_sort_sends_gradients_back_to_where_they_came_from():
    x = Tensor([3.0, 1.0, 2.0], requires_grad=True)
    assert grad(ops.sort(x), x, [10.0, 20.0, 30.0]).tolist() == [30, 10, 20]
