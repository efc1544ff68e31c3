"""Connectionist temporal classification: sequences of labels without knowing when they are said.

A network gives, for each step, a score for every class, one of which (the *blank*) means nothing. A
path is a class for each step; leaving out repetitions, then blanks, makes a sequence of labels of
it (A. Graves et al., "Connectionist temporal classification", 2006).
"""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

import numpy as np

from minitorch_ciml.autograd.arithmetic import maximum, where
from minitorch_ciml.autograd.engine import Op
from minitorch_ciml.autograd.tensor import Tensor, as_tensor
from minitorch_ciml.kernels.reference.ctc import NEVER
from minitorch_ciml.ops.creation import floats, wide
from minitorch_ciml.ops.indexing import take_along_axis
from minitorch_ciml.ops.math import logaddexp
from minitorch_ciml.ops.nn import log_softmax
from minitorch_ciml.ops.shape import _expand_dims, pad

__all__ = ["ctc_decode", "ctc_loss"]


def _ctc_ref(logs, places, skips, lengths, steps):
    said = take_along_axis(logs, _expand_dims(places, axis=1), 2)
    begins = np.arange(places.shape[1]) < 2
    alpha = where(begins, said[:, 0], NEVER)  # ln of the probability of all paths up to here
    for t in range(1, logs.shape[1]):
        one, two = [_shifted(alpha, k) for k in (1, 2)]
        paths = logaddexp(logaddexp(alpha, one), where(skips, two, NEVER))
        alpha = where(_expand_dims(steps > t, axis=1), paths + said[:, t], alpha)
    ends = _expand_dims(lengths * 2, axis=1)
    last = take_along_axis(alpha, ends, 1)[:, 0]
    label = take_along_axis(alpha, maximum(ends - 1, 0), 1)[:, 0]
    y = -logaddexp(last, where(lengths > 0, label, NEVER))
    return where(y > -NEVER / 2, math.inf, y)


def _shifted(alpha: Tensor, k: int) -> Tensor:
    """Each place's predecessor by k."""
    return pad(alpha, ((0, 0), (k, 0)), constant_values=NEVER)[:, : alpha.shape[1]]


_ctc = Op(
    "ctc",
    ref=_ctc_ref,
    saves=True,
    doc="-ln of the probability of all paths through `places`; see `kernels/reference/ctc.py`.",
)


def ctc_loss(
    target: Any, output: Any, target_length: Any, output_length: Any, mask_index: int = 0
) -> Tensor:
    """-ln of the probability of all paths that make `target`.

    Args:
        target: integers (N, L), the labels.
        output: floats (N, T, C), the scores; their softmax are the classes' probabilities.
        target_length: integers (N,), how many labels count.
        output_length: integers (N,), how many steps count.
        mask_index: the class that is the blank.

    Returns:
        Floats (N,), float32 for 16-bit scores; infinity, with the gradient 0, where there are too
        few steps.
    """
    scores = wide(floats(output))
    labels, lengths, steps = map(_whole, (target, target_length, output_length))
    if scores.ndim != 3 or labels.ndim != 2 or len(labels) != len(scores):
        raise ValueError(
            f"ctc_loss: got a target of shape {labels.shape} and an output of {scores.shape}; "
            "expected (N, L) and (N, T, C)."
        )
    n, total, classes = scores.shape
    if lengths.shape != (n,) or steps.shape != (n,):
        raise ValueError(f"ctc_loss: expected one target and one output length for each of {n}.")
    if not (0 <= mask_index < classes):
        raise ValueError(f"ctc_loss: got mask_index {mask_index}, expected 0 to {classes - 1}.")
    if lengths.max(initial=0) > labels.shape[1] or steps.max(initial=0) > total:
        raise ValueError(
            f"ctc_loss: a length is larger than the {labels.shape[1]} labels or {total} steps."
        )
    # A blank between all labels and around them: places s = 0, ..., 2 L.
    places = np.full((n, 2 * labels.shape[1] + 1), mask_index)
    places[:, 1::2] = labels
    skips = np.zeros(places.shape, bool)  # from the label before, if it is another one
    skips[:, 3::2] = labels[:, 1:] != labels[:, :-1]
    return _ctc(log_softmax(scores), places, skips, lengths, steps)


