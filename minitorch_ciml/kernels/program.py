"""The device "program": here, to compute is to compute and to note down what was called.

A training step's Python code (layers, loss, rules of the chain) says the same for every batch of
the same shapes, and for a small model it takes longer than the kernels. A `Program` is what remains
of a step without it: the kernels that were called, in order, each with the numbers of its arrays.

While a step is recorded, its arrays are `Slot`s. A slot has a shape and a dtype and can be given to
ops; whoever wants to look at its numbers gets a `NotRecordable`. So nothing that depends on one
batch finds its way into the program unseen. Arrays that are no slots are constants: what they hold
at the time of a run is used, so weights that are changed in place are the new ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from types import FunctionType
from typing import Any, NamedTuple, NoReturn

import numpy as np

from minitorch_ciml import kernels
from minitorch_ciml.kernels import steps


def _refuse(self: Slot, *args: Any, **how: Any) -> NoReturn:
    raise steps.NotRecordable(f"the step looks at the numbers of an array of shape {self.shape}")


class Slot:
    """An array of the step that is being recorded.

    Attributes:
        number: which of the program's arrays this is.
        array: this step's own.
    """

    __slots__ = ("number", "array")

    def __init__(self, number: int, array: np.ndarray):
        self.number = number
        self.array = array

    shape = property(lambda self: self.array.shape)
    dtype = property(lambda self: self.array.dtype)
    ndim = property(lambda self: self.array.ndim)
    size = property(lambda self: self.array.size)

    def astype(self, dtype: Any, copy: bool = True) -> Slot:
        return _call(_astype, self, dtype=dtype, copy=copy)

    def reshape(self, *shape: Any) -> Slot:
        return _call(np.reshape, self, shape=shape[0] if len(shape) == 1 else shape)

    def copy(self) -> Slot:
        return _call(np.copy, self)

    def assign(self, source: Any) -> None:
        """Copies the elements of `source`, of the same shape, into the array."""
        _call(_assign, self, source)

    __len__ = __iter__ = __getitem__ = __setitem__ = __array__ = numpy = item = tolist = _refuse
    __bool__ = __float__ = __int__ = __index__ = _refuse
    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _refuse
    __hash__ = object.__hash__


kernels.register(Slot, "program")


def _astype(array: np.ndarray, dtype: Any, copy: bool) -> np.ndarray:
    return array.astype(dtype, copy=copy)


def _assign(array: np.ndarray, source: Any) -> None:
    array[...] = source


class Call(NamedTuple):
    """A call of a program.

    Attributes:
        inputs: the numbers of the arrays that the function gets.
        params: what it gets by name and is always the same.
        named: what it gets by name and is an array: pairs of name and number.
        outputs: the number of the result; of each of several results; () if there is none.
        last: the arrays that no later call needs, whose memory is free after this one.
    """

    function: Callable
    inputs: tuple[int, ...]
    params: dict[str, Any]
    named: tuple[tuple[str, int], ...]
    outputs: int | tuple[int, ...]
    last: tuple[int, ...]


class Program:
    """The calls of a step. They are noted within `recording`; a run is a call with other arrays."""

    def __init__(self) -> None:
        self._values: list[Any] = []  # of each number: the constant; None for what a run computes
        self._constants: dict[int, int] = {}  # the numbers of constants, by their identity
        self._inputs: list[int] = []
        self._outputs: list[int] = []
        self._calls: list[Call] = []

    def __len__(self) -> int:
        return len(self._calls)

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Within the block, what slots are given to is noted in this program."""
        token = steps.program.set(self)
        try:
            yield
        finally:
            steps.program.reset(token)

    def input(self, array: np.ndarray) -> Slot:
        """An array that every run is given anew, in the order of these calls."""
        slot = self._new(array)
        self._inputs.append(slot.number)
        return slot

    def constant(self, value: Any) -> Slot:
        """What is the same object in every run, such as the array of a weight."""
        return Slot(self._number_of(value), value)

    def call(self, function: Callable, *inputs: Any, **params: Any) -> Any:
        """`function(*inputs, **params)` with the arrays behind the slots, now and in every run."""
        given = {name: x.array if type(x) is Slot else x for name, x in params.items()}
        result = function(*[x.array if type(x) is Slot else x for x in inputs], **given)
        several = isinstance(result, (tuple, list))
        slots = [self._new(x) for x in (result if several else [result])]
        outputs = tuple([slot.number for slot in slots])
        self.note(function, *inputs, outputs=outputs if several else outputs[0], **params)
        found = [None if slot.array is None else slot for slot in slots]
        return found if several else found[0]

    def note(
        self, function: Callable, *inputs: Any, outputs: int | tuple[int, ...] = (), **params: Any
    ) -> None:
        """A call in every run, but not now."""
        numbers = tuple([self._number_of(x) for x in inputs])
        fixed = {name: x for name, x in params.items() if type(x) is not Slot}
        named = tuple([(name, x.number) for name, x in params.items() if type(x) is Slot])
        self._calls.append(Call(function, numbers, fixed, named, outputs, ()))

    def matches(self, other: Program) -> bool:
        """Whether another recording of the step was the same, but for what is given anew."""
        return (
            len(self._calls) == len(other._calls)
            and len(self._values) == len(other._values)
            and (self._inputs, self._outputs) == (other._inputs, other._outputs)
            and all(map(_same, self._values, other._values))
            and all(map(_same, self._calls, other._calls))
        )

    def as_slots(self, values: list) -> list:
        """The inputs of an op as slots, if one of them is a slot or a known constant."""
        if any([type(x) is Slot or id(x) in self._constants for x in values]):
            return [x if type(x) is Slot else self.constant(x) for x in values]
        return values

    def finish(self, outputs: Sequence[Any]) -> None:
        """Says what a run returns; afterwards nothing is recorded any more."""
        self._outputs = [self._number_of(x) for x in outputs]
        needed = {*self._outputs, *self._constants.values()}
        for i in range(len(self._calls) - 1, -1, -1):
            call = self._calls[i]
            made = (call.outputs,) if isinstance(call.outputs, int) else call.outputs
            used = {*call.inputs, *[number for _, number in call.named], *made}
            self._calls[i] = call._replace(last=tuple(used - needed))
            needed |= used

    def __call__(self, arrays: Sequence[np.ndarray]) -> list[Any]:
        """A run: the outputs for these inputs."""
        values = self._values.copy()
        for number, array in zip(self._inputs, arrays):
            values[number] = array
        for function, inputs, params, named, outputs, last in self._calls:
            if named:
                params = params | {name: values[i] for name, i in named}
            result: Any = function(*[values[i] for i in inputs], **params)
            if isinstance(outputs, int):
                values[outputs] = result
            elif outputs:
                for i, part in zip(outputs, result):
                    values[i] = part
            result = part = None  # its memory may be free after this call
            for i in last:
                values[i] = None
        return [values[i] for i in self._outputs]

    def _new(self, value: Any) -> Slot:
        self._values.append(None)
        return Slot(len(self._values) - 1, value)

    def _number_of(self, value: Any) -> int:
        if type(value) is Slot:
            return value.number
        number = self._constants.get(id(value))
        if number is None:
            self._values.append(value)  # which also keeps its identity from being used again
            number = self._constants[id(value)] = len(self._values) - 1
        return number


