"""Rows for `ops/shape.py` and `ops/indexing.py`: what moves elements, and what reads some."""

import numpy as np
from op_table import REAL, TIES, Boolean, Integer, Row, anyshape, fixed, jax, jnp, shaped

from minitorch_ciml import ops

ROWS: list[Row] = []
EXCEPTIONS = {
    "get_item": "is getitem",
    "slice_update": "takes the start between its two tensors: test_indexing.py",
}

CUBE = (2, 3, 4)
X = shaped(REAL, CUBE)


def rows(op, inputs, *parameters, **how):
    """One row for each set of parameters."""
    ROWS.extend(Row(op, inputs, params, **how) for params in parameters)


def with_positions(op, peer, inputs, *arguments, **how):
    """Rows for parameters that are given by position, as they have other names elsewhere."""
    for args in arguments:
        ROWS.append(
            Row(
                op,
                inputs,
                call=lambda *xs, args=args: op(*xs, *args),
                jax=lambda *xs, args=args: peer()(*xs, *args),
                **how,
            )
        )


# --- one tensor, another shape ------------------------------------------------------------------

with_positions(ops.reshape, lambda: jnp.reshape, X, [(4, -1)], [24], [(2, 12)], [-1], [(6, 1, 4)])
with_positions(ops.reshape, lambda: jnp.reshape, shaped(REAL, (2, 0)), [(0, 5)])
rows(ops.ravel, anyshape(REAL), {}, torch="ravel")
rows(ops.transpose, anyshape(REAL), {}, jax="transpose")
rows(ops.transpose, X, {"axes": (1, 2, 0)}, {"axes": (-1, 0, 1)}, jax="transpose")
rows(ops.swapaxes, X, {"axis1": 0, "axis2": -1}, {"axis1": 1, "axis2": 1}, jax="swapaxes")
rows(
    ops.moveaxis,
    X,
    {"source": 0, "destination": -1},
    {"source": [0, 1], "destination": [-1, 0]},
    {"source": (2, 0), "destination": (0, 1)},
    jax="moveaxis",
)
rows(ops.squeeze, shaped(REAL, (1, 3, 1)), {}, {"axis": 0}, {"axis": (0, -1)}, jax="squeeze")
rows(ops.expand_dims, X, {"axis": 0}, {"axis": -1}, {"axis": (0, 2)}, jax="expand_dims")
rows(ops.broadcast_to, shaped(REAL, (3, 1)), {"shape": (2, 3, 4)}, jax="broadcast_to")
rows(ops.broadcast_to, shaped(REAL, ()), {"shape": (2, 0)}, jax="broadcast_to")

# --- joining and splitting ----------------------------------------------------------------------


def joined(op, inputs, *parameters, name=None):
    for params in parameters:
        ROWS.append(
            Row(
                op,
                inputs,
                params,
                call=lambda *xs, **params: op(xs, **params),
                jax=lambda *xs, **params: getattr(jnp, name or op.__name__)(xs, **params),
            )
        )


joined(ops.concatenate, shaped(REAL, CUBE, (2, 1, 4), (2, 0, 4)), {"axis": 1}, {"axis": -2})
joined(ops.concatenate, shaped(REAL, (3,), (2,)), {})
joined(ops.stack, shaped(REAL, (2, 3), (2, 3)), {}, {"axis": 1}, {"axis": -1})
for _stack in (ops.vstack, ops.hstack, ops.dstack):
    joined(_stack, shaped(REAL, (), ()), {})
    joined(_stack, shaped(REAL, (3,), (3,)), {})
    joined(_stack, shaped(REAL, (2, 3), (2, 3)), {})
    joined(_stack, shaped(REAL, CUBE, CUBE), {})
rows(ops.append, shaped(REAL, (2, 3), (2, 3)), {}, {"axis": 0}, {"axis": -1}, jax="append")

