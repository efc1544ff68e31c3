"""`timeseries_dataset_from_array`: windows that slide over a series."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from minitorch_ciml.autograd.tensor import as_array
from minitorch_ciml.keras.data.dataset import Dataset

if TYPE_CHECKING:
    from concurrent.futures import Executor


def timeseries_dataset_from_array(
    data: Any,
    targets: Any,
    sequence_length: int,
    sequence_stride: int = 1,
    sampling_rate: int = 1,
    batch_size: int | None = 128,
    shuffle: bool = False,
    seed: int | None = None,
    start_index: int | None = None,
    end_index: int | None = None,
    format: str = "tf",
) -> Dataset:
    """Windows data[i], data[i + rate], ... of a series, and the target of each.

    Args:
        data: (T, ...), time first; may be memory-mapped.
        targets: `targets[i]` belongs to the window that begins at i; None for none.
        sequence_length: the steps of a window.
        sequence_stride: from one window's beginning to the next one's.
        sampling_rate: from one step in a window to the next.
        batch_size: of the batches; None for single windows.
        shuffle: the windows in another order; with a seed it is the same in every epoch and that
            of Keras, without one it is another every time.
        seed: fixes the order.
        start_index, end_index: only data[start_index:end_index] are used.
        format: accepted as in Keras, without effect.

    Returns:
        A `Dataset` of windows (N, sequence_length, ...) and targets (N, ...).
    """
    _at_least_1(
        sequence_length=sequence_length, sequence_stride=sequence_stride,
        sampling_rate=sampling_rate,
    )  # fmt: skip
    first, last = _range(len(data), start_index, end_index)
    series = (data if isinstance(data, np.ndarray) else as_array(data))[first:last]
    count = len(series) - (sequence_length - 1) * sampling_rate
    if targets is not None:
        targets = targets if isinstance(targets, np.ndarray) else as_array(targets)
        count = min(count, len(targets))
        targets = targets[first:last]
    starts = np.arange(0, max(count, 0), sequence_stride)
    if not starts.size:
        raise ValueError(
            f"timeseries_dataset_from_array: {len(series)} steps are too few for a window of "
            f"{sequence_length} (sampling_rate={sampling_rate})."
        )
    if shuffle and seed is not None:
        np.random.RandomState(seed).shuffle(starts)
    offsets = np.arange(sequence_length) * sampling_rate

    def read(rows: np.ndarray, pool: Executor) -> Callable[[], Any]:
        def finish() -> Any:
            begin = starts[rows]
            windows = series[begin[:, None] + offsets]
            return windows if targets is None else (windows, targets[begin])

        return finish

    return Dataset(read, len(starts), batch_size, shuffle and seed is None)


def _at_least_1(**arguments: int) -> None:
    for name, value in arguments.items():
        if value < 1:
            raise ValueError(
                f"timeseries_dataset_from_array: {name} must be at least 1, got {value}."
            )


def _range(steps: int, start_index: int | None, end_index: int | None) -> tuple[int, int]:
    """The first step that is used, and the one after the last."""
    first, last = start_index or 0, steps if end_index is None else end_index
    if not 0 <= first < last <= steps:
        raise ValueError(
            f"timeseries_dataset_from_array: start_index={start_index} and end_index={end_index} "
            f"leave nothing of {steps} steps."
        )
    return first, last
