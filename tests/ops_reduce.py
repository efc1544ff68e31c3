"""Rows for `ops/reduce.py`: reductions and what runs along an axis."""

import numpy as np
from op_table import (
    POSITIVE,
    REAL,
    TIES,
    Boolean,
    Integer,
    Row,
    anyshape,
    fixed,
    jnp,
    shaped,
    torch,
)

from minitorch_ciml import ops

ROWS: list[Row] = []
EXCEPTIONS: dict[str, str] = {}

AXES = [None, 0, -1, (0, 2), (-1, 1), ()]
CUBE = (2, 3, 4)
ZEROS = np.array([[2.0, 0.0, 3.0, -1.0], [0.0, 1.0, 0.0, 2.0], [1.0, 2.0, 3.0, 4.0]])


def along(name, **fixed_params):
    """Torch's reduction of that name, with NumPy's axis and keepdims."""

    def peer(x, axis=None, keepdims=False):
        axes = range(x.ndim) if axis is None else [axis] if isinstance(axis, int) else axis
        axes = tuple(a % x.ndim for a in axes)
        if not axes:
            return torch.clone(x)
        if name not in ("prod", "all", "any"):
            return getattr(torch, name)(x, dim=axes, keepdim=keepdims, **fixed_params)
        for a in sorted(axes, reverse=True):  # those take one axis at a time
            x = getattr(torch, name)(x, dim=a, keepdim=keepdims)
        return x

    return peer


PEERS = {
    "sum": along("sum"), "prod": along("prod"), "mean": along("mean"), "max": along("amax"),
    "min": along("amin"), "logsumexp": along("logsumexp"), "var": along("var", correction=0),
    "std": along("std", correction=0), "all": along("all"), "any": along("any"),
}  # fmt: skip

for _name in ("sum", "prod", "mean", "var", "std", "max", "min", "logsumexp"):
    _op, _torch = getattr(ops, _name), PEERS[_name]
    for _axis in AXES:
        if _axis == () and _name in ("var", "std"):
            continue  # the variance of single numbers: see test_reduce.py
        ROWS.append(Row(_op, shaped(REAL, CUBE), {"axis": _axis}, torch=_torch))
    ROWS.append(Row(_op, shaped(REAL, CUBE), {"axis": (-1, 0), "keepdims": True}, torch=_torch))
    _least = 0 if _name in ("sum", "prod", "logsumexp") else 2 if _name in ("var", "std") else 1
    ROWS.append(Row(_op, anyshape(REAL, min_ndim=1, min_size=_least), torch=_torch, rtol32=1e-4))
    ROWS.append(Row(_op, shaped(REAL, (3, 0)), {"axis": 0}, numpy=getattr(np, _name, None)))

for _name in ("max", "min"):
    _op, _numpy = getattr(ops, _name), getattr(np, _name)
    for _how in ({"axis": 1}, {"axis": None}, {"axis": (0, 2), "keepdims": True}):
        ROWS.append(Row(_op, shaped(TIES, CUBE), _how, torch=PEERS[_name], order=0))
    for _shape, _axis in ((CUBE, 1), ((0, 3), 0)):
        _how = {"axis": _axis, "initial": 0.5}
        ROWS.append(Row(_op, shaped(REAL, _shape), _how, numpy=_numpy, integers=False))
ROWS.append(Row(ops.ptp, shaped(REAL, CUBE), {"axis": 1}, numpy=np.ptp))

for _name in ("argmax", "argmin"):
    for _axis in (None, 0, -1):
        _how = {"axis": _axis, "keepdims": _axis == 0}
        _row = Row(
            getattr(ops, _name), shaped(TIES, CUBE), _how, numpy=getattr(np, _name), grad=False
        )
        ROWS.append(_row)
for _name in ("all", "any"):
    _op, _torch = getattr(ops, _name), PEERS[_name]
    for _axis in AXES:
        _how = {"axis": _axis, "keepdims": _axis == 0}
        ROWS.append(Row(_op, shaped(Boolean(), CUBE), _how, torch=_torch, grad=False))
    ROWS.append(Row(_op, shaped(TIES, (2, 0)), {"axis": 1}, torch=_torch, grad=False))
for _axis in (None, 1, (0, 2)):
    _how = {"axis": _axis}
    _row = Row(ops.count_nonzero, shaped(TIES, CUBE), _how, numpy=np.count_nonzero, grad=False)
    ROWS.append(_row)

for _name in ("cumsum", "cumprod"):
    for _axis in (0, 1, -1):
        ROWS.append(Row(getattr(ops, _name), shaped(REAL, CUBE), {"axis": _axis}, torch=_name))
    ROWS.append(
        Row(getattr(ops, _name), shaped(REAL, CUBE), {"axis": None}, numpy=getattr(np, _name))
    )
    ROWS.append(Row(getattr(ops, _name), shaped(REAL, (2, 0)), {"axis": 1}, torch=_name))

# Zeros: the derivatives of products must not divide by them, to any order.
ROWS += [
    Row(ops.prod, fixed(ZEROS), {"axis": 1}, torch=PEERS["prod"], order=3),
    Row(ops.prod, fixed(ZEROS[:2]), {"axis": (1, 0)}, torch=PEERS["prod"]),
    Row(ops.cumprod, fixed(ZEROS), {"axis": 1}, torch="cumprod", order=3),
    Row(ops.logsumexp, fixed(np.array([[800.0, 1.0], [-np.inf, 2.0], [-900.0, -901.0]])),
        {"axis": 1}, torch=PEERS["logsumexp"], order=0),
    Row(ops.var, fixed(1e4 + np.arange(6.0)), torch=PEERS["var"], rtol32=1e-4),
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
for _x in (ZEROS, ZEROS + 1e-9, ZEROS + 1e-3):
    ROWS.append(Row(ops.allclose, fixed(ZEROS, _x), numpy=np.allclose, grad=False))
