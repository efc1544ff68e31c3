"""Rows for `ops/math.py` and `ops/creation.py`: elementwise functions, new tensors, conversion."""

import numpy as np
from op_table import (
    NONZERO,
    POSITIVE,
    REAL,
    TIES,
    Boolean,
    Integer,
    Real,
    Row,
    Steps,
    anyshape,
    broadcast,
    fixed,
    shaped,
    torch,
)

from minitorch_ciml import ops

ROWS: list[Row] = []
EXCEPTIONS = {
    "convert_to_numpy": "gives an array: test_creation.py",
    "dtype": "gives a string: test_creation.py",
    "is_tensor": "gives a bool: test_creation.py",
    "ndim": "gives an int: test_creation.py",
    "shape": "gives a tuple: test_creation.py",
    "size": "gives an int: test_creation.py",
}
INSIDE = Real(-0.9, 0.9)
BITS = Integer(0, 63)
EVEN, ODD = Steps(), Steps(offset=0.05)

# --- one input: those that torch has under the same name ----------------------------------------

for _name, _domain in {
    "absolute": NONZERO, "arccos": INSIDE, "arccosh": Real(1.1, 3.0), "arcsin": INSIDE,
    "arcsinh": REAL, "arctan": REAL, "arctanh": INSIDE, "cos": REAL, "cosh": REAL,
    "deg2rad": REAL, "erf": REAL, "erfc": REAL, "erfinv": INSIDE, "exp": REAL, "exp2": REAL,
    "expm1": REAL, "log": POSITIVE, "log10": POSITIVE, "log1p": Real(-0.9, 3.0),
    "log2": POSITIVE, "negative": REAL, "rad2deg": REAL, "reciprocal": NONZERO,
    "rsqrt": POSITIVE, "sin": REAL, "sinc": NONZERO, "sinh": REAL, "sqrt": POSITIVE,
    "square": REAL, "tan": Real(-1.2, 1.2), "tanh": REAL,
}.items():  # fmt: skip
    ROWS.append(Row(getattr(ops, _name), broadcast(_domain), torch=_name))
ROWS += [
    Row(ops.cbrt, broadcast(NONZERO), jax="cbrt"),
    Row(ops.erf, shaped(Real(-6, 6), (4096,)), torch="erf", order=0),
    Row(ops.erfc, shaped(Real(0, 10), (64,)), torch="erfc", order=0, rtol32=1e-4),
    Row(ops.erfinv, fixed(np.array([-1 + 1e-12, -1e-9, 0, 1e-3, 0.999999])), torch="erfinv",
        order=0, rtol32=1e3),
    Row(ops.sinc, fixed(np.array([0.0, 1.0, -2.0])), torch="sinc", order=1),
]  # fmt: skip
for _name in ("ceil", "floor", "round", "sign", "signbit", "trunc"):
    ROWS.append(Row(getattr(ops, _name), broadcast(NONZERO), torch=_name, grad=False))
ROWS += [
    Row(ops.round, broadcast(REAL), {"decimals": 1}, torch="round", grad=False),
    Row(ops.sign, broadcast(TIES), torch="sign", grad=False),
]

# --- two inputs ---------------------------------------------------------------------------------

for _name in ("add", "subtract", "multiply"):
    ROWS.append(Row(getattr(ops, _name), broadcast(REAL, REAL), torch=_name, order=3))
