"""Rows for `ops/statistics.py`, `ops/counting.py` and `ops/scatter.py`, and for bits."""

import numpy as np
from op_table import NONZERO, REAL, TIES, Integer, Row, fixed, jax, jnp, shaped

from minitorch_ciml import ops

ROWS: list[Row] = []
EXCEPTIONS = {
    "scatter_update": "takes the indices between its two tensors: test_indexing.py",
}

CUBE = (2, 3, 4)
X = shaped(REAL, CUBE)
HOLES = np.array([[1.5, np.nan, -2.0, 0.5], [np.nan, np.nan, 3.0, 1.0], [0.25, -1.0, 2.0, 7.0]])
EMPTY_ROW = np.array([[1.0, np.nan], [np.nan, np.nan]])


def rows(op, inputs, *parameters, **how):
    """One row for each set of parameters."""
    ROWS.extend(Row(op, inputs, params, **how) for params in parameters)


# --- quantiles ----------------------------------------------------------------------------------

rows(
    ops.quantile,
    X,
    {"q": 0.3},
    {"q": np.array([0.0, 0.45, 1.0]), "axis": 1},
    *({"q": 0.4, "axis": -1, "method": m} for m in ("lower", "higher", "midpoint", "nearest")),
    jax="quantile",
)
rows(
    ops.quantile,
    X,
    {"q": np.array([[0.2], [0.9]]), "axis": (0, -1), "keepdims": True},
    numpy=np.quantile,
)
rows(ops.percentile, X, {"q": 30.0, "axis": 2}, {"q": np.array([5.0, 50.0])}, jax="percentile")
rows(ops.median, X, {}, {"axis": 1}, {"axis": (0, 2), "keepdims": True}, jax="median")
rows(ops.median, fixed(HOLES), {"axis": 0}, jax="median", order=0)
rows(ops.median, fixed(np.array([np.inf, 1.0, np.inf])), {}, jax="median", order=0, peer_grad=False)
rows(ops.nanmedian, fixed(HOLES), {}, {"axis": 1}, numpy=np.nanmedian)
rows(
    ops.nanquantile,
    fixed(HOLES),
    {"q": np.array([0.1, 0.6]), "axis": 1},
    {"q": 0.5, "axis": 0, "keepdims": True},
    *({"q": 0.4, "axis": 1, "method": m} for m in ("lower", "higher", "midpoint", "nearest")),
    numpy=np.nanquantile,
)
rows(ops.nanpercentile, fixed(HOLES), {"q": 70, "axis": 1}, numpy=np.nanpercentile)
rows(
    ops.nanquantile,
    fixed(EMPTY_ROW),
    {"q": 0.5, "axis": 1},
    numpy=lambda x, q, axis: np.array([1.0, np.nan]),
    order=0,
)

# --- over nan -----------------------------------------------------------------------------------

for _name in ("nansum", "nanprod", "nanmean", "nanvar", "nanstd", "nanmax", "nanmin"):
    rows(
        getattr(ops, _name),
        fixed(HOLES),
        {},
        {"axis": 1},
        {"axis": (0, -1), "keepdims": True},
        jax=_name,
    )
    rows(getattr(ops, _name), X, {"axis": 1}, jax=_name)
for _name in ("nancumsum", "nancumprod"):
    rows(getattr(ops, _name), fixed(HOLES), {}, {"axis": 1}, jax=_name)
for _name in ("nanmean", "nanvar", "nanstd", "nanmax", "nanmin"):
    rows(
        getattr(ops, _name),
        fixed(EMPTY_ROW),
        {"axis": 1},
        numpy=lambda x, axis, _name=_name: np.array(
            [0.0 if _name in ("nanvar", "nanstd") else 1.0, np.nan]
        ),
        order=0,
    )
for _name in ("nanargmax", "nanargmin"):
    rows(
        getattr(ops, _name),
        fixed(HOLES),
        {},
        {"axis": 0},
        {"axis": 1, "keepdims": True},
        numpy=getattr(np, _name),
        grad=False,
    )
    rows(
        getattr(ops, _name),
        fixed(EMPTY_ROW),
        {"axis": 1},
        numpy=lambda x, axis: np.array([0, -1]),
        grad=False,
    )

# --- neighbours, and rows of numbers ------------------------------------------------------------

rows(ops.diff, X, {}, {"n": 2, "axis": 1}, {"n": 0}, {"n": 4}, jax="diff")
rows(ops.diff, fixed(np.array([True, False, False])), {}, numpy=np.diff, grad=False)
rows(ops.trapezoid, X, {}, {"dx": 0.5, "axis": 1}, jax="trapezoid")
for _shape, _axis in (((3,), 1), (CUBE, 0)):
    ROWS.append(
        Row(
            ops.trapezoid,
            shaped(REAL, CUBE, _shape),
            {"axis": _axis},
            jax="trapezoid",
        )
    )
rows(ops.corrcoef, shaped(REAL, (3, 5)), {}, jax="corrcoef", integers=False)
rows(ops.corrcoef, shaped(REAL, (5,)), {}, jax="corrcoef", integers=False)
for _sizes in ((5, 3), (3, 5), (4, 4), (3, 6), (6, 4), (1, 3)):
    _modes = [{"mode": mode} for mode in ("valid", "same", "full")]
    rows(ops.correlate, shaped(REAL, *[(n,) for n in _sizes]), *_modes, jax="correlate")

