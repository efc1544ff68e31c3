"""Rows of the table: activations, softmax, dense, one-hot codes, cross-entropies, normalisation."""

import numpy as np
from op_table import NONZERO, REAL, Integer, Real, Row, anyshape, fixed, jax, shaped, torch

from minitorch_ciml.ops import losses, nn, normalization

PROBABILITY = Real(0.05, 0.95)


def _f(name):
    return f"nn.functional.{name}"


def _one(domain=REAL):
    return anyshape(domain)


_ACTIVATIONS = [
    Row(nn.relu, _one(Real(avoid=(0.0,))), torch="relu"),
    Row(nn.relu6, _one(Real(-8, 8, avoid=(0.0, 6.0))), torch=_f("relu6")),
    Row(
        nn.clipped_relu,
        _one(Real(avoid=(0.0, 0.7))),
        {"max_value": 0.7},
        torch=lambda x, max_value: torch.clamp(x, 0, max_value),
    ),
    Row(nn.leaky_relu, _one(Real(avoid=(0.0,))), {"negative_slope": 0.3}, torch=_f("leaky_relu")),
    Row(nn.leaky_relu, _one(), order=0, torch=lambda x: torch.nn.functional.leaky_relu(x, 0.2)),
    Row(nn.elu, _one(Real(avoid=(0.0,))), {"alpha": 1.3}, torch=_f("elu")),
    Row(
        nn.celu,
        _one(Real(avoid=(0.0,))),
        {"alpha": 1.3},
        # Not torch's own, whose gradient rounds alpha to float32, as hardsigmoid's does with 1 / 6.
        torch=lambda x, alpha: torch.where(x > 0, x, alpha * torch.expm1(x / alpha)),
    ),
    Row(nn.selu, _one(Real(avoid=(0.0,))), torch=_f("selu")),
    Row(nn.softplus, _one(Real(-30, 30)), torch=lambda x: torch.log1p(torch.exp(x))),
    Row(nn.softsign, _one(Real(avoid=(0.0,))), torch=_f("softsign")),
    Row(nn.sigmoid, _one(Real(-30, 30)), torch="sigmoid"),
    Row(nn.log_sigmoid, _one(Real(-30, 30)), torch=_f("logsigmoid")),
    Row(nn.silu, _one(), torch=_f("silu")),
    Row(nn.mish, _one(), torch=_f("mish")),
    Row(nn.gelu, _one(), torch=lambda x: torch.nn.functional.gelu(x, approximate="tanh")),
    Row(
        nn.gelu,
        _one(),
        {"approximate": False},
        torch=lambda x, approximate: torch.nn.functional.gelu(x),
    ),
    Row(
        nn.hard_sigmoid,
        _one(Real(-5, 5, avoid=(-3.0, 3.0))),
        torch=lambda x: torch.nn.functional.relu6(x + 3) / 6,
    ),
    Row(nn.hard_silu, _one(Real(-5, 5, avoid=(-3.0, 3.0))), torch=_f("hardswish")),
    Row(nn.hard_tanh, _one(Real(avoid=(-1.0, 1.0))), torch=_f("hardtanh")),
    Row(nn.tanh_shrink, _one(), torch=_f("tanhshrink")),
    Row(nn.hard_shrink, _one(Real(avoid=(-0.5, 0.5))), torch=_f("hardshrink")),
    Row(nn.soft_shrink, _one(Real(avoid=(-0.5, 0.5))), torch=_f("softshrink")),
    Row(
        nn.threshold,
        _one(Real(avoid=(0.4,))),
        {"threshold": 0.4, "default_value": -3.0},
        torch=lambda x, threshold, default_value: torch.nn.functional.threshold(
            x, threshold, default_value
        ),
    ),
    Row(nn.squareplus, _one(), {"b": 3}, jax=lambda x, b: jax.nn.squareplus(x, b)),
    Row(nn.sparse_plus, _one(Real(avoid=(-1.0, 1.0))), jax=lambda x: jax.nn.sparse_plus(x)),
    Row(nn.sparse_sigmoid, _one(Real(avoid=(-1.0, 1.0))), jax=lambda x: jax.nn.sparse_sigmoid(x)),
    Row(nn.glu, shaped(REAL, (3, 4)), torch=_f("glu")),
    Row(nn.glu, shaped(REAL, (4, 3)), {"axis": 0}, torch=lambda x, axis: _torch_glu(x, axis)),
]


def _torch_glu(x, axis):
    return torch.nn.functional.glu(x, dim=axis)


