"""Control flow with functions as arguments: choices, loops, scans, and gradients of one's own.

Everything here runs at once, step by step, so a loop is Python's loop and a branch Python's branch;
these functions are for scripts that were written for compilers. Gradients flow as through any other
program. While a functional model is built, `cond` and `switch` compute all branches and choose with
`where`, since the choice is not known yet.

*Structures* are tensors, or lists, tuples and dictionaries of them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

import numpy as np

from minitorch_ciml import ops
from minitorch_ciml.autograd import Tensor, calculus
from minitorch_ciml.autograd.engine import Op
from minitorch_ciml.autograd.tensor import as_tensor
from minitorch_ciml.keras.symbolic import any_symbolic
from minitorch_ciml.keras.tree import flatten, map_structure, pack_as

__all__ = [
    "associative_scan", "cond", "custom_gradient", "fori_loop", "jvp", "map", "scan", "switch",
    "vectorize", "vectorized_map", "while_loop",
]  # fmt: skip

# --- choices ------------------------------------------------------------------------------------


def cond(pred: Any, true_fn: Callable, false_fn: Callable) -> Any:
    """`true_fn()` if `pred` is true, otherwise `false_fn()`.

    Args:
        pred: a boolean, or a tensor that holds one.
        true_fn, false_fn: functions without arguments; the other one is not called.
    """
    if any_symbolic(pred):
        return _where(pred, true_fn(), false_fn())
    return true_fn() if _truth("cond", pred) else false_fn()


def switch(index: Any, branches: Sequence[Callable], *operands: Any) -> Any:
    """`branches[index](*operands)`; an index beyond the first or last branch means that one."""
    if not branches:
        raise ValueError("switch: got no branches, expected at least one.")
    if any_symbolic(index):
        y = branches[-1](*operands)
        for i in reversed(range(len(branches) - 1)):
            y = _where(_symbolic("less_equal")(index, i), branches[i](*operands), y)
        return y
    return branches[min(max(int(as_tensor(index)), 0), len(branches) - 1)](*operands)


def _where(condition: Any, x: Any, y: Any) -> Any:
    """Structures of the same kind, chosen from leaf by leaf."""
    others = iter(flatten(y))
    return map_structure(lambda a: _symbolic("where")(condition, a, next(others)), x)


def _symbolic(name: str) -> Callable:
    from minitorch_ciml.keras import ops as functions  # which imports this module

    return getattr(functions, name)


def _truth(caller: str, pred: Any) -> bool:
    value = as_tensor(pred)
    if value.size != 1:
        raise ValueError(f"{caller}: the condition has shape {value.shape}, expected one boolean.")
    return bool(value.item())


# --- loops --------------------------------------------------------------------------------------


def while_loop(
    cond: Callable, body: Callable, loop_vars: Any, maximum_iterations: int | None = None
) -> Any:
    """Repeats `loop_vars = body(*loop_vars)` as long as `cond(*loop_vars)`.

    Args:
        cond: gives a boolean.
        body: gives the next `loop_vars`.
        loop_vars: a list or tuple of structures, each an argument; or one structure.
        maximum_iterations: stop after so many.

    Returns:
        The last `loop_vars`.
    """
    several = isinstance(loop_vars, (list, tuple))
    state = map_structure(as_tensor, loop_vars if several else (loop_vars,))
    rounds = count() if maximum_iterations is None else range(maximum_iterations)
    for _ in rounds:
        if not _truth("while_loop", cond(*state)):
            break
        new = body(*state)
        state = new if isinstance(new, (list, tuple)) and several else (new,)
        if len(state) != (len(loop_vars) if several else 1):
            raise ValueError(
                f"while_loop: body gave {len(state)} values for the {len(loop_vars)} loop_vars."
            )
    return type(loop_vars)(state) if several else state[0]


def fori_loop(lower: Any, upper: Any, body_fun: Callable, init_val: Any) -> Any:
    """value = body_fun(i, value) for i = lower, ..., upper - 1; starts from `init_val`."""
    value = init_val
    for i in range(int(lower), int(upper)):
        value = body_fun(i, value)
    return value


def map(f: Callable, xs: Any) -> Any:
    """`f` of every slice of `xs` along its first axis, stacked again.

    Args:
        f: takes a structure like `xs`, without the first axis.
        xs: a structure of tensors whose first axes are equally long.
    """
    slices = [f(x) for x in _slices("map", xs)]
    return _stacked("map", slices)


def vectorized_map(function: Callable, elements: Any) -> Any:
    """`function` of every slice of `elements` along the first axis, stacked again; see `map`."""
    return _stacked("vectorized_map", [function(x) for x in _slices("vectorized_map", elements)])


def scan(
    f: Callable,
    init: Any,
    xs: Any = None,
    length: int | None = None,
    reverse: bool = False,
    unroll: int = 1,
) -> tuple[Any, Any]:
    """carry, y_i = f(carry, x_i) for every slice x_i of `xs` along its first axis.

    Args:
        f: takes the carry and a slice, and gives the next carry and y_i.
        init: the first carry, any structure.
        xs: a structure of tensors whose first axes are equally long; None for x_i = None.
        length: how many steps, if there are no `xs`.
        reverse: from the last slice to the first; the y_i keep the places of their slices.
        unroll: accepted as in Keras, without effect.

    Returns:
        The last carry, and the y_i, stacked.
    """
    if xs is None:
        if length is None:
            raise ValueError("scan: got neither xs nor length, expected one of them.")
        slices: list = [None] * int(length)
    else:
        slices = _slices("scan", xs)
        if length is not None and int(length) != len(slices):
            raise ValueError(f"scan: got length={length}, but xs has {len(slices)} slices.")
    carry, ys = map_structure(as_tensor, init), []
    for x in reversed(slices) if reverse else slices:
        carry, y = f(carry, x)
        ys.append(y)
    return carry, _stacked("scan", ys[::-1] if reverse else ys)


def associative_scan(f: Callable, elems: Any, reverse: bool = False, axis: int = 0) -> Any:
    """y_i = f(... f(f(x_0, x_1), x_2) ..., x_i) along `axis`, with few calls of `f` on many slices.

    The slices are combined in pairs, which are scanned in the same way (G. Blelloch, "Prefix sums
    and their applications", 1990): about 2 log2(n) calls.

    Args:
        f: an associative function of two structures like `elems`, elementwise along `axis`.
        elems: a structure of tensors, equally long along `axis`.
        reverse: from the last slice to the first.
        axis: along which axis.
    """
    leaves = [as_tensor(x) for x in flatten(elems)]
    if len({x.shape[axis] for x in leaves}) != 1:
        raise ValueError(
            f"associative_scan: got shapes {[x.shape for x in leaves]}, which are not equally long "
            f"along axis {axis}."
        )
    front = (slice(None),) * (axis % leaves[0].ndim)

    def part(xs: list, start: int | None, stop: int | None, step: int | None) -> list:
        return [x[(*front, slice(start, stop, step))] for x in xs]

    def combined(a: list, b: list) -> list:
        return flatten(f(pack_as(elems, a), pack_as(elems, b)))

    def scanned(xs: list) -> list:
        n = xs[0].shape[axis]
        if n < 2:
            return xs
        odd = scanned(combined(part(xs, 0, n - 1, 2), part(xs, 1, n, 2)))
        before = part(odd, 0, (n - 1) // 2, None)
        even = combined(before, part(xs, 2, n, 2)) if n > 2 else []
        first = part(xs, 0, 1, None)
        even = [ops.concatenate([x, y], axis) for x, y in zip(first, even)] if even else first
        return [_interleaved(a, b, axis) for a, b in zip(even, odd)]

    if reverse:
        leaves = [ops.flip(x, axis) for x in leaves]
    ys = scanned(leaves)
    return pack_as(elems, [ops.flip(y, axis) for y in ys] if reverse else ys)


def _interleaved(even: Tensor, odd: Tensor, axis: int) -> Tensor:
    """Their slices in turn; there may be one more of the even ones."""
    n, m = even.shape[axis], odd.shape[axis]
    order = np.arange(n + m)
    return ops.take(
        ops.concatenate([even, odd], axis), np.where(order % 2, n + order // 2, order // 2), axis
    )


def _slices(caller: str, xs: Any) -> list:
    """The slices of a structure along the first axes."""
    leaves = [as_tensor(x) for x in flatten(xs)]
    lengths = {x.shape[0] if x.ndim else -1 for x in leaves}
    if len(lengths) != 1 or -1 in lengths:
        raise ValueError(
            f"{caller}: got shapes {[x.shape for x in leaves]}, expected equally long first axes."
        )
    return [pack_as(xs, [x[i] for x in leaves]) for i in range(lengths.pop())]


def _stacked(caller: str, results: list) -> Any:
    """A structure of stacks, from a list of structures."""
    if not results:
        raise ValueError(f"{caller}: there is nothing to go through, so there is no result.")
    if results[0] is None:
        return None
    columns = zip(*[flatten(y) for y in results])
    return pack_as(results[0], [ops.stack(column) for column in columns])


def vectorize(pyfunc: Callable, *, excluded: Any = None, signature: str | None = None) -> Callable:
    """`pyfunc`, a function of single numbers, as a function that takes arrays of them.

    Args:
        pyfunc: a function of tensors without axes; with a signature, of tensors with some.
        excluded: the positions of arguments to pass on as they are.
        signature: the axes that `pyfunc` takes and gives, such as "(m,n),(n)->(m)"; those in front
            of them broadcast.
    """
    left_out = set(excluded or ())
    inner = None
    if signature is not None:
        inner = [len(part.split(",")) if part else 0 for part in _argument_axes(signature)]

    def vectorized(*args: Any) -> Any:
        places = [i for i in range(len(args)) if i not in left_out]
        if inner is not None and len(inner) != len(places):
            raise ValueError(
                f"vectorize: {signature!r} has {len(inner)} arguments, but got {len(places)}."
            )
        own = inner or [0] * len(places)
        tensors = [as_tensor(args[i]) for i in places]
        outer = np.broadcast_shapes(*[x.shape[: x.ndim - n] for x, n in zip(tensors, own)])
        tensors = [
            ops.broadcast_to(x, (*outer, *x.shape[x.ndim - n :])) for x, n in zip(tensors, own)
        ]
        results = []
        for index in np.ndindex(*outer):
            given = list(args)
            for i, x in zip(places, tensors):
                given[i] = x[index]
            results.append(pyfunc(*given))
        stacks = _stacked("vectorize", results)
        return map_structure(lambda y: ops.reshape(y, (*outer, *y.shape[1:])), stacks)

    return vectorized


def _argument_axes(signature: str) -> list[str]:
    """The axes of each argument: ["m,n", "n"] of "(m,n),(n)->(m)"."""
    left = signature.replace(" ", "").partition("->")[0]
    if not (left.startswith("(") and left.endswith(")")):
        raise ValueError(f"vectorize: got {signature!r}, expected a form like '(m,n),(n)->(m)'.")
    return left[1:-1].split("),(")


# --- derivatives --------------------------------------------------------------------------------


def custom_gradient(f: Callable) -> Callable:
    """A function with a gradient of one's own, for example one that does not overflow::

        @ops.custom_gradient
        def log1pexp(x):
            e = ops.exp(x)

            def grad(*args, upstream=None):
                return upstream * (1 - 1 / (1 + e))

            return ops.log(1 + e), grad

    Args:
        f: takes structures of tensors, and gives the result, a structure too, and a function that
            computes the gradients: `grad(*args, upstream=g)`, or `grad(g)`, or one argument for
            each leaf of the result. It gives one gradient for each leaf of the arguments (None
            where there is none). If it consists of ops, it can be differentiated further.
    """

    def function(*args: Any) -> Any:
        if any_symbolic(args):
            from minitorch_ciml.keras.layers import Lambda

            return Lambda(lambda xs: function(*xs))(list(args))
        args = map_structure(as_tensor, args)
        result, gradient_function = f(*args)
        results = [as_tensor(y) for y in flatten(result)]
        shapes = [y.shape for y in results]
        # An op has one result: here all of them in a row.
        row = ops.concatenate([ops.ravel(y.detach()) for y in results])

        def gradients(g: Tensor, y: Tensor, *xs: Tensor, needs: tuple) -> list:
            found = flatten(_call_gradient(gradient_function, args, _parts(g, shapes), result))
            if len(found) != len(xs):
                raise ValueError(
                    f"custom_gradient: got {len(found)} gradients for {len(xs)} arguments."
                )
            return [None if gx is None else as_tensor(gx) for gx in found]

        op = Op("custom_gradient", joint=gradients, kernel=lambda *_: row.value)
        return pack_as(result, _parts(op(*flatten(args)), shapes))

    function.__name__, function.__doc__ = getattr(f, "__name__", "function"), f.__doc__
    return function


def _parts(row: Tensor, shapes: list[tuple]) -> list[Tensor]:
    """Tensors of these shapes, one after another in the row."""
    ends = np.cumsum([0, *[int(np.prod(shape)) for shape in shapes]]).tolist()
    return [ops.reshape(row[a:b], shape) for a, b, shape in zip(ends, ends[1:], shapes)]


def _call_gradient(function: Callable, args: tuple, upstream: list, result: Any) -> Any:
    """As PyTorch's backend of Keras does, if it takes the arguments too; otherwise as JAX's."""
    names = inspect.signature(function).parameters
    if "upstream" in names and len(names) > 1:
        return function(*args, upstream=pack_as(result, upstream))
    return function(*upstream)


def jvp(fun: Callable, primals: Any, tangents: Any, has_aux: bool = False) -> tuple:
    """`fun(*primals)`, and its derivative in the direction of `tangents`.

    Args:
        fun: a function of structures of float tensors that gives one.
        primals: its arguments, a list or tuple.
        tangents: the direction, structured in the same way.
        has_aux: `fun` gives a pair, whose second element is passed on as it is.

    Returns:
        The result and its derivative; then what was passed on.
    """
    leaves, directions = flatten(primals), [as_tensor(t) for t in flatten(tangents)]
    if len(leaves) != len(directions):
        raise ValueError(f"jvp: got {len(leaves)} primals and {len(directions)} tangents.")
    result = fun(*primals)
    value, *aux = result if has_aux else (result,)

    def derivative(k: int) -> Tensor:
        def kth(*xs: Tensor) -> Any:
            y = fun(*pack_as(primals, list(xs)))
            return flatten(y[0] if has_aux else y)[k]

        return calculus.jvp(kth, [as_tensor(x) for x in leaves], directions)  # type: ignore[return-value]

    slopes = [derivative(k) for k in range(len(flatten(value)))]
    return value, pack_as(value, slopes), *aux
