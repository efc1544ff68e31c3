"""The way back: the chain rule, from a result to what it was made from.

`engine.py` has the idea: `backpropagate` visits the variables behind a result from the youngest to
the oldest, so that at each one's turn its gradient is complete. What the op that made it passes on
comes from the op's gradient kernel, its rules, or what it means in terms of other ops.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from minitorch_ciml.autograd.record import FREED, GraphError, Record, described
from minitorch_ciml.config import Recording

if TYPE_CHECKING:
    from minitorch_ciml.autograd.engine import Variable

# Asked when a first-order `grad` begins: `watcher(lineage, inputs, gradients)` returns None, or a
# function that is called with every record, after the gradients of its inputs were added up. So
# gradients can be sent to other processes while the rest of backward runs.
watchers: list[Callable[[list[Variable], list[Variable], dict], Callable | None]] = []


def backpropagate(
    outputs: list[Variable],
    seeds: list,
    targets: list[Variable] | None = None,
    *,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    observer: Callable | None = None,
) -> dict[Variable, Variable]:
    """The chain rule, from the youngest variable to the oldest.

    With `targets`, returns their gradients and visits only what leads to them; without, adds to
    `.grad` of the leaves. `observer(variable, gradient, input_gradients)` sees every step.
    """
    retain = create_graph if retain_graph is None else retain_graph
    wrap, unwrap, add, gradients_of_inputs = _travel(outputs[0].kind, create_graph)
    gradients: dict[Variable, Any] = {}  # what has arrived at each variable so far
    for y, seed in zip(outputs, seeds):
        g = unwrap(_seed(y, seed))
        gradients[y] = add(gradients[y], g) if y in gradients else g
    lineage = _lineage(outputs, targets)
    on_the_way = set(lineage)
    goals = set() if targets is None else set(targets)
    found: dict[Variable, Variable] = {}
    watch = None
    if watchers and targets is not None and not create_graph:
        watch = next(filter(None, (w(lineage, targets, gradients) for w in watchers)), None)
    with Recording(create_graph):
        while lineage:
            v = lineage.pop()
            g = gradients.pop(v, None)  # complete: all that use v are younger and were visited
            if g is None:
                continue
            if v.hooks is not None:
                g = unwrap(_run_hooks(v, wrap(g)))
            record = v.record
            if v in goals:
                found[v] = wrap(g)
            elif record is None and targets is None:
                v.grad = wrap(g if v.grad is None else add(unwrap(v.grad), g))
            if record is None:
                continue
            needs = tuple([x in on_the_way for x in record.inputs])
            if True not in needs:
                continue
            # Who observes wants to see each op's share, and no sum.
            arrived = gradients if observer is None else {}
            input_gradients = gradients_of_inputs(v, record, g, needs, arrived)
            if observer is not None:
                shown = [wrap(gx) if need and gx is not None else None
                         for gx, need in zip(input_gradients, needs)]  # fmt: skip
                observer(v, wrap(g), shown)
            for x, gx, need in zip(record.inputs, input_gradients, needs):
                if need and gx is not None:
                    gradients[x] = add(gradients[x], gx) if x in gradients else gx
            if watch is not None:
                watch(record)
            if not retain:
                v.record = FREED
    return found


def _travel(kind: type[Variable], create_graph: bool) -> tuple[Callable, ...]:
    """What makes a variable of a gradient, takes it out again, adds two, and passes them on.

    Gradients that will be differentiated again travel as variables. All others travel as plain
    values, which is faster.
    """
    if create_graph:
        return _itself, _itself, operator.add, _recorded_gradients
    return kind.constant, _value, kind.plus, _plain_gradients


_value = operator.attrgetter("value")


def _itself(x: Variable) -> Variable:
    return x


def _seed(y: Variable, seed: Any) -> Variable:
    if not y.requires_grad:
        raise GraphError(
            f"backward: {described(y)} was not computed from anything that requires a gradient; "
            "set requires_grad=True on its inputs and compute it outside no_grad()."
        )
    expected = getattr(y.value, "shape", ())
    if seed is None:
        if any(size != 1 for size in expected):
            raise ValueError(
                f"backward: {described(y)} is not a scalar; reduce it (for example with .sum()) or "
                "pass the gradient of the final value with respect to it."
            )
        return y.ones_like()
    seed = _as_kind(seed, y)
    given = getattr(seed.value, "shape", ())
    if given != expected:
        raise ValueError(
            f"backward: the gradient has shape {given}, the output {expected}; they must be equal."
        )
    return y.kind.unbroadcast(seed, y)


def _lineage(outputs: list[Variable], targets: list[Variable] | None) -> list[Variable]:
    """What lies on the way from `targets` (from all leaves if None) to `outputs`, by age."""
    oldest = 0 if targets is None else min(map(_age, targets), default=0)
    seen = set(outputs)
    stack = list(outputs)
    while stack:
        v = stack.pop()
        record = v.record
        if record is None:
            continue
        if record is FREED:
            raise GraphError(
                f"backward: the graph behind {described(v)} was freed by an earlier backward; pass "
                "retain_graph=True to that one to keep it."
            )
        for x in record.inputs:
            if x.requires_grad and x.serial >= oldest and x not in seen:
                seen.add(x)
                stack.append(x)
            if x.serial > v.serial:
                raise GraphError(
                    f"backward: {described(x)} was assigned a new value after {record.op.name!r} "
                    "used it, so the gradient would be wrong; call backward before assigning."
                )
    lineage = sorted(seen, key=_age)
    return lineage if targets is None else _leading_to(set(targets), lineage)


_age = operator.attrgetter("serial")


def _leading_to(goals: set[Variable], lineage: list[Variable]) -> list[Variable]:
    """The variables of `lineage` (oldest first) that are one of `goals` or depend on one."""
    if all([v.record is not None or v in goals for v in lineage]):
        return lineage  # as in training, where every leaf is a goal
    leading = set(goals)
    for v in lineage:
        if v.record is not None and any([x in leading for x in v.record.inputs]):
            leading.add(v)
    return [v for v in lineage if v in leading]


def _run_hooks(v: Variable, g: Variable) -> Variable:
    for hook in list(v.hooks or ()):
        replaced = hook(g)
        g = g if replaced is None else _as_kind(replaced, v)
    return g


def _as_kind(x: Any, like: Variable) -> Variable:
    return x if isinstance(x, like.kind) else like.kind.lift(x, [like])


def _plain_gradients(
    v: Variable, record: Record, g: Any, needs: tuple, arrived: dict[Variable, Any]
) -> Sequence:
    """First-order gradients, as values: from the op's gradient kernel, or from its rules.

    What has `arrived` at the first input is added to its gradient in place if nobody else can have
    that array (`kernels/cpu/arrivals.py`): where two gradients meet, no third array is filled.
    """
    op, kind = record.op, v.kind
    kernel = op.gradient_kernels[type(v.value)]
    found: Sequence
    if kernel is None:
        variables = _by_rules(v, record, kind.constant(g), needs, create_graph=False)
        found = [None if gx is None else gx.value for gx in variables]
    elif op.saves:
        found = kernel(g, v.value, *record.values, needs=needs, saved=record.saved, **record.params)
    else:
        found = kernel(g, v.value, *record.values, needs=needs, **record.params)
    found = kind.unbroadcast_values(found, record.inputs, needs)
    add = getattr(kernel, "add_arrived", None)
    if add is not None and needs[0] and record.inputs[0] in arrived:
        add(found[0], arrived.pop(record.inputs[0]))
    return found


def _recorded_gradients(
    v: Variable, record: Record, g: Variable, needs: tuple, arrived: dict[Variable, Any]
) -> Sequence:
    """Gradients that can be differentiated again: from rules, which are recorded."""
    found = _by_rules(v, record, g, needs, create_graph=True)
    return [
        v.kind.unbroadcast(gx, x) if need and gx is not None else None
        for x, gx, need in zip(record.inputs, found, needs)
    ]


def _by_rules(
    v: Variable, record: Record, g: Variable, needs: tuple, create_graph: bool
) -> Sequence[Variable | None]:
    """One gradient per input of the op that made `v` (None where not needed)."""
    op, inputs, params = record.op, record.inputs, record.params
    if op.rules:
        return [
            rule(g, v, *inputs, **params) if need and rule is not None else None
            for rule, need in zip(op.rules, needs)
        ]
    if op.joint is not None:
        return op.joint(g, v, *inputs, needs=needs, **params)
    return _reference_gradients(record, g, needs, create_graph)


def _reference_gradients(
    record: Record, g: Variable, needs: tuple, create_graph: bool
) -> list[Variable | None]:
    """Gradients of a fused op by differentiating what it means (`ref`).

    The inputs are aliased first, so that each *position* gets a gradient of its own, also when
    one variable stands in two of them, and so that the walk ends at the op's inputs.
    """
    from minitorch_ciml.autograd.arithmetic import identity

    with Recording(True):
        proxies = [identity(x) for x in record.inputs]
        y = record.op.ref(*proxies, **record.params)  # type: ignore[misc]
    needed = [p for p, need in zip(proxies, needs) if need]
    found = backpropagate([y], [g], needed, retain_graph=True, create_graph=create_graph)
    return [found.get(p) if need else None for p, need in zip(proxies, needs)]
