"""The idea: a program's operations are recorded as it runs, then the chain rule walks them back.

Every value that takes part in a computation is a `Variable`. When an `Op` is called, it computes
the result with a kernel and, if a gradient may be wanted, leaves a `Record` on the result: which
op made it, from which inputs. The records form a graph; nothing else is needed.

`backward` starts at a result with the gradient 1 and goes from the youngest variable to the oldest.
Every variable carries a serial number, and a result is always younger than what it was made
from. So when a variable's turn comes, all contributions to its gradient have arrived: no other
order is needed. At each step the op's *rules* turn the gradient of its result into gradients of
its inputs, and gradients that arrive at the same variable are added.

The rules are themselves written with ops. That is why a gradient can be differentiated again
(`create_graph=True`): while the rules run they are recorded like any other program.

Two kinds of variable share all of this: `Scalar` (a Python float, made to be looked at) and
`Tensor` (a NumPy array, or an array on another device).
"""

from __future__ import annotations

import operator
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any

from minitorch_ciml import kernels
from minitorch_ciml.autograd.backward import backpropagate
from minitorch_ciml.autograd.record import GraphError, Record, described
from minitorch_ciml.config import recording
from minitorch_ciml.kernels import steps

serials = count(1)


class Variable:
    """A value, its gradient, and the record of how it was made.

    Attributes:
        value: what it holds: a float, or an array.
        grad: the gradient that `backward` has accumulated (a Variable), or None.
        requires_grad: whether gradients flow to it.
        serial: when it was made; results have higher numbers than their inputs.
        record: the `Record` that made it; None for a leaf.
        hooks: functions called with the gradient when it is complete, or None.
        name: for messages and pictures.
    """

    __slots__ = (
        "value", "grad", "requires_grad", "serial", "record", "hooks", "name", "__weakref__",
    )  # fmt: skip

    def __init__(self, value: Any, requires_grad: bool = False, name: str | None = None):
        self.value = value
        self.grad: Variable | None = None
        self.requires_grad = requires_grad
        self.serial = next(serials)
        self.record: Record | None = None
        self.hooks: list[Callable] | None = None
        self.name = name

    # What each kind of variable defines. `kind` is the class itself: Scalar or Tensor, also for
    # what inherits from them.
    kind: type[Variable]

    @classmethod
    def constant(cls, value: Any) -> Variable:
        """A variable without a gradient that holds a kernel's result."""
        raise NotImplementedError

    @classmethod
    def lift(cls, x: Any, like: Sequence) -> Variable:
        """`x` as a constant of this kind, fit to be computed with the variables in `like`."""
        raise NotImplementedError

    @staticmethod
    def promote(values: list, mode: str) -> list:
        """`values` brought to the type in which an op of that mode computes."""
        return values

    @staticmethod
    def unbroadcast(gradient: Variable, x: Variable) -> Variable:
        """`gradient` in the shape and dtype of `x`: summed over what was broadcast."""
        return gradient

    @staticmethod
    def unbroadcast_values(
        gradients: Sequence, inputs: Sequence[Variable], needs: tuple
    ) -> Sequence:
        """The same for all gradients of an op, as plain values; some may be None."""
        return gradients

    # The sum of two gradients, as plain values of one shape and dtype.
    plus: Callable[[Any, Any], Any] = staticmethod(operator.add)

    def ones_like(self) -> Variable:
        """1, in this variable's shape and dtype: the gradient that `backward` starts from."""
        raise NotImplementedError

    @property
    def is_leaf(self) -> bool:
        """True for a variable that no recorded op has made."""
        return self.record is None

    def detach(self) -> Variable:
        """The same value without its history: no gradient flows through it."""
        return self.kind.constant(self.value)

    def zero_grad(self) -> None:
        """Forgets the accumulated gradient."""
        self.grad = None

    def register_hook(self, hook: Callable[[Variable], Variable | None]) -> Callable[[], None]:
        """Calls `hook(gradient)` when this variable's gradient is complete, during backward.

        A hook that returns a variable replaces the gradient by it. Returns a function that removes
        the hook again.
        """
        if not self.requires_grad:
            raise GraphError(
                f"register_hook: {described(self)} does not require a gradient, so its hook would "
                "never run; set requires_grad=True first."
            )
        hooks = self.hooks = self.hooks or []
        hooks.append(hook)
        return lambda: hooks.remove(hook)

    def backward(
        self,
        gradient: Any = None,
        retain_graph: bool | None = None,
        create_graph: bool = False,
        trace: bool = False,
    ) -> None:
        """Adds d self / d leaf, times `gradient`, to `.grad` of every leaf that requires it.

        Args:
            gradient: the gradient of some final value with respect to this one, in its shape;
                1 for a scalar if left out.
            retain_graph: keep the records for another backward. Default: `create_graph`.
            create_graph: record the derivative too, so that it can be differentiated again.
            trace: print every step of the chain rule, in words and numbers.

        Raises:
            GraphError: nothing was recorded, or it has been freed, or a value has changed since.
            ValueError: this is no scalar and no gradient was given, or its shape is another.
        """
        observer = None
        if trace:
            from minitorch_ciml.autograd.trace import Trace  # on request only

            observer = Trace(self)
        backpropagate(
            [self],
            [gradient],
            retain_graph=retain_graph,
            create_graph=create_graph,
            observer=observer,
        )

    if TYPE_CHECKING:  # the operators that `arithmetic.py` installs

        def __add__(self, other: Any) -> Any: ...
        def __neg__(self) -> Any: ...

        __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = __add__
        __pow__ = __rpow__ = __matmul__ = __rmatmul__ = __add__
        __lt__ = __le__ = __gt__ = __ge__ = __add__
        __abs__ = __neg__

    def graph(self):
        """The recorded graph behind this variable: print it, draw it, or export it (`Graph`)."""
        from minitorch_ciml.autograd.graph import Graph

        return Graph(self)