ROWS += [
    Row(ops.divide, broadcast(REAL, POSITIVE), torch="divide", order=3),
    Row(ops.divide_no_nan, broadcast(REAL, POSITIVE), torch="divide"),
    Row(ops.divide_no_nan, fixed(np.array([1.0, 0.0, 2.0]), np.array([0.0, 0.0, 4.0])),
        numpy=lambda a, b: np.array([0, 0, 0.5]), order=0),
    Row(ops.power, broadcast(POSITIVE, REAL), torch="pow", order=3, integers=False),
    Row(ops.logaddexp, broadcast(REAL, REAL), torch="logaddexp"),
    Row(ops.logaddexp2, broadcast(REAL, REAL), torch="logaddexp2"),
    Row(ops.hypot, broadcast(POSITIVE, REAL), torch="hypot"),
    Row(ops.arctan2, broadcast(NONZERO, POSITIVE), torch="arctan2"),
    Row(ops.maximum, broadcast(EVEN, ODD), torch="maximum"),
    Row(ops.minimum, broadcast(EVEN, ODD), torch="minimum"),
    Row(ops.maximum, broadcast(TIES, TIES), torch="maximum", order=0),
    Row(ops.minimum, broadcast(TIES, TIES), torch="minimum", order=0),
    Row(ops.fmax, broadcast(EVEN, ODD), torch="fmax"),
    Row(ops.fmin, broadcast(EVEN, ODD), torch="fmin"),
    Row(ops.fmax, fixed(np.array([np.nan, 1.0]), np.array([2.0, np.nan])), torch="fmax", order=0),
    Row(ops.floor_divide, broadcast(REAL, POSITIVE), torch="floor_divide", grad=False),
    Row(ops.mod, shaped((Real(0.1, 0.9), Real(-3, -1)), (7,), (7,)), torch="remainder",
        integers=False),
    Row(ops.mod, broadcast(Integer(), Integer(1, 5)), torch="remainder", grad=False),
    Row(ops.fmod, shaped((Real(-0.9, 3.9), Real(4, 5)), (7,), (7,)), torch="fmod",
        integers=False),
    Row(ops.fmod, broadcast(Integer(), Integer(1, 5)), torch="fmod", grad=False),
    Row(ops.heaviside, broadcast(TIES, REAL), torch="heaviside", grad=False),
    Row(ops.ldexp, broadcast(REAL, Integer()), torch=lambda x, e: x * 2.0**e),
    Row(ops.where, broadcast(Boolean(), REAL, REAL), torch="where"),
    Row(ops.clip, broadcast(Real(avoid=(-1.0, 1.0))), {"x_min": -1.0, "x_max": 1.0},
        call=lambda x, x_min, x_max: ops.clip(x, x_min, x_max),
        torch=lambda x, x_min, x_max: torch.clamp(x, x_min, x_max)),
    Row(ops.clip, broadcast(TIES), call=lambda x: ops.clip(x, 1, 2),
        torch=lambda x: torch.clamp(x, 1, 2), order=0),
    Row(ops.clip, shaped((REAL, Real(-2, -1.5), Real(1.5, 2)), (2, 3), (3,), ()), jax="clip"),
]  # fmt: skip

# --- questions ----------------------------------------------------------------------------------

SPECIAL = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.5])
for _name in ("isnan", "isinf", "isposinf", "isneginf", "isfinite", "isreal", "signbit"):
    ROWS.append(Row(getattr(ops, _name), fixed(SPECIAL), torch=_name, grad=False))
    if _name != "signbit":
        ROWS.append(Row(getattr(ops, _name), fixed(np.arange(3)), torch=_name, grad=False))
for _name in ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal"):
    _torch = {"equal": "eq"}.get(_name, _name)
    ROWS.append(Row(getattr(ops, _name), broadcast(TIES, TIES), torch=_torch, grad=False))
for _name in ("logical_and", "logical_or", "logical_xor"):
    ROWS.append(Row(getattr(ops, _name), broadcast(TIES, Boolean()), torch=_name, grad=False))
ROWS += [
    Row(ops.logical_not, broadcast(TIES), torch="logical_not", grad=False),
    Row(ops.isclose, broadcast(TIES, TIES), torch="isclose", grad=False, integers=False),
    Row(ops.isclose, fixed(SPECIAL, SPECIAL[::-1].copy()), {"equal_nan": True}, torch="isclose",
        grad=False),
    Row(ops.isclose, fixed(np.array([1.0, 2.0]), np.array([1.1, 2.3])),
        {"rtol": 0.0, "atol": 0.2}, torch="isclose", grad=False),
    Row(ops.nan_to_num, fixed(np.array([np.nan, 1.0])), torch="nan_to_num", order=0),
    Row(ops.nan_to_num, fixed(SPECIAL), {"nan": 1.0, "posinf": 2.0, "neginf": 3.0},
        torch="nan_to_num", order=0),
]  # fmt: skip

# --- integers -----------------------------------------------------------------------------------

