"""The table of elementwise functions, written for numbers; `elementwise.py` makes kernels of it.

They are NumPy's to the last case: NaN, infinities, signed zeros, division by zero, integers. All
are bound by memory but those with powers, inverse hyperbolic functions or exact sines, which take a
hundred instructions and more.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from numba import cuda

from minitorch_ciml.kernels.cuda.elements import (
    nv_cbrt,
    nv_ceil,
    nv_erfinv,
    nv_exp2,
    nv_floor,
    nv_rint,
    nv_sinpi,
    nv_trunc,
)
from minitorch_ciml.kernels.cuda.elementwise import (
    ALL,
    FLOATS,
    INTEGERS,
    NUMBERS,
    TRAINED,
    Elementwise,
)
from minitorch_ciml.kernels.cuda.intrinsics import like

_LN2, _LOG2_E = math.log(2), 1 / math.log(2)
_BOOL = ("b1",)
_EXACT = ("b1", *INTEGERS)

# --- signs and limits -----------------------------------------------------------------------------


def _sign(x):
    return x if x != x else like(x, x > 0) - like(x, x < 0)


def _absolute(x):
    return -x if x < 0 else x + like(x, 0)  # -0.0 becomes 0.0


def _signbit(x):
    return math.copysign(like(x, 1), x) < 0


def _maximum(a, b):
    return a if a > b or a != a else b  # NaN stays


def _minimum(a, b):
    return a if a < b or a != a else b


def _clip(x, low, high):
    raised = x if x > low or x != x else low
    return raised if raised < high or raised != raised else high


def _heaviside(x, at_zero):
    if x == 0:
        return at_zero
    return x if x != x else like(x, x > 0)


def _is_infinite(x):
    return x == x and x - x != x - x


@cuda.jit(device=True)
def _is_finite(x):
    return x - x == x - x


# --- powers and logarithms ------------------------------------------------------------------------


def _power(a, b):
    return like(a, math.pow(a, b))


def _reciprocal(x):
    return like(x, 1) / x


def _rsqrt(x):
    return like(x, 1) / math.sqrt(x)


def _logaddexp(a, b):
    if a == b:  # also infinities, whose difference is no number
        return a + like(a, _LN2)
    difference = a - b
    if difference > 0:
        return a + math.log1p(math.exp(-difference))
    if difference <= 0:
        return b + math.log1p(math.exp(difference))
    return difference


def _logaddexp2(a, b):
    if a == b:
        return a + like(a, 1)
    difference = a - b
    scale = like(a, _LOG2_E)
    if difference > 0:
        return a + math.log1p(nv_exp2(-difference)) * scale
    if difference <= 0:
        return b + math.log1p(nv_exp2(difference)) * scale
    return difference


def _sinc(x):
    return like(x, 1) if x == 0 else nv_sinpi(x) / (like(x, math.pi) * x)


# --- activations ----------------------------------------------------------------------------------


def _sigmoid(x):
    # With e^-|x| no exponential overflows.
    small = math.exp(-abs(x))
    return (like(x, 1) if x >= 0 else small) / (like(x, 1) + small)


@cuda.jit(device=True)
def _relu(x):
    return x if x > 0 or x != x else like(x, 0)


def _softplus(x):
    # ln(1 + e^x) = max(x, 0) + ln(1 + e^-|x|), in which no exponential overflows.
    return _relu(x) + math.log1p(math.exp(-abs(x)))


def _elu(x, alpha):
    return x if x > 0 else alpha * math.expm1(x)


def _leaky_relu(x, slope):
    return x if x > 0 else x * slope


def _clipped_relu(x, most):
    return most if x > most else _relu(x)


# --- division with rest ---------------------------------------------------------------------------


def _mod(a, b):
    rest = math.fmod(a, b)
    if b == 0 or rest != rest:
        return rest
    if rest == 0:
        return math.copysign(rest, b)
    return rest + b if (b < 0) != (rest < 0) else rest


def _floor_divide(a, b):
    if b == 0:
        return a / b
    rest = math.fmod(a, b)
    quotient = (a - rest) / b
    if rest != 0 and (b < 0) != (rest < 0):
        quotient -= like(a, 1)
    if quotient == 0:
        return math.copysign(quotient, a / b)
    whole = nv_floor(quotient)
    return whole + like(a, 1) if quotient - whole > like(a, 0.5) else whole


def _integer_mod(a, b):
    return like(a, 0) if b == 0 else like(a, a % b)


def _integer_floor_divide(a, b):
    return like(a, 0) if b == 0 else like(a, a // b)


def _integer_fmod(a, b):
    if b == 0:
        return like(a, 0)
    rest = like(a, abs(a) % abs(b))
    return like(a, -rest) if a < 0 else rest


@cuda.jit(device=True)
def _gcd(a, b):
    a, b = like(a, abs(a)), like(b, abs(b))
    while b != 0:
        a, b = b, like(b, a % b)
    return a


def _lcm(a, b):
    divisor = _gcd(a, b)
    return divisor if divisor == 0 else like(a, abs(a) // divisor * abs(b))


# --- bits -----------------------------------------------------------------------------------------


def _left_shift(bits: int) -> Callable:
    def shift(a, b):
        return like(a, a << b) if 0 <= b < bits else like(a, 0)

    return shift


def _right_shift(bits: int) -> Callable:
    def shift(a, b):
        if 0 <= b < bits:
            return like(a, a >> b)
        return like(a, -like(a, a < 0))  # all bits are the sign's

    return shift


# --- the table ------------------------------------------------------------------------------------


def _shift(build: Callable) -> list[tuple]:
    return [(build(int(code[1]) * 8), "T T", "T", (code,)) for code in INTEGERS]


def _or(a, b):
    return a | b


def _and(a, b):
    return a & b


def _xor(a, b):
    return a ^ b


_UNARY = {
    "copy": (lambda x: x, ALL),
    "negative": (lambda x: -x, NUMBERS),
    "sign": (_sign, NUMBERS),
    "square": (lambda x: x * x, NUMBERS),
    "relu": (_relu, NUMBERS),
    "exp": (math.exp, TRAINED),
    "log": (math.log, TRAINED),
    "sqrt": (math.sqrt, TRAINED),
    "rsqrt": (_rsqrt, TRAINED),
    "reciprocal": (_reciprocal, TRAINED),
    "tanh": (math.tanh, TRAINED),
    "erf": (math.erf, TRAINED),
    "sigmoid": (_sigmoid, TRAINED),
    "softplus": (_softplus, TRAINED),
    "expm1": (math.expm1, FLOATS),
    "log1p": (math.log1p, FLOATS),
    "log2": (math.log2, FLOATS),
    "log10": (math.log10, FLOATS),
    "exp2": (nv_exp2, FLOATS),
    "cbrt": (nv_cbrt, FLOATS),
    "sin": (math.sin, FLOATS),
    "cos": (math.cos, FLOATS),
    "tan": (math.tan, FLOATS),
    "sinh": (math.sinh, FLOATS),
    "cosh": (math.cosh, FLOATS),
    "arcsin": (math.asin, FLOATS),
    "arccos": (math.acos, FLOATS),
    "arctan": (math.atan, FLOATS),
    "arcsinh": (math.asinh, FLOATS),
    "arccosh": (math.acosh, FLOATS),
    "arctanh": (math.atanh, FLOATS),
    "sinc": (_sinc, FLOATS),
    "erfc": (math.erfc, FLOATS),
    "erfinv": (nv_erfinv, FLOATS),
    "_floor": (nv_floor, FLOATS),
    "_ceil": (nv_ceil, FLOATS),
    "_trunc": (nv_trunc, FLOATS),
    "_rint": (nv_rint, FLOATS),
}
_BINARY = {
    "subtract": (lambda a, b: a - b, NUMBERS),
    "divide": (lambda a, b: a / b, TRAINED),
    "power": (_power, TRAINED),
    "maximum": (_maximum, ALL),
    "minimum": (_minimum, ALL),
    "_elu": (_elu, TRAINED),
    "_leaky_relu": (_leaky_relu, TRAINED),
    "_clipped_relu": (_clipped_relu, TRAINED),
    "_tanh_grad": (lambda g, y: g * (like(g, 1) - y * y), TRAINED),
    "_sigmoid_grad": (lambda g, y: g * y * (like(g, 1) - y), TRAINED),
    "_relu_grad": (lambda g, y: g if y > 0 else like(g, 0), NUMBERS),
    "logaddexp": (_logaddexp, FLOATS),
    "logaddexp2": (_logaddexp2, FLOATS),
    "hypot": (math.hypot, FLOATS),
    "arctan2": (math.atan2, FLOATS),
    "heaviside": (_heaviside, FLOATS),
    "bitwise_and": (_and, _EXACT),
    "bitwise_or": (_or, _EXACT),
    "bitwise_xor": (_xor, _EXACT),
    "gcd": (_gcd, INTEGERS),
    "lcm": (_lcm, INTEGERS),
}
_QUESTIONS = {
    "_isnan": (lambda x: x != x, TRAINED),
    "_isinf": (_is_infinite, TRAINED),
    "_isfinite": (_is_finite, TRAINED),
    "_isposinf": (lambda x: x > 0 and x - x != x - x, TRAINED),
    "_isneginf": (lambda x: x < 0 and x - x != x - x, TRAINED),
    "logical_not": (lambda x: x == 0, ALL),
}
_COMPARISONS = {
    "equal": lambda a, b: a == b,
    "not_equal": lambda a, b: a != b,
    "less": lambda a, b: a < b,
    "less_equal": lambda a, b: a <= b,
    "greater": lambda a, b: a > b,
    "greater_equal": lambda a, b: a >= b,
}
# Several variants: other functions for floats, integers and truth values.
_VARIED: dict[str, list[tuple]] = {
    "absolute": [
        (_absolute, "T", "T", (*TRAINED, "i4", "i8")),
        (lambda x: x, "T", "T", ("b1", "u1")),
    ],
    "add": [(lambda a, b: a + b, "T T", "T", NUMBERS), (_or, "T T", "T", _BOOL)],
    "multiply": [(lambda a, b: a * b, "T T", "T", NUMBERS), (_and, "T T", "T", _BOOL)],
    "mod": [(_mod, "T T", "T", FLOATS), (_integer_mod, "T T", "T", INTEGERS)],
    "fmod": [(math.fmod, "T T", "T", FLOATS), (_integer_fmod, "T T", "T", INTEGERS)],
    "floor_divide": [
        (_floor_divide, "T T", "T", FLOATS),
        (_integer_floor_divide, "T T", "T", INTEGERS),
    ],
    "signbit": [(_signbit, "T", "b1", TRAINED), (lambda x: x < 0, "T", "b1", _EXACT)],
    "bitwise_not": [(lambda x: ~x, "T", "T", INTEGERS), (lambda x: x ^ 1, "T", "T", _BOOL)],
    "left_shift": _shift(_left_shift),
    "right_shift": _shift(_right_shift),
    "clip": [(_clip, "T T T", "T", ALL)],
    "_clipped_relu_grad": [
        (lambda g, y, most: g if y > 0 and y < most else like(g, 0), "T T T", "T", TRAINED)
    ],
    "_where": [(lambda c, a, b: a if c else b, "b1 T T", "T", ALL)],
    "_is_close": [
        (
            lambda a, b, most: a == b or (_is_finite(b) and abs(a - b) <= most),
            "T T T",
            "b1",
            FLOATS,
        )
    ],
}

TABLE = {
    **{name: Elementwise(name, (f, "T", "T", types)) for name, (f, types) in _UNARY.items()},
    **{name: Elementwise(name, (f, "T T", "T", types)) for name, (f, types) in _BINARY.items()},
    **{name: Elementwise(name, (f, "T", "b1", types)) for name, (f, types) in _QUESTIONS.items()},
    **{name: Elementwise(name, (f, "T T", "b1", ALL)) for name, f in _COMPARISONS.items()},
    **{name: Elementwise(name, *variants) for name, variants in _VARIED.items()},
}
