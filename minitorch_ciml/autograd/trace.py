"""`backward(trace=True)`: the chain rule, step by step, in words and numbers.

The formulas are not written here. They are the ops' own rules, run on symbols (`symbols.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minitorch_ciml.autograd.arithmetic import add
from minitorch_ciml.autograd.engine import Variable
from minitorch_ciml.autograd.graph import Graph
from minitorch_ciml.autograd.record import Record
from minitorch_ciml.autograd.symbols import Symbol, derivatives, expression, is_number
from minitorch_ciml.config import no_grad
from minitorch_ciml.kernels.formula import SHORT, Formula, in_words


class Trace:
    """Tells each step of a backward from `outputs` that it is shown: prints it, if not told else.

    >>> from minitorch_ciml import Scalar
    >>> a, b = Scalar(2.0, name="a"), Scalar(3.0, name="b")
    >>> (a * b).backward(trace=True)
    Backward from t1 = 6. In each step, g is the gradient of the result.
    t1 = a * b = 2 * 3 = 6, g = 1
      d/da = g * b = 1 * 3 = 3; a.grad = 3
      d/db = g * a = 1 * 2 = 2; b.grad = 2

    Args:
        outputs: the variables that backward starts from.
        tell: called with the lines of each step.
        onto_grad: start from what is in the leaves' `.grad`, to which backward adds.

    Attributes:
        arrived: the gradients as they add up.
    """

    def __init__(
        self, *outputs: Variable, tell: Callable[[str], Any] = print, onto_grad: bool = True
    ):
        self.graph = Graph(*outputs)
        self.names = self.graph.names
        self.arrived: dict[Variable, Variable] = {}
        self.tell, self.onto_grad = tell, onto_grad
        starts = ", ".join(f"{self.names[y]} = {in_words(y.value)}" for y in outputs)
        tell(f"Backward from {starts}. In each step, g is the gradient of the result.")

    def __call__(self, v: Variable, g: Variable, input_gradients: Sequence) -> None:
        """One step: `v` has the gradient `g` and passes `input_gradients` to its inputs."""
        record = v.record
        assert record is not None  # backward shows only what an op has made
        involved = [v, g, *record.inputs]
        short = all(np.size(x.value) <= SHORT for x in involved)
        numbers = {x: in_words(x.value) for x in involved}
        needs = [gx is not None for gx in input_gradients]

        made = [expression(record, self.names), numbers[v]]
        rules = _written(v, g, record, needs, {**self.names, g: "g"})
        rules_in_numbers: list = [None] * len(rules)
        if short:
            made.insert(1, expression(record, numbers))
            rules_in_numbers = _written(v, g, record, needs, numbers)
        lines = [f"{_equation(self.names[v], *made)}, g = {numbers[g]}"]
        for x, gx, *formulas in zip(record.inputs, input_gradients, rules, rules_in_numbers):
            if gx is not None:
                texts = _shown(formulas, np.shape(gx.value)) or [f"the rule of {record.op.name}"]
                name = self.names[x]
                left = f"d/d{name}" if name.isidentifier() else f"d/d({name})"
                equation = _equation(left, *texts, in_words(gx.value))
                lines.append(f"  {equation}{self._added(x, gx)}")
        self.tell("\n".join(lines))

    def _added(self, x: Variable, gx: Variable) -> str:
        """What the gradient of `x` is now that `gx` has arrived; nothing where that is `gx`."""
        before = self.arrived.get(x, x.grad if x.is_leaf and self.onto_grad else None)
        name = f"{self.names[x]}.grad" if x.is_leaf else f"gradient of {self.names[x]}"
        if before is None:
            self.arrived[x] = gx
            return f"; {name} = {in_words(gx.value)}" if x.is_leaf else ""
        with no_grad():
            after = self.arrived[x] = add(before, gx)
        total = in_words(after.value)
        if np.size(gx.value) > SHORT:
            return f"; added to {name}, now {total}"
        return f"; {name} = {in_words(before.value)} + {_bracketed(gx)} = {total}"


def _bracketed(x: Variable) -> str:
    text = in_words(x.value)
    return f"({text})" if text.startswith("-") else text


def _written(
    v: Variable, g: Variable, record: Record, needs: list[bool], texts: dict[Variable, str]
) -> list[Formula | None]:
    inputs = [Symbol.of(x, texts[x], is_number(x)) for x in record.inputs]
    return derivatives(record, Symbol.of(v, texts[v]), inputs, Symbol.of(g, texts[g]), needs)


def _shown(formulas: list[Formula | None], shape: tuple[int, ...]) -> list[str]:
    """The formulas' texts; where the engine undid broadcasting, the first and a word about it."""
    known = [f for f in formulas if f is not None]
    if known and known[0].shape != shape:
        return [f"{known[0].text}, summed to shape {shape},"]
    return [f.text for f in known]


def _equation(*sides: str) -> str:
    """`a = b = c`, without repeating a side that is written like the one before."""
    return " = ".join(side for i, side in enumerate(sides) if i == 0 or side != sides[i - 1])
