"""LoRA: fine-tuning a large matrix by a product of two narrow ones (E. Hu et al., 2021)."""

from __future__ import annotations

from typing import Any

from minitorch_ciml import ops
from minitorch_ciml.config import no_grad
from minitorch_ciml.keras.layers.kernel_layer import positive
from minitorch_ciml.keras.layers.layer import Layer
from minitorch_ciml.keras.serialization import get


class LowRank(Layer):
    """A base for layers with a large matrix W (..., I, O) that can be fine-tuned at low rank.

    After `enable_lora(rank)` the layer computes with W + alpha / rank A B. W is not trained any
    more, but A (..., I, rank) and B (rank, O) are, and whatever else the layer has. B begins as 0,
    so at first nothing changes. Files hold the sum, as a layer without LoRA would write it; a layer
    that loads it goes on with B = 0.
    """

    adapted: str  # the attribute that a subclass has for `_whole_matrix`: "kernel" or "embeddings"
    lora_enabled = False
    lora_rank: int | None
    lora_alpha: float | None
    _plain_matrix: Any = None  # W

    @property
    def _whole_matrix(self) -> Any:
        """W, or W + alpha / rank A B."""
        if self._plain_matrix is None:
            raise AttributeError(
                f"layer {self.name!r} has no {self.adapted!r} yet: call it on data, or build it."
            )
        if not self.lora_enabled:
            return self._plain_matrix
        a, b = self._lora_factors
        return self._float_matrix() + ops.matmul(a, b) * self._lora_scale

    @_whole_matrix.setter
    def _whole_matrix(self, matrix: Any) -> None:
        self._plain_matrix = matrix

    def _float_matrix(self) -> Any:
        """W."""
        return self._plain_matrix

    @property
    def _lora_factors(self) -> tuple[Any, Any]:
        """A and B."""
        return getattr(self, f"lora_{self.adapted}_a"), getattr(self, f"lora_{self.adapted}_b")

    @property
    def _lora_scale(self) -> float:
        """alpha / rank."""
        return self.lora_alpha / self.lora_rank  # type: ignore[operator]

    def _set_up_lora(self, rank: int | None, alpha: float | None) -> None:
        """The end of `__init__`."""
        self.lora_rank = None if rank is None else self._checked(rank)
        self.lora_alpha = rank if alpha is None else alpha

    def _enable_lora_if_asked(self) -> None:
        """The end of `build`."""
        self.built = True
        if self.lora_rank:
            self.enable_lora(self.lora_rank, self.lora_alpha)

    def _checked(self, rank: Any) -> int:
        if getattr(self, f"{self.adapted}_constraint") is not None:
            raise ValueError(
                f"layer {self.name!r}: LoRA does not go together with {self.adapted}_constraint, "
                "because the matrix that it would hold for is not a weight."
            )
        return positive(type(self).__name__, "lora_rank", rank)

    def enable_lora(
        self,
        rank: int,
        lora_alpha: float | None = None,
        a_initializer: Any = "he_uniform",
        b_initializer: Any = "zeros",
    ) -> None:
        """From now on the matrix is fine-tuned by A B; compile the model after this.

        Args:
            rank: the columns of A, and rows of B: much fewer than those of the matrix.
            lora_alpha: alpha; `rank` if left out.
            a_initializer, b_initializer: of A and B, which are float32.

        Raises:
            ValueError: the layer is not built, has LoRA already, or a constraint for the matrix.
        """
        if not self.built:
            raise ValueError(
                f"enable_lora: layer {self.name!r} is not built: call it on data, or build it."
            )
        if self.lora_enabled:
            raise ValueError(f"enable_lora: layer {self.name!r} has LoRA already.")
        rank = self._checked(rank)
        shape = self._plain_matrix.shape
        for name, size, initializer in (
            (f"lora_{self.adapted}_a", (*shape[:-1], rank), a_initializer),
            (f"lora_{self.adapted}_b", (rank, shape[-1]), b_initializer),
        ):
            weight = self.add_weight(
                size, get("keras.initializers", initializer, "initializer"), "float32",
                regularizer=getattr(self, f"{self.adapted}_regularizer"), name=name,
            )  # fmt: skip
            setattr(self, name, weight)
        self._plain_matrix.trainable = False
        self.lora_rank, self.lora_alpha = rank, rank if lora_alpha is None else lora_alpha
        self.lora_enabled = True

    def _own_weights(self) -> list:
        """Those that files hold: not A and B."""
        update = self._lora_factors if self.lora_enabled else ()
        return [w for w in super()._own_weights() if all(w is not x for x in update)]

    def save_own_variables(self, store: Any) -> None:
        super().save_own_variables(store)
        if self.lora_enabled:
            store["0"] = self._whole_matrix.numpy()

    def load_own_variables(self, store: Any) -> None:
        super().load_own_variables(store)
        if self.lora_enabled:
            with no_grad():
                b = self._lora_factors[1]
                b.assign(ops.zeros(b.shape))

    def get_config(self) -> dict:
        config = super().get_config()
        if not self.lora_rank:
            del config["lora_rank"], config["lora_alpha"]
        return config