class Op:
    """A differentiable function: a name, a kernel per device found by it, and its derivative.

    The derivative is given in one of three ways:

    - `rules`: one function per input, `rule(g, y, *inputs, **params)`, that returns the gradient
      for that input from the gradient `g` of the result `y`, in terms of ops. None stands for an
      input through which no gradient flows.
    - `joint`: one function `joint(g, y, *inputs, needs, **params)` that returns all of them (None
      where `needs` says False), for ops whose inputs' gradients share work or whose number varies.
    - `ref`: the op is *fused*: what it means in terms of other ops. Then the kernel `<name>_grad`,
      called as `(g, y, *inputs, needs=..., **params)` with arrays, gives the first-order
      gradients, and derivatives of derivatives come from `ref`. With `saves=True` the kernel
      returns `(y, saved)`, and `saved` goes to the gradient kernel as a keyword.

    An op with none of them has a derivative of zero everywhere or none at all (`argmax`, `==`).

    Rules can have a gradient kernel too, where calling one kernel is faster than running several
    ops; `gradient_kernel=True` says that there is one. The rules remain what it must agree with.

    A user's own op brings its kernel along:

        cube = Op("cube", lambda g, y, x: g * 3 * x * x, kernel=lambda x: x**3)

    Args:
        kernel: the kernel, where it is found in no table: it gets the values of the inputs.
        dtypes: how inputs are promoted before the kernel: None (not at all), "common" (NumPy's
            rules, but an integer never makes a float32 wider) or "float" (also integers alone
            become floats).
    """

    def __init__(
        self,
        name: str,
        *rules: Callable | None,
        joint: Callable | None = None,
        ref: Callable | None = None,
        saves: bool = False,
        gradient_kernel: bool = False,
        kernel: Callable | None = None,
        dtypes: str | None = None,
        doc: str | None = None,
    ):
        self.name = name
        self.rules = rules
        self.joint = joint
        self.ref = ref
        self.saves = saves
        self.dtypes = dtypes
        self.differentiable = bool(rules or joint or ref)
        self.__name__ = self.__qualname__ = name
        # Where it is defined, as functions have it: pickle looks for it there, by its name.
        self.__module__ = sys._getframe(1).f_globals.get("__name__", "__main__")
        self.__doc__ = doc
        # By the type of the values; None where there is no such kernel.
        self.kernels: dict[type, Callable | None] = defaultdict(lambda: kernel)
        self.gradient_kernels: dict[type, Callable | None] = defaultdict(lambda: None)
        if kernel is None:
            self.kernels = kernels.OpKernels(name)
        if gradient_kernel or ref is not None:
            self.gradient_kernels = kernels.OpKernels(f"{name}_grad")

    def __repr__(self) -> str:
        return f"<op {self.name}>"

    def __reduce__(self) -> str:
        """For copies and pickle: an op is one thing, found by its name like a function."""
        return self.name

    def __call__(self, *inputs: Any, **params: Any) -> Any:
        kind: Any = None
        values = []
        for x in inputs:
            if isinstance(x, Variable) and (kind is None or x.kind is kind):
                kind = x.kind
                values.append(x.value)
            else:  # a number, an array, or a tensor of another kind
                kind, inputs, values = _lifted(inputs)
                break
        program = steps.program.get()
        if program is not None:
            values = program.as_slots(values)
        kernel = self.kernels[type(values[0])]
        if kernel is None:
            return self._without_kernel(inputs, params)
        if self.dtypes is not None:
            values = kind.promote(values, self.dtypes)
        try:
            value = kernel(*values, **params)
        except (ValueError, TypeError, IndexError, ZeroDivisionError, OverflowError) as error:
            raise _explain(self, inputs, error) from error
        saved = None
        if self.saves:
            value, saved = value
        result = kind.constant(value)
        if self.differentiable and recording.get():
            for x in inputs:
                if x.requires_grad:
                    result.requires_grad = True
                    result.record = Record(self, inputs, values, params, saved)
                    break
        return result

    def _without_kernel(self, inputs: tuple, params: dict) -> Variable:
        device = kernels.device_of(type(inputs[0].value))
        if self.ref is None:
            raise NotImplementedError(f"{self.name}: there is no kernel for device {device!r}.")
        return self.ref(*inputs, **params)


