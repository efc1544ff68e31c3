"""Matrices of 8-bit integers: `layer.quantize("int8")`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minitorch_ciml import ops
from minitorch_ciml.keras import changes, dtype_policies, quantizers
from minitorch_ciml.keras.layers.low_rank import LowRank
from minitorch_ciml.keras.ops.control import custom_gradient

# Sums of products of two integers up to 127 are exact in float32 as far as this.
_EXACT_IN_FLOAT32 = 2**24 // 127**2


class Quantized(LowRank):
    """A base for layers with a matrix W that can be rounded to 8 bits.

    After `quantize("int8")` there are integers W' = round(s W) in its place, with a scale
    s = 127 / max |W| for every output. What comes in is rounded alike, x' = round(t x), with a t
    for every sample; then x' W' / (s t) is nearly x W. The integers are not trained; gradients go
    to the inputs as if W' / s were W. This saves memory, and no time.
    """

    quantizes = False  # a class says so for itself: what is made from it may compute otherwise
    quantized = False
    quantization_config: Any

    def _summed_axes(self) -> Any:
        """The axes of the matrix over which products are summed: s does not vary along them."""
        raise NotImplementedError

    def _arranged(self, scale: np.ndarray) -> np.ndarray:
        """s, from what has the axes of the matrix without the summed ones."""
        return scale

    @property
    def _scale(self) -> Any:
        """s."""
        return getattr(self, f"{self.adapted}_scale")

    def _make_matrix(self, shape: tuple, make: Callable) -> Any:
        """The matrix, in `build`: `make()`, or integers, which are 0 until a file gives others."""
        if self.dtype_policy.quantization_mode is None:
            return make()
        matrix = self.add_weight(shape, "zeros", "int8", trainable=False, name=self.adapted)
        scale = self._arranged(np.max(np.ones(shape), axis=self._summed_axes()))
        name = f"{self.adapted}_scale"
        setattr(self, name, self.add_weight(scale.shape, "ones", trainable=False, name=name))
        self.quantized = True
        return matrix

    def quantize(self, mode: Any = None, config: Any = None, type_check: bool = True) -> None:
        """Rounds the matrix to 8 bits.

        Args:
            mode: "int8"; may be left out if there is a config.
            config: a `keras.quantizers.Int8QuantizationConfig`.
            type_check: whether to refuse a layer of another class that was made from this one.

        Raises:
            NotImplementedError: of another mode of Keras', or of a layer of another class.
            ValueError: the layer is not built, or quantised already.
        """
        config = quantizers.config_of(mode, config)
        if type_check and "quantizes" not in type(self).__dict__:
            raise NotImplementedError(
                f"quantize: {type(self).__name__} has no 8-bit form of its own; type_check=False "
                "gives it that of the layer it is made from."
            )
        if not self.built:
            raise ValueError(
                f"quantize: layer {self.name!r} is not built: call it on data, or build it."
            )
        if self.quantized:
            raise ValueError(f"quantize: layer {self.name!r} is quantised already.")
        matrix = self._plain_matrix
        self.quantization_config = config
        self.dtype_policy = dtype_policies.get(f"int8_from_{self.dtype_policy.name}")
        del self._roles[matrix]
        changes.note()
        self._plain_matrix = self._make_matrix(matrix.shape, lambda: matrix)
        integers, scale = self._integers(matrix.numpy())
        self._plain_matrix.assign(integers)
        self._scale.assign(scale)

    def _integers(self, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """W' and s of a matrix of floats."""
        axes = self._summed_axes()
        quantizer = getattr(self.quantization_config, "weight_quantizer", None)
        integers, scale = (quantizer or quantizers.AbsMaxQuantizer(axes))(matrix)
        return integers.numpy(), self._arranged(np.squeeze(scale.numpy(), axes))

    def _rounded_product(
        self, x: Any, axes: Any, size: int, product: Callable, back: Callable, arrange: Callable
    ) -> Any:
        """x' W' / (s t).

        Args:
            x: the inputs.
            axes: theirs, over which products are summed.
            size: how many are summed.
            product: of x and W.
            back: (g, W) -> the gradient for x of a product whose gradient is g.
            arrange: t, with a size of 1 on those axes -> in the axes of the result.
        """
        dtype, config = self.compute_dtype, self.quantization_config
        quantizer = quantizers.AbsMaxQuantizer() if config is None else config.activation_quantizer
        if quantizer is None:
            return product(x, ops.cast(self._float_matrix(), dtype))
        scale = ops.cast(self._scale, dtype)
        wide = "float32" if size <= _EXACT_IN_FLOAT32 else "float64"

        def rounded(x: Any) -> tuple[Any, Callable]:
            integers, t = quantizer(x, axis=axes)
            y = product(ops.cast(integers, wide), ops.cast(self._plain_matrix, wide))
            y = ops.cast(y, dtype) / (scale * arrange(t))
            matrix = ops.cast(self._float_matrix(), dtype)
            return y, lambda *args, upstream=None: back(upstream, matrix)

        return custom_gradient(rounded)(x) if x.requires_grad else rounded(x)[0]

    # --- files ------------------------------------------------------------------------------------

    def _own_weights(self) -> list:
        """In the order of Keras' files: the integers first, their scale last."""
        own = super()._own_weights()
        if not self.quantized:
            return own
        return sorted(own, key=lambda w: (w is self._scale, w is not self._plain_matrix))

    def save_own_variables(self, store: Any) -> None:
        super().save_own_variables(store)
        if self.quantized and self.lora_enabled:
            last = str(len(self._own_weights()) - 1)
            store["0"], store[last] = self._integers(self._whole_matrix.numpy())

    def load_own_variables(self, store: Any) -> None:
        if self.built and not self.quantized and "0" in store:
            if np.asarray(store["0"]).dtype == np.int8:  # as in attention
                self.quantize("int8", type_check=False)
        super().load_own_variables(store)
