"""The probability of all paths that make a sequence of labels, by dynamic programming.

Arrays: logs (N, T, C), the logarithms of the classes' probabilities; places (N, S), the labels with
a blank between all of them and around; skips (N, S), whether a path may come from the label before;
lengths (N,) and steps (N,), how many labels and steps count.
"""

from __future__ import annotations

import numpy as np

NEVER = -1e30  # the logarithm of a probability of 0, without the trouble that infinity makes


def _later(x: np.ndarray, k: int) -> np.ndarray:
    """Each place's predecessor by k; each successor for negative k."""
    y = np.full_like(x, NEVER)
    if k > 0:
        y[:, k:] = x[:, :-k]
    else:
        y[:, :k] = x[:, -k:]
    return y


def ctc(
    logs: np.ndarray, places: np.ndarray, skips: np.ndarray, lengths: np.ndarray, steps: np.ndarray
) -> tuple[np.ndarray, tuple]:
    """-ln p, and for the gradient: alpha (T, N, S), ln of the probability of all beginnings."""
    n, total, _ = logs.shape
    said = np.take_along_axis(logs, places[:, None, :], 2).swapaxes(0, 1)
    alpha = np.full(said.shape, NEVER, logs.dtype)
    alpha[0, :, :2] = said[0, :, :2]
    for t in range(1, total):
        before = alpha[t - 1]
        paths = np.logaddexp(before, _later(before, 1))
        paths = np.logaddexp(paths, np.where(skips, _later(before, 2), NEVER))
        alpha[t] = np.where((t < steps)[:, None], paths + said[t], before)
    each = np.arange(n)
    last, label = alpha[-1, each, 2 * lengths], alpha[-1, each, np.maximum(2 * lengths - 1, 0)]
    y = -np.logaddexp(last, np.where(lengths > 0, label, NEVER))
    y = np.where(y > -NEVER / 2, np.inf, y).astype(logs.dtype, copy=False)
    return y, (said, alpha)


def ctc_grad(
    g: np.ndarray, y: np.ndarray, logs: np.ndarray, places: np.ndarray, skips: np.ndarray,
    lengths: np.ndarray, steps: np.ndarray, *, needs: tuple, saved: tuple,
) -> tuple:  # fmt: skip
    """Minus how probable it is to be at each class in each step, given that the labels are said."""
    said, alpha = saved
    possible = np.isfinite(y)
    worth = np.where(possible, y, 0)[:, None]
    at = np.arange(places.shape[1])
    ends = (at == 2 * lengths[:, None]) | (
        (at == 2 * lengths[:, None] - 1) & (lengths > 0)[:, None]
    )
    ends_here = np.where(ends, 0, NEVER).astype(logs.dtype)
    skipped = (
        _later(skips.astype(logs.dtype), -2) > 0
    )  # whether a path may leave out the next place
    beta = ends_here  # ln of the probability of all endings
    visits = np.zeros(said.shape, logs.dtype)
    for t in reversed(range(len(said))):
        if t + 1 < len(said):
            after = beta + said[t + 1]
            paths = np.logaddexp(after, _later(after, -1))
            paths = np.logaddexp(paths, np.where(skipped, _later(after, -2), NEVER))
            beta = np.where((t + 1 < steps)[:, None], paths, ends_here)
        visits[t] = np.exp(np.minimum(alpha[t] + beta + worth, 0))
        visits[t] *= ((t < steps) & possible)[:, None]
    classes = (places[..., None] == np.arange(logs.shape[-1])).astype(logs.dtype)
    return -g[:, None, None] * np.matmul(visits.swapaxes(0, 1), classes), None, None, None, None
