"""Rows for `ops/math.py`: elementwise functions, creation, conversion."""

from op_table import NONZERO, POSITIVE, REAL, TIES, Boolean, Real, Row, broadcast

from minitorch_ciml import ops

ROWS: list[Row] = []
EXCEPTIONS: dict[str, str] = {}

# --- one input: those that torch has under the same name ----------------------------------------

for _name, _domain in {
    "absolute": NONZERO, "cos": REAL, "cosh": REAL, "erf": REAL, "exp": REAL, "expm1": REAL,
    "log": POSITIVE, "log1p": Real(-0.9, 3.0), "negative": REAL, "sin": REAL, "sinh": REAL,
    "sqrt": POSITIVE, "tan": Real(-1.2, 1.2), "tanh": REAL,
}.items():  # fmt: skip
    ROWS.append(Row(getattr(ops, _name), broadcast(_domain), torch=_name))

# --- two inputs --------------------------------------------------------------------------------

for _name in ("add", "subtract", "multiply"):
    ROWS.append(Row(getattr(ops, _name), broadcast(REAL, REAL), torch=_name, order=3))
ROWS += [
    Row(ops.divide, broadcast(REAL, POSITIVE), torch="divide", order=3),
    Row(ops.power, broadcast(POSITIVE, REAL), torch="pow", order=3, integers=False),
    Row(ops.maximum, broadcast(REAL, REAL), torch="maximum"),
    Row(ops.minimum, broadcast(REAL, REAL), torch="minimum"),
    Row(ops.maximum, broadcast(TIES, TIES), torch="maximum", order=0),
    Row(ops.where, broadcast(Boolean(), REAL, REAL), torch="where"),
    Row(ops.sign, broadcast(TIES), torch="sign", grad=False),
]
for _name in ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal"):
    _torch = {"equal": "eq"}.get(_name, _name)
    ROWS.append(Row(getattr(ops, _name), broadcast(TIES, TIES), torch=_torch, grad=False))
