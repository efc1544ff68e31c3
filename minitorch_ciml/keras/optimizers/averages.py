"""Moving averages of the parameters, which an optimizer keeps with `use_ema=True`."""

from __future__ import annotations

from typing import Any

import numpy as np

from minitorch_ciml import kernels
from minitorch_ciml.autograd.flat import FlatBuffer
from minitorch_ciml.keras.optimizers.gradients import kernel_of


class MovingAverages:
    """Mixed into `Optimizer`: average = momentum average + (1 - momentum) parameter."""

    use_ema: bool
    ema_momentum: float
    ema_overwrite_frequency: int | None
    built: bool
    _buffers: list[FlatBuffer]
    _slot_arrays: dict[str, list[np.ndarray]]

    def _average(self, updates: int) -> None:
        momentum = self.ema_momentum if updates else 0.0
        for buffer, average in zip(self._buffers, self._slot_arrays["average"]):
            kernel_of(buffer, "moving_average")(average, buffer.data, momentum)
        every = self.ema_overwrite_frequency
        if every and (updates + 1) % every == 0:
            self.finalize_variable_values()

    def swap_average(self) -> None:
        """Puts the moving averages in the parameters' place, and these in theirs."""
        for buffer, average in zip(self._buffers, self._slot_arrays["average"]):
            parameters = kernels.full(buffer.data.shape, 0, buffer.data.dtype, buffer.device)
            parameters[...] = buffer.data
            buffer.data[...] = average
            average[...] = parameters
            buffer.touch()

    def keep_average(self) -> None:
        """Takes the parameters as they are for their moving averages."""
        for buffer, average in zip(self._buffers, self._slot_arrays["average"]):
            average[...] = buffer.data

    def finalize_variable_values(self, var_list: Any = None) -> None:
        """Replaces the parameters by their moving averages, if there are any."""
        if self.use_ema and self.built:
            for buffer, average in zip(self._buffers, self._slot_arrays["average"]):
                buffer.data[...] = average
                buffer.touch()
