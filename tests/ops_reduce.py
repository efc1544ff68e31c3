"""Rows for `ops/reduce.py`: reductions and what runs along an axis."""

import numpy as np
from op_table import POSITIVE, REAL, TIES, Boolean, Integer, Row, anyshape, fixed, jax, jnp, shaped

from minitorch_ciml import ops

ROWS: list[Row] = []
EXCEPTIONS: dict[str, str] = {}

AXES = [None, 0, -1, (0, 2), (-1, 1), ()]
CUBE = (2, 3, 4)
ZEROS = np.array([[2.0, 0.0, 3.0, -1.0], [0.0, 1.0, 0.0, 2.0], [1.0, 2.0, 3.0, 4.0]])

for _name in ("sum", "prod", "mean", "var", "std", "max", "min", "logsumexp"):
    _jax = (lambda x, **how: jax.nn.logsumexp(x, **how)) if _name == "logsumexp" else _name
    _op = getattr(ops, _name)
    for _axis in AXES:
        if _axis == () and _name in ("var", "std"):
            continue  # the variance of single numbers: see test_reduce.py
        for _keep in (False, True):
            _how = {"axis": _axis, "keepdims": _keep}
            ROWS.append(Row(_op, shaped(REAL, CUBE), _how, jax=_jax))
    _least = 0 if _name in ("sum", "prod", "logsumexp") else 2 if _name in ("var", "std") else 1
    ROWS.append(Row(_op, anyshape(REAL, min_ndim=1, min_size=_least), jax=_jax, rtol32=1e-4))
    ROWS.append(Row(_op, shaped(REAL, (3, 0)), {"axis": 0}, jax=_jax))

for _name in ("max", "min"):
    _op = getattr(ops, _name)
    for _how in ({"axis": 1}, {"axis": None}, {"axis": (0, 2), "keepdims": True}):
        ROWS.append(Row(_op, shaped(TIES, CUBE), _how, jax=_name, order=0))
    ROWS.append(Row(_op, shaped(REAL, CUBE), {"axis": 1, "initial": 0.5}, jax=_name))
    ROWS.append(Row(_op, shaped(REAL, (0, 3)), {"axis": 0, "initial": 0.5}, jax=_name))
ROWS.append(Row(ops.ptp, shaped(REAL, CUBE), {"axis": 1}, jax="ptp"))

for _name in ("argmax", "argmin"):
    for _axis in (None, 0, -1):
        _how = {"axis": _axis, "keepdims": _axis == 0}
        ROWS.append(Row(getattr(ops, _name), shaped(TIES, CUBE), _how, jax=_name, grad=False))
for _name in ("all", "any"):
    for _axis in AXES:
        _how = {"axis": _axis, "keepdims": _axis == 0}
        ROWS.append(Row(getattr(ops, _name), shaped(Boolean(), CUBE), _how, jax=_name, grad=False))
    ROWS.append(Row(getattr(ops, _name), shaped(TIES, (2, 0)), {"axis": 1}, jax=_name, grad=False))
for _axis in (None, 1, (0, 2)):
    _row = Row(ops.count_nonzero, shaped(TIES, CUBE), {"axis": _axis}, jax="count_nonzero")
    ROWS.append(Row(_row.op, _row.inputs, _row.params, jax=_row.jax, grad=False))

for _name in ("cumsum", "cumprod"):
    for _axis in (None, 0, 1, -1):
        ROWS.append(Row(getattr(ops, _name), shaped(REAL, CUBE), {"axis": _axis}, jax=_name))
    ROWS.append(Row(getattr(ops, _name), shaped(REAL, (2, 0)), {"axis": 1}, jax=_name))

# Zeros: the derivatives of products must not divide by them, to any order.
ROWS += [
    Row(ops.prod, fixed(ZEROS), {"axis": 1}, jax="prod", order=3),
    Row(ops.prod, fixed(ZEROS[:2]), {"axis": (1, 0)}, jax="prod"),
    Row(ops.cumprod, fixed(ZEROS), {"axis": 1}, jax="cumprod", order=3),
    Row(ops.logsumexp, fixed(np.array([[800.0, 1.0], [-np.inf, 2.0], [-900.0, -901.0]])),
        {"axis": 1}, jax=lambda x, **how: jax.nn.logsumexp(x, **how), order=0),
    Row(ops.var, fixed(1e4 + np.arange(6.0)), jax="var", rtol32=1e-4),
]  # fmt: skip

# Booleans and integers are added as 64-bit integers, and averaged as floats.
for _name in ("sum", "prod"):
    ROWS.append(Row(getattr(ops, _name), shaped(Boolean(), CUBE), {"axis": 1}, grad=False,
                    numpy=getattr(np, _name)))  # fmt: skip
    ROWS.append(Row(getattr(ops, _name), shaped(Integer(dtype="int8"), CUBE), {"axis": 1},
                    numpy=getattr(np, _name), grad=False))  # fmt: skip

_pair = {"axes": (0, 2)}
ROWS += [
    Row(ops.moments, shaped(REAL, CUBE), _pair,
        jax=lambda x, axes: (jnp.mean(x, axes), jnp.var(x, axes))),
    Row(ops.average, shaped(REAL, CUBE), {"axis": 1}, jax="average"),
    Row(ops.average, shaped((REAL, POSITIVE), CUBE, CUBE),
        call=lambda x, w: ops.average(x, weights=w), jax=lambda x, w: jnp.average(x, weights=w)),
    Row(ops.average, shaped((REAL, POSITIVE), CUBE, (3,)),
        call=lambda x, w: ops.average(x, -2, w), jax=lambda x, w: jnp.average(x, 1, w)),
]  # fmt: skip