def _lifted(inputs: tuple) -> tuple[type[Variable], tuple, list]:
    """The kind of the first variable; the inputs as variables of that kind; their values."""
    kind = next((x.kind for x in inputs if isinstance(x, Variable)), Variable.kind)
    inputs = tuple([x if isinstance(x, kind) else kind.lift(x, inputs) for x in inputs])
    return kind, inputs, [x.value for x in inputs]


def _explain(op: Op, inputs: tuple, error: Exception) -> Exception:
    """The kernel's error with the op's name and the shapes that it was given."""
    shapes = [getattr(x.value, "shape", None) for x in inputs]
    devices = {kernels.device_of(type(x.value)) for x in inputs}
    if len(devices) > 1:
        message = f"the inputs live on different devices ({', '.join(sorted(devices))})"
    elif "broadcast" in str(error):
        message = "the shapes do not broadcast: from the right, sizes must be equal or 1"
    elif isinstance(error, TypeError) and type(error) is not TypeError:  # NumPy's, for its ufuncs
        dtypes = ", ".join(str(getattr(x.value, "dtype", "numbers")) for x in inputs)
        return TypeError(f"{op.name} is not defined for {dtypes}; cast to another dtype first.")
    else:
        message = str(error)
    if any(shape is not None for shape in shapes):
        message += f"; got shapes {', '.join(map(str, shapes))}"
    return type(error)(f"{op.name}: {message}.")


# --- backward -----------------------------------------------------------------------------------


def grad(
    outputs: Variable | Sequence[Variable],
    inputs: Variable | Sequence[Variable],
    grad_outputs: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool = False,
) -> Any:
    """The gradient of `outputs` (their sum, weighted by `grad_outputs`) for each of `inputs`.

    Nothing is stored in `.grad`.

    Args:
        outputs: one variable or several.
        inputs: the variables to differentiate by; one, or several.
        grad_outputs: one gradient per output; 1 for scalars if left out.
        retain_graph: keep the records for another call. Default: `create_graph`.
        create_graph: record the derivative too, so that it can be differentiated again.
        allow_unused: give None for an input that the outputs do not depend on, where otherwise an
            error is raised.

    Returns:
        One gradient for one input, otherwise a list.
    """
    if not isinstance(outputs, (Variable, list, tuple)):
        raise TypeError(
            f"grad: the outputs must be a variable or several, got {type(outputs).__name__}."
        )
    single = isinstance(inputs, Variable)
    targets = [inputs] if isinstance(inputs, Variable) else list(inputs)
    sources = [outputs] if isinstance(outputs, Variable) else list(outputs)
    if isinstance(outputs, Variable) or grad_outputs is None:
        seeds = [grad_outputs] * len(sources)
    else:
        seeds = list(grad_outputs)
    for x in targets:
        if not x.requires_grad:
            raise GraphError(
                f"grad: {described(x)} does not require a gradient; set requires_grad=True before "
                "computing with it."
            )
    found = backpropagate(
        sources, seeds, targets, retain_graph=retain_graph, create_graph=create_graph
    )
    gradients = [found.get(x) for x in targets]
    if not allow_unused:
        for x, g in zip(targets, gradients):
            if g is None:
                raise GraphError(
                    f"grad: the outputs do not depend on {described(x)}; pass allow_unused=True to "
                    "get None for it."
                )
    return gradients[0] if single else gradients