_ROWS = anyshape(REAL, min_ndim=1, min_size=1)
_SOFTMAX = [
    Row(nn.softmax, _ROWS, torch=lambda x: torch.softmax(x, -1)),
    Row(nn.softmax, shaped(REAL, (3, 4, 2)), {"axis": 1}, torch="softmax"),
    Row(nn.log_softmax, _ROWS, torch=lambda x: torch.log_softmax(x, -1)),
    Row(nn.log_softmax, shaped(REAL, (3, 4, 2)), {"axis": -2}, torch="log_softmax"),
    Row(
        nn.softmax,
        shaped(REAL, (2, 3, 4)),
        {"axis": (0, 2)},
        jax=lambda x, axis: jax.nn.softmax(x, axis),
    ),
    Row(nn.sparsemax, shaped(REAL, (3, 5)), numpy=lambda x: _simplex_projection(x)),
    Row(
        nn.sparsemax,
        shaped(REAL, (5, 2)),
        {"axis": 0},
        numpy=lambda x, axis: _simplex_projection(x.T).T,
    ),
]


def _simplex_projection(rows):
    """By bisection for the shift at which the positive parts sum to 1."""
    low, high = rows.min(-1, keepdims=True) - 1, rows.max(-1, keepdims=True)
    for _ in range(100):
        middle = (low + high) / 2
        above = np.maximum(rows - middle, 0).sum(-1, keepdims=True) > 1
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    return np.maximum(rows - middle, 0)


def _torch_dense(x, w, b, activation):
    z = x @ w + b
    return {"relu": torch.relu, "linear": lambda z: z, "tanh": torch.tanh}[activation](z)


_DENSE = [
    Row(nn.dense, shaped(REAL, (5, 4), (4, 3), (3,)), {"activation": "relu"}, torch=_torch_dense),
    Row(nn.dense, shaped(REAL, (5, 4), (4, 3), (3,)), {"activation": "linear"}, torch=_torch_dense),
    Row(
        nn.dense, shaped(REAL, (2, 3, 4), (4, 5), (5,)), {"activation": "relu"}, torch=_torch_dense
    ),
    Row(nn.dense, shaped(REAL, (4,), (4, 5), (5,)), {"activation": "linear"}, torch=_torch_dense),
    Row(nn.dense, shaped(REAL, (0, 4), (4, 5), (5,)), {"activation": "relu"}, torch=_torch_dense),
    Row(
        nn.dense,
        shaped(REAL, (33, 31), (31, 65), (65,)),
        {"activation": "relu"},
        torch=_torch_dense,
    ),
    Row(
        nn.dense,
        shaped(REAL, (3, 4), (4, 5), (5,)),
        call=lambda x, w, b: nn.dense(x, w, b, activation=nn.silu),
        torch=lambda x, w, b: torch.nn.functional.silu(x @ w + b),
    ),
    Row(nn.dense, shaped(REAL, (3, 4), (4, 5)), torch=lambda x, w: x @ w),
]

_CODES = [
    Row(
        nn.one_hot,
        anyshape(Integer(-1, 5)),
        {"num_classes": 5},
        jax=lambda x, num_classes: jax.nn.one_hot(x, num_classes),
        grad=False,
    ),
    Row(
        nn.one_hot,
        shaped(Integer(0, 3), (2, 3)),
        {"num_classes": 4, "axis": 1, "dtype": "int32"},
        jax=lambda x, num_classes, axis, dtype: jax.nn.one_hot(
            x, num_classes, axis=axis, dtype=dtype
        ),
        grad=False,
    ),
    Row(
        nn.multi_hot,
        shaped(Integer(0, 3), (5, 2)),
        {"num_classes": 4},
        jax=lambda x, num_classes: jax.nn.one_hot(x, num_classes).max(1),
        grad=False,
    ),
    Row(
        nn.multi_hot,
        shaped(Integer(0, 3), (2,)),
        {"num_classes": 4},
        jax=lambda x, num_classes: jax.nn.one_hot(x, num_classes).max(0),
        grad=False,
    ),
]


def _torch_log_p(output, from_logits, axis):
    if from_logits:
        return torch.log_softmax(output, axis)
    p = output / output.sum(axis, keepdim=True)
    return torch.log(torch.clip(p, 1e-7, 1 - 1e-7))


def _torch_categorical(target, output, from_logits=False, axis=-1):
    return -(target * _torch_log_p(output, from_logits, axis)).sum(axis)


def _torch_sparse(target, output, from_logits=False, axis=-1):
    log_p = _torch_log_p(output, from_logits, axis)
    return -torch.gather(log_p, axis, target.long().unsqueeze(axis)).squeeze(axis)


def _torch_binary(target, output, from_logits=False):
    if from_logits:
        return torch.nn.functional.binary_cross_entropy_with_logits(
            output, target, reduction="none"
        )
    p = torch.clip(output, 1e-7, 1 - 1e-7)
    return -(target * torch.log(p) + (1 - target) * torch.log(1 - p))


