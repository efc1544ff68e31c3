"""The exchange of gradients: `GradientExchange`, one per optimizer.

The gradients lie in one array (`FlatBuffer`), the last layer's first, and travel in pieces, always
in the order of that array. The ranks of a machine add theirs up in memory that they share (`Node`),
each a part of a piece; then every one of them adds its part to those of the other machines, over
the network; then they hand the sums out to each other.

*Blocking*, this begins when backward has ended. *Overlapped*, a piece is sent as soon as backward
has computed it on all ranks of the machine; nobody waits for that, but looks after every op. Where
there is a network, both are tried in the first steps, and rank 0 decides for all by its clock.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable, Sequence
from statistics import median
from time import perf_counter
from typing import Any, cast
from weakref import WeakKeyDictionary

import numpy as np

from minitorch_ciml import config, kernels
from minitorch_ciml.autograd import backward
from minitorch_ciml.autograd.engine import Variable
from minitorch_ciml.autograd.flat import FlatBuffer, Message
from minitorch_ciml.autograd.record import Record
from minitorch_ciml.distributed import interruption, transfers
from minitorch_ciml.distributed.bells import Arrival
from minitorch_ciml.distributed.communicator import MPICommunicator, init
from minitorch_ciml.distributed.profile import profile
from minitorch_ciml.distributed.sums import average_in_fixed_order
from minitorch_ciml.kernels import steps
from minitorch_ciml.kernels.halves import is_half

# Of 25 million float32 numbers, one call took 32 ms, one per tensor 15, pieces of this size 9.3.
PIECE = 4 << 20  # bytes
# Overlapped, a piece ends with a parameter, as soon as it is worth a message.
_SMALLEST = 32 << 10  # bytes

_OBSERVED = 2  # steps in which it is only seen whether overlap is possible
_ROUNDS = 3  # steps that each way gets in the trial


class GradientExchange:
    """Adds up, or averages, the gradients of all ranks.

    Args:
        average: divide by the number of ranks.
        compression: "float16": what goes over the network has half the size. Sums are still made
            in float32. None: as it is.
        overlap: send while backward runs: True, False, or None, to find out which is faster.

    Raises:
        ValueError: another `compression`.
    """

    def __init__(
        self, average: bool = True, compression: str | None = None, overlap: bool | None = None
    ):
        if compression not in (None, "float16"):
            raise ValueError(f"compression: got {compression!r}, expected None or 'float16'.")
        self.average, self.compression, self.overlap = average, compression, overlap
        self._buffers: list[FlatBuffer] = []
        self._lanes: list[_Lane] = []
        self._positions: dict[Variable, tuple[_Lane, int]] = {}
        self._ways: list[bool] = []  # overlapped?
        self._times: list[list[float]] = []
        self._steps = 0
        self._trial = self._faithful = True
        self._overlapped = False
        self._began: float | None = None
        self._watching = False

    def __reduce__(self) -> tuple:
        return type(self), (self.average, self.compression, self.overlap)

    def __call__(self, buffers: list[FlatBuffer], gradients: list[list]) -> bool:
        """Combines the gradients of all ranks, in `buffer.gradient`; True: it is done.

        `buffer.present` is 0 for a parameter for which no rank has a gradient. It travels with the
        gradients, and so does the wish of any rank to end the training (`interruption`).

        Args:
            buffers: those of the optimizer.
            gradients: for each of them, one gradient per parameter, or None.
        """
        communicator = cast(MPICommunicator, init())  # there is one where this is called
        if self._buffers != buffers:
            self._open(buffers, communicator)
        with communicator.waiting("gradient exchange"), profile.exchange(communicator):
            for lane, own in zip(self._lanes, gradients):
                self._faithful &= lane.send_rest(lane.buffer.bring(own), self._overlapped)
            for lane in self._lanes:
                lane.receive()
            for lane in self._lanes:
                lane.buffer.take_back()
        interruption.agree(any(lane.buffer.flag[0] > 0 for lane in self._lanes))
        self._after_step(communicator)
        return True

    def _open(self, buffers: list[FlatBuffer], communicator: MPICommunicator) -> None:
        self.close()
        self._buffers = list(buffers)
        scale = 1 / communicator.size if self.average else 1.0
        self._lanes = [_Lane(_OnHost(b), communicator, scale, self.compression) for b in buffers]
        self._positions = {
            p: (lane, i) for lane in self._lanes for i, p in enumerate(lane.buffer.parameters)
        }
        self._ways = _ways(self._lanes, self.overlap)
        self._times = [[] for _ in self._ways]
        self._steps, self._faithful = 0, True
        self._trial = any(self._ways)
        self._overlapped = False
        if self._trial:
            backward.watchers.append(self._watch)
            self._watching = True

    # --- while backward runs ---------------------------------------------------------------------

    def _watch(
        self, lineage: list[Variable], targets: list[Variable], gradients: dict
    ) -> Callable[[Record], None] | None:
        """What backward calls after every op; None if it is not these parameters' backward.

        A gradient is complete when all ops that use the parameter have contributed to it.
        """
        positions = self._positions
        if len(targets) != len(positions) or any(p not in positions for p in targets):
            return None
        if not self._lanes[0].always and config.part.get() is None:
            return None
        steps.aside(self._begin)
        uses: dict[Variable, int] = {}
        for v in lineage:
            if v.record is not None:
                for x in v.record.inputs:
                    if x in positions:
                        uses[x] = uses.get(x, 0) + 1

        def after(record: Record) -> None:
            for x in record.inputs:
                if x in uses:
                    uses[x] -= 1
                    if uses[x] == 0 and x.hooks is None and x in gradients:
                        steps.aside(self._arrived, x, gradients[x])
            steps.aside(self._poll)

        return after

    def _begin(self) -> None:
        if any(lane.sending for lane in self._lanes):
            raise RuntimeError(
                "the gradients are sent while backward runs, but there was a second backward "
                "before optimizer.apply; use DataParallel(overlap=False)."
            )
        self._began = perf_counter()
        for lane in self._lanes:
            lane.begin()

    def _arrived(self, parameter: Variable, gradient: np.ndarray) -> None:
        lane, i = self._positions[parameter]
        lane.arrived(i, gradient, self._overlapped)

    def _poll(self) -> None:
        for lane in self._lanes:
            lane.poll()

    def close(self) -> None:
        """Watches no backward any more."""
        if self._watching:
            backward.watchers.remove(self._watch)
            self._watching = False

    # --- which way -------------------------------------------------------------------------------

    def _after_step(self, communicator: MPICommunicator) -> None:
        """Notes how long the step took, and settles how the next one is done."""
        if not self._trial:
            return
        elapsed = None if self._began is None else perf_counter() - self._began
        self._began = None
        self._steps += 1
        tried = self._steps - _OBSERVED
        if tried == 0 and not communicator.all(self._faithful):
            # What is applied is not what backward computed: gradients that the script has changed,
            # or added up over several steps.
            if self.overlap:
                raise RuntimeError(
                    "DataParallel(overlap=True) needs gradients that go from backward to "
                    "optimizer.apply as they are, and no gradient accumulation; leave overlap out."
                )
            self._settle(False)
            return
        if tried > 0 and elapsed is not None:
            self._times[(tried - 1) % len(self._ways)].append(elapsed)
        if 0 <= tried < _ROUNDS * len(self._ways):
            self._overlapped = self._ways[tried % len(self._ways)]
        elif tried > 0:
            means = [median(times) if times else float("inf") for times in self._times]
            best = means.index(min(means))
            self._settle(self._ways[communicator.broadcast_object(best)])

    def _settle(self, overlapped: bool) -> None:
        self._overlapped, self._trial = overlapped, False
        if not overlapped:
            self.close()

    def __repr__(self) -> str:
        way = "overlapped" if self._overlapped else "blocking"
        return f"<GradientExchange {way}{', being tried' if self._trial else ''}>"


def _ways(lanes: list[_Lane], overlap: bool | None) -> list[bool]:
    """Whether to overlap; both ways only where there is a network.

    Not with several lanes, where a rank without rows would send their pieces in another order, nor
    on a GPU, which computes the gradients long after backward has asked for them.
    """
    if overlap and lanes[0].buffer.copied:
        raise ValueError("overlap=True: gradients on a GPU are sent after backward; leave it out.")
    here = lanes[0].buffer.copied or lanes[0].across.size == 1
    if overlap is False or len(lanes) > 1 or (overlap is None and here):
        return [False]
    return [True] if overlap else [False, True]


class _OnHost(Message):
    """A buffer's message as MPI can have it: itself, or on a GPU a copy in the host's memory.

    Attributes:
        copied: whether it is a copy.
        refuse: as of `FlatBuffer`.
    """

    def __init__(self, buffer: FlatBuffer):
        super().__init__(buffer.parameters, buffer.slices, buffer.size)
        self._original, self.refuse = buffer, buffer.refuse
        self.copied = buffer.device != "cpu"
        self._staging: Any = kernels.staging(buffer.gradient) if self.copied else None
        self.place(np.zeros(len(buffer.message), buffer.message.dtype))

    def place(self, message: np.ndarray) -> None:
        """See `Message.place`."""
        super().place(message)
        if not self.copied:
            self._original.place(message)

    def bring(self, gradients: list) -> list:
        """The gradients, on the host: one copy brings all of them."""
        if not self.copied:
            return gradients
        missing = self._original.gather(gradients)
        arrays = self.views(self._staging.fetch())
        return [None if i in missing else array for i, array in enumerate(arrays)]

    def take_back(self) -> None:
        """Puts the sums where the optimizer looks for them."""
        if self.copied:
            self._staging.send(self.gradient)
            self._original.present = self.present


class _Lane:
    """The way of one buffer's gradients.

    Args:
        buffer: its `message` moves to memory that the ranks of this machine share.
        communicator: of all ranks.
        scale: what every gradient is multiplied by before it is added to the others.
        compression: see `GradientExchange`.

    Attributes:
        across: the ranks, one on every machine, that add up the same part.
        always: whether every backward is part of a step; otherwise those of a shared batch are.
        sending: whether something of the present step is on its way.
    """

    def __init__(
        self,
        buffer: _OnHost,
        communicator: MPICommunicator,
        scale: float,
        compression: str | None,
    ):
        self.buffer, self._scale = buffer, scale
        self.always = config.part.get() is None
        memory = None
        if communicator.node.size > 1:
            memory = communicator.node.allocate(buffer.message.size, buffer.message.dtype)
            if not communicator.all(memory is not None):
                memory = None
        self._node, self._memory = communicator.node, memory
        self.across = communicator.world if memory is None else communicator.across
        if memory is not None:
            buffer.place(memory[self._node.rank])
        self.message = buffer.message
        halved = compression is not None or is_half(self.message.dtype)
        # What a rank's gradients are multiplied by on the network, in 16 bits only: so that they
        # keep the size that they had before `scale`, whatever the number of ranks.
        self._unscale = 1 / scale if halved else None
        self._stops = [_even_stops(self.message), _stops_at_parameters(buffer, self.message)]
        self.begin()

    def begin(self) -> None:
        """A step begins: nothing is there yet, nothing is sent."""
        count = len(self.buffer.parameters)
        self._seen: list[np.ndarray | None] = [None] * count  # what backward has computed
        self._there = [False] * count  # whether it is in the message
        self._next = count - 1  # the first parameter, in the order of the array, that is not there
        self._sent = 0  # where the next piece begins
        # Pieces that wait for other ranks' parts; and whether backward goes on meanwhile.
        self._written: deque[tuple[Arrival, slice, bool]] = deque()
        self._parts: list[slice] = []
        self._transfers: list[Any] = []
        self.sending = False

    def arrived(self, i: int, gradient: np.ndarray, overlapped: bool) -> None:
        """Backward has computed the gradient of parameter `i`."""
        self._seen[i] = gradient
        if overlapped:
            self._put(i, gradient)
            self._send(self._complete(), overlapped)

    def poll(self) -> None:
        """Sends what all ranks of the machine have written, and lets MPI move what is sent."""
        while self._written and self._written[0][0].done():
            self._add_up(*self._written.popleft()[1:])
        for transfer in self._transfers:
            transfer.poll()

    def send_rest(self, gradients: Sequence, overlapped: bool) -> bool:
        """Sends what has not been sent; returns whether `arrived` has got the same arrays."""
        faithful, missing = True, []
        for i in range(len(gradients) - 1, -1, -1):
            value = _array(gradients[i])
            faithful &= self._seen[i] is None or self._seen[i] is value
            if self._there[i]:
                if not faithful:
                    raise RuntimeError(
                        "optimizer.apply got another gradient than backward computed, which was "
                        "sent already; use DataParallel(overlap=False)."
                    )
                continue
            if value is None:
                missing.append(i)
            self._put(i, value)
            self._send(self._complete(), overlapped)
        buffer = self.buffer
        buffer.present[...] = self._scale
        buffer.present[missing] = 0
        buffer.flag[...] = self._scale * interruption.requested()
        self._send(len(self.message), overlapped)
        return faithful

    def receive(self) -> None:
        """Waits for the sums."""
        while self._written:
            arrival, piece, overlapped = self._written.popleft()
            arrival.wait()
            self._add_up(piece, overlapped)
        for transfer in self._transfers:
            transfer.wait()
        if self._memory is not None:
            for part in self._parts:
                self._node.hand_out(self._memory, part)
            self._node.arrive().wait()
        self.begin()

    def _put(self, i: int, gradient: np.ndarray | None) -> None:
        view = self.buffer.gradient_views[i]
        self._there[i] = True
        if gradient is None:
            view[...] = 0
            return
        if gradient.shape != view.shape:
            self.buffer.refuse(i, gradient)
        np.multiply(gradient, self._scale, out=view, casting="unsafe")

    def _complete(self) -> int:
        """Up to where the array is complete."""
        while self._next >= 0 and self._there[self._next]:
            self._next -= 1
        return self.buffer.slices[self._next].start if self._next >= 0 else self.buffer.size

    def _send(self, complete: int, overlapped: bool) -> None:
        """Sends the pieces that are complete."""
        for stop in self._stops[overlapped]:
            if self._sent < stop <= complete:
                piece = slice(self._sent, stop)
                if self._memory is None:
                    self._transfer(piece, overlapped)
                else:
                    self._written.append((self._node.arrive(), piece, overlapped))
                self._sent, self.sending = stop, True

    def _add_up(self, piece: slice, overlapped: bool) -> None:
        """All ranks of this machine have written the piece."""
        assert self._memory is not None
        part = self._node.share(piece.start, piece.stop)
        if part.start == part.stop:
            return
        self._node.add_up(self._memory, part)
        self._parts.append(part)
        self._transfer(part, overlapped)

    def _transfer(self, part: slice, overlapped: bool) -> None:
        if self.across.size > 1:
            values = self.message[part]
            begun = transfers.begin(self.across, values, self._unscale, overlapped)
            self._transfers.append(begun)


def _even_stops(message: np.ndarray) -> list[int]:
    """Where the pieces of `PIECE` bytes end."""
    length = PIECE // message.itemsize
    return [*range(length, len(message), length), len(message)]


def _stops_at_parameters(buffer: _OnHost, message: np.ndarray) -> list[int]:
    """Where pieces end that are sent while backward runs: what is computed together goes together.

    That depends on nothing but the parameters, so it is the same on all ranks.
    """
    fewest, most = _SMALLEST // message.itemsize, PIECE // message.itemsize
    stops, start = [], 0
    for end in sorted(part.stop for part in buffer.slices):
        if end - start >= fewest:
            stops += [*range(start + most, end, most), end]
            start = end
    return [stop for stop in stops if stop < len(message)] + [len(message)]


def _array(gradient: Any) -> np.ndarray | None:
    return gradient.value if isinstance(gradient, Variable) else gradient


# --- the exchange of an optimizer -----------------------------------------------------------------

_options: dict[str, Any] = {}
_exchanges: WeakKeyDictionary[Any, GradientExchange] = WeakKeyDictionary()


def set_exchange(**options: Any) -> None:
    """From now on, gradients of shared batches are combined so (`GradientExchange`)."""
    GradientExchange(**options)  # raises if they are wrong
    _options.clear()
    _options.update(options)
    for exchange in list(_exchanges.values()):
        exchange.close()
    _exchanges.clear()


def exchange_for_part(optimizer: Any) -> Callable[[list[FlatBuffer], list[list]], bool] | None:
    """How gradients are combined in what is being done: None where the batch is not shared."""
    rows = config.part.get()
    if rows is None:
        return None
    if rows.to_come is not None:
        return average_in_fixed_order
    exchange = _exchanges.get(optimizer)
    if exchange is None:
        exchange = _exchanges[optimizer] = GradientExchange(**_options)
        weakref.finalize(optimizer, exchange.close)
    return exchange
