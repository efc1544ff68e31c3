"""The elementary ops, shared by scalars and tensors: each with its derivative, in terms of ops.

In a rule, `g` is the gradient of the result `y`; the other arguments are the inputs. Where an
input was broadcast, the engine sums the gradient back to its shape, so the rules need not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minitorch_ciml.autograd.engine import Op, Variable

identity: Op = Op("identity", lambda g, y, x: g, doc="y = x.")

# --- arithmetic ---------------------------------------------------------------------------------

add: Op = Op(
    "add",
    lambda g, y, a, b: g,
    lambda g, y, a, b: g,
    gradient_kernel=True,
    dtypes="common",
    doc="y = a + b.",
)
subtract: Op = Op(
    "subtract",
    lambda g, y, a, b: g,
    lambda g, y, a, b: -g,
    gradient_kernel=True,
    dtypes="common",
    doc="y = a - b.",
)
multiply: Op = Op(
    "multiply",
    lambda g, y, a, b: g * b,
    lambda g, y, a, b: g * a,
    gradient_kernel=True,
    dtypes="common",
    doc="y = a * b.",
)
divide: Op = Op(
    "divide",
    lambda g, y, a, b: g / b,
    lambda g, y, a, b: -g * y / b,
    gradient_kernel=True,
    dtypes="float",
    doc="y = a / b; integers are divided as floats.",
)
negative: Op = Op("negative", lambda g, y, x: -g, gradient_kernel=True, doc="y = -x.")
power: Op = Op(
    "power",
    # Where b is 0 the derivative is 0, also at a = 0, where a ** (b - 1) would be infinite.
    lambda g, y, a, b: g * b * a ** where(b == 0, 1.0, b - 1),
    # Where a is 0 the derivative is taken as 0; log(1) stands in for log(0).
    lambda g, y, a, b: g * y * log(where(a == 0, 1.0, a)),
    dtypes="common",
    doc="y = a ** b.",
)

# --- exponentials, roots, trigonometry ----------------------------------------------------------

exp: Op = Op("exp", lambda g, y, x: g * y, gradient_kernel=True, dtypes="float", doc="y = e ** x.")
expm1: Op = Op("expm1", lambda g, y, x: g * (y + 1), dtypes="float", doc="y = e ** x - 1.")
log: Op = Op("log", lambda g, y, x: g / x, dtypes="float", doc="y = ln(x).")
log1p: Op = Op("log1p", lambda g, y, x: g / (x + 1), dtypes="float", doc="y = ln(1 + x).")
sqrt: Op = Op("sqrt", lambda g, y, x: g / (y * 2), dtypes="float", doc="y = x ** (1/2).")
sin: Op = Op("sin", lambda g, y, x: g * cos(x), dtypes="float", doc="y = sin(x), x in radians.")
cos: Op = Op("cos", lambda g, y, x: -g * sin(x), dtypes="float", doc="y = cos(x), x in radians.")
tan: Op = Op(
    "tan", lambda g, y, x: g * (y * y + 1), dtypes="float", doc="y = tan(x), x in radians."
)
sinh: Op = Op("sinh", lambda g, y, x: g * cosh(x), dtypes="float", doc="y = (e^x - e^-x) / 2.")
cosh: Op = Op("cosh", lambda g, y, x: g * sinh(x), dtypes="float", doc="y = (e^x + e^-x) / 2.")
tanh: Op = Op(
    "tanh",
    lambda g, y, x: g * (1 - y * y),
    gradient_kernel=True,
    dtypes="float",
    doc="y = tanh(x).",
)
sigmoid: Op = Op(
    "sigmoid",
    lambda g, y, x: g * y * (1 - y),
    gradient_kernel=True,
    dtypes="float",
    doc="y = 1 / (1 + e^-x).",
)
erf: Op = Op(
    "erf",
    lambda g, y, x: g * 1.1283791670955126 * exp(-x * x),  # 2 / sqrt(pi)
    dtypes="float",
    doc="y = 2 / sqrt(pi) times the integral of e^-t^2 from 0 to x.",
)

# --- choices: piecewise functions ---------------------------------------------------------------

equal: Op = Op("equal", dtypes="common", doc="y = (a == b), as bool.")
not_equal: Op = Op("not_equal", dtypes="common", doc="y = (a != b), as bool.")
less: Op = Op("less", dtypes="common", doc="y = (a < b), as bool.")
less_equal: Op = Op("less_equal", dtypes="common", doc="y = (a <= b), as bool.")
greater: Op = Op("greater", dtypes="common", doc="y = (a > b), as bool.")
greater_equal: Op = Op("greater_equal", dtypes="common", doc="y = (a >= b), as bool.")
sign: Op = Op("sign", doc="y = -1, 0 or 1: the sign of x. Its derivative is 0.")
where: Op = Op(
    "where",
    None,
    lambda g, y, c, a, b: where(c, g, 0.0),
    lambda g, y, c, a, b: where(c, 0.0, g),
    dtypes="choice",
    doc="y = a where the condition is true, otherwise b.",
)
absolute: Op = Op("absolute", lambda g, y, x: g * sign(x), doc="y = |x|; the derivative at 0 is 0.")


def _share(chosen, other):
    """1 where `chosen` was the result, 1/2 at a tie, otherwise 0."""
    return where(chosen == other, 0.5, where(chosen > other, 1.0, 0.0))


maximum: Op = Op(
    "maximum",
    lambda g, y, a, b: g * _share(a, b),
    lambda g, y, a, b: g * _share(b, a),
    dtypes="common",
    doc="y = the larger of a and b; at a tie each gets half the gradient.",
)
minimum: Op = Op(
    "minimum",
    lambda g, y, a, b: g * _share(b, a),
    lambda g, y, a, b: g * _share(a, b),
    dtypes="common",
    doc="y = the smaller of a and b; at a tie each gets half the gradient.",
)
relu: Op = Op(
    "relu",
    lambda g, y, x: where(y > 0, g, 0.0),
    gradient_kernel=True,
    doc="y = max(x, 0); the derivative at 0 is 0.",
)

# --- Python's operators -------------------------------------------------------------------------


def operator_of(op: Callable) -> Callable:
    """`a op b` as a method of `a`."""

    def operator(a: Variable, b: Any) -> Any:
        try:
            return op(a, b)
        except (TypeError, ValueError):
            # As NumPy has it, a class says so that operators are left to it (a KerasTensor does).
            if getattr(b, "__array_priority__", 0) > getattr(a, "__array_priority__", 0):
                return NotImplemented
            raise

    return operator


def _reflected(op: Op):
    """`b.__rop__(a)` is `a op b`: Python calls it when `a` does not know what to do."""
    return lambda b, a: op(a, b)


for _symbol, _op in {
    "add": add, "sub": subtract, "mul": multiply, "truediv": divide, "pow": power,
}.items():  # fmt: skip
    setattr(Variable, f"__{_symbol}__", operator_of(_op))
    setattr(Variable, f"__r{_symbol}__", _reflected(_op))

for _symbol, _op in {
    "eq": equal, "ne": not_equal, "lt": less, "le": less_equal, "gt": greater, "ge": greater_equal,
}.items():  # fmt: skip
    setattr(Variable, f"__{_symbol}__", operator_of(_op))

for _symbol, _op in {"neg": negative, "abs": absolute}.items():
    setattr(Variable, f"__{_symbol}__", lambda x, _op=_op: _op(x))

# Variables are compared by value but looked up by identity, as the engine's dictionaries need.
Variable.__hash__ = object.__hash__  # type: ignore[method-assign]
