"""Fourier transforms, labels and axes in words: bad input, corners, and what has no gradient."""

import numpy as np
import pytest
from keras_peer import keras_peer

from minitorch_ciml import ops
from minitorch_ciml.autograd import Tensor, grad

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("window", ["hann", "hamming", None, np.linspace(0.5, 1, 6)])
def test_the_inverse_of_short_time_transforms(window):
    x = RNG.normal(size=(2, 20))
    y = ops.istft(ops.stft(x, 6, 3, 8, window), 6, 3, 8, 20, window)
    np.testing.assert_allclose(y.numpy(), x, atol=1e-12)


def test_the_bessel_function_of_large_numbers():
    # By the series of M. Abramowitz and I. Stegun, 9.7.1.
    x = 600.0
    expected = np.exp(x) / np.sqrt(2 * np.pi * x) * (1 + 1 / (8 * x) + 9 / (128 * x * x))
    assert ops.i0(np.float64(x)).item() == pytest.approx(expected, rel=1e-9)


def test_a_transform_of_half_precision():
    x = RNG.normal(size=(2, 8)).astype("float16")
    a, b = ops.rfft(x)
    expected = np.fft.rfft(x.astype("float64"))
    assert a.dtype == b.dtype == "float16"
    np.testing.assert_allclose(a.numpy(), expected.real, atol=0.02)
    np.testing.assert_allclose(b.numpy(), expected.imag, atol=0.02)


# --- labels -------------------------------------------------------------------------------------

SCORES = RNG.normal(size=(3, 8, 5)).astype("float32")
STEPS = np.array([8, 7, 5])


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"merge_repeated": False},
        {"mask_index": 4},
        {"strategy": "beam_search"},
        {"strategy": "beam_search", "top_paths": 3, "mask_index": 2},
    ],
)
def test_decoding_is_that_of_keras(how):
    ours = ops.ctc_decode(SCORES, STEPS, **how)
    theirs = keras_peer.ops.ctc_decode(SCORES, STEPS, **how)
    for mine, other in zip(ours, theirs):
        np.testing.assert_allclose(mine.numpy(), keras_peer.ops.convert_to_numpy(other), rtol=1e-5)


def test_the_best_beam_is_as_probable_as_the_loss_says():
    labels, logs = ops.ctc_decode(SCORES, STEPS, "beam_search", beam_width=1000, top_paths=4)
    for k in range(4):
        lengths = (labels[k].numpy() >= 0).sum(-1)
        loss = ops.ctc_loss(np.maximum(labels[k].numpy(), 0), SCORES, lengths, STEPS)
        np.testing.assert_allclose(-loss.numpy(), logs[:, k].numpy(), rtol=1e-4)


def test_too_few_steps_for_the_labels():
    scores = Tensor(SCORES[:1], requires_grad=True)
    loss = ops.ctc_loss([[1, 1, 2]], scores, [3], [3])  # 1, blank, 1, 2 needs four
    assert loss.item() == np.inf
    assert not grad(loss.sum(), scores).numpy().any()


def test_lengths_may_be_floats():
    for function, how in ((ops.ctc_decode, {}), (ops.ctc_decode, {"strategy": "beam_search"})):
        for a, b in zip(function(SCORES, STEPS, **how), function(SCORES, np.float32(STEPS), **how)):
            np.testing.assert_array_equal(a.numpy(), b.numpy())
    lengths = np.ones(len(SCORES))
    loss = ops.ctc_loss(lengths[:, None], SCORES, lengths, np.float64(STEPS))
    lengths = lengths.astype(int)
    expected = ops.ctc_loss(lengths[:, None], SCORES, lengths, STEPS)
    np.testing.assert_array_equal(loss.numpy(), expected.numpy())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ops.fft([1.0, 2.0, 3.0]), "fft: expected a pair of tensors"),
        (lambda: ops.fft(([1.0], [1.0, 2.0])), r"the parts have shapes \(1,\) and \(2,\)"),
        (lambda: ops.fft2(([1.0], [1.0])), "expected at least two axes"),
        (lambda: ops.irfft(([1.0], [1.0])), "irfft: got the length 0, expected at least 1"),
        (lambda: ops.extract_sequences([1.0], 2, 1), "expected positive numbers, and pieces that"),
        (lambda: ops.stft(np.ones(9), 4, 2, 3), "got fft_length=3, expected at least"),
        (lambda: ops.stft(np.ones(9), 4, 2, 4, "box"), "got window 'box', expected 'hann'"),
        (lambda: ops.stft(np.ones(9), 4, 2, 4, np.ones(3)), r"got a window of shape \(3,\)"),
        (lambda: ops.ctc_loss([1], SCORES, [1], [1]), r"got a target of shape \(1,\)"),
        (lambda: ops.ctc_loss([[1]], SCORES[:1], [1, 2], [1]), "one target and one output length"),
        (lambda: ops.ctc_loss([[1]], SCORES[:1], [2], [1]), "larger than the 1 labels or 8 steps"),
        (lambda: ops.ctc_loss([[1]], SCORES[:1], [1], [1], 5), "got mask_index 5, expected 0 to 4"),
        (lambda: ops.ctc_decode(SCORES, [1]), r"expected \(N, T, C\) and \(N,\)"),
        (lambda: ops.ctc_decode(SCORES, STEPS, "best"), "got strategy 'best', expected 'greedy'"),
        (lambda: ops.psnr([1.0], [1.0, 2.0], 1.0), "psnr: got shapes"),
        (lambda: ops.rearrange(np.ones((2, 3)), "a b c -> a"), "'a b c -> a' is not valid"),
        (lambda: ops.rearrange(np.ones((2, 3)), "a b"), "'a b' is not valid"),
        (lambda: ops.rearrange(np.ones(2), "a b -> b a"), "describes 2 axes, but the shape is"),
        (lambda: ops.rearrange(np.ones(6), "(a b) -> a b"), "does not split into .*how large b is"),
        (lambda: ops.rearrange(np.ones(6), "(a b) -> a b", a=4), "of size 6 does not split into"),
        (lambda: ops.depth_to_space(np.ones((1, 2, 2, 3)), 2), "3 channels do not divide"),
        (lambda: ops.space_to_depth(np.ones((1, 3, 2, 3)), 2), "3 x 2 do not divide"),
        (lambda: ops.space_to_depth(np.ones((3, 2, 3)), 2), "expected images with 4 axes"),
        (lambda: ops.space_to_depth(np.ones((1, 2, 2, 3)), 0), "expected a positive int"),
        (lambda: ops.unfold(np.ones((2, 3, 4)), 2), r"expected \(N, C, H, W\)"),
        (lambda: ops.unfold(np.ones((1, 1, 2, 2)), 3), r"windows of \(3, 3\) do not fit"),
        (lambda: ops.fold(np.ones((1, 4, 3)), 3, 2), r"expected \(N, C \* 4, 4\)"),
        (lambda: ops.fold(np.ones((1, 4, 3)), 3, 0), "got 0, expected an int or two, at least 1"),
        (lambda: ops.adaptive_max_pool(np.ones((1, 2)), 1), "one to three spatial dimensions"),
        (lambda: ops.vander([[1.0]]), r"vander: got shape \(1, 1\), expected \(M,\)"),
    ],
)
def test_bad_input_gets_a_clear_error(call, message):
    with pytest.raises(ValueError, match=message):
        call()
