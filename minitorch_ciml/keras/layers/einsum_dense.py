"""`EinsumDense`: a dense layer by Einstein's convention. Attention is built from it."""

from __future__ import annotations

import math
import string
from typing import Any

import numpy as np

from minitorch_ciml import ops
from minitorch_ciml.keras import quantizers
from minitorch_ciml.keras.layers.kernel_layer import KernelLayer
from minitorch_ciml.keras.layers.quantized import Quantized
from minitorch_ciml.keras.serialization import plain_arguments, serializable


@serializable("keras.layers")
class EinsumDense(Quantized, KernelLayer):
    """y = activation(einsum(equation, x, W) + b).

    Args:
        equation: such as "abc,cd->abd": the axes of x, of the kernel W, and of y; "..." stands for
            any others.
        output_shape: the sizes of y without the batch, None for those that x has; or one number,
            the last size.
        activation: a name, a function, or None.
        bias_axes: the letters of y along which the bias varies; None for no bias.
        kernel_initializer, ..., lora_rank, lora_alpha, quantization_config: as for `Dense`.
    """

    adapted = "kernel"
    kernel = Quantized._whole_matrix
    quantizes = True

    def __init__(
        self,
        equation: str,
        output_shape: Any,
        activation: Any = None,
        bias_axes: str | None = None,
        *,
        lora_rank: int | None = None,
        lora_alpha: float | None = None,
        quantization_config: Any = None,
        **kwargs: Any,
    ):
        super().__init__(activation, bias_axes is not None, **kwargs)
        self.quantization_config = quantizers.get(quantization_config)
        self.equation = equation
        self.output_shape = (output_shape,) if isinstance(output_shape, int) else output_shape
        self.output_shape = tuple(self.output_shape)
        self.bias_axes = bias_axes
        self._set_up_lora(lora_rank, lora_alpha)
        self._labels = _parts(equation)

    def build(self, input_shape: tuple) -> None:
        given, kernel, result = self._labels
        sizes = self._output_sizes() | _sizes(given, input_shape)
        missing = [c for c in kernel if sizes.get(c) is None]
        if missing:
            raise ValueError(
                f"EinsumDense: the size of {', '.join(missing)} in {self.equation!r} is known "
                f"neither from the input {tuple(input_shape)} nor from output_shape "
                f"{self.output_shape}."
            )
        self._axes = _without_dots(self._labels, len(input_shape))
        shape = tuple(sizes[c] for c in kernel)
        self.kernel = self._make_matrix(shape, lambda: self.add_kernel(shape))
        self.bias = None
        if self.bias_axes is not None:
            self.bias = self.add_weight(
                self._bias_shape(result, sizes, len(input_shape)), self.bias_initializer,
                regularizer=self.bias_regularizer, constraint=self.bias_constraint, name="bias",
            )  # fmt: skip
        self._summed = _dense_like(given, kernel, result, self.bias_axes)
        self._enable_lora_if_asked()

    def _output_sizes(self) -> dict[str, int | None]:
        result = self._labels[2]
        sizes = _sizes(result, (None, *self.output_shape))
        if result.startswith("..."):
            sizes = _sizes(result, self.output_shape)
        return {c: n for c, n in sizes.items() if n is not None}

    def _bias_shape(self, result: str, sizes: dict, ndim: int) -> tuple:
        unknown = [c for c in self.bias_axes or "" if c not in result]
        if unknown:
            raise ValueError(
                f"EinsumDense: bias_axes {self.bias_axes!r} are not all in the result of "
                f"{self.equation!r}."
            )
        left, dots, right = result.partition("...")
        hidden = ndim - len(self._labels[0].replace("...", "")) if dots else 0
        axes = [*left, *["..."] * hidden, *right]
        first = min(i for i, c in enumerate(axes) if c in (self.bias_axes or ""))
        return tuple(sizes[c] if c in (self.bias_axes or "") else 1 for c in axes[first:])

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        if self.quantized:
            return self._rounded_call(inputs)
        if self._summed is None:
            y = ops.einsum(self.equation, inputs, self.kernel)
            return self.activation(y if self.bias is None else y + self.bias)
        # The last axes of x meet the first ones of the kernel: one matrix product.
        n, kernel = self._summed, self.kernel
        kept, outputs = inputs.shape[: inputs.ndim - n], kernel.shape[n:]
        size, width = math.prod(kernel.shape[:n]), math.prod(outputs)
        y = ops.dense(
            ops.reshape(inputs, (*kept, size)) if n > 1 else inputs,
            ops.reshape(kernel, (size, width)),
            None if self.bias is None else ops.reshape(self.bias, (width,)),
        )
        return self.activation(ops.reshape(y, (*kept, *outputs)))

    def _rounded_call(self, inputs: Any) -> Any:
        given, kernel, result = self._axes
        summed = tuple(i for i, c in enumerate(given) if c not in result)
        kept = "".join(c for c in given if c in result)
        y = self._rounded_product(
            inputs, summed, math.prod(inputs.shape[i] for i in summed),
            lambda x, w: ops.einsum(self.equation, x, w),
            lambda g, w: ops.einsum(f"{result},{kernel}->{given}", g, w),
            lambda t: _laid_out(ops.squeeze(t, summed), kept, result),
        )  # fmt: skip
        if self.lora_enabled:
            a, b = self._lora_factors
            y = y + ops.matmul(ops.einsum(self.equation, inputs, a), b) * self._lora_scale
        return self.activation(y if self.bias is None else y + self.bias)

    def _summed_axes(self) -> tuple[int, ...]:
        _, kernel, result = self._axes
        return tuple(i for i, c in enumerate(kernel) if c not in result)

    def _arranged(self, scale: Any) -> Any:
        _, kernel, result = self._axes
        return np.asarray(_laid_out(scale, "".join(c for c in kernel if c in result), result))

    def _float_matrix(self) -> Any:
        if not self.quantized:
            return self._plain_matrix
        _, kernel, result = self._axes
        without = tuple(i for i, c in enumerate(result) if c not in kernel)
        kept = "".join(c for c in result if c in kernel)
        return self._plain_matrix / _laid_out(ops.squeeze(self._scale, without), kept, kernel)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        given, _, result = self._labels
        sizes = {**_sizes(given, input_shape), **self._output_sizes()}
        left, dots, right = result.partition("...")
        before, _, after = given.partition("...")
        hidden = input_shape[len(before) : len(input_shape) - len(after)] if dots else ()
        return (*(sizes[c] for c in left), *hidden, *(sizes[c] for c in right))

    def get_config(self) -> dict:
        config = super().get_config()
        del config["use_bias"]
        config["activity_regularizer"] = plain_arguments(self.activity_regularizer)
        return config


