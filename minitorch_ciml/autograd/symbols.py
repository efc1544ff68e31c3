"""How variables and formulas are written, for people: used by `graph` and `trace`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minitorch_ciml.autograd.engine import Variable, grad
from minitorch_ciml.autograd.record import Record
from minitorch_ciml.autograd.tensor import Tensor
from minitorch_ciml.config import enable_grad, no_grad
from minitorch_ciml.kernels.formula import ELIDED, Formula, Text, in_words, write


def is_number(v: Variable) -> bool:
    """True for a number that the program wrote: it needs no name, it is its own."""
    return v.record is None and not v.requires_grad and v.name is None and np.ndim(v.value) == 0


def names_for(variables: Sequence[Variable]) -> dict[Variable, str]:
    """A name for each: its own, numbered where two share it; the number it is; or t1, t2, ..."""
    names: dict[Variable, str] = {}
    own = {v: _own_name(v) for v in variables}
    taken = {name for name in own.values() if name}
    counts: dict[str, int] = {}

    def fresh(stem: str) -> str:
        while True:
            counts[stem] = counts.get(stem, 0) + 1
            if (name := f"{stem}{counts[stem]}") not in taken:
                taken.add(name)
                return name

    used: set[str] = set()
    for v in variables:
        if given := own[v]:
            names[v] = given if given not in used else fresh(f"{given}_")
            used.add(names[v])
        else:
            names[v] = in_words(v.value) if is_number(v) else fresh("t")
    return names


def _own_name(v: Variable) -> str | None:
    """The name that it was given, on one line; a layer's weight has its layer's, too."""
    path = getattr(v, "path", None)
    name = ".".join(path.split("/")[-2:]) if path else v.name  # without the models around it
    return " ".join(name.split()) if name else None


def expression(record: Record, names: dict[Variable, str]) -> Text:
    """What a record did, as a formula in its inputs' names.

    >>> from minitorch_ciml import Scalar
    >>> a, b = Scalar(2.0), Scalar(3.0)
    >>> expression((a * b).record, {a: "a", b: "b"})
    'a * b'
    """
    return write(record.op.name, [names[x] for x in record.inputs], record.params)


class Symbol(Tensor):
    """A tensor on the device "Formula": computing with it writes the formula down.

    >>> x = Symbol.of(Tensor([2.0]), "x")
    >>> (x * (x + 1)).value.text
    'x * (x + 1)'
    """

    __slots__ = ()

    @classmethod
    def of(cls, v: Variable, text: str, literal: bool = False) -> Symbol:
        """The symbol that is written `text` and has the value of `v`."""
        return cls.constant(Formula(v.value, text, literal))

    @classmethod
    def constant(cls, value: Any) -> Symbol:
        symbol = cls.__new__(cls)
        Variable.__init__(symbol, value)
        return symbol

    @classmethod
    def lift(cls, x: Any, like: Sequence) -> Symbol:
        constant = Tensor.lift(x, like)
        return cls.of(constant, in_words(constant.value), literal=constant.ndim == 0)


Symbol.kind = Symbol


def _derivatives_of_ref(
    ref: Callable, inputs: Sequence[Symbol], params: dict, g: Symbol, needs: Sequence[bool]
) -> list[Formula | None]:
    leaves = [Symbol.constant(x.value) for x in inputs]
    for leaf, need in zip(leaves, needs):
        leaf.requires_grad = need
    wanted = [leaf for leaf in leaves if leaf.requires_grad]
    with enable_grad():
        result = ref(*leaves, **params)
        # With create_graph the rules are run, which are written with ops, and not the kernels.
        found = iter(grad(result, wanted, g, create_graph=True, allow_unused=True))
    formulas = [next(found) if need else None for need in needs]
    written = [None if x is None else x.value for x in formulas]
    return [None if f is None or ELIDED in f.text else f for f in written]


def derivatives(
    record: Record, result: Symbol, inputs: Sequence[Symbol], g: Symbol, needs: Sequence[bool]
) -> list[Formula | None]:
    """The rules of the op, run on symbols: the formula of each input's gradient.

    A fused op has a kernel in place of rules, so what it means in terms of other ops is
    differentiated. None stands for an input that needs no gradient, and for a rule that cannot be
    written as a formula: it needs the numbers themselves, or would fill the screen.
    """
    op, params = record.op, record.params
    try:
        if op.ref is not None:
            return _derivatives_of_ref(op.ref, inputs, params, g, needs)
        with no_grad():
            if op.joint is not None:
                found = op.joint(g, result, *inputs, needs=list(needs), **params)
            else:
                found = [
                    rule(g, result, *inputs, **params) if need and rule is not None else None
                    for rule, need in zip(op.rules, needs)
                ]
    except Exception:  # a rule may do anything; the trace then says less, and backward goes on
        found = []
    formulas = [x.value if isinstance(x, Symbol) else None for x in found]
    return formulas or [None] * len(inputs)