def _torch_squared(target, output):
    return torch.nn.functional.mse_loss(output, target, reduction="none").mean(-1)


_HARD = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.2, 0.3, 0.5], [0.0, 0.0, 0.0]])
_SURE = np.array([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.5, 0.5], [0.1, 0.2, 0.3]])
_LABELS = Integer(0, 3)
_LOSSES = [
    *(
        Row(function, shaped(domains, *shapes), {"from_logits": True, "axis": axis}, torch=peer)
        for function, peer, domains, shapes, axis in [
            (losses.categorical_crossentropy, _torch_categorical, REAL, ((5, 4), (5, 4)), -1),
            (losses.categorical_crossentropy, _torch_categorical, REAL, ((2, 4, 3),) * 2, 1),
            (losses.categorical_crossentropy, _torch_categorical, REAL, ((4,), (4,)), 0),
            (
                losses.sparse_categorical_crossentropy,
                _torch_sparse,
                (_LABELS, REAL),
                ((33,), (33, 4)),
                -1,
            ),
            (
                losses.sparse_categorical_crossentropy,
                _torch_sparse,
                (_LABELS, REAL),
                ((2, 3), (2, 4, 3)),
                1,
            ),
        ]
    ),
    *(
        Row(function, shaped(domains, *shapes), {"axis": axis}, torch=peer, integers=False)
        for function, peer, domains, shapes, axis in [
            (
                losses.categorical_crossentropy,
                _torch_categorical,
                PROBABILITY,
                ((5, 4), (5, 4)),
                -1,
            ),
            (
                losses.categorical_crossentropy,
                _torch_categorical,
                PROBABILITY,
                ((2, 4, 3), (2, 4, 3)),
                1,
            ),
            (
                losses.sparse_categorical_crossentropy,
                _torch_sparse,
                (_LABELS, PROBABILITY),
                ((2, 3), (2, 3, 4)),
                -1,
            ),
            (
                losses.sparse_categorical_crossentropy,
                _torch_sparse,
                (_LABELS, PROBABILITY),
                ((2, 3), (2, 4, 3)),
                -2,
            ),
        ]
    ),
    # Clipped probabilities: no derivative by differences at the border.
    Row(losses.categorical_crossentropy, fixed(_HARD, _SURE), torch=_torch_categorical, order=0),
    Row(
        losses.sparse_categorical_crossentropy,
        fixed(np.array([0, 1, 0, 2]), _SURE),
        torch=_torch_sparse,
        order=0,
    ),
    Row(losses.mean_squared_error, shaped(REAL, (5, 3), (5, 3)), torch=_torch_squared),
    Row(losses.mean_squared_error, shaped(REAL, (4, 1), (4, 1)), torch=_torch_squared),
    Row(
        losses.binary_crossentropy,
        shaped(PROBABILITY, (5, 1), (5, 1)),
        torch=_torch_binary,
        integers=False,
    ),
    Row(
        losses.binary_crossentropy,
        shaped((PROBABILITY, Real(-20, 20, avoid=(0.0,))), (5, 2), (5, 2)),
        {"from_logits": True},
        torch=_torch_binary,
        integers=False,
    ),
    Row(
        losses.binary_crossentropy,
        fixed(np.array([0.0, 1.0, 0.0, 1.0, 0.3]), np.array([0.0, 0.0, 1.0, 1.0, 0.5])),
        torch=_torch_binary,
        order=0,
        rtol32=0.02,  # in float32, 1 - 1e-7 is 1 - 1.2e-7
    ),
]


def _torch_batch(x, mean, variance, offset=None, scale=None, axis=-1, epsilon=1e-3):
    # By its formula: torch's own function has no gradient for the moments.
    y = (x.movedim(axis, -1) - mean) / torch.sqrt(variance + epsilon)
    y = y if scale is None else y * scale + offset
    return y.movedim(-1, axis)


def _torch_train(x, scale=None, offset=None, axis=-1, epsilon=1e-3):
    last = x.movedim(axis, 1)
    y = torch.nn.functional.batch_norm(last, None, None, scale, offset, training=True, eps=epsilon)
    return y.movedim(1, axis)


def _torch_relu(z, activation):
    return torch.relu(z) if activation == "relu" else torch.nn.functional.relu6(z)


def _train(*inputs, **params):
    """The result alone; the moments are constants (see `test_normalization.py`)."""
    return normalization.normalize_batch(*inputs, **params)[0]


def _torch_layer(x, gamma=None, beta=None, axis=-1, epsilon=1e-7):
    axes = axis if isinstance(axis, tuple) else (axis,)
    ends = tuple(range(-len(axes), 0))
    moved = x.movedim(axes, ends)
    y = torch.nn.functional.layer_norm(moved, moved.shape[-len(axes) :], gamma, beta, epsilon)
    return y.movedim(ends, axes)


