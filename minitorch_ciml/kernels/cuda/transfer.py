"""Batches on their way to the GPU, while it computes on those before; and arrays there and back.

A batch is packed into memory that the GPU reads by itself, and copied in a second stream; what is
launched afterwards waits for the copy, the host does not. There are two places, so that a batch can
be packed while the one before is still on its way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from minitorch_ciml.kernels.cuda.elementwise import cast
from minitorch_ciml.kernels.cuda.memory import CudaArray, empty
from minitorch_ciml.kernels.cuda.runtime import runtime

_ALIGNMENT = 256  # bytes: every array starts where vectors can be read


class Staging:
    """Memory that the GPU reads and writes by itself, for an array there that the host changes.

    Args:
        array: on the GPU.

    Attributes:
        host: as many elements, flat, in the host's memory.
    """

    def __init__(self, array: CudaArray):
        self._array = array
        self.host = runtime().pinned(array.nbytes).view(array.dtype)
        self._ready = runtime().event()  # what was there before may be overwritten
        self._sent = runtime().event()

    def fetch(self) -> np.ndarray:
        """The array's elements, in `host`; waits for the GPU."""
        runtime().wait_for(self._sent)
        runtime().copy_to_host(self.host, self._array)
        return self.host

    def send(self, values: np.ndarray) -> None:
        """Gives the array new elements; the GPU's next work waits for them, the host does not."""
        device = runtime()
        device.wait_for(self._sent)  # the last ones have been read
        self.host[...] = values
        device.mark(self._ready, device.stream)
        device.follow(device.copies, self._ready)
        device.copy_ahead(self._array, self.host)
        device.mark(self._sent, device.copies)
        device.follow(device.stream, self._sent)


class _Place:
    """Room for one batch on either side, and what it has to wait for."""

    def __init__(self) -> None:
        device = runtime()
        self.host = np.empty(0, np.uint8)
        self.there: CudaArray | None = None
        self.copied = device.event()  # the GPU has read the host's memory
        self.taken = device.event()  # the batch has been taken from the GPU's

    def reserve(self, nbytes: int) -> None:
        if self.host.size < nbytes:
            self.host = runtime().pinned(nbytes)
            self.there = empty((nbytes,), "uint8")
            # That memory may still be in use by work that was launched before.
            runtime().mark(self.taken, runtime().stream)


class Feeder:
    """Sends batches to the GPU."""

    def __init__(self) -> None:
        self._places = [_Place(), _Place()]
        self._turn = 0

    def send(self, arrays: Sequence[np.ndarray]) -> Parcel:
        """Begins to copy the arrays; the parcel must be taken before the next but one is sent."""
        device, place = runtime(), self._places[self._turn]
        self._turn = 1 - self._turn
        starts, end = [], 0
        for array in arrays:
            starts.append(end)
            end += -(-array.nbytes // _ALIGNMENT) * _ALIGNMENT
        device.wait_for(place.copied)
        place.reserve(end)
        for array, start in zip(arrays, starts):
            packed = place.host[start : start + array.nbytes]
            packed.view(array.dtype).reshape(array.shape)[...] = array
        if end:
            assert place.there is not None
            device.follow(device.copies, place.taken)
            device.copy_ahead(place.there.rows(0, end), place.host[:end])
            device.mark(place.copied, device.copies)
        return Parcel(place, [(a.shape, a.dtype) for a in arrays], starts)


class Parcel:
    """Arrays that are being copied to the GPU.

    Attributes:
        kinds: the shape and the dtype of each.
    """

    def __init__(self, place: _Place, kinds: list[tuple], starts: list[int]):
        self.kinds = kinds
        self._place, self._starts = place, starts

    def take(self, dtypes: Sequence[Any], into: Sequence[CudaArray] | None = None) -> list:
        """The arrays, cast to `dtypes`: new ones, or written over those of `into`."""
        device = runtime()
        device.follow(device.stream, self._place.copied)
        taken = []
        for i, ((shape, dtype), start, wanted) in enumerate(zip(self.kinds, self._starts, dtypes)):
            there = self._place.there
            block = None if there is None else there._block
            source = CudaArray(shape, dtype, block, start)
            array = cast(source, wanted)
            if into is not None:
                array = into[i].assign(array)
            elif array is source:
                array = source.copy()  # its place is for the next batch but one
            taken.append(array)
        device.mark(self._place.taken, device.stream)
        return taken