def _same(a: Any, b: Any) -> bool:
    """Whether two values, or calls, of two recordings mean the same."""
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    if isinstance(a, _Anew):
        return _same(a.compute, b.compute)
    if isinstance(a, FunctionType):
        inner = [[cell.cell_contents for cell in f.__closure__ or ()] for f in (a, b)]
        return a.__code__ is b.__code__ and _same(*inner)
    if isinstance(a, (tuple, list)):
        return len(a) == len(b) and all(map(_same, a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    return bool(a == b)


def _call(function: Callable, *inputs: Any, **params: Any) -> Any:
    return steps.program.get().call(function, *inputs, **params)


def each_time(compute: Callable[[], Any]) -> Any:
    """What `compute` gives in each run anew, as a slot that an op can be given by name."""
    (slot,) = _call(_Anew(compute))
    return slot


class _Anew:
    """A function of a program that may draw random numbers."""

    def __init__(self, compute: Callable[[], Any]):
        self.compute = compute

    def __call__(self) -> list:
        token = steps.program.set(None)
        try:
            return [self.compute()]
        finally:
            steps.program.reset(token)


def constant(value: Any) -> Slot:
    """A value that is the same in all runs of the program that is being recorded."""
    return steps.program.get().constant(value)


def noted(kernel: Callable) -> Callable:
    """A kernel for the CPU as one for slots."""

    @wraps(kernel)
    def note(*inputs: Any, **params: Any) -> Any:
        return _call(kernel, *inputs, **params)

    add = getattr(kernel, "add_arrived", None)
    if add is not None:
        note.add_arrived = noted(add)  # type: ignore[attr-defined]
    return note