def _parts(equation: str) -> tuple[str, str, str]:
    """The letters of the input, of the kernel and of the result."""
    left, arrow, result = equation.replace(" ", "").partition("->")
    given, comma, kernel = left.partition(",")
    if not arrow or not comma or "." in kernel or ("..." in given) != ("..." in result):
        raise ValueError(
            f"EinsumDense: got the equation {equation!r}, expected one such as 'abc,cd->abd' or "
            "'...c,cd->...d'."
        )
    return given, kernel, result


def _without_dots(labels: tuple[str, str, str], ndim: int) -> tuple[str, str, str]:
    """The letters, where other letters stand for "...", for an input of `ndim` dimensions."""
    given, kernel, result = labels
    free = [c for c in string.ascii_letters if c not in given + kernel + result]
    hidden = "".join(free[: ndim - len(given.replace("...", ""))])
    return given.replace("...", hidden), kernel, result.replace("...", hidden)


def _laid_out(x: Any, axes: str, target: str) -> Any:
    """`x` with these axes as it is multiplied with what has the axes `target`: 1 for others."""
    order = [axes.index(c) for c in target if c in axes]
    shape = [x.shape[axes.index(c)] if c in axes else 1 for c in target]
    return ops.reshape(ops.transpose(x, order), shape)


def _sizes(letters: str, shape: tuple) -> dict[str, int | None]:
    """The size of each letter, counted from the left before "..." and from the right after it."""
    left, _, right = letters.partition("...")
    sizes = dict(zip(left, shape))
    sizes.update(zip(reversed(right), reversed(shape)))
    return sizes


def _dense_like(given: str, kernel: str, result: str, bias_axes: str | None) -> int | None:
    """How many last letters of the input are the first of the kernel and summed over, or None.

    Only where the kernel's other letters end the result, and the bias varies along all of them.
    """
    for n in range(1, len(kernel)):
        kept, outputs = given[: len(given) - n], kernel[n:]
        if given.endswith(kernel[:n]) and result == kept + outputs and "..." not in given[-n:]:
            return n if bias_axes in (None, outputs) else None
    return None