def _torch_rms(x, scale=None, axis=-1, epsilon=1e-7):
    y = x * torch.rsqrt((x * x).mean(axis, keepdim=True) + epsilon)
    return y if scale is None else y * scale


def _torch_normalize(x, axis=-1, order=2):
    return torch.nn.functional.normalize(x, float(order), axis, 1e-7)


_five = (REAL, REAL, PROBABILITY, REAL, REAL)
_NORMALIZATION = [
    Row(
        normalization.batch_normalization,
        shaped(_five, (4, 3), (3,), (3,), (3,), (3,)),
        {"axis": -1},
        call=lambda x, m, v, o, s, axis: normalization.batch_normalization(x, m, v, axis, o, s),
        torch=_torch_batch,
        integers=False,
    ),
    Row(
        normalization.batch_normalization,
        shaped(_five, (2, 3, 4, 5), (3,), (3,), (3,), (3,)),
        {"axis": 1, "epsilon": 0.1},
        call=lambda x, m, v, o, s, axis, epsilon: normalization.batch_normalization(
            x, m, v, axis, o, s, epsilon
        ),
        torch=_torch_batch,
        integers=False,
    ),
    Row(
        normalization.batch_normalization,
        shaped(_five[:3], (4, 3), (3,), (3,)),
        {"axis": 1},
        torch=_torch_batch,
        integers=False,
    ),
    Row(
        normalization.normalize_batch,
        shaped(REAL, (5, 3), (3,), (3,)),
        call=_train,
        torch=_torch_train,
    ),
    Row(
        normalization.normalize_batch,
        shaped(REAL, (3, 2, 4, 5), (5,), (5,)),
        {"epsilon": 0.1},
        call=_train,
        torch=_torch_train,
    ),
    Row(
        normalization.normalize_batch,
        shaped(REAL, (3, 2, 4), (2,), (2,)),
        {"axis": 1},
        call=_train,
        torch=_torch_train,
    ),
    Row(normalization.normalize_batch, shaped(REAL, (33, 3)), call=_train, torch=_torch_train),
    *[
        Row(
            normalization.normalize_batch,
            shaped(REAL, (9, 3), (3,), (3,)),
            {"activation": activation},
            call=lambda x, s, o, activation: _train(2 * x, s, 5 * o, activation=activation),
            torch=lambda x, s, o, activation: _torch_relu(
                _torch_train(2 * x, s, 5 * o), activation
            ),
        )
        for activation in ("relu", "relu6")
    ],
    *[
        Row(
            normalization.batch_normalization,
            shaped(_five, (4, 2, 3), (2,), (2,), (2,), (2,)),
            {"axis": 1, "activation": activation},
            call=lambda x, m, v, o, s, axis, activation: normalization.batch_normalization(
                x, m, v, axis, 5 * o, s, activation=activation
            ),
            torch=lambda x, m, v, o, s, axis, activation: _torch_relu(
                _torch_batch(x, m, v, 5 * o, s, axis), activation
            ),
            integers=False,
        )
        for activation in ("relu", "relu6")
    ],
    Row(normalization.layer_normalization, shaped(REAL, (4, 5), (5,), (5,)), torch=_torch_layer),
    Row(
        normalization.layer_normalization,
        shaped(REAL, (2, 3, 33), (33,), (33,)),
        {"epsilon": 0.01},
        torch=_torch_layer,
    ),
    Row(
        normalization.layer_normalization,
        shaped(REAL, (2, 3, 4), (3, 4), (3, 4)),
        {"axis": (1, 2)},
        torch=_torch_layer,
    ),
    Row(
        normalization.layer_normalization,
        shaped(REAL, (2, 3, 4), (3,), (3,)),
        {"axis": 1},
        torch=_torch_layer,
    ),
    Row(normalization.layer_normalization, shaped(REAL, (4, 5)), torch=_torch_layer),
    Row(normalization.rms_normalization, shaped(REAL, (4, 5), (5,)), torch=_torch_rms),
    Row(normalization.rms_normalization, shaped(REAL, (4, 5)), {"axis": 0}, torch=_torch_rms),
    Row(
        normalization.rms_normalization,
        shaped(REAL, (2, 3, 4), (2, 3)),
        {"axis": (0, 1)},
        torch=lambda x, scale, axis: _torch_rms(x, scale[..., None], axis),
    ),
    Row(normalization.normalize, shaped(REAL, (4, 5)), torch=_torch_normalize),
    Row(
        normalization.normalize,
        shaped(NONZERO, (4, 5)),
        {"axis": 0, "order": 1},
        torch=_torch_normalize,
    ),
]

ROWS = _NORMALIZATION + _ACTIVATIONS + _SOFTMAX + _DENSE + _CODES + _LOSSES
