"""Attention layers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minitorch_ciml import ops
from minitorch_ciml.autograd.arithmetic import tanh
from minitorch_ciml.autograd.tensor import as_booleans
from minitorch_ciml.keras.layers.einsum_dense import EinsumDense
from minitorch_ciml.keras.layers.kernel_layer import positive
from minitorch_ciml.keras.layers.layer import Layer
from minitorch_ciml.keras.serialization import get, serializable
from minitorch_ciml.keras.symbolic import infer_outputs
from minitorch_ciml.ops import random
from minitorch_ciml.ops.attention import attention_scores, combined_mask, masked_softmax, mix

_LETTERS = "abcdefghijklmnopqrstuvwxyz"


class ProjectedAttention(Layer):
    """A base: attention between dense layers of the query, the key and the value."""

    supports_masking = True

    def _set_up(
        self,
        dropout: float,
        use_bias: bool,
        sliding_window: int | None,
        kernel_initializer: Any,
        bias_initializer: Any,
        kernel_regularizer: Any,
        bias_regularizer: Any,
        kernel_constraint: Any,
        bias_constraint: Any,
        use_gate: bool,
        seed: int | None,
    ) -> None:
        self.dropout = dropout
        self.use_bias = use_bias
        self.use_gate = use_gate
        self.sliding_window = checked_window(type(self).__name__, sliding_window)
        self.kernel_initializer = get("keras.initializers", kernel_initializer, "initializer")
        self.bias_initializer = get("keras.initializers", bias_initializer, "initializer")
        self.kernel_regularizer = get("keras.regularizers", kernel_regularizer, "regularizer")
        self.bias_regularizer = get("keras.regularizers", bias_regularizer, "regularizer")
        self.kernel_constraint = get("keras.constraints", kernel_constraint, "constraint")
        self.bias_constraint = get("keras.constraints", bias_constraint, "constraint")
        self.seed = seed
        self.seed_generator = random.SeedGenerator(random.draw_seed() if seed is None else seed)

    def _dense(
        self, name: str, equation: str, outputs: tuple, bias_axes: str, activation: Any = None
    ) -> EinsumDense:
        dense = EinsumDense(
            equation,
            output_shape=outputs,
            activation=activation,
            bias_axes=bias_axes if self.use_bias else None,
            kernel_initializer=copied(self.kernel_initializer),
            bias_initializer=copied(self.bias_initializer),
            kernel_regularizer=self.kernel_regularizer,
            bias_regularizer=self.bias_regularizer,
            activity_regularizer=self.activity_regularizer,
            kernel_constraint=self.kernel_constraint,
            bias_constraint=self.bias_constraint,
            name=name,
            dtype=self.dtype_policy,
        )
        dense.supports_masking = True  # it loses none: the attention heeds them
        return dense

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        return infer_outputs(self.call, args, {**kwargs, "training": False})

    def get_config(self) -> dict:
        config = super().get_config()
        del config["flash_attention"]
        return config


@serializable("keras.layers")
class MultiHeadAttention(ProjectedAttention):
    """softmax(q k^T / sqrt(key_dim)) v for several heads at once (Vaswani et al. 2017).

    q, k and v are dense layers of query (N, T, D), key and value (N, S, E), for every head, and the
    heads' results go through another one: y (N, T, output_shape), the query's size if left out.

    Args:
        num_heads: the number of heads.
        key_dim: the size of q and k for one head.
        value_dim: the size of v for one head; key_dim if left out.
        dropout: in training, the share of attention weights set to 0.
        use_bias: whether the dense layers have biases.
        output_shape: the size of the result: a number or several.
        attention_axes: the axes of the steps; all but the first and the last if left out.
        sliding_window: how far a step may look: at those less than so many steps away.
        use_gate: multiply the heads' results with the sigmoid of one more dense layer of the query.
        flash_attention: accepted as in Keras, without effect.
        kernel_initializer, ...: of the dense layers.
        seed: an integer that fixes the dropout.

    Call arguments:
        query, value, key: key is value if left out.
        query_mask, value_mask, key_mask: booleans (N, T), (N, S), (N, S): which steps count.
        attention_mask: booleans (N, T, S): where a step may look.
        return_attention_scores: give (y, the attention weights (N, heads, T, S)).
        use_causal_mask: no step looks at later ones.
    """

    def __init__(
        self,
        num_heads: int,
        key_dim: int,
        value_dim: int | None = None,
        dropout: float = 0.0,
        use_bias: bool = True,
        output_shape: Any = None,
        attention_axes: Any = None,
        sliding_window: int | None = None,
        flash_attention: bool | None = None,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        use_gate: bool = False,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self.num_heads = positive("MultiHeadAttention", "num_heads", num_heads)
        self.key_dim = positive("MultiHeadAttention", "key_dim", key_dim)
        self.value_dim = positive("MultiHeadAttention", "value_dim", value_dim or key_dim)
        self.output_shape = (output_shape,) if isinstance(output_shape, int) else output_shape
        axes = attention_axes
        self.attention_axes = (axes,) if isinstance(axes, int) else axes and tuple(axes)
        self._set_up(
            dropout, use_bias, sliding_window, kernel_initializer, bias_initializer,
            kernel_regularizer, bias_regularizer, kernel_constraint, bias_constraint, use_gate,
            seed,
        )  # fmt: skip
        self._shapes: dict[str, tuple] = {}

    # --- weights --------------------------------------------------------------------------------

    def build(  # type: ignore[override]
        self, query_shape: tuple, value_shape: tuple, key_shape: Any = None
    ) -> None:
        self._shapes = {"query_shape": tuple(query_shape), "value_shape": tuple(value_shape)}
        if key_shape is not None:
            self._shapes["key_shape"] = tuple(key_shape)
        ndim = len(query_shape)
        if ndim < 3:
            raise ValueError(
                f"layer {self.name!r} (MultiHeadAttention) expects sequences (N, T, D), got a "
                f"query of shape {tuple(query_shape)}."
            )
        if self.attention_axes is None:
            self.attention_axes = tuple(range(1, ndim - 1))
        self.attention_axes = tuple(a % ndim for a in self.attention_axes)
        heads = self.num_heads
        self.query_dense = self._projection("query", ndim, (heads, self.key_dim))
        self.key_dense = self._projection("key", ndim, (heads, self.key_dim))
        if self.use_gate:
            self._gate_dense = self._projection("gate", ndim, (heads, self.value_dim), "sigmoid")
            self._gate_dense.build(tuple(query_shape))
        self.value_dense = self._projection("value", ndim, (heads, self.value_dim))
        outputs = tuple(self.output_shape or query_shape[-1:])
        self.output_dense = self._projection("attention_output", ndim, outputs, None, summed=2)
        self.output_dense.activity_regularizer = None  # its output is that of this layer
        self.query_dense.build(tuple(query_shape))
        self.key_dense.build(tuple(value_shape if key_shape is None else key_shape))
        self.value_dense.build(tuple(value_shape))
        self.output_dense.build((*query_shape[:-1], heads, self.value_dim))

    def _projection(
        self, name: str, ndim: int, outputs: tuple, activation: Any = None, summed: int = 1
    ) -> EinsumDense:
        """A dense layer from the last `summed` axes to `outputs`."""
        kept, rest = _LETTERS[: ndim - 1], _LETTERS[ndim - 1 :]
        inputs, results = rest[:summed], rest[summed : summed + len(outputs)]
        equation = f"{kept}{inputs},{inputs}{results}->{kept}{results}"
        return self._dense(name, equation, (None,) * (ndim - 2) + outputs, results, activation)

    def _build_for(self, args: tuple, kwargs: dict) -> None:
        self.build(*(x.shape for x in args if x is not None))
        self.built = True

    def get_build_config(self) -> dict | None:
        shapes = {name: list(shape) for name, shape in self._shapes.items()}
        return {"shapes_dict": shapes} if shapes else None

    def build_from_config(self, config: dict) -> None:
        shapes = config.get("shapes_dict") or config
        if shapes.get("query_shape"):
            self.build(**{name: tuple(shape) for name, shape in shapes.items()})

    # --- calling --------------------------------------------------------------------------------

    def __call__(self, query: Any, value: Any, key: Any = None, **kwargs: Any) -> Any:
        inputs = (query, value) if key is None else (query, value, key)
        return super().__call__(*inputs, **kwargs)

    def call(
        self,
        query: Any,
        value: Any,
        key: Any = None,
        query_mask: Any = None,
        value_mask: Any = None,
        key_mask: Any = None,
        attention_mask: Any = None,
        return_attention_scores: bool = False,
        training: bool | None = None,
        use_causal_mask: bool = False,
    ) -> Any:
        q = self.query_dense(query)
        k = self.key_dense(value if key is None else key)
        v = self.value_dense(value)
        window = window_mask(query, value, self.sliding_window)
        mask = all_masks(query_mask, value_mask, key_mask, attention_mask, window)
        y, shares = self._attend(
            q, k, v, mask, use_causal_mask, return_attention_scores, bool(training)
        )
        if self.use_gate:
            y = y * self._gate_dense(query)
        y = self.output_dense(y)
        return (y, shares) if return_attention_scores else y

    def _attend(self, q, k, v, mask, causal, with_scores, training):  # type: ignore[no-untyped-def]
        """Attention between the steps along `attention_axes`, for each place on the others."""
        axes = self.attention_axes
        others = [a for a in range(q.ndim - 2) if a not in axes]
        order = [*others, *axes, q.ndim - 2, q.ndim - 1]
        batch = tuple(q.shape[a] for a in others)
        targets, sources = (tuple(x.shape[a] for a in axes) for x in (q, k))
        heads = q.shape[-2]

        def steps_in_a_row(x):  # type: ignore[no-untyped-def]
            if x.ndim == 4:
                return x
            x = ops.transpose(x, order)
            size = math.prod(x.shape[len(batch) : -2])
            return ops.reshape(x, (math.prod(batch), size, *x.shape[-2:]))

        q, k, v = map(steps_in_a_row, (q, k, v))
        if mask is not None:
            mask = _flat_mask(mask, batch, heads, targets, sources)
        dropout = self.dropout if training else 0.0
        y, shares = mixed(q, k, v, mask, causal, with_scores, dropout, self.seed_generator)
        if len(order) > 4:
            y = ops.reshape(y, (*batch, *targets, *y.shape[-2:]))
            y = ops.transpose(y, [order.index(a) for a in range(len(order))])
        if shares is not None:
            shares = ops.reshape(shares, (*batch, heads, *targets, *sources))
        return y, shares

    def compute_output_shape(
        self, query_shape: tuple, value_shape: Any = None, key_shape: Any = None
    ) -> tuple:
        return (*query_shape[:-1], *(self.output_shape or query_shape[-1:]))


def mixed(
    q: Any, k: Any, v: Any, mask: Any, causal: bool, with_scores: bool, dropout: float, seed: Any
) -> tuple[Any, Any]:
    """The values v (N, S, H, E) mixed for each query q (N, T, H, D), and the shares if wanted."""
    if not dropout and not with_scores:
        return ops.dot_product_attention(q, k, v, mask=mask, is_causal=causal), None
    scores = attention_scores(q, k, 1 / math.sqrt(q.shape[-1]))
    shares = masked_softmax(scores, combined_mask(mask, causal, scores.shape))
    used = random.dropout(shares, dropout, seed=seed) if dropout else shares
    return mix(used, v), shares


def checked_window(layer: str, size: int | None) -> int | None:
    """`sliding_window`, if it is None or a positive number."""
    return None if size is None else positive(layer, "sliding_window", size)


def window_mask(query: Any, value: Any, size: int | None) -> Any:
    """True where a step of the value is less than `size` steps away: (1, T, S), or None."""
    if size is None:
        return None
    rows, columns = np.arange(query.shape[1])[:, None], np.arange(value.shape[1])
    return (abs(rows - columns) < size)[None]


def copied(initializer: Any) -> Any:
    """Another initializer like this one: each weight draws its own numbers."""
    return initializer.clone() if hasattr(initializer, "clone") else initializer


def all_masks(
    query_mask: Any, value_mask: Any, key_mask: Any, attention_mask: Any, window: Any
) -> Any:
    """Where a step may look, (N, T, S), or None for everywhere."""
    masks = []
    if query_mask is not None:
        masks.append(as_booleans(query_mask)[:, :, None])
    for mask in (value_mask, key_mask):
        if mask is not None:
            masks.append(as_booleans(mask)[:, None, :])
    masks += [as_booleans(mask) for mask in (attention_mask, window) if mask is not None]
    allowed = None
    for mask in masks:
        allowed = mask if allowed is None else allowed & mask
    return allowed


def _flat_mask(mask: Any, batch: tuple, heads: int, targets: tuple, sources: tuple) -> Any:
    """A mask (..., *T, *S) or (..., heads, *T, *S) for (batch, heads, T, S), each one axis."""
    steps = len(targets) + len(sources)
    missing = len(batch) + 1 + steps - mask.ndim
    if missing > 0:  # the heads, and what else stands before the steps
        front = mask.shape[: mask.ndim - steps]
        mask = mask.reshape(*front, *[1] * missing, *mask.shape[mask.ndim - steps :])
    shape = (*batch, mask.shape[len(batch)], *targets, *sources)
    if any(n not in (1, m) for n, m in zip(mask.shape, shape)):
        raise ValueError(
            f"MultiHeadAttention: the mask has shape {mask.shape}, which does not broadcast to "
            f"{(*batch, heads, *targets, *sources)}."
        )
    if len(shape) == 4:  # the kernels read an axis of size 1 again and again
        return mask
    mask = ops.broadcast_to(mask, shape)
    return mask.reshape(math.prod(batch), shape[len(batch)], math.prod(targets), math.prod(sources))


class _PlainAttention(Layer):
    """A base: weights from `scores(query, key)`, for inputs [query, value] or with a key."""

    def __init__(self, dropout: float = 0.0, seed: int | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.dropout = dropout
        self.seed = seed
        self.seed_generator = random.SeedGenerator(random.draw_seed() if seed is None else seed)

    def scores(self, query: Any, key: Any) -> Any:
        """How well every step of the query and of the key fit: (N, T, S)."""
        raise NotImplementedError

    def call(
        self,
        inputs: Any,
        mask: Any = None,
        training: bool = False,
        return_attention_scores: bool = False,
        use_causal_mask: bool = False,
    ) -> Any:
        query, value, key = self._three(inputs)
        query_mask, value_mask = (list(mask) + [None])[:2] if mask is not None else (None, None)
        scores = self.scores(query, key)
        allowed = None
        if value_mask is not None:
            allowed = as_booleans(value_mask)[:, None, :]
        if use_causal_mask:
            causal = np.tri(*scores.shape[-2:], dtype=np.bool_)
            allowed = causal if allowed is None else allowed & causal
        if allowed is not None:
            # A step that may look nowhere looks everywhere: the same number changes no weight.
            lowest = 65504.0 if scores.dtype == "float16" else 1e9
            scores = ops.where(allowed, scores, scores - lowest)
        shares = ops.softmax(scores)
        used = shares
        if training and self.dropout > 0:
            used = random.dropout(shares, self.dropout, seed=self.seed_generator)
        y = ops.matmul(used, value)
        if query_mask is not None:
            y = y * as_booleans(query_mask).astype(y.dtype)[:, :, None]
        return (y, shares) if return_attention_scores else y

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        return None if mask is None else mask[0]

    def _three(self, inputs: Any) -> tuple:
        if not isinstance(inputs, (list, tuple)) or len(inputs) not in (2, 3):
            count = len(inputs) if isinstance(inputs, (list, tuple)) else 1
            raise ValueError(
                f"{type(self).__name__} takes [query, value] or [query, value, key], got {count} "
                "input(s)."
            )
        query, value, *key = inputs
        return query, value, key[0] if key else value

    def compute_output_shape(self, input_shape: Any) -> tuple:
        return (*input_shape[0][:-1], input_shape[1][-1])

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        return infer_outputs(self.call, args, {**kwargs, "training": False})


@serializable("keras.layers")
class Attention(_PlainAttention):
    """softmax(q k^T) v, for inputs [q (N, T, D), v (N, S, D)] or with k (Luong et al. 2015).

    Args:
        use_scale: multiply the scores with a weight.
        score_mode: "dot", or "concat" for a weight times the sum of tanh(q + k).
        dropout: in training, the share of attention weights set to 0.
        seed: an integer that fixes the dropout.

    Call arguments:
        mask: a list [query_mask, value_mask] of booleans (N, T) and (N, S), or None.
        return_attention_scores: give (y, the attention weights (N, T, S)).
        use_causal_mask: no step looks at later ones.
    """

    def __init__(
        self,
        use_scale: bool = False,
        score_mode: str = "dot",
        dropout: float = 0.0,
        seed: int | None = None,
        **kwargs: Any,
    ):
        if score_mode not in ("dot", "concat"):
            raise ValueError(
                f"Attention: got score_mode={score_mode!r}, expected 'dot' or 'concat'."
            )
        super().__init__(dropout, seed, **kwargs)
        self.use_scale = use_scale
        self.score_mode = score_mode

    def build(self, input_shape: Any) -> None:
        self.scale = self.concat_score_weight = None
        if self.use_scale:
            self.scale = self.add_weight((), "ones", name="scale")
        if self.score_mode == "concat":
            self.concat_score_weight = self.add_weight((), "ones", name="concat_score_weight")

    def scores(self, query: Any, key: Any) -> Any:
        if self.score_mode == "dot":
            scores = ops.matmul(query, ops.swapaxes(key, -1, -2))
            return scores if self.scale is None else scores * self.scale
        pairs = ops.expand_dims(query, -2) + ops.expand_dims(key, -3)
        pairs = pairs if self.scale is None else pairs * self.scale
        return ops.sum(tanh(pairs), -1) * self.concat_score_weight


@serializable("keras.layers")
class AdditiveAttention(_PlainAttention):
    """softmax(sum of scale tanh(q + k)) v, for inputs [q (N, T, D), v (N, S, D)] or with k.

    (Bahdanau et al. 2015.)

    Args:
        use_scale: whether there is a weight `scale` (D,); otherwise 1.
        dropout: in training, the share of attention weights set to 0.
        seed: an integer that fixes the dropout.

    Call arguments:
        mask, return_attention_scores, use_causal_mask: see `Attention`.
    """

    def __init__(
        self, use_scale: bool = True, dropout: float = 0.0, seed: int | None = None, **kwargs: Any
    ):
        super().__init__(dropout, seed, **kwargs)
        self.use_scale = use_scale

    def build(self, input_shape: Any) -> None:
        self.scale = None
        if self.use_scale:
            self.scale = self.add_weight(input_shape[0][-1:], "glorot_uniform", name="scale")

    def scores(self, query: Any, key: Any) -> Any:
        fits = tanh(ops.expand_dims(query, -2) + ops.expand_dims(key, -3))
        return ops.sum(fits if self.scale is None else fits * self.scale, -1)
