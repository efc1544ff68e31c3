"""`Record`: what an op leaves behind on its result, so that there is a way back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from minitorch_ciml.autograd.engine import Op, Variable


class GraphError(RuntimeError):
    """The recorded graph cannot answer: it was freed, or a value in it has changed."""


class Record:
    """How a variable was made: `op(*inputs, **params)`.

    Attributes:
        values: what the kernel was given: the inputs' values, in the dtype of the computation.
        saved: what the kernel kept for the gradient, if the op has `saves=True`.
    """

    __slots__ = ("op", "inputs", "values", "params", "saved")

    def __init__(self, op: Op, inputs: tuple, values: Sequence, params: dict, saved: Any = None):
        self.op = op
        self.inputs = inputs
        self.values = values
        self.params = params or NO_PARAMS
        self.saved = saved


NO_PARAMS: dict = {}  # one for all: the fewer objects, the less the garbage collector has to do

FREED = Record(None, (), (), {})  # type: ignore[arg-type]  # what backward leaves behind


def described(v: Variable) -> str:
    """How a message calls a variable: by its name, or by what it is."""
    shape = getattr(v.value, "shape", None)
    kind = type(v).__name__
    label = f"{kind} {v.name!r}" if v.name else f"a {kind}"
    return label if shape is None else f"{label} of shape {shape}"