def _whole(numbers: Any) -> np.ndarray:
    """Labels or lengths as integers: scripts also have them as floats."""
    return np.asarray(as_tensor(numbers).numpy()).astype(np.int64)


def ctc_decode(
    inputs: Any,
    sequence_lengths: Any,
    strategy: str = "greedy",
    beam_width: int = 100,
    top_paths: int = 1,
    merge_repeated: bool = True,
    mask_index: int = 0,
) -> tuple[Tensor, Tensor]:
    """The labels that a network's scores say most probably. Computed on the host.

    Args:
        inputs: floats (N, T, C), the scores.
        sequence_lengths: integers (N,), how many steps count.
        strategy: 'greedy': those of the most probable path; 'beam_search': the sequences that all
            their paths together make most probable, of the best `beam_width` at each step.
        beam_width: for 'beam_search'.
        top_paths: how many sequences, for 'beam_search'.
        merge_repeated: for 'greedy': leave out repetitions.
        mask_index: the class that is the blank.

    Returns:
        Integers (1 or top_paths, N, T), with -1 behind the end; and floats: (N, 1), minus the sum
        of the path's scores for 'greedy', and (N, top_paths), the logarithms of the probabilities,
        for 'beam_search'.
    """
    scores = np.asarray(floats(inputs).numpy())
    steps = _whole(sequence_lengths)
    if scores.ndim != 3 or steps.shape != scores.shape[:1]:
        raise ValueError(
            f"ctc_decode: got scores of shape {scores.shape} and lengths of {steps.shape}, "
            "expected (N, T, C) and (N,)."
        )
    if strategy == "greedy":
        found = [_greedy(x[:n], mask_index, merge_repeated) for x, n in zip(scores, steps)]
    elif strategy == "beam_search":
        logs = np.asarray(log_softmax(scores).numpy(), np.float64)
        found = [_beams(x[:n], mask_index, beam_width, top_paths) for x, n in zip(logs, steps)]
    else:
        raise ValueError(
            f"ctc_decode: got strategy {strategy!r}, expected 'greedy' or 'beam_search'."
        )
    number = 1 if strategy == "greedy" else top_paths
    labels = np.full((number, len(scores), scores.shape[1]), -1)
    worth = np.full((len(scores), number), -np.inf, scores.dtype)
    for i, sequences in enumerate(found):
        for k, (sequence, score) in enumerate(sequences):
            labels[k, i, : len(sequence)] = sequence
            worth[i, k] = score
    return Tensor(labels), Tensor(worth)


_Sequences = list[tuple[tuple[int, ...], float]]


def _greedy(scores: np.ndarray, blank: int, merge: bool) -> _Sequences:
    path = scores.argmax(-1).tolist()
    kept = [c for t, c in enumerate(path) if c != blank and not (merge and t and path[t - 1] == c)]
    return [(tuple(kept), -float(scores.max(-1).sum()))]


def _beams(logs: np.ndarray, blank: int, width: int, top: int) -> _Sequences:
    """The `top` best of `width` sequences, with the logarithms of their probabilities."""
    # Of each sequence, the paths that end with a blank and those that end with its last label.
    beams: dict[tuple[int, ...], tuple[float, float]] = {(): (0.0, -np.inf)}
    for step in logs:
        grown: defaultdict = defaultdict(lambda: (-np.inf, -np.inf))
        for sequence, (with_blank, with_label) in beams.items():
            either = np.logaddexp(with_blank, with_label)
            for c, log in enumerate(step.tolist()):
                if c == blank:
                    _add(grown, sequence, 0, either + log)
                elif sequence and c == sequence[-1]:
                    _add(grown, sequence, 1, with_label + log)
                    _add(grown, (*sequence, c), 1, with_blank + log)
                else:
                    _add(grown, (*sequence, c), 1, either + log)
        best = sorted(grown.items(), key=lambda item: -np.logaddexp(*item[1]))
        beams = dict(best[:width])
    best = sorted(beams.items(), key=lambda item: -np.logaddexp(*item[1]))
    return [(sequence, float(np.logaddexp(*logs))) for sequence, logs in best[:top]]


def _add(beams: defaultdict, sequence: tuple[int, ...], which: int, log: float) -> None:
    both = list(beams[sequence])
    both[which] = np.logaddexp(both[which], log)
    beams[sequence] = (both[0], both[1])
