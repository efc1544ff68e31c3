"""Attention whose heads share keys and values in groups."""

from __future__ import annotations

from typing import Any

from minitorch_ciml import ops
from minitorch_ciml.keras.layers.attention import (
    ProjectedAttention,
    all_masks,
    mixed,
    window_mask,
)
from minitorch_ciml.keras.layers.einsum_dense import EinsumDense
from minitorch_ciml.keras.layers.kernel_layer import positive
from minitorch_ciml.keras.serialization import serializable


@serializable("keras.layers", "GroupQueryAttention")
class GroupedQueryAttention(ProjectedAttention):
    """Multi-head attention with fewer heads for keys and values than for queries.

    Head i of the U heads of the query looks at head i // (U / V) of the V keys and values
    (Ainslie et al. 2023). query (N, T, D), value and key (N, S, E) -> (N, T, D).

    Args:
        head_dim: the size of one head.
        num_query_heads: U, a multiple of V.
        num_key_value_heads: V; 1 is multi-query attention.
        dropout: in training, the share of attention weights set to 0.
        use_bias: whether the dense layers have biases.
        sliding_window: how far a step may look: at those less than so many steps away.
        flash_attention: accepted as in Keras, without effect.
        kernel_initializer, ...: of the dense layers.
        use_gate: multiply the heads' results with the sigmoid of one more dense layer of the query.
        seed: an integer that fixes the dropout.

    Call arguments: those of `MultiHeadAttention`.
    """

    serialized_as = ("keras.layers", "GroupQueryAttention")

    def __init__(
        self,
        head_dim: int,
        num_query_heads: int,
        num_key_value_heads: int,
        dropout: float = 0.0,
        use_bias: bool = True,
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
        name = "GroupQueryAttention"
        self.head_dim = positive(name, "head_dim", head_dim)
        self.num_query_heads = positive(name, "num_query_heads", num_query_heads)
        self.num_key_value_heads = positive(name, "num_key_value_heads", num_key_value_heads)
        if num_query_heads % num_key_value_heads:
            raise ValueError(
                f"{name}: num_query_heads ({num_query_heads}) must be a multiple of "
                f"num_key_value_heads ({num_key_value_heads})."
            )
        self._set_up(
            dropout, use_bias, sliding_window, kernel_initializer, bias_initializer,
            kernel_regularizer, bias_regularizer, kernel_constraint, bias_constraint, use_gate,
            seed,
        )  # fmt: skip

    def build(  # type: ignore[override]
        self, query_shape: tuple, value_shape: tuple, key_shape: Any = None
    ) -> None:
        heads, shared, size = self.num_query_heads, self.num_key_value_heads, self.head_dim
        self._query_dense = self._heads("query", "bqm,muh->bquh", heads)
        self._key_dense = self._heads("key", "bkm,mvh->bkvh", shared)
        if self.use_gate:
            self._gate_dense = self._heads("gate", "bqm,muh->bquh", heads, "sigmoid")
            self._gate_dense.build(tuple(query_shape))
        self._value_dense = self._heads("value", "bkm,mvh->bkvh", shared)
        self._query_dense.build(tuple(query_shape))
        self._key_dense.build(tuple(value_shape if key_shape is None else key_shape))
        self._value_dense.build(tuple(value_shape))
        self._output_dense = self._dense(
            "attention_output", "bquh,uhm->bqm", (None, query_shape[-1]), "m"
        )
        self._output_dense.build((None, None, heads, size))

    def _heads(self, name: str, equation: str, heads: int, activation: Any = None) -> EinsumDense:
        """A dense layer to so many heads."""
        axes = equation[-2:]
        return self._dense(name, equation, (None, heads, self.head_dim), axes, activation)

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
        repeats = self.num_query_heads // self.num_key_value_heads
        q = self._query_dense(query)
        k = ops.repeat(self._key_dense(value if key is None else key), repeats, axis=2)
        v = ops.repeat(self._value_dense(value), repeats, axis=2)
        window = window_mask(query, value, self.sliding_window)
        mask = all_masks(query_mask, value_mask, key_mask, attention_mask, window)
        if mask is not None and mask.ndim == 3:
            mask = mask[:, None]  # for all heads
        dropout = self.dropout if training else 0.0
        y, shares = mixed(
            q, k, v, mask, use_causal_mask, return_attention_scores, dropout, self.seed_generator
        )
        if self.use_gate:
            y = y * self._gate_dense(query)
        y = self._output_dense(y)
        return (y, shares) if return_attention_scores else y

    def compute_output_shape(
        self, query_shape: tuple, value_shape: Any = None, key_shape: Any = None
    ) -> tuple:
        return tuple(query_shape)


GroupQueryAttention = GroupedQueryAttention  # the name that Keras shows
