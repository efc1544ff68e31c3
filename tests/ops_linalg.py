"""Rows for `ops/linalg.py`: products, norms, triangles, and what solves equations."""

import numpy as np
from op_table import NONZERO, REAL, Row, fixed, jnp, shaped, torch

from minitorch_ciml import ops

ROWS: list[Row] = []
EXCEPTIONS = {"eig": "has neither gradients nor a kernel for GPUs: test_linalg.py"}


def rows(op, inputs, *parameters, **how):
    """One row for each set of parameters."""
    ROWS.extend(Row(op, inputs, params, **how) for params in parameters)


# --- products -----------------------------------------------------------------------------------

for _a, _b in [
    ((2, 3), (3, 4)),
    ((3,), (3,)),
    ((2, 3), (3,)),
    ((3,), (3, 4)),
    ((5, 2, 3), (3, 4)),
    ((2, 3), (5, 3, 4)),
    ((5, 2, 3), (5, 3, 4)),
    ((5, 1, 2, 3), (4, 3, 1)),
    ((5, 2, 3), (3,)),
    ((3,), (5, 3, 2)),
    ((2, 0), (0, 3)),
    ((0, 2, 3), (3, 4)),
]:
    rows(ops.matmul, shaped(REAL, _a, _b), {}, torch="matmul")
for _a, _b in [((), (3,)), ((3,), (3,)), ((2, 3), (3, 4)), ((5, 2, 3), (3,)), ((5, 3), (2, 3, 4))]:
    rows(ops.dot, shaped(REAL, _a, _b), {}, jax="dot")
rows(ops.vdot, shaped(REAL, (2, 3), (6,)), {}, jax="vdot")
for _a, _b in [((3,), (3,)), ((2, 3), (4, 5, 3)), ((2,), ())]:
    rows(ops.inner, shaped(REAL, _a, _b), {}, jax="inner")
rows(ops.outer, shaped(REAL, (2, 2), (3,)), {}, jax="outer")
for _a, _b in [((2, 2), (3, 1)), ((2,), (2, 3)), ((), (3,))]:
    rows(ops.kron, shaped(REAL, _a, _b), {}, jax="kron")
rows(ops.cross, shaped(REAL, (4, 3), (3,)), {}, jax="cross")
rows(ops.cross, shaped(REAL, (3, 4), (3, 4)), {"axis": 0}, jax="cross")
rows(ops.cross, shaped(REAL, (3, 4), (4, 3)), {"axisa": 0, "axisc": 0}, jax="cross")
rows(ops.tensordot, shaped(REAL, (2, 3, 4), (3, 4, 2)), {}, {"axes": 2}, jax="tensordot")
rows(
    ops.tensordot,
    shaped(REAL, (2, 3, 4), (4, 3, 2)),
    {"axes": 0},
    {"axes": ([0, 1], [2, -2])},
    {"axes": (-1, 0)},
    jax="tensordot",
)
for _subscripts, *_shapes in [
    ("ij,jk->ik", (2, 3), (3, 4)),
    ("ij,jk", (2, 3), (3, 4)),
    ("ba,cb", (2, 3), (4, 2)),
    ("bij,bjk->bik", (5, 2, 3), (5, 3, 4)),
    ("bqhd,bkhd->bhqk", (2, 3, 2, 4), (2, 5, 2, 4)),
    ("bhqk,bkhd->bqhd", (2, 2, 3, 5), (2, 5, 2, 4)),
    ("...ij,...jk->...ik", (5, 1, 2, 3), (4, 3, 2)),
    ("i...,i...->...", (3, 2), (3, 2)),
    ("...i,i", (2, 3), (3,)),
    ("i,j->ij", (2,), (3,)),
    ("i,j", (2,), (3,)),
    ("ij,ij->", (2, 3), (2, 3)),
    ("ij,ij->ij", (2, 3), (2, 3)),
    ("ij,kl->jl", (2, 3), (4, 2)),
    ("ijx,jk->ik", (2, 3, 2), (3, 4)),
    ("ij->ji", (2, 3)),
    ("ij->", (2, 3)),
    ("ijk->k", (2, 3, 4)),
    ("ba", (2, 3)),
    ("ii", (3, 3)),
    ("ii->i", (3, 3)),
    ("ijij->j", (2, 3, 2, 3)),
    ("iii,i->", (3, 3, 3), (3,)),
    ("...ii->...", (2, 3, 3)),
    ("ij,jk,kl->il", (2, 3), (3, 4), (4, 2)),
    ("a,ab,b->", (2,), (2, 3), (3,)),
    ("i,i,i->i", (3,), (3,), (3,)),
    (",i->i", (), (3,)),
]:
    ROWS.append(
        Row(
            ops.einsum,
            shaped(REAL, *_shapes),
            {"subscripts": _subscripts},
            call=lambda *xs, subscripts: ops.einsum(subscripts, *xs),
            jax=lambda *xs, subscripts: jnp.einsum(subscripts, *xs),
        )
    )

