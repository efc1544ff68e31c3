"""The few settings that the whole package shares, each in one place and local to the context.

Recording, the device and the float type live in `contextvars`, so a `with` block changes them for
the code inside it alone, also with threads and asyncio.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ContextDecorator, contextmanager
from contextvars import ContextVar
from typing import NamedTuple

import numpy as np

FLOAT_TYPES = ("float16", "bfloat16", "float32", "float64")
DEVICES = ("cpu", "cuda")

# True while operations are recorded for backward. Read by the engine at every operation.
recording: ContextVar[bool] = ContextVar("recording", default=True)
_floatx: ContextVar[str] = ContextVar("floatx", default="float32")
_device: ContextVar[str] = ContextVar("device", default="cpu")

# What makes a device ready, or raises an error that says why it cannot be used; given by `kernels`.
_make_ready: dict[str, Callable[[int | None], None]] = {}


class Part(NamedTuple):
    """The rows of a batch that this process works on, when several ranks share the batch."""

    first: int
    own: int
    total: int  # rows of the whole batch
    ranks: int
    to_come: int | None = None  # parts that this process has yet to do, if it does several in turn

    @property
    def even(self) -> float:
        """The rows of each rank, were the shares even."""
        return self.total / self.ranks

    @property
    def factor(self) -> float:
        """What turns a mean over these rows into a share of the mean over the whole batch.

        The mean of such shares over the ranks is that mean, however uneven the parts are.
        """
        return self.own / self.even

    def scaled(self, rows: int) -> Part:
        """The part where a sample takes several rows; all of it for rows that are no samples."""
        if self.own == 0 or rows % self.own:
            return Part(0, rows, rows, 1)
        each = rows // self.own
        return Part(self.first * each, rows, self.total * each, self.ranks)


# None where this process has the whole batch.
part: ContextVar[Part | None] = ContextVar("part", default=None)


@contextmanager
def working_on(rows: Part | None) -> Iterator[None]:
    """Inside the block, the samples at hand are these rows of the whole batch."""
    token = part.set(rows)
    try:
        yield
    finally:
        part.reset(token)


class Recording(ContextDecorator):
    """Switches recording on or off inside a `with` block or a decorated function."""

    def __init__(self, mode: bool):
        self._mode = mode
        self._tokens: list = []

    def __enter__(self):
        self._tokens.append(recording.set(self._mode))
        return self

    def __exit__(self, *exception) -> None:
        recording.reset(self._tokens.pop())


def no_grad() -> Recording:
    """Operations inside `with no_grad():` (or a function decorated with it) are not recorded."""
    return Recording(False)


def enable_grad() -> Recording:
    """Operations inside are recorded, also within a surrounding `no_grad()`."""
    return Recording(True)


def floatx() -> str:
    """The float type that new tensors get from Python numbers: 'float32' unless set."""
    return _floatx.get()


def set_floatx(dtype: str) -> None:
    """Sets the default float type: 'float16', 'bfloat16', 'float32' or 'float64'.

    Raises:
        ValueError: another name.
        ImportError: 'bfloat16' needs the package ml_dtypes.
    """
    name = dtype if isinstance(dtype, str) else np.dtype(dtype).name
    if name not in FLOAT_TYPES:
        raise ValueError(f"set_floatx: got {dtype!r}, expected one of {', '.join(FLOAT_TYPES)}.")
    if name in _make_ready:
        _make_ready[name](None)
    _floatx.set(name)


def get_device() -> str:
    """The device on which new tensors are made: 'cpu', or 'cuda' for an NVIDIA GPU."""
    return _device.get()


def set_device(name: str) -> None:
    """Makes `name` the device of new tensors: 'cpu', or 'cuda' (also 'gpu').

    'cuda:1' is the GPU with number 1; a process uses one GPU, so another one cannot follow.

    Raises:
        ValueError: there is no such name.
        ImportError, RuntimeError: the device cannot be used here; the message says why.
    """
    _device.set(known_device(name))


@contextmanager
def device(name: str) -> Iterator[None]:
    """`with device("cpu"):` makes new tensors inside the block live on that device."""
    token = _device.set(known_device(name))
    try:
        yield
    finally:
        _device.reset(token)


PRECISIONS = ("highest", "high", "medium")
_precision: ContextVar[str] = ContextVar("float32_matmul_precision", default="highest")


def get_float32_matmul_precision() -> str:
    """How float32 matrices are multiplied on the GPU; see `set_float32_matmul_precision`."""
    return _precision.get()


def set_float32_matmul_precision(precision: str) -> None:
    """Chooses how float32 matrices are multiplied on a GPU with tensor cores (as in PyTorch).

    Args:
        precision: 'highest' (default): in float32. 'high': as three products of TF32 numbers
            (3xTF32), with an error about that of float32; but infinities become NaN. 'medium': as
            TF32, numbers with 10 bits of mantissa: a relative error about 1e-3, as fast as it gets.

    Elsewhere it has no effect. Sums are float32 always.
    """
    if precision not in PRECISIONS:
        raise ValueError(
            f"set_float32_matmul_precision: got {precision!r}, expected one of {PRECISIONS}."
        )
    _precision.set(precision)


def known_device(name: str) -> str:
    """The device's own name, once it is ready; an error where there is none such."""
    kind, colon, number = str(name).partition(":")
    kind = {"gpu": "cuda"}.get(kind, kind)
    if kind not in DEVICES or (colon and not number.isdecimal()):
        raise ValueError(f"device {name!r} is not known; there are: {', '.join(DEVICES)}.")
    if kind in _make_ready:
        _make_ready[kind](int(number) if number else None)
    return kind


def when_chosen(name: str, make_ready: Callable[[int | None], None]) -> None:
    """From now on, `make_ready(number)` is called whenever that device or float type is chosen.

    The number is that of the GPU, if one is given.
    """
    _make_ready[name] = make_ready
