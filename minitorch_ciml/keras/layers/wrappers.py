"""Layers around a layer."""

from __future__ import annotations

from typing import Any

from minitorch_ciml import ops
from minitorch_ciml.config import no_grad
from minitorch_ciml.keras.initializers import TruncatedNormal
from minitorch_ciml.keras.layers.layer import Layer
from minitorch_ciml.keras.serialization import serializable


@serializable("keras.layers")
class Wrapper(Layer):
    """The base of layers around a layer.

    Args:
        layer: the layer inside; a subclass calls it.
    """

    def __init__(self, layer: Any, **kwargs: Any):
        if not isinstance(layer, Layer):
            raise ValueError(
                f"{type(self).__name__}: expected a layer, got {type(layer).__name__}."
            )
        super().__init__(**kwargs)
        self.layer = layer

    def build(self, input_shape: Any = None) -> None:
        if not self.layer.built:
            self.layer.build(input_shape)


@serializable("keras.layers")
class SpectralNormalization(Wrapper):
    """A layer whose kernel is divided by its largest singular value (Miyato et al., 2018).

    In training, before every step; the kernel W is seen as a matrix with its last axis as columns,
    and its singular value is approximated by power iterations u <- W v / |W v|, v <- W^T u / |...|.

    Args:
        layer: a layer with a `kernel` (or `embeddings`).
        power_iterations: how many of them in each step; the vector stays from step to step.
    """

    def __init__(self, layer: Any, power_iterations: int = 1, **kwargs: Any):
        super().__init__(layer, **kwargs)
        if power_iterations < 1:
            raise ValueError(
                f"SpectralNormalization: power_iterations must be at least 1, got "
                f"{power_iterations}."
            )
        self.power_iterations = power_iterations

    def build(self, input_shape: Any = None) -> None:
        super().build(input_shape)
        names = [name for name in ("kernel", "embeddings") if hasattr(self.layer, name)]
        if not names:
            raise ValueError(
                f"SpectralNormalization: {type(self.layer).__name__} has neither `kernel` nor "
                "`embeddings`."
            )
        self.kernel = getattr(self.layer, names[0])
        self.vector_u = self.add_weight(
            (1, self.kernel.shape[-1]), TruncatedNormal(stddev=0.02), trainable=False,
            name="vector_u",
        )  # fmt: skip

    def call(self, inputs: Any, training: bool = False) -> Any:
        if training:
            self._normalize()
        return self.layer(inputs)

    def _normalize(self) -> None:
        with no_grad():
            matrix = ops.reshape(self.kernel, (-1, self.kernel.shape[-1]))
            u: Any = self.vector_u
            for _ in range(self.power_iterations):
                v = _of_length_1(u @ ops.transpose(matrix))
                u = _of_length_1(v @ matrix)
            sigma = float(ops.sum(v @ matrix * u))
            if sigma:  # a kernel of zeros stays
                self.vector_u.assign(u)
                self.kernel.assign(self.kernel / sigma)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return self.layer.compute_output_shape(input_shape)


def _of_length_1(x: Any) -> Any:
    return x / ops.maximum(ops.sqrt(ops.sum(x * x)), 1e-12)
