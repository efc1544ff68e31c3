"""`FlatBuffer`: many parameters in one array, so that one pass over memory treats them all.

Each parameter's value becomes a view of one contiguous array, and so does each gradient. Then an
optimizer is one kernel over one array, a sum over ranks one call, and a checkpoint one array.

The order is the *reverse* of that of the parameters: the last layer's come first. Backward finishes
their gradients first, so what is ready to be sent to other ranks is always a prefix.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np

from minitorch_ciml import kernels
from minitorch_ciml.autograd.engine import serials
from minitorch_ciml.autograd.tensor import Parameter, Tensor, as_array

# Every parameter begins at a multiple of so many elements, where its vectors lie in one cache line
# of a CPU, or can be read at all on a GPU; between them are zeros.
_ALIGNMENT = {"cpu": 16, "cuda": 64}


class Message:
    """The gradients of some parameters in one array, and what `distributed` sends along with them.

    Attributes:
        parameters: in the order of the model.
        slices: where each of them lies in `gradient`.
        size: N, the length of `gradient`.
        message: `gradient`, `present` and `flag` as one array, so that they travel together.
        gradient: all gradients, of shape (N,).
        gradient_views: each parameter's part of it, in the parameter's shape.
        present: one number per parameter, for `distributed`: 1 if it has a gradient, else 0.
        flag: one more number for `distributed`, that travels along.
    """

    def __init__(self, parameters: list[Parameter], slices: list[slice], size: int):
        self.parameters, self.slices, self.size = parameters, slices, size

    def place(self, message: np.ndarray) -> None:
        """Makes this array, of shape (N + P + 1,), the `message`; what it holds is overwritten."""
        self.message = message
        last = len(message) - 1
        self.gradient, self.present, self.flag = (
            message[: self.size], message[self.size : last], message[last:]
        )  # fmt: skip
        self.gradient_views = self.views(self.gradient)

    def views(self, array: np.ndarray) -> list[np.ndarray]:
        """The parts of `array` (N,) that belong to the parameters, in their shapes."""
        return [array[s].reshape(p.shape) for s, p in zip(self.slices, self.parameters)]


class FlatBuffer(Message):
    """Parameters of one dtype, packed into one array, and another array for their gradients.

    Args:
        parameters: at least one; all of one dtype and on one device, none twice.

    Attributes:
        device: where they are.
        slices: where each parameter lies in `data` and `gradient`.
        waiting: copies of `message`, for `distributed`: of the parts of a batch done so far.

    Raises:
        ValueError: no parameters, several dtypes or devices, or one parameter twice.
    """

    def __init__(self, parameters: Sequence[Parameter]):
        parameters = list(parameters)
        dtypes = {p.dtype for p in parameters}
        if len(dtypes) != 1:
            names = ", ".join(sorted(d.name for d in dtypes)) or "none"
            raise ValueError(f"FlatBuffer: expected parameters of one dtype, got {names}.")
        if len({id(p) for p in parameters}) != len(parameters):
            raise ValueError("FlatBuffer: a parameter is given twice; give each one once.")
        devices = sorted({p.device for p in parameters})
        if len(devices) > 1:
            raise ValueError(f"the parameters live on different devices: {', '.join(devices)}.")
        self.device = devices[0]
        sizes = [_padded(p.size, self.device) for p in parameters]
        slices: list[slice] = []
        start = sum(sizes)
        for p, size in zip(parameters, sizes):
            start -= size
            slices.append(slice(start, start + p.size))
        super().__init__(parameters, slices, sum(sizes))
        dtype = dtypes.pop()
        self._data = kernels.full((self.size,), 0, dtype, self.device)
        n = self.size + len(parameters) + 1
        self.place(kernels.full((n,), 0, dtype, self.device))
        self.waiting: list[np.ndarray] = []
        self._views = self.views(self._data)
        self.pack()

    @property
    def data(self) -> np.ndarray:
        """All values, of shape (N,): the very memory of the parameters."""
        self.pack()
        return self._data

    def pack(self) -> None:
        """Takes in parameters whose values are elsewhere, such as in a later `FlatBuffer`."""
        for p, view in zip(self.parameters, self._views):
            if p.value is not view:
                view[...] = p.value
                p.value = view

    def gather(self, gradients: Sequence[Tensor | np.ndarray | None]) -> list[int]:
        """Copies the gradients into `gradient`; those that lie there already are left alone.

        Returns:
            The positions of the missing ones (None); their part is filled with zeros.

        Raises:
            ValueError: a gradient has another shape than its parameter.
        """
        missing, fitting = [], []
        for i, (g, view) in enumerate(zip(gradients, self.gradient_views)):
            if g is None:
                missing.append(i)
                view[...] = 0
                continue
            value = self._array(g)
            if value is view:
                continue
            if value.shape != view.shape:
                self.refuse(i, value)
            if self.device == "cuda" and self._fits(value):
                fitting.append((value, self.slices[i].start))
            else:
                view[...] = value
        if fitting:
            together: Any = kernels.find("cuda", "bring_together")
            together(self.gradient, *zip(*fitting))
        return missing

    def borrow(self, gradients: Sequence[Tensor | np.ndarray | None]) -> list[np.ndarray | None]:
        """Each gradient as a flat array where it lies; None for those that are missing.

        Only what no kernel could take (another dtype, or not contiguous) is copied. Large
        gradients are better borrowed than gathered: the copy costs more than an optimizer's pass.

        Raises:
            ValueError: a gradient has another shape than its parameter.
        """
        arrays: list[np.ndarray | None] = []
        for i, g in enumerate(gradients):
            if g is None:
                arrays.append(None)
                continue
            value = self._array(g)
            if value.shape != self._views[i].shape:
                self.refuse(i, value)
            if not self._fits(value):
                self.gradient_views[i][...] = value
                value = self.gradient_views[i]
            arrays.append(value.reshape(-1))
        return arrays

    def _array(self, gradient: Any) -> Any:
        if isinstance(gradient, Tensor):
            return gradient.value
        return gradient if type(gradient) is type(self._data) else as_array(gradient)

    def _fits(self, value: Any) -> bool:
        """Whether the buffer's kernels can take it as it lies."""
        if type(value) is not type(self._data) or value.dtype != self._data.dtype:
            return False
        return not isinstance(value, np.ndarray) or value.flags.carray

    def refuse(self, i: int, value: np.ndarray) -> NoReturn:
        """Raises the error that gradient `i` has another shape than its parameter."""
        p = self.parameters[i]
        raise ValueError(
            f"the gradient of {p.name or 'a parameter'} has shape {value.shape}, the parameter "
            f"{p.shape}; they must be equal."
        )

    def touch(self) -> None:
        """Marks all parameters as changed (`Parameter.touch`)."""
        serial = next(serials)
        for p in self.parameters:
            p.serial = serial


def _padded(size: int, device: str) -> int:
    """The room for so many elements."""
    step = _ALIGNMENT[device]
    return -(-size // step) * step