# --- norms, traces, triangles -------------------------------------------------------------------

rows(
    ops.norm,
    shaped(NONZERO, (3, 4)),
    {},
    {"keepdims": True},
    {"axis": 1},
    {"axis": -1, "ord": 2, "keepdims": True},
    {"axis": 0, "ord": 1},
    {"axis": 0, "ord": 3},
    {"axis": 1, "ord": 0.5},
    {"axis": 1, "ord": np.inf},
    {"axis": 1, "ord": -np.inf},
    {"ord": "fro"},
    {"ord": 1},
    {"ord": -1, "keepdims": True},
    {"ord": np.inf},
    {"ord": -np.inf, "axis": (1, 0)},
    jax="linalg.norm",
)
rows(
    ops.norm, shaped(REAL, (4, 3)), {"ord": 2}, {"ord": "nuc", "keepdims": True}, jax="linalg.norm"
)
rows(ops.norm, shaped(REAL, (3, 2, 4)), {"ord": -2, "axis": (2, 0)}, numpy=np.linalg.norm)
rows(ops.cdist, shaped(REAL, (2, 3, 4), (2, 5, 4)), {}, torch="cdist", rtol32=1e-4)
rows(ops.cdist, fixed(np.eye(2), np.eye(2)), {}, torch="cdist", order=0)
rows(ops.norm, shaped(NONZERO, (2, 3, 4)), {}, {"ord": 1, "axis": (0, 2)}, jax="linalg.norm")
rows(ops.norm, shaped(NONZERO, (2, 3)), {"ord": 0, "axis": 1}, jax="linalg.norm", grad=False)
rows(ops.trace, shaped(REAL, (3, 4)), {}, {"offset": 1}, jax="trace")
rows(ops.trace, shaped(REAL, (3, 4, 2)), {"offset": -1, "axis1": 1, "axis2": 2}, jax="trace")
rows(ops.triu, shaped(REAL, (2, 3, 4)), {}, {"k": 1}, {"k": -1}, jax="triu")
rows(ops.tril, shaped(REAL, (2, 3, 4)), {}, {"k": 1}, {"k": -1}, jax="tril")

rows(ops.vander, shaped(NONZERO, (3,)), {}, {"N": 4, "increasing": True}, jax="vander")

# --- equations ----------------------------------------------------------------------------------

_rng = np.random.default_rng(0)
SQUARE = _rng.normal(size=(2, 3, 3)) + 3 * np.eye(3)
POSITIVE = SQUARE @ SQUARE.swapaxes(1, 2)

rows(ops.solve, fixed(SQUARE[0], _rng.normal(size=3)), {}, torch="linalg.solve")
rows(ops.solve, fixed(SQUARE, _rng.normal(size=(2, 3))), {}, torch="linalg.solve")
rows(ops.solve, fixed(SQUARE, _rng.normal(size=(2, 3, 4))), {}, torch="linalg.solve")
rows(ops.solve, fixed(SQUARE[:1], _rng.normal(size=(2, 3, 4))), {}, torch="linalg.solve")
ROWS += [
    Row(
        ops.solve_triangular,
        fixed(SQUARE, _rng.normal(size=(2, 3, 2))),
        {"lower": lower},
        jax=lambda a, b, lower: jnp.linalg.solve(jnp.tril(a) if lower else jnp.triu(a), b),
    )
    for lower in (False, True)
]
rows(ops.inv, fixed(SQUARE), {}, torch="linalg.inv")
rows(ops.det, fixed(SQUARE), {}, torch="linalg.det")
rows(ops.det, fixed(SQUARE[0]), {}, torch="linalg.det")
rows(ops.logdet, fixed(POSITIVE), {}, torch="logdet")
ROWS.append(Row(ops.slogdet, fixed(-SQUARE), jax=lambda x: tuple(jnp.linalg.slogdet(x))))


def _symmetric(function):
    """Those that read one triangle only differ in how they share the gradient between the two."""
    return lambda x, **params: function((x + x.swapaxes(-1, -2)) / 2, **params)