# --- counts and sets ----------------------------------------------------------------------------

NUMBERS = Integer(0, 4)
rows(ops.bincount, shaped(NUMBERS, (9,)), {}, {"minlength": 7}, numpy=np.bincount, grad=False)
ROWS += [
    Row(
        ops.bincount,
        shaped((NUMBERS, REAL), (9,), (9,)),
        {"minlength": 5},
        jax=lambda x, w, minlength: jnp.bincount(x, w, minlength=minlength, length=5),
    ),
    Row(
        ops.bincount,
        shaped(NUMBERS, (2, 9)),
        {"minlength": 6},
        numpy=lambda x, minlength: np.stack([np.bincount(row, None, minlength) for row in x]),
        grad=False,
    ),
]
rows(
    ops.digitize,
    fixed(np.array([[0.0, 1.0], [3.0, -9.0]]), np.array([0.0, 1.0, 2.5])),
    {},
    numpy=np.digitize,
    grad=False,
)
rows(
    ops.histogram,
    shaped(REAL, (200,)),
    {},
    {"bins": 3, "range": (-1, 0.5)},
    {"bins": 4, "range": (0.5, 0.5)},
    numpy=lambda x, **how: np.histogram(x, **how),
    grad=False,
)
rows(ops.histogram, shaped(TIES, (2, 20)), {"bins": 3}, numpy=np.histogram, grad=False)
rows(
    ops.isin,
    shaped(TIES, (3, 4), (2,)),
    {},
    {"invert": True},
    {"assume_unique": False},
    numpy=np.isin,
    grad=False,
)
rows(ops.isin, shaped(TIES, (3,), (0,)), {}, numpy=np.isin, grad=False)
ALL = {"return_index": True, "return_inverse": True, "return_counts": True}
rows(ops.unique, shaped(TIES, (4, 5)), {}, ALL, numpy=np.unique, order=0)
rows(ops.unique, shaped(TIES, (5, 2, 2)), {"axis": 0, **ALL}, numpy=np.unique, order=0)
rows(ops.unique, shaped(TIES, (2, 9)), {"axis": -1, **ALL}, numpy=np.unique, order=0)
rows(ops.unique, shaped(REAL, (0,)), ALL, numpy=np.unique, order=0)
rows(
    ops.unique,
    shaped(Integer(0, 3), (12,)),
    {"size": 3, **ALL},
    {"size": 6, "fill_value": 9, **ALL},
    jax="unique",
    grad=False,
)

# --- segments -----------------------------------------------------------------------------------

IDS = Integer(0, 3)
_rng = np.random.default_rng(0)
for _name in ("segment_max", "segment_min", "segment_prod"):
    rows(
        getattr(ops, _name),
        shaped((REAL, IDS), (6, 2), (6,)),
        {"num_segments": 5},
        jax=lambda x, ids, num_segments, _name=_name: getattr(jax.ops, _name)(x, ids, num_segments),
        integers=False,
        order=0,  # where a segment is empty there are infinities
        peer_grad=_name != "segment_prod",
    )
    rows(
        getattr(ops, _name),
        fixed(_rng.normal(size=(6, 2)), np.array([0, 2, 1, 0, 2, 1])),
        {},
        jax=lambda x, ids, _name=_name: getattr(jax.ops, _name)(x, ids),
        peer_grad=_name != "segment_prod",
    )
    rows(
        getattr(ops, _name),
        shaped((Integer(), IDS), (6,), (6,)),
        {"num_segments": 5},
        jax=lambda x, ids, num_segments, _name=_name: getattr(jax.ops, _name)(x, ids, num_segments),
        grad=False,
    )
rows(
    ops.segment_prod,
    fixed(np.array([2.0, 0.0, 3.0, 0.0, 0.0]), np.array([0, 1, 1, 2, 2])),
    {"num_segments": 3},
    numpy=lambda x, ids, num_segments: np.array([2.0, 0.0, 0.0]),
)

# --- bits ---------------------------------------------------------------------------------------

rows(
    ops.nextafter,
    fixed(
        np.array([1.0, 0.0, -1.0, 0.0, 2.0, np.nan, -3.0]),
        np.array([2.0, -1.0, 0.0, 0.0, 2.0, 1.0, -9.0]),
    ),
    {},
    numpy=np.nextafter,
    grad=False,
)
rows(
    ops.view,
    shaped(Integer(dtype="int32"), (3, 4)),
    {"dtype": "int16"},
    {"dtype": "float64"},
    {},
    numpy=lambda x, dtype="int32": x.view(dtype),
    grad=False,
)
for _name in ("real", "conj"):
    ROWS.append(Row(getattr(ops, _name), X, numpy=getattr(np, _name)))
ROWS += [
    Row(ops.imag, X, numpy=np.imag, grad=False),
    Row(ops.angle, shaped(NONZERO, CUBE), numpy=np.angle, grad=False),
]