with_positions(ops.split, lambda: jnp.split, X, [2], [[1, 2], 1], [4, -1], [[2], -1])
with_positions(ops.array_split, lambda: jnp.array_split, X, [3, 2], [[1, 1, 3], -1], [5, 0])
for _op, _name in ((ops.vsplit, "vsplit"), (ops.hsplit, "hsplit"), (ops.dsplit, "dsplit")):
    with_positions(_op, lambda _name=_name: getattr(jnp, _name), X, [[1, 2]], [1])
with_positions(ops.hsplit, lambda: jnp.hsplit, shaped(REAL, (6,)), [3])
rows(ops.unstack, X, {}, {"axis": -1}, jax="unstack")
ROWS.append(
    Row(ops.unstack, X, {"num": 3, "axis": 1}, jax=lambda x, num, axis: jnp.unstack(x, axis=axis))
)

# --- padding and repeating ----------------------------------------------------------------------

rows(
    ops.pad,
    X,
    {"pad_width": 1},
    {"pad_width": (0, 2)},
    {"pad_width": ((0, 0), (1, 2), (3, 0)), "constant_values": 2.0},
    {"pad_width": ((0, 1), (2, 0), (2, 2)), "mode": "reflect"},
    {"pad_width": ((1, 0), (2, 0), (2, 2)), "mode": "symmetric"},
    {"pad_width": ((1, 1), (5, 0), (0, 0)), "mode": "edge"},
    {"pad_width": ((3, 1), (2, 0), (0, 0)), "mode": "wrap"},
    jax=lambda x, pad_width, mode="constant", constant_values=None: (
        jnp.pad(x, pad_width, mode, constant_values=constant_values or 0)
        if mode == "constant"
        else jnp.pad(x, pad_width, mode)
    ),
)
rows(
    ops.repeat,
    X,
    {"repeats": 2},
    {"repeats": np.array([2])},
    {"repeats": 3, "axis": 1},
    {"repeats": 0, "axis": 0},
    {"repeats": np.array([1, 0, 2]), "axis": -2},
    jax="repeat",
)
with_positions(ops.tile, lambda: jnp.tile, X, [2], [(2, 1)], [(2, 1, 3)], [(2, 1, 1, 2)], [(0, 1)])
rows(ops.meshgrid, shaped(REAL, (3,), (2,)), {}, {"indexing": "ij"}, jax="meshgrid")
rows(ops.meshgrid, shaped(REAL, (3,), (2,), (4,)), {}, {"indexing": "ij"}, jax="meshgrid")
rows(ops.meshgrid, shaped(REAL, (3,)), {}, jax="meshgrid")

# --- reversing and rotating ---------------------------------------------------------------------

rows(ops.flip, X, {}, {"axis": 1}, {"axis": (0, -1)}, jax="flip")
rows(ops.fliplr, X, {}, jax="fliplr")
rows(ops.flipud, X, {}, jax="flipud")
rows(
    ops.roll,
    X,
    {"shift": 5},
    {"shift": -1, "axis": 1},
    {"shift": (1, 2), "axis": (0, -1)},
    {"shift": 1, "axis": (0, 1)},
    jax="roll",
)
rows(ops.rot90, X, {}, {"k": 2}, {"k": -1, "axes": (1, 2)}, {"k": 5, "axes": (2, 0)}, jax="rot90")
rows(ops.rot90, X, {"k": 4}, jax="rot90")

# --- order --------------------------------------------------------------------------------------

rows(ops.sort, X, {}, {"axis": 0}, {"axis": None}, jax="sort", integers=False)
rows(ops.argsort, shaped(TIES, CUBE), {}, {"axis": 1}, {"axis": None}, jax="argsort", grad=False)
rows(
    ops.argpartition, shaped(TIES, CUBE), {"kth": 1}, jax=lambda x, kth: jnp.argsort(x), grad=False
)
rows(
    ops.top_k,
    X,
    {"k": 3},
    {"k": 0},
    {"k": 4, "sorted": False},
    jax=lambda x, k, sorted=True: jax.lax.top_k(x, k),
)
rows(ops.top_k, shaped(TIES, (3, 6)), {"k": 4}, jax=lambda x, k: jax.lax.top_k(x, k), order=0)
ROWS.append(
    Row(
        ops.in_top_k,
        fixed(np.array([0, 1, 2]), np.array([[0.1, 0.2, 0.3], [5.0, 5.0, 1.0], [1.0, 2.0, 0.0]])),
        {"k": 2},
        numpy=lambda targets, predictions, k: np.array([False, True, False]),
        grad=False,
    )
)
rows(
    ops.searchsorted,
    fixed(np.array([1.0, 2.0, 2.0, 4.0]), np.array([[0.0, 2.0], [3.0, 9.0]])),
    {},
    {"side": "right"},
    numpy=np.searchsorted,
    grad=False,
)

