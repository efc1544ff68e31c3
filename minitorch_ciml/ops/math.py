"""Elementwise functions.

Everything broadcasts as in NumPy. Integers are computed as floats where the result is no integer.
The elementary functions, shared with scalars, are in `autograd/arithmetic.py`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minitorch_ciml import config
from minitorch_ciml.autograd.arithmetic import (
    absolute,
    add,
    cos,
    cosh,
    divide,
    equal,
    erf,
    exp,
    expm1,
    greater,
    greater_equal,
    less,
    less_equal,
    log,
    log1p,
    maximum,
    minimum,
    multiply,
    negative,
    not_equal,
    power,
    sigmoid,
    sign,
    sin,
    sinh,
    sqrt,
    subtract,
    tan,
    tanh,
    where,
)
from minitorch_ciml.autograd.engine import Op
from minitorch_ciml.autograd.tensor import FLOATS, Tensor, as_tensor, cast, promoted
from minitorch_ciml.kernels.halves import dtype_of, finfo

__all__ = [
    "abs", "absolute", "add", "angle", "arccos", "arccosh", "arcsin", "arcsinh", "arctan",
    "arctan2", "arctanh", "bitwise_and", "bitwise_invert", "bitwise_left_shift", "bitwise_not",
    "bitwise_or", "bitwise_right_shift", "bitwise_xor", "cbrt", "ceil", "clip", "conj", "conjugate",
    "cos", "cosh", "deg2rad", "divide", "divide_no_nan", "equal", "erf", "erfc", "erfinv", "exp",
    "exp2", "expm1", "fabs", "floor", "floor_divide", "fmax", "fmin", "fmod", "gcd", "greater",
    "greater_equal", "heaviside", "hypot", "imag", "isclose", "isfinite", "isinf", "isnan",
    "isneginf", "isposinf", "isreal", "lcm", "ldexp", "left_shift", "less", "less_equal", "log",
    "log10", "log1p", "log2", "logaddexp", "logaddexp2", "logical_and", "logical_not", "logical_or",
    "logical_xor", "maximum", "minimum", "mod", "multiply", "nan_to_num", "negative", "nextafter",
    "not_equal", "power", "rad2deg", "real", "reciprocal", "right_shift", "round", "rsqrt", "sign",
    "signbit", "sin", "sinc", "sinh", "sqrt", "square", "subtract", "tan", "tanh", "true_divide",
    "trunc", "view",
]  # fmt: skip

LN2, LN10 = math.log(2.0), math.log(10.0)
HALF_SQRT_PI = math.sqrt(math.pi) / 2

abs = fabs = absolute
true_divide = divide

# --- powers, roots, logarithms ------------------------------------------------------------------

square = Op("square", lambda g, y, x: g * x * 2, gradient_kernel=True, doc="y = x^2.")
cbrt = Op("cbrt", lambda g, y, x: g / (y * y * 3), dtypes="float", doc="y = x^(1/3), also x < 0.")
rsqrt = Op("rsqrt", lambda g, y, x: g * y * y * y * -0.5, dtypes="float", doc="y = x^(-1/2).")
reciprocal = Op("reciprocal", lambda g, y, x: -g * y * y, dtypes="float", doc="y = 1 / x.")
exp2 = Op("exp2", lambda g, y, x: g * y * LN2, dtypes="float", doc="y = 2^x.")
log2 = Op("log2", lambda g, y, x: g / (x * LN2), dtypes="float", doc="y = ln(x) / ln(2).")
log10 = Op("log10", lambda g, y, x: g / (x * LN10), dtypes="float", doc="y = ln(x) / ln(10).")
logaddexp = Op(
    "logaddexp",
    lambda g, y, a, b: g * sigmoid(a - b),
    lambda g, y, a, b: g * sigmoid(b - a),
    dtypes="float",
    doc="y = ln(e^a + e^b), without overflow.",
)
logaddexp2 = Op(
    "logaddexp2",
    lambda g, y, a, b: g * sigmoid((a - b) * LN2),
    lambda g, y, a, b: g * sigmoid((b - a) * LN2),
    dtypes="float",
    doc="y = log2(2^a + 2^b), without overflow.",
)
hypot = Op(
    "hypot",
    # At the origin, where the function has a tip, the derivative is taken as 0.
    lambda g, y, a, b: g * a / where(y == 0, 1.0, y),
    lambda g, y, a, b: g * b / where(y == 0, 1.0, y),
    dtypes="float",
    doc="y = sqrt(a^2 + b^2), without overflow.",
)


def ldexp(x1: Any, x2: Any) -> Tensor:
    """y = x1 * 2^x2, where x2 are integers."""
    x1, x2 = as_tensor(x1), as_tensor(x2)
    if x1.dtype.kind in FLOATS:  # otherwise 2^x2 would have the default dtype, not that of x1
        x2 = cast(x2, dtype=x1.dtype)
    return multiply(x1, exp2(x2))


# --- trigonometry -------------------------------------------------------------------------------

arcsin = Op(
    "arcsin", lambda g, y, x: g * rsqrt(1 - x * x), dtypes="float", doc="x = sin(y), |y| <= pi/2."
)
arccos = Op(
    "arccos", lambda g, y, x: -g * rsqrt(1 - x * x), dtypes="float", doc="x = cos(y), 0 <= y <= pi."
)
arctan = Op(
    "arctan", lambda g, y, x: g / (x * x + 1), dtypes="float", doc="x = tan(y), |y| < pi/2."
)
arctan2 = Op(
    "arctan2",
    lambda g, y, a, b: g * b / (a * a + b * b),
    lambda g, y, a, b: -g * a / (a * a + b * b),
    dtypes="float",
    doc="The angle of the point (b, a), between -pi and pi: tan(y) = a / b.",
)
arcsinh = Op("arcsinh", lambda g, y, x: g * rsqrt(x * x + 1), dtypes="float", doc="x = sinh(y).")
arccosh = Op(
    "arccosh", lambda g, y, x: g * rsqrt(x * x - 1), dtypes="float", doc="x = cosh(y), y >= 0."
)
arctanh = Op("arctanh", lambda g, y, x: g / (1 - x * x), dtypes="float", doc="x = tanh(y).")
sinc = Op(
    "sinc",
    # At 0 the first derivative is 0 as it should be; so are the higher ones, which should not.
    lambda g, y, x: where(x == 0, 0.0, g * (cos(x * math.pi) - y) / where(x == 0, 1.0, x)),
    dtypes="float",
    doc="y = sin(pi x) / (pi x), and 1 at 0.",
)


def deg2rad(x: Any) -> Tensor:
    """y = x pi / 180: degrees in radians."""
    return multiply(x, math.pi / 180)


def rad2deg(x: Any) -> Tensor:
    """y = x 180 / pi: radians in degrees."""
    return multiply(x, 180 / math.pi)


# --- the normal distribution's integral ---------------------------------------------------------

erfc = Op(
    "erfc",
    lambda g, y, x: g * exp(-x * x) * (-1 / HALF_SQRT_PI),
    dtypes="float",
    doc="y = 1 - erf(x), accurate also where that is small.",
)
erfinv = Op(
    "erfinv",
    lambda g, y, x: g * exp(y * y) * HALF_SQRT_PI,
    dtypes="float",
    doc="x = erf(y), for -1 <= x <= 1.",
)

# --- division with rest -------------------------------------------------------------------------

floor_divide = Op("floor_divide", dtypes="common", doc="y = floor(a / b).")
mod = Op(
    "mod",
    lambda g, y, a, b: g,
    lambda g, y, a, b: -g * floor_divide(a, b),
    dtypes="common",
    doc="y = a - b floor(a / b): the rest of the division, with the sign of b.",
)
fmod = Op(
    "fmod",
    lambda g, y, a, b: g,
    lambda g, y, a, b: -g * trunc(a / b),
    dtypes="common",
    doc="y = a - b trunc(a / b): the rest of the division, with the sign of a.",
)


def divide_no_nan(x1: Any, x2: Any) -> Tensor:
    """y = x1 / x2, and 0 where x2 is 0; there the derivative is 0 too."""
    zero = equal(x2, 0)
    return where(zero, 0.0, divide(x1, where(zero, 1, x2)))


# --- steps: their derivative is 0 ---------------------------------------------------------------

floor = Op("floor", doc="y = the largest integer <= x.")
ceil = Op("ceil", doc="y = the smallest integer >= x.")
trunc: Op = Op("trunc", doc="y = x without its fraction.")
_round = Op("round", doc="y = x rounded to so many decimals.")
heaviside = Op("heaviside", dtypes="float", doc="y = 0 where a < 0, b where a = 0, 1 where a > 0.")
signbit = Op("signbit", doc="y = whether x is negative, also for -0.0.")


def round(x: Any, decimals: int = 0) -> Tensor:
    """y = x rounded to `decimals` places, halves to the even neighbour."""
    return _round(x, decimals=decimals)


# --- limits -------------------------------------------------------------------------------------

_clip = Op(
    "clip",
    lambda g, y, x, x_min, x_max: where(x < x_min, 0.0, where(x > x_max, 0.0, g)),
    lambda g, y, x, x_min, x_max: where(x < x_min, g, 0.0),
    lambda g, y, x, x_min, x_max: where(x > x_max, g, 0.0),
    dtypes="common",
    doc="y = x limited to x_min <= y <= x_max; at a limit the gradient goes to x.",
)


def clip(x: Any, x_min: Any, x_max: Any) -> Tensor:
    """y = x limited to x_min <= y <= x_max; at a limit the gradient goes to x."""
    return _clip(x, x_min, x_max)


def _ignoring_nan(choose: Op):
    """`choose`, with the other input where one is nan."""

    def function(x1: Any, x2: Any) -> Tensor:
        x1, x2 = as_tensor(x1), as_tensor(x2)
        return choose(where(isnan(x1), x2, x1), where(isnan(x2), x1, x2))

    function.__name__ = function.__qualname__ = {"maximum": "fmax", "minimum": "fmin"}[choose.name]
    function.__doc__ = f"As `{choose.name}`, but where one input is nan, the other one."
    return function


fmax = _ignoring_nan(maximum)
fmin = _ignoring_nan(minimum)

_nan_to_num = Op(
    "nan_to_num",
    lambda g, y, x, nan, posinf, neginf: where(isfinite(x), g, 0.0),
    doc="x with other numbers for nan and the infinities.",
)


def nan_to_num(
    x: Any, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None
) -> Tensor:
    """`x` with `nan` for nan, and `posinf`, `neginf` for the infinities.

    By default the infinities become the largest and smallest number of the dtype. Where a number
    was put in, the gradient is 0.
    """
    return _nan_to_num(x, nan=nan, posinf=posinf, neginf=neginf)


# --- questions: bool results --------------------------------------------------------------------

logical_and = Op("logical_and", doc="y = a and b; numbers other than 0 are true.")
logical_or = Op("logical_or", doc="y = a or b; numbers other than 0 are true.")
logical_xor = Op("logical_xor", doc="y = either a or b; numbers other than 0 are true.")
logical_not = Op("logical_not", doc="y = not x; numbers other than 0 are true.")
isnan = Op("isnan", doc="y = whether x is nan (not a number).")
isinf = Op("isinf", doc="y = whether x is infinite.")
isposinf = Op("isposinf", doc="y = whether x is +infinity.")
isneginf = Op("isneginf", doc="y = whether x is -infinity.")
isfinite: Op = Op("isfinite", doc="y = whether x is neither nan nor infinite.")
isreal = Op("isreal", doc="y = True: there are no complex tensors.")
_isclose = Op("isclose", dtypes="common", doc="y = |a - b| <= atol + rtol |b|.")


def isclose(
    x1: Any, x2: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> Tensor:
    """y = |x1 - x2| <= atol + rtol |x2|; nan equals nan if `equal_nan`."""
    return _isclose(x1, x2, rtol=rtol, atol=atol, equal_nan=equal_nan)


# --- integers -----------------------------------------------------------------------------------

bitwise_and = Op("bitwise_and", dtypes="common", doc="y = a & b, for integers and booleans.")
bitwise_or = Op("bitwise_or", dtypes="common", doc="y = a | b, for integers and booleans.")
bitwise_xor = Op("bitwise_xor", dtypes="common", doc="y = a ^ b, for integers and booleans.")
bitwise_not = bitwise_invert = Op("bitwise_not", doc="y = ~x, for integers and booleans.")
left_shift = bitwise_left_shift = Op("left_shift", dtypes="common", doc="y = a << b.")
right_shift = bitwise_right_shift = Op("right_shift", dtypes="common", doc="y = a >> b.")
gcd = Op("gcd", dtypes="common", doc="y = the greatest common divisor of two integers.")
lcm = Op("lcm", dtypes="common", doc="y = the least common multiple of two integers.")

# --- bits ---------------------------------------------------------------------------------------

_view = Op("view", doc="The bits of x as another dtype.")


def view(x: Any, dtype: Any = None) -> Tensor:
    """The bits of `x` as `dtype`; the last axis grows or shrinks if its numbers have another size.

    No gradient flows.

    Raises:
        ValueError: the bytes along the last axis are no whole number of the new elements.
    """
    x = as_tensor(x)
    return x if dtype is None else _view(x, dtype=dtype_of(dtype))


def nextafter(x1: Any, x2: Any) -> Tensor:
    """y = the floating-point number next to x1, in the direction of x2. No gradient flows."""
    start, end = as_tensor(x1), as_tensor(x2)
    dtype = promoted(start.dtype, end.dtype)
    dtype = dtype if dtype.kind in FLOATS else np.dtype(config.floatx())
    start, end = [cast(x.detach(), dtype=dtype) for x in (start, end)]
    # As integers, floats of one sign count upwards, away from 0.
    away = equal(greater(end, start), greater(start, 0))
    bits = _view(start, dtype=np.dtype(f"int{8 * dtype.itemsize}"))
    step = cast(where(away, 1, -1), dtype=bits.dtype)
    near = _view(bits + step, dtype=dtype)
    y = where(equal(start, 0), sign(end) * float(finfo(dtype).smallest_subnormal), near)
    y = where(equal(start, end), end, y)
    return where(logical_or(isnan(start), isnan(end)), math.nan, y)


# --- real numbers, asked as if they were complex ------------------------------------------------


def real(x: Any) -> Tensor:
    """y = x: there are no complex tensors."""
    return as_tensor(x)


conj = conjugate = real


def imag(x: Any) -> Tensor:
    """y = 0: there are no complex tensors."""
    return as_tensor(x).detach() * 0  # type: ignore[return-value]


def angle(x: Any) -> Tensor:
    """y = pi where x < 0, otherwise 0: the angle of real numbers among the complex ones."""
    return arctan2(0.0, as_tensor(x).detach())
