"""Errors of the layers' ops: one line, what was given, what was expected."""

from __future__ import annotations

import numpy as np
import pytest

from minitorch_ciml import ops

X, W = np.ones((2, 5, 4, 3)), np.ones((3, 2, 3, 6))


@pytest.mark.parametrize(
    "call, message",
    [
        # convolution
        (lambda: ops.conv(X, W[:, :, :2]), r"3 channels .* takes 2 .*must be equal"),
        (
            lambda: ops.conv(np.ones((1, 4, 4, 4)), np.ones((2, 2, 2, 3))),
            "2 groups, .*the 3 filters",
        ),
        (lambda: ops.conv(X, W[0]), "expected 4 dimensions like the inputs"),
        (lambda: ops.conv(X[0, 0], W), r"expected \(batch, \*spatial, channels\)"),
        (lambda: ops.conv(X, np.ones((6, 1, 3, 2))), r"window \(6, 1\) .*\(5, 4\); use a smaller"),
        (lambda: ops.conv(X, W, dilation_rate=4), "is larger than the input"),
        (lambda: ops.conv(X, W, strides=(1, 2, 3)), "expected an integer of at least 1, or 2"),
        (lambda: ops.conv(X, W, strides=0), "strides is 0, expected"),
        (lambda: ops.conv(X, W, dilation_rate="a"), "dilation_rate is 'a', expected"),
        (lambda: ops.conv(X, W, padding="full"), "padding is 'full', expected 'valid' or 'same'"),
        (lambda: ops.conv(X, W, padding="causal"), "'causal' in 1-D only"),
        (lambda: ops.conv(X, W, data_format="NCHW"), "data_format is 'NCHW', expected"),
        (lambda: ops.conv_bias_act(X, W, np.ones(5)), r"shape \(5,\), expected \(6,\)"),
        (lambda: ops.conv_bias_act(X, W, None, "sine"), "'sine' is unknown here"),
        (lambda: ops.depthwise_conv(X, np.ones((2, 2, 4, 1))), "takes 4 channels"),
        (lambda: ops.conv_transpose(X, W), "inputs have 3 channels .*takes 6, its last size"),
        (lambda: ops.conv_transpose(X, np.ones((2, 2, 1, 3)), 2, "causal"), "padding is 'causal'"),
        (
            lambda: ops.conv_transpose(X, np.ones((2, 2, 1, 3)), 2, "same", 2),
            r"output_padding \(2, 2\) must be less than the strides \(2, 2\)",
        ),
        # pooling
        (lambda: ops.max_pool(X, 6), r"max_pool: the window \(6, 6\) .*larger"),
        (lambda: ops.average_pool(X[0, 0], 2), "average_pool: the inputs have shape"),
        (lambda: ops.max_pool(X, (2, 2, 2)), "pool_size is .*or 2 of them"),
        (lambda: ops.max_pool(X[0], 2, padding="causal"), "padding is 'causal'"),
        # activations and dense
        (lambda: ops.softmax(X, axis=4), "softmax: got axis 4 for 4 dimensions, expected -4 to 3"),
        (lambda: ops.glu(X), "size along axis -1 must be even"),
        (lambda: ops.dense(X, np.ones((4, 2))), r"expected \(\.\.\., I\) and \(I, O\)"),
        (lambda: ops.dense(X, np.ones((3, 2)), np.ones(3)), r"b has shape \(3,\), expected \(2,\)"),
        (lambda: ops.dense(X, np.ones((3, 2)), None, "sine"), "'sine' is unknown here"),
        # losses
        (
            lambda: ops.categorical_crossentropy(np.ones(2), np.ones((2, 3))),
            "must be equal. For integer labels use sparse_categorical_crossentropy",
        ),
        (
            lambda: ops.sparse_categorical_crossentropy(np.ones((2, 3)), np.ones((2, 3))),
            r"target has shape \(2, 3\), expected \(2,\)",
        ),
        (lambda: ops.binary_crossentropy(np.ones(2), np.ones((2, 1))), "they must be equal"),
        (lambda: ops.categorical_crossentropy(X, X, axis=4), "got axis 4 for 4 dimensions"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("from_logits", [True, False])
@pytest.mark.parametrize("axis", [1, -1])
@pytest.mark.parametrize("label", [3, -1])
def test_a_label_out_of_range_is_named(from_logits, axis, label):
    labels = np.array([[0, label], [1, 2]])
    output = np.full((2, 2, 3), 1 / 3, "float32")
    output = output if axis == -1 else np.moveaxis(output, -1, 1)
    with pytest.raises(ValueError, match=f"label {label} is not one of the 3 classes, 0 to 2"):
        ops.sparse_categorical_crossentropy(labels, output, from_logits, axis)


def test_an_op_on_numpy_arrays_and_lists():
    assert ops.conv([[[1.0], [2.0], [3.0]]], [[[1.0]], [[1.0]]], [1]).tolist() == [[[3], [5]]]
    assert ops.max_pool([[[1.0], [3.0], [2.0]]], [2], [1]).tolist() == [[[3], [3]]]
    assert ops.sparse_categorical_crossentropy([[0.0]], [[1, 0]]).numpy() == pytest.approx(
        0, abs=1e-6
    )


def test_softmax_and_losses_do_not_overflow():
    x = np.array([[1e4, 0.0, -1e4], [-np.inf, 0.0, 0.0]], "float32")
    np.testing.assert_allclose(ops.softmax(x).numpy(), [[1, 0, 0], [0, 0.5, 0.5]])
    assert ops.log_softmax(x).numpy()[0, 2] == -2e4
    loss = ops.sparse_categorical_crossentropy([2, 1], x, from_logits=True).numpy()
    np.testing.assert_allclose(loss, [2e4, np.log(2)], rtol=1e-6)
    loss = ops.binary_crossentropy([[1.0, 0.0]], np.array([[-1e4, 1e4]], "float32"), True)
    np.testing.assert_allclose(loss.numpy(), 1e4)


def test_nan_is_not_swallowed():
    """A diverging training must show."""
    x = np.array([[np.nan, 1.0]], "float32")
    assert np.isnan(ops.softmax(x).numpy()).all()
    assert np.isnan(ops.dense(x, W[0, :2, :2, 0], np.ones(2), "relu").numpy()).all()
    for from_logits in (True, False):
        assert np.isnan(ops.sparse_categorical_crossentropy([1], x, from_logits).numpy()).all()
        assert np.isnan(ops.categorical_crossentropy([[0, 1]], x, from_logits).numpy()).all()