# --- diagonals ----------------------------------------------------------------------------------

rows(
    ops.diagonal,
    X,
    {},
    {"offset": 1},
    {"offset": -1, "axis1": 2, "axis2": 0},
    {"offset": 9, "axis1": 1, "axis2": 2},
    jax="diagonal",
)
rows(ops.diag, shaped(REAL, (3,)), {}, {"k": 2}, {"k": -1}, jax="diag")
rows(ops.diag, shaped(REAL, (3, 4)), {}, {"k": 2}, {"k": -1}, jax="diag")
rows(ops.diagflat, shaped(REAL, (2, 2)), {}, {"k": -1}, jax="diagflat")

# --- indexing -----------------------------------------------------------------------------------

INDICES = Integer(-3, 2)
with_positions(ops.getitem, lambda: lambda x, i: x[i], X, [1], [(..., 0)], [np.s_[:, ::-2, None]])
for _axis in (1, -2):
    rows(ops.take, shaped((REAL, INDICES), CUBE, (2, 5)), {"axis": _axis}, jax="take")
rows(ops.take, shaped((REAL, INDICES), (3, 4), (7,)), {"axis": 0}, {}, jax="take")
rows(ops.take, shaped((REAL, INDICES), (3,), ()), {"axis": 0}, jax="take")
rows(
    ops.take_along_axis,
    shaped((REAL, INDICES), CUBE, (2, 5, 4)),
    {"axis": 1},
    {"axis": -2},
    jax="take_along_axis",
)
rows(
    ops.take_along_axis,
    shaped((REAL, INDICES), CUBE, (1, 2, 1)),
    {"axis": 1},
    jax="take_along_axis",
)
rows(
    ops.take_along_axis, shaped((REAL, INDICES), (4,), (9,)), {"axis": None}, jax="take_along_axis"
)
rows(ops.nonzero, shaped(TIES, (3, 4)), {}, jax="nonzero", grad=False)
with_positions(
    ops.where, lambda: jnp.where, shaped((Boolean(), REAL, REAL), (3, 1), (4,), (3, 4)), []
)
ROWS.append(
    Row(
        ops.select,
        shaped((Boolean(), Boolean(), REAL, REAL), (3, 1), (4,), (3, 4), ()),
        call=lambda a, b, x, y: ops.select([a, b], [x, y], 0.5),
        jax=lambda a, b, x, y: jnp.select(
            jnp.broadcast_arrays(a, b, x)[:2], jnp.broadcast_arrays(x, y), 0.5
        ),
    )
)
rows(
    ops.unravel_index,
    shaped(Integer(0, 5), (4,)),
    {"shape": (2, 3)},
    jax="unravel_index",
    grad=False,
)
ROWS.append(
    Row(
        ops.scatter,
        shaped((Integer(0, 1), REAL), (5, 2), (5, 3)),
        {"shape": (2, 2, 3)},
        jax=lambda i, v, shape: jnp.zeros(shape, v.dtype).at[tuple(i.T)].add(v),
    )
)
rows(
    ops.segment_sum,
    shaped((REAL, Integer(0, 3)), (6, 2), (6,)),
    {"num_segments": 4},
    jax=lambda x, ids, num_segments: jax.ops.segment_sum(x, ids, num_segments),
)
ROWS.append(
    Row(
        ops.slice,
        X,
        {"start_indices": (0, 1, 2), "shape": (2, 2, -1)},
        jax=lambda x, start_indices, shape: x[0:2, 1:3, 2:],
    )
)