for _name in ("bitwise_and", "bitwise_or", "bitwise_xor", "gcd", "lcm"):
    ROWS.append(Row(getattr(ops, _name), broadcast(BITS, BITS), torch=_name, grad=False))
ROWS += [
    Row(ops.bitwise_not, broadcast(BITS), torch="bitwise_not", grad=False),
    Row(ops.left_shift, broadcast(BITS, Integer(0, 5)), torch="bitwise_left_shift", grad=False),
    Row(ops.right_shift, broadcast(BITS, Integer(0, 5)), torch="bitwise_right_shift", grad=False),
]

# --- new tensors --------------------------------------------------------------------------------


def _new(op, params, peer):
    """A row of a function without tensors."""
    ROWS.append(Row(op, fixed(), params, numpy=peer, grad=False))


for _name in ("zeros", "ones", "empty"):
    _peer = np.zeros if _name == "empty" else getattr(np, _name)
    _new(getattr(ops, _name), {"shape": (2, 0, 3)}, _peer)
    _new(getattr(ops, _name), {"shape": 3, "dtype": "int32"}, _peer)
    _new(getattr(ops, _name), {"shape": ()}, _peer)
for _name in ("zeros_like", "ones_like", "empty_like"):
    _peer = np.zeros_like if _name == "empty_like" else getattr(np, _name)
    ROWS.append(Row(getattr(ops, _name), anyshape(REAL), numpy=_peer, grad=False))
_new(ops.full, {"shape": (2, 3), "fill_value": 0.5}, np.full)
_new(ops.full, {"shape": (2, 3), "fill_value": [1, 2, 3], "dtype": "int64"}, np.full)
ROWS.append(Row(ops.full_like, anyshape(REAL), {"fill_value": 2}, numpy=np.full_like, grad=False))
_new(ops.arange, {"start": 5}, lambda start: np.arange(start))
_new(ops.arange, {"start": 2, "stop": 9, "step": 3, "dtype": "float32"}, np.arange)
_new(ops.arange, {"start": 0.0, "stop": 1.0, "step": 0.25}, np.arange)
_new(ops.linspace, {"start": 0, "stop": 1, "num": 5}, np.linspace)
_new(ops.linspace, {"start": 0, "stop": 1, "num": 4, "endpoint": False, "retstep": True},
     np.linspace)  # fmt: skip
_new(ops.linspace, {"start": np.zeros(2), "stop": np.ones(2), "num": 3, "axis": -1}, np.linspace)
_new(ops.logspace, {"start": 0, "stop": 2, "num": 3, "base": 2}, np.logspace)
_new(ops.geomspace, {"start": 1, "stop": 8, "num": 4}, np.geomspace)
_new(ops.eye, {"N": 2, "M": 3, "k": 1}, np.eye)
_new(ops.identity, {"n": 3}, np.identity)
_new(ops.tri, {"N": 3, "M": 2, "k": -1}, np.tri)
for _name in ("bartlett", "blackman", "hamming", "hanning", "kaiser"):
    _arguments = (8, 2.0) if _name == "kaiser" else (8,)
    _peer = getattr(np, _name)
    _single = lambda *arguments, _peer=_peer: _peer(*arguments).astype("float32")  # noqa: E731
    ROWS.append(Row(getattr(ops, _name), fixed(*_arguments), numpy=_single, grad=False))

# --- conversion ---------------------------------------------------------------------------------

for _dtype in ("int32", "float32"):
    ROWS.append(
        Row(
            ops.cast, broadcast(REAL), {"dtype": _dtype}, numpy=lambda x, dtype: x.astype(dtype),
            grad=_dtype == "float32", order=0,
        )
    )  # fmt: skip
ROWS += [
    Row(ops.saturate_cast, broadcast(Real(-3e5, 3e5)), {"dtype": "int16"}, grad=False,
        numpy=lambda x, dtype: np.clip(x, -32768, 32767).astype(dtype)),
    Row(ops.convert_to_tensor, broadcast(REAL), jax="asarray"),
    Row(ops.array, broadcast(REAL), jax="asarray"),
    Row(ops.copy, broadcast(REAL), jax="copy"),
    Row(ops.stop_gradient, broadcast(REAL), numpy=np.copy, grad=False),
]  # fmt: skip