def _sizes(function):
    """The signs of eigenvectors are nobody's business."""
    return lambda x: (function(x)[0], abs(function(x)[1]))


ROWS += [
    Row(
        ops.cholesky,
        fixed(POSITIVE),
        {"upper": upper},
        call=_symmetric(ops.cholesky),
        jax=_symmetric(lambda x, upper: jnp.linalg.cholesky(x, upper=upper)),
    )
    for upper in (False, True)
]

ROWS += [
    Row(
        ops.eigh,
        fixed(POSITIVE),
        call=_symmetric(_sizes(ops.eigh)),
        jax=_symmetric(_sizes(lambda x: jnp.linalg.eigh(x))),
    ),
    Row(ops.qr, fixed(SQUARE), call=_sizes(ops.qr), torch=_sizes(lambda x: torch.linalg.qr(x))),
    Row(ops.qr, fixed(SQUARE[0, :, :2]), {"mode": "reduced"}, torch="linalg.qr"),
    Row(ops.qr, fixed(SQUARE[:, :2]), numpy=np.linalg.qr),
    Row(
        ops.qr,
        fixed(SQUARE[0, :, :2]),
        {"mode": "complete"},
        call=lambda x, mode: [abs(y) for y in ops.qr(x, mode)],
        numpy=lambda x, mode: [abs(y) for y in np.linalg.qr(x, mode)],
        order=0,  # the columns that are added have no gradient
    ),
]

# --- singular values, and what is made of them --------------------------------------------------

TALL, WIDE = _rng.normal(size=(2, 5, 3)), _rng.normal(size=(3, 4))


def _parts(function):
    """The signs of singular vectors are nobody's business, but those of u and v go together."""

    def parts(x, **params):
        u, s, vt = function(x, **params)
        k = s.shape[-1]
        return s, abs(u[..., :k]), (u[..., :k] * s[..., None, :]) @ vt[..., :k, :]

    return parts


for _x in (TALL, WIDE, SQUARE):
    ROWS.append(
        Row(
            ops.svd,
            fixed(_x),
            {"full_matrices": False},
            call=_parts(ops.svd),
            torch=_parts(lambda x, full_matrices: torch.linalg.svd(x, full_matrices=full_matrices)),
            integers=False,
        )
    )
    rows(ops.svd, fixed(_x), {"compute_uv": False}, jax="linalg.svd")
    rows(ops.pinv, fixed(_x), {}, torch="linalg.pinv")
    rows(ops.lstsq, fixed(_x if _x.ndim == 2 else _x[0], _rng.normal(size=(_x.shape[-2], 2))), {},
         torch=lambda a, b: torch.linalg.pinv(a) @ b)  # fmt: skip
LOW = np.outer([1.0, 2.0, 3.0], [1.0, -1.0])
ROWS += [
    Row(ops.svd, fixed(TALL), call=lambda x: [abs(y) for y in _parts(ops.svd)(x)],
        torch=lambda x: [abs(y) for y in _parts(torch.linalg.svd)(x)], peer_grad=False,
        order=1),
    Row(ops.lstsq, fixed(TALL[0], _rng.normal(size=5)),
        torch=lambda a, b: torch.linalg.pinv(a) @ b),
    Row(ops.matrix_rank, fixed(np.stack([LOW, WIDE[:, :2]])), torch="linalg.matrix_rank",
        grad=False),
    Row(ops.matrix_rank, fixed(np.diag([3.0, 2.0, 1.0])), {"tol": 1.5},
        numpy=lambda x, tol: np.array(2), grad=False),
    Row(ops.cholesky_inverse, fixed(SQUARE), torch=lambda x: torch.cholesky_inverse(torch.tril(x))),
    Row(ops.cholesky_inverse, fixed(SQUARE), {"upper": True},
        torch=lambda x, upper: torch.cholesky_inverse(torch.triu(x), upper=upper)),
    Row(ops.lu_factor, fixed(_rng.normal(size=(2, 4, 4))),
        torch=lambda x: (torch.linalg.lu_factor(x)[0], torch.linalg.lu_factor(x)[1] - 1)),
    Row(ops.lu_factor, fixed(np.array([[0.0, 2.0, 1.0], [1.0, 1.0, 3.0], [4.0, 1.0, 1.0]])),
        torch=lambda x: (torch.linalg.lu_factor(x)[0], torch.linalg.lu_factor(x)[1] - 1)),
]  # fmt: skip
